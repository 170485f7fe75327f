//! The emulator seen by clients of Entra ID, Graph, Key Vault and managed identities.

mod azure;
mod entra;
mod graph;

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::secret::Secret;

const PLANT: &str = "0d9ad1c3-1b8b-45d6-8f5a-7f2f0a63d1c4";

/// An emulator and somebody who asks it.
struct Scene {
    idp: DevIdp,
    http: Client,
}

impl Scene {
    async fn start() -> Self {
        Self::with(IdpConfig::default()).await
    }

    async fn with(config: IdpConfig) -> Self {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
        let http = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            idp: DevIdp::start(config).await.unwrap(),
            http,
        }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("{}{path}", self.idp.base())
        };
        self.http.get(url)
    }

    async fn form(&self, end: &str, fields: &[(&str, &str)]) -> (StatusCode, Value) {
        let mut url = reqwest::Url::parse("http://x/").unwrap();
        url.query_pairs_mut().extend_pairs(fields);
        let to = format!(
            "{}/{}/oauth2/v2.0/{end}",
            self.idp.base(),
            self.idp.directory().tid
        );
        read(self.http.post(to).body(url.query().unwrap().to_owned())).await
    }

    /// A token of natsentry's own application.
    async fn own_token(&self, resource: &str) -> String {
        let (status, answer) = self
            .form(
                "token",
                &[
                    ("grant_type", "client_credentials"),
                    ("client_id", "4e475300-0000-4000-8000-000000000008"),
                    ("client_secret", "natsentry-development-secret"),
                    ("scope", &format!("{resource}/.default")),
                ],
            )
            .await;
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn graph(&self, token: &str, path: &str) -> (StatusCode, Value) {
        let path = if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("/v1.0/{path}")
        };
        read(self.get(&path).bearer_auth(token)).await
    }

    async fn graph_post(&self, token: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let url = format!("{}/v1.0/{path}", self.idp.base());
        read(self.http.post(url).bearer_auth(token).json(&body)).await
    }

    fn oid(&self, who: &str) -> String {
        let directory = self.idp.directory();
        let people = directory
            .people
            .iter()
            .map(|person| (&person.name, &person.oid));
        let apps = directory
            .applications
            .iter()
            .map(|app| (&app.name, &app.oid));
        people
            .chain(apps)
            .find(|(name, _)| *name == who)
            .unwrap()
            .1
            .clone()
    }
}

async fn read(request: RequestBuilder) -> (StatusCode, Value) {
    let response: Response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

fn code(answer: &Value) -> u64 {
    answer["error_codes"][0].as_u64().unwrap_or_default()
}
