//! One client from accept to close: the straight pass.
//!
//! Greet (INFO) and TLS in the order that the client wants, read CONNECT, have it admitted, pump, close. One deadline
//! lies over everything up to the admission.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::Shared;
use super::admission::{self, ClientFacts, Turned, Verdict};
use super::client_stream::ClientStream;
use super::greeting::greet;
use super::handshakes::Handshake;
use super::proxy_header;
use super::pump::{Outcome, Pump};
use super::reload;
use super::sessions::{Bound, Entry, Term};
use super::slots::Slot;
use crate::clock;
use crate::metrics::{HandshakeResult, Raised, SessionMetrics, SlotLimit};
use crate::session::{
    Admission, Blame, CloseReason, ConnectRequest, Event, EventKind, Need, Opening, Parting,
    Session,
};
use crate::wire::Listener;

/// Longest time for the last bytes to be taken by either side.
const FINISH: Duration = Duration::from_secs(2);

/// How long the rest of what a peer sends is read and thrown away, so that closing does not reset the connection
/// before the peer has read our last words.
const LINGER: Duration = Duration::from_millis(500);

/// Most bytes thrown away that way.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// Serves one accepted connection until it is closed. `ends` are the client's address, and ours where it is known.
///
/// The task of a session that serves is one pointer and what it waits for: whatever is over by then has been boxed, and is
/// gone.
pub(super) fn serve(
    shared: Arc<Shared>,
    tcp: TcpStream,
    ends: (SocketAddr, Option<SocketAddr>),
    slot: Slot,
) -> impl Future<Output = ()> + Send {
    let opening = Box::pin(open(shared, tcp, ends, slot));
    async move {
        if let Some(live) = opening.await {
            live.run().await;
        }
    }
}

/// From accept to the wait for CONNECT.
async fn open(
    shared: Arc<Shared>,
    mut tcp: TcpStream,
    (peer, address): (SocketAddr, Option<SocketAddr>),
    mut slot: Slot,
) -> Option<Box<Live>> {
    let accepted_at = clock::now();
    let deadline = Instant::now() + shared.limits.handshake;
    let open = shared.metrics.connection_open();
    let handshake = shared.handshakes.begin();
    let announced = shared.listen.proxy_protocol.as_ref();
    let header = proxy_header::client_address(&mut tcp, peer, announced);
    let Some(header) = unless_evicted(&handshake, timeout_at(deadline, header)).await else {
        shared.metrics.connection_rejected(SlotLimit::Handshakes);
        return None;
    };
    let Ok(Ok(peer)) = header else {
        tracing::info!(%peer, "no valid PROXY protocol header, or not from a trusted address");
        return None;
    };
    if !slot.count_address(peer.ip().to_canonical()) {
        // Without a word: official clients back off and come back.
        shared.metrics.connection_rejected(SlotLimit::PerAddress);
        return None;
    }
    let address = address.or_else(|| tcp.local_addr().ok())?;
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
        thumbprint: None,
        verdict: None,
        _open: open,
        _slot: slot,
    };
    connection.greet(session, tcp, handshake).await
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
    requested_role: Option<Box<str>>,
    /// `x5t#S256` of the client's TLS certificate.
    thumbprint: Option<String>,
    /// What the first admission went by.
    verdict: Option<Verdict>,
    _open: Raised,
    _slot: Slot,
}

/// A connection that was greeted, with its session.
struct Live {
    connection: Connection,
    pump: Pump,
    started: Instant,
    /// Until it is known how the handshake ended.
    shaking: Option<Raised>,
    /// Until the client has said something.
    handshake: Option<Handshake>,
}

impl Connection {
    /// INFO and TLS. None when it ends with that.
    async fn greet(
        mut self,
        mut session: Box<Session>,
        tcp: TcpStream,
        handshake: Handshake,
    ) -> Option<Box<Live>> {
        let started = Instant::now();
        let shaking = self.shared.metrics.handshake_begun();
        let greeting = session.greeting();
        let tls = self.shared.listen.tls.as_ref();
        let greeting = timeout_at(self.deadline, greet(tcp, tls, &greeting));
        let greeting = unless_evicted(&handshake, greeting).await;
        let Some(Ok(Ok(greeted))) = greeting else {
            if greeting.is_none() {
                self.evict(&mut session);
            }
            session.handle_client_lost(clock::now());
            while let Some(event) = session.poll_event(clock::now()) {
                self.record(&event).await;
            }
            return None;
        };
        if matches!(greeted.stream, ClientStream::Tls(_)) {
            session.handle_tls_established();
        }
        self.thumbprint = greeted.thumbprint;
        let handle = Arc::clone(&self.entry.handle);
        let pump = Pump::new(session, greeted.stream, handle, &self.shared.memory);
        Some(Box::new(Live {
            connection: self,
            pump,
            started,
            shaking: Some(shaking),
            handshake: Some(handshake),
        }))
    }

    fn facts(&self) -> ClientFacts {
        ClientFacts {
            client: self.peer,
            listener: self.address,
            thumbprint: self.thumbprint.clone(),
        }
    }

