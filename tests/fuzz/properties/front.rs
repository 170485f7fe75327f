//! A session driven in memory, as the pump of the server drives it: buffers, outboxes, needs and facts.

use std::sync::Arc;
use std::time::Duration;

use natsentry::identity::{Identity, Kind};
use natsentry::policy::{Circumstances, Document, InboxRegistry, Judge, Permissions, Policy};
use natsentry::session::{
    Admission, CloseReason, Event, Limits, Need, Opening, Refusal, RoleLimits, Session, SessionId,
    Taken,
};
use natsentry::time::Timestamp;
use natsentry::wire::{Listener, ServerInfo};
use serde_json::{Value, json};

use super::server::Settings;

/// When every session was accepted.
pub const START: Timestamp = Timestamp::from_secs(1_795_451_820);

/// How long every token is good.
pub const LIFETIME: Duration = Duration::from_secs(3600);

/// Who connects.
pub fn identity(oid: &str) -> Identity {
    Identity {
        roles: vec!["Role".into()],
        ..Identity::plain(
            Kind::App,
            ("11111111-2222-3333-4444-555555555555", oid),
            (START, START.plus(LIFETIME)),
        )
    }
}

/// What a role of the configuration grants.
pub fn permissions(role: &Value) -> Arc<Permissions> {
    let mut role = role.clone();
    role["bind"] = json!([{"app_role": "Role"}]);
    role["upstream"] = "plant".into();
    role["broad"] = true.into();
    let document: Document =
        serde_json::from_value(json!({"roles": {"role": role}})).expect("a document");
    let policy = Policy::compile(&document).expect("a policy");
    let here = Circumstances {
        source: "198.51.100.7".parse().expect("an address"),
        now: START,
        requested_role: None,
    };
    let assigned = policy.assign(&identity("somebody"), &here);
    assigned.expect("a role").permissions
}

/// What all sessions of a run share.
#[derive(Clone, Debug)]
pub struct World {
    pub permissions: Arc<Permissions>,
    pub settings: Settings,
    info: Arc<ServerInfo>,
    limits: Arc<Limits>,
    pub role_limits: RoleLimits,
    pub inboxes: Arc<InboxRegistry>,
    connect: Vec<u8>,
}

impl World {
    /// Sessions with one role.
    pub fn new(role: &Value, settings: Settings) -> Self {
        let info = ServerInfo {
            headers: true,
            max_payload: i64::try_from(settings.max_payload).expect("small"),
            version: if settings.takes_subscriptions {
                "2.15.1".to_owned()
            } else {
                "2.9.10".to_owned()
            },
            ..ServerInfo::unknown()
        };
        let limits = Limits {
            control_line: settings.max_control_line,
            connect_line: settings.max_control_line,
            ..Limits::default()
        };
        let connect = json!({
            "verbose": false, "pedantic": false, "headers": settings.headers,
            "no_responders": false, "protocol": 1, "lang": "fuzz", "auth_token": "t",
        });
        Self {
            permissions: permissions(role),
            settings,
            info: Arc::new(info),
            limits: Arc::new(limits),
            role_limits: RoleLimits::default(),
            inboxes: Arc::default(),
            connect: format!("CONNECT {connect}\r\n").into_bytes(),
        }
    }

    /// The same with other limits of the session.
    pub fn limited(mut self, change: impl FnOnce(&mut Limits, &mut RoleLimits)) -> Self {
        let mut limits = Limits::clone(&self.limits);
        change(&mut limits, &mut self.role_limits);
        self.limits = Arc::new(limits);
        self
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What is answered to the first CONNECT, or a later one.
    pub fn admission(&self, oid: &str) -> Admission {
        Admission {
            identity: Arc::new(identity(oid)),
            roles: vec!["role".into()],
            upstream: "plant".into(),
            server: "10.0.0.1:4222".into(),
            judge: Judge::new(Arc::clone(&self.permissions), Arc::clone(&self.inboxes), 1),
            limits: self.role_limits,
            ends_at: START.plus(LIFETIME),
            info: Arc::clone(&self.info),
        }
    }

    fn opening(&self) -> Opening {
        Opening {
            id: SessionId(1),
            client: "198.51.100.7:50000".parse().expect("an address"),
            listener: Listener {
                address: "192.0.2.1:4222".parse().expect("an address"),
                tls_required: false,
                tls_verify: false,
            },
            tls: false,
            limits: Arc::clone(&self.limits),
            greeting: Arc::clone(&self.info),
            accepted_at: START,
        }
    }
}

/// One direction: bytes that were read and not handled, and how many are wanted.
#[derive(Debug, Default)]
struct Lane {
    buffer: Vec<u8>,
    at: usize,
    wants: usize,
}

impl Lane {
    fn is_ready(&self) -> bool {
        let left = self.buffer.len() - self.at;
        left > 0 && left >= self.wants
    }

    fn handled(&mut self, taken: Taken) {
        self.at += taken.used;
        assert!(self.at <= self.buffer.len(), "more is used than was there");
        self.wants = taken.wants;
    }

