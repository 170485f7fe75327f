//! `entra` and `issuers`: into the table that the token gate looks issuers up in.
//!
//! The table stops at its first mistake. So that all of them are reported, each tenant, audience and address is tried
//! alone in a table that is right in everything else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::document::{self, CloudName, Document, KeySource, Profile};
use super::Context;
use crate::identity::{
    Accept, Cloud, Entra, Expectations, ExpectationsError, OtherIssuer, TokenLimits, is_guid,
};
use crate::policy::document::PrincipalKind;
use crate::policy::units::HumanDuration;

/// Whose tokens are accepted.
#[derive(Clone, Debug)]
pub struct TrustConfig {
    /// The table of issuers.
    pub expectations: Arc<Expectations>,
    max_sessions: HashMap<Box<str>, Duration>,
}

impl TrustConfig {
    /// The longest a session with a token of this issuer may live; none: as long as the token.
    pub fn max_session(&self, issuer: &str) -> Option<Duration> {
        self.max_sessions.get(issuer).copied()
    }
}

/// A tenant and an audience that nothing is wrong with.
const GOOD_TENANT: &str = "11111111-2222-3333-4444-555555555555";
const GOOD_AUDIENCE: &str = "api://natsentry";

pub(super) fn resolve(context: &mut Context<'_>, document: &Document) -> TrustConfig {
    let connect_line = usize::try_from(document.limits.connect_line.bytes()).unwrap_or(usize::MAX);
    // The usual 48 KiB of CONNECT leave the token its usual 32 KiB; who raises one raises the other.
    let mut table = Expectations::new(TokenLimits {
        size: connect_line / 3 * 2,
        ..TokenLimits::default()
    });
    let mut max_sessions = HashMap::new();
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
        issuer(context, index, written, &mut table, &mut max_sessions);
    }
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
    max_sessions: &mut HashMap<Box<str>, Duration>,
) {
    if written.graph.is_some() {
        context.mistake(
            &["entra", "graph"],
            "not available in this version; remove it",
        );
    }
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
    if let Some(id) = written.keys_app_id.as_deref().filter(|id| !is_guid(id)) {
        context.mistake(
            &["entra", "keys_app_id"],
            format!("`{id}` is not an application id (a GUID in lower case)"),
        );
    }
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
        cloud: cloud.clone(),
        tenants: boxed(&written.tenants),
        audiences: boxed(&written.audiences),
        accept: kinds(&written.accept),
        v1_tokens: written.v1_tokens,
        required_scope: written.required_scope.as_deref().map(Into::into),
        keys_app_id: written.keys_app_id.as_deref().map(Into::into),
    };
    if context.mistakes.len() == before
        && let Err(error) = table.add_entra(&complete)
    {
        context.mistake(&["entra"], error.to_string());
    }
    for tid in &written.tenants {
        if let Some(limit) = written.max_session {
            max_sessions.insert(cloud.v2_issuer_of(tid), limit.get());
            max_sessions.insert(cloud.v1_issuer_of(tid), limit.get());
        }
    }
}

fn cloud(written: &document::Cloud) -> Cloud {
    match written {
        document::Cloud::Named(CloudName::Public) => Cloud::public(),
        document::Cloud::Named(CloudName::Usgov) => Cloud::us_government(),
        document::Cloud::Named(CloudName::China) => Cloud::china(),
        document::Cloud::Custom(custom) => Cloud::custom(&custom.authority),
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
        }
    }
}

