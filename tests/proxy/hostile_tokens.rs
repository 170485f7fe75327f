//! The corpus of hostile tokens, sent the way a client sends them.

use std::collections::BTreeMap;

use natsentry::clock;
use natsentry::demo::idp::forge::{Corpus, Forge, Row};
use natsentry::demo::servers::Version;

use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::servers;
use crate::support::tap::Tap;
use crate::support::wire::Wire;

/// The rows that a listener with the usual settings and without TLS can judge.
fn rows() -> Vec<Row> {
    let text = include_str!("../corpus/tokens.json");
    let corpus: Corpus = serde_json::from_str(text).expect("the corpus");
    let usual = |row: &Row| {
        let listener = &row.listener;
        let plain = listener.thumbprint.is_none() && listener.scope.is_none();
        plain
            && listener.v1
            && listener.users
            && !listener.id_tokens
            && row.issuer.is_none()
            && !row.base.starts_with("oidc")
    };
    corpus.tokens.into_iter().filter(usual).collect()
}

fn connect(token: &[u8]) -> String {
    let document = serde_json::json!({
        "verbose": false, "pedantic": false, "protocol": 1, "lang": "test", "version": "1",
        "auth_token": String::from_utf8_lossy(token),
    });
    format!("CONNECT {document}\r\nPING\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_token_is_refused_and_reaches_nobody() {
    let idp = proxy::idp().await;
    let forge = Forge::of(&idp).expect("keys");
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let tap = Tap::before(nats.address()).await;
    let proxy = Proxy::start(&idp, &Setup::to(tap.address.port())).await;
    drop(Wire::admitted(proxy.address, &proxy::token(&idp, "alice")).await);
    let fetches = || (idp.metadata_fetches(), idp.key_fetches());
    let before = fetches();

    let mut wrong = Vec::new();
    let mut expected = BTreeMap::new();
    let mut admitted = 1;
    for row in rows() {
        let token = forge.token(&row, clock::now()).expect("a token");
        let mut wire = Wire::connect(proxy.address).await;
        wire.line().await.expect("INFO");
        wire.send(&connect(&token)).await;
        let code = row.code.as_deref().unwrap_or_default();
        let answer = match row.verdict.as_str() {
            "accept" => wire.answer().await.into_iter().collect(),
            _ => wire.rest().await,
        };
        let said = match answer.first().map(String::as_str) {
            Some("PONG") => "admitted",
            Some("-ERR 'Authorization Violation'") => "refused",
            None => "closed in silence",
            Some(_) => "another answer",
        };
        let fits = match (row.verdict.as_str(), said) {
            ("accept", "admitted") => {
                admitted += 1;
                true
            }
            // A token that is good, and whose roles no rule binds: `66a`.
            ("accept", "refused") => row.row == "66a",
            // Beyond the burst of fetches for unknown keys it is "not now".
            ("refuse", "closed in silence") => code == "key.unknown",
            ("refuse", "refused") => true,
            _ => false,
        };
        // An empty token is no token, which has its own code.
        if said == "refused" && !token.is_empty() {
            let code = if row.verdict == "accept" {
                "authz.norule"
            } else {
                code
            };
            *expected.entry(code.to_owned()).or_insert(0_u32) += 1;
        }
        if !fits {
            wrong.push(format!("{} ({}): {said} {answer:?}", row.row, row.what));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // The metrics count each under the code of its row; the audit samples refusals, so that a loop cannot flood it.
    let mut miscounted = Vec::new();
    for (code, times) in expected {
        let counted = proxy
            .metric("natsentry_refusals_total", &format!("\"{code}\""))
            .await;
        if counted != f64::from(times) {
            miscounted.push(format!("{code}: wanted {times}, counted {counted}"));
        }
    }
    assert!(miscounted.is_empty(), "{}", miscounted.join("\n"));

    // Two fetches for unknown keys are allowed; nothing else that a token says causes one.
    let after = fetches();
    assert!(
        after.0 - before.0 <= 2 && after.1 - before.1 <= 2,
        "{before:?} {after:?}"
    );

    let sessions = tap
        .to_server()
        .into_iter()
        .filter(|stream| !stream.windows(15).any(|part| part == b"natsentry probe"))
        .filter(|stream| !stream.is_empty())
        .count();
    assert_eq!(sessions, admitted, "a refused token reached upstream");
    proxy.stop().await;
}
