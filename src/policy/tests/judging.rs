//! The judge against every statement of nats-server's permission rules, and the deliberate differences.

use super::*;
use crate::policy::{DenialReason, SideChannel};
use crate::time::Timestamp;

pub(super) const TOKEN: &str = "Zk3nN7uX0kyExample1AAb";

pub(super) fn reason(
    judge: &mut Judge,
    subject: &str,
    reply: Option<&str>,
) -> Option<DenialReason> {
    judge
        .publish(subject.as_bytes(), reply.map(str::as_bytes), NOW)
        .err()
        .map(|denial| denial.reason)
}

pub(super) fn sub_reason(
    judge: &mut Judge,
    subject: &str,
    queue: Option<&str>,
) -> Option<DenialReason> {
    judge
        .subscribe(subject.as_bytes(), queue.map(str::as_bytes))
        .err()
        .map(|denial| denial.reason)
}

#[test]
fn a_permit_carries_the_very_bytes_that_were_judged() {
    let mut judge = judge_of(json!({ "publish": ["a.>"], "inbox": "off" }));
    let (subject, reply) = (b"a.b".to_vec(), b"x.y".to_vec());
    let permit = judge
        .publish(&subject, Some(&reply), NOW)
        .expect("a permit");
    assert_eq!(permit.subject().as_ptr(), subject.as_ptr());
    assert_eq!(permit.reply().map(<[u8]>::as_ptr), Some(reply.as_ptr()));
}

#[test]
fn deny_beats_allow_and_names_its_line() {
    let mut judge = judge_of(json!({
        "publish": ["telemetry.>"],
        "deny": { "publish": ["telemetry.shared.admin"] },
    }));
    assert!(may_publish(&mut judge, "telemetry.shared.x"));
    let denial = judge
        .publish(b"telemetry.shared.admin", None, NOW)
        .expect_err("a denial");
    assert_eq!(denial.reason, DenialReason::Denied);
    assert_eq!(denial.rule.as_deref(), Some("roles.r.deny.publish[0]"));
    let denial = judge
        .publish(b"elsewhere", None, NOW)
        .expect_err("a denial");
    assert_eq!(
        (denial.reason, denial.rule),
        (DenialReason::NotGranted, None)
    );
}

#[test]
fn published_wildcards_need_a_grant_that_contains_them_and_no_deny_near_them() {
    let mut judge = judge_of(json!({
        "publish": ["req.*", "deep.>", "$JS.API.DIRECT.GET.S.ok.*"],
        "deny": { "publish": ["deep.secret.x", "deep.*.wild"] },
    }));
    assert!(may_publish(&mut judge, "req.*"));
    assert!(!may_publish(&mut judge, "req.>"));
    assert!(!may_publish(&mut judge, "deep.>"));
    assert!(!may_publish(&mut judge, "deep.*.x"));
    assert!(!may_publish(&mut judge, "deep.a.wild"));
    assert!(may_publish(&mut judge, "deep.*.fine"));
    assert!(may_publish(&mut judge, "$JS.API.DIRECT.GET.S.ok.a"));
    assert!(!may_publish(&mut judge, "$JS.API.DIRECT.GET.S.ok.>"));
    // An asterisk inside a token is a plain byte.
    assert!(may_publish(&mut judge, "req.a*b"));
}

#[test]
fn subjects_with_empty_tokens_are_refused() {
    let mut judge = judge_of(json!({ "publish": ["foo.>"] }));
    for subject in ["foo..a", "foo.", ".foo.a", "", "foo.a.", ".", "foo..*"] {
        assert!(!may_publish(&mut judge, subject), "{subject:?}");
        assert!(!may_subscribe(&mut judge, subject, None), "{subject:?}");
    }
}

#[test]
fn the_insides_of_the_server_are_out_of_reach_of_any_grant() {
    let mut judge = judge_of(json!({ "publish": [">"], "broad": true, "inbox": "off" }));
    for subject in ["_GR_.x", "$GR.x.y", "$NRG.v", "$MQTT.msgs.a", "$LDS.x"] {
        assert_eq!(
            reason(&mut judge, subject, None),
            Some(DenialReason::ReservedSubject),
            "{subject}"
        );
    }
    assert!(may_publish(&mut judge, "$JS.ACK.S.C.1.1.1.1.1"));
    assert!(may_publish(&mut judge, "_GR"));
    for reply in ["_R_.x", "_R_.", "_GR_.a.b", "$JS.ACK.S.C.1"] {
        assert_eq!(
            reason(&mut judge, "a", Some(reply)),
            Some(DenialReason::ReservedReply),
            "{reply}"
        );
    }
    for reply in ["$JS.ACK", "_R_", "_R", "anything", "with.*", ""] {
        assert_eq!(reason(&mut judge, "a", Some(reply)), None, "{reply}");
    }
}

