//! The trie against a naive matcher written from nats-server's rules, and the statements of `sublist.go` as tables.
#![expect(
    clippy::cast_possible_truncation,
    reason = "a test counts to a few thousand"
)]

use proptest::prelude::*;

use super::*;

/// Literal match of one pattern as in nats-server, token by token and without a trie.
fn naive_matches(pattern: &str, subject: &str) -> bool {
    let subject: Vec<&str> = subject.split('.').collect();
    if subject.iter().any(|token| token.is_empty()) {
        return false;
    }
    let pattern: Vec<&str> = pattern.split('.').collect();
    for (index, wanted) in pattern.iter().enumerate() {
        match (*wanted, subject.get(index)) {
            (_, None) => return false,
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == *token => {}
            (_, Some(_)) => return false,
        }
    }
    pattern.len() == subject.len()
}

/// `SubjectsCollide`, by the definition: token by token until one ends or has `>`.
fn naive_overlaps(one: &str, other: &str) -> bool {
    let mut one = one.split('.');
    let mut other = other.split('.');
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
            (Some(a), Some(b)) if a == b => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

fn set(patterns: &[impl AsRef<str>]) -> PatternSet {
    let mut builder = PatternSetBuilder::default();
    for (index, pattern) in patterns.iter().enumerate() {
        let pattern = Pattern::parse(pattern.as_ref()).expect("a pattern");
        builder.insert(&pattern, index as u32);
    }
    builder.build()
}

fn token() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-c]",
        2 => Just("*".to_owned()),
        1 => "[a-c*>]{2,9}",
        1 => Just(">".to_owned()),
    ]
}

/// Subjects as clients may send them: `>` anywhere, empty tokens too.
fn subject() -> impl Strategy<Value = String> {
    let odd = prop_oneof![30 => token(), 1 => Just(String::new())];
    prop::collection::vec(odd, 1..6).prop_map(|tokens| tokens.join("."))
}

