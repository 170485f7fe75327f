//! Reading what the token endpoint and the metadata services answer.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::credential::AccessToken;
use super::error::CredentialError;
use crate::secret::Secret;
use crate::time::Timestamp;

/// Most bytes of an answer; tokens of applications are 1 to 4 KiB.
pub(super) const MOST_BYTES: usize = 64 * 1024;

/// Longest life that is believed. Tokens of managed identities live a day.
const MOST_LIFE: Duration = Duration::from_secs(48 * 3600);

/// The fields of interest. The v2.0 token endpoint writes numbers as numbers, IMDS as strings; App Service states
/// `expires_on` alone.
#[derive(Deserialize)]
struct Written {
    access_token: Option<String>,
    token_type: Option<String>,
    #[serde(default, deserialize_with = "number")]
    expires_in: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    expires_on: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    refresh_in: Option<u64>,
}

/// The token of a good answer. `now` is when the request was sent, so that a slow answer shortens its life.
pub(super) fn token(
    who: &str,
    body: &[u8],
    now: Timestamp,
) -> Result<AccessToken, CredentialError> {
    let bad = |what: &str| CredentialError::malformed(format!("{who} answered {what}"));
    // The parser's own error quotes the text around a fault.
    let written: Written =
        serde_json::from_slice(body).map_err(|_| bad("with something that is no token"))?;
    let secret = Secret::new(written.access_token.unwrap_or_default());
    let fit = !secret.is_empty() && secret.expose().iter().all(u8::is_ascii_graphic);
    if !fit {
        return Err(bad("without a usable access_token"));
    }
    if written
        .token_type
        .is_some_and(|kind| !kind.eq_ignore_ascii_case("Bearer"))
    {
        return Err(bad("with a token that is no bearer token"));
    }
    let from_now = written.expires_in.map(Duration::from_secs);
    let on = written
        .expires_on
        .map(|seconds| Timestamp::from_millis(seconds.saturating_mul(1000)).since(now));
    let life = match (from_now, on) {
        (Some(one), Some(other)) => one.min(other),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return Err(bad("without saying when the token expires")),
    };
    if life.is_zero() {
        return Err(bad(
            "with a token that has expired; check the clock of this machine",
        ));
    }
    let life = life.min(MOST_LIFE);
    let refresh_in = written.refresh_in.map(Duration::from_secs);
    Ok(AccessToken::new(secret, now, life, refresh_in))
}

/// A number, or a string of digits, or null.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Option::<Either>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Either::Number(number)) => Ok(Some(number)),
        Some(Either::Text(text)) => text
            .parse()
            .map(Some)
            .map_err(|_| serde::de::Error::custom("not a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_789_990_000_000);

    fn life(body: &str) -> Result<u64, String> {
        token("IMDS", body.as_bytes(), NOW)
            .map(|token| token.expires_at().since(NOW).as_secs())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_may_be_strings_and_the_earlier_end_counts() {
        assert_eq!(
            life(r#"{"access_token":"a.b.c","expires_in":3599,"token_type":"Bearer"}"#),
            Ok(3599)
        );
        assert_eq!(
            life(
                r#"{"access_token":"a","expires_in":"86399","expires_on":"1789990100","ext_expires_in":"1","resource":"x"}"#
            ),
            Ok(100)
        );
        assert_eq!(
            life(r#"{"access_token":"a","expires_on":"1789993600"}"#),
            Ok(3600)
        );
        assert_eq!(
            life(r#"{"access_token":"a","expires_in":99999999999}"#),
            Ok(48 * 3600)
        );
    }

    #[test]
    fn what_is_no_token_says_so_and_shows_nothing_of_it() {
        for body in [
            "<html>hunter2",
            r#"{"access_token":"hun ter2","expires_in":1}"#,
            r#"{"access_token":"","expires_in":1}"#,
            r#"{"access_token":"hunter2"}"#,
            r#"{"access_token":"hunter2","expires_in":0}"#,
            r#"{"access_token":"hunter2","expires_on":"12"}"#,
            r#"{"access_token":"hunter2","expires_in":"soon"}"#,
            r#"{"access_token":"hunter2","expires_in":9,"token_type":"mtls_pop"}"#,
            r#"{"access_token":"hunter2","access_token":"x","expires_in":9}"#,
        ] {
            let error = life(body).unwrap_err();
            assert!(error.starts_with("IMDS answered "), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
