//! The arguments of `natsentry demo`.

use clap::Args;

/// Options of the demonstration.
#[derive(Clone, Debug, Args)]
pub struct DemoOptions {
    /// The nats-server program to put the proxy in front of; looked for on PATH unless given.
    #[arg(long, value_name = "PROGRAM", env = "NATS_SERVER_BIN")]
    pub nats_server: Option<std::path::PathBuf>,
    /// Port of the proxy on 127.0.0.1; 0 lets the system choose.
    #[arg(long, default_value_t = 4222)]
    pub port: u16,
    /// Tell the story and end, instead of waiting for Ctrl-C.
    #[arg(long)]
    pub once: bool,
}
