//! Groups of those whose token does not list them: asked of Graph within the admission, and again for live sessions when
//! a new policy names others.
//!
//! Must never: take "Graph does not answer" for "no groups", or say no to somebody for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Shared;
use super::admission::Turned;
use super::reload;
use super::sessions::{Bound, Handle, Order};
use crate::config::{GraphConfig, GraphOutage, GroupsOverage};
use crate::entra::{
    CredentialError, Environment, GraphError, GraphFigures, Membership, Memberships, Principal,
    Tools, missing_permissions,
};
use crate::identity::{Groups, Identity, Kind};
use crate::policy::Policy;
use crate::session::{CloseReason, Refusal};

/// How often a token of our own is looked at for its permissions: while something is wrong, and otherwise.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// Where groups are looked up.
pub(super) struct GroupSource {
    memberships: Memberships,
    config: GraphConfig,
    /// By tenant: how it stands with our permissions there.
    standing: Mutex<BTreeMap<Box<str>, String>>,
}

/// How much is known of somebody's groups after asking.
#[derive(Debug)]
pub(super) enum Completed {
    /// As much as there is to know.
    Whole,
    /// Not the groups, since Graph cannot be asked; roles that do not go by groups may be given.
    Lacking(GraphError),
}

impl GroupSource {
    /// Opens no connection.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub(super) fn new(config: GraphConfig, tools: Tools) -> Result<Self, CredentialError> {
        let environment = Environment::of_process();
        let memberships = Memberships::new(config.settings.clone(), &environment, tools)?;
        Ok(Self {
            memberships,
            config,
            standing: Mutex::default(),
        })
    }

    /// The groups to ask for, if the identity's are not known: those that the policy names and no others.
    pub(super) fn wanted(&self, policy: &Policy, identity: &Identity) -> Option<Arc<[Box<str>]>> {
        let ours = self.config.tenants.contains(&identity.tid);
        let (refuse, always) = (
            self.config.overage == GroupsOverage::Refuse,
            self.config.overage == GroupsOverage::Always,
        );
        if !ours || refuse {
            return None;
        }
        let open = match &identity.groups {
            Groups::Unknown | Groups::Misnamed | Groups::Resolved { .. } => true,
            // Tokens of applications list no groups, whatever these are in.
            Groups::Known(groups) => always || (identity.kind == Kind::App && groups.is_empty()),
            Groups::Named(_) => false,
        };
        if !open {
            return None;
        }
        let asked = policy.groups_of_tenant(&identity.tid);
        let known = match &identity.groups {
            Groups::Resolved { asked: before, .. } => {
                asked.iter().all(|id| before.binary_search(id).is_ok())
            }
            _ => asked.is_empty(),
        };
        (!known).then(|| asked.into())
    }

    /// Asks for the groups where they are wanted, and notes the answer in the identity.
    ///
    /// # Errors
    /// Who turns out not to exist is refused; where nothing can be known, it is "not now".
    pub(super) async fn complete(
        &self,
        policy: &Policy,
        identity: &mut Arc<Identity>,
    ) -> Result<Completed, Turned> {
        match self.wanted(policy, identity) {
            Some(asked) => self.ask(&asked, Arc::make_mut(identity)).await,
            None => Ok(Completed::Whole),
        }
    }

    async fn ask(
        &self,
        asked: &Arc<[Box<str>]>,
        identity: &mut Identity,
    ) -> Result<Completed, Turned> {
        let principal = Principal {
            tid: identity.tid.clone(),
            oid: identity.oid.clone(),
            kind: identity.kind,
        };
        let error = match self.memberships.of(&principal, asked).await {
            Ok(membership) => {
                identity.groups = resolved(&membership);
                return Ok(Completed::Whole);
            }
            Err(error) => error,
        };
        if error.is_about_the_principal() {
            return Err(Turned::Refused(because(&error)));
        }
        let remembered = || self.memberships.remembered(&principal, asked);
        match self.config.outage {
            GraphOutage::RolesOnly => {
                // Also where the token said nothing of groups: what roles that go by groups deny must count.
                identity.groups = Groups::Unknown;
                Ok(Completed::Lacking(error))
            }
            GraphOutage::Cached => match remembered() {
                Some(membership) => {
                    identity.groups = resolved(&membership);
                    Ok(Completed::Whole)
                }
                None => Err(Turned::Postponed(because(&error))),
            },
            GraphOutage::Deny => Err(Turned::Postponed(because(&error))),
        }
    }

    /// Figures for the metrics.
    pub(super) fn figures(&self) -> GraphFigures {
        self.memberships.figures()
    }

    /// For people: who asks, how it stands, what is missing.
    pub(super) fn detail(&self) -> String {
        let figures = self.memberships.figures();
        let mut parts = vec![match figures.age {
            Some(age) => format!(
                "as {}, last answer {} s ago",
                self.memberships.credential_kind(),
                age.as_secs()
            ),
            None => format!("as {}, no answer yet", self.memberships.credential_kind()),
        }];
        if let Some(wait) = figures.paused {
            parts.push(format!("left alone for {} s", wait.as_secs().max(1)));
        }
        parts.extend(
            figures
                .error
                .map(|error| format!("{}: {error}", error.code())),
        );
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        parts.extend(
            standing
                .iter()
                .map(|(tid, said)| format!("tenant {tid}: {said}")),
        );
        parts.join("; ")
    }

    /// Looks at our own permissions now and then, and warns of those that are missing before somebody needs them.
    pub(super) async fn watch_permissions(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let fine = tokio::select! {
                () = stop.cancelled() => return,
                fine = self.look_at_permissions() => fine,
            };
            let pause = if fine { LOOK_AGAIN.1 } else { LOOK_AGAIN.0 };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn look_at_permissions(&self) -> bool {
        let mut fine = true;
        for tid in &self.config.tenants {
            let (good, said) = match self.memberships.introduce(tid).await {
                Ok(Some(own)) => {
                    let (people, applications) = (self.config.people, self.config.applications);
                    let missing = missing_permissions(&own.roles, people, applications);
                    let oid = own.oid.unwrap_or_default();
                    match missing.as_slice() {
                        [] => (true, format!("identity {oid} holds the permissions needed")),
                        _ => (
                            false,
                            format!(
                                "identity {oid} lacks the application permissions {}; grant them with admin consent",
                                missing.join(" and ")
                            ),
                        ),
                    }
                }
                Ok(None) => (
                    true,
                    "the permissions cannot be read from our token".to_owned(),
                ),
                Err(error) => (false, error.to_string()),
            };
            fine &= good;
            let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
            let before = standing.insert(tid.clone(), said.clone());
            // Once, and again when something changes.
            if before.as_deref() != Some(&*said) {
                if good {
                    tracing::info!(tenant = %tid, "Graph: {said}");
                } else {
                    tracing::warn!(tenant = %tid, "Graph: {said}");
                }
            }
        }
        fine
    }
}

