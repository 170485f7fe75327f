//! Figures as people write them in the configuration: `30s`, `256KiB`, `5000/s`, `2026-11-01`, `10.0.0.0/8`.
//!
//! Owns: their grammar, their limits, and errors that show a right example. Must never: accept a bare number where the
//! unit could be guessed wrong, or overflow.

mod moment;
mod range;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use moment::Moment;
pub use range::Cidr;

/// A figure that cannot be read. The sentence shows how to write it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not {wanted}; write {example}")]
pub struct UnitError {
    found: Box<str>,
    wanted: &'static str,
    example: &'static str,
}

impl UnitError {
    fn new(found: &str, wanted: &'static str, example: &'static str) -> Self {
        let found = found.chars().take(64).collect::<String>().into();
        Self {
            found,
            wanted,
            example,
        }
    }
}

/// A length of time, such as `500ms`, `30s`, `5m`, `8h`, `90d` or `1h30m`. Millisecond resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(Duration);

impl HumanDuration {
    /// From a duration; what is finer than a millisecond is dropped.
    pub const fn new(duration: Duration) -> Self {
        Self(duration)
    }

    /// The length of time.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for HumanDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || {
            UnitError::new(
                text,
                "a length of time",
                "a number and a unit such as 500ms, 30s, 5m, 8h or 90d",
            )
        };
        let mut left = text.trim();
        let mut millis = 0_u64;
        if left.is_empty() {
            return Err(wrong());
        }
        while !left.is_empty() {
            let (count, after) = number(left).ok_or_else(wrong)?;
            let unit_len = after
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_len);
            let scale = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(wrong()),
            };
            millis = count
                .checked_mul(scale)
                .and_then(|part| part.checked_add(millis))
                .ok_or_else(wrong)?;
            left = after;
        }
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (scale, unit) in [
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "m"),
            (1_000, "s"),
        ] {
            if millis >= scale && millis.is_multiple_of(scale) {
                return write!(f, "{}{unit}", millis / scale);
            }
        }
        write!(f, "{millis}ms")
    }
}

/// A size in bytes, such as `512B`, `64KiB`, `8MiB`, `1GiB`, also decimal `1MB`; a bare number is bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// From bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || {
            UnitError::new(
                text,
                "a size",
                "bytes or a number with a unit such as 512B, 256KiB or 8MiB",
            )
        };
        let (count, unit) = number(text.trim()).ok_or_else(wrong)?;
        let scale = match unit.trim_start() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return Err(wrong()),
        };
        count.checked_mul(scale).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 >> shift > 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// Events per second, such as `5000/s`; also per minute or hour (`90/m`, `1000/h`), kept per second and rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

impl Rate {
    /// From a number per second.
    pub const fn new(per_second: u64) -> Self {
        Self(per_second)
    }

    /// Per second.
    pub const fn per_second(self) -> u64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::new(text, "a rate", "a number per second such as 5000/s");
        let (count, unit) = number(text.trim()).ok_or_else(wrong)?;
        let seconds = per(unit).ok_or_else(wrong)?;
        Ok(Self(count.div_ceil(seconds)))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

/// Bytes per second, such as `10MiB/s` or `512KiB/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRate(u64);

impl ByteRate {
    /// From bytes per second.
    pub const fn new(bytes_per_second: u64) -> Self {
        Self(bytes_per_second)
    }

    /// In bytes per second.
    pub const fn bytes_per_second(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteRate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || {
            UnitError::new(
                text,
                "bytes per second",
                "a size per second such as 10MiB/s",
            )
        };
        let (size, unit) = text.trim().rsplit_once('/').ok_or_else(wrong)?;
        let size = ByteSize::from_str(size).map_err(|_| wrong())?;
        let seconds = per(&format!("/{unit}")).ok_or_else(wrong)?;
        Ok(Self(size.bytes().div_ceil(seconds)))
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", ByteSize(self.0))
    }
}

/// The decimal number a text begins with, and the rest.
fn number(text: &str) -> Option<(u64, &str)> {
    let len = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (figures, rest) = text.split_at(len);
    figures.parse().ok().map(|number| (number, rest))
}

/// Seconds of `/s`, `/m` and `/h`.
fn per(unit: &str) -> Option<u64> {
    match unit {
        "/s" => Some(1),
        "/m" => Some(60),
        "/h" => Some(3600),
        _ => None,
    }
}

/// Serde and schema for a unit that is written as a string.
macro_rules! written_as_text {
    ($type:ty, $name:literal, $pattern:literal, $about:literal, $($number:ident)?) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($about)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }

