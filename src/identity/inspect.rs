//! A look into a token that has not been verified, for `explain` and the log; nothing here decides anything.
//!
//! Must never: show any part of a signature, or a value that is not clipped and escaped.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::{Stage, TokenError};
use super::show::{self, Shown};
use super::strict_json::{self, Limits, Object, Value};
use crate::time::Timestamp;

/// What an unverified token seems to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Its length in bytes.
    pub length: usize,
    /// Header and payload members that matter, in a fixed order, each clipped and escaped.
    pub facts: Vec<(&'static str, String)>,
    /// What could not be read.
    pub trouble: Vec<String>,
}

impl Inspection {
    /// One fact by its name (`kid`, `uti`, `oid`).
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Reads what can be read of a token, without judging it.
pub fn inspect(token: &[u8]) -> Inspection {
    let mut seen = Inspection {
        length: token.len(),
        ..Inspection::default()
    };
    if token.len() > LONGEST {
        seen.trouble.push(format!("longer than {LONGEST} bytes"));
        return seen;
    }
    let mut parts = token.split(|b| *b == b'.');
    read_part(&mut seen, parts.next(), "header", &HEADER);
    read_part(&mut seen, parts.next(), "payload", &PAYLOAD);
    seen
}

fn read_part(seen: &mut Inspection, part: Option<&[u8]>, what: &str, names: &[&'static str]) {
    let Some(part) = part else {
        seen.trouble.push(format!("no {what}"));
        return;
    };
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(part) else {
        seen.trouble.push(format!("{what} is not base64url"));
        return;
    };
    match strict_json::parse(&bytes, LIMITS) {
        Ok(Value::Object(object)) => read_facts(seen, &object, names),
        Ok(other) => seen
            .trouble
            .push(format!("{what} is {}", other.type_name())),
        Err(error) => seen.trouble.push(format!("{what}: {error}")),
    }
}

fn read_facts(seen: &mut Inspection, object: &Object<'_>, names: &[&'static str]) {
    for name in names {
        let Some(value) = object.member(name) else {
            continue;
        };
        let shown = match value {
            Value::Number(text) => match value.as_u64() {
                Some(secs) if TIMES.contains(name) => {
                    format!(
                        "{} ({})",
                        Shown(text),
                        Timestamp::from_secs(secs.min(LATEST))
                    )
                }
                _ => Shown(text).to_string(),
            },
            Value::String(text) => Shown(text).to_string(),
            Value::Array(items) => {
                let texts: Vec<&str> = items
                    .iter()
                    .map(|item| item.as_str().unwrap_or("(not a string)"))
                    .collect();
                format!("[{}]", show::list(texts.into_iter()))
            }
            Value::Bool(flag) => flag.to_string(),
            Value::Null => "null".to_owned(),
            Value::Object(members) => {
                let names: Vec<&str> = members.iter().map(|(name, _)| name).collect();
                format!("{{{}}}", show::list(names.into_iter()))
            }
        };
        seen.facts.push((name, shown));
    }
}

/// One step of the gate and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The step.
    pub stage: Stage,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Passed.
    Passed,
    /// Refused here, with code and sentence.
    Refused(&'static str, String),
    /// Not reached.
    NotReached,
}

/// The steps of the gate as one validation went through them.
pub fn steps<T>(result: &Result<T, TokenError>) -> Vec<Check> {
    let refused = result.as_ref().err();
    let check = |stage: Stage| {
        let outcome = match refused {
            Some(error) if error.kind().stage() == stage => {
                Outcome::Refused(error.code(), error.sentence())
            }
            Some(error) if error.kind().stage() < stage => Outcome::NotReached,
            _ => Outcome::Passed,
        };
        Check { stage, outcome }
    };
    Stage::ALL.into_iter().map(check).collect()
}

const LONGEST: usize = 64 * 1024;
/// The last second of the year 9999; later ones are shown as that.
const LATEST: u64 = 253_402_300_799;
const LIMITS: Limits = Limits {
    depth: 16,
    values: 16_384,
    names: 256,
};
const TIMES: [&str; 4] = ["exp", "nbf", "iat", "auth_time"];
const HEADER: [&str; 4] = ["typ", "alg", "kid", "nonce"];
const PAYLOAD: [&str; 28] = [
    "iss",
    "aud",
    "ver",
    "tid",
    "oid",
    "sub",
    "azp",
    "appid",
    "azpacr",
    "appidacr",
    "idtyp",
    "scp",
    "scope",
    "roles",
    "groups",
    "hasgroups",
    "_claim_names",
    "acrs",
    "acct",
    "auth_time",
    "iat",
    "nbf",
    "exp",
    "uti",
    "jti",
    "xms_mirid",
    "cnf",
    "name",
];

#[cfg(test)]
mod tests {
    use super::super::error::Code;
    use super::*;

    fn token(header: &str, payload: &str, signature: &str) -> Vec<u8> {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!(
            "{}.{}.{}",
            encode(header),
            encode(payload),
            encode(signature)
        )
        .into_bytes()
    }

    #[test]
    fn shows_claims_but_never_the_signature() {
        let bytes = token(
            r#"{"alg":"RS256","kid":"a\u001b[31mb"}"#,
            r#"{"iss":"x","exp":0,"roles":["a","b"],"cnf":{"jwk":1}}"#,
            "do-not-show-me",
        );
        let seen = inspect(&bytes);
        assert_eq!(seen.fact("kid"), Some("a\\u{1b}[31mb"));
        assert_eq!(seen.fact("exp"), Some("0 (1970-01-01T00:00:00.000Z)"));
        assert_eq!(seen.fact("roles"), Some("[a, b]"));
        let all = format!("{seen:?}");
        assert!(!all.contains(&URL_SAFE_NO_PAD.encode("do-not-show-me")));
        assert!(seen.trouble.is_empty());
    }

    #[test]
    fn garbage_is_trouble_and_no_panic() {
        for bytes in [
            &b""[..],
            b".",
            b"..",
            b"a.b.c",
            b"\xff\xfe",
            b"bnVsbA.W10.x",
        ] {
            assert!(!inspect(bytes).trouble.is_empty(), "{bytes:?}");
        }
        assert!(!inspect(&vec![b'a'; 100_000]).trouble.is_empty());
    }

    #[test]
    fn steps_show_where_a_token_stopped() {
        let stopped: Result<(), _> = Err(TokenError::new(Code::TimeExpired, "late"));
        let outcomes: Vec<_> = steps(&stopped)
            .into_iter()
            .map(|check| check.outcome)
            .collect();
        assert_eq!(
            outcomes.iter().filter(|o| **o == Outcome::Passed).count(),
            5
        );
        assert_eq!(
            outcomes.get(5),
            Some(&Outcome::Refused("time.expired", "late".into()))
        );
        assert_eq!(
            outcomes
                .iter()
                .filter(|o| **o == Outcome::NotReached)
                .count(),
            4
        );
    }
}
