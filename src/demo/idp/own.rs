//! Addresses that only the emulator has: tokens to paste, the sign-in page of device codes, faults and changes.
//!
//! Must never: answer a page in a browser, which says where a request comes from.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::faults::{Endpoint, Fault, Rule};
use super::mint::{Form, TokenRequest};
use super::world::{Collection, Replica, What};
use super::{IdpError, Shared};
use crate::clock;
use crate::secret::Secret;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/token", get(paste))
        .route("/devicelogin", get(sign_in))
        .route("/emulator/requests", get(requests))
        .route("/emulator/faults", post(add_fault).delete(mend))
        .route("/emulator/replica", post(replica))
        .route(
            "/emulator/objects/{who}",
            post(change_object).delete(delete_object),
        )
        .route("/emulator/groups/{group}/{who}", post(join).delete(leave))
        .route(
            "/emulator/roles/{role}/{who}",
            post(assign).delete(unassign),
        )
        .route("/emulator/secrets/{name}", post(set_secret))
        .layer(middleware::from_fn(no_pages))
}

async fn no_pages(request: Request, next: Next) -> Response {
    // A browser says where a request comes from; a page must not read tokens.
    if request.headers().contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "not for pages\n").into_response();
    }
    next.run(request).await
}

fn done(found: bool) -> Response {
    if found {
        StatusCode::NO_CONTENT.into_response()
    } else {
        (StatusCode::NOT_FOUND, "nobody of that name\n").into_response()
    }
}

/// `GET /devicelogin?code=ABC&as=alice`, or `&decline`.
async fn sign_in(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let field = |name: &str| {
        query
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    let mut devices = shared.devices();
    let found = match (field("code"), field("as"), field("decline")) {
        (Some(code), Some(who), None) => devices.approve(code, who, clock::now()),
        (Some(code), None, Some(_)) => devices.decline(code),
        _ => {
            let usage = "sign in with /devicelogin?code=CODE&as=NAME, or refuse with &decline=1\n";
            return (StatusCode::BAD_REQUEST, usage).into_response();
        }
    };
    let text = if found {
        "You have signed in. You may close this window.\n"
    } else {
        "That code is not known.\n"
    };
    (
        if found {
            StatusCode::OK
        } else {
            StatusCode::NOT_FOUND
        },
        text,
    )
        .into_response()
}

async fn requests(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.faults().seen()).into_response()
}

/// `{"endpoint": "graph", "path": "delta", "times": 2, "fault": {"status": [429, 3]}}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    endpoint: Endpoint,
    path: Option<String>,
    times: Option<u32>,
    fault: Fault,
}

async fn add_fault(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    match serde_json::from_slice::<Wanted>(&body) {
        Ok(wanted) => {
            let Wanted {
                endpoint,
                path,
                times,
                fault,
            } = wanted;
            shared.faults().add(Rule {
                endpoint,
                path,
                remaining: times,
                fault,
            });
            done(true)
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

async fn mend(State(shared): State<Arc<Shared>>) -> Response {
    shared.faults().mend(None);
    done(true)
}

/// `current`, `frozen`, or how many milliseconds behind.
async fn replica(State(shared): State<Arc<Shared>>, body: String) -> Response {
    let replica = match body.trim() {
        "current" => Replica::Current,
        "frozen" => Replica::Frozen,
        millis => match millis.parse() {
            Ok(millis) => Replica::Behind(Duration::from_millis(millis)),
            Err(_) => {
                return (StatusCode::BAD_REQUEST, "current, frozen or milliseconds\n")
                    .into_response();
            }
        },
    };
    shared.world().set_replica(replica);
    done(true)
}

/// `enable`, `disable` or `revoke`.
async fn change_object(
    State(shared): State<Arc<Shared>>,
    Path(who): Path<String>,
    body: String,
) -> Response {
    let what = body.trim();
    if !matches!(what, "enable" | "disable" | "revoke") {
        return (StatusCode::BAD_REQUEST, "enable, disable or revoke\n").into_response();
    }
    done(shared.change(&who, |state, id| {
        if let Some(user) = state.users.get_mut(id) {
            let property = if what == "revoke" {
                user.sessions_valid_from = clock::now();
                "signInSessionsValidFromDateTime"
            } else {
                user.enabled = what == "enable";
                "accountEnabled"
            };
            state.note(Collection::Users, id, What::Property(property));
        } else if let Some(principal) = state.principals.get_mut(id) {
            principal.enabled = what == "enable";
            state.note(Collection::Principals, id, What::Property("accountEnabled"));
        }
    }))
}

async fn delete_object(State(shared): State<Arc<Shared>>, Path(who): Path<String>) -> Response {
    done(shared.change(&who, |state, id| state.remove(id, What::Deleted)))
}

async fn join(
    State(shared): State<Arc<Shared>>,
    Path((group, who)): Path<(String, String)>,
) -> Response {
    done(shared.change(&who, |state, id| state.join(&group, id)))
}

async fn leave(
    State(shared): State<Arc<Shared>>,
    Path((group, who)): Path<(String, String)>,
) -> Response {
    done(shared.change(&who, |state, id| state.leave(&group, id)))
}

async fn assign(
    State(shared): State<Arc<Shared>>,
    Path((role, who)): Path<(String, String)>,
) -> Response {
    done(shared.change(&who, |state, id| state.assign(id, &role, clock::now())))
}

async fn unassign(
    State(shared): State<Arc<Shared>>,
    Path((role, who)): Path<(String, String)>,
) -> Response {
    done(shared.change(&who, |state, id| state.unassign(id, &role)))
}

async fn set_secret(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    shared
        .vault()
        .set(&name, Secret::new(body.to_vec()), clock::now())
        .into_response()
}

/// `GET /token?as=alice&lifetime=20s&form=v2`: a token as plain text, for `curl` in a terminal.
async fn paste(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
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
            "kind" => request.id_token = id_token(value).ok_or_else(unfit)?,
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

/// `access` or `id`.
fn id_token(kind: &str) -> Option<bool> {
    match kind {
        "access" => Some(false),
        "id" => Some(true),
        _ => None,
    }
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
