//! Every refusal of a token: the same code, the same sentence and the same decision in the log and in the audit of the
//! real program, the same sentence from `explain`, and nothing of it for the client.

use std::net::Ipv4Addr;

use natsentry::clock;
use natsentry::demo::idp::{DevIdp, Form, TokenRequest};
use natsentry::demo::servers::{NatsServer, Version};
use serde_json::{Value, json};

use crate::hostile_tokens::world::{Heard, say};
use crate::support::binary::Binary;
use crate::support::cli::{natsentry, run};
use crate::support::plant;
use crate::support::proxy::{self, STATIC_USER};
use crate::support::servers;
use crate::support::wire::connect_line;

fn configuration(idp: &DevIdp, nats: &NatsServer) -> Value {
    let roles = json!({
        "operator": { "bind": [{ "app_role": "Nats.Operator" }], "upstream": "plant", "publish": ["a.>"] },
        "careful": {
            "bind": [{ "app_role": "Nats.Careful" }], "require": { "acrs": "c7" },
            "upstream": "plant", "publish": ["c.>"],
        },
        "yesterday": {
            "bind": [{ "app_role": "Nats.Past" }], "valid": { "until": "2026-01-01" },
            "upstream": "plant", "publish": ["d.>"],
        },
        "grouped": {
            "bind": [{ "group": "77777777-0000-4000-8000-000000000001" }],
            "upstream": "plant", "publish": ["b.>"],
        },
    });
    plant::configuration(idp, nats.port(), &roles)
}

