//! The file as a tree in which every node knows its line and column.
//!
//! Owns: YAML events to [`Node`]s, with bounds on depth and size and without duplicate keys. Must never: know what
//! any key means, or recurse on the input (the depth is bounded before anything walks the tree).

mod read;

pub(super) use self::read::parse;
use super::mistake::{Path, Position};

/// What a placeholder reads as: no text, and an address for what must be one.
pub(super) const PLACEHOLDERS: [&str; 2] = ["", "0.0.0.0:0"];

/// One value with its place in the file.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where a reader looks for it: the value itself, or its key where the value starts on a later line.
    pub(super) at: Position,
    /// What is written there.
    pub(super) value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Text as written; `plain` when it has no quotes, so that it may be a number, a boolean or nothing.
    Scalar { text: Box<str>, plain: bool },
    /// A list.
    Sequence(Vec<Node>),
    /// Keys in the order of the file.
    Mapping(Vec<Entry>),
    /// Taken out after a mistake was reported; readers skip it.
    Removed,
    /// Stands for a required value that is missing or was taken out; reads as an empty value of any kind, and as the
    /// text [`PLACEHOLDERS`] has at this place where text is asked for.
    Placeholder(usize),
}

/// One key of a mapping.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Box<str>,
    pub(super) key_at: Position,
    pub(super) node: Node,
}

/// Something wrong with the YAML itself.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) path: Path,
    pub(super) at: Position,
    pub(super) message: String,
}

impl Node {
    /// The node below `path`, or none.
    pub(super) fn find(&self, path: &[Box<str>]) -> Option<&Self> {
        path.iter()
            .try_fold(self, |node, segment| node.child(segment))
    }

    /// The entry of the mapping below `path` whose key is the last segment.
    pub(super) fn entry(&self, path: &[Box<str>]) -> Option<&Entry> {
        let (last, parent) = path.split_last()?;
        match &self.find(parent)?.value {
            Value::Mapping(entries) => entries.iter().find(|entry| entry.key == *last),
            _ => None,
        }
    }

    /// The node below `path`, for pruning.
    pub(super) fn find_mut(&mut self, path: &[Box<str>]) -> Option<&mut Self> {
        path.iter()
            .try_fold(self, |node, segment| node.child_mut(segment))
    }

    /// Whether the same is written there, wherever it stands and in whatever order its keys are.
    pub(super) fn says_the_same_as(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Scalar { text, plain }, Value::Scalar { text: t, plain: p }) => {
                (text, plain) == (t, p)
            }
            (Value::Sequence(ours), Value::Sequence(theirs)) => {
                let pairs = ours.iter().zip(theirs);
                ours.len() == theirs.len() && pairs.into_iter().all(|(a, b)| a.says_the_same_as(b))
            }
            (Value::Mapping(ours), Value::Mapping(theirs)) => {
                let same = |entry: &Entry| {
                    let other = theirs.iter().find(|other| other.key == entry.key);
                    other.is_some_and(|other| entry.node.says_the_same_as(&other.node))
                };
                ours.len() == theirs.len() && ours.iter().all(same)
            }
            (Value::Removed, Value::Removed) => true,
            (Value::Placeholder(a), Value::Placeholder(b)) => a == b,
            _ => false,
        }
    }

    /// The place of `path`, or of the nearest thing above it that exists. With `key`, the key and not the value.
    pub(super) fn position(&self, path: &[Box<str>], key: bool) -> Position {
        if key && let Some(entry) = self.entry(path) {
            return entry.key_at;
        }
        let mut node = self;
        for segment in path {
            match node.child(segment) {
                Some(child) => node = child,
                None => break,
            }
        }
        node.at
    }

    /// Keys of the mapping below `path`; empty when it is none.
    pub(super) fn keys(&self, path: &[Box<str>]) -> Vec<&str> {
        match self.find(path).map(|node| &node.value) {
            Some(Value::Mapping(entries)) => entries.iter().map(|entry| &*entry.key).collect(),
            _ => Vec::new(),
        }
    }

    fn child(&self, segment: &str) -> Option<&Self> {
        match &self.value {
            Value::Mapping(entries) => entries
                .iter()
                .find(|entry| &*entry.key == segment)
                .map(|entry| &entry.node),
            Value::Sequence(items) => items.get(segment.parse::<usize>().ok()?),
            _ => None,
        }
    }

    fn child_mut(&mut self, segment: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Mapping(entries) => entries
                .iter_mut()
                .find(|entry| &*entry.key == segment)
                .map(|entry| &mut entry.node),
            Value::Sequence(items) => items.get_mut(segment.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// Nodes in it and levels below it. The depth is at most [`DEPTH_MAX`].
    fn measure(&self) -> (usize, usize) {
        let children: Vec<&Self> = match &self.value {
            Value::Sequence(items) => items.iter().collect(),
            Value::Mapping(entries) => entries.iter().map(|entry| &entry.node).collect(),
            _ => Vec::new(),
        };
        children
            .into_iter()
            .map(Self::measure)
            .fold((1, 1), |(nodes, depth), (n, d)| {
                (nodes.saturating_add(n), depth.max(d.saturating_add(1)))
            })
    }
}

impl Node {
    /// Whether nothing is written: an empty plain scalar, `null` or `~`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if is_null_word(text))
    }
}

