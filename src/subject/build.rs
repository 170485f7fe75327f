//! Compiles patterns into a [`PatternSet`].
//!
//! Owns: the layout of the trie in memory. Must never: be used with what a peer sends; only policies are compiled.

use std::collections::{BTreeMap, HashMap};

use super::set::{EMPTY_SLOT, Edge, NONE, Node, PatternSet, Slot, Test, hash, head, slot_of};
use super::{Pattern, TokenGlob};

/// Collects patterns, then compiles them.
#[derive(Debug, Default)]
pub struct PatternSetBuilder {
    nodes: Vec<Draft>,
    len: usize,
}

/// A node while patterns are still coming.
#[derive(Debug, Default)]
struct Draft {
    value: Option<u32>,
    rest: Option<u32>,
    star: Option<u32>,
    edges: Vec<Edge>,
    children: BTreeMap<Box<[u8]>, u32>,
}

/// One token of a pattern that is the same for everybody but for some tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PatternToken<T> {
    /// As written.
    Text(T),
    /// What fills the place of this number.
    Place(u32),
}

impl<T: std::ops::Deref> PatternToken<T> {
    /// The same, borrowed.
    pub fn as_deref(&self) -> PatternToken<&T::Target> {
        match self {
            Self::Text(text) => PatternToken::Text(text),
            Self::Place(place) => PatternToken::Place(*place),
        }
    }
}

impl Draft {
    /// Where an edge leads; to `fresh` if it is new.
    fn edge(&mut self, test: Test, fresh: u32) -> u32 {
        if let Some(known) = self.edges.iter().find(|known| known.test == test) {
            return known.child;
        }
        self.edges.push(Edge { test, child: fresh });
        fresh
    }
}

impl PatternSetBuilder {
    /// Adds a pattern with its value, which must be less than `u32::MAX`. A pattern that is there already keeps its
    /// first value. Answers with the value that the pattern has now.
    pub fn insert(&mut self, pattern: &Pattern, value: u32) -> u32 {
        self.insert_tokens(pattern.tokens().map(PatternToken::Text), value, false)
    }

    /// Adds a pattern whose tokens may be globs ([`TokenGlob`]).
    pub fn insert_globs(&mut self, pattern: &Pattern, value: u32) -> u32 {
        self.insert_tokens(pattern.tokens().map(PatternToken::Text), value, true)
    }

    /// Adds a pattern token by token, as [`Self::insert`] does, with `globs` as [`Self::insert_globs`] does.
    pub fn insert_tokens<'a>(
        &mut self,
        tokens: impl Iterator<Item = PatternToken<&'a [u8]>>,
        value: u32,
        globs: bool,
    ) -> u32 {
        if self.nodes.is_empty() {
            self.nodes.push(Draft::default());
        }
        let mut at = 0_u32;
        for token in tokens {
            let fresh = place(self.nodes.len());
            let Some(node) = self.nodes.get_mut(at as usize) else {
                return value;
            };
            if token == PatternToken::Text(b">") {
                self.len += usize::from(node.rest.is_none());
                return *node.rest.get_or_insert(value);
            }
            let child = match token {
                PatternToken::Text(b"*") => *node.star.get_or_insert(fresh),
                PatternToken::Text(text) => match globs.then(|| TokenGlob::parse(text)).flatten() {
                    Some(glob) => node.edge(Test::Glob(glob), fresh),
                    None => *node.children.entry(text.into()).or_insert(fresh),
                },
                PatternToken::Place(place) => node.edge(Test::Place(place), fresh),
            };
            if child == fresh {
                self.nodes.push(Draft::default());
            }
            at = child;
        }
        let Some(node) = self.nodes.get_mut(at as usize) else {
            return value;
        };
        self.len += usize::from(node.value.is_none());
        *node.value.get_or_insert(value)
    }

    /// Compiles the set.
    pub fn build(self) -> PatternSet {
        let literals: usize = self.nodes.iter().map(|draft| draft.children.len()).sum();
        let mut set = PatternSet {
            nodes: vec![Node::EMPTY; self.nodes.len()].into(),
            slots: vec![EMPTY_SLOT; (literals.saturating_mul(2)).next_power_of_two()].into(),
            edges: Box::default(),
            children: Box::default(),
            text: Box::default(),
            len: self.len,
        };
        let (mut edges, mut children) = (Vec::new(), Vec::with_capacity(literals));
        let mut text = TokenTexts::default();
        for (index, draft) in self.nodes.into_iter().enumerate() {
            let edge_start = place(edges.len());
            edges.extend(draft.edges);
            let child_start = place(children.len());
            for (token, child) in draft.children {
                children.push(child);
                let (start, len) = text.place(token);
                set.link(place(index), child, start, len, text.bytes());
            }
            if let Some(node) = set.nodes.get_mut(index) {
                *node = Node {
                    value: draft.value.unwrap_or(NONE),
                    rest: draft.rest.unwrap_or(NONE),
                    star: draft.star.unwrap_or(NONE),
                    edges: (edge_start, place(edges.len())),
                    children: (child_start, place(children.len())),
                };
            }
        }
        set.edges = edges.into();
        set.children = children.into();
        set.text = text.into_bytes();
        set
    }
}

impl PatternSet {
    /// Puts one literal edge into the first free slot of its probe sequence.
    fn link(&mut self, parent: u32, child: u32, start: u32, len: u32, text: &[u8]) {
        let token = text
            .get(start as usize..(start as usize).saturating_add(len as usize))
            .unwrap_or_default();
        let mask = self.slots.len().wrapping_sub(1);
        let head = head(token);
        let mut at = slot_of(hash(parent, head, token), mask);
        // The table is at most half full, so a free slot is always found.
        while let Some(slot) = self.slots.get_mut(at) {
            if slot.child == NONE {
                *slot = Slot {
                    head,
                    parent,
                    child,
                    start,
                    len,
                };
                return;
            }
            at = at.wrapping_add(1) & mask;
        }
    }
}

/// A place in one of the tables. More than `u32::MAX` entries would not fit into memory; one that did is nowhere.
fn place(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(NONE)
}

/// The bytes of all tokens, each kept once.
#[derive(Default)]
struct TokenTexts {
    bytes: Vec<u8>,
    known: HashMap<Box<[u8]>, u32>,
}

impl TokenTexts {
    fn place(&mut self, token: Box<[u8]>) -> (u32, u32) {
        let len = place(token.len());
        let end = place(self.bytes.len());
        if let Some(start) = self.known.get(&token) {
            return (*start, len);
        }
        self.bytes.extend_from_slice(&token);
        self.known.insert(token, end);
        (end, len)
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn into_bytes(self) -> Box<[u8]> {
        self.bytes.into()
    }
}
