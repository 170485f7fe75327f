//! The one HTTP client: a fixed address, a bounded answer, a bounded time.
//!
//! Owns: which addresses may be asked at all, proxies (never to loopback or link-local addresses), redirects (never
//! followed), the size of a body, TLS roots. Must never: go where an answer or a token points, or log a header or body.

mod address;

pub use address::{Address, Unfit};

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use crate::clock;

/// No HTTP client can be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The HTTP client could not be made.
    #[error("HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// The TLS configuration could not be made.
    #[error("TLS of the HTTP client: {0}")]
    Tls(#[from] rustls::Error),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The connection, TLS or HTTP failed, or took too long.
    #[error("{url}: {why}")]
    Transport {
        /// What was asked.
        url: Box<str>,
        /// What the network said.
        why: Box<str>,
    },
    /// A body above the limit.
    #[error("{url}: body larger than {limit} bytes")]
    TooLarge {
        /// What was asked.
        url: Box<str>,
        /// The limit.
        limit: usize,
    },
}

/// One request. Built by [`Request::get`], [`Request::post`] and [`Request::form`].
pub struct Request<'a> {
    address: &'a Address,
    method: Method,
    headers: HeaderMap,
    body: Option<Zeroizing<Vec<u8>>>,
    most_bytes: usize,
}

/// What came back, whatever its status.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    headers: HeaderMap,
    /// The body, within the limit. Wiped when dropped, since it may hold a token.
    pub body: Zeroizing<Vec<u8>>,
}

/// Two clients: loopback and link-local addresses are never asked through a proxy of the environment, everything else
/// may be. Cloning shares the connections.
#[derive(Clone, Debug)]
pub struct Http {
    direct: Client,
    outside: Client,
}

impl Http {
    /// `extra_roots` are trusted besides the authorities of the system, `timeout` is the longest time of one request,
    /// connecting and reading the body included. Works without any CA store: then no https address can be asked, which
    /// each request says.
    ///
    /// # Errors
    /// [`ClientError`] when TLS cannot be set up.
    pub fn new(
        extra_roots: &[CertificateDer<'static>],
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let tls = tls(extra_roots)?;
        let build = || {
            Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .redirect(Policy::none())
                .timeout(timeout)
                .connect_timeout(timeout)
                .pool_idle_timeout(Duration::from_secs(10))
                .user_agent(concat!("natsentry/", env!("CARGO_PKG_VERSION")))
        };
        Ok(Self {
            direct: build().no_proxy().build()?,
            outside: build().build()?,
        })
    }

    /// Sends the request and reads the whole answer.
    ///
    /// # Errors
    /// [`HttpError`]; a status other than 200 is an answer and no error.
    pub async fn send(&self, request: Request<'_>) -> Result<Answer, HttpError> {
        let Request {
            address,
            method,
            headers,
            body,
            most_bytes,
        } = request;
        let failed = |error: reqwest::Error| HttpError::Transport {
            url: address.shown(),
            why: cause(error).into(),
        };
        let client = if address.is_near() {
            &self.direct
        } else {
            &self.outside
        };
        let mut sending = client
            .request(method, address.url().clone())
            .headers(headers);
        if let Some(body) = body {
            sending = sending.body(body.to_vec());
        }
        let mut answer = sending.send().await.map_err(failed)?;
        let mut read = Zeroizing::new(Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if read.len().saturating_add(chunk.len()) > most_bytes {
                return Err(HttpError::TooLarge {
                    url: address.shown(),
                    limit: most_bytes,
                });
            }
            read.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: answer.status().as_u16(),
            headers: std::mem::take(answer.headers_mut()),
            body: read,
        })
    }
}

impl<'a> Request<'a> {
    /// A GET, with an answer of at most `most_bytes`.
    pub fn get(address: &'a Address, most_bytes: usize) -> Self {
        Self {
            address,
            method: Method::GET,
            headers: HeaderMap::new(),
            body: None,
            most_bytes,
        }
    }

    /// A POST of `body`, with an answer of at most `most_bytes`.
    pub fn post(
        address: &'a Address,
        content_type: &'static str,
        body: Zeroizing<Vec<u8>>,
        most_bytes: usize,
    ) -> Self {
        let mut request = Self::get(address, most_bytes);
        request.method = Method::POST;
        request.body = Some(body);
        request.header("content-type", content_type.as_bytes())
    }

    /// A POST of form fields (`application/x-www-form-urlencoded`), with an answer of at most `most_bytes`.
    pub fn form(address: &'a Address, fields: &[(&str, &[u8])], most_bytes: usize) -> Self {
        let mut body = Zeroizing::new(Vec::with_capacity(1024));
        for (index, (name, value)) in fields.iter().enumerate() {
            if index > 0 {
                body.push(b'&');
            }
            escape(name.as_bytes(), &mut body);
            body.push(b'=');
            escape(value, &mut body);
        }
        Self::post(
            address,
            "application/x-www-form-urlencoded",
            body,
            most_bytes,
        )
    }

    /// With a header. The value counts as secret: it is not shown, and not compressed across requests. One that cannot
    /// be a header value (a line break in it) is left out, which the other side answers for.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &[u8]) -> Self {
        if let Ok(mut value) = HeaderValue::from_bytes(value) {
            value.set_sensitive(true);
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }
}

