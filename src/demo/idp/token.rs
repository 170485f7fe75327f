//! The token endpoint for applications, as Microsoft Entra answers them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::answers::{self, Aadsts, Fields, form_fields, header_text};
use super::mint::{Form, TokenRequest};
use super::people::{Application, GRAPH};
use super::{IdpError, Shared, delegated, mint, verify};
use crate::clock;
use crate::secret::Secret;

/// A refusal, to be answered in Entra's form.
pub(super) struct Refused {
    pub(super) status: StatusCode,
    error: &'static str,
    code: u32,
    text: String,
}

impl Refused {
    pub(super) fn new(error: &'static str, code: u32, text: impl Into<String>) -> Self {
        let status = if error == "invalid_client" {
            StatusCode::UNAUTHORIZED
        } else {
            StatusCode::BAD_REQUEST
        };
        Self {
            status,
            error,
            code,
            text: text.into(),
        }
    }

    pub(super) fn answer(&self, headers: &HeaderMap) -> Response {
        answers::aadsts(&Aadsts {
            status: self.status,
            error: self.error,
            code: self.code,
            text: &self.text,
            correlation: header_text(headers, "client-request-id"),
        })
    }
}

pub(super) fn missing(name: &str) -> Refused {
    let text = format!("The request body must contain the following parameter: '{name}'.");
    Refused::new("invalid_request", 900_144, text)
}

/// The API that a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// Ours.
    Nats,
    /// Ours, as plain OpenID Connect.
    Oidc,
    /// Microsoft Graph.
    Graph,
    /// Key Vault.
    Vault,
}

/// What the vault's tokens name as their audience.
pub(super) const VAULT: &str = "https://vault.azure.net";

impl Shared {
    /// The API of a resource identifier.
    pub(super) fn resource(&self, named: &str) -> Option<Resource> {
        let directory = &self.directory;
        match named.trim_end_matches('/') {
            known if known == directory.api || known == directory.app_id_uri => {
                Some(Resource::Nats)
            }
            known if known == directory.oidc_audience => Some(Resource::Oidc),
            GRAPH
            | "https://graph.microsoft.com"
            | "https://graph.microsoft.us"
            | "https://microsoftgraph.chinacloudapi.cn" => Some(Resource::Graph),
            VAULT | "cfa8b339-82a2-471a-a3c9-0fc0be7a4093" => Some(Resource::Vault),
            // In a cloud of its own the emulator is Graph, too.
            known if known == self.base => Some(Resource::Graph),
            _ => None,
        }
    }

    /// A token of an application for a resource. `proof` is how it authenticated: 1 secret, 2 certificate or assertion.
    pub(super) fn application_token(
        &self,
        application: &Application,
        resource: Resource,
        proof: &str,
    ) -> Result<(String, Duration), IdpError> {
        let lifetime = Duration::from_secs(if application.mirid.is_some() {
            86_399
        } else {
            3599
        });
        let request = TokenRequest::of(&application.name).lifetime(lifetime);
        let token = match resource {
            Resource::Nats => {
                let form = if self.form == Form::V1 {
                    Form::V1
                } else {
                    Form::V2
                };
                let claim = if form == Form::V1 {
                    "appidacr"
                } else {
                    "azpacr"
                };
                self.mint(&request.form(form).claim(claim, proof))?
            }
            Resource::Oidc => self.mint(&request.form(Form::Oidc))?,
            Resource::Graph => {
                let request = request.claim("aud", "https://graph.microsoft.com");
                self.own_token(&request.claim("roles", application.graph.clone()))?
            }
            Resource::Vault => self.mint(
                &request
                    .form(Form::V1)
                    .claim("aud", VAULT)
                    .claim("roles", Value::Null),
            )?,
        };
        Ok((token, lifetime))
    }

    /// A token for Microsoft's own API: v1.0, and with a nonce that only Microsoft can check.
    fn own_token(&self, request: &TokenRequest) -> Result<String, IdpError> {
        let key = self.signing_key(None)?;
        let mut payload = mint::claims(
            &self.world().directory(),
            &self.base,
            request,
            Form::V1,
            clock::now(),
        )?;
        mint::patch(&mut payload, &request.claims);
        let mut shown = mint::header(&key, Form::V1);
        let nonce = answers::request_id();
        shown.insert("nonce".into(), nonce.as_str().into());
        let mut signed = shown.clone();
        signed.insert("nonce".into(), mint::hashed_nonce(&nonce).into());
        let text = |members: Map<String, Value>| Value::Object(members).to_string();
        let (signed, shown) = (text(signed), text(shown));
        mint::sign_shown(
            signed.as_bytes(),
            shown.as_bytes(),
            text(payload).as_bytes(),
            &key,
        )
    }
}

