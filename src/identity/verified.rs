//! Signatures that a key was seen to have made. A client that comes back brings the token it had: after an outage all of
//! them do at once, and the signature is half of what judging a token costs.
//!
//! Owns: the digests of what one key has verified, so that they go when the key goes. Must never: say anything about a
//! token but that its bytes are those that this key signed (time, audience, issuer and all else are judged every time),
//! remember a refusal, or grow with what strangers send (only the issuer can make an entry).

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

/// Signatures remembered for one key; the oldest goes first.
const MOST: usize = 16 * 1024;

/// SHA-256 of a message and its signature.
type Fingerprint = [u8; 32];

/// What one key has verified.
#[derive(Debug, Default)]
pub(super) struct Verified(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    all: HashSet<Fingerprint>,
    by_age: VecDeque<Fingerprint>,
}

impl Verified {
    /// Whether the key signed this: from memory, or as `verify` finds out.
    pub(super) fn or_else(
        &self,
        message: &[u8],
        signature: &[u8],
        verify: impl FnOnce() -> bool,
    ) -> bool {
        let fingerprint = fingerprint(message, signature);
        if self.lock().all.contains(&fingerprint) {
            return true;
        }
        if !verify() {
            return false;
        }
        let mut known = self.lock();
        if known.all.insert(fingerprint) {
            known.by_age.push_back(fingerprint);
        }
        if known.by_age.len() > MOST
            && let Some(oldest) = known.by_age.pop_front()
        {
            known.all.remove(&oldest);
        }
        true
    }

    /// A panic elsewhere while it was held leaves at most an entry too few.
    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lengths are part of it, so that no byte can pass from the message to the signature.
fn fingerprint(message: &[u8], signature: &[u8]) -> Fingerprint {
    Sha256::new()
        .chain_update(message.len().to_le_bytes())
        .chain_update(message)
        .chain_update(signature)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_verified_is_remembered_and_only_byte_for_byte() {
        let verified = Verified::default();
        assert!(!verified.or_else(b"message", b"forged", || false));
        assert!(!verified.or_else(b"message", b"forged", || false));
        assert!(verified.or_else(b"message", b"signed", || true));
        assert!(verified.or_else(b"message", b"signed", || panic!("known")));
        for (message, signature) in [
            (&b"Message"[..], &b"signed"[..]),
            (b"message", b"Signed"),
            (b"messages", b"igned"),
            (b"message", b""),
        ] {
            assert!(!verified.or_else(message, signature, || false));
        }
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let verified = Verified::default();
        for n in 0..=MOST {
            assert!(verified.or_else(&n.to_le_bytes(), b"s", || true));
        }
        assert!(!verified.or_else(&0_usize.to_le_bytes(), b"s", || false));
        assert!(verified.or_else(&1_usize.to_le_bytes(), b"s", || panic!("known")));
        let known = verified.lock();
        assert_eq!((known.all.len(), known.by_age.len()), (MOST, MOST));
    }
}
