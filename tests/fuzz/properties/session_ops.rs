//! A session under everything that can happen to it, in any order: not only bytes, but also time, changes of policy and of
//! limits, answers to what it asked, acts of an operator, peers that stop reading, and connections that are lost.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use natsentry::policy::{Judge, Permissions};
use natsentry::session::{
    Admission, CloseReason, Event, EventKind, Farewell, Need, Refusal, RoleLimits,
};
use natsentry::wire::side_channels;
use serde_json::json;

use super::front::{Front, World, permissions};
use super::peer::{self, Said};
use super::server::{Op, Parser, Settings};

/// Most bytes of our own that may wait for a client, beside the limit: the answers to one operation, an INFO, and an error
/// for each subscription that one change of policy takes.
const SLACK: usize = 16 * 1024;

const SUBSCRIPTIONS: usize = 8;
const PENDING: usize = 2048;

struct Scene {
    world: World,
    policies: Vec<Arc<Permissions>>,
    /// Whether a judge that knows nothing of the past says the same.
    strict: bool,
}

static SCENES: LazyLock<Vec<Scene>> = LazyLock::new(|| {
    let settings = Settings {
        max_payload: 4096,
        max_control_line: 256,
        headers: true,
        takes_subscriptions: false,
    };
    let scene = |roles: &[serde_json::Value], strict: bool| Scene {
        world: World::new(&roles[0], settings).limited(|limits, role| {
            limits.pending = PENDING;
            limits.subscriptions = SUBSCRIPTIONS;
            role.messages_per_second = (!strict).then_some(20);
        }),
        policies: roles.iter().map(permissions).collect(),
        strict,
    };
    vec![
        scene(
            &[
                json!({ "publish": [">"], "subscribe": [">"], "inbox": "off" }),
                json!({ "publish": ["a.>"], "subscribe": ["a.>", "foo"], "inbox": "off" }),
                json!({ "publish": [">"], "subscribe": [">"], "inbox": "off",
                        "deny": { "publish": ["a.b"], "subscribe": ["a.b", "foo"] } }),
                json!({ "publish": ["foo"], "inbox": "off" }),
            ],
            true,
        ),
        scene(
            &[
                json!({ "publish": ["a.>"], "subscribe": ["a.>"], "respond": { "max": 2, "ttl": "10s" } }),
                json!({ "publish": ["foo"], "subscribe": ["a.*"], "request": ["svc"], "deny": { "subscribe": ["a.b"] } }),
                json!({ "publish": ["a.b"], "subscribe": ["foo"], "inbox": "shared", "mode": "observe" }),
            ],
            false,
        ),
    ]
});

/// Bytes that choose what happens next.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> Option<T> {
        Some(list[usize::from(self.next()?) % list.len()])
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.next()?).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(bytes)
    }
}

struct Play<'s> {
    scene: &'s Scene,
    front: Front,
    server: Parser,
    /// What the server has been given.
    given: usize,
    /// Policies by which what is still under way to the upstream may have been judged.
    judged_by: Vec<usize>,
    policy: usize,
    checked: usize,
    /// Messages among the operations checked.
    published: u64,
    /// Bytes that the client has read.
    read: usize,
    last_said: Option<Said>,
    /// Facts looked at, and ends among them.
    told: usize,
    ends: usize,
    /// Policies that were in force while a delivery was under way.
    filtered_by: Vec<usize>,
    admitted: bool,
    closed: Option<CloseReason>,
}

/// What happens, one byte for each choice.
pub fn session_ops(data: &[u8]) {
    let mut choices = Choices(data);
    let Some(scene) = choices.next() else { return };
    let scene = &SCENES[usize::from(scene) % SCENES.len()];
    let mut play = Play {
        scene,
        front: Front::accepted(&scene.world),
        server: Parser::new(Settings {
            // An INFO may say so at any time.
            max_payload: usize::MAX,
            ..scene.world.settings
        }),
        given: 0,
        judged_by: vec![0],
        policy: 0,
        checked: 0,
        published: 0,
        read: 0,
        last_said: None,
        told: 0,
        ends: 0,
        filtered_by: vec![0],
        admitted: false,
        closed: None,
    };
    for _ in 0..400 {
        if play.step(&mut choices).is_none() {
            break;
        }
        play.front.run();
        play.check();
    }
    play.front.client_takes = true;
    play.front.upstream_takes = true;
    play.front.run();
    play.check();
    play.check_end();
}

