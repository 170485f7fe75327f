//! Times for many that are not to come due together.

use std::time::Duration;

/// A part of `most` for the one with this number: those of any stretch of numbers lie evenly in it.
pub(crate) fn part(number: u64, most: Duration) -> Duration {
    // Multiples of the golden ratio, modulo one, do.
    let number = u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default();
    let part = f64::from(number.wrapping_mul(0x9e37_79b9)) / f64::from(u32::MAX);
    most.mul_f64(part)
}

/// `least`, and up to half of it more.
pub(crate) fn half_more(number: u64, least: Duration) -> Duration {
    least.saturating_add(part(number, least / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_hundred_in_a_row_lie_evenly() {
        for first in [0, 17, u64::from(u32::MAX) - 50] {
            let most = Duration::from_millis(100);
            let mut parts: Vec<_> = (first..)
                .take(100)
                .map(|number| part(number, most))
                .collect();
            parts.sort_unstable();
            assert!(
                parts.windows(2).all(|two| two[1] - two[0] < most / 30),
                "{parts:?}"
            );
            assert!(
                parts[0] < most / 30 && parts[99] > most / 30 * 29,
                "{parts:?}"
            );
        }
    }
}
