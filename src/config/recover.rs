//! Reads a type from the tree and reports everything that is wrong, not only the first thing.
//!
//! Owns: the loop "read, note the mistake, take the culprit out, read again". Must never: report what only follows
//! from something that it took out itself.

use serde::de::DeserializeOwned;

use super::deserialize::{Fault, Kind, NodeReader};
use super::mistake::{Mistake, Path, Position, is_secret_key};
use super::suggest;
use super::tree::{Entry, Node, PLACEHOLDERS, Value};

/// More mistakes than anybody reads; also what bounds the loop.
const MISTAKES_MAX: usize = 200;

/// What came out of the tree.
#[derive(Debug)]
pub(super) struct Reading<T> {
    /// The value without what was wrong; none where even that could not be read.
    pub(super) value: Option<T>,
    /// What was wrong.
    pub(super) mistakes: Vec<Mistake>,
    /// What was taken out or made up: nothing said about these paths is news.
    pub(super) touched: Vec<Path>,
}

/// Reads a `T`, with every mistake that its types find.
pub(super) fn read<T: DeserializeOwned>(tree: &Node) -> Reading<T> {
    let mut reader = Reader {
        tree,
        work: tree.clone(),
        mistakes: Vec::new(),
        touched: Vec::new(),
    };
    // Every turn either reports or takes out something; the second bound is for what is taken out silently.
    for _ in 0..MISTAKES_MAX * 4 {
        let fault = match T::deserialize(NodeReader(&reader.work)) {
            Ok(value) => {
                return Reading {
                    value: Some(value),
                    mistakes: reader.mistakes,
                    touched: reader.touched,
                };
            }
            Err(fault) => fault,
        };
        if reader.mistakes.len() >= MISTAKES_MAX || reader.handle(&fault).is_none() {
            break;
        }
    }
    Reading {
        value: None,
        mistakes: reader.mistakes,
        touched: reader.touched,
    }
}

struct Reader<'a> {
    tree: &'a Node,
    work: Node,
    mistakes: Vec<Mistake>,
    touched: Vec<Path>,
}

impl Reader<'_> {
    /// Reports the fault unless it follows from an earlier one, and makes the next reading get past it. None: stuck.
    fn handle(&mut self, fault: &Fault) -> Option<()> {
        let path = fault.path();
        if let Kind::Missing(key) = fault.kind {
            let mut missing = path.clone();
            missing.push(key.into());
            if !self
                .touched
                .iter()
                .any(|touched| missing.starts_with(touched))
            {
                let message = format!("`{key}` is missing{}", example(&path, key));
                self.report(path, false, message);
            }
            return self.stand_in(&missing);
        }
        if let Some(placeholder) = self.placeholder_above(&path) {
            return self.try_next(&placeholder);
        }
        let (on_key, message) = self.describe(&fault.kind, &path);
        self.report(path.clone(), on_key, message);
        self.take_out(&path)
    }

    fn describe(&mut self, kind: &Kind, path: &[Box<str>]) -> (bool, String) {
        let secret = path.iter().any(|segment| is_secret_key(segment));
        let found = |found: &str| {
            if secret {
                String::new()
            } else {
                format!(", found {found}")
            }
        };
        match kind {
            Kind::Unknown { expected } => {
                let key = path.last().map_or("", |key| &**key);
                let meant = suggest::nearest(key, expected.iter().copied());
                if let (Some(meant), Some((_, parent))) = (meant, path.split_last()) {
                    let mut replaced = parent.to_vec();
                    replaced.push(meant.into());
                    self.touched.push(replaced);
                }
                let advice = match meant {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("the keys here are {}", expected.join(", ")),
                };
                (true, format!("unknown key `{key}`; {advice}"))
            }
            Kind::Word {
                found: word,
                expected,
            } => {
                let quoted = super::deserialize::quote(word);
                let meant = suggest::hint(word, expected.iter().copied());
                let list = expected.join(", ");
                (
                    false,
                    format!("expected one of {list}{}{meant}", found(&quoted)),
                )
            }
            Kind::Wrong {
                found: value,
                expected,
            } => (false, format!("expected {expected}{}", found(value))),
            Kind::Other(message) => (false, message.clone()),
            Kind::Missing(key) => (false, format!("`{key}` is missing")),
        }
    }

    fn report(&mut self, path: Path, on_key: bool, message: String) {
        let at: Position = self.tree.position(&path, on_key);
        self.mistakes.push(Mistake { at, path, message });
    }

    /// The placeholder that `path` is or lies in.
    fn placeholder_above(&self, path: &[Box<str>]) -> Option<Path> {
        let is_placeholder = |above: &&[Box<str>]| {
            matches!(
                self.work.find(above),
                Some(Node {
                    value: Value::Placeholder(_),
                    ..
                })
            )
        };
        let mut prefixes = (0..=path.len()).filter_map(|length| path.get(..length));
        prefixes.find(is_placeholder).map(<[Box<str>]>::to_vec)
    }

    /// The placeholder does not satisfy its type: try another one, or give up the mapping around it.
    fn try_next(&mut self, placeholder: &[Box<str>]) -> Option<()> {
        let node = self.work.find_mut(placeholder)?;
        if let Value::Placeholder(attempt) = &mut node.value
            && attempt.saturating_add(1) < PLACEHOLDERS.len()
        {
            *attempt = attempt.saturating_add(1);
            return Some(());
        }
        let (_, parent) = placeholder.split_last()?;
        self.take_out(parent)
    }

    /// Takes out the node at `path`; an optional key is then absent, a list one shorter.
    fn take_out(&mut self, path: &[Box<str>]) -> Option<()> {
        if path.is_empty() {
            return None;
        }
        let node = self.work.find_mut(path)?;
        if matches!(node.value, Value::Removed) {
            return None;
        }
        node.value = Value::Removed;
        self.touched.push(path.to_vec());
        Some(())
    }

    /// Puts a placeholder where a required key is absent, so that the rest of its mapping can be read.
    fn stand_in(&mut self, missing: &[Box<str>]) -> Option<()> {
        let (key, parent) = missing.split_last()?;
        self.touched.push(missing.to_vec());
        let at = self.tree.position(parent, false);
        let node = self.work.find_mut(parent)?;
        if node.is_null() || matches!(node.value, Value::Placeholder(_)) {
            node.value = Value::Mapping(Vec::new());
        }
        let Value::Mapping(entries) = &mut node.value else {
            return None;
        };
        let stand_in = Node {
            at,
            value: Value::Placeholder(0),
        };
        match entries.iter_mut().find(|entry| entry.key == *key) {
            Some(entry) if matches!(entry.node.value, Value::Placeholder(_)) => return None,
            Some(entry) => entry.node = stand_in,
            None => entries.push(Entry {
                key: key.clone(),
                key_at: at,
                node: stand_in,
            }),
        }
        Some(())
    }
}

