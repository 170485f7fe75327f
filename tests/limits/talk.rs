//! A connection that says what it is told to, over TCP or TLS, from any address of loopback.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Longest wait for anything that has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection.
pub(crate) struct Talk {
    stream: BufReader<Box<dyn Stream>>,
}

/// A TCP connection from 127.0.0.`host`; a small receive buffer where the peer's writes are to block soon.
pub(crate) async fn dial(address: SocketAddr, host: u8, small: bool) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if small {
        socket.set_recv_buffer_size(4096)?;
    }
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)))?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Talk {
    pub(crate) fn over(tcp: TcpStream) -> Self {
        Self {
            stream: BufReader::new(Box::new(tcp)),
        }
    }

    /// TLS before anything else is said.
    pub(crate) async fn tls(tcp: TcpStream, ca_pem: &str) -> Self {
        let mut roots = RootCertStore::empty();
        let der = CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("a certificate");
        roots.add(der).expect("a root");
        natsentry::tls::install_provider();
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "127.0.0.1".try_into().expect("a name");
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .expect("a TLS session");
        Self {
            stream: BufReader::new(Box::new(stream)),
        }
    }

    /// Both directions, to be used at once.
    pub(crate) fn split(
        self,
    ) -> (
        impl AsyncRead + Send + Unpin,
        impl AsyncWrite + Send + Unpin,
    ) {
        tokio::io::split(self.stream)
    }

    /// The next line, without its end; none at the end of the stream.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = timeout(PATIENCE, self.stream.read_until(b'\n', &mut line)).await;
        match read.expect("an answer in time") {
            Ok(count) if count > 0 => {
                let text = String::from_utf8_lossy(&line);
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            _ => None,
        }
    }

    /// The next line that is no INFO and no PING; the latter is answered.
    pub(crate) async fn answer(&mut self) -> Option<String> {
        loop {
            let line = self.line().await?;
            if line == "PING" {
                self.send("PONG\r\n").await.ok()?;
            } else if !line.starts_with("INFO ") {
                return Some(line);
            }
        }
    }

    pub(crate) async fn exactly(&mut self, bytes: &mut [u8]) {
        let read = timeout(PATIENCE, self.stream.read_exact(bytes)).await;
        read.expect("in time").expect("bytes");
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// CONNECT, and the first PONG.
    pub(crate) async fn admitted(mut self, connect: &str) -> Result<Self, String> {
        let said = async {
            let info = self.line().await.ok_or("no INFO")?;
            assert!(info.starts_with("INFO "), "{info}");
            self.send(connect)
                .await
                .map_err(|error| error.to_string())?;
            self.send("PING\r\n")
                .await
                .map_err(|error| error.to_string())?;
            match self.line().await {
                Some(line) if line == "PONG" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        };
        said.await?;
        Ok(self)
    }
}
