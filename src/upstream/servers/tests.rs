//! Which server is tried next, and when one that failed is tried again.

use super::*;

fn servers(count: u16) -> Servers {
    let urls: Vec<ServerUrl> = (1..=count)
        .map(|port| format!("nats://127.0.0.1:{port}").parse().unwrap())
        .collect();
    Servers::new(&urls, Timestamp::default())
}

fn unreachable() -> DialError {
    DialError::Unreachable {
        server: "s".into(),
        detail: "refused".into(),
    }
}

fn refused() -> DialError {
    DialError::Refused {
        server: "s".into(),
        text: "Authorization Violation".into(),
    }
}

fn ports(servers: &Servers, now: Instant) -> Vec<u16> {
    servers
        .order(now)
        .iter()
        .map(|server| server.url.port)
        .collect()
}

fn up(servers: &Servers) {
    for server in servers.iter() {
        server.succeeded("2.9.10", Timestamp::default());
    }
}

#[tokio::test]
async fn healthy_servers_take_turns() {
    let servers = servers(3);
    up(&servers);
    let now = Instant::now();
    let first: Vec<_> = (0..4).map(|_| ports(&servers, now)[0]).collect();
    assert_eq!(first, [1, 2, 3, 1]);
}

#[tokio::test]
async fn a_server_that_failed_comes_last_until_its_pause_is_over_and_behind_the_healthy() {
    let servers = servers(2);
    up(&servers);
    let now = Instant::now();
    let bad = Arc::clone(&servers.all[0]);
    assert_eq!(
        bad.failed(&unreachable(), now, Timestamp::default()),
        Change::WentDown
    );
    for _ in 0..3 {
        assert_eq!(ports(&servers, now), [2, 1]);
        assert_eq!(ports(&servers, now + LONGEST_PAUSE * 2), [2, 1]);
    }
    assert_eq!(
        bad.succeeded("2.9.10", Timestamp::default()),
        Change::WentUp
    );
    assert_eq!(bad.status().state, ServerState::Up);
    assert!(bad.status().last_error.is_some());
}

#[tokio::test]
async fn a_server_that_refuses_us_is_left_alone_until_its_pause_is_over() {
    let servers = servers(1);
    let now = Instant::now();
    servers.all[0].failed(&refused(), now, Timestamp::default());
    assert_eq!(ports(&servers, now), [0_u16; 0]);
    assert_eq!(ports(&servers, now + HOPELESS_PAUSE * 2), [1]);
}

#[tokio::test]
async fn pauses_grow_but_a_server_is_never_left_for_longer_than_a_second() {
    let servers = servers(1);
    let server = &servers.all[0];
    let mut now = Instant::now();
    let mut pauses = Vec::new();
    for _ in 0..40 {
        server.failed(&unreachable(), now, Timestamp::default());
        let pause = server.next_probe(now);
        pauses.push(pause);
        now += pause;
    }
    assert!(pauses[0] <= Duration::from_millis(120), "{pauses:?}");
    assert!(
        pauses.iter().all(|pause| *pause < Duration::from_secs(1)),
        "{pauses:?}"
    );
    assert!(pauses[39] > Duration::from_millis(500), "{pauses:?}");
}

#[tokio::test]
async fn dials_that_fail_together_are_one_failure() {
    let servers = servers(1);
    let now = Instant::now();
    for _ in 0..100 {
        servers.all[0].failed(&unreachable(), now, Timestamp::default());
    }
    assert!(servers.all[0].next_probe(now) <= Duration::from_millis(120));
}

#[tokio::test]
async fn one_dial_at_a_time_tries_a_server_that_is_down() {
    let servers = servers(1);
    let server = &servers.all[0];
    assert!(server.turn().is_some() && server.turn().is_some());
    server.failed(&unreachable(), Instant::now(), Timestamp::default());
    let turn = server.turn();
    assert!(turn.is_some() && server.turn().is_none());
    drop(turn);
    assert!(server.turn().is_some());
}

#[tokio::test]
async fn a_new_reason_is_a_change_and_the_same_reason_is_not() {
    let servers = servers(1);
    let (server, now) = (&servers.all[0], Instant::now());
    assert_eq!(
        server.failed(&unreachable(), now, Timestamp::default()),
        Change::WentDown
    );
    assert_eq!(
        server.failed(&unreachable(), now, Timestamp::default()),
        Change::None
    );
    assert_eq!(
        server.failed(&refused(), now, Timestamp::default()),
        Change::WentDown
    );
}

#[tokio::test]
async fn a_lame_duck_is_the_last_choice() {
    let servers = servers(2);
    up(&servers);
    let now = Instant::now();
    let error = DialError::LameDuck { server: "s".into() };
    servers.all[0].failed(&error, now, Timestamp::default());
    assert_eq!(servers.all[0].status().state, ServerState::LameDuck);
    assert_eq!(ports(&servers, now), [2, 1]);
    assert!(servers.all[0].next_probe(now) < Duration::from_secs(1));
}
