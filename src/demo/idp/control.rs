//! The handle of tests and of the demonstration: what happens in the company, and what goes wrong.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::faults::Rule;
use super::world::{Collection, State, What};
use super::{
    Application, DevIdp, Endpoint, Fault, Federated, IdpError, Person, Replica, Seen, Shared,
    SigningKey, mint,
};
use crate::clock;
use crate::secret::Secret;

/// Faults and requests.
impl DevIdp {
    /// Every request to an endpoint goes wrong in this way, until [`Self::mend`].
    pub fn fail(&self, endpoint: Endpoint, fault: Fault) {
        self.shared.faults().add(Rule {
            endpoint,
            path: None,
            remaining: None,
            fault,
        });
    }

    /// The next so many requests go wrong; several such calls queue up.
    pub fn fail_times(&self, endpoint: Endpoint, times: u32, fault: Fault) {
        self.shared.faults().add(Rule {
            endpoint,
            path: None,
            remaining: Some(times),
            fault,
        });
    }

    /// Requests whose path and query contain `part` go wrong: `times` of them, or all.
    pub fn fail_on(&self, endpoint: Endpoint, part: &str, times: Option<u32>, fault: Fault) {
        self.shared.faults().add(Rule {
            endpoint,
            path: Some(part.into()),
            remaining: times,
            fault,
        });
    }

    /// An endpoint answers well again.
    pub fn mend(&self, endpoint: Endpoint) {
        self.shared.faults().mend(Some(endpoint));
    }

    /// Everything answers well again.
    pub fn mend_all(&self) {
        self.shared.faults().mend(None);
    }

    /// Requests to an endpoint so far, faults included.
    pub fn requests(&self, endpoint: Endpoint) -> u64 {
        self.shared.faults().counted(endpoint)
    }

    /// The newest requests that were answered, oldest first; 4,096 are kept.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.faults().seen()
    }
}

/// What the machine and the workloads on it are told.
impl DevIdp {
    /// `IDENTITY_ENDPOINT` and `IDENTITY_HEADER` of App Service.
    pub fn app_service(&self) -> (String, String) {
        (
            format!("{}/msi/token", self.base()),
            self.shared.identity_header.clone(),
        )
    }

    /// `IDENTITY_ENDPOINT` and `IMDS_ENDPOINT` of an Arc-enabled server.
    pub fn arc(&self) -> (String, String) {
        let agent = format!("{}/arc", self.base());
        (format!("{agent}/metadata/identity/oauth2/token"), agent)
    }

    /// `iss` of the cluster that [`Self::workload_token`] comes from.
    pub fn cluster_issuer(&self) -> String {
        self.shared.cluster_issuer()
    }

    /// The token that a cluster projects into a pod, for an application with a matching [`Federated`] credential.
    ///
    /// # Errors
    ///
    /// [`IdpError::Key`].
    pub fn workload_token(
        &self,
        subject: &str,
        audience: &str,
        lifetime: Duration,
    ) -> Result<String, IdpError> {
        let key = &self.shared.cluster;
        let now = clock::now();
        let header = serde_json::json!({ "alg": "RS256", "kid": key.kid() }).to_string();
        let claims = serde_json::json!({
            "aud": [audience], "exp": now.plus(lifetime).as_secs(), "iat": now.as_secs(), "nbf": now.as_secs(),
            "iss": self.cluster_issuer(), "sub": subject,
            "kubernetes.io": { "namespace": "nats", "serviceaccount": { "name": "natsentry" } },
        });
        mint::sign(header.as_bytes(), claims.to_string().as_bytes(), key)
    }

    /// Lets an application sign assertions with the key of this certificate (DER).
    pub fn trust_certificate(&self, application: &str, certificate: &[u8]) {
        self.edit_application(application, |app| {
            app.certificates.push(certificate.to_vec())
        });
    }

