//! What each kind of credential sends, and what it makes of answers.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::Digest as _;

use super::super::*;
use super::credential::secret_credential;
use super::fake::{Asked, Fake, Reply, ok, status, token, tools};
use crate::secret::Secret;

const CLIENT: &str = "e7740b1c-5a44-41f5-a1a5-92f06cf3d8aa";

fn managed(id: ManagedId, environment: &Environment) -> Result<Credential, CredentialError> {
    let config = CredentialConfig::ManagedIdentity(id);
    Credential::new(&config, "https://login.example", environment, tools())
}

/// IMDS writes numbers as strings.
fn imds_token() -> Reply {
    ok(
        r#"{"access_token":"mi","client_id":"x","expires_in":"86399","expires_on":"99999999999","ext_expires_in":"86399","not_before":"1","resource":"api://x","token_type":"Bearer"}"#,
    )
}

fn imds(fake: &Fake) -> Environment {
    let base = fake.base.clone();
    Environment::of(move |name| (name == "AZURE_POD_IDENTITY_AUTHORITY_HOST").then(|| base.clone()))
}

async fn get(credential: &Credential) -> Result<String, CredentialError> {
    let token = credential.token(&Scope::new("api://x/.default")).await?;
    Ok(token.secret().expose_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_client_secret_goes_to_the_token_endpoint_as_a_form() {
    let fake = Fake::start(|_, _| token("t", 3600)).await;
    secret_credential(&fake.base)
        .token(&Scope::new("api://x"))
        .await
        .unwrap();
    let asked = &fake.asked()[0];
    assert_eq!(
        asked.header("content-type"),
        "application/x-www-form-urlencoded"
    );
    let field = |name| asked.parameter(name).unwrap();
    assert_eq!(field("grant_type"), "client_credentials");
    assert_eq!(field("client_id"), CLIENT);
    assert_eq!(field("client_secret"), "hunter2");
    assert_eq!(field("scope"), "api://x/.default");
    assert_eq!(asked.parameter("client_assertion"), None);
}

#[tokio::test]
async fn a_certificate_signs_ps256_and_names_itself_by_sha_256() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["natsentry".into()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let fake = Fake::start(|_, _| token("t", 3600)).await;
    let config = |certificate: &str, key: &str| CredentialConfig::ClientCertificate {
        tenant: "contoso.example".into(),
        client_id: CLIENT.into(),
        certificate: Secret::new(certificate),
        key: Secret::new(key),
    };
    let new = |config| Credential::new(&config, &fake.base, &Environment::default(), tools());
    let credential = new(config(&certificate.pem(), &key.serialize_pem())).unwrap();
    assert_eq!(get(&credential).await.unwrap(), "t");
    let asked = &fake.asked()[0];
    assert_eq!(
        asked.parameter("client_assertion_type").unwrap(),
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    );
    let assertion = asked.parameter("client_assertion").unwrap();
    let header = jsonwebtoken::decode_header(&assertion).unwrap();
    let thumbprint = URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(certificate.der()));
    assert_eq!(header.x5t_s256, Some(thumbprint));
    assert_eq!(header.alg, jsonwebtoken::Algorithm::PS256);
    let audience = format!("{}/contoso.example/oauth2/v2.0/token", fake.base);
    let mut wanted = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::PS256);
    wanted.set_audience(&[&audience]);
    wanted.set_issuer(&[CLIENT]);
    wanted.set_required_spec_claims(&["exp", "nbf", "iss", "sub", "aud"]);
    let public = jsonwebtoken::DecodingKey::from_rsa_pem(key.public_key_pem().as_bytes()).unwrap();
    let claims = jsonwebtoken::decode::<serde_json::Value>(&assertion, &public, &wanted)
        .unwrap()
        .claims;
    assert_eq!(claims["sub"], CLIENT);
    assert_eq!(claims["jti"].as_str().unwrap().len(), 22);
    assert_eq!(
        claims["exp"].as_u64().unwrap() - claims["nbf"].as_u64().unwrap(),
        600
    );

    let ec = rcgen::KeyPair::generate().unwrap();
    for (certificate, key, why) in [
        ("nothing", key.serialize_pem(), "not PEM text"),
        (&*certificate.pem(), "hunter2".into(), "not an RSA key"),
        (&*certificate.pem(), ec.serialize_pem(), "not an RSA key"),
    ] {
        let error = new(config(certificate, &key)).unwrap_err();
        assert_eq!(error.code(), "credential.config");
        assert!(error.sentence().contains(why), "{error}");
    }
}

