//! What stands around the session in a transcript: people whose token is their name, the real policy over the roles
//! that the file gives, and the part of the shell that answers an admission.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use natsentry::identity::{Identity, Kind};
use natsentry::policy::{Circumstances, Document, InboxRegistry, Judge, Permissions, Policy};
use natsentry::session::{Admission, CloseReason, Limits, Refusal, RoleLimits};
use natsentry::time::Timestamp;
use natsentry::wire::ServerInfo;
use serde_json::{Map, Value, json};

use super::script::{Person, Script, duration};

/// When every transcript begins.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_795_451_820);

/// Where the client of every transcript is.
pub(crate) const CLIENT: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), 50_000);

/// How long a session may last unless the file says something else.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Roles, people and inboxes.
pub(crate) struct World {
    roles: BTreeMap<String, Map<String, Value>>,
    people: BTreeMap<String, Person>,
    unavailable: Option<CloseReason>,
    pub(crate) info: ServerInfo,
    pub(crate) greeting: ServerInfo,
    inboxes: Arc<InboxRegistry>,
    /// Other sessions, which only hold their inboxes.
    others: Vec<Judge>,
}

/// What a CONNECT gets.
pub(crate) enum Answer {
    Admitted(Box<Admission>),
    Refused(Refusal),
    Unavailable(CloseReason),
}

/// A close reason by its label.
pub(crate) fn reason(label: &str) -> CloseReason {
    CloseReason::ALL
        .into_iter()
        .find(|reason| reason.label() == label)
        .unwrap_or_else(|| panic!("no close reason has the label {label:?}"))
}

/// The limits of the session.
pub(crate) fn limits(script: &Script) -> Limits {
    let mut limits = Limits::default();
    for (key, value) in &script.setup.limits {
        let number = || {
            value
                .parse::<usize>()
                .unwrap_or_else(|_| panic!("{key}: no number"))
        };
        let time = || duration(value).unwrap_or_else(|error| panic!("{key}: {error}"));
        match key.as_str() {
            "control_line" => limits.control_line = number(),
            "connect_line" => limits.connect_line = number(),
            "payload" => limits.payload = u32::try_from(number()).unwrap(),
            "subscriptions" => limits.subscriptions = number(),
            "pending" => limits.pending = number(),
            "subscription_bytes" => limits.subscription_bytes = number(),
            "handshake" => limits.handshake = time(),
            "write_deadline" => limits.write_deadline = time(),
            "notice" => limits.notice = time(),
            _ => panic!("no such limit: {key}"),
        }
    }
    limits
}

/// Puts the fields of `changes` over `base`; `null` takes one away.
pub(crate) fn overlay(mut base: Value, changes: &Map<String, Value>) -> Value {
    if let Some(fields) = base.as_object_mut() {
        fields.extend(changes.clone());
        fields.retain(|_, value| !value.is_null());
    }
    base
}

/// INFO of the upstream in transcripts: what a client must not see is in it too.
fn upstream_info() -> Value {
    json!({
        "server_id": "NPLANTA", "server_name": "plant-a-1", "version": "2.15.1", "proto": 1,
        "git_commit": "b2f1e00", "go": "go1.27", "host": "10.9.8.7", "port": 4222,
        "headers": true, "auth_required": true, "max_payload": 1_048_576, "client_id": 7,
        "client_ip": "10.0.0.5", "nonce": "4kZ1XvJQ3aXVxkM", "xkey": "XKEY", "cluster": "east",
        "connect_urls": ["10.9.8.8:4222"], "api_lvl": 5,
    })
}

/// CONNECT of a client that is there when the transcript begins.
pub(crate) fn usual_connect(name: &str) -> Value {
    json!({
        "verbose": false, "pedantic": false, "echo": true, "headers": true, "protocol": 1,
        "lang": "fixture", "version": "1.0", "auth_token": name,
    })
}

impl World {
    pub(crate) fn new(script: &Script) -> Self {
        let setup = &script.setup;
        let parse = |info: &Value| ServerInfo::parse(info.to_string().as_bytes()).unwrap();
        let info = overlay(upstream_info(), &setup.info);
        let mut world = Self {
            roles: setup.roles.clone(),
            people: setup.people.clone(),
            unavailable: setup.unavailable.as_deref().map(reason),
            greeting: parse(&overlay(info.clone(), &setup.greeting)),
            info: parse(&info),
            inboxes: Arc::default(),
            others: Vec::new(),
        };
        if world.roles.is_empty() {
            let everything = json!({"publish": [">"], "subscribe": [">"], "inbox": "off"});
            let fields = everything.as_object().unwrap().clone();
            world.roles.insert("fixture".to_owned(), fields);
        }
        world.let_others_hold_their_inboxes();
        world
    }

