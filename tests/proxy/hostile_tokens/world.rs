//! One issuer, one server, a proxy for each kind of listener, and a trap for whoever follows what a token says.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use natsentry::demo::idp::forge::{Corpus, Forge};
use natsentry::demo::idp::{DevIdp, Directory, Form};
use natsentry::demo::servers::{NatsServer, Version};
use natsentry::tls::{ClientIdentity, Pem, client_config, thumbprint_s256};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use crate::support::documents::Documents;
use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::servers;
use crate::support::tap::Tap;
use crate::support::wire::PATIENCE;
use crate::tls::certificates;

pub(super) const CORPUS: &str = include_str!("../../corpus/tokens.json");
/// The thumbprint that stands in the corpus for that of the certificate which the client shows.
const WRITTEN_THUMBPRINT: &str = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0";

/// What a client heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// PONG.
    Admitted,
    /// `-ERR 'Authorization Violation'` and nothing else.
    Refused,
    /// The end of the stream, without a word.
    Silence,
    /// Anything else.
    Other(String),
}

/// Fetches of metadata and of key documents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetches(u64, u64);

impl Fetches {
    pub(super) fn since(self, before: &Self) -> (u64, u64) {
        (self.0 - before.0, self.1 - before.1)
    }
}

pub(super) struct World {
    pub(super) idp: DevIdp,
    pub(super) forge: Forge,
    pub(super) documents: Documents,
    trap: Documents,
    _nats: NatsServer,
    tap: Tap,
    proxies: BTreeMap<String, Proxy>,
    started: u64,
    clients: u32,
    thumbprint: String,
    certificates: tempfile::TempDir,
}

impl World {
    pub(super) async fn new() -> Self {
        let idp = proxy::idp().await;
        let forge = Forge::of(&idp).expect("keys");
        let documents = Documents::start().await;
        publish_products(&documents, &forge, idp.directory());
        let nats = servers::start(Version::V2_15_1, STATIC_USER);
        let tap = Tap::before(nats.address()).await;
        let certificates = certificates();
        let client = certificates.path().join("client.pem");
        let client = CertificateDer::from_pem_file(client).expect("a certificate");
        Self {
            idp,
            forge,
            documents,
            trap: Documents::start().await,
            _nats: nats,
            tap,
            proxies: BTreeMap::new(),
            started: 0,
            clients: 0,
            thumbprint: thumbprint_s256(&client),
            certificates,
        }
    }

    /// The corpus with the addresses of this world. Where a row has the thumbprint of the certificate that its client
    /// shows, it gets that of the certificate which this client will show.
    pub(super) fn corpus(&self) -> Corpus {
        let shown = format!("\"listener\": {{\"thumbprint\": \"{WRITTEN_THUMBPRINT}\"");
        let lines: Vec<String> = CORPUS
            .lines()
            .map(|line| match line.contains(&shown) {
                true => line.replace(WRITTEN_THUMBPRINT, &self.thumbprint),
                false => line.to_owned(),
            })
            .collect();
        let text = lines
            .join("\n")
            .replace("{b2c}", &format!("{}/b2c", self.documents.base()))
            .replace("{ciam}", &format!("{}/ciam", self.documents.base()))
            .replace("{trap}", self.trap.base());
        serde_json::from_str(&text).expect("the corpus")
    }

    pub(super) fn fetches(&self) -> Fetches {
        Fetches(self.idp.metadata_fetches(), self.idp.key_fetches())
    }

    /// Fetches of metadata from the development issuer that the start of the proxies so far explains.
    pub(super) fn started_sources(&self) -> u64 {
        self.started
    }

    /// Connections at the server that a client is bound to.
    pub(super) fn upstream_sessions(&self) -> usize {
        let probe = |stream: &Vec<u8>| stream.windows(15).any(|part| part == b"natsentry probe");
        let all = self.tap.to_server();
        all.iter()
            .filter(|stream| !probe(stream) && !stream.is_empty())
            .count()
    }