                    $(fn visit_u64<E: serde::de::Error>(self, $number: u64) -> Result<$type, E> {
                        $number.to_string().parse().map_err(E::custom)
                    })?
                }
                deserializer.deserialize_any(Text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $about })
            }
        }
    };
}

written_as_text!(
    HumanDuration,
    "HumanDuration",
    "^([0-9]+(ms|s|m|h|d))+$",
    "a length of time such as 30s, 5m or 8h",
);
written_as_text!(
    ByteSize,
    "ByteSize",
    "^[0-9]+ ?(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB)?$",
    "a size such as 512B, 256KiB or 8MiB",
    number
);
written_as_text!(Rate, "Rate", "^[0-9]+/[smh]$", "a rate such as 5000/s",);
written_as_text!(
    ByteRate,
    "ByteRate",
    "^[0-9]+ ?(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB)?/[smh]$",
    "bytes per second such as 10MiB/s",
);
written_as_text!(
    Moment,
    "Moment",
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9:.]+([Zz]|[+-][0-9]{2}:[0-9]{2}))?$",
    "a day such as 2026-11-01 or a point in time such as 2026-11-01T08:00:00Z",
);
written_as_text!(
    Cidr,
    "Cidr",
    "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$",
    "a range of addresses such as 10.0.0.0/8",
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn durations_read_and_print() {
        let millis = |text: &str| text.parse::<HumanDuration>().map(|d| d.get().as_millis());
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("1h30m"), Ok(5_400_000));
        assert_eq!(millis("90d"), Ok(7_776_000_000));
        for wrong in [
            "",
            "30",
            "s",
            "1.5h",
            "-1s",
            "1y",
            "99999999999999999d",
            "1s ",
        ] {
            assert_eq!(millis(wrong).is_ok(), wrong == "1s ", "{wrong:?}");
        }
        assert_eq!(
            "5400s".parse::<HumanDuration>().map(|d| d.to_string()),
            Ok("90m".into())
        );
    }

    #[test]
    fn sizes_and_rates_read_and_print() {
        assert_eq!("256KiB".parse(), Ok(ByteSize(262_144)));
        assert_eq!("1024".parse(), Ok(ByteSize(1024)));
        assert!("1 potato".parse::<ByteSize>().is_err());
        assert!("18446744073709551615GiB".parse::<ByteSize>().is_err());
        assert_eq!("5000/s".parse(), Ok(Rate(5000)));
        assert_eq!("90/m".parse(), Ok(Rate(2)));
        assert!("5000".parse::<Rate>().is_err());
        assert_eq!("10MiB/s".parse(), Ok(ByteRate(10 << 20)));
        assert_eq!(ByteRate(10 << 20).to_string(), "10MiB/s");
    }

    #[test]
    fn a_day_counts_whole_and_offsets_are_applied() {
        let day: Moment = "2027-06-30".parse().expect("a day");
        assert_eq!(day.begins().to_string(), "2027-06-30T00:00:00.000Z");
        assert_eq!(day.ends().to_string(), "2027-07-01T00:00:00.000Z");
        let point: Moment = "2026-11-01T01:30:00.25+02:00".parse().expect("a point");
        assert_eq!(point.begins().to_string(), "2026-10-31T23:30:00.250Z");
        assert_eq!(point.ends(), point.begins());
        for wrong in [
            "2026-02-29",
            "2026-13-01",
            "2026-11-01T25:00:00Z",
            "2026-11-01T08:00:00",
            "1969-12-31",
            "tomorrow",
        ] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
        let every_day = (0..40_000_u64).all(|days| {
            let text = Timestamp::from_secs(days * 86_400).to_string();
            text.get(..10)
                .and_then(|day| day.parse::<Moment>().ok())
                .map(Moment::begins)
                == Some(Timestamp::from_secs(days * 86_400))
        });
        assert!(every_day);
    }

    #[test]
    fn ranges_contain_what_they_should() {
        let range: Cidr = "10.0.0.0/8".parse().expect("a range");
        assert!(range.contains("10.255.1.2".parse().expect("an address")));
        assert!(range.contains("::ffff:10.1.2.3".parse().expect("an address")));
        assert!(!range.contains("11.0.0.1".parse().expect("an address")));
        let all: Cidr = "0.0.0.0/0".parse().expect("a range");
        assert!(all.contains("203.0.113.9".parse().expect("an address")));
        assert!(!all.contains("fd00::1".parse().expect("an address")));
        let six: Cidr = "fd00::/8".parse().expect("a range");
        assert!(six.contains("fdab::1".parse().expect("an address")));
        for wrong in ["10.0.0.0/33", "10.0.0/8", "fd00::/129", "any"] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
    }
}
