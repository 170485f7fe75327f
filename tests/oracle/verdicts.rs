//! Verdicts by the million: what `policy` decides in this process, against the model with the deliberate differences.

use std::time::{Duration, Instant};

use natsentry::demo::servers::Version;
use natsentry::policy::{DenialReason, Judge};
use natsentry::time::Timestamp;

use super::differences::Specified;
use super::model::{Fate, Model, Ways};
use super::random::Random;
use super::rules::{OID, OWN_INBOXES, Rules, START};
use super::subjects::{group, literal, show, subject};

/// Questions of one session.
const QUESTIONS: usize = 500;

/// Who decides: natsentry, or a broken copy of it.
pub(crate) trait Decides {
    /// `before` is the subject of the publish before this one.
    fn publish(
        &mut self,
        before: &[u8],
        subject: &[u8],
        reply: Option<&[u8]>,
        now: Timestamp,
    ) -> Fate;
    fn subscribe(&mut self, subject: &[u8], queue: Option<&[u8]>) -> bool;
    fn delivers(&mut self, subject: &[u8]) -> bool;
    fn delivered(&mut self, reply: &[u8], now: Timestamp);
}

impl Decides for Judge {
    fn publish(
        &mut self,
        before: &[u8],
        subject: &[u8],
        reply: Option<&[u8]>,
        now: Timestamp,
    ) -> Fate {
        // As a session asks: the ground that the publish before lies on, then what is remembered.
        let open = self.open(before).and_then(|open| open.permit(subject));
        let granted = open.or_else(|| self.grant(subject));
        let quick = granted.and_then(|permit| match reply {
            Some(reply) => self.recall_reply(permit, reply),
            None => Some(permit),
        });
        if quick.is_some() {
            return Fate::Passed;
        }
        match Self::publish(self, subject, reply, now) {
            Ok(_) => Fate::Passed,
            Err(denial) => match denial.reason {
                DenialReason::ReservedReply | DenialReason::ReplyNotOwn => Fate::ReplyRefused,
                _ => Fate::Refused,
            },
        }
    }

    fn subscribe(&mut self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let granted = Self::subscribe(self, subject, queue).is_ok();
        if granted {
            self.unsubscribed(subject, queue);
        }
        granted
    }

    fn delivers(&mut self, subject: &[u8]) -> bool {
        // As a session asks for a run: beside a subject that shares all but the last token.
        let beside = subject.iter().rposition(|byte| *byte == b'.');
        let beside = subject.get(..beside.map_or(0, |dot| dot + 1));
        self.hear(START).delivers(subject, beside)
    }

    fn delivered(&mut self, reply: &[u8], now: Timestamp) {
        // As it notes the replies of a run.
        self.hear(now).opened(reply);
    }
}

/// One thing to decide, or to know.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    Publish(Vec<u8>, Option<Vec<u8>>),
    Subscribe(Vec<u8>, Option<String>),
    Deliver(Vec<u8>),
    /// A message with this reply was delivered.
    Request(Vec<u8>),
    /// Time passes, in milliseconds.
    Wait(u64),
}

impl Question {
    /// What can be asked of a server, too: no waiting, and nothing that only a delivery shows.
    pub(crate) fn random(random: &mut Random) -> Self {
        match random.below(24) {
            0..=10 => {
                let reply = random.once_in(4).then(|| reply(random));
                let subject = if random.once_in(8) {
                    self::reply(random)
                } else {
                    subject(random)
                };
                Self::Publish(subject, reply)
            }
            11..=18 => {
                let queue = random.once_in(3).then(|| {
                    if random.once_in(30) {
                        "_sys_".to_owned()
                    } else {
                        group(random)
                    }
                });
                let subject = if random.once_in(16) {
                    inbox(random)
                } else {
                    subject(random)
                };
                Self::Subscribe(subject, queue)
            }
            19..=21 => Self::Deliver(literal(random)),
            22 => Self::Request(reply(random)),
            _ => Self::Wait(*random.pick(&[0, 1, 7, 29_999, 30_001, 60_000, 60_001])),
        }
    }

