//! What every test here needs: servers, upstreams, a client's wishes, and patience with a limit.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use natsentry::demo::servers::{NatsServer, Version, find_or_install};
use natsentry::secret::Secret;
use natsentry::upstream::{
    Auth, ConnectOptions, DialError, Link, ServerState, ServerUrl, UpstreamConfig, UpstreamStatus,
    Upstreams,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn start(version: Version, config: &str) -> NatsServer {
    let binary = find_or_install(version).unwrap_or_else(|error| panic!("{error}"));
    NatsServer::start(&binary, config).unwrap_or_else(|error| panic!("{version}: {error}"))
}

pub fn url(server: &NatsServer) -> ServerUrl {
    server.url().parse().unwrap()
}

pub fn tls_url(server: &NatsServer) -> ServerUrl {
    format!("tls://localhost:{}", server.port())
        .parse()
        .unwrap()
}

pub fn config(servers: Vec<ServerUrl>, auth: Auth) -> UpstreamConfig {
    UpstreamConfig {
        auth,
        ..UpstreamConfig::new("plant", servers)
    }
}

pub fn password(user: &str, password: &str) -> Auth {
    Auth::UserPassword {
        user: Secret::new(user),
        password: Secret::new(password),
    }
}

pub fn upstreams(config: UpstreamConfig) -> Upstreams {
    Upstreams::start(vec![config], &TaskTracker::new()).unwrap()
}

pub const fn options() -> ConnectOptions<'static> {
    ConnectOptions {
        client_addr: SocketAddr::new(
            std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9)),
            1234,
        ),
        listener_addr: SocketAddr::new(
            std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
            4222,
        ),
        echo: true,
        headers: true,
        no_responders: true,
        protocol: 1,
        lang: "go",
        version: "1.53.0",
        name: "historian",
    }
}

pub async fn dial(upstreams: &Upstreams) -> Result<Link, DialError> {
    upstreams.dial("plant", &options()).await
}

/// Dials `config` once and demands that the link carries a message.
pub async fn dials(config: UpstreamConfig) -> Link {
    let upstreams = upstreams(config);
    let mut link = dial(&upstreams)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    carries(&mut link).await;
    link
}

/// Dials `config` once and demands a failure.
pub async fn fails(config: UpstreamConfig) -> DialError {
    let upstreams = upstreams(config);
    let error = dial(&upstreams).await.expect_err("the dial must fail");
    assert!(!error.to_string().contains("s3cr3t"), "{error}");
    error
}

/// A message goes out and comes back.
pub async fn carries(link: &mut Link) {
    link.stream
        .write_all(b"SUB here 1\r\nPUB here 2\r\nhi\r\nPING\r\n")
        .await
        .unwrap();
    link.stream.flush().await.unwrap();
    let mut seen = std::mem::take(&mut link.leftover);
    let echoed = async {
        while !contains(&seen, b"MSG here 1 2\r\nhi\r\n") {
            assert!(
                !contains(&seen, b"-ERR"),
                "{}",
                String::from_utf8_lossy(&seen)
            );
            assert_ne!(link.stream.read_buf(&mut seen).await.unwrap(), 0, "closed");
        }
    };
    timeout(PATIENCE, echoed)
        .await
        .expect("the message comes back");
}

pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// Asks again and again until `ready` says yes.
pub async fn eventually<F, R>(what: &str, mut ready: F)
where
    F: FnMut() -> R,
    R: Future<Output = bool>,
{
    let limit = Instant::now() + PATIENCE;
    while !ready().await {
        assert!(Instant::now() < limit, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

pub fn status(upstreams: &Upstreams) -> UpstreamStatus {
    upstreams.status().remove(0)
}

pub fn states(upstreams: &Upstreams) -> Vec<ServerState> {
    status(upstreams)
        .servers
        .iter()
        .map(|server| server.state)
        .collect()
}

/// Waits until the servers are in these states.
pub async fn become_states(upstreams: &Upstreams, wanted: &[ServerState]) {
    eventually("server states", || async { states(upstreams) == wanted }).await;
}

/// `GET path` on the monitoring port, as JSON.
pub async fn monitor(server: &NatsServer, path: &str) -> serde_json::Value {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", server.monitor_port()))
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let text = String::from_utf8(answer).unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// The entry of our connection in `/connz`, by its name.
pub async fn connection(server: &NatsServer) -> serde_json::Value {
    let connz = monitor(server, "/connz?auth=1").await;
    let connections = connz["connections"].as_array().unwrap();
    let ours = connections
        .iter()
        .find(|connection| connection["name"] == "historian");
    ours.unwrap_or_else(|| panic!("not in {connz}")).clone()
}
