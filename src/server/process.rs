//! The server as a process: a runtime, and the signals that end it.

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use super::Server;
use crate::config::Config;

/// Runs until SIGTERM or SIGINT, then drains. A second signal ends it at once.
///
/// # Errors
/// As [`Server::build`] and [`Server::run`].
pub fn run(config: Config, config_path: PathBuf) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::build(config, Some(config_path))?;
        tracing::info!(
            client = %server.client_address()?,
            admin = server.admin_address().map(tracing::field::display),
            "listening",
        );
        let asked = stop_signal()?;
        let impatient = stop_signal()?;
        let run = server.run(asked);
        tokio::pin!(run);
        let second = async {
            impatient.await;
            stop_signal()?.await;
            anyhow::Ok(())
        };
        tokio::select! {
            ended = &mut run => ended,
            _ = second => anyhow::bail!("a second signal came during the drain"),
        }
    })
}

/// Completes at the next SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
