//! Who a role is bound to, and the conditions that must hold besides.
//!
//! Owns: `bind`, `require` and `valid` as compiled, and the sentence about the condition that failed. Must never: accept
//! a missing claim as a good one.

use std::fmt;
use std::net::IpAddr;

use super::document::{PrincipalKind, Require, Valid};
use super::refusal::Uncertain;
use crate::identity::{Groups, Identity, Kind};
use crate::time::Timestamp;

/// One compiled line of `bind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BindRule {
    pub(super) who: Who,
    pub(super) tenant: Option<Box<str>>,
}

/// Whom a line of `bind` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    AppRole(Box<str>),
    AppId(Box<str>),
    Group(Box<str>),
    GroupName(Box<str>),
    Scope(Box<str>),
    User(Box<str>),
}

impl BindRule {
    /// Whether the line names the identity. Ids are compared without case, since they are hexadecimal; words exactly.
    pub(super) fn names(&self, identity: &Identity) -> bool {
        let fits = match &self.who {
            Who::AppRole(role) => identity.roles.contains(role),
            Who::AppId(id) => {
                identity.kind == Kind::App
                    && identity.azp.as_deref().is_some_and(|azp| same_id(azp, id))
            }
            Who::Group(id) => match &identity.groups {
                Groups::Known(groups) | Groups::Resolved { member: groups, .. } => {
                    groups.iter().any(|group| group.eq_ignore_ascii_case(id))
                }
                Groups::Unknown | Groups::Misnamed | Groups::Named(_) => false,
            },
            Who::GroupName(name) => match &identity.groups {
                Groups::Named(groups) => groups.contains(name),
                Groups::Unknown | Groups::Misnamed | Groups::Known(_) | Groups::Resolved { .. } => {
                    false
                }
            },
            Who::Scope(scope) => identity.kind == Kind::User && identity.scopes.contains(scope),
            Who::User(id) => same_id(&identity.oid, id),
        };
        fits && self.is_for_tenant_of(identity)
    }

    pub(super) fn is_for_tenant_of(&self, identity: &Identity) -> bool {
        self.is_for_tenant(&identity.tid)
    }

    pub(super) fn is_for_tenant(&self, tid: &str) -> bool {
        self.tenant
            .as_deref()
            .is_none_or(|tenant| same_id(tid, tenant))
    }

    /// Whether the line goes by a group of which `groups` do not say whether it is among them, and why they do not.
    pub(super) fn uncertain(&self, groups: &Groups) -> Option<Uncertain> {
        match (&self.who, groups) {
            (Who::Group(_) | Who::GroupName(_), Groups::Unknown)
            | (Who::GroupName(_), Groups::Resolved { .. }) => Some(Uncertain::Overage),
            (Who::Group(id), Groups::Resolved { asked, .. }) => {
                (!asked.iter().any(|asked| asked.eq_ignore_ascii_case(id)))
                    .then_some(Uncertain::Overage)
            }
            (Who::Group(_), Groups::Misnamed | Groups::Named(_)) => Some(Uncertain::Names),
            (Who::Group(_), Groups::Known(groups)) if has_names(groups) => Some(Uncertain::Names),
            (Who::GroupName(_), Groups::Misnamed | Groups::Known(_)) => Some(Uncertain::Ids),
            _ => None,
        }
    }
}

/// Whether some entry of the groups is not an id. One that is an id still counts as what it is.
fn has_names(groups: &[Box<str>]) -> bool {
    groups.iter().any(|group| !super::assign::is_guid(group))
}

impl fmt::Display for BindRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, value) = match &self.who {
            Who::AppRole(role) => ("app_role", role),
            Who::AppId(id) => ("app_id", id),
            Who::Group(id) => ("group", id),
            Who::GroupName(name) => ("group_name", name),
            Who::Scope(scope) => ("scope", scope),
            Who::User(id) => ("user", id),
        };
        write!(f, "{word} {value}")?;
        match &self.tenant {
            Some(tenant) => write!(f, " of tenant {tenant}"),
            None => Ok(()),
        }
    }
}

