//! What the demonstration plays on: a real nats-server with one account, the development issuer and a stranger's, and
//! the proxy in front, all on loopback and in one temporary folder.
//!
//! Owns: starting them and ending them. Must never: leave a process or a file behind.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

use super::idp::{DevIdp, Directory, IdpConfig};
use super::provision::{ProvisionError, TempDir};
use super::servers::{self, Found, NatsServer};
use crate::config::Config;
use crate::server::Server;

/// The one account of the server, as it stands in [`CONFIG`].
pub(super) const STATIC_USER: &str = "legacy";

/// Longest wait for anything that is not the network's or a person's affair.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two looks at something that is not there yet.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long the proxy can prove itself to the issuer; a cluster would renew the proof.
const WORKLOAD_LIFE: Duration = Duration::from_secs(7 * 86_400);

/// The configuration, with places for addresses.
const CONFIG: &str = include_str!("natsentry.yaml");

/// How often another free port is looked for when somebody takes the one that was found.
const PORT_ATTEMPTS: usize = 5;

/// Everything that was started.
pub(super) struct Stage {
    /// The issuer that the configuration trusts.
    pub(super) idp: DevIdp,
    /// An issuer that it does not trust.
    pub(super) stranger: DevIdp,
    /// The server behind the proxy.
    pub(super) nats: NatsServer,
    /// Where that server came from.
    pub(super) found: Found,
    /// Password of [`STATIC_USER`].
    pub(super) password: String,
    /// The configuration that the proxy runs.
    pub(super) config: Config,
    /// Where clients connect.
    pub(super) client: SocketAddr,
    /// Where metrics and health are.
    pub(super) admin: SocketAddr,
    /// The folder of configuration, log and audit.
    pub(super) folder: TempDir,
    http: reqwest::Client,
    stop: CancellationToken,
    served: JoinHandle<anyhow::Result<()>>,
}

impl Stage {
    /// Starts everything and returns when the proxy is ready for clients.
    ///
    /// # Errors
    /// When a part does not start; the text says which and what to do.
    pub(super) async fn set(nats_server: Option<&Path>, port: u16) -> anyhow::Result<Self> {
        let folder = TempDir::create("demo")?;
        begin_log(&folder.path().join("natsentry.log"))?;
        let password = new_password()?;
        let (started, idp, stranger) = tokio::join!(
            start_nats(nats_server, &password),
            DevIdp::start(IdpConfig::default()),
            DevIdp::start(IdpConfig {
                directory: strangers(),
                ..IdpConfig::default()
            }),
        );
        let (found, nats) = started?;
        let (idp, stranger) = (idp?, stranger?);
        write_private(&folder.path().join("nats-password"), &password)?;
        // What a cluster would project into the pod of natsentry.
        let (subject, audience) = (
            "system:serviceaccount:nats:natsentry",
            "api://AzureADTokenExchange",
        );
        idp.trust_workload("natsentry", subject, audience);
        let workload = idp.workload_token(subject, audience, WORKLOAD_LIFE)?;
        write_private(&folder.path().join("workload-token"), &workload)?;
        let (config, server) = build(&folder, &idp, &nats, port)?;
        let client = server.client_address()?;
        let admin = server
            .admin_address()
            .context("the configuration has an admin interface")?;
        // Only plain HTTP on loopback: neither proxies nor the machine's CAs have a part in it.
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(PATIENCE);
        let http = http.build()?;
        let stop = CancellationToken::new();
        let served = TaskTracker::new().spawn(server.run(stop.clone().cancelled_owned()));
        let stage = Self {
            idp,
            stranger,
            nats,
            found,
            password,
            config,
            client,
            admin,
            folder,
            http,
            stop,
            served,
        };
        stage.until_ready().await?;
        Ok(stage)
    }

    async fn until_ready(&self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.get("/readyz").await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > until => {
                    return Err(error.context(format!("natsentry is not ready:\n{}", self.log())));
                }
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// What the admin interface answers.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<String> {
        self.fetch(self.admin, path).await
    }

    /// What nats-server's monitoring answers.
    pub(super) async fn get_from_nats(&self, path: &str) -> anyhow::Result<String> {
        self.fetch((Ipv4Addr::LOCALHOST, self.nats.monitor_port()).into(), path)
            .await
    }

