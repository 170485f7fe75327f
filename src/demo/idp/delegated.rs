//! Tokens of people: the device code flow and refresh tokens, as Microsoft Entra answers them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::Shared;
use super::answers::{self, Fields, form_fields};
use super::device::{Poll, Session};
use super::mint::{Form, TokenRequest};
use super::token::{Refused, Resource, check_tenant, failed, missing};
use crate::clock;

/// `POST /{tenant}/oauth2/v2.0/devicecode` (RFC 8628 section 3.1)
pub(super) async fn start_device(
    State(shared): State<Arc<Shared>>,
    Path(tid): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = form_fields(&body);
    match check_tenant(&shared, &tid).and_then(|()| start(&shared, &form)) {
        Ok(document) => answers::json(StatusCode::OK, &document),
        Err(refused) => refused.answer(&headers),
    }
}

fn start(shared: &Shared, form: &Fields) -> Result<Value, Refused> {
    public_client(shared, form)?;
    let scope = form.get("scope").ok_or_else(|| missing("scope"))?;
    let session = Session {
        scope: scope.to_owned(),
        ..Session::default()
    };
    delegated_resource(shared, scope)?;
    let (device_code, user_code, lifetime, interval) =
        shared.devices().start(session, clock::now());
    let address = format!("{}/devicelogin", shared.base);
    Ok(json!({
        "user_code": user_code, "device_code": device_code, "verification_uri": address,
        "expires_in": lifetime.as_secs(), "interval": interval.as_secs(),
        "message": format!(
            "To sign in, use a web browser to open the page {address} and enter the code {user_code} to authenticate."
        ),
    }))
}

fn public_client(shared: &Shared, form: &Fields) -> Result<(), Refused> {
    let client = form.get("client_id").ok_or_else(|| missing("client_id"))?;
    if client == shared.directory.cli {
        return Ok(());
    }
    if shared
        .directory
        .applications
        .iter()
        .any(|app| app.client_id == client)
    {
        let text = "The client application must be marked as 'mobile.' (allow public client flows)";
        return Err(Refused::new("invalid_client", 7_000_218, text));
    }
    Err(Refused::new(
        "unauthorized_client",
        700_016,
        "Application was not found in the directory.",
    ))
}

/// The API among the scopes of a person.
fn delegated_resource(shared: &Shared, scopes: &str) -> Result<(), Refused> {
    let own = ["openid", "profile", "email", "offline_access"];
    let mut named = scopes
        .split_ascii_whitespace()
        .filter(|scope| !own.contains(scope));
    let resource = named
        .next()
        .and_then(|scope| scope.rsplit_once('/'))
        .map(|(resource, _)| resource);
    match resource.and_then(|named| shared.resource(named)) {
        Some(Resource::Nats) => Ok(()),
        Some(_) => Err(Refused::new(
            "invalid_grant",
            65_001,
            "The user or administrator has not consented to use it.",
        )),
        None => Err(Refused::new(
            "invalid_resource",
            500_011,
            "The resource principal was not found in the tenant.",
        )),
    }
}

/// RFC 8628 section 3.4
pub(super) fn device_code(shared: &Shared, form: &Fields) -> Result<Value, Refused> {
    public_client(shared, form)?;
    let code = form
        .get("device_code")
        .ok_or_else(|| missing("device_code"))?;
    let poll = shared.devices().poll(code, clock::now());
    let refuse = |error, number, text| Err(Refused::new(error, number, text));
    match poll {
        Poll::Pending => refuse(
            "authorization_pending",
            70_016,
            "OAuth 2.0 device flow error. Authorization is pending. Continue polling.",
        ),
        Poll::TooFast => refuse(
            "slow_down",
            70_016,
            "OAuth 2.0 device flow error. Polling too fast.",
        ),
        Poll::Declined => refuse(
            "authorization_declined",
            65_004,
            "User declined to consent to access the app.",
        ),
        Poll::Expired => refuse(
            "expired_token",
            70_020,
            "The provided value for the input parameter 'device_code' has expired.",
        ),
        Poll::Unknown => refuse(
            "bad_verification_code",
            70_000,
            "The provided value for the input parameter 'device_code' is not valid.",
        ),
        Poll::SignedIn(session) => person(shared, &session),
    }
}

/// RFC 6749 section 6
pub(super) fn refresh(shared: &Shared, form: &Fields) -> Result<Value, Refused> {
    public_client(shared, form)?;
    let token = form
        .get("refresh_token")
        .ok_or_else(|| missing("refresh_token"))?;
    let Some(session) = shared.devices().refreshed(token) else {
        return Err(Refused::new(
            "invalid_grant",
            9_002_313,
            "The refresh token is malformed or unknown.",
        ));
    };
    let state = shared.world().current();
    let user = state.users.values().find(|user| user.name == session.who);
    if user.is_some_and(|user| user.sessions_valid_from > session.since) {
        let text = "The provided grant has been revoked. A fresh sign-in is needed.";
        return Err(Refused::new("invalid_grant", 50_173, text));
    }
    person(shared, &session)
}

fn person(shared: &Shared, session: &Session) -> Result<Value, Refused> {
    let state = shared.world().current();
    match state.users.values().find(|user| user.name == session.who) {
        None => {
            return Err(Refused::new(
                "invalid_grant",
                50_034,
                "The user account does not exist in the directory.",
            ));
        }
        Some(user) if !user.enabled => {
            return Err(Refused::new(
                "invalid_grant",
                50_057,
                "The user account is disabled.",
            ));
        }
        Some(_) => {}
    }
    let lifetime = Duration::from_secs(4511);
    let form = if shared.form == Form::V1 {
        Form::V1
    } else {
        Form::V2
    };
    let request = TokenRequest::of(&session.who).form(form).lifetime(lifetime);
    let token = shared.mint(&request).map_err(failed)?;
    let asked = |scope: &str| {
        session
            .scope
            .split_ascii_whitespace()
            .any(|one| one == scope)
    };
    let mut document = json!({
        "token_type": "Bearer", "scope": format!("{}/Nats.Connect", shared.directory.app_id_uri),
        "expires_in": lifetime.as_secs(), "ext_expires_in": lifetime.as_secs(), "access_token": token,
    });
    if let Some(members) = document.as_object_mut() {
        if asked("offline_access") {
            members.insert(
                "refresh_token".into(),
                shared.devices().refreshable(session).into(),
            );
        }
        if asked("openid") {
            // Their version follows the endpoint, not the registration.
            let id_token = shared
                .mint(&request.form(Form::V2).id_token())
                .map_err(failed)?;
            members.insert("id_token".into(), id_token.into());
        }
    }
    Ok(document)
}
