//! What holds of every policy.

use proptest::prelude::*;

use super::*;
use crate::subject::{Pattern, is_subset};

fn pattern() -> impl Strategy<Value = String> {
    let token = prop_oneof![4 => "[ab]", 2 => Just("*".to_owned()), 1 => Just(">".to_owned())];
    prop::collection::vec(token, 1..4)
        .prop_map(|tokens| tokens.join("."))
        .prop_filter("valid", |text| Pattern::parse(text).is_ok())
}

fn patterns(most: usize) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(pattern(), 0..most)
}

/// Patterns with templates in some tokens, whole and in part.
fn placed() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        4 => "[ab]", 2 => Just("*".to_owned()), 1 => Just(">".to_owned()), 2 => Just("{oid}".to_owned()),
        1 => Just("a-{oid}".to_owned()), 1 => Just("{tid}".to_owned()), 1 => Just("{oid}{tid}x".to_owned()),
    ];
    prop::collection::vec(token, 1..5)
        .prop_map(|tokens| tokens.join("."))
        .prop_filter("valid", |text| Pattern::parse(text).is_ok())
}

fn fill(text: &str) -> String {
    text.replace("{oid}", OID).replace("{tid}", TENANT)
}

/// Also subjects that nobody may publish to, and that servers keep for themselves.
fn odd_subject() -> impl Strategy<Value = String> {
    let first = prop::sample::select(vec![
        "_GR_", "$GR", "$NRG", "$LDS", "_GR", "$JS", "_a", "OID", "*",
    ]);
    let token = prop_oneof![
        12 => "[ab]", 2 => Just("a*".to_owned()), 1 => Just("*".to_owned()), 1 => Just(">".to_owned()), 1 => Just(String::new()),
    ];
    let rest = prop::collection::vec(token, 1..5).prop_map(|tokens| tokens.join("."));
    (prop::option::weighted(0.3, first), rest).prop_map(|(first, rest)| match first {
        Some(first) => format!("{first}.{rest}"),
        None => rest,
    })
}

