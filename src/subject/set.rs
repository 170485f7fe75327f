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

use smallvec::SmallVec;

use super::build::PatternSetBuilder;
use super::{DOT, TokenGlob, has_empty_token};

/// No node, no value.
pub(super) const NONE: u32 = u32::MAX;

/// Open branches that a walk keeps on the stack; one is opened for each `*` edge passed by.
const INLINE_BRANCHES: usize = 24;

/// A compiled set of patterns; each has a value that a question answers with.
#[derive(Debug, Clone)]
pub struct PatternSet {
    pub(super) nodes: Box<[Node]>,
    pub(super) slots: Box<[Slot]>,
    pub(super) globs: Box<[GlobEdge]>,
    pub(super) children: Box<[u32]>,
    pub(super) text: Box<[u8]>,
    pub(super) len: usize,
}

/// One node: all that can follow the tokens so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    /// Value of the pattern that ends here.
    pub(super) value: u32,
    /// Value of the pattern that goes on with `>`.
    pub(super) rest: u32,
    /// Node after `*`.
    pub(super) star: u32,
    pub(super) globs: (u32, u32),
    pub(super) children: (u32, u32),
}

impl Node {
    pub(super) const EMPTY: Self = Self {
        value: NONE,
        rest: NONE,
        star: NONE,
        globs: (0, 0),
        children: (0, 0),
    };
}

/// One literal edge. `child` is NONE in an empty slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// The first eight bytes of the token; most tokens are no longer, and one comparison tells them apart.
    pub(super) head: u64,
    pub(super) parent: u32,
    pub(super) child: u32,
    pub(super) start: u32,
    pub(super) len: u32,
}

pub(super) const EMPTY_SLOT: Slot = Slot {
    head: 0,
    parent: NONE,
    child: NONE,
    start: 0,
    len: 0,
};

/// An edge for tokens with `*` inside.
#[derive(Debug, Clone)]
pub(super) struct GlobEdge {
    pub(super) glob: TokenGlob,
    pub(super) child: u32,
}

/// How a subject's own wildcard tokens are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// As literal tokens: only `*` and `>` of a pattern fit them.
    Literal,
    /// As wildcards that the pattern must contain whole.
    Covered,
}

/// What may stand behind a beginning that a pattern leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Below {
    /// One or more tokens.
    Anything,
    /// One token.
    OneToken,
}

