//! Names of an object that two readers could take for one.

use std::borrow::Cow;

use super::value::{JsonError, Value};

/// Refuses names that are equal, or equal without regard to case. Few names are compared pairwise, which allocates
/// nothing; many, or names outside ASCII, are folded and sorted, so that the cost stays bounded.
pub(super) fn unique(members: &[(Cow<'_, str>, Value<'_>)]) -> Result<(), JsonError> {
    let small = members.len() <= PAIRWISE && members.iter().all(|(name, _)| name.is_ascii());
    if !small {
        return unique_folded(members);
    }
    let mut rest = members;
    while let Some(((name, _), tail)) = rest.split_first() {
        if let Some((other, _)) = tail.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            return Err(collision(name, other));
        }
        rest = tail;
    }
    Ok(())
}

fn unique_folded(members: &[(Cow<'_, str>, Value<'_>)]) -> Result<(), JsonError> {
    let mut folded: Vec<(String, &str)> = members
        .iter()
        .map(|(name, _)| (fold(name), name.as_ref()))
        .collect();
    folded.sort_unstable();
    for pair in folded.windows(2) {
        if let [(a, a_name), (b, b_name)] = pair
            && a == b
        {
            return Err(collision(a_name, b_name));
        }
    }
    Ok(())
}

/// Case folding that also maps the long s and the Kelvin sign, which Go's JSON reader takes for `s` and `k`.
fn fold(name: &str) -> String {
    name.chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

fn collision(a: &str, b: &str) -> JsonError {
    let clip = |name: &str| name.chars().take(64).collect::<String>().into_boxed_str();
    if a == b {
        JsonError::Duplicate(clip(a))
    } else {
        JsonError::CaseCollision(clip(a), clip(b))
    }
}

const PAIRWISE: usize = 48;
