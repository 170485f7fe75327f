//! The payload's claims with the types that they must have; what a claim means is decided elsewhere.
//!
//! Owns: types, sizes and spelling of every claim that the gate or a policy looks at. Must never: convert a type, or
//! fail on a claim that nobody here has heard of.

use super::authority::{Authority, Shape};
use super::error::{Code, TokenError};
use super::show::Shown;
use super::strict_json::{self, JsonError, Limits, Object, Value};
use super::typed::{
    MOST_GROUPS, MOST_ROLES, audiences, confirmation, digit, fits, guid, integer, missing,
    one_or_more, roles_at, small, strings, text, wrong_type,
};

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
    /// `scp` without blanks; `/` stands for none in tokens of agent identities.
    pub(crate) scopes: Vec<&'a str>,
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
    /// A claim that says in so many words that this is an access token.
    pub(crate) says_access: bool,
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
    /// The thumbprint of the client certificate that the token is bound to.
    pub(crate) const fn certificate(&self) -> Option<&'a str> {
        match self.confirmation {
            Confirmation::Certificate(thumbprint) => Some(thumbprint),
            Confirmation::None | Confirmation::Other => None,
        }
    }

    /// Checks the type of every claim that matters.
    pub(crate) fn read(payload: &'a Object<'_>, authority: &Authority) -> Result<Self, TokenError> {
        let shape = authority.shape;
        let usual_roles = authority.roles_claim.is_empty();
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
                "roles" if usual_roles => {
                    claims.roles = strings(Code::ClaimsRoles, name, value, MOST_ROLES)?;
                }
                "scp" | "scope" => claims.read_scopes(name, value, shape)?,
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
        if claims.says_access && claims.of_an_id_token == Some("nonce") {
            // Older Keycloaks copy the nonce of the sign-in.
            claims.of_an_id_token = None;
        }
        if !usual_roles {
            claims.roles = roles_at(payload, &authority.roles_claim)?;
        }
        // Claims that are elsewhere, and nothing says which: the groups may be among them.
        claims.overage |=
            payload.member("_claim_sources").is_some() && payload.member("_claim_names").is_none();
        one_client(payload, &claims, shape)?;
        claims.check_ids(shape)?;
        Ok(claims)
    }

    /// Entra has `scp`, one string. Others have `scope` (RFC 9068), and some `scp` as an array.
    fn read_scopes(
        &mut self,
        name: &str,
        value: &'a Value<'_>,
        shape: Shape,
    ) -> Result<(), TokenError> {
        let none = |scope: &&str| !matches!(*scope, "" | "/");
        match (name, value) {
            ("scope", _) if shape.is_entra() || !self.scopes.is_empty() => {}
            (_, Value::Array(_)) if !shape.is_entra() => {
                self.scopes = strings(Code::ClaimsScope, name, value, MOST_ROLES)?;
            }
            _ => {
                let all = text(Code::ClaimsScope, name, value)?.split(' ');
                self.scopes = all.filter(none).collect();
            }
        }
        match self.scopes.iter().find(|scope| !is_scope(scope)) {
            None => Ok(()),
            Some(scope) => Err(TokenError::new(
                Code::ClaimsScope,
                format!(
                    "{name} has '{}', which is no scope: scopes are printable ASCII with single spaces between them",
                    Shown(scope)
                ),
            )),
        }
    }

    fn read_text(
        &mut self,
        name: &str,
        value: &'a Value<'_>,
        shape: Shape,
    ) -> Result<(), TokenError> {
        let entra = shape.is_entra();
        match name {
            "ver" if entra => self.ver = Some(text(Code::ClaimsVersion, name, value)?),
            "tid" if entra => self.tid = Some(text(Code::ClaimsTenant, name, value)?),
            "oid" => self.oid = Some(text(Code::ClaimsObject, name, value)?),
            "sub" => self.sub = Some(text(Code::ClaimsSubject, name, value)?),
            "idtyp" => self.id_type = Some(text(Code::ClaimsIdType, name, value)?),
            "azp" if shape != Shape::EntraV1 => {
                self.client = Some(text(Code::ClaimsOther, name, value)?);
            }
            "appid" if shape == Shape::EntraV1 => {
                self.client = Some(text(Code::ClaimsOther, name, value)?);
            }
            "client_id" | "cid" if !entra && self.client.is_none() => {
                self.client = Some(text(Code::ClaimsOther, name, value)?);
            }
            "azpacr" if shape != Shape::EntraV1 => self.client_auth = digit(name, value)?,
            "appidacr" if shape == Shape::EntraV1 => self.client_auth = digit(name, value)?,
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
                self.overage |= value.as_object().is_none_or(names_groups);
            }
            _ => self.read_tell(name, value, shape),
        }
        Ok(())
    }

    /// Claims that tell what kind of token this is, and names for people, whose type is nobody's concern.
    fn read_tell(&mut self, name: &str, value: &'a Value<'_>, shape: Shape) {
        let other = shape == Shape::Oidc;
        let rank = match name {
            "name" => 0,
            "preferred_username" => 1,
            "upn" => 2,
            "unique_name" => 3,
            // B2C writes the nonce of the sign-in into access tokens too.
            "nonce" if shape == Shape::B2c => return,
            "nonce" => return self.of_an_id_token = self.of_an_id_token.or(Some("nonce")),
            "at_hash" => return self.of_an_id_token = Some("at_hash"),
            "c_hash" => return self.of_an_id_token = Some("c_hash"),
            "events" => return self.of_another_kind = Some("events (a security event)"),
            // Keycloak says what it is, in the payload; so does Cognito.
            "typ" | "token_use" if other => {
                match value.as_str() {
                    Some("Bearer" | "access") => self.says_access = true,
                    Some("ID" | "id") => self.of_an_id_token = Some("typ or token_use"),
                    _ => self.of_another_kind = Some("typ (not Bearer)"),
                }
                return;
            }
            _ => return,
        };
        self.of_a_person = true;
        if let Some(place) = self.names.get_mut(rank) {
            *place = value.as_str();
        }
    }

    /// B2C: `tid` and `oid` only where the registration asks for them; `sub` is the object id unless a custom policy says
    /// otherwise.
    fn check_b2c_ids(&self) -> Result<(), TokenError> {
        if self.tid.is_some() {
            guid(Code::ClaimsTenant, "tid", self.tid)?;
        }
        if self.client.is_some() {
            guid(Code::ClaimsOther, "azp", self.client)?;
        }
        match (self.oid, self.sub) {
            (Some(oid), _) => guid(Code::ClaimsObject, "oid", Some(oid)),
            (None, sub) => guid(
                Code::ClaimsObject,
                "sub, which stands for the absent oid (add User's Object ID to the application claims),",
                sub,
            ),
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
        if shape == Shape::B2c {
            return self.check_b2c_ids();
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

/// Whether distributed claims name the groups, in whatever case: what another reader might take for groups leaves them
/// unknown.
fn names_groups(names: &Object<'_>) -> bool {
    names
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("groups"))
}

/// A scope-token of RFC 6749 section 3.3: anything else is white space in disguise or a mistake of the issuer.
fn is_scope(scope: &str) -> bool {
    !scope.is_empty()
        && scope
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
}

/// The client has one name: `azp` in v2.0 tokens, `appid` in v1.0 ones. Entra never writes both; a token with two
/// different ones says two things about who asked for it.
fn one_client(payload: &Object<'_>, claims: &Claims<'_>, shape: Shape) -> Result<(), TokenError> {
    let other = match shape {
        Shape::EntraV1 => "azp",
        Shape::EntraV2 | Shape::B2c => "appid",
        Shape::Oidc => return Ok(()),
    };
    match payload.member(other) {
        Some(value) if claims.client.is_some() && value.as_str() != claims.client => {
            Err(TokenError::new(
                Code::KindOther,
                "contradictory: azp and appid name different client applications",
            ))
        }
        _ => Ok(()),
    }
}

const MOST_NAME: usize = 128;
const LIMITS: Limits = Limits {
    depth: 16,
    values: 16_384,
    names: 256,
};

/// Claims that decide something; a name that differs from one of these in case only is refused.
const KNOWN: [&str; 40] = [
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
    "cid",
    "tfp",
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
