//! Hostile and invalid tokens, made from a description: an ordinary token, and what is done to it.
//!
//! The descriptions are `tests/corpus/tokens.json`; the same rows are shown to the gate itself and, over the wire, to a
//! running proxy. Must never: be reachable over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

pub use super::corpus::{Change, Corpus, Listener, Row, Scene, Wire};
use super::keys::{PublishedKey, Scheme, SigningKey};
use super::mint::{self, Form, TokenRequest};
use super::people::Directory;
use super::{DevIdp, IdpError};
use crate::time::Timestamp;

/// A row that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ForgeError {
    /// A word that is not understood.
    #[error("row {row}: '{word}' is not understood")]
    Word {
        /// The row.
        row: String,
        /// The word.
        word: String,
    },
    /// Minting or signing failed.
    #[error(transparent)]
    Idp(#[from] IdpError),
}

/// The keys and the directory that rows are made with.
#[derive(Debug)]
pub struct Forge {
    base: String,
    directory: Directory,
    keys: BTreeMap<&'static str, PublishedKey>,
    attacker: Arc<SigningKey>,
}

impl Forge {
    /// Makes five keys for an issuer at `base`.
    ///
    /// # Errors
    ///
    /// [`IdpError::Key`].
    pub fn new(base: &str, directory: Directory) -> Result<Self, IdpError> {
        let key = || SigningKey::generate().map(Arc::new);
        let mut keys = BTreeMap::new();
        keys.insert("current", PublishedKey::own(key()?));
        keys.insert("next", PublishedKey::own(key()?));
        let elsewhere = format!("{base}/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0");
        let foreign = PublishedKey {
            issuer: Some(elsewhere),
            ..PublishedKey::own(key()?)
        };
        keys.insert("foreign", foreign);
        let cloud = Some("another.cloud".to_owned());
        keys.insert(
            "cloud",
            PublishedKey {
                cloud,
                ..PublishedKey::own(key()?)
            },
        );
        Ok(Self {
            base: base.into(),
            directory,
            keys,
            attacker: key()?,
        })
    }

    /// Makes the keys for a running issuer and has it publish them.
    ///
    /// # Errors
    ///
    /// [`IdpError::Key`].
    pub fn of(idp: &DevIdp) -> Result<Self, IdpError> {
        let forge = Self::new(idp.base(), idp.directory().clone())?;
        for key in forge.keys.values() {
            idp.add_key(key.clone());
        }
        Ok(forge)
    }

    /// The key document of one version; plain OpenID Connect has neither foreign key.
    pub fn key_document(&self, form: Form) -> Vec<u8> {
        let template = format!("{}/{{tenantid}}/v2.0", self.base);
        let issuer = match form {
            Form::V2 => Some(template.as_str()),
            Form::V1 | Form::Oidc => None,
        };
        let keys: Vec<Value> = self.keys.values().map(|key| key.jwk(issuer)).collect();
        json!({ "keys": keys }).to_string().into_bytes()
    }

    /// The token of a row.
    ///
    /// # Errors
    ///
    /// [`ForgeError`] for a row that does not say what it means.
    pub fn token(&self, row: &Row, now: Timestamp) -> Result<Vec<u8>, ForgeError> {
        let unknown = |word: &str| ForgeError::Word {
            row: row.row.clone(),
            word: word.into(),
        };
        let (who, form) = base_of(&row.base).ok_or_else(|| unknown(&row.base))?;
        let key = self.key(row.key.as_deref().unwrap_or("current"));
        let key = key.ok_or_else(|| unknown(row.key.as_deref().unwrap_or_default()))?;
        let request = TokenRequest::of(who);
        let claims = mint::claims(&self.directory, &self.base, &request, form, now)?;
        let header = self.changed(mint::header(&key, form), &row.header, &key, now);
        let payload = self.changed(claims, &row.claims, &key, now);
        let signed = format!("{}.{}", encode(&header), encode(&payload));
        let sign = row.sign.as_deref().unwrap_or("rs256");
        let signature = signature(sign, &key, signed.as_bytes()).ok_or_else(|| unknown(sign))??;
        let mut token = format!("{signed}.{}", encode(&signature));
        for wire in &row.wire {
            token = self.rewired(token, wire, &request, form, now)?;
        }
        Ok(token.into_bytes())
    }

