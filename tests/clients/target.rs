//! Something that clients connect to, and how to break the connection of one that is connected.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use natsentry::demo::provision::TempDir;
use natsentry::demo::servers::NatsServer;
use serde_json::{Value, json};

use crate::driver::Place;
use crate::estate;
use crate::servers::Server;
use crate::support::binary::Binary;
use crate::support::issuer::{self, Issuer};
use crate::support::relay::Relay;
use crate::support::tokens::TokenServer;

/// Of every user of the estate's servers.
const PASSWORD: &str = "pw-of-the-estate";

/// Long enough for every run.
const HOUR: Duration = Duration::from_secs(3600);

/// A target.
pub struct Target {
    /// Where clients go.
    pub place: Place,
    /// The column of the table.
    pub route: &'static str,
    /// The server at the end of it.
    pub server: Server,
    /// In front of the clients' end.
    relay: Relay,
    /// In front of the server, where there is a second one for when the first goes away.
    upstream: Option<Relay>,
    tokens: Option<TokenServer>,
    _proxied: Option<(Binary, Issuer)>,
    _certificates: Option<TempDir>,
    servers: Mutex<Vec<NatsServer>>,
}

/// A running server, and what is needed to be a client of it through natsentry.
struct Proxied {
    proxy: Binary,
    issuer: Issuer,
}

impl Proxied {
    /// With more members below `listen`.
    fn start(upstream: &str, listen: &[(&str, Value)]) -> Self {
        let issuer = Issuer::start();
        let mut config = estate::proxy_config(&issuer.entry(), upstream);
        for (name, value) in listen {
            config["listen"][name] = value.clone();
        }
        let proxy = Binary::start(&config, &[("ESTATE_PASSWORD", PASSWORD)]);
        Self { proxy, issuer }
    }

    /// Hands out tokens; the first one lives as long as `first_lifetime`, the others an hour.
    fn tokens(&self, first_lifetime: Duration) -> TokenServer {
        let (idp, first) = (self.issuer.idp(), AtomicBool::new(true));
        TokenServer::start(move || {
            let first = first.swap(false, Ordering::AcqRel);
            issuer::mint(&idp, estate::WHO, if first { first_lifetime } else { HOUR })
        })
    }
}

impl Target {
    /// A server whose own user `app` has the role.
    pub fn role(server: Server) -> Self {
        let running = start(server, &estate::role_config(server, PASSWORD));
        furnish(server, &running);
        let relay = Relay::to(running.address());
        let url = format!("nats://app:{PASSWORD}@{}", relay.address());
        Self::new("direct, role", server, url, relay, vec![running])
    }

    /// A server that one token opens, handed out on every connect.
    pub fn token(server: Server) -> Self {
        let token = "token-of-the-estate";
        let running = start(server, &estate::token_config(server, token));
        let admin = format!("nats://{token}@{}", running.address());
        furnish_at(server, &admin);
        let relay = Relay::to(running.address());
        let url = format!("nats://{}", relay.address());
        let mut target = Self::new("direct, token", server, url, relay, vec![running]);
        target.hand_out(TokenServer::start(move || token.to_owned()));
        target
    }

    /// natsentry in front of a server: the identity has the role, the proxy is the server's administrator. The first
    /// token handed out lives as long as `first_lifetime`, the others an hour.
    pub fn proxied(server: Server, first_lifetime: Duration) -> Self {
        let running = start(server, &estate::role_config(server, PASSWORD));
        furnish(server, &running);
        let proxied = Proxied::start(&running.url(), &[]);
        let relay = Relay::to(proxied.proxy.address());
        let url = format!("nats://{}", relay.address());
        let mut target = Self::new("natsentry", server, url, relay, vec![running]);
        target.hand_out(proxied.tokens(first_lifetime));
        target.keep(proxied);
        target
    }

    /// The same with the token as the password of a URL, beside the name of the role.
    pub fn proxied_by_password(server: Server) -> Self {
        let running = start(server, &estate::role_config(server, PASSWORD));
        let proxied = Proxied::start(&running.url(), &[]);
        let relay = Relay::to(proxied.proxy.address());
        let token = proxied.issuer.mint(estate::WHO, HOUR);
        let url = format!("nats://tester:{token}@{}", relay.address());
        let mut target = Self::new("natsentry", server, url, relay, vec![running]);
        target.keep(proxied);
        target
    }

