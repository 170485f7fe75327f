//! Tokens of an issuer that we did not write: `oauth2-mock-server`, through its token endpoint and through CONNECT.

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use natsentry::demo::provision::command;
use natsentry::demo::servers::Version;
use serde_json::{Value, json};

use crate::hostile_tokens::world::{Heard, say};
use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::wire::connect_line;
use crate::support::{servers, tools};

/// The issuer, as a child that takes orders.
struct Issuer {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    url: String,
}

impl Issuer {
    fn start() -> Self {
        let node = tools::node().unwrap_or_else(|error| panic!("{error}"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proxy/js");
        let place = node
            .program(&source)
            .unwrap_or_else(|error| panic!("{error}"));
        let mut child = command(&node.node)
            .arg("issuer.mjs")
            .current_dir(place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs");
        let mut issuer = Self {
            orders: child.stdin.take().expect("piped"),
            answers: BufReader::new(child.stdout.take().expect("piped")),
            child,
            url: String::new(),
        };
        issuer.url = issuer.answer()["issuer"]
            .as_str()
            .expect("who it is")
            .to_owned();
        issuer
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).expect("JSON")
    }

    fn order(&mut self, order: &Value) -> Value {
        writeln!(self.orders, "{order}").expect("it listens");
        self.answer()
    }

    /// A token of a client, with claims changed before it is signed.
    fn token(&mut self, claims: &Value) -> String {
        let mut all = json!({ "sub": "historian", "azp": "historian", "roles": ["Nats.Operator"] });
        for (name, value) in claims.as_object().expect("claims") {
            all[name] = value.clone();
        }
        let answer = self.order(&json!({ "claims": all }));
        answer["token"].as_str().expect("a token").to_owned()
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What a client with this token hears, and the code of its refusal in the audit. Each has an address of its own, so that
/// its line is found by it and none is left out by sampling.
async fn verdict(proxy: &Proxy, token: &str) -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let from = Ipv4Addr::new(127, 99, 0, NEXT.fetch_add(1, Ordering::Relaxed));
    let text = format!("{}PING\r\n", connect_line(token, ""));
    match say(proxy.address, from, None, text.as_bytes()).await {
        Heard::Admitted => "accepted".to_owned(),
        Heard::Refused => code_of(proxy, from).await,
        other => format!("{other:?}"),
    }
}

/// The line may still be on its way to the file.
async fn code_of(proxy: &Proxy, from: Ipv4Addr) -> String {
    let client = format!("{from}:");
    for _ in 0..500 {
        let of_client = |line: &Value| {
            line["client"]
                .as_str()
                .is_some_and(|text| text.starts_with(&client))
        };
        let mut lines = proxy.audit().into_iter().filter(of_client);
        if let Some(refused) = lines.find(|line| line["event"] == "refused") {
            return refused["reason"].as_str().expect("a code").to_owned();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no refusal of {from} in the audit")
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_an_issuer_that_we_did_not_write_are_accepted_and_refused_as_they_should_be() {
    let idp = proxy::idp().await;
    let mut issuer = tokio::task::spawn_blocking(Issuer::start)
        .await
        .expect("an issuer");
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let more = format!(
        "issuers: [{{ issuer: \"{}\", audiences: [nats] }}]\n",
        issuer.url
    );
    let proxy = Proxy::start(&idp, &Setup::to(nats.port()).more(&more)).await;

    let good = issuer.token(&json!({}));
    assert_eq!(verdict(&proxy, &good).await, "accepted");
    let in_a_list = issuer.token(&json!({ "aud": ["account", "nats"] }));
    assert_eq!(verdict(&proxy, &in_a_list).await, "accepted");

    let now = natsentry::clock::now().as_secs();
    for (claims, code) in [
        (json!({ "aud": "another" }), "aud.other"),
        (json!({ "aud": null }), "claims.aud"),
        (
            json!({ "iat": now - 700, "nbf": now - 700, "exp": now - 1 }),
            "time.expired",
        ),
        (json!({ "nbf": now + 600, "exp": now + 900 }), "time.early"),
        (json!({ "exp": null }), "claims.exp"),
        (json!({ "exp": now + 10 * 86_400 }), "time.lifetime"),
        (json!({ "iss": "http://127.0.0.1:1" }), "iss.other"),
        (json!({ "iss": format!("{}/", issuer.url) }), "iss.other"),
        (json!({ "azp": null }), "kind.id_token"),
        (json!({ "nonce": "n" }), "kind.id_token"),
        (json!({ "scope": null, "roles": null }), "authz.empty"),
        (json!({ "roles": ["Nobody.Knows"] }), "authz.norule"),
        (json!({ "sub": null }), "claims.sub"),
    ] {
        let token = issuer.token(&claims);
        assert_eq!(verdict(&proxy, &token).await, code, "{claims}");
    }

    // Tampered with after it was signed: another role, and a signature of another token.
    let parts: Vec<&str> = good.split('.').collect();
    let payload = URL_SAFE_NO_PAD.decode(parts[1]).expect("base64url");
    let payload = String::from_utf8(payload)
        .expect("text")
        .replace("historian", "somebody1");
    let forged = format!(
        "{}.{}.{}",
        parts[0],
        URL_SAFE_NO_PAD.encode(payload),
        parts[2]
    );
    assert_eq!(verdict(&proxy, &forged).await, "sig.bad");
    let borrowed = in_a_list.split('.').nth(2).expect("a signature");
    let forged = format!("{}.{}.{borrowed}", parts[0], parts[1]);
    assert_eq!(verdict(&proxy, &forged).await, "sig.bad");

    // It has two keys now, and signs with one after the other.
    issuer.order(&json!({ "rotate": true }));
    for _ in 0..4 {
        let token = issuer.token(&json!({}));
        assert_eq!(verdict(&proxy, &token).await, "accepted");
    }
    assert_eq!(
        verdict(&proxy, &good).await,
        "accepted",
        "the old key is still published"
    );
}
