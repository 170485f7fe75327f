//! Each kind of lock, on live sessions and on those to come.

use natsentry::demo::idp::TokenRequest;
use natsentry::demo::servers::Version;
use serde_json::Value;

use crate::support::wire::Wire;
use crate::world::{CUT, REFUSED, World, rest};

const ALICE: &str = "aaaaaaaa-0000-4000-8000-000000000001";

fn claim(token: &str, name: &str) -> String {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).expect("a payload");
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload);
    let payload: Value = serde_json::from_slice(&payload.expect("base64url")).expect("JSON");
    payload[name].as_str().expect("a text").to_owned()
}

async fn is_cut(wire: &mut Wire) {
    let heard = rest(wire).await;
    assert_eq!(heard, [CUT]);
}

async fn lives(wire: &mut Wire) {
    wire.send("PUB a.x 1\r\nx\r\n").await;
    assert_eq!(wire.until_pong().await, Vec::<String>::new());
}

async fn each_selector(version: Version) {
    let world = World::start(version).await;
    let tid = world.idp.directory().tid.clone();
    let tokens = ["alice", "alice", "bob", "historian"].map(|who| world.token(who));
    let [alice, again, bob, historian] = &tokens;
    let azp = claim(alice, "azp");
    let uti = claim(alice, "uti");
    // What each selects of: alice, alice with another token, bob, an application.
    let cases: [(&[&str], [bool; 4]); 6] = [
        (&["--tid", &tid, "--oid", ALICE], [true, true, false, false]),
        (&["--azp", &azp], [true, true, true, false]),
        (
            &["--azp", "e7740b1c-5a44-41f5-a1a5-92f06cf3d8aa"],
            [false, false, false, true],
        ),
        (&["--uti", &uti], [true, false, false, false]),
        (&["--role", "reader"], [false, false, true, false]),
        (&["--all"], [true; 4]),
    ];
    for (whom, selected) in cases {
        let mut live = Vec::new();
        for token in &tokens {
            live.push(world.admitted(token).await);
        }
        let id = world
            .command(&[&["lock"], whom, &["--reason", "a test"]].concat())
            .await;
        for ((wire, token), selected) in live.iter_mut().zip(&tokens).zip(selected) {
            let heard = world.connect(token).await;
            if selected {
                is_cut(wire).await;
                assert_eq!(heard, [REFUSED], "{whom:?}");
            } else {
                lives(wire).await;
                assert_eq!(heard, ["PONG"], "{whom:?}");
            }
        }
        // By the words that made it, or by its id.
        let by_words = [&["unlock"], whom].concat();
        let by_id = ["unlock", &id];
        world
            .command(if selected[0] { &by_id } else { &by_words })
            .await;
        for token in [alice, again, bob, historian] {
            assert_eq!(world.connect(token).await, ["PONG"], "after {whom:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_selector_refuses_and_cuts_whom_it_names_before_2_15_1() {
    each_selector(Version::V2_15_1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_selector_refuses_and_cuts_whom_it_names_before_2_9_10() {
    each_selector(Version::V2_9_10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_from_before_are_refused_and_a_fresh_sign_in_is_admitted() {
    let world = World::start(Version::V2_15_1).await;
    let (before, idle) = (world.token("alice"), world.token("alice"));
    let mut live = world.admitted(&before).await;
    // An issuer that does not backdate: by its own word the token is of five minutes later.
    let now = natsentry::clock::now().as_secs();
    let late = world.mint(&TokenRequest::of("alice").claim("iat", now));
    let mut live_late = world.admitted(&late).await;
    world
        .command(&["lock", "--oid", ALICE, "--tokens-before", "now"])
        .await;
    is_cut(&mut live).await;
    // A token that was shown before is from before, whatever it says.
    is_cut(&mut live_late).await;
    for token in [&before, &idle, &late] {
        assert_eq!(world.connect(token).await, [REFUSED]);
    }
    let mut fresh = world.admitted(&world.token("alice")).await;
    lives(&mut fresh).await;
    lives(&mut world.admitted(&world.v1("alice")).await).await;
    // A new token of an old sign-in is none of a fresh one.
    let refreshed = TokenRequest::of("alice").claim("auth_time", now - 3600);
    assert_eq!(world.connect(&world.mint(&refreshed)).await, [REFUSED]);
    lives(&mut fresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_ends_by_itself_and_the_audit_knows_who_what_and_why() {
    let world = World::start(Version::V2_15_1).await;
    let token = world.token("alice");
    let id = world
        .command(&[
            "lock",
            "--oid",
            ALICE,
            "--for",
            "3s",
            "--reason",
            "laptop stolen",
        ])
        .await;
    assert_eq!(world.connect(&token).await, [REFUSED]);
    let unlocked = |line: &Value| line["event"] == "unlocked";
    for _ in 0..1000 {
        if world.audit().iter().any(unlocked) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(world.connect(&token).await, ["PONG"]);
    let audit = world.audit();
    let find = |event: &str| audit.iter().find(|line| line["event"] == event);
    let (locked, ended) = (find("locked").unwrap(), find("unlocked").unwrap());
    let by = locked["by"].as_str().unwrap();
    assert!(by.starts_with("olga@"), "{by}");
    for words in [ALICE, &id, "laptop stolen"] {
        let detail = locked["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{detail}");
    }
    assert_eq!(ended["by"], "time");
    let refused = find("refused").unwrap();
    assert_eq!(refused["reason"], "revoked");
    assert!(refused["decision"].is_string());
    let detail = refused["detail"].as_str().unwrap();
    assert!(
        detail.contains(&format!("natsentry unlock {id}")),
        "{detail}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_session_is_gone_at_the_server_and_counted() {
    let world = World::start(Version::V2_15_1).await;
    let mut alice = world.admitted(&world.token("alice")).await;
    alice.send("SUB a.> 1\r\n").await;
    assert!(alice.until_pong().await.is_empty());
    let mut direct = Wire::connect(world.nats.address()).await;
    direct.line().await.expect("INFO");
    direct
        .send("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nSUB r 1\r\n")
        .await;
    assert!(direct.until_pong().await.is_empty());
    world.command(&["lock", "--oid", ALICE]).await;
    is_cut(&mut alice).await;
    // Nobody listens any more: the server itself says so, as soon as it has seen the end of the connection.
    let mut gone = false;
    for _ in 0..500 {
        direct.send("PUB a.x r 0\r\n\r\n").await;
        let heard = direct.until_pong().await;
        if heard.iter().any(|line| line.starts_with("HMSG r 1")) {
            gone = true;
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(gone, "the subscription stays at the server");
    let admin = world.proxy.admin().expect("an admin interface");
    let (_, metrics) = crate::support::proxy::http_get(admin, "/metrics").await;
    for line in [
        "natsentry_locks{selects=\"identity\"} 1",
        "natsentry_locks{selects=\"everybody\"} 0",
        "natsentry_locks_failing 0",
        "natsentry_sessions_revoked_total 1",
        "natsentry_sessions_closed_total{blame=\"operator\",reason=\"revoked\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let (status, listed) = crate::support::proxy::http_get(admin, "/locks").await;
    assert!(status == 200 && listed.contains(ALICE), "{listed}");
    let audit = world.audit();
    let revoked = audit.iter().find(|line| line["event"] == "revoked");
    let revoked = revoked.expect("a line for the session");
    assert_eq!(revoked["oid"], ALICE);
    assert_eq!(revoked["reason"], "revoked");
    assert!(revoked["decision"].is_string() && revoked["session"].is_number());
}
