//! The payload's claims with the types that they must have; what a claim means is decided elsewhere.
//!
//! Owns: types, sizes and spelling of every claim that the gate or a policy looks at. Must never: convert a type, or
//! fail on a claim that nobody here has heard of.

use super::cloud::is_guid;
use super::error::{Code, TokenError};
use super::expectations::Shape;
use super::show::Shown;
use super::strict_json::{self, JsonError, Limits, Object, Value};

/// The claims of one token, borrowed from its payload.
#[derive(Debug, Default)]
pub(crate) struct Claims<'a> {
    pub(crate) exp: u64,
    pub(crate) nbf: Option<u64>,
    pub(crate) iat: u64,
    pub(crate) auth_time: Option<u64>,
    pub(crate) ver: Option<&'a str>,
    pub(crate) tid: Option<&'a str>,
    pub(crate) oid: Option<&'a str>,
    pub(crate) sub: Option<&'a str>,
    pub(crate) audiences: Vec<&'a str>,
    pub(crate) client: Option<&'a str>,
    pub(crate) client_auth: Option<u8>,
    pub(crate) id_type: Option<&'a str>,
    pub(crate) scope: Option<&'a str>,
    pub(crate) roles: Vec<&'a str>,
    pub(crate) groups: Vec<&'a str>,
    pub(crate) overage: bool,
    pub(crate) acrs: Vec<&'a str>,
    pub(crate) amr: Vec<&'a str>,
    pub(crate) acct: Option<u8>,
    pub(crate) token_id: Option<&'a str>,
    pub(crate) mirid: Option<&'a str>,
    pub(crate) confirmation: Confirmation<'a>,
    /// By rank: `name`, `preferred_username`, `upn`, `unique_name`.
    pub(crate) names: [Option<&'a str>; 4],
    /// A claim that only tokens of people have.
    pub(crate) of_a_person: bool,
    /// A claim that only ID tokens have.
    pub(crate) of_an_id_token: Option<&'static str>,
    /// A claim that marks a security event or another kind of JWT.
    pub(crate) of_another_kind: Option<&'static str>,
}

/// The `cnf` claim (RFC 7800).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Confirmation<'a> {
    /// A bearer token.
    #[default]
    None,
    /// `x5t#S256` of a TLS client certificate (RFC 8705 section 3.1).
    Certificate(&'a str),
    /// Anything else.
    Other,
}

/// Reads the payload as one strict JSON object.
pub(crate) fn payload(bytes: &[u8]) -> Result<Object<'_>, TokenError> {
    match strict_json::parse(bytes, LIMITS) {
        Ok(Value::Object(object)) => {
            right_case(&object)?;
            Ok(object)
        }
        Ok(other) => {
            let sentence = format!("payload is {}, not an object", other.type_name());
            Err(TokenError::new(Code::ClaimsJson, sentence))
        }
        Err(error) => {
            let code = match error {
                JsonError::Duplicate(_) | JsonError::CaseCollision(..) => Code::ClaimsDuplicate,
                _ => Code::ClaimsJson,
            };
            Err(TokenError::new(code, format!("payload: {error}")))
        }
    }
}

/// Refuses `TID` where `tid` is meant: another reader may ignore case.
fn right_case(payload: &Object<'_>) -> Result<(), TokenError> {
    for (name, _) in payload.iter() {
        let plain = name
            .bytes()
            .all(|b| !b.is_ascii_uppercase() && b.is_ascii());
        if !plain && KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            let sentence = format!("claim '{}' has the wrong case", Shown(name));
            return Err(TokenError::new(Code::ClaimsDuplicate, sentence));
        }
    }
    Ok(())
}

/// `iss`, which picks a row of a fixed table and nothing else before the signature is verified.
pub(crate) fn issuer<'a>(payload: &'a Object<'_>) -> Result<&'a str, TokenError> {
    match payload.member("iss") {
        Some(Value::String(issuer)) => Ok(issuer),
        other => Err(wrong_type(Code::ClaimsIssuer, "iss", other, "a string")),
    }
}

