//! A loopback HTTP server that answers every GET with a fresh token: what a client's token callback calls.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Answers until it is dropped.
pub struct TokenServer {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    stopped: AtomicBool,
    handed_out: AtomicUsize,
}

impl TokenServer {
    /// Every request is answered with what `mint` returns.
    pub fn start(mint: impl Fn() -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let state = Arc::new(State {
            stopped: AtomicBool::new(false),
            handed_out: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.stopped.load(Ordering::Acquire) {
                    return;
                }
                if answer(stream, &mint()).is_ok() {
                    serving.handed_out.fetch_add(1, Ordering::AcqRel);
                }
            }
        });
        Self { address, state }
    }

    /// What to GET.
    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// How many tokens were handed out so far.
    pub fn handed_out(&self) -> usize {
        self.state.handed_out.load(Ordering::Acquire)
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Release);
        TcpStream::connect(self.address).ok();
    }
}

fn answer(mut stream: TcpStream, token: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length:";
    write!(stream, "{head} {}\r\n\r\n{token}", token.len())
}

/// Fetches one token, blocking.
pub fn fetch(url: &str) -> io::Result<String> {
    let address = url.trim_start_matches("http://").trim_end_matches("/token");
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET /token HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let body = response
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    body.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no body"))
}
