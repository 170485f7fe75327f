//! A compiled set as it is for one asker.
//!
//! Owns: the questions `matches` and `covers` (and, in `overlap`, `overlaps`) over thousands of patterns. Must never: allocate per question
//! (but for a subject that leaves more than [`INLINE_BRANCHES`] branches open), recurse, or do more work than the trie
//! has nodes: a trie is a tree, so a walk reaches each node at most once, whatever the subject looks like.
//!
//! A set is shared by many that differ in a few tokens, such as an id. Those tokens are places in the trie, and what fills
//! them is all that one asker holds.

use smallvec::SmallVec;

use super::set::{Edge, NONE, PatternSet, Test};
use super::{DOT, TokenGlob, has_empty_token, is_wildcard};

/// Open branches that a walk keeps on the stack; one is opened for each `*` edge passed by.
pub(super) const INLINE_BRANCHES: usize = 24;

/// One token that stands in a place of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filling(Fits);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fits {
    Token(Box<[u8]>),
    Glob(TokenGlob),
}

impl Filling {
    /// A token; with `globs` one that may be a glob ([`TokenGlob`]). None for what is not one token, and for wildcards.
    pub fn new(token: &[u8], globs: bool) -> Option<Self> {
        if token.is_empty() || token.contains(&DOT) || is_wildcard(token) {
            return None;
        }
        let glob = if globs { TokenGlob::parse(token) } else { None };
        Some(Self(match glob {
            Some(glob) => Fits::Glob(glob),
            None => Fits::Token(token.into()),
        }))
    }

    fn fits(&self, token: &[u8]) -> bool {
        match &self.0 {
            Fits::Token(wanted) => **wanted == *token,
            Fits::Glob(glob) => glob.matches(token),
        }
    }
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

/// How far around a subject the pattern goes that it matches: every subject that begins and ends with the same bytes and has
/// literal tokens between them matches it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reach {
    /// Length of the end, with the dot before its first token; 0 where there is none. Behind one token only.
    pub tail: usize,
    /// Length of the beginning, with the dot behind its last token; 0 where there is none.
    pub prefix: usize,
    /// What may stand behind it.
    pub below: Below,
}

impl Reach {
    const fn behind(prefix: usize, below: Below) -> Self {
        Self {
            tail: 0,
            prefix,
            below,
        }
    }

    /// The reach about a token of a subject; none for no token.
    const fn around((begin, end): (usize, usize), subject: &[u8]) -> Option<Self> {
        if end == 0 {
            return None;
        }
        Some(Self {
            tail: subject.len().wrapping_sub(end),
            prefix: begin,
            below: Below::OneToken,
        })
    }
}

/// Where a walk goes on: at this node, with the token that begins there.
#[derive(Clone, Copy)]
struct Branch {
    node: u32,
    at: usize,
    /// Begin and end of the last token on the way that a `*` took; both 0 where none did.
    star: (usize, usize),
}

type Branches = SmallVec<[Branch; INLINE_BRANCHES]>;

/// A [`PatternSet`] with its places filled. A pattern with a place that is not is none of the set.
#[derive(Clone, Copy, Debug)]
pub struct FilledSet<'a> {
    pub(super) set: &'a PatternSet,
    fillings: &'a [Option<Filling>],
}

impl<'a> FilledSet<'a> {
    pub(super) const fn new(set: &'a PatternSet, fillings: &'a [Option<Filling>]) -> Self {
        Self { set, fillings }
    }

