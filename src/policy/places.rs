//! Places: the tokens of a set of roles that are not the same for everybody, such as `{oid}`.
//!
//! Owns: which token of which pattern is a place, and what fills it for one identity. The patterns themselves are compiled
//! once for all identities that have the roles; what an identity holds of its own is a few tokens. Must never: fill a
//! place with more than one token, or leave a pattern in force of which a place stays empty.

use std::collections::HashMap;

use super::template::Template;
use crate::identity::Identity;
use crate::subject::{Filling, Pattern, PatternToken};

/// A pattern with places.
pub(super) type PlacedPattern = Box<[PatternToken<Box<[u8]>>]>;

/// The places of a set of roles, by number.
#[derive(Debug, Default)]
pub(super) struct Places(Box<[Place]>);

/// A token with templates, and whether it may be a glob.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    token: Template,
    globs: bool,
}

impl Places {
    /// What fills them for an identity. A place for which it has no value stays empty.
    pub(super) fn fill(&self, identity: &Identity) -> Box<[Option<Filling>]> {
        let fill = |place: &Place| {
            let token = place.token.fill(identity).ok()?;
            Filling::new(token.as_bytes(), place.globs)
        };
        self.0.iter().map(fill).collect()
    }
}

/// Collects places while patterns are compiled.
#[derive(Debug, Default)]
pub(super) struct PlacesBuilder(HashMap<Place, u32>);

impl PlacesBuilder {
    /// The pattern of a subject with templates; none for a subject that is no pattern, whatever fills it.
    pub(super) fn pattern(&mut self, subject: &Template, globs: bool) -> Option<PlacedPattern> {
        Pattern::parse(subject.sample()).ok()?;
        let tokens = subject.tokens().into_iter().map(|token| {
            if token.is_fixed() {
                return PatternToken::Text(token.sample().into_bytes().into());
            }
            let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
            PatternToken::Place(*self.0.entry(Place { token, globs }).or_insert(next))
        });
        Some(tokens.collect())
    }

    pub(super) fn build(self) -> Places {
        let mut places: Vec<(Place, u32)> = self.0.into_iter().collect();
        places.sort_unstable_by_key(|(_, number)| *number);
        Places(places.into_iter().map(|(place, _)| place).collect())
    }
}