fn audiences(context: &mut Context<'_>, path: &[&str], audiences: &[String]) {
    if audiences.is_empty() {
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
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one key after the other")]
fn issuer(
    context: &mut Context<'_>,
    index: usize,
    written: &document::Issuer,
    table: &mut Expectations,
    max_sessions: &mut HashMap<Box<str>, Duration>,
) {
    let index = index.to_string();
    let at = |key| ["issuers", index.as_str(), key];
    let before = context.mistakes.len();
    let alone = OtherIssuer {
        issuer: written.issuer.as_str().into(),
        ..good_issuer()
    };
    if let Err(error) = Expectations::default().add_issuer(&alone) {
        context.mistake(&at("issuer"), error.to_string());
    }
    let keys: Option<Box<str>> = match &written.jwks {
        KeySource::Discover => None,
        KeySource::Url(url) => Some(url.as_str().into()),
    };
    let alone = OtherIssuer {
        keys: keys.clone(),
        ..good_issuer()
    };
    if let Err(error) = Expectations::default().add_issuer(&alone) {
        context.mistake(&at("jwks"), error.to_string());
    }
    audiences(context, &at("audiences"), &written.audiences);
    accept(context, &at("accept"), &written.accept);
    scope(
        context,
        &at("required_scope"),
        written.required_scope.as_deref(),
    );
    max_session(context, &at("max_session"), written.max_session);
    match (written.profile, &written.tenant) {
        (Profile::Oidc, Some(_)) => context.mistake(
            &at("tenant"),
            "a tenant has a meaning for `profile: entra` only; remove it, or set the profile",
        ),
        (Profile::Entra, None) if !context.lost_something(&at("tenant")) => context.mistake(
            &at("profile"),
            format!("`profile: entra` needs the tenant; write `tenant: {GOOD_TENANT}`"),
        ),
        (Profile::Entra, Some(tid)) if !is_guid(tid) => {
            context.mistake(
                &at("tenant"),
                format!("`{tid}` is not a tenant id (a GUID in lower case)"),
            );
        }
        _ => {}
    }
    if written.profile == Profile::Entra && keys.is_some() {
        context.mistake(
            &at("jwks"),
            "with `profile: entra` keys are discovered; remove this key",
        );
    }
    if written.profile == Profile::Oidc && written.v1_tokens {
        context.mistake(
            &at("v1_tokens"),
            "v1.0 tokens exist with `profile: entra` only; remove this key",
        );
    }
    if context.mistakes.len() > before {
        return;
    }
    let added = match (written.profile, &written.tenant) {
        (Profile::Entra, Some(tid)) => {
            let cloud = Cloud::custom(&written.issuer);
            if let Some(limit) = written.max_session {
                max_sessions.insert(cloud.v2_issuer_of(tid), limit.get());
                max_sessions.insert(cloud.v1_issuer_of(tid), limit.get());
            }
            table.add_entra(&Entra {
                cloud,
                tenants: vec![tid.as_str().into()],
                audiences: boxed(&written.audiences),
                accept: kinds(&written.accept),
                v1_tokens: written.v1_tokens,
                required_scope: written.required_scope.as_deref().map(Into::into),
                keys_app_id: None,
            })
        }
        _ => {
            if let Some(limit) = written.max_session {
                max_sessions.insert(written.issuer.as_str().into(), limit.get());
            }
            table.add_issuer(&OtherIssuer {
                issuer: written.issuer.as_str().into(),
                audiences: boxed(&written.audiences),
                accept: kinds(&written.accept),
                required_scope: written.required_scope.as_deref().map(Into::into),
                keys,
            })
        }
    };
    if let Err(error) = added {
        let key = if matches!(error, ExpectationsError::Twice(_)) {
            "issuer"
        } else {
            "audiences"
        };
        context.mistake(&at(key), error.to_string());
    }
}

/// An issuer that nothing is wrong with.
fn good_issuer() -> OtherIssuer {
    OtherIssuer {
        issuer: "https://login.example.com".into(),
        audiences: vec![GOOD_AUDIENCE.into()],
        accept: Accept::ALL,
        required_scope: None,
        keys: None,
    }
}

fn accept(context: &mut Context<'_>, path: &[&str], written: &[PrincipalKind]) {
    if written.is_empty() {
        context.mistake(
            path,
            "nobody is accepted; write [user], [app] or [user, app]",
        );
    }
}

fn scope(context: &mut Context<'_>, path: &[&str], written: Option<&str>) {
    if written.is_some_and(|scope| scope.is_empty() || scope.contains(char::is_whitespace)) {
        context.mistake(
            path,
            "a scope is one word, as Nats.Access; write it without its api:// prefix",
        );
    }
}

fn max_session(context: &mut Context<'_>, path: &[&str], written: Option<HumanDuration>) {
    if let Some(written) = written {
        context.bounded(path, written, 10_000, 30 * 24 * 3_600_000);
    }
}

fn kinds(written: &[PrincipalKind]) -> Accept {
    Accept {
        users: written.contains(&PrincipalKind::User),
        apps: written.contains(&PrincipalKind::App),
    }
}

fn boxed(list: &[String]) -> Vec<Box<str>> {
    list.iter().map(|text| text.as_str().into()).collect()
}