#[tokio::test]
async fn the_federated_token_is_read_anew_for_every_request() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("azure-identity-token");
    let fake =
        Fake::start(|_, asked| token(&asked.parameter("client_assertion").unwrap(), 3600)).await;
    let variables = |name: &str| match name {
        "AZURE_CLIENT_ID" => Some(CLIENT.to_owned()),
        "AZURE_TENANT_ID" => Some("contoso.example".to_owned()),
        "AZURE_FEDERATED_TOKEN_FILE" => Some(file.display().to_string()),
        _ => None,
    };
    let config = CredentialConfig::WorkloadIdentity {
        tenant: None,
        client_id: None,
        token_file: None,
    };
    let credential =
        Credential::new(&config, &fake.base, &Environment::of(variables), tools()).unwrap();
    let ask = async |scope: &str| {
        let token = credential.token(&Scope::new(scope)).await?;
        Ok::<_, CredentialError>(token.secret().expose_str().unwrap().to_owned())
    };
    let missing = ask("a").await.unwrap_err();
    assert!(
        missing.sentence().contains("azure-identity-token"),
        "{missing}"
    );
    std::fs::write(&file, "one\n").unwrap();
    assert_eq!(ask("b").await.unwrap(), "one");
    std::fs::write(&file, "two").unwrap();
    assert_eq!(ask("c").await.unwrap(), "two");
    std::fs::write(&file, "two lines\nhere").unwrap();
    assert!(
        ask("d")
            .await
            .unwrap_err()
            .sentence()
            .contains("no federated token")
    );
    assert_eq!(fake.asked()[0].parameter("client_id").unwrap(), CLIENT);

    let bare = Credential::new(&config, &fake.base, &Environment::default(), tools());
    assert!(
        bare.unwrap_err()
            .sentence()
            .contains("AZURE_TENANT_ID is not set")
    );
}

