//! Everything that can fail: natsentry as a process, two real servers as processes, the identity provider, and the paths
//! between them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, consumer, stream};
use futures_util::StreamExt;
use natsentry::demo::idp::Answers;
use natsentry::demo::servers::{Version, find_or_install};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::ledger::named;
use crate::network::{Path, Weather};
use crate::support::issuer::Issuer;

pub(crate) const STREAM: &str = "CHAOS";
const PASSWORD: &str = "correct horse battery";
const PATIENCE: Duration = Duration::from_secs(60);

/// The paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// From clients to natsentry.
    Clients,
    /// From natsentry to the server without a stream.
    Core,
    /// From natsentry to the server with one.
    Store,
}

impl Place {
    pub(crate) const ALL: [Self; 3] = [Self::Clients, Self::Core, Self::Store];
}

/// A port that was free a moment ago, for a process that comes back on it.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    listener.local_addr().expect("its address").port()
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A process that is killed with its value.
struct Process(Child);

impl Process {
    fn start(command: &mut Command, listens: u16) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("it can be run");
        let mut process = Self(child);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(local(listens)).is_err() {
            let ended = process.0.try_wait().expect("our child");
            let log = || {
                command
                    .get_current_dir()
                    .map(|folder| std::fs::read_to_string(folder.join("log")))
            };
            assert!(ended.is_none(), "it ended: {command:?}\n{:?}", log());
            assert!(Instant::now() < deadline, "it does not listen: {command:?}");
            thread::sleep(Duration::from_millis(10));
        }
        process
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process"), signal).expect("the process is ours");
    }

    fn wait(&mut self) {
        self.0.wait().expect("our child");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Sees every message on the core server, without natsentry.
pub(crate) struct Witness {
    seen: Arc<Mutex<BTreeSet<(String, u64)>>>,
    stream: TcpStream,
    pongs: std::sync::mpsc::Receiver<()>,
}

impl Witness {
    fn at(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).expect("the server");
        let connect = format!(
            "CONNECT {{\"verbose\":false,\"user\":\"svc\",\"pass\":{PASSWORD:?}}}\r\nSUB chaos.core.> 1\r\nPING\r\n"
        );
        stream.write_all(connect.as_bytes()).expect("sent");
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let (pong, pongs) = std::sync::mpsc::channel();
        let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
        let (mut answers, noting) = (stream.try_clone().expect("a stream"), Arc::clone(&seen));
        thread::spawn(move || {
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
                let words: Vec<_> = line.split_whitespace().collect();
                match words.as_slice() {
                    ["PING"] => answers.write_all(b"PONG\r\n").expect("sent"),
                    ["PONG"] => pong.send(()).expect("somebody waits"),
                    ["MSG", subject, _, .., size] => {
                        let size: usize = size.parse().expect("a size");
                        let mut payload = vec![0; size + 2];
                        reader.read_exact(&mut payload).expect("a payload");
                        let mut seen = noting.lock().unwrap_or_else(PoisonError::into_inner);
                        seen.extend(named(subject));
                    }
                    _ => {}
                }
                line.clear();
            }
        });
        let witness = Self {
            seen,
            stream,
            pongs,
        };
        witness.pongs.recv_timeout(PATIENCE).expect("a PONG");
        witness
    }

    /// Everything that the server has read so far.
    pub(crate) fn seen(&self) -> BTreeSet<(String, u64)> {
        (&self.stream).write_all(b"PING\r\n").expect("sent");
        self.pongs.recv_timeout(PATIENCE).expect("a PONG");
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// All of it.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
    server: PathBuf,
    issuer: Issuer,
    core: Process,
    core_port: u16,
    store: Option<Process>,
    store_port: u16,
    proxy: Option<Process>,
    proxy_port: u16,
    admin_port: u16,
    paths: [Path; 3],
}

