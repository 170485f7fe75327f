//! natsentry itself in this process, with one role that may do everything, for one identity that everybody is.

use std::net::SocketAddr;
use std::time::Duration;

use natsentry::clock;
use natsentry::config::Config;
use natsentry::demo::idp::{DevIdp, IdpConfig, TokenRequest};
use natsentry::server::Server;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

/// An issuer's entry in the configuration and a token of it, as JSON, where somebody runs one for many stand-ins: making
/// its keys takes most of the time that a stand-in needs to start.
pub const ISSUER_VARIABLE: &str = "NATSENTRY_SUITE_ISSUER";

/// Longer than any suite.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// Who everybody is.
#[derive(Serialize, Deserialize)]
pub struct Everybody {
    issuer: Value,
    pub token: String,
}

impl Everybody {
    /// Somebody of this issuer's directory.
    pub fn of(idp: &DevIdp) -> Result<Self, String> {
        let token = idp.mint(&TokenRequest::of("alice").lifetime(LIFETIME));
        let directory = idp.directory();
        Ok(Self {
            issuer: json!({
                "issuer": idp.base(),
                "profile": "entra",
                "tenant": directory.tid,
                "audiences": [directory.api, directory.app_id_uri],
            }),
            token: token.map_err(|error| error.to_string())?,
        })
    }
}

/// A running natsentry. It ends with the process.
pub struct Inside {
    pub address: SocketAddr,
    pub token: String,
    _idp: Option<DevIdp>,
    _folder: TempDir,
}

/// Starts it in front of `upstream`, which must take PROXY headers.
pub async fn start(upstream: SocketAddr) -> Result<Inside, String> {
    let (idp, everybody) = match std::env::var(ISSUER_VARIABLE) {
        Ok(given) => {
            let everybody = serde_json::from_str(&given);
            (
                None,
                everybody.map_err(|error| format!("{ISSUER_VARIABLE}: {error}"))?,
            )
        }
        Err(_) => {
            let idp = DevIdp::start(IdpConfig::default())
                .await
                .map_err(|error| error.to_string())?;
            let everybody = Everybody::of(&idp)?;
            (Some(idp), everybody)
        }
    };
    let config = json!({
        "version": 1,
        "listen": { "client": "127.0.0.1:0" },
        // The servers of the suites have limits of their own; those of natsentry's are not what is tested here.
        "limits": { "payload": "64MiB", "control_line": "64KiB", "pending": "64MiB", "handshake": "30s" },
        "issuers": [everybody.issuer],
        "upstreams": {
            "real": { "servers": [format!("nats://{upstream}")], "proxy_protocol": "v2" },
        },
        "roles": {
            "everything": {
                "bind": [{ "app_role": "Nats.Operator" }],
                "upstream": "real",
                "publish": [">"],
                "subscribe": [">"],
                "inbox": "off",
                "stream_config": "any",
                "broad": true,
            },
        },
    });
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let text = config.to_string();
    let config = Config::parse(&text, "natsentry.yaml", folder.path(), clock::now())
        .map_err(|mistakes| mistakes.to_string())?;
    let server = Server::build(config, None).map_err(|error| format!("{error:#}"))?;
    let address = server.client_address().map_err(|error| error.to_string())?;
    tokio::spawn(server.run(std::future::pending()));
    Ok(Inside {
        address,
        token: everybody.token,
        _idp: idp,
        _folder: folder,
    })
}
