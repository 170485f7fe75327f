//! Failover, recovery, lame duck, reload: what happens when servers come and go.

use std::time::Duration;

use natsentry::demo::servers::{NatsServer, Version, find_or_install};
use natsentry::upstream::{Auth, DialError, ServerState, ServerUrl, Upstreams};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::support::{
    PATIENCE, become_states, carries, config, contains, dial, eventually, password, start, status,
    upstreams, url,
};

/// An address where nobody listens.
fn nobody() -> ServerUrl {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("nats://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap()
}

#[tokio::test]
async fn dials_go_to_the_next_server_when_the_first_is_down() {
    let server = start(Version::LATEST, "");
    let upstreams = upstreams(config(vec![nobody(), url(&server)], Auth::None));
    for _ in 0..4 {
        let mut link = dial(&upstreams).await.unwrap();
        assert_eq!(&*link.server, server.url());
        carries(&mut link).await;
    }
    become_states(&upstreams, &[ServerState::Down, ServerState::Up]).await;
    let status = status(&upstreams);
    assert!(status.ready);
    assert!(
        status.servers[0]
            .last_error
            .as_deref()
            .unwrap()
            .contains("no connection")
    );
    assert_eq!(status.servers[1].version.as_deref(), Some("2.15.1"));
}

#[tokio::test]
async fn a_server_that_refuses_our_credentials_is_shown_and_passed_over() {
    let refusing = start(
        Version::LATEST,
        "authorization { user: svc, password: other }",
    );
    let server = start(
        Version::LATEST,
        "authorization { user: svc, password: s3cr3t }",
    );
    let servers = vec![url(&refusing), url(&server)];
    let upstreams = upstreams(config(servers, password("svc", "s3cr3t")));
    for _ in 0..4 {
        assert_eq!(&*dial(&upstreams).await.unwrap().server, server.url());
    }
    become_states(&upstreams, &[ServerState::Down, ServerState::Up]).await;
    let error = status(&upstreams).servers[0].last_error.clone().unwrap();
    assert!(error.contains("refused our credentials"), "{error}");
}

#[tokio::test]
async fn healthy_servers_share_the_links() {
    let (one, two) = (start(Version::LATEST, ""), start(Version::LATEST, ""));
    let upstreams = upstreams(config(vec![url(&one), url(&two)], Auth::None));
    become_states(&upstreams, &[ServerState::Up, ServerState::Up]).await;
    let mut counts = [0; 2];
    for _ in 0..10 {
        let link = dial(&upstreams).await.unwrap();
        counts[usize::from(*link.server == *two.url())] += 1;
    }
    assert_eq!(counts, [5, 5]);
}

#[tokio::test]
async fn a_server_that_returns_is_found_within_two_seconds_without_any_client() {
    let binary = find_or_install(Version::LATEST).unwrap();
    let mut server = start(Version::LATEST, "");
    let upstreams = upstreams(config(vec![url(&server)], Auth::None));
    become_states(&upstreams, &[ServerState::Up]).await;
    let info = upstreams.info("plant").unwrap();
    server.kill();
    assert!(dial(&upstreams).await.is_err());
    // Away for long enough that the pauses have grown as far as they do.
    let limit = Instant::now() + Duration::from_secs(4);
    eventually("pauses grow", || async { Instant::now() >= limit }).await;
    assert!(!status(&upstreams).ready);
    assert_eq!(upstreams.info("plant"), Some(info.clone()));
    let server = NatsServer::start_at(&binary, "", server.port()).unwrap();
    let began = Instant::now();
    become_states(&upstreams, &[ServerState::Up]).await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    carries(&mut dial(&upstreams).await.unwrap()).await;
    assert_ne!(
        upstreams.info("plant"),
        Some(info),
        "the template is the new server's"
    );
    drop(server);
}

#[tokio::test]
async fn many_clients_that_come_back_with_the_server_all_get_a_link() {
    let binary = find_or_install(Version::LATEST).unwrap();
    let mut server = start(Version::LATEST, "");
    let upstreams = upstreams(config(vec![url(&server)], Auth::None));
    become_states(&upstreams, &[ServerState::Up]).await;
    server.kill();
    assert!(dial(&upstreams).await.is_err());
    let _server = NatsServer::start_at(&binary, "", server.port()).unwrap();
    let dials = (0..200).map(|_| dial(&upstreams));
    for link in futures_util::future::join_all(dials).await {
        link.unwrap();
    }
}

#[tokio::test]
async fn a_refused_password_is_taken_up_again_when_the_server_is_mended() {
    let server = start(
        Version::LATEST,
        "authorization { user: svc, password: other }",
    );
    let upstreams = upstreams(config(vec![url(&server)], password("svc", "s3cr3t")));
    assert!(matches!(
        dial(&upstreams).await,
        Err(DialError::Refused { .. })
    ));
    server
        .reload("authorization { user: svc, password: s3cr3t }")
        .unwrap();
    become_states(&upstreams, &[ServerState::Up]).await;
    carries(&mut dial(&upstreams).await.unwrap()).await;
}

#[tokio::test]
async fn a_lame_duck_gets_no_new_links_until_it_is_back() {
    let (duck, other) = (start(Version::LATEST, ""), start(Version::LATEST, ""));
    let upstreams = upstreams(config(vec![url(&duck), url(&other)], Auth::None));
    become_states(&upstreams, &[ServerState::Up, ServerState::Up]).await;
    let mut link = dial(&upstreams).await.unwrap();
    while *link.server != *duck.url() {
        link = dial(&upstreams).await.unwrap();
    }
    carries(&mut link).await;
    duck.signal("ldm").unwrap();
    let mut seen = Vec::new();
    let announced = async {
        while !contains(&seen, b"\"ldm\":true") {
            assert_ne!(link.stream.read_buf(&mut seen).await.unwrap(), 0);
        }
    };
    timeout(PATIENCE, announced).await.unwrap();
    upstreams.lame_duck("plant", &link.server);
    assert_ne!(status(&upstreams).servers[0].state, ServerState::Up);
    for _ in 0..4 {
        assert_eq!(&*dial(&upstreams).await.unwrap().server, other.url());
    }
}

#[tokio::test]
async fn the_info_template_has_the_limits_of_our_account() {
    let settings = "max_payload: 2000000\n\
        accounts { A { users = [ { user: svc, password: s3cr3t } ] } }";
    for version in Version::offered_here() {
        let server = start(version, settings);
        let config = config(vec![url(&server)], password("svc", "s3cr3t"));
        let upstreams = upstreams(config);
        become_states(&upstreams, &[ServerState::Up]).await;
        let info = upstreams.info("plant").unwrap();
        assert_eq!(info.version, version.as_str());
        assert_eq!(info.max_payload, 2_000_000);
    }
}

#[tokio::test]
async fn a_reload_exchanges_servers_and_keeps_what_is_known() {
    let (one, two) = (start(Version::LATEST, ""), start(Version::LATEST, ""));
    let tasks = TaskTracker::new();
    let upstreams = Upstreams::start(vec![config(vec![url(&one)], Auth::None)], &tasks).unwrap();
    become_states(&upstreams, &[ServerState::Up]).await;
    let mut link = dial(&upstreams).await.unwrap();
    upstreams
        .reload(vec![config(vec![url(&one), url(&two)], Auth::None)])
        .unwrap();
    let status = status(&upstreams);
    assert!(status.ready && status.servers[0].state == ServerState::Up);
    assert!(upstreams.info("plant").is_some());
    become_states(&upstreams, &[ServerState::Up, ServerState::Up]).await;
    carries(&mut link).await;
    assert!(upstreams.reload(vec![config(vec![], Auth::None)]).is_err());
    carries(&mut dial(&upstreams).await.unwrap()).await;
    let unknown = upstreams
        .dial("elsewhere", &crate::support::options())
        .await;
    assert!(matches!(unknown, Err(DialError::UnknownUpstream { .. })));
    upstreams.stop();
    drop(upstreams);
    tasks.close();
    timeout(PATIENCE, tasks.wait())
        .await
        .expect("the watches end");
}
