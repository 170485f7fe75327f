//! Many patterns compiled into one trie.
//!
//! Owns: the questions `matches`, `covers` and `overlaps` over thousands of patterns. Must never: allocate per question
//! (but for a subject that leaves more than [`INLINE_BRANCHES`] branches open), recurse, or do more work than the trie
//! has nodes: a trie is a tree, so a walk reaches each node at most once, whatever the subject looks like.
//!
//! Literal children of all nodes share one open-addressing table keyed by (parent, token): a step costs one hash of the
//! token and one probe, whether a node has ten children or a hundred thousand. Only the operator's patterns are ever
//! inserted, so a hostile subject cannot make the table worse.
#![expect(
    clippy::cast_possible_truncation,
    reason = "indexes count the tokens of a policy, which are far fewer than 2^32; hashes are meant to be cut"
)]

use std::collections::{BTreeMap, HashMap};

use smallvec::SmallVec;

use super::{DOT, Pattern, TokenGlob, has_empty_token};

/// No node, no value.
const NONE: u32 = u32::MAX;

/// Open branches that a walk keeps on the stack; one is opened for each `*` edge passed by.
const INLINE_BRANCHES: usize = 24;

/// A compiled set of patterns; each has a value that a question answers with.
#[derive(Debug, Clone)]
pub struct PatternSet {
    nodes: Box<[Node]>,
    slots: Box<[Slot]>,
    globs: Box<[GlobEdge]>,
    children: Box<[u32]>,
    text: Box<[u8]>,
    len: usize,
}

/// One node: all that can follow the tokens so far.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// Value of the pattern that ends here.
    value: u32,
    /// Value of the pattern that goes on with `>`.
    rest: u32,
    /// Node after `*`.
    star: u32,
    globs: (u32, u32),
    children: (u32, u32),
}

impl Node {
    const EMPTY: Self = Self {
        value: NONE,
        rest: NONE,
        star: NONE,
        globs: (0, 0),
        children: (0, 0),
    };
}

/// One literal edge. `child` is NONE in an empty slot.
#[derive(Debug, Clone, Copy)]
struct Slot {
    parent: u32,
    child: u32,
    start: u32,
    len: u32,
}

const EMPTY_SLOT: Slot = Slot {
    parent: NONE,
    child: NONE,
    start: 0,
    len: 0,
};

/// An edge for tokens with `*` inside.
#[derive(Debug, Clone)]
struct GlobEdge {
    glob: TokenGlob,
    child: u32,
}

/// How a subject's own wildcard tokens are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// As literal tokens: only `*` and `>` of a pattern fit them.
    Literal,
    /// As wildcards that the pattern must contain whole.
    Covered,
}

type Branches = SmallVec<[(u32, usize); INLINE_BRANCHES]>;

impl Default for PatternSet {
    fn default() -> Self {
        PatternSetBuilder::default().build()
    }
}

impl PatternSet {
    /// How many patterns the set holds.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the set holds no pattern and so never answers yes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a pattern that the subject matches, where wildcards in the subject count as literal tokens, as in
    /// nats-server's `Sublist.Match`. A subject with an empty token matches nothing.
    pub fn matches(&self, subject: &[u8]) -> Option<u32> {
        let mut found = None;
        self.walk(subject, Reading::Literal, |value| {
            found = Some(value);
            true
        });
        found
    }

    /// Calls `visit` with the value of every pattern that [`Self::matches`] could have answered with.
    pub fn each_match(&self, subject: &[u8], mut visit: impl FnMut(u32)) {
        self.walk(subject, Reading::Literal, |value| {
            visit(value);
            false
        });
    }

    /// The value of a pattern that contains every subject of the given pattern.
    pub fn covers(&self, pattern: &[u8]) -> Option<u32> {
        let mut found = None;
        self.walk(pattern, Reading::Covered, |value| {
            found = Some(value);
            true
        });
        found
    }

    /// Calls `visit` with the value of every pattern that [`Self::covers`] could have answered with.
    pub fn each_cover(&self, pattern: &[u8], mut visit: impl FnMut(u32)) {
        self.walk(pattern, Reading::Covered, |value| {
            visit(value);
            false
        });
    }

    /// The value of a pattern that matches when the subject of a subscription is read as literal tokens: the probe that
    /// nats-server makes for a denied SUB (`client.go:canSubscribeInternal`). The token `>` then fits a `*`.
    pub fn matches_literally(&self, subscription: &[u8]) -> Option<u32> {
        self.matches(subscription)
    }

    /// The value of a pattern that has at least one subject in common with the given pattern
    /// (`sublist.go:SubjectsCollide`). Visits every literal child where the given pattern has a `*`, so it is meant for
    /// SUB and for the rare PUB with wildcards, not for every message.
    pub fn overlaps(&self, pattern: &[u8]) -> Option<u32> {
        let mut found = None;
        self.each_overlap(pattern, |value| {
            found = Some(value);
            true
        });
        found
    }

