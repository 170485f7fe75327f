//! Whether a running process has taken a change of the locks: asked of its admin interface, where the configuration
//! names one. Locks hold without it; whoever locks somebody out wants to know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;

use super::PATIENCE;
use crate::config::LockConfig;
use crate::http::{Address, Http, Request};

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(50);

/// What came of asking.
pub(super) enum Confirmed {
    /// It is so.
    Yes(SocketAddr),
    /// A process answers, and has not taken it.
    NotYet(SocketAddr),
    /// Nobody answers there.
    Nobody(SocketAddr),
    /// The configuration names no address that could be asked.
    NotAsked,
}

impl Confirmed {
    /// For people.
    pub(super) fn sentence(&self) -> String {
        match self {
            Self::Yes(admin) => format!("in force: natsentry at {admin} says so"),
            Self::NotYet(admin) => format!(
                "written, but natsentry at {admin} has not taken it: look at its log, and whether it reads the same file (locks.file)"
            ),
            Self::Nobody(admin) => format!(
                "written; nobody answers at {admin}. A process that reads the same file (locks.file) takes it within a second"
            ),
            Self::NotAsked => {
                "written; a process that reads the same file (locks.file) takes it within a second"
                    .to_owned()
            }
        }
    }

    /// Whether a process is known to go on without the change.
    pub(super) const fn failed(&self) -> bool {
        matches!(self, Self::NotYet(_))
    }

    /// For scripts.
    pub(super) const fn answer(&self) -> Option<bool> {
        match self {
            Self::Yes(_) => Some(true),
            Self::NotYet(_) => Some(false),
            Self::Nobody(_) | Self::NotAsked => None,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    locks: Vec<Id>,
}

#[derive(Deserialize)]
struct Id {
    id: Box<str>,
}

/// Asks until the ids of the locks in force are as they should be, or patience ends.
pub(super) fn in_force(config: &LockConfig, wanted: impl Fn(&[Box<str>]) -> bool) -> Confirmed {
    let Some(admin) = config.admin.filter(|admin| admin.port() != 0) else {
        return Confirmed::NotAsked;
    };
    let admin = reachable(admin);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let asker = Asker::new(admin);
    let (Ok(runtime), Ok(asker)) = (runtime, asker) else {
        return Confirmed::NotAsked;
    };
    runtime.block_on(async {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match asker.ask().await {
                Ok(ids) if wanted(&ids) => return Confirmed::Yes(admin),
                Ok(_) => {}
                // Nobody there, or somebody else.
                Err(_) => return Confirmed::Nobody(admin),
            }
            if tokio::time::Instant::now() > deadline {
                return Confirmed::NotYet(admin);
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
}

/// An address of this machine where the configuration means all of them.
fn reachable(admin: SocketAddr) -> SocketAddr {
    let ip = match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, admin.port())
}

/// Largest answer: more than the most locks there can be.
const ANSWER_BYTES_MAX: usize = 32 << 20;

struct Asker {
    http: Http,
    address: Address,
}

impl Asker {
    fn new(admin: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self {
            http: Http::new(&[], PATIENCE)?,
            address: Address::parse(&format!("http://{admin}/locks"))?,
        })
    }

    /// The ids of the locks in force.
    async fn ask(&self) -> anyhow::Result<Vec<Box<str>>> {
        let request = Request::get(&self.address, ANSWER_BYTES_MAX);
        let answer = self.http.send(request).await?;
        let answer: Answer = serde_json::from_slice(&answer.body)?;
        Ok(answer.locks.into_iter().map(|lock| lock.id).collect())
    }
}
