//! CONNECT before INFO: done only where nothing of INFO is needed, and whatever the server turns out to be, the session gets
//! what the usual order would have given it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use natsentry::demo::servers::{NatsServer, Version};
use natsentry::secret::Secret;
use natsentry::upstream::{
    Auth, DialError, Link, ServerState, TlsFirst, UpstreamConfig, Upstreams,
};
use nkeys::KeyPair;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::certificates::Certificates;
use crate::jwt::Operator;
use crate::support::{PATIENCE, become_states, carries, config, dial, password, start, upstreams};

/// What stands at the address of the upstream.
#[derive(Clone)]
enum Stand {
    /// A relay to a server, which the server is reached by once the client has spoken, or after this long.
    Relay(SocketAddr, Duration),
    /// To who speaks first, this; it closes when that is empty. Others are served as ever.
    ToTheEarly(&'static [&'static [u8]]),
    /// The same to everybody, whether they speak or not.
    ToAll(&'static [&'static [u8]]),
    /// Says nothing to who speaks first. Others are served as ever.
    DeafToTheEarly,
}

const INFO: &[u8] = b"INFO {\"server_id\":\"X\",\"version\":\"2.9.10\",\"headers\":true} \r\n";

/// An answer that comes after more than half of the time that a dial has here.
const LATE: &[u8] = b"+OK\r\n";

/// Whoever waits for INFO has not spoken after this long.
const MOMENT: Duration = Duration::from_millis(100);

struct Stage {
    address: SocketAddr,
    stand: Arc<Mutex<Stand>>,
    accepted: Arc<AtomicUsize>,
    /// Connections on which the client spoke first.
    early: Arc<AtomicUsize>,
}

impl Stage {
    async fn set(stand: Stand) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stage = Self {
            address: listener.local_addr().unwrap(),
            stand: Arc::new(Mutex::new(stand)),
            accepted: Arc::default(),
            early: Arc::default(),
        };
        let (stand, accepted, early) = (
            Arc::clone(&stage.stand),
            Arc::clone(&stage.accepted),
            Arc::clone(&stage.early),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let stand = stand.lock().unwrap().clone();
                tokio::spawn(play(stand, stream, Arc::clone(&early)));
            }
        });
        stage
    }

    async fn relay(server: &NatsServer) -> Self {
        Self::set(Stand::Relay(server.address(), Duration::ZERO)).await
    }

    async fn fake() -> Self {
        Self::set(Stand::ToAll(&[INFO, b"PONG\r\nPONG\r\n"])).await
    }

    fn change(&self, stand: Stand) {
        *self.stand.lock().unwrap() = stand;
    }

    fn config(&self, auth: Auth) -> UpstreamConfig {
        let url = format!("nats://{}", self.address).parse().unwrap();
        UpstreamConfig {
            dial_timeout: Duration::from_secs(3),
            ..config(vec![url], auth)
        }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    fn early(&self) -> usize {
        self.early.load(Ordering::SeqCst)
    }

    /// A link to `server` over a relay that passes INFO only to a client that spoke before.
    async fn held(&self, upstreams: &Upstreams, server: &NatsServer) -> Link {
        let limit = Instant::now() + PATIENCE;
        loop {
            self.change(Stand::Relay(server.address(), Duration::ZERO));
            become_states(upstreams, &[ServerState::Up]).await;
            dial(upstreams).await.unwrap();
            self.change(Stand::Relay(server.address(), PATIENCE));
            match dial(upstreams).await {
                Ok(link) => return link,
                // On a machine that stood still so long that the last greeting does not count any more.
                Err(error) => assert!(Instant::now() < limit, "{error}"),
            }
        }
    }

    /// An upstream that has greeted in clear a moment ago.
    async fn greeted(&self, auth: Auth) -> Upstreams {
        let upstreams = upstreams(self.config(auth));
        become_states(&upstreams, &[ServerState::Up]).await;
        dial(&upstreams).await.unwrap();
        upstreams
    }
}

