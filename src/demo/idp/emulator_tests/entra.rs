//! Tokens: metadata, the token endpoint and its errors, and who asks for them.

use super::*;

#[tokio::test]
async fn metadata_has_both_versions_aliases_and_custom_keys() {
    let scene = Scene::start().await;
    let (base, tid) = (scene.idp.base(), &scene.idp.directory().tid);
    for (path, issuer) in [
        (format!("/{tid}/v2.0"), format!("{base}/{tid}/v2.0")),
        (format!("/{tid}"), format!("{base}/{tid}/")),
        ("/common/v2.0".into(), format!("{base}/{{tenantid}}/v2.0")),
        ("/organizations".into(), format!("{base}/{{tenantid}}/")),
    ] {
        let (_, document) =
            read(scene.get(&format!("{path}/.well-known/openid-configuration"))).await;
        assert_eq!(document["issuer"], issuer);
        assert!(
            document["msgraph_host"].is_string() && document["cloud_instance_name"].is_string()
        );
        let (_, keys) = read(scene.get(document["jwks_uri"].as_str().unwrap())).await;
        let with_issuer = keys["keys"][0]["issuer"].is_string();
        assert_eq!(
            with_issuer,
            path.ends_with("v2.0"),
            "v1.0 keys name no issuer: {keys}"
        );
        assert!(keys["keys"][0]["alg"].is_null(), "Entra's keys have no alg");
    }
    let custom = Arc::new(SigningKey::generate().unwrap());
    scene
        .idp
        .add_key(PublishedKey::own(Arc::clone(&custom)).of_application("app-1"));
    let kids = |document: &Value| {
        let keys = document["keys"].as_array().unwrap().clone();
        keys.iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let plain = read(scene.get(&format!("/{tid}/discovery/v2.0/keys")))
        .await
        .1;
    assert!(!kids(&plain).contains(&custom.kid().to_owned()));
    let (_, document) = read(scene.get(&format!(
        "/{tid}/v2.0/.well-known/openid-configuration?appid=app-1"
    )))
    .await;
    let with = read(scene.get(document["jwks_uri"].as_str().unwrap()))
        .await
        .1;
    assert!(kids(&with).contains(&custom.kid().to_owned()));
    let ahead = scene.idp.publish_ahead().await.unwrap();
    assert_ne!(scene.idp.kids().last(), Some(&ahead));
    assert!(scene.idp.sign_with(&ahead));
    assert_eq!(scene.idp.kids().last(), Some(&ahead));
    assert!(scene.idp.remove_key(&ahead));
}

#[tokio::test]
async fn errors_of_the_token_endpoint_have_entra_s_numbers() {
    let scene = Scene::start().await;
    let id = "4e475300-0000-4000-8000-000000000008";
    let good = [
        ("grant_type", "client_credentials"),
        ("client_id", id),
        ("client_secret", "natsentry-development-secret"),
        ("scope", "api://nats-dev/.default"),
    ];
    assert_eq!(scene.form("token", &good).await.0, 200);
    for (name, value, number) in [
        ("grant_type", "password", 70_003),
        ("grant_type", "", 900_144),
        ("client_id", "nobody", 700_016),
        ("client_secret", "guess", 7_000_215),
        ("client_secret", "", 7_000_218),
        ("scope", "api://nats-dev/Nats.Connect", 1_002_012),
        ("scope", "api://elsewhere/.default", 500_011),
    ] {
        let fields = good.map(|(known, usual)| {
            if known == name {
                (known, value)
            } else {
                (known, usual)
            }
        });
        let (status, answer) = scene.form("token", &fields).await;
        assert!(status.is_client_error());
        assert_eq!(code(&answer), number, "{answer}");
        let described = answer["error_description"].as_str().unwrap();
        assert!(
            described.starts_with(&format!("AADSTS{number}: ")) && described.contains("Trace ID: ")
        );
        assert!(answer["correlation_id"].is_string() && answer["trace_id"].is_string());
    }
    scene.idp.set_enabled("natsentry", false);
    assert_eq!(code(&scene.form("token", &good).await.1), 7_000_112);
}

#[tokio::test]
async fn a_certificate_or_a_workload_stands_for_a_secret() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let scene = Scene::start().await;
    let id = "4e475300-0000-4000-8000-000000000008";
    let signer = SigningKey::generate().unwrap();
    let private = signer.private_der().unwrap();
    let pair = rcgen::KeyPair::try_from(private.expose()).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["natsentry".into()])
        .unwrap()
        .self_signed(&pair)
        .unwrap();
    scene.idp.trust_certificate("natsentry", certificate.der());
    let thumbprint = crate::tls::thumbprint_s256(certificate.der());
    let token_endpoint = format!(
        "{}/{}/oauth2/v2.0/token",
        scene.idp.base(),
        scene.idp.directory().tid
    );
    let assertion = |alg: &str, aud: &str, exp: u64, jti: &str, thumbprint: &str| {
        let header = json!({ "alg": alg, "typ": "JWT", "x5t#S256": thumbprint }).to_string();
        let claims =
            json!({ "aud": aud, "iss": id, "sub": id, "exp": exp, "nbf": exp - 600, "jti": jti })
                .to_string();
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let scheme = if alg == "PS256" {
            Scheme::Ps256
        } else {
            Scheme::Rs256
        };
        let signature = signer.sign(scheme, message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let present = async |assertion: &str| {
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("client_assertion_type", kind),
            ("client_assertion", assertion),
            ("scope", "api://nats-dev/.default"),
        ];
        let (_, answer) = scene.form("token", &fields).await;
        code(&answer)
    };
    let soon = clock::now().as_secs() + 600;
    for alg in ["PS256", "RS256"] {
        assert_eq!(
            present(&assertion(alg, &token_endpoint, soon, alg, &thumbprint)).await,
            0,
            "{alg}"
        );
    }
    assert_eq!(
        present(&assertion(
            "PS256",
            &token_endpoint,
            soon,
            "PS256",
            &thumbprint
        ))
        .await,
        50_027,
        "used twice"
    );
    assert_eq!(
        present(&assertion(
            "PS256",
            "https://elsewhere",
            soon,
            "b",
            &thumbprint
        ))
        .await,
        700_023
    );
    assert_eq!(
        present(&assertion(
            "PS256",
            &token_endpoint,
            soon - 4000,
            "c",
            &thumbprint
        ))
        .await,
        700_024
    );
    assert_eq!(
        present(&assertion("PS256", &token_endpoint, soon, "d", "AAAA")).await,
        700_027
    );
    assert_eq!(present("nonsense").await, 50_027);

    let (subject, audience) = (
        "system:serviceaccount:nats:natsentry",
        "api://AzureADTokenExchange",
    );
    let hour = Duration::from_secs(3600);
    let workload = scene.idp.workload_token(subject, audience, hour).unwrap();
    assert_eq!(present(&workload).await, 700_211, "not trusted yet");
    scene.idp.trust_workload("natsentry", subject, audience);
    assert_eq!(present(&workload).await, 0);
    let other = scene
        .idp
        .workload_token("system:serviceaccount:nats:other", audience, hour)
        .unwrap();
    assert_eq!(present(&other).await, 700_213);
    let other = scene
        .idp
        .workload_token(subject, "elsewhere", hour)
        .unwrap();
    assert_eq!(present(&other).await, 700_212);
}

