//! The program with an admin interface at a known address, so that a command returns when its lock is in force.

use std::net::TcpListener;
use std::path::Path;

use natsentry::demo::idp::{DevIdp, Form, TokenRequest};
use natsentry::demo::servers::{NatsServer, Version};
use serde_json::{Value, json};

use crate::support::binary::Binary;
use crate::support::cli::{Ran, natsentry, run};
use crate::support::proxy;
use crate::support::servers;
use crate::support::wire::{Wire, connect_line};

/// What a refused client hears, and nothing else.
pub const REFUSED: &str = "-ERR 'Authorization Violation'";

/// What a client hears whose session is cut.
pub const CUT: &str = "-ERR 'User Authentication Revoked'";

pub struct World {
    pub idp: DevIdp,
    pub nats: NatsServer,
    pub proxy: Binary,
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    listener.local_addr().expect("an address").port()
}

/// The configuration, with roles by app role.
pub fn configuration(idp: &DevIdp, nats: &NatsServer) -> Value {
    let directory = idp.directory();
    let role = |bind: &str| {
        json!({
            "bind": [{ "app_role": bind }], "upstream": "plant",
            "publish": ["a.>"], "subscribe": ["a.>"], "inbox": "off",
        })
    };
    json!({
        "version": 1,
        "listen": { "client": "127.0.0.1:0" },
        "admin": { "listen": format!("127.0.0.1:{}", free_port()) },
        "entra": {
            "cloud": { "authority": idp.base() },
            "tenants": [directory.tid],
            "audiences": [directory.api, directory.app_id_uri],
            "v1_tokens": true,
        },
        "keys": { "cache": "keys" },
        "upstreams": { "plant": { "servers": [format!("nats://{}", nats.address())], "auth": "none" } },
        "roles": {
            "operator": role("Nats.Operator"),
            "reader": role("Nats.Reader"),
            "telemetry": role("Nats.Telemetry.Read"),
        },
        "audit": { "file": "audit.jsonl" },
    })
}

impl World {
    pub async fn start(version: Version) -> Self {
        let idp = proxy::idp().await;
        Self::with(idp, servers::start(version, ""), |_| {}).await
    }

    /// With a configuration that `change` changed.
    pub async fn with(idp: DevIdp, nats: NatsServer, change: impl FnOnce(&mut Value)) -> Self {
        let mut configuration = configuration(&idp, &nats);
        change(&mut configuration);
        let proxy = tokio::task::spawn_blocking(move || Binary::start(&configuration, &[]));
        let proxy = proxy.await.expect("it starts");
        Self { idp, nats, proxy }
    }

    pub fn dir(&self) -> &Path {
        self.proxy.dir()
    }

    pub fn token(&self, who: &str) -> String {
        proxy::token(&self.idp, who)
    }

    pub fn mint(&self, request: &TokenRequest) -> String {
        self.idp.mint(request).expect("a token")
    }

    pub fn v1(&self, who: &str) -> String {
        self.mint(&TokenRequest::of(who).form(Form::V1))
    }

    /// A session that serves.
    pub async fn admitted(&self, token: &str) -> Wire {
        Wire::admitted(self.proxy.address(), token).await.0
    }

    /// Everything that a client with this token hears after INFO.
    pub async fn connect(&self, token: &str) -> Vec<String> {
        connect(&self.proxy, token).await
    }

    /// Runs a command of the program on this configuration.
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        run_in(self.dir(), arguments).await
    }

    /// Runs `lock` or `unlock`, which has to go well, and returns when it is in force. The id of the lock.
    pub async fn command(&self, arguments: &[&str]) -> String {
        let ran = self.run(&[arguments, &["-o", "json"]].concat()).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}{}", ran.out, ran.err);
        let said: Value = serde_json::from_str(&ran.out).expect("JSON");
        assert_eq!(said["in_force"], true, "{}", ran.out);
        let list = said["locked"].as_array().or(said["unlocked"].as_array());
        list.expect("a list")[0]["id"].as_str().unwrap().to_owned()
    }

    pub fn audit(&self) -> Vec<Value> {
        audit(self.dir())
    }
}

pub fn audit(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("audit.jsonl")).unwrap_or_default();
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines.collect()
}

pub async fn run_in(dir: &Path, arguments: &[&str]) -> Ran {
    let mut command = natsentry(dir);
    command.args(arguments);
    command
        .env("NATSENTRY_CONFIG", "natsentry.yaml")
        .env("USER", "olga");
    command.env_remove("SUDO_USER");
    let ran = tokio::task::spawn_blocking(move || run(&mut command, b""));
    ran.await.expect("no panic")
}

/// Everything that a client with this token hears after INFO, until the first PONG or the end.
pub async fn connect(proxy: &Binary, token: &str) -> Vec<String> {
    let mut wire = Wire::connect(proxy.address()).await;
    wire.line().await.expect("INFO");
    wire.send(&connect_line(token, "")).await;
    wire.send("PING\r\n").await;
    let mut heard = Vec::new();
    while let Some(line) = wire.answer().await {
        let last = line == "PONG";
        heard.push(line);
        if last {
            break;
        }
    }
    heard
}

/// Everything until the end of the stream, INFO left out.
pub async fn rest(wire: &mut Wire) -> Vec<String> {
    let mut lines = wire.rest().await;
    lines.retain(|line| !line.starts_with("INFO "));
    lines
}
