//! One nats-server as a child process: ephemeral ports, a folder of its own, ready when `start` returns, dead when
//! the value is dropped or this process is gone.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::demo::provision::{Keeper, ProvisionError, TempDir, command, run};

/// How long a server may take to listen, in steps of [`STEP`]. Two cores that compile something else are slow.
const STEPS_MAX: u32 = 1500;
const STEP: Duration = Duration::from_millis(20);

/// Why a server did not start, or did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file or a program was not there.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// The program could not be run.
    #[error("cannot run {}: {source}", .binary.display())]
    Spawn {
        /// The nats-server.
        binary: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// It ended by itself; most often the configuration is wrong.
    #[error("nats-server ended ({status}):\n{log}")]
    Ended {
        /// Exit status as the system words it.
        status: String,
        /// What it wrote.
        log: String,
    },
    /// It runs, but did not listen in time.
    #[error("nats-server did not listen within {} s:\n{log}", (STEP * STEPS_MAX).as_secs())]
    NotReady {
        /// What it wrote.
        log: String,
    },
}

/// A running nats-server on loopback. Killed, and its folder removed, on drop.
///
/// A second small process waits for the end of ours, and kills the server then: a test run that is killed leaves
/// nothing behind.
#[derive(Debug)]
pub struct NatsServer {
    child: Child,
    keeper: Keeper,
    binary: PathBuf,
    dir: TempDir,
    port: u16,
    monitor_port: u16,
}

impl NatsServer {
    /// Starts `binary` with `config` (nats-server's own language) on ports of the system's choice, and returns when
    /// it accepts connections. Address, ports, log and JetStream folder are given here and override the text;
    /// `jetstream: {}` is enough to have JetStream.
    ///
    /// # Errors
    /// When it cannot be run, ends (the text carries its log), or does not listen within 30 s.
    pub fn start(binary: &Path, config: &str) -> Result<Self, ServerError> {
        Self::start_at(binary, config, 0)
    }

