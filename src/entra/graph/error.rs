//! Why groups are not known: a code to count and a sentence to act on.

use std::time::Duration;

/// Why groups are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct GraphError {
    code: &'static str,
    sentence: Box<str>,
    retry_after: Option<Duration>,
    waiting: bool,
}

/// Graph answers 403.
const DENIED: &str = "graph.denied";
/// Graph answers 429.
const THROTTLED: &str = "graph.throttled";
/// Graph answers 404, also when asked again.
const UNKNOWN: &str = "graph.unknown";
/// Anything else that is no answer.
const UNAVAILABLE: &str = "graph.unavailable";

impl GraphError {
    /// Every code.
    pub const CODES: [&'static str; 4] = [DENIED, THROTTLED, UNKNOWN, UNAVAILABLE];

    /// Closed set, a metric label: see [`Self::CODES`].
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// What was found and what to do.
    pub fn sentence(&self) -> &str {
        &self.sentence
    }

    /// Graph answered, and does not know the principal: the one case that says something about the principal and not
    /// about Graph.
    pub fn is_about_the_principal(&self) -> bool {
        self.code == UNKNOWN
    }

    pub(super) fn is_denied(&self) -> bool {
        self.code == DENIED
    }

    pub(super) const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(super) const fn was_waiting(&self) -> bool {
        self.waiting
    }

    /// The same, told to somebody who came during the pause.
    pub(super) fn waiting(mut self, wait: Duration) -> Self {
        if self.code == THROTTLED {
            self.sentence = throttled_sentence(wait).into();
        }
        self.waiting = true;
        self
    }

    pub(super) fn unavailable(sentence: impl Into<Box<str>>) -> Self {
        Self::new(UNAVAILABLE, sentence)
    }

    /// The same, when Graph says how long to leave it alone.
    pub(super) fn after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    pub(super) fn denied(missing: &[&str], oid: Option<&str>) -> Self {
        let who = oid.map_or_else(String::new, |oid| format!(" (identity {oid})"));
        let sentence = match missing {
            [] => format!(
                "Graph refused the proxy{who} (403), although its token holds the permissions that are needed; check Conditional Access for workload identities"
            ),
            _ => format!(
                "Graph refused the proxy{who} (403): grant the application permissions {} of Microsoft Graph and admin consent; a managed identity's token may stay as it is for 24 h",
                missing.join(" and ")
            ),
        };
        Self::new(DENIED, sentence)
    }

    pub(super) fn throttled(retry_after: Option<Duration>) -> Self {
        // No wait at all would be another request for each connection.
        let wait = retry_after.unwrap_or(Duration::from_secs(10));
        let wait = wait.max(Duration::from_secs(1));
        let mut error = Self::new(THROTTLED, throttled_sentence(wait));
        error.retry_after = Some(wait);
        error
    }

    pub(super) fn unknown(what: &str, tid: &str, oid: &str) -> Self {
        Self::new(
            UNKNOWN,
            format!(
                "Graph knows no {what} {oid} in tenant {tid} (404, asked three times): deleted, or made a moment ago"
            ),
        )
    }

    fn new(code: &'static str, sentence: impl Into<Box<str>>) -> Self {
        Self {
            code,
            sentence: sentence.into(),
            retry_after: None,
            waiting: false,
        }
    }
}

fn throttled_sentence(wait: Duration) -> String {
    // Up, so that nobody is told to come back too early.
    let seconds = wait.as_millis().div_ceil(1000);
    format!(
        "Graph throttled the proxy (429, retry after {seconds} s); groups that are not in tokens cannot be looked up until then"
    )
}
