//! natsentry itself, in this process, between a development identity provider and a real nats-server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use natsentry::clock;
use natsentry::config::Config;
use natsentry::demo::idp::{DevIdp, IdpConfig, TokenRequest};
use natsentry::server::Server;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A running natsentry. It drains when it is dropped or stopped.
pub struct Proxy {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where metrics and health are.
    pub admin: SocketAddr,
    /// Holds the configuration, secrets and the audit file.
    pub folder: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<anyhow_lite::Result>>,
}

/// The error of the server's run, as text, so that tests need no error crate.
mod anyhow_lite {
    pub(super) type Result = std::result::Result<(), String>;
}

/// What a proxy is started with.
pub struct Setup {
    /// Servers of the one upstream, `nats://...`.
    pub servers: Vec<String>,
    /// `auth:` of the upstream, in YAML flow form.
    pub auth: String,
    /// More lines for the upstream, indented by four.
    pub upstream: String,
    /// The `roles:` section with its key.
    pub roles: String,
    /// Whole top-level sections to append (`limits:`, `tests:`).
    pub more: String,
    /// More lines below `listen:`, indented by two.
    pub listen: String,
    /// More lines below `entra:`, indented by two.
    pub entra: String,
    /// Port for clients; 0 takes a free one.
    pub port: u16,
}

impl Setup {
    /// An upstream at `port` with the static user of [`STATIC_USER`].
    pub fn to(port: u16) -> Self {
        Self {
            servers: vec![format!("nats://127.0.0.1:{port}")],
            auth: "{ user: file:user, password: file:password }".to_owned(),
            upstream: String::new(),
            roles: EVERYTHING.to_owned(),
            more: String::new(),
            listen: String::new(),
            entra: String::new(),
            port: 0,
        }
    }

    /// The same with other roles.
    #[must_use]
    pub fn roles(mut self, roles: &str) -> Self {
        self.roles = roles.to_owned();
        self
    }

    /// The same with more sections.
    #[must_use]
    pub fn more(mut self, more: &str) -> Self {
        self.more.push_str(more);
        self
    }

    /// The same with more below `entra:`.
    #[must_use]
    pub fn entra(mut self, entra: &str) -> Self {
        self.entra.push_str(entra);
        self
    }

    /// The same with more below `listen:`.
    #[must_use]
    pub fn listen(mut self, listen: &str) -> Self {
        self.listen.push_str(listen);
        self
    }
}

/// `authorization` of a nats-server that knows one user with a shared password.
pub const STATIC_USER: &str =
    "authorization { user: svc, password: \"correct horse battery\", timeout: 2 }\n";

/// One role for everybody with an app role, which may do everything.
pub const EVERYTHING: &str = r#"
roles:
  everything:
    bind:
      - { app_role: Nats.Operator }
      - { app_role: Nats.Reader }
      - { app_role: Nats.Telemetry.Read }
      - { app_role: Nats.Telemetry.Write }
    upstream: plant
    publish: [">"]
    subscribe: [">"]
    inbox: off
    broad: true
"#;

/// A development identity provider with its usual people.
pub async fn idp() -> DevIdp {
    DevIdp::start(IdpConfig::default())
        .await
        .expect("the development identity provider starts")
}

/// An ordinary token of somebody.
pub fn token(idp: &DevIdp, who: &str) -> String {
    idp.mint(&TokenRequest::of(who))
        .expect("the directory knows them")
}

/// A token that ends soon.
pub fn short_token(idp: &DevIdp, who: &str, lifetime: Duration) -> String {
    idp.mint(&TokenRequest::of(who).lifetime(lifetime))
        .expect("the directory knows them")
}