/// Code, what its sentence must say (what was seen, what is wanted, what to change), and a token that is refused with it.
fn cases(idp: &DevIdp) -> Vec<(&'static str, &'static [&'static str], String)> {
    let now = clock::now().as_secs();
    let mint = |request: TokenRequest| idp.mint(&request).expect("a token");
    let alice = || TokenRequest::of("alice");
    let mallory = || TokenRequest::of("mallory");
    let tid = &idp.directory().tid;
    let good = mint(alice());
    let mut altered = good.clone();
    altered.replace_range(altered.len() - 8.., "AAAAAAAA");
    vec![
        (
            "iss.v1-for-v2",
            &[
                "v1.0 access token",
                "/11111111-2222-3333-4444-555555555555/)",
                "Set requestedAccessTokenVersion=2 on app registration api://nats-dev",
                "v1_tokens: true",
            ],
            mint(alice().form(Form::V1)),
        ),
        (
            "iss.tenant",
            &[
                "tenant 7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11",
                "tenants allowed: 11111111-2222-3333-4444-555555555555",
                "entra.tenants",
            ],
            mint(alice().claim(
                "iss",
                format!("{}/7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11/v2.0", idp.base()),
            )),
        ),
        (
            "iss.cloud",
            &[
                "login.microsoftonline.us belongs to US Government",
                "configured for cloud custom",
                "Get the token from http://127.0.0.1:",
                "entra.cloud",
            ],
            mint(alice().claim(
                "iss",
                format!("https://login.microsoftonline.us/{tid}/v2.0"),
            )),
        ),
        (
            "aud.graph",
            &[
                "token is for Microsoft Graph (aud 'https://graph.microsoft.com'), not for this proxy",
                "Request scope b3c0f6de-51a2-4a60-8d0e-6a1f20c4a771/.default",
                "--scope",
            ],
            mint(alice().claim("aud", "https://graph.microsoft.com")),
        ),
        (
            "aud.prefix",
            &[
                "aud is 'api://nats-prod'",
                "expected one of b3c0f6de-51a2-4a60-8d0e-6a1f20c4a771",
                "v1.0 tokens carry the App ID URI",
                "entra.audiences",
                "requestedAccessTokenVersion=2",
            ],
            mint(alice().claim("aud", "api://nats-prod")),
        ),
        (
            "aud.other",
            &[
                "aud '99999999-51a2-4a60-8d0e-6a1f20c4a771'",
                "is not among b3c0f6de-51a2-4a60-8d0e-6a1f20c4a771",
                "Request scope",
            ],
            mint(alice().claim("aud", "99999999-51a2-4a60-8d0e-6a1f20c4a771")),
        ),
        (
            "hdr.nonce",
            &[
                "nonce header",
                "you sent a Graph-style token",
                "Request scope",
            ],
            mint(alice().header("nonce", "x")),
        ),
        (
            "kind.id_token",
            &[
                "ID token",
                "names no client application",
                "send the access token",
            ],
            mint(
                alice()
                    .claim("azp", Value::Null)
                    .claim("scp", Value::Null)
                    .claim("idtyp", Value::Null),
            ),
        ),
        (
            "authz.empty",
            &[
                "client e7740b1c-5a44-41f5-a1a5-92f06cf3d8aa has no app role",
                "Enterprise applications",
                "admin consent",
                "24 h",
            ],
            mint(TokenRequest::of("historian").claim("roles", Value::Null)),
        ),
        (
            "authz.norule",
            &[
                "authenticated as 11111111-2222-3333-4444-555555555555/",
                "with app roles [",
                "groups ",
                "no role is bound to any of these",
                "bind of a role",
            ],
            mint(mallory()),
        ),
        (
            "groups.overage",
            &[
                "more than 200 groups",
                "entra.graph",
                "ApplicationGroup",
                "app_role",
            ],
            mint(mallory().claim("_claim_names", json!({ "groups": "src1" }))),
        ),
        (
            "groups.names",
            &["holds names", "rules are by GUID", "groups: names"],
            mint(mallory().claim("groups", json!(["CORP\\plant-ops"]))),
        ),
        (
            "key.unknown",
            &[
                "kid first not in the keys of http://127.0.0.1:",
                " keys, fetched ",
                "keys_app_id",
            ],
            mint(alice().header("kid", "first")),
        ),
        (
            "key.unknown",
            &["kid second not in the keys of"],
            mint(alice().header("kid", "second")),
        ),
        (
            "key.throttled",
            &["kid third unknown", "next key refresh allowed in 5 min"],
            mint(alice().header("kid", "third")),
        ),
        (
            "sig.bad",
            &["with kid ", "token altered or truncated", " bytes received"],
            altered,
        ),
        (
            "time.expired",
            &[
                "expired 3",
                "exp=20",
                "local clock 20",
                "refresh it before connecting",
            ],
            mint(alice().claim("exp", now - 30)),
        ),
        (
            "time.early",
            &[
                "not valid for another 9 min",
                "nbf=20",
                "local clock 20",
                "check NTP on this machine",
            ],
            mint(alice().claim("nbf", now + 600)),
        ),
        (
            "size",
            &["bytes exceeds limit 32768", "use app roles"],
            mint(alice().claim("padding", "x".repeat(27_000))),
        ),
        (
            "revoked",
            &["an operator locked identity", "natsentry unlock"],
            mint(TokenRequest::of("gateway")),
        ),
        (
            "prep",
            &["begins with the prefix 'Bearer '"],
            format!("Bearer {good}"),
        ),
        (
            "iss.other",
            &[
                "/v2.0/' is not a configured issuer",
                "that is spelled 'http://127.0.0.1:",
                "byte for byte",
            ],
            mint(alice().claim("iss", format!("{}/{tid}/v2.0/", idp.base()))),
        ),
        (
            "iss.other",
            &[
                "iss 'https://login.example.com' is not a configured issuer",
                "those are http://127.0.0.1:",
                "issuers",
            ],
            mint(alice().claim("iss", "https://login.example.com")),
        ),
        (
            "iss.tid",
            &["tid 22222222-2222-3333-4444-555555555555 is not the tenant of iss http"],
            mint(alice().claim("tid", "22222222-2222-3333-4444-555555555555")),
        ),
        (
            "claims.ver",
            &["ver is '1.0'", "have 2.0"],
            mint(alice().claim("ver", "1.0")),
        ),
        (
            "claims.scp",
            &["scp is an array", "must be a string"],
            mint(alice().claim("scp", json!(["Nats.Connect"]))),
        ),
        (
            "key.x5t",
            &["x5t is 'other'", "the certificate of key"],
            mint(alice().header("x5t", "other")),
        ),
        (
            "cnf.missing",
            &[
                "bound to a TLS client certificate",
                "the client showed none",
            ],
            mint(alice().claim(
                "cnf",
                json!({ "x5t#S256": "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0" }),
            )),
        ),
        (
            "kind.other",
            &["idtyp 'device' is neither user nor app"],
            mint(alice().claim("idtyp", "device")),
        ),
        (
            "authz.condition",
            &["careful: acrs lacks c7, it has [c1]", "\"value\":\"c7\""],
            mint(TokenRequest::of("bob").claim("roles", json!(["Nats.Careful"]))),
        ),
        (
            "authz.window",
            &["yesterday (until 2026-01-0", "Change their valid"],
            mint(TokenRequest::of("bob").claim("roles", json!(["Nats.Past"]))),
        ),
    ]
}

/// Numbers depend on the moment; the words do not.
fn without_numbers(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_digit() { '#' } else { c })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_the_same_in_log_audit_and_explain_and_nothing_to_the_client() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let configuration = configuration(&idp, &nats);
    let proxy =
        tokio::task::spawn_blocking(move || Binary::start(&configuration, &[plant::SECRET]));
    let proxy = proxy.await.expect("it starts");
    lock_gateway(&proxy).await;
    for (n, (code, words, token)) in cases(&idp).into_iter().enumerate() {
        let from = Ipv4Addr::new(127, 88, 0, u8::try_from(n + 1).expect("few"));
        let text = format!("{}PING\r\n", connect_line(&token, ""));
        let heard = say(proxy.address(), from, None, text.as_bytes()).await;
        // Nothing else goes over the wire: neither code, nor sentence, nor decision.
        let right = if code == "key.throttled" {
            Heard::Silence
        } else {
            Heard::Refused
        };
        assert_eq!(heard, right, "{code}");

        let (logged, audited) = lines_of(&proxy, from).await;
        let message = logged["message"].as_str().expect("a message");
        let (_, sentence) = message.split_once(": ").expect("what: why");
        assert_eq!(logged["code"], code, "{message}");
        let lacking: Vec<_> = words
            .iter()
            .filter(|words| !sentence.contains(**words))
            .collect();
        assert!(lacking.is_empty(), "{code} lacks {lacking:?}: {sentence}");
        assert_eq!(audited["reason"], code);
        assert_eq!(audited["detail"], sentence);
        let decision = audited["decision"].as_str().expect("a decision");
        assert_eq!(logged["decision"], decision);
        assert!(!decision.is_empty());
        for segment in token.split('.').filter(|segment| segment.len() > 60) {
            assert!(!proxy.log().contains(segment), "{code}: a token in the log");
        }
        if !code.starts_with("key.") {
            let said = explain(&proxy, &token).await;
            let found = without_numbers(&said).contains(&without_numbers(&escaped(sentence)));
            assert!(found && said.contains(code), "{code}: {sentence}\n{said}");
        }
    }
}

