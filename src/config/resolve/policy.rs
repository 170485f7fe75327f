//! `roles`, `template_claims` and `tests`: compiled, with the names of upstreams checked and the tests run.

use std::sync::Arc;
use std::time::Duration;

use super::super::document::{Document, Profile};
use super::super::suggest;
use super::Context;
use crate::identity::is_guid;
use crate::policy::document::{AuditDepth, Bind, PrincipalKind, Reach, Require};
use crate::policy::units::HumanDuration;
use crate::policy::{self, Policy};
use crate::time::Timestamp;

/// A compiled policy that its own tests agree with.
pub(super) struct Compiled {
    pub(super) policy: Arc<Policy>,
    pub(super) document: Arc<policy::Document>,
    /// Cases of `tests`, all of which hold.
    pub(super) tests_passed: usize,
}

pub(super) fn resolve(
    context: &mut Context<'_>,
    document: &Document,
    now: Timestamp,
) -> Option<Compiled> {
    let before = context.mistakes.len();
    upstream_names(context, document);
    if document.roles.is_empty() && !context.lost_something(&["roles"]) {
        context.warning(&[], "there are no `roles`, so nobody may do anything");
    }
    look_over_roles(context, document);
    let written = policy::Document {
        roles: document.roles.clone(),
        template_claims: document.template_claims.clone(),
        tests: document.tests.clone(),
    };
    let policy = match Policy::compile(&written) {
        Ok(policy) => policy,
        Err(mistakes) => {
            for mistake in mistakes {
                // "The role grants nothing", where its only grant was taken out.
                if !context.lost_a_child(&mistake.path) {
                    context.mistake_at(mistake.path, mistake.message);
                }
            }
            return None;
        }
    };
    // With a grant taken out, a failed test would say nothing new.
    let whole = !["roles", "tests", "template_claims"]
        .iter()
        .any(|key| context.lost_something(&[key]));
    if !whole || context.mistakes.len() > before {
        return None;
    }
    for failure in policy.run_tests(&written, now) {
        context.mistake_at(failure.path, failure.message);
    }
    Some(Compiled {
        policy: Arc::new(policy),
        tests_passed: written.tests.len(),
        document: Arc::new(written),
    })
}

/// What a role says that this version cannot do, and what is probably not meant.
///
/// `ephemeral` goes by the look of a consumer's name: where `read` is restricted, a durable one with such a name, made by
/// somebody else with a wider filter, would be a way around it.
fn look_over_roles(context: &mut Context<'_>, document: &Document) {
    nobodies(context, document);
    for (name, role) in &document.roles {
        if role.audit == AuditDepth::Messages {
            context.mistake(
                &["roles", name, "audit"],
                "`messages` is not available in this version; write sessions, or remove it",
            );
        }
        let by_id = |bind: &Bind| bind.user.is_some() || bind.app_id.is_some();
        if let Some(require) = &role.require
            && !require.xms_mirid.is_empty()
            && !role.bind.iter().all(by_id)
        {
            context.warning(
                &["roles", name, "require", "xms_mirid"],
                "the ARM id of a managed identity is a name that another one may get after it was deleted; bind the \
                 role by `user` with the object id, so that both must fit",
            );
        }
        // Other issuers have tokens of other kinds.
        if let Some(require) = role
            .require
            .as_ref()
            .filter(|_| document.issuers.is_empty())
        {
            unlikely(context, name, require);
        }
        for (stream, grant) in &role.stream {
            let restricted = matches!(grant.read, Reach::Some(_));
            if restricted
                && grant
                    .consumers
                    .iter()
                    .any(|consumer| consumer == "ephemeral")
            {
                context.warning(
                    &["roles", name, "stream", stream, "consumers"],
                    "`ephemeral` reaches every consumer whose name is 8 or 22 letters and figures: give durable \
                     consumers of this stream other names, or `read` may be got around",
                );
            }
        }
    }
}

/// Lines of `bind` that name nobody whose tokens are accepted.
fn nobodies(context: &mut Context<'_>, document: &Document) {
    if context.lost_something(&["entra"]) || context.lost_something(&["issuers"]) {
        return;
    }
    let of_entra = document.entra.iter().flat_map(|entra| &entra.tenants);
    let of_issuers = document
        .issuers
        .iter()
        .map(|one| one.tenant.as_ref().unwrap_or(&one.issuer));
    let tenants: Vec<&String> = of_entra.chain(of_issuers).collect();
    let names_by_id = document
        .issuers
        .iter()
        .all(|issuer| issuer.profile != Profile::Oidc);
    for (name, role) in &document.roles {
        let clients = role.require.iter().flat_map(|require| &require.clients);
        for client in clients.filter(|client| names_by_id && !is_guid(&client.to_ascii_lowercase()))
        {
            context.mistake(&["roles", name, "require", "clients"], no_client(client));
        }
        for (index, bind) in role.bind.iter().enumerate() {
            let index = index.to_string();
            let at = |key| ["roles", name.as_str(), "bind", index.as_str(), key];
            if let Some(tenant) = &bind.tenant
                && !tenants
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(tenant))
            {
                context.warning(
                    &at("tenant"),
                    "no tokens of this tenant are accepted, so that this line names nobody; it is an id of entra.tenants, or the \
                     address of an issuer",
                );
            }
            if let Some(id) = &bind.app_id
                && names_by_id
                && !is_guid(&id.to_ascii_lowercase())
            {
                context.mistake(&at("app_id"), no_client(id));
            }
            if let Some(user) = &bind.user
                && names_by_id
                && !is_guid(&user.to_ascii_lowercase())
            {
                context.warning(
                    &at("user"),
                    "this is no object id (a GUID), by which Entra knows people, so that this line names nobody; put the name of \
                     a person into `name`",
                );
            }
        }
    }
}

fn no_client(id: &str) -> String {
    format!(
        "{id:?} is not an application's client id, which is a GUID with Entra; write that, and not its name"
    )
}

/// Conditions that tokens of Entra do not meet.
fn unlikely(context: &mut Context<'_>, name: &str, require: &Require) {
    let young = |age: HumanDuration| age.get() <= BACKDATED;
    if require.max_token_age.is_some_and(young) {
        context.warning(
            &["roles", name, "require", "max_token_age"],
            "Entra writes an issue time that lies five minutes back, so that its tokens are older than this at once; write 10m \
             or more",
        );
    }
    if require.kind != Some(PrincipalKind::App) {
        return;
    }
    for (key, given) in [
        ("acct", require.acct.is_some()),
        ("acrs", !require.acrs.is_empty()),
        ("amr", !require.amr.is_empty()),
        ("auth_age", require.auth_age.is_some()),
        ("scopes", !require.scopes.is_empty()),
    ] {
        if given {
            context.warning(
                &["roles", name, "require", key],
                "no token of an application has it, and `kind: app` asks for one: nobody meets both",
            );
        }
    }
}

/// How far back Entra dates the issue of a token.
const BACKDATED: Duration = Duration::from_secs(300);

/// Roles name their upstream; the names come from the file, so that an upstream with mistakes of its own still counts.
fn upstream_names(context: &mut Context<'_>, document: &Document) {
    let known = context.tree.keys(&["upstreams".into()]);
    for (name, role) in &document.roles {
        let upstream = role.upstream.as_str();
        if upstream.is_empty() || known.contains(&upstream) {
            continue;
        }
        let advice = match suggest::nearest(upstream, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "there are no upstreams".to_owned(),
            None => format!("the upstreams are {}", known.join(", ")),
        };
        context.mistake(
            &["roles", name, "upstream"],
            format!("no upstream `{upstream}`; {advice}"),
        );
    }
}