    pub(crate) fn show(&self) -> String {
        match self {
            Self::Publish(subject, None) => format!("PUB {}", show(subject)),
            Self::Publish(subject, Some(reply)) => {
                format!("PUB {} with reply {}", show(subject), show(reply))
            }
            Self::Subscribe(subject, None) => format!("SUB {}", show(subject)),
            Self::Subscribe(subject, Some(queue)) => {
                format!("SUB {} in group {queue}", show(subject))
            }
            Self::Deliver(subject) => format!("delivery of {}", show(subject)),
            Self::Request(reply) => format!("delivery with reply {}", show(reply)),
            Self::Wait(millis) => format!("{millis} ms pass"),
        }
    }
}

/// Reply subjects: few, so that they are answered.
fn reply(random: &mut Random) -> Vec<u8> {
    match random.below(12) {
        0 => inbox(random),
        1 => b"_R_.x".to_vec(),
        2 => b"$JS.ACK.S.C.1.1.1.1.0".to_vec(),
        3 => random
            .pick(&[
                &b"$JS.ACK"[..],
                b"_GR_.x.y",
                b"$GR.x",
                b"$NRG.x",
                b"$MQTT.sub.x",
                b"$LDS.x",
            ])
            .to_vec(),
        4 => b"reply.*".to_vec(),
        _ => {
            let name = *random.pick(&["reply.1", "reply.2", "reply.b", "a.b", "a.c", "b", "c.a.b"]);
            name.as_bytes().to_vec()
        }
    }
}

/// Subjects below inboxes: the session's own, its prefix, and others'.
fn inbox(random: &mut Random) -> Vec<u8> {
    let [long, short] = OWN_INBOXES;
    let text = match random.below(8) {
        0 => format!("_INBOX.{long}"),
        1 => format!("_INBOX.{long}.*"),
        2 => format!("_INBOX.{long}.1"),
        3 => format!("_INBOX.{short}.>"),
        4 => format!("_INBOX_{OID}.x"),
        5 => "_INBOX.>".to_owned(),
        6 => "_INBOX.*.1".to_owned(),
        _ => "_INBOX.short.1".to_owned(),
    };
    text.into_bytes()
}

/// One session's worth.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) ways: Ways,
    pub(crate) rules: Rules,
    pub(crate) questions: Vec<Question>,
}

/// What was asked last, and two answers that should be one.
#[derive(Debug)]
pub(crate) struct Mismatch {
    pub(crate) at: usize,
    pub(crate) text: String,
}

impl Case {
    pub(crate) fn random(seed: u64, number: u64, ways: Ways) -> Self {
        let mut random = Random::for_case(seed, ("verdicts", number));
        let rules = Rules::random(&mut random);
        let questions = (0..QUESTIONS)
            .map(|_| Question::random(&mut random))
            .collect();
        Self {
            ways,
            rules,
            questions,
        }
    }

    /// Asks everything. Returns the first mismatch; differences that occurred are counted if `counted`.
    pub(crate) fn ask(&self, decides: &mut dyn Decides, counted: bool) -> Result<usize, Mismatch> {
        let mut model = Model::new(self.ways, self.rules.for_server());
        let mut specified = Specified::new(&self.rules, &model);
        let mut now = START;
        let mut verdicts = 0;
        let mut before: &[u8] = b"";
        for (at, question) in self.questions.iter().enumerate() {
            let (found, server, wanted, because) = match question {
                Question::Wait(millis) => {
                    now = now.plus(Duration::from_millis(*millis));
                    continue;
                }
                Question::Request(reply) => {
                    model.delivered(reply, now);
                    specified.delivered(&model, reply, now);
                    decides.delivered(reply, now);
                    continue;
                }
                Question::Publish(subject, reply) => {
                    let reply = reply.as_deref();
                    let server = model.publish(subject, reply, now);
                    let wanted = specified.publish(&model, server, subject, reply, now);
                    let found = decides.publish(before, subject, reply, now);
                    before = subject;
                    (found, server, wanted.verdict, wanted.because)
                }
                Question::Subscribe(subject, queue) => {
                    let queue = queue.as_ref().map(String::as_bytes);
                    let server = model.subscribe(subject, queue);
                    let wanted = specified.subscribe(server, subject, queue);
                    let found = decides.subscribe(subject, queue);
                    (
                        fate(found),
                        fate(server),
                        fate(wanted.verdict),
                        wanted.because,
                    )
                }
                Question::Deliver(subject) => {
                    let server = fate(model.delivers(subject));
                    (fate(decides.delivers(subject)), server, server, None)
                }
            };
            verdicts += 1;
            let unnamed = server != wanted && because.is_none();
            if found != wanted || unnamed {
                let name = because.map_or_else(String::new, |because| format!(" ({because:?})"));
                let text = format!(
                    "{}: natsentry says {found:?}, the model {server:?}, so natsentry should say {wanted:?}{name}",
                    question.show()
                );
                return Err(Mismatch { at, text });
            }
            if let Some(because) = because.filter(|_| counted) {
                because.seen();
            }
        }
        Ok(verdicts)
    }

