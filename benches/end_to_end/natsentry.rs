//! natsentry as a contender: the release binary with a configuration of its own, and the development identity provider
//! that mints what its clients say.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ::natsentry::demo::idp::{DevIdp, IdpConfig, TokenRequest};
use ::natsentry::demo::servers::NatsServer;
use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;

use super::contenders::{Contender, Process, free_port};
use super::kernel;
use super::secure::Certificate;

/// What the sessions of a contender may do.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    /// Everything.
    PassThrough,
    /// A dozen grants with templates and wildcards.
    Typical,
    /// The same, and a deny that overlaps the subscription, so that each delivery is judged.
    Filter,
    /// Everything, beside a thousand roles that others have.
    OfThousand,
    /// Ten thousand patterns.
    Patterns,
}

/// Issues the tokens; answers as long as it lives.
pub(crate) struct Issuer {
    idp: DevIdp,
    _runtime: Runtime,
}

impl Issuer {
    pub(crate) fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let idp = runtime.block_on(DevIdp::start(IdpConfig::default()))?;
        Ok(Self {
            idp,
            _runtime: runtime,
        })
    }

    fn token(&self) -> Result<String> {
        let request = TokenRequest::of("alice")
            .claim("roles", vec!["Bench".to_owned()])
            .lifetime(Duration::from_secs(6 * 3600));
        Ok(self.idp.mint(&request)?)
    }
}

/// Starts natsentry and waits until it listens; inside TLS where there is a certificate.
pub(crate) fn start(
    name: &str,
    binary: &Path,
    (role, certificate): (Role, Option<&Certificate>),
    issuer: &Issuer,
    server: &NatsServer,
    place: &Path,
) -> Result<Contender> {
    let port = free_port()?;
    let file = place.join("natsentry.yaml");
    fs::write(&file, config(role, issuer, server, port, certificate)?)?;
    let mut command = Command::new(binary);
    command
        .args(["run", "--log", "warn", "--config"])
        .arg(&file);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let process = Process::start(&mut command, place, address)?;
    let token = issuer.token().context("minting")?;
    Ok(Contender {
        name: name.to_owned(),
        version: format!("natsentry {}", env!("CARGO_PKG_VERSION")),
        address,
        pid: Some(process.id()),
        connect: format!(
            r#"{{"verbose":false,"pedantic":false,"lang":"bench","version":"0","protocol":1,"headers":true,"auth_token":"{token}"}}"#
        ),
        // A plain subscription below a wildcard is what a deny entry can overlap.
        subscription: match role {
            Role::Filter => "bench.*",
            _ => "bench.stream",
        },
        trust: certificate.map(|certificate| Arc::clone(&certificate.trust)),
        process: Some(process),
    })
}

fn config(
    role: Role,
    issuer: &Issuer,
    server: &NatsServer,
    port: u16,
    certificate: Option<&Certificate>,
) -> Result<String> {
    let tls = certificate.map_or_else(String::new, |certificate| {
        let (cert, key) = (certificate.cert.display(), certificate.key.display());
        // In a storm, the first bytes of a client come late: without this, it would get INFO instead of the handshake.
        format!(", tls: {{ cert: 'file:{cert}', key: 'file:{key}', first_wait: 5s }}")
    });
    let directory = issuer.idp.directory();
    let mut text = format!(
        "version: 1\n\
         listen: {{ client: '127.0.0.1:{port}'{tls} }}\n\
         admin: {{ listen: '127.0.0.1:{}' }}\n\
         issuers:\n\
         - {{ issuer: '{}', profile: entra, tenant: {}, audiences: ['{}', '{}'] }}\n\
         upstreams: {{ nats: {{ servers: ['{}'] }} }}\n\
         limits: {{ connections: {}, connections_per_address: 1000000, payload: 8MiB, drain: 1s }}\n\
         roles:\n  bench:\n    bind: [{{ app_role: Bench }}]\n    upstream: nats\n",
        free_port()?,
        issuer.idp.base(),
        directory.tid,
        directory.api,
        directory.app_id_uri,
        server.url(),
        kernel::open_files()?.saturating_sub(100) / 2,
    );
    match role {
        Role::PassThrough => text.push_str(EVERYTHING),
        Role::OfThousand => {
            text.push_str(EVERYTHING);
            for n in 0..1000 {
                let _ = write!(
                    text,
                    "  role-{n}:\n    bind: [{{ app_role: Other.{n} }}]\n    upstream: nats\n    publish: [",
                );
                for pattern in 0..10 {
                    let _ = write!(text, "'line.{n}.{pattern}.>',");
                }
                text.push_str("]\n");
            }
        }
        Role::Patterns => {
            text.push_str("    publish: ['bench.*', 'bench.idle.*'");
            for n in 0..10_000 {
                let _ = write!(text, ", 'plant.{}.line.{n}.*'", n % 100);
            }
            text.push_str("]\n    subscribe: ['bench.*', 'bench.idle.*']\n");
            text.push_str(ANSWERS);
        }
        Role::Typical | Role::Filter => {
            let mut grants = String::from("'bench.*', 'bench.idle.*'");
            for n in 0..10 {
                // Writing to a String cannot fail.
                let _ = write!(grants, ", 'plant.{n}.{{oid}}.>'");
            }
            let _ = writeln!(text, "    publish: [{grants}]\n    subscribe: [{grants}]");
            text.push_str(ANSWERS);
        }
    }
    if matches!(role, Role::Filter) {
        text.push_str("    deny: { subscribe: ['bench.secret'] }\n");
    }
    Ok(text)
}

const EVERYTHING: &str = "    broad: true\n    publish: ['>']\n    subscribe: ['>']\n";

/// Answers go to inboxes of others, one for each question.
const ANSWERS: &str = "    respond: { max: 1, ttl: 30s }\n";
