//! Identities of live sessions and what they may do, shared by those that brought the same token: a service opens many
//! connections with one.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::identity::Identity;
use crate::policy::Permissions;

/// The identities in use.
#[derive(Debug, Default)]
pub(super) struct Identities {
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_hash: HashMap<u64, (Weak<Identity>, Weak<Permissions>)>,
    /// Entries at which those that nobody uses are swept out.
    full_at: usize,
}

/// Fewest entries worth sweeping.
const SWEEP_MIN: usize = 64;

impl Identities {
    /// The same identity, shared with a session that has it already in every part; likewise what it may do.
    pub(super) fn share(
        &self,
        identity: Arc<Identity>,
        permissions: Arc<Permissions>,
    ) -> (Arc<Identity>, Arc<Permissions>) {
        let (hash, mut known) = self.look_at(&identity);
        let (same, may) = known.find(hash);
        let same = same.filter(|same| Arc::ptr_eq(same, &identity) || *same == identity);
        let may = may.filter(|may| may.are_those_of(&permissions));
        if let (Some(same), Some(may)) = (&same, &may) {
            return (Arc::clone(same), Arc::clone(may));
        }
        let identity = same.unwrap_or(identity);
        let permissions = may.unwrap_or(permissions);
        known.note(hash, &identity, &permissions);
        (identity, permissions)
    }

    /// What a live session may do from now on, shared likewise.
    pub(super) fn share_anew(
        &self,
        identity: &Arc<Identity>,
        permissions: Arc<Permissions>,
    ) -> Arc<Permissions> {
        let (hash, mut known) = self.look_at(identity);
        let (_, may) = known.find(hash);
        if let Some(may) = may.filter(|may| may.are_those_of(&permissions)) {
            return may;
        }
        known.note(hash, identity, &permissions);
        permissions
    }

    /// The hash of an identity's key only says where to look; equality decides.
    fn look_at(&self, identity: &Identity) -> (u64, MutexGuard<'_, Known>) {
        let hash = self.hasher.hash_one((&identity.tid, &identity.oid));
        (
            hash,
            self.known.lock().unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl Known {
    fn find(&self, hash: u64) -> (Option<Arc<Identity>>, Option<Arc<Permissions>>) {
        match self.by_hash.get(&hash) {
            Some((identity, permissions)) => (identity.upgrade(), permissions.upgrade()),
            None => (None, None),
        }
    }

    fn note(&mut self, hash: u64, identity: &Arc<Identity>, permissions: &Arc<Permissions>) {
        if self.by_hash.len() >= self.full_at {
            self.by_hash
                .retain(|_, (identity, _)| identity.strong_count() > 0);
            self.full_at = self.by_hash.len().saturating_mul(2).max(SWEEP_MIN);
        }
        let weak = (Arc::downgrade(identity), Arc::downgrade(permissions));
        self.by_hash.insert(hash, weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Kind;
    use crate::policy::{Circumstances, Document, Policy};
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

    fn policy() -> Policy {
        let role = |bound| serde_json::json!({ "bind": [{ "app_role": bound }], "upstream": "u", "publish": ["{oid}.>"] });
        let document: Document = serde_json::from_value(serde_json::json!({
            "roles": { "r": role("R"), "q": role("Q") }
        }))
        .expect("a document");
        Policy::compile(&document).expect("a policy")
    }

    fn shared(
        all: &Identities,
        policy: &Policy,
        identity: Arc<Identity>,
    ) -> (Arc<Identity>, Arc<Permissions>) {
        let permissions = permissions(policy, &identity);
        all.share(identity, permissions)
    }

    fn permissions(policy: &Policy, identity: &Identity) -> Arc<Permissions> {
        let circumstances = Circumstances {
            source: [127, 0, 0, 1].into(),
            now: Timestamp::from_secs(0),
            requested_role: None,
        };
        let assigned = policy.assign(identity, &circumstances);
        assigned.expect("a role").permissions
    }

    #[test]
    fn only_what_is_the_same_in_every_part_is_shared() {
        let (all, policy) = (Identities::default(), policy());
        let first = shared(&all, &policy, identity("a", "R"));
        let again = shared(&all, &policy, identity("a", "R"));
        assert!(Arc::ptr_eq(&first.0, &again.0) && Arc::ptr_eq(&first.1, &again.1));
        let other = shared(&all, &policy, identity("a", "Q"));
        assert_eq!(*other.0.roles, [Box::from("Q")]);
        assert_eq!(*first.0.roles, [Box::from("R")]);
        assert!(!other.1.are_those_of(&first.1));
        let stranger = shared(&all, &policy, identity("b", "R"));
        assert!(!stranger.1.are_those_of(&first.1));
    }

    #[test]
    fn after_a_change_of_policy_sessions_share_what_they_may_do_from_then_on() {
        let (all, before) = (Identities::default(), policy());
        let (one, old) = shared(&all, &before, identity("a", "R"));
        let after = policy();
        let first = all.share_anew(&one, permissions(&after, &one));
        assert!(!first.are_those_of(&old));
        let second = all.share_anew(&one, permissions(&after, &one));
        assert!(Arc::ptr_eq(&first, &second));
        let (same, third) = shared(&all, &after, identity("a", "R"));
        assert!(Arc::ptr_eq(&same, &one) && Arc::ptr_eq(&third, &first));
    }

    #[test]
    fn what_nobody_uses_is_swept_out() {
        let (all, policy) = (Identities::default(), policy());
        for n in 0..10_000 {
            drop(shared(&all, &policy, identity(&n.to_string(), "R")));
        }
        let known = all.known.lock().unwrap();
        assert!(
            known.by_hash.len() <= 2 * SWEEP_MIN,
            "{}",
            known.by_hash.len()
        );
    }
}
