//! Looks like nats-server to whoever starts it, and has natsentry between its clients and a real one:
//!
//! ```text
//! client -> front -> natsentry, as it ships -> back -> nats-server on a private port
//!            |  takes the credentials out of CONNECT,         ^
//!            |  puts a development token in                   |
//!            \-------- credentials, server's connection ------/
//! ```
//!
//! The server's connection is opened when the client's is, so that the client signs the nonce of the server it reaches.
//! natsentry announces each client to `back` with the PROXY protocol, which is how the two ends find each other.

mod arguments;
mod back;
mod front;
pub mod inside;
mod lines;
mod nats_config;
mod ports;
mod process;

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use natsentry::demo::provision::{TempDir, command};
use natsentry::demo::servers::{Version, find_or_install};
use natsentry::tls::{Pem, ServerTls};
use serde_json::{Map, Value};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use arguments::Arguments;
use lines::{Lines, json_of};
use nats_config::Taken;
use process::{Real, Signals};

/// The name under which the stand-in is called.
pub const NAME: &str = "nats-server";

/// Names the real server's executable; without it, the newest that the tests know.
pub const SERVER_VARIABLE: &str = "NATSENTRY_SUITE_SERVER";

/// The fields of CONNECT that say who the client is.
const CREDENTIALS: [&str; 6] = ["user", "pass", "auth_token", "nkey", "jwt", "sig"];

/// Where nats-server listens unless it is told.
const ANYWHERE: &str = "0.0.0.0";

/// How long clients may take to leave when the server has ended.
const LEAVE: Duration = Duration::from_secs(1);

/// How long natsentry may take to have seen the server.
const READY: Duration = Duration::from_secs(20);

/// What both ends need.
struct Shared {
    server: SocketAddr,
    natsentry: SocketAddr,
    token: String,
    host: String,
    port: u16,
    tls: Option<FrontTls>,
    waiting: Mutex<HashMap<u16, Waiting>>,
    live: TaskTracker,
}

struct FrontTls {
    server: ServerTls,
    verifies: bool,
    /// Clients may stay in clear.
    optional: bool,
    /// How long a client may take to begin with TLS before INFO is sent: none at all, or for ever (`Duration::MAX`).
    first_wait: Option<Duration>,
}

/// A server's connection that waits for natsentry to come for it.
struct Waiting {
    server: TcpStream,
    info: Vec<u8>,
    lines: Lines,
    credentials: Map<String, Value>,
    refused: oneshot::Sender<Refused>,
}

/// The server said no to the client's credentials.
struct Refused {
    said: Vec<u8>,
    /// Dropped when the client was told.
    _told: oneshot::Sender<()>,
}

/// Takes an entry back that nobody came for.
struct Place<'a>(&'a Shared, u16);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.take(self.1);
    }
}

impl Shared {
    /// Keeps it for the client whom natsentry sees at `port`.
    fn put(&self, port: u16, waiting: Waiting) -> Place<'_> {
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(port, waiting);
        Place(self, port)
    }

    fn take(&self, port: u16) -> Option<Waiting> {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&port)
    }
}

/// Runs until the real server ends.
pub fn run(words: &[String]) -> ExitCode {
    let arguments = arguments::read(words);
    let binary = match binary() {
        Ok(binary) => binary,
        Err(error) => return fatal(&error),
    };
    if arguments.answered_by_the_server {
        let status = command(binary).args(words).status();
        return status.map_or(ExitCode::FAILURE, |status| {
            if status.success() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        match stand_in(&binary, arguments).await {
            Ok(code) => code,
            Err(error) => fatal(&error),
        }
    })
}

fn fatal(error: &str) -> ExitCode {
    eprintln!("[FTL] stand-in for nats-server: {error}");
    ExitCode::FAILURE
}

fn binary() -> Result<PathBuf, String> {
    match std::env::var_os(SERVER_VARIABLE) {
        Some(named) => Ok(PathBuf::from(named)),
        None => find_or_install(Version::LATEST).map_err(|error| error.to_string()),
    }
}

async fn stand_in(binary: &Path, arguments: Arguments) -> Result<ExitCode, String> {
    let folder = TempDir::create("stand-in").map_err(|error| error.to_string())?;
    let folder_path = folder.path().to_path_buf();
    let rewritten = folder.path().join("server.conf");
    let Arguments {
        said,
        config,
        mut rest,
        ..
    } = arguments;
    let taken = match &config {
        Some(file) => said.or(rewrite(file, &rewritten)?),
        None => said,
    };
    if config.is_some() {
        rest.extend(["-c".to_owned(), rewritten.display().to_string()]);
    }
    let private = ["-p", "-1", "-a", "127.0.0.1", "--ports_file_dir"];
    rest.extend(private.map(str::to_owned));
    rest.push(folder_path.display().to_string());
    let signals = Signals::listen().map_err(text)?;
    // Before the real server, which looks ready to some as soon as its monitoring port answers.
    let listener = listen(&taken).await?;
    let started = Real::start(binary, &rest, folder, taken.log_file.as_deref());
    let (real, log) = started.map_err(|error| format!("{}: {error}", binary.display()))?;
    let Ok(server) = log.listening.await else {
        // Its own words about why are in the log.
        return Ok(real.end(false));
    };
    let shared = match open(server, listener, &taken).await {
        Ok(shared) => shared,
        Err(error) => {
            real.end(true);
            return Err(error);
        }
    };
    write_files(&taken, &real, &shared).await?;
    log.ours
        .send(format!("{}:{}", shared.host, shared.port))
        .ok();
    let reload = || {
        if let Some(file) = &config {
            rewrite(file, &rewritten).ok();
        }
    };
    real.until_over(signals, log.over, reload).await;
    shared.live.close();
    // Whoever does not leave is cut by our end.
    let _ = timeout(LEAVE, shared.live.wait()).await;
    remove_files(&taken);
    Ok(real.end(false))
}

/// Writes the configuration for the real server, and says what was taken out of it.
fn rewrite(file: &Path, into: &Path) -> Result<Taken, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let folder = |path: &Path| path.parent().map(Path::to_path_buf).unwrap_or_default();
    let rewritten = nats_config::rewrite(&text, &folder(file), &folder(into));
    fs::write(into, rewritten.text).map_err(|error| error.to_string())?;
    Ok(rewritten.taken)
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

/// As Go's `net.JoinHostPort` writes it.
fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

async fn listen(taken: &Taken) -> Result<TcpListener, String> {
    let host = taken.host.as_deref().unwrap_or(ANYWHERE);
    let port = match taken.port.as_deref().unwrap_or("4222") {
        "-1" => 0,
        port => port.parse().map_err(|_| format!("port {port}"))?,
    };
    // Go's `net.Listen` takes an unspecified address for every address of either family.
    let listener = match host {
        ANYWHERE => match TcpListener::bind(("::", port)).await {
            Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
                TcpListener::bind((host, port)).await
            }
            bound => bound,
        },
        _ => TcpListener::bind((host, port)).await,
    };
    listener.map_err(|error| format!("{host}:{port}: {error}"))
}