/// `POST /{tenant}/oauth2/v2.0/token`
pub(super) async fn token(
    State(shared): State<Arc<Shared>>,
    Path(tid): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    shared.token_requests.fetch_add(1, Ordering::Relaxed);
    let form = form_fields(&body);
    let granted = check_tenant(&shared, &tid).and_then(|()| match form.get("grant_type") {
        Some("client_credentials") => client_credentials(&shared, &form),
        Some("urn:ietf:params:oauth:grant-type:device_code" | "device_code") => {
            delegated::device_code(&shared, &form)
        }
        Some("refresh_token") => delegated::refresh(&shared, &form),
        Some(_) => Err(Refused::new(
            "unsupported_grant_type",
            70_003,
            "The app requested an unsupported grant type.",
        )),
        None => Err(missing("grant_type")),
    });
    match granted {
        Ok(document) => answers::json(StatusCode::OK, &document),
        Err(refused) => refused.answer(&headers),
    }
}

pub(super) fn check_tenant(shared: &Shared, tid: &str) -> Result<(), Refused> {
    if tid == shared.directory.tid || matches!(tid, "common" | "organizations") {
        return Ok(());
    }
    let shown: String = tid.chars().filter(|c| !c.is_control()).take(64).collect();
    let text =
        format!("Tenant '{shown}' not found. Check to make sure you have the correct tenant ID.");
    Err(Refused::new("invalid_request", 90_002, text))
}

/// RFC 6749 section 4.4, with a secret or an assertion of RFC 7523.
fn client_credentials(shared: &Shared, form: &Fields) -> Result<Value, Refused> {
    let client = form.get("client_id").ok_or_else(|| missing("client_id"))?;
    let directory = shared.world().directory();
    let application = directory
        .applications
        .iter()
        .find(|app| app.client_id == client && app.mirid.is_none());
    let Some(application) = application else {
        let text = "Application was not found in the directory. You may have sent your authentication request to the \
                    wrong tenant.";
        return Err(Refused::new("unauthorized_client", 700_016, text));
    };
    let proof = authenticate(shared, application, form)?;
    if !shared
        .world()
        .current()
        .principals
        .get(&application.oid)
        .is_some_and(|principal| principal.enabled)
    {
        return Err(Refused::new(
            "unauthorized_client",
            7_000_112,
            "Application is disabled.",
        ));
    }
    let scope = form.get("scope").ok_or_else(|| missing("scope"))?;
    let Some(named) = scope.strip_suffix("/.default") else {
        let text = "The provided value for the input parameter 'scope' is not valid. Client credential flows must have a \
                    scope value with /.default suffixed to the resource identifier.";
        return Err(Refused::new("invalid_scope", 1_002_012, text));
    };
    let Some(resource) = shared.resource(named) else {
        let text = "The resource principal was not found in the tenant.";
        return Err(Refused::new("invalid_resource", 500_011, text));
    };
    if resource == Resource::Nats && directory.assignment_required && application.roles.is_empty() {
        let text = "Application is not assigned to a role for the application it asks a token for.";
        return Err(Refused::new("invalid_grant", 501_051, text));
    }
    let (token, lifetime) = shared
        .application_token(application, resource, proof)
        .map_err(failed)?;
    Ok(json!({
        "token_type": "Bearer", "expires_in": lifetime.as_secs(), "ext_expires_in": lifetime.as_secs(),
        "access_token": token,
    }))
}

pub(super) fn failed(error: IdpError) -> Refused {
    Refused {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        ..Refused::new("server_error", 90_033, error.to_string())
    }
}

/// How the application proved who it is, as `azpacr` tells it.
fn authenticate(
    shared: &Shared,
    application: &Application,
    form: &Fields,
) -> Result<&'static str, Refused> {
    if let Some(assertion) = form.get("client_assertion") {
        if form.get("client_assertion_type")
            != Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
        {
            return Err(missing("client_assertion_type"));
        }
        verify::assertion(shared, application, assertion)
            .map_err(|bad| Refused::new("invalid_client", bad.0, bad.1))?;
        return Ok("2");
    }
    let Some(secret) = form.get("client_secret") else {
        let text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
        return Err(Refused::new("invalid_client", 7_000_218, text));
    };
    if application
        .secret
        .as_ref()
        .is_none_or(|known| *known != Secret::new(secret))
    {
        let text = "Invalid client secret provided. Ensure the secret being sent in the request is the client secret \
                    value, not the client secret ID.";
        return Err(Refused::new("invalid_client", 7_000_215, text));
    }
    Ok("1")
}
