//! What machines in Azure ask: managed identities and the vault.

use super::*;

#[tokio::test]
async fn managed_identities_answer_as_azure_s_three_services_do() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::with(IdpConfig {
        arc_folder: Some(folder.path().into()),
        ..IdpConfig::default()
    })
    .await;
    let imds =
        "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=api%3A%2F%2Fnats-dev";
    assert_eq!(read(scene.get(imds)).await.0, 400, "without the header");
    let gateway = format!("{imds}&client_id=9f6f7c31-2b0a-4d0a-8b77-1d1f1e0c7722");
    let ask = |path: &str| scene.get(path).header("Metadata", "true");
    let (status, answer) = read(ask(&gateway)).await;
    assert_eq!(status, 200, "{answer}");
    assert!(
        answer["expires_in"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 86_000
    );
    let again = read(ask(&gateway)).await.1;
    assert_eq!(
        answer["access_token"], again["access_token"],
        "Azure keeps them"
    );
    scene.idp.forget_managed_tokens();
    assert_ne!(
        answer["access_token"],
        read(ask(&gateway)).await.1["access_token"]
    );
    assert_eq!(
        read(ask(&format!("{imds}&client_id=nobody"))).await.1["error_description"],
        "Identity not found"
    );
    scene.idp.set_machine_identity(None);
    assert!(
        read(ask(imds)).await.1["error_description"]
            .as_str()
            .unwrap()
            .contains("Multiple user assigned")
    );
    scene.idp.set_machine_identity(Some("natsentry-mi"));
    scene
        .idp
        .fail_times(Endpoint::Imds, 2, Fault::Status(410, None));
    for wanted in [410, 410, 200] {
        assert_eq!(read(ask(imds)).await.0, wanted);
    }

    let (endpoint, secret) = scene.idp.app_service();
    let app_service = format!("{endpoint}?api-version=2019-08-01&resource=api://nats-dev");
    assert_eq!(read(scene.get(&app_service)).await.0, 401);
    let (status, answer) = read(scene.get(&app_service).header("X-IDENTITY-HEADER", secret)).await;
    assert_eq!(status, 200);
    assert!(answer["expires_on"].is_string() && answer["expires_in"].is_null());

    let arc = format!(
        "{}?api-version=2020-06-01&resource=api://nats-dev",
        scene.idp.arc().0
    );
    let challenge = ask(&arc).send().await.unwrap();
    assert_eq!(challenge.status(), 401);
    let realm = challenge.headers()["www-authenticate"].to_str().unwrap();
    let content = std::fs::read_to_string(realm.strip_prefix("Basic realm=").unwrap()).unwrap();
    let answered = || ask(&arc).header("Authorization", format!("Basic {content}"));
    assert_eq!(read(answered()).await.0, 200);
    assert_eq!(
        read(answered()).await.0,
        403,
        "a challenge is answered once"
    );
}

#[tokio::test]
async fn the_vault_has_versions_and_asks_who_comes() {
    let scene = Scene::start().await;
    let first = scene.idp.set_secret("nats", Secret::new("one"));
    let token = scene.own_token("https://vault.azure.net").await;
    let path = "/secrets/nats?api-version=7.4";
    let challenged = scene.get(path).send().await.unwrap();
    assert_eq!(challenged.status(), 401);
    let challenge = challenged.headers()["www-authenticate"].to_str().unwrap();
    assert!(
        challenge.contains("authorization=\"http")
            && challenge.contains("resource=\"https://vault.azure.net\"")
    );
    let ask = |path: &str| read(scene.get(path).bearer_auth(&token));
    assert_eq!(ask(path).await.1["value"], "one");
    scene.idp.set_secret("nats", Secret::new("two"));
    let (_, answer) = ask(path).await;
    assert_eq!(answer["value"], "two");
    assert!(!answer["id"].as_str().unwrap().ends_with(&first));
    assert_eq!(
        ask(&format!("/secrets/nats/{first}?api-version=7.4"))
            .await
            .1["value"],
        "one"
    );
    assert_eq!(ask("/secrets/nats").await.0, 400, "without an api-version");
    assert_eq!(
        ask("/secrets/other?api-version=7.4").await.1["error"]["code"],
        "SecretNotFound"
    );
    scene
        .idp
        .edit_application("natsentry", |app| app.vault = false);
    assert_eq!(ask(path).await.0, 403);
    scene
        .idp
        .fail_times(Endpoint::Vault, 1, Fault::Status(429, Some(1)));
    assert_eq!(ask(path).await.0, 429);
}
