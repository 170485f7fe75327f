//! Answers in the shapes of the services that the emulator stands in for.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::world::guid_of;
use crate::clock;

/// A JSON answer.
pub(super) fn json(status: StatusCode, document: &Value) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json; charset=utf-8")],
        document.to_string(),
    )
        .into_response()
}

/// An error of the token endpoint.
pub(super) struct Aadsts<'a> {
    pub(super) status: StatusCode,
    pub(super) error: &'a str,
    pub(super) code: u32,
    pub(super) text: &'a str,
    /// `client-request-id` of the request.
    pub(super) correlation: Option<&'a str>,
}

/// The error of Microsoft Entra: RFC 6749 section 5.2 with numbers that operators search for.
pub(super) fn aadsts(error: &Aadsts<'_>) -> Response {
    let trace = request_id();
    let correlation = error.correlation.map_or_else(request_id, str::to_owned);
    let moment = moment();
    let document = json!({
        "error": error.error,
        "error_description": format!(
            "AADSTS{}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {moment}",
            error.code, error.text
        ),
        "error_codes": [error.code],
        "timestamp": moment,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": format!("https://login.microsoftonline.com/error?code={}", error.code),
    });
    json(error.status, &document)
}

/// An error of Graph.
pub(super) fn graph_error(status: StatusCode, code: &str, message: &str) -> Response {
    let id = request_id();
    let document = json!({
        "error": {
            "code": code,
            "message": message,
            "innerError": { "date": moment(), "request-id": id, "client-request-id": id },
        }
    });
    let mut response = json(status, &document);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("request-id", id);
    }
    response
}

/// `2026-11-28 00:10:12Z`
fn moment() -> String {
    let text = clock::now().to_string();
    format!("{}Z", text.replace('T', " ").get(..19).unwrap_or_default())
}

/// A new id for one request.
pub(super) fn request_id() -> String {
    let mut bytes = [0_u8; 16];
    // Without randomness the ids repeat, which hurts nobody here.
    aws_lc_rs::rand::fill(&mut bytes).ok();
    guid_of(&format!("{bytes:?}"))
}

/// The value of a header, where it is text.
pub(super) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The token of `Authorization: Bearer`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    header_text(headers, "authorization")?.strip_prefix("Bearer ")
}

/// `application/x-www-form-urlencoded`, of a body or of a query, read by the URL library.
pub(super) fn form_fields(text: &[u8]) -> Fields {
    let mut fields = Vec::new();
    if let (Ok(text), Ok(mut url)) = (
        std::str::from_utf8(text),
        reqwest::Url::parse("http://localhost/"),
    ) {
        url.set_query(Some(text.trim()));
        fields.extend(
            url.query_pairs()
                .map(|(name, value)| (name.into_owned(), value.into_owned())),
        );
    }
    Fields(fields)
}

/// Fields of a form or a query.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The first of that name; empty is absent.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}
