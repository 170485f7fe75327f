//! The gate: one token in, one identity or one refusal out, in a fixed order of steps.
//!
//! Owns: the order (size, segments, alphabet, header, key, signature, payload, time, issuer, audience, kind, rights).
//! Must never: act on a claim before the signature is verified, except to pick a row of a fixed table or to word a
//! refusal; never open a socket, read a clock, or try a second key.

use super::Identity;
use super::checks;
use super::claims::{self, Claims};
use super::error::{Code, KeyNeed, TokenError};
use super::expectations::Expectations;
use super::header::{self, Header};
use super::keys::{HeldKeys, Key, KeyRing};
use super::kind;
use super::segments::Segments;
use super::show::{self, Shown};
use super::stranger;
use super::strict_json::Object;
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
    let Header {
        kid,
        thumbprint: named,
        typed,
    } = header::check(&segments.header()?)?;
    let bytes = segments.payload()?;
    // Parsed before the signature is verified, but only to find the row of the table; every claim is judged after.
    let payload = claims::payload(&bytes)?;
    let issuer = claims::issuer(&payload)?;
    let authority = expectations
        .authority(issuer, ring)
        .ok_or_else(|| stranger::unknown_issuer(issuer, &payload, expectations))?;
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
    one_key(named.as_deref(), key, &kid)?;
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

/// `kid` and `x5t` name one key. A key document without thumbprints says nothing about them, and `kid` alone decides.
fn one_key(named: Option<&str>, key: &Key, kid: &str) -> Result<(), TokenError> {
    match (named, key.thumbprint()) {
        (Some(named), Some(published)) if named != published => Err(TokenError::new(
            Code::KeyThumbprint,
            format!(
                "header x5t is '{}', but the certificate of key {} has '{}'",
                Shown(named),
                Shown(kid),
                Shown(published)
            ),
        )),
        _ => Ok(()),
    }
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
    if let Some(error) = stranger::foreign_audience(payload, expectations) {
        return error;
    }
    let url = expectations
        .sources()
        .get(source)
        .map_or("", |s| s.location.url());
    let sentence = format!(
        "kid {} not in the keys of {url} ({} keys, fetched {} ago). Custom signing key? Set entra.keys_app_id; \
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
