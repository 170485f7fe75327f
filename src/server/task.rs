//! The task of one connection, from accept to close: the straight pass.
//!
//! Greet, read CONNECT, have it admitted, pump, close.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::net::TcpStream;

use super::Shared;
use super::connection::{self, Live};
use super::pump::Outcome;
use super::reload;
use super::slots::Slot;
use super::turns::give_way;
use crate::clock;
use crate::session::{ConnectRequest, Need};

/// Serves one accepted connection until it is closed. `ends` are the client's address, and ours where it is known.
pub(super) fn serve(
    shared: Arc<Shared>,
    tcp: TcpStream,
    ends: (SocketAddr, Option<SocketAddr>),
    slot: Slot,
) -> Serve {
    Serve(State::aside(open(shared, tcp, ends, slot)))
}

/// Steps before the task lets others run, of which a fact takes two, the pump and its record: each of thousands of
/// denials that came in one read is one.
const AT_ONCE: usize = 64;

/// The task of one connection. It is two pointers, so that tokio's task fits 128 bytes: an async block would hold what the
/// longest of its waits needs for as long as the session lives.
pub(super) struct Serve(State);

enum State {
    /// Busy with something besides the pump; what that needs is gone when it is done.
    Aside(Pin<Box<dyn Future<Output = Next> + Send>>),
    /// Passing what the peers say; none when the connection is over.
    Pumping(Option<Box<Live>>),
}

/// What a connection does next.
enum Next {
    Pump(Box<Live>),
    Handle(Box<Live>, Outcome),
    Over,
}

impl State {
    fn aside(doing: impl Future<Output = Next> + Send + 'static) -> Self {
        Self::Aside(Box::pin(doing))
    }
}

impl Future for Serve {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..AT_ONCE {
            let next = match &mut self.0 {
                State::Aside(doing) => ready!(doing.as_mut().poll(cx)),
                State::Pumping(place) => {
                    let Some(mut live) = place.take() else {
                        return Poll::Ready(());
                    };
                    match live.pump.poll(cx) {
                        Poll::Pending => {
                            *place = Some(live);
                            return Poll::Pending;
                        }
                        Poll::Ready(outcome) => Next::Handle(live, outcome),
                    }
                }
            };
            self.0 = match next {
                Next::Pump(live) => State::Pumping(Some(live)),
                Next::Handle(live, outcome) => live.handle(outcome),
                Next::Over => State::Pumping(None),
            };
        }
        give_way(cx);
        Poll::Pending
    }
}

/// From accept to what comes of the wait for CONNECT.
async fn open(
    shared: Arc<Shared>,
    tcp: TcpStream,
    ends: (SocketAddr, Option<SocketAddr>),
    slot: Slot,
) -> Next {
    let Some((mut live, handshake)) = connection::greeted(shared, tcp, ends, slot).await else {
        return Next::Over;
    };
    let outcome = live.first_outcome(handshake).await;
    Next::Handle(live, outcome)
}

impl Live {
    /// Does what the pump stopped for.
    fn handle(mut self: Box<Self>, outcome: Outcome) -> State {
        match outcome {
            Outcome::Event(event) => State::aside(async move {
                self.connection.record(&event).await;
                Next::Pump(self)
            }),
            Outcome::Need(Need::Admission(request)) => State::aside(self.admit(*request)),
            Outcome::Need(Need::Readmission(request)) => State::aside(async move {
                let Self { connection, pump } = &mut *self;
                connection.readmit(pump, *request).await;
                Next::Pump(self)
            }),
            Outcome::LameDuck => {
                self.connection.shun_lame_duck();
                State::Pumping(Some(self))
            }
            Outcome::TermOver => {
                let connection = &self.connection;
                reload::judge_again(&connection.shared, &connection.entry.handle, None);
                State::Pumping(Some(self))
            }
            Outcome::Closed(reason) => State::aside(async move {
                let Self { connection, pump } = *self;
                connection.close(pump, reason).await;
                Next::Over
            }),
        }
    }

    async fn admit(mut self: Box<Self>, request: ConnectRequest) -> Next {
        let Self { connection, pump } = &mut *self;
        connection.admit(pump, request).await;
        // It has to be known to those who change policies before its first operation is judged.
        match self.pump.session.poll_event(clock::now()) {
            Some(event) => Next::Handle(self, Outcome::Event(Box::new(event))),
            None => Next::Pump(self),
        }
    }
}
