//! The gate: one token in, one identity or one refusal out, in a fixed order of steps.
//!
//! Owns: the order (size, segments, alphabet, header, key, signature, payload, time, issuer, audience, kind, rights).
//! Must never: act on a claim before the signature is verified, except to pick a row of a fixed table or to word a
//! refusal; never open a socket, read a clock, or try a second key.

use std::collections::BTreeSet;

use super::Identity;
use super::checks;
use super::claims::{self, Claims};
use super::cloud;
use super::error::{Code, KeyNeed, TokenError};
use super::expectations::Expectations;
use super::header::{self, Header};
use super::keys::{HeldKeys, Key, KeyRing};
use super::kind;
use super::segments::Segments;
use super::show::{self, Shown};
use super::strict_json::{Object, Value};
use crate::time::Timestamp;

/// Validates a bearer token. One that is bound to a client certificate (`cnf`) is refused: see [`validate_bound`].
///
/// # Errors
///
/// [`TokenError`]; [`TokenError::needs_key`] says whether fetching keys may help, [`TokenError::is_unavailable`]
/// whether it is "not now" rather than "no".
pub fn validate(
    token: &[u8],
    ring: &KeyRing,
    expectations: &Expectations,
    now: Timestamp,
) -> Result<Identity, TokenError> {
    validate_bound(token, None, ring, expectations, now)
}

/// Validates a token of a client that showed a TLS certificate with this `x5t#S256` thumbprint: base64url of the
/// SHA-256 of its DER form (RFC 8705 section 3.1). Bearer tokens pass as with [`validate`].
///
/// # Errors
///
/// As [`validate`].
pub fn validate_bound(
    token: &[u8],
    thumbprint: Option<&str>,
    ring: &KeyRing,
    expectations: &Expectations,
    now: Timestamp,
) -> Result<Identity, TokenError> {
    let segments = Segments::split(token, expectations.limits.size)?;
    let Header { kid, typed } = header::check(&segments.header()?)?;
    let bytes = segments.payload()?;
    // Parsed before the signature is verified, but only to find the row of the table; every claim is judged after.
    let payload = claims::payload(&bytes)?;
    let issuer = claims::issuer(&payload)?;
    let authority = expectations
        .authority(issuer, ring)
        .ok_or_else(|| unknown_issuer(issuer, &payload, expectations))?;
    if !typed && authority.shape.is_entra() {
        return Err(header::untyped());
    }
    let source = authority.source(&payload)?;
    let held = held_keys(ring, source, expectations, now).map_err(|error| {
        error.needing(KeyNeed {
            source,
            kid: kid.clone(),
        })
    })?;
    let key = held
        .keys
        .key(&kid)
        .ok_or_else(|| unknown_key(&kid, &payload, source, expectations, held, now))?;
    verify(&segments, key, &kid, token.len())?;

    let claims = Claims::read(&payload, authority)?;
    checks::time(&claims, authority, expectations.limits, now)?;
    checks::issuer(&claims, issuer, authority, key, held)?;
    checks::audience(&claims, authority)?;
    let kind = kind::decide(&claims, authority, thumbprint)?;
    kind::rights(&claims, authority, kind)?;
    Ok(checks::identity(
        &claims,
        issuer,
        authority,
        kind,
        &payload,
        &expectations.template_claims,
    ))
}

/// The keys of the token's issuer, unless they are missing or too old to say anything.
fn held_keys<'a>(
    ring: &'a KeyRing,
    source: usize,
    expectations: &Expectations,
    now: Timestamp,
) -> Result<&'a HeldKeys, TokenError> {
    let why = match ring.held(source) {
        Some(held) if now < held.good_until => return Ok(held),
        Some(held) => {
            format!(
                "were fetched {} ago and are too old",
                show::duration(now.since(held.fetched_at))
            )
        }
        None => "could not be fetched yet".to_owned(),
    };
    let url = expectations
        .sources()
        .get(source)
        .map_or("", |s| s.location.url());
    Err(TokenError::new(
        Code::KeyUnavailable,
        format!("the keys at {url} {why}; nothing can be said about the token"),
    ))
}

fn verify(segments: &Segments<'_>, key: &Key, kid: &str, length: usize) -> Result<(), TokenError> {
    let verified = segments
        .signature()
        .is_some_and(|signature| key.verifies(segments.signed, &signature));
    if verified {
        return Ok(());
    }
    let sentence = format!(
        "signature does not verify with kid {}: token altered or truncated ({length} bytes received)",
        Shown(kid)
    );
    Err(TokenError::new(Code::SignatureBad, sentence))
}

fn unknown_key(
    kid: &str,
    payload: &Object<'_>,
    source: usize,
    expectations: &Expectations,
    held: &HeldKeys,
    now: Timestamp,
) -> TokenError {
    if let Some(error) = foreign_audience(payload) {
        return error;
    }
    let url = expectations
        .sources()
        .get(source)
        .map_or("", |s| s.location.url());
    let sentence = format!(
        "kid {} not in the keys of {url} ({} keys, fetched {} ago). Custom signing key? Set keys_app_id; \
         otherwise a foreign tenant, or natsentry cannot reach the address",
        Shown(kid),
        held.keys.len(),
        show::duration(now.since(held.fetched_at))
    );
    let need = KeyNeed {
        source,
        kid: kid.into(),
    };
    TokenError::new(Code::KeyUnknown, sentence).needing(need)
}

/// Words the refusal of an issuer that is not in the table; an audience that explains more goes first.
pub(super) fn unknown_issuer(
    issuer: &str,
    payload: &Object<'_>,
    expectations: &Expectations,
) -> TokenError {
    if let Some(error) = foreign_audience(payload) {
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
    let mut of_another_cloud = false;
    for known in expectations.clouds() {
        let v1 = cloud::tenant_in(issuer, &known.v1_issuer);
        if v1.is_some_and(|tid| expectations.lists(&known.v2_issuer_of(tid))) {
            return TokenError::new(
                Code::IssuerV1ForV2,
                format!(
                    "token is a v1.0 access token (iss={shown}). Set requestedAccessTokenVersion=2 on the app \
                     registration, or accept v1.0 tokens with v1_tokens: true"
                ),
            );
        }
        let tid = v1.or_else(|| cloud::tenant_in(issuer, &known.v2_issuer));
        of_another_cloud |= tid.is_some();
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
        && (of_another_cloud || !ours.iter().any(|name| theirs.contains(name)))
    {
        return TokenError::new(
            Code::IssuerCloud,
            format!(
                "issuer host {host} belongs to {theirs}; the tenants here are configured for cloud {}",
                ours.join(", ")
            ),
        );
    }
    corrected.unwrap_or_else(|| {
        TokenError::new(
            Code::IssuerOther,
            format!("iss '{shown}' is not a configured issuer; it is compared byte for byte"),
        )
    })
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
fn foreign_audience(payload: &Object<'_>) -> Option<TokenError> {
    let audience = payload.member("aud").and_then(Value::as_str)?;
    cloud::microsoft_api(audience).map(checks::for_another_api)
}