fn resolved(membership: &Membership) -> Groups {
    Groups::Resolved {
        member: membership.member.clone(),
        asked: Arc::clone(&membership.asked),
    }
}

/// The reason of a refusal or of a "not now", for log and audit.
pub(super) fn because(error: &GraphError) -> Refusal {
    Refusal {
        code: error.code(),
        sentence: error.sentence().into(),
    }
}

/// Whether the groups of a live session's identity have to be asked for, by the policy now in force.
pub(super) fn are_open(shared: &Shared, identity: &Identity) -> bool {
    shared
        .groups
        .as_ref()
        .is_some_and(|groups| groups.wanted(&shared.policy(), identity).is_some())
}

/// Asks for the groups of a live session, then judges it again. Until then it has what it holds for certain; where Graph
/// cannot be asked it keeps that, and Graph is asked again later.
pub(super) fn ask_for_live(shared: &Arc<Shared>, handle: &Arc<Handle>) {
    let (shared, handle) = (Arc::clone(shared), Arc::clone(handle));
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let (Some(groups), Some(before)) = (shared.groups.as_ref(), handle.bound()) else {
            return;
        };
        let Some(asked) = groups.wanted(&shared.policy(), &before.identity) else {
            return;
        };
        if ask_for(groups, &asked, &handle, &before).await {
            reload::judge_again(&shared, &handle, None);
        }
    });
}

/// Asks for the groups of a session and notes them, unless a CONNECT brought newer rights in the meantime. Whether it
/// is to be judged again.
async fn ask_for(
    groups: &GroupSource,
    asked: &Arc<[Box<str>]>,
    handle: &Handle,
    before: &Arc<Bound>,
) -> bool {
    let mut identity = Identity::clone(&before.identity);
    match groups.ask(asked, &mut identity).await {
        Ok(Completed::Whole) => {
            let bound = Bound {
                identity: Arc::new(identity),
                ..Bound::clone(before)
            };
            handle.rebind(before, bound)
        }
        Err(Turned::Refused(refusal)) => {
            tracing::info!(
                session = handle.id.0,
                code = refusal.code,
                "{}",
                refusal.sentence
            );
            handle.order(Order::End(CloseReason::RoleLost), None);
            false
        }
        Ok(Completed::Lacking(_)) | Err(Turned::Postponed(_) | Turned::Unavailable(_)) => false,
    }
}

/// Before a new policy comes into force: asks for the groups that it names and the old one did not, for everybody whose
/// groups come from Graph, so that nobody is taken for a stranger to a group that was never asked for. Takes no longer
/// than one lookup may; whose groups are not known by then is judged by what is certain.
pub(super) async fn prepare(shared: &Shared, new: &Policy) {
    let Some(groups) = &shared.groups else { return };
    let old = shared.policy();
    let open = |handle: Arc<Handle>| {
        let before = handle.bound()?;
        groups.wanted(new, &before.identity)?;
        // Of both policies: until the new one is in force, the old one is.
        let tid = &before.identity.tid;
        let mut asked = new.groups_of_tenant(tid);
        asked.extend(old.groups_of_tenant(tid));
        asked.sort_unstable();
        asked.dedup();
        Some((handle, before, Arc::<[Box<str>]>::from(asked)))
    };
    let open: Vec<_> = shared.sessions.all().into_iter().filter_map(open).collect();
    let asking = open
        .iter()
        .map(|(handle, before, asked)| ask_for(groups, asked, handle, before));
    let all = futures_util::future::join_all(asking);
    if tokio::time::timeout(groups.config.settings.timeout, all)
        .await
        .is_err()
    {
        tracing::warn!("not all groups of the new policy could be looked up in time");
    }
}
