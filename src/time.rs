//! Points in time as plain values. The core never reads a clock: whoever drives it says what time it is.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

/// Milliseconds since the Unix epoch, UTC.
///
/// One more is what is stored, so that an `Option` of it is no larger: sessions have many that are mostly none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(NonZeroU64);

impl Default for Timestamp {
    /// The Unix epoch.
    fn default() -> Self {
        Self::from_millis(0)
    }
}

impl Timestamp {
    /// From milliseconds since the Unix epoch. Saturates at `u64::MAX - 1`.
    pub const fn from_millis(millis: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(millis))
    }

    /// From whole seconds since the Unix epoch, as JWT `NumericDate`s are (RFC 7519 section 2). Saturates.
    pub const fn from_secs(secs: u64) -> Self {
        Self::from_millis(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0.get() - 1
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.as_millis() / 1000
    }

    /// This point moved later by `duration`. Saturates.
    pub fn plus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// This point moved earlier by `duration`. Saturates at the epoch.
    pub fn minus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self::from_millis(self.as_millis().saturating_sub(millis))
    }

    /// How long after `earlier` this point is; zero when it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.as_millis())
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds, `2026-11-23T16:37:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.as_secs() / 86_400);
        let second = self.as_secs() % 86_400;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            second / 3600,
            second / 60 % 60,
            second % 60,
            self.as_millis() % 1000
        )
    }
}

/// Days since 1970-01-01 to (year, month, day) of the proleptic Gregorian calendar.
///
/// The era arithmetic is Howard Hinnant's `civil_from_days`, restricted to days after the epoch.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_no_larger_and_the_ends_hold() {
        assert_eq!(size_of::<Option<Timestamp>>(), size_of::<Timestamp>());
        let (first, last) = (Timestamp::default(), Timestamp::from_millis(u64::MAX));
        assert_eq!(first.as_millis(), 0);
        assert_eq!(last.as_millis(), u64::MAX - 1);
        assert_eq!(first.minus(Duration::from_secs(1)), first);
        assert_eq!(last.plus(Duration::MAX), last);
        assert_eq!(Timestamp::from_secs(u64::MAX), last);
    }

    #[test]
    fn prints_as_rfc_3339() {
        assert_eq!(
            Timestamp::from_millis(0).to_string(),
            "1970-01-01T00:00:00.000Z"
        );
        assert_eq!(
            Timestamp::from_millis(951_782_400_123).to_string(),
            "2000-02-29T00:00:00.123Z"
        );
        assert_eq!(
            Timestamp::from_secs(1_795_451_820).to_string(),
            "2026-11-23T16:37:00.000Z"
        );
    }
}
