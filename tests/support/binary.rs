//! The real program, `natsentry run`, as a child on ports of the system's choice.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use natsentry::demo::provision::{Keeper, TempDir, command};
use serde_json::Value;

const STEP: Duration = Duration::from_millis(20);
const STEPS_MAX: u32 = 1500;

/// Killed on drop.
pub struct Binary {
    child: Child,
    keeper: Keeper,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    client: SocketAddr,
    admin: Option<SocketAddr>,
    dir: TempDir,
}

impl Binary {
    /// Starts it with `config` (JSON is YAML) and `environment`, and returns when it listens. Addresses in the
    /// configuration should have port 0.
    pub fn start(config: &Value, environment: &[(&str, &str)]) -> Self {
        Self::start_logging("info", config, environment)
    }

    /// The same with another log filter.
    pub fn start_logging(filter: &str, config: &Value, environment: &[(&str, &str)]) -> Self {
        let dir = TempDir::create("proxy").unwrap_or_else(|error| panic!("{error}"));
        let file = dir.path().join("natsentry.yaml");
        let text = serde_json::to_string_pretty(config).expect("JSON");
        fs::write(&file, text).expect("the configuration can be written");
        let mut child = command(env!("CARGO_BIN_EXE_natsentry"))
            .args(["run", "--log", filter, "--log-format", "json", "--config"])
            .arg(&file)
            .envs(environment.iter().copied())
            .env_remove("NATSENTRY_LOG")
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be run");
        let keeper = Keeper::over(child.id(), dir.path());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, kept) = (child.stderr.take().expect("piped"), Arc::clone(&log));
        let reader = thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        });
        let client = SocketAddr::from(([127, 0, 0, 1], 0));
        let reader = Some(reader);
        let mut proxy = Self {
            child,
            keeper,
            log,
            reader,
            client,
            admin: None,
            dir,
        };
        proxy.wait_until_listening();
        proxy
    }

    fn wait_until_listening(&mut self) {
        for _ in 0..STEPS_MAX {
            if let Some(line) = self.find("listening") {
                let address = |key: &str| line.get(key)?.as_str()?.parse().ok();
                self.client = address("client").expect("the log says where");
                self.admin = address("admin");
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                // The last lines may still be on their way.
                self.reader.take().map(JoinHandle::join);
                panic!("natsentry ended ({status}):\n{}", self.log());
            }
            thread::sleep(STEP);
        }
        panic!("natsentry does not listen:\n{}", self.log());
    }

    /// Has it stop, and returns when it has: then everything is in log and audit.
    pub fn end(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours");
        self.child.wait().expect("it ends");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log can be read");
        }
    }

    /// The first log line with this message.
    pub fn find(&self, message: &str) -> Option<Value> {
        let lines = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let mut documents = lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        documents.find(|document| document.get("message").is_some_and(|text| text == message))
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .join("\n")
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.client
    }

    /// The admin interface, where the configuration has one.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The folder of the configuration, `natsentry.yaml`, and its working folder.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// The process id, valid as long as this value lives.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Binary {
    #[allow(clippy::print_stderr, reason = "a test that fails may be loud")]
    fn drop(&mut self) {
        self.keeper.dismiss();
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            eprintln!("natsentry logged:\n{}", self.log());
        }
    }
}
