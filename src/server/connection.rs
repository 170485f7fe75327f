//! One client's connection and what is done for it: INFO and TLS in the order that the client wants, the admission of its
//! CONNECT, what is recorded of it. One deadline lies over everything up to the admission.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::Shared;
use super::admission::{self, ClientFacts, Turned, Verdict};
use super::client_stream::ClientStream;
use super::closing;
use super::greeting::greet;
use super::handshakes::Handshake;
use super::proxy_header;
use super::pump::{Outcome, Pump};
use super::reload;
use super::sessions::{Bound, Entry, Term};
use super::slots::Slot;
use crate::clock;
use crate::loopback;
use crate::metrics::{HandshakeResult, Raised, SessionMetrics, SlotLimit};
use crate::session::{
    Admission, Blame, CloseReason, ConnectRequest, Event, EventKind, Opening, Session,
};
use crate::wire::Listener;

/// From accept to the wait for CONNECT.
pub(super) async fn greeted(
    shared: Arc<Shared>,
    mut tcp: TcpStream,
    (peer, address): (SocketAddr, Option<SocketAddr>),
    mut slot: Slot,
) -> Option<(Box<Live>, Handshake)> {
    let accepted_at = clock::now();
    if address.is_none() {
        // Behind an address of its own it has that of the listener.
        loopback::tune(&tcp, peer.ip());
    }
    let open = shared.metrics.connection_open();
    let handshake = shared.handshakes.begin();
    let grace = handshake.grace(shared.limits.handshake);
    let deadline = Instant::now() + shared.limits.handshake + grace;
    let announced = shared.listen.proxy_protocol.as_ref();
    let header = proxy_header::client_address(&mut tcp, peer, announced);
    let header = unless_evicted(&handshake, pin!(timeout_at(deadline, header))).await;
    let Some(header) = header else {
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
    let mut session = Box::new(Session::new(Opening {
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
    session.handle_grace(grace);
    let connection = Connection {
        shared,
        entry,
        metrics: None,
        thumbprint: None,
        entering: None,
        _open: open,
        _slot: slot,
    };
    let live = connection.greet(session, tcp, deadline, &handshake).await?;
    Some((live, handshake))
}

/// What `doing` comes to; none when this connection has to go for a new one before. It is pinned by the caller: handed on by
/// value, it would be there twice.
async fn unless_evicted<T>(
    handshake: &Handshake,
    doing: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    tokio::select! {
        biased;
        done = doing => Some(done),
        () = handshake.evicted() => None,
    }
}

/// An idle session is to be small: what others know of it is asked of them, and what is needed for a while is boxed.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) entry: Entry,
    metrics: Option<SessionMetrics>,
    /// `x5t#S256` of the client's TLS certificate.
    thumbprint: Option<Box<str>>,
    /// From the greeting until it is known how the handshake ended.
    entering: Option<Box<Entering>>,
    _open: Raised,
    _slot: Slot,
}

/// What only the way in needs.
struct Entering {
    started: Instant,
    deadline: Instant,
    requested_role: Option<Box<str>>,
    /// What the admission went by.
    verdict: Option<Verdict>,
    _shaking: Raised,
}

/// A connection that was greeted, with its session.
pub(super) struct Live {
    pub(super) connection: Connection,
    pub(super) pump: Pump,
}

impl Connection {
    /// INFO and TLS. None when it ends with that.
    async fn greet(
        mut self,
        mut session: Box<Session>,
        tcp: TcpStream,
        deadline: Instant,
        handshake: &Handshake,
    ) -> Option<Box<Live>> {
        let started = Instant::now();
        let shaking = self.shared.metrics.handshake_begun();
        let greeting = session.greeting();
        let tls = self.shared.listen.tls.as_ref();
        let greeting = greet(tcp, tls, &greeting);
        let greeting = unless_evicted(handshake, pin!(timeout_at(deadline, greeting))).await;
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
        self.thumbprint = greeted.thumbprint.map(String::into_boxed_str);
        self.entering = Some(Box::new(Entering {
            started,
            deadline,
            requested_role: None,
            verdict: None,
            _shaking: shaking,
        }));
        let handle = Arc::clone(&self.entry.handle);
        let pump = Pump::new(session, greeted.stream, handle, &self.shared.memory);
        Some(Box::new(Live {
            connection: self,
            pump,
        }))
    }

    fn facts(&self, session: &Session) -> ClientFacts {
        ClientFacts {
            client: self.entry.handle.client,
            listener: session.listener().address,
            thumbprint: self.thumbprint.clone(),
        }
    }

    fn evict(&self, session: &mut Session) {
        self.shared
            .metrics
            .connection_rejected(SlotLimit::Handshakes);
        session.handle_end(CloseReason::Overloaded, clock::now());
    }

    pub(super) async fn admit(&mut self, pump: &mut Pump, request: ConnectRequest) {
        let facts = self.facts(&pump.session);
        let shared = Arc::clone(&self.shared);
        // There is one until the first admission has ended.
        let deadline = self.entering.as_mut().map(|entering| {
            entering.requested_role = request.requested_role().map(Box::from);
            entering.deadline
        });
        let deadline = deadline.unwrap_or_else(Instant::now);
        let admitting = admission::admit(&shared, &mut self.entry, request, &facts);
        let turned = match timeout_at(deadline, admitting).await {
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
        if let Some(entering) = &mut self.entering {
            entering.verdict = Some(verdict);
        }
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
        let entering = self.entering.as_ref();
        let role = entering.and_then(|entering| entering.requested_role.as_deref());
        let client = self.entry.handle.client;
        reload::term(policy, asked_at, |at| {
            let then = admission::assign(policy, &admission.identity, client, role, at);
            then.is_ok_and(|then| then.upstream == admission.upstream)
        })
    }

    pub(super) async fn readmit(&self, pump: &mut Pump, request: ConnectRequest) {
        let facts = self.facts(&pump.session);
        let requested_role = request.requested_role().map(Box::from);
        let judged = timeout(
            self.shared.limits.handshake,
            admission::judge(&self.shared, &self.entry, request, &facts),
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
        let connected = Arc::make_mut(&mut bound.connected);
        connected.roles.clone_from(&admission.roles);
        connected.ends_at = admission.ends_at;
        bound.judged_at = clock::now();
        bound.requested_role = requested_role;
        Some(bound)
    }

    /// Makes an admitted session known to the rest of the process. A change of policy or of locks before that could not
    /// find it, so it is judged once more where there was one.
    fn make_known(&self, bound: Bound, verdict: Option<&Verdict>) {
        self.entry.handle.bind(bound);
        let (policy, locks) = (self.shared.policy(), self.shared.locks.current());
        let holds = |verdict: &Verdict| verdict.still_holds(&policy, &locks, clock::now());
        if !verdict.is_some_and(holds) {
            reload::judge_again(&self.shared, &self.entry.handle, None);
        }
    }

    /// Counts and audits one fact, and tells the log of it.
    pub(super) async fn record(&mut self, event: &Event) {
        let entering = self.entered(event);
        if let (EventKind::Connected(connected), Some(identity)) = (&event.kind, &event.identity) {
            let (requested_role, verdict) = match entering {
                Some(entering) => (entering.requested_role, entering.verdict),
                None => (None, None),
            };
            let bound = Bound {
                identity: Arc::clone(identity),
                connected: Arc::clone(connected),
                since: event.at,
                judged_at: event.at,
                requested_role,
            };
            self.make_known(bound, verdict.as_ref());
        }
        self.shared.metrics.record(event);
        let recorded = self.shared.audit.record(event).await;
        super::log::event(event, recorded);
    }

    /// Counts how the handshake ended, when this event says so, and takes out what was kept for it.
    fn entered(&mut self, event: &Event) -> Option<Entering> {
        let result = handshake_result(event)?;
        let entering = self.entering.take()?;
        let metrics = &self.shared.metrics;
        metrics.handshake_ended(result, entering.started.elapsed());
        Some(*entering)
    }

    /// No new sessions go to a server that is about to go away; this one stays until the server ends it.
    pub(super) fn shun_lame_duck(&self) {
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

    /// Writes what is left, and closes both connections. Until then it is one of its identity's: upstream counts it, too.
    pub(super) async fn close(self, pump: Pump, reason: CloseReason) {
        self.blame_upstream(&pump, reason);
        closing::close(pump, reason.parting()).await;
    }
}

impl Live {
    /// What comes of the wait for CONNECT. Until then this connection can be made to go for a new one.
    pub(super) async fn first_outcome(&mut self, handshake: Handshake) -> Outcome {
        let pump = &mut self.pump;
        let waiting = pin!(poll_fn(|cx| {
            let outcome = pump.poll(cx);
            if outcome.is_pending() && pump.holds_buffer_of_client() {
                handshake.hold_buffer();
            }
            outcome
        }));
        if let Some(outcome) = unless_evicted(&handshake, waiting).await {
            return outcome;
        }
        self.connection.evict(&mut self.pump.session);
        self.pump.run().await
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
