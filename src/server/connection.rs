//! One client from accept to close: the straight pass.
//!
//! Greet (INFO) and TLS in the order that the client wants, read CONNECT, have it admitted, pump, close. One deadline
//! lies over everything up to the admission.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::ListenTls;
use super::Shared;
use super::admission::{self, ClientFacts, Turned, Verdict};
use super::client_stream::ClientStream;
use super::handshakes::Handshake;
use super::proxy_header;
use super::pump::{Outcome, Pump};
use super::reload;
use super::sessions::{Bound, Entry, Term};
use super::slots::Slot;
use crate::clock;
use crate::metrics::{HandshakeResult, SessionMetrics, SlotLimit};
use crate::session::{
    Admission, Blame, CloseReason, ConnectRequest, Event, EventKind, Need, Opening, Session,
};
use crate::tls;
use crate::wire::Listener;

/// First byte of a TLS record that carries a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Longest time for the last bytes to be taken by either side.
const FINISH: Duration = Duration::from_secs(2);

/// How long the rest of what a peer sends is read and thrown away, so that closing does not reset the connection
/// before the peer has read our last words.
const LINGER: Duration = Duration::from_millis(500);

/// Most bytes thrown away that way.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// Serves one accepted connection until it is closed.
pub(super) async fn serve(
    shared: Arc<Shared>,
    mut tcp: TcpStream,
    peer: SocketAddr,
    mut slot: Slot,
) {
    let accepted_at = clock::now();
    let deadline = Instant::now() + shared.limits.handshake;
    // Without it, small answers wait for acknowledgements of earlier ones. Where it fails the connection still works.
    let _ = tcp.set_nodelay(true);
    let _open = shared.metrics.connection_open();
    let handshake = shared.handshakes.begin();
    let announced = shared.listen.proxy_protocol.as_ref();
    let header = Box::pin(proxy_header::client_address(&mut tcp, peer, announced));
    let header = Box::pin(unless_evicted(&handshake, timeout_at(deadline, header)));
    let Some(header) = header.await else {
        shared.metrics.connection_rejected(SlotLimit::Handshakes);
        return;
    };
    let Ok(Ok(peer)) = header else {
        tracing::info!(%peer, "no valid PROXY protocol header, or not from a trusted address");
        return;
    };
    if !slot.count_address(peer.ip().to_canonical()) {
        // Without a word: official clients back off and come back.
        shared.metrics.connection_rejected(SlotLimit::PerAddress);
        return;
    }
    let Ok(address) = tcp.local_addr() else {
        return;
    };
    let entry = shared.sessions.enter(peer);
    let tls = shared.listen.tls.as_ref();
    let session = Box::new(Session::new(Opening {
        id: entry.handle.id,
        client: peer,
        listener: Listener {
            address,
            tls_required: tls.is_some(),
            tls_verify: tls.is_some_and(|tls| tls.verifies_clients),
        },
        tls: false,
        limits: Arc::clone(&shared.limits),
        greeting: shared.greeting(),
        accepted_at,
    }));
    let connection = Connection {
        shared,
        entry,
        peer,
        address,
        deadline,
        metrics: None,
        requested_role: None,
        verdict: None,
    };
    connection.run(session, tcp, handshake).await;
}

/// What `doing` comes to; none when this connection has to go for a new one before.
async fn unless_evicted<F: Future>(handshake: &Handshake, doing: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        done = doing => Some(done),
        () = handshake.evicted() => None,
    }
}

struct Connection {
    shared: Arc<Shared>,
    entry: Entry,
    peer: SocketAddr,
    address: SocketAddr,
    deadline: Instant,
    metrics: Option<SessionMetrics>,
    requested_role: Option<String>,
    /// What the first admission went by.
    verdict: Option<Verdict>,
}

/// A client leg after greeting and TLS.
struct Greeted {
    stream: ClientStream,
    thumbprint: Option<String>,
}