    fn key(&self, name: &str) -> Option<Arc<SigningKey>> {
        match name {
            "attacker" => Some(Arc::clone(&self.attacker)),
            name => self
                .keys
                .get(name)
                .map(|published| Arc::clone(&published.key)),
        }
    }

    fn changed(
        &self,
        mut members: Map<String, Value>,
        change: &Change,
        key: &SigningKey,
        now: Timestamp,
    ) -> Vec<u8> {
        let before = members.clone();
        for (name, value) in &change.set {
            members.insert(name.clone(), self.value(value, key, &before, now));
        }
        for name in &change.remove {
            members.remove(name);
        }
        let mut text = Value::Object(members).to_string();
        if !change.prepend.is_empty() {
            text.insert_str(1, &self.filled(&change.prepend, key));
        }
        if !change.append.is_empty() {
            text.insert_str(
                text.len().saturating_sub(1),
                &self.filled(&change.append, key),
            );
        }
        if let Some(whole) = &change.text {
            text = self.filled(whole, key).replace("{json}", &text);
        }
        let Some(broken) = &change.break_utf8 else {
            return text.into_bytes();
        };
        let mut bytes = text.into_bytes();
        if let Some(at) = memchr::memmem::find(&bytes, broken.as_bytes()) {
            bytes.splice(at..at.saturating_add(broken.len()), [0xff]);
        }
        bytes
    }

    /// A value with its macros and placeholders worked out.
    fn value(
        &self,
        value: &Value,
        key: &SigningKey,
        before: &Map<String, Value>,
        now: Timestamp,
    ) -> Value {
        match value {
            Value::String(text) => Value::String(self.filled(text, key)),
            Value::Array(items) => items
                .iter()
                .map(|item| self.value(item, key, before, now))
                .collect(),
            Value::Object(members) => match members.iter().next() {
                Some((name, argument)) if name.starts_with('$') => {
                    macro_value(name, argument, before, now)
                }
                _ => {
                    let inner = |(name, item): (&String, &Value)| {
                        (name.clone(), self.value(item, key, before, now))
                    };
                    Value::Object(members.iter().map(inner).collect())
                }
            },
            other => other.clone(),
        }
    }

    fn filled(&self, text: &str, key: &SigningKey) -> String {
        let current = self
            .keys
            .get("current")
            .map_or("", |published| published.key.kid());
        text.replace("{base}", &self.base)
            .replace("{host}", self.base.split("://").nth(1).unwrap_or_default())
            .replace("{tid}", &self.directory.tid)
            .replace("{api}", &self.directory.api)
            .replace("{app_id_uri}", &self.directory.app_id_uri)
            .replace("{kid}", key.kid())
            .replace("{current_kid}", current)
            .replace("\"{jwk}\"", &key.jwk().to_string())
    }

    fn rewired(
        &self,
        token: String,
        wire: &Wire,
        request: &TokenRequest,
        form: Form,
        now: Timestamp,
    ) -> Result<String, ForgeError> {
        let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        match wire {
            Wire::Prefix(text) => return Ok(format!("{text}{token}")),
            Wire::Suffix(text) => return Ok(format!("{token}{text}")),
            Wire::Whole(text) => return Ok(text.clone()),
            Wire::Keep(count) => parts.truncate(*count),
            Wire::Insert(part, text) => {
                if let Some(part) = parts.get_mut(*part) {
                    part.insert_str(part.len().min(4), text);
                }
            }
            Wire::Replace(part, from, to) => {
                if let Some(part) = parts.get_mut(*part) {
                    // A segment without the character gets the other one, so that the fault is there in any case.
                    let changed = part.replace(from.as_str(), to);
                    *part = if changed == *part {
                        format!("{to}{part}")
                    } else {
                        changed
                    };
                }
            }
            Wire::Truncate(count) => {
                if let Some(signature) = parts.get_mut(2) {
                    signature.truncate(signature.len().saturating_sub(*count));
                }
            }
            Wire::LooseBits => {
                if let Some(signature) = parts.get_mut(2) {
                    loosen(signature);
                }
            }
            Wire::BorrowSignature | Wire::BorrowPayload => {
                let other = self.other_token(request, form, now)?;
                let at = if matches!(wire, Wire::BorrowPayload) {
                    1
                } else {
                    2
                };
                if let (Some(ours), Some(theirs)) = (parts.get_mut(at), other.split('.').nth(at)) {
                    *ours = theirs.to_owned();
                }
            }
            Wire::JsonSerialization => {
                let part = |at: usize| parts.get(at).cloned().unwrap_or_default();
                let document =
                    json!({ "protected": part(0), "payload": part(1), "signature": part(2) });
                return Ok(document.to_string());
            }
        }
        Ok(parts.join("."))
    }

