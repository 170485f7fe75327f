//! Verifying tokens and assertions the way the services do that receive them.
//!
//! Reads with ordinary JSON, not with the gate's own strict reader: a second pair of eyes.

use aws_lc_rs::signature::{self, RsaParameters, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::Shared;
use super::mint::hashed_nonce;
use super::people::{Application, Federated};
use crate::clock;
use crate::tls::subject_public_key_info;

/// A JWT in its parts.
struct Parts<'a> {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    /// What was signed.
    message: &'a str,
    signature: Vec<u8>,
}

fn parts(token: &str) -> Option<Parts<'_>> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, payload) = message.split_once('.')?;
    let object = |part: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice::<Map<String, Value>>(&bytes).ok()
    };
    Some(Parts {
        header: object(header)?,
        claims: object(payload)?,
        message,
        signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
    })
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> &'a str {
    members
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn verifies(
    algorithm: &'static RsaParameters,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    UnparsedPublicKey::new(algorithm, key)
        .verify(message, signature)
        .is_ok()
}

/// Why a bearer token is not accepted, in Graph's words.
pub(super) enum BadBearer {
    NotAToken,
    Signature,
    Audience,
    Expired,
}

impl BadBearer {
    pub(super) const fn message(&self) -> &'static str {
        match self {
            Self::NotAToken => "CompactToken parsing failed with error code: 80049217",
            Self::Signature => "Access token validation failure. Signature is invalid.",
            Self::Audience => "Access token validation failure. Invalid audience.",
            Self::Expired => "Lifetime validation failed, the token is expired.",
        }
    }
}

/// The claims of a token of this issuer for one of the audiences.
pub(super) fn bearer(
    shared: &Shared,
    token: &str,
    audiences: &[&str],
) -> Result<Map<String, Value>, BadBearer> {
    let parts = parts(token).ok_or(BadBearer::NotAToken)?;
    let key = shared
        .key_named(text(&parts.header, "kid"))
        .ok_or(BadBearer::Signature)?;
    let mut message = parts.message.to_owned();
    if let Some(nonce) = parts.header.get("nonce").and_then(Value::as_str) {
        let mut header = parts.header.clone();
        header.insert("nonce".into(), hashed_nonce(nonce).into());
        let payload = parts
            .message
            .split_once('.')
            .map_or("", |(_, payload)| payload);
        message = format!(
            "{}.{payload}",
            URL_SAFE_NO_PAD.encode(Value::Object(header).to_string())
        );
    }
    let good = verifies(
        &signature::RSA_PKCS1_2048_8192_SHA256,
        &key.public_der(),
        message.as_bytes(),
        &parts.signature,
    );
    if !good || text(&parts.header, "alg") != "RS256" {
        return Err(BadBearer::Signature);
    }
    if !audiences.contains(&text(&parts.claims, "aud").trim_end_matches('/')) {
        return Err(BadBearer::Audience);
    }
    let end = parts
        .claims
        .get("exp")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    if end <= clock::now().as_secs() {
        return Err(BadBearer::Expired);
    }
    Ok(parts.claims)
}

/// Why an assertion is not accepted: the number and the text of Microsoft Entra.
pub(super) struct BadAssertion(pub(super) u32, pub(super) String);

/// Clock skew that Microsoft Entra allows, in seconds.
const SKEW: u64 = 300;

/// A `client_assertion` of an application: signed with its certificate, or a token of a workload that it trusts.
pub(super) fn assertion(
    shared: &Shared,
    application: &Application,
    token: &str,
) -> Result<(), BadAssertion> {
    let malformed = || BadAssertion(50_027, "JWT token is invalid or malformed.".into());
    let parts = parts(token).ok_or_else(malformed)?;
    let number = |name| parts.claims.get(name).and_then(Value::as_u64);
    let now = clock::now().as_secs();
    let end = number("exp").ok_or_else(malformed)?;
    let start = number("nbf").or_else(|| number("iat")).unwrap_or(now);
    if end.saturating_add(SKEW) <= now || start > now.saturating_add(SKEW) {
        let text =
            "Client assertion is not within its valid time range. Review the time on the client.";
        return Err(BadAssertion(700_024, text.into()));
    }
    if text(&parts.claims, "iss") == application.client_id {
        certificate(shared, application, &parts)
    } else {
        federated(shared, application, &parts)
    }
}