impl Stage {
    pub(crate) fn set() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = find_or_install(Version::V2_15_1).unwrap_or_else(|error| panic!("{error}"));
        let issuer = Issuer::start();
        let [core_port, store_port, proxy_port, admin_port] = std::array::from_fn(|_| free_port());
        let paths = [local(proxy_port), local(core_port), local(store_port)].map(Path::to);
        let core = start_server(&server, &folder, "core", core_port, "");
        let mut stage = Self {
            folder,
            server,
            issuer,
            core,
            core_port,
            store: None,
            store_port,
            proxy: None,
            proxy_port,
            admin_port,
            paths,
        };
        stage.start_store();
        stage.make_stream();
        let config = stage.config();
        let file = stage.folder.path().join("natsentry.yaml");
        std::fs::write(file, config.to_string()).expect("a configuration file");
        stage.start_proxy();
        stage
    }

    fn config(&self) -> Value {
        let issuer = self.issuer.entry();
        let upstream = |place| {
            json!({
                "servers": [format!("nats://{}", self.path(place).address())],
                "auth": { "user": "svc", "password": "env:PLANT_PASSWORD" },
            })
        };
        let role = |name: &str, publish: &str| {
            json!({
                "bind": [{ "app_role": "Nats.Operator" }],
                "upstream": name,
                "publish": [publish],
                "subscribe": [publish],
            })
        };
        json!({
            "version": 1,
            "listen": { "client": format!("127.0.0.1:{}", self.proxy_port) },
            "admin": { "listen": format!("127.0.0.1:{}", self.admin_port) },
            "issuers": [issuer],
            "keys": { "cache": "keys" },
            "upstreams": { "core": upstream(Place::Core), "store": upstream(Place::Store) },
            "roles": { "core": role("core", "chaos.core.>"), "store": role("store", "chaos.store.>") },
            "audit": { "file": "audit.jsonl" },
            "limits": { "drain": "3s" },
        })
    }

    pub(crate) fn path(&self, place: Place) -> &Path {
        &self.paths[place as usize]
    }

    /// Where clients connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.path(Place::Clients).address()
    }

    /// A token of alice, good for longer than the chaos.
    pub(crate) fn token(&self) -> String {
        self.issuer.mint("alice", Duration::from_secs(3600))
    }

    pub(crate) fn witness(&self) -> Witness {
        Witness::at(local(self.core_port))
    }

    fn start_proxy(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_natsentry"));
        command
            .args(["run", "--log", "info", "--log-format", "json", "--config"])
            .arg(self.folder.path().join("natsentry.yaml"))
            .env("PLANT_PASSWORD", PASSWORD)
            .env_remove("NATSENTRY_LOG")
            .current_dir(self.folder.path())
            .stderr(log);
        self.proxy = Some(Process::start(&mut command, self.proxy_port));
    }

    /// Kills natsentry, or asks it to end, and starts it again after `wait`.
    pub(crate) fn restart_proxy(&mut self, politely: bool, wait: impl FnOnce()) {
        let mut proxy = self.proxy.take().expect("it runs");
        if politely {
            proxy.signal(Signal::TERM);
            proxy.wait();
        }
        drop(proxy);
        wait();
        self.start_proxy();
    }

    fn start_store(&mut self) {
        let more = format!(
            "jetstream {{ store_dir: {:?}, sync_interval: always }}\n",
            self.folder.path().join("store")
        );
        self.store = Some(start_server(
            &self.server,
            &self.folder,
            "store",
            self.store_port,
            &more,
        ));
    }

    /// Kills the server with the stream, and starts it again over the same files after `wait`.
    pub(crate) fn restart_store(&mut self, wait: impl FnOnce()) {
        drop(self.store.take());
        wait();
        self.start_store();
    }

    /// Stops the server without a stream for as long as `wait` takes.
    pub(crate) fn stop_core(&self, wait: impl FnOnce()) {
        self.core.signal(Signal::STOP);
        wait();
        self.core.signal(Signal::CONT);
    }

    /// The identity provider answers so from now on.
    pub(crate) fn provide(&self, answers: Answers) {
        self.issuer.idp().answer(answers);
    }

    /// Everything is well again.
    pub(crate) fn heal(&self) {
        self.provide(Answers::Well);
        for path in &self.paths {
            path.turn(Weather::Fine);
        }
    }

    fn on_the_store<T>(&self, act: impl AsyncFnOnce(jetstream::Context) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let options =
                async_nats::ConnectOptions::with_user_and_password("svc".into(), PASSWORD.into());
            let client = options
                .connect(format!("nats://{}", local(self.store_port)))
                .await
                .expect("the server");
            act(jetstream::new(client)).await
        })
    }

    fn make_stream(&self) {
        self.on_the_store(async |context| {
            let config = stream::Config {
                name: STREAM.to_owned(),
                subjects: vec!["chaos.store.>".to_owned()],
                storage: stream::StorageType::File,
                ..stream::Config::default()
            };
            context.create_stream(config).await.expect("a stream");
        });
    }

    /// Every message in the stream, read without natsentry.
    pub(crate) fn stored(&self) -> BTreeSet<(String, u64)> {
        self.on_the_store(async |context| {
            let stream = context
                .get_stream(STREAM)
                .await
                .expect("the stream is there");
            let total = stream.cached_info().state.messages;
            let consumer = stream
                .create_consumer(consumer::pull::OrderedConfig::default())
                .await
                .expect("a consumer");
            let mut messages = consumer.messages().await.expect("messages");
            let mut stored = BTreeSet::new();
            let mut read = 0;
            while read < total {
                let next = tokio::time::timeout(PATIENCE, messages.next()).await;
                let message = next
                    .expect("in time")
                    .expect("one more")
                    .expect("a message");
                stored.extend(named(&message.subject));
                read += 1;
            }
            stored
        })
    }

    /// natsentry did not panic, and holds no session of clients that are gone.
    pub(crate) fn check_afterwards(&self) {
        let log = std::fs::read_to_string(self.folder.path().join("log")).expect("a log");
        assert!(!log.contains("panicked"), "{log}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = self.metrics();
            let left = |name: &str| {
                metrics
                    .lines()
                    .filter(|line| {
                        line.strip_prefix(name)
                            .is_some_and(|rest| rest.starts_with(['{', ' ']))
                    })
                    .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                    .sum::<u64>()
            };
            let (connections, sessions) =
                (left("natsentry_connections"), left("natsentry_sessions"));
            if (connections, sessions) == (0, 0) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{connections} connections and {sessions} sessions are left"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn metrics(&self) -> String {
        let mut tcp = TcpStream::connect(local(self.admin_port)).expect("the admin interface");
        tcp.write_all(b"GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
            .expect("sent");
        let mut text = String::new();
        tcp.read_to_string(&mut text).expect("an answer");
        text
    }
}

fn start_server(
    server: &PathBuf,
    folder: &tempfile::TempDir,
    name: &str,
    port: u16,
    more: &str,
) -> Process {
    let config = folder.path().join(format!("{name}.conf"));
    let text = format!("authorization {{ user: svc, password: {PASSWORD:?}, timeout: 5 }}\n{more}");
    std::fs::write(&config, text).expect("a configuration file");
    let log = folder.path().join(format!("{name}.log"));
    let mut command = Command::new(server);
    command
        .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
        .arg("--config")
        .arg(&config)
        .arg("--log")
        .arg(log)
        .stderr(Stdio::null());
    Process::start(&mut command, port)
}
