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
    /// `use` is not `sig`.
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
        if text("use")?.is_some_and(|word| word != "sig") {
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