#[tokio::test]
async fn a_person_signs_in_with_a_device_code() {
    let scene = Scene::start().await;
    scene
        .idp
        .device_timing(Duration::ZERO, Duration::from_secs(900));
    let cli = scene.idp.directory().cli.clone();
    let start = async || {
        let scope = "api://nats-dev/.default openid offline_access";
        let (status, started) = scene
            .form("devicecode", &[("client_id", &cli), ("scope", scope)])
            .await;
        assert_eq!(status, 200, "{started}");
        assert!(
            started["message"]
                .as_str()
                .unwrap()
                .contains(started["user_code"].as_str().unwrap())
        );
        started
    };
    let poll = async |started: &Value| {
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", &cli),
            ("device_code", started["device_code"].as_str().unwrap()),
        ];
        scene.form("token", &fields).await.1
    };
    let started = start().await;
    assert_eq!(poll(&started).await["error"], "authorization_pending");
    assert_eq!(
        scene.idp.device_codes(),
        [started["user_code"].as_str().unwrap()]
    );
    let page = format!(
        "/devicelogin?as=alice&code={}",
        started["user_code"].as_str().unwrap()
    );
    assert_eq!(read(scene.get(&page)).await.0, 200);
    let answer = poll(&started).await;
    assert!(
        answer["access_token"].is_string() && answer["id_token"].is_string(),
        "{answer}"
    );
    let refresh = [
        ("grant_type", "refresh_token"),
        ("client_id", &cli),
        ("refresh_token", answer["refresh_token"].as_str().unwrap()),
    ];
    assert_eq!(scene.form("token", &refresh).await.0, 200);
    scene.idp.revoke_sessions("alice");
    assert_eq!(code(&scene.form("token", &refresh).await.1), 50_173);
    let started = start().await;
    assert!(
        scene
            .idp
            .decline_device(started["user_code"].as_str().unwrap())
    );
    assert_eq!(poll(&started).await["error"], "authorization_declined");
    let started = start().await;
    assert!(
        scene
            .idp
            .expire_device(started["user_code"].as_str().unwrap())
    );
    assert_eq!(poll(&started).await["error"], "expired_token");
    scene
        .idp
        .device_timing(Duration::from_secs(5), Duration::from_secs(900));
    let started = start().await;
    assert_eq!(poll(&started).await["error"], "authorization_pending");
    assert_eq!(poll(&started).await["error"], "slow_down");
}

#[tokio::test]
async fn groups_come_in_the_token_until_there_are_too_many() {
    let scene = Scene::start().await;
    let claims = |who: &str, form| {
        let token = scene.idp.mint(&TokenRequest::of(who).form(form)).unwrap();
        crate::identity::inspect(token.as_bytes())
    };
    for form in [Form::V1, Form::V2] {
        assert!(claims("petra", form).fact("groups").is_some());
        let omar = claims("omar", form);
        assert_eq!(omar.fact("groups"), None);
        assert_eq!(omar.fact("_claim_names"), Some("{groups}"));
    }
    let id_token = scene
        .idp
        .mint(&TokenRequest::of("alice").id_token())
        .unwrap();
    let seen = crate::identity::inspect(id_token.as_bytes());
    assert_eq!(
        (seen.fact("azp"), seen.fact("aud")),
        (None, Some(scene.idp.directory().cli.as_str()))
    );
    assert_eq!(
        claims("assistant", Form::V2).fact("roles"),
        Some("[Nats.Telemetry.Read]")
    );
    scene.idp.assign_role("mallory", "Nats.Reader");
    assert_eq!(
        claims("mallory", Form::V2).fact("roles"),
        Some("[Nats.Reader]")
    );
}
