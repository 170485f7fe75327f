//! TLS on the client side: clients that upgrade after INFO and clients that shake hands first, on one port.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::ConnectOptions;
use futures_util::StreamExt;
use natsentry::demo::idp::DevIdp;
use natsentry::demo::servers::Version;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::servers;
use crate::support::wire::{Wire, connect_line};

/// A certificate authority, a server certificate for 127.0.0.1 and a client certificate, in files of `folder`.
pub(crate) fn certificates() -> tempfile::TempDir {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("a file");
    };
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::new(Vec::<String>::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write(
        "ca.pem",
        &ca.self_signed(&ca_key).expect("a certificate").pem(),
    );
    let issuer = Issuer::new(ca, ca_key);
    for name in ["server", "client"] {
        let key = KeyPair::generate().expect("a key");
        let params =
            CertificateParams::new(vec!["127.0.0.1".to_owned(), name.to_owned()]).expect("names");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        write(&format!("{name}.pem"), &certificate.pem());
        write(&format!("{name}.key"), &key.serialize_pem());
    }
    folder
}

async fn proxy_with_tls(idp: &DevIdp, port: u16, tls: &str) -> (Proxy, PathBuf) {
    let folder = certificates();
    let path = folder.path().to_owned();
    let setup = Setup::to(port).listen(&format!("  tls: {{ {tls} }}\n"));
    (Proxy::start_in(folder, idp, &setup).await, path)
}

fn options(token: &str, ca: &std::path::Path) -> ConnectOptions {
    ConnectOptions::with_token(token.to_owned())
        .require_tls(true)
        .add_root_certificates(ca.join("ca.pem"))
        .max_reconnects(2)
        .connection_timeout(Duration::from_secs(5))
}

async fn echoes(options: ConnectOptions, address: std::net::SocketAddr) {
    let client = options
        .connect(format!("nats://{address}"))
        .await
        .expect("a TLS session");
    let mut sub = client.subscribe("tls.x").await.expect("a subscription");
    client
        .publish("tls.x", "over tls".into())
        .await
        .expect("a publish");
    client.flush().await.expect("a flush");
    assert_eq!(sub.next().await.expect("a message").payload, "over tls");
}

const CERT: &str = "cert: file:server.pem, key: file:server.key";

#[tokio::test(flavor = "multi_thread")]
async fn required_and_auto_serve_both_orders_on_one_port_and_no_clear_text() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let token = proxy::token(&idp, "alice");
    for mode in ["required", "auto"] {
        let (proxy, files) =
            proxy_with_tls(&idp, nats.port(), &format!("{CERT}, mode: {mode}")).await;
        echoes(options(&token, &files), proxy.address).await;
        echoes(options(&token, &files).tls_first(), proxy.address).await;
        let mut plain = Wire::connect(proxy.address).await;
        let info = plain.line().await.expect("INFO");
        assert!(info.contains("\"tls_required\":true"), "{info}");
        plain.send(&connect_line(&token, "")).await;
        assert_eq!(
            plain.rest().await,
            Vec::<String>::new(),
            "as a server: closed without a word"
        );
        drop(proxy.stop().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn off_is_plain_and_says_so() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let (proxy, _) = proxy_with_tls(&idp, nats.port(), "mode: off").await;
    let (_, info) = Wire::admitted(proxy.address, &proxy::token(&idp, "alice")).await;
    assert!(!info.contains("tls_"), "{info}");
    drop(proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_client_ca_nobody_comes_in_without_a_certificate() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let token = proxy::token(&idp, "alice");
    let (proxy, files) = proxy_with_tls(
        &idp,
        nats.port(),
        &format!("{CERT}, client_ca: file:ca.pem"),
    )
    .await;
    let with = options(&token, &files)
        .add_client_certificate(files.join("client.pem"), files.join("client.key"));
    echoes(with, proxy.address).await;
    let address = format!("nats://{}", proxy.address);
    assert!(options(&token, &files).connect(address).await.is_err());
    drop(proxy.stop().await);
}

/// Connects with TLS before INFO, and says whether the handshake was a resumed one, after a PONG (tickets come behind it).
async fn handshake_kind(
    trust: &Arc<rustls::ClientConfig>,
    address: std::net::SocketAddr,
    token: &str,
) -> Option<rustls::HandshakeKind> {
    let tcp = tokio::net::TcpStream::connect(address)
        .await
        .expect("a connection");
    let name = "127.0.0.1".try_into().expect("a name");
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(trust));
    let mut stream = connector.connect(name, tcp).await.expect("a handshake");
    let hello = format!("{}PING\r\n", connect_line(token, ""));
    stream.write_all(hello.as_bytes()).await.expect("written");
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("PONG\r\n") {
        let read = stream.read_buf(&mut seen).await.expect("an answer");
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&seen));
    }
    stream.get_ref().1.handshake_kind()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_resumes_its_tls_session() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let token = proxy::token(&idp, "alice");
    let (proxy, files) = proxy_with_tls(&idp, nats.port(), CERT).await;
    let ca = std::fs::read(files.join("ca.pem")).expect("a file");
    let trust = |versions: &[&'static rustls::SupportedProtocolVersion]| {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&ca) {
            roots.add(certificate.expect("PEM")).expect("an anchor");
        }
        let config = rustls::ClientConfig::builder_with_provider(natsentry::tls::provider())
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    };
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = trust(&[version]);
        let first = handshake_kind(&client, proxy.address, &token).await;
        assert_ne!(first, Some(rustls::HandshakeKind::Resumed), "{version:?}");
        let second = handshake_kind(&client, proxy.address, &token).await;
        assert_eq!(second, Some(rustls::HandshakeKind::Resumed), "{version:?}");
    }
    drop(proxy.stop().await);
}
