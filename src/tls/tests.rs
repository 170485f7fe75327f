//! Real handshakes in memory, with certificates made on the spot.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsConnector;

use super::*;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key for `name`, for servers and clients alike.
fn leaf(issuer: &Issuer, name: &str) -> (Pem, Pem) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, issuer).unwrap();
    (
        Pem::new("file:tls.crt", cert.pem()),
        Pem::new("file:tls.key", key.serialize_pem()),
    )
}

fn pem(issuer: &Issuer) -> Pem {
    Pem::new("file:ca.pem", issuer.pem())
}

/// A certificate that signed itself and is marked as a CA, as `openssl req -x509` makes them.
fn self_signed(names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> (Pem, Pem) {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    edit(&mut params);
    let key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    (
        Pem::new("file:self.pem", cert.pem()),
        Pem::new("file:self.key", key.serialize_pem()),
    )
}

/// What both sides know after a handshake and one byte each way.
struct Met {
    kind: HandshakeKind,
    client_thumbprint: Option<String>,
}

async fn meet(server: &ServerTls, client: &Arc<ClientConfig>, name: &str) -> Result<Met, String> {
    let (near, far) = duplex(16 * 1024);
    let acceptor = server.acceptor();
    let accept = async move {
        let mut stream = acceptor
            .accept(far)
            .await
            .map_err(|error| format!("server: {error}"))?;
        let mut byte = [0];
        stream
            .read_exact(&mut byte)
            .await
            .map_err(|error| format!("server: {error}"))?;
        stream
            .write_all(&byte)
            .await
            .map_err(|error| format!("server: {error}"))?;
        stream
            .flush()
            .await
            .map_err(|error| format!("server: {error}"))?;
        let certificates = stream.get_ref().1.peer_certificates();
        Ok::<_, String>(
            certificates
                .and_then(|chain| chain.first())
                .map(|der| thumbprint_s256(der)),
        )
    };
    let connector = TlsConnector::from(Arc::clone(client));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connect = async move {
        let mut stream = connector
            .connect(name, near)
            .await
            .map_err(|e| format!("client: {e}"))?;
        stream
            .write_all(b"x")
            .await
            .map_err(|error| format!("client: {error}"))?;
        stream
            .flush()
            .await
            .map_err(|error| format!("client: {error}"))?;
        stream
            .read_exact(&mut [0])
            .await
            .map_err(|error| format!("client: {error}"))?;
        Ok::<_, String>(stream.get_ref().1.handshake_kind().unwrap())
    };
    let (client_thumbprint, kind) = tokio::join!(accept, connect);
    match (client_thumbprint, kind) {
        (Ok(client_thumbprint), Ok(kind)) => Ok(Met {
            kind,
            client_thumbprint,
        }),
        (server, client) => Err(format!("{:?} {:?}", server.err(), client.err())),
    }
}

#[tokio::test]
async fn a_client_with_the_ca_connects_and_one_without_does_not() {
    let issuer = ca("ours");
    let (cert, key) = leaf(&issuer, "nats.example");
    let server = ServerTls::new(&cert, &key, None).unwrap();
    let trusting = client_config(Some(&pem(&issuer)), None).unwrap();
    assert!(meet(&server, &trusting, "nats.example").await.is_ok());
    assert!(meet(&server, &trusting, "other.example").await.is_err());
    let stranger = client_config(Some(&pem(&ca("theirs"))), None).unwrap();
    assert!(meet(&server, &stranger, "nats.example").await.is_err());
}

#[tokio::test]
async fn mtls_demands_a_certificate_of_the_client_ca_and_shows_its_thumbprint() {
    let (issuer, clients) = (ca("servers"), ca("clients"));
    let (cert, key) = leaf(&issuer, "nats.example");
    let server = ServerTls::new(&cert, &key, Some(&pem(&clients))).unwrap();
    let roots = pem(&issuer);
    let without = client_config(Some(&roots), None).unwrap();
    assert!(meet(&server, &without, "nats.example").await.is_err());
    let (foreign, foreign_key) = leaf(&issuer, "client");
    let identity = ClientIdentity {
        cert: &foreign,
        key: &foreign_key,
    };
    let foreign = client_config(Some(&roots), Some(identity)).unwrap();
    assert!(meet(&server, &foreign, "nats.example").await.is_err());
    let (own, own_key) = leaf(&clients, "client");
    let identity = ClientIdentity {
        cert: &own,
        key: &own_key,
    };
    let known = client_config(Some(&roots), Some(identity)).unwrap();
    let expected = thumbprint_s256(&own.certificates().unwrap()[0]);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let met = meet(&server, &known, "nats.example").await.unwrap();
        assert_eq!(
            (met.kind, met.client_thumbprint),
            (kind, Some(expected.clone()))
        );
    }
}

#[tokio::test]
async fn a_reload_takes_effect_for_the_next_connection_and_a_bad_one_changes_nothing() {
    let (before, after) = (ca("before"), ca("after"));
    let (cert, key) = leaf(&before, "nats.example");
    let server = ServerTls::new(&cert, &key, None).unwrap();
    let facts = server.certificate();
    let (new_cert, new_key) = leaf(&after, "nats.example");
    assert!(server.reload(&new_cert, &key, None).is_err());
    assert_eq!(server.certificate(), facts);
    let old_trust = client_config(Some(&pem(&before)), None).unwrap();
    assert!(meet(&server, &old_trust, "nats.example").await.is_ok());
    server.reload(&new_cert, &new_key, None).unwrap();
    assert_ne!(server.certificate(), facts);
    let new_trust = client_config(Some(&pem(&after)), None).unwrap();
    assert!(meet(&server, &new_trust, "nats.example").await.is_ok());
}