async fn spoke(stream: &TcpStream, within: Duration) -> bool {
    matches!(timeout(within, stream.peek(&mut [0])).await, Ok(Ok(1)))
}

async fn play(stand: Stand, mut stream: TcpStream, early: Arc<AtomicUsize>) -> std::io::Result<()> {
    let wait = match stand {
        Stand::Relay(_, wait) => wait,
        Stand::ToAll(_) => Duration::ZERO,
        Stand::ToTheEarly(_) | Stand::DeafToTheEarly => MOMENT,
    };
    let first = spoke(&stream, wait).await;
    if first {
        early.fetch_add(1, Ordering::SeqCst);
    }
    let lines: &[&[u8]] = match stand {
        Stand::Relay(server, _) => {
            let mut server = TcpStream::connect(server).await?;
            return copy_bidirectional(&mut stream, &mut server).await.map(drop);
        }
        Stand::ToTheEarly(lines) if first => lines,
        Stand::DeafToTheEarly if first => {
            return stream.read_to_end(&mut Vec::new()).await.map(drop);
        }
        Stand::ToAll(lines) => lines,
        Stand::ToTheEarly(_) | Stand::DeafToTheEarly => &[INFO, b"PONG\r\n"],
    };
    let Some((greeting, answers)) = lines.split_first() else {
        return Ok(());
    };
    stream.write_all(greeting).await?;
    let mut seen = Vec::new();
    while !seen.ends_with(b"PING\r\n") {
        if stream.read_buf(&mut seen).await? == 0 {
            return Ok(());
        }
    }
    for answer in answers {
        // Apart, so that they are read apart.
        sleep(Duration::from_millis(if *answer == LATE {
            1_700
        } else {
            20
        }))
        .await;
        stream.write_all(answer).await?;
    }
    stream.read_to_end(&mut seen).await.map(drop)
}

fn token() -> Auth {
    Auth::Token(Secret::new("s3cr3t"))
}

#[tokio::test]
async fn every_version_takes_a_connect_that_comes_before_its_info() {
    let users = "authorization { users = [ { user: svc, password: s3cr3t } ] }";
    // A server with nkeys sends a nonce to everybody.
    let nonce = format!(
        "authorization {{ users = [ {{ user: svc, password: s3cr3t }}, {{ nkey: {} }} ] }}",
        KeyPair::new_user().public_key()
    );
    let certificates = Certificates::new();
    // Looks at the first bytes to tell TLS from a CONNECT.
    let both = format!("{}allow_non_tls: true", certificates.server(""));
    for version in Version::offered_here() {
        for (settings, auth) in [
            ("", Auth::None),
            (both.as_str(), Auth::None),
            ("authorization { token: \"s3cr3t\" }", token()),
            (users, password("svc", "s3cr3t")),
            (nonce.as_str(), password("svc", "s3cr3t")),
        ] {
            let server = start(version, settings);
            let stage = Stage::relay(&server).await;
            let upstreams = upstreams(stage.config(auth));
            let mut link = stage.held(&upstreams, &server).await;
            carries(&mut link).await;
            assert_eq!(link.info.version, version.as_str());
        }
    }
}

