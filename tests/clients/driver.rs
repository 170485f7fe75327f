//! Runs one client against one target, cuts the wire when the client is ready for it, and judges what it printed.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use natsentry::demo::servers::{NatsServer, Version};

use crate::cli_client::UNSAID;
use crate::estate::{self, Expected};
use crate::program::{Client, Said};
use crate::report::{Line, Report};
use crate::support::binary::Binary;
use crate::support::issuer::{self, Issuer};
use crate::support::relay::Relay;
use crate::support::servers;
use crate::support::tokens::TokenServer;

/// No client waits longer than 20 s for anything of its own.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Which of the two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Permitted,
    Refused,
    /// The token runs out while the client is connected.
    Expiring,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permitted => "permitted",
            Self::Refused => "refused",
            Self::Expiring => "expiring",
        })
    }
}

/// Something that clients connect to, and how to break the connection of one that is connected.
pub struct Target {
    /// What goes into `NATS_URL`.
    pub url: String,
    /// What goes into `TOKEN_URL`.
    pub token_url: Option<String>,
    /// The column of the table.
    pub route: &'static str,
    /// The server at the end of it.
    pub version: Version,
    relay: Relay,
    tokens: Option<TokenServer>,
    _proxied: Option<(Binary, Issuer)>,
    _server: NatsServer,
}

impl Target {
    /// A server whose own user `app` has the role.
    pub fn role(version: Version) -> Self {
        let password = "pw-of-the-estate";
        let server = servers::start(version, &estate::role_config(password));
        furnish(&format!("nats://admin:{password}@{}", server.address()));
        let relay = Relay::to(server.address());
        let url = format!("nats://app:{password}@{}", relay.address());
        Self {
            url,
            token_url: None,
            route: "direct, role",
            version,
            relay,
            tokens: None,
            _proxied: None,
            _server: server,
        }
    }

    /// A server that one token opens, handed out on every connect.
    pub fn token(version: Version) -> Self {
        let token = "token-of-the-estate";
        let server = servers::start(version, &estate::token_config(token));
        furnish(&format!("nats://{token}@{}", server.address()));
        let relay = Relay::to(server.address());
        let tokens = TokenServer::start(move || token.to_owned());
        Self {
            url: format!("nats://{}", relay.address()),
            token_url: Some(tokens.url()),
            route: "direct, token",
            version,
            relay,
            tokens: Some(tokens),
            _proxied: None,
            _server: server,
        }
    }

    /// natsentry in front of a server: the identity has the role, the proxy is the server's administrator. The first
    /// token handed out lives as long as `first_lifetime`, the others an hour.
    pub fn proxied(version: Version, first_lifetime: Duration) -> Self {
        let password = "pw-of-the-estate";
        let server = servers::start(version, &estate::role_config(password));
        furnish(&format!("nats://admin:{password}@{}", server.address()));
        let issuer = Issuer::start();
        let config = estate::proxy_config(&issuer.entry(), &server.url());
        let proxy = Binary::start(&config, &[("ESTATE_PASSWORD", password)]);
        let relay = Relay::to(proxy.address());
        let (idp, first) = (issuer.idp(), AtomicBool::new(true));
        let tokens = TokenServer::start(move || {
            let first = first.swap(false, Ordering::AcqRel);
            let lifetime = if first {
                first_lifetime
            } else {
                Duration::from_secs(3600)
            };
            issuer::mint(&idp, estate::WHO, lifetime)
        });
        Self {
            url: format!("nats://{}", relay.address()),
            token_url: Some(tokens.url()),
            route: "natsentry",
            version,
            relay,
            tokens: Some(tokens),
            _proxied: Some((proxy, issuer)),
            _server: server,
        }
    }

    /// How many tokens clients have asked for.
    pub fn tokens_handed_out(&self) -> usize {
        self.tokens.as_ref().map_or(0, TokenServer::handed_out)
    }
}

fn furnish(admin_url: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let furnished = runtime
        .expect("a runtime")
        .block_on(estate::furnish(admin_url));
    furnished.unwrap_or_else(|error| panic!("the estate cannot be made: {error}"));
}

/// Runs `client` and panics unless every operation went as it must. False where its toolchain is absent.
pub fn check(client: Client, target: &Target, mode: Mode) -> bool {
    let Some(lines) = run(client, target, mode) else {
        println!("not run: the toolchain of {client} is not on this machine");
        return false;
    };
    let report = Report {
        client: client.to_string(),
        server: target.version.to_string(),
        route: target.route.to_owned(),
        mode: mode.to_string(),
        lines,
    };
    report.keep().expect("the report can be written");
    let wrong = judge(client, mode, &report.lines);
    assert!(
        wrong.is_empty(),
        "{client} with {} ({}), {mode}:\n  {}",
        target.version,
        target.route,
        wrong.join("\n  ")
    );
    true
}

/// Everything the client said, or none where it cannot be run here.
fn run(client: Client, target: &Target, mode: Mode) -> Option<Vec<Line>> {
    let (said, hear) = channel();
    let running = client.start(target, mode, said)?;
    let mut lines = Vec::new();
    loop {
        match hear.recv_timeout(SILENCE_MAX) {
            Ok(Said::Line(line)) => lines.push(line),
            // In an expiring run it is the proxy that ends the session.
            Ok(Said::Ready) if mode == Mode::Expiring => {}
            Ok(Said::Ready) => target.relay.cut(),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let stderr = running.stop();
                panic!("{client} fell silent after {lines:#?}\n{stderr}");
            }
        }
    }
    let stderr = running.stop();
    assert!(!lines.is_empty(), "{client} said nothing\n{stderr}");
    Some(lines)
}

/// What is wrong, one text each.
fn judge(client: Client, mode: Mode, lines: &[Line]) -> Vec<String> {
    let nothing = &Expected::Nothing;
    let expected: Vec<(&str, &Expected)> = match mode {
        Mode::Permitted => estate::PERMITTED.iter().map(|op| (*op, nothing)).collect(),
        Mode::Expiring => estate::EXPIRING.iter().map(|op| (*op, nothing)).collect(),
        Mode::Refused => estate::REFUSED
            .iter()
            .map(|(op, text)| (*op, text))
            .collect(),
    };
    let mut wrong = Vec::new();
    for (op, expected) in expected.into_iter().filter(|(op, _)| !client.lacks(op)) {
        match lines.iter().find(|line| line.op == op) {
            None => wrong.push(format!("{op}: never said")),
            Some(line) if !line.ok => wrong.push(format!("{op}: {}", line.detail)),
            Some(line) if client == Client::NatsCli && line.detail.starts_with(UNSAID) => {}
            Some(line) if !expected.is_shown_by(&line.detail, client.folds_case()) => {
                wrong.push(format!("{op}: not the server's text: {}", line.detail));
            }
            Some(_) => {}
        }
    }
    wrong
}