    /// A judge as this case begins: a session of `inbox: private` listens in its inboxes.
    pub(crate) fn judge(&self) -> Judge {
        let mut judge = self.rules.judge();
        for token in OWN_INBOXES {
            // Where a deny entry is in the way, it does not listen there; the model has the same entry.
            let subject = format!("_INBOX.{token}.>");
            let _ = judge.subscribe(subject.as_bytes(), None);
        }
        judge
    }

    /// A smaller case that still differs.
    pub(crate) fn shrunk(mut self, differs: impl Fn(&Self) -> Option<usize>) -> Self {
        if let Some(at) = differs(&self) {
            self.questions.truncate(at + 1);
        }
        loop {
            let mut smaller = None;
            let mut size = self.questions.len().div_ceil(2);
            while smaller.is_none() && size > 0 {
                let starts = (0..self.questions.len()).step_by(size);
                smaller = starts
                    .map(|start| {
                        let mut copy = self.clone();
                        let end = (start + size).min(copy.questions.len());
                        copy.questions.drain(start..end);
                        copy
                    })
                    .find(|copy| differs(copy).is_some());
                size /= 2;
            }
            let simpler = || {
                let copies = self.rules.simpler().into_iter();
                let mut copies = copies.map(|rules| Self {
                    rules,
                    ..self.clone()
                });
                copies.find(|copy| differs(copy).is_some())
            };
            match smaller.or_else(simpler) {
                Some(copy) => self = copy,
                None => return self,
            }
        }
    }

    pub(crate) fn show(&self) -> String {
        let mut text = format!("{:#?}\n", self.rules);
        for question in &self.questions {
            text.push_str(&format!("  {}\n", question.show()));
        }
        text
    }
}

const fn fate(granted: bool) -> Fate {
    if granted { Fate::Passed } else { Fate::Refused }
}

/// Asks at least `wanted` verdicts, or as many as fit in the time. How many it were.
pub(crate) fn run(seed: u64, version: Version, wanted: u64, time: Duration) -> u64 {
    let ways = Ways::of(version);
    let started = Instant::now();
    let (mut verdicts, mut number, mut told) = (0_u64, 0_u64, Duration::from_secs(60));
    while verdicts < wanted && started.elapsed() < time {
        let case = Case::random(seed, number, ways);
        match case.ask(&mut case.judge(), true) {
            Ok(count) => verdicts += count as u64,
            Err(found) => {
                let differs = |case: &Case| {
                    case.ask(&mut case.judge(), false)
                        .err()
                        .map(|found| found.at)
                };
                let small = case.shrunk(differs);
                let text = small
                    .ask(&mut small.judge(), false)
                    .err()
                    .map(|found| found.text);
                panic!(
                    "as nats-server {version}, seed {seed}, case {number}: {}\nshrunk: {text:?}\n{}",
                    found.text,
                    small.show()
                );
            }
        }
        number += 1;
        if started.elapsed() > told {
            told += Duration::from_secs(60);
            eprintln!("{verdicts} verdicts after {:?}", started.elapsed());
        }
    }
    verdicts
}
