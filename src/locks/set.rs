//! All locks of a process, by whom they select: an admission asks with a few look-ups, and with none where there is no
//! lock.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::lock::{Lock, Selector, folded};
use crate::identity::Identity;
use crate::time::Timestamp;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Who it is.
    pub identity: &'a Identity,
    /// Roles that apply.
    pub roles: &'a [Arc<str>],
    /// When the token was shown to us, for a live session; none: now.
    pub shown_at: Option<Timestamp>,
    /// The time.
    pub now: Timestamp,
}

impl<'a> Presented<'a> {
    /// Somebody whose token comes now.
    pub fn newcomer(identity: &'a Identity, roles: &'a [Arc<str>], now: Timestamp) -> Self {
        Self {
            identity,
            roles,
            shown_at: None,
            now,
        }
    }
}

type ByName = HashMap<Box<str>, Vec<Arc<Lock>>>;

/// Locks, arranged for questions.
#[derive(Debug, Default)]
pub struct LockSet {
    all: Vec<Arc<Lock>>,
    everybody: Vec<Arc<Lock>>,
    /// By tenant and then by object id.
    identities: HashMap<Box<str>, ByName>,
    clients: ByName,
    tokens: ByName,
    roles: ByName,
}

impl LockSet {
    /// Arranges locks.
    pub fn new(locks: impl IntoIterator<Item = Lock>) -> Self {
        let mut set = Self::default();
        for lock in locks {
            let lock = Arc::new(lock);
            let place = match &lock.selector {
                Selector::Identity { tid, oid } => {
                    let tenant = set.identities.entry(tid.clone()).or_default();
                    tenant.entry(oid.clone()).or_default()
                }
                Selector::Client(azp) => set.clients.entry(azp.clone()).or_default(),
                Selector::Token(uti) => set.tokens.entry(uti.clone()).or_default(),
                Selector::Role(role) => set.roles.entry(role.clone()).or_default(),
                Selector::Everybody => &mut set.everybody,
            };
            place.push(Arc::clone(&lock));
            set.all.push(lock);
        }
        set
    }

    /// Every lock, those that have ended as well.
    pub fn all(&self) -> &[Arc<Lock>] {
        &self.all
    }

    /// Whether some lock goes by role, so that the roles of a session matter.
    pub fn goes_by_role(&self) -> bool {
        !self.roles.is_empty()
    }

    /// The lock that refuses somebody; none where none does. Of several, the one that selects most closely.
    pub fn refusing(&self, who: &Presented<'_>) -> Option<&Arc<Lock>> {
        if self.all.is_empty() {
            return None;
        }
        self.selecting(who.identity, who.roles)
            .find(|lock| lock.refuses(who))
    }

    /// The locks that select an identity in these roles, the closest ones first.
    pub fn selecting(
        &self,
        identity: &Identity,
        roles: &[Arc<str>],
    ) -> impl Iterator<Item = &Arc<Lock>> + use<'_> {
        let mut lists: SmallVec<[&[Arc<Lock>]; 4]> = SmallVec::new();
        lists.extend(
            identity
                .uti
                .as_ref()
                .and_then(|uti| self.tokens.get(uti))
                .map(Vec::as_slice),
        );
        let tenant = self.identities.get(&identity.tid);
        lists.extend(
            tenant
                .and_then(|tenant| tenant.get(&identity.oid))
                .map(Vec::as_slice),
        );
        if !self.clients.is_empty() {
            let azp = identity.azp.as_deref();
            lists.extend(
                azp.and_then(|azp| self.clients.get(&folded(azp)))
                    .map(Vec::as_slice),
            );
        }
        if !self.roles.is_empty() {
            for role in roles {
                lists.extend(self.roles.get(&**role).map(Vec::as_slice));
            }
        }
        lists.push(&self.everybody);
        lists.into_iter().flatten()
    }

    /// When the next of the locks in force ends.
    pub fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        let ends = self.all.iter().filter_map(|lock| lock.until);
        ends.filter(|until| now < *until).min()
    }
}