    /// Whether the set holds no pattern.
    pub(super) const fn is_empty(&self) -> bool {
        self.set.is_empty()
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
    /// it matches none, or only those without a wildcard. One of a pattern that ends with a wildcard comes first.
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

    /// Whether a pattern matches of which `node` is reached by the tokens of the subject before `below`. Wildcards count as
    /// literal tokens.
    #[inline]
    pub(super) fn matches_from(&self, node: u32, below: &[u8]) -> bool {
        if find_dot(below).is_none() {
            return self.ends_with(node, below);
        }
        let mut found = false;
        self.walk_from(node, below, Reading::Literal, |_, _| {
            found = true;
            true
        });
        found
    }

    /// Whether a pattern ends, or goes on with `>`, one token behind `node`.
    #[inline]
    fn ends_with(&self, node: u32, token: &[u8]) -> bool {
        if token.is_empty() {
            return false;
        }
        let Some(known) = self.set.nodes.get(node as usize) else {
            return false;
        };
        let ends = |child: u32| self.set.value_of(child).is_some();
        known.rest != NONE
            || (known.star != NONE && ends(known.star))
            || self.set.child(node, token).is_some_and(ends)
            || self
                .set
                .edges_of(known)
                .iter()
                .any(|edge| ends(edge.child) && self.leads_on(edge, Some(token)))
    }

    /// Calls `reach` with each node that a literal token leads to from `node`.
    pub(super) fn step(&self, node: u32, token: &[u8], mut reach: impl FnMut(u32)) {
        let Some(known) = self.set.nodes.get(node as usize) else {
            return;
        };
        if known.star != NONE {
            reach(known.star);
        }
        for edge in self.set.edges_of(known) {
            if self.leads_on(edge, Some(token)) {
                reach(edge.child);
            }
        }
        if let Some(child) = self.set.child(node, token) {
            reach(child);
        }
    }

    /// Whether a pattern goes on with `>` behind `node`.
    pub(super) fn has_rest(&self, node: u32) -> bool {
        let node = self.set.nodes.get(node as usize);
        node.is_some_and(|node| node.rest != NONE)
    }

    /// The walk behind `matches` and `covers`: calls `visit` for each pattern that fits, and with its reach if it has a
    /// wildcard, until it says stop.
    #[inline]
    fn walk(
        &self,
        subject: &[u8],
        reading: Reading,
        visit: impl FnMut(u32, Option<Reach>) -> bool,
    ) {
        if !self.set.is_empty() {
            self.walk_from(0, subject, reading, visit);
        }
    }

    /// The same from a node on, where `subject` is what stands behind the tokens that lead there.
    #[inline]
    fn walk_from(
        &self,
        node: u32,
        subject: &[u8],
        reading: Reading,
        mut visit: impl FnMut(u32, Option<Reach>) -> bool,
    ) {
        let mut branches = Branches::new();
        let (mut index, mut at, mut star) = (node, 0_usize, (0, 0));
        loop {
            if let Some(node) = self.set.nodes.get(index as usize) {
                let (token, next) = token_at(subject, at);
                if token.is_empty() {
                    return;
                }
                let from_here = |below| Some(Reach::behind(at, below));
                let from_star = || Reach::around(star, subject);
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
                        Some(next) => branches.push(Branch {
                            node: node.star,
                            at: next,
                            star: (at, next.wrapping_sub(1)),
                        }),
                        None => {
                            let reach = from_here(Below::OneToken);
                            let value = self.set.value_of(node.star);
                            if value.is_some_and(|value| visit(value, reach)) {
                                return;
                            }
                        }
                    }
                }
                for edge in self.set.edges_of(node) {
                    if !self.leads_on(edge, Some(token)) {
                        continue;
                    }
                    match next {
                        Some(next) => branches.push(Branch {
                            node: edge.child,
                            at: next,
                            star,
                        }),
                        None if self
                            .set
                            .value_of(edge.child)
                            .is_some_and(|value| visit(value, from_star())) =>
                        {
                            return;
                        }
                        None => {}
                    }
                }
                if let Some(child) = self.set.child(index, token) {
                    match next {
                        Some(next) => {
                            (index, at) = (child, next);
                            continue;
                        }
                        None if self
                            .set
                            .value_of(child)
                            .is_some_and(|value| visit(value, from_star())) =>
                        {
                            return;
                        }
                        None => {}
                    }
                }
            }
            match branches.pop() {
                Some(branch) => (index, at, star) = (branch.node, branch.at, branch.star),
                None => return,
            }
        }
    }

    /// Whether an edge is for this token; for none, whether it is for any.
    #[inline]
    pub(super) fn leads_on(&self, edge: &Edge, token: Option<&[u8]>) -> bool {
        match &edge.test {
            Test::Glob(glob) => token.is_none_or(|token| glob.matches(token)),
            Test::Place(place) => {
                let filling = self.fillings.get(*place as usize);
                let filling = filling.and_then(Option::as_ref);
                filling.is_some_and(|filling| token.is_none_or(|token| filling.fits(token)))
            }
        }
    }
}

/// The token that begins at `at`, and where the next one begins if there is one.
#[inline]
pub(super) fn token_at(subject: &[u8], at: usize) -> (&[u8], Option<usize>) {
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
