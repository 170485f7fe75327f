//! Connection slots: one for each connection, and counted per client address, so that one address cannot take them all.
//! Nobody waits for one: a client that is turned away at once goes on to another natsentry, one in a queue hangs.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// The part of an IPv6 address that names a network.
const NETWORK: u128 = !0 << 64;

/// Connection slots of one process.
#[derive(Debug)]
pub(super) struct Slots {
    all: Semaphore,
    per_address_max: usize,
    per_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Slots {
    pub(super) fn new(connections: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self {
            all: Semaphore::new(connections.min(Semaphore::MAX_PERMITS)),
            per_address_max,
            per_address: Mutex::default(),
        })
    }

    /// A slot for a connection whose client is not known yet; none when all are taken.
    pub(super) fn take(self: &Arc<Self>) -> Option<Slot> {
        let permit = self.all.try_acquire().ok()?;
        Some(self.occupy(permit))
    }

    /// As [`Self::take`], but waits for one at most this long.
    pub(super) async fn take_within(self: &Arc<Self>, patience: Duration) -> Option<Slot> {
        let permit = timeout(patience, self.all.acquire()).await.ok()?.ok()?;
        Some(self.occupy(permit))
    }

    fn occupy(self: &Arc<Self>, permit: SemaphorePermit<'_>) -> Slot {
        // Given back when the slot is dropped: the slots are known there, and need not be held twice.
        permit.forget();
        Slot {
            slots: Arc::clone(self),
            address: None,
        }
    }

    fn leave(&self, address: IpAddr) {
        let mut per_address = self
            .per_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = per_address.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                per_address.remove(&address);
            }
        }
    }
}

/// One connection's slot; dropping it frees it.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    address: Option<IpAddr>,
}

impl Slot {
    /// Counts the connection as one of the client's address. False, and nothing counted, when that holds too many.
    ///
    /// All addresses of an IPv6 /64 are one: that is what a single customer or host is given (RFC 6177), to make up
    /// addresses in as it likes.
    pub(super) fn count_address(&mut self, address: IpAddr) -> bool {
        let address = counted_as(address);
        let mut per_address = self
            .slots
            .per_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = per_address.entry(address).or_default();
        if *count >= self.slots.per_address_max {
            return false;
        }
        *count = count.saturating_add(1);
        self.address = Some(address);
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            self.slots.leave(address);
        }
        self.slots.all.add_permits(1);
    }
}

fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_are_one() {
        let slots = Slots::new(10, 2);
        let mut held = Vec::new();
        let mut enters = |address: &str| {
            let mut slot = slots.take().expect("there are ten");
            let counted = slot.count_address(address.parse().expect("an address"));
            if counted {
                held.push(slot);
            }
            counted
        };
        assert!(enters("2001:db8:1:2::1") && enters("2001:db8:1:2:ffff::1"));
        assert!(!enters("2001:db8:1:2:3:4:5:6"));
        assert!(enters("2001:db8:1:3::1"));
        assert!(enters("192.0.2.1") && enters("::ffff:192.0.2.1"));
        assert!(!enters("192.0.2.1"));
        assert!(enters("192.0.2.2"));
        held.clear();
        let mut slot = slots.take().expect("all are free again");
        assert!(slot.count_address("2001:db8:1:2::7".parse().expect("an address")));
    }

    #[test]
    fn nobody_waits_for_a_slot() {
        let slots = Slots::new(1, 1);
        let held = slots.take().expect("the first");
        assert!(slots.take().is_none());
        drop(held);
        assert!(slots.take().is_some());
    }
}