impl Play<'_> {
    fn step(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        match choices.next()? % 24 {
            0..=6 => {
                let line = client_line(choices)?;
                self.front.client(&line);
            }
            7..=11 => {
                let line = upstream_line(choices)?;
                self.front.upstream(&line);
            }
            12 => self.front.client(choices.bytes()?),
            13 => self.front.upstream(choices.bytes()?),
            14 => {
                let millis = choices.of(&[1_u64, 49, 1_000, 2_000, 9_999, 600_000, 3_590_000])?;
                self.front.now = self.front.now.plus(Duration::from_millis(millis));
                self.front.session.handle_time(self.front.now);
            }
            15 => {
                self.policy = usize::from(choices.next()?) % self.scene.policies.len();
                self.judged_by.push(self.policy);
                self.filtered_by.push(self.policy);
                let policy = Arc::clone(&self.scene.policies[self.policy]);
                self.front.session.handle_policy(policy);
            }
            16 => {
                let limits = RoleLimits {
                    payload: choices.of(&[None, Some(8), Some(1_000_000)])?,
                    subscriptions: choices.of(&[None, Some(0), Some(3)])?,
                    messages_per_second: choices.of(&[None, Some(1), Some(50)])?,
                    bytes_per_second: choices.of(&[None, Some(1), Some(5_000)])?,
                };
                self.front.session.handle_limits(&limits, self.front.now);
            }
            17 => self.front.client_takes = !self.front.client_takes,
            18 => self.front.upstream_takes = !self.front.upstream_takes,
            19 => {
                let blocked = choices.of(&[true, false])?;
                if choices.of(&[true, false])? {
                    self.front
                        .session
                        .handle_client_blocked(blocked, self.front.now);
                } else {
                    self.front
                        .session
                        .handle_upstream_blocked(blocked, self.front.now);
                }
            }
            20 if choices.next()? % 4 == 0 => self.lose(choices)?,
            21 if choices.next()? % 4 == 0 => {
                let reason = choices.of(&CloseReason::ALL)?;
                self.front.session.handle_end(reason, self.front.now);
            }
            20..=23 => self.answer(choices)?,
            _ => {}
        }
        Some(())
    }

    fn lose(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let (session, now) = (&mut self.front.session, self.front.now);
        match choices.next()? % 3 {
            0 => session.handle_client_eof(now),
            1 => session.handle_client_lost(now),
            _ => session.handle_upstream_eof(now),
        }
        Some(())
    }

    /// Answers what the session asked, mostly well; now and then says something that nobody asked.
    fn answer(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let how = choices.next()?;
        let now = self.front.now;
        let need = self.front.need.take();
        let session = &mut self.front.session;
        let refusal = || Refusal {
            code: "time.expired",
            sentence: "over".into(),
        };
        match (need, how % 8) {
            (Some(Need::Admission(_)), 0..=5) => {
                self.policy = 0;
                self.judged_by = vec![0];
                self.filtered_by = vec![0];
                session.handle_admitted(self.scene.world.admission("somebody"), now);
                self.admitted = true;
            }
            (Some(Need::Readmission(_)), 0..=3) => {
                if session.handle_readmitted(self.scene.world.admission("somebody"), now) {
                    self.policy = 0;
                    self.judged_by.push(0);
                    self.filtered_by.push(0);
                }
            }
            (Some(Need::Readmission(_)), 4) => {
                session.handle_readmitted(self.scene.world.admission("somebody else"), now);
            }
            (Some(Need::Readmission(_)), 5) => {
                let elsewhere = Admission {
                    upstream: "elsewhere".into(),
                    ..self.scene.world.admission("somebody")
                };
                session.handle_readmitted(elsewhere, now);
            }
            (Some(_), 6) | (None, 0) => session.handle_refused(refusal(), now),
            (Some(_), _) => session.handle_unavailable(CloseReason::IdentityUnavailable, now),
            (None, 1) => session.handle_tls_established(),
            (None, _) => {}
        }
        Some(())
    }

    fn check(&mut self) {
        let session = &self.front.session;
        self.check_close(session.close_reason());
        let session = &mut self.front.session;
        assert!(session.subscriptions() <= SUBSCRIPTIONS);
        let own = session.to_client().own_bytes();
        assert!(own <= PENDING + SLACK, "{own} bytes wait for the client");
        self.check_upstream();
        self.check_client();
    }

    fn check_close(&mut self, close: Option<CloseReason>) {
        if let Some(before) = self.closed {
            assert_eq!(close, Some(before), "a session ends once");
        }
        let session = &self.front.session;
        if close.is_some() {
            assert!(!session.wants_client() && !session.wants_upstream());
            assert_eq!(session.poll_timeout(), None);
        }
        self.closed = close;
        let is_end = |event: &Event| matches!(event.kind, EventKind::Closed(_));
        let new = &self.front.events[self.told..];
        self.ends += new.iter().filter(|event| is_end(event)).count();
        self.told = self.front.events.len();
        let closed_last = self.front.events.last().is_some_and(is_end);
        assert_eq!(
            self.ends,
            usize::from(close.is_some()),
            "one fact for one end"
        );
        assert_eq!(closed_last, close.is_some(), "and nothing after it");
    }

    fn check_upstream(&mut self) {
        let all = &self.front.to_upstream;
        assert!(
            self.admitted || all.is_empty(),
            "nothing goes upstream before admission"
        );
        self.server.read(&all[self.given..]);
        self.given = all.len();
        assert_eq!(self.server.end(), None, "{:?}", self.server.ops());
        for op in &self.server.ops()[self.checked..] {
            if self.scene.strict {
                let granted =
                    |policy: &usize| is_granted(&self.scene.policies[*policy], op, self.front.now);
                assert!(
                    self.judged_by.iter().any(granted),
                    "{op:?} under {:?}",
                    self.judged_by
                );
            }
            match op {
                Op::Connect(json) => assert!(has_no_credentials(json), "{op:?}"),
                Op::Info(_) | Op::HeaderMessage => panic!("{op:?}"),
                _ => {}
            }
        }
        let new = self.server.ops()[self.checked..].iter();
        let messages = new.filter(|op| matches!(op, Op::Publish { .. }));
        self.published += messages.count() as u64;
        self.checked = self.server.ops().len();
        if self.server.is_between_operations() && self.front.session.to_upstream().is_drained() {
            self.judged_by = vec![self.policy];
        }
        let published = self.published;
        let counted = self.front.session.traffic().messages_in;
        assert!(
            published <= counted,
            "{published} published, {counted} counted"
        );
        if self.front.session.to_upstream().is_drained()
            && self.server.is_between_operations()
            && self.closed.is_none()
        {
            assert_eq!(published, counted);
        }
    }

    fn check_client(&mut self) {
        let unread = &self.front.to_client[self.read..];
        let (said, rest) = peer::read(unread).unwrap_or_else(|why| panic!("the client gets {why}"));
        for said in &said {
            if let Said::Message {
                subject, payload, ..
            } = said
            {
                let own = payload.starts_with(b"NATS/1.0 503") || payload.starts_with(b"{\"");
                let kept = |policy: &usize| {
                    let policy = Arc::clone(&self.scene.policies[*policy]);
                    Judge::new(policy, Arc::default(), 2).delivers(subject)
                };
                assert!(
                    own || self.filtered_by.iter().any(kept),
                    "{said:?} is denied"
                );
            }
        }
        self.read += unread.len() - rest.len();
        self.last_said = said.into_iter().next_back().or(self.last_said.take());
        if rest.is_empty() && self.front.session.to_client().is_drained() {
            self.filtered_by = vec![self.policy];
        }
    }

    fn check_end(&self) {
        let Some(reason) = self.closed else { return };
        if let Farewell::Error(_) = reason.farewell()
            && self.read == self.front.to_client.len()
        {
            assert!(
                matches!(self.last_said, Some(Said::Error(_))),
                "{reason:?} is said: {:?}",
                self.last_said
            );
        }
    }
}

