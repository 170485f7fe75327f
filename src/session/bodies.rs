//! The bodies of those few requests to JetStream that name more than their subject says, which the server goes by with
//! rights of its own: where to deliver to, and the configuration of a stream.
//!
//! A push consumer or a snapshot with a `deliver_subject` is as good as a publish anywhere (nats-server
//! `consumer.go:addConsumerWithAssignment`, `jetstream_api.go:jsStreamSnapshotRequest`). A stream holds whatever is published to
//! its `subjects`, copies what other streams hold (`mirror`, `sources`), and publishes it again (`republish`), under other
//! subjects too (`subject_transform`; `stream.go`). Design records 0005 and 0019.
//!
//! Must never: let a body pass that the server could read and we could not.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::wire::fold_key;

/// Longest body that is looked into, in bytes; a longer one is refused. Those of clients have a few hundred.
pub(super) const BODY_MAX: u32 = 64 * 1024;

/// What all subjects of the API begin with, also those of a domain.
const API: &[u8] = b"$JS.";

/// What a request can name in its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks<'a> {
    /// Where to deliver to.
    Delivery,
    /// That, and the configuration of a stream. With what the subjects of this API begin with.
    Stream(&'a [u8]),
    /// To restore a stream. What follows the request holds consumers and messages that nobody can judge.
    Restore,
}

/// What the body of a message with this subject can name, if anything.
pub(super) fn asks(subject: &[u8]) -> Option<Asks<'_>> {
    let rest = subject.strip_prefix(API)?;
    let rest = match rest.strip_prefix(b"API.") {
        // A domain may be called API as well.
        Some(rest) => rest.strip_prefix(b"API.").unwrap_or(rest),
        None => {
            let domain = memchr::memchr(b'.', rest)?;
            rest.get(domain..)?.strip_prefix(b".API.")?
        }
    };
    let prefix = subject.get(..subject.len().saturating_sub(rest.len()))?;
    let mut tokens = rest.split(|byte| *byte == b'.');
    let first = tokens.next();
    if matches!(first, Some(b"$KV" | b"$O")) {
        // A value or a chunk on its way to a bucket of the domain; keys are called as they like.
        return None;
    }
    let of_stream = first == Some(b"STREAM");
    if rest.starts_with(b"STREAM.RESTORE.") {
        return Some(Asks::Restore);
    }
    let named: &[&[u8]] = if of_stream {
        &[b"CREATE", b"UPDATE"]
    } else {
        &[b"CREATE"]
    };
    if tokens.clone().any(|token| named.contains(&token)) {
        return Some(if of_stream {
            Asks::Stream(prefix)
        } else {
            Asks::Delivery
        });
    }
    let snapshot: &[u8] = b"SNAPSHOT";
    tokens
        .any(|token| token == snapshot)
        .then_some(Asks::Delivery)
}

/// Whether a message that the server publishes with a destination of this form can be such a request: nobody would judge its
/// body then. It begins with a wildcard, or with what the API begins with and has one later.
pub(super) fn can_ask(destination: &str) -> bool {
    let wild = |token: &str| matches!(token, "*" | ">");
    let mut tokens = destination.split('.');
    match tokens.next() {
        Some("$JS") => tokens.any(wild) || asks(destination.as_bytes()).is_some(),
        first => first.is_some_and(wild),
    }
}

/// A body of which nobody can say how the server would read it.
#[derive(Debug)]
pub(super) struct Unreadable;

/// Everything that the body names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// Subjects to deliver to, at any depth.
    pub(super) deliveries: Vec<String>,
    /// Subjects whose messages a stream is to hold.
    pub(super) captured: Vec<String>,
    /// Subjects to publish to, with `*` and `>` for what the server fills in.
    pub(super) destinations: Vec<String>,
    /// Those of them at which the server would take what it publishes for a request.
    pub(super) requests: Vec<String>,
}

/// What a body names. Keys are compared as `encoding/json` does; one that comes twice in an object is not taken.
pub(super) fn named(asks: Asks<'_>, body: &[u8]) -> Result<Named, Unreadable> {
    let mut named = Named::default();
    if body.trim_ascii().is_empty() {
        return Ok(named);
    }
    let document: Node = serde_json::from_slice(body).map_err(|_| Unreadable)?;
    deliveries(&document, &mut named.deliveries)?;
    if let Asks::Stream(api) = asks {
        let api = str::from_utf8(api).map_err(|_| Unreadable)?;
        configuration(&document, api, &mut named)?;
        // A template's (to 2.11).
        if let Some(inner @ Node::Map(_)) = document.get("config") {
            configuration(inner, api, &mut named)?;
        }
    }
    Ok(named)
}

