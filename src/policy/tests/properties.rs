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
    fn layers_do_not_change_the_verdict(allow in patterns(5), deny in patterns(4), asked in pattern()) {
        // The same entries once shared and once as entries of the identity's own layer.
        let own = |list: &[String]| -> Vec<String> {
            list.iter().map(|text| format!("x.{{oid}}.{text}")).collect()
        };
        let shared = |list: &[String]| -> Vec<String> {
            list.iter().map(|text| format!("x.{OID}.{text}")).collect()
        };
        let asked = format!("x.{OID}.{asked}");
        let mut one = judge_of(role(&own(&allow), &own(&allow), &own(&deny)));
        let mut other = judge_of(role(&shared(&allow), &shared(&allow), &shared(&deny)));
        prop_assert_eq!(may_publish(&mut one, &asked), may_publish(&mut other, &asked));
        prop_assert_eq!(may_subscribe(&mut one, &asked, None), may_subscribe(&mut other, &asked, None));
        prop_assert_eq!(may_subscribe(&mut one, &asked, Some("q")), may_subscribe(&mut other, &asked, Some("q")));
    }
}