/// Valid patterns.
fn pattern() -> impl Strategy<Value = String> {
    subject().prop_filter("valid", |text| Pattern::parse(text).is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_trie_matches_what_some_pattern_matches(
        patterns in prop::collection::vec(pattern(), 0..12),
        subject in subject(),
    ) {
        let set = set(&patterns);
        let naive = patterns.iter().any(|pattern| naive_matches(pattern, &subject));
        let found = set.matches(subject.as_bytes());
        prop_assert_eq!(found.is_some(), naive);
        if let Some(value) = found {
            prop_assert!(naive_matches(&patterns[value as usize], &subject));
        }
        let mut every = Vec::new();
        set.filled(&[]).each_match(subject.as_bytes(), |value| every.push(value));
        every.sort_unstable();
        let mut texts: Vec<&String> = patterns.iter().collect();
        texts.sort_unstable();
        texts.dedup();
        let count = texts.iter().filter(|pattern| naive_matches(pattern, &subject)).count();
        prop_assert_eq!(every.len(), count);
    }

    #[test]
    fn a_trail_says_what_the_set_says(
        patterns in prop::collection::vec(pattern(), 0..12),
        beginning in prop::collection::vec(token(), 0..4),
        below in subject(),
    ) {
        let set = set(&patterns);
        let beginning: String = beginning.iter().map(|token| format!("{token}.")).collect();
        let whole = format!("{beginning}{below}");
        let matched = set.matches(whole.as_bytes()).is_some();
        if let Some(trail) = set.filled(&[]).trail(beginning.as_bytes()) {
            prop_assert_eq!(trail.matches(below.as_bytes()), matched);
            prop_assert!(!(matched && trail.is_dead()));
        }
    }

    #[test]
    fn the_trie_covers_what_some_pattern_contains(
        patterns in prop::collection::vec(pattern(), 0..12),
        inner in pattern(),
    ) {
        let set = set(&patterns);
        let naive = patterns
            .iter()
            .any(|outer| is_subset(inner.as_bytes(), outer.as_bytes()));
        prop_assert_eq!(set.covers(inner.as_bytes()).is_some(), naive);
    }

    #[test]
    fn the_trie_overlaps_what_some_pattern_collides_with(
        patterns in prop::collection::vec(pattern(), 0..12),
        other in pattern(),
    ) {
        let set = set(&patterns);
        let naive = patterns.iter().any(|pattern| naive_overlaps(pattern, &other));
        prop_assert_eq!(set.overlaps(other.as_bytes()).is_some(), naive);
    }

    #[test]
    fn what_is_covered_is_matched_by_the_same_set_and_overlaps_it(
        patterns in prop::collection::vec(pattern(), 1..8),
        outer in pattern(),
        fill in prop::collection::vec("[a-d]{1,3}", 1..8),
    ) {
        let set = set(&patterns);
        if set.covers(outer.as_bytes()).is_some() {
            // Any literal subject of `outer` must match.
            let mut fill = fill.into_iter().cycle();
            let sample: Vec<String> = outer
                .split('.')
                .map(|token| match token {
                    "*" | ">" => fill.next().unwrap_or_default(),
                    literal => literal.to_owned(),
                })
                .collect();
            prop_assert!(set.matches(sample.join(".").as_bytes()).is_some());
            prop_assert!(set.overlaps(outer.as_bytes()).is_some());
            prop_assert!(set.filled(&[]).matches_literally(outer.as_bytes()).is_some());
        }
    }

    #[test]
    fn no_bytes_make_a_question_fail(
        patterns in prop::collection::vec(pattern(), 0..6),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let set = set(&patterns);
        let _ = (set.matches(&bytes), set.covers(&bytes), set.overlaps(&bytes));
        let _ = (is_valid_subject(&bytes), is_valid_literal(&bytes), has_wildcard(&bytes));
        let spaced = bytes.iter().any(|byte| is_space(*byte));
        prop_assert_eq!(is_valid_subject(&bytes) && !spaced, Pattern::parse(&bytes).is_ok());
        prop_assert_eq!(
            has_empty_token(&bytes),
            tokens(&bytes).any(<[u8]>::is_empty)
        );
    }

    #[test]
    fn globs_match_as_a_backtracking_matcher_does(glob in "[ab*]{1,8}", text in "[ab]{0,10}") {
        fn fits(glob: &[u8], text: &[u8]) -> bool {
            match (glob.split_first(), text.split_first()) {
                (None, _) => text.is_empty(),
                (Some((b'*', rest)), _) => {
                    fits(rest, text) || text.split_first().is_some_and(|(_, text)| fits(glob, text))
                }
                (Some((a, glob)), Some((b, text))) => a == b && fits(glob, text),
                (Some(_), None) => false,
            }
        }
        if let Some(parsed) = TokenGlob::parse(glob.as_bytes()) {
            prop_assert_eq!(parsed.matches(text.as_bytes()), fits(glob.as_bytes(), text.as_bytes()));
        }
    }
}

#[test]
fn validity_is_what_nats_server_says() {
    // `sublist_test.go:TestSublistValidSubjects` and its neighbours.
    for (subject, valid, literal) in [
        ("", false, false),
        (".", false, false),
        (".foo", false, false),
        ("foo.", false, false),
        ("foo..bar", false, false),
        ("foo", true, true),
        ("foo.bar.*", true, false),
        ("foo.bar.>", true, false),
        ("*", true, false),
        (">", true, false),
        ("foo*", true, true),
        ("foo.*bar", true, true),
        ("foo>.bar", true, true),
        ("foo.>.bar", false, false),
        (">.foo", false, false),
        ("foo bar", true, true),
        ("foo\t", true, true),
        ("foo\x0c.bar", true, true),
        ("f\ro.bar", true, true),
        ("a.\u{e4}.b", true, true),
        ("**", true, true),
    ] {
        assert_eq!(is_valid_subject(subject.as_bytes()), valid, "{subject:?}");
        assert_eq!(is_valid_literal(subject.as_bytes()), literal, "{subject:?}");
    }
    assert!(is_valid_subject(b"\xff\xfe.\x00"));
    assert!(has_wildcard(b"a.*.b") && has_wildcard(b">") && !has_wildcard(b"a*.b>"));
}

#[test]
fn published_wildcards_are_literal_tokens_for_matches_and_sets_for_covers() {
    let set = set(&["req.*", "deep.*.>"]);
    assert_eq!(set.matches(b"req.*"), Some(0));
    assert_eq!(set.matches(b"req.>"), Some(0));
    assert_eq!(set.matches(b"req.a.b"), None);
    assert_eq!(set.covers(b"req.*"), Some(0));
    assert_eq!(set.covers(b"req.>"), None);
    assert_eq!(set.covers(b"deep.>"), None);
    assert_eq!(set.covers(b"deep.*.>"), Some(1));
    assert_eq!(set.covers(b"deep.a.*"), Some(1));
    assert_eq!(set.matches(b"deep"), None);
    assert_eq!(set.overlaps(b"deep"), None);
    assert_eq!(set.overlaps(b"*"), None);
    assert!(set.overlaps(b">").is_some());
}

#[test]
fn an_empty_set_never_says_yes_and_the_first_value_of_a_pattern_stays() {
    let none = PatternSet::default();
    assert!(none.is_empty());
    assert_eq!(none.matches(b"a"), None);
    assert_eq!(none.overlaps(b">"), None);
    let mut builder = PatternSetBuilder::default();
    let pattern = Pattern::parse("a.>").expect("a pattern");
    assert_eq!(builder.insert(&pattern, 7), 7);
    assert_eq!(builder.insert(&pattern, 9), 7);
    let set = builder.build();
    assert_eq!(set.len(), 1);
    assert_eq!(set.matches(b"a.b"), Some(7));
}

#[test]
fn globs_stand_for_parts_of_one_token_only() {
    let mut builder = PatternSetBuilder::default();
    let patterns = ["next.an-*-x", "next.<generated>", "make.an-*.ok.>"];
    for (index, text) in patterns.into_iter().enumerate() {
        let pattern = Pattern::parse(text).expect("a pattern");
        builder.insert_globs(&pattern, index as u32);
    }
    let set = builder.build();
    assert_eq!(set.matches(b"next.an-1-x"), Some(0));
    assert_eq!(set.matches(b"next.an--x"), Some(0));
    assert_eq!(set.matches(b"next.an-x"), None);
    assert_eq!(set.matches(b"next.*"), None);
    assert_eq!(set.covers(b"next.*"), None);
    assert_eq!(set.overlaps(b"next.*"), Some(0));
    assert_eq!(set.overlaps(b"next.an-2-x"), Some(0));
    assert_eq!(set.overlaps(b"next.zz"), None);
    for name in [
        "FsmB4yQk",
        "Zk3nN7uX0kyExample1AAb",
        "Zk3nN7uX0kyExample1AAb_12",
        "oc_Zk3nN7uX0kyExample1AAb_1",
    ] {
        assert_eq!(
            set.matches(format!("next.{name}").as_bytes()),
            Some(1),
            "{name}"
        );
    }
    for name in [
        "billing",
        "an-durable",
        "workers_1x",
        "FsmB4yQk_",
        "Zk3nN7uX0kyExample1AA-b",
    ] {
        assert_eq!(
            set.matches(format!("next.{name}").as_bytes()),
            None,
            "{name}"
        );
    }
    assert_eq!(set.covers(b"make.an-7.ok.*"), Some(2));
    assert_eq!(set.covers(b"make.an-7.>"), None);
    assert_eq!(set.covers(b"make.*.ok.>"), None);
}

#[test]
fn a_hostile_subject_costs_no_more_than_the_trie_has_nodes() {
    // Every combination of `*` and `a` over twelve tokens: 4096 patterns and 2^12 ways through them.
    let patterns: Vec<String> = (0_u32..4096)
        .map(|bits| {
            let tokens = (0..12).map(|at| if bits >> at & 1 == 1 { "*" } else { "a" });
            let tokens: Vec<&str> = tokens.collect();
            format!("{}.end", tokens.join("."))
        })
        .collect();
    let set = set(&patterns);
    let subject = "a.".repeat(12) + "other";
    for _ in 0..10 {
        assert_eq!(set.matches(subject.as_bytes()), None);
    }
    // Depth that no pattern has is not walked at all, and nothing recurses.
    let endless = "a.".repeat(200_000) + "z";
    assert_eq!(set.matches(endless.as_bytes()), None);
    assert_eq!(set.overlaps(endless.as_bytes()), None);
}

#[test]
fn a_hundred_thousand_patterns_are_told_apart() {
    let patterns: Vec<String> = (0..100_000)
        .map(|n| format!("site.{}.device.{n}.>", n % 97))
        .collect();
    let set = set(&patterns);
    for n in (0..100_000).step_by(997) {
        let subject = format!("site.{}.device.{n}.temp.1", n % 97);
        assert_eq!(set.matches(subject.as_bytes()), Some(n));
        let subject = format!("site.{}.device.{n}.temp", (n + 1) % 97);
        assert_eq!(set.matches(subject.as_bytes()), None);
    }
}

#[test]
fn there_is_a_trail_behind_whole_tokens_that_leave_something_open() {
    let set = set(&["a.b.secret", "a.*.no.>", "open.>", "x.y"]);
    let set = set.filled(&[]);
    for none in [
        "a",
        "a..",
        ".",
        "a.b",
        "open.",
        "open.x.",
        "a.b.no.",
        "a.b.no.x.",
    ] {
        assert!(set.trail(none.as_bytes()).is_none(), "{none}");
    }
    for dead in ["b.", "_INBOX.", "a.b.yes."] {
        assert!(
            set.trail(dead.as_bytes())
                .is_some_and(|trail| trail.is_dead()),
            "{dead}"
        );
    }
    let trail = set.trail(b"a.b.").expect("a trail");
    assert!(trail.matches(b"secret") && trail.matches(b"no.x") && !trail.matches(b"no"));
    assert!(!trail.matches(b"secret.x") && !trail.matches(b"") && !trail.matches(b"*"));
    assert!(
        PatternSet::default()
            .filled(&[])
            .trail(b"a.")
            .is_some_and(|trail| trail.is_dead())
    );
}
