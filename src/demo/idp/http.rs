//! What the development issuer answers over HTTP: discovery, keys, the token endpoint, and a token for pasting.
//!
//! Must never: answer a request that was meant for another host than this machine.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::mint::{Form, TokenRequest};
use super::{Answers, IdpError, Shared};
use crate::secret::Secret;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(root_metadata))
        .route("/discovery/keys", get(root_keys))
        .route(
            "/{tid}/v2.0/.well-known/openid-configuration",
            get(v2_metadata),
        )
        .route("/{tid}/.well-known/openid-configuration", get(v1_metadata))
        .route("/{tid}/discovery/v2.0/keys", get(v2_keys))
        .route("/{tid}/discovery/keys", get(v1_keys))
        .route("/{tid}/oauth2/v2.0/token", post(token))
        .route("/token", get(paste))
        .layer(middleware::from_fn(this_machine_only))
        .with_state(shared)
}

/// A page of a stranger's site must not be able to have tokens minted through a name that points at loopback.
async fn this_machine_only(request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let name = host.unwrap_or_default();
    let bare = match name.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => name.split(':').next().unwrap_or_default(),
    };
    let local = bare == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if local {
        next.run(request).await
    } else {
        (
            StatusCode::FORBIDDEN,
            "this issuer is for development on this machine alone\n",
        )
            .into_response()
    }
}

async fn root_metadata(State(shared): State<Arc<Shared>>) -> Response {
    let keys = format!("{}/discovery/keys", shared.base);
    let issuer = shared.base.clone();
    metadata(&shared, &issuer, &keys).await
}

async fn v2_metadata(State(shared): State<Arc<Shared>>, Path(tid): Path<String>) -> Response {
    match shared.tenant_in_issuer(&tid) {
        Some(tenant) => {
            let issuer = format!("{}/{tenant}/v2.0", shared.base);
            let keys = format!("{}/{tid}/discovery/v2.0/keys", shared.base);
            metadata(&shared, &issuer, &keys).await
        }
        None => unknown_tenant(&tid),
    }
}

async fn v1_metadata(State(shared): State<Arc<Shared>>, Path(tid): Path<String>) -> Response {
    match shared.tenant_in_issuer(&tid) {
        Some(tenant) => {
            let issuer = format!("{}/{tenant}/", shared.base);
            let keys = format!("{}/{tid}/discovery/keys", shared.base);
            metadata(&shared, &issuer, &keys).await
        }
        None => unknown_tenant(&tid),
    }
}

async fn metadata(shared: &Shared, issuer: &str, keys: &str) -> Response {
    shared.metadata_fetches.fetch_add(1, Ordering::Relaxed);
    let answers = shared.answers();
    if let Some(response) = misbehave(shared, &answers).await {
        return response;
    }
    let (issuer, keys) = match &answers {
        Answers::ForeignIssuer(other) => (other.as_str(), keys),
        Answers::ForeignKeys(other) => (issuer, other.as_str()),
        _ => (issuer, keys),
    };
    let document = json!({
        "issuer": issuer,
        "jwks_uri": keys,
        "token_endpoint": format!("{}/{}/oauth2/v2.0/token", shared.base, shared.directory.tid),
        "response_types_supported": ["code", "id_token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "cloud_instance_name": CLOUD,
    });
    json_answer(StatusCode::OK, &document)
}

async fn root_keys(State(shared): State<Arc<Shared>>) -> Response {
    let issuer = shared.base.clone();
    keys(&shared, Some(&issuer)).await
}

async fn v2_keys(State(shared): State<Arc<Shared>>) -> Response {
    let issuer = format!("{}/{{tenantid}}/v2.0", shared.base);
    keys(&shared, Some(&issuer)).await
}

async fn v1_keys(State(shared): State<Arc<Shared>>) -> Response {
    keys(&shared, None).await
}

async fn keys(shared: &Shared, issuer: Option<&str>) -> Response {
    shared.key_fetches.fetch_add(1, Ordering::Relaxed);
    let answers = shared.answers();
    if let Some(response) = misbehave(shared, &answers).await {
        return response;
    }
    let list: Vec<Value> = match answers {
        Answers::NoKeys => Vec::new(),
        _ => shared
            .published()
            .iter()
            .map(|key| key.jwk(issuer))
            .collect(),
    };
    json_answer(StatusCode::OK, &json!({ "keys": list }))
}

/// The ways in which an issuer can fail its relying parties.
async fn misbehave(shared: &Shared, answers: &Answers) -> Option<Response> {
    match answers {
        Answers::Down => Some((StatusCode::SERVICE_UNAVAILABLE, "down\n").into_response()),
        Answers::Slow(pause) => {
            tokio::select! {
                () = tokio::time::sleep(*pause) => {}
                () = shared.stop.cancelled() => {}
            }
            None
        }
        Answers::Html => {
            let html = [(header::CONTENT_TYPE, "text/html")];
            Some((html, "<!DOCTYPE html><title>Sign in</title>\n").into_response())
        }
        Answers::Huge => {
            let body = format!("{{\"padding\":\"{}\"}}", "x".repeat(10 * 1024 * 1024));
            Some(body.into_response())
        }
        Answers::Redirect(to) => {
            Some((StatusCode::FOUND, [(header::LOCATION, to.clone())]).into_response())
        }
        Answers::Well | Answers::NoKeys | Answers::ForeignIssuer(_) | Answers::ForeignKeys(_) => {
            None
        }
    }
}

/// RFC 6749 section 4.4, as Entra answers it.
async fn token(
    State(shared): State<Arc<Shared>>,
    Path(tid): Path<String>,
    body: Bytes,
) -> Response {
    shared.token_requests.fetch_add(1, Ordering::Relaxed);
    if matches!(shared.answers(), Answers::Down) {
        return (StatusCode::SERVICE_UNAVAILABLE, "down\n").into_response();
    }
    if tid != shared.directory.tid {
        return unknown_tenant(&tid);
    }
    let form = form_fields(&body);
    let field = |name: &str| {
        form.iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value.as_str())
    };
    if field("grant_type") != "client_credentials" {
        return oauth_error(
            "unsupported_grant_type",
            "AADSTS70003: only client_credentials is supported here.",
        );
    }
    let client = shared
        .directory
        .applications
        .iter()
        .find(|app| app.client_id == field("client_id"));
    let Some(application) = client else {
        return oauth_error(
            "unauthorized_client",
            "AADSTS700016: the application was not found in the directory.",
        );
    };
    let given = Secret::new(field("client_secret"));
    if application
        .secret
        .as_ref()
        .is_none_or(|secret| *secret != given)
    {
        return oauth_error(
            "invalid_client",
            "AADSTS7000215: invalid client secret provided.",
        );
    }
    let directory = &shared.directory;
    let scope = field("scope").strip_suffix("/.default");
    let form = match scope {
        Some(resource) if resource == directory.app_id_uri || resource == directory.api => Form::V2,
        Some(resource) if resource == directory.oidc_audience => Form::Oidc,
        _ => {
            return oauth_error(
                "invalid_resource",
                "AADSTS500011: the resource was not found in the tenant.",
            );
        }
    };
    let lifetime = Duration::from_secs(3599);
    let request = TokenRequest::of(&application.name)
        .form(form)
        .lifetime(lifetime);
    match shared.mint(&request) {
        Ok(token) => json_answer(
            StatusCode::OK,
            &json!({
                "token_type": "Bearer", "expires_in": lifetime.as_secs(),
                "ext_expires_in": lifetime.as_secs(), "access_token": token,
            }),
        ),
        Err(error) => oauth_error("server_error", &error.to_string()),
    }
}

