//! `natsentry token inspect`: the gate's own verdict and the log's own sentence, for every token of the corpus.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use natsentry::clock;
use natsentry::demo::idp::forge::{Corpus, Forge, Row};
use natsentry::demo::idp::{DevIdp, TokenRequest};
use natsentry::demo::servers::Version;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::binary::Binary;
use crate::support::cli::{self, Ran};
use crate::support::proxy::{self, STATIC_USER};
use crate::support::servers;
use crate::support::wire::Wire;

/// How many commands run at a time.
const AT_ONCE: usize = 4;

fn configuration(idp: &DevIdp, server: &str, change: &Value) -> Value {
    let directory = idp.directory();
    let mut entra = json!({
        "cloud": { "authority": idp.base() }, "tenants": [directory.tid],
        "audiences": [directory.api, directory.app_id_uri], "v1_tokens": true,
    });
    for (name, value) in change.as_object().into_iter().flatten() {
        entra[name] = value.clone();
    }
    let role = |bind: Value| json!({ "bind": [bind], "upstream": "plant", "publish": ["a"] });
    json!({
        "version": 1,
        "listen": { "client": "127.0.0.1:0" },
        "admin": { "listen": "127.0.0.1:0" },
        "entra": entra,
        "issuers": [{ "issuer": idp.base(), "audiences": [directory.oidc_audience] }],
        "upstreams": { "plant": { "servers": [server], "auth": { "user": "env:NATS_USER", "password": "env:NATS_PASSWORD" } } },
        "roles": {
            "operator": role(json!({ "app_role": "Nats.Operator" })),
            "reader": role(json!({ "app_role": "Nats.Reader" })),
            "historian": role(json!({ "app_role": "Nats.Telemetry.Read" })),
            "gateway": role(json!({ "app_role": "Nats.Telemetry.Write" })),
        },
        // All of them come from one address.
        "audit": { "file": "audit.jsonl", "sampling": { "first": 100_000, "strangers": 100_000 } },
    })
}

/// `token inspect` or `explain` with a token on standard input; what is printed never holds a part of the token.
fn ask(folder: &Path, arguments: &[&str], token: &[u8]) -> Ran {
    let mut command = cli::natsentry(folder);
    command.args(arguments).envs([
        ("NATS_USER", "svc"),
        ("NATS_PASSWORD", "correct horse battery"),
    ]);
    let ran = cli::run(&mut command, token);
    let text = String::from_utf8_lossy(token).into_owned();
    for segment in text.split('.').filter(|segment| segment.len() >= 40) {
        if let Some(head) = segment.get(..32) {
            assert!(
                !ran.out.contains(head) && !ran.err.contains(head),
                "a part of the token is shown: {}",
                ran.out
            );
        }
    }
    ran
}

