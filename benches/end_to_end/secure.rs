//! TLS between load generator and contenders: a certificate made for the run, and the stream that a client speaks on.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A certificate for 127.0.0.1 in files, and who trusts it.
pub(crate) struct Certificate {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    pub(crate) both: PathBuf,
    pub(crate) trust: Arc<ClientConfig>,
}

impl Certificate {
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text)?;
            io::Result::Ok(path)
        };
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let trust = ClientConfig::builder_with_provider(natsentry::tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            cert: file("bench.pem", &cert)?,
            key: file("bench.key", &key)?,
            both: file("bench-both.pem", &format!("{cert}{key}"))?,
            trust: Arc::new(trust),
        })
    }
}

/// What a client speaks on. With TLS the handshake comes first, before INFO; sessions are resumed.
pub(crate) enum Channel {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Channel {
    pub(crate) fn open(tcp: TcpStream, trust: Option<&Arc<ClientConfig>>) -> Result<Self> {
        let Some(trust) = trust else {
            return Ok(Self::Plain(tcp));
        };
        let name = "127.0.0.1".try_into()?;
        let tls = ClientConnection::new(Arc::clone(trust), name)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(tls, tcp))))
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &tls.sock,
        }
    }
}

impl Read for Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}
