//! Links dialled ahead: a storm is served with them, and nothing that becomes of one is seen by a client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use natsentry::demo::servers::{NatsServer, Version, find_or_install};
use natsentry::secret::Secret;
use natsentry::upstream::{
    AheadFigures, Auth, DialError, Link, ServerState, TlsFirst, UpstreamConfig, Upstreams,
};
use nkeys::KeyPair;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::certificates::Certificates;
use crate::support::{
    PATIENCE, become_states, carries, config, dial, eventually, monitor, password, start, status,
    tls_url, upstreams, url,
};

const INFO: &[u8] = b"INFO {\"server_id\":\"X\",\"version\":\"2.9.10\",\"headers\":true} \r\n";

/// nats-server does not cut a link without CONNECT: what is closed, we closed.
const PATIENT: &str = "authorization { timeout: 60 }";

fn figures(upstreams: &Upstreams) -> AheadFigures {
    status(upstreams).ahead
}

/// Links that were dialled ahead and have come to their end, or wait.
fn dialled(upstreams: &Upstreams) -> u64 {
    let figures = figures(upstreams);
    figures.taken + figures.expired + figures.failed + figures.dropped + figures.waiting as u64
}

async fn sessions(upstreams: &Upstreams, count: usize) -> Vec<Result<Link, DialError>> {
    join_all((0..count).map(|_| dial(upstreams))).await
}

/// Storms of 200 sessions, 20 at a time, until links dialled ahead were used. Gives the last storm's links.
async fn storm(upstreams: &Upstreams) -> Vec<Link> {
    let (before, limit) = (figures(upstreams).taken, Instant::now() + PATIENCE);
    loop {
        let mut links = Vec::new();
        for _ in 0..10 {
            for link in sessions(upstreams, 20).await {
                links.push(link.unwrap());
            }
        }
        if figures(upstreams).taken > before {
            return links;
        }
        assert!(Instant::now() < limit, "{:?}", figures(upstreams));
    }
}

/// Storms until links wait. The links of the sessions are gone.
async fn fill(upstreams: &Upstreams) {
    let limit = Instant::now() + PATIENCE;
    while figures(upstreams).waiting == 0 {
        assert!(Instant::now() < limit, "{:?}", figures(upstreams));
        for link in sessions(upstreams, 20).await {
            link.unwrap();
        }
    }
}

async fn open_at(server: &NatsServer) -> u64 {
    monitor(server, "/varz").await["connections"]
        .as_u64()
        .unwrap()
}

async fn ready(config: UpstreamConfig) -> Upstreams {
    let servers = config.servers.len();
    let upstreams = upstreams(config);
    become_states(&upstreams, &vec![ServerState::Up; servers]).await;
    upstreams
}

#[tokio::test]
async fn a_storm_is_served_with_links_that_waited_and_none_is_left_behind() {
    for version in [Version::V2_9_10, Version::LATEST] {
        let server = start(version, PATIENT);
        let upstreams = ready(config(vec![url(&server)], Auth::None)).await;
        let mut links = storm(&upstreams).await;
        let over = Instant::now();
        for link in &mut links {
            carries(link).await;
        }
        eventually("links nobody came for are closed", || async {
            open_at(&server).await == links.len() as u64
        })
        .await;
        let took = over.elapsed();
        assert_eq!(figures(&upstreams).waiting, 0, "{took:?}");
        // What is closed after that is the sessions' own.
        drop(links);
        eventually("nothing is open", || async { open_at(&server).await == 0 }).await;
    }
}

#[tokio::test]
async fn few_sessions_cause_no_link_however_many_come_in_all() {
    let server = Fake::start().await;
    let upstreams = ready(server.config()).await;
    let before = server.accepted();
    for link in sessions(&upstreams, 99).await {
        link.unwrap();
    }
    assert_eq!(dialled(&upstreams), 0);
    assert_eq!(server.accepted() - before, 99);
    // Failures are no sessions.
    server.mood.refusing.store(true, Ordering::SeqCst);
    for link in sessions(&upstreams, 200).await {
        link.unwrap_err();
    }
    assert_eq!(dialled(&upstreams), 0);
}

