//! The emulator seen by clients of Entra ID, Graph, Key Vault and managed identities.

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
async fn graph_is_for_those_with_permissions_and_a_token_for_graph() {
    let scene = Scene::start().await;
    let path = format!("users/{}?$select=id,accountEnabled", scene.oid("alice"));
    let own = scene.own_token("https://graph.microsoft.com").await;
    assert_eq!(scene.graph(&own, &path).await.1["accountEnabled"], true);
    let (status, answer) = read(scene.get(&format!("/v1.0/{path}"))).await;
    assert_eq!(
        (status.as_u16(), &answer["error"]["code"]),
        (401, &json!("InvalidAuthenticationToken"))
    );
    let nats = scene.own_token("api://nats-dev").await;
    let (status, answer) = scene.graph(&nats, &path).await;
    assert_eq!(status, 401);
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("audience")
    );
    let (signed, _) = own.rsplit_once('.').unwrap();
    assert_eq!(scene.graph(&format!("{signed}.AAAA"), &path).await.0, 401);
    scene.idp.edit_application("natsentry", |app| {
        app.graph = vec!["Application.Read.All".into()]
    });
    let less = scene.own_token(scene.idp.graph()).await;
    let (status, answer) = scene.graph(&less, &path).await;
    assert_eq!(
        (status.as_u16(), &answer["error"]["code"]),
        (403, &json!("Authorization_RequestDenied"))
    );
    assert_eq!(
        scene.graph(&own, "users/nobody").await.1["error"]["code"],
        "Request_ResourceNotFound"
    );
}