    /// Everything of the buffer that was handled is written: room for more.
    fn compact(&mut self) {
        self.buffer.drain(..self.at);
        self.at = 0;
    }
}

/// A session, its two buffers, and all that came out of it.
#[derive(Debug)]
pub struct Front {
    pub session: Session,
    from_client: Lane,
    from_upstream: Lane,
    /// What the upstream got.
    pub to_upstream: Vec<u8>,
    /// What the client got.
    pub to_client: Vec<u8>,
    pub events: Vec<Event>,
    /// What the session waits for.
    pub need: Option<Need>,
    pub now: Timestamp,
    /// Whether each side takes what is written to it.
    pub client_takes: bool,
    pub upstream_takes: bool,
}

impl Front {
    /// Before CONNECT.
    pub fn accepted(world: &World) -> Self {
        Self {
            session: Session::new(world.opening()),
            from_client: Lane::default(),
            from_upstream: Lane::default(),
            to_upstream: Vec::new(),
            to_client: Vec::new(),
            events: Vec::new(),
            need: None,
            now: START,
            client_takes: true,
            upstream_takes: true,
        }
    }

    /// After CONNECT, before the first PING.
    pub fn serving(world: &World) -> Self {
        let mut front = Self::accepted(world);
        front.client(&world.connect);
        assert!(matches!(front.need.take(), Some(Need::Admission(_))));
        front
            .session
            .handle_admitted(world.admission("somebody"), START);
        front.run();
        assert!(front.to_upstream.is_empty() && front.to_client.is_empty());
        front.events.clear();
        front
    }

    /// Bytes of the client.
    pub fn client(&mut self, piece: &[u8]) {
        self.from_client.buffer.extend_from_slice(piece);
        self.run();
    }

    /// Bytes of the upstream.
    pub fn upstream(&mut self, piece: &[u8]) {
        self.from_upstream.buffer.extend_from_slice(piece);
        self.run();
    }

    /// An upstream that has nothing to say ends its side where ours is to end, as a server does with its client.
    pub fn upstream_ends_too(&mut self) {
        if self.close().is_none() && self.session.ends_upstream() {
            self.session.handle_upstream_eof(self.now);
            self.run();
        }
    }

    /// An upstream that has nothing to say answers PINGs, where the session waits for that.
    pub fn upstream_answers(&mut self) {
        for _ in 0..1_000_000 {
            let waits =
                self.close().is_none() && self.need.is_none() && !self.session.ends_upstream();
            if !waits || self.session.wants_client() {
                return;
            }
            self.upstream(b"PONG\r\n");
        }
        panic!("the session waits for nothing");
    }

    /// Says no to whatever is asked.
    pub fn refuse(&mut self) {
        if self.need.take().is_some() {
            let refusal = Refusal {
                code: "time.expired",
                sentence: "over".into(),
            };
            self.session.handle_refused(refusal, self.now);
            self.run();
        }
    }

    /// Turns until nothing moves any more.
    pub fn run(&mut self) {
        for _ in 0..1_000_000 {
            if !self.turn() {
                return;
            }
        }
        panic!("the session never comes to rest");
    }

    fn turn(&mut self) -> bool {
        let mut moved = self.flush();
        moved |= self.session.gives_way();
        if self.session.wants_client() && self.from_client.is_ready() {
            self.from_client.compact();
            let before = self.session.poll_timeout();
            let taken = self
                .session
                .handle_client(&mut self.from_client.buffer, 0, self.now);
            moved |= taken.used > 0 || taken.wants != self.from_client.wants;
            moved |= before != self.session.poll_timeout();
            self.from_client.handled(taken);
            moved |= self.flush();
        }
        if self.session.wants_upstream() && self.from_upstream.is_ready() {
            self.from_upstream.compact();
            let taken = self
                .session
                .handle_upstream(&self.from_upstream.buffer, 0, self.now);
            moved |= taken.used > 0 || taken.wants != self.from_upstream.wants;
            self.from_upstream.handled(taken);
            moved |= self.flush();
        }
        while let Some(event) = self.session.poll_event(self.now) {
            self.events.push(event);
            moved = true;
        }
        if let Some(need) = self.session.poll_need() {
            assert!(self.need.is_none(), "one thing is asked at a time");
            self.need = Some(need);
            moved = true;
        }
        moved
    }

    fn flush(&mut self) -> bool {
        let before = (self.to_client.len(), self.to_upstream.len());
        if self.upstream_takes {
            let buffer = &self.from_client.buffer;
            self.session
                .to_upstream()
                .drain_to(buffer, &mut self.to_upstream);
        }
        if self.client_takes {
            let buffer = &self.from_upstream.buffer;
            self.session
                .to_client()
                .drain_to(buffer, &mut self.to_client);
        }
        before != (self.to_client.len(), self.to_upstream.len())
    }

    /// Why it has ended.
    pub const fn close(&self) -> Option<CloseReason> {
        self.session.close_reason()
    }
}
