//! Keys of issuers: from a JWKS document to RS256 verification by key name.
//!
//! Owns: which keys are fit for use, and the one signature primitive. Must never: let a key document choose an
//! algorithm, try more keys than the one a token names, or fetch anything.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::{Algorithm, DecodingKey};

use super::strict_json::{self, Limits, Object, Value};
use crate::time::Timestamp;

/// The usable keys of one document (RFC 7517), by `kid`, case-sensitive.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: HashMap<Box<str>, Key>,
    skipped: Vec<Skipped>,
}

/// A key that verifies RS256 and nothing else.
#[derive(Clone, Debug)]
pub struct Key {
    verifier: DecodingKey,
    issuer: Option<Box<str>>,
    cloud: Option<Box<str>>,
    thumbprint: Option<Box<str>>,
}

/// A key of the document that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its name, clipped.
    pub kid: Box<str>,
    /// What is wrong with it.
    pub why: SkipReason,
}

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// Not an object, or a member of a wrong type or encoding.
    #[error("malformed")]
    Malformed,
    /// `kty` is not RSA.
    #[error("not an RSA key")]
    Type,
    /// `use` is not `sig`, or `key_ops` has no `verify` (RFC 7517 section 4.3).
    #[error("not for signatures")]
    Use,
    /// `alg` is given and is not RS256.
    #[error("for another algorithm than RS256")]
    Algorithm,
    /// Without `kid`, or with one that no token may name.
    #[error("no usable kid")]
    Kid,
    /// Modulus shorter than 2048 bits, longer than 8192, even, or with leading zeros.
    #[error("modulus not of 2048 to 8192 bits, or not canonical")]
    Modulus,
    /// Exponent even, below 65537 or beyond 32 bits.
    #[error("exponent even, small or huge")]
    Exponent,
    /// Two keys of one name: neither can be trusted to be the one that is meant.
    #[error("another key has the same kid")]
    Duplicate,
}

/// A document that is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not strict JSON.
    #[error("key document: {0}")]
    Json(Box<str>),
    /// No array `keys`.
    #[error("key document has no array 'keys'")]
    NoKeys,
    /// More keys than any issuer has.
    #[error("key document has more than {MOST_KEYS} keys")]
    TooMany,
    /// Not one key is fit for use.
    #[error("none of {0} keys is usable (RSA of 2048 bits or more, for signatures)")]
    NoneUsable(usize),
}

impl KeySet {
    /// Reads a JWKS document. Unusable keys are skipped and reported; a document without any usable key is refused, so
    /// that it never replaces a good one.
    ///
    /// # Errors
    ///
    /// [`KeySetError`], when the document as a whole cannot be used.
    pub fn parse(jwks: &[u8]) -> Result<Self, KeySetError> {
        let document = strict_json::parse(jwks, LIMITS)
            .map_err(|e| KeySetError::Json(e.to_string().into()))?;
        let list = document
            .as_object()
            .and_then(|object| object.member("keys"))
            .and_then(Value::as_array)
            .ok_or(KeySetError::NoKeys)?;
        if list.len() > MOST_KEYS {
            return Err(KeySetError::TooMany);
        }
        let mut set = Self {
            keys: HashMap::new(),
            skipped: Vec::new(),
        };
        let mut named_twice: Vec<Box<str>> = Vec::new();
        let mut seen: HashMap<&str, ()> = HashMap::new();
        for entry in list {
            let Some(object) = entry.as_object() else {
                set.skip("", SkipReason::Malformed);
                continue;
            };
            let kid = object
                .member("kid")
                .and_then(Value::as_str)
                .unwrap_or_default();
            // An unusable key of the same name counts too: the name is ambiguous.
            if !kid.is_empty() && seen.insert(kid, ()).is_some() {
                named_twice.push(kid.into());
            }
            match Key::read(kid, object) {
                Ok(key) => {
                    set.keys.insert(kid.into(), key);
                }
                Err(why) => set.skip(kid, why),
            }
        }
        for kid in named_twice {
            set.keys.remove(&kid);
            set.skip(&kid, SkipReason::Duplicate);
        }
        if set.keys.is_empty() {
            return Err(KeySetError::NoneUsable(list.len()));
        }
        Ok(set)
    }

