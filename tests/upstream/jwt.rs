//! NATS JWTs of version 2 (`alg: ed25519-nkey`), minted for operator mode.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// An operator with one account.
pub struct Operator {
    operator: KeyPair,
    account: KeyPair,
}

impl Operator {
    pub fn new() -> Self {
        Self {
            operator: KeyPair::new_operator(),
            account: KeyPair::new_account(),
        }
    }

    /// Server configuration with the account in memory.
    pub fn server(&self) -> String {
        let operator = mint(
            &self.operator,
            &self.operator.public_key(),
            &json!({ "type": "operator", "version": 2 }),
        );
        let unlimited = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true, "conn": -1, "leaf": -1,
        });
        let account = mint(
            &self.operator,
            &self.account.public_key(),
            &json!({ "type": "account", "version": 2, "limits": unlimited }),
        );
        let key = self.account.public_key();
        format!(
            "operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {key}: {account} }}\n"
        )
    }

    /// A user JWT with more claims in `nats`.
    pub fn user(&self, user: &KeyPair, more: &Value) -> String {
        let mut nats = json!({
            "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
            "pub": {}, "sub": {},
        });
        let fields = nats.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        mint(&self.account, &user.public_key(), &nats)
    }
}

/// A creds file as `nsc` writes it.
pub fn creds_file(jwt: &str, user: &KeyPair) -> String {
    let seed = user.seed().unwrap();
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         ************************* IMPORTANT *************************\n\
         NKEY Seed printed below can be used to sign and prove identity.\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n\
         *************************************************************\n"
    )
}

fn mint(issuer: &KeyPair, subject: &str, nats: &Value) -> String {
    let claims = json!({
        "jti": "NATSENTRYTEST", "iat": 1_700_000_000, "iss": issuer.public_key(),
        "name": "test", "sub": subject, "nats": nats,
    });
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}