    async fn fetch(&self, address: SocketAddr, path: &str) -> anyhow::Result<String> {
        let url = format!("http://{address}{path}");
        let response = self.http.get(&url).send().await?;
        let status = response.status();
        let body = response.text().await?;
        if !status.is_success() {
            bail!("{url} answers {status}: {}", body.trim());
        }
        Ok(body)
    }

    /// The configuration file.
    pub(super) fn config_file(&self) -> PathBuf {
        self.folder.path().join("natsentry.yaml")
    }

    /// The audit file.
    pub(super) fn audit_file(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    /// What the proxy has logged so far.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("natsentry.log")).unwrap_or_default()
    }

    /// Ends it all, sessions first. Nothing is left behind.
    ///
    /// # Errors
    /// When the proxy did not end well.
    pub(super) async fn clear(self) -> anyhow::Result<()> {
        self.stop.cancel();
        let ended = self.served.await;
        self.idp.stop().await;
        self.stranger.stop().await;
        ended.map_err(|error| anyhow!("the proxy did not end well: {error}"))?
    }
}

/// Finds and starts nats-server with one account, JetStream, and a log of every protocol line.
async fn start_nats(program: Option<&Path>, password: &str) -> anyhow::Result<(Found, NatsServer)> {
    let program = program.map(Path::to_path_buf);
    let config = format!(
        "authorization {{ user: \"{STATIC_USER}\", password: \"{password}\" }}\n\
         jetstream: {{}}\ntrace: true\n"
    );
    let starting = tokio::task::spawn_blocking(move || {
        let found = match program {
            Some(program) => servers::named(&program)?,
            None => servers::for_demo()?,
        };
        let nats = NatsServer::start(&found.binary, &config)?;
        anyhow::Ok((found, nats))
    });
    starting.await?
}

/// Writes the configuration with free ports, reads it as `natsentry run` would, and binds the listeners.
fn build(
    folder: &TempDir,
    idp: &DevIdp,
    nats: &NatsServer,
    port: u16,
) -> anyhow::Result<(Config, Server)> {
    let file = folder.path().join("natsentry.yaml");
    let mut wanted = port;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let client = free_address(wanted)?;
        let admin = free_address(0)?;
        let text = CONFIG
            .replace("@CLIENT@", &client.to_string())
            .replace("@ADMIN@", &admin.to_string())
            .replace("@AUTHORITY@", idp.base())
            .replace("@UPSTREAM@", &nats.url());
        fs::write(&file, text).map_err(ProvisionError::file("write", &file))?;
        let config = Config::load(&file).map_err(|mistakes| anyhow!("{mistakes}"))?;
        match Server::build(config.clone(), Some(file.clone())) {
            Ok(server) => return Ok((config, server)),
            // Somebody took a port between our look and the server's.
            Err(error) if is_taken(&error) && attempts < PORT_ATTEMPTS => wanted = 0,
            Err(error) => return Err(error),
        }
    }
}

fn is_taken(error: &anyhow::Error) -> bool {
    let kind = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    kind == Some(io::ErrorKind::AddrInUse)
}

/// The port on loopback, or a free one where that is taken.
fn free_address(port: u16) -> io::Result<SocketAddr> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = match bind(port) {
        Err(error) if port != 0 && error.kind() == io::ErrorKind::AddrInUse => bind(0)?,
        bound => bound?,
    };
    listener.local_addr()
}

/// The directory of a company that nobody here has to do with.
fn strangers() -> Directory {
    Directory {
        tid: "99999999-2222-3333-4444-555555555555".into(),
        ..Directory::default()
    }
}

fn new_password() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow!("this machine gives no randomness"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn write_private(file: &Path, text: &str) -> Result<(), ProvisionError> {
    use io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let opened = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    opened
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .map_err(ProvisionError::file("write", file))
}

/// Sends the log of this process to a file, so that the story stays readable.
fn begin_log(file: &Path) -> anyhow::Result<()> {
    let opened = fs::File::create(file).map_err(ProvisionError::file("create", file))?;
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("info"))
        .with_ansi(false)
        .with_writer(Mutex::new(opened))
        .try_init()
        .map_err(|error| anyhow!("the log cannot begin: {error}"))
}
