//! What the emulator answers over HTTP: every address and its handler; discovery and keys.
//!
//! Must never: answer a request that was meant for another host than this machine.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{ConnectInfo, Path, RawQuery, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde_json::{Value, json};

use super::answers::{self, Aadsts, form_fields};
use super::faults::{self, Endpoint, Fault, Seen};
use super::listener::ResetSwitch;
use super::{Answers, Shared, delegated, graph, managed, own, token, vault};

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
        .route("/{tid}/oauth2/v2.0/token", post(token::token))
        .route(
            "/{tid}/oauth2/v2.0/devicecode",
            post(delegated::start_device),
        )
        .route("/metadata/identity/oauth2/token", get(managed::imds))
        .route("/msi/token", get(managed::app_service))
        .route("/arc/metadata/identity/oauth2/token", get(managed::arc))
        .route("/v1.0/{*path}", any(graph::answer))
        .route("/secrets/{name}", get(vault::newest))
        .route("/secrets/{name}/{version}", get(vault::version))
        .merge(own::router())
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shared),
            go_wrong,
        ))
        .layer(middleware::from_fn(this_machine_only))
        .with_state(shared)
}

/// Counts, remembers and, where somebody wants it so, spoils.
async fn go_wrong(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ResetSwitch>,
    request: Request,
    next: Next,
) -> Response {
    let target = request.uri().to_string();
    let endpoint = Endpoint::of(request.uri().path());
    let method = request.method().to_string();
    let fault = {
        let mut faults = shared.faults();
        faults.count(endpoint);
        faults.next(endpoint, &target)
    };
    let down = endpoint != Endpoint::Own && shared.answers() == Answers::Down;
    let known = matches!(endpoint, Endpoint::Metadata | Endpoint::Keys);
    let response = match &fault {
        None if down && !known => (StatusCode::SERVICE_UNAVAILABLE, "down\n").into_response(),
        None => next.run(request).await,
        Some(fault @ (Fault::Slow(_) | Fault::Hang)) => {
            let pause = faults::pause(fault).unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shared.stop.cancelled() => {}
            }
            next.run(request).await
        }
        Some(Fault::Truncated) => faults::cut(next.run(request).await).await,
        Some(Fault::Reset) => {
            connection.pull();
            StatusCode::OK.into_response()
        }
        Some(fault) => faults::answer(endpoint, fault),
    };
    let status = if fault == Some(Fault::Reset) {
        0
    } else {
        response.status().as_u16()
    };
    shared.faults().note(Seen {
        endpoint,
        method,
        path: target,
        status,
    });
    response
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
    metadata(&shared, &issuer, &keys, None).await
}

async fn v2_metadata(
    State(shared): State<Arc<Shared>>,
    Path(tid): Path<String>,
    raw: RawQuery,
) -> Response {
    let Some(tenant) = shared.tenant_in_issuer(&tid) else {
        return unknown_tenant(&tid);
    };
    let issuer = format!("{}/{tenant}/v2.0", shared.base);
    let keys = format!(
        "{}/{tid}/discovery/v2.0/keys{}",
        shared.base,
        app_id_query(raw)
    );
    metadata(&shared, &issuer, &keys, Some((&tid, "v2.0/"))).await
}

async fn v1_metadata(
    State(shared): State<Arc<Shared>>,
    Path(tid): Path<String>,
    raw: RawQuery,
) -> Response {
    let Some(tenant) = shared.tenant_in_issuer(&tid) else {
        return unknown_tenant(&tid);
    };
    let issuer = format!("{}/{tenant}/", shared.base);
    let keys = format!("{}/{tid}/discovery/keys{}", shared.base, app_id_query(raw));
    metadata(&shared, &issuer, &keys, Some((&tid, ""))).await
}

/// `?appid=` of the metadata goes on to the key document.
fn app_id_query(raw: RawQuery) -> String {
    app_id(raw)
        .map(|id| format!("?appid={id}"))
        .unwrap_or_default()
}

fn app_id(raw: RawQuery) -> Option<String> {
    let query = form_fields(raw.0.unwrap_or_default().as_bytes());
    query.get("appid").map(Into::into)
}

/// The document of an issuer; `entra` is the tenant as it was asked for, and the version in its endpoints.
async fn metadata(
    shared: &Shared,
    issuer: &str,
    keys: &str,
    entra: Option<(&str, &str)>,
) -> Response {
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
    let base = &shared.base;
    let (tid, version) = entra.unwrap_or((&shared.directory.tid, "v2.0/"));
    let mut document = json!({
        "issuer": issuer,
        "jwks_uri": keys,
        "token_endpoint": format!("{base}/{tid}/oauth2/{version}token"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "authorization_endpoint": format!("{base}/{tid}/oauth2/{version}authorize"),
        "device_authorization_endpoint": format!("{base}/{tid}/oauth2/{version}devicecode"),
        "response_modes_supported": ["query", "fragment", "form_post"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "tid", "ver", "nonce", "preferred_username", "name"],
        "cloud_instance_name": CLOUD,
    });
    if let (Some(_), Some(members)) = (entra, document.as_object_mut()) {
        let host = base.split("://").nth(1).unwrap_or_default();
        members.insert("cloud_graph_host_name".into(), host.into());
        members.insert("msgraph_host".into(), host.into());
        members.insert("tenant_region_scope".into(), "EU".into());
    }
    answers::json(StatusCode::OK, &document)
}

async fn root_keys(State(shared): State<Arc<Shared>>) -> Response {
    let issuer = shared.base.clone();
    keys(&shared, Some(&issuer), None).await
}

async fn v2_keys(State(shared): State<Arc<Shared>>, raw: RawQuery) -> Response {
    let issuer = format!("{}/{{tenantid}}/v2.0", shared.base);
    keys(&shared, Some(&issuer), app_id(raw)).await
}

async fn v1_keys(State(shared): State<Arc<Shared>>, raw: RawQuery) -> Response {
    keys(&shared, None, app_id(raw)).await
}

async fn keys(shared: &Shared, issuer: Option<&str>, app_id: Option<String>) -> Response {
    shared.key_fetches.fetch_add(1, Ordering::Relaxed);
    let answers = shared.answers();
    if let Some(response) = misbehave(shared, &answers).await {
        return response;
    }
    let list: Vec<Value> = match answers {
        Answers::NoKeys => Vec::new(),
        _ => shared
            .published(app_id.as_deref())
            .iter()
            .map(|key| key.jwk(issuer))
            .collect(),
    };
    answers::json(StatusCode::OK, &json!({ "keys": list }))
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

/// What the metadata names as its cloud.
pub(super) const CLOUD: &str = "development.natsentry";

fn unknown_tenant(tid: &str) -> Response {
    let shown: String = tid.chars().filter(|c| !c.is_control()).take(64).collect();
    answers::aadsts(&Aadsts {
        status: StatusCode::BAD_REQUEST,
        error: "invalid_tenant",
        code: 90_002,
        text: &format!("Tenant '{shown}' not found."),
        correlation: None,
    })
}
