//! What is asked for over the network, and what is not.

use super::*;

#[tokio::test]
async fn no_token_of_the_corpus_makes_us_open_a_connection() {
    let rig = Rig::new().await;
    let forge = Forge::of(&rig.idp).unwrap();
    let jwks = rig
        .ready_jwks(&Settings {
            unknown_burst: 0,
            ..calm()
        })
        .await;
    let before = (rig.idp.metadata_fetches(), rig.idp.key_fetches());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/tokens.json");
    let text = std::fs::read_to_string(path).unwrap();
    let corpus: crate::demo::idp::forge::Corpus = serde_json::from_str(&text).unwrap();
    let mut judged = 0;
    for row in corpus
        .tokens
        .iter()
        .filter(|row| row.base.starts_with("v2") && row.issuer.is_none())
    {
        let token = forge.token(row, clock::now()).unwrap();
        let accepted = rig.judge(&jwks, &token).await.is_ok();
        let listener = &row.listener;
        let usual = listener.thumbprint.is_none() && listener.scope.is_none();
        if usual && listener.users && !listener.id_tokens {
            assert_eq!(accepted, row.verdict == "accept", "{}", row.row);
        }
        judged += 1;
    }
    assert!(judged > 200);
    assert_eq!((rig.idp.metadata_fetches(), rig.idp.key_fetches()), before);
}

/// From where to where.
type Redirects = &'static [(&'static str, &'static str)];

/// Answers each path with a redirect or a document, and remembers what was asked for.
async fn redirecting(
    redirects: Redirects,
    documents: Vec<(&'static str, Vec<u8>)>,
) -> (String, Arc<std::sync::Mutex<Vec<String>>>) {
    use axum::http::{StatusCode, Uri, header};
    use axum::response::IntoResponse as _;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (here, remembered) = (base.clone(), Arc::clone(&asked));
    let answer = move |uri: Uri| {
        remembered.lock().unwrap().push(uri.path().to_owned());
        let to = redirects.iter().find(|(from, _)| *from == uri.path());
        let document = documents.iter().find(|(path, _)| *path == uri.path());
        let answer = match (to, document) {
            (Some((_, to)), _) => {
                let to = to.replace("{base}", &here);
                (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
            }
            (None, Some((_, body))) => {
                let body = String::from_utf8(body.clone()).unwrap();
                body.replace("{base}", &here).into_response()
            }
            (None, None) => StatusCode::NOT_FOUND.into_response(),
        };
        std::future::ready(answer)
    };
    let app = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (base, asked)
}

#[tokio::test]
async fn redirects_within_a_host_are_followed_three_times_and_to_another_never() {
    let rig = Rig::new().await;
    let forge = Forge::of(&rig.idp).unwrap();
    let keys = forge.key_document(crate::demo::idp::Form::Oidc);
    let metadata = br#"{"issuer":"{base}/i","jwks_uri":"{base}/keys"}"#.to_vec();
    let well_known = "/i/.well-known/openid-configuration";
    let documents = || vec![("/m", metadata.clone()), ("/k", keys.clone())];
    let cases: [(Redirects, Option<&str>); 6] = [
        // Both documents, by an absolute and by a relative address.
        (
            &[
                ("/i/.well-known/openid-configuration", "{base}/m"),
                ("/keys", "/k"),
            ],
            None,
        ),
        // As often as is allowed, and once more.
        (
            &[
                ("/i/.well-known/openid-configuration", "/1"),
                ("/1", "/2"),
                ("/2", "/m"),
                ("/keys", "k"),
            ],
            None,
        ),
        (
            &[
                ("/i/.well-known/openid-configuration", "/1"),
                ("/1", "/2"),
                ("/2", "/3"),
                ("/3", "/m"),
                ("/keys", "/k"),
            ],
            Some("only redirects within a host"),
        ),
        // In a circle.
        (
            &[(
                "/i/.well-known/openid-configuration",
                "/i/.well-known/openid-configuration",
            )],
            Some("only redirects within a host"),
        ),
        // To another host, and to another port of this one.
        (
            &[(
                "/i/.well-known/openid-configuration",
                "https://keys.example.com/m",
            )],
            Some("redirects to https://keys.example.com"),
        ),
        (
            &[
                ("/i/.well-known/openid-configuration", "/m"),
                ("/keys", "http://127.0.0.1:9/k"),
            ],
            Some("redirects to http://127.0.0.1:9"),
        ),
    ];
    for (redirects, trouble) in cases {
        let (base, asked) = redirecting(redirects, documents()).await;
        let mut table = Expectations::new(TokenLimits::default());
        let mut issuer = rig.idp.issuer();
        issuer.issuer = format!("{base}/i").into();
        table.add_issuer(&issuer).unwrap();
        let jwks = Jwks::start(&table, &calm(), None, &rig.tasks, &rig.stop).unwrap();
        until("it was tried", || {
            let status = &jwks.status()[0];
            status.fetches_ok + status.fetches_failed > 0
        })
        .await;
        jwks.stop();
        let status = jwks.status().remove(0);
        match trouble {
            None => assert!(jwks.is_ready(), "{redirects:?}: {:?}", status.last_error),
            Some(words) => {
                let said = status.last_error.unwrap_or_default();
                assert!(
                    !jwks.is_ready() && said.contains(words),
                    "{redirects:?}: {said}"
                );
            }
        }
        assert_eq!(
            asked.lock().unwrap().first().map(String::as_str),
            Some(well_known)
        );
    }
}