    /// A server that speaks TLS, or natsentry that does.
    pub fn tls(server: Server, through_natsentry: bool) -> Self {
        let certificates = TempDir::create("estate-tls").unwrap_or_else(|error| panic!("{error}"));
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let (cert, key) = (
            certificates.path().join("cert.pem"),
            certificates.path().join("key.pem"),
        );
        fs::write(&cert, made.cert.pem()).expect("a file");
        fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
        let mut target = if through_natsentry {
            let running = start(server, &estate::role_config(server, PASSWORD));
            let file = |path: &std::path::Path| format!("file:{}", path.display());
            let tls = json!({ "cert": file(&cert), "key": file(&key) });
            let proxied = Proxied::start(&running.url(), &[("tls", tls)]);
            let relay = Relay::to(proxied.proxy.address());
            let url = format!("tls://{}", relay.address());
            let mut target = Self::new("natsentry", server, url, relay, vec![running]);
            target.hand_out(proxied.tokens(HOUR));
            target.keep(proxied);
            target
        } else {
            let config = estate::role_config(server, PASSWORD);
            let running = start(
                server,
                &format!("{config}tls {{ cert_file: {cert:?}, key_file: {key:?} }}\n"),
            );
            let relay = Relay::to(running.address());
            let url = format!("tls://app:{PASSWORD}@{}", relay.address());
            Self::new("direct, role", server, url, relay, vec![running])
        };
        target.place.ca = Some(cert);
        target._certificates = Some(certificates);
        target
    }

    /// Two servers of which one goes away, alone or behind natsentry, which sees one address.
    pub fn of_two(server: Server, through_natsentry: bool) -> Self {
        let config = estate::lame_duck_config(server, PASSWORD);
        let both = vec![start(server, &config), start(server, &config)];
        let upstream = Relay::to(both[0].address());
        if !through_natsentry {
            let url = format!("nats://app:{PASSWORD}@{}", upstream.address());
            return Self::new("direct, role", server, url, upstream, both);
        }
        let proxied = Proxied::start(&format!("nats://{}", upstream.address()), &[]);
        let relay = Relay::to(proxied.proxy.address());
        let url = format!("nats://{}", relay.address());
        let mut target = Self::new("natsentry", server, url, relay, both);
        target.upstream = Some(upstream);
        target.hand_out(proxied.tokens(HOUR));
        target.keep(proxied);
        target
    }

    fn new(
        route: &'static str,
        server: Server,
        url: String,
        relay: Relay,
        servers: Vec<NatsServer>,
    ) -> Self {
        Self {
            place: Place::new(url, server),
            route,
            server,
            relay,
            upstream: None,
            tokens: None,
            _proxied: None,
            _certificates: None,
            servers: Mutex::new(servers),
        }
    }

    fn hand_out(&mut self, tokens: TokenServer) {
        self.place.token_url = Some(tokens.url());
        self.tokens = Some(tokens);
    }

    fn keep(&mut self, proxied: Proxied) {
        self._proxied = Some((proxied.proxy, proxied.issuer));
    }

    /// How many tokens clients have asked for.
    pub fn tokens_handed_out(&self) -> usize {
        self.tokens.as_ref().map_or(0, TokenServer::handed_out)
    }

    /// Breaks every connection of clients.
    pub fn cut(&self) {
        self.relay.cut();
    }

    /// Sends new connections to the second server, and the first one into lame duck mode.
    pub fn lame_duck(&self) {
        let servers = self.servers.lock().expect("no panic while held");
        self.upstream
            .as_ref()
            .unwrap_or(&self.relay)
            .retarget(servers[1].address());
        servers[0]
            .signal("ldm")
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

fn start(server: Server, config: &str) -> NatsServer {
    let binary = server
        .binary()
        .unwrap_or_else(|why| panic!("nats-server {server}: {why}"));
    NatsServer::start(&binary, config).unwrap_or_else(|error| panic!("{error}"))
}

fn furnish(server: Server, running: &NatsServer) {
    furnish_at(
        server,
        &format!("nats://admin:{PASSWORD}@{}", running.address()),
    );
}

fn furnish_at(server: Server, admin_url: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let furnished = runtime
        .expect("a runtime")
        .block_on(estate::furnish(server, admin_url));
    furnished.unwrap_or_else(|error| panic!("the estate cannot be made: {error}"));
}