/// `GET /token?as=alice&lifetime=20s&form=v2`: a token as plain text, for `curl` in a terminal.
async fn paste(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    // A browser says where a request comes from; a page must not read tokens.
    if headers.contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "not for pages\n").into_response();
    }
    match paste_request(&query).and_then(|request| shared.mint(&request)) {
        Ok(token) => ([(header::CONTENT_TYPE, "text/plain")], token).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

fn paste_request(query: &[(String, String)]) -> Result<TokenRequest, IdpError> {
    let mut request = TokenRequest::default();
    for (name, value) in query {
        let unfit = || IdpError::Query {
            name: name.clone(),
            value: value.clone(),
        };
        match name.as_str() {
            "as" => request.who.clone_from(value),
            "lifetime" => request.lifetime = Some(lifetime(value).ok_or_else(unfit)?),
            "form" => request.form = Some(Form::named(value).ok_or_else(unfit)?),
            "aud" => request = request.claim("aud", value.as_str()),
            "roles" => request = request.claim("roles", split(value)),
            "groups" => request = request.claim("groups", split(value)),
            _ => return Err(unfit()),
        }
    }
    Ok(request)
}

fn split(list: &str) -> Vec<&str> {
    list.split(',').filter(|item| !item.is_empty()).collect()
}

/// `20s`, `5m`, `2h`, or seconds without a unit; at most a day.
fn lifetime(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text.get(digits.len()..)? {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let secs = digits.parse::<u64>().ok()?.checked_mul(factor)?;
    (1..=86_400)
        .contains(&secs)
        .then(|| Duration::from_secs(secs))
}

/// `application/x-www-form-urlencoded`, read by the URL library.
fn form_fields(body: &[u8]) -> Vec<(String, String)> {
    let Ok(text) = std::str::from_utf8(body) else {
        return Vec::new();
    };
    let Ok(mut url) = reqwest::Url::parse("http://localhost/") else {
        return Vec::new();
    };
    url.set_query(Some(text.trim()));
    url.query_pairs()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

fn unknown_tenant(tid: &str) -> Response {
    let shown: String = tid.chars().filter(|c| !c.is_control()).take(64).collect();
    oauth_error(
        "invalid_tenant",
        &format!("AADSTS90002: tenant '{shown}' not found."),
    )
}

fn oauth_error(error: &str, description: &str) -> Response {
    let document = json!({ "error": error, "error_description": description });
    let status = if error == "invalid_client" {
        StatusCode::UNAUTHORIZED
    } else {
        StatusCode::BAD_REQUEST
    };
    json_answer(status, &document)
}

fn json_answer(status: StatusCode, document: &Value) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        document.to_string(),
    )
        .into_response()
}

/// What the metadata names as its cloud.
pub(super) const CLOUD: &str = "development.natsentry";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_read_with_and_without_a_unit() {
        assert_eq!(lifetime("20s"), Some(Duration::from_secs(20)));
        assert_eq!(lifetime("90"), Some(Duration::from_secs(90)));
        assert_eq!(lifetime("5m"), Some(Duration::from_secs(300)));
        assert_eq!(lifetime("2h"), Some(Duration::from_secs(7200)));
        for bad in [
            "",
            "s",
            "-5s",
            "0s",
            "25h",
            "1d",
            "5 s",
            "99999999999999999999h",
        ] {
            assert_eq!(lifetime(bad), None, "{bad}");
        }
    }
}
