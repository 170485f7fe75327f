//! The bodies of those few requests to JetStream that name a subject for the server to publish to: `deliver_subject`.
//!
//! The server publishes there with rights of its own, so a push consumer or a snapshot is as good as a publish anywhere
//! (nats-server `consumer.go:addConsumerWithAssignment`, `jetstream_api.go:jsStreamSnapshotRequest`). Where replies are
//! judged, such a subject is judged like one. Design record 0005.
//!
//! Must never: let a body pass that the server could read and we could not.

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::wire::fold_key;

/// What all subjects of the API begin with, also those of a domain.
const API: &[u8] = b"$JS.";

/// Tokens of the requests whose body can name a subject to deliver to, at whatever depth.
const OPERATIONS: [&[u8]; 4] = [b"CREATE", b"UPDATE", b"SNAPSHOT", b"RESTORE"];

/// Its key, folded.
const DELIVER_SUBJECT: &str = "deliver_subject";

/// Whether the body of a message with this subject can name one.
pub(super) fn can_name_a_target(subject: &[u8]) -> bool {
    subject.starts_with(API)
        && subject
            .split(|byte| *byte == b'.')
            .any(|token| OPERATIONS.contains(&token))
}

/// A body of which nobody can say how the server would read it.
#[derive(Debug)]
pub(super) struct Unreadable;

/// Every subject that the body names to deliver to. Keys are compared as `encoding/json` does, at every depth, and none
/// is left out because another one overrides it.
pub(super) fn targets(body: &[u8]) -> Result<Vec<String>, Unreadable> {
    if body.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(body);
    Walk(&mut found)
        .deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|_| Unreadable)?;
    found.retain(|target| !target.is_empty());
    Ok(found)
}

/// Walks over a document and collects.
struct Walk<'a>(&'a mut Vec<String>);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Walk(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(key) = fields.next_key::<String>()? {
            if fold_key(&key) == DELIVER_SUBJECT {
                self.0.extend(fields.next_value::<Target>()?.0);
            } else {
                fields.next_value_seed(Walk(self.0))?;
            }
        }
        Ok(())
    }
}

/// A string or null: whatever else stands there is no subject, and the server refuses it.
struct Target(Option<String>);

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<String>::deserialize(deserializer)
            .map(Self)
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> Vec<String> {
        targets(body.as_bytes()).expect("JSON")
    }

    #[test]
    fn every_spelling_at_every_depth_is_found() {
        assert_eq!(
            found(
                r#"{"stream_name":"S","config":{"deliver_subject":"a.b","n":1.5,"x":[null,true,-1]}}"#
            ),
            ["a.b"]
        );
        assert_eq!(
            found(
                r#"{"config":{"Deliver_Subject":"a","DELIVER_\u0053UBJECT":"b","deliver_ſubject":"c"},"config":{"deliver_subject":""}}"#
            ),
            ["a", "b", "c"]
        );
        assert_eq!(
            found(r#"[{"sources":[{"consumer":{"deliver_subject":"d"}}]}]"#),
            ["d"]
        );
        assert!(
            found(r#"{"config":{"deliver_subject":null,"name":"deliver_subject"}}"#).is_empty()
        );
        assert!(found("").is_empty() && found(" \r\n").is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_not_let_through() {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        for body in [
            "{",
            "{}{}",
            r#"{"deliver_subject":1}"#,
            r#"{"a":"\ud800"}"#,
            "nonsense",
            &deep,
        ] {
            assert!(targets(body.as_bytes()).is_err(), "{body}");
        }
        assert!(targets(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn only_requests_that_make_something_are_looked_into() {
        for subject in [
            "$JS.API.CONSUMER.CREATE.S",
            "$JS.API.CONSUMER.CREATE.S.C.f.>",
            "$JS.API.CONSUMER.DURABLE.CREATE.S.C",
            "$JS.hub.API.CONSUMER.CREATE.S.C",
            "$JS.API.STREAM.SNAPSHOT.S",
            "$JS.API.STREAM.UPDATE.S",
        ] {
            assert!(can_name_a_target(subject.as_bytes()), "{subject}");
        }
        for subject in [
            "$JS.API.CONSUMER.MSG.NEXT.S.C",
            "$JS.ACK.S.C.1.1.1.1.1",
            "a.CREATE.b",
            "$JS.API.CONSUMER.INFO.CREATED.C",
        ] {
            assert!(!can_name_a_target(subject.as_bytes()), "{subject}");
        }
    }
}
