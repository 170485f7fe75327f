//! The client programs: where they are, how they are started, and what they say.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

use natsentry::demo::provision::{ProvisionError, command};
use serde::Deserialize;

use crate::cli_client::Cli;
use crate::driver::Mode;
use crate::report::Line;
use crate::rust_client;
use crate::support::tools;
use crate::target::Target;

/// The clients of the matrix.
#[derive(PartialOrd, Ord, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    AsyncNats,
    NatsPy,
    NatsJs,
    NatsGo,
    NatsCli,
    NatsC,
    NatsJava,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsyncNats => "async-nats",
            Self::NatsPy => "nats-py",
            Self::NatsJs => "nats.js",
            Self::NatsGo => "nats.go",
            Self::NatsCli => "nats CLI",
            Self::NatsC => "nats.c",
            Self::NatsJava => "nats.java",
        })
    }
}

/// What a running client says.
pub enum Said {
    /// An operation was done.
    Line(Line),
    /// It waits for its connection to break.
    Ready,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Printed {
    Ready { ready: String },
    Line(Line),
}

impl Client {
    /// In the order of the table.
    pub const ALL: [Self; 7] = [
        Self::AsyncNats,
        Self::NatsPy,
        Self::NatsJs,
        Self::NatsGo,
        Self::NatsCli,
        Self::NatsC,
        Self::NatsJava,
    ];

    /// Whether the library shows the server's texts in lower case.
    pub fn folds_case(self) -> bool {
        self == Self::NatsPy
    }

    /// Whether the client has no way to do this.
    pub fn lacks(self, op: &str) -> bool {
        match self {
            Self::NatsCli => matches!(op, "drain" | "same_session" | "push_consumer" | "service"),
            Self::NatsC => matches!(op, "object" | "object_put_get" | "service"),
            // Its package for services is not in the registry at the version of the others.
            Self::NatsJs => op == "service",
            _ => false,
        }
    }

    /// Starts it. None where its toolchain is absent and not ours to fetch; a panic where it is ours and cannot be had.
    pub fn start(self, target: &Target, mode: Mode, said: Sender<Said>) -> Option<Running> {
        let program = match self {
            Self::AsyncNats => {
                let place = target.place.clone();
                let thread = thread::spawn(move || rust_client::run(place, mode, said));
                return Some(Running::InProcess(thread));
            }
            Self::NatsPy => python().map(Some),
            Self::NatsJs => javascript().map(Some),
            Self::NatsGo => go(),
            Self::NatsC => c(),
            Self::NatsJava => java(),
            Self::NatsCli => {
                let place = target.place.clone();
                let program = cli().unwrap_or_else(|error| panic!("{error}"))?;
                let cli = Cli { program, place };
                return Some(Running::InProcess(thread::spawn(move || {
                    cli.run(mode, &said)
                })));
            }
        };
        let mut command = program.unwrap_or_else(|error: ProvisionError| panic!("{error}"))?;
        command
            .arg(mode.program_word())
            .env("NATS_URL", &target.place.url)
            .env("PATIENCE", target.place.patience.as_secs().to_string())
            .env_remove("TOKEN_URL")
            .env_remove("NATS_CA");
        if let Some(url) = &target.place.token_url {
            command.env("TOKEN_URL", url);
        }
        if let Some(ca) = &target.place.ca {
            command.env("NATS_CA", ca);
        }
        Some(spawn(command, said))
    }
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn python() -> Result<Command, ProvisionError> {
    let folder = sources().join("python");
    let environment = tools::python(&folder.join("requirements.txt"))?;
    let mut python = command(environment.python);
    python.arg(folder.join("client.py"));
    python
        .env("PYTHONPATH", environment.packages)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(python)
}

fn javascript() -> Result<Command, ProvisionError> {
    let node = tools::node()?;
    let program = node.program(&sources().join("js"))?;
    let mut command = command(&node.node);
    command.arg(program.join("client.mjs"));
    Ok(command)
}

/// The library's own `go.mod` asks for Go 1.26.
const GO_MINOR_MIN: u32 = 26;

fn go() -> Result<Option<Command>, ProvisionError> {
    let Some(go) = tools::go(GO_MINOR_MIN) else {
        return Ok(None);
    };
    let program = tools::go_program(&go, &sources().join("go"))?;
    Ok(Some(command(program)))
}

fn cli() -> Result<Option<PathBuf>, ProvisionError> {
    let Some(go) = tools::go(GO_MINOR_MIN) else {
        return Ok(None);
    };
    tools::go_install(&go, "github.com/nats-io/natscli/nats", "v0.5.1").map(Some)
}

fn c() -> Result<Option<Command>, ProvisionError> {
    let Some(built) = tools::c_program(&sources().join("c"))? else {
        return Ok(None);
    };
    let mut command = command(built.program);
    command.env("LD_LIBRARY_PATH", built.libraries);
    Ok(Some(command))
}

fn java() -> Result<Option<Command>, ProvisionError> {
    let Some(built) = tools::java_program(&sources().join("java"))? else {
        return Ok(None);
    };
    let mut command = command(built.java);
    // Short runs are mostly start-up.
    command.args([
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        &built.class_path,
        "Client",
    ]);
    Ok(Some(command))
}

/// A client at work.
pub enum Running {
    InProcess(JoinHandle<()>),
    Child {
        child: Child,
        errors: JoinHandle<String>,
    },
}

impl Running {
    /// Ends it if it has not ended, and returns what it wrote to standard error.
    pub fn stop(self) -> String {
        match self {
            // A panic in there is reported where it happens; a thread that hangs is left to the end of the process.
            Self::InProcess(thread) => {
                if thread.is_finished() && thread.join().is_err() {
                    return "it panicked".to_owned();
                }
                String::new()
            }
            Self::Child { mut child, errors } => {
                child.kill().ok();
                child.wait().ok();
                errors.join().unwrap_or_default()
            }
        }
    }
}

fn spawn(mut command: Command, said: Sender<Said>) -> Running {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let stderr = child.stderr.take().expect("piped");
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let heard = match serde_json::from_str(&line) {
                Ok(Printed::Line(line)) => Said::Line(line),
                Ok(Printed::Ready { ready }) if ready == "reconnect" => Said::Ready,
                _ => panic!("not a line of the contract: {line}"),
            };
            if said.send(heard).is_err() {
                return;
            }
        }
    });
    Running::Child {
        child,
        errors: thread::spawn(move || everything(stderr)),
    }
}

fn everything(mut stderr: ChildStderr) -> String {
    let mut bytes = Vec::new();
    stderr.read_to_end(&mut bytes).ok();
    String::from_utf8_lossy(&bytes).into_owned()
}
