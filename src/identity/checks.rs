//! What a verified token must say: time, issuer, audience; and the identity that it then speaks for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::authority::{Authority, GroupForm, Shape};
use super::claims::{Claims, Confirmation};
use super::cloud::{self, is_guid};
use super::error::{Code, TokenError};
use super::expectations::TokenLimits;
use super::keys::{HeldKeys, Key};
use super::show::{self, Shown};
use super::strict_json::{Object, Value};
use super::{Groups, Identity, Kind};
use crate::time::Timestamp;

/// `exp` without leeway, since the session would have to end at once; `nbf` and `iat` with `skew`.
///
/// A lifetime counts from the earlier of `nbf` and `iat`; for issuers other than Entra from `iat`, since some write
/// `nbf` 0 for "always".
pub(crate) fn time(
    claims: &Claims<'_>,
    authority: &Authority,
    limits: TokenLimits,
    now: Timestamp,
) -> Result<(), TokenError> {
    let start = match claims.nbf {
        Some(nbf) if authority.shape.is_entra() => nbf.min(claims.iat),
        _ => claims.iat,
    };
    let end = Timestamp::from_secs(claims.exp);
    if claims.exp <= claims.iat || claims.nbf.is_some_and(|nbf| claims.exp <= nbf) {
        return Err(TokenError::new(
            Code::TimeOrder,
            "exp is not after nbf and iat",
        ));
    }
    let longest = limits.lifetime.saturating_add(limits.skew);
    if Duration::from_secs(claims.exp.saturating_sub(start)) > longest {
        let sentence = format!(
            "lifetime of {} s exceeds the limit of {}",
            claims.exp.saturating_sub(start),
            show::duration(longest)
        );
        return Err(TokenError::new(Code::TimeLifetime, sentence));
    }
    if end <= now {
        let sentence = format!(
            "expired {} ago (exp={end}, local clock {now}); the client is presenting a cached token, refresh it \
             before connecting",
            show::duration(now.since(end))
        );
        return Err(TokenError::new(Code::TimeExpired, sentence));
    }
    let horizon = now.plus(limits.skew);
    for (name, at) in [
        ("nbf", claims.nbf),
        ("iat", Some(claims.iat)),
        // A sign-in that has not been yet would meet every limit on its age.
        ("auth_time", claims.auth_time),
    ] {
        let Some(at) = at.map(Timestamp::from_secs) else {
            continue;
        };
        if at > horizon {
            let sentence = format!(
                "not valid for another {} ({name}={at}, local clock {now}): check NTP on this machine; Entra backdates \
                 nbf by 5 min, so the clock is at least that far behind",
                show::duration(at.since(now))
            );
            return Err(TokenError::new(Code::TimeEarly, sentence));
        }
    }
    Ok(())
}

/// `ver` agrees with the form of `iss`, `tid` with the tenant in it, and the key belongs to both.
pub(crate) fn issuer(
    claims: &Claims<'_>,
    iss: &str,
    authority: &Authority,
    key: &Key,
    held: &HeldKeys,
) -> Result<(), TokenError> {
    one_issuer(claims, iss, authority)?;
    key_of_issuer(iss, authority, key, held)
}

/// What the claims say of the issuer, without the key.
pub(crate) fn one_issuer(
    claims: &Claims<'_>,
    iss: &str,
    authority: &Authority,
) -> Result<(), TokenError> {
    let version = match authority.shape {
        // B2C numbers its tokens 1.0 although its issuers are those of v2.0.
        Shape::EntraV1 | Shape::B2c => Some("1.0"),
        Shape::EntraV2 => Some("2.0"),
        Shape::Oidc => None,
    };
    if version.is_some() && claims.ver != version {
        let sentence = format!(
            "ver is {}; tokens of iss {} have {}",
            claims
                .ver
                .map_or_else(|| "missing".to_owned(), |ver| format!("'{}'", Shown(ver))),
            Shown(iss),
            version.unwrap_or_default()
        );
        return Err(TokenError::new(Code::ClaimsVersion, sentence));
    }
    if let Some(tid) = authority.tid.as_deref()
        && claims.tid != Some(tid)
        // B2C leaves it out unless told otherwise; the issuer names the tenant.
        && !(authority.shape == Shape::B2c && claims.tid.is_none())
    {
        let sentence = format!(
            "tid {} is not the tenant of iss {}",
            Shown(claims.tid.unwrap_or_default()),
            Shown(iss)
        );
        return Err(TokenError::new(Code::IssuerTid, sentence));
    }
    Ok(())
}

fn key_of_issuer(
    iss: &str,
    authority: &Authority,
    key: &Key,
    held: &HeldKeys,
) -> Result<(), TokenError> {
    if let Some(template) = key.issuer() {
        let bound = match authority.tid.as_deref() {
            Some(tid) => cloud::fill(template, tid),
            None => template.to_owned(),
        };
        let mut ours = authority.key_issuers.iter().map(AsRef::as_ref).chain([iss]);
        if !bound.trim().is_empty() && !ours.any(|issuer: &str| *issuer == *bound) {
            let sentence = format!("the signing key belongs to issuer '{}'", Shown(template));
            return Err(TokenError::new(Code::KeyIssuer, sentence));
        }
    }
    match (key.cloud(), held.cloud.as_deref()) {
        (Some(theirs), Some(ours)) if theirs != ours => Err(TokenError::new(
            Code::KeyCloud,
            format!(
                "the signing key belongs to cloud '{}', not to '{}'",
                Shown(theirs),
                Shown(ours)
            ),
        )),
        _ => Ok(()),
    }
}

