//! `issuers`: other OpenID Connect issuers, other Microsoft clouds, External ID and B2C, into the table of issuers.
//!
//! Owns: which keys have a meaning with which profile. Must never: stop at the first mistake.

use super::super::document::{self, KeySource, Profile};
use super::Context;
use super::trust::{
    GOOD_TENANT, MaxSessions, accept, audiences, boxed, good_issuer, groups, keys_app_id, kinds,
    max_session, scope,
};
use crate::identity::{
    B2c, Cloud, Entra, Expectations, ExpectationsError, GroupForm, OtherIssuer, is_guid,
};

/// Checks one entry and adds it to the table, unless something is wrong with it.
pub(super) fn resolve(
    context: &mut Context<'_>,
    index: usize,
    written: &document::Issuer,
    table: &mut Expectations,
    max_sessions: &mut MaxSessions,
) {
    let index = index.to_string();
    let at = |key| ["issuers", index.as_str(), key];
    let before = context.mistakes.len();
    let groups = common(context, &at, written);
    let keys = match &written.jwks {
        KeySource::Discover => None,
        KeySource::Url(url) => Some(Box::from(url.as_str())),
    };
    addresses(context, &at, written, keys.as_deref());
    roles_claim(context, &at, written);
    // What a profile that could not be read would have meant is not known.
    if !context.lost_something(&at("profile")) {
        microsoft(context, &at, written);
        tenant(context, &at, written);
        strangers(context, &at, written);
    }
    if written.profile == Profile::B2c {
        policies(context, &at, written);
    }
    if context.mistakes.len() > before || context.lost_something(&["issuers", &index]) {
        return;
    }
    if let Some(limit) = written.max_session {
        let whose = written.tenant.as_deref().unwrap_or(&written.issuer);
        max_sessions.insert(whose.into(), limit.get());
    }
    if let Err(error) = add(table, written, groups, keys) {
        let key = match error {
            ExpectationsError::Twice(_) => "issuer",
            _ => "audiences",
        };
        context.mistake(&at(key), error.to_string());
    }
}

/// What every profile has.
fn common<'a>(
    context: &mut Context<'_>,
    at: &impl Fn(&'a str) -> [&'a str; 3],
    written: &document::Issuer,
) -> GroupForm {
    audiences(context, &at("audiences"), &written.audiences);
    accept(context, &at("accept"), &written.accept);
    let required = written.required_scope.as_deref();
    scope(context, &at("required_scope"), required);
    max_session(context, &at("max_session"), written.max_session);
    keys_app_id(context, &at("keys_app_id"), written.keys_app_id.as_deref());
    groups(context, &at("groups"), written.groups)
}

fn addresses<'a>(
    context: &mut Context<'_>,
    at: &impl Fn(&'a str) -> [&'a str; 3],
    written: &document::Issuer,
    keys: Option<&str>,
) {
    if let Err(error) = issuer_alone(written) {
        context.mistake(&at("issuer"), error.to_string());
    }
    let alone = OtherIssuer {
        keys: keys.map(Into::into),
        ..good_issuer()
    };
    if let Err(error) = Expectations::default().add_issuer(&alone) {
        context.mistake(&at("jwks"), error.to_string());
    }
}

/// The issuer in an entry that is right in everything else.
fn issuer_alone(written: &document::Issuer) -> Result<(), ExpectationsError> {
    let issuer: Box<str> = written.issuer.as_str().into();
    let mut table = Expectations::default();
    if written.profile == Profile::Oidc {
        return table.add_issuer(&OtherIssuer {
            issuer,
            ..good_issuer()
        });
    }
    // All of Microsoft's profiles have an authority in the place of an issuer.
    table.add_b2c(&B2c {
        authority: issuer,
        policies: vec!["B2C_1_x".into()],
        ..b2c(Vec::new())
    })
}

