//! What a session may do follows the policy and the calendar, also while it is being made.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use natsentry::clock;
use natsentry::demo::idp::DevIdp;
use natsentry::demo::servers::Version;
use serde_json::{Value, json};

use crate::support::binary::Binary;
use crate::support::gate::Gate;
use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::servers;
use crate::support::until::until;
use crate::support::wire::{PATIENCE, Wire, connect_line};

fn config(idp: &DevIdp, upstream: SocketAddr, publish: &str) -> Value {
    let directory = idp.directory();
    json!({
        "version": 1,
        "listen": { "client": "127.0.0.1:0" },
        "entra": {
            "cloud": { "authority": idp.base() }, "tenants": [directory.tid], "audiences": [directory.api],
        },
        "upstreams": { "plant": { "servers": [format!("nats://{upstream}")], "auth": "none" } },
        "roles": { "writer": {
            "bind": [{ "app_role": "Nats.Operator" }], "upstream": "plant", "publish": [publish],
            "limits": { "payload": if publish == "old" { "1KiB" } else { "16B" } },
        } },
        "audit": { "file": "audit.jsonl" },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reload_does_not_bring_into_force_is_said_with_its_line() {
    let idp = proxy::idp().await;
    let gate = Gate::start().await;
    let mut config = config(&idp, gate.address, "old");
    config["entra"]["cloud"]["graph"] = idp.base().into();
    let natsentry = Binary::start(&config, &[]);
    config["entra"]["graph"] = json!({ "credential": "managed-identity" });
    config["keys"] = json!({ "unknown_burst": 5 });
    config["roles"]["writer"]["publish"] = json!(["new"]);
    let text = serde_json::to_string_pretty(&config).expect("JSON");
    let line = |key: &str| {
        1 + text
            .lines()
            .position(|line| line.contains(key))
            .expect("there")
    };
    std::fs::write(natsentry.dir().join("natsentry.yaml"), &text).expect("a new file");
    let hangup = std::process::Command::new("kill")
        .args(["-HUP", &natsentry.pid().to_string()])
        .status();
    assert!(hangup.expect("kill").success());
    until("the reload", PATIENCE, || {
        natsentry.find("reloaded").is_some()
    })
    .await;
    let log = natsentry.log();
    let said = log
        .lines()
        .find(|line| line.contains("restart natsentry to bring into force"));
    let (graph, keys) = (line("\"graph\": {"), line("\"keys\""));
    let wanted = format!("entra.graph (natsentry.yaml:{graph}), keys (natsentry.yaml:{keys})");
    let said = said.unwrap_or_else(|| panic!("not said: {log}"));
    assert!(
        said.replace(&natsentry.dir().display().to_string(), "")
            .contains(&wanted.replace("(natsentry", "(/natsentry")),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changes_during_an_admission_holds_for_that_session_too() {
    let idp = proxy::idp().await;
    let gate = Gate::start().await;
    let natsentry = Binary::start(&config(&idp, gate.address, "old"), &[]);
    let mut wire = Wire::connect(natsentry.address()).await;
    wire.line().await.expect("INFO");
    let connect = connect_line(&proxy::token(&idp, "alice"), "");
    // What came with CONNECT is judged by the new policy, too.
    wire.send(&format!("{connect}PUB old 0\r\n\r\n")).await;
    until("the dial", PATIENCE, || {
        gate.arrived.load(Ordering::Acquire)
    })
    .await;
    let changed = config(&idp, gate.address, "new").to_string();
    std::fs::write(natsentry.dir().join("natsentry.yaml"), changed).expect("a new policy");
    let hangup = std::process::Command::new("kill")
        .args(["-HUP", &natsentry.pid().to_string()])
        .status();
    assert!(hangup.expect("kill").success());
    until("the reload", PATIENCE, || {
        natsentry.find("reloaded").is_some()
    })
    .await;
    gate.open.notify_one();
    let refused = ["-ERR 'Permissions Violation for Publish to \"old\"'"];
    assert_eq!(wire.until_pong().await, refused);
    wire.send("PUB old 0\r\n\r\nPUB new 0\r\n\r\n").await;
    assert_eq!(wire.until_pong().await, refused);
    wire.send("PUB new 17\r\n").await;
    let said = wire.rest().await;
    assert_eq!(
        said,
        ["-ERR 'Maximum Payload Violation'"],
        "limits change too"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_ends_by_the_calendar_ends_in_live_sessions() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let until = clock::now().plus(Duration::from_secs(4));
    let roles = format!(
        r#"
roles:
  short:
    bind: [{{ app_role: Nats.Operator }}]
    upstream: plant
    publish: [temporary]
    valid: {{ until: "{until}" }}
"#
    );
    let proxy = Proxy::start(&idp, &Setup::to(nats.port()).roles(&roles)).await;
    let (mut wire, _) = Wire::admitted(proxy.address, &proxy::token(&idp, "alice")).await;
    // The client is asked to come again, and is refused only then.
    let said = wire.rest().await;
    assert!(
        !said.iter().any(|line| line.starts_with("-ERR")),
        "{said:?}"
    );
    assert!(
        said.iter().any(|line| line.contains("\"ldm\":true")),
        "{said:?}"
    );
    assert!(clock::now() >= until);
    drop(proxy.stop().await);
}