    /// Lets tokens of a workload count as an application's own.
    pub fn trust_workload(&self, application: &str, subject: &str, audience: &str) {
        let trusted = Federated {
            issuer: self.cluster_issuer(),
            subject: subject.into(),
            audience: audience.into(),
        };
        self.edit_application(application, |app| app.federated.push(trusted));
    }

    /// Changes what is known of an application; not its roles and groups, which have calls of their own.
    pub fn edit_application(&self, name: &str, edit: impl FnOnce(&mut Application)) {
        self.shared.world().enlarge(|directory| {
            if let Some(application) = directory
                .applications
                .iter_mut()
                .find(|app| app.name == name)
            {
                edit(application);
            }
        });
    }

    /// The managed identity of the machine itself; none: only user-assigned ones.
    pub fn set_machine_identity(&self, name: Option<&str>) {
        self.shared
            .world()
            .enlarge(|directory| directory.machine = name.map(Into::into));
    }

    /// Whether the API is for those alone who have a role of it.
    pub fn require_assignment(&self, required: bool) {
        self.shared
            .world()
            .enlarge(|directory| directory.assignment_required = required);
    }

    /// Azure keeps tokens of managed identities for most of a day; this makes it ask for fresh ones.
    pub fn forget_managed_tokens(&self) {
        self.shared.managed_tokens().clear();
    }
}

/// Device codes.
impl DevIdp {
    /// User codes that wait for somebody to sign in.
    pub fn device_codes(&self) -> Vec<String> {
        self.shared.devices().waiting(clock::now())
    }

    /// Somebody signs in with a user code. Whether it waits.
    pub fn approve_device(&self, user_code: &str, who: &str) -> bool {
        self.shared.devices().approve(user_code, who, clock::now())
    }

    /// Somebody declines. Whether the code waits.
    pub fn decline_device(&self, user_code: &str) -> bool {
        self.shared.devices().decline(user_code)
    }

    /// Nobody came in time. Whether the code waits.
    pub fn expire_device(&self, user_code: &str) -> bool {
        self.shared.devices().expire(user_code)
    }

    /// Pause between two polls and life of a code, of flows that begin after this; 5 s and 900 s at first. The interval
    /// is told in whole seconds.
    pub fn device_timing(&self, interval: Duration, lifetime: Duration) {
        let mut devices = self.shared.devices();
        (devices.interval, devices.lifetime) = (interval, lifetime);
    }
}

/// Accounts, groups and roles. `who` is a short name or an object id; a name that is not there is left alone.
impl DevIdp {
    /// Adds a person.
    pub fn add_person(&self, person: &Person) {
        let mut world = self.shared.world();
        world.enlarge(|directory| directory.people.push(person.clone()));
        world.change(clock::now(), |state| state.add_person(person, clock::now()));
    }

    /// Adds an application or a managed identity.
    pub fn add_application(&self, application: &Application) {
        let mut world = self.shared.world();
        world.enlarge(|directory| directory.applications.push(application.clone()));
        world.change(clock::now(), |state| {
            state.add_application(application, clock::now())
        });
    }

    /// Enables or disables an account or a service principal.
    pub fn set_enabled(&self, who: &str, enabled: bool) {
        self.change(who, |state, id| {
            if let Some(user) = state.users.get_mut(id) {
                user.enabled = enabled;
                state.note(Collection::Users, id, What::Property("accountEnabled"));
            } else if let Some(principal) = state.principals.get_mut(id) {
                principal.enabled = enabled;
                state.note(Collection::Principals, id, What::Property("accountEnabled"));
            }
        });
    }

    /// Deletes an account, a service principal or a group, softly: `@removed` says `changed`.
    pub fn delete(&self, who: &str) {
        self.change(who, |state, id| state.remove(id, What::Deleted));
    }

    /// Deletes for good: `@removed` says `deleted`.
    pub fn purge(&self, who: &str) {
        self.change(who, |state, id| state.remove(id, What::Purged));
    }

