//! Keeping and renewing, whatever the kind.

use std::time::Duration;

use super::super::*;
use super::fake::{Fake, Reply, status, token, tools};
use crate::secret::Secret;

const TENANT: &str = "7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11";
const OTHER: &str = "11111111-2222-3333-4444-555555555555";

pub(super) fn secret_credential(authority: &str) -> Credential {
    let config = CredentialConfig::ClientSecret {
        tenant: TENANT.into(),
        client_id: "e7740b1c-5a44-41f5-a1a5-92f06cf3d8aa".into(),
        secret: Secret::new("hunter2"),
    };
    Credential::new(&config, authority, &Environment::default(), tools()).unwrap()
}

fn text(token: &AccessToken) -> &str {
    token.secret().expose_str().unwrap()
}

#[tokio::test]
async fn many_callers_share_one_request_and_the_token_is_kept() {
    let fake = Fake::start(|number, _| token(&format!("t{number}"), 3600)).await;
    let credential = secret_credential(&fake.base);
    let scope = Scope::new("https://graph.example");
    let calls = (0..50).map(|_| credential.token(&scope));
    for result in futures_util::future::join_all(calls).await {
        assert_eq!(text(&result.unwrap()), "t0");
    }
    assert_eq!(text(&credential.token(&scope).await.unwrap()), "t0");
    assert_eq!(fake.asked().len(), 1);
    // Another API and another tenant have tokens of their own.
    let vault = Scope::new("https://vault.example");
    assert_eq!(text(&credential.token(&vault).await.unwrap()), "t1");
    let elsewhere = credential.token_in(OTHER, &scope).await.unwrap();
    assert_eq!(text(&elsewhere), "t2");
    let paths: Vec<_> = fake
        .asked()
        .iter()
        .map(|a| a.uri.path().to_owned())
        .collect();
    assert_eq!(paths[0], format!("/{TENANT}/oauth2/v2.0/token"));
    assert_eq!(paths[2], format!("/{OTHER}/oauth2/v2.0/token"));
    assert!(!format!("{credential:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_token_is_renewed_while_it_still_serves_and_a_failed_renewal_costs_nothing() {
    // `refresh_in: 0` makes every look a look after renewal is due.
    let due = |text: &str| {
        Reply(
            200,
            vec![],
            format!(r#"{{"access_token":"{text}","expires_in":600,"refresh_in":0}}"#),
        )
    };
    let fake = Fake::start(move |number, _| match number {
        0 => due("first"),
        1 => status(400),
        _ => due("second"),
    })
    .await;
    let credential = secret_credential(&fake.base);
    let scope = Scope::new("x");
    assert_eq!(text(&credential.token(&scope).await.unwrap()), "first");
    // Whoever comes when it is due gets what is there, and the renewal goes on alone. One fails, one succeeds.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while text(&credential.token(&scope).await.unwrap()) == "first" {
        assert!(tokio::time::Instant::now() < deadline, "never renewed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(fake.asked().len() >= 3);
}

#[tokio::test]
async fn after_a_failure_nobody_asks_for_a_moment_and_everybody_hears_why() {
    let fake = Fake::start(|_, _| {
        let body = r#"{"error":"invalid_client","error_codes":[7000222]}"#;
        Reply(401, vec![], body.into())
    })
    .await;
    let credential = secret_credential(&fake.base);
    let scope = Scope::new("x");
    for _ in 0..20 {
        let error = credential.token(&scope).await.unwrap_err();
        assert_eq!(error.code(), "credential.refused");
        assert!(
            error
                .sentence()
                .contains("AADSTS7000222: the client secret has expired")
        );
        assert!(!error.sentence().contains("hunter2"));
    }
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gives_up_does_not_break_the_request_off() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let fake = Fake::start(move |_, _| {
        // Another thread has to go on with the sockets and timers meanwhile.
        tokio::task::block_in_place(|| wait.lock().unwrap().recv().unwrap());
        token("late", 3600)
    })
    .await;
    let credential = secret_credential(&fake.base);
    let scope = Scope::new("x");
    let given_up = tokio::time::timeout(Duration::from_millis(1), credential.token(&scope)).await;
    assert!(given_up.is_err());
    go.send(()).unwrap();
    assert_eq!(text(&credential.token(&scope).await.unwrap()), "late");
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_rejected_token_is_not_handed_out_again() {
    let fake = Fake::start(|number, _| token(&format!("t{number}"), 3600)).await;
    let credential = secret_credential(&fake.base);
    let scope = Scope::new("x");
    let first = credential.token(&scope).await.unwrap();
    credential.reject(&first);
    let second = credential.token(&scope).await.unwrap();
    assert_eq!((text(&first), text(&second)), ("t0", "t1"));
    // Whoever rejects the old one late does not cost the new one.
    credential.reject(&first);
    assert_eq!(text(&credential.token(&scope).await.unwrap()), "t1");
}