#[tokio::test]
async fn where_info_has_a_say_it_is_read_first() {
    let (operator, user, proxy) = (Operator::new(), KeyPair::new_user(), KeyPair::new_server());
    let bearer = operator.user(&user, &json!({ "bearer_token": true }));
    let nkey = format!(
        "authorization {{ users = [ {{ nkey: {} }} ] }}",
        user.public_key()
    );
    let certificates = Certificates::new();
    let cases = [
        (nkey, Auth::Nkey(Secret::new(user.seed().unwrap()))),
        (operator.server(), Auth::Creds(Secret::new(bearer))),
        (String::new(), Auth::None),
        (String::new(), Auth::None),
        ("proxy_protocol: true".to_owned(), Auth::None),
    ];
    for (case, (settings, auth)) in cases.into_iter().enumerate() {
        let server = start(Version::LATEST, &settings);
        let stage = Stage::relay(&server).await;
        let mut config = stage.config(auth);
        match case {
            2 => config.tls = Some(certificates.dial(TlsFirst::Auto)),
            3 => config.trusted_proxy_nkey = Some(Secret::new(proxy.seed().unwrap())),
            4 => config.proxy_protocol = true,
            _ => {}
        }
        let upstreams = upstreams(config);
        become_states(&upstreams, &[ServerState::Up]).await;
        dial(&upstreams).await.unwrap();
        let before = stage.early();
        stage.change(Stand::Relay(server.address(), MOMENT));
        carries(&mut dial(&upstreams).await.unwrap()).await;
        // A PROXY header does come first; it says CONNECT on its own after INFO.
        let expected = usize::from(case == 4);
        assert_eq!(stage.early() - before, expected, "case {case}");
    }
}

#[tokio::test]
async fn a_server_that_requires_tls_meanwhile_is_told_as_ever_and_forgotten_as_it_was() {
    let certificates = Certificates::new();
    for version in [Version::V2_9_10, Version::LATEST] {
        let plain = start(version, "");
        let secured = start(version, &certificates.server(""));
        let stage = Stage::relay(&plain).await;
        let upstreams = stage.greeted(Auth::None).await;
        stage.change(Stand::Relay(secured.address(), Duration::ZERO));
        let error = dial(&upstreams).await.unwrap_err();
        assert!(matches!(error, DialError::Tls { .. }), "{error}");
        assert!(error.to_string().contains("it requires TLS"), "{error}");
        carries(&mut stage.held(&upstreams, &plain).await).await;
    }
}

#[tokio::test]
async fn a_server_with_other_credentials_refuses_once_and_not_a_second_time() {
    for version in [Version::V2_9_10, Version::LATEST] {
        let ours = start(version, "authorization { token: \"s3cr3t\" }");
        let other = start(version, "authorization { token: \"another\" }");
        let stage = Stage::relay(&ours).await;
        let upstreams = stage.greeted(token()).await;
        stage.change(Stand::Relay(other.address(), MOMENT));
        let before = (stage.accepted(), stage.early());
        let error = dial(&upstreams).await.unwrap_err();
        assert!(matches!(error, DialError::Refused { .. }), "{error}");
        // Probes begin with the failure, and wait for INFO.
        let after = (stage.accepted(), stage.early());
        assert_eq!(after.1 - before.1, 1, "{before:?} {after:?}");
        assert!(after.0 - before.0 <= 2, "{before:?} {after:?}");
        carries(&mut stage.held(&upstreams, &ours).await).await;
    }
}