/// Has an operator lock the gateway out, and waits until that is in force.
async fn lock_gateway(proxy: &Binary) {
    let gateway = "dddddddd-0000-4000-8000-000000000004";
    let mut command = natsentry(proxy.dir());
    command.args([
        "lock",
        "-c",
        "natsentry.yaml",
        "--oid",
        gateway,
        "--for",
        "2h",
    ]);
    let ran = run(&mut command, b"");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let audit = || std::fs::read_to_string(proxy.dir().join("audit.jsonl")).unwrap_or_default();
    for _ in 0..500 {
        if audit().contains("\"locked\"") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the lock is not taken:\n{}", proxy.log())
}

/// A sentence as JSON writes it.
fn escaped(sentence: &str) -> String {
    let text = Value::String(sentence.to_owned()).to_string();
    text.trim_matches('"').to_owned()
}

/// The log line and the audit line of the refusal of a client, which are written a moment after its end.
async fn lines_of(proxy: &Binary, from: Ipv4Addr) -> (Value, Value) {
    let of_client = |line: &Value, key: &str| {
        line[key]
            .as_str()
            .is_some_and(|client| client.starts_with(&format!("{from}:")))
    };
    for _ in 0..500 {
        let log = proxy.log();
        let mut log = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let logged = log.find(|line| of_client(line, "client") && line["code"].is_string());
        let audit = std::fs::read_to_string(proxy.dir().join("audit.jsonl")).unwrap_or_default();
        let mut audit = audit
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let audited = audit.find(|line| {
            of_client(line, "client")
                && (line["event"] == "refused" || line["event"] == "postponed")
        });
        if let (Some(logged), Some(audited)) = (logged, audited) {
            return (logged, audited);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("no refusal of {from} in log and audit:\n{}", proxy.log())
}

async fn explain(proxy: &Binary, token: &str) -> String {
    let mut command = natsentry(proxy.dir());
    command
        .args([
            "explain",
            "-c",
            "natsentry.yaml",
            "--token-stdin",
            "-o",
            "json",
        ])
        .envs([plant::SECRET]);
    let token = token.to_owned();
    let ran = tokio::task::spawn_blocking(move || run(&mut command, token.as_bytes()));
    let ran = ran.await.expect("no panic");
    ran.out + &ran.err
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_in_place_of_a_tenant_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "version: 1\nlisten: { client: 127.0.0.1:0 }\nentra:\n  tenants: [common]\n  audiences: [api://x]\n";
    std::fs::write(folder.path().join("natsentry.yaml"), text).expect("a file");
    let mut command = natsentry(folder.path());
    let ran = run(command.args(["check", "-c", "natsentry.yaml"]), b"");
    let said = ran.err + &ran.out;
    assert_ne!(ran.code, Some(0));
    assert!(
        said.contains("natsentry.yaml:4:13: entra.tenants") && said.contains("iss.alias"),
        "{said}"
    );
}
