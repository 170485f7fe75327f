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

    /// Whether the proof is the same whatever nonce a server sends.
    pub(super) const fn need_no_nonce(&self) -> bool {
        let signs = matches!(self.user, User::Nkey(_) | User::Jwt { .. });
        !signs && self.proxy.is_none()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A nonce, a trusted proxy's key and its signature that nats-server 2.15.1 accepted.
    const NONCE: &str = "3v3ttfKgCNwpN4g";
    const PROXY_KEY: &str = "NDWH6NQMT2M2Q6ZC2VJ63NM746PVQMCBW5MJ2TNICPFYKPNGPMSDYUB3";
    const PROXY_SIG: &str =
        "ulHJOl6nb-vtL5aRa4RTkIVViIRl6DQtCRNH2K6C2RITHfrUMQ5gC0N3YfevA76QwK7twB4Ljyul0SpZbqHlDQ";

    fn verifies(public_key: &str, signature: &str) -> bool {
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        KeyPair::from_public_key(public_key)
            .unwrap()
            .verify(NONCE.as_bytes(), &signature)
            .is_ok()
    }

    fn seed(key: &KeyPair) -> Secret {
        Secret::new(key.seed().unwrap())
    }

    /// A JWT that says this of itself; its signature is not looked at here.
    fn jwt(sub: &str, bearer: bool) -> String {
        let claims = format!(r#"{{"sub":"{sub}","nats":{{"bearer_token":{bearer}}}}}"#);
        format!("eyJ0eXAiOiJKV1QifQ.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn creds_file(jwt: &str, seed: &str) -> Secret {
        Secret::new(format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\n\
             -----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------\n"
        ))
    }

    #[test]
    fn the_nonce_is_signed_as_text_in_the_form_that_the_server_accepts() {
        assert!(verifies(PROXY_KEY, PROXY_SIG));
        let (user, proxy) = (KeyPair::new_user(), KeyPair::new_server());
        let credentials =
            Credentials::prepare(&Auth::Nkey(seed(&user)), Some(&seed(&proxy))).unwrap();
        let proof = credentials.prove(Some(NONCE)).unwrap();
        let (sig, proxy_sig) = (proof.sig.unwrap(), proof.proxy_sig.unwrap());
        assert_eq!(proxy_sig.len(), PROXY_SIG.len());
        assert_eq!(proof.nkey, Some(user.public_key()));
        assert!(verifies(&user.public_key(), &sig));
        assert!(verifies(&proxy.public_key(), &proxy_sig));
    }

    #[test]
    fn without_a_nonce_an_nkey_cannot_be_proven_and_a_proxy_is_not() {
        let nkey = Auth::Nkey(seed(&KeyPair::new_user()));
        let credentials = Credentials::prepare(&nkey, None).unwrap();
        assert_eq!(
            credentials.prove(None).err(),
            Some(CredentialsError::NoNonce)
        );
        let proxy = seed(&KeyPair::new_server());
        let credentials = Credentials::prepare(&Auth::Token(Secret::new("t")), Some(&proxy));
        let credentials = credentials.unwrap();
        let proof = credentials.prove(None).unwrap();
        assert_eq!((proof.auth_token, proof.proxy_sig), (Some("t"), None));
    }

    #[test]
    fn a_creds_file_gives_jwt_and_signature_and_a_bearer_jwt_needs_none() {
        let user = KeyPair::new_user();
        let jwt_text = jwt(&user.public_key(), false);
        let file = creds_file(&jwt_text, &user.seed().unwrap());
        let credentials = Credentials::prepare(&Auth::Creds(file), None).unwrap();
        let proof = credentials.prove(Some(NONCE)).unwrap();
        assert_eq!(proof.jwt, Some(jwt_text.as_str()));
        assert!(verifies(&user.public_key(), &proof.sig.unwrap()));
        let bearer = jwt(&user.public_key(), true);
        let only =
            format!("-----BEGIN NATS USER JWT-----\n{bearer}\n------END NATS USER JWT------\n");
        for file in [only, format!("{bearer}\n")] {
            let credentials = Credentials::prepare(&Auth::Creds(Secret::new(file)), None).unwrap();
            let proof = credentials.prove(None).unwrap();
            assert_eq!((proof.jwt, proof.sig), (Some(bearer.as_str()), None));
        }
    }

    #[test]
    fn unusable_credentials_are_told_before_any_connection_and_never_shown() {
        let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
        let seed_text = user.seed().unwrap();
        let user_jwt = jwt(&user.public_key(), false);
        let cases = [
            (Auth::Nkey(seed(&KeyPair::new_account())), "SU"),
            (Auth::Nkey(Secret::new(seed_text.to_lowercase())), "seed"),
            (Auth::Nkey(Secret::new("")), "empty"),
            (Auth::Token(Secret::new([0xff])), "UTF-8"),
            (
                Auth::Creds(creds_file(&user_jwt, &other.seed().unwrap())),
                "not that of the user",
            ),
            (Auth::Creds(creds_file("a.b.c", &seed_text)), "decoded"),
            (
                Auth::Creds(creds_file(&user_jwt, "hunter2")),
                "58 characters",
            ),
            (Auth::Creds(creds_file("", "")), "no block"),
            (Auth::Creds(Secret::new("hunter2")), "no block"),
            (Auth::Creds(Secret::new(user_jwt.clone())), "no seed"),
        ];
        for (auth, expected) in cases {
            let error = Credentials::prepare(&auth, None).err().unwrap().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
            assert!(
                !error.contains("hunter2") && !error.contains(&seed_text),
                "{error}"
            );
        }
        let credentials = Credentials::prepare(&Auth::Nkey(seed(&user)), None).unwrap();
        assert!(!format!("{credentials:?}").contains(&seed_text[..8]));
    }
}
