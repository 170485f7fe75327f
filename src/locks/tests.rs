//! What holds of every lock, and of every list of them.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::identity::{Identity, Kind};
use crate::time::Timestamp;

const TID: &str = "11111111-2222-3333-4444-555555555555";
const OID: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const NOW: Timestamp = Timestamp::from_secs(1_795_451_820);

fn identity() -> Identity {
    Identity {
        issuer: format!("https://login.microsoftonline.com/{TID}/v2.0").into(),
        azp: Some("5b7e92a4-0f5d-4f3f-9b06-6b1c7d3f9e10".into()),
        uti: Some("Zk3nN7uX0k".into()),
        ..Identity::plain(
            Kind::User,
            (TID, OID),
            (NOW, Timestamp::from_secs(NOW.as_secs() + 3600)),
        )
    }
}

fn lock(selector: Selector) -> Lock {
    Lock {
        id: "one".into(),
        selector,
        ban: Ban::Everything,
        until: None,
        at: NOW,
        by: "root@here".into(),
        reason: String::new().into(),
    }
}

fn refuses(lock: &Lock, identity: &Identity, roles: &[&str], now: Timestamp) -> bool {
    let roles: Vec<Arc<str>> = roles.iter().map(|role| Arc::from(*role)).collect();
    let set = LockSet::new([lock.clone()]);
    let who = Presented {
        identity,
        roles: &roles,
        shown_at: None,
        now,
    };
    set.refusing(&who).is_some()
}

#[test]
fn a_lock_selects_whom_it_names_and_nobody_else() {
    let alice = identity();
    let azp = "5B7E92A4-0F5D-4F3F-9B06-6B1C7D3F9E10";
    let upper = OID.to_ascii_uppercase();
    let other_tenant = "21111111-2222-3333-4444-555555555555";
    for (selector, selected) in [
        (Selector::identity(TID, OID), true),
        (Selector::identity(TID, &upper), true),
        (Selector::identity(other_tenant, OID), false),
        (
            Selector::identity(TID, "aaaaaaaa-0000-4000-8000-000000000002"),
            false,
        ),
        (Selector::identity(OID, TID), false),
        (Selector::client(azp), true),
        (Selector::client(OID), false),
        (Selector::Token("Zk3nN7uX0k".into()), true),
        (Selector::Token("zk3nn7ux0k".into()), false),
        (Selector::Role("operator".into()), true),
        (Selector::Role("Operator".into()), false),
        (Selector::Everybody, true),
    ] {
        let lock = lock(selector);
        assert_eq!(
            refuses(&lock, &alice, &["reader", "operator"], NOW),
            selected,
            "{}",
            lock.selector
        );
    }
    // Without a name there is nothing to select by, which never means everything.
    let nameless = Identity {
        azp: None,
        uti: None,
        ..identity()
    };
    for selector in [Selector::client(azp), Selector::Token("".into())] {
        assert!(!refuses(&lock(selector), &nameless, &[], NOW));
    }
}

#[test]
fn a_clock_that_is_set_back_brings_a_lock_back_and_one_set_forward_ends_it_for_so_long_only() {
    let one = Lock {
        until: Some(Timestamp::from_secs(NOW.as_secs() + 60)),
        ..lock(Selector::Everybody)
    };
    let at = |secs: u64| refuses(&one, &identity(), &[], Timestamp::from_secs(secs));
    let now = NOW.as_secs();
    assert!(at(now) && at(now + 59) && !at(now + 60) && !at(now + 3600));
    assert!(at(now - 3600) && at(now));
    let set = LockSet::new([one.clone()]);
    assert_eq!(set.next_end(NOW), one.until);
    assert_eq!(set.next_end(Timestamp::from_secs(now + 60)), None);
}

#[test]
fn names_of_other_issuers_are_taken_letter_by_letter() {
    let issuer = "https://login.example/realms/plant";
    let alice = Identity {
        tid: issuer.into(),
        oid: "Alice".into(),
        ..identity()
    };
    assert!(refuses(
        &lock(Selector::identity(issuer, "Alice")),
        &alice,
        &[],
        NOW
    ));
    assert!(!refuses(
        &lock(Selector::identity(issuer, "alice")),
        &alice,
        &[],
        NOW
    ));
}

