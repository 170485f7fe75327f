//! One dial to one server: a stream with INFO on it, CONNECT, PONG. Knows nothing of health or other servers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::config::UpstreamConfig;
use super::connect::connect_and_ping;
use super::credentials::Credentials;
use super::error::{DialError, Step};
use super::greeting::Greeting;
use super::handshake::{Answer, Fault, Lines};
use super::servers::Server;
use super::stream::LinkStream;
use super::transport::Opened;
use super::{ConnectOptions, Link};
use crate::wire::ServerInfo;

/// Everything one dial needs.
#[derive(Clone, Copy)]
pub(super) struct Dial<'a> {
    pub(super) config: &'a UpstreamConfig,
    pub(super) credentials: &'a Credentials,
    pub(super) server: &'a Server,
    pub(super) purpose: Purpose<'a>,
    /// All of it must be over by then.
    pub(super) deadline: Instant,
    /// One TCP connection may take this long.
    pub(super) connect_limit: Duration,
}

/// For whom the connection is.
#[derive(Clone, Copy)]
pub(super) enum Purpose<'a> {
    Session(&'a ConnectOptions<'a>),
    /// For a session that is still to come: nothing is said.
    Ahead,
    Probe,
}

/// A link, and how long the server took to answer.
pub(super) struct Dialled {
    pub(super) link: Link,
    pub(super) round_trip: Duration,
}

impl Dial<'_> {
    /// Runs it.
    pub(super) async fn run(&self) -> Result<Dialled, DialError> {
        self.within(Step::Connect, async |step| {
            let last = self.last_greeting();
            if let Some(last) = last
                && let Some(result) = self.early(last, step).await
            {
                return result;
            }
            let opened = self.open(step).await?;
            *step = Step::Auth;
            let dialled = self.introduce(opened).await?;
            if last.is_some() {
                let greeting = &self.server.greeting;
                greeting.keep_to_the_usual_order(Instant::now());
            }
            Ok(dialled)
        })
        .await
    }

    /// As far as it goes without a word of ours: the server has greeted, and waits.
    pub(super) async fn ahead(&self) -> Result<Opened, DialError> {
        self.within(Step::Connect, async |step| {
            let opened = self.open(step).await?;
            self.refuse_lame_duck(&opened.greeting.info)?;
            if opened.lines.has_rest() {
                return Err(self.protocol("it said more than INFO before CONNECT"));
            }
            Ok(opened)
        })
        .await
    }

    /// The rest of it, on a connection that was dialled ahead.
    pub(super) async fn over(&self, opened: Opened) -> Result<Dialled, DialError> {
        self.within(Step::Auth, async |_| self.introduce(opened).await)
            .await
    }

    async fn within<T>(
        &self,
        mut step: Step,
        steps: impl AsyncFnOnce(&mut Step) -> Result<T, DialError>,
    ) -> Result<T, DialError> {
        let began = Instant::now();
        match timeout_at(self.deadline, steps(&mut step)).await {
            Ok(result) => result,
            Err(_) => Err(DialError::Timeout {
                server: self.name(),
                step,
                limit: began.elapsed(),
            }),
        }
    }

    /// CONNECT and what answers it. Takes the connection: it is said once.
    async fn introduce(&self, mut opened: Opened) -> Result<Dialled, DialError> {
        let Greeting { info, nonce } = &opened.greeting;
        self.refuse_lame_duck(info)?;
        let request = self.request(nonce.as_deref(), info.headers, opened.stream.is_tls())?;
        let sent = Instant::now();
        let written = send(&mut opened.stream, &request).await;
        self.answered(opened, written, sent).await
    }

    /// What answers CONNECT and PING, which were sent at `sent`, as far as they were `written`.
    pub(super) async fn answered(
        &self,
        opened: Opened,
        written: io::Result<()>,
        mut sent: Instant,
    ) -> Result<Dialled, DialError> {
        let Opened {
            mut stream,
            mut lines,
            greeting,
            address,
        } = opened;
        let mut answer = self.answer(written, &mut stream, &mut lines).await?;
        if matches!(self.purpose, Purpose::Session(_)) {
            let behind = lines
                .info_behind(&self.server.last_answer)
                .map_err(|fault| self.fault(Step::Auth, fault))?;
            answer.greeting = behind.or(answer.greeting);
        } else {
            // The account's own limits come in an INFO behind the first PONG (`client.go`, `processPing`).
            sent = Instant::now();
            let written = send(&mut stream, b"PING\r\n").await;
            let second = self.answer(written, &mut stream, &mut lines).await?;
            answer.greeting = second.greeting.or(answer.greeting);
        }
        let round_trip = sent.elapsed();
        if let (Some(address), false) = (address, stream.is_tls()) {
            self.server
                .greeting
                .remember(address, &greeting.info, Instant::now());
        }
        let link = Link {
            stream,
            info: self.later(greeting, answer.greeting)?,
            leftover: lines.into_rest(),
            server: Arc::clone(&self.server.label),
        };
        Ok(Dialled { link, round_trip })
    }

    pub(super) fn refuse_lame_duck(&self, info: &ServerInfo) -> Result<(), DialError> {
        if info.ldm {
            return Err(DialError::LameDuck {
                server: self.name(),
            });
        }
        Ok(())
    }

    /// CONNECT and PING, for a server that sent this nonce and has headers or not.
    pub(super) fn request(
        &self,
        nonce: Option<&str>,
        headers: bool,
        tls: bool,
    ) -> Result<Zeroizing<Vec<u8>>, DialError> {
        let unusable = |problem: String| DialError::Credentials {
            server: self.name(),
            problem,
        };
        let proof = self
            .credentials
            .prove(nonce)
            .map_err(|problem| unusable(problem.to_string()))?;
        let options = match self.purpose {
            Purpose::Session(options) => *options,
            Purpose::Ahead | Purpose::Probe => ConnectOptions::probe(),
        };
        connect_and_ping(&options, &proof, headers, tls)
            .ok_or_else(|| unusable("CONNECT could not be encoded".to_owned()))
    }

    /// Reads up to the PONG to what was written.
    async fn answer(
        &self,
        written: io::Result<()>,
        stream: &mut LinkStream,
        lines: &mut Lines,
    ) -> Result<Answer, DialError> {
        // A server that turned us away has closed already, with an -ERR that is still to be read.
        let last = &self.server.last_answer;
        match (written, lines.pong(stream, last).await) {
            (_, Ok(answer)) => Ok(answer),
            (Err(error), Err(Fault::Io(_))) => Err(self.closed(Step::Auth, &error)),
            (_, Err(fault)) => Err(self.fault(Step::Auth, fault)),
        }
    }

    /// What counts when an INFO came after the first: for a session all of it, for the greeting of clients (which a
    /// probe is for) only the limit of our account.
    fn later(
        &self,
        first: Greeting,
        later: Option<Greeting>,
    ) -> Result<Arc<ServerInfo>, DialError> {
        let mut info = first.info;
        let Some(Greeting { info: later, .. }) = later else {
            return Ok(info);
        };
        self.refuse_lame_duck(&later)?;
        if matches!(self.purpose, Purpose::Session(_)) {
            return Ok(later);
        }
        if later.max_payload != 0 {
            Arc::make_mut(&mut info).max_payload = later.max_payload;
        }
        Ok(info)
    }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}
