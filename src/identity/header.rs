//! The JOSE header: `typ`, `alg`, `kid` and `x5t`, and nothing else.
//!
//! Must never: take a key, an address or an algorithm from a token.

use super::error::{Code, TokenError};
use super::keys::is_kid;
use super::show::Shown;
use super::strict_json::{self, JsonError, Limits, Object, Value};

/// What a header that passed says.
#[derive(Debug)]
pub(crate) struct Header {
    /// The key's name.
    pub(crate) kid: Box<str>,
    /// The thumbprint of the key's certificate (`x5t`), which v1.0 tokens of Entra carry beside `kid`.
    pub(crate) thumbprint: Option<Box<str>>,
    /// Whether it has a `typ`; see [`untyped`].
    pub(crate) typed: bool,
}

/// Checks a decoded header.
pub(crate) fn check(bytes: &[u8]) -> Result<Header, TokenError> {
    let document = strict_json::parse(bytes, LIMITS).map_err(|e| unreadable(&e))?;
    let Value::Object(header) = document else {
        let what = document.type_name();
        return Err(TokenError::new(
            Code::HeaderJson,
            format!("header is {what}, not an object"),
        ));
    };
    refuse_names(&header)?;
    algorithm(&header)?;
    let typed = token_type(&header)?;
    let thumbprint = thumbprint(&header)?;
    let kid = key_name(&header)?;
    Ok(Header {
        kid,
        thumbprint,
        typed,
    })
}

/// The refusal of a header without `typ`, which is for issuers that always write one. Others may leave it out
/// (RFC 7515 section 4.1.9), as Okta does; what kind of token it is then shows in its claims alone.
pub(crate) fn untyped() -> TokenError {
    TokenError::new(
        Code::HeaderType,
        "header has no typ; an access token has JWT or at+jwt",
    )
}

/// `nonce` first, since it explains every later failure of such a token.
fn refuse_names(header: &Object<'_>) -> Result<(), TokenError> {
    if header.member("nonce").is_some() {
        return Err(TokenError::new(
            Code::HeaderNonce,
            "token carries a nonce header: only Microsoft's own API can validate it; you sent a Graph-style token. \
             Request scope api://<app>/.default",
        ));
    }
    if header.member("crit").is_some() || header.member("b64").is_some() {
        return Err(TokenError::new(
            Code::HeaderCritical,
            "header demands an extension (crit, b64); Entra never sends one",
        ));
    }
    for name in ["jwk", "jku", "x5u", "x5c"] {
        if header.member(name).is_some() {
            return Err(TokenError::new(
                Code::HeaderKey,
                format!("header brings its own key ({name}); it is neither used nor fetched"),
            ));
        }
    }
    match header
        .iter()
        .find(|(name, _)| !matches!(*name, "typ" | "alg" | "kid" | "x5t"))
    {
        Some((name, _)) => Err(TokenError::new(
            Code::HeaderOther,
            format!(
                "header name '{}' is not one of typ, alg, kid, x5t",
                Shown(name)
            ),
        )),
        None => Ok(()),
    }
}

fn algorithm(header: &Object<'_>) -> Result<(), TokenError> {
    let sentence = match header.member("alg") {
        Some(Value::String(alg)) if alg == "RS256" => return Ok(()),
        Some(Value::String(alg)) => format!("alg is {}; only RS256 is accepted", Shown(alg)),
        Some(other) => format!("alg is {}; only RS256 is accepted", other.type_name()),
        None => "header has no alg; only RS256 is accepted".to_owned(),
    };
    Err(TokenError::new(Code::HeaderAlgorithm, sentence))
}

/// RFC 8725 section 3.11: `JWT` (Entra), `at+jwt` (RFC 9068); media types ignore case (RFC 7515 section 4.1.9).
/// Whether there is one.
fn token_type(header: &Object<'_>) -> Result<bool, TokenError> {
    let accepted = ["JWT", "at+jwt", "application/at+jwt"];
    let sentence = match header.member("typ") {
        Some(Value::String(typ)) if accepted.iter().any(|t| t.eq_ignore_ascii_case(typ)) => {
            return Ok(true);
        }
        Some(Value::String(typ)) => {
            format!("typ is {}; an access token has JWT or at+jwt", Shown(typ))
        }
        Some(other) => format!(
            "typ is {}; an access token has JWT or at+jwt",
            other.type_name()
        ),
        None => return Ok(false),
    };
    Err(TokenError::new(Code::HeaderType, sentence))
}

fn thumbprint(header: &Object<'_>) -> Result<Option<Box<str>>, TokenError> {
    let Some(value) = header.member("x5t") else {
        return Ok(None);
    };
    match value.as_str() {
        Some(text) if text.len() <= 128 => Ok(Some(owned(text))),
        _ => Err(TokenError::new(
            Code::HeaderOther,
            "header x5t is not a short string",
        )),
    }
}

fn key_name(header: &Object<'_>) -> Result<Box<str>, TokenError> {
    let sentence = match header.member("kid") {
        Some(Value::String(kid)) if is_kid(kid) => return Ok(owned(kid)),
        Some(Value::String(kid)) if kid.is_empty() => "kid is empty".to_owned(),
        Some(Value::String(kid)) => {
            format!(
                "kid {} is longer than 128 bytes or not printable",
                Shown(kid)
            )
        }
        Some(other) => format!("kid is {}", other.type_name()),
        None => "header names no key (kid), and keys are never tried in turn".to_owned(),
    };
    Err(TokenError::new(Code::HeaderKid, sentence))
}

fn owned(text: &str) -> Box<str> {
    text.into()
}

fn unreadable(error: &JsonError) -> TokenError {
    let code = match error {
        JsonError::Duplicate(_) | JsonError::CaseCollision(..) => Code::HeaderDuplicate,
        _ => Code::HeaderJson,
    };
    TokenError::new(code, format!("header: {error}"))
}

const LIMITS: Limits = Limits {
    depth: 4,
    values: 64,
    names: 32,
};