    /// `revokeSignInSessions`: refresh tokens from before now are void, and `signInSessionsValidFromDateTime` says so.
    pub fn revoke_sessions(&self, who: &str) {
        self.change(who, |state, id| {
            if let Some(user) = state.users.get_mut(id) {
                user.sessions_valid_from = clock::now();
                state.note(
                    Collection::Users,
                    id,
                    What::Property("signInSessionsValidFromDateTime"),
                );
            }
        });
    }

    /// Makes somebody, or a group, a direct member of a group, which is made if it is not there.
    pub fn join_group(&self, group: &str, who: &str) {
        self.change(who, |state, id| state.join(group, id));
    }

    /// Takes a direct member out of a group.
    pub fn leave_group(&self, group: &str, who: &str) {
        self.change(who, |state, id| state.leave(group, id));
    }

    /// Gives an app role of the API.
    pub fn assign_role(&self, who: &str, role: &str) {
        self.change(who, |state, id| state.assign(id, role, clock::now()));
    }

    /// Takes an app role of the API away.
    pub fn unassign_role(&self, who: &str, role: &str) {
        self.change(who, |state, id| state.unassign(id, role));
    }

    fn change(&self, who: &str, change: impl FnOnce(&mut State, &str)) {
        self.shared.change(who, change);
    }
}

/// How Graph answers.
impl DevIdp {
    /// Address of Graph, without `/v1.0`.
    pub fn graph(&self) -> &str {
        self.base()
    }

    /// Which past Graph answers from.
    pub fn set_replica(&self, replica: Replica) {
        self.shared.world().set_replica(replica);
    }

    /// Entries on a page where a request does not say; 100 at first.
    pub fn set_page_size(&self, entries: usize) {
        self.shared
            .page_size
            .store(entries.max(1), Ordering::Relaxed);
    }

    /// Whether delta queries of users tell of revoked sessions; Microsoft does not say, and here they do not at first.
    pub fn set_delta_tracks_sessions(&self, tracks: bool) {
        self.shared
            .delta_tracks_sessions
            .store(tracks, Ordering::Relaxed);
    }

    /// Every delta link handed out so far answers 410 from now on.
    pub fn expire_delta_links(&self) {
        let mut world = self.shared.world();
        // A change of nothing moves the log on, so that links from after this are told apart.
        world.change(clock::now(), |state| {
            state.note(Collection::Groups, "expired", What::Property("none"));
        });
        let end = world.current().log.len();
        world.links_since = end;
    }
}

/// The vault.
impl DevIdp {
    /// A reference to a secret of the vault, without `keyvault:`.
    pub fn secret_address(&self, name: &str) -> String {
        format!("{}/secrets/{name}", self.base())
    }

    /// Sets a secret: a new version from now on. Returns the version.
    pub fn set_secret(&self, name: &str, value: Secret) -> String {
        self.shared.vault().set(name, value, clock::now())
    }

    /// Disables the newest version. Whether there is one.
    pub fn disable_secret(&self, name: &str) -> bool {
        self.shared.vault().disable(name)
    }

    /// Removes a secret with all its versions. Whether it was there.
    pub fn remove_secret(&self, name: &str) -> bool {
        self.shared.vault().remove(name)
    }
}

impl Shared {
    pub(super) fn change(&self, who: &str, change: impl FnOnce(&mut State, &str)) -> bool {
        let mut world = self.world();
        let Some(id) = world.current().id_of(who) else {
            return false;
        };
        world.change(clock::now(), |state| change(state, &id));
        true
    }
}

impl SigningKey {
    /// A PKCS#8 document of the key, for clients that sign assertions with it.
    ///
    /// # Errors
    ///
    /// [`IdpError::Key`].
    pub fn private_der(&self) -> Result<Secret, IdpError> {
        self.pkcs8().map(Secret::new)
    }
}