/// How far around a subject the pattern goes that it matches: every subject that begins with the same bytes and goes on
/// with literal tokens matches it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reach {
    /// Length of the beginning, with the dot behind its last token; 0 where there is none.
    pub prefix: usize,
    /// What may stand behind it.
    pub below: Below,
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
        self.walk(subject, Reading::Literal, |value, _| {
            found = Some(value);
            true
        });
        found
    }

    /// The widest reach of the patterns that the subject matches, wildcards in it counted as literal tokens. None where
    /// it matches none, or only those that end with a literal token or with a glob.
    pub fn reach(&self, subject: &[u8]) -> Option<Reach> {
        let mut widest = None;
        self.walk(subject, Reading::Literal, |_, reach| {
            widest = match (widest, reach) {
                (Some(one), Some(other)) => Some(std::cmp::min::<Reach>(one, other)),
                (one, other) => one.or(other),
            };
            false
        });
        widest
    }

    /// Calls `visit` with the value of every pattern that [`Self::matches`] could have answered with.
    pub fn each_match(&self, subject: &[u8], mut visit: impl FnMut(u32)) {
        self.walk(subject, Reading::Literal, |value, _| {
            visit(value);
            false
        });
    }

    /// The value of a pattern that contains every subject of the given pattern.
    pub fn covers(&self, pattern: &[u8]) -> Option<u32> {
        let mut found = None;
        self.walk(pattern, Reading::Covered, |value, _| {
            found = Some(value);
            true
        });
        found
    }

    /// Calls `visit` with the value of every pattern that [`Self::covers`] could have answered with.
    pub fn each_cover(&self, pattern: &[u8], mut visit: impl FnMut(u32)) {
        self.walk(pattern, Reading::Covered, |value, _| {
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

    /// The walk behind `matches` and `covers`: calls `visit` for each pattern that fits, and with its reach if it ends with
    /// a wildcard, until it says stop.
    #[inline]
    fn walk(
        &self,
        subject: &[u8],
        reading: Reading,
        mut visit: impl FnMut(u32, Option<Reach>) -> bool,
    ) {
        if self.is_empty() {
            return;
        }
        let mut branches = Branches::new();
        let (mut index, mut at) = (0_u32, 0_usize);
        loop {
            if let Some(node) = self.nodes.get(index as usize) {
                let (token, next) = token_at(subject, at);
                if token.is_empty() {
                    return;
                }
                let from_here = |below| Some(Reach { prefix: at, below });
                if node.rest != NONE {
                    let tail = next.and_then(|next| subject.get(next..));
                    let empty = tail.is_some_and(has_empty_token);
                    if empty || visit(node.rest, from_here(Below::Anything)) {
                        return;
                    }
                }
                // A `>` asks for everything below, which only a `>` contains.
                let fits_one = reading == Reading::Literal || !(token == b">" && next.is_none());
                if node.star != NONE && fits_one {
                    match next {
                        Some(next) => branches.push((node.star, next)),
                        None => {
                            let reach = from_here(Below::OneToken);
                            let value = self.value_of(node.star);
                            if value.is_some_and(|value| visit(value, reach)) {
                                return;
                            }
                        }
                    }
                }
                for edge in self.globs_of(node) {
                    if !edge.glob.matches(token) {
                        continue;
                    }
                    match next {
                        Some(next) => branches.push((edge.child, next)),
                        None if self
                            .value_of(edge.child)
                            .is_some_and(|value| visit(value, None)) =>
                        {
                            return;
                        }
                        None => {}
                    }
                }
                if let Some(child) = self.child(index, token) {
                    match next {
                        Some(next) => {
                            (index, at) = (child, next);
                            continue;
                        }
                        None if self.value_of(child).is_some_and(|value| visit(value, None)) => {
                            return;
                        }
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
        let head = head(token);
        let mut at = slot_of(hash(parent, head, token), mask);
        loop {
            let slot = self.slots.get(at)?;
            if slot.child == NONE {
                return None;
            }
            if slot.head == head && slot.parent == parent && slot.len as usize == token.len() {
                if token.len() <= 8 {
                    return Some(slot.child);
                }
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
    match find_dot(left) {
        Some(end) => (
            left.get(..end).unwrap_or_default(),
            Some(at.wrapping_add(end).wrapping_add(1)),
        ),
        None => (left, None),
    }
}

/// Where the first dot is. Tokens are short, so eight bytes at a time in a register beat a call into a vector search.
#[inline]
fn find_dot(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut at = 0_usize;
    let mut left = bytes;
    while let Some((word, rest)) = left.split_first_chunk::<8>() {
        // A byte that is a dot becomes zero, and the lowest zero byte is the lowest one whose top bit is set here.
        let word = u64::from_le_bytes(*word) ^ (ONES * DOT as u64);
        let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zeros != 0 {
            return Some(at.wrapping_add((zeros.trailing_zeros() / 8) as usize));
        }
        at = at.wrapping_add(8);
        left = rest;
    }
    let in_rest = left.iter().position(|byte| *byte == DOT)?;
    Some(at.wrapping_add(in_rest))
}

/// Where the probes for a hash begin; `mask` is the table's size less one.
#[inline]
pub(super) fn slot_of(hash: u64, mask: usize) -> usize {
    usize::try_from(hash & mask as u64).unwrap_or(0)
}

/// The first eight bytes of a token, or all of a shorter one. With the length it is exact for tokens of up to eight.
#[inline]
pub(super) fn head(token: &[u8]) -> u64 {
    if let Some(first) = token.first_chunk::<8>() {
        u64::from_le_bytes(*first)
    } else if let (Some(first), Some(last)) = (token.first_chunk::<4>(), token.last_chunk::<4>()) {
        u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
    } else {
        token
            .iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte))
    }
}

/// A fast mix of parent and token. Not keyed: whoever sends subjects cannot insert into the table.
#[inline]
pub(super) fn hash(parent: u32, head: u64, token: &[u8]) -> u64 {
    let seed = u64::from(parent).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ token.len() as u64;
    match token.get(8..) {
        Some(rest) if !rest.is_empty() => mix_bytes(seed ^ head.rotate_left(17), rest),
        _ => {
            let mixed = fold(seed ^ head);
            mixed ^ mixed >> 32
        }
    }
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
