//! The live subscriptions of one session, as the upstream knows them: by sid, with what is needed to count automatic
//! unsubscription and to judge them again when the policy changes.

use std::collections::HashMap;

/// One live subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) sid: Box<[u8]>,
    pub(super) subject: Box<[u8]>,
    pub(super) queue: Option<Box<[u8]>>,
    /// UNSUB max is counted here and not upstream: a deny entry overlaps, or we delivered something ourselves.
    pub(super) counted_here: bool,
    /// Changes of policy that the session had seen when it was made.
    pub(super) made_after: u64,
    /// Unsubscribe after this many deliveries.
    pub(super) max: Option<u64>,
    /// Deliveries forwarded so far.
    pub(super) delivered: u64,
}

/// What a delivery on a sid means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Forward it.
    Pass,
    /// Nobody holds the sid.
    Nobodys,
    /// Forward it; it was the last one, and the subscription is gone. The flag says that upstream must be told.
    Last { tell_upstream: bool },
}

/// Subscriptions by sid.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    slots: Vec<Option<Subscription>>,
    free: Vec<usize>,
    by_sid: HashMap<Box<[u8]>, usize>,
    /// Slot of the last delivery: a stream of messages on one sid needs no look-up.
    last: usize,
    /// There has been a subscription.
    ever: bool,
    /// Bytes of all subjects, queue groups and ids.
    bytes: usize,
}

impl Subscription {
    /// Bytes that the peer made us keep.
    fn bytes(&self) -> usize {
        let queue = self.queue.as_ref().map_or(0, |queue| queue.len());
        self.sid
            .len()
            .saturating_add(self.subject.len())
            .saturating_add(queue)
    }
}

impl Subscriptions {
    /// Bytes of all subjects, queue groups and ids.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.by_sid.len()
    }

    /// Whether there has ever been a subscription.
    pub(super) const fn ever(&self) -> bool {
        self.ever
    }

    pub(super) fn contains(&self, sid: &[u8]) -> bool {
        self.by_sid.contains_key(sid)
    }

    pub(super) fn insert(&mut self, subscription: Subscription) {
        self.ever = true;
        self.bytes = self.bytes.saturating_add(subscription.bytes());
        let slot = self.free.pop().unwrap_or(self.slots.len());
        self.by_sid.insert(subscription.sid.clone(), slot);
        if slot == self.slots.len() {
            if self.slots.is_empty() {
                // Many sessions have one; a vector would begin with four.
                self.slots.reserve_exact(1);
            }
            self.slots.push(Some(subscription));
        } else if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(subscription);
        }
    }

    pub(super) fn remove(&mut self, sid: &[u8]) -> Option<Subscription> {
        let slot = self.by_sid.remove(sid)?;
        self.free.push(slot);
        let gone = self.slots.get_mut(slot)?.take()?;
        self.bytes = self.bytes.saturating_sub(gone.bytes());
        Some(gone)
    }

    fn slot_of(&mut self, sid: &[u8]) -> Option<usize> {
        if let Some(Some(last)) = self.slots.get(self.last)
            && *last.sid == *sid
        {
            return Some(self.last);
        }
        self.last = *self.by_sid.get(sid)?;
        Some(self.last)
    }

    pub(super) fn find(&mut self, sid: &[u8]) -> Option<&mut Subscription> {
        let slot = self.slot_of(sid)?;
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Slot of a subscription that no number of deliveries ends.
    #[inline]
    pub(super) fn endless(&mut self, sid: &[u8]) -> Option<usize> {
        let slot = self.slot_of(sid)?;
        let subscription = self.slots.get(slot)?.as_ref()?;
        subscription.max.is_none().then_some(slot)
    }

    /// Counts deliveries on the subscription in a slot that [`Self::endless`] gave.
    #[inline]
    pub(super) fn add(&mut self, slot: usize, deliveries: u64) {
        if let Some(Some(subscription)) = self.slots.get_mut(slot) {
            subscription.delivered = subscription.delivered.saturating_add(deliveries);
        }
    }

    /// Counts a delivery.
    pub(super) fn count(&mut self, sid: &[u8]) -> Delivery {
        let Some(subscription) = self.find(sid) else {
            return Delivery::Nobodys;
        };
        subscription.delivered = subscription.delivered.saturating_add(1);
        match subscription.max {
            Some(max) if subscription.delivered >= max => Delivery::Last {
                tell_upstream: subscription.counted_here,
            },
            _ => Delivery::Pass,
        }
    }

    /// Every live subscription, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.slots.iter().flatten()
    }

    /// Takes all of them out.
    pub(super) fn drain(&mut self) -> Vec<Subscription> {
        self.bytes = 0;
        self.by_sid.clear();
        self.free.clear();
        self.slots.drain(..).flatten().collect()
    }
}
