//! The refusal of a token whose issuer is not in the table, or whose key is not known: worded by what its claims seem to
//! say, so that whoever reads it knows what to change.
//!
//! Must never: decide anything. The token is refused before this is asked.

use std::collections::BTreeSet;

use super::checks;
use super::cloud;
use super::error::{Code, TokenError};
use super::expectations::Expectations;
use super::show::{self, Shown};
use super::strict_json::{Object, Value};

/// Words the refusal of an issuer that is not in the table; an audience that explains more goes first.
pub(super) fn unknown_issuer(
    issuer: &str,
    payload: &Object<'_>,
    expectations: &Expectations,
) -> TokenError {
    if let Some(error) = foreign_audience(payload, expectations) {
        return error;
    }
    let shown = Shown(issuer);
    if let Some(error) = policy_in_issuer(issuer, expectations) {
        return error;
    }
    let corrected = expectations.nearly(issuer).map(|source| {
        TokenError::new(
            Code::IssuerOther,
            format!(
                "iss '{shown}' is not the issuer that the metadata at {} names",
                source.location.url()
            ),
        )
    });
    if let Some(error) = corrected.clone().filter(|_| expectations.lists(issuer)) {
        return error;
    }
    let tenants: BTreeSet<&str> = expectations.tenants().collect();
    let mut tenant_of_theirs = false;
    for known in expectations.clouds() {
        let v1 = cloud::tenant_in(issuer, &known.v1_issuer);
        if v1.is_some_and(|tid| expectations.lists(&known.v2_issuer_of(tid))) {
            return TokenError::new(
                Code::IssuerV1ForV2,
                format!(
                    "token is a v1.0 access token (iss={shown}). Set requestedAccessTokenVersion=2 on app registration \
                     {}, or accept v1.0 tokens with v1_tokens: true",
                    registration(payload)
                ),
            );
        }
        let tid = v1.or_else(|| cloud::tenant_in(issuer, &known.v2_issuer));
        tenant_of_theirs |= tid.is_some();
        if let Some(tid) = tid.filter(|tid| !tenants.contains(tid)) {
            return TokenError::new(
                Code::IssuerTenant,
                format!(
                    "token was issued by tenant {tid}; tenants allowed: {}. Add it to entra.tenants if that is intended",
                    show::list(tenants.iter().copied())
                ),
            );
        }
    }
    if let Some(error) = of_another_cloud(issuer, tenant_of_theirs, expectations) {
        return error;
    }
    corrected.unwrap_or_else(|| {
        let but = match expectations.issuer_but_for_spelling(issuer) {
            Some(ours) => format!("that is spelled '{}' here", Shown(ours)),
            None => format!("those are {}", show::list(expectations.issuers())),
        };
        TokenError::new(
            Code::IssuerOther,
            format!(
                "iss '{shown}' is not a configured issuer ({but}); it is compared byte for byte. Get the token from a \
                 configured one, or add this one under issuers if that is intended"
            ),
        )
    })
}

/// An issuer of a Microsoft cloud that is none of ours. `tenant_of_theirs`: it has the shape of an issuer of a cloud of
/// ours, and its tenant is not why it is refused.
fn of_another_cloud(
    issuer: &str,
    tenant_of_theirs: bool,
    expectations: &Expectations,
) -> Option<TokenError> {
    let host = issuer
        .strip_prefix("https://")
        .and_then(|rest| rest.split('/').next());
    let ours: Vec<&str> = expectations
        .clouds()
        .iter()
        .map(|cloud| &*cloud.name)
        .collect();
    if let Some(host) = host
        && let Some(theirs) = cloud::cloud_of_host(host)
        && !ours.is_empty()
        && (tenant_of_theirs || !ours.iter().any(|name| theirs.contains(name)))
    {
        let authorities: Vec<&str> = expectations
            .clouds()
            .iter()
            .map(|cloud| &*cloud.authority)
            .collect();
        return Some(TokenError::new(
            Code::IssuerCloud,
            format!(
                "issuer host {host} belongs to {theirs}; the tenants here are configured for cloud {}. Get the token from \
                 {}, or change entra.cloud",
                ours.join(", "),
                authorities.join(" or ")
            ),
        ));
    }
    None
}

/// The API's registration as the token names it, which is nothing to go by but good for a sentence.
fn registration(payload: &Object<'_>) -> String {
    let audience = payload.member("aud").and_then(Value::as_str);
    audience.map_or_else(
        || "of the API".to_owned(),
        |audience| Shown(audience).to_string(),
    )
}

/// The form of a B2C issuer that names the policy: `https://<domain>/tfp/<tenant>/<policy>/v2.0/`.
fn policy_in_issuer(issuer: &str, expectations: &Expectations) -> Option<TokenError> {
    let ours = expectations.b2c().any(|row| {
        let tid = row.tid.as_deref().unwrap_or_default();
        let base = row.issuer.split(tid).next().unwrap_or_default();
        let rest = issuer
            .strip_prefix(base)
            .and_then(|rest| rest.strip_prefix("tfp/"));
        rest.is_some_and(|rest| rest.starts_with(tid))
    });
    ours.then(|| {
        TokenError::new(
            Code::IssuerTfp,
            format!(
                "iss '{}' is the tfp form, which names the policy and is not accepted. In the policy's properties set token \
                 compatibility, Issuer (iss) claim, to the form that ends in /v2.0/",
                Shown(issuer)
            ),
        )
    })
}

/// A token for a Microsoft API, told by its unverified audience, for the message alone.
pub(super) fn foreign_audience(
    payload: &Object<'_>,
    expectations: &Expectations,
) -> Option<TokenError> {
    let audience = payload.member("aud").and_then(Value::as_str)?;
    let api = cloud::microsoft_api(audience)?;
    Some(checks::for_another_api(
        api,
        audience,
        expectations.audiences_of_entra(),
    ))
}