/// Whether a policy grants what went upstream.
fn is_granted(policy: &Arc<Permissions>, op: &Op, now: natsentry::time::Timestamp) -> bool {
    let mut judge = Judge::new(Arc::clone(policy), Arc::default(), 2);
    match op {
        Op::Publish {
            subject,
            reply,
            header,
            payload,
        } => {
            let mut named = side_channels(&payload[..header.unwrap_or(0)]);
            judge.publish(subject, reply.as_deref(), now).is_ok()
                && named.all(|(name, subject)| judge.header_subject(name, subject).is_ok())
        }
        Op::Subscribe { subject, queue, .. } => judge.subscribe(subject, queue.as_deref()).is_ok(),
        _ => true,
    }
}

/// Whether a CONNECT for upstream says nothing but what a client may wish, and is never verbose.
fn has_no_credentials(json: &[u8]) -> bool {
    let json: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    let known = [
        "verbose",
        "pedantic",
        "protocol",
        "echo",
        "headers",
        "no_responders",
        "lang",
    ];
    let fields = json.as_object().expect("an object");
    fields.keys().all(|key| known.contains(&&**key))
        && fields["verbose"] == false
        && fields["pedantic"] == false
        && fields["protocol"] == 1
}

const SUBJECTS: [&str; 10] = [
    "foo",
    "a.b",
    "a.c",
    "a.*",
    ">",
    "a..b",
    "_INBOX.aaaaaaaaaaaaaaaaaaaa.1",
    "_INBOX.aaaaaaaaaaaaaaaaaaaa.*",
    "svc",
    "$SYS.REQ.USER.INFO",
];

