//! Tokens that the gate has let through. A client that comes back brings the token it had: after an outage all of them do
//! at once, and judging it, signature and claims, is nearly half of what a connect costs outside the kernel.
//!
//! Owns: whom each of them speaks for, under one snapshot of the keys; of the token no more than a digest. Must never:
//! answer where the gate might say otherwise (other keys, keys that have grown too old, a token that has ended, a clock
//! that went back), remember a refusal, or grow with what strangers send (only an issuer can make an entry).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use sha2::{Digest as _, Sha256};

use super::expectations::Expectations;
use super::keys::KeyRing;
use super::token::validate_bound;
use super::{Groups, Identity, TokenError};
use crate::time::Timestamp;

/// What the remembered identities may hold together, in bytes: some thousands. The oldest go first.
const MOST: usize = 8 * 1024 * 1024;

/// SHA-256 of a token and of the certificate that came with it.
type Fingerprint = [u8; 32];

/// The gate, and whom it has let through. One for each table of expectations.
#[derive(Debug, Default)]
pub struct Accepted(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The snapshot that all were judged by. Held weakly: it stays the only one at its address, and its keys go.
    ring: Weak<KeyRing>,
    by_token: HashMap<Fingerprint, Entry>,
    by_age: VecDeque<Fingerprint>,
    weight: usize,
}

#[derive(Debug)]
struct Entry {
    identity: Arc<Identity>,
    /// When the gate was asked. What it looks at besides keys and the token's end only gets truer with time.
    from: Timestamp,
    /// When the token ends, or before that the first keys grow too old of those that were not so at `from`. Others let
    /// nobody through then, so what becomes of them is nothing to this token.
    until: Timestamp,
}

impl Entry {
    fn new(identity: Arc<Identity>, ring: &KeyRing, now: Timestamp) -> Self {
        Self {
            from: now,
            until: identity.expires_at.min(ring.same_until(now)),
            identity,
        }
    }
}

impl Accepted {
    /// As [`validate_bound`], from memory where that is known to say the same. `expectations` must be the same table in
    /// every call.
    ///
    /// # Errors
    ///
    /// As [`validate_bound`].
    pub fn validate(
        &self,
        token: &[u8],
        thumbprint: Option<&str>,
        ring: &Arc<KeyRing>,
        expectations: &Expectations,
        now: Timestamp,
    ) -> Result<Arc<Identity>, TokenError> {
        let judge = || validate_bound(token, thumbprint, ring, expectations, now).map(Arc::new);
        if token.len() > expectations.limits().size {
            return judge();
        }
        let fingerprint = fingerprint(token, thumbprint);
        if let Some(identity) = self.lock().get(&fingerprint, ring, now) {
            return Ok(identity);
        }
        let identity = judge()?;
        let entry = Entry::new(Arc::clone(&identity), ring, now);
        let forgotten = self.lock().add(fingerprint, entry, ring);
        // Thousands, perhaps: others need not wait until they are freed.
        drop(forgotten);
        Ok(identity)
    }

    /// A panic elsewhere while it was held leaves at most an entry too few.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn get(
        &self,
        fingerprint: &Fingerprint,
        ring: &Arc<KeyRing>,
        now: Timestamp,
    ) -> Option<Arc<Identity>> {
        if !self.is_of(ring) {
            return None;
        }
        let entry = self.by_token.get(fingerprint)?;
        (entry.from <= now && now < entry.until).then(|| Arc::clone(&entry.identity))
    }

    /// Gives what was known under other keys, which is forgotten with it.
    fn add(&mut self, fingerprint: Fingerprint, entry: Entry, ring: &Arc<KeyRing>) -> Option<Self> {
        let anew = || Self {
            ring: Arc::downgrade(ring),
            ..Self::default()
        };
        let forgotten = (!self.is_of(ring)).then(|| std::mem::replace(self, anew()));
        self.weight = self.weight.saturating_add(weight(&entry.identity));
        match self.by_token.insert(fingerprint, entry) {
            Some(before) => self.weight = self.weight.saturating_sub(weight(&before.identity)),
            None => self.by_age.push_back(fingerprint),
        }
        while self.weight > MOST
            && let Some(oldest) = self.by_age.pop_front()
        {
            let gone = self.by_token.remove(&oldest);
            let gone = gone.map_or(0, |entry| weight(&entry.identity));
            self.weight = self.weight.saturating_sub(gone);
        }
        forgotten
    }

    fn is_of(&self, ring: &Arc<KeyRing>) -> bool {
        std::ptr::eq(self.ring.as_ptr(), Arc::as_ptr(ring))
    }
}

/// The length is part of it, so that no byte can pass from the token to the thumbprint.
fn fingerprint(token: &[u8], thumbprint: Option<&str>) -> Fingerprint {
    let hash = Sha256::new()
        .chain_update(token.len().to_le_bytes())
        .chain_update(token);
    match thumbprint {
        Some(thumbprint) => hash.chain_update([1]).chain_update(thumbprint),
        None => hash,
    }
    .finalize()
    .into()
}

/// At least about what an entry holds, in bytes. Every field is named, so that a new one is not forgotten.
fn weight(identity: &Identity) -> usize {
    let Identity {
        tid,
        oid,
        issuer,
        sub,
        azp,
        azpacr: _,
        kind: _,
        roles,
        groups,
        scopes,
        acrs,
        amr,
        acct: _,
        auth_time: _,
        issued_at: _,
        expires_at: _,
        uti,
        display_name,
        xms_mirid,
        certificate_thumbprint,
        template_claims,
    } = identity;
    let groups: &[Box<str>] = match groups {
        Groups::Known(all) | Groups::Named(all) => all,
        Groups::Resolved { member, .. } => member,
        Groups::Misnamed | Groups::Unknown => &[],
    };
    let optional = [
        sub,
        azp,
        uti,
        display_name,
        xms_mirid,
        certificate_thumbprint,
    ];
    let lists = [&roles[..], groups, scopes, acrs, amr];
    let nodes = template_claims.len().div_ceil(NODE_ENTRIES);
    [tid, oid, issuer]
        .into_iter()
        .chain(optional.into_iter().flatten())
        .chain(lists.into_iter().flatten())
        .chain(
            template_claims
                .iter()
                .flat_map(|(name, value)| [name, value]),
        )
        .map(|text| {
            text.len()
                .saturating_add(text.len() / 4)
                .saturating_add(TEXT)
        })
        .fold(
            nodes.saturating_mul(NODE).saturating_add(ENTRY),
            usize::saturating_add,
        )
}

/// The identity itself with its counts, and its places in the two collections, which may have twice as many.
const ENTRY: usize = size_of::<Identity>()
    + 2 * size_of::<usize>()
    + 2 * size_of::<(Fingerprint, Entry)>()
    + 2 * size_of::<Fingerprint>();
/// A text's place in its list, and what the allocator rounds up besides a quarter.
const TEXT: usize = 24;
/// Entries that a node of a `BTreeMap` has room for, and what it takes.
const NODE_ENTRIES: usize = 11;
const NODE: usize = NODE_ENTRIES * size_of::<(Box<str>, Box<str>)>() + 32;

#[cfg(test)]
mod tests;
