//! Inboxes of `inbox: private`: who holds which token below `_INBOX.`.
//!
//! Owns: the claim of an inbox token by an identity, and its end with the session. Must never: let two identities hold
//! one token, or be asked per message (only SUB, UNSUB and the end of a session come here).
//!
//! A token belongs to an identity, and every session of that identity may listen below it: a client that reconnects
//! after its network was cut takes its old inbox up again while the old session still waits to be found dead. Where the
//! old session ended first, the token stays reserved for a while: whoever was asked something knows it from the reply
//! subject, and could sit on it until the client is back, which reads the answers that are still under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use crate::subject::{begins_with, is_valid_subject};

/// What inboxes begin with unless a client is told otherwise.
const PREFIX: &[u8] = b"_INBOX.";

/// The shortest token that counts as a session's own; those of request inboxes of client libraries have 22 characters.
const SHORTEST_TOKEN: usize = 16;

/// Length of the one shorter kind that counts: nats.go listens for the answers to asynchronous publishes, and so for those
/// of an object store's put, below a token of 6 letters and digits (`aReplyTokensize`). One of 57 thousand million is too
/// many to sit on by guessing. Design record 0002.
const ASYNC_REPLY_TOKEN: usize = 6;

/// The longest token that is held; what is longer is nobody's inbox.
const LONGEST_TOKEN: usize = 64;

/// Held inbox tokens of all sessions.
#[derive(Debug, Default)]
pub struct InboxRegistry {
    tokens: Mutex<Tokens>,
}

#[derive(Debug, Default)]
struct Tokens {
    held: HashMap<Box<[u8]>, Holder>,
    /// How often the reserved tokens have grown older.
    age: u64,
    /// Tokens that were reserved since then, and in the age before.
    reserved: [Vec<Box<[u8]>>; 2],
}

#[derive(Debug)]
struct Holder {
    owner: Arc<str>,
    /// None when the token is reserved for the owner.
    sessions: SmallVec<[u64; 1]>,
    /// The age in which it was reserved last.
    reserved_in: u64,
}

impl InboxRegistry {
    /// How many tokens are held or reserved.
    pub fn len(&self) -> usize {
        self.lock().held.len()
    }

    /// Whether no token is held or reserved.
    pub fn is_empty(&self) -> bool {
        self.lock().held.is_empty()
    }

    /// Lets reserved tokens grow older. Those that were reserved before the last call are free from now on: called at
    /// a steady distance, it is the least time that a client has to come back.
    pub fn grow_older(&self) {
        let mut tokens = self.lock();
        let [now, before] = &mut tokens.reserved;
        let over = std::mem::replace(before, std::mem::take(now));
        let age = tokens.age;
        for token in over {
            let unused = |holder: &Holder| holder.sessions.is_empty() && holder.reserved_in < age;
            if tokens.held.get(&token).is_some_and(unused) {
                tokens.held.remove(&token);
            }
        }
        tokens.age = age.saturating_add(1);
    }

    /// Gives the token to the identity, unless another one holds it. Called once per session and token.
    fn claim(&self, token: &[u8], owner: &Arc<str>, session: u64) -> bool {
        let held = &mut self.lock().held;
        match held.get_mut(token) {
            Some(holder) if holder.owner != *owner => false,
            Some(holder) => {
                if !holder.sessions.contains(&session) {
                    holder.sessions.push(session);
                }
                true
            }
            None => {
                let holder = Holder {
                    owner: Arc::clone(owner),
                    sessions: SmallVec::from_buf([session]),
                    reserved_in: 0,
                };
                held.insert(token.into(), holder);
                true
            }
        }
    }

    /// Gives the token back, or keeps it reserved for its owner.
    fn release(&self, token: &[u8], session: u64, reserve: bool) {
        let mut tokens = self.lock();
        let age = tokens.age;
        let Some(holder) = tokens.held.get_mut(token) else {
            return;
        };
        holder.sessions.retain(|held_by| *held_by != session);
        if !holder.sessions.is_empty() {
            return;
        }
        holder.reserved_in = age;
        if reserve {
            let [now, _] = &mut tokens.reserved;
            now.push(token.into());
        } else {
            tokens.held.remove(token);
        }
    }

    /// A panic elsewhere while the lock was held leaves the map whole: every change is one insertion or removal.
    fn lock(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The inboxes of one session. They are given back when it is dropped; the first few stay reserved for the identity.
#[derive(Debug)]
pub(super) struct HeldInboxes {
    registry: Arc<InboxRegistry>,
    owner: Arc<str>,
    session: u64,
    /// Token and number of subscriptions below it; unsorted while few.
    few: SmallVec<[(Box<[u8]>, u32); 1]>,
    #[expect(
        clippy::box_collection,
        reason = "most sessions have none, and an idle one is to be small"
    )]
    many: Option<Box<HashMap<Box<[u8]>, u32>>>,
}