#[test]
fn an_ungranted_subject_is_the_reason_before_a_bad_reply() {
    let mut judge = judge_of(json!({ "publish": ["a"] }));
    assert_eq!(
        reason(&mut judge, "b", Some("_R_.x")),
        Some(DenialReason::NotGranted)
    );
    assert_eq!(
        reason(&mut judge, "a", Some("_R_.x")),
        Some(DenialReason::ReservedReply)
    );
}

#[test]
fn a_subscription_must_lie_inside_one_grant() {
    let mut judge = judge_of(json!({ "subscribe": ["foo.*", "bar.>", "lit"], "inbox": "off" }));
    for (subject, allowed) in [
        ("foo.a", true),
        ("foo.*", true),
        ("foo.>", false),
        ("foo.a.b", false),
        ("foo", false),
        ("bar.>", true),
        ("bar.*", true),
        ("bar.*.x.>", true),
        ("bar", false),
        ("*", false),
        (">", false),
        ("*.a", false),
        ("lit", true),
    ] {
        assert_eq!(
            may_subscribe(&mut judge, subject, None),
            allowed,
            "{subject}"
        );
    }
}

#[test]
fn a_star_does_not_admit_everything_below_it() {
    let mut judge = judge_of(json!({ "subscribe": ["*"], "broad": true, "inbox": "off" }));
    assert!(may_subscribe(&mut judge, "*", None));
    assert!(!may_subscribe(&mut judge, ">", None));
}

#[test]
fn a_denied_subscription_is_probed_with_its_tokens_as_literals() {
    let mut judge = judge_of(json!({
        "subscribe": ["foo.>"],
        "deny": { "subscribe": ["foo.*"] },
        "inbox": "off",
    }));
    assert_eq!(
        sub_reason(&mut judge, "foo.>", None),
        Some(DenialReason::Denied)
    );
    assert_eq!(
        sub_reason(&mut judge, "foo.*", None),
        Some(DenialReason::Denied)
    );
    assert_eq!(sub_reason(&mut judge, "foo.a.b", None), None);
}

#[test]
fn a_wildcard_subscription_near_a_deny_is_filtered_and_a_queue_refused() {
    let mut judge = judge_of(json!({
        "subscribe": ["foo.>", "bar.*"],
        "deny": { "subscribe": ["foo.secret.>"] },
        "inbox": "off",
    }));
    assert!(judge.filters_deliveries());
    let near = judge.subscribe(b"foo.>", None).expect("a permit");
    assert!(near.is_filtered());
    let away = judge.subscribe(b"bar.*", None).expect("a permit");
    assert!(!away.is_filtered());
    assert_eq!(
        sub_reason(&mut judge, "foo.>", Some("q")),
        Some(DenialReason::QueueOverlapsDeny)
    );
    assert_eq!(sub_reason(&mut judge, "bar.*", Some("q")), None);
    for _ in 0..2 {
        assert!(judge.delivers(b"foo.open"));
        assert!(!judge.delivers(b"foo.secret.x"));
        assert!(judge.delivers(b"foo.secret"));
    }
    assert_eq!(
        judge.kept_back(b"foo.secret.x").rule.as_deref(),
        Some("roles.r.deny.subscribe[0]")
    );
}

#[test]
fn queue_entries_mean_what_they_mean_in_nats_server() {
    let mut judge = judge_of(json!({
        "subscribe": [
            { "subject": "q.x", "queue": "grp.*" },
            "both", { "subject": "both", "queue": "v1" },
            "any",
            { "subject": "jobs.*", "queue": "hist-*" },
            { "subject": "rest", "queue": "a.>" },
        ],
        "inbox": "off",
    }));
    for (subject, queue, allowed) in [
        ("q.x", Some("grp.a"), true),
        ("q.x", Some("grp.*"), true),
        ("q.x", Some("grp.a.b"), false),
        ("q.x", Some("grp.>"), false),
        ("q.x", Some("other"), false),
        ("q.x", None, false),
        ("both", None, true),
        ("both", Some("v1"), true),
        ("both", Some("v2"), false),
        ("any", Some("whatever"), true),
        ("any", None, true),
        ("jobs.a", Some("hist-7"), true),
        ("jobs.*", Some("hist-"), true),
        ("jobs.>", Some("hist-7"), false),
        ("jobs.a", Some("other"), false),
        ("rest", Some("a.b.c"), true),
        ("rest", Some("a"), false),
        ("rest", Some("_sys_"), false),
    ] {
        assert_eq!(
            may_subscribe(&mut judge, subject, queue),
            allowed,
            "{subject} {queue:?}"
        );
    }
    assert_eq!(
        sub_reason(&mut judge, "any", Some("_sys_")),
        Some(DenialReason::SystemQueue)
    );
}

