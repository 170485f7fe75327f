//! CONNECT before INFO: to an address that greeted in clear a moment ago, CONNECT and PING go out with the connection, so
//! that INFO and PONG are waited for together. Where INFO is not what it was, that is forgotten, and the dial goes the usual
//! way. Record 0022 says why, and what leaves here before INFO is read.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use super::dial::{Dial, Dialled, Purpose};
use super::error::{DialError, Step};
use super::greeting::Greeting;
use super::handshake::{Fault, Lines};
use super::socket::{Expected, begin_with, was_connected};
use super::stream::LinkStream;
use super::transport::Opened;
use crate::wire::ServerInfo;

/// How a server greeted last, while that is to be relied upon.
#[derive(Default)]
pub(super) struct LastGreeting(Mutex<Known>);

#[derive(Default)]
struct Known {
    last: Option<Greeted>,
    /// CONNECT came to nothing before INFO and was taken behind it: nothing is remembered until then.
    usual_until: Option<Instant>,
}

/// What CONNECT depends on, of a handshake in clear that went through.
#[derive(Clone, Copy)]
pub(super) struct Greeted {
    address: SocketAddr,
    headers: bool,
    at: Instant,
}

impl LastGreeting {
    /// A session got its link at this address, in clear.
    pub(super) fn remember(&self, address: SocketAddr, info: &ServerInfo, now: Instant) {
        let mut known = self.lock();
        if known.usual_until.is_some_and(|until| now < until) {
            return;
        }
        known.last = Some(Greeted {
            address,
            headers: info.headers,
            at: now,
        });
    }

    /// In the usual order CONNECT was taken, and before INFO it had come to nothing.
    pub(super) fn keep_to_the_usual_order(&self, now: Instant) {
        *self.lock() = Known {
            last: None,
            usual_until: Some(now + USUAL),
        };
    }

    /// There is reason to doubt that the server is as it was.
    pub(super) fn forget(&self) {
        self.lock().last = None;
    }

