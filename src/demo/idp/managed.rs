//! Managed identities: the instance metadata service, App Service and Azure Arc.
//!
//! Sources: Microsoft's pages on tokens of a virtual machine, on managed identities of App Service and of Arc-enabled
//! servers. Numbers come as strings.

use std::fs;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::json;

use super::Shared;
use super::answers::{self, Fields, form_fields, header_text, request_id};
use super::people::Application;
use super::token::Resource;
use crate::clock;

fn refused(status: StatusCode, error: &str, text: &str) -> Response {
    answers::json(
        status,
        &json!({ "error": error, "error_description": text }),
    )
}

/// A refusal before it becomes an answer.
struct Refused {
    error: &'static str,
    text: String,
}

impl Refused {
    fn new(error: &'static str, text: impl Into<String>) -> Self {
        Self {
            error,
            text: text.into(),
        }
    }

    fn answer(&self) -> Response {
        refused(StatusCode::BAD_REQUEST, self.error, &self.text)
    }
}

/// The identity that a query selects among those of this machine.
fn identity(shared: &Shared, query: &Fields, names: [&str; 3]) -> Result<Application, Refused> {
    let directory = shared.world().directory();
    let managed = || {
        directory
            .applications
            .iter()
            .filter(|app| app.mirid.is_some())
    };
    let selectors = names.map(|name| query.get(name));
    let found = match selectors {
        [None, None, None] => {
            let own = directory
                .machine
                .as_deref()
                .and_then(|name| managed().find(|app| app.name == name));
            let mut assigned = managed();
            match (own, assigned.next(), assigned.next()) {
                (Some(own), ..) | (None, Some(own), None) => Some(own),
                (None, Some(_), Some(_)) => {
                    let text = "Multiple user assigned identities exist, please specify the clientId / resourceId of \
                                the identity in the token request";
                    return Err(Refused::new("invalid_request", text));
                }
                (None, None, _) => None,
            }
        }
        [Some(client), None, None] => managed().find(|app| app.client_id == client),
        [None, Some(object), None] => managed().find(|app| app.oid == object),
        [None, None, Some(resource)] => managed().find(|app| {
            app.mirid
                .as_deref()
                .is_some_and(|mirid| mirid.eq_ignore_ascii_case(resource))
        }),
        _ => {
            let text = "Only one of client_id, object_id and msi_res_id may be given";
            return Err(Refused::new("invalid_request", text));
        }
    };
    found
        .cloned()
        .ok_or_else(|| Refused::new("invalid_request", "Identity not found"))
}

/// What all three answer when everything is right.
struct Issued {
    token: String,
    client_id: String,
    resource: String,
    expires_on: u64,
}

fn issue(shared: &Shared, application: &Application, query: &Fields) -> Result<Issued, Refused> {
    let Some(named) = query.get("resource") else {
        return Err(Refused::new(
            "invalid_request",
            "The resource parameter is missing",
        ));
    };
    let resource = shared
        .resource(named)
        .filter(|resource| *resource != Resource::Oidc);
    // A scope is what the token endpoint takes; a resource is what this one takes.
    let Some(resource) = resource.filter(|_| !named.ends_with("/.default")) else {
        let text = format!(
            "AADSTS500011: The resource principal named {named} was not found in the tenant."
        );
        return Err(Refused::new("invalid_resource", text));
    };
    let state = shared.world().current();
    let account = state.principals.get(&application.oid);
    if account.is_none_or(|principal| !principal.enabled) {
        let text = "AADSTS7000112: Application is disabled.";
        return Err(Refused::new("unauthorized_client", text));
    }
    let now = clock::now().as_secs();
    let key = (
        application.name.clone(),
        named.trim_end_matches('/').to_owned(),
    );
    // Azure keeps them for the most of a day: a role that was taken away may still be in the next one.
    let cached = shared
        .managed_tokens()
        .get(&key)
        .filter(|(_, end)| *end > now + 300)
        .cloned();
    let (token, expires_on) = match cached {
        Some(cached) => cached,
        None => {
            let issued = shared.application_token(application, resource, "2");
            let (token, lifetime) =
                issued.map_err(|error| Refused::new("unknown", error.to_string()))?;
            let entry = (token, now + lifetime.as_secs());
            shared.managed_tokens().insert(key, entry.clone());
            entry
        }
    };
    Ok(Issued {
        token,
        client_id: application.client_id.clone(),
        resource: named.to_owned(),
        expires_on,
    })
}