    /// As [`NatsServer::start`], on a client port that was free a moment ago: for a server that comes back. 0 leaves
    /// the choice to the system.
    ///
    /// # Errors
    /// As for [`NatsServer::start`].
    pub fn start_at(binary: &Path, config: &str, port: u16) -> Result<Self, ServerError> {
        let dir = TempDir::create("nats")?;
        let config_file = dir.path().join("nats.conf");
        fs::write(&config_file, config).map_err(ProvisionError::file("write", &config_file))?;
        let errors_file = dir.path().join("stderr");
        let errors =
            File::create(&errors_file).map_err(ProvisionError::file("create", &errors_file))?;
        let client_port = if port == 0 {
            "-1".to_owned()
        } else {
            port.to_string()
        };
        let mut command = Command::new(binary);
        if config.contains("jetstream") {
            // Servers before 2.2 do not know the word.
            command.arg("--store_dir").arg(dir.path().join("jetstream"));
        }
        let child = command
            .args([
                "--addr",
                "127.0.0.1",
                "--port",
                &client_port,
                "--http_port",
                "-1",
            ])
            .arg("--config")
            .arg(&config_file)
            .arg("--ports_file_dir")
            .arg(dir.path())
            .arg("--log")
            .arg(dir.path().join("log"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .map_err(|source| ServerError::Spawn {
                binary: binary.to_path_buf(),
                source,
            })?;
        let keeper = Keeper::over(child.id(), dir.path());
        let binary = binary.to_path_buf();
        let mut server = Self {
            child,
            keeper,
            binary,
            dir,
            port: 0,
            monitor_port: 0,
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<(), ServerError> {
        for _ in 0..STEPS_MAX {
            if let Some((port, monitor_port)) = self.ports() {
                (self.port, self.monitor_port) = (port, monitor_port);
                if greets(port) {
                    return Ok(());
                }
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let status = status.to_string();
                return Err(ServerError::Ended {
                    status,
                    log: self.log(),
                });
            }
            thread::sleep(STEP);
        }
        Err(ServerError::NotReady { log: self.log() })
    }

    /// The ports file, once it is there and complete (`server/ports.go`).
    fn ports(&self) -> Option<(u16, u16)> {
        let program = self.binary.file_name()?.to_string_lossy().into_owned();
        let file = self
            .dir
            .path()
            .join(format!("{program}_{}.ports", self.child.id()));
        let ports: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        let port_of = |kind: &str| -> Option<u16> {
            ports
                .get(kind)?
                .get(0)?
                .as_str()?
                .rsplit_once(':')?
                .1
                .parse()
                .ok()
        };
        Some((port_of("nats")?, port_of("monitoring")?))
    }

    /// The client port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The port of `/varz`, `/connz` and the like on 127.0.0.1.
    #[must_use]
    pub const fn monitor_port(&self) -> u16 {
        self.monitor_port
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The same as a URL, without credentials.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// The process id, valid as long as this value lives.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder that the configuration, the log and the JetStream files are in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What the server has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read(self.dir.path().join(name)).unwrap_or_default();
        let bytes = [read("stderr"), read("log")].concat();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Replaces the configuration and asks the server to read it. Returns when the signal is sent; the effect comes
    /// a moment later.
    ///
    /// # Errors
    /// When the file cannot be written or the signal not be sent.
    pub fn reload(&self, config: &str) -> Result<(), ServerError> {
        let file = self.dir.path().join("nats.conf");
        fs::write(&file, config).map_err(ProvisionError::file("write", &file))?;
        self.signal("reload")
    }

    /// Sends `reload`, `ldm` (lame duck), `reopen`, `quit` or `stop`, by the program's own `--signal`.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn signal(&self, name: &str) -> Result<(), ServerError> {
        let mut signal = command(&self.binary);
        signal
            .arg("--signal")
            .arg(format!("{name}={}", self.child.id()));
        run(&mut signal, "the server ran from this file a moment ago")?;
        Ok(())
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it at once, as a crash would; its folder stays until drop.
    pub fn kill(&mut self) {
        self.keeper.dismiss();
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether something accepts on `port`, and speaks first or waits for TLS.
fn greets(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
        return false;
    };
    // A server with `handshake_first` says nothing; that it accepted is all there is to see.
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .ok();
    let mut first = [0; 5];
    match stream.read_exact(&mut first) {
        Ok(()) => first == *b"INFO ",
        Err(error) => {
            matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::servers::{Version, find_or_install};

    fn latest() -> PathBuf {
        find_or_install(Version::LATEST).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_version_starts_with_jetstream_and_is_gone_after_drop() {
        for version in Version::offered_here() {
            let binary = find_or_install(version).unwrap_or_else(|error| panic!("{error}"));
            let server = NatsServer::start(&binary, "jetstream: {}").unwrap();
            let (port, dir) = (server.port(), server.dir().to_path_buf());
            assert!(greets(port) && dir.join("jetstream").is_dir(), "{version}");
            assert!(
                server.log().contains(&format!("Version:  {version}")),
                "{}",
                server.log()
            );
            drop(server);
            assert!(!greets(port) && !dir.exists(), "{version}");
        }
    }

    #[test]
    fn two_servers_do_not_share_a_port() {
        let binary = latest();
        let (one, two) = (
            NatsServer::start(&binary, "").unwrap(),
            NatsServer::start(&binary, "").unwrap(),
        );
        assert_ne!(one.port(), two.port());
        assert_ne!(one.monitor_port(), two.monitor_port());
    }

    #[test]
    fn a_wrong_configuration_is_reported_with_the_servers_own_words() {
        let error = NatsServer::start(&latest(), "port: {").unwrap_err();
        assert!(matches!(error, ServerError::Ended { .. }), "{error}");
        assert!(
            error.to_string().contains("Parse error on line 1"),
            "{error}"
        );
    }

    #[test]
    fn a_server_comes_back_on_its_port() {
        let binary = latest();
        let mut server = NatsServer::start(&binary, "").unwrap();
        let port = server.port();
        server.kill();
        assert!(!server.is_running());
        let again = NatsServer::start_at(&binary, "", port).unwrap();
        assert_eq!(again.port(), port);
    }

    #[test]
    fn a_reload_reaches_the_server() {
        let server = NatsServer::start(&latest(), "max_payload: 1000").unwrap();
        server.reload("max_payload: 2000").unwrap();
        let reloaded = || server.log().contains("Reloaded: max_payload");
        let seen = (0..STEPS_MAX).any(|_| {
            thread::sleep(STEP);
            reloaded()
        });
        assert!(seen, "{}", server.log());
    }
}
