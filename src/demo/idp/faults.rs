//! What goes wrong on request, and what was asked: one rule list and one count for every endpoint.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::answers;

/// What can be asked of the emulator, one for each service that it stands in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// OpenID Connect discovery.
    Metadata,
    /// Key documents.
    Keys,
    /// OAuth 2.0 tokens.
    Token,
    /// The start of the device code flow.
    DeviceCode,
    /// The instance metadata service of virtual machines.
    Imds,
    /// The identity endpoint of App Service, Functions and Container Apps.
    AppService,
    /// The identity endpoint of Azure Arc.
    Arc,
    /// Microsoft Graph.
    Graph,
    /// Key Vault.
    Vault,
    /// What only the emulator has.
    Own,
}

impl Endpoint {
    /// The one that a path belongs to.
    pub(super) fn of(path: &str) -> Self {
        if path.ends_with("/.well-known/openid-configuration") {
            Self::Metadata
        } else if path.ends_with("/keys") && path.contains("/discovery/") {
            Self::Keys
        } else if path.ends_with("/oauth2/v2.0/token") || path.ends_with("/oauth2/token") {
            if path.starts_with("/arc/") {
                Self::Arc
            } else if path.starts_with("/metadata/") {
                Self::Imds
            } else {
                Self::Token
            }
        } else if path.ends_with("/devicecode") {
            Self::DeviceCode
        } else if path.starts_with("/msi/") {
            Self::AppService
        } else if path.starts_with("/v1.0/") {
            Self::Graph
        } else if path.starts_with("/secrets/") {
            Self::Vault
        } else {
            Self::Own
        }
    }
}

/// A way to go wrong.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A status with the service's own kind of body; 429 and 503 may say how many seconds to wait.
    Status(u16, Option<u64>),
    /// The right answer, after so many milliseconds.
    Slow(u64),
    /// No answer for as long as the client waits.
    Hang,
    /// 200 with a web page.
    Html,
    /// The right answer, cut in the middle.
    Truncated,
    /// 200 with 10 MiB.
    Huge,
    /// A TCP reset in place of an answer.
    Reset,
    /// 302 to this address.
    Redirect(String),
    /// A status with this body.
    Body(u16, String),
}

/// A fault that waits for its requests.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) endpoint: Endpoint,
    /// Only requests whose path and query contain this.
    pub(super) path: Option<String>,
    /// How many more; none: until mended.
    pub(super) remaining: Option<u32>,
    pub(super) fault: Fault,
}

/// One request as it was seen. Holds no header and no body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// The service that was asked.
    pub endpoint: Endpoint,
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Status of the answer; 0 for a reset.
    pub status: u16,
}

/// Faults to come and requests that were.
#[derive(Debug, Default)]
pub(super) struct Faults {
    rules: Vec<Rule>,
    counts: BTreeMap<Endpoint, u64>,
    seen: VecDeque<Seen>,
}

/// How many requests are remembered.
const SEEN: usize = 4096;

impl Faults {
    pub(super) fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    pub(super) fn mend(&mut self, endpoint: Option<Endpoint>) {
        self.rules
            .retain(|rule| endpoint.is_some_and(|endpoint| rule.endpoint != endpoint));
    }

    /// The oldest rule that fits; one that is spent goes.
    pub(super) fn next(&mut self, endpoint: Endpoint, path: &str) -> Option<Fault> {
        let fits = |rule: &Rule| {
            rule.endpoint == endpoint && rule.path.as_deref().is_none_or(|part| path.contains(part))
        };
        let at = self.rules.iter().position(fits)?;
        let rule = self.rules.get_mut(at)?;
        let fault = rule.fault.clone();
        if let Some(remaining) = &mut rule.remaining {
            *remaining = remaining.saturating_sub(1);
            if *remaining == 0 {
                self.rules.remove(at);
            }
        }
        Some(fault)
    }

    pub(super) fn count(&mut self, endpoint: Endpoint) {
        *self.counts.entry(endpoint).or_default() += 1;
    }

    pub(super) fn counted(&self, endpoint: Endpoint) -> u64 {
        self.counts.get(&endpoint).copied().unwrap_or_default()
    }

    pub(super) fn note(&mut self, seen: Seen) {
        if self.seen.len() == SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(seen);
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.iter().cloned().collect()
    }
}