impl Connection {
    async fn run(mut self, mut session: Box<Session>, tcp: TcpStream, handshake: Handshake) {
        let started = Instant::now();
        let shaking = self.shared.metrics.handshake_begun();
        let greeting = session.greeting();
        let tls = self.shared.listen.tls.as_ref();
        // Boxed, like everything that is over before the session serves: a live session must not carry its size.
        let greeting = Box::pin(greet(tcp, tls, &greeting));
        let greeting = timeout_at(self.deadline, greeting);
        let greeting = Box::pin(unless_evicted(&handshake, greeting)).await;
        let Some(Ok(Ok(greeted))) = greeting else {
            if greeting.is_none() {
                self.evict(&mut session);
            }
            session.handle_client_lost(clock::now());
            while let Some(event) = session.poll_event(clock::now()) {
                Box::pin(self.record(&event)).await;
            }
            return;
        };
        if matches!(greeted.stream, ClientStream::Tls(_)) {
            session.handle_tls_established();
        }
        let facts = ClientFacts {
            client: self.peer,
            listener: self.address,
            thumbprint: greeted.thumbprint,
        };
        let mut shaking = Some(shaking);
        let mut pump = Pump::new(session, greeted.stream, Arc::clone(&self.entry.handle));
        let mut outcome = Box::pin(self.first_outcome(&mut pump, handshake)).await;
        let reason = loop {
            match outcome {
                Outcome::Event(event) => {
                    if let Some(result) = handshake_result(&event)
                        && shaking.take().is_some()
                    {
                        self.shared
                            .metrics
                            .handshake_ended(result, started.elapsed());
                    }
                    Box::pin(self.record(&event)).await;
                }
                Outcome::Need(Need::Admission(request)) => {
                    Box::pin(self.admit(&mut pump, *request, &facts)).await;
                    // It has to be known to those who change policies before its first operation is judged.
                    if let Some(event) = pump.session.poll_event(clock::now()) {
                        outcome = Outcome::Event(event);
                        continue;
                    }
                }
                Outcome::Need(Need::Readmission(request)) => {
                    Box::pin(self.readmit(&mut pump, *request, &facts)).await;
                }
                Outcome::LameDuck => self.shun_lame_duck(),
                Outcome::TermOver => {
                    reload::judge_again(&self.shared, &self.entry.handle, None);
                }
                Outcome::Closed(reason) => break reason,
            }
            outcome = pump.run().await;
        };
        Box::pin(self.close(pump, reason)).await;
    }

    /// What comes of the wait for CONNECT. Until then this connection can be made to go for a new one.
    async fn first_outcome(&self, pump: &mut Pump, handshake: Handshake) -> Outcome {
        if let Some(outcome) = unless_evicted(&handshake, pump.run()).await {
            return outcome;
        }
        self.evict(&mut pump.session);
        pump.run().await
    }

    fn evict(&self, session: &mut Session) {
        self.shared
            .metrics
            .connection_rejected(SlotLimit::Handshakes);
        session.handle_end(CloseReason::Overloaded, clock::now());
    }

    async fn admit(&mut self, pump: &mut Pump, request: ConnectRequest, facts: &ClientFacts) {
        let shared = Arc::clone(&self.shared);
        self.requested_role = request.requested_role().map(str::to_owned);
        let admitting = Box::pin(admission::admit(&shared, &mut self.entry, request, facts));
        let turned = match timeout_at(self.deadline, admitting).await {
            Ok(Ok(admitted)) => {
                self.bind(pump, admitted);
                return;
            }
            Ok(Err(turned)) => turned,
            Err(_) => Turned::Unavailable(CloseReason::UpstreamUnavailable),
        };
        turn_away(pump, turned);
    }

