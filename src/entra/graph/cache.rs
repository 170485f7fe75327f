//! Answers by principal, bounded in number: when it is full, the oldest answer goes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Membership, Principal};

/// Answers. The key holds the tenant: object ids of different tenants never meet.
#[derive(Debug)]
pub(super) struct Cache {
    most: usize,
    answers: HashMap<Principal, (u64, Arc<Membership>)>,
    /// In the order in which they were put.
    order: BTreeMap<u64, Principal>,
    next: u64,
}

impl Cache {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            answers: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
        }
    }

    pub(super) fn get(&self, principal: &Principal) -> Option<Arc<Membership>> {
        self.answers
            .get(principal)
            .map(|(_, membership)| Arc::clone(membership))
    }

    pub(super) fn put(&mut self, principal: Principal, membership: Arc<Membership>) {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        let before = self.answers.insert(principal.clone(), (number, membership));
        if let Some((old, _)) = before {
            self.order.remove(&old);
        }
        self.order.insert(number, principal);
        while self.answers.len() > self.most {
            let Some((_, oldest)) = self.order.pop_first() else {
                return;
            };
            self.answers.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Kind;
    use crate::time::Timestamp;

    fn principal(tid: &str, oid: u32) -> Principal {
        Principal {
            tid: tid.into(),
            oid: oid.to_string().into(),
            kind: Kind::User,
        }
    }

    fn answer(group: &str) -> Arc<Membership> {
        Arc::new(Membership {
            asked: Arc::new([]),
            member: vec![group.into()],
            at: Timestamp::from_millis(0),
        })
    }

    #[test]
    fn the_oldest_goes_and_tenants_do_not_meet() {
        let mut cache = Cache::new(3);
        cache.put(principal("a", 1), answer("a1"));
        cache.put(principal("b", 1), answer("b1"));
        cache.put(principal("a", 2), answer("a2"));
        // Put anew, it is the youngest.
        cache.put(principal("a", 1), answer("a1 again"));
        cache.put(principal("a", 3), answer("a3"));
        let found = |tid: &str, oid| cache.get(&principal(tid, oid)).map(|m| m.member[0].clone());
        assert_eq!(found("a", 1).as_deref(), Some("a1 again"));
        assert_eq!(found("b", 1), None);
        assert_eq!(found("a", 2).as_deref(), Some("a2"));
        assert_eq!(found("a", 3).as_deref(), Some("a3"));
        assert_eq!((cache.answers.len(), cache.order.len()), (3, 3));
    }
}
