use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::identity::{HeldKeys, KeySet, Kind};

fn identity(oid: u32, role: usize) -> Arc<Identity> {
    let times = (Timestamp::from_secs(0), Timestamp::from_secs(100));
    Arc::new(Identity {
        roles: vec!["r".repeat(role).into()],
        ..Identity::plain(Kind::App, ("t", &oid.to_string()), times)
    })
}

fn entry(oid: u32, role: usize) -> Entry {
    Entry::new(
        identity(oid, role),
        &ring_until(&[1000]),
        Timestamp::from_secs(50),
    )
}

fn print(n: u32) -> Fingerprint {
    fingerprint(&n.to_le_bytes(), None)
}

/// A ring of sources whose keys can be gone by up to then, and of one without keys.
fn ring_until(ends: &[u64]) -> Arc<KeyRing> {
    let mut modulus = vec![0x80; 256];
    modulus.push(1);
    let key = serde_json::json!({
        "kty": "RSA", "kid": "k", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(modulus),
    });
    let document = serde_json::json!({ "keys": [key] }).to_string();
    let mut ring = KeyRing::empty(ends.len() + 1);
    for (source, secs) in ends.iter().enumerate() {
        let held = HeldKeys {
            keys: KeySet::parse(document.as_bytes()).unwrap(),
            fetched_at: Timestamp::default(),
            good_until: Timestamp::from_secs(*secs),
            cloud: None,
            issuer: None,
        };
        ring = ring.with(source, held);
    }
    Arc::new(ring)
}

#[test]
fn what_is_remembered_is_so_between_its_acceptance_and_the_first_end_of_token_and_keys() {
    for (keys_end, wanted) in [
        (&[1000][..], [false, true, true, false]),
        (&[80], [false, true, false, false]),
        (&[1000, 80], [false, true, false, false]),
        // An issuer that was out of reach for too long before says nothing about tokens of others.
        (&[1000, 50], [false, true, true, false]),
        (&[50], [false; 4]),
    ] {
        let (mut known, ring) = (Known::default(), ring_until(keys_end));
        let entry = Entry::new(identity(1, 1), &ring, Timestamp::from_secs(50));
        known.add(print(1), entry, &ring);
        let at = |secs| {
            known
                .get(&print(1), &ring, Timestamp::from_secs(secs))
                .is_some()
        };
        assert_eq!(
            [49, 50, 99, 100].map(at),
            wanted,
            "keys end at {keys_end:?}"
        );
        assert!(
            known
                .get(&print(2), &ring, Timestamp::from_secs(60))
                .is_none()
        );
    }
}

#[test]
fn other_keys_know_nothing_of_it_and_it_is_forgotten_with_the_next_that_they_let_through() {
    let now = Timestamp::from_secs(60);
    let (mut known, ring, other) = (Known::default(), ring_until(&[1000]), ring_until(&[1000]));
    assert!(known.get(&print(1), &ring, now).is_none());
    known.add(print(1), entry(1, 1), &ring);
    assert!(known.get(&print(1), &other, now).is_none());
    assert!(known.get(&print(1), &ring, now).is_some());
    known.add(print(2), entry(2, 1), &other);
    assert!(known.get(&print(1), &ring, now).is_none());
    assert!(known.get(&print(1), &other, now).is_none());
    assert!(known.get(&print(2), &other, now).is_some());
    assert_eq!(known.by_age.len(), 1);
}

#[test]
fn the_oldest_go_before_it_holds_more_than_it_may_and_the_sum_stays_true() {
    let (mut known, ring) = (Known::default(), ring_until(&[1000]));
    let now = Timestamp::from_secs(60);
    for oid in 0..1000 {
        known.add(print(oid), entry(oid, 20_000), &ring);
        // Two may judge one token at once.
        known.add(print(oid), entry(oid, 30_000), &ring);
        assert!(known.weight <= MOST);
    }
    let all = known.by_token.values().map(|entry| weight(&entry.identity));
    assert_eq!(known.weight, all.sum::<usize>());
    assert_eq!(known.by_age.len(), known.by_token.len());
    assert!(known.by_age.len() > 200 && known.get(&print(999), &ring, now).is_some());
    assert!(known.get(&print(0), &ring, now).is_none());
    // One that is larger than all may be leaves nothing behind.
    known.add(print(1000), entry(1000, MOST), &ring);
    assert_eq!(
        (known.weight, known.by_age.len(), known.by_token.len()),
        (0, 0, 0)
    );
}

#[test]
fn no_byte_passes_from_the_token_to_the_thumbprint() {
    let all = [
        fingerprint(b"token", None),
        fingerprint(b"token", Some("")),
        fingerprint(b"token", Some("x")),
        fingerprint(b"tokenx", Some("")),
        fingerprint(b"tokenx", None),
        fingerprint(b"token\x01", None),
        fingerprint(b"token\x01x", None),
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one), "{index}");
    }
}
