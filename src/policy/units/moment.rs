//! Days and points in time.
//!
//! Owns: their grammar and the calendar. Must never: read a clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::UnitError;
use crate::time::Timestamp;

/// A day (`2026-11-01`) or a point in time (`2026-11-01T08:00:00Z`, RFC 3339 with any offset).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moment {
    at: Timestamp,
    whole_day: bool,
}

impl Moment {
    /// When something that is valid from this moment begins: for a day, its first instant in UTC.
    pub const fn begins(self) -> Timestamp {
        self.at
    }

    /// When something that is valid until this moment ends: a day counts whole, so it is the first instant that is too
    /// late.
    pub fn ends(self) -> Timestamp {
        if self.whole_day {
            self.at.plus(Duration::from_secs(86_400))
        } else {
            self.at
        }
    }
}

impl FromStr for Moment {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || {
            UnitError::new(
                text,
                "a day or a point in time",
                "2026-11-01 or 2026-11-01T08:00:00Z",
            )
        };
        parse_moment(text.trim()).ok_or_else(wrong)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.at.to_string();
        let shown = if self.whole_day { text.get(..10) } else { None };
        f.write_str(shown.unwrap_or(&text))
    }
}

fn parse_moment(text: &str) -> Option<Moment> {
    let date = text.get(..10)?;
    let mut parts = date.split('-');
    let year = digits(parts.next()?, 4)?;
    let month = digits(parts.next()?, 2)?;
    let day = digits(parts.next()?, 2)?;
    let days = days_from_civil(year, month, day)?;
    let midnight = days.checked_mul(86_400)?;
    let time = text.get(10..)?;
    if time.is_empty() {
        return Some(Moment {
            at: Timestamp::from_secs(midnight),
            whole_day: true,
        });
    }
    let time = time.strip_prefix(['T', 't', ' '])?;
    let clock = time.get(..8)?;
    let mut parts = clock.split(':');
    let hour = digits(parts.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = digits(parts.next()?, 2).filter(|minute| *minute < 60)?;
    let second = digits(parts.next()?, 2).filter(|second| *second < 60)?;
    let (millis, zone) = fraction(time.get(8..)?)?;
    let offset = offset_secs(zone)?;
    let local = midnight.checked_add(hour * 3600 + minute * 60 + second)?;
    let utc = local.checked_add_signed(offset.checked_neg()?)?;
    let at = Timestamp::from_secs(utc).plus(Duration::from_millis(millis));
    Some(Moment {
        at,
        whole_day: false,
    })
}

/// An optional `.123456` and what follows it; milliseconds, finer digits dropped.
fn fraction(text: &str) -> Option<(u64, &str)> {
    let Some(after) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let len = after
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(after.len());
    let (figures, zone) = after.split_at(len);
    if figures.is_empty() || figures.len() > 18 {
        return None;
    }
    let padded: String = figures.chars().chain("000".chars()).take(3).collect();
    Some((padded.parse().ok()?, zone))
}

/// `Z`, `+02:00` or `-05:30` as seconds east of UTC.
fn offset_secs(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, figures) = match zone.strip_prefix('+') {
        Some(figures) => (1, figures),
        None => (-1, zone.strip_prefix('-')?),
    };
    let (hours, minutes) = figures.split_once(':')?;
    let hours = digits(hours, 2).filter(|hours| *hours < 24)?;
    let minutes = digits(minutes, 2).filter(|minutes| *minutes < 60)?;
    i64::try_from(hours * 3600 + minutes * 60)
        .ok()
        .map(|seconds| sign * seconds)
}

/// Days since 1970-01-01 of a Gregorian date from 1970 to 9999; none for a day that does not exist.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let index = usize::try_from(month.checked_sub(1)?).ok()?;
    let length = *lengths.get(index)?;
    if !(1970..=9999).contains(&year) || day == 0 || day > length {
        return None;
    }
    let before = year - 1;
    let years = year - 1970;
    // Leap days of the years before this one, less the 477 up to and with 1969.
    let leaps = (before / 4 + before / 400)
        .checked_sub(before / 100)?
        .checked_sub(477)?;
    let months: u64 = lengths.iter().take(index).sum();
    Some(years * 365 + leaps + months + day - 1)
}

fn digits(text: &str, len: usize) -> Option<u64> {
    let good = text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    if good { text.parse().ok() } else { None }
}
