//! Our own credentials: what of them goes into CONNECT for a given nonce. Never prints or logs any of them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::{KeyPair, KeyPairType};
use serde::Deserialize;

use super::config::Auth;
use crate::secret::Secret;

/// Credentials, read and checked once.
pub(super) struct Credentials {
    user: User,
    proxy: Option<KeyPair>,
}

enum User {
    None,
    Password { user: Secret, password: Secret },
    Token(Secret),
    Nkey(KeyPair),
    Jwt { jwt: Secret, key: Option<KeyPair> },
}

/// The fields of CONNECT that prove who we are (nats-server `client.go`, `ClientOpts`).
#[derive(Default)]
pub(super) struct Proof<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) pass: Option<&'a str>,
    pub(super) auth_token: Option<&'a str>,
    pub(super) nkey: Option<String>,
    pub(super) jwt: Option<&'a str>,
    pub(super) sig: Option<String>,
    pub(super) proxy_sig: Option<String>,
}

/// Why credentials cannot be used. Shows none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CredentialsError {
    #[error("{0} is not UTF-8 text; check the file or variable it comes from")]
    NotText(&'static str),
    #[error("{0} is empty; check the file or variable it comes from")]
    Empty(&'static str),
    #[error(
        "{0} is not an nkey seed (58 characters that begin with S); generate one with `nk -gen`"
    )]
    Seed(&'static str),
    #[error("the nkey seed belongs to another kind of key; users have seeds that begin with SU")]
    NotUser,
    #[error(
        "the creds file has no block `-----BEGIN NATS USER JWT-----`; export it again with `nsc generate creds`"
    )]
    NoJwt,
    #[error(
        "the user JWT of the creds file cannot be decoded; export it again with `nsc generate creds`"
    )]
    BadJwt,
    #[error(
        "the creds file has no seed, and its JWT is not a bearer JWT; export it again with `nsc generate creds`"
    )]
    NoSeed,
    #[error(
        "the seed in the creds file is not that of the user its JWT is for; export the file again"
    )]
    ForeignSeed,
    #[error(
        "the server sent no nonce to sign; nkeys and JWTs need a server that is configured for them"
    )]
    NoNonce,
    #[error("the signature could not be made")]
    Sign,
}

impl Credentials {
    /// Reads seeds and creds files.
    pub(super) fn prepare(auth: &Auth, proxy: Option<&Secret>) -> Result<Self, CredentialsError> {
        let proxy = proxy
            .map(|seed| key_pair(seed, "trusted_proxy_nkey"))
            .transpose()?;
        let user = match auth {
            Auth::None => User::None,
            Auth::UserPassword { user, password } => {
                text(user, "the user name")?;
                text(password, "the password")?;
                User::Password {
                    user: user.clone(),
                    password: password.clone(),
                }
            }
            Auth::Token(token) => {
                text(token, "the token")?;
                User::Token(token.clone())
            }
            Auth::Nkey(seed) => {
                let key = key_pair(seed, "the nkey")?;
                if key.key_pair_type() != KeyPairType::User {
                    return Err(CredentialsError::NotUser);
                }
                User::Nkey(key)
            }
            Auth::Creds(file) => creds(file)?,
        };
        Ok(Self { user, proxy })
    }

    /// The fields for a server that sent this nonce. The nonce is signed as the text it is, not decoded (nats-server
    /// `auth.go`, `processClientOrLeafAuthentication`; trusted proxies: `proxyCheck`).
    pub(super) fn prove(&self, nonce: Option<&str>) -> Result<Proof<'_>, CredentialsError> {
        let mut proof = Proof::default();
        match &self.user {
            User::None => {}
            User::Password { user, password } => {
                proof.user = Some(text(user, "the user name")?);
                proof.pass = Some(text(password, "the password")?);
            }
            User::Token(token) => proof.auth_token = Some(text(token, "the token")?),
            User::Nkey(key) => {
                proof.nkey = Some(key.public_key());
                proof.sig = Some(sign(key, nonce.ok_or(CredentialsError::NoNonce)?)?);
            }
            User::Jwt { jwt, key } => {
                proof.jwt = Some(text(jwt, "the user JWT")?);
                if let Some(key) = key {
                    proof.sig = Some(sign(key, nonce.ok_or(CredentialsError::NoNonce)?)?);
                }
            }
        }
        // Without a nonce the server knows no trusted proxies, and would not look at a signature.
        if let (Some(key), Some(nonce)) = (&self.proxy, nonce) {
            proof.proxy_sig = Some(sign(key, nonce)?);
        }
        Ok(proof)
    }
}