#[tokio::test]
async fn what_answers_the_early_in_another_way_is_asked_in_the_usual_order() {
    const NO_HEADERS: &[u8] = b"INFO {\"version\":\"2.1.9\"} \r\n";
    const TLS: &[u8] = b"INFO {\"version\":\"2.9.10\",\"headers\":true,\"tls_required\":true} \r\n";
    let ways = [
        Stand::ToTheEarly(&[]),
        Stand::ToTheEarly(&[b"-ERR 'too early'\r\n"]),
        Stand::ToTheEarly(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"]),
        Stand::ToTheEarly(&[NO_HEADERS, b"PONG\r\n"]),
        Stand::ToTheEarly(&[TLS, b"PONG\r\n"]),
        Stand::ToTheEarly(&[INFO, b"MSG a 1 2\r\nhi\r\n"]),
        Stand::DeafToTheEarly,
    ];
    for (way, stand) in ways.into_iter().enumerate() {
        let stage = Stage::fake().await;
        let upstreams = stage.greeted(token()).await;
        let before = (stage.accepted(), stage.early());
        stage.change(stand);
        // The second one finds nothing to rely upon but what the first learned in the usual order.
        let link = dial(&upstreams).await;
        assert_eq!(link.unwrap().leftover, b"", "way {way}");
        let after = (stage.accepted(), stage.early());
        assert_eq!(
            (after.0 - before.0, after.1 - before.1),
            (2, 1),
            "way {way}"
        );
    }
}

/// nats-server waits for a handshake before it sends INFO, takes a CONNECT for one, and says so in its log. Without TLS it
/// serves who waits for INFO.
#[tokio::test]
async fn who_is_served_in_the_usual_order_only_is_asked_in_another_one_once() {
    let certificates = Certificates::new();
    let tls = certificates.server("handshake_first: auto");
    let server = start(Version::LATEST, &format!("{tls}allow_non_tls: true"));
    let stage = Stage::relay(&server).await;
    let upstreams = stage.greeted(Auth::None).await;
    stage.change(Stand::Relay(server.address(), MOMENT));
    let before = (stage.accepted(), stage.early());
    for _ in 0..4 {
        carries(&mut dial(&upstreams).await.unwrap()).await;
    }
    let after = (stage.accepted(), stage.early());
    assert_eq!((after.0 - before.0, after.1 - before.1), (5, 1));
}

#[tokio::test]
async fn answers_in_pieces_or_late_are_waited_for_as_ever() {
    let (head, tail) = INFO.split_at(20);
    let pieces: &'static [&'static [u8]] = Box::leak(Box::new([head, tail, b"PO", b"NG", b"\r\n"]));
    let late: &'static [&'static [u8]] = &[INFO, LATE, b"PONG\r\n"];
    for lines in [pieces, late] {
        let stage = Stage::fake().await;
        let upstreams = stage.greeted(token()).await;
        let before = stage.accepted();
        stage.change(Stand::ToTheEarly(lines));
        dial(&upstreams).await.unwrap();
        assert_eq!(stage.accepted() - before, 1);
    }
}

#[tokio::test]
async fn a_server_that_turns_everybody_away_is_told_as_ever() {
    const LAME: &[u8] = b"INFO {\"version\":\"2.9.10\",\"headers\":true,\"ldm\":true} \r\n";
    let stage = Stage::fake().await;
    let upstreams = stage.greeted(token()).await;
    stage.change(Stand::ToAll(&[LAME]));
    let error = dial(&upstreams).await.unwrap_err();
    assert!(matches!(error, DialError::LameDuck { .. }), "{error}");

    let stage = Stage::fake().await;
    let upstreams = stage.greeted(token()).await;
    stage.change(Stand::ToAll(&[
        INFO,
        b"-ERR 'maximum connections exceeded'\r\n",
    ]));
    let error = dial(&upstreams).await.unwrap_err();
    assert!(matches!(error, DialError::TurnedAway { .. }), "{error}");

    let stage = Stage::fake().await;
    let upstreams = stage.greeted(token()).await;
    stage.change(Stand::ToAll(&[]));
    let error = dial(&upstreams).await.unwrap_err();
    assert!(matches!(error, DialError::Closed { .. }), "{error}");
}

#[tokio::test]
async fn after_a_doubt_or_a_reload_the_usual_order_comes_first() {
    let server = start(Version::LATEST, "authorization { token: \"s3cr3t\" }");
    let label = |stage: &Stage| format!("nats://{}", stage.address);
    for doubt in 0..3 {
        let stage = Stage::relay(&server).await;
        let upstreams = stage.greeted(token()).await;
        stage.change(Stand::Relay(server.address(), MOMENT));
        match doubt {
            0 => upstreams.suspect("plant", &label(&stage)),
            1 => upstreams.lame_duck("plant", &label(&stage)),
            _ => upstreams.reload(vec![stage.config(token())]).unwrap(),
        }
        dial(&upstreams).await.unwrap();
        assert_eq!(stage.early(), 0, "{doubt}");
    }
}