/// Ids of Entra are GUIDs and compared without case; those of other issuers are compared exactly.
fn same_id(found: &str, wanted: &str) -> bool {
    if super::assign::is_guid(wanted) {
        found.eq_ignore_ascii_case(wanted)
    } else {
        found == wanted
    }
}

/// When a role exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    from: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Window {
    pub(super) fn new(valid: &Valid) -> Self {
        Self {
            from: valid.from.map(|moment| moment.begins()),
            until: valid.until.map(|moment| moment.ends()),
        }
    }

    pub(super) fn contains(self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }

    /// Whether no moment lies in it.
    pub(super) fn is_empty(self) -> bool {
        matches!((self.from, self.until), (Some(from), Some(until)) if from >= until)
    }

    /// The next moment after `now` at which the role begins or ends.
    pub(super) fn next_change(self, now: Timestamp) -> Option<Timestamp> {
        [self.from, self.until]
            .into_iter()
            .flatten()
            .filter(|moment| *moment > now)
            .min()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.until) {
            (Some(from), Some(until)) => write!(f, "from {from} until {until}"),
            (Some(from), None) => write!(f, "from {from}"),
            (None, Some(until)) => write!(f, "until {until}"),
            (None, None) => f.write_str("always"),
        }
    }
}

/// The conditions that do not hold; printed, they say what the token has and what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unmet(String);

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Require {
    /// Conditions that nobody could meet, or that everybody does: each by its key.
    pub(super) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        let mut unless = |good: bool, key: &'static str, sentence: &str| {
            if !good {
                wrong.push((key, sentence.to_owned()));
            }
        };
        let strength = self.azpacr.is_none_or(|least| least <= 2);
        unless(
            strength,
            "azpacr",
            "azpacr is 0, 1 (a secret at least) or 2 (a certificate)",
        );
        let acct = self.acct.is_none_or(|acct| acct <= 1);
        unless(
            acct,
            "acct",
            "acct is 0 (members of the tenant) or 1 (guests)",
        );
        let is_scope =
            |scope: &String| !scope.contains(char::is_whitespace) && !scope.contains("://");
        unless(
            self.scopes.iter().all(is_scope),
            "scopes",
            "tokens have scopes as single words without their api:// prefix; write each by itself, as Nats.Access",
        );
        let names = |id: &String| id.starts_with('/') && !id.trim_matches('/').is_empty();
        unless(
            self.xms_mirid.iter().all(names),
            "xms_mirid",
            "xms_mirid begins with a slash and names something, as /subscriptions/GUID",
        );
        for (key, age) in [
            ("auth_age", self.auth_age),
            ("max_token_age", self.max_token_age),
        ] {
            let some = age.is_none_or(|age| !age.get().is_zero());
            unless(
                some,
                key,
                "no token is that young; write how old it may be, such as 1h",
            );
        }
        wrong
    }

    /// The conditions that do not hold, all of them. A claim that the token lacks never satisfies one.
    pub(super) fn unmet(
        &self,
        identity: &Identity,
        source: IpAddr,
        now: Timestamp,
    ) -> Option<Unmet> {
        let mut unmet = Vec::new();
        self.unmet_client(identity, &mut unmet);
        self.unmet_sign_in(identity, &mut unmet);
        self.unmet_age(identity, now, &mut unmet);
        if !self.source.is_empty() && !self.source.iter().any(|range| range.contains(source)) {
            let ranges: Vec<String> = self.source.iter().map(ToString::to_string).collect();
            unmet.push(format!(
                "source {source} is in none of the ranges {}",
                ranges.join(", ")
            ));
        }
        (!unmet.is_empty()).then(|| Unmet(unmet.join(", and ")))
    }

    /// Conditions on the client application and the kind of principal.
    fn unmet_client(&self, identity: &Identity, unmet: &mut Vec<String>) {
        let kind = match identity.kind {
            Kind::User => PrincipalKind::User,
            Kind::App => PrincipalKind::App,
        };
        if let Some(wanted) = self.kind.filter(|wanted| *wanted != kind) {
            let word = |kind: PrincipalKind| match kind {
                PrincipalKind::User => "user",
                PrincipalKind::App => "app",
            };
            unmet.push(format!(
                "kind is {}, {} is wanted",
                word(kind),
                word(wanted)
            ));
        }
        if let Some(wanted) = self.azpacr
            && identity.azpacr.is_none_or(|found| found < wanted)
        {
            let found = shown(identity.azpacr);
            unmet.push(format!(
                "azpacr is {found}, {wanted} at least is wanted (1: the client proves itself with a secret, 2: with a certificate)"
            ));
        }
        if self.cnf && identity.certificate_thumbprint.is_none() {
            unmet.push(
                "the token is not bound to a TLS client certificate (cnf x5t#S256)".to_owned(),
            );
        }
        if let Some(wanted) = self.acct
            && identity.acct != Some(wanted)
        {
            let found = shown(identity.acct);
            unmet.push(format!(
                "acct is {found}, {wanted} is wanted (the optional claim acct must be in the token)"
            ));
        }
        let client = identity.azp.as_deref();
        let listed = |client: &str| self.clients.iter().any(|one| same_id(client, one));
        if !self.clients.is_empty() && !client.is_some_and(listed) {
            let client = client.unwrap_or("absent");
            unmet.push(format!("client application {client} is not listed"));
        }
        let arm_id = identity.xms_mirid.as_deref();
        let below = |found: &str| {
            self.xms_mirid
                .iter()
                .any(|wanted| is_arm_prefix(wanted, found))
        };
        if !self.xms_mirid.is_empty() && !arm_id.is_some_and(below) {
            let found = arm_id.unwrap_or("absent");
            unmet.push(format!(
                "xms_mirid {found} begins with none of those listed"
            ));
        }
    }

    /// Conditions on how somebody signed in, and for what.
    fn unmet_sign_in(&self, identity: &Identity, unmet: &mut Vec<String>) {
        let lists = [
            ("acrs", &self.acrs, &identity.acrs),
            ("amr", &self.amr, &identity.amr),
            ("scp", &self.scopes, &identity.scopes),
        ];
        for (claim, wanted, found) in lists {
            let lacks = |wanted: &&String| !found.iter().any(|found| **found == ***wanted);
            for missing in wanted.iter().filter(lacks) {
                let found: Vec<&str> = found.iter().map(|found| &**found).collect();
                let cure = match claim {
                    "acrs" => format!(
                        "; sign in again with claims={{\"access_token\":{{\"acrs\":{{\"essential\":true,\"value\":\"{missing}\"}}}}}}"
                    ),
                    "scp" => "; have the client request it".to_owned(),
                    _ => String::new(),
                };
                unmet.push(format!(
                    "{claim} lacks {missing}, it has [{}]{cure}",
                    found.join(", ")
                ));
            }
        }
    }

    /// Conditions on when somebody signed in, and when the token was issued.
    fn unmet_age(&self, identity: &Identity, now: Timestamp, unmet: &mut Vec<String>) {
        if let Some(most) = self.auth_age {
            match identity.auth_time {
                None => unmet.push(
                    "auth_time is absent (add the optional claim auth_time to the token)"
                        .to_owned(),
                ),
                Some(at) if now.since(at) > most.get() => {
                    unmet.push(format!("signed in at {at}, {most} ago at most is wanted"));
                }
                Some(_) => {}
            }
        }
        if let Some(most) = self.max_token_age
            && now.since(identity.issued_at) > most.get()
        {
            let at = identity.issued_at;
            unmet.push(format!(
                "token was issued at {at}, {most} ago at most is wanted"
            ));
        }
    }
}

/// Whether an ARM id is the wanted one or lies below it; ARM ids have no case.
fn is_arm_prefix(wanted: &str, found: &str) -> bool {
    let wanted = wanted.trim_end_matches('/').as_bytes();
    let found = found.as_bytes();
    let Some((start, rest)) = found.split_at_checked(wanted.len()) else {
        return false;
    };
    start.eq_ignore_ascii_case(wanted) && matches!(rest.first(), None | Some(b'/'))
}

fn shown(value: Option<u8>) -> String {
    value.map_or_else(|| "absent".to_owned(), |value| value.to_string())
}