/// Collects every `deliver_subject`.
fn deliveries(node: &Node, found: &mut Vec<String>) -> Result<(), Unreadable> {
    match node {
        Node::Text(_) | Node::Other => {}
        Node::List(items) => items.iter().try_for_each(|item| deliveries(item, found))?,
        Node::Map(fields) => {
            for (key, value) in fields {
                if key == "deliver_subject" {
                    found.extend(value.texts()?.filter(|text| !text.is_empty()));
                } else {
                    deliveries(value, found)?;
                }
            }
        }
    }
    Ok(())
}

/// What one configuration of a stream names.
fn configuration(config: &Node, api: &str, named: &mut Named) -> Result<(), Unreadable> {
    let mut copies = false;
    for key in ["mirror", "sources"] {
        for source in config.get(key).map(Node::items).unwrap_or_default() {
            copies = true;
            copied(source, api, named)?;
        }
    }
    let mut subjects: Vec<String> = match config.get("subjects") {
        Some(subjects) => subjects.texts()?.collect(),
        None => Vec::new(),
    };
    let name = text(config, "name")?.unwrap_or_default();
    if subjects.is_empty() && !copies && !name.is_empty() {
        // The server takes the name for the subject then.
        subjects.push(name.clone());
    }
    named.captured.extend(
        subjects
            .into_iter()
            .filter(|subject| !is_of_bucket(&name, subject)),
    );
    for transform in config
        .get("subject_transform")
        .map(Node::items)
        .unwrap_or_default()
    {
        destination(transform, named)?;
    }
    for republish in config.get("republish").map(Node::items).unwrap_or_default() {
        let before = named.destinations.len();
        destination(republish, named)?;
        if named.destinations.len() == before {
            // To the subject that it has.
            named.destinations.push(">".to_owned());
        }
    }
    Ok(())
}

/// A stream that is to be copied: whoever may have each of its messages by number may.
fn copied(source: &Node, api: &str, named: &mut Named) -> Result<(), Unreadable> {
    let name = text(source, "name")?.unwrap_or_default();
    let mut from = api.to_owned();
    for external in source.get("external").map(Node::items).unwrap_or_default() {
        if let Some(prefix) = text(external, "api")?.filter(|prefix| !prefix.is_empty()) {
            from = format!("{prefix}.");
        }
        if let Some(prefix) = text(external, "deliver")?.filter(|prefix| !prefix.is_empty()) {
            named.publishes(format!("{prefix}.>"));
        }
    }
    named
        .destinations
        .push(format!("{from}STREAM.MSG.GET.{name}"));
    for transform in source
        .get("subject_transforms")
        .map(Node::items)
        .unwrap_or_default()
    {
        destination(transform, named)?;
    }
    Ok(())
}

/// `dest` of a transform or of `republish`.
fn destination(transform: &Node, named: &mut Named) -> Result<(), Unreadable> {
    let dest = text(transform, "dest")?.filter(|dest| !dest.is_empty());
    if let Some(dest) = dest {
        named.publishes(filled(&dest));
    }
    Ok(())
}

impl Named {
    fn publishes(&mut self, destination: String) {
        if can_ask(&destination) {
            self.requests.push(destination.clone());
        }
        self.destinations.push(destination);
    }
}

fn text(node: &Node, key: &str) -> Result<Option<String>, Unreadable> {
    match node.get(key) {
        Some(value) => Ok(value.texts()?.next()),
        None => Ok(None),
    }
}

/// The subjects that a bucket or an object store has by itself.
fn is_of_bucket(stream: &str, subject: &str) -> bool {
    if let Some(bucket) = stream.strip_prefix("KV_") {
        return subject == format!("$KV.{bucket}.>");
    }
    let store = stream.strip_prefix("OBJ_");
    store.is_some_and(|store| {
        subject == format!("$O.{store}.C.>") || subject == format!("$O.{store}.M.>")
    })
}

