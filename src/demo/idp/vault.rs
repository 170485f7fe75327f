//! Key Vault: secrets with versions, for identities that may read them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::answers::{self, form_fields, request_id};
use super::token::VAULT;
use super::{Shared, verify};
use crate::secret::Secret;
use crate::time::Timestamp;

/// One version of a secret.
#[derive(Clone, Debug)]
struct Version {
    id: String,
    value: Secret,
    made: Timestamp,
    enabled: bool,
}

/// All secrets, each with its versions from old to new.
#[derive(Debug, Default)]
pub(super) struct Vault(BTreeMap<String, Vec<Version>>);

impl Vault {
    /// Adds a version; returns its id.
    pub(super) fn set(&mut self, name: &str, value: Secret, now: Timestamp) -> String {
        let id = request_id().replace('-', "");
        let version = Version {
            id: id.clone(),
            value,
            made: now,
            enabled: true,
        };
        self.0.entry(name.to_owned()).or_default().push(version);
        id
    }

    /// Disables the newest version. Whether there is one.
    pub(super) fn disable(&mut self, name: &str) -> bool {
        let newest = self
            .0
            .get_mut(name)
            .and_then(|versions| versions.last_mut());
        newest.map(|version| version.enabled = false).is_some()
    }

    /// Removes a secret with all versions. Whether it was there.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }
}

fn refused(status: StatusCode, code: &str, message: &str) -> Response {
    answers::json(
        status,
        &json!({ "error": { "code": code, "message": message } }),
    )
}

/// `GET /secrets/{name}`
pub(super) async fn newest(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    raw: RawQuery,
    headers: HeaderMap,
) -> Response {
    answer(&shared, &name, None, raw, &headers)
}

/// `GET /secrets/{name}/{version}`
pub(super) async fn version(
    State(shared): State<Arc<Shared>>,
    Path((name, version)): Path<(String, String)>,
    raw: RawQuery,
    headers: HeaderMap,
) -> Response {
    answer(&shared, &name, Some(&version), raw, &headers)
}

fn answer(
    shared: &Shared,
    name: &str,
    version: Option<&str>,
    raw: RawQuery,
    headers: &HeaderMap,
) -> Response {
    let Some(token) = answers::bearer(headers) else {
        return challenge(
            shared,
            "AKV10000: Request is missing a Bearer or PoP token.",
        );
    };
    let claims = match verify::bearer(
        shared,
        token,
        &[VAULT, "cfa8b339-82a2-471a-a3c9-0fc0be7a4093"],
    ) {
        Ok(claims) => claims,
        Err(verify::BadBearer::Audience) => {
            return challenge(
                shared,
                "AKV10022: Invalid audience. Expected https://vault.azure.net.",
            );
        }
        Err(bad) => return challenge(shared, &format!("AKV10032: {}", bad.message())),
    };
    let version_known = form_fields(raw.0.unwrap_or_default().as_bytes());
    if !version_known
        .get("api-version")
        .is_some_and(|api| api.starts_with("7.") || api.starts_with("202"))
    {
        return refused(
            StatusCode::BAD_REQUEST,
            "BadParameter",
            "The specified version () is not recognized.",
        );
    }
    let oid = claims
        .get("oid")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !shared
        .world()
        .directory()
        .applications
        .iter()
        .any(|app| app.oid == oid && app.vault)
    {
        let message = format!(
            "Caller is not authorized to perform action on resource. Caller: oid={oid} Action: \
             'Microsoft.KeyVault/vaults/secrets/getSecret/action'"
        );
        return refused(StatusCode::FORBIDDEN, "Forbidden", &message);
    }
    let vault = shared.vault();
    let versions = vault.0.get(name).map(Vec::as_slice).unwrap_or_default();
    let found = match version {
        None => versions.last(),
        Some(id) => versions.iter().find(|version| version.id == id),
    };
    match found {
        None => {
            let message =
                format!("A secret with (name/id) {name} was not found in this key vault.");
            refused(StatusCode::NOT_FOUND, "SecretNotFound", &message)
        }
        Some(version) if !version.enabled => refused(
            StatusCode::FORBIDDEN,
            "Forbidden",
            "Operation get is not allowed on a disabled secret.",
        ),
        Some(version) => answers::json(
            StatusCode::OK,
            &json!({
                "value": version.value.expose_str(), "contentType": "text/plain",
                "id": format!("{}/secrets/{name}/{}", shared.base, version.id),
                "attributes": {
                    "enabled": true, "created": version.made.as_secs(), "updated": version.made.as_secs(),
                    "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90,
                },
                "tags": {},
            }),
        ),
    }
}

fn challenge(shared: &Shared, message: &str) -> Response {
    let mut response = refused(StatusCode::UNAUTHORIZED, "Unauthorized", message);
    let text = format!(
        "Bearer authorization=\"{}/{}\", resource=\"{VAULT}\"",
        shared.base, shared.directory.tid
    );
    if let Ok(value) = HeaderValue::from_str(&text) {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, value);
    }
    response
}