    fn at(&self, address: SocketAddr, now: Instant) -> Option<Greeted> {
        let last = self.lock().last?;
        let fresh = now.saturating_duration_since(last.at) < RELIED_UPON;
        (last.address == address && fresh).then_some(last)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Greeted {
    /// Whether CONNECT would be the same, and go the same way, had INFO been read before.
    fn is_like(self, info: &ServerInfo) -> bool {
        !info.tls_required && info.headers == self.headers
    }
}

impl Dial<'_> {
    /// A dial with CONNECT first. None where the usual order may do better.
    pub(super) async fn early(
        &self,
        last: Greeted,
        step: &mut Step,
    ) -> Option<Result<Dialled, DialError>> {
        let result = self.speak(last, step).await.transpose();
        if result.is_none() {
            self.server.greeting.forget();
            tracing::debug!(server = %self.server.label, "CONNECT before INFO came to nothing; dialling in the usual order");
        }
        result
    }

    /// The greeting that CONNECT may be said by before INFO. Never where there is TLS, or a PROXY header; and only with
    /// credentials for which INFO is of no use.
    pub(super) fn last_greeting(&self) -> Option<Greeted> {
        let may = matches!(self.purpose, Purpose::Session(_))
            && self.config.tls.is_none()
            && !self.config.proxy_protocol
            && self.credentials.need_no_nonce();
        let &[address] = self.server.addresses.load().as_slice() else {
            return None;
        };
        self.server
            .greeting
            .at(address, Instant::now())
            .filter(|_| may)
    }

    /// None when it is not the server that was expected.
    async fn speak(&self, last: Greeted, step: &mut Step) -> Result<Option<Dialled>, DialError> {
        let request = self.request(None, last.headers, false)?;
        let sent_at = Instant::now();
        // Whoever swallows what comes too early leaves half of the time to the usual order.
        let half = self.deadline.saturating_duration_since(sent_at) / 2;
        let heard = timeout_at(sent_at + half, self.hear(last.address, &request, step)).await;
        let Some(opened) = heard.unwrap_or(Ok(None))? else {
            return Ok(None);
        };
        if !last.is_like(&opened.greeting.info) {
            return Ok(None);
        }
        self.refuse_lame_duck(&opened.greeting.info)?;
        *step = Step::Auth;
        match self.answered(opened, Ok(()), sent_at).await {
            // It greeted as ever, and then did not do as ever: not because of what is wrong with us.
            Err(DialError::Closed { .. } | DialError::Protocol { .. }) => Ok(None),
            result => result.map(Some),
        }
    }

    /// Sends and reads INFO. None when something else came, or an end.
    async fn hear(
        &self,
        address: SocketAddr,
        request: &[u8],
        step: &mut Step,
    ) -> Result<Option<Opened>, DialError> {
        let (mut tcp, sent) =
            begin_with(address, request).map_err(|error| self.no_connection(&error))?;
        // What was closed may have been answered before: reading tells.
        let _ = tcp.write_all(request.get(sent..).unwrap_or_default()).await;
        let mut lines = Lines::new();
        let last = &self.server.last_info;
        let greeting = lines
            .greeting(&mut Expected::new(&mut tcp, step), last)
            .await;
        let greeting: Greeting = match greeting {
            Ok(greeting) => greeting,
            Err(Fault::Io(error)) if !was_connected(&error) => {
                *step = Step::Connect;
                return Err(self.no_connection(&error));
            }
            Err(_) => return Ok(None),
        };
        Ok(Some(Opened {
            stream: LinkStream::Plain(tcp),
            lines,
            greeting,
            address: Some(address),
        }))
    }
}

/// How long a greeting is relied upon: as long as a storm has no gaps, and a server that is set up anew takes to come back.
const RELIED_UPON: Duration = Duration::from_secs(5);

/// How long CONNECT waits for INFO with a server that takes it in that order only, such as one with `handshake_first: auto` and
/// `allow_non_tls`, which takes whatever comes first for a handshake and writes in its log that it was none.
const USUAL: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_relied_upon_for_seconds_at_its_address_and_until_there_is_a_doubt() {
        let (here, there) = (
            SocketAddr::from(([127, 0, 0, 1], 4222)),
            SocketAddr::from(([127, 0, 0, 1], 4223)),
        );
        let (last, start) = (LastGreeting::default(), Instant::now());
        let info = ServerInfo {
            headers: true,
            ..ServerInfo::default()
        };
        assert!(last.at(here, start).is_none());
        last.remember(here, &info, start);
        let after = |ms| start + Duration::from_millis(ms);
        assert!(last.at(here, after(4_999)).is_some_and(|last| last.headers));
        assert!(last.at(here, after(5_000)).is_none());
        assert!(last.at(there, start).is_none());
        last.forget();
        assert!(last.at(here, start).is_none());
    }

    #[test]
    fn a_server_that_takes_connect_behind_info_only_is_asked_so_for_minutes() {
        let here = SocketAddr::from(([127, 0, 0, 1], 4222));
        let (last, start, info) = (
            LastGreeting::default(),
            Instant::now(),
            ServerInfo::default(),
        );
        last.remember(here, &info, start);
        last.keep_to_the_usual_order(start);
        last.forget();
        for (secs, remembered) in [(0, false), (299, false), (300, true)] {
            let now = start + Duration::from_secs(secs);
            last.remember(here, &info, now);
            assert_eq!(last.at(here, now).is_some(), remembered, "{secs}");
        }
    }

    #[test]
    fn tls_or_other_headers_make_another_greeting() {
        let last = Greeted {
            address: SocketAddr::from(([127, 0, 0, 1], 4222)),
            headers: true,
            at: Instant::now(),
        };
        let info = ServerInfo {
            headers: true,
            tls_available: true,
            ..ServerInfo::default()
        };
        assert!(last.is_like(&info));
        let headers = false;
        assert!(!last.is_like(&ServerInfo {
            headers,
            ..info.clone()
        }));
        let tls_required = true;
        assert!(!last.is_like(&ServerInfo {
            tls_required,
            ..info
        }));
    }
}