impl<'a> Claims<'a> {
    /// Checks the type of every claim that matters.
    pub(crate) fn read(payload: &'a Object<'_>, shape: Shape) -> Result<Self, TokenError> {
        let mut claims = Self::default();
        let (mut exp, mut iat) = (None, None);
        for (name, value) in payload.iter() {
            match name {
                "exp" => exp = Some(integer(Code::ClaimsExpiry, name, value)?),
                "iat" => iat = Some(integer(Code::ClaimsIssuedAt, name, value)?),
                "nbf" => claims.nbf = Some(integer(Code::ClaimsNotBefore, name, value)?),
                "auth_time" => {
                    claims.auth_time = Some(integer(Code::ClaimsOther, name, value)?);
                }
                "aud" => claims.audiences = audiences(value, shape)?,
                "roles" => claims.roles = strings(Code::ClaimsRoles, name, value, MOST_ROLES)?,
                "groups" => claims.groups = strings(Code::ClaimsGroups, name, value, MOST_GROUPS)?,
                "cnf" => claims.confirmation = confirmation(value)?,
                _ => claims.read_text(name, value, shape)?,
            }
        }
        claims.exp = exp.ok_or_else(|| missing(Code::ClaimsExpiry, "exp"))?;
        claims.iat = iat.ok_or_else(|| missing(Code::ClaimsIssuedAt, "iat"))?;
        if claims.nbf.is_none() && shape != Shape::Oidc {
            return Err(missing(Code::ClaimsNotBefore, "nbf"));
        }
        if claims.audiences.is_empty() {
            return Err(missing(Code::ClaimsAudience, "aud"));
        }
        claims.check_ids(shape)?;
        Ok(claims)
    }

    fn read_text(
        &mut self,
        name: &str,
        value: &'a Value<'_>,
        shape: Shape,
    ) -> Result<(), TokenError> {
        let entra = shape != Shape::Oidc;
        match name {
            "ver" if entra => self.ver = Some(text(Code::ClaimsVersion, name, value)?),
            "tid" if entra => self.tid = Some(text(Code::ClaimsTenant, name, value)?),
            "oid" => self.oid = Some(text(Code::ClaimsObject, name, value)?),
            "sub" => self.sub = Some(text(Code::ClaimsSubject, name, value)?),
            "idtyp" => self.id_type = Some(text(Code::ClaimsIdType, name, value)?),
            "scp" => self.scope = Some(text(Code::ClaimsScope, name, value)?),
            "scope" if !entra && self.scope.is_none() => {
                self.scope = Some(text(Code::ClaimsScope, name, value)?);
            }
            "azp" if shape != Shape::EntraV1 => {
                self.client = Some(text(Code::ClaimsOther, name, value)?);
            }
            "appid" if shape == Shape::EntraV1 => {
                self.client = Some(text(Code::ClaimsOther, name, value)?);
            }
            "client_id" if !entra && self.client.is_none() => {
                self.client = Some(text(Code::ClaimsOther, name, value)?);
            }
            "azpacr" if shape != Shape::EntraV1 => self.client_auth = Some(digit(name, value)?),
            "appidacr" if shape == Shape::EntraV1 => self.client_auth = Some(digit(name, value)?),
            "uti" => self.token_id = Some(text(Code::ClaimsOther, name, value)?),
            "jti" if !entra => self.token_id = Some(text(Code::ClaimsOther, name, value)?),
            "xms_mirid" => self.mirid = Some(text(Code::ClaimsOther, name, value)?),
            "acrs" => self.acrs = one_or_more(name, value)?,
            "amr" => {
                self.amr = one_or_more(name, value)?;
                self.of_a_person = true;
            }
            "acct" => {
                self.acct = Some(small(name, value)?);
                self.of_a_person = true;
            }
            "hasgroups" => self.overage |= !matches!(value, Value::Bool(false)),
            "_claim_names" => {
                // Anything but an object that plainly has no groups leaves the groups unknown.
                self.overage |= value
                    .as_object()
                    .is_none_or(|o| o.member("groups").is_some());
            }
            _ => self.read_tell(name, value, entra),
        }
        Ok(())
    }

    /// Claims that tell what kind of token this is, and names for people, whose type is nobody's concern.
    fn read_tell(&mut self, name: &str, value: &'a Value<'_>, entra: bool) {
        let rank = match name {
            "name" => 0,
            "preferred_username" => 1,
            "upn" => 2,
            "unique_name" => 3,
            "nonce" => return self.of_an_id_token = Some("nonce"),
            "at_hash" => return self.of_an_id_token = Some("at_hash"),
            "c_hash" => return self.of_an_id_token = Some("c_hash"),
            "events" => return self.of_another_kind = Some("events (a security event)"),
            "typ" if !entra && value.as_str() == Some("ID") => {
                return self.of_an_id_token = Some("typ");
            }
            "typ" if !entra && value.as_str() != Some("Bearer") => {
                return self.of_another_kind = Some("typ (not Bearer)");
            }
            _ => return,
        };
        self.of_a_person = true;
        if let Some(place) = self.names.get_mut(rank) {
            *place = value.as_str();
        }
    }

    /// The name for people: the first of the four that is there.
    pub(crate) fn display_name(&self) -> Option<Box<str>> {
        let name = self
            .names
            .iter()
            .flatten()
            .find(|name| !name.trim().is_empty())?;
        let shown: String = name
            .chars()
            .filter(|c| !c.is_control())
            .take(MOST_NAME)
            .collect();
        Some(shown.into())
    }