fn role(publish: &[String], subscribe: &[String], deny: &[String]) -> Value {
    json!({
        "publish": publish, "subscribe": subscribe, "respond": {}, "inbox": "off", "broad": true,
        "deny": { "publish": deny, "subscribe": deny },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_deny_never_allows_anything(
        allow in patterns(5),
        deny in patterns(4),
        more in pattern(),
        asked in pattern(),
    ) {
        let mut stricter = deny.clone();
        stricter.push(more);
        let mut before = judge_of(role(&allow, &allow, &deny));
        let mut after = judge_of(role(&allow, &allow, &stricter));
        prop_assert!(may_publish(&mut before, &asked) || !may_publish(&mut after, &asked));
        prop_assert!(may_subscribe(&mut before, &asked, None) || !may_subscribe(&mut after, &asked, None));
        prop_assert!(may_subscribe(&mut before, &asked, Some("q")) || !may_subscribe(&mut after, &asked, Some("q")));
        prop_assert!(before.delivers(asked.as_bytes()) || !after.delivers(asked.as_bytes()));
    }

    #[test]
    fn what_is_allowed_is_granted_whole_and_what_arrives_is_not_denied(
        allow in patterns(5),
        deny in patterns(4),
        asked in pattern(),
        subject in "[ab](\\.[ab]){0,3}",
    ) {
        let contains = |list: &[String], inner: &str| {
            list.iter().any(|outer| is_subset(inner.as_bytes(), outer.as_bytes()))
        };
        let mut judge = judge_of(role(&allow, &allow, &deny));
        let permit = judge.subscribe(asked.as_bytes(), None);
        if let Ok(permit) = permit {
            prop_assert!(contains(&allow, &asked));
            // A message of this subscription that is let through is granted and not denied.
            if is_subset(subject.as_bytes(), asked.as_bytes()) {
                let delivered = !permit.is_filtered() || judge.delivers(subject.as_bytes());
                prop_assert!(contains(&allow, &subject));
                prop_assert_eq!(delivered, !contains(&deny, &subject));
            }
        }
        prop_assert_eq!(
            may_publish(&mut judge, &subject),
            contains(&allow, &subject) && !contains(&deny, &subject)
        );
    }

    #[test]
    fn what_lies_on_open_ground_is_granted(
        allow in patterns(5),
        deny in patterns(4),
        own in patterns(2),
        around in odd_subject(),
        asked in prop::collection::vec(odd_subject(), 1..8),
    ) {
        let mut publish = allow;
        publish.extend(own.iter().map(|text| format!("{{oid}}.{text}")));
        let mut judge = judge_of(role(&publish, &[], &deny));
        let around = around.replace("OID", OID);
        let Some(open) = judge.open(around.as_bytes()) else {
            return Ok(());
        };
        // A subject with a `*` inside a token is left to a question.
        prop_assert!(open.permit(around.as_bytes()).is_some() || around.contains('*'));
        for asked in asked.iter().map(|asked| asked.replace("OID", OID)) {
            if let Some(permit) = open.permit(asked.as_bytes()) {
                prop_assert_eq!((permit.subject(), permit.reply()), (asked.as_bytes(), None));
                prop_assert!(may_publish(&mut judge, &asked), "{asked} beside {around}");
            }
        }
    }

    #[test]
    fn a_pass_hears_what_single_questions_say(
        deny in patterns(5),
        own in patterns(2),
        heard in prop::collection::vec(odd_subject(), 1..12),
    ) {
        let mut denied = deny;
        denied.extend(own.iter().map(|text| format!("{{oid}}.{text}")));
        let role = json!({ "subscribe": [">"], "broad": true, "deny": { "subscribe": denied } });
        let (mut judge, mut single) = (judge_of(role.clone()), judge_of(role));
        let heard: Vec<String> = heard.iter().map(|subject| subject.replace("OID", OID)).collect();
        let mut hearing = judge.hear(NOW);
        let mut before: Option<&String> = None;
        for subject in &heard {
            let delivered = hearing.delivers(subject.as_bytes(), before.map(String::as_bytes));
            prop_assert_eq!(delivered, single.delivers(subject.as_bytes()), "{}", subject);
            if let Some(ground) = hearing.ground(subject.as_bytes()) {
                let beginning = &subject[..ground.beginning()];
                for other in heard.iter().filter(|other| other.starts_with(beginning)) {
                    let holds = ground.holds(&other.as_bytes()[ground.beginning()..]);
                    prop_assert_eq!(holds, single.delivers(other.as_bytes()), "{} beside {}", other, subject);
                }
            }
            before = Some(subject);
        }
    }

    #[test]
    fn a_pass_opens_the_requests_that_single_deliveries_open(
        allow in patterns(4),
        deny in patterns(3),
        replies in prop::collection::vec(odd_subject(), 1..12),
    ) {
        let mut role = role(&allow, &[], &deny);
        role["respond"] = json!({ "max": 1 });
        role["inbox"] = json!("off");
        let (mut judge, mut single) = (judge_of(role.clone()), judge_of(role));
        let replies: Vec<String> = replies.iter().map(|reply| reply.replace("OID", OID)).collect();
        let mut hearing = judge.hear(NOW);
        for reply in &replies {
            hearing.opened(reply.as_bytes());
            single.delivered(reply.as_bytes(), NOW);
        }
        for reply in replies.iter().chain(&replies) {
            let answered = judge.answer(reply.as_bytes(), NOW).is_some() || judge.publish(reply.as_bytes(), None, NOW).is_ok();
            prop_assert_eq!(answered, single.publish(reply.as_bytes(), None, NOW).is_ok(), "{}", reply);
        }
    }

    #[test]
    fn a_template_says_what_its_value_would(
        allow in prop::collection::vec(placed(), 0..6),
        deny in prop::collection::vec(placed(), 0..4),
        asked in prop::collection::vec(placed(), 1..8),
    ) {
        let filled = |list: &[String]| list.iter().map(|text| fill(text)).collect::<Vec<_>>();
        let mut one = judge_of(role(&allow, &allow, &deny));
        let mut other = judge_of(role(&filled(&allow), &filled(&allow), &filled(&deny)));
        for asked in asked.iter().map(|text| fill(text)) {
            let around = |judge: &mut Judge| {
                format!("{:?}", judge.open(asked.as_bytes()))
            };
            prop_assert_eq!(around(&mut one), around(&mut other));
            prop_assert_eq!(may_publish(&mut one, &asked), may_publish(&mut other, &asked));
            prop_assert_eq!(may_subscribe(&mut one, &asked, None), may_subscribe(&mut other, &asked, None));
            prop_assert_eq!(may_subscribe(&mut one, &asked, Some("q")), may_subscribe(&mut other, &asked, Some("q")));
            prop_assert_eq!(one.delivers(asked.as_bytes()), other.delivers(asked.as_bytes()));
        }
    }
}

#[test]
fn open_ground_is_as_wide_as_a_grant_and_no_wider_than_what_is_denied() {
    let open = |publish: &[&str], deny: &[&str], around: &str, asked: &str| {
        let list = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut judge = judge_of(role(&list(publish), &[], &list(deny)));
        let open = judge.open(around.as_bytes());
        open.is_some_and(|open| open.permit(asked.as_bytes()).is_some())
    };
    assert!(open(&[">"], &[], "a.b", "c"));
    assert!(!open(&[">"], &[], "a.b", "_x.y"));
    assert!(open(&[">"], &[], "_INBOX.b.1", "_INBOX.c.2"));
    assert!(open(&["t.*.>"], &[], "t.a.b", "t.a.c.d"));
    assert!(!open(&["t.*.>"], &[], "t.a.b", "t.b.b"));
    assert!(open(&["t.*"], &[], "t.a", "t.bcd"));
    assert!(!open(&["t.*"], &[], "t.a", "t.b.c"));
    assert!(!open(&["t.a"], &[], "t.a", "t.a"));
    // Around a wildcard that others follow, one token is free.
    assert!(open(&["t.*.state"], &[], "t.a.state", "t.bcd.state"));
    assert!(!open(&["t.*.state"], &[], "t.a.state", "t.b.c.state"));
    assert!(!open(&["t.*.state"], &[], "t.a.state", "t.b.other"));
    assert!(!open(&["t.*.state"], &[], "t.a.state", "t.state"));
    assert!(!open(&["t.*.state"], &[], "t.a.state", "t..state"));
    assert!(!open(&["t.*.state"], &[], "t.a.state", "t.*.state"));
    assert!(open(
        &["t.*.x.*.state"],
        &[],
        "t.a.x.b.state",
        "t.a.x.c.state"
    ));
    assert!(!open(
        &["t.*.x.*.state"],
        &[],
        "t.a.x.b.state",
        "t.b.x.b.state"
    ));
    assert!(open(&["*.state"], &[], "a.state", "b.state"));
    assert!(!open(&["*.state"], &[], "a.state", "_b.state"));
    assert!(open(
        &["t.*.state"],
        &["t.*.other"],
        "t.a.state",
        "t.b.state"
    ));
    assert!(!open(&["t.*.state"], &["t.b.*"], "t.a.state", "t.a.state"));
    assert!(!open(
        &["t.*.state"],
        &["t.b.state"],
        "t.a.state",
        "t.c.state"
    ));
    // One that ends with a wildcard is preferred.
    assert!(open(&["t.*.state", "t.>"], &[], "t.a.state", "t.b.c"));
    // A deny entry leaves what lies beside it.
    assert!(open(&[">"], &["admin.>"], "a.b", "a.c"));
    assert!(!open(&[">"], &["admin.>"], "a.b", "b.c"));
    assert!(!open(&["t.*"], &["t.secret"], "t.a", "t.a"));
    assert!(!open(&[">"], &["*.secret"], "a.b", "a.b"));
    assert!(open(&[">"], &["*.secret"], "a.b.c", "a.b.d"));
    assert!(!open(&[">"], &[">"], "a.b", "a.b"));
    assert!(!open(&[">"], &[], "a.*", "a.*"));
    assert!(!open(&[">"], &[], "$GR.x.y", "$GR.x.y"));
}
