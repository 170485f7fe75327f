//! `entra` and `issuers`: into the table that the token gate looks issuers up in. This file has `entra` and what both
//! share.
//!
//! The table stops at its first mistake. So that all of them are reported, each tenant, audience and address is tried
//! alone in a table that is right in everything else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::document::{self, Accepted, CloudName, Document};
use super::{Context, issuers};
use crate::identity::{
    Accept, Cloud, Entra, Expectations, GroupForm, Identity, OtherIssuer, TokenLimits, is_guid,
};
use crate::policy::units::HumanDuration;

/// Whose tokens are accepted.
#[derive(Clone, Debug)]
pub struct TrustConfig {
    /// The table of issuers.
    pub expectations: Arc<Expectations>,
    /// By tenant; another issuer is its own tenant.
    max_sessions: MaxSessions,
}

/// The longest session of each tenant.
pub(super) type MaxSessions = HashMap<Box<str>, Duration>;

impl TrustConfig {
    /// The longest a session of this identity may live; none: as long as its token.
    pub fn max_session(&self, identity: &Identity) -> Option<Duration> {
        self.max_sessions.get(&identity.tid).copied()
    }
}

/// A tenant and an audience that nothing is wrong with.
pub(super) const GOOD_TENANT: &str = "11111111-2222-3333-4444-555555555555";
const GOOD_AUDIENCE: &str = "api://natsentry";

/// Where personal Microsoft accounts are.
const PERSONAL: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

pub(super) fn resolve(context: &mut Context<'_>, document: &Document) -> TrustConfig {
    let connect_line = usize::try_from(document.limits.connect_line.bytes()).unwrap_or(usize::MAX);
    // The usual 48 KiB of CONNECT leave the token its usual 32 KiB; who raises one raises the other.
    let mut table = Expectations::new(TokenLimits {
        size: connect_line / 3 * 2,
        ..TokenLimits::default()
    });
    let mut max_sessions = MaxSessions::new();
    let nobody = document.entra.is_none() && document.issuers.is_empty();
    if nobody && !context.lost_something(&["entra"]) && !context.lost_something(&["issuers"]) {
        context.mistake(
            &[],
            "neither `entra` nor `issuers` is there, so no token could be accepted; \
             write `entra: { tenants: [GUID], audiences: [api://nats-prod] }`",
        );
    }
    if let Some(written) = &document.entra {
        entra(context, written, &mut table, &mut max_sessions);
    }
    for (index, written) in document.issuers.iter().enumerate() {
        issuers::resolve(context, index, written, &mut table, &mut max_sessions);
    }
    group_names(context, document);
    table.set_template_claims(
        document
            .template_claims
            .iter()
            .map(|name| name.as_str().into())
            .collect(),
    );
    TrustConfig {
        expectations: Arc::new(table),
        max_sessions,
    }
}