/// Base64url without padding: the one form that both `sig` and `proxy_sig` are accepted in.
fn sign(key: &KeyPair, nonce: &str) -> Result<String, CredentialsError> {
    let signature = key
        .sign(nonce.as_bytes())
        .map_err(|_| CredentialsError::Sign)?;
    Ok(URL_SAFE_NO_PAD.encode(signature))
}

/// Non-empty text.
fn text<'a>(secret: &'a Secret, what: &'static str) -> Result<&'a str, CredentialsError> {
    match secret.expose_str() {
        None => Err(CredentialsError::NotText(what)),
        Some("") => Err(CredentialsError::Empty(what)),
        Some(text) => Ok(text),
    }
}

/// A seed; white space around it (the line end of a file) is not part of it.
fn key_pair(seed: &Secret, what: &'static str) -> Result<KeyPair, CredentialsError> {
    KeyPair::from_seed(text(seed, what)?.trim()).map_err(|_| CredentialsError::Seed(what))
}

/// A creds file: two blocks between dashed lines (nkeys and jwt libraries: `ParseDecoratedJWT`, `ParseDecoratedUserNKey`).
fn creds(file: &Secret) -> Result<User, CredentialsError> {
    let content = text(file, "the creds file")?;
    // A file with nothing but the JWT in it is what `nsc` writes for bearer users at times.
    let jwt = block(content, "USER JWT")
        .or_else(|| Some(content.trim()).filter(|text| looks_like_jwt(text)))
        .ok_or(CredentialsError::NoJwt)?;
    let claims = claims(jwt).ok_or(CredentialsError::BadJwt)?;
    let key = match block(content, "SEED") {
        Some(seed) => {
            let key = KeyPair::from_seed(seed)
                .map_err(|_| CredentialsError::Seed("the seed in the creds file"))?;
            if claims.sub != key.public_key() {
                return Err(CredentialsError::ForeignSeed);
            }
            Some(key)
        }
        None if claims.nats.bearer_token => None,
        None => return Err(CredentialsError::NoSeed),
    };
    Ok(User::Jwt {
        jwt: Secret::new(jwt.as_bytes()),
        key,
    })
}

/// The line after the dashed line that begins the block whose name ends in `name`.
fn block<'a>(content: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = content.lines().map(str::trim);
    lines.find(|line| {
        line.starts_with("---")
            && line.trim_matches('-').trim().starts_with("BEGIN")
            && line.trim_matches('-').trim().ends_with(name)
    })?;
    lines
        .find(|line| !line.is_empty())
        .filter(|line| !line.starts_with("---"))
}

fn looks_like_jwt(text: &str) -> bool {
    text.starts_with("eyJ") && text.split('.').count() == 3 && !text.contains(char::is_whitespace)
}

#[derive(Deserialize)]
struct UserClaims {
    sub: String,
    #[serde(default)]
    nats: NatsClaims,
}

#[derive(Default, Deserialize)]
struct NatsClaims {
    #[serde(default)]
    bearer_token: bool,
}

/// The two claims that decide which fields are sent. The server is the one to verify them.
fn claims(jwt: &str) -> Option<UserClaims> {
    let payload = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.user {
            User::None => "none",
            User::Password { .. } => "password",
            User::Token(_) => "token",
            User::Nkey(_) => "nkey",
            User::Jwt { key: Some(_), .. } => "creds",
            User::Jwt { key: None, .. } => "bearer",
        };
        f.debug_struct("Credentials")
            .field("user", &kind)
            .field("proxy", &self.proxy.is_some())
            .finish()
    }
}