/// The core schema's words for nothing (YAML 1.2.2 section 10.3.2).
pub(super) fn is_null_word(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        text.split('.').map(Into::into).collect()
    }

    #[test]
    fn nodes_know_where_they_are() {
        let (tree, flaws) = parse("a: 1\nb:\n  c: [x, y]\n  d:\n    - e: 'z'\n  f:\n");
        let tree = tree.unwrap();
        assert!(flaws.is_empty());
        assert_eq!(tree.position(&path("a"), false), Position::new(1, 4));
        assert_eq!(tree.position(&path("b"), false), Position::new(2, 1));
        assert_eq!(tree.position(&path("b.c.1"), false), Position::new(3, 10));
        assert_eq!(tree.position(&path("b.d"), false), Position::new(4, 3));
        assert_eq!(tree.position(&path("b.d.0.e"), false), Position::new(5, 10));
        assert_eq!(tree.position(&path("b.d.0.e"), true), Position::new(5, 7));
        assert_eq!(tree.position(&path("b.f"), false), Position::new(6, 3));
        assert_eq!(
            tree.position(&path("b.nothing.below"), false),
            Position::new(2, 1)
        );
    }

    #[test]
    fn a_key_written_twice_is_a_flaw_and_the_first_one_stays() {
        let (tree, flaws) = parse("a: 1\nb:\n  c: 2\n  c: 3\na: 4\n");
        let places: Vec<_> = flaws
            .iter()
            .map(|flaw| (flaw.at.line, flaw.path.join(".")))
            .collect();
        assert_eq!(places, [(4, "b.c".to_owned()), (5, "a".to_owned())]);
        assert_eq!(tree.unwrap().keys(&[]), ["a", "b"]);
    }

    #[test]
    fn an_alias_bomb_stops_at_the_node_limit() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{}", level - 1);
            text.push_str(&format!(
                "a{level}: &a{level} [{}]\n",
                [below.as_str(); 9].join(", ")
            ));
        }
        let (tree, flaws) = parse(&text);
        assert!(tree.is_none());
        assert!(
            flaws[0].message.contains("more than 200000 values"),
            "{flaws:?}"
        );
    }

    #[test]
    fn nesting_stops_at_the_depth_limit() {
        let (tree, flaws) = parse(&"[".repeat(100));
        assert!(tree.is_none());
        assert!(flaws[0].message.contains("deeper than 32"), "{flaws:?}");
        let (tree, flaws) = parse(&"- ".repeat(100_000));
        assert!(tree.is_none());
        assert!(flaws[0].message.contains("deeper than 32"), "{flaws:?}");
    }

    #[test]
    fn an_alias_repeats_its_anchor_and_an_alias_of_itself_is_refused() {
        let (tree, flaws) = parse("a: &x [1, 2]\nb: *x\n");
        assert!(flaws.is_empty());
        assert!(
            matches!(&tree.unwrap().find(&path("b")).unwrap().value, Value::Sequence(v) if v.len() == 2)
        );
        let (tree, flaws) = parse("a: &x [1, *x]\n");
        assert!(tree.is_none());
        assert_eq!(flaws.len(), 1);
    }

    #[test]
    fn broken_yaml_says_where() {
        let (tree, flaws) = parse("a: [1, 2\nb: 3\n");
        assert!(tree.is_none());
        assert!(
            flaws[0].message.starts_with("this is not valid YAML"),
            "{flaws:?}"
        );
    }
}