#[tokio::test]
async fn links_that_ended_while_they_waited_are_seen_by_no_client() {
    let server = Fake::start().await;
    let upstreams = ready(server.config()).await;
    let limit = Instant::now() + PATIENCE;
    while figures(&upstreams).failed == 0 {
        assert!(Instant::now() < limit, "{:?}", figures(&upstreams));
        fill(&upstreams).await;
        // All that wait are closed; the server takes new connections.
        server.hang_up().await;
        for link in sessions(&upstreams, 40).await {
            link.unwrap();
        }
    }
}

#[tokio::test]
async fn a_link_that_ends_on_connect_is_replaced_once() {
    let server = Fake::start().await;
    let upstreams = ready(server.config()).await;
    fill(&upstreams).await;
    let (accepted, before) = (server.accepted(), figures(&upstreams));
    // Whoever has been greeted by now is closed at its CONNECT; whoever comes from now on is served.
    server.mood.turned_at.store(accepted, Ordering::SeqCst);
    let links = sessions(&upstreams, 40).await;
    let served = links.iter().filter(|link| link.is_ok()).count();
    assert_eq!(served, 40, "{:?}", figures(&upstreams));
    let after = figures(&upstreams);
    assert!(
        after.failed > before.failed || after.expired > before.expired,
        "{before:?} {after:?}"
    );
    assert!(server.accepted() - accepted <= 56, "one dial for each");
}

/// A link that waited gives a server no less time to answer than one that is dialled.
#[tokio::test]
async fn a_server_that_takes_most_of_the_time_for_an_answer_serves_all() {
    let server = Fake::start().await;
    let upstreams = ready(UpstreamConfig {
        dial_timeout: Duration::from_secs(4),
        ..server.config()
    })
    .await;
    let limit = Instant::now() + PATIENCE;
    while figures(&upstreams).failed == 0 {
        assert!(Instant::now() < limit, "{:?}", figures(&upstreams));
        server.mood.slow.store(false, Ordering::SeqCst);
        fill(&upstreams).await;
        server.mood.slow.store(true, Ordering::SeqCst);
        for link in sessions(&upstreams, 40).await {
            link.unwrap();
        }
    }
}

#[tokio::test]
async fn a_server_that_cuts_waiting_links_at_once_serves_all_and_is_left_alone_for_a_while() {
    let server = Fake::start().await;
    server.mood.hasty.store(true, Ordering::SeqCst);
    let upstreams = ready(server.config()).await;
    let began = Instant::now();
    let before = server.accepted();
    for _ in 0..15 {
        for link in sessions(&upstreams, 20).await {
            link.unwrap();
        }
    }
    let pauses = usize::try_from(began.elapsed().as_secs()).unwrap() / 2 + 1;
    let ahead = server.accepted() - before - 300;
    // Sessions that found a link in time count here as well.
    let taken = usize::try_from(figures(&upstreams).taken).unwrap();
    assert!(
        ahead <= 8 * pauses + taken + 8,
        "{ahead} in {:?}: {:?}",
        began.elapsed(),
        figures(&upstreams)
    );
}

#[tokio::test]
async fn a_server_that_restarts_in_a_storm_loses_no_session_afterwards() {
    let binary = find_or_install(Version::LATEST).unwrap();
    let mut server = start(Version::LATEST, PATIENT);
    let upstreams = ready(config(vec![url(&server)], Auth::None)).await;
    fill(&upstreams).await;
    server.kill();
    for told in sessions(&upstreams, 40).await {
        told.unwrap_err();
    }
    assert_eq!(figures(&upstreams).waiting, 0);
    let server = NatsServer::start_at(&binary, PATIENT, server.port()).unwrap();
    become_states(&upstreams, &[ServerState::Up]).await;
    for mut link in storm(&upstreams).await {
        carries(&mut link).await;
    }
    eventually("nothing is open", || async { open_at(&server).await == 0 }).await;
}