fn entra(
    context: &mut Context<'_>,
    written: &document::Entra,
    table: &mut Expectations,
    max_sessions: &mut MaxSessions,
) {
    let before = context.mistakes.len();
    let cloud = cloud(&written.cloud);
    let good = Entra {
        cloud: Cloud::public(),
        tenants: vec![GOOD_TENANT.into()],
        audiences: vec![GOOD_AUDIENCE.into()],
        accept: Accept::ALL,
        v1_tokens: false,
        required_scope: None,
        keys_app_id: None,
        groups: GroupForm::Ids,
    };
    if let Err(error) = Expectations::entra(&Entra {
        cloud: cloud.clone(),
        ..good.clone()
    }) {
        context.mistake(&["entra", "cloud", "authority"], error.to_string());
    }
    tenants(context, &written.tenants, &good);
    audiences(context, &["entra", "audiences"], &written.audiences);
    accept(context, &["entra", "accept"], &written.accept);
    scope(
        context,
        &["entra", "required_scope"],
        written.required_scope.as_deref(),
    );
    max_session(context, &["entra", "max_session"], written.max_session);
    keys_app_id(
        context,
        &["entra", "keys_app_id"],
        written.keys_app_id.as_deref(),
    );
    let groups = groups(context, &["entra", "groups"], written.groups);
    if !written.v1_tokens
        && !written.audiences.is_empty()
        && !written.audiences.iter().any(|a| is_guid(a))
    {
        context.warning(
            &["entra", "audiences"],
            "v2.0 tokens carry the application id (a GUID) as audience, and none is listed; add it, \
             or accept v1.0 tokens with `v1_tokens: true`",
        );
    }
    let complete = Entra {
        cloud,
        tenants: boxed(&written.tenants),
        audiences: boxed(&written.audiences),
        accept: kinds(&written.accept),
        v1_tokens: written.v1_tokens,
        required_scope: written.required_scope.as_deref().map(Into::into),
        keys_app_id: written.keys_app_id.as_deref().map(Into::into),
        groups,
    };
    let parts = ["cloud", "tenants", "audiences", "accept"];
    let whole = !parts
        .iter()
        .any(|part| context.lost_something(&["entra", part]));
    if whole
        && context.mistakes.len() == before
        && let Err(error) = table.add_entra(&complete)
    {
        context.mistake(&["entra"], error.to_string());
    }
    for tid in &written.tenants {
        if let Some(limit) = written.max_session {
            max_sessions.insert(tid.as_str().into(), limit.get());
        }
    }
}

pub(super) fn cloud(written: &document::Cloud) -> Cloud {
    match written {
        document::Cloud::Named(CloudName::Public) => Cloud::public(),
        document::Cloud::Named(CloudName::Usgov) => Cloud::us_government(),
        document::Cloud::Named(CloudName::UsgovDod) => Cloud::us_government_dod(),
        document::Cloud::Named(CloudName::China) => Cloud::china(),
        document::Cloud::Custom(custom) => {
            let cloud = Cloud::of_authority(&custom.authority);
            match &custom.graph {
                Some(graph) => cloud.with_graph(graph),
                None => cloud,
            }
        }
    }
}

fn tenants(context: &mut Context<'_>, tenants: &[String], good: &Entra) {
    if tenants.is_empty() {
        context.mistake(
            &["entra", "tenants"],
            format!("no tenant is listed; write [{GOOD_TENANT}]"),
        );
    }
    for (index, tid) in tenants.iter().enumerate() {
        let path = ["entra", "tenants", &index.to_string()];
        if tenants.iter().take(index).any(|other| other == tid) {
            context.mistake(&path, format!("tenant {tid} is listed twice; keep one"));
            continue;
        }
        let alone = Entra {
            tenants: vec![tid.as_str().into()],
            ..good.clone()
        };
        if let Err(error) = Expectations::entra(&alone) {
            let lower = tid.to_ascii_lowercase();
            let message = if is_guid(&lower) {
                format!("write the tenant id in lower case: {lower}")
            } else {
                error.to_string()
            };
            context.mistake(&path, message);
        } else if tid == PERSONAL {
            context.warning(
                &path,
                "this is the tenant of personal Microsoft accounts, of which anybody can make one",
            );
        }
    }
}

pub(super) fn audiences(context: &mut Context<'_>, path: &[&str], audiences: &[String]) {
    if audiences.is_empty() && !context.lost_something(path) {
        context.mistake(
            path,
            "no audience is listed; without one a token for any application would do: \
             write the App ID URI or the application id of your registration",
        );
    }
    for (index, audience) in audiences.iter().enumerate() {
        let index = index.to_string();
        let mut at = path.to_vec();
        at.push(&index);
        if audience.trim().is_empty() {
            context.mistake(
                &at,
                "an empty audience; write the App ID URI or the application id",
            );
        } else if let Err(error) = Expectations::default().add_issuer(&OtherIssuer {
            audiences: vec![audience.as_str().into()],
            ..good_issuer()
        }) {
            context.mistake(&at, error.to_string());
        } else if let Some(canonical) =
            misspelt_guid(audience).filter(|_| path == ["entra", "audiences"])
        {
            context.mistake(
                &at,
                format!("tokens spell the application id so, and are compared byte for byte: {canonical}"),
            );
        }
    }
}