#[tokio::test]
async fn sessions_resume_over_a_reload_but_not_when_the_trust_in_clients_changed() {
    let (issuer, clients) = (ca("servers"), ca("clients"));
    let (cert, key) = leaf(&issuer, "nats.example");
    let (own, own_key) = leaf(&clients, "client");
    let server = ServerTls::new(&cert, &key, Some(&pem(&clients))).unwrap();
    let identity = ClientIdentity {
        cert: &own,
        key: &own_key,
    };
    let client = client_config(Some(&pem(&issuer)), Some(identity)).unwrap();
    assert_eq!(
        meet(&server, &client, "nats.example").await.unwrap().kind,
        HandshakeKind::Full
    );
    server.reload(&cert, &key, Some(&pem(&clients))).unwrap();
    assert_eq!(
        meet(&server, &client, "nats.example").await.unwrap().kind,
        HandshakeKind::Resumed
    );
    server
        .reload(&cert, &key, Some(&pem(&ca("others"))))
        .unwrap();
    assert!(meet(&server, &client, "nats.example").await.is_err());
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_when_it_is_itself_in_the_ca_file() {
    let (cert, key) = self_signed(&["old.example"], |_| {});
    let server = ServerTls::new(&cert, &key, None).unwrap();
    let pinned = client_config(Some(&cert), None).unwrap();
    assert!(meet(&server, &pinned, "old.example").await.is_ok());
    assert!(meet(&server, &pinned, "new.example").await.is_err());
    let (other, _) = self_signed(&["old.example"], |_| {});
    let stranger = client_config(Some(&other), None).unwrap();
    assert!(meet(&server, &stranger, "old.example").await.is_err());
}

#[tokio::test]
async fn a_pinned_certificate_without_names_serves_any_name_and_an_expired_one_none() {
    let (nameless, key) = self_signed(&[], |_| {});
    let server = ServerTls::new(&nameless, &key, None).unwrap();
    let pinned = client_config(Some(&nameless), None).unwrap();
    assert!(meet(&server, &pinned, "any.example").await.is_ok());
    let (expired, key) = self_signed(&["old.example"], |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let server = ServerTls::new(&expired, &key, None).unwrap();
    let pinned = client_config(Some(&expired), None).unwrap();
    assert!(meet(&server, &pinned, "old.example").await.is_err());
}

#[test]
fn errors_name_the_file_and_what_to_do_and_show_no_key() {
    let issuer = ca("ours");
    let (cert, key) = leaf(&issuer, "a.example");
    let (_, other_key) = leaf(&issuer, "b.example");
    let text = key.private_text();
    let marked = |kind: &str| text.replace("PRIVATE KEY", &format!("{kind} KEY"));
    let cut = Pem::new(
        "file:cut.key",
        text.lines().take(2).collect::<Vec<_>>().join("\n"),
    );
    let garbled = Pem::new("file:garbled.key", text.replacen("\n", "\n*", 1));
    let locked = Pem::new("file:locked.key", marked("ENCRYPTED PRIVATE"));
    let cases = [
        (ServerTls::new(&key, &cert, None), "cert and key swapped"),
        (
            ServerTls::new(&cert, &other_key, None),
            "file:tls.key is not the private key",
        ),
        (ServerTls::new(&cert, &cert, None), "no private key in it"),
        (
            ServerTls::new(&cert, &Pem::new("env:KEY", ""), None),
            "env:KEY: no private key",
        ),
        (
            ServerTls::new(&cert, &locked, None),
            "file:locked.key: the private key is encrypted",
        ),
        (
            ServerTls::new(&cert, &cut, None),
            "file:cut.key: this is not valid PEM (an END line",
        ),
        (
            ServerTls::new(&cert, &garbled, None),
            "file:garbled.key: this is not valid PEM",
        ),
        (
            ServerTls::new(&cert, &key, Some(&Pem::new("file:ca.pem", "x"))),
            "file:ca.pem: no cert",
        ),
    ];
    let secret_line = text.lines().nth(1).unwrap();
    for (result, expected) in cases {
        let error = result.err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(
            !format!("{error} {error:?}").contains(&secret_line[..20]),
            "{error:?}"
        );
    }
    assert!(!format!("{key:?}").contains(&secret_line[..20]));
}

#[test]
fn validity_is_read_from_both_time_forms() {
    for (year, seconds) in [
        (1999, 915_148_800),
        (2049, 2_493_072_000),
        (2050, 2_524_608_000),
    ] {
        let (cert, _) = self_signed(&["a"], |params| {
            params.not_before = date_time_ymd(1975, 1, 1);
            params.not_after = date_time_ymd(year, 1, 1);
        });
        let facts = certificate_facts(&cert.certificates().unwrap()[0]);
        assert_eq!(facts.not_before.unwrap().as_secs(), 157_766_400);
        assert_eq!(facts.not_after.unwrap().as_secs(), seconds);
    }
}

#[test]
fn der_that_is_cut_or_spoilt_anywhere_yields_no_facts_and_no_panic() {
    let (cert, _) = self_signed(&["a"], |_| {});
    let der = cert.certificates().unwrap()[0].to_vec();
    for at in 0..der.len() {
        assert_eq!(certificate_facts(&der[..at]).thumbprint.len(), 43);
        let mut spoilt = der.clone();
        spoilt[at] ^= 0x80;
        assert_eq!(certificate_facts(&spoilt).thumbprint.len(), 43);
    }
    assert_eq!(certificate_facts(&[]).not_after, None);
    assert_eq!(
        certificate_facts(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]).not_after,
        None
    );
}

#[test]
fn the_thumbprint_is_that_of_rfc_7515() {
    // SHA-256 of nothing.
    assert_eq!(
        thumbprint_s256(b""),
        "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    );
}
