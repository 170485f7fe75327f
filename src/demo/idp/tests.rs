//! The development issuer seen by its relying parties.

use std::time::Duration;

use super::*;
use crate::identity::{Expectations, Kind, TokenLimits};
use crate::jwks::{Jwks, Settings};
use tokio_util::task::TaskTracker;

async fn wait_until_ready(jwks: &Jwks) {
    let mut ring = jwks.subscribe();
    let ready = ring.wait_for(|ring| ring.is_complete(clock::now()));
    tokio::time::timeout(Duration::from_secs(10), ready)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn its_tokens_of_every_form_are_accepted() {
    let idp = DevIdp::start(IdpConfig::default()).await.unwrap();
    let mut table = Expectations::new(TokenLimits::default());
    table.add_entra(&idp.entra()).unwrap();
    table.add_issuer(&idp.issuer()).unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let jwks = Jwks::start(&table, &Settings::default(), None, &tasks, &stop).unwrap();
    wait_until_ready(&jwks).await;
    for form in [Form::V2, Form::V1, Form::Oidc] {
        for who in ["alice", "historian", "gateway"] {
            let token = idp.mint(&TokenRequest::of(who).form(form)).unwrap();
            let identity = jwks.validate(token.as_bytes(), None, &table).await.unwrap();
            let kind = if who == "alice" {
                Kind::User
            } else {
                Kind::App
            };
            assert_eq!(identity.kind, kind, "{form:?} {who}");
            let tid = if form == Form::Oidc {
                idp.base()
            } else {
                &idp.directory().tid
            };
            assert_eq!(&*identity.tid, tid);
        }
    }
    stop.cancel();
}

#[tokio::test]
async fn the_paste_address_mints_for_known_names_and_no_page() {
    let idp = DevIdp::start(IdpConfig::default()).await.unwrap();
    let client = reqwest_client();
    let url = |query: &str| format!("{}/token?{query}", idp.base());
    let good = client
        .get(url("as=alice&lifetime=20s"))
        .send()
        .await
        .unwrap();
    assert_eq!(good.status(), 200);
    let token = good.text().await.unwrap();
    assert_eq!(token.split('.').count(), 3);
    assert!(!token.ends_with('\n'));
    let unknown = client.get(url("as=eve")).send().await.unwrap();
    assert_eq!(unknown.status(), 400);
    assert!(unknown.text().await.unwrap().contains("alice"));
    let page = client
        .get(url("as=alice"))
        .header("origin", "https://evil.example")
        .send();
    assert_eq!(page.await.unwrap().status(), 403);
    let rebound = client
        .get(url("as=alice"))
        .header("host", "evil.example")
        .send();
    assert_eq!(rebound.await.unwrap().status(), 403);
}

#[tokio::test]
async fn the_token_endpoint_wants_the_right_secret() {
    let idp = DevIdp::start(IdpConfig::default()).await.unwrap();
    let client = reqwest_client();
    let url = format!("{}/{}/oauth2/v2.0/token", idp.base(), idp.directory().tid);
    let ask = |secret: &str, scope: &str| {
        client
            .post(&url)
            .body(format!(
                "grant_type=client_credentials&client_id=e7740b1c-5a44-41f5-a1a5-92f06cf3d8aa&client_secret={secret}&scope={scope}"
            ))
            .send()
    };
    let good = ask(
        "historian-development-secret",
        "api%3A%2F%2Fnats-dev%2F.default",
    )
    .await
    .unwrap();
    assert_eq!(good.status(), 200);
    let answer: serde_json::Value = good.json().await.unwrap();
    assert_eq!(answer["token_type"], "Bearer");
    let bad = ask("guess", "api%3A%2F%2Fnats-dev%2F.default")
        .await
        .unwrap();
    assert_eq!(bad.status(), 401);
    let other = ask(
        "historian-development-secret",
        "https%3A%2F%2Fnowhere.example%2F.default",
    );
    assert_eq!(other.await.unwrap().status(), 400);
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    let beyond = IdpConfig {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..IdpConfig::default()
    };
    assert!(matches!(
        DevIdp::start(beyond).await,
        Err(IdpError::NotLoopback(_))
    ));
}

fn reqwest_client() -> reqwest::Client {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .build()
        .unwrap()
}