    /// Calls `visit` with the value of every pattern that [`Self::overlaps`] could have answered with, until it says
    /// stop by answering true.
    pub fn each_overlap(&self, pattern: &[u8], mut visit: impl FnMut(u32) -> bool) {
        if self.is_empty() || has_empty_token(pattern) {
            return;
        }
        let mut open: SmallVec<[(u32, Option<usize>); INLINE_BRANCHES]> = SmallVec::new();
        open.push((0, Some(0)));
        while let Some((index, at)) = open.pop() {
            let Some(node) = self.nodes.get(index as usize) else {
                continue;
            };
            // No place in the pattern: its `>` was passed, and everything below is in common.
            let (token, next) = match at {
                Some(at) => token_at(pattern, at),
                None => (&b">"[..], None),
            };
            if node.rest != NONE && visit(node.rest) {
                return;
            }
            let rest = token == b">" && next.is_none();
            let any = rest || token == b"*" || token == b">";
            let globs = self.globs_of(node).iter();
            let globs = globs.filter(|edge| any || edge.glob.matches(token));
            let (start, end) = if any { node.children } else { (0, 0) };
            let all = self.children.get(start as usize..end as usize);
            let one = if any { None } else { self.child(index, token) };
            let star = (node.star != NONE).then_some(node.star);
            let reached = star
                .into_iter()
                .chain(globs.map(|edge| edge.child))
                .chain(one)
                .chain(all.unwrap_or_default().iter().copied());
            for child in reached {
                if (rest || next.is_none()) && self.value_of(child).is_some_and(&mut visit) {
                    return;
                }
                if rest || next.is_some() {
                    open.push((child, next));
                }
            }
        }
    }

    /// The walk behind `matches` and `covers`: calls `visit` for each pattern that fits, until it says stop.
    #[inline]
    fn walk(&self, subject: &[u8], reading: Reading, mut visit: impl FnMut(u32) -> bool) {
        if self.is_empty() || has_empty_token(subject) {
            return;
        }
        let mut branches = Branches::new();
        let (mut index, mut at) = (0_u32, 0_usize);
        loop {
            if let Some(node) = self.nodes.get(index as usize) {
                if node.rest != NONE && visit(node.rest) {
                    return;
                }
                let (token, next) = token_at(subject, at);
                // A `>` asks for everything below, which only a `>` contains.
                let fits_one = reading == Reading::Literal || !(token == b">" && next.is_none());
                if node.star != NONE && fits_one {
                    match next {
                        Some(next) => branches.push((node.star, next)),
                        None if self.value_of(node.star).is_some_and(&mut visit) => return,
                        None => {}
                    }
                }
                if node.globs.0 != node.globs.1 {
                    for edge in self.globs_of(node) {
                        if !edge.glob.matches(token) {
                            continue;
                        }
                        match next {
                            Some(next) => branches.push((edge.child, next)),
                            None if self.value_of(edge.child).is_some_and(&mut visit) => return,
                            None => {}
                        }
                    }
                }
                if let Some(child) = self.child(index, token) {
                    match next {
                        Some(next) => {
                            (index, at) = (child, next);
                            continue;
                        }
                        None if self.value_of(child).is_some_and(&mut visit) => return,
                        None => {}
                    }
                }
            }
            match branches.pop() {
                Some(branch) => (index, at) = branch,
                None => return,
            }
        }
    }

    fn value_of(&self, index: u32) -> Option<u32> {
        let node = self.nodes.get(index as usize)?;
        (node.value != NONE).then_some(node.value)
    }

    fn globs_of(&self, node: &Node) -> &[GlobEdge] {
        let (start, end) = node.globs;
        self.globs
            .get(start as usize..end as usize)
            .unwrap_or_default()
    }

    /// The child of `parent` by a literal token.
    #[inline]
    fn child(&self, parent: u32, token: &[u8]) -> Option<u32> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash(parent, token) as usize & mask;
        loop {
            let slot = self.slots.get(at)?;
            if slot.child == NONE {
                return None;
            }
            if slot.parent == parent && slot.len as usize == token.len() {
                let start = slot.start as usize;
                let known = self.text.get(start..start.wrapping_add(token.len()))?;
                if known == token {
                    return Some(slot.child);
                }
            }
            at = at.wrapping_add(1) & mask;
        }
    }
}

/// The token that begins at `at`, and where the next one begins if there is one.
#[inline]
fn token_at(subject: &[u8], at: usize) -> (&[u8], Option<usize>) {
    let left = subject.get(at..).unwrap_or_default();
    match left.iter().position(|byte| *byte == DOT) {
        Some(end) => (
            left.get(..end).unwrap_or_default(),
            Some(at.wrapping_add(end).wrapping_add(1)),
        ),
        None => (left, None),
    }
}

/// A fast mix of parent and token. Not keyed: whoever sends subjects cannot insert into the table.
#[inline]
fn hash(parent: u32, token: &[u8]) -> u64 {
    let seed = u64::from(parent).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ token.len() as u64;
    mix_bytes(seed, token)
}

/// Folds bytes into a seed, eight at a time; the last eight overlap the ones before.
#[inline]
pub(crate) fn mix_bytes(seed: u64, bytes: &[u8]) -> u64 {
    let mut mixed = seed;
    if let Some(last) = bytes.last_chunk::<8>() {
        for word in bytes.as_chunks::<8>().0 {
            mixed = fold(mixed ^ u64::from_le_bytes(*word));
        }
        mixed = fold(mixed ^ u64::from_le_bytes(*last));
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let first = u64::from(u32::from_le_bytes(*first));
        let last = u64::from(u32::from_le_bytes(*last));
        mixed = fold(mixed ^ (first << 32 | last));
    } else {
        let short = bytes
            .iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte));
        mixed = fold(mixed ^ short);
    }
    mixed ^ mixed >> 32
}

#[inline]
const fn fold(value: u64) -> u64 {
    let product = (value ^ 0x2D35_8DCC_AA6C_78A5) as u128 * 0x8BB8_4B93_962E_ACC9;
    (product as u64) ^ (product >> 64) as u64
}

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
        let mut at = hash(parent, token) as usize & mask;
        // The table is at most half full, so a free slot is always found.
        while let Some(slot) = self.slots.get_mut(at) {
            if slot.child == NONE {
                *slot = Slot {
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
