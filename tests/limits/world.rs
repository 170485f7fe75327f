//! The stage of an attack: natsentry as its users run it, between a real nats-server and a token issuer.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use natsentry::demo::idp::DevIdp;
use natsentry::demo::servers::{NatsServer, Version};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

use crate::support::binary::Binary;
use crate::support::proxy::{self, STATIC_USER, http_get};
use crate::support::servers;
use crate::talk::{PATIENCE, Talk, dial};

const PASSWORD: &str = "correct horse battery";

/// Everything that an attack needs.
pub(crate) struct World {
    pub(crate) proxy: Binary,
    /// A second server, for sessions of the role `other`.
    pub(crate) other: NatsServer,
    _plant: NatsServer,
    idp: DevIdp,
    ca: Option<String>,
    /// One attack at a time: they measure.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::const_new(());

impl World {
    /// With these keys of `limits`.
    pub(crate) async fn start(limits: &Value) -> Self {
        Self::build(limits, None).await
    }

    /// The same, over TLS.
    pub(crate) async fn start_tls(limits: &Value) -> Self {
        let certified =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("a file");
            format!("file:{}", path.display())
        };
        let pem = certified.cert.pem();
        let cert = write("server.pem", &pem);
        let key = write("server.key", &certified.signing_key.serialize_pem());
        Self::build(limits, Some((json!({"cert": cert, "key": key}), pem))).await
    }

    async fn build(limits: &Value, tls: Option<(Value, String)>) -> Self {
        let turn = TURN.lock().await;
        let plant = servers::start(Version::V2_15_1, STATIC_USER);
        let other = servers::start(Version::V2_15_1, STATIC_USER);
        let idp = proxy::idp().await;
        let directory = idp.directory();
        let issuer = json!({
            "issuer": idp.base(),
            "profile": "entra",
            "tenant": directory.tid,
            "audiences": [directory.api, directory.app_id_uri],
        });
        let upstream = |server: &NatsServer| {
            json!({
                "servers": [server.url()],
                "auth": { "user": "svc", "password": "env:PLANT_PASSWORD" },
            })
        };
        let role = |upstream: &str| {
            json!({
                "bind": [{ "app_role": "Nats.Operator" }],
                "upstream": upstream,
                "publish": [">"],
                "subscribe": [">"],
                "deny": { "publish": ["secret.>"] },
                "inbox": "off",
                "broad": true,
            })
        };
        let mut config = json!({
            "version": 1,
            "listen": { "client": "127.0.0.1:0" },
            "admin": { "listen": "127.0.0.1:0" },
            "issuers": [issuer],
            "upstreams": { "plant": upstream(&plant), "other": upstream(&other) },
            "roles": { "worker": role("plant"), "other": role("other") },
            "audit": { "file": "audit.jsonl" },
            "limits": limits,
        });
        if let Some((tls, _)) = &tls {
            config["listen"]["tls"] = tls.clone();
        }
        let environment = [("PLANT_PASSWORD", PASSWORD)];
        let proxy = Binary::start_logging(
            "warn,natsentry::server::process=info",
            &config,
            &environment,
        );
        Self {
            proxy,
            other,
            _plant: plant,
            idp,
            ca: tls.map(|(_, pem)| pem),
            _turn: turn,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// CONNECT of alice, in the role that is asked for.
    pub(crate) fn connect_line(&self, role: &str) -> String {
        let token = proxy::token(&self.idp, "alice");
        format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"protocol\":1,\"headers\":true,\"user\":{role:?},\"auth_token\":{token:?}}}\r\n"
        )
    }

    /// A session of alice.
    pub(crate) async fn enter(&self, role: &str) -> Result<Talk, String> {
        let tcp = dial(self.address(), 1, false)
            .await
            .map_err(|error| error.to_string())?;
        let talk = match &self.ca {
            Some(ca) => Talk::tls(tcp, ca).await,
            None => Talk::over(tcp),
        };
        talk.admitted(&self.connect_line(role)).await
    }

    /// A figure of the process in /proc/PID/status, in bytes.
    pub(crate) fn memory(pid: u32, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let figure = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = figure.and_then(|rest| {
            rest.trim_matches([':', ' ', '\t', 'k', 'B'])
                .parse::<u64>()
                .ok()
        });
        kib.unwrap_or(0) * 1024
    }

    /// One metric, summed over its labels that contain `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> u64 {
        let (_, text) = http_get(self.proxy.admin().expect("an admin interface"), "/metrics").await;
        let values = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
                && line.contains(labels)
        });
        values
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// Sessions in the table of the admin interface.
    async fn listed(&self) -> u64 {
        let (_, text) =
            http_get(self.proxy.admin().expect("an admin interface"), "/sessions").await;
        let list: Value = serde_json::from_str(&text).expect("JSON");
        list["total"].as_u64().expect("a total")
    }

    /// Waits until a metric is as it should be.
    pub(crate) async fn until(&self, name: &str, labels: &str, holds: impl Fn(u64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.metric(name, labels).await;
            if holds(value) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{name}{{{labels}}} stays {value}\n{}",
                self.proxy.log()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until `sessions` is what is left: by the gauges, by the table, and by the tasks of connections.
    pub(crate) async fn counts(&self, sessions: u64) {
        self.until("natsentry_connections", "", |count| count == sessions)
            .await;
        self.until("natsentry_sessions", "", |count| count == sessions)
            .await;
        self.until("natsentry_handshakes_in_progress", "", |count| count == 0)
            .await;
        assert_eq!(self.listed().await, sessions, "sessions in the table");
        let log = self.proxy.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}
