//! `TokenError`: why a token was not accepted, as a closed set of codes and a sentence that says what to do.
//!
//! Must never: hold any part of a signature, or text of the token that is not clipped and escaped.

use std::fmt;
use std::time::Duration;

use super::show;

/// A step of the gate, in the order in which the gate takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Length, number of segments, alphabet.
    Shape,
    /// The JOSE header.
    Header,
    /// Which issuer, and which of its keys.
    Key,
    /// RS256.
    Signature,
    /// The payload's JSON and the types of its claims.
    Claims,
    /// `exp`, `nbf`, `iat`.
    Time,
    /// `ver`, `iss`, `tid`, the key's own issuer and cloud.
    Issuer,
    /// `aud`.
    Audience,
    /// Access token or not, person or application, bound to a certificate or not.
    Kind,
    /// `scp` and `roles`.
    Rights,
}

impl Stage {
    /// Every step in order.
    pub const ALL: [Self; 10] = [
        Self::Shape,
        Self::Header,
        Self::Key,
        Self::Signature,
        Self::Claims,
        Self::Time,
        Self::Issuer,
        Self::Audience,
        Self::Kind,
        Self::Rights,
    ];

    /// The step's name for `explain`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Shape => "shape",
            Self::Header => "header",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Claims => "claims",
            Self::Time => "time",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Kind => "kind",
            Self::Rights => "rights",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $label:literal at $stage:ident;)*) => {
        /// The closed set of refusal codes: metric labels and audit codes, part of the public interface.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Every code as metrics and audit spell it, in the order of [`Self::ALL`].
            pub const LABELS: &'static [&'static str] = &[$($label),*];

            /// The code as metrics and audit spell it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// The step of the gate that refuses with this code.
            pub const fn stage(self) -> Stage {
                match self { $(Self::$name => Stage::$stage,)* }
            }
        }
    };
}

