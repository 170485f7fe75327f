//! Asked over a real socket, as a probe or a scraper does.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::*;
use crate::metrics::Names;
use crate::time::Timestamp;

struct Fixed {
    ready: bool,
    rows: u64,
}

impl Observed for Fixed {
    fn readiness(&self) -> Readiness {
        let check = Check {
            name: "upstream plant-a".into(),
            ok: self.ready,
            detail: "connection refused by 10.0.0.11:4222".into(),
        };
        Readiness {
            ready: self.ready,
            checks: vec![check],
        }
    }

    fn sessions(&self, page: Page) -> SessionList {
        let ids = page.after.saturating_add(1)..=self.rows;
        SessionList {
            total: usize::try_from(self.rows).unwrap(),
            sessions: ids.take(page.limit).map(row).collect(),
        }
    }

    fn locks(&self) -> LockList {
        LockList::default()
    }

    fn refresh(&self, metrics: &Metrics) {
        metrics.set_draining(!self.ready);
    }
}

fn row(id: u64) -> SessionRow {
    SessionRow {
        id,
        since: Timestamp::from_secs(0).to_string(),
        ends_at: Timestamp::from_secs(60).to_string(),
        tid: "t".into(),
        oid: "o".into(),
        azp: None,
        name: Some("Ada".into()),
        roles: vec!["writer".into()],
        upstream: "plant-a".into(),
        server: "10.0.0.11:4222".into(),
        client: "10.1.2.3:5555".into(),
        library: "go 1.50".into(),
        tls: true,
        messages_in: 1,
        bytes_in: 2,
        messages_out: 3,
        bytes_out: 4,
        subscriptions: 5,
        denied: 6,
    }
}

async fn start(ready: bool) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Metrics::new(Names::default(), Timestamp::from_secs(1)).unwrap();
    let state = AdminState {
        metrics: Arc::new(metrics),
        observed: Arc::new(Fixed { ready, rows: 2_500 }),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = async move {
        let shutdown = async {
            let _ = stopped.await;
        };
        Admin::serve(listener, state, shutdown).await.unwrap();
    };
    (address, stop, tokio::spawn(serving))
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn body(answer: &str) -> serde_json::Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn readiness_says_what_is_wrong_with_503() {
    let (address, _stop, _) = start(false).await;
    let answer = ask(address, "GET", "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(
        body(&answer)["checks"][0]["detail"],
        "connection refused by 10.0.0.11:4222"
    );
    assert!(
        ask(address, "GET", "/livez")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    let (address, _stop, _) = start(true).await;
    let answer = ask(address, "GET", "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(body(&answer)["ready"], true);
}

#[tokio::test]
async fn metrics_are_fresh_and_carry_their_content_type() {
    let (address, _stop, _) = start(false).await;
    let answer = ask(address, "GET", "/metrics").await;
    assert!(
        answer.contains("content-type: text/plain; version=0.0.4"),
        "{answer}"
    );
    assert!(answer.contains("\nnatsentry_draining 1\n"), "{answer}");
}

#[tokio::test]
async fn sessions_come_in_bounded_pages() {
    let (address, _stop, _) = start(true).await;
    let first = body(&ask(address, "GET", "/sessions").await);
    assert_eq!(first["total"], 2_500);
    assert_eq!(first["sessions"].as_array().unwrap().len(), DEFAULT_PAGE);
    assert_eq!(first["sessions"][0]["oid"], "o");
    let rest = body(&ask(address, "GET", "/sessions?after=2000&limit=999999").await);
    assert_eq!(rest["sessions"].as_array().unwrap().len(), 500);
    assert_eq!(rest["sessions"][0]["id"], 2001);
    assert!(
        ask(address, "GET", "/sessions?limit=x")
            .await
            .starts_with("HTTP/1.1 400 ")
    );
}

#[tokio::test]
async fn nothing_but_get_is_answered() {
    let (address, _stop, _) = start(true).await;
    for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
        let answer = ask(address, method, "/sessions").await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(answer.contains("allow: GET\r\n"), "{answer}");
    }
    assert!(
        ask(address, "GET", "/config")
            .await
            .starts_with("HTTP/1.1 404 ")
    );
}

#[tokio::test]
async fn a_silent_connection_is_cut_and_slots_are_bounded() {
    tokio::time::pause();
    let (address, _stop, _) = start(true).await;
    let begun = tokio::time::Instant::now();
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // Paused time runs ahead as soon as everything waits: the answer can only come once slots are free again.
    assert!(
        ask(address, "GET", "/livez")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    assert!(begun.elapsed() >= CONNECTION_AGE);
    let mut byte = [0];
    assert_eq!(silent[0].read(&mut byte).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn serving_ends_on_shutdown_while_a_connection_is_kept_alive() {
    let (address, stop, serving) = start(true).await;
    let mut kept = TcpStream::connect(address).await.unwrap();
    kept.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut some = [0; 512];
    assert!(kept.read(&mut some).await.unwrap() > 0);
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(20), serving)
        .await
        .unwrap()
        .unwrap();
}
