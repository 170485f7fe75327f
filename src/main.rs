//! Arguments, configuration, server, exit code.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use natsentry::cli;
use natsentry::config::Config;
use natsentry::server::Server;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Joins the commands to what they start.
struct Program;

impl cli::Program for Program {
    fn run(&self, config: Config, file: PathBuf) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut terminated = signal(SignalKind::terminate()).context("SIGTERM")?;
            let mut interrupted = signal(SignalKind::interrupt()).context("SIGINT")?;
            let server = Server::build(config, Some(file)).await?;
            let clients = server.client_address()?;
            let admin = server.admin_address().map(tracing::field::display);
            tracing::info!(%clients, admin, version = env!("CARGO_PKG_VERSION"), "serving");
            let ended = async {
                tokio::select! {
                    _ = terminated.recv() => {}
                    _ = interrupted.recv() => {}
                }
                tracing::info!("draining");
            };
            server.run(ended).await
        })
    }

    #[cfg(feature = "demo")]
    fn demo(&self, _options: cli::DemoOptions) -> anyhow::Result<()> {
        anyhow::bail!("this build has no demonstration")
    }
}

fn main() -> ExitCode {
    natsentry::tls::install_provider();
    cli::main(&Program)
}