#[tokio::test]
async fn after_a_reload_nobody_is_bound_to_what_was_dialled_before() {
    let users = "authorization { timeout: 60, users = [ \
        { user: one, password: s3cr3t }, { user: two, password: s3cr3t } ] }";
    let (server, other) = (start(Version::LATEST, users), start(Version::LATEST, users));
    let upstreams = ready(config(vec![url(&server)], password("one", "s3cr3t"))).await;
    fill(&upstreams).await;
    upstreams
        .reload(vec![config(vec![url(&server)], password("two", "s3cr3t"))])
        .unwrap();
    assert_eq!(figures(&upstreams).waiting, 0);
    let links = storm(&upstreams).await;
    eventually("all are bound with the new credentials", || async {
        let connz = monitor(&server, "/connz?auth=1&limit=2000").await;
        let users: Vec<_> = connz["connections"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|connection| connection["name"] == "historian")
            .map(|connection| connection["authorized_user"].as_str() == Some("two"))
            .collect();
        users.len() >= links.len() && users.iter().all(|two| *two)
    })
    .await;
    drop(links);
    fill(&upstreams).await;
    upstreams
        .reload(vec![config(vec![url(&other)], password("two", "s3cr3t"))])
        .unwrap();
    for link in sessions(&upstreams, 40).await {
        assert_eq!(*link.unwrap().server, *other.url());
    }
    eventually("nothing is open at the server before", || async {
        open_at(&server).await == 0
    })
    .await;
}

#[tokio::test]
async fn a_drain_closes_what_waits_and_dials_nothing_ahead_even_after_a_reload() {
    let server = Fake::start().await;
    let upstreams = ready(server.config()).await;
    fill(&upstreams).await;
    upstreams.drain();
    assert_eq!(figures(&upstreams).waiting, 0);
    for reload in [false, true] {
        if reload {
            upstreams.reload(vec![server.config()]).unwrap();
        }
        let before = figures(&upstreams).taken;
        for _ in 0..10 {
            for link in sessions(&upstreams, 30).await {
                link.unwrap();
            }
        }
        let after = figures(&upstreams);
        assert_eq!((after.waiting, after.taken), (0, before));
    }
}

#[tokio::test]
async fn a_server_in_doubt_keeps_none_of_its_links() {
    let server = Fake::start().await;
    let upstreams = ready(server.config()).await;
    fill(&upstreams).await;
    let label = server.config().servers[0].to_string();
    upstreams.suspect("plant", &label);
    assert_eq!(figures(&upstreams).waiting, 0);
    fill(&upstreams).await;
    upstreams.lame_duck("plant", &label);
    assert_eq!(figures(&upstreams).waiting, 0);
}

#[tokio::test]
async fn links_that_waited_belong_to_the_server_that_a_session_would_have_got() {
    let (one, two) = (start(Version::LATEST, ""), start(Version::LATEST, ""));
    let upstreams = ready(config(vec![url(&one), url(&two)], Auth::None)).await;
    let links = storm(&upstreams).await;
    let of_one = links
        .iter()
        .filter(|link| *link.server == *one.url())
        .count();
    assert_eq!(of_one, links.len() / 2);
    for link in &links {
        let port = link.stream.peer_addr().unwrap().port();
        assert!(link.server.ends_with(&format!(":{port}")));
    }
}

/// Where signatures and handshakes take so long that fewer than 100 come in a second, this shows only that all are served;
/// that a link signs its own nonce is shown beside [`Auth::Nkey`]'s dial in `src/upstream/ahead.rs`.
#[tokio::test]
async fn nonces_and_tls_belong_to_the_link_that_waited() {
    let user = KeyPair::new_user();
    let nkey = start(
        Version::LATEST,
        &format!(
            "authorization {{ timeout: 60, users = [ {{ nkey: {} }} ] }}",
            user.public_key()
        ),
    );
    let auth = Auth::Nkey(Secret::new(user.seed().unwrap()));
    let signed = ready(config(vec![url(&nkey)], auth)).await;
    for link in sessions(&signed, 120).await {
        carries(&mut link.unwrap()).await;
    }
    let certificates = Certificates::new();
    for (settings, first) in [
        ("", TlsFirst::No),
        ("handshake_first: true", TlsFirst::Yes),
        ("", TlsFirst::Auto),
    ] {
        let server = start(Version::LATEST, &certificates.server(settings));
        let secured = UpstreamConfig {
            tls: Some(certificates.dial(first)),
            ..config(vec![tls_url(&server)], Auth::None)
        };
        let upstreams = ready(secured).await;
        let (first, then) = (
            sessions(&upstreams, 120).await,
            sessions(&upstreams, 20).await,
        );
        for link in first.into_iter().chain(then) {
            let mut link = link.unwrap();
            assert!(link.stream.is_tls());
            carries(&mut link).await;
        }
    }
}