    fn check_ids(&self, shape: Shape) -> Result<(), TokenError> {
        if self.sub.is_some_and(|sub| !fits(sub, 255)) {
            return Err(TokenError::new(
                Code::ClaimsSubject,
                "sub is empty, too long or not printable",
            ));
        }
        if self.token_id.is_some_and(|id| !fits(id, 128)) {
            return Err(TokenError::new(
                Code::ClaimsOther,
                "uti is empty, too long or not printable",
            ));
        }
        if self.mirid.is_some_and(|id| !fits(id, 1024)) {
            return Err(TokenError::new(
                Code::ClaimsOther,
                "xms_mirid is too long or not printable",
            ));
        }
        if shape == Shape::Oidc {
            if self.client.is_some_and(|client| !fits(client, 255)) {
                return Err(TokenError::new(
                    Code::ClaimsOther,
                    "client id is too long or not printable",
                ));
            }
            return match (self.oid, self.sub) {
                (Some(_), _) | (_, Some(_)) => Ok(()),
                (None, None) => Err(missing(Code::ClaimsSubject, "sub")),
            };
        }
        guid(Code::ClaimsTenant, "tid", self.tid)?;
        guid(Code::ClaimsObject, "oid", self.oid)?;
        if self.client.is_some() {
            guid(Code::ClaimsOther, "azp or appid", self.client)?;
        }
        Ok(())
    }
}

fn guid(code: Code, name: &str, value: Option<&str>) -> Result<(), TokenError> {
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

fn fits(text: &str, most: usize) -> bool {
    !text.is_empty() && text.len() <= most && !text.chars().any(char::is_control)
}

fn text<'a>(code: Code, name: &str, value: &'a Value<'_>) -> Result<&'a str, TokenError> {
    value
        .as_str()
        .ok_or_else(|| wrong_type(code, name, Some(value), "a string"))
}

fn integer(code: Code, name: &str, value: &Value<'_>) -> Result<u64, TokenError> {
    value
        .as_u64()
        .ok_or_else(|| wrong_type(code, name, Some(value), "an integer"))
}

fn small(name: &str, value: &Value<'_>) -> Result<u8, TokenError> {
    let number = integer(Code::ClaimsOther, name, value)?;
    u8::try_from(number)
        .map_err(|_| TokenError::new(Code::ClaimsOther, format!("{name} is out of range")))
}

/// `azpacr` is a string of one digit.
fn digit(name: &str, value: &Value<'_>) -> Result<u8, TokenError> {
    match value.as_str().map(str::as_bytes) {
        Some([digit @ b'0'..=b'9']) => Ok(digit.saturating_sub(b'0')),
        _ => Err(wrong_type(
            Code::ClaimsOther,
            name,
            Some(value),
            "a string of one digit",
        )),
    }
}

/// An array of bounded, non-empty strings without control characters.
fn strings<'a>(
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

fn one_or_more<'a>(name: &str, value: &'a Value<'_>) -> Result<Vec<&'a str>, TokenError> {
    match value.as_str() {
        Some(text) if fits(text, MOST_ENTRY) => Ok(vec![text]),
        _ => strings(Code::ClaimsOther, name, value, MOST_CONTEXTS),
    }
}

/// Entra emits a string; other issuers may list several audiences (RFC 7519 section 4.1.3).
fn audiences<'a>(value: &'a Value<'_>, shape: Shape) -> Result<Vec<&'a str>, TokenError> {
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

fn confirmation<'a>(value: &'a Value<'_>) -> Result<Confirmation<'a>, TokenError> {
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

fn missing(code: Code, name: &str) -> TokenError {
    TokenError::new(code, format!("{name} is missing"))
}

fn wrong_type(code: Code, name: &str, value: Option<&Value<'_>>, wanted: &str) -> TokenError {
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

const MOST_ROLES: usize = 1200;
const MOST_GROUPS: usize = 1000;
const MOST_CONTEXTS: usize = 100;
const MOST_AUDIENCES: usize = 16;
const MOST_ENTRY: usize = 256;
const MOST_NAME: usize = 128;
const LIMITS: Limits = Limits {
    depth: 16,
    values: 16_384,
    names: 256,
};

/// Claims that decide something; a name that differs from one of these in case only is refused.
const KNOWN: [&str; 38] = [
    "iss",
    "aud",
    "exp",
    "nbf",
    "iat",
    "ver",
    "tid",
    "oid",
    "sub",
    "azp",
    "appid",
    "client_id",
    "azpacr",
    "appidacr",
    "idtyp",
    "scp",
    "scope",
    "roles",
    "groups",
    "wids",
    "hasgroups",
    "_claim_names",
    "_claim_sources",
    "acrs",
    "amr",
    "acr",
    "acct",
    "auth_time",
    "uti",
    "jti",
    "xms_mirid",
    "cnf",
    "nonce",
    "at_hash",
    "c_hash",
    "events",
    "sid",
    "act",
];