/// Starts natsentry and both ends.
async fn open(
    server: SocketAddr,
    listener: TcpListener,
    taken: &Taken,
) -> Result<Arc<Shared>, String> {
    let back_listener = TcpListener::bind("127.0.0.1:0").await.map_err(text)?;
    let inside = inside::start(back_listener.local_addr().map_err(text)?).await?;
    let shared = Arc::new(Shared {
        server,
        natsentry: inside.address,
        token: inside.token.clone(),
        host: taken.host.clone().unwrap_or_else(|| ANYWHERE.to_owned()),
        port: listener.local_addr().map_err(text)?.port(),
        tls: front_tls(&taken.tls)?,
        waiting: Mutex::default(),
        live: TaskTracker::new(),
    });
    tokio::spawn(back::listen(Arc::clone(&shared), back_listener));
    let ready = timeout(READY, until_seen(server, inside.address)).await;
    ready
        .map_err(|_| "natsentry does not see the server".to_owned())?
        .map_err(text)?;
    let serving = Arc::clone(&shared);
    tokio::spawn(async move {
        front::listen(serving, listener).await;
        drop(inside);
    });
    Ok(shared)
}

/// Waits until natsentry greets as that server.
async fn until_seen(server: SocketAddr, natsentry: SocketAddr) -> std::io::Result<()> {
    let wanted = server_id(server).await?;
    while server_id(natsentry).await? != wanted {
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn server_id(address: SocketAddr) -> std::io::Result<Option<Value>> {
    let mut tcp = TcpStream::connect(address).await?;
    let info = Lines::default().next(&mut tcp).await?;
    Ok(json_of(&info).and_then(|info| info.get("server_id").cloned()))
}

fn front_tls(tls: &nats_config::Tls) -> Result<Option<FrontTls>, String> {
    let (true, Some(cert), Some(key)) = (tls.on, &tls.cert, &tls.key) else {
        return Ok(None);
    };
    natsentry::tls::install_provider();
    let pem = |file: &String| {
        let bytes = fs::read(file).map_err(|error| format!("{file}: {error}"))?;
        Ok::<_, String>(Pem::new(file.as_str(), bytes))
    };
    let ca = tls
        .ca
        .as_ref()
        .filter(|_| tls.verify)
        .map(pem)
        .transpose()?;
    let server = ServerTls::new(&pem(cert)?, &pem(key)?, ca.as_ref());
    let first_wait = match tls.first.as_deref() {
        None | Some("false") => None,
        Some("true") => Some(Duration::MAX),
        Some(_) => Some(Duration::from_millis(50)),
    };
    Ok(Some(FrontTls {
        server: server.map_err(|error| error.to_string())?,
        verifies: tls.verify,
        optional: tls.optional,
        first_wait,
    }))
}

async fn write_files(taken: &Taken, real: &Real, shared: &Shared) -> Result<(), String> {
    if let Some(file) = &taken.pid_file {
        // Without a line end, as `server.go:logPid` does.
        fs::write(file, std::process::id().to_string())
            .map_err(|error| format!("{file}: {error}"))?;
    }
    if let Some(folder) = &taken.ports_file_dir {
        ports::write(Path::new(folder), real, &shared.host, shared.port).await?;
    }
    Ok(())
}

fn remove_files(taken: &Taken) {
    if let Some(folder) = &taken.ports_file_dir {
        fs::remove_file(ports::file(Path::new(folder))).ok();
    }
    if let Some(file) = &taken.pid_file {
        fs::remove_file(file).ok();
    }
}