#[test]
fn tokens_count_from_the_sign_in_or_from_their_issue_without_backdating() {
    let cut = Timestamp::from_secs(1_000_000);
    let banned = |identity: &Identity| {
        let lock = Lock {
            ban: Ban::TokensBefore(cut),
            ..lock(Selector::Everybody)
        };
        refuses(&lock, identity, &[], NOW)
    };
    let issued = |secs: u64| Identity {
        issued_at: Timestamp::from_secs(secs),
        ..identity()
    };
    // Entra backdates by five minutes.
    assert!(banned(&issued(999_699)));
    assert!(!banned(&issued(999_700)));
    let elsewhere = |secs| Identity {
        tid: "https://login.example".into(),
        ..issued(secs)
    };
    assert!(banned(&elsewhere(999_999)));
    assert!(!banned(&elsewhere(1_000_000)));
    // Who did not sign in again has an old sign-in in a new token.
    let refreshed = Identity {
        auth_time: Some(Timestamp::from_secs(999_999)),
        ..issued(1_000_500)
    };
    assert!(banned(&refreshed));
    let fresh = Identity {
        auth_time: Some(cut),
        ..issued(999_000)
    };
    assert!(!banned(&fresh));
    // A live session whose token was shown before the moment has an older token, whatever it says.
    let set = LockSet::new([Lock {
        ban: Ban::TokensBefore(cut),
        ..lock(Selector::Everybody)
    }]);
    let late = issued(1_000_000);
    let shown = |secs: u64| {
        let who = Presented {
            identity: &late,
            roles: &[],
            shown_at: Some(Timestamp::from_secs(secs)),
            now: NOW,
        };
        set.refusing(&who).is_some()
    };
    assert!(shown(999_999));
    assert!(!shown(1_000_000));
}

#[test]
fn a_sentence_says_who_locked_whom_until_when_and_how_it_ends() {
    let alice = identity();
    let mut one = lock(Selector::identity(TID, OID));
    one.reason = "laptop \"stolen\"\n-ERR 'x'\u{202e}".into();
    one.until = Some(Timestamp::from_secs(1_795_455_420));
    let said = one.sentence(&alice);
    assert_eq!(
        said,
        format!(
            "an operator locked identity {TID}/{OID} (lock one of 2026-11-23T16:37:00.000Z by root@here: laptop 'stolen'?-ERR \
             'x'?). It ends 2026-11-23T17:37:00.000Z; to end it now: natsentry unlock one"
        )
    );
    one.ban = Ban::TokensBefore(Timestamp::from_secs(1_795_455_420));
    one.until = None;
    let said = one.sentence(&alice);
    assert!(said.contains("sign in again"), "{said}");
    assert!(said.contains("2026-11-23T16:42:00.000Z"), "{said}");
}

