//! Why there is no token: a code to count and a sentence to act on.
//!
//! Must never: hold what an answer said beyond numbers and short words, since a service may echo what it was sent.

use std::time::Duration;

use serde::Deserialize;

use crate::http::HttpError;

/// Why there is no token. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct CredentialError {
    code: &'static str,
    sentence: Box<str>,
    pub(super) retry_after: Option<Duration>,
}

impl CredentialError {
    /// Closed set: `credential.config`, `credential.refused`, `credential.unreachable`, `credential.malformed`.
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// What was found and what to do.
    pub fn sentence(&self) -> &str {
        &self.sentence
    }

    /// Whether asking again later may help without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        matches!(self.code, UNREACHABLE | MALFORMED)
    }

    pub(super) fn config(sentence: impl Into<Box<str>>) -> Self {
        Self::new(CONFIG, sentence)
    }

    pub(super) fn refused(sentence: impl Into<Box<str>>) -> Self {
        Self::new(REFUSED, sentence)
    }

    pub(super) fn unreachable(sentence: impl Into<Box<str>>) -> Self {
        Self::new(UNREACHABLE, sentence)
    }

    pub(super) fn malformed(sentence: impl Into<Box<str>>) -> Self {
        Self::new(MALFORMED, sentence)
    }

    pub(super) fn http(who: &str, error: &HttpError) -> Self {
        Self::unreachable(format!("{who} cannot be asked: {error}"))
    }

    pub(super) fn after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    fn new(code: &'static str, sentence: impl Into<Box<str>>) -> Self {
        Self {
            code,
            sentence: sentence.into(),
            retry_after: None,
        }
    }
}

const CONFIG: &str = "credential.config";
const REFUSED: &str = "credential.refused";
const UNREACHABLE: &str = "credential.unreachable";
const MALFORMED: &str = "credential.malformed";

/// What the token endpoint says when it says no.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: String,
    error_description: String,
    error_codes: Vec<u64>,
    trace_id: String,
}

/// The error of an answer of the token endpoint that is not 200. Carries the AADSTS number and what it means for an
/// operator; of the answer's own words only what cannot hold a secret.
pub(super) fn refused(who: &str, status: u16, body: &[u8]) -> CredentialError {
    let said: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let number = said
        .error_codes
        .first()
        .copied()
        .or_else(|| aadsts(&said.error_description));
    let word = word(&said.error);
    let Some(number) = number else {
        return match word {
            Some(word) => CredentialError::refused(format!("{who} said {word} (status {status})")),
            None => CredentialError::unreachable(format!("{who} answered with status {status}")),
        };
    };
    let advice = ADVICE
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(
            || format!("see https://login.microsoftonline.com/error?code={number}"),
            |(_, advice)| (*advice).to_owned(),
        );
    let trace = match crate::identity::is_guid(&said.trace_id) {
        true => format!(" (trace id {})", said.trace_id),
        false => String::new(),
    };
    CredentialError::refused(format!("{who} said AADSTS{number}: {advice}{trace}"))
}

/// The number in `AADSTS7000215: Invalid client secret provided...`.
fn aadsts(description: &str) -> Option<u64> {
    let digits = description.strip_prefix("AADSTS")?;
    let end = digits.find(|c: char| !c.is_ascii_digit())?;
    digits.get(..end)?.parse().ok()
}

/// An error word of OAuth 2.0 (RFC 6749 section 5.2), if it looks like one.
fn word(text: &str) -> Option<&str> {
    let fit =
        (1..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    fit.then_some(text)
}

/// What to do about the numbers that operators meet. Source: Microsoft's list of AADSTS error codes.
const ADVICE: [(u64, &str); 21] = [
    (
        7_000_215,
        "the client secret is wrong; configure the secret's value, not its id",
    ),
    (
        7_000_222,
        "the client secret has expired; add a new one to the app registration",
    ),
    (
        700_016,
        "the tenant does not know the application; check client_id and tenant, and consent to the application in that tenant",
    ),
    (
        90_002,
        "the tenant does not exist in this cloud; check the tenant id and entra.cloud",
    ),
    (
        900_023,
        "the tenant is neither an id nor a domain of this cloud; check the tenant id",
    ),
    (
        700_027,
        "the certificate is not registered with the application, or the assertion was not signed by its key; upload the public certificate to the app registration",
    ),
    (
        700_024,
        "the assertion is not valid at this time; check the clock of this machine",
    ),
    (
        700_025,
        "the application is a public client; remove that setting, or the secret",
    ),
    (
        70_021,
        "no federated credential of the application fits the token; check issuer, subject and audience under Certificates & secrets",
    ),
    (
        700_211,
        "no federated credential has the issuer of the token; check the issuer URL of the cluster in the federated credential",
    ),
    (
        700_212,
        "no federated credential has the audience of the token; it should be api://AzureADTokenExchange",
    ),
    (
        700_213,
        "no federated credential has the subject of the token; it should be system:serviceaccount:NAMESPACE:NAME",
    ),
    (
        500_011,
        "the tenant has no service principal for the API that the token is asked for; check the App ID URI and consent",
    ),
    (
        650_057,
        "the API is not among the permissions of the application; add it under API permissions",
    ),
    (
        501_051,
        "the application is not assigned to a role of the API; assign one, since the API requires assignment",
    ),
    (
        7_000_112,
        "the application is disabled; enable its service principal",
    ),
    (
        65_001,
        "nobody has consented to this client application; in the API's registration, Expose an API, add it as a client application (the Azure CLI is 04b07795-8ddb-461a-bbee-02f9e1bf7b46), or consent to it",
    ),
    (
        50_105,
        "the account is not assigned to a role of the API; assign one under Enterprise applications, Users and groups",
    ),
    (
        50_076,
        "Conditional Access asks for another sign-in; sign in again, for az with az login --tenant TENANT --scope SCOPE",
    ),
    (
        50_020,
        "the account is not of this tenant and no guest of it; sign in with another account, or check the tenant id",
    ),
    (
        53_003,
        "Conditional Access blocks the application; check the policies for workload identities",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_number_advice_and_trace_and_nothing_that_was_echoed() {
        let body = br#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret hunter2 provided.","error_codes":[7000215],"trace_id":"7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11"}"#;
        let error = refused("the token endpoint", 401, body);
        assert_eq!(error.code(), "credential.refused");
        let text = error.to_string();
        assert!(
            text.contains("AADSTS7000215: the client secret is wrong"),
            "{text}"
        );
        assert!(
            text.contains("7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn numbers_are_found_in_the_text_too_and_unknown_ones_have_an_address() {
        let body = br#"{"error":"x","error_description":"AADSTS99999: whatever"}"#;
        let text = refused("x", 400, body).to_string();
        assert!(text.contains("error?code=99999"), "{text}");
        for (body, wanted) in [
            (&b"<html>"[..], "x answered with status 503"),
            (
                br#"{"error":"unauthorized_client"}"#,
                "x said unauthorized_client (status 503)",
            ),
            (
                br#"{"error":"hunter2 echoed"}"#,
                "x answered with status 503",
            ),
        ] {
            assert_eq!(refused("x", 503, body).to_string(), wanted);
        }
    }
}
