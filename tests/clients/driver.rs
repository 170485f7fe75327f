//! Runs one client against one target, does to its connection what the run is about, and judges what it printed.

use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::cli_client::UNSAID;
use crate::estate::{self, Expected};
use crate::program::{Client, Said};
use crate::report::{Line, Report};
use crate::servers::Server;
use crate::target::Target;

/// No client waits longer than 20 s for anything of its own.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything that the role permits.
    Permitted,
    /// What it does not.
    Refused,
    /// The token runs out while the client is connected.
    Expiring,
    /// The server goes into lame duck mode while the client is connected, and another one is there.
    LameDuck,
    /// The credential comes as the password.
    Password,
    /// Over TLS.
    Tls,
}

impl Mode {
    /// What the client program is told to do.
    pub const fn program_word(self) -> &'static str {
        match self {
            Self::Permitted => "permitted",
            Self::Refused => "refused",
            Self::Expiring | Self::LameDuck => "expiring",
            Self::Password | Self::Tls => "brief",
        }
    }

    /// The operations, each with what has to stand in its detail.
    pub fn expected(self) -> Vec<(&'static str, &'static Expected)> {
        let plain =
            |ops: &'static [&'static str]| ops.iter().map(|op| (*op, &Expected::Nothing)).collect();
        match self {
            Self::Permitted => plain(estate::PERMITTED),
            Self::Expiring | Self::LameDuck => plain(estate::EXPIRING),
            Self::Password | Self::Tls => plain(estate::BRIEF),
            Self::Refused => estate::REFUSED
                .iter()
                .map(|(op, text)| (*op, text))
                .collect(),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permitted => "permitted",
            Self::Refused => "refused",
            Self::Expiring => "expiring",
            Self::LameDuck => "lame duck",
            Self::Password => "password",
            Self::Tls => "TLS",
        })
    }
}

/// Where a client goes, and how.
#[derive(Debug, Clone)]
pub struct Place {
    /// What goes into `NATS_URL`.
    pub url: String,
    /// What goes into `TOKEN_URL`.
    pub token_url: Option<String>,
    /// What goes into `NATS_CA`.
    pub ca: Option<PathBuf>,
    /// How long one operation may take.
    pub patience: Duration,
}

impl Place {
    /// Operations take as long as they need on a machine that tests many things at once, unless the server lacks half of
    /// them.
    pub fn new(url: String, server: Server) -> Self {
        let patience = if server.has_stores() { 20 } else { 5 };
        Self {
            url,
            token_url: None,
            ca: None,
            patience: Duration::from_secs(patience),
        }
    }
}

/// Runs `client` and panics unless every operation went as it must. False where its toolchain is absent.
pub fn check(client: Client, target: &Target, mode: Mode) -> bool {
    let Some(report) = run(client, target, mode) else {
        println!("not run: the toolchain of {client} is not on this machine");
        return false;
    };
    let wrong = judge(client, mode, &report.lines);
    assert!(
        wrong.is_empty(),
        "{client} with {} ({}), {mode}:\n  {}",
        target.server,
        target.route,
        wrong.join("\n  ")
    );
    true
}

/// Everything the client said, kept for the table, or none where it cannot be run here.
pub fn run(client: Client, target: &Target, mode: Mode) -> Option<Report> {
    let (said, hear) = channel();
    let running = client.start(target, mode, said)?;
    let mut lines = Vec::new();
    loop {
        match hear.recv_timeout(SILENCE_MAX) {
            Ok(Said::Line(line)) => lines.push(line),
            // In an expiring run it is the proxy that ends the session.
            Ok(Said::Ready) if mode == Mode::Expiring => {}
            Ok(Said::Ready) if mode == Mode::LameDuck => target.lame_duck(),
            Ok(Said::Ready) => target.cut(),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let stderr = running.stop();
                panic!("{client} fell silent after {lines:#?}\n{stderr}");
            }
        }
    }
    let stderr = running.stop();
    assert!(!lines.is_empty(), "{client} said nothing\n{stderr}");
    let report = Report {
        client: client.to_string(),
        server: target.server.to_string(),
        route: target.route.to_owned(),
        mode: mode.to_string(),
        lines,
    };
    report.keep().expect("the report can be written");
    Some(report)
}

/// What is wrong, one text each.
fn judge(client: Client, mode: Mode, lines: &[Line]) -> Vec<String> {
    let expected = mode.expected().into_iter();
    let wrong = expected
        .filter(|(op, _)| !client.lacks(op))
        .filter_map(|(op, expected)| {
            let line = lines.iter().find(|line| line.op == op);
            fault(client, expected, line).map(|fault| format!("{op}: {fault}"))
        });
    wrong.collect()
}

/// What is wrong with one operation, if anything is.
pub fn fault(client: Client, expected: &Expected, line: Option<&Line>) -> Option<String> {
    match line {
        None => Some("never said".to_owned()),
        Some(line) if !line.ok => Some(line.detail.clone()),
        Some(line) if client == Client::NatsCli && line.detail.starts_with(UNSAID) => None,
        Some(line) if !expected.is_shown_by(&line.detail, client.folds_case()) => {
            Some(format!("not the server's text: {}", line.detail))
        }
        Some(_) => None,
    }
}
