//! Real nats-servers, or a panic that says why there is none.

use natsentry::demo::servers::{NatsServer, Version, find_or_install};

/// Starts `version` with `config`; see [`NatsServer::start`].
pub fn start(version: Version, config: &str) -> NatsServer {
    let binary = find_or_install(version).unwrap_or_else(|error| panic!("{error}"));
    NatsServer::start(&binary, config).unwrap_or_else(|error| panic!("{error}"))
}