    /// The key of a name, spelled exactly so.
    pub fn key(&self, kid: &str) -> Option<&Key> {
        self.keys.get(kid)
    }

    /// How many keys are usable; never none.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is usable; a parsed set always has one.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Keys of the document that are not used.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Names of the usable keys.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(AsRef::as_ref)
    }

    fn skip(&mut self, kid: &str, why: SkipReason) {
        let kid = super::show::Shown(kid).to_string().into();
        self.skipped.push(Skipped { kid, why });
    }
}

impl Key {
    fn read(kid: &str, object: &Object<'_>) -> Result<Self, SkipReason> {
        let text = |name| match object.member(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_ref())),
            Some(_) => Err(SkipReason::Malformed),
        };
        if text("kty")? != Some("RSA") {
            return Err(SkipReason::Type);
        }
        let verify = |word: &Value<'_>| word.as_str() == Some("verify");
        let other = |list: &Value<'_>| !list.as_array().is_some_and(|list| list.iter().any(verify));
        if text("use")?.is_some_and(|word| word != "sig")
            || object.member("key_ops").is_some_and(other)
        {
            return Err(SkipReason::Use);
        }
        if text("alg")?.is_some_and(|word| word != "RS256") {
            return Err(SkipReason::Algorithm);
        }
        if !is_kid(kid) {
            return Err(SkipReason::Kid);
        }
        let decode = |name| {
            let encoded = text(name)?.ok_or(SkipReason::Malformed)?;
            URL_SAFE_NO_PAD
                .decode(encoded)
                .map_err(|_| SkipReason::Malformed)
        };
        let (modulus, exponent) = (decode("n")?, decode("e")?);
        fit_modulus(&modulus)?;
        fit_exponent(&exponent)?;
        Ok(Self {
            verifier: DecodingKey::from_rsa_raw_components(&modulus, &exponent),
            issuer: text("issuer")?.map(Into::into),
            cloud: text("cloud_instance_name")?.map(Into::into),
            thumbprint: text("x5t")?.map(Into::into),
        })
    }

    /// Whether `signature` is this key's RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 section 3.3) over `message`.
    ///
    /// The provider is named here, so that neither a process-wide default nor features of other crates decide.
    pub fn verifies(&self, message: &[u8], signature: &Vec<u8>) -> bool {
        (aws_lc::DEFAULT_PROVIDER.verifier_factory)(&Algorithm::RS256, &self.verifier)
            .is_ok_and(|verifier| verifier.verify(message, signature).is_ok())
    }

    /// The issuer that the key document binds the key to; may hold `{tenantid}`.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// `x5t` of the key's certificate, as the key document has it.
    pub fn thumbprint(&self) -> Option<&str> {
        self.thumbprint.as_deref()
    }

    /// The cloud that the key document binds the key to.
    pub fn cloud(&self) -> Option<&str> {
        self.cloud.as_deref()
    }
}

/// Whether a token may name a key so: 1 to 128 printable ASCII characters without space, quotes or backslash.
pub(crate) fn is_kid(kid: &str) -> bool {
    (1..=128).contains(&kid.len())
        && kid
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\'))
}

/// 2048 to 8192 bits, odd, no leading zero octet (RFC 7518 section 6.3.1.1).
fn fit_modulus(modulus: &[u8]) -> Result<(), SkipReason> {
    let (Some(first), Some(last)) = (modulus.first(), modulus.last()) else {
        return Err(SkipReason::Modulus);
    };
    let bits = modulus
        .len()
        .saturating_mul(8)
        .saturating_sub(first.leading_zeros() as usize);
    if *first == 0 || last & 1 == 0 || !(2048..=8192).contains(&bits) {
        return Err(SkipReason::Modulus);
    }
    Ok(())
}

/// Odd, 65537 or more, at most 32 bits, no leading zero octet.
fn fit_exponent(exponent: &[u8]) -> Result<(), SkipReason> {
    if exponent.len() > 4 || exponent.first() == Some(&0) {
        return Err(SkipReason::Exponent);
    }
    let value = exponent
        .iter()
        .fold(0_u32, |value, byte| (value << 8) | u32::from(*byte));
    if value & 1 == 0 || value < 65_537 {
        Err(SkipReason::Exponent)
    } else {
        Ok(())
    }
}

