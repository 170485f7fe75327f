//! One claim at a time: its type, its size, and the refusal that names both.
//!
//! Must never: convert a type, or look at more than one claim.

use super::authority::Shape;
use super::claims::Confirmation;
use super::cloud::is_guid;
use super::error::{Code, TokenError};
use super::show::Shown;
use super::strict_json::{Object, Value};

/// The roles of an issuer that writes them elsewhere: the names lead from the payload down. Absent: none.
pub(super) fn roles_at<'a>(
    payload: &'a Object<'_>,
    path: &[Box<str>],
) -> Result<Vec<&'a str>, TokenError> {
    let Some((last, above)) = path.split_last() else {
        return Ok(Vec::new());
    };
    let mut object = payload;
    for name in above {
        match object.member(name) {
            None => return Ok(Vec::new()),
            Some(Value::Object(inner)) => object = inner,
            Some(other) => {
                return Err(wrong_type(
                    Code::ClaimsRoles,
                    &Shown(name).to_string(),
                    Some(other),
                    "an object (roles_claim)",
                ));
            }
        }
    }
    match object.member(last) {
        None => Ok(Vec::new()),
        Some(value) => strings(
            Code::ClaimsRoles,
            &Shown(last).to_string(),
            value,
            MOST_ROLES,
        ),
    }
}

pub(super) fn guid(code: Code, name: &str, value: Option<&str>) -> Result<(), TokenError> {
    match value {
        None => Err(missing(code, name)),
        Some(text) if is_guid(text) => Ok(()),
        Some(text) => Err(TokenError::new(
            code,
            format!(
                "{name} '{}' is not a GUID in its canonical form",
                Shown(text)
            ),
        )),
    }
}

pub(super) fn fits(text: &str, most: usize) -> bool {
    !text.is_empty() && text.len() <= most && !text.chars().any(char::is_control)
}

pub(super) fn text<'a>(
    code: Code,
    name: &str,
    value: &'a Value<'_>,
) -> Result<&'a str, TokenError> {
    value
        .as_str()
        .ok_or_else(|| wrong_type(code, name, Some(value), "a string"))
}

pub(super) fn integer(code: Code, name: &str, value: &Value<'_>) -> Result<u64, TokenError> {
    value
        .as_u64()
        .ok_or_else(|| wrong_type(code, name, Some(value), "an integer"))
}

pub(super) fn small(name: &str, value: &Value<'_>) -> Result<u8, TokenError> {
    let number = integer(Code::ClaimsOther, name, value)?;
    u8::try_from(number)
        .map_err(|_| TokenError::new(Code::ClaimsOther, format!("{name} is out of range")))
}

/// `azpacr` is a string of one digit, of which three have a meaning. Any other says nothing about how the client proved
/// who it is, so that no `azpacr` that is demanded is met by it.
pub(super) fn digit(name: &str, value: &Value<'_>) -> Result<Option<u8>, TokenError> {
    match value.as_str().map(str::as_bytes) {
        Some([digit @ b'0'..=b'2']) => Ok(Some(digit.saturating_sub(b'0'))),
        Some([b'3'..=b'9']) => Ok(None),
        _ => Err(wrong_type(
            Code::ClaimsOther,
            name,
            Some(value),
            "a string of one digit",
        )),
    }
}

/// An array of bounded, non-empty strings without control characters.
pub(super) fn strings<'a>(
    code: Code,
    name: &str,
    value: &'a Value<'_>,
    most: usize,
) -> Result<Vec<&'a str>, TokenError> {
    let items = value
        .as_array()
        .ok_or_else(|| wrong_type(code, name, Some(value), "an array of strings"))?;
    if items.len() > most {
        let sentence = format!(
            "{name} has {} entries; at most {most} are accepted",
            items.len()
        );
        return Err(TokenError::new(code, sentence));
    }
    let entry = |item: &'a Value<'_>| match item.as_str() {
        Some(text) if fits(text, MOST_ENTRY) => Ok(text),
        Some(text) => Err(TokenError::new(
            code,
            format!(
                "{name} has the entry '{}', which is empty, too long or not printable",
                Shown(text)
            ),
        )),
        None => {
            let what = item.type_name();
            Err(TokenError::new(
                code,
                format!("an entry of {name} is {what}; each must be a string"),
            ))
        }
    };
    items.iter().map(entry).collect()
}

pub(super) fn one_or_more<'a>(
    name: &str,
    value: &'a Value<'_>,
) -> Result<Vec<&'a str>, TokenError> {
    match value.as_str() {
        Some(text) if fits(text, MOST_ENTRY) => Ok(vec![text]),
        _ => strings(Code::ClaimsOther, name, value, MOST_CONTEXTS),
    }
}

/// Entra emits a string; other issuers may list several audiences (RFC 7519 section 4.1.3).
pub(super) fn audiences<'a>(
    value: &'a Value<'_>,
    shape: Shape,
) -> Result<Vec<&'a str>, TokenError> {
    match value {
        Value::String(audience) if !audience.is_empty() => Ok(vec![audience]),
        Value::Array(_) if shape == Shape::Oidc => {
            strings(Code::ClaimsAudience, "aud", value, MOST_AUDIENCES)
        }
        _ => Err(wrong_type(
            Code::ClaimsAudience,
            "aud",
            Some(value),
            "one string",
        )),
    }
}

pub(super) fn confirmation<'a>(value: &'a Value<'_>) -> Result<Confirmation<'a>, TokenError> {
    let Some(object) = value.as_object() else {
        return Err(wrong_type(
            Code::ClaimsOther,
            "cnf",
            Some(value),
            "an object",
        ));
    };
    let mut members = object.iter();
    match (members.next(), members.next()) {
        (Some(("x5t#S256", Value::String(thumbprint))), None) => {
            Ok(Confirmation::Certificate(thumbprint))
        }
        _ => Ok(Confirmation::Other),
    }
}

pub(super) fn missing(code: Code, name: &str) -> TokenError {
    TokenError::new(code, format!("{name} is missing"))
}

pub(super) fn wrong_type(
    code: Code,
    name: &str,
    value: Option<&Value<'_>>,
    wanted: &str,
) -> TokenError {
    match value {
        None => missing(code, name),
        Some(Value::Number(text)) => TokenError::new(
            code,
            format!("{name} is the number {}; it must be {wanted}", Shown(text)),
        ),
        Some(other) => TokenError::new(
            code,
            format!("{name} is {}; it must be {wanted}", other.type_name()),
        ),
    }
}

pub(super) const MOST_ROLES: usize = 1200;
pub(super) const MOST_GROUPS: usize = 1000;
pub(super) const MOST_CONTEXTS: usize = 100;
pub(super) const MOST_AUDIENCES: usize = 16;
pub(super) const MOST_ENTRY: usize = 256;
