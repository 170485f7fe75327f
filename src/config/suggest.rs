//! The nearest of a few known words, for "did you mean".
//!
//! Owns: edit distance. Must never: suggest something that is not near.

/// The word nearest to `wrong`, when it is near enough to be a slip of the fingers.
pub(super) fn nearest<'a>(
    wrong: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let wrong = wrong.to_ascii_lowercase();
    let allowed = match wrong.chars().count() {
        0..=3 => 1,
        4..=7 => 2,
        _ => 3,
    };
    words
        .into_iter()
        .filter_map(|word| Some((distance_within(word, &wrong, allowed)?, word)))
        .filter(|(distance, word)| *distance < word.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// ` (did you mean `x`?)` or nothing.
pub(super) fn hint<'a>(wrong: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, words)
        .map(|word| format!("; did you mean `{word}`?"))
        .unwrap_or_default()
}

/// The edit distance where it is at most `allowed`. Words whose lengths differ by more need no look.
pub(super) fn distance_within(a: &str, b: &str, allowed: usize) -> Option<usize> {
    // A character has at most four bytes.
    let near = |a: &str, b: &str| a.len() <= b.len().saturating_add(allowed).saturating_mul(4);
    if !near(a, b) || !near(b, a) || a.chars().count().abs_diff(b.chars().count()) > allowed {
        return None;
    }
    Some(distance(a, b)).filter(|distance| *distance <= allowed)
}

/// Edit distance with transposition of neighbours (optimal string alignment). Long words count as far apart.
fn distance(a: &str, b: &str) -> usize {
    const LONG: usize = 64;
    let a: Vec<char> = a.chars().take(LONG + 1).collect();
    let b: Vec<char> = b.chars().take(LONG + 1).collect();
    if a.len() > LONG || b.len() > LONG {
        return usize::MAX;
    }
    let cell = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, y) in b.iter().enumerate() {
            let cost = usize::from(x != y);
            let mut best = (cell(&last, j) + cost)
                .min(cell(&last, j + 1) + 1)
                .min(cell(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(cell(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_other_words_are_not() {
        assert_eq!(distance("audience", "audiences"), 1);
        assert_eq!(distance("publish", "pubilsh"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance_within("token", "tokne", 1), Some(1));
        assert_eq!(distance_within("token", "tok", 1), None);
        assert_eq!(distance_within("passwörd", "password", 1), Some(1));
        let keys = ["audiences", "tenants", "accept"];
        assert_eq!(nearest("audience", keys), Some("audiences"));
        assert_eq!(nearest("Tenant", keys), Some("tenants"));
        assert_eq!(nearest("websocket", keys), None);
        assert_eq!(nearest("ca", ["cert", "key", "client_ca"]), None);
    }
}