    fn bind(&mut self, pump: &mut Pump, admitted: admission::Admitted) {
        let admission::Admitted {
            admission,
            verdict,
            link,
        } = admitted;
        let term = self.term(&admission, &verdict);
        self.verdict = Some(verdict);
        let metrics = self
            .shared
            .metrics
            .session(&admission.upstream, &admission.roles);
        pump.bind(link.stream, link.leftover, metrics.traffic.clone());
        self.metrics = Some(metrics);
        let now = clock::now();
        pump.session.handle_admitted(admission, now);
        pump.hold_until(term, now);
    }

    /// How long what was admitted holds by the calendar.
    fn term(&self, admission: &Admission, verdict: &Verdict) -> Term {
        let (policy, asked_at) = verdict.asked();
        let role = self.requested_role.as_deref();
        reload::term(policy, asked_at, |at| {
            let then = admission::assign(policy, &admission.identity, self.peer, role, at);
            then.is_ok_and(|then| then.upstream == admission.upstream)
        })
    }

    async fn readmit(&self, pump: &mut Pump, request: ConnectRequest, facts: &ClientFacts) {
        let requested_role = request.requested_role().map(str::to_owned);
        let judged = timeout(
            self.shared.limits.handshake,
            Box::pin(admission::judge(&self.shared, &self.entry, request, facts)),
        )
        .await;
        let now = clock::now();
        match judged {
            Ok(Ok(judged)) => {
                let bound = self.bound_again(&judged.admission, requested_role);
                pump.session.handle_readmitted(judged.admission, now);
                if let (None, Some(bound)) = (pump.session.close_reason(), bound) {
                    self.entry.handle.bind(bound);
                    // Orders that were given for the rights of before must not have the last word.
                    reload::judge_again(&self.shared, &self.entry.handle, None);
                }
            }
            Ok(Err(turned)) => turn_away(pump, turned),
            Err(_) => turn_away(pump, Turned::Unavailable(CloseReason::IdentityUnavailable)),
        }
    }

    /// What the table of sessions is to know after a second CONNECT: whom a change of policy is to be judged for.
    fn bound_again(&self, admission: &Admission, requested_role: Option<String>) -> Option<Bound> {
        let mut bound = Bound::clone(&*self.entry.handle.bound()?);
        bound.identity = Arc::clone(&admission.identity);
        bound.connected.roles.clone_from(&admission.roles);
        bound.connected.ends_at = admission.ends_at;
        bound.judged_at = clock::now();
        bound.requested_role = requested_role;
        Some(bound)
    }

    /// Makes an admitted session known to the rest of the process. A change of policy before that could not find it, so
    /// it is judged once more where there was one.
    fn make_known(&self, bound: Bound) {
        self.entry.handle.bind(bound);
        let (policy, now) = (self.shared.policy(), clock::now());
        let holds = |verdict: &Verdict| verdict.still_holds(&policy, now);
        if !self.verdict.as_ref().is_some_and(holds) {
            reload::judge_again(&self.shared, &self.entry.handle, None);
        }
    }

    /// Counts and audits one fact, and tells the log of it.
    async fn record(&self, event: &Event) {
        if let (EventKind::Connected(connected), Some(identity)) = (&event.kind, &event.identity) {
            self.make_known(Bound {
                identity: Arc::clone(identity),
                connected: connected.clone(),
                since: event.at,
                judged_at: event.at,
                requested_role: self.requested_role.clone(),
            });
        }
        self.shared.metrics.record(event);
        let decision = self.shared.audit.record(event).await;
        super::log::event(event, decision);
    }

    /// No new sessions go to a server that is about to go away; this one stays until the server ends it.
    fn shun_lame_duck(&self) {
        if let Some(bound) = self.entry.handle.bound() {
            let connected = &bound.connected;
            self.shared
                .upstreams
                .lame_duck(&connected.upstream, &connected.server);
        }
    }

