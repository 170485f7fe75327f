//! Trusted proxies (ADR-55) and the PROXY protocol, on the versions that have them.

use natsentry::demo::servers::Version;
use natsentry::secret::Secret;
use natsentry::upstream::{DialError, TlsDial, TlsFirst, UpstreamConfig};
use nkeys::KeyPair;

use crate::certificates::Certificates;
use crate::support::{
    carries, config, connection, dial, dials, fails, password, start, tls_url, upstreams, url,
};

fn proxied_by(key: &KeyPair, config: UpstreamConfig) -> UpstreamConfig {
    UpstreamConfig {
        trusted_proxy_nkey: Some(Secret::new(key.seed().unwrap())),
        ..config
    }
}

#[tokio::test]
async fn a_user_that_demands_a_trusted_proxy_is_reached_with_the_right_key_alone() {
    let (trusted, stranger) = (KeyPair::new_server(), KeyPair::new_server());
    let settings = format!(
        "proxies {{ trusted = [ {{ key: {} }} ] }}\n\
         authorization {{ users = [ {{ user: via, password: s3cr3t, proxy_required: true }} ] }}",
        trusted.public_key()
    );
    for version in [Version::V2_12_8, Version::V2_15_1] {
        let server = start(version, &settings);
        let plain = config(vec![url(&server)], password("via", "s3cr3t"));
        let proxied = upstreams(proxied_by(&trusted, plain.clone()));
        let mut link = dial(&proxied).await.unwrap();
        carries(&mut link).await;
        let shown = connection(&server).await;
        assert_eq!(
            shown["proxy"]["key"],
            trusted.public_key(),
            "{version}: {shown}"
        );
        for refused in [plain.clone(), proxied_by(&stranger, plain)] {
            let error = fails(refused).await;
            assert!(
                matches!(error, DialError::Refused { .. }),
                "{version}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn a_nkey_user_behind_a_trusted_proxy_signs_the_nonce_twice() {
    let (trusted, user) = (KeyPair::new_server(), KeyPair::new_user());
    let settings = format!(
        "proxies {{ trusted = [ {{ key: {} }} ] }}\n\
         authorization {{ users = [ {{ nkey: {}, proxy_required: true }} ] }}",
        trusted.public_key(),
        user.public_key()
    );
    let server = start(Version::LATEST, &settings);
    let auth = natsentry::upstream::Auth::Nkey(Secret::new(user.seed().unwrap()));
    dials(proxied_by(&trusted, config(vec![url(&server)], auth))).await;
}

#[tokio::test]
async fn a_proxy_key_does_no_harm_where_no_proxy_is_known() {
    let key = KeyPair::new_server();
    for version in Version::offered_here() {
        let server = start(version, "authorization { user: svc, password: s3cr3t }");
        let config = config(vec![url(&server)], password("svc", "s3cr3t"));
        dials(proxied_by(&key, config)).await;
    }
}

#[tokio::test]
async fn the_server_sees_the_clients_address_through_the_proxy_protocol() {
    for version in [Version::V2_12_8, Version::V2_15_1] {
        let server = start(version, "proxy_protocol: true");
        let config = config(vec![url(&server)], natsentry::upstream::Auth::None);
        let upstreams = upstreams(UpstreamConfig {
            proxy_protocol: true,
            ..config
        });
        let mut link = dial(&upstreams).await.unwrap();
        carries(&mut link).await;
        let shown = connection(&server).await;
        assert_eq!(shown["ip"], "203.0.113.9", "{version}: {shown}");
        assert_eq!(shown["port"], 1234, "{version}: {shown}");
    }
}

#[tokio::test]
async fn the_proxy_header_goes_before_tls_in_either_order() {
    let certificates = Certificates::new();
    for handshake_first in ["false", "true"] {
        let tls = certificates.server(&format!("handshake_first: {handshake_first}"));
        let server = start(Version::LATEST, &format!("proxy_protocol: true\n{tls}"));
        let upstreams = upstreams(UpstreamConfig {
            proxy_protocol: true,
            tls: Some(TlsDial {
                ..certificates.dial(TlsFirst::Auto)
            }),
            ..config(vec![tls_url(&server)], natsentry::upstream::Auth::None)
        });
        let mut link = dial(&upstreams).await.unwrap();
        carries(&mut link).await;
        let shown = connection(&server).await;
        assert_eq!(shown["ip"], "203.0.113.9", "{shown}");
    }
}