fn certificate(
    shared: &Shared,
    application: &Application,
    parts: &Parts<'_>,
) -> Result<(), BadAssertion> {
    if text(&parts.claims, "sub") != application.client_id {
        let text = "The 'sub' claim of the client assertion must be the application's client id.";
        return Err(BadAssertion(50_027, text.into()));
    }
    let audience = text(&parts.claims, "aud");
    let tenant = format!("{}/{}/", shared.base, shared.directory.tid);
    let ours = ["oauth2/v2.0/token", "v2.0", "oauth2/token"].map(|end| format!("{tenant}{end}"));
    if !ours.iter().any(|known| known == audience) {
        let text = format!(
            "Client assertion audience claim does not match Realm issuer. Expected '{tenant}v2.0'."
        );
        return Err(BadAssertion(700_023, text));
    }
    let named = text(&parts.header, "x5t#S256");
    let thumbprint = |der: &[u8]| {
        let digest = Sha256::digest(der);
        // Some clients write the padding of plain base64.
        [URL_SAFE_NO_PAD.encode(digest), STANDARD.encode(digest)]
    };
    let known = application
        .certificates
        .iter()
        .find(|der| thumbprint(der).iter().any(|print| print == named));
    let Some(key) = known.and_then(|der| subject_public_key_info(der)) else {
        let text = format!(
            "Client assertion failed signature validation. Reason - The key was not found. Thumbprint of key used by \
             client: '{}'. Configure the certificate on the application.",
            named
                .chars()
                .filter(|c| c.is_ascii_graphic())
                .take(64)
                .collect::<String>()
        );
        return Err(BadAssertion(700_027, text));
    };
    let algorithm = match text(&parts.header, "alg") {
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        _ => {
            return Err(BadAssertion(
                5_002_723,
                "The algorithm of the client assertion is not supported.".into(),
            ));
        }
    };
    if !verifies(algorithm, key, parts.message.as_bytes(), &parts.signature) {
        let text = "Client assertion failed signature validation. Reason - The key used does not match the signature.";
        return Err(BadAssertion(700_027, text.into()));
    }
    let id = text(&parts.claims, "jti");
    if id.is_empty() {
        return Err(BadAssertion(
            50_027,
            "Client assertion has no 'jti'.".into(),
        ));
    }
    if !shared.used_assertions().insert(id.to_owned()) {
        // Microsoft Entra lets a replay pass within the life of the assertion; the emulator tells clients that reuse one.
        return Err(BadAssertion(
            50_027,
            "Client assertion has been used before ('jti').".into(),
        ));
    }
    Ok(())
}

fn federated(
    shared: &Shared,
    application: &Application,
    parts: &Parts<'_>,
) -> Result<(), BadAssertion> {
    let (issuer, subject) = (text(&parts.claims, "iss"), text(&parts.claims, "sub"));
    let audience = match parts.claims.get("aud") {
        Some(Value::Array(several)) => several.first().and_then(Value::as_str).unwrap_or_default(),
        _ => text(&parts.claims, "aud"),
    };
    let known: Vec<&Federated> = application.federated.iter().collect();
    let mismatch = |number, what: &str, shown: &str| {
        BadAssertion(
            number,
            format!(
                "No matching federated identity record found for presented assertion {what} '{shown}'."
            ),
        )
    };
    let of_issuer: Vec<&&Federated> = known.iter().filter(|one| one.issuer == issuer).collect();
    if of_issuer.is_empty() {
        return Err(mismatch(700_211, "issuer", issuer));
    }
    if !of_issuer.iter().any(|one| one.subject == subject) {
        return Err(mismatch(700_213, "subject", subject));
    }
    if !of_issuer
        .iter()
        .any(|one| one.subject == subject && one.audience == audience)
    {
        return Err(mismatch(700_212, "audience", audience));
    }
    let good = verifies(
        &signature::RSA_PKCS1_2048_8192_SHA256,
        &shared.cluster.public_der(),
        parts.message.as_bytes(),
        &parts.signature,
    );
    if !good || text(&parts.header, "alg") != "RS256" || issuer != shared.cluster_issuer() {
        let text = "Client assertion failed signature validation. Reason - The key was not found.";
        return Err(BadAssertion(700_027, text.into()));
    }
    Ok(())
}