/// One of ours, byte for byte.
pub(crate) fn audience(claims: &Claims<'_>, authority: &Authority) -> Result<(), TokenError> {
    let ours = |audience: &&str| {
        authority
            .audiences
            .iter()
            .any(|known| **known == **audience)
    };
    if claims.audiences.iter().any(ours) {
        return Ok(());
    }
    let audience = claims.audiences.first().copied().unwrap_or_default();
    if let Some(api) = cloud::microsoft_api(audience) {
        return Err(for_another_api(api, audience, &authority.audiences));
    }
    let listed = show::list(authority.audiences.iter().map(AsRef::as_ref));
    let is_uri = audience.starts_with("api://") || audience.starts_with("spn:");
    if is_uri && authority.shape.is_entra() {
        let sentence = format!(
            "aud is '{}'; expected one of {listed}. v1.0 tokens carry the App ID URI: add it to entra.audiences exactly \
             so (a final slash counts), or set requestedAccessTokenVersion=2",
            Shown(audience)
        );
        return Err(TokenError::new(Code::AudiencePrefix, sentence));
    }
    let sentence = format!(
        "aud '{}' is not among {listed}. Request scope {}, or add this audience to the issuer's audiences if it is yours",
        Shown(audience),
        scope_of(&authority.audiences)
    );
    Err(TokenError::new(Code::AudienceOther, sentence))
}

/// `ours`: the audiences of the row that the token would have had to be for; none where nobody said.
pub(crate) fn for_another_api(api: &str, audience: &str, ours: &[Box<str>]) -> TokenError {
    let scope = scope_of(ours);
    TokenError::new(
        Code::AudienceGraph,
        format!(
            "token is for {api} (aud '{}'), not for this proxy. Request scope {scope} (az account get-access-token \
             --scope {scope})",
            Shown(audience)
        ),
    )
}

/// What a client asks its token endpoint for, to get a token with one of these audiences: an App ID URI, which is what
/// people know the API by, or the client id.
fn scope_of(audiences: &[Box<str>]) -> String {
    let named = audiences.iter().find(|audience| audience.contains("://"));
    match named.or_else(|| audiences.first()) {
        Some(audience) => format!("{}/.default", Shown(audience)),
        None => "api://<app>/.default".to_owned(),
    }
}

/// The identity of a token that passed every check.
pub(crate) fn identity(
    claims: &Claims<'_>,
    iss: &str,
    authority: &Authority,
    kind: Kind,
    payload: &Object<'_>,
    template_claims: &[Box<str>],
) -> Identity {
    let boxed = |text: Option<&str>| text.map(Box::<str>::from);
    let all = |list: &[&str]| list.iter().map(|text| Box::<str>::from(*text)).collect();
    // Which of the two it is was decided with the types of the claims.
    let oid = claims
        .oid
        .filter(|oid| is_guid(oid))
        .or(claims.sub)
        .or(claims.oid);
    let thumbprint = match claims.confirmation {
        Confirmation::Certificate(thumbprint) => Some(thumbprint),
        Confirmation::None | Confirmation::Other => None,
    };
    Identity {
        // The tenant of another issuer is that issuer, whatever its tokens say: no issuer speaks for another's tenant.
        tid: authority
            .tid
            .clone()
            .unwrap_or_else(|| authority.issuer.clone()),
        oid: oid.unwrap_or_default().into(),
        issuer: iss.into(),
        sub: boxed(claims.sub),
        azp: boxed(claims.client),
        azpacr: claims.client_auth,
        kind,
        roles: all(&claims.roles),
        groups: groups(claims, authority),
        scopes: all(&claims.scopes),
        acrs: all(&claims.acrs),
        amr: all(&claims.amr),
        acct: claims.acct,
        auth_time: claims.auth_time.map(Timestamp::from_secs),
        issued_at: Timestamp::from_secs(claims.iat),
        expires_at: Timestamp::from_secs(claims.exp),
        uti: boxed(claims.token_id),
        display_name: claims.display_name(),
        xms_mirid: boxed(claims.mirid),
        certificate_thumbprint: boxed(thumbprint),
        template_claims: taken(payload, template_claims),
    }
}

/// Overage leaves groups unknown, which never means none. So does a list of Entra that holds names where ids are
/// expected: they are not unique and can be made by lesser administrators, also in the shape of a GUID.
fn groups(claims: &Claims<'_>, authority: &Authority) -> Groups {
    let all = || {
        claims
            .groups
            .iter()
            .map(|group| Box::from(*group))
            .collect()
    };
    let ids = || claims.groups.iter().all(|group| is_guid(group));
    match authority.groups {
        _ if claims.overage => Groups::Unknown,
        GroupForm::Names => Groups::Named(all()),
        GroupForm::Ids if authority.shape.is_entra() && !ids() => Groups::Misnamed,
        GroupForm::Ids => Groups::Known(all()),
    }
}

fn taken(payload: &Object<'_>, names: &[Box<str>]) -> BTreeMap<Box<str>, Box<str>> {
    let value = |name: &str| match payload.member(name) {
        Some(Value::String(text)) if text.len() <= 256 => {
            Some((name.into(), Box::<str>::from(text.as_ref())))
        }
        _ => None,
    };
    names.iter().filter_map(|name| value(name)).collect()
}