impl Issued {
    fn imds(&self) -> Response {
        let left = self
            .expires_on
            .saturating_sub(clock::now().as_secs())
            .to_string();
        answers::json(
            StatusCode::OK,
            &json!({
                "access_token": self.token, "client_id": self.client_id, "expires_in": left, "ext_expires_in": left,
                "expires_on": self.expires_on.to_string(),
                "not_before": self.expires_on.saturating_sub(86_700).to_string(),
                "resource": self.resource, "token_type": "Bearer",
            }),
        )
    }

    fn app_service(&self) -> Response {
        answers::json(
            StatusCode::OK,
            &json!({
                "access_token": self.token, "client_id": self.client_id, "expires_on": self.expires_on.to_string(),
                "resource": self.resource, "token_type": "Bearer",
            }),
        )
    }
}

fn query_of(raw: RawQuery) -> Fields {
    form_fields(raw.0.unwrap_or_default().as_bytes())
}

/// `GET /metadata/identity/oauth2/token`
pub(super) async fn imds(
    State(shared): State<Arc<Shared>>,
    raw: RawQuery,
    headers: HeaderMap,
) -> Response {
    if header_text(&headers, "metadata") != Some("true") {
        let text = "Required metadata header not specified or not correct";
        return refused(StatusCode::BAD_REQUEST, "invalid_request", text);
    }
    // Whoever comes through a proxy is not the machine.
    if headers.contains_key("x-forwarded-for") {
        return refused(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "x-forwarded-for is not allowed",
        );
    }
    let query = query_of(raw);
    if query
        .get("api-version")
        .is_none_or(|version| version < "2018-02-01")
    {
        return refused(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "Query variable 'api-version' is missing or too old",
        );
    }
    let issued = identity(&shared, &query, ["client_id", "object_id", "msi_res_id"])
        .and_then(|application| issue(&shared, &application, &query));
    issued.map_or_else(|refused| refused.answer(), |issued| issued.imds())
}

/// `GET /msi/token`, what `IDENTITY_ENDPOINT` names
pub(super) async fn app_service(
    State(shared): State<Arc<Shared>>,
    raw: RawQuery,
    headers: HeaderMap,
) -> Response {
    if header_text(&headers, "x-identity-header") != Some(shared.identity_header.as_str()) {
        return answers::json(
            StatusCode::UNAUTHORIZED,
            &json!({ "statusCode": 401, "message": "Unauthorized" }),
        );
    }
    let query = query_of(raw);
    if query.get("api-version") != Some("2019-08-01") {
        return answers::json(
            StatusCode::BAD_REQUEST,
            &json!({ "statusCode": 400, "message": "Unsupported api-version" }),
        );
    }
    let issued = identity(&shared, &query, ["client_id", "principal_id", "mi_res_id"])
        .and_then(|application| issue(&shared, &application, &query));
    issued.map_or_else(|refused| refused.answer(), |issued| issued.app_service())
}

/// `GET /arc/metadata/identity/oauth2/token`: who can read a file that only the agent's group can read is the machine.
pub(super) async fn arc(
    State(shared): State<Arc<Shared>>,
    raw: RawQuery,
    headers: HeaderMap,
) -> Response {
    if header_text(&headers, "metadata") != Some("true") {
        return refused(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "Required metadata header not specified",
        );
    }
    let query = query_of(raw);
    if !matches!(
        query.get("api-version"),
        Some("2019-11-01" | "2020-06-01" | "2021-02-01")
    ) {
        return refused(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "api-version is not supported",
        );
    }
    if let Some(shown) = header_text(&headers, "authorization") {
        let known = shown
            .strip_prefix("Basic ")
            .is_some_and(|secret| shared.challenges().remove(secret));
        if !known {
            return refused(
                StatusCode::FORBIDDEN,
                "invalid_request",
                "The challenge was not answered",
            );
        }
        if ["client_id", "object_id", "principal_id", "msi_res_id"]
            .iter()
            .any(|name| query.get(name).is_some())
        {
            return refused(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "User-assigned identities are not supported",
            );
        }
        let issued = identity(&shared, &query, ["", "", ""])
            .and_then(|application| issue(&shared, &application, &query));
        return issued.map_or_else(|refused| refused.answer(), |issued| issued.imds());
    }
    let Some(folder) = &shared.arc_folder else {
        return refused(StatusCode::NOT_FOUND, "not_found", "No Arc agent runs here");
    };
    let (name, secret) = (request_id(), request_id());
    let file = folder.join(format!("{name}.key"));
    if let Err(error) = fs::write(&file, &secret) {
        return refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "unknown",
            &error.to_string(),
        );
    }
    shared.challenges().insert(secret);
    let mut response = refused(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized");
    if let Ok(challenge) = HeaderValue::from_str(&format!("Basic realm={}", file.display())) {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}
