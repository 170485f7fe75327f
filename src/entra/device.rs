//! Signing a person in with a device code: the code is entered in a browser, on whatever machine has one.
//!
//! Source: RFC 8628; Microsoft identity platform, OAuth 2.0 device authorization grant. Must never: print what the
//! endpoint wrote without looking at it, or ask more often than it said.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::answer;
use super::credential::AccessToken;
use super::error::{self, CredentialError};
use super::scope::Scope;
use crate::clock;
use crate::http::{Address, Http, HttpError, Request};
use crate::secret::Secret;

/// A public client application, through which people sign in.
#[derive(Clone, Debug)]
pub struct DeviceFlow {
    authority: Address,
    tenant: Box<str>,
    client_id: Box<str>,
    http: Http,
}

/// A sign-in that waits for its person.
pub struct DeviceCode {
    device_code: Secret,
    /// What the person enters.
    pub user_code: Box<str>,
    /// Where the person enters it.
    pub address: Box<str>,
    /// How long the code is good for.
    pub life: Duration,
    interval: Duration,
}

impl fmt::Debug for DeviceCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceCode({} at {})", self.user_code, self.address)
    }
}

/// RFC 8628 section 3.2; Entra writes `verification_uri`.
#[derive(Deserialize)]
struct Written {
    device_code: String,
    user_code: String,
    verification_uri: String,
    expires_in: u64,
    interval: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: String,
}

/// Pause between two polls where the endpoint states none, and what `slow_down` adds; shortest and longest that are
/// believed.
const INTERVAL: Duration = Duration::from_secs(5);
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);

/// Longest life of a code that is believed.
const LONGEST_LIFE: Duration = Duration::from_secs(3600);

const WHO: &str = "the device code endpoint";
const GRANT: &[u8] = b"urn:ietf:params:oauth:grant-type:device_code";

impl DeviceFlow {
    /// Opens no connection. `authority` is the login host of the cloud.
    ///
    /// # Errors
    /// [`CredentialError`] for an authority that may not be asked.
    pub fn new(
        authority: &str,
        tenant: &str,
        client_id: &str,
        http: Http,
    ) -> Result<Self, CredentialError> {
        let authority = Address::parse(authority)
            .map_err(|unfit| CredentialError::config(format!("the authority {unfit}")))?;
        Ok(Self {
            authority,
            tenant: tenant.into(),
            client_id: client_id.into(),
            http,
        })
    }

    /// Asks for a code to show.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub async fn start(&self, scope: &Scope) -> Result<DeviceCode, CredentialError> {
        let address = self.endpoint("devicecode");
        let scope = scope.scope();
        let fields: [(&str, &[u8]); 2] = [
            ("client_id", self.client_id.as_bytes()),
            ("scope", scope.as_bytes()),
        ];
        let request = Request::form(&address, &fields, answer::MOST_BYTES);
        let answer = self.http.send(request).await;
        let answer = answer.map_err(|error| CredentialError::http(WHO, &error))?;
        if answer.status != 200 {
            return Err(error::refused(
                &address.shown(),
                answer.status,
                &answer.body,
            ));
        }
        read(&answer.body)
    }

    /// Polls until the person has signed in, declined, or let the code expire.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub async fn wait(&self, code: &DeviceCode) -> Result<AccessToken, CredentialError> {
        let address = self.endpoint("token");
        let end = Instant::now() + code.life;
        let mut interval = code.interval;
        loop {
            tokio::time::sleep(interval).await;
            let begun = clock::now();
            let fields: [(&str, &[u8]); 3] = [
                ("grant_type", GRANT),
                ("client_id", self.client_id.as_bytes()),
                ("device_code", code.device_code.expose()),
            ];
            let request = Request::form(&address, &fields, answer::MOST_BYTES);
            let expired = || {
                CredentialError::refused(
                    "nobody entered the code in time; run the command again".to_owned(),
                )
            };
            let answer = match self.http.send(request).await {
                Ok(answer) => answer,
                // RFC 8628 section 3.5: ask more rarely, but go on, as long as the code lives.
                Err(HttpError::Transport { .. }) if Instant::now() < end => {
                    interval = interval.saturating_mul(2).min(LONGEST_INTERVAL);
                    continue;
                }
                Err(error) => return Err(CredentialError::http("the token endpoint", &error)),
            };
            if answer.status == 200 {
                return answer::token(&address.shown(), &answer.body, begun);
            }
            let said: Refusal = serde_json::from_slice(&answer.body).unwrap_or_default();
            match said.error.as_str() {
                "authorization_pending" => {}
                "slow_down" => interval = (interval + INTERVAL).min(LONGEST_INTERVAL),
                "authorization_declined" | "access_denied" => {
                    return Err(CredentialError::refused("the sign-in was declined"));
                }
                "expired_token" | "code_expired" => return Err(expired()),
                _ if matches!(answer.status, 429 | 500..) => {
                    interval = answer
                        .retry_after()
                        .unwrap_or(interval.saturating_mul(2))
                        .clamp(interval, LONGEST_INTERVAL);
                }
                _ => {
                    let shown = address.shown();
                    return Err(error::refused(&shown, answer.status, &answer.body));
                }
            }
            if Instant::now() >= end {
                return Err(expired());
            }
        }
    }

    fn endpoint(&self, name: &str) -> Address {
        self.authority.at(&[&self.tenant, "oauth2", "v2.0", name])
    }
}

/// A good answer, if what is to be shown to a person can be shown.
fn read(body: &[u8]) -> Result<DeviceCode, CredentialError> {
    let bad = |what: &str| CredentialError::malformed(format!("{WHO} answered {what}"));
    let written: Written =
        serde_json::from_slice(body).map_err(|_| bad("with something that is no device code"))?;
    let short = (4..=32).contains(&written.user_code.len());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !short || !written.user_code.bytes().all(plain) {
        return Err(bad("with a code that nobody could enter"));
    }
    let address = Address::parse(&written.verification_uri)
        .map_err(|_| bad("with an address that is not https"))?;
    if written.device_code.is_empty() {
        return Err(bad("without a device_code"));
    }
    let interval = written.interval.map_or(INTERVAL, Duration::from_secs);
    Ok(DeviceCode {
        device_code: Secret::new(written.device_code),
        user_code: written.user_code.into(),
        address: address.shown(),
        life: Duration::from_secs(written.expires_in).min(LONGEST_LIFE),
        interval: interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_person_can_read_and_enter_is_shown() {
        let body = |code: &str, address: &str| {
            serde_json::json!({
                "device_code": "hunter2", "user_code": code, "verification_uri": address, "expires_in": 900,
                "interval": 5, "message": "\u{1b}[31m",
            })
            .to_string()
        };
        let good = read(body("ABC-123", "https://login.example/device").as_bytes()).unwrap();
        assert_eq!(
            format!("{good:?}"),
            "DeviceCode(ABC-123 at https://login.example/device)"
        );
        for (code, address) in [
            ("A\u{1b}[31mB", "https://login.example/"),
            ("", "https://login.example/"),
            ("ABC123", "http://login.example/"),
            ("ABC123", "javascript:alert(1)"),
        ] {
            let error = read(body(code, address).as_bytes()).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