    pub(super) fn nobody_was_trapped(&self) {
        assert_eq!(
            self.trap.asked(),
            Vec::<String>::new(),
            "a token was followed"
        );
    }

    pub(super) fn trap(&self) -> &str {
        self.trap.base()
    }

    /// The proxy of a name, started with what the name says unless it runs.
    pub(super) async fn proxy(&mut self, name: &str) -> &Proxy {
        if !self.proxies.contains_key(name) {
            let setup = self.setup(name);
            let more = &setup.more;
            self.start(
                name,
                Setup {
                    more: more.clone(),
                    ..setup
                },
            )
            .await;
        }
        &self.proxies[name]
    }

    /// Starts a proxy under a name and waits for its keys.
    pub(super) async fn start(&mut self, name: &str, setup: Setup) {
        let folder = match name.starts_with("certificate") {
            true => {
                let folder = tempfile::tempdir().expect("a folder");
                for file in std::fs::read_dir(self.certificates.path()).expect("files") {
                    let file = file.expect("a file");
                    std::fs::copy(file.path(), folder.path().join(file.file_name()))
                        .expect("a copy");
                }
                folder
            }
            false => tempfile::tempdir().expect("a folder"),
        };
        let before = self.idp.metadata_fetches();
        let proxy = Proxy::start_in(folder, &self.idp, &setup).await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while proxy.get("/readyz").await.0 != 200 {
            let late = tokio::time::Instant::now() > deadline;
            assert!(
                !late,
                "{name} is not ready: {}",
                proxy.get("/readyz").await.1
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.started += self.idp.metadata_fetches() - before;
        self.proxies.insert(name.to_owned(), proxy);
    }

    /// An upstream, and no more issuers than the development one.
    pub(super) fn plain(&self) -> Setup {
        Setup::to(self.tap.address.port())
    }

    fn setup(&self, name: &str) -> Setup {
        let setup = self.plain().more(&self.issuers());
        match name.split('-').next().unwrap_or_default() {
            "v2" => setup.entra("  v1_tokens: false\n"),
            "apps" => setup.entra("  v1_tokens: true\n  accept: [app]\n"),
            "id" => setup.entra("  v1_tokens: true\n  accept: [user, app, id_token]\n"),
            "scope" => setup.entra("  v1_tokens: true\n  required_scope: Nats.Connect\n"),
            "certificate" => setup.listen(
                "  tls: { cert: file:server.pem, key: file:server.key, client_ca: file:ca.pem }\n",
            ),
            _ => setup,
        }
    }

    /// The development issuer's plain tokens, External ID and B2C.
    fn issuers(&self) -> String {
        let Directory {
            tid,
            api,
            app_id_uri,
            oidc_audience,
            ..
        } = self.idp.directory();
        let (base, documents) = (self.idp.base(), self.documents.base());
        format!(
            "issuers:\n  - {{ issuer: \"{base}\", audiences: [{oidc_audience}] }}\n  \
             - {{ issuer: \"{documents}/ciam\", profile: external-id, tenant: {tid}, audiences: [{api}, \"{app_id_uri}\"] }}\n  \
             - {{ issuer: \"{documents}/b2c\", profile: b2c, tenant: {tid}, policies: [B2C_1_signin], audiences: [{api}] }}\n"
        )
    }

    /// An address that no client had before.
    pub(super) fn fresh_address(&mut self) -> Ipv4Addr {
        self.clients += 1;
        let [_, high, middle, low] = (self.clients + 0x01_0000).to_be_bytes();
        Ipv4Addr::new(127, high, middle, low)
    }

    /// Sends what a client says to a proxy, from an address of its own. Returns that address and what came back.
    pub(super) async fn connect(&mut self, name: &str, text: &str) -> (String, Heard) {
        let from = self.fresh_address();
        let address = self.proxy(name).await.address;
        let tls = name.starts_with("certificate").then(|| self.tls());
        let heard = say(address, from, tls.as_ref(), text.as_bytes()).await;
        (from.to_string(), heard)
    }

    fn tls(&self) -> TlsConnector {
        let pem = |name: &str| {
            let bytes = std::fs::read(self.certificates.path().join(name)).expect("a file");
            Pem::new(name, bytes)
        };
        let (ca, cert, key) = (pem("ca.pem"), pem("client.pem"), pem("client.key"));
        let identity = ClientIdentity {
            cert: &cert,
            key: &key,
        };
        let config = client_config(Some(&ca), Some(identity)).expect("a TLS configuration");
        TlsConnector::from(Arc::clone(&config))
    }

    /// Every audit line of every proxy, which end with this.
    pub(super) async fn audit(&mut self) -> Vec<serde_json::Value> {
        let mut lines = Vec::new();
        for (_, proxy) in std::mem::take(&mut self.proxies) {
            let folder = proxy.stop().await;
            let text =
                std::fs::read_to_string(folder.path().join("audit.jsonl")).expect("the audit");
            lines.extend(
                text.lines()
                    .map(|line| serde_json::from_str(line).expect("JSON")),
            );
        }
        lines
    }
}

/// External ID and B2C at an address of ours, with the keys of the forge.
fn publish_products(documents: &Documents, forge: &Forge, directory: &Directory) {
    let tid = &directory.tid;
    let keys: serde_json::Value =
        serde_json::from_slice(&forge.key_document(Form::Oidc)).expect("JSON");
    let keys = keys["keys"].as_array().expect("keys").clone();
    let ciam = format!("https://{tid}.ciamlogin.com/{tid}/v2.0");
    documents.put_issuer(&format!("/ciam/{tid}/v2.0"), &ciam, &keys);
    let b2c = format!("{}/b2c/{tid}/v2.0/", documents.base());
    documents.put_issuer(&format!("/b2c/{tid}/B2C_1_signin/v2.0"), &b2c, &keys);
}

/// Connects from an address, says something after INFO, and listens until PONG or the end.
pub(crate) async fn say(
    address: SocketAddr,
    from: Ipv4Addr,
    tls: Option<&TlsConnector>,
    bytes: &[u8],
) -> Heard {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind((from, 0).into())
        .expect("an address of loopback");
    let tcp = socket.connect(address).await.expect("a connection");
    let exchange = async {
        let mut tcp = BufReader::new(tcp);
        let info = line(&mut tcp).await;
        assert!(info.starts_with("INFO "), "{info}");
        match tls {
            None => converse(&mut tcp, bytes).await,
            Some(tls) => {
                assert!(tcp.buffer().is_empty(), "INFO is all there is before TLS");
                let name = ServerName::try_from("127.0.0.1").expect("a name");
                let stream = tls.connect(name, tcp.into_inner()).await.expect("TLS");
                converse(&mut BufReader::new(stream), bytes).await
            }
        }
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .expect("an answer in time")
}

async fn converse<S: AsyncBufRead + AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Heard {
    // The proxy may close while it is still being told; the answer shows it.
    let _ = stream.write_all(bytes).await;
    let mut said = String::new();
    loop {
        let next = line(stream).await;
        match next.as_str() {
            "" => break,
            "PONG\r\n" => return Heard::Admitted,
            info if info.starts_with("INFO ") => {}
            other => said.push_str(other),
        }
    }
    match said.as_str() {
        "" => Heard::Silence,
        "-ERR 'Authorization Violation'\r\n" => Heard::Refused,
        _ => Heard::Other(said),
    }
}

/// One line, or what there is at the end of the stream.
pub(super) async fn line<S: AsyncBufRead + Unpin>(stream: &mut S) -> String {
    let mut bytes = Vec::new();
    // Whatever ends the stream, it is what was said before that counts.
    let _ = stream.read_until(b'\n', &mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}