#[test]
fn a_denied_queue_is_refused_and_the_other_queues_are_not() {
    let mut judge = judge_of(json!({
        "subscribe": ["foo.>"],
        "deny": { "subscribe": [{ "subject": "foo.q", "queue": "bad" }] },
        "inbox": "off",
    }));
    assert_eq!(
        sub_reason(&mut judge, "foo.q", Some("bad")),
        Some(DenialReason::Denied)
    );
    assert_eq!(sub_reason(&mut judge, "foo.q", Some("good")), None);
    assert_eq!(sub_reason(&mut judge, "foo.q", None), None);
    assert_eq!(
        sub_reason(&mut judge, "foo.*", Some("bad")),
        Some(DenialReason::QueueOverlapsDeny)
    );
    assert!(!judge.filters_deliveries());
}

#[test]
fn a_queue_entry_of_one_role_does_not_narrow_what_another_grants() {
    let policy = policy(json!({
        "narrow": bound(json!({ "subscribe": [{ "subject": "both", "queue": "v1" }] })),
        "wide": bound(json!({ "subscribe": ["both"] })),
    }));
    let assignment = assign(&policy, &identity()).expect("an assignment");
    let mut judge = Judge::new(assignment.permissions, Arc::default(), 1);
    assert!(may_subscribe(&mut judge, "both", Some("v2")));
    assert!(may_subscribe(&mut judge, "both", None));
}

#[test]
fn an_empty_allow_list_means_nothing() {
    let mut judge = judge_of(json!({ "publish": [], "subscribe": [], "respond": {} }));
    assert!(!may_publish(&mut judge, "a"));
    assert!(!may_subscribe(&mut judge, "a", None));
}

#[test]
fn a_received_request_may_be_answered_so_often_and_so_long() {
    let mut judge = judge_of(json!({
        "subscribe": ["svc.>"],
        "publish": ["open.>"],
        "deny": { "publish": ["reply.>"] },
        "respond": { "max": 2, "ttl": "30s" },
        "inbox": "off",
    }));
    let at = |secs| Timestamp::from_secs(NOW.as_secs() + secs);
    assert!(judge.tracks_replies());
    assert!(judge.publish(b"_INBOX.a.1", None, NOW).is_err());
    judge.delivered(b"_INBOX.a.1", NOW);
    assert!(judge.publish(b"_INBOX.a.1", None, at(1)).is_ok());
    assert!(judge.publish(b"_INBOX.a.1", None, at(30)).is_ok());
    assert!(judge.publish(b"_INBOX.a.1", None, at(30)).is_err());
    // Time.
    judge.delivered(b"_INBOX.a.2", NOW);
    assert!(judge.publish(b"_INBOX.a.2", None, at(31)).is_err());
    // An answer is not stopped by a deny entry, as in nats-server.
    judge.delivered(b"reply.1", NOW);
    assert!(judge.publish(b"reply.1", None, NOW).is_ok());
    // A reply with wildcards is good for its literal form only.
    judge.delivered(b"w.*", NOW);
    assert!(judge.publish(b"w.a", None, NOW).is_err());
    assert!(judge.publish(b"w.*", None, NOW).is_ok());
    // The server's inside is not an answer.
    judge.delivered(b"$NRG.x", NOW);
    assert!(judge.publish(b"$NRG.x", None, NOW).is_err());
}

#[test]
fn a_repeated_reply_subject_starts_afresh_as_in_nats_server_2_9() {
    let mut judge = judge_of(json!({ "respond": { "max": 1 }, "inbox": "off" }));
    judge.delivered(b"r.1", NOW);
    judge.delivered(b"r.1", NOW);
    assert!(judge.publish(b"r.1", None, NOW).is_ok());
    assert!(judge.publish(b"r.1", None, NOW).is_err());
    judge.delivered(b"r.1", NOW);
    assert!(judge.publish(b"r.1", None, NOW).is_ok());
}

#[test]
fn a_subject_that_may_be_published_anyway_uses_no_answer_up() {
    let mut judge = judge_of(json!({ "publish": ["open"], "respond": {}, "inbox": "off" }));
    judge.delivered(b"open", NOW);
    for _ in 0..5 {
        assert!(may_publish(&mut judge, "open"));
    }
}

