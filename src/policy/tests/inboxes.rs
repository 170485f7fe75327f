//! Whose inbox is whose: what a session may listen on, and where a reply may go.

use super::judging::{TOKEN, reason, sub_reason};
use super::*;
use crate::policy::DenialReason;

#[test]
fn every_inbox_shape_of_the_clients_works_and_nobody_listens_on_all() {
    let mut judge = judge_of(json!({ "publish": ["svc"] }));
    for (subject, reply) in [
        (format!("_INBOX.{TOKEN}.*"), format!("_INBOX.{TOKEN}.8fQx")),
        (format!("_INBOX.{TOKEN}"), format!("_INBOX.{TOKEN}")),
        (format!("_INBOX.{TOKEN}.>"), format!("_INBOX.{TOKEN}.a.b")),
        (format!("_INBOX.{TOKEN}.lit"), format!("_INBOX.{TOKEN}.lit")),
        (format!("_INBOX_{OID}.>"), format!("_INBOX_{OID}.x")),
        (format!("_INBOX_{OID}.n.*"), format!("_INBOX_{OID}.n.1")),
    ] {
        let permit = judge.subscribe(subject.as_bytes(), None);
        assert!(permit.is_ok(), "{subject}");
        assert_eq!(reason(&mut judge, "svc", Some(&reply)), None, "{reply}");
        judge.unsubscribed(subject.as_bytes(), None);
    }
    for subject in [
        "_INBOX.>",
        "_INBOX.*",
        "_INBOX.*.x",
        "_INBOX.short.*",
        "_INBOX.",
        "_INBOX",
        "_INBOX_.>",
        "_INBOX_other.>",
        ">",
        "*.>",
    ] {
        assert!(!may_subscribe(&mut judge, subject, None), "{subject}");
    }
    let subject = format!("_INBOX.{TOKEN}.*");
    assert_eq!(
        sub_reason(&mut judge, &subject, Some("q")),
        Some(DenialReason::NotGranted)
    );
}

#[test]
fn the_short_inbox_of_asynchronous_publishes_counts_and_other_short_ones_do_not() {
    let mut judge = judge_of(json!({ "publish": ["svc"] }));
    for (subject, allowed) in [
        ("_INBOX.aB3dE6.*", true),
        ("_INBOX.aB3dE.*", false),
        ("_INBOX.aB3dE67.*", false),
        ("_INBOX.aB3-E6.*", false),
        ("_INBOX.aB3dE*.x", false),
        ("_INBOX.exactly-sixteen.*", false),
        ("_INBOX.exactly-sixteen-.*", true),
    ] {
        assert_eq!(
            may_subscribe(&mut judge, subject, None),
            allowed,
            "{subject}"
        );
    }
    let long = format!("_INBOX.{}.*", "x".repeat(64));
    assert!(may_subscribe(&mut judge, &long, None));
    let longer = format!("_INBOX.{}.*", "x".repeat(65));
    assert!(!may_subscribe(&mut judge, &longer, None));
}

#[test]
fn a_reply_must_lie_in_the_sessions_own_inbox_or_be_publishable() {
    let mut judge =
        judge_of(json!({ "publish": ["svc", "mine.>"], "deny": { "publish": ["mine.not"] } }));
    let inbox = format!("_INBOX.{TOKEN}.*");
    let reply = format!("_INBOX.{TOKEN}.1");
    assert_eq!(
        reason(&mut judge, "svc", Some(&reply)),
        Some(DenialReason::ReplyNotOwn)
    );
    judge.subscribe(inbox.as_bytes(), None).expect("a permit");
    assert_eq!(reason(&mut judge, "svc", Some(&reply)), None);
    assert_eq!(reason(&mut judge, "svc", Some("mine.a")), None);
    for reply in [
        "victim",
        "mine.not",
        "_INBOX.someone-elses-token.1",
        "mine",
        "mine.>",
    ] {
        assert_eq!(
            reason(&mut judge, "svc", Some(reply)),
            Some(DenialReason::ReplyNotOwn),
            "{reply}"
        );
    }
    // Two subscriptions below one inbox: the first one that ends does not give it back.
    judge.subscribe(inbox.as_bytes(), None).expect("a permit");
    judge.unsubscribed(inbox.as_bytes(), None);
    assert_eq!(reason(&mut judge, "svc", Some(&reply)), None);
    judge.unsubscribed(inbox.as_bytes(), None);
    assert!(reason(&mut judge, "svc", Some(&reply)).is_some());
}

