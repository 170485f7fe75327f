//! The server as a process: a runtime, and the signals that end it.

use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::Server;
use crate::config::Config;

/// Runs until SIGTERM or SIGINT, then drains. A second signal ends it at once.
///
/// # Errors
/// As [`Server::build`] and [`Server::run`].
pub fn run(config: Config, config_path: PathBuf) -> anyhow::Result<()> {
    let files = raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        warn_of_few_files(files, config.limits.connections);
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

/// File descriptors that are not connections: listeners, logs, keys, the runtime's own.
const OTHER_FILES: u64 = 64;

/// Raises the soft limit on open files to the hard one, as programs that serve many connections do: the usual soft limit of
/// 1,024 is for those that use select(2). Returns what holds; none where there is no limit.
fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    }
}

/// Each session needs two descriptors: one of the client, one of its upstream.
fn warn_of_few_files(files: Option<u64>, connections: u32) {
    let needed = u64::from(connections)
        .saturating_mul(2)
        .saturating_add(OTHER_FILES);
    if let Some(files) = files.filter(|files| *files < needed) {
        tracing::warn!(
            files,
            needed,
            "the limit on open files is too low for limits.connections: raise it (ulimit -Hn, LimitNOFILE of systemd) or lower limits.connections",
        );
    }
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