/// The keys of one source as they were fetched.
#[derive(Clone, Debug)]
pub struct HeldKeys {
    /// The keys.
    pub keys: KeySet,
    /// When they came from the issuer (not from the file of the last good set).
    pub fetched_at: Timestamp,
    /// From when on they are too old to say anything about a token.
    pub good_until: Timestamp,
    /// `cloud_instance_name` of the metadata.
    pub cloud: Option<Box<str>>,
    /// The issuer that the metadata names; none where the keys came without metadata.
    pub issuer: Option<Box<str>>,
}

/// A snapshot of the keys of every source, in the order of [`super::Expectations::sources`].
#[derive(Clone, Debug, Default)]
pub struct KeyRing(Vec<Option<Arc<HeldKeys>>>);

impl KeyRing {
    /// A ring without keys for so many sources.
    pub fn empty(sources: usize) -> Self {
        Self(vec![None; sources])
    }

    /// The keys of one source; none when they were never had.
    pub fn held(&self, source: usize) -> Option<&Arc<HeldKeys>> {
        self.0.get(source)?.as_ref()
    }

    /// The same ring with other keys for one source.
    #[must_use]
    pub fn with(&self, source: usize, held: HeldKeys) -> Self {
        let mut sets = self.0.clone();
        if let Some(place) = sets.get_mut(source) {
            *place = Some(Arc::new(held));
        }
        Self(sets)
    }

    /// Up to when the same keys are too old as at `now`.
    pub(super) fn same_until(&self, now: Timestamp) -> Timestamp {
        let each = self.0.iter().flatten().map(|held| held.good_until);
        each.filter(|until| *until > now).min().unwrap_or(now)
    }

    /// Whether every source has keys that are not too old.
    pub fn is_complete(&self, now: Timestamp) -> bool {
        self.0
            .iter()
            .all(|held| held.as_ref().is_some_and(|held| now < held.good_until))
    }
}

const MOST_KEYS: usize = 1000;
/// A key document of 1 MiB may have a thousand keys of a dozen members each.
const LIMITS: Limits = Limits {
    depth: 8,
    values: 40_000,
    names: 64,
};

#[cfg(test)]
mod tests {
    use super::*;

    /// A modulus of so many bytes: top bit set, odd.
    fn modulus(bytes: usize) -> Vec<u8> {
        let mut modulus = vec![0x5a; bytes];
        modulus[0] = 0x80;
        modulus[bytes - 1] = 0x01;
        modulus
    }

    fn jwk(kid: &str, n: &[u8], e: &[u8]) -> serde_json::Value {
        serde_json::json!({
            "kty": "RSA", "use": "sig", "kid": kid,
            "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e),
        })
    }

    fn good(kid: &str) -> serde_json::Value {
        jwk(kid, &modulus(256), &[1, 0, 1])
    }

    fn parse(keys: &[serde_json::Value]) -> Result<KeySet, KeySetError> {
        KeySet::parse(serde_json::json!({ "keys": keys }).to_string().as_bytes())
    }

    fn with(name: &str, value: impl Into<serde_json::Value>) -> serde_json::Value {
        let mut key = good("bad");
        key[name] = value.into();
        key
    }

    #[test]
    fn a_short_key_is_skipped_and_the_others_still_load() {
        let set = parse(&[jwk("short", &modulus(128), &[1, 0, 1]), good("good")]).unwrap();
        assert!(set.key("good").is_some());
        assert!(set.key("short").is_none());
        assert_eq!(
            set.skipped(),
            [Skipped {
                kid: "short".into(),
                why: SkipReason::Modulus
            }]
        );
    }