/// The canonical form of what is a GUID but for case and braces.
fn misspelt_guid(text: &str) -> Option<String> {
    let plain = text.trim_matches(['{', '}', '(', ')']).to_ascii_lowercase();
    (is_guid(&plain) && plain != text).then_some(plain)
}

/// An issuer that nothing is wrong with.
pub(super) fn good_issuer() -> OtherIssuer {
    OtherIssuer {
        issuer: "https://login.example.com".into(),
        audiences: vec![GOOD_AUDIENCE.into()],
        accept: Accept::ALL,
        required_scope: None,
        keys: None,
        groups: GroupForm::Ids,
        roles_claim: Vec::new(),
    }
}

pub(super) fn accept(context: &mut Context<'_>, path: &[&str], written: &[Accepted]) {
    if written.is_empty() && !context.lost_something(path) {
        context.mistake(
            path,
            "nobody is accepted; write [user], [app] or [user, app]",
        );
    }
    if written.contains(&Accepted::IdToken) {
        context.warning(
            path,
            "`id_token` accepts the ID token of a sign-in, which is meant for the application that asked for it and is \
             often logged or kept by it; accept it only from clients that cannot get an access token",
        );
    }
}

pub(super) fn keys_app_id(context: &mut Context<'_>, path: &[&str], written: Option<&str>) {
    if let Some(id) = written.filter(|id| !is_guid(id)) {
        context.mistake(
            path,
            format!("`{id}` is not an application id (a GUID in lower case)"),
        );
    }
}

pub(super) fn groups(
    context: &mut Context<'_>,
    path: &[&str],
    written: document::GroupForm,
) -> GroupForm {
    match written {
        document::GroupForm::Ids => GroupForm::Ids,
        document::GroupForm::Names => {
            context.warning(
                path,
                "`names` takes names of groups at their word: they are not unique, and who may create or rename a group may \
                 take a role that is bound by group_name. Where the registration has emit_as_roles, group names also arrive \
                 as app roles, so that app_role rules may be matched by the name of a group; prefer ids",
            );
            GroupForm::Names
        }
    }
}

/// A role that is bound by a name where no issuer's names are taken at their word could never be held.
fn group_names(context: &mut Context<'_>, document: &Document) {
    let entra = document.entra.iter().map(|entra| entra.groups);
    let mut forms = entra.chain(document.issuers.iter().map(|issuer| issuer.groups));
    let lost = context.lost_something(&["entra"]) || context.lost_something(&["issuers"]);
    if lost || forms.any(|form| form == document::GroupForm::Names) {
        return;
    }
    for (name, role) in &document.roles {
        for (index, bind) in role.bind.iter().enumerate() {
            if bind.group_name.is_some() {
                context.mistake(
                    &["roles", name, "bind", &index.to_string(), "group_name"],
                    "no issuer's group names are taken at their word; bind by group with the id, or write groups: names at \
                     the issuer, knowing that names are not unique",
                );
            }
        }
    }
}

pub(super) fn scope(context: &mut Context<'_>, path: &[&str], written: Option<&str>) {
    let unfit = |scope: &str| {
        scope.is_empty() || scope.contains(char::is_whitespace) || scope.contains("://")
    };
    if written.is_some_and(unfit) {
        context.mistake(
            path,
            "a scope is one word, as Nats.Access; write it without its api:// prefix",
        );
    }
}

pub(super) fn max_session(
    context: &mut Context<'_>,
    path: &[&str],
    written: Option<HumanDuration>,
) {
    if let Some(written) = written {
        context.bounded(path, written, 10_000, 30 * 24 * 3_600_000);
    }
}

pub(super) fn kinds(written: &[Accepted]) -> Accept {
    Accept {
        users: written.contains(&Accepted::User),
        apps: written.contains(&Accepted::App),
        id_tokens: written.contains(&Accepted::IdToken),
    }
}

pub(super) fn boxed(list: &[String]) -> Vec<Box<str>> {
    list.iter().map(|text| text.as_str().into()).collect()
}
