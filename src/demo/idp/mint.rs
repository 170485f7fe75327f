//! Tokens as Entra would write them, with every claim and header open to change.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::IdpError;
use super::keys::{Scheme, SigningKey};
use super::people::{Application, Directory, Person};
use crate::time::Timestamp;

/// Which kind of token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Entra v2.0.
    #[default]
    V2,
    /// Entra v1.0.
    V1,
    /// Plain OpenID Connect: the issuer is the server itself, without a tenant.
    Oidc,
}

impl Form {
    /// From the word that the token address takes.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "v2" => Some(Self::V2),
            "v1" => Some(Self::V1),
            "oidc" => Some(Self::Oidc),
            _ => None,
        }
    }
}

/// What to mint.
#[derive(Clone, Debug, Default)]
pub struct TokenRequest {
    /// Short name of a person or an application.
    pub who: String,
    /// Kind of token; none: the issuer's own default.
    pub form: Option<Form>,
    /// From now to `exp`; none: an hour, for managed identities a day.
    pub lifetime: Option<Duration>,
    /// Claims to set after all others; null removes one.
    pub claims: Map<String, Value>,
    /// Header members to set after all others; null removes one.
    pub header: Map<String, Value>,
    /// Key to sign with; none: the newest.
    pub kid: Option<String>,
    /// An ID token of the command line tool instead of an access token.
    pub id_token: bool,
}

impl TokenRequest {
    /// An ordinary token for somebody.
    pub fn of(who: &str) -> Self {
        Self {
            who: who.into(),
            ..Self::default()
        }
    }

    /// The same with another lifetime.
    #[must_use]
    pub const fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// The same as another kind of token.
    #[must_use]
    pub const fn form(mut self, form: Form) -> Self {
        self.form = Some(form);
        self
    }

    /// The same with a claim set, or removed with null.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// The same with a header member set, or removed with null.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.into(), value.into());
        self
    }

    /// The ID token that comes with such an access token.
    #[must_use]
    pub const fn id_token(mut self) -> Self {
        self.id_token = true;
        self
    }

    /// The same, signed with a certain key.
    #[must_use]
    pub fn signed_by(mut self, kid: &str) -> Self {
        self.kid = Some(kid.into());
        self
    }
}

/// The claims of an ordinary token.
///
/// # Errors
///
/// [`IdpError::Unknown`] for a name that the directory does not have.
pub fn claims(
    directory: &Directory,
    base: &str,
    request: &TokenRequest,
    form: Form,
    now: Timestamp,
) -> Result<Map<String, Value>, IdpError> {
    let person = directory
        .people
        .iter()
        .find(|person| person.name == request.who);
    let application = directory
        .applications
        .iter()
        .find(|app| app.name == request.who);
    let mut claims = match (person, application) {
        (Some(person), _) => of_person(directory, person, form),
        (None, Some(application)) => of_application(application, form),
        (None, None) => {
            return Err(IdpError::Unknown {
                asked: request.who.clone(),
                known: directory.names().join(", "),
            });
        }
    };
    let lifetime = request
        .lifetime
        .unwrap_or_else(|| usual_lifetime(application));
    // Entra backdates by five minutes.
    let start = now.minus(Duration::from_secs(300)).as_secs();
    let end = now.plus(lifetime).as_secs();
    let (iss, aud) = match form {
        Form::V2 => (format!("{base}/{}/v2.0", directory.tid), &directory.api),
        Form::V1 => (format!("{base}/{}/", directory.tid), &directory.app_id_uri),
        Form::Oidc => (base.to_owned(), &directory.oidc_audience),
    };
    claims.extend(object(json!({
        "iss": iss, "aud": aud, "iat": start, "nbf": start, "exp": end, "tid": directory.tid,
        "uti": token_id(&request.who, now), "rh": "1.AXk.", "aio": "k2RgYJg5Example",
    })));
    match form {
        Form::V2 => claims.insert("ver".into(), "2.0".into()),
        Form::V1 => claims.insert("ver".into(), "1.0".into()),
        Form::Oidc => None,
    };
    if let (true, Some(person)) = (request.id_token, person) {
        into_id_token(&mut claims, directory, person, form);
    }
    Ok(claims)
}

/// An hour; a day for managed identities; eight hours and five minutes for agents, as Microsoft's samples have it.
fn usual_lifetime(application: Option<&Application>) -> Duration {
    Duration::from_secs(match application {
        Some(app) if app.mirid.is_some() => 86_400,
        Some(app) if app.blueprint.is_some() => 28_800,
        _ => 3600,
    })
}

/// An ID token is for the client, names no client besides, and has no scope; it may carry roles.
fn into_id_token(
    claims: &mut Map<String, Value>,
    directory: &Directory,
    person: &Person,
    form: Form,
) {
    for name in [
        "azp", "azpacr", "appid", "appidacr", "scp", "idtyp", "acct", "acrs",
    ] {
        claims.remove(name);
    }
    claims.insert("aud".into(), directory.cli.as_str().into());
    claims.insert("nonce".into(), pairwise(&person.oid, "nonce").into());
    if form == Form::V2 {
        claims.insert(
            "preferred_username".into(),
            person.user_name.as_str().into(),
        );
    }
}

