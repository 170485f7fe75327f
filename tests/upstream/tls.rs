//! TLS before INFO and after it, known or found out.

use natsentry::demo::servers::Version;
use natsentry::upstream::{
    Auth, DialError, Link, LinkStream, ServerState, ServerUrl, TlsDial, TlsFirst, UpstreamConfig,
};

use crate::certificates::Certificates;
use crate::support::{
    become_states, carries, config, dial, dials, fails, start, tls_url, upstreams, url,
};

fn secured(server: ServerUrl, tls: TlsDial) -> UpstreamConfig {
    UpstreamConfig {
        tls: Some(tls),
        ..config(vec![server], Auth::None)
    }
}

fn assert_tls(link: &Link) {
    assert!(link.stream.is_tls());
}

/// Versions with `handshake_first` (2.10.4).
fn with_handshake_first() -> Vec<Version> {
    Version::offered_here()
        .into_iter()
        .filter(|version| *version != Version::V2_9_10)
        .collect()
}

#[tokio::test]
async fn info_first_works_with_every_version_whether_told_or_found_out() {
    let certificates = Certificates::new();
    for version in Version::offered_here() {
        let server = start(version, &certificates.server(""));
        for first in [TlsFirst::No, TlsFirst::Auto] {
            assert_tls(&dials(secured(tls_url(&server), certificates.dial(first))).await);
        }
        // nats:// takes TLS where the server requires it.
        assert_tls(&dials(secured(url(&server), certificates.dial(TlsFirst::Auto))).await);
    }
}

#[tokio::test]
async fn handshake_first_works_whether_told_or_found_out() {
    let certificates = Certificates::new();
    for version in with_handshake_first() {
        for mode in ["true", "\"auto\"", "\"300ms\""] {
            let settings = certificates.server(&format!("handshake_first: {mode}"));
            let server = start(version, &settings);
            for first in [TlsFirst::Yes, TlsFirst::Auto] {
                let tls = certificates.dial(first);
                assert_tls(&dials(secured(tls_url(&server), tls)).await);
            }
        }
    }
}

#[tokio::test]
async fn what_was_found_out_is_remembered_and_forgotten_when_the_server_changes() {
    let certificates = Certificates::new();
    let binary = natsentry::demo::servers::find_or_install(Version::LATEST).unwrap();
    let first = certificates.server("handshake_first: true");
    let mut server = start(Version::LATEST, &first);
    let port = server.port();
    let upstreams = upstreams(secured(tls_url(&server), certificates.dial(TlsFirst::Auto)));
    for _ in 0..2 {
        carries(&mut dial(&upstreams).await.unwrap()).await;
    }
    for settings in [certificates.server(""), first] {
        server.kill();
        server = natsentry::demo::servers::NatsServer::start_at(&binary, &settings, port).unwrap();
        become_states(&upstreams, &[ServerState::Up]).await;
        let mut link = dial(&upstreams).await.unwrap();
        assert_tls(&link);
        carries(&mut link).await;
    }
}

#[tokio::test]
async fn the_second_dial_resumes_the_session_of_the_first() {
    let certificates = Certificates::new();
    let server = start(Version::LATEST, &certificates.server(""));
    let upstreams = upstreams(secured(tls_url(&server), certificates.dial(TlsFirst::Auto)));
    become_states(&upstreams, &[ServerState::Up]).await;
    let link = dial(&upstreams).await.unwrap();
    let LinkStream::Tls(stream) = &link.stream else {
        panic!("in clear")
    };
    let kind = stream.get_ref().1.handshake_kind();
    assert_eq!(kind, Some(rustls::HandshakeKind::Resumed));
}

#[tokio::test]
async fn our_certificate_is_shown_where_the_server_verifies() {
    let certificates = Certificates::new();
    for version in Version::offered_here() {
        let server = start(version, &certificates.server("verify: true"));
        let mutual = certificates.mutual(TlsFirst::Auto);
        assert_tls(&dials(secured(tls_url(&server), mutual)).await);
        let error = fails(secured(tls_url(&server), certificates.dial(TlsFirst::Auto))).await;
        assert!(matches!(error, DialError::Tls { .. }), "{version}: {error}");
        assert!(error.to_string().contains("tls.cert"), "{version}: {error}");
    }
}

#[tokio::test]
async fn a_name_can_be_given_for_servers_that_are_addressed_otherwise() {
    let certificates = Certificates::new();
    let server = start(Version::LATEST, &certificates.server(""));
    let address: ServerUrl = format!("tls://127.0.0.2:{}", server.port())
        .parse()
        .unwrap();
    // The server listens on 127.0.0.1 alone: the name is what differs.
    let by_ip: ServerUrl = format!("tls://127.0.0.1:{}", server.port())
        .parse()
        .unwrap();
    assert_tls(&dials(secured(by_ip.clone(), certificates.dial(TlsFirst::Auto))).await);
    let wrong = TlsDial {
        server_name: Some("other.example".try_into().unwrap()),
        ..certificates.dial(TlsFirst::Auto)
    };
    let error = fails(secured(by_ip.clone(), wrong)).await;
    assert!(error.to_string().contains("tls.server_name"), "{error}");
    let right = TlsDial {
        server_name: Some("localhost".try_into().unwrap()),
        ..certificates.dial(TlsFirst::Auto)
    };
    assert_tls(&dials(secured(by_ip, right.clone())).await);
    let error = fails(secured(address, right)).await;
    assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_refused_before_credentials_are_sent() {
    let server = start(Version::LATEST, &Certificates::new().server(""));
    let error = fails(secured(
        tls_url(&server),
        Certificates::new().dial(TlsFirst::Auto),
    ))
    .await;
    assert!(matches!(error, DialError::Tls { .. }), "{error}");
    assert!(error.to_string().contains("tls.ca"), "{error}");
}

#[tokio::test]
async fn tls_is_demanded_and_offered_or_there_is_no_link() {
    let certificates = Certificates::new();
    let plain = start(Version::LATEST, "");
    let error = fails(secured(tls_url(&plain), certificates.dial(TlsFirst::Auto))).await;
    assert!(error.to_string().contains("offers no TLS"), "{error}");
    let error = fails(secured(tls_url(&plain), certificates.dial(TlsFirst::Yes))).await;
    assert!(error.to_string().contains("in clear"), "{error}");
    assert!(
        !dials(secured(url(&plain), certificates.dial(TlsFirst::Auto)))
            .await
            .stream
            .is_tls()
    );
    let secure = start(Version::LATEST, &certificates.server(""));
    let error = fails(config(vec![url(&secure)], Auth::None)).await;
    assert!(error.to_string().contains("add a `tls` section"), "{error}");
}

#[tokio::test]
async fn a_server_that_allows_both_is_spoken_to_in_tls() {
    let certificates = Certificates::new();
    for version in Version::offered_here() {
        let settings = format!("allow_non_tls: true\n{}", certificates.server(""));
        let server = start(version, &settings);
        assert_tls(&dials(secured(tls_url(&server), certificates.dial(TlsFirst::Auto))).await);
        assert_tls(&dials(secured(url(&server), certificates.dial(TlsFirst::Auto))).await);
        assert!(
            !dials(config(vec![url(&server)], Auth::None))
                .await
                .stream
                .is_tls()
        );
    }
}