/// Tokens that are looked for one after the other before they move into a table.
const FEW: usize = 8;

/// What came of a subscription in an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The session holds the inbox.
    Held,
    /// Another identity does.
    Taken,
    /// The subject is not below an inbox token.
    NotAnInbox,
}

impl HeldInboxes {
    pub(super) fn new(registry: Arc<InboxRegistry>, owner: Arc<str>, session: u64) -> Self {
        Self {
            registry,
            owner,
            session,
            few: SmallVec::new(),
            many: None,
        }
    }

    /// Claims the inbox that the subscription lies in and counts the subscription.
    pub(super) fn claim(&mut self, subject: &[u8]) -> Claim {
        let Some(token) = claimable_token(subject) else {
            return Claim::NotAnInbox;
        };
        if let Some(count) = self.count_of(token) {
            *count = count.saturating_add(1);
            return Claim::Held;
        }
        if !self.registry.claim(token, &self.owner, self.session) {
            return Claim::Taken;
        }
        if self.few.len() < FEW {
            self.few.push((token.into(), 1));
        } else {
            self.many.get_or_insert_default().insert(token.into(), 1);
        }
        Claim::Held
    }

    /// One subscription below an inbox ended; the last one gives the inbox back.
    pub(super) fn release(&mut self, subject: &[u8]) {
        let Some(token) = claimable_token(subject) else {
            return;
        };
        let Some(count) = self.count_of(token) else {
            return;
        };
        *count = count.saturating_sub(1);
        if *count > 0 {
            return;
        }
        self.registry.release(token, self.session, false);
        let many = self.many.as_mut();
        if many.and_then(|many| many.remove(token)).is_none() {
            self.few.retain(|(held, _)| **held != *token);
        }
    }

    /// Keeps every inbox and forgets how many subscriptions are below it, since all of them are judged again.
    pub(super) fn count_anew(&mut self) {
        let few = self.few.iter_mut().map(|(_, count)| count);
        let many = self.many.iter_mut().flat_map(|many| many.values_mut());
        for count in few.chain(many) {
            *count = 0;
        }
    }

    /// Whether a reply subject lies in a held inbox.
    #[inline]
    pub(super) fn contains(&self, reply: &[u8]) -> bool {
        let Some(after) = reply.get(PREFIX.len()..) else {
            return false;
        };
        if !begins_with(reply, PREFIX) {
            return false;
        }
        let lies_below = |held: &[u8]| {
            begins_with(after, held) && matches!(after.get(held.len()), None | Some(b'.'))
        };
        self.few.iter().any(|(held, _)| lies_below(held))
            || self.many.as_ref().is_some_and(|many| {
                inbox_token(reply).is_some_and(|token| many.contains_key(token))
            })
    }

    /// Length of the beginning of a reply, with the dot behind the token, below which everything lies in the same held inbox.
    pub(super) fn beginning(&self, reply: &[u8]) -> Option<usize> {
        let token = inbox_token(reply).filter(|_| self.contains(reply))?;
        let len = PREFIX.len().saturating_add(token.len()).saturating_add(1);
        (len < reply.len()).then_some(len)
    }

    /// Whether a subject lies below an inbox that this identity holds, or nobody.
    pub(super) fn may_claim(&self, subject: &[u8]) -> bool {
        let Some(token) = claimable_token(subject) else {
            return false;
        };
        let tokens = self.registry.lock();
        tokens
            .held
            .get(token)
            .is_none_or(|holder| holder.owner == self.owner)
    }

    fn count_of(&mut self, token: &[u8]) -> Option<&mut u32> {
        let few = self.few.iter_mut().find(|(held, _)| **held == *token);
        match few {
            Some((_, count)) => Some(count),
            None => self.many.as_mut()?.get_mut(token),
        }
    }
}

impl Drop for HeldInboxes {
    fn drop(&mut self) {
        for (token, _) in &self.few {
            self.registry.release(token, self.session, true);
        }
        for token in self.many.iter().flat_map(|many| many.keys()) {
            self.registry.release(token, self.session, false);
        }
    }
}

/// The token after `_INBOX.`, whatever it is.
fn inbox_token(subject: &[u8]) -> Option<&[u8]> {
    let after = subject.strip_prefix(PREFIX)?;
    let end = memchr::memchr(b'.', after).unwrap_or(after.len());
    after.get(..end)
}

/// The token after `_INBOX.` of a subscription, where it can be somebody's own.
fn claimable_token(subject: &[u8]) -> Option<&[u8]> {
    let token = inbox_token(subject)?;
    let long = (SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&token.len());
    let of_async_publish =
        token.len() == ASYNC_REPLY_TOKEN && token.iter().all(u8::is_ascii_alphanumeric);
    let good = (long || of_async_publish)
        && !token.iter().any(|byte| matches!(byte, b'*' | b'>'))
        && is_valid_subject(subject);
    good.then_some(token)
}
