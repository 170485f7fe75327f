//! Compiles patterns into a [`PatternSet`].
//!
//! Owns: the layout of the trie in memory. Must never: be used with what a peer sends; only policies are compiled.

use std::collections::{BTreeMap, HashMap};

use super::set::{EMPTY_SLOT, GlobEdge, NONE, Node, PatternSet, Slot, hash, head};
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
    globs: Vec<(TokenGlob, u32)>,
    children: BTreeMap<Box<[u8]>, u32>,
}

impl PatternSetBuilder {
    /// Adds a pattern with its value, which must be less than `u32::MAX`. A pattern that is there already keeps its
    /// first value. Answers with the value that the pattern has now.
    pub fn insert(&mut self, pattern: &Pattern, value: u32) -> u32 {
        self.insert_tokens(pattern.tokens(), value, false)
    }

    /// Adds a pattern whose tokens may be globs ([`TokenGlob`]).
    pub fn insert_globs(&mut self, pattern: &Pattern, value: u32) -> u32 {
        self.insert_tokens(pattern.tokens(), value, true)
    }

    fn insert_tokens<'a>(
        &mut self,
        tokens: impl Iterator<Item = &'a [u8]>,
        value: u32,
        globs: bool,
    ) -> u32 {
        if self.nodes.is_empty() {
            self.nodes.push(Draft::default());
        }
        let mut at = 0_u32;
        for token in tokens {
            let fresh = self.nodes.len() as u32;
            let Some(node) = self.nodes.get_mut(at as usize) else {
                return value;
            };
            if token == b">" {
                self.len += usize::from(node.rest.is_none());
                return *node.rest.get_or_insert(value);
            }
            let glob = if globs { TokenGlob::parse(token) } else { None };
            let child = if token == b"*" {
                *node.star.get_or_insert(fresh)
            } else if let Some(glob) = glob {
                let known = node.globs.iter().find(|(known, _)| *known == glob);
                match known {
                    Some((_, child)) => *child,
                    None => {
                        node.globs.push((glob, fresh));
                        fresh
                    }
                }
            } else {
                *node.children.entry(token.into()).or_insert(fresh)
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
        let edges: usize = self.nodes.iter().map(|draft| draft.children.len()).sum();
        let mut set = PatternSet {
            nodes: vec![Node::EMPTY; self.nodes.len()].into(),
            slots: vec![EMPTY_SLOT; (edges.saturating_mul(2)).next_power_of_two()].into(),
            globs: Box::default(),
            children: Box::default(),
            text: Box::default(),
            len: self.len,
        };
        let (mut globs, mut children) = (Vec::new(), Vec::with_capacity(edges));
        let mut text = TokenTexts::default();
        for (index, draft) in self.nodes.into_iter().enumerate() {
            let glob_start = globs.len() as u32;
            globs.extend(
                draft
                    .globs
                    .into_iter()
                    .map(|(glob, child)| GlobEdge { glob, child }),
            );
            let child_start = children.len() as u32;
            for (token, child) in draft.children {
                children.push(child);
                let (start, len) = text.place(token);
                set.link(index as u32, child, start, len, text.bytes());
            }
            if let Some(node) = set.nodes.get_mut(index) {
                *node = Node {
                    value: draft.value.unwrap_or(NONE),
                    rest: draft.rest.unwrap_or(NONE),
                    star: draft.star.unwrap_or(NONE),
                    globs: (glob_start, globs.len() as u32),
                    children: (child_start, children.len() as u32),
                };
            }
        }
        set.globs = globs.into();
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
        let mut at = hash(parent, head, token) as usize & mask;
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

/// The bytes of all tokens, each kept once.
#[derive(Default)]
struct TokenTexts {
    bytes: Vec<u8>,
    known: HashMap<Box<[u8]>, u32>,
}

impl TokenTexts {
    fn place(&mut self, token: Box<[u8]>) -> (u32, u32) {
        let len = token.len() as u32;
        let end = self.bytes.len() as u32;
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
