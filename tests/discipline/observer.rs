//! A client of an official library that says what happens to its connection.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::{ConnectOptions, Event};
use natsentry::demo::provision::command;
use serde::Deserialize;

use crate::support::{tokens, tools};

/// Longest wait for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// The libraries that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    NatsPy,
    NatsJs,
    AsyncNats,
}

impl Library {
    /// What the library does when it is told no in the middle of a session: nats-py and nats.js give up, async-nats goes on
    /// asking and is told no each time.
    pub fn ends_with(self) -> &'static [&'static str] {
        match self {
            Self::NatsPy | Self::NatsJs => &["closed"],
            Self::AsyncNats => &["disconnected"],
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug, Deserialize)]
struct Happened {
    event: String,
    detail: String,
}

impl Happened {
    fn is(&self, name: &str) -> bool {
        match name {
            "refusal" => self.event == "error" && self.detail.to_lowercase().contains("auth"),
            name => self.event == name,
        }
    }
}

/// A client at work.
pub struct Observer {
    library: Library,
    log: Arc<Mutex<Vec<Happened>>>,
    child: Option<Child>,
}

impl Observer {
    /// Starts it. It asks `token_url` for a token on every connect, and gives up after `attempts` (never, if negative).
    pub fn start(library: Library, url: &str, token_url: &str, attempts: i32) -> Self {
        let log = Arc::default();
        let child = match library {
            Library::AsyncNats => {
                tokio::spawn(rust(url.to_owned(), token_url.to_owned(), Arc::clone(&log)));
                None
            }
            Library::NatsPy => Some(spawn(python(), url, token_url, attempts, &log)),
            Library::NatsJs => Some(spawn(javascript(), url, token_url, attempts, &log)),
        };
        Self {
            library,
            log,
            child,
        }
    }

    /// `refusal` stands for an error that says no to the token; a library may well report that the stream has ended.
    ///
    /// Waits until each of `wanted` has happened since the last call of [`Self::forget`], and sees that none of `unwanted` has.
    pub async fn expect(&self, wanted: &[&str], unwanted: &[&str]) {
        let started = Instant::now();
        loop {
            let log = self.log.lock().expect("no panic while held").clone();
            let has = |name: &str| log.iter().any(|happened| happened.is(name));
            for name in unwanted {
                assert!(!has(name), "{:?}: {name} in {log:?}", self.library);
            }
            if wanted.iter().all(|name| has(name)) {
                return;
            }
            let waited = started.elapsed();
            assert!(
                waited < PATIENCE,
                "{:?}: no {wanted:?} in {log:?}",
                self.library
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What came with the first such event.
    pub fn detail(&self, name: &str) -> String {
        let log = self.log.lock().expect("no panic while held");
        log.iter()
            .find(|happened| happened.event == name)
            .map(|happened| happened.detail.clone())
            .unwrap_or_default()
    }

    /// Begins a new row.
    pub fn forget(&self) {
        self.log.lock().expect("no panic while held").clear();
    }

    /// Ends it.
    pub fn stop(self) {}
}

impl Drop for Observer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn sources() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn python() -> Command {
    let folder = sources().join("python");
    let environment = tools::python(&folder.join("requirements.txt")).expect("nats-py");
    let mut python = command(environment.python);
    python.arg(folder.join("observer.py"));
    python
        .env("PYTHONPATH", environment.packages)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    python
}

fn javascript() -> Command {
    let node = tools::node().expect("node");
    let program = node.program(&sources().join("js")).expect("nats.js");
    let mut command = command(&node.node);
    command.arg(program.join("observer.mjs"));
    command
}

fn spawn(
    mut command: Command,
    url: &str,
    token_url: &str,
    attempts: i32,
    log: &Arc<Mutex<Vec<Happened>>>,
) -> Child {
    command
        .env("NATS_URL", url)
        .env("TOKEN_URL", token_url)
        .env("ATTEMPTS", attempts.to_string());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("a client");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let happened = serde_json::from_str(&line).expect("a line of the contract");
            log.lock().expect("no panic while held").push(happened);
        }
    });
    child
}

/// The same with async-nats, in this process.
async fn rust(url: String, token_url: String, log: Arc<Mutex<Vec<Happened>>>) {
    let say = move |event: &str, detail: String| {
        let happened = Happened {
            event: event.to_owned(),
            detail,
        };
        log.lock().expect("no panic while held").push(happened);
    };
    let told = say.clone();
    let connected_before = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let options = ConnectOptions::with_auth_callback(move |_nonce| {
        let token_url = token_url.clone();
        async move {
            let fetched = tokio::task::spawn_blocking(move || tokens::fetch(&token_url)).await;
            let mut auth = async_nats::Auth::new();
            auth.token = fetched.ok().and_then(Result::ok);
            Ok(auth)
        }
    })
    .reconnect_delay_callback(|_| Duration::from_millis(100))
    .event_callback(move |event| {
        let told = told.clone();
        let again = Arc::clone(&connected_before);
        async move {
            match event {
                Event::Connected => {
                    let name = if again.swap(true, std::sync::atomic::Ordering::AcqRel) {
                        "reconnected"
                    } else {
                        "first"
                    };
                    told(name, String::new());
                }
                Event::Disconnected => told("disconnected", String::new()),
                Event::Closed => told("closed", String::new()),
                Event::ServerError(error) => told("error", error.to_string()),
                Event::ClientError(_) | Event::LameDuckMode | Event::Draining => {}
                other => told("other", other.to_string()),
            }
        }
    });
    let client = match options.connect(url).await {
        Ok(client) => client,
        Err(error) => return say("failed", error.to_string()),
    };
    say("connected", String::new());
    client
        .publish("forbidden.plan", "x".into())
        .await
        .expect("it is queued");
    client.flush().await.expect("a connection");
    let began = Instant::now();
    let answer = client.request("forbidden.ask", "x".into()).await;
    let fast = answer.is_err() && began.elapsed() < Duration::from_secs(5);
    say(
        "request",
        if fast { "failed fast" } else { "failed late" }.to_owned(),
    );
    std::future::pending::<()>().await;
}