impl Answer {
    /// A header as text; none when it is absent, given twice or not ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?;
        if values.next().is_some() {
            return None;
        }
        first.to_str().ok()
    }

    /// `Retry-After`: seconds, or a date (RFC 9110 section 10.2.3), which counts from the answer's own `Date` where it has
    /// one, since the clock there may not be ours. A date that has passed is no wait at all.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.header("retry-after")?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let date = |text: &str| httpdate::parse_http_date(text).ok();
        let at = date(text)?;
        let ours = UNIX_EPOCH + Duration::from_millis(clock::now().as_millis());
        let now = self.header("date").and_then(date).unwrap_or(ours);
        Some(at.duration_since(now).unwrap_or_default())
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.address.shown())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} bytes", self.status, self.body.len())
    }
}

fn tls(extra_roots: &[CertificateDer<'static>]) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(extra_roots.iter().cloned());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Everything but the unreserved characters of RFC 3986 section 2.3 as `%XX`.
fn escape(value: &[u8], into: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or(b'0');
    for byte in value {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            into.push(*byte);
        } else {
            into.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// Printable characters of foreign text, at most 256.
pub fn clip(text: &str) -> Box<str> {
    text.chars()
        .filter(|c| !c.is_control())
        .take(256)
        .collect::<String>()
        .into()
}

/// What the network said, without the address, which the message has already.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        clip(&text).into()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Serves one connection with a fixed answer and returns what was asked.
    async fn answering(answer: String) -> (Address, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let count = stream.read(&mut asked).await.unwrap();
            // The client may have hung up at its limit.
            let _ = stream.write_all(answer.as_bytes()).await;
            String::from_utf8_lossy(&asked[..count]).into_owned()
        });
        (Address::parse(&url).unwrap(), served)
    }

    fn client() -> Http {
        crate::tls::install_provider();
        Http::new(&[], Duration::from_secs(20)).unwrap()
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let head = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\nretry-after: 7\r\n";
        let (address, served) = answering(format!("{head}content-length: 0\r\n\r\n")).await;
        let answer = client()
            .send(Request::get(&address, 10).header("authorization", b"Bearer x"))
            .await
            .unwrap();
        assert_eq!(answer.status, 302);
        assert_eq!(answer.retry_after(), Some(Duration::from_secs(7)));
        assert!(served.await.unwrap().contains("authorization: Bearer x"));
    }

    #[tokio::test]
    async fn a_wait_is_stated_in_seconds_or_by_a_date() {
        for (headers, wanted) in [
            ("retry-after: 120", Some(120)),
            ("retry-after: 0", Some(0)),
            (
                "date: Sat, 28 Nov 2026 07:00:00 GMT\r\nretry-after: Sat, 28 Nov 2026 07:01:30 GMT",
                Some(90),
            ),
            // The two old forms.
            (
                "date: Sat, 28 Nov 2026 07:00:00 GMT\r\nretry-after: Saturday, 28-Nov-26 07:00:07 GMT",
                Some(7),
            ),
            (
                "date: Sat, 28 Nov 2026 07:00:00 GMT\r\nretry-after: Sat Nov 28 07:00:08 2026",
                Some(8),
            ),
            ("retry-after: Thu, 01 Jan 1970 00:00:09 GMT", Some(0)),
            ("retry-after: -1", None),
            ("retry-after: 1.5", None),
            ("retry-after: soon", None),
            ("retry-after: 1\r\nretry-after: 2", None),
            ("x: 1", None),
        ] {
            let head = format!("HTTP/1.1 429 Slow\r\n{headers}\r\ncontent-length: 0\r\n\r\n");
            let (address, _served) = answering(head).await;
            let answer = client().send(Request::get(&address, 10)).await.unwrap();
            let wanted = wanted.map(Duration::from_secs);
            assert_eq!(answer.retry_after(), wanted, "{headers}");
        }
        // Without a date of its own, from our clock.
        let at =
            UNIX_EPOCH + Duration::from_millis(clock::now().as_millis()) + Duration::from_secs(600);
        let head = format!(
            "HTTP/1.1 429 Slow\r\nretry-after: {}\r\ncontent-length: 0\r\n\r\n",
            httpdate::fmt_http_date(at)
        );
        let (address, _served) = answering(head).await;
        let answer = client().send(Request::get(&address, 10)).await.unwrap();
        let wait = answer.retry_after().unwrap().as_secs();
        assert!((500..=600).contains(&wait), "{wait}");
    }

    #[tokio::test]
    async fn a_body_above_the_limit_is_refused_while_it_comes_in() {
        let body = "x".repeat(2000);
        let (address, _served) = answering(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{body}"
        ))
        .await;
        let error = client()
            .send(Request::get(&address, 1000))
            .await
            .unwrap_err();
        assert!(
            matches!(error, HttpError::TooLarge { limit: 1000, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_form_field_cannot_add_another() {
        let address = Address::parse("https://login.example/token").unwrap();
        let request = Request::form(
            &address,
            &[("a", b"1&b=2"), ("c", "\u{e4} +/".as_bytes())],
            1,
        );
        assert_eq!(
            std::str::from_utf8(&request.body.unwrap()).unwrap(),
            "a=1%26b%3D2&c=%C3%A4%20%2B%2F"
        );
    }

    #[test]
    fn a_request_shows_no_header_in_debug() {
        let address = Address::parse("https://graph.example/x").unwrap();
        let request = Request::get(&address, 1).header("authorization", b"Bearer hunter2");
        assert_eq!(format!("{request:?}"), "GET https://graph.example/x");
    }
}