/// The answer of a fault that needs no right one.
pub(super) fn answer(endpoint: Endpoint, fault: &Fault) -> Response {
    match fault {
        Fault::Status(status, wait) => refused(endpoint, *status, *wait),
        Fault::Html => {
            let html = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
            (
                html,
                "<!DOCTYPE html><html><title>Sign in to your account</title></html>\n",
            )
                .into_response()
        }
        Fault::Huge => {
            let body = format!("{{\"padding\":\"{}\"}}", "x".repeat(10 * 1024 * 1024));
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Fault::Redirect(to) => {
            (StatusCode::FOUND, [(header::LOCATION, to.clone())]).into_response()
        }
        Fault::Body(status, body) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (
                status,
                [(header::CONTENT_TYPE, "application/json")],
                body.clone(),
            )
                .into_response()
        }
        Fault::Slow(_) | Fault::Hang | Fault::Truncated | Fault::Reset => {
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A refusal as the service would word it.
fn refused(endpoint: Endpoint, status: u16, wait: Option<u64>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match endpoint {
        Endpoint::Graph => {
            let (code, message) = match status.as_u16() {
                429 => ("TooManyRequests", "Too many requests."),
                403 => (
                    "Authorization_RequestDenied",
                    "Insufficient privileges to complete the operation.",
                ),
                404 => ("Request_ResourceNotFound", "Resource does not exist."),
                401 => (
                    "InvalidAuthenticationToken",
                    "Access token validation failure.",
                ),
                504 => (
                    "UnknownError",
                    "The gateway did not receive a response in time.",
                ),
                _ => (
                    "ServiceNotAvailable",
                    "The service is temporarily unavailable.",
                ),
            };
            answers::graph_error(status, code, message)
        }
        Endpoint::Vault => {
            let code = if status == StatusCode::TOO_MANY_REQUESTS {
                "Throttled"
            } else {
                "InternalError"
            };
            answers::json(
                status,
                &json!({ "error": { "code": code, "message": "Request was not processed." } }),
            )
        }
        Endpoint::Imds | Endpoint::AppService | Endpoint::Arc => {
            let document =
                json!({ "error": "unknown", "error_description": "Failed to retrieve token" });
            answers::json(status, &document)
        }
        Endpoint::Token | Endpoint::DeviceCode => answers::aadsts(&answers::Aadsts {
            status,
            error: "temporarily_unavailable",
            code: 90_033,
            text: "A transient error has occurred. Please try again.",
            correlation: None,
        }),
        Endpoint::Metadata | Endpoint::Keys | Endpoint::Own => (status, "down\n").into_response(),
    };
    if let Some(seconds) = wait {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if endpoint == Endpoint::Graph && status == StatusCode::TOO_MANY_REQUESTS {
        let headers = response.headers_mut();
        headers.insert(
            "x-ms-throttle-scope",
            HeaderValue::from_static("Tenant_Application/ReadWrite/dev"),
        );
        headers.insert(
            "x-ms-throttle-limit-percentage",
            HeaderValue::from_static("1.2"),
        );
    }
    response
}

/// The first half of an answer, as if it were all.
pub(super) async fn cut(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let bytes = axum::body::to_bytes(body, 1 << 24)
        .await
        .unwrap_or_default();
    Response::from_parts(parts, Body::from(bytes.slice(..bytes.len() / 2)))
}

/// Pause of a slow answer.
pub(super) const fn pause(fault: &Fault) -> Option<Duration> {
    match fault {
        Fault::Slow(millis) => Some(Duration::from_millis(*millis)),
        Fault::Hang => Some(Duration::from_secs(86_400)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_belong_to_their_services() {
        for (path, endpoint) in [
            (
                "/t/v2.0/.well-known/openid-configuration",
                Endpoint::Metadata,
            ),
            ("/t/discovery/v2.0/keys", Endpoint::Keys),
            ("/discovery/keys", Endpoint::Keys),
            ("/t/oauth2/v2.0/token", Endpoint::Token),
            ("/t/oauth2/v2.0/devicecode", Endpoint::DeviceCode),
            ("/metadata/identity/oauth2/token", Endpoint::Imds),
            ("/arc/metadata/identity/oauth2/token", Endpoint::Arc),
            ("/msi/token", Endpoint::AppService),
            ("/v1.0/users/delta", Endpoint::Graph),
            ("/secrets/x", Endpoint::Vault),
            ("/token", Endpoint::Own),
        ] {
            assert_eq!(Endpoint::of(path), endpoint, "{path}");
        }
    }

    #[test]
    fn a_fault_is_spent_and_the_next_takes_its_place() {
        let mut faults = Faults::default();
        let rule = |path: Option<&str>, remaining, status| Rule {
            endpoint: Endpoint::Graph,
            path: path.map(Into::into),
            remaining,
            fault: Fault::Status(status, None),
        };
        faults.add(rule(Some("delta"), Some(1), 410));
        faults.add(rule(None, Some(2), 429));
        assert_eq!(faults.next(Endpoint::Vault, "/secrets/x"), None);
        assert_eq!(
            faults.next(Endpoint::Graph, "/v1.0/users/x"),
            Some(Fault::Status(429, None))
        );
        assert_eq!(
            faults.next(Endpoint::Graph, "/v1.0/users/delta"),
            Some(Fault::Status(410, None))
        );
        assert_eq!(
            faults.next(Endpoint::Graph, "/v1.0/users/delta"),
            Some(Fault::Status(429, None))
        );
        assert_eq!(faults.next(Endpoint::Graph, "/v1.0/users/delta"), None);
    }
}