    /// Another valid token of the same principal.
    fn other_token(
        &self,
        request: &TokenRequest,
        form: Form,
        now: Timestamp,
    ) -> Result<String, IdpError> {
        let key = self.key("current").ok_or(IdpError::Key)?;
        let mut claims = mint::claims(&self.directory, &self.base, request, form, now)?;
        claims.insert("roles".into(), json!(["Everything.Admin"]));
        let header = Value::Object(mint::header(&key, form)).to_string();
        mint::sign(
            header.as_bytes(),
            Value::Object(claims).to_string().as_bytes(),
            &key,
        )
    }
}

fn base_of(word: &str) -> Option<(&'static str, Form)> {
    let (form, who) = word.split_once('-')?;
    let who = match who {
        "user" => "alice",
        "app" => "historian",
        "mi" => "gateway",
        _ => return None,
    };
    Some((who, Form::named(form)?))
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn signature(word: &str, key: &SigningKey, message: &[u8]) -> Option<Result<Vec<u8>, IdpError>> {
    let keyed = |secret: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Ok(hmac::sign(&key, message).as_ref().to_vec())
    };
    match word {
        "rs256" => Some(key.sign(Scheme::Rs256, message)),
        "rs384" => Some(key.sign(Scheme::Rs384, message)),
        "rs512" => Some(key.sign(Scheme::Rs512, message)),
        "ps256" => Some(key.sign(Scheme::Ps256, message)),
        "none" => Some(Ok(Vec::new())),
        "hs256-der" => Some(keyed(&key.public_der())),
        "hs256-modulus" => Some(keyed(&key.modulus())),
        "hs256-pem" => {
            let body = STANDARD.encode(key.public_der());
            let pem =
                format!("-----BEGIN RSA PUBLIC KEY-----\n{body}\n-----END RSA PUBLIC KEY-----\n");
            Some(keyed(pem.as_bytes()))
        }
        _ => None,
    }
}

/// 256 bytes leave two characters of padding off, so the last character carries two bits; its other four must be zero.
fn loosen(signature: &mut String) {
    let Some(last) = signature.pop() else { return };
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).unwrap_or_default();
    signature.push(alphabet.chars().nth(at | 1).unwrap_or('B'));
}

fn macro_value(name: &str, argument: &Value, before: &Map<String, Value>, now: Timestamp) -> Value {
    let pair = argument.as_array().map(Vec::as_slice).unwrap_or_default();
    let count = |value: &Value| usize::try_from(value.as_u64().unwrap_or_default()).unwrap_or(0);
    match (name, pair) {
        ("$now", _) => {
            let seconds = argument.as_i64().unwrap_or_default();
            let distance = Duration::from_secs(seconds.unsigned_abs());
            let at = if seconds < 0 {
                now.minus(distance)
            } else {
                now.plus(distance)
            };
            json!(at.as_secs())
        }
        ("$repeat", [Value::String(text), times]) => json!(text.repeat(count(times))),
        ("$list", [item, times]) => Value::Array(vec![item.clone(); count(times)]),
        ("$guids", _) => (0..count(argument))
            .map(|n| json!(format!("00000000-0000-4000-8000-{n:012x}")))
            .collect(),
        ("$nest", _) => (0..count(argument)).fold(json!(0), |inner, _| json!([inner])),
        ("$flip", _) => {
            let text = argument
                .as_str()
                .and_then(|name| before.get(name))
                .and_then(Value::as_str);
            json!(
                text.unwrap_or_default()
                    .chars()
                    .map(flipped)
                    .collect::<String>()
            )
        }
        _ => Value::Null,
    }
}

fn flipped(c: char) -> char {
    if c.is_ascii_lowercase() {
        c.to_ascii_uppercase()
    } else {
        c.to_ascii_lowercase()
    }
}