/// By the rules of any other issuer, tokens of Entra would be judged without their tenant, and their keys do not fit.
fn microsoft<'a>(
    context: &mut Context<'_>,
    at: &impl Fn(&'a str) -> [&'a str; 3],
    written: &document::Issuer,
) {
    let Some((profile, authority)) = of_microsoft(&written.issuer) else {
        return;
    };
    let host = written.issuer.trim_end_matches('/');
    if written.profile != Profile::Oidc
        && (written.profile != profile || host.starts_with(&authority))
    {
        return;
    }
    let mut segments = written.issuer.split(['/', '.']);
    let tenant = segments
        .find(|segment| is_guid(segment))
        .or(written.tenant.as_deref());
    context.mistake(
        &at("issuer"),
        format!(
            "this is an issuer of Microsoft's, whose tokens name their tenant; write issuer: {authority}, profile: {}, tenant: {}",
            word(profile),
            tenant.unwrap_or(GOOD_TENANT)
        ),
    );
}

/// The profile and the authority of issuers that are known to be Microsoft's.
fn of_microsoft(issuer: &str) -> Option<(Profile, String)> {
    let host = issuer.strip_prefix("https://")?.split(['/', ':']).next()?;
    let (profile, host) = match host {
        "login.microsoftonline.com" | "login.windows.net" | "sts.windows.net" => {
            (Profile::Entra, "login.microsoftonline.com")
        }
        "login.microsoftonline.us" => (Profile::Entra, host),
        "login.partner.microsoftonline.cn" | "sts.chinacloudapi.cn" => {
            (Profile::Entra, "login.partner.microsoftonline.cn")
        }
        _ if host.ends_with(".ciamlogin.com") => (Profile::ExternalId, host),
        _ if host.ends_with(".b2clogin.com") => (Profile::B2c, host),
        _ => return None,
    };
    Some((profile, format!("https://{host}")))
}

fn tenant<'a>(
    context: &mut Context<'_>,
    at: &impl Fn(&'a str) -> [&'a str; 3],
    written: &document::Issuer,
) {
    let profile = word(written.profile);
    match (written.profile, &written.tenant) {
        (Profile::Oidc, Some(_)) => context.mistake(
            &at("tenant"),
            "a tenant has a meaning for `profile: entra`, `external-id` and `b2c` only; remove it, or set the profile",
        ),
        (Profile::Oidc, None) => {}
        (_, None) if !context.lost_something(&at("tenant")) => context.mistake(
            &at("profile"),
            format!("`profile: {profile}` needs the tenant; write `tenant: {GOOD_TENANT}`"),
        ),
        (_, Some(tid)) if !is_guid(tid) => context.mistake(
            &at("tenant"),
            format!("`{tid}` is not a tenant id (a GUID in lower case)"),
        ),
        _ => {}
    }
}

/// Names of claims, one below the other.
fn roles_claim<'a>(
    context: &mut Context<'_>,
    at: &impl Fn(&'a str) -> [&'a str; 3],
    written: &document::Issuer,
) {
    let names = &written.roles_claim;
    if names.iter().any(|name| name.trim().is_empty()) {
        context.mistake(
            &at("roles_claim"),
            "the name of a claim is empty; write [realm_access, roles], or remove this key for the claim `roles`",
        );
    }
    if let [name] = names.as_slice()
        && name.contains('.')
        && !name.contains('/')
    {
        context.warning(
            &at("roles_claim"),
            format!(
                "this is the name of one claim; if roles are below another, write [{}]",
                name.split('.').collect::<Vec<_>>().join(", ")
            ),
        );
    }
}