#[tokio::test]
async fn memberships_are_transitive_and_checked_twenty_at_a_time() {
    let scene = Scene::start().await;
    let token = scene.own_token("https://graph.microsoft.com").await;
    let omar = format!("users/{}", scene.oid("omar"));
    scene
        .idp
        .join_group("aaaa0000-0000-4000-8000-00000000000a", PLANT);
    let outer = "aaaa0000-0000-4000-8000-00000000000a";
    let check = async |ids: Vec<&str>| {
        scene
            .graph_post(
                &token,
                &format!("{omar}/checkMemberGroups"),
                json!({ "groupIds": ids }),
            )
            .await
    };
    let stranger = "bbbb0000-0000-4000-8000-00000000000b";
    assert_eq!(
        check(vec![stranger, outer, PLANT]).await.1["value"],
        json!([outer, PLANT])
    );
    assert_eq!(check(vec![PLANT; 21]).await.0, 400);
    assert_eq!(check(vec!["sg-plant-ops"]).await.0, 400);
    let all = scene
        .graph_post(
            &token,
            &format!("{omar}/getMemberGroups"),
            json!({ "securityEnabledOnly": true }),
        )
        .await;
    assert_eq!(all.1["value"].as_array().unwrap().len(), 251);
    let mut path = format!("{omar}/transitiveMemberOf/microsoft.graph.group?$select=id&$top=100");
    let mut found = Vec::new();
    loop {
        let (status, page) = scene.graph(&token, &path).await;
        assert_eq!(status, 200, "{page}");
        found.extend(page["value"].as_array().unwrap().clone());
        match page["@odata.nextLink"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(found.len(), 251);
    let api = scene.idp.directory().api_principal();
    let assigned = scene
        .graph(
            &token,
            &format!("servicePrincipals/{api}/appRoleAssignedTo"),
        )
        .await
        .1;
    let gateway = scene.oid("gateway");
    assert!(
        assigned["value"]
            .as_array()
            .unwrap()
            .iter()
            .any(|given| given["principalId"] == gateway.as_str())
    );
    let keyed = format!(
        "servicePrincipals(appId='{}')?$select=id,appRoles",
        scene.idp.directory().api
    );
    assert_eq!(scene.graph(&token, &keyed).await.1["id"], api);
}

#[tokio::test]
async fn delta_queries_tell_what_changed_and_links_expire() {
    let scene = Scene::start().await;
    let token = scene.own_token("https://graph.microsoft.com").await;
    let latest = async |path: &str| {
        let (status, first) = scene.graph(&token, path).await;
        assert_eq!(
            (status.as_u16(), &first["value"]),
            (200, &json!([])),
            "{first}"
        );
        first["@odata.deltaLink"].as_str().unwrap().to_owned()
    };
    let users = latest("users/delta?$deltatoken=latest&$select=id,accountEnabled").await;
    let groups = latest("groups/delta?$deltatoken=latest&$select=members").await;
    scene.idp.set_enabled("alice", false);
    scene.idp.delete("bob");
    scene.idp.leave_group(PLANT, "omar");
    scene.idp.revoke_sessions("petra");
    let (_, round) = scene.graph(&token, &users).await;
    assert_eq!(
        round["value"],
        json!([
            { "id": scene.oid("alice"), "accountEnabled": false },
            { "id": scene.oid("bob"), "@removed": { "reason": "changed" } },
        ])
    );
    let (_, nothing) = scene
        .graph(&token, round["@odata.deltaLink"].as_str().unwrap())
        .await;
    assert_eq!(nothing["value"], json!([]));
    let (_, round) = scene.graph(&token, &groups).await;
    assert_eq!(round["value"][0]["id"], PLANT);
    assert_eq!(
        round["value"][0]["members@delta"][0]["@removed"]["reason"],
        "deleted"
    );
    assert!(
        !scene
            .idp
            .mint(&TokenRequest::of("omar"))
            .unwrap()
            .is_empty()
    );
    scene.idp.set_page_size(2);
    let mut path = "servicePrincipals/delta?$select=id".to_owned();
    let mut entries = 0;
    loop {
        let (_, page) = scene.graph(&token, &path).await;
        entries += page["value"].as_array().unwrap().len();
        match page["@odata.nextLink"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(entries, scene.idp.directory().applications.len() + 1);
    scene.idp.expire_delta_links();
    let gone = scene.get(&users).bearer_auth(&token).send().await.unwrap();
    assert_eq!(gone.status(), 410);
    let anew = gone.headers()["location"].to_str().unwrap().to_owned();
    assert!(
        scene.graph(&token, &anew).await.1["value"]
            .as_array()
            .unwrap()
            .len()
            == 2
    );
}

#[tokio::test]
async fn a_replica_lags_and_everything_can_go_wrong() {
    let scene = Scene::start().await;
    let token = scene.own_token("https://graph.microsoft.com").await;
    let path = format!("users/{}?$select=accountEnabled", scene.oid("alice"));
    scene.idp.set_replica(Replica::Frozen);
    scene.idp.set_enabled("alice", false);
    scene.idp.add_person(&Person {
        name: "nora".into(),
        oid: "0a0a0a0a-0000-4000-8000-00000000000e".into(),
        ..Person::default()
    });
    assert_eq!(scene.graph(&token, &path).await.1["accountEnabled"], true);
    assert_eq!(
        scene
            .graph(&token, "users/0a0a0a0a-0000-4000-8000-00000000000e")
            .await
            .0,
        404
    );
    scene.idp.set_replica(Replica::Current);
    assert_eq!(scene.graph(&token, &path).await.1["accountEnabled"], false);
    assert_eq!(
        scene
            .graph(&token, "users/0a0a0a0a-0000-4000-8000-00000000000e")
            .await
            .0,
        200
    );

    let before = scene.idp.requests(Endpoint::Graph);
    let ask = || scene.get(&format!("/v1.0/{path}")).bearer_auth(&token);
    scene
        .idp
        .fail_times(Endpoint::Graph, 1, Fault::Status(429, Some(7)));
    let throttled = ask().send().await.unwrap();
    assert_eq!(throttled.status(), 429);
    assert_eq!(throttled.headers()["retry-after"], "7");
    for (fault, good) in [
        (Fault::Html, false),
        (Fault::Truncated, false),
        (Fault::Slow(30), true),
    ] {
        scene.idp.fail_times(Endpoint::Graph, 1, fault.clone());
        let (status, answer) = read(ask()).await;
        assert_eq!(status, 200);
        assert_eq!(answer.is_object(), good, "{fault:?}");
    }
    scene.idp.fail_times(Endpoint::Graph, 1, Fault::Huge);
    assert!(ask().send().await.unwrap().bytes().await.unwrap().len() > 10_000_000);
    scene.idp.fail_times(Endpoint::Graph, 1, Fault::Reset);
    let reset = ask().send().await.unwrap_err();
    assert!(format!("{reset:?}").contains("reset"), "{reset:?}");
    assert_eq!(scene.idp.requests(Endpoint::Graph) - before, 6);
    assert_eq!(scene.idp.seen().last().unwrap().status, 0);
    assert_eq!(read(ask()).await.0, 200);
    let fault = json!({ "endpoint": "graph", "times": 1, "fault": { "status": [503, null] } });
    let control = format!("{}/emulator/faults", scene.idp.base());
    assert_eq!(
        scene
            .http
            .post(control)
            .body(fault.to_string())
            .send()
            .await
            .unwrap()
            .status(),
        204
    );
    assert_eq!(read(ask()).await.0, 503);
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
