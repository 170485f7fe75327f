//! Sets of patterns against a matcher that is plain enough to be believed.

use natsentry::subject::{Pattern, PatternSet, PatternSetBuilder, is_subset, is_valid_subject};

/// Lines of patterns, an empty line, then lines of what is asked. Subjects are any bytes.
///
/// The set answers `matches`, `covers` and `overlaps` as going through its patterns one by one does, and what it visits is
/// every pattern that fits, once.
pub fn pattern_set(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut builder = PatternSetBuilder::default();
    let mut kept: Vec<Pattern> = Vec::new();
    for line in lines.by_ref().take_while(|line| !line.is_empty()).take(64) {
        let Ok(pattern) = Pattern::parse(line) else {
            continue;
        };
        let value = u32::try_from(kept.len()).expect("few");
        let has = builder.insert(&pattern, value);
        match kept.iter().position(|known| *known == pattern) {
            Some(at) => assert_eq!(has as usize, at, "a pattern keeps its first value"),
            None => {
                assert_eq!(has, value, "{pattern:?}");
                kept.push(pattern);
            }
        }
    }
    let set = builder.build();
    assert_eq!(set.len(), kept.len());
    let known: Vec<Known<'_>> = kept.iter().map(Known::of).collect();
    for asked in lines.take(64) {
        ask(&set, &known, asked);
    }
    for asked in &kept {
        ask(&set, &known, asked.as_bytes());
    }
}

/// A pattern of the set, and its words.
#[derive(Debug)]
struct Known<'a> {
    pattern: &'a [u8],
    words: Vec<&'a [u8]>,
}

impl<'a> Known<'a> {
    fn of(pattern: &'a Pattern) -> Self {
        let pattern = pattern.as_bytes();
        Self {
            pattern,
            words: words(pattern),
        }
    }
}

/// Something that the words of a pattern have to do with those of what is asked.
type Relation = fn(&[&[u8]], &[&[u8]]) -> bool;

/// Calls with every value of a set that answers some question.
type Visit<'a> = dyn Fn(&mut dyn FnMut(u32)) + 'a;

fn ask(set: &PatternSet, kept: &[Known<'_>], asked: &[u8]) {
    let told = words(asked);
    let fitting = |fits: Relation| -> Vec<u32> {
        let all = kept.iter().enumerate();
        let fitting = all.filter(|(_, known)| fits(&known.words, &told));
        fitting
            .map(|(at, _)| u32::try_from(at).expect("few"))
            .collect()
    };
    let visited = |visit: &Visit<'_>| -> Vec<u32> {
        let mut seen = Vec::new();
        visit(&mut |value| seen.push(value));
        seen.sort_unstable();
        seen
    };
    let check = |what: &str, one: Option<u32>, seen: &[u32], wanted: &[u32]| {
        assert_eq!(
            seen,
            wanted,
            "{what} {:?} of {kept:?}",
            asked.escape_ascii()
        );
        assert_eq!(one.is_some(), !wanted.is_empty(), "{what}");
        assert!(one.is_none_or(|value| wanted.contains(&value)), "{what}");
    };
    let seen = visited(&|visit| set.filled(&[]).each_match(asked, visit));
    check("matches", set.matches(asked), &seen, &fitting(matches));
    assert_eq!(
        set.filled(&[]).matches_literally(asked).is_some(),
        !seen.is_empty()
    );
    let seen = visited(&|visit| set.filled(&[]).each_cover(asked, visit));
    check("covers", set.covers(asked), &seen, &fitting(covers));
    let seen = visited(&|visit| {
        set.filled(&[]).each_overlap(asked, |value| {
            visit(value);
            false
        });
    });
    check("overlaps", set.overlaps(asked), &seen, &fitting(overlaps));
    let is_valid = is_valid_subject(asked);
    for known in kept {
        let covered = covers(&known.words, &told);
        if is_valid {
            assert_eq!(is_subset(asked, known.pattern), covered);
        }
        assert!(
            !covered || overlaps(&known.words, &told),
            "what is inside has something in common"
        );
    }
}

fn words(subject: &[u8]) -> Vec<&[u8]> {
    subject.split(|byte| *byte == b'.').collect()
}

/// The pattern matches the words of `asked` taken as they are.
fn matches(pattern: &[&[u8]], asked: &[&[u8]]) -> bool {
    if asked.iter().any(|word| word.is_empty()) {
        return false;
    }
    let fits = |(wanted, word): (&&[u8], &&[u8])| *wanted == b"*" || wanted == word;
    match pattern.split_last() {
        Some((last, fixed)) if *last == b">" => {
            asked.len() > fixed.len() && fixed.iter().zip(asked).all(fits)
        }
        _ => asked.len() == pattern.len() && pattern.iter().zip(asked).all(fits),
    }
}

/// Every subject of `asked` is one of the pattern. A `>` of `asked` is a wildcard at its end only, as in nats-server.
fn covers(pattern: &[&[u8]], asked: &[&[u8]]) -> bool {
    let tail = asked.last() == Some(&&b">"[..]);
    let pattern_tail = pattern.last() == Some(&&b">"[..]);
    matches(pattern, asked) && (!tail || pattern_tail)
}

/// The two have a subject in common.
fn overlaps(pattern: &[&[u8]], asked: &[&[u8]]) -> bool {
    fn meet(one: &[&[u8]], other: &[&[u8]]) -> bool {
        match (one, other) {
            ([], []) => true,
            ([], _) | (_, []) => false,
            ([b">"], _) | (_, [b">"]) => true,
            ([a, one @ ..], [b, other @ ..]) => {
                let wild = |word: &[u8]| word == b"*" || word == b">";
                (wild(a) || wild(b) || a == b) && meet(one, other)
            }
        }
    }
    !asked.iter().any(|word| word.is_empty()) && meet(pattern, asked)
}