fn of_person(directory: &Directory, person: &Person, form: Form) -> Map<String, Value> {
    let (client, client_auth) = client_names(form);
    let label = if form == Form::V1 {
        "upn"
    } else {
        "preferred_username"
    };
    let mut claims = object(json!({
        "oid": person.oid, "sub": pairwise(&person.oid, &directory.api), client: directory.cli,
        client_auth: "0", "idtyp": "user", "scp": "Nats.Connect", "name": person.display_name,
        label: person.user_name, "acct": u8::from(person.guest), "acrs": person.acrs,
    }));
    // Claims without a value are left out, as Entra does.
    if !person.roles.is_empty() {
        claims.insert("roles".into(), json!(person.roles));
    }
    if person.groups.len() > GROUPS_IN_A_TOKEN && form != Form::Oidc {
        // The address that Entra writes is of an interface that has been retired.
        let source = format!(
            "https://graph.windows.net/{}/users/{}/getMemberObjects",
            directory.tid, person.oid
        );
        claims.insert("_claim_names".into(), json!({ "groups": "src1" }));
        claims.insert(
            "_claim_sources".into(),
            json!({ "src1": { "endpoint": source } }),
        );
    } else if !person.groups.is_empty() {
        claims.insert("groups".into(), json!(person.groups));
    }
    claims
}

fn of_application(application: &Application, form: Form) -> Map<String, Value> {
    let (client, client_auth) = client_names(form);
    let proof = if application.mirid.is_some() {
        "2"
    } else {
        "1"
    };
    let mut claims = object(json!({
        "oid": application.oid, "sub": application.oid, client: application.client_id,
        client_auth: proof, "idtyp": "app",
    }));
    if !application.roles.is_empty() {
        claims.insert("roles".into(), json!(application.roles));
    }
    if let Some(mirid) = &application.mirid {
        claims.insert("xms_mirid".into(), json!(mirid));
        claims.insert("xms_idrel".into(), "7 33".into());
    }
    if let Some(blueprint) = &application.blueprint {
        // Facets of an agent identity: it acts for itself, made from a blueprint.
        let agent = json!({
            "xms_act_fct": "11", "xms_sub_fct": "11", "xms_tnt_fct": "3", "xms_par_app_azp": blueprint,
            "xms_idrel": "7", client_auth: "2",
        });
        claims.extend(object(agent));
    }
    claims
}

const fn client_names(form: Form) -> (&'static str, &'static str) {
    match form {
        Form::V1 => ("appid", "appidacr"),
        Form::V2 | Form::Oidc => ("azp", "azpacr"),
    }
}

/// More groups than these do not fit into a token, and Entra names a place to ask instead.
const GROUPS_IN_A_TOKEN: usize = 200;

/// A subject that differs from application to application.
fn pairwise(oid: &str, api: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{oid}/{api}")))
}

pub(super) fn token_id(who: &str, now: Timestamp) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static TURN: AtomicU64 = AtomicU64::new(0);
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let digest = Sha256::digest(format!("{who}/{}/{turn}", now.as_millis()));
    URL_SAFE_NO_PAD.encode(digest.iter().take(16).copied().collect::<Vec<u8>>())
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// The header of an ordinary token.
pub fn header(key: &SigningKey, form: Form) -> Map<String, Value> {
    let mut header = object(json!({ "typ": "JWT", "alg": "RS256", "kid": key.kid() }));
    if form == Form::V1 {
        header.insert("x5t".into(), key.kid().into());
    }
    header
}

/// Sets members, and removes those that are set to null.
pub fn patch(members: &mut Map<String, Value>, changes: &Map<String, Value>) {
    for (name, value) in changes {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
}

/// Header, payload and signature in compact form.
///
/// # Errors
///
/// [`IdpError::Key`] when signing fails.
pub fn sign(header: &[u8], payload: &[u8], key: &SigningKey) -> Result<String, IdpError> {
    sign_shown(header, header, payload, key)
}

/// The same with one header signed and another one shown, as Microsoft does for its own APIs: the signature is over a
/// header whose `nonce` was hashed, so that nobody else can verify it.
pub(super) fn sign_shown(
    signed: &[u8],
    shown: &[u8],
    payload: &[u8],
    key: &SigningKey,
) -> Result<String, IdpError> {
    let payload = URL_SAFE_NO_PAD.encode(payload);
    let message = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(signed));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(Scheme::Rs256, message.as_bytes())?);
    Ok(format!(
        "{}.{payload}.{signature}",
        URL_SAFE_NO_PAD.encode(shown)
    ))
}

/// What stands in the signed header in the place of a nonce.
pub(super) fn hashed_nonce(nonce: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(nonce))
}