    /// Where the upstream ended a session, it is looked at now, and the log says what it said.
    fn blame_upstream(&self, pump: &Pump, reason: CloseReason) {
        let Some(bound) = self.entry.handle.bound() else {
            return;
        };
        if reason.blame() != Blame::Upstream {
            return;
        }
        let connected = &bound.connected;
        self.shared
            .upstreams
            .suspect(&connected.upstream, &connected.server);
        tracing::warn!(
            session = self.entry.handle.id.0,
            upstream = %connected.upstream,
            server = %connected.server,
            said = pump.session.upstream_said().map(|text| text.escape_ascii().to_string()),
            "the upstream server ended a session",
        );
    }

    async fn close(self, mut pump: Pump, reason: CloseReason) {
        self.blame_upstream(&pump, reason);
        // Whatever is not taken within the time is lost: the session has ended.
        let _ = timeout(FINISH, pump.finish()).await;
        let (mut client, upstream) = pump.into_streams();
        if reason == CloseReason::Overloaded {
            // Nothing was said that the peer could miss, and somebody waits for the slot.
            return;
        }
        let upstream_end = async {
            if let Some(mut upstream) = upstream {
                linger(&mut upstream).await;
            }
        };
        tokio::join!(linger(&mut client), upstream_end);
    }
}

/// Tells the session that its CONNECT was not admitted.
fn turn_away(pump: &mut Pump, turned: Turned) {
    let now = clock::now();
    match turned {
        Turned::Refused(refusal) => pump.session.handle_refused(refusal, now),
        Turned::Postponed(why) => pump.session.handle_postponed(why, now),
        Turned::Unavailable(reason) => pump.session.handle_unavailable(reason, now),
    }
}

/// How the handshake ended, if this event says so.
fn handshake_result(event: &Event) -> Option<HandshakeResult> {
    match &event.kind {
        EventKind::Connected(_) => Some(HandshakeResult::Admitted),
        EventKind::Refused { .. } => Some(HandshakeResult::Refused),
        EventKind::Closed(_) => Some(HandshakeResult::Failed),
        _ => None,
    }
}

/// Ends our side, and reads what the peer still sends for a moment: closing a socket with unread bytes would reset the
/// connection, and the peer could lose what we wrote last.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let ending = async {
        stream.shutdown().await?;
        let mut rest = vec![0_u8; 4096];
        let mut read = 0_usize;
        while read < LINGER_BYTES {
            match stream.read(&mut rest).await? {
                0 => break,
                count => read = read.saturating_add(count),
            }
        }
        io::Result::Ok(())
    };
    // The peer may be gone already; there is nobody to tell.
    let _ = timeout(LINGER, ending).await;
}

/// INFO and TLS, in the order that the client speaks them.
async fn greet(
    mut tcp: TcpStream,
    tls: Option<&ListenTls>,
    greeting: &[u8],
) -> io::Result<Greeted> {
    let Some(tls) = tls else {
        tcp.write_all(greeting).await?;
        return Ok(Greeted {
            stream: ClientStream::Plain(tcp),
            thumbprint: None,
        });
    };
    let wait = tls.first_wait;
    let first =
        !wait.is_zero() && matches!(timeout(wait, first_byte(&tcp)).await, Ok(Ok(TLS_HANDSHAKE)));
    if !first {
        tcp.write_all(greeting).await?;
        if first_byte(&tcp).await? != TLS_HANDSHAKE {
            // nats-server closes silently on plain text where TLS is required.
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
    }
    let mut stream = tls.server.acceptor().accept(tcp).await?;
    if first {
        stream.write_all(greeting).await?;
        stream.flush().await?;
    }
    let thumbprint = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first)
        .map(|certificate| tls::thumbprint_s256(certificate));
    Ok(Greeted {
        stream: ClientStream::Tls(Box::new(stream)),
        thumbprint,
    })
}

/// The first byte that the client sends, left where it is.
async fn first_byte(tcp: &TcpStream) -> io::Result<u8> {
    let mut byte = [0_u8];
    match tcp.peek(&mut byte).await? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        _ => Ok(byte[0]),
    }
}