/// What a missing key may look like.
fn example(parent: &[Box<str>], key: &str) -> String {
    let within = parent.first().map_or("", |segment| &**segment);
    let sample = match (within, key) {
        (_, "version") => "version: 1",
        ("listen", "client") => "client: 0.0.0.0:4222",
        ("" | "listen", "listen") => "listen: { client: 0.0.0.0:4222 }",
        ("admin", "listen") => "listen: 127.0.0.1:9222",
        ("listen", "cert") => "cert: file:tls.crt",
        ("listen", "key") => "key: file:tls.key",
        (_, "upstreams") => "upstreams: { main: { servers: [nats://127.0.0.1:4222] } }",
        (_, "servers") => "servers: [nats://10.0.0.11:4222]",
        (_, "audiences") => "audiences: [api://nats-prod]",
        (_, "tenants") => "tenants: [11111111-2222-3333-4444-555555555555]",
        (_, "issuer") => "issuer: https://login.example.com",
        (_, "bind") => "bind: [{ app_role: Nats.Telemetry.Write }]",
        (_, "upstream") => "upstream: plant-a",
        (_, "authority") => "authority: https://login.microsoftonline.com",
        (_, "as") => "as: { app_roles: [Nats.Telemetry.Write] }",
        _ => return String::new(),
    };
    format!("; write `{sample}`")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::super::mistake::show_path;
    use super::super::tree;
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by serde alone")]
    struct Outer {
        name: String,
        #[serde(default)]
        count: u16,
        #[serde(default)]
        inner: Vec<Inner>,
        #[serde(default)]
        map: BTreeMap<String, Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by serde alone")]
    struct Inner {
        mode: Mode,
        audiences: Vec<String>,
        #[serde(default)]
        on: bool,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        Off,
        Required,
    }

    fn mistakes(text: &str) -> Vec<String> {
        let (tree, flaws) = tree::parse(text);
        assert!(flaws.is_empty(), "{flaws:?}");
        let reading = read::<Outer>(&tree.unwrap());
        let show = |m: &Mistake| {
            format!(
                "{}:{} {}: {}",
                m.at.line,
                m.at.column,
                show_path(&m.path),
                m.message
            )
        };
        let mut list: Vec<_> = reading.mistakes.iter().map(|m| (m.at, show(m))).collect();
        list.sort();
        list.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn every_mistake_of_a_file_is_found_in_one_reading() {
        let text = "\
count: 70000
inner:
  - { mode: of, audiences: x, on: yes }
  - { mode: off }
  - { audience: [a], mode: required }
map:
  a: { mode: [], audiences: [] }
  b: 3
extra: 1
";
        assert_eq!(
            mistakes(text),
            [
                "1:1 : `name` is missing",
                "1:8 count: expected a whole number from 0 to 65535, found `70000`",
                "3:13 inner[0].mode: expected one of off, required, found `of`; did you mean `off`?",
                "3:28 inner[0].audiences: expected a list, as `[a, b]`, found `x`",
                "3:35 inner[0].on: expected true or false, found `yes`",
                "4:5 inner[1]: `audiences` is missing; write `audiences: [api://nats-prod]`",
                "5:7 inner[2].audience: unknown key `audience`; did you mean `audiences`?",
                "7:14 map.a.mode: expected one of off, required, found a list",
                "8:6 map.b: expected a mapping with mode, audiences, on, found `3`",
                "9:1 extra: unknown key `extra`; the keys here are name, count, inner, map",
            ]
        );
    }

    #[test]
    fn text_keeps_its_spelling_and_nothing_is_an_empty_list() {
        let (tree, _) = tree::parse("name: 0123\ninner:\nmap:\n");
        let outer = read::<Outer>(&tree.unwrap()).value.unwrap();
        assert_eq!(outer.name, "0123");
        assert!(outer.inner.is_empty());
    }

    #[test]
    fn a_list_instead_of_the_document_is_one_mistake() {
        assert_eq!(mistakes("[1]").len(), 1);
    }
}
