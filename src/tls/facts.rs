//! What a certificate says about itself, read from its DER. Decides nothing about trust.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::time::Timestamp;

/// Facts for metrics and the admin surface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFacts {
    /// `x5t#S256`: base64url of the SHA-256 of the DER, without padding (RFC 7515 section 4.1.8).
    pub thumbprint: String,
    /// First moment of validity.
    pub not_before: Option<Timestamp>,
    /// Last moment of validity.
    pub not_after: Option<Timestamp>,
}

/// `x5t#S256` of a certificate, as `cnf` claims name it (RFC 8705 section 3.1).
#[must_use]
pub fn thumbprint_s256(der: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(der))
}

/// Reads what can be read; a field that cannot be read is none.
#[must_use]
pub fn certificate_facts(der: &[u8]) -> CertificateFacts {
    let (not_before, not_after) = validity(der).unwrap_or_default();
    CertificateFacts {
        thumbprint: thumbprint_s256(der),
        not_before,
        not_after,
    }
}

/// `Certificate.tbsCertificate.validity` (RFC 5280 section 4.1).
fn validity(der: &[u8]) -> Option<(Option<Timestamp>, Option<Timestamp>)> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if let Some((_, after)) = element(rest, VERSION) {
        rest = after;
    }
    let (_serial, rest) = element(rest, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let (not_before, rest) = time(validity)?;
    let (not_after, _) = time(rest)?;
    Some((not_before, not_after))
}

/// `Certificate.tbsCertificate.subjectPublicKeyInfo` (RFC 5280 section 4.1), as DER.
#[must_use]
pub fn subject_public_key_info(der: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if let Some((_, after)) = element(rest, VERSION) {
        rest = after;
    }
    (_, rest) = element(rest, INTEGER)?;
    for _algorithm_issuer_validity_subject in 0..4 {
        (_, rest) = element(rest, SEQUENCE)?;
    }
    let (_, after) = element(rest, SEQUENCE)?;
    rest.get(..rest.len().checked_sub(after.len())?)
}

/// Content of the element at the start of `der` and what follows it, when its tag is `tag`.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    if found != tag {
        return None;
    }
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (bytes, after) = rest.split_at_checked(count)?;
        length = bytes
            .iter()
            .fold(0, |sum, &byte| (sum << 8) | usize::from(byte));
        rest = after;
    }
    rest.split_at_checked(length)
}

/// A `Time`: UTCTime `YYMMDDHHMMSSZ` or GeneralizedTime `YYYYMMDDHHMMSSZ` (RFC 5280 section 4.1.2.5).
fn time(der: &[u8]) -> Option<(Option<Timestamp>, &[u8])> {
    if let Some((text, rest)) = element(der, UTC_TIME) {
        let year = number(text.get(..2)?)?;
        let century = if year >= 50 { 1900 } else { 2000 };
        return Some((moment(century + year, text.get(2..)?), rest));
    }
    let (text, rest) = element(der, GENERALIZED_TIME)?;
    Some((moment(number(text.get(..4)?)?, text.get(4..)?), rest))
}

/// `MMDDHHMMSSZ` of a year. Before 1970 saturates at the epoch; leap seconds and fractions do not occur in DER.
fn moment(year: u64, rest: &[u8]) -> Option<Timestamp> {
    if rest.len() != 11 || rest.last() != Some(&b'Z') {
        return None;
    }
    let part = |at: usize| number(rest.get(at..at + 2)?);
    let (month, day) = (part(0)?, part(2)?);
    let (hour, minute, second) = (part(4)?, part(6)?, part(8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    Some(Timestamp::from_secs(
        days.saturating_mul(86_400)
            .saturating_add(hour * 3600 + minute * 60 + second),
    ))
}

/// Days since 1970-01-01 of a Gregorian date, after Howard Hinnant's `days_from_civil`. `year` is at most 9999.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 {
        year.saturating_sub(1)
    } else {
        year
    };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).saturating_sub(719_468)
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?
        .parse()
        .ok()
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