/// The subjects that a destination can become: `$1`, which may have a sign, and `{{wildcard(1)}}` are one token, other
/// functions may be several (nats-server `subject_transform.go`).
fn filled(dest: &str) -> String {
    let mut tokens: Vec<&str> = Vec::new();
    for token in dest.split('.') {
        let number = token.strip_prefix('$').unwrap_or_default();
        let number = number.strip_prefix(['+', '-']).unwrap_or(number);
        let one = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let function = token
            .strip_prefix("{{")
            .and_then(|rest| rest.strip_suffix("}}"));
        let wildcard = function.is_some_and(|call| {
            let call = call.trim().to_ascii_lowercase();
            call.starts_with("wildcard(") && call.ends_with(')')
        });
        if one || wildcard {
            tokens.push("*");
        } else if token.contains("{{") || token.contains("}}") {
            tokens.push(">");
            break;
        } else {
            tokens.push(token);
        }
    }
    tokens.join(".")
}

/// A document, as far as it matters.
#[derive(Debug)]
enum Node {
    Text(String),
    List(Vec<Node>),
    /// With folded keys, none twice.
    Map(Vec<(String, Node)>),
    /// Null, a number, true or false.
    Other,
}

impl Node {
    fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(fields) = self else { return None };
        let found = fields.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value)
    }

    /// The objects that it holds, itself among them.
    fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            Self::Map(_) => std::slice::from_ref(self),
            Self::Text(_) | Self::Other => &[],
        }
    }

    /// The texts that it holds; a number or an object is none that the server would take.
    fn texts(&self) -> Result<impl Iterator<Item = String>, Unreadable> {
        let texts: Vec<String> = match self {
            Self::Text(text) => vec![text.clone()],
            Self::Other => Vec::new(),
            Self::List(items) => items
                .iter()
                .map(|item| match item {
                    Self::Text(text) => Ok(text.clone()),
                    _ => Err(Unreadable),
                })
                .collect::<Result<_, _>>()?,
            Self::Map(_) => return Err(Unreadable),
        };
        Ok(texts.into_iter())
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut map: Vec<(String, Node)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some((key, value)) = fields.next_entry::<String, Node>()? {
            let key = fold_key(&key);
            if !seen.insert(key.clone()) {
                return Err(de::Error::custom("a key comes twice"));
            }
            map.push((key, value));
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(body: &str) -> Vec<String> {
        named(Asks::Delivery, body.as_bytes())
            .expect("JSON")
            .deliveries
    }

    fn of_stream(body: &str) -> Named {
        named(Asks::Stream(b"$JS.API."), body.as_bytes()).expect("JSON")
    }

    #[test]
    fn every_spelling_at_every_depth_is_found() {
        assert_eq!(
            delivered(
                r#"{"stream_name":"S","config":{"deliver_subject":"a.b","n":1.5,"x":[null,true,-1]}}"#
            ),
            ["a.b"]
        );
        for key in [
            "Deliver_Subject",
            r"DELIVER_\u0053UBJECT",
            "deliver_ſubject",
        ] {
            assert_eq!(
                delivered(&format!(r#"{{"config":{{"{key}":"a"}}}}"#)),
                ["a"],
                "{key}"
            );
        }
        assert_eq!(
            delivered(r#"[{"sources":[{"consumer":{"deliver_subject":"d"}}]}]"#),
            ["d"]
        );
        assert!(
            delivered(r#"{"config":{"deliver_subject":null,"name":"deliver_subject"}}"#).is_empty()
        );
        assert!(delivered("").is_empty() && delivered(" \r\n").is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_not_let_through() {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        for body in [
            "{",
            "{}{}",
            r#"{"deliver_subject":{}}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"name":"a","Name":"b"}"#,
            r#"{"subjects":["a"],"\u017fubjects":[]}"#,
            r#"{"subjects":[["a"]]}"#,
            r#"{"mirror":{"name":{}}}"#,
            "nonsense",
            &deep,
        ] {
            assert!(
                named(Asks::Stream(b"$JS.API."), body.as_bytes()).is_err(),
                "{body}"
            );
        }
        assert!(named(Asks::Delivery, b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_configuration_names_what_its_stream_holds_copies_and_publishes() {
        assert_eq!(of_stream(r#"{"name":"S"}"#).captured, ["S"]);
        assert_eq!(of_stream(r#"{"name":"S","subjects":[]}"#).captured, ["S"]);
        assert!(
            of_stream(r#"{"name":"KV_b","subjects":["$KV.b.>"]}"#)
                .captured
                .is_empty()
        );
        assert_eq!(
            of_stream(r#"{"name":"KV_b","subjects":["$KV.c.>"]}"#).captured,
            ["$KV.c.>"]
        );
        assert_eq!(
            of_stream(
                r#"{"name":"S","mirror":{"name":"T"},"republish":{"src":">","dest":"re.>"}}"#
            ),
            Named {
                destinations: vec!["$JS.API.STREAM.MSG.GET.T".into(), "re.>".into()],
                ..Named::default()
            }
        );
        let template = of_stream(
            r#"{"config":{"name":"S","Subjects":["a","b.>"],"sources":[{"name":"T","external":{"api":"x.api","deliver":"x.d"},
                "subject_transforms":[{"src":"a.*","dest":"b.$1"}]}],"subject_transform":{"dest":"c.{{wildcard(1)}}.{{split(1,-)}}.d"}}}"#,
        );
        assert_eq!(template.captured, ["a", "b.>"]);
        assert_eq!(
            template.destinations,
            ["x.d.>", "x.api.STREAM.MSG.GET.T", "b.*", "c.*.>"]
        );
        // Go's Atoi takes a sign.
        let signed = of_stream(r#"{"subjects":["a"],"republish":{"src":"a.*","dest":"b.$+1"}}"#);
        assert_eq!(signed.destinations, ["b.*"]);
        let everywhere = of_stream(r#"{"name":"KV_b","subjects":["$KV.b.>"],"republish":{}}"#);
        assert_eq!(everywhere.destinations, [">"]);
    }

    #[test]
    fn nothing_is_published_where_it_would_be_a_request() {
        for dest in [
            "$JS.API.STREAM.CREATE.X",
            "$JS.API.STREAM.$1.X",
            "$JS.hub.API.STREAM.RESTORE.X",
            "$JS.API.CONSUMER.CREATE.S",
            "$1.API.STREAM.CREATE.X",
            "{{split(1,-)}}",
            ">",
        ] {
            let body = format!(r#"{{"name":"S","republish":{{"src":"a.>","dest":"{dest}"}}}}"#);
            assert_eq!(of_stream(&body).requests, [filled(dest)], "{dest}");
        }
        for dest in ["a.>", "b.$1", "$KV.b.$1", "$JS.ACK.S.C.1.1.1.1.1"] {
            let body = format!(r#"{{"name":"S","republish":{{"src":"a.>","dest":"{dest}"}}}}"#);
            assert!(of_stream(&body).requests.is_empty(), "{dest}");
        }
        let external = r#"{"sources":[{"name":"T","external":{"api":"x","deliver":"$JS.API.STREAM.RESTORE"}}]}"#;
        assert_eq!(of_stream(external).requests, ["$JS.API.STREAM.RESTORE.>"]);
        assert!(of_stream(r#"{"mirror":{"name":"T"}}"#).requests.is_empty());
    }

    #[test]
    fn only_requests_that_make_something_are_looked_into() {
        for (subject, api) in [
            ("$JS.API.STREAM.UPDATE.S", "$JS.API."),
            ("$JS.API.STREAM.CREATE.S", "$JS.API."),
            ("$JS.API.STREAM.TEMPLATE.CREATE.S", "$JS.API."),
            ("$JS.hub.API.STREAM.UPDATE.RESTORE", "$JS.hub.API."),
            ("$JS.API.API.STREAM.CREATE.S", "$JS.API.API."),
        ] {
            assert_eq!(
                asks(subject.as_bytes()),
                Some(Asks::Stream(api.as_bytes())),
                "{subject}"
            );
        }
        for restore in [
            "$JS.hub.API.STREAM.RESTORE.S",
            "$JS.API.API.STREAM.RESTORE.S",
        ] {
            assert_eq!(asks(restore.as_bytes()), Some(Asks::Restore), "{restore}");
        }
        for subject in [
            "$JS.API.CONSUMER.CREATE.S",
            "$JS.API.CONSUMER.CREATE.S.C.f.>",
            "$JS.API.CONSUMER.DURABLE.CREATE.S.C",
            "$JS.hub.API.CONSUMER.CREATE.S.C",
            "$JS.API.STREAM.SNAPSHOT.S",
        ] {
            assert_eq!(asks(subject.as_bytes()), Some(Asks::Delivery), "{subject}");
        }
        for subject in [
            "$JS.API.CONSUMER.MSG.NEXT.S.C",
            "$JS.ACK.S.C.1.1.1.1.1",
            "a.CREATE.b",
            "$JS.API.CONSUMER.INFO.CREATED.C",
            // The chunks of a snapshot, which are no JSON.
            "$JS.SNAPSHOT.RESTORE.S.x",
            "$JS.hub.API.$KV.b.CREATE",
            "$JS.hub.API.$O.b.M.SNAPSHOT",
            "$JS.API.API.$KV.b.CREATE",
        ] {
            assert_eq!(asks(subject.as_bytes()), None, "{subject}");
        }
    }
}