/// A sentence without its figures: how long ago something was differs from look to look.
fn gist(sentence: &str) -> String {
    sentence.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Whether the usual listener can judge it without TLS.
fn is_usual(row: &Row) -> bool {
    let listener = &row.listener;
    listener.thumbprint.is_none() && listener.scope.is_none() && listener.v1 && listener.users
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_explain_and_the_log_say_the_same_of_every_token() {
    let idp = Arc::new(proxy::idp().await);
    let forge = Forge::of(&idp).expect("keys");
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let config = configuration(
        &idp,
        &format!("nats://127.0.0.1:{}", nats.port()),
        &json!({}),
    );
    let environment = [
        ("NATS_USER", "svc"),
        ("NATS_PASSWORD", "correct horse battery"),
    ];
    let natsentry = Binary::start(&config, &environment);
    drop(Wire::admitted(natsentry.address(), &proxy::token(&idp, "alice")).await);

    let corpus: Corpus =
        serde_json::from_str(include_str!("../corpus/tokens.json")).expect("the corpus");
    let mut wrong = Vec::new();
    let mut looks = JoinSet::new();
    let mut told = BTreeMap::new();
    let mut wanted = Vec::new();
    for (at, row) in corpus.tokens.iter().filter(|row| is_usual(row)).enumerate() {
        let token = forge.token(row, clock::now()).expect("a token");
        // No token at all has a code of its own; the line end behind one is taken off, as files and pipes have it.
        if token.is_empty() || token.ends_with(b"\n") {
            continue;
        }
        let logged = natsentry.log().lines().count();
        let mut wire = Wire::connect(natsentry.address()).await;
        wire.line().await.expect("INFO");
        let connect = json!({ "verbose": false, "protocol": 1, "auth_token": String::from_utf8_lossy(&token) });
        wire.send(&format!("CONNECT {connect}\r\nPING\r\n")).await;
        let answer = wire.answer().await;
        if answer.as_deref() != Some("PONG") {
            // A fresh process has fetches to spend where the server's are spent.
            if row.code.as_deref() != Some("key.unknown") {
                told.insert(
                    row.row.clone(),
                    refusal(&natsentry, logged, wire.local()).await,
                );
            }
        }
        wanted.push(row.clone());
        if looks.len() == AT_ONCE {
            wrong.extend(looks.join_next().await.expect("one").expect("no panic"));
        }
        let (folder, row, told) = (
            natsentry.dir().to_owned(),
            row.clone(),
            told.get(&row.row).cloned(),
        );
        looks.spawn_blocking(move || compare(&folder, &row, &token, told, at % 8 == 0));
    }
    while let Some(look) = looks.join_next().await {
        wrong.extend(look.expect("no panic"));
    }
    assert!(wanted.len() > 200, "{}", wanted.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Code and sentence of the refusal of a client that is logged after so many lines: what is said of the one before may
/// come late, and the system gives ports out again.
async fn refusal(natsentry: &Binary, after: usize, client: SocketAddr) -> (String, String) {
    let client = client.to_string();
    for _ in 0..3000 {
        let log = natsentry.log();
        let lines = log
            .lines()
            .skip(after)
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|line| line["client"] == *client);
        for line in lines {
            let message = line["message"].as_str().unwrap_or_default();
            let sentence = message
                .strip_prefix("refused: ")
                .or_else(|| message.strip_prefix("cannot judge a token now: "));
            if let Some(sentence) = sentence {
                return (
                    line["code"].as_str().unwrap_or_default().to_owned(),
                    sentence.to_owned(),
                );
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("no refusal is logged:\n{}", natsentry.log());
}

/// What is wrong with what the commands say of one token.
fn compare(
    folder: &Path,
    row: &Row,
    token: &[u8],
    told: Option<(String, String)>,
    explain: bool,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let config = ["-c", "natsentry.yaml", "-o", "json"];
    let mut questions = vec![(vec!["token", "inspect"], "admitted")];
    if explain {
        questions.push((vec!["explain", "--token-stdin"], "allowed"));
    }
    for (question, good) in questions {
        let ran = ask(folder, &[&question[..], &config].concat(), token);
        let said: Value = serde_json::from_str(&ran.out).unwrap_or_default();
        let (code, sentence) = (
            said["code"].as_str().unwrap_or_default(),
            said["sentence"].as_str().unwrap_or_default(),
        );
        let fits = match &told {
            Some((wanted, logged)) => {
                code == wanted && gist(sentence) == gist(logged) && ran.code == Some(1)
            }
            None if row.code.is_some() => Some(code) == row.code.as_deref() && ran.code == Some(1),
            None => said["verdict"] == good && ran.code == Some(0),
        };
        if !fits {
            wrong.push(format!(
                "{} ({}): {question:?} said {code}: {sentence}\n{}\nwanted {told:?}",
                row.row, row.what, ran.err
            ));
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_for_other_listeners_have_their_codes_too() {
    let idp = proxy::idp().await;
    let forge = Forge::of(&idp).expect("keys");
    let corpus: Corpus =
        serde_json::from_str(include_str!("../corpus/tokens.json")).expect("the corpus");
    let folder = tempfile::tempdir().expect("a folder");
    let mut checked = 0;
    for row in corpus.tokens.iter().filter(|row| !is_usual(row)) {
        let listener = &row.listener;
        let mut change = json!({ "v1_tokens": listener.v1 });
        if !listener.users {
            change["accept"] = json!(["app"]);
        }
        if let Some(scope) = &listener.scope {
            change["required_scope"] = json!(scope);
        }
        let config = configuration(&idp, "nats://127.0.0.1:4222", &change);
        fs::write(folder.path().join("natsentry.yaml"), config.to_string()).expect("a file");
        let token = forge.token(row, clock::now()).expect("a token");
        let mut arguments = vec!["token", "inspect", "-c", "natsentry.yaml", "-o", "json"];
        if let Some(thumbprint) = &listener.thumbprint {
            arguments.extend(["--certificate", thumbprint]);
        }
        let ran = ask(folder.path(), &arguments, &token);
        let said: Value =
            serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}: {}", row.row, ran.err));
        let wanted = row.code.as_deref().map_or(Value::Null, Into::into);
        assert_eq!(
            said["code"], wanted,
            "{} ({}): {}",
            row.row, row.what, ran.out
        );
        // The same of whoever asks what such a token may do.
        let mut arguments = vec![
            "explain",
            "-c",
            "natsentry.yaml",
            "--token-stdin",
            "-o",
            "json",
        ];
        if let Some(thumbprint) = &listener.thumbprint {
            arguments.extend(["--certificate", thumbprint]);
        }
        let ran = ask(folder.path(), &arguments, &token);
        let explained: Value = serde_json::from_str(&ran.out).expect("JSON");
        assert_eq!(explained["code"], said["code"], "{}", row.row);
        let gist_of = |said: &Value| said["sentence"].as_str().map(gist);
        assert_eq!(gist_of(&explained), gist_of(&said), "{}", row.row);
        checked += 1;
    }
    assert!(checked > 3, "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_reads_what_is_held_and_what_is_missing_without_any_network() {
    let idp = proxy::idp().await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = configuration(&idp, "nats://127.0.0.1:4222", &json!({}));
    fs::write(folder.path().join("natsentry.yaml"), config.to_string()).expect("a file");
    natsentry::tls::install_provider();
    let address = format!("{}/{}/discovery/v2.0/keys", idp.base(), idp.directory().tid);
    let answer = reqwest::get(&address).await.expect("an answer");
    let keys = answer.text().await.expect("keys");
    fs::write(folder.path().join("keys.json"), keys).expect("a file");
    let tokens = ["alice", "mallory", "omar"].map(|who| proxy::token(&idp, who));
    let id_token = idp
        .mint(&TokenRequest::of("alice").id_token())
        .expect("a token");
    let graph = idp
        .mint(&TokenRequest::of("alice").claim("aud", "https://graph.microsoft.com"))
        .expect("a token");
    let wrong = idp.mint(
        &TokenRequest::of("alice")
            .claim("aud", "https://graph.microsoft.com")
            .claim("scp", Value::Null)
            .claim("exp", clock::now().as_secs() - 30),
    );
    let wrong = wrong.expect("a token");
    idp.stop().await;
    let offline = [
        "token",
        "inspect",
        "-c",
        "natsentry.yaml",
        "--keys",
        "keys.json",
    ];

    let ran = ask(folder.path(), &offline, tokens[0].as_bytes());
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    for told in [
        "admitted\n",
        "looks like an access token of a person",
        "signature  pass",
        "characters, not shown",
        "role      operator   held",
        "role      reader     not held  bound to app_role Nats.Reader, which the token does not have",
        "upstream  plant",
    ] {
        assert!(ran.out.contains(told), "{told} is missing in\n{}", ran.out);
    }
    let ran = ask(folder.path(), &offline, tokens[1].as_bytes());
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.out
            .starts_with("refused: authz.norule\nauthenticated as "),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("what to change: bind a role"),
        "{}",
        ran.out
    );
    let later = [&offline[..], &["--at", "2099-01-01", "-o", "json"]].concat();
    let ran = ask(folder.path(), &later, tokens[0].as_bytes());
    let said: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(said["code"], "time.expired");
    let outcomes: Vec<&str> = said["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .map(|line| line["outcome"].as_str().expect("text"))
        .collect();
    assert_eq!(
        outcomes,
        [
            "pass",
            "pass",
            "pass",
            "pass",
            "pass",
            "fail",
            "would pass",
            "would pass",
            "would pass",
            "would pass"
        ]
    );

    // Whoever is told of one mistake hears of the others, too, with the cure of each.
    let ran = ask(folder.path(), &offline, wrong.as_bytes());
    for told in [
        "refused: time.expired\n",
        "note: it would be refused next: aud.graph: token is for Microsoft Graph (aud 'https://graph.microsoft.com')",
        "What to change: ask for the scope of the API",
        "note: it would be refused next: authz.empty: client ",
        "issuer     would pass",
        "audience   would fail",
        "kind       would pass",
        "rights     would fail",
    ] {
        assert!(ran.out.contains(told), "{told} is missing in\n{}", ran.out);
    }

    // Without a configuration: what any listener would refuse.
    for (token, code, status) in [
        (&tokens[0], "", 0),
        (&tokens[2], "", 0),
        (&id_token, "kind.id_token", 1),
        (&graph, "aud.graph", 1),
        (&format!("Bearer {}", tokens[0]), "prep", 1),
    ] {
        let ran = ask(
            folder.path(),
            &["token", "inspect", "-o", "json"],
            token.as_bytes(),
        );
        let said: Value = serde_json::from_str(&ran.out).expect("JSON");
        assert_eq!(
            (said["code"].as_str().unwrap_or_default(), ran.code),
            (code, Some(status)),
            "{}",
            ran.out
        );
    }
    assert_eq!(
        ask(
            folder.path(),
            &["token", "inspect", "--keys", "keys.json"],
            b""
        )
        .code,
        Some(2)
    );
    // A file serves as well, and a file that is not there is said to be missing.
    fs::write(folder.path().join("token.txt"), format!("{}\n", tokens[0])).expect("a file");
    let from_file = [&offline[..], &["--token-file", "token.txt"]].concat();
    assert_eq!(ask(folder.path(), &from_file, b"").code, Some(0));
    let ran = ask(
        folder.path(),
        &["token", "inspect", "--token-file", "absent"],
        b"",
    );
    assert!(
        ran.code == Some(1) && ran.err.contains("--token-file absent"),
        "{}",
        ran.err
    );
}