#[test]
fn what_is_wrong_in_a_file_is_said_with_its_place() {
    let good = r#"{"version":1,"locks":[{"id":"a","all":true,"at":"2026-11-01"}]}"#;
    assert_eq!(Document::parse(good.as_bytes()).unwrap().locks.len(), 1);
    for (text, words) in [
        ("", "line 1, column 0"),
        ("{", "line 1, column 1"),
        (
            "{\n\"version\":1,\"locks\":[{\"id\":\"a\"}]}",
            "line 2, column",
        ),
        (r#"{"version":2,"locks":[]}"#, "version 2 is not known"),
        (r#"{"version":1,"locks":[],"more":1}"#, "unknown field"),
        (r#"{"version":1,"version":1,"locks":[]}"#, "duplicate field"),
        (
            r#"{"version":1,"locks":[{"id":"a","at":"2026-11-01"}]}"#,
            "locks[0] (a): name exactly one of",
        ),
        (
            r#"{"version":1,"locks":[{"id":"a","oid":"x","at":"2026-11-01"}]}"#,
            "name exactly one of",
        ),
        (
            r#"{"version":1,"locks":[{"id":"a","all":false,"at":"2026-11-01"}]}"#,
            "name exactly one of",
        ),
        (
            r#"{"version":1,"locks":[{"id":"a","all":true,"uti":"x","at":"2026-11-01"}]}"#,
            "name exactly one of",
        ),
        (
            r#"{"version":1,"locks":[{"id":"a","uti":"","at":"2026-11-01"}]}"#,
            "empty",
        ),
        (
            r#"{"version":1,"locks":[{"id":"a","all":true,"at":"yesterday"}]}"#,
            "`at`",
        ),
        (
            r#"{"version":1,"locks":[{"id":"a","all":true,"until":"2026-13-01","at":"2026-11-01"}]}"#,
            "`until`",
        ),
        (
            r#"{"version":1,"locks":[{"id":"a b","all":true,"at":"2026-11-01"}]}"#,
            "an id is",
        ),
        (
            r#"{"version":1,"locks":[{"id":"a","all":true,"at":"2026-11-01"},{"id":"a","all":true,"at":"2026-11-01"}]}"#,
            "locks[1] (a): this id was used before",
        ),
    ] {
        let said = Document::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(said.contains(words), "{text}: {said}");
    }
}

fn selectors() -> impl Strategy<Value = Selector> {
    let name = || "[ab]{1,2}";
    prop_oneof![
        (name(), name()).prop_map(|(tid, oid)| Selector::identity(&tid, &oid)),
        name().prop_map(|azp| Selector::client(&azp)),
        name().prop_map(|uti| Selector::Token(uti.into())),
        name().prop_map(|role| Selector::Role(role.into())),
        Just(Selector::Everybody),
    ]
}

prop_compose! {
    fn locks()(
        selector in selectors(),
        cut in prop::option::of(0_u64..40),
        until in prop::option::of(0_u64..40),
        id in "[a-z0-9]{8}",
        reason in "\\PC{0,20}",
    ) -> Lock {
        Lock {
            id: id.into(),
            selector,
            ban: cut.map_or(Ban::Everything, |cut| Ban::TokensBefore(Timestamp::from_secs(cut))),
            until: until.map(Timestamp::from_secs),
            at: NOW,
            by: "x@y".into(),
            reason: reason.into(),
        }
    }
}

prop_compose! {
    fn identities()(
        tid in "[ab]{1,2}",
        oid in "[ab]{1,2}",
        azp in prop::option::of("[ab]{1,2}"),
        uti in prop::option::of("[ab]{1,2}"),
        issued in 0_u64..40,
        signed_in in prop::option::of(0_u64..40),
    ) -> Identity {
        Identity {
            tid: tid.into(),
            oid: oid.into(),
            azp: azp.map(Into::into),
            uti: uti.map(Into::into),
            issued_at: Timestamp::from_secs(issued),
            auth_time: signed_in.map(Timestamp::from_secs),
            ..identity()
        }
    }
}

/// By the words of the documentation, lock by lock.
fn naively(lock: &Lock, identity: &Identity, roles: &[Arc<str>], now: u64) -> bool {
    let selected = match &lock.selector {
        Selector::Identity { tid, oid } => *tid == identity.tid && *oid == identity.oid,
        Selector::Client(azp) => identity.azp.as_ref() == Some(azp),
        Selector::Token(uti) => identity.uti.as_ref() == Some(uti),
        Selector::Role(role) => roles.iter().any(|held| **held == **role),
        Selector::Everybody => true,
    };
    let issued = identity.auth_time.unwrap_or(identity.issued_at);
    let banned = match lock.ban {
        Ban::Everything => true,
        Ban::TokensBefore(cut) => issued < cut,
    };
    selected
        && banned
        && lock
            .until
            .is_none_or(|until| Timestamp::from_secs(now) < until)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_set_refuses_exactly_whom_one_of_its_locks_refuses(
        locks in prop::collection::vec(locks(), 0..8),
        identity in identities(),
        roles in prop::collection::vec("[ab]{1,2}", 0..3),
        now in 0_u64..40,
    ) {
        let roles: Vec<Arc<str>> = roles.into_iter().map(Into::into).collect();
        let set = LockSet::new(locks.clone());
        let who = Presented {
            identity: &identity, roles: &roles, shown_at: None, now: Timestamp::from_secs(now),
        };
        let naive = locks.iter().any(|lock| naively(lock, &identity, &roles, now));
        let found = set.refusing(&who);
        prop_assert_eq!(found.is_some(), naive);
        if let Some(found) = found {
            prop_assert!(naively(found, &identity, &roles, now));
        }
    }

    #[test]
    fn one_lock_more_never_lets_anybody_in(
        locks in prop::collection::vec(locks(), 0..6),
        more in locks(),
        identity in identities(),
        now in 0_u64..40,
    ) {
        let who = Presented {
            identity: &identity, roles: &[], shown_at: None, now: Timestamp::from_secs(now),
        };
        let before = LockSet::new(locks.clone()).refusing(&who).is_some();
        let after = LockSet::new(locks.into_iter().chain([more])).refusing(&who).is_some();
        prop_assert!(after || !before);
    }

    #[test]
    fn what_is_written_reads_back(all in prop::collection::vec(locks(), 0..6)) {
        let mut document = Document::default();
        for lock in all {
            if !document.locks.iter().any(|known| known.id == lock.id) {
                document.locks.push(lock);
            }
        }
        let gone = document.locks.first().map(|lock| lock.id.clone());
        if let Some(id) = gone {
            prop_assert!(document.lift(&id, NOW, "me", "done").is_some());
        }
        prop_assert_eq!(Document::parse(document.text().as_bytes()), Ok(document));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(Document::parse(&bytes));
    }

    #[test]
    fn a_sentence_is_one_line(lock in locks(), identity in identities(), reason in ".{0,40}") {
        let lock = Lock { reason: reason.into(), ..lock };
        prop_assert!(!lock.sentence(&identity).contains(|c: char| c.is_control()));
    }
}

#[test]
fn an_id_is_known_while_its_lock_is_there_and_for_a_while_after() {
    let mut document = Document {
        locks: vec![lock(Selector::Everybody)],
        lifted: Vec::new(),
    };
    assert!(document.knows("one") && !document.knows("two") && !document.knows("on"));
    document.lift("one", NOW, "root@here", "");
    assert!(document.knows("one"));
}