/// Keys that have no meaning with the profile.
fn strangers<'a>(
    context: &mut Context<'_>,
    at: &impl Fn(&'a str) -> [&'a str; 3],
    written: &document::Issuer,
) {
    use Profile::{B2c, Entra, ExternalId, Oidc};
    let profile = written.profile;
    if profile != Oidc && written.jwks != KeySource::Discover {
        context.mistake(
            &at("jwks"),
            format!(
                "with `profile: {}` keys are discovered; remove this key",
                word(profile)
            ),
        );
    }
    let rows = [
        ("v1_tokens", written.v1_tokens, &[Entra][..]),
        ("policies", !written.policies.is_empty(), &[B2c]),
        (
            "keys_app_id",
            written.keys_app_id.is_some(),
            &[Entra, ExternalId],
        ),
        ("roles_claim", !written.roles_claim.is_empty(), &[Oidc]),
        (
            "groups",
            written.groups == document::GroupForm::Names,
            &[Oidc, Entra, ExternalId],
        ),
    ];
    for (key, given, profiles) in rows {
        if given && !profiles.contains(&profile) {
            let words: Vec<String> = profiles
                .iter()
                .map(|profile| format!("`profile: {}`", word(*profile)))
                .collect();
            context.mistake(
                &at(key),
                format!(
                    "this key has a meaning with {} only; remove it",
                    words.join(" and ")
                ),
            );
        }
    }
}

/// A tenant of B2C that nothing is wrong with but perhaps its policies.
fn b2c(policies: Vec<Box<str>>) -> B2c {
    let good = good_issuer();
    B2c {
        authority: good.issuer,
        tenant: GOOD_TENANT.into(),
        policies,
        audiences: good.audiences,
        accept: good.accept,
        required_scope: None,
    }
}

/// Each policy alone, in an entry that is right in everything else.
fn policies<'a>(
    context: &mut Context<'_>,
    at: &impl Fn(&'a str) -> [&'a str; 3],
    written: &document::Issuer,
) {
    if written.policies.is_empty() {
        if !context.lost_something(&at("policies")) {
            context.mistake(&at("profile"), ExpectationsError::NoPolicy.to_string());
        }
        return;
    }
    for (index, policy) in written.policies.iter().enumerate() {
        let mut before = written.policies.iter().take(index);
        let twice = before.any(|other| other.eq_ignore_ascii_case(policy));
        let single = match twice {
            true => boxed(&[policy.clone(), policy.clone()]),
            false => boxed(std::slice::from_ref(policy)),
        };
        if let Err(error) = Expectations::default().add_b2c(&b2c(single)) {
            let [list, entry, key] = at("policies");
            context.mistake(&[list, entry, key, &index.to_string()], error.to_string());
        }
    }
}

fn add(
    table: &mut Expectations,
    written: &document::Issuer,
    groups: GroupForm,
    keys: Option<Box<str>>,
) -> Result<(), ExpectationsError> {
    let tenant: Box<str> = written.tenant.as_deref().unwrap_or_default().into();
    let required_scope = written.required_scope.as_deref().map(Into::into);
    let (audiences, accept) = (boxed(&written.audiences), kinds(&written.accept));
    let entra = |cloud| Entra {
        cloud,
        tenants: vec![tenant.clone()],
        audiences: audiences.clone(),
        accept,
        v1_tokens: written.v1_tokens,
        required_scope: written.required_scope.as_deref().map(Into::into),
        keys_app_id: written.keys_app_id.as_deref().map(Into::into),
        groups,
    };
    match written.profile {
        Profile::Entra => table.add_entra(&entra(Cloud::of_authority(&written.issuer))),
        Profile::ExternalId => table.add_entra(&entra(Cloud::external_id(&written.issuer))),
        Profile::B2c => table.add_b2c(&B2c {
            authority: written.issuer.as_str().into(),
            tenant,
            policies: boxed(&written.policies),
            audiences,
            accept,
            required_scope,
        }),
        Profile::Oidc => table.add_issuer(&OtherIssuer {
            issuer: written.issuer.as_str().into(),
            audiences,
            accept,
            required_scope,
            keys,
            groups,
            roles_claim: boxed(&written.roles_claim),
        }),
    }
}

const fn word(profile: Profile) -> &'static str {
    match profile {
        Profile::Entra => "entra",
        Profile::ExternalId => "external-id",
        Profile::B2c => "b2c",
        Profile::Oidc => "oidc",
    }
}