#[tokio::test]
async fn where_a_proxy_header_names_the_client_nothing_is_dialled_ahead() {
    let server = start(Version::LATEST, "proxy_protocol: true");
    let upstreams = ready(UpstreamConfig {
        proxy_protocol: true,
        ..config(vec![url(&server)], Auth::None)
    })
    .await;
    for _ in 0..10 {
        for link in sessions(&upstreams, 30).await {
            link.unwrap();
        }
    }
    assert_eq!(dialled(&upstreams), 0);
}

#[tokio::test]
async fn a_server_that_is_nearly_full_is_filled_by_sessions_alone() {
    let server = start(Version::LATEST, "max_connections: 220");
    let upstreams = ready(config(vec![url(&server)], Auth::None)).await;
    let (mut kept, limit) = (Vec::new(), Instant::now() + PATIENCE);
    // Whoever is turned away comes again.
    while kept.len() < 220 {
        assert!(Instant::now() < limit, "{} sessions", kept.len());
        let missing = 220 - kept.len();
        let more = sessions(&upstreams, missing.min(20)).await;
        kept.extend(more.into_iter().flatten());
    }
    assert!(dialled(&upstreams) > 0);
}

/// A server that speaks as little NATS as a dial needs.
struct Fake {
    address: SocketAddr,
    mood: Arc<Mood>,
}

#[derive(Default)]
struct Mood {
    accepted: AtomicUsize,
    /// Answers CONNECT with a refusal.
    refusing: AtomicBool,
    /// Answers CONNECT after more than a half of the time.
    slow: AtomicBool,
    /// Cuts whoever does not say CONNECT at once.
    hasty: AtomicBool,
    /// The first so many connections are closed at CONNECT.
    turned_at: AtomicUsize,
    /// Rung to close those that wait for CONNECT.
    closing: tokio::sync::Notify,
    waiting: AtomicUsize,
}

impl Fake {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mood = Arc::new(Mood::default());
        let serving = Arc::clone(&mood);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = serving.accepted.fetch_add(1, Ordering::SeqCst);
                let mood = Arc::clone(&serving);
                tokio::spawn(async move { mood.serve(stream, number).await });
            }
        });
        Self { address, mood }
    }

    fn config(&self) -> UpstreamConfig {
        let url = format!("nats://{}", self.address).parse().unwrap();
        config(vec![url], Auth::None)
    }

    fn accepted(&self) -> usize {
        self.mood.accepted.load(Ordering::SeqCst)
    }

    /// Closes every connection that has not said CONNECT.
    async fn hang_up(&self) {
        self.mood.closing.notify_waiters();
        eventually("those that wait are closed", || async {
            self.mood.waiting.load(Ordering::SeqCst) == 0
        })
        .await;
    }
}

impl Mood {
    async fn serve(&self, mut stream: TcpStream, number: usize) -> std::io::Result<()> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let closing = self.closing.notified();
        stream.write_all(INFO).await?;
        let mut seen = Vec::new();
        let patience = match self.hasty.load(Ordering::SeqCst) {
            true => Duration::from_millis(200),
            false => PATIENCE,
        };
        let asked = async {
            while !seen.ends_with(b"PING\r\n") {
                if stream.read_buf(&mut seen).await? == 0 {
                    return Ok(false);
                }
            }
            std::io::Result::Ok(true)
        };
        let asked = tokio::select! {
            asked = timeout(patience, asked) => matches!(asked, Ok(Ok(true))),
            () = closing => false,
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        if !asked || number < self.turned_at.load(Ordering::SeqCst) {
            return Ok(());
        }
        if self.refusing.load(Ordering::SeqCst) {
            return stream
                .write_all(b"-ERR 'Authorization Violation'\r\n")
                .await;
        }
        if self.slow.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(2_500)).await;
        }
        // A probe asks once more.
        stream.write_all(b"PONG\r\nPONG\r\n").await?;
        stream.read_to_end(&mut seen).await.map(drop)
    }
}