    fn evict(&self, session: &mut Session) {
        self.shared
            .metrics
            .connection_rejected(SlotLimit::Handshakes);
        session.handle_end(CloseReason::Overloaded, clock::now());
    }

    async fn admit(&mut self, pump: &mut Pump, request: ConnectRequest) {
        let facts = self.facts();
        let shared = Arc::clone(&self.shared);
        self.requested_role = request.requested_role().map(Box::from);
        let admitting = Box::pin(admission::admit(&shared, &mut self.entry, request, &facts));
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
        let nothing_since = link.leftover.is_empty();
        pump.bind(link.stream, link.leftover, metrics.traffic.clone());
        self.metrics = Some(metrics);
        let now = clock::now();
        pump.session.handle_admitted(admission, now);
        pump.hold_until(term, now);
        if nothing_since {
            pump.session.handle_pong_in_hand();
        }
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

    async fn readmit(&self, pump: &mut Pump, request: ConnectRequest) {
        let facts = self.facts();
        let requested_role = request.requested_role().map(Box::from);
        let judged = timeout(
            self.shared.limits.handshake,
            Box::pin(admission::judge(&self.shared, &self.entry, request, &facts)),
        )
        .await;
        let now = clock::now();
        match judged {
            Ok(Ok(judged)) => {
                let bound = self.bound_again(&judged.admission, requested_role);
                let goes_on = pump.session.handle_readmitted(judged.admission, now);
                if let (true, Some(bound)) = (goes_on, bound) {
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
    fn bound_again(
        &self,
        admission: &Admission,
        requested_role: Option<Box<str>>,
    ) -> Option<Bound> {
        let mut bound = Bound::clone(&*self.entry.handle.bound()?);
        bound.identity = Arc::clone(&admission.identity);
        bound.connected.roles.clone_from(&admission.roles);
        bound.connected.ends_at = admission.ends_at;
        bound.judged_at = clock::now();
        bound.requested_role = requested_role;
        Some(bound)
    }

    /// Makes an admitted session known to the rest of the process. A change of policy or of locks before that could not
    /// find it, so it is judged once more where there was one.
    fn make_known(&self, bound: Bound) {
        self.entry.handle.bind(bound);
        let (policy, locks) = (self.shared.policy(), self.shared.locks.current());
        let holds = |verdict: &Verdict| verdict.still_holds(&policy, &locks, clock::now());
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
        let recorded = self.shared.audit.record(event).await;
        super::log::event(event, recorded);
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
        let (client, upstream) = pump.into_streams();
        match (reason.parting(), client, upstream) {
            (Parting::AtOnce, ..) => {}
            (Parting::Shut, Some(mut client), None) => {
                let _ = timeout(FINISH, client.shutdown()).await;
            }
            (Parting::Shut | Parting::Linger, client, upstream) => {
                tokio::join!(linger(client), linger(upstream));
            }
        }
    }
}

impl Live {
    async fn run(mut self: Box<Self>) {
        let mut outcome = Box::pin(self.first_outcome()).await;
        let reason = loop {
            let Self {
                connection, pump, ..
            } = &mut *self;
            match outcome {
                Outcome::Event(event) => {
                    self.note_handshake(&event);
                    Box::pin(self.connection.record(&event)).await;
                }
                Outcome::Need(Need::Admission(request)) => {
                    Box::pin(connection.admit(pump, *request)).await;
                    // It has to be known to those who change policies before its first operation is judged.
                    if let Some(event) = pump.session.poll_event(clock::now()) {
                        outcome = Outcome::Event(Box::new(event));
                        continue;
                    }
                }
                Outcome::Need(Need::Readmission(request)) => {
                    Box::pin(connection.readmit(pump, *request)).await;
                }
                Outcome::LameDuck => connection.shun_lame_duck(),
                Outcome::TermOver => {
                    reload::judge_again(&connection.shared, &connection.entry.handle, None);
                }
                Outcome::Closed(reason) => break reason,
            }
            outcome = self.pump.run().await;
        };
        Box::pin(self.close(reason)).await;
    }

    /// What comes of the wait for CONNECT. Until then this connection can be made to go for a new one.
    async fn first_outcome(&mut self) -> Outcome {
        if let Some(handshake) = self.handshake.take() {
            let pump = &mut self.pump;
            let waiting = poll_fn(|cx| {
                let outcome = pump.poll(cx);
                if outcome.is_pending() && pump.holds_buffer_of_client() {
                    handshake.hold_buffer();
                }
                outcome
            });
            if let Some(outcome) = unless_evicted(&handshake, waiting).await {
                return outcome;
            }
            self.connection.evict(&mut self.pump.session);
        }
        self.pump.run().await
    }

    /// Counts how the handshake ended, when this event says so.
    fn note_handshake(&mut self, event: &Event) {
        if let Some(result) = handshake_result(event)
            && self.shaking.take().is_some()
        {
            let metrics = &self.connection.shared.metrics;
            metrics.handshake_ended(result, self.started.elapsed());
        }
    }

    async fn close(self: Box<Self>, reason: CloseReason) {
        let Self {
            connection, pump, ..
        } = *self;
        connection.close(pump, reason).await;
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
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: Option<S>) {
    let Some(mut stream) = stream else { return };
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