#[test]
fn open_requests_are_bounded() {
    let mut judge = judge_of(json!({ "respond": { "max": -1, "ttl": "1h" }, "inbox": "off" }));
    for n in 0..40_000 {
        judge.delivered(format!("r.{n}").as_bytes(), NOW);
    }
    assert!(judge.publish(b"r.0", None, NOW).is_ok());
    assert!(judge.publish(b"r.39999", None, NOW).is_err());
    // Later the old ones are gone and new ones find room.
    let later = Timestamp::from_secs(NOW.as_secs() + 7200);
    judge.delivered(b"r.new", later);
    assert!(judge.publish(b"r.new", None, later).is_ok());
    assert!(judge.publish(b"r.1", None, later).is_err());
}

#[test]
fn subjects_in_headers_are_judged_like_a_publish_or_a_subscription() {
    let mut judge = judge_of(json!({
        "publish": ["p.>"],
        "subscribe": ["s.>"],
        "deny": { "publish": ["p.no"], "subscribe": ["s.no"] },
    }));
    let mut ok = |name, subject: &str| judge.header_subject(name, subject.as_bytes()).is_ok();
    assert!(ok(SideChannel::TraceDest, "p.a"));
    assert!(!ok(SideChannel::TraceDest, "p.no"));
    assert!(!ok(SideChannel::TraceDest, "s.a"));
    assert!(ok(SideChannel::ScheduleTarget, "p.a"));
    assert!(!ok(SideChannel::ScheduleTarget, "elsewhere"));
    assert!(ok(SideChannel::ScheduleSource, "s.a"));
    assert!(!ok(SideChannel::ScheduleSource, "s.no"));
    assert!(!ok(SideChannel::ScheduleSource, "s.>"));
    assert!(!ok(SideChannel::ScheduleSource, "p.a"));
    let denial = judge
        .header_subject(SideChannel::TraceDest, b"p.no")
        .expect_err("a denial");
    assert_eq!(denial.reason, DenialReason::HeaderSubject);
    assert_eq!(denial.rule.as_deref(), Some("roles.r.deny.publish[0]"));
}

#[test]
fn new_permissions_count_at_once_and_inboxes_stay() {
    let registry = Arc::new(InboxRegistry::default());
    let mut judge = judge_in(
        json!({ "publish": ["old", "svc"], "respond": {} }),
        &registry,
        1,
    );
    let inbox = format!("_INBOX.{TOKEN}.*");
    judge.subscribe(inbox.as_bytes(), None).expect("a permit");
    assert!(may_publish(&mut judge, "old"));
    assert!(!may_publish(&mut judge, "new"));
    judge.delivered(b"asked", NOW);
    let policy = policy(json!({ "r": bound(json!({ "publish": ["new", "svc"] })) }));
    judge.replace(
        assign(&policy, &identity())
            .expect("an assignment")
            .permissions,
    );
    assert!(!may_publish(&mut judge, "old"));
    assert!(may_publish(&mut judge, "new"));
    assert!(judge.publish(b"asked", None, NOW).is_err());
    let reply = format!("_INBOX.{TOKEN}.1");
    assert_eq!(reason(&mut judge, "svc", Some(&reply)), None);
    // The session judges its live subscriptions again; the inbox still ends with the one that is left.
    judge.subscribe(inbox.as_bytes(), None).expect("a permit");
    assert_eq!(registry.len(), 1);
    judge.unsubscribed(inbox.as_bytes(), None);
    assert!(registry.is_empty());
}

#[test]
fn observing_overrules_refusals_of_ours_and_not_those_of_the_server() {
    let mut judge = judge_of(json!({
        "publish": ["a"],
        "deny": { "subscribe": ["s.no"] },
        "mode": "observe",
    }));
    let denial = judge
        .publish(b"b", Some(b"victim"), NOW)
        .expect_err("a denial");
    let permit = judge.overrule_publish(b"b", Some(b"victim"), &denial);
    assert_eq!(permit.map(|permit| permit.subject()), Some(&b"b"[..]));
    let denial = judge
        .publish(b"b", Some(b"_R_.x"), NOW)
        .expect_err("a denial");
    assert_eq!(judge.overrule_publish(b"b", Some(b"_R_.x"), &denial), None);
    let denial = judge.publish(b"$NRG.x", None, NOW).expect_err("a denial");
    assert_eq!(judge.overrule_publish(b"$NRG.x", None, &denial), None);
    let denial = judge.subscribe(b"s.no", None).expect_err("a denial");
    assert!(judge.overrule_subscribe(b"s.no", None, &denial).is_some());
    let denial = judge.subscribe(b"x", Some(b"_sys_")).expect_err("a denial");
    assert_eq!(
        judge.overrule_subscribe(b"x", Some(b"_sys_"), &denial),
        None
    );
    assert!(judge.delivers(b"s.no"));
    let mut enforcing = judge_of(json!({ "publish": ["a"] }));
    let denial = enforcing.publish(b"b", None, NOW).expect_err("a denial");
    assert_eq!(enforcing.overrule_publish(b"b", None, &denial), None);
}
