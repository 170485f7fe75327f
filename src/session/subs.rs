//! The live subscriptions of one session, as the upstream knows them: by sid, with what is needed to count automatic
//! unsubscription and to judge them again when the policy changes.

use std::collections::HashMap;

/// One live subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) sid: Box<[u8]>,
    pub(super) subject: Box<[u8]>,
    pub(super) queue: Option<Box<[u8]>>,
    /// Its subject has wildcards.
    pub(super) is_pattern: bool,
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
    live: usize,
    /// Slots by sid, once there were more than a few.
    #[expect(
        clippy::box_collection,
        reason = "most sessions have none, and an idle one is to be small"
    )]
    by_sid: Option<Box<HashMap<Box<[u8]>, usize>>>,
    /// Slot of the last delivery: a stream of messages on one sid needs no look-up.
    last: usize,
    /// There has been a subscription.
    ever: bool,
    /// Bytes of all subjects, queue groups and ids.
    bytes: usize,
}

/// Subscriptions that are looked for one after the other before they move into a table: most sessions have no more.
const FEW: usize = 8;

/// What it takes to look at a subscription: about so many nanoseconds.
const LOOK: usize = 24;

/// Bytes that a subscription costs besides its subject, queue group and id.
const EACH: usize = 512;

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

    /// Bytes of memory that they hold, those that had the slots before included.
    pub(super) fn held(&self) -> usize {
        self.bytes
            .saturating_add(self.slots.len().saturating_mul(EACH))
    }

    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Whether there has ever been a subscription.
    pub(super) const fn ever(&self) -> bool {
        self.ever
    }

    pub(super) fn contains(&self, sid: &[u8]) -> bool {
        self.place(sid).is_some()
    }

    fn place(&self, sid: &[u8]) -> Option<usize> {
        let held =
            |slot: &Option<Subscription>| slot.as_ref().is_some_and(|held| *held.sid == *sid);
        match &self.by_sid {
            Some(by_sid) => by_sid.get(sid).copied(),
            None => self.slots.iter().position(held),
        }
    }

    pub(super) fn insert(&mut self, subscription: Subscription) {
        self.ever = true;
        self.bytes = self.bytes.saturating_add(subscription.bytes());
        self.live = self.live.saturating_add(1);
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if let Some(by_sid) = &mut self.by_sid {
            by_sid.insert(subscription.sid.clone(), slot);
        }
        if slot == self.slots.len() {
            if self.slots.is_empty() {
                // Many sessions have one; a vector would begin with four.
                self.slots.reserve_exact(1);
            }
            self.slots.push(Some(subscription));
        } else if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(subscription);
        }
        if self.by_sid.is_none() && self.slots.len() > FEW {
            let sids = self.slots.iter().enumerate();
            let by_sid = sids.filter_map(|(slot, held)| Some((held.as_ref()?.sid.clone(), slot)));
            self.by_sid = Some(Box::new(by_sid.collect()));
        }
    }

    pub(super) fn remove(&mut self, sid: &[u8]) -> Option<Subscription> {
        let slot = self.place(sid)?;
        if let Some(by_sid) = &mut self.by_sid {
            by_sid.remove(sid);
        }
        self.live = self.live.saturating_sub(1);
        self.free.push(slot);
        let gone = self.slots.get_mut(slot)?.take()?;
        self.bytes = self.bytes.saturating_sub(gone.bytes());
        if self.live == 0 && self.slots.len() > FEW {
            // Many that are gone are not to be paid for by whoever has few later.
            self.slots = Vec::new();
            self.free = Vec::new();
            self.by_sid = None;
        }
        Some(gone)
    }

    fn slot_of(&mut self, sid: &[u8]) -> Option<usize> {
        if let Some(Some(last)) = self.slots.get(self.last)
            && *last.sid == *sid
        {
            return Some(self.last);
        }
        self.last = self.place(sid)?;
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

    /// The first live subscription that `fits`, in no order, and how much was looked at for that: a unit for each place,
    /// [`LOOK`] for each subscription, and for one with wildcards two for each byte of its subject besides.
    pub(super) fn find_where(
        &self,
        fits: impl Fn(&Subscription) -> bool,
    ) -> (Option<&Subscription>, usize) {
        let mut looked = 0_usize;
        for slot in &self.slots {
            looked = looked.saturating_add(1);
            let Some(subscription) = slot else { continue };
            looked = looked.saturating_add(LOOK);
            if subscription.is_pattern {
                looked = looked.saturating_add(subscription.subject.len().saturating_mul(2));
            }
            if fits(subscription) {
                return (Some(subscription), looked);
            }
        }
        (None, looked)
    }

    /// Takes all of them out.
    pub(super) fn drain(&mut self) -> Vec<Subscription> {
        self.bytes = 0;
        self.live = 0;
        self.by_sid = None;
        self.free.clear();
        self.slots.drain(..).flatten().collect()
    }
}
