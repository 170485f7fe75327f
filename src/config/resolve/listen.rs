//! `listen` and `admin`: addresses, certificates, and who may announce client addresses.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::document::{Document, ProxyProtocol, ProxyProtocolMode, TlsMode};
use super::{Context, blamed};
use crate::policy::units::Cidr;
use crate::tls::{Pem, ServerTls};

/// Where clients connect.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Address for NATS clients.
    pub client: SocketAddr,
    /// TLS towards clients; none: plain.
    pub tls: Option<ListenTls>,
    /// PROXY protocol; none: not read.
    pub proxy_protocol: Option<ProxyProtocolConfig>,
}

/// TLS towards clients. The PEM texts were checked: [`ServerTls`] takes them.
#[derive(Clone, Debug)]
pub struct ListenTls {
    /// Certificate chain.
    pub cert: Pem,
    /// Private key.
    pub key: Pem,
    /// CAs of client certificates; where present, clients must show one.
    pub client_ca: Option<Pem>,
    /// How long to wait for a client that begins TLS before INFO; zero: INFO first, at once.
    pub first_wait: Duration,
}

/// Who may announce client addresses.
#[derive(Clone, Debug)]
pub struct ProxyProtocolConfig {
    /// Whether a header is a must, from trusted addresses, and everybody else is refused.
    pub required: bool,
    /// Trusted addresses.
    pub trusted: Vec<Cidr>,
}

pub(super) fn resolve(context: &mut Context<'_>, document: &Document) -> ListenConfig {
    let listen = &document.listen;
    if listen.websocket.is_some() {
        context.mistake(
            &["listen", "websocket"],
            "not available in this version; remove it",
        );
    }
    let tls = resolve_tls(context, document);
    let plain = listen
        .tls
        .as_ref()
        .is_none_or(|tls| tls.mode == TlsMode::Off);
    if plain && !listen.client.0.ip().is_loopback() && !context.lost_something(&["listen", "tls"]) {
        context.warning(
            &["listen", "client"],
            "without TLS tokens travel in clear, and whoever reads one is that identity; set `listen.tls`",
        );
    }
    if let Some(admin) = &document.admin {
        let (client, admin) = (listen.client.0, admin.listen.0);
        let overlap = client.ip() == admin.ip()
            || client.ip().is_unspecified()
            || admin.ip().is_unspecified();
        if client.port() == admin.port() && client.port() != 0 && overlap {
            context.mistake(
                &["admin", "listen"],
                format!(
                    "port {} is taken by `listen.client`; choose another",
                    admin.port()
                ),
            );
        }
    }
    ListenConfig {
        client: listen.client.0,
        tls,
        proxy_protocol: proxy_protocol(context, document),
    }
}

fn resolve_tls(context: &mut Context<'_>, document: &Document) -> Option<ListenTls> {
    const TLS: &[&str] = &["listen", "tls"];
    const CERT: &[&str] = &["listen", "tls", "cert"];
    const KEY: &[&str] = &["listen", "tls", "key"];
    const CLIENT_CA: &[&str] = &["listen", "tls", "client_ca"];
    let written = document.listen.tls.as_ref()?;
    context.bounded(
        &["listen", "tls", "first_wait"],
        written.first_wait,
        1,
        5_000,
    );
    if written.mode == TlsMode::Off {
        return None;
    }
    for (name, value, path) in [("cert", &written.cert, CERT), ("key", &written.key, KEY)] {
        if value.is_none() && !context.lost_something(path) {
            context.mistake(
                TLS,
                format!(
                    "`{name}` is missing; write `{name}: file:tls.{}`",
                    name.replace("cert", "crt")
                ),
            );
        }
    }
    let cert = context.pem(CERT, written.cert.as_ref());
    let key = context.pem(KEY, written.key.as_ref());
    let client_ca = context.pem(CLIENT_CA, written.client_ca.as_ref());
    let (Some(cert), Some(key)) = (cert, key) else {
        return None;
    };
    if let Err(error) = ServerTls::new(&cert, &key, client_ca.as_ref()) {
        let candidates = [
            (Some(&cert), CERT),
            (Some(&key), KEY),
            (client_ca.as_ref(), CLIENT_CA),
        ];
        let path = blamed(&error, &candidates, TLS);
        context.mistake(path, error.to_string());
    }
    Some(ListenTls {
        cert,
        key,
        client_ca,
        first_wait: written.first_wait.get(),
    })
}

fn proxy_protocol(context: &mut Context<'_>, document: &Document) -> Option<ProxyProtocolConfig> {
    let ProxyProtocol::Trusted(written) = &document.listen.proxy_protocol else {
        return None;
    };
    if written.trusted.is_empty() {
        let word = match written.mode {
            ProxyProtocolMode::Require => "require",
            _ => "accept",
        };
        context.mistake(
            &["listen", "proxy_protocol"],
            format!(
                "whose headers are believed must be listed, or anybody could claim any address; \
                 write {{ mode: {word}, trusted: [10.0.0.0/8] }}"
            ),
        );
    }
    Some(ProxyProtocolConfig {
        required: written.mode == ProxyProtocolMode::Require,
        trusted: written.trusted.clone(),
    })
}