codes! {
    /// Longer than the limit.
    Size = "size" at Shape;
    /// Not a JWS in compact form: prefix, quotes, line break, number of segments, alphabet.
    Prep = "prep" at Shape;
    /// The header is not a strict JSON object.
    HeaderJson = "hdr.json" at Header;
    /// A header name occurs twice, or twice but for case.
    HeaderDuplicate = "hdr.duplicate" at Header;
    /// `nonce`: a token that only Microsoft's own API can validate.
    HeaderNonce = "hdr.nonce" at Header;
    /// `alg` is not RS256.
    HeaderAlgorithm = "hdr.alg" at Header;
    /// `crit` or `b64`.
    HeaderCritical = "hdr.crit" at Header;
    /// The token brings its own key or a place to fetch it (`jwk`, `jku`, `x5u`, `x5c`).
    HeaderKey = "hdr.key" at Header;
    /// Any other header name, or `x5t` of a wrong type.
    HeaderOther = "hdr.other" at Header;
    /// `typ` is not `JWT` or `at+jwt`.
    HeaderType = "hdr.typ" at Header;
    /// `kid` missing, empty, too long or not printable.
    HeaderKid = "hdr.kid" at Header;
    /// The payload is not a strict JSON object.
    ClaimsJson = "claims.json" at Key;
    /// A claim occurs twice, or twice but for case, or in the wrong case.
    ClaimsDuplicate = "claims.duplicate" at Key;
    /// `iss` is missing or not a string.
    ClaimsIssuer = "claims.iss" at Key;
    /// A v1.0 token of an allowed tenant where only v2.0 is accepted.
    IssuerV1ForV2 = "iss.v1-for-v2" at Key;
    /// A tenant that is not allowed.
    IssuerTenant = "iss.tenant" at Key;
    /// Another Microsoft cloud.
    IssuerCloud = "iss.cloud" at Key;
    /// The form of B2C that names the policy in the issuer.
    IssuerTfp = "iss.tfp" at Key;
    /// A policy of B2C that is not listed.
    IssuerPolicy = "iss.policy" at Key;
    /// Nobody we know.
    IssuerOther = "iss.other" at Key;
    /// No key of that name after a refresh.
    KeyUnknown = "key.unknown" at Key;
    /// No key of that name, and the next refresh is not due yet.
    KeyThrottled = "key.throttled" at Key;
    /// The issuer's keys cannot be had, or are too old: nothing can be said about the token.
    KeyUnavailable = "key.unavailable" at Key;
    /// The header names another certificate (`x5t`) than that of the key it names.
    KeyThumbprint = "key.x5t" at Key;
    /// The signature does not verify.
    SignatureBad = "sig.bad" at Signature;
    /// `exp` missing or not an integer.
    ClaimsExpiry = "claims.exp" at Claims;
    /// `nbf` missing or not an integer.
    ClaimsNotBefore = "claims.nbf" at Claims;
    /// `iat` missing or not an integer.
    ClaimsIssuedAt = "claims.iat" at Claims;
    /// `ver` missing, not a string, or not the version of the issuer.
    ClaimsVersion = "claims.ver" at Claims;
    /// `tid` missing or not a GUID.
    ClaimsTenant = "claims.tid" at Claims;
    /// `oid` missing or not a GUID.
    ClaimsObject = "claims.oid" at Claims;
    /// `sub` missing, of a wrong type or too long.
    ClaimsSubject = "claims.sub" at Claims;
    /// `aud` missing or of a wrong type.
    ClaimsAudience = "claims.aud" at Claims;
    /// `idtyp` of a wrong type.
    ClaimsIdType = "claims.idtyp" at Claims;
    /// `scp` of a wrong type.
    ClaimsScope = "claims.scp" at Claims;
    /// `roles` of a wrong type, or too many.
    ClaimsRoles = "claims.roles" at Claims;
    /// `groups` of a wrong type, or too many.
    ClaimsGroups = "claims.groups" at Claims;
    /// Another claim of a wrong type.
    ClaimsOther = "claims.other" at Claims;
    /// `exp` has passed.
    TimeExpired = "time.expired" at Time;
    /// `nbf` or `iat` lies ahead.
    TimeEarly = "time.early" at Time;
    /// `exp` is not after `nbf` and `iat`.
    TimeOrder = "time.order" at Time;
    /// A lifetime that no issuer gives.
    TimeLifetime = "time.lifetime" at Time;
    /// `tid` is not the tenant of `iss`.
    IssuerTid = "iss.tid" at Issuer;
    /// The key belongs to another issuer.
    KeyIssuer = "key.issuer" at Issuer;
    /// The key belongs to another cloud.
    KeyCloud = "key.cloud" at Issuer;
    /// A token for one of Microsoft's own APIs.
    AudienceGraph = "aud.graph" at Audience;
    /// An App ID URI that is not listed.
    AudiencePrefix = "aud.prefix" at Audience;
    /// Another application.
    AudienceOther = "aud.other" at Audience;
    /// An ID token.
    KindIdToken = "kind.id_token" at Kind;
    /// Contradictory, or a kind that is not modelled.
    KindOther = "kind.other" at Kind;
    /// A person where only applications are accepted, or the reverse.
    KindRefused = "kind.refused" at Kind;
    /// Bound to a key in a way that cannot be checked here.
    ConfirmationOther = "cnf.other" at Kind;
    /// Bound to a client certificate, and the client showed none.
    ConfirmationMissing = "cnf.missing" at Kind;
    /// Bound to another client certificate.
    ConfirmationMismatch = "cnf.mismatch" at Kind;
    /// Neither scope nor role.
    RightsEmpty = "authz.empty" at Rights;
    /// The scope that the listener requires is not there.
    RightsScope = "authz.scope" at Rights;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The key that would be needed to go on: the shell refreshes that key source, and tries once more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyNeed {
    /// Index of the key source in [`super::Expectations::sources`].
    pub source: usize,
    /// The key's name; printable and bounded.
    pub kid: Box<str>,
}

/// Why a token was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {sentence}")]
pub struct TokenError {
    code: Code,
    sentence: Box<str>,
    need: Option<KeyNeed>,
}

impl Code {
    /// Whether it says "not now" rather than "no".
    pub const fn is_unavailable(self) -> bool {
        matches!(self, Self::KeyUnavailable | Self::KeyThrottled)
    }
}

impl TokenError {
    /// A refusal. Every stranger's text in `sentence` has passed through `show`.
    pub(crate) fn new(code: Code, sentence: impl Into<String>) -> Self {
        Self {
            code,
            sentence: sentence.into().into_boxed_str(),
            need: None,
        }
    }

    /// The key is not among those at hand.
    pub(crate) fn needing(mut self, need: KeyNeed) -> Self {
        self.need = Some(need);
        self
    }

    /// The code as metrics and audit spell it, one of [`Code::ALL`].
    pub const fn code(&self) -> &'static str {
        self.code.as_str()
    }

    /// The code as a value.
    pub const fn kind(&self) -> Code {
        self.code
    }

    /// What is wrong and what to do about it, for the log and the audit, never for the client.
    pub fn sentence(&self) -> String {
        self.sentence.to_string()
    }

    /// The key whose absence was the only reason so far, or that of a source without usable keys; none when fetching
    /// could not help.
    pub const fn needs_key(&self) -> Option<&KeyNeed> {
        self.need.as_ref()
    }

    /// Whether this says "not now" rather than "no": the connection is then closed without an error text, since
    /// official clients stop reconnecting after an authorization error.
    pub const fn is_unavailable(&self) -> bool {
        self.code.is_unavailable()
    }

    /// The same refusal when the key source may not be asked again before `wait` has passed.
    #[must_use]
    pub fn throttled(self, wait: Duration) -> Self {
        let kid = self.need.as_ref().map_or("", |need| &need.kid);
        let sentence = format!(
            "kid {} unknown; next key refresh allowed in {}",
            show::Shown(kid),
            show::wait(wait)
        );
        Self {
            code: Code::KeyThrottled,
            sentence: sentence.into(),
            need: self.need,
        }
    }

    /// The same refusal when the key source was asked and did not answer.
    #[must_use]
    pub fn unanswered(self, why: &str) -> Self {
        let kid = self.need.as_ref().map_or("", |need| &need.kid);
        let sentence = format!(
            "kid {} is not among the keys at hand, and the issuer's keys cannot be fetched now: {}",
            show::Shown(kid),
            show::Shown(why)
        );
        Self {
            code: Code::KeyUnavailable,
            sentence: sentence.into(),
            need: self.need,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_are_fit_for_metric_labels() {
        let labels: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(labels.len(), Code::ALL.len());
        let fit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
        assert!(labels.iter().all(|label| label.bytes().all(fit)));
    }

    #[test]
    fn only_what_a_retry_may_cure_is_unavailable() {
        let unknown = TokenError::new(Code::KeyUnknown, "x").needing(KeyNeed {
            source: 0,
            kid: "k\"1".into(),
        });
        assert!(!unknown.is_unavailable());
        let throttled = unknown.clone().throttled(Duration::from_secs(250));
        assert!(throttled.is_unavailable());
        assert_eq!(
            throttled.sentence(),
            "kid k\\\"1 unknown; next key refresh allowed in 5 min"
        );
        assert!(unknown.unanswered("connection refused").is_unavailable());
    }
}