    #[test]
    fn unusable_keys_are_skipped_each_for_its_reason() {
        let mut leading_zero = vec![0];
        leading_zero.extend(modulus(256));
        let mut even = modulus(256);
        even[255] = 0x02;
        let mut bits_2047 = modulus(256);
        bits_2047[0] = 0x40;
        let cases = [
            (jwk("bad", &modulus(256), &[1]), SkipReason::Exponent),
            (jwk("bad", &modulus(256), &[3]), SkipReason::Exponent),
            (jwk("bad", &modulus(256), &[1, 0, 2]), SkipReason::Exponent),
            (
                jwk("bad", &modulus(256), &[0, 1, 0, 1]),
                SkipReason::Exponent,
            ),
            (
                jwk("bad", &modulus(256), &[1, 0, 0, 0, 1]),
                SkipReason::Exponent,
            ),
            (jwk("bad", &modulus(256), &[]), SkipReason::Exponent),
            (jwk("bad", &leading_zero, &[1, 0, 1]), SkipReason::Modulus),
            (jwk("bad", &even, &[1, 0, 1]), SkipReason::Modulus),
            (jwk("bad", &bits_2047, &[1, 0, 1]), SkipReason::Modulus),
            (jwk("bad", &modulus(1025), &[1, 0, 1]), SkipReason::Modulus),
            (jwk("bad", &[], &[1, 0, 1]), SkipReason::Modulus),
            (with("kty", "EC"), SkipReason::Type),
            (with("kty", "oct"), SkipReason::Type),
            (with("use", "enc"), SkipReason::Use),
            (with("key_ops", vec!["encrypt", "Verify"]), SkipReason::Use),
            (with("key_ops", "verify"), SkipReason::Use),
            (with("key_ops", serde_json::Value::Null), SkipReason::Use),
            (with("alg", "HS256"), SkipReason::Algorithm),
            (with("alg", "PS256"), SkipReason::Algorithm),
            (with("kid", ""), SkipReason::Kid),
            (with("kid", "a b"), SkipReason::Kid),
            (with("kid", 1), SkipReason::Kid),
            (with("n", "!!!"), SkipReason::Malformed),
            (with("n", 5), SkipReason::Malformed),
            (with("e", serde_json::Value::Null), SkipReason::Malformed),
            (serde_json::json!("text"), SkipReason::Malformed),
        ];
        for (key, why) in cases {
            let set = parse(&[key.clone(), good("good")]).unwrap();
            assert_eq!(set.len(), 1, "{key}");
            assert_eq!(
                set.skipped().first().map(|skipped| skipped.why),
                Some(why),
                "{key}"
            );
        }
    }

    #[test]
    fn a_key_that_may_verify_is_used() {
        for ops in [vec!["verify"], vec!["sign", "verify"]] {
            assert!(parse(&[with("key_ops", ops)]).is_ok());
        }
    }

    #[test]
    fn two_keys_of_one_name_are_both_dropped() {
        let mut other = modulus(256);
        other[1] = 0x77;
        let set = parse(&[good("same"), jwk("same", &other, &[1, 0, 1]), good("good")]).unwrap();
        assert!(set.key("same").is_none());
        assert!(set.key("good").is_some());
        assert!(
            set.skipped()
                .iter()
                .any(|skipped| skipped.why == SkipReason::Duplicate)
        );
        // Also when one of the two is unusable: the name is ambiguous all the same.
        let set = parse(&[good("same"), jwk("same", &[], &[1]), good("good")]).unwrap();
        assert!(set.key("same").is_none());
    }

    #[test]
    fn key_names_are_case_sensitive() {
        let set = parse(&[good("abC")]).unwrap();
        assert!(set.key("abC").is_some());
        assert!(set.key("abc").is_none());
    }

    #[test]
    fn a_document_without_a_usable_key_is_refused_as_a_whole() {
        assert!(matches!(parse(&[]), Err(KeySetError::NoneUsable(0))));
        assert!(matches!(
            parse(&[with("kty", "EC")]),
            Err(KeySetError::NoneUsable(1))
        ));
        let parse = KeySet::parse;
        assert!(matches!(parse(b"{}"), Err(KeySetError::NoKeys)));
        assert!(matches!(parse(b"[]"), Err(KeySetError::NoKeys)));
        assert!(matches!(parse(b"<html>"), Err(KeySetError::Json(_))));
        let twice = br#"{"keys":[],"keys":[]}"#;
        assert!(matches!(parse(twice), Err(KeySetError::Json(_))));
        let many = vec![good("x"); MOST_KEYS + 1];
        let many = serde_json::json!({ "keys": many }).to_string();
        assert!(matches!(parse(many.as_bytes()), Err(KeySetError::TooMany)));
    }

    #[test]
    fn debug_of_a_key_shows_no_key_material() {
        let shown = format!("{:?}", parse(&[good("k")]).unwrap());
        assert!(shown.contains("[redacted]"), "{shown}");
    }
}
