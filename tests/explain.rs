//! `natsentry explain` with tokens of the development identity provider: fetched keys, key files, and refusals.
#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use natsentry::demo::idp::{DevIdp, Form, IdpConfig, TokenRequest};

/// A configuration that trusts the provider, with one role for Alice.
fn configuration(idp: &DevIdp, v1_tokens: bool) -> String {
    let directory = idp.directory();
    format!(
        "version: 1\n\
         listen: {{ client: 127.0.0.1:0 }}\n\
         entra:\n  cloud: {{ authority: {} }}\n  tenants: [{}]\n  audiences: [{}, {}]\n  v1_tokens: {v1_tokens}\n\
         upstreams: {{ plant: {{ servers: [nats://127.0.0.1:4222] }} }}\n\
         roles:\n  operator:\n    bind: [{{ app_role: Nats.Operator }}]\n    upstream: plant\n    \
         publish: [\"plant.>\"]\n    deny: {{ publish: [\"plant.secret\"] }}\n",
        idp.base(),
        directory.tid,
        directory.api,
        directory.app_id_uri
    )
}

/// Exit code and output of `explain` with a token on standard input.
async fn explain(folder: &Path, token: &str, more: &[&str]) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_natsentry"))
        .args(["explain", "-c", "natsentry.yaml", "--token-stdin"])
        .args(more)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(token.as_bytes())
        .unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap())
        .await
        .unwrap();
    let shown =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let signature = token.rsplit('.').next().unwrap();
    assert!(
        signature.len() < 20 || !shown.contains(signature),
        "a signature is shown"
    );
    (output.status.code(), shown)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_judged_with_keys_that_are_fetched() {
    let idp = DevIdp::start(IdpConfig::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("natsentry.yaml"),
        configuration(&idp, true),
    )
    .unwrap();
    for form in [Form::V1, Form::V2] {
        let token = idp.mint(&TokenRequest::of("alice").form(form)).unwrap();
        let (code, shown) = explain(folder.path(), &token, &["--publish", "plant.a"]).await;
        assert_eq!(code, Some(0), "{shown}");
        assert!(
            shown.contains("allowed: publish plant.a") && shown.contains("natsentry.yaml:13"),
            "{shown}"
        );
        assert!(shown.contains("Alice Arden"), "{shown}");
        let (code, shown) = explain(folder.path(), &token, &["--publish", "plant.secret"]).await;
        assert_eq!(code, Some(1), "{shown}");
        assert!(shown.contains("roles.operator.deny.publish[0]"), "{shown}");
    }
    let mallory = idp.mint(&TokenRequest::of("mallory")).unwrap();
    let (code, shown) = explain(folder.path(), &mallory, &["--publish", "plant.a"]).await;
    assert_eq!(code, Some(1), "{shown}");
    assert!(
        shown.contains("refused: publish") && shown.contains("authz."),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_has_a_code_and_says_what_to_do() {
    let idp = DevIdp::start(IdpConfig::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("natsentry.yaml"),
        configuration(&idp, false),
    )
    .unwrap();
    let alice = || TokenRequest::of("alice").form(Form::V2);
    let expired = alice()
        .claim("iat", 1_700_000_000)
        .claim("nbf", 1_700_000_000)
        .claim("exp", 1_700_003_600);
    let mut truncated = idp.mint(&alice()).unwrap();
    truncated.truncate(truncated.len() - 2);
    for (token, code, advice) in [
        (
            idp.mint(&alice().form(Form::V1)).unwrap(),
            "iss.v1-for-v2",
            "v1_tokens",
        ),
        (
            idp.mint(&alice().claim("aud", "00000003-0000-0000-c000-000000000000"))
                .unwrap(),
            "aud.graph",
            "Microsoft Graph",
        ),
        (idp.mint(&expired).unwrap(), "time.expired", "expired"),
        (
            format!("Bearer {}", idp.mint(&alice()).unwrap()),
            "prep",
            "Bearer",
        ),
        (truncated, "", "truncated"),
    ] {
        let (status, shown) = explain(folder.path(), &token, &["--publish", "plant.a"]).await;
        assert_eq!(status, Some(1), "{shown}");
        assert!(shown.starts_with("refused: publish plant.a\n"), "{shown}");
        assert!(shown.contains(code), "{code} in {shown}");
        assert!(
            shown.contains(advice) || code.is_empty(),
            "{advice} in {shown}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_may_come_from_a_file_and_time_from_the_command_line() {
    let idp = DevIdp::start(IdpConfig::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("natsentry.yaml"),
        configuration(&idp, true),
    )
    .unwrap();
    natsentry::tls::install_provider();
    let address = format!("{}/{}/discovery/v2.0/keys", idp.base(), idp.directory().tid);
    let keys = reqwest::get(&address).await.unwrap().text().await.unwrap();
    fs::write(folder.path().join("keys.json"), keys).unwrap();
    let token = idp
        .mint(&TokenRequest::of("alice").lifetime(Duration::from_secs(600)))
        .unwrap();
    idp.stop().await;
    let with_keys = ["--publish", "plant.a", "--keys", "keys.json"];
    let (code, shown) = explain(folder.path(), &token, &with_keys).await;
    assert_eq!(code, Some(0), "{shown}");
    let later = [&with_keys[..], &["--at", "2099-01-01"]].concat();
    let (code, shown) = explain(folder.path(), &token, &later).await;
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("time.expired"), "{shown}");
}
