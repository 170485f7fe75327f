//! Ways round a lock that somebody might try.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use natsentry::demo::idp::{Form, TokenRequest};
use natsentry::demo::servers::Version;
use serde_json::{Value, json};

use crate::support::gate::Gate;
use crate::support::proxy;
use crate::support::servers;
use crate::support::until::until;
use crate::support::wire::{PATIENCE, Wire, connect_line};
use crate::world::{CUT, REFUSED, World, rest};

const ALICE: &str = "aaaaaaaa-0000-4000-8000-000000000001";

#[tokio::test(flavor = "multi_thread")]
async fn no_other_kind_of_token_brings_a_locked_identity_in() {
    let world = World::start(Version::V2_15_1).await;
    let alice = || TokenRequest::of("alice");
    let upper = ALICE.to_ascii_uppercase();
    let agent = "7c0de000-0000-4000-8000-000000000006";
    let requests = [
        ("v2", alice()),
        ("v1", alice().form(Form::V1)),
        ("without uti", alice().claim("uti", Value::Null)),
        ("another client", alice().claim("azp", agent)),
        (
            "an agent that acts for her",
            alice()
                .claim("azp", agent)
                .claim("xms_act_fct", "11")
                .claim("xms_par_app_azp", "7c0de000-0000-4000-8000-000000000005"),
        ),
        ("another subject", alice().claim("sub", "somebody-else")),
        ("another name", alice().claim("name", "Bob")),
        (
            "app-only",
            alice().claim("idtyp", "app").claim("scp", Value::Null),
        ),
        ("upper case", alice().claim("oid", upper.as_str())),
        ("spaces", alice().claim("oid", format!(" {ALICE}"))),
    ];
    // The tokens exist before the lock, and those that are good were good: the signatures of them are known by now.
    let tokens: Vec<(&str, String)> = requests
        .into_iter()
        .map(|(what, request)| (what, world.mint(&request)))
        .collect();
    let mut good = 0;
    for (_, token) in &tokens {
        good += usize::from(world.connect(token).await == ["PONG"]);
    }
    assert!(good >= 7, "{good} of them are good without a lock");
    world.command(&["lock", "--oid", ALICE]).await;
    for (what, token) in &tokens {
        assert_eq!(world.connect(token).await, [REFUSED], "{what}");
    }
    // The same app brings others in, until it is locked itself: then also by itself.
    let bob = TokenRequest::of("bob").claim("azp", agent);
    let bob = world.mint(&bob);
    assert_eq!(world.connect(&bob).await, ["PONG"]);
    let assistant = world.token("assistant");
    let before = world.connect(&assistant).await;
    assert_eq!(before, ["PONG"], "an application of its own");
    world
        .command(&["lock", "--azp", &agent.to_ascii_uppercase()])
        .await;
    for token in [&bob, &assistant] {
        assert_eq!(world.connect(token).await, [REFUSED]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_comes_during_an_admission_holds_for_that_session() {
    for whom in [&["--oid", ALICE][..], &["--role", "operator"], &["--all"]] {
        let gate = Gate::start().await;
        let address = format!("nats://{}", gate.address);
        let nats = servers::start(Version::V2_15_1, "");
        let world = World::with(proxy::idp().await, nats, |configuration| {
            configuration["upstreams"]["plant"]["servers"] = json!([address]);
        })
        .await;
        let mut wire = Wire::connect(world.proxy.address()).await;
        wire.line().await.expect("INFO");
        let connect = connect_line(&world.token("alice"), "");
        // What came with CONNECT must not get through either.
        let text = format!("{connect}PUB a.smuggled 0\r\n\r\nSUB a.> 1\r\nPING\r\n");
        wire.send(&text).await;
        until("the dial", 3 * PATIENCE, || {
            gate.arrived.load(Ordering::Acquire)
        })
        .await;
        world.command(&[&["lock"], whom].concat()).await;
        gate.open.notify_one();
        assert_eq!(rest(&mut wire).await, [CUT], "{whom:?}");
        let heard = gate.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let leaked = heard
            .iter()
            .any(|line| line.starts_with("PUB") || line.starts_with("SUB"));
        assert!(!leaked, "{whom:?}: {heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connect_does_not_get_round_a_lock() {
    let world = World::start(Version::V2_15_1).await;
    let (first, second) = (world.token("alice"), world.token("alice"));
    let uti = |token: &str| {
        use base64::Engine as _;
        let payload = token.split('.').nth(1).expect("a payload");
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload);
        let payload: Value = serde_json::from_slice(&payload.expect("base64url")).expect("JSON");
        payload["uti"].as_str().expect("a text").to_owned()
    };
    world.command(&["lock", "--uti", &uti(&second)]).await;
    let mut live = world.admitted(&first).await;
    live.send(&connect_line(&second, "")).await;
    live.send("PUB a.x 0\r\n\r\nPING\r\n").await;
    assert_eq!(rest(&mut live).await, [REFUSED]);
    // And a session that left the locked token behind is not held to it.
    let third = world.token("alice");
    let mut live = world.admitted(&first).await;
    live.send(&connect_line(&third, "")).await;
    assert!(live.until_pong().await.is_empty());
    world.command(&["lock", "--uti", &uti(&first)]).await;
    assert!(live.until_pong().await.is_empty());
    world.command(&["lock", "--uti", &uti(&third)]).await;
    assert_eq!(rest(&mut live).await, [CUT]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_a_reload_brings_is_locked_when_it_comes_and_a_reload_lifts_no_lock() {
    let world = World::start(Version::V2_15_1).await;
    let file = world.dir().join("natsentry.yaml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let mut configuration: Value = serde_json::from_str(&text).expect("JSON");
    let reloads = || {
        let audit = world.audit();
        audit
            .iter()
            .filter(|line| line["event"] == "policy_reloaded")
            .count()
    };
    let hang_up = || {
        let pid = world.proxy.pid().to_string();
        let status = std::process::Command::new("kill")
            .args(["-HUP", &pid])
            .status();
        assert!(status.expect("kill").success());
    };
    let mut live = world.admitted(&world.token("alice")).await;
    let mut bob = world.admitted(&world.token("bob")).await;
    world.command(&["lock", "--role", "telemetry"]).await;
    assert!(live.until_pong().await.is_empty());
    configuration["roles"]["telemetry"]["bind"] = json!([{ "app_role": "Nats.Operator" }]);
    std::fs::write(&file, configuration.to_string()).expect("a file");
    hang_up();
    assert_eq!(rest(&mut live).await, [CUT]);
    until("the reload", 3 * PATIENCE, || reloads() == 1).await;
    assert!(bob.until_pong().await.is_empty());
    hang_up();
    until("the reload", 3 * PATIENCE, || reloads() == 2).await;
    assert_eq!(world.connect(&world.token("alice")).await, [REFUSED]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_that_cannot_be_written_holds_up_no_lock() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, "");
    // It takes no byte: every line waits, and sessions wait for the queue.
    let world = World::with(idp, nats, |configuration| {
        configuration["audit"] = json!({ "file": "/dev/full", "queue": 16 });
    })
    .await;
    let mut alice = world.admitted(&world.token("alice")).await;
    let mut bob = world.admitted(&world.token("bob")).await;
    let entry = |n: usize| json!({ "id": n.to_string(), "uti": "nobody's", "at": "2026-11-01" });
    let more_than_fit: Vec<Value> = (0..200).map(entry).collect();
    let text = json!({ "version": 1, "locks": more_than_fit }).to_string();
    std::fs::write(world.dir().join("locks.json"), text).expect("a file");
    world.command(&["lock", "--uti", "nobody-else"]).await;
    world.command(&["lock", "--oid", ALICE]).await;
    assert_eq!(alice.answer().await.as_deref(), Some(CUT));
    assert!(bob.until_pong().await.is_empty());
    world.command(&["lock", "--all"]).await;
    assert_eq!(bob.answer().await.as_deref(), Some(CUT));
}