impl Proxy {
    /// Starts one that trusts `idp`.
    pub async fn start(idp: &DevIdp, setup: &Setup) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::start_in(folder, idp, setup).await
    }

    /// The same, with files in `folder` that the configuration may name.
    pub async fn start_in(folder: tempfile::TempDir, idp: &DevIdp, setup: &Setup) -> Self {
        let text = config_text(idp, setup);
        Self::start_with(folder, &text).await
    }

    /// With this configuration, which names its files as [`Self::start`] does.
    pub async fn start_with(folder: tempfile::TempDir, text: &str) -> Self {
        for (name, content) in [("user", "svc"), ("password", "correct horse battery")] {
            std::fs::write(folder.path().join(name), content).expect("a secret file");
        }
        let path = folder.path().join("natsentry.yaml");
        std::fs::write(&path, text).expect("a configuration file");
        let config = Config::parse(text, "natsentry.yaml", folder.path(), clock::now())
            .unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let server = Server::open(config, Some(path))
            .await
            .expect("the server starts");
        let address = server.client_address().expect("a client address");
        let admin = server.admin_address().expect("an admin address");
        let (stop, stopped) = oneshot::channel::<()>();
        let run = server.run(async move {
            // A dropped sender means the same as a word through it.
            let _ = stopped.await;
        });
        let task = tokio::spawn(async move { run.await.map_err(|error| format!("{error:#}")) });
        Self {
            address,
            admin,
            folder,
            stop: Some(stop),
            task: Some(task),
        }
    }

    /// The audit file.
    pub fn audit_file(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    /// The audit lines so far.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.audit_file()).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Begins the drain without waiting for its end.
    pub fn begin_drain(&mut self) {
        drop(self.stop.take());
    }

    /// Drains and waits for the end. Returns its folder.
    pub async fn stop(mut self) -> tempfile::TempDir {
        self.begin_drain();
        if let Some(task) = self.task.take() {
            task.await
                .expect("the server does not panic")
                .expect("the server ends well");
        }
        // The writer of the audit lets go of its file a moment after its last line.
        let audit = std::fs::File::open(self.audit_file()).expect("the audit file");
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while audit.try_lock().is_err() {
            assert!(
                std::time::Instant::now() < deadline,
                "the audit file stays locked"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.folder
    }

    /// GET on the admin interface: status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        http_get(self.admin, path).await
    }

    /// One metric's value, summed over its labels that contain `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        text.lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
                    && line.contains(labels)
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

/// SIGHUP to this very process, in which the proxies run.
pub fn hang_up() {
    let status = std::process::Command::new("kill")
        .args(["-HUP", &std::process::id().to_string()])
        .status()
        .expect("kill");
    assert!(status.success());
}

/// A GET over a plain connection.
pub async fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut tcp = tokio::net::TcpStream::connect(address)
        .await
        .expect("the admin interface");
    let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.expect("an answer");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or(0);
    let body = text
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default();
    (status, body)
}

/// The configuration of a proxy that trusts `idp`.
pub fn config_text(idp: &DevIdp, setup: &Setup) -> String {
    let directory = idp.directory();
    let servers = setup.servers.join(", ");
    let v1 = match setup.entra.contains("v1_tokens") {
        true => "",
        false => "  v1_tokens: true\n",
    };
    format!(
        r#"version: 1
listen:
  client: 127.0.0.1:{port}
{listen}admin: {{ listen: 127.0.0.1:0 }}
entra:
  cloud: {{ authority: "{base}", graph: "{base}" }}
  tenants: [{tid}]
  audiences: [{api}, "{uri}"]
{v1}{entra}keys: {{ cache: keys }}
upstreams:
  plant:
    servers: [{servers}]
    auth: {auth}
{upstream}{roles}
audit: {{ file: audit.jsonl }}
{more}"#,
        port = setup.port,
        listen = setup.listen,
        v1 = v1,
        entra = setup.entra,
        base = idp.base(),
        tid = directory.tid,
        api = directory.api,
        uri = directory.app_id_uri,
        auth = setup.auth,
        upstream = setup.upstream,
        roles = setup.roles,
        more = setup.more,
    )
}
