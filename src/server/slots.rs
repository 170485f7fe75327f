//! Connection slots: taken before a connection is accepted, so that a full process leaves the rest in the kernel's
//! queue, and counted per client address, so that one address cannot take them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connection slots of one process.
#[derive(Debug)]
pub(super) struct Slots {
    all: Arc<Semaphore>,
    per_address_max: usize,
    per_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Slots {
    pub(super) fn new(connections: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self {
            all: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            per_address_max,
            per_address: Mutex::default(),
        })
    }

    /// Waits for a slot. None once the slots are closed.
    pub(super) async fn free(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.all).acquire_owned().await.ok()
    }

    /// Gives the slot to a connection, whose client is not known yet.
    pub(super) fn occupy(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Slot {
        Slot {
            slots: Arc::clone(self),
            address: None,
            _permit: permit,
        }
    }
}

/// One connection's slot; dropping it frees it.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    address: Option<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    /// Counts the connection as one of the client's address. False, and nothing counted, when that holds too many.
    pub(super) fn count_address(&mut self, address: IpAddr) -> bool {
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
        let Some(address) = self.address else { return };
        let mut per_address = self
            .slots
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
