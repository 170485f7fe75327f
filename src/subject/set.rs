//! Many patterns compiled into one trie.
//!
//! Owns: the trie in memory, and the step from a node by one token. Must never: hold anything of one asker; what differs
//! from one to another is a place in it ([`super::filled`]).
//!
//! Literal children of all nodes share one open-addressing table keyed by (parent, token): a step costs one hash of the
//! token and one probe, whether a node has ten children or a hundred thousand. Only the operator's patterns are ever
//! inserted, so a hostile subject cannot make the table worse.
#![expect(
    clippy::cast_possible_truncation,
    reason = "indexes count the tokens of a policy, which are far fewer than 2^32; hashes are meant to be cut"
)]

use super::TokenGlob;
use super::build::PatternSetBuilder;
use super::filled::{FilledSet, Filling};

/// No node, no value.
pub(super) const NONE: u32 = u32::MAX;

/// A compiled set of patterns; each has a value that a question answers with.
#[derive(Debug, Clone)]
pub struct PatternSet {
    pub(super) nodes: Box<[Node]>,
    pub(super) slots: Box<[Slot]>,
    pub(super) edges: Box<[Edge]>,
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
    pub(super) edges: (u32, u32),
    pub(super) children: (u32, u32),
}

impl Node {
    pub(super) const EMPTY: Self = Self {
        value: NONE,
        rest: NONE,
        star: NONE,
        edges: (0, 0),
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

/// An edge for tokens that are not looked up: they are asked one after the other.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    pub(super) test: Test,
    pub(super) child: u32,
}

/// Which tokens an edge is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    /// Those that a glob fits.
    Glob(TokenGlob),
    /// Whatever fills this place.
    Place(u32),
}

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

    /// The set as it is for one asker, whose places are filled like that.
    pub const fn filled<'a>(&'a self, fillings: &'a [Option<Filling>]) -> FilledSet<'a> {
        FilledSet::new(self, fillings)
    }

    /// [`FilledSet::matches`] where no place is filled.
    pub fn matches(&self, subject: &[u8]) -> Option<u32> {
        self.filled(&[]).matches(subject)
    }

    /// [`FilledSet::covers`] where no place is filled.
    pub fn covers(&self, pattern: &[u8]) -> Option<u32> {
        self.filled(&[]).covers(pattern)
    }

    /// [`FilledSet::overlaps`] where no place is filled.
    pub fn overlaps(&self, pattern: &[u8]) -> Option<u32> {
        self.filled(&[]).overlaps(pattern)
    }

    pub(super) fn value_of(&self, index: u32) -> Option<u32> {
        let node = self.nodes.get(index as usize)?;
        (node.value != NONE).then_some(node.value)
    }

    pub(super) fn edges_of(&self, node: &Node) -> &[Edge] {
        let (start, end) = node.edges;
        self.edges
            .get(start as usize..end as usize)
            .unwrap_or_default()
    }

    /// The child of `parent` by a literal token.
    #[inline]
    pub(super) fn child(&self, parent: u32, token: &[u8]) -> Option<u32> {
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
