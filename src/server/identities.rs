//! Identities of live sessions, shared by those that brought the same token: a service opens many connections with one.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::identity::Identity;

/// The identities in use.
#[derive(Debug, Default)]
pub(super) struct Identities {
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_hash: HashMap<u64, Weak<Identity>>,
    /// Entries at which those that nobody uses are swept out.
    full_at: usize,
}

/// Fewest entries worth sweeping.
const SWEEP_MIN: usize = 64;

impl Identities {
    /// The same identity, shared with a session that has it already in every part.
    pub(super) fn share(&self, identity: Arc<Identity>) -> Arc<Identity> {
        // Equality decides; the hash of its key only says where to look.
        let hash = self.hasher.hash_one((&identity.tid, &identity.oid));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.by_hash.get(&hash).and_then(Weak::upgrade)
            && (Arc::ptr_eq(&same, &identity) || same == identity)
        {
            return same;
        }
        if known.by_hash.len() >= known.full_at {
            known.by_hash.retain(|_, weak| weak.strong_count() > 0);
            known.full_at = known.by_hash.len().saturating_mul(2).max(SWEEP_MIN);
        }
        known.by_hash.insert(hash, Arc::downgrade(&identity));
        identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Kind;
    use crate::time::Timestamp;

    fn identity(oid: &str, role: &str) -> Arc<Identity> {
        Arc::new(Identity {
            roles: vec![role.into()],
            ..Identity::plain(
                Kind::App,
                ("t", oid),
                (Timestamp::from_secs(0), Timestamp::from_secs(1)),
            )
        })
    }

    #[test]
    fn only_what_is_the_same_in_every_part_is_shared() {
        let all = Identities::default();
        let first = all.share(identity("a", "R"));
        assert!(Arc::ptr_eq(&first, &all.share(identity("a", "R"))));
        let other = all.share(identity("a", "Q"));
        assert_eq!(*other.roles, [Box::from("Q")]);
        assert_eq!(*first.roles, [Box::from("R")]);
    }

    #[test]
    fn what_nobody_uses_is_swept_out() {
        let all = Identities::default();
        for n in 0..10_000 {
            drop(all.share(identity(&n.to_string(), "R")));
        }
        let known = all.known.lock().unwrap();
        assert!(
            known.by_hash.len() <= 2 * SWEEP_MIN,
            "{}",
            known.by_hash.len()
        );
    }
}