fn client_line(choices: &mut Choices<'_>) -> Option<Vec<u8>> {
    let subject = choices.of(&SUBJECTS)?;
    let reply = choices.of(&[
        "",
        "",
        "foo ",
        "a.b ",
        "_INBOX.aaaaaaaaaaaaaaaaaaaa.7 ",
        "$JS.ACK.x ",
    ])?;
    let sid = choices.of(&["1", "2", "3", "x", "9"])?;
    let size = choices.of(&[0_usize, 1, 5, 300, 4096, 4097])?;
    let text = match choices.next()? % 16 {
        0..=3 => format!("PUB {subject} {reply}{size}\r\n{}\r\n", "p".repeat(size)),
        4 => format!("pub {subject}\t{reply} 0{size}\n{}\r\n", "p".repeat(size)),
        5 => {
            let headers = choices.of(&["NATS/1.0\r\n\r\n", "NATS/1.0\r\nNats-Trace-Dest: foo\r\n\r\n", ""])?;
            let (head, all) = (headers.len(), headers.len() + size);
            format!("HPUB {subject} {reply}{head} {all}\r\n{headers}{}\r\n", "h".repeat(size))
        }
        6..=8 => format!("SUB {subject} {sid}\r\n"),
        9 => format!("SUB {subject} {} {sid}\r\n", choices.of(&["q", "_sys_", "q.*"])?),
        10 => format!("UNSUB {sid}\r\n"),
        11 => format!("UNSUB {sid} {}\r\n", choices.of(&["1", "2", "0", "x"])?),
        12 => "PING\r\n".to_owned(),
        13 => "PONG\r\n".to_owned(),
        14 => choices
            .of(&[
                "CONNECT {}\r\n",
                "CONNECT {\"verbose\":true,\"pedantic\":true}\r\n",
                "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1,\"lang\":\"x\",\"auth_token\":\"t\"}\r\n",
                "CONNECT {\"auth_token\":\"t\",\"pedantic\":false}\r\n",
                "CONNECT {\"protocol\":7}\r\n",
                "CONNECT {\"echo\":false,\"protocol\":0}\r\n",
                "CONNECT {\"headers\":false,\"no_responders\":false}\r\n",
                "CONNECT {\"protocol\":7,\"pass\":\"t\"}\r\n",
            ])?
            .to_owned(),
        _ => choices.of(&["+OK\r\n", "PINGING", "\r\n", "INFO {}\r\n", "-ERR 'x'\r\n", "HMSG x\r\n\r\n", "PUB foo\r 15\n"])?.to_owned(),
    };
    let cut = usize::from(choices.next()?);
    let len = if cut >= 200 {
        text.len() * (cut - 200) / 56
    } else {
        text.len()
    };
    Some(text.as_bytes()[..len].to_vec())
}

fn upstream_line(choices: &mut Choices<'_>) -> Option<Vec<u8>> {
    let subject = choices.of(&SUBJECTS)?;
    let reply = choices.of(&["", "", "foo ", "_R_.x "])?;
    let sid = choices.of(&["1", "2", "3", "x", "9"])?;
    let size = choices.of(&[0_usize, 1, 5, 300, 5_000])?;
    let text = match choices.next()? % 16 {
        0..=5 => format!(
            "MSG {subject} {sid} {reply}{size}\r\n{}\r\n",
            "m".repeat(size)
        ),
        6 => format!(
            "HMSG {subject} {sid} {reply}12 {}\r\nNATS/1.0\r\n\r\n{}\r\n",
            size + 12,
            "m".repeat(size)
        ),
        7..=9 => "PONG\r\n".to_owned(),
        10 => "PING\r\n".to_owned(),
        11 => choices
            .of(&[
                "INFO {\"max_payload\":1024,\"headers\":true} \r\n",
                "INFO {\"ldm\":true,\"max_payload\":4096} \r\n",
                "INFO {\"max_payload\":-1,\"connect_info\":true} \r\n",
                "INFO []\r\n",
            ])?
            .to_owned(),
        12 => "+OK\r\n".to_owned(),
        13 => choices
            .of(&[
                "-ERR 'Permissions Violation for Publish to \"foo\"'\r\n",
                "-ERR 'Stale Connection'\r\n",
                "-ERR 'Authorization Violation'\r\n",
            ])?
            .to_owned(),
        14 => "MSG x\r\n".to_owned(),
        _ => "MSG foo 1 2\r\nabc\r\n".to_owned(),
    };
    let cut = usize::from(choices.next()?);
    let len = if cut >= 220 {
        text.len() * (cut - 220) / 36
    } else {
        text.len()
    };
    Some(text.as_bytes()[..len].to_vec())
}