#[tokio::test]
async fn imds_is_asked_with_its_header_and_the_identity_wanted() {
    let fake = Fake::start(|_, _| imds_token()).await;
    let ids = [
        (ManagedId::System, None),
        (ManagedId::ClientId("c".into()), Some(("client_id", "c"))),
        (ManagedId::ObjectId("o".into()), Some(("object_id", "o"))),
        (
            ManagedId::ResourceId("/sub/x".into()),
            Some(("msi_res_id", "/sub/x")),
        ),
    ];
    for (id, parameter) in ids {
        let credential = managed(id, &imds(&fake)).unwrap();
        assert_eq!(get(&credential).await.unwrap(), "mi");
        let asked = fake.asked().pop().unwrap();
        assert_eq!(asked.uri.path(), "/metadata/identity/oauth2/token");
        assert_eq!(asked.header("metadata"), "true");
        assert_eq!(asked.parameter("api-version").unwrap(), "2018-02-01");
        assert_eq!(asked.parameter("resource").unwrap(), "api://x");
        for name in ["client_id", "object_id", "msi_res_id"] {
            let wanted = parameter
                .filter(|(known, _)| *known == name)
                .map(|(_, value)| value);
            assert_eq!(asked.parameter(name).as_deref(), wanted);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn imds_is_asked_again_where_its_page_says_so() {
    // Each row: what it answers before the token, or for ever, and how often it is asked.
    for (first, forever, requests) in [
        (404, false, 3),
        (429, false, 3),
        (500, false, 3),
        (503, false, 3),
        (410, false, 3),
        (404, true, 5),
        (400, true, 1),
        (403, true, 1),
    ] {
        let fake = Fake::start(move |number, _| match number {
            0 | 1 => status(first),
            _ if forever => status(first),
            _ => imds_token(),
        })
        .await;
        let result = get(&managed(ManagedId::System, &imds(&fake)).unwrap()).await;
        assert_eq!(result.is_ok(), !forever, "{first}: {result:?}");
        assert_eq!(fake.asked().len(), requests, "{first}");
    }
    let begun = tokio::time::Instant::now();
    let fake = Fake::start(|_, _| status(410)).await;
    let error = get(&managed(ManagedId::System, &imds(&fake)).unwrap()).await;
    assert!(error.unwrap_err().is_transient());
    let waited = begun.elapsed().as_secs();
    assert!((70..90).contains(&waited), "{waited} s");
}

#[tokio::test]
async fn nobody_at_imds_says_what_to_look_at() {
    // A port that was just free.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let environment = Environment::of(move |name| {
        (name == "AZURE_POD_IDENTITY_AUTHORITY_HOST").then(|| base.clone())
    });
    let error = get(&managed(ManagedId::System, &environment).unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "credential.unreachable");
    assert!(
        error.sentence().contains("does this run on Azure"),
        "{error}"
    );
}

#[tokio::test]
async fn app_service_gets_its_secret_header_and_states_only_when_the_token_ends() {
    let fake = Fake::start(|_, _| {
        ok(r#"{"access_token":"as","expires_on":"99999999999","resource":"api://x","token_type":"Bearer","client_id":"x"}"#)
    })
    .await;
    let endpoint = format!("{}/msi/token", fake.base);
    let environment = Environment::of(|name| match name {
        "IDENTITY_ENDPOINT" => Some(endpoint.clone()),
        "IDENTITY_HEADER" => Some("hunter2".to_owned()),
        _ => None,
    });
    assert!(!format!("{environment:?}").contains("hunter2"));
    let credential = managed(ManagedId::ResourceId("/r".into()), &environment).unwrap();
    assert_eq!(get(&credential).await.unwrap(), "as");
    let asked = &fake.asked()[0];
    assert_eq!(asked.uri.path(), "/msi/token");
    assert_eq!(asked.header("x-identity-header"), "hunter2");
    assert_eq!(asked.parameter("api-version").unwrap(), "2019-08-01");
    assert_eq!(asked.parameter("mi_res_id").unwrap(), "/r");
}

/// An agent that names `file`, and gives a token to who shows its content.
async fn agent(file: &Path) -> (Fake, Environment) {
    let named = file.display().to_string();
    let folder = file.parent().unwrap().to_owned();
    let fake = Fake::start(
        move |_, asked: &Asked| match asked.header("authorization") {
            "Basic proof" => imds_token(),
            "" => Reply(
                401,
                vec![("WWW-Authenticate", format!("Basic realm={named}"))],
                String::new(),
            ),
            _ => status(401),
        },
    )
    .await;
    let endpoint = format!("{}/metadata/identity/oauth2/token", fake.base);
    let mut environment = Environment::of(|name| match name {
        "IDENTITY_ENDPOINT" => Some(endpoint.clone()),
        "IMDS_ENDPOINT" => Some("http://localhost:40342".to_owned()),
        _ => None,
    });
    environment.arc_folder = Some(folder);
    (fake, environment)
}

#[tokio::test]
async fn arc_wants_the_content_of_a_file_and_no_other_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let good = tokens.join("a.key");
    std::fs::write(&good, "proof").unwrap();
    let (fake, environment) = agent(&good).await;
    let credential = managed(ManagedId::System, &environment).unwrap();
    assert_eq!(get(&credential).await.unwrap(), "mi");
    let asked = fake.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].header("metadata"), "true");
    assert_eq!(asked[1].parameter("api-version").unwrap(), "2020-06-01");

    // Outside of the folder, by another ending, through a link, too long.
    let outside = folder.path().join("b.key");
    std::fs::write(&outside, "proof").unwrap();
    std::fs::write(tokens.join("c.txt"), "proof").unwrap();
    std::os::unix::fs::symlink(&outside, tokens.join("d.key")).unwrap();
    std::fs::write(tokens.join("e.key"), "p".repeat(4097)).unwrap();
    for strange in [
        outside.clone(),
        tokens.join("../b.key"),
        tokens.join("c.txt"),
        tokens.join("d.key"),
        tokens.join("e.key"),
        Path::new("/etc/passwd").to_owned(),
    ] {
        let (fake, mut environment) = agent(&strange).await;
        environment.arc_folder = Some(tokens.clone());
        let error = get(&managed(ManagedId::System, &environment).unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.code(), "credential.refused", "{strange:?}: {error}");
        assert_eq!(fake.asked().len(), 1, "{strange:?}");
    }
    let error = managed(ManagedId::ClientId("x".into()), &environment).unwrap_err();
    assert!(error.sentence().contains("system-assigned"), "{error}");
}

#[tokio::test]
async fn variables_that_lead_nowhere_say_so() {
    let of = |set: &'static [(&str, &str)]| {
        let environment = Environment::of(|name| {
            set.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        });
        managed(ManagedId::System, &environment)
            .unwrap_err()
            .sentence()
            .to_owned()
    };
    let evil = [
        ("IDENTITY_ENDPOINT", "http://10.0.0.1/token"),
        ("IDENTITY_HEADER", "hunter2"),
    ];
    let sentence = managed(
        ManagedId::System,
        &Environment::of(|name| {
            evil.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, v)| (*v).to_owned())
        }),
    )
    .unwrap_err();
    assert!(
        sentence
            .sentence()
            .contains("IDENTITY_ENDPOINT is no address of this host")
    );
    assert!(of(&[("IDENTITY_ENDPOINT", "http://localhost/")]).contains("without IDENTITY_HEADER"));
    assert!(of(&[("MSI_ENDPOINT", "http://localhost/")]).contains("Cloud Shell"));
    assert!(
        of(&[
            ("IDENTITY_ENDPOINT", "https://localhost/"),
            ("IDENTITY_HEADER", "x"),
            ("IDENTITY_SERVER_THUMBPRINT", "x"),
        ])
        .contains("Service Fabric")
    );
}
