//! The server as a process: a runtime, and the signals that end it.

use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::Server;
use crate::admin;
use crate::config::{Config, Limits};
use crate::upstream;

/// Runs until SIGTERM or SIGINT, then drains. A second signal ends it at once.
///
/// # Errors
/// As [`Server::build`] and [`Server::run`].
pub fn run(mut config: Config, config_path: PathBuf) -> anyhow::Result<()> {
    spare_huge_pages();
    let files = raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let others = other_files(&config);
        fit_to_files(&mut config.limits, files, others);
        let server = Server::open(config, Some(config_path)).await?;
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

/// The allocator asks for huge pages, of which sessions that come and go leave most parts unused: half as much memory
/// again for each idle one, and no time is gained.
fn spare_huge_pages() {
    // Where the kernel has none, there is nothing to spare.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Open files besides connections of clients and their links, those of the admin interface, and links dialled ahead: listeners,
/// logs, keys, connections to the identity provider, the runtime's own.
const OTHER_FILES: usize = 64;

/// Open files that are not a session's.
fn other_files(config: &Config) -> u64 {
    let admin = config.admin.map_or(0, |_| admin::MAX_CONNECTIONS);
    // None are dialled where the server is to hear of the client first.
    let dialled = config.upstreams.iter().filter(|to| !to.proxy_protocol);
    let ahead = dialled.count().saturating_mul(upstream::LINKS_AHEAD);
    let others = OTHER_FILES.saturating_add(admin).saturating_add(ahead);
    u64::try_from(others).unwrap_or(u64::MAX)
}

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

/// Lowers the limits on connections to what the open files allow: each session needs two descriptors, one of the client and
/// one of its upstream. A process without any left could not even turn a client away. Connections without CONNECT may be all
/// of them: clients that reconnect at once are just that for a moment, and strangers who say nothing go for a new one.
fn fit_to_files(limits: &mut Limits, files: Option<u64>, others: u64) {
    let Some(files) = files else { return };
    let cap = |count: u64| u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    let connections = cap(files.saturating_sub(others) / 2);
    if connections < limits.connections {
        tracing::warn!(
            files,
            connections,
            "the limit on open files is too low for limits.connections, which is lowered: raise it (ulimit -Hn, LimitNOFILE of systemd)",
        );
        limits.connections = connections;
    }
    limits.handshakes = limits.handshakes.min(limits.connections);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_open_files_lower_the_limits() {
        let fitted = |files| {
            let mut limits = Limits::default();
            fit_to_files(&mut limits, files, 64);
            (limits.connections, limits.handshakes)
        };
        assert_eq!(fitted(Some(1024)), (480, 480));
        assert_eq!(fitted(Some(10)), (1, 1));
        let defaults = (Limits::default().connections, Limits::default().handshakes);
        assert_eq!(fitted(Some(1_048_576)), defaults);
        assert_eq!(fitted(None), defaults);
    }
}
