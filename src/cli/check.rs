//! `natsentry check`: every mistake of a configuration, or what it comes to.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::Output;
use super::output::{self, Table};
use crate::audit::{Destination, WhenFull};
use crate::config::{Config, Mistake, Mistakes, show_path};
use crate::identity::KeyLocation;
use crate::policy::document::Role;
use crate::upstream::Auth;

pub(super) fn check(file: &Path, format: Output) -> anyhow::Result<ExitCode> {
    match Config::load(file) {
        Ok(config) => {
            match format {
                Output::Json => output::json(&Report::good(&config))?,
                Output::Table => output::print(&summary(&config))?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(mistakes) => {
            match format {
                Output::Json => output::json(&Report::bad(&mistakes))?,
                Output::Table => output::complain(&mistakes.to_string()),
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The result for scripts.
#[derive(Serialize)]
struct Report<'a> {
    file: &'a str,
    ok: bool,
    mistakes: Vec<Line<'a>>,
    warnings: Vec<Line<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<Counts>,
}

#[derive(Serialize)]
struct Line<'a> {
    line: usize,
    column: usize,
    path: String,
    message: &'a str,
}

#[derive(Serialize)]
struct Counts {
    issuers: usize,
    upstreams: usize,
    roles: usize,
    tests_passed: usize,
}

impl<'a> Line<'a> {
    fn of(mistake: &'a Mistake) -> Self {
        Self {
            line: mistake.at.line,
            column: mistake.at.column,
            path: show_path(&mistake.path),
            message: &mistake.message,
        }
    }
}

impl<'a> Report<'a> {
    fn bad(mistakes: &'a Mistakes) -> Self {
        Self {
            file: mistakes.file(),
            ok: false,
            mistakes: mistakes.iter().map(Line::of).collect(),
            warnings: Vec::new(),
            hash: None,
            counts: None,
        }
    }

    fn good(config: &'a Config) -> Self {
        Self {
            file: config.source.file(),
            ok: true,
            mistakes: Vec::new(),
            warnings: config.warnings.iter().map(Line::of).collect(),
            hash: Some(config.source.hash()),
            counts: Some(Counts {
                issuers: config.trust.expectations.sources().len(),
                upstreams: config.upstreams.len(),
                roles: config.policy_document.roles.len(),
                tests_passed: config.tests_passed,
            }),
        }
    }
}

/// The result for people.
fn summary(config: &Config) -> String {
    let mut table = Table::default();
    table.row([
        "listen",
        &config.listen.client.to_string(),
        &listening(config),
    ]);
    match config.admin {
        Some(address) => table.row(["admin", &address.to_string(), "http, read-only"]),
        None => table.row(["admin", "off"]),
    }
    for source in config.trust.expectations.sources() {
        match &source.location {
            KeyLocation::Metadata(_) => table.row(["issuer", &source.issuer]),
            KeyLocation::Keys(url) => {
                table.row(["issuer", &format!("{}, keys from {url}", source.issuer)]);
            }
        }
    }
    for upstream in &config.upstreams {
        let servers: Vec<String> = upstream.servers.iter().map(ToString::to_string).collect();
        let auth = match upstream.auth {
            Auth::UserPassword { .. } => "user and password",
            Auth::Token(_) => "token",
            Auth::Nkey(_) => "nkey",
            Auth::Creds(_) => "creds",
            Auth::None => "no credentials",
        };
        table.row([
            "upstream",
            &upstream.name,
            &format!("{} ({auth})", servers.join(", ")),
        ]);
    }
    for (name, role) in &config.policy_document.roles {
        table.row(["role", name, &grants(role)]);
    }
    table.row(["tests", &format!("{} passed", config.tests_passed)]);
    table.row(["audit", &audit(config)]);
    let mut shown = format!("{}: no mistakes\n\n{}", config.source.file(), table.show());
    for warning in &config.warnings {
        let path = if warning.path.is_empty() {
            String::new()
        } else {
            format!("{}: ", show_path(&warning.path))
        };
        shown.push_str(&format!(
            "\n{}:{}:{}: warning: {path}{}",
            config.source.file(),
            warning.at.line,
            warning.at.column,
            warning.message
        ));
    }
    shown
}

fn listening(config: &Config) -> String {
    let tls = match &config.listen.tls {
        None => "plain".to_owned(),
        Some(tls) => {
            let first = if tls.first_wait.is_zero() {
                "after INFO"
            } else {
                "before or after INFO"
            };
            let client = if tls.client_ca.is_some() {
                ", client certificates required"
            } else {
                ""
            };
            format!("TLS {first}{client}")
        }
    };
    match &config.listen.proxy_protocol {
        None => tls,
        Some(proxy) if proxy.required => format!("{tls}, PROXY header required"),
        Some(_) => format!("{tls}, PROXY header accepted"),
    }
}

/// `-> plant-a: publish 2, subscribe 2, ...`, without what is absent.
fn grants(role: &Role) -> String {
    let counts = [
        ("publish", role.publish.len()),
        ("subscribe", role.subscribe.len()),
        ("request", role.request.len()),
        ("respond", usize::from(role.respond.is_some())),
        (
            "deny",
            role.deny
                .publish
                .len()
                .saturating_add(role.deny.subscribe.len()),
        ),
        ("stream", role.stream.len()),
        ("kv", role.kv.len()),
        ("object", role.object.len()),
    ];
    let shown: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{what} {count}"))
        .collect();
    let shown = if shown.is_empty() {
        "grants nothing".to_owned()
    } else {
        shown.join(", ")
    };
    format!("to {}: {shown}", role.upstream)
}

fn audit(config: &Config) -> String {
    let full = match config.audit.when_full {
        WhenFull::Block => "waits when full",
        WhenFull::Drop => "drops lines when full",
    };
    match &config.audit.destination {
        Destination::Off => "off".to_owned(),
        Destination::Stdout => format!("standard output, {full}"),
        Destination::File(file) => format!("{}, {full}", file.path.display()),
    }
}