#[test]
fn an_inbox_belongs_to_one_identity_and_is_free_a_while_after_its_sessions() {
    let registry = Arc::new(InboxRegistry::default());
    let policy = policy(json!({ "r": bound(json!({ "publish": ["svc"] })) }));
    let mut other = identity();
    other.oid = "aaaaaaaa-0000-4000-8000-000000000001".into();
    let judge = |who: &Identity, session| {
        let permissions = assign(&policy, who).expect("an assignment").permissions;
        Judge::new(permissions, Arc::clone(&registry), session)
    };
    let inbox = format!("_INBOX.{TOKEN}.*");
    let (mut first, mut again) = (judge(&identity(), 1), judge(&identity(), 2));
    let mut stranger = judge(&other, 3);
    assert!(first.subscribe(inbox.as_bytes(), None).is_ok());
    assert_eq!(
        sub_reason(&mut stranger, &inbox, None),
        Some(DenialReason::InboxTaken)
    );
    // The same identity reconnects while its old session still waits to be found dead.
    assert!(again.subscribe(inbox.as_bytes(), None).is_ok());
    drop(first);
    assert_eq!(
        sub_reason(&mut stranger, &inbox, None),
        Some(DenialReason::InboxTaken)
    );
    // A stranger who knows the token from a request cannot sit on it while the client is away.
    drop(again);
    registry.grow_older();
    assert_eq!(
        sub_reason(&mut stranger, &inbox, None),
        Some(DenialReason::InboxTaken)
    );
    let mut back = judge(&identity(), 4);
    assert!(back.subscribe(inbox.as_bytes(), None).is_ok());
    registry.grow_older();
    drop(back);
    registry.grow_older();
    assert_eq!(
        sub_reason(&mut stranger, &inbox, None),
        Some(DenialReason::InboxTaken)
    );
    registry.grow_older();
    assert!(registry.is_empty());
    assert!(stranger.subscribe(inbox.as_bytes(), None).is_ok());
    assert_eq!(registry.len(), 1);
    // What is unsubscribed is given up.
    stranger.unsubscribed(inbox.as_bytes(), None);
    assert!(registry.is_empty());
}

#[test]
fn identities_whose_names_run_together_alike_are_two() {
    let registry = Arc::new(InboxRegistry::default());
    let policy = policy(json!({ "r": bound(json!({ "publish": ["svc"] })) }));
    let mut judges = [("https://a", "b/c"), ("https://a/b", "c")].map(|(tid, oid)| {
        let mut who = identity();
        (who.tid, who.oid) = (tid.into(), oid.into());
        let permissions = assign(&policy, &who).expect("an assignment").permissions;
        Judge::new(permissions, Arc::clone(&registry), tid.len() as u64)
    });
    let inbox = format!("_INBOX.{TOKEN}.*");
    let [one, other] = &mut judges;
    assert!(one.subscribe(inbox.as_bytes(), None).is_ok());
    assert_eq!(
        sub_reason(other, &inbox, None),
        Some(DenialReason::InboxTaken)
    );
}

#[test]
fn many_inboxes_are_held_and_all_are_given_back() {
    let registry = Arc::new(InboxRegistry::default());
    let mut judge = judge_in(json!({ "publish": ["svc"] }), &registry, 1);
    let subject = |n: u32| format!("_INBOX.token-number-{n:010}");
    for n in 0..100 {
        judge
            .subscribe(subject(n).as_bytes(), None)
            .expect("a permit");
    }
    assert_eq!(registry.len(), 100);
    for n in 0..100 {
        assert_eq!(reason(&mut judge, "svc", Some(&subject(n))), None);
    }
    for n in 0..50 {
        judge.unsubscribed(subject(n).as_bytes(), None);
    }
    assert_eq!(registry.len(), 50);
    drop(judge);
    assert!(registry.len() <= 8, "only few stay reserved");
    registry.grow_older();
    registry.grow_older();
    assert!(registry.is_empty());
}

#[test]
fn shared_and_off_leave_replies_alone() {
    let mut shared = judge_of(json!({ "publish": ["svc"], "inbox": "shared" }));
    assert!(may_subscribe(&mut shared, "_INBOX.>", None));
    assert_eq!(reason(&mut shared, "svc", Some("victim")), None);
    let mut off = judge_of(json!({ "publish": ["svc"], "inbox": "off" }));
    assert!(!may_subscribe(&mut off, &format!("_INBOX.{TOKEN}.*"), None));
    assert_eq!(reason(&mut off, "svc", Some("victim")), None);
    let mut requesting = judge_of(json!({ "request": ["svc"], "inbox": "off" }));
    assert!(may_subscribe(
        &mut requesting,
        &format!("_INBOX.{TOKEN}.*"),
        None
    ));
    assert!(may_publish(&mut requesting, "svc"));
}

#[test]
fn a_deny_holds_for_inboxes_too() {
    let mut judge = judge_of(json!({ "publish": ["a"], "deny": { "subscribe": ["_INBOX.>"] } }));
    let inbox = format!("_INBOX.{TOKEN}.*");
    assert_eq!(
        sub_reason(&mut judge, &inbox, None),
        Some(DenialReason::Denied)
    );
}