    fn let_others_hold_their_inboxes(&mut self) {
        let mut session = 1000;
        for (name, person) in &self.people.clone() {
            for subject in &person.holds {
                session += 1;
                let permissions = self
                    .permissions(name)
                    .unwrap_or_else(|r| panic!("{}", r.sentence));
                let mut judge = Judge::new(permissions, Arc::clone(&self.inboxes), session);
                let held = judge.subscribe(subject.as_bytes(), None);
                assert!(held.is_ok(), "{name} cannot hold {subject}: {held:?}");
                self.others.push(judge);
            }
        }
    }

    /// Changes the grants of one role.
    pub(crate) fn change(&mut self, role: &str, grants: &Map<String, Value>) {
        self.roles
            .entry(role.to_owned())
            .or_default()
            .extend(grants.clone());
    }

    fn policy(&self) -> Policy {
        let mut roles = Map::new();
        for (name, grants) in &self.roles {
            let frame = json!({
                "bind": [{"app_role": name}], "upstream": "plant-a", "broad": true,
            });
            roles.insert(name.clone(), overlay(frame, grants));
        }
        let document: Document = serde_json::from_value(json!({"roles": roles}))
            .unwrap_or_else(|error| panic!("given policy: {error}"));
        Policy::compile(&document).unwrap_or_else(|mistakes| panic!("given policy: {mistakes:?}"))
    }

    fn identity(&self, name: &str) -> Identity {
        let person = self.people.get(name);
        let roles = person.and_then(|person| person.roles.clone());
        let roles = roles.unwrap_or_else(|| self.roles.keys().cloned().collect());
        Identity {
            sub: Some(format!("sub-of-{name}").into()),
            azp: Some("5b7e92a4-0f5d-4f3f-9b06-6b1c7d3f9e10".into()),
            azpacr: Some(1),
            roles: roles.into_iter().map(Into::into).collect(),
            display_name: Some(name.into()),
            ..Identity::plain(
                Kind::App,
                ("11111111-2222-3333-4444-555555555555", name),
                (START.minus(Duration::from_secs(300)), START.plus(LIFETIME)),
            )
        }
    }

    /// What somebody may do by the roles as they stand.
    pub(crate) fn permissions(&self, name: &str) -> Result<Arc<Permissions>, Refusal> {
        self.assign(name).map(|assignment| assignment.permissions)
    }

    fn assign(&self, name: &str) -> Result<natsentry::policy::Assignment, Refusal> {
        let circumstances = Circumstances {
            source: CLIENT.ip(),
            now: START,
            requested_role: None,
        };
        self.policy()
            .assign(&self.identity(name), &circumstances)
            .map_err(|refusal| Refusal {
                code: refusal.code(),
                sentence: refusal.sentence().into(),
            })
    }

    /// Plays the part of the token gate, the policy and the upstream.
    pub(crate) fn admit(&self, token: &str, session: u64) -> Answer {
        let Some(person) = self.people.get(token) else {
            let sentence = format!("nobody is called {token:?} here").into();
            return Answer::Refused(Refusal {
                code: "token.unknown",
                sentence,
            });
        };
        if let Some(code) = &person.refused {
            let code: &'static str = code.clone().leak();
            return Answer::Refused(Refusal {
                code,
                sentence: "as the transcript says".into(),
            });
        }
        let assignment = match self.assign(token) {
            Ok(assignment) => assignment,
            Err(refusal) => return Answer::Refused(refusal),
        };
        if let Some(reason) = self.unavailable {
            return Answer::Unavailable(reason);
        }
        let limits = assignment.limits;
        let judge = Judge::new(assignment.permissions, Arc::clone(&self.inboxes), session);
        Answer::Admitted(Box::new(Admission {
            identity: Arc::new(self.identity(token)),
            roles: assignment.roles,
            upstream: assignment.upstream,
            server: "10.9.8.7:4222".into(),
            judge,
            limits: RoleLimits {
                payload: limits
                    .payload
                    .map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX)),
                subscriptions: limits.subscriptions.map(|count| count as usize),
                messages_per_second: limits.messages_per_s,
                bytes_per_second: limits.bytes_per_s,
            },
            ends_at: START.plus(person.expires.unwrap_or(LIFETIME)),
            info: Arc::new(self.info.clone()),
        }))
    }
}
