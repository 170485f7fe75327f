//! What of a script is played to which side. An operation for which a deliberate difference is known beforehand is not said
//! to the server itself, so that both sides stay in the same state; in its place stands a mark, an operation that every
//! server refuses to everybody with a text of its own, and the mark in what the server answers is read as what natsentry
//! has to answer.

use natsentry::demo::servers::Version;

use super::differences::{Difference, Specified};
use super::model::{Fate, Model, Ways, matches};
use super::quote::quoted;
use super::rules::{Inbox, OWN_INBOXES, Rules, START};
use super::script::{Op, Script, Step};
use super::subjects::collide;

/// What becomes of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Said to both.
    Both,
    /// Said to natsentry only, which answers this; and what the session has to end with.
    Marked {
        because: Difference,
        answer: Vec<Vec<u8>>,
        closes: bool,
    },
    /// Said to neither.
    Neither,
}

/// A script with the part of every operation of every step.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) parts: Vec<Vec<Part>>,
}

struct Planner<'a> {
    rules: &'a Rules,
    model: Model,
    specified: Specified,
    version: Version,
    /// Whether a 2.9 server looks at deny entries when it delivers.
    filters: bool,
    /// Sid and subject of what the client has subscribed to at some time.
    listened: Vec<(String, Vec<u8>)>,
    verbose: bool,
    pedantic: bool,
    /// Sids with an UNSUB max, and whether the client has published in this step, so that what it counts may be under way.
    counted: Vec<String>,
    published: bool,
    /// Replies that the client has named in this step, and those that it has named in any.
    asked: Vec<Vec<u8>>,
    named: Vec<Vec<u8>>,
    /// Replies that the third party has named.
    wanted: Vec<Vec<u8>>,
    /// Replies of requests about the identity, which are answered.
    informed: Vec<Vec<u8>>,
    /// Replies of requests that are refused, or may be.
    refusable: Vec<Vec<u8>>,
}

impl Plan {
    pub(crate) fn new(rules: &Rules, script: &Script, version: Version) -> Self {
        let model = Model::new(Ways::of(version), rules.for_server());
        let specified = Specified::new(rules, &model);
        let mut planner = Planner {
            rules,
            model,
            specified,
            version,
            filters: false,
            listened: Vec::new(),
            verbose: script.options.verbose.unwrap_or(true),
            pedantic: script.options.pedantic.unwrap_or(true),
            counted: Vec::new(),
            published: false,
            asked: Vec::new(),
            named: Vec::new(),
            wanted: Vec::new(),
            informed: Vec::new(),
            refusable: Vec::new(),
        };
        let parts = script.steps.iter().map(|step| {
            let by_client = matches!(step, Step::Client(..));
            planner.published = false;
            planner.asked.clear();
            let ops = step.ops();
            let parts = ops.iter().enumerate().map(|(index, op)| {
                let again = matches!(op, Op::Again { same: true, .. });
                if again && rules.inbox == Inbox::Private && !regains_inboxes(&ops[index..]) {
                    return Part::Neither;
                }
                planner.part(op, by_client)
            });
            parts.collect()
        });
        let mut plan = Self {
            parts: parts.collect(),
        };
        let mut answered = planner.informed;
        if script.asks_for_no_responders() {
            answered.extend(planner.refusable);
        }
        plan.count_no_own_answers(script, &answered);
        plan
    }

    /// An answer that natsentry gives by itself counts for UNSUB max: no such number where one may come.
    fn count_no_own_answers(&mut self, script: &Script, answered: &[Vec<u8>]) {
        let steps = script
            .steps
            .iter()
            .filter(|step| matches!(step, Step::Client(..)));
        let ops = steps.flat_map(Step::ops);
        let waits: Vec<&String> = ops
            .filter_map(|op| match op {
                Op::Subscribe { subject, sid, .. }
                    if answered.iter().any(|reply| matches(subject, reply)) =>
                {
                    Some(sid)
                }
                _ => None,
            })
            .collect();
        for (step, parts) in script.steps.iter().zip(&mut self.parts) {
            for (op, part) in step.ops().iter().zip(parts) {
                if matches!(op, Op::Unsubscribe { sid, max: Some(_) } if waits.contains(&sid)) {
                    *part = Part::Neither;
                }
            }
        }
    }
}

impl Planner<'_> {
    fn part(&mut self, op: &Op, by_client: bool) -> Part {
        match op {
            Op::Publish {
                subject,
                reply,
                header,
                ..
            } => self.any_publish(subject, reply.as_deref(), header.as_deref(), by_client),
            Op::Unsubscribe { sid, max: Some(_) }
                if by_client && self.published && self.is_counted_here(sid) =>
            {
                Difference::LimitUnderWay.seen();
                Part::Neither
            }
            Op::Unsubscribe { sid, max } if by_client => {
                self.counted.retain(|counted| counted != sid);
                self.counted.extend(max.is_some().then(|| sid.clone()));
                Part::Both
            }
            Op::Subscribe { sid, .. }
                if by_client && self.published && self.counted.contains(sid) =>
            {
                Difference::SidUnderWay.seen();
                Part::Neither
            }
            Op::Subscribe {
                subject,
                queue,
                sid,
                ..
            } if by_client => self.subscribe(subject, queue.as_ref().map(String::as_bytes), sid),
            Op::Again {
                same: true,
                options,
            } => {
                self.verbose = options.verbose.unwrap_or(self.verbose);
                self.pedantic = options.pedantic.unwrap_or(self.pedantic);
                Part::Both
            }
            Op::Again { same: false, .. } => marked(
                Difference::OtherIdentity,
                vec![b"-ERR 'Authorization Violation'".to_vec()],
                true,
            ),
            Op::Fatal { lone_cr: true, .. } => marked(
                Difference::LoneCarriageReturn,
                vec![b"-ERR 'Unknown Protocol Operation'".to_vec()],
                true,
            ),
            _ => Part::Both,
        }
    }

    fn any_publish(
        &mut self,
        subject: &[u8],
        reply: Option<&[u8]>,
        header: Option<&[u8]>,
        by_client: bool,
    ) -> Part {
        let leaks = self.ways().queue_deny_overrides
            && !self.filters
            && !self.model.delivers(subject)
            && self
                .listened
                .iter()
                .any(|(_, pattern)| matches(pattern, subject));
        if leaks {
            Difference::LeakBefore2_11_16.seen();
            return Part::Neither;
        }
        if !by_client {
            self.wanted.extend(reply.map(<[u8]>::to_vec));
            return Part::Both;
        }
        self.published = true;
        if self.rules.respond.is_some() && self.has_asked(subject) {
            Difference::AnswerBeforeRequest.seen();
            return Part::Neither;
        }
        if self.answers_a_repeated_reply(subject) {
            Difference::RepeatedReply.seen();
            return Part::Neither;
        }
        // A 503 of these servers does not say which of two requests it is for.
        let nameless = !self.ways().guards_nrg;
        if nameless && reply.is_some_and(|reply| self.has_asked(reply)) {
            return Part::Neither;
        }
        self.asked.extend(reply.map(<[u8]>::to_vec));
        self.named.extend(reply.map(<[u8]>::to_vec));
        let part = self.publish(subject, reply, header);
        let passed = self.model.publish(subject, reply, START) == Fate::Passed;
        if part != Part::Both || !passed || header.is_some() {
            self.refusable.extend(reply.map(<[u8]>::to_vec));
        }
        part
    }

    /// An answer that is counted, to a reply that may have been delivered to the client more than once. Only the client names
    /// a reply again.
    fn answers_a_repeated_reply(&self, subject: &[u8]) -> bool {
        let counted = self.rules.respond.is_some_and(|respond| respond.max > 0);
        let times = self.named.iter().filter(|named| *named == subject).count();
        self.ways().repeated_reply_uses_up && counted && times > 1 && !self.model.allows(subject)
    }

    fn ways(&self) -> Ways {
        Ways::of(self.version)
    }

    /// The client has named this reply in this step.
    fn has_asked(&self, reply: &[u8]) -> bool {
        self.asked.iter().any(|asked| asked == reply)
    }

    /// Whether natsentry may keep the count of a subscription on this sid: it overlaps a deny entry.
    fn is_counted_here(&self, sid: &str) -> bool {
        let mut held = self.listened.iter().filter(|(of, _)| of == sid);
        let overlaps = |subject: &[u8]| {
            let mut denied = self.rules.named().deny_subscribe.into_iter();
            denied.any(|(deny, group)| group.is_none() && collide(deny.as_bytes(), subject))
        };
        held.any(|(_, subject)| overlaps(subject))
    }

    fn subscribe(&mut self, subject: &[u8], queue: Option<&[u8]>, sid: &str) -> Part {
        let server = self.model.subscribe(subject, queue);
        let decided = self.specified.subscribe(server, subject, queue);
        let Some(because) = decided.because else {
            self.filters |= server && self.model.arms_old_filter(subject);
            self.listened.push((sid.to_owned(), subject.to_vec()));
            return Part::Both;
        };
        let group = queue
            .map(|queue| format!(" using queue {}", quoted(queue)))
            .unwrap_or_default();
        let text = format!(
            "-ERR 'Permissions Violation for Subscription to {}{group}'",
            quoted(subject)
        );
        marked(because, vec![text.into_bytes()], false)
    }

    fn publish(&mut self, subject: &[u8], reply: Option<&[u8]>, header: Option<&[u8]>) -> Part {
        if let (b"$SYS.REQ.USER.INFO", Some(reply)) = (subject, reply) {
            self.informed.push(reply.to_vec());
            let mut answer = self.pedantic_word(subject);
            answer.extend(self.verbose.then(|| b"+OK".to_vec()));
            return marked(Difference::UserInfo, answer, false);
        }
        let server = self.model.publish(subject, reply, START);
        let allowed = self.model.allows(subject);
        let decided = self
            .specified
            .publish(&self.model, server, subject, reply, START);
        // Where an answer to a request may be under way, only the server knows what it would have said.
        let mut replies = self.named.iter().chain(&self.wanted);
        if !allowed && self.rules.respond.is_some() && replies.any(|named| named == subject) {
            return if reply.is_some() || header.is_some() {
                Part::Neither
            } else {
                Part::Both
            };
        }
        if let Some(because) = decided.because {
            let text = match (decided.verdict, reply) {
                (Fate::ReplyRefused, Some(reply)) => {
                    format!(
                        "-ERR 'Permissions Violation for Publish with Reply of {}'",
                        quoted(reply)
                    )
                }
                _ => format!(
                    "-ERR 'Permissions Violation for Publish to {}'",
                    quoted(subject)
                ),
            };
            let mut answer = self.pedantic_word(subject);
            answer.push(text.into_bytes());
            return marked(because, answer, false);
        }
        match header {
            Some(header) => self.headers(subject, server, header),
            None => Part::Both,
        }
    }

    /// Headers that name a subject. Servers from 2.11 look at the first, and then say what they did with the message.
    fn headers(&self, subject: &[u8], server: Fate, header: &[u8]) -> Part {
        let text = String::from_utf8_lossy(header);
        let named = text
            .lines()
            .find_map(|line| line.strip_prefix("Nats-")?.split_once(": "));
        let Some((name, dest)) = named else {
            return Part::Both;
        };
        let dest = dest.as_bytes();
        let traces = name == "Trace-Dest" && self.version >= Version::V2_12_8;
        let granted = if name == "Schedule-Source" {
            let plain = self
                .specified
                .subscribe(self.model.subscribe(dest, None), dest, None);
            let lists = self.rules.named();
            let mut denied = lists
                .deny_subscribe
                .iter()
                .filter(|(_, group)| group.is_none());
            plain.verdict && !denied.any(|(deny, _)| collide(deny.as_bytes(), dest))
        } else {
            self.specified.grants(&self.model, dest).is_ok()
        };
        match (granted, traces) {
            // What is traced differs from server to server; and which of two refusals comes first.
            (true, true) => Part::Neither,
            (_, true) if server != Fate::Passed => Part::Neither,
            (false, true) if !self.model.allows(dest) => Part::Both,
            (false, _) if server == Fate::Passed => {
                let text = format!(
                    "-ERR 'Permissions Violation for Publish to {}'",
                    quoted(dest)
                );
                let mut answer = self.pedantic_word(subject);
                answer.push(text.into_bytes());
                marked(Difference::HeaderSubject, answer, false)
            }
            _ => Part::Both,
        }
    }

    /// What a pedantic session says first of such a subject.
    fn pedantic_word(&self, subject: &[u8]) -> Vec<Vec<u8>> {
        let sound =
            !super::subjects::has_empty_token(subject) && !super::subjects::has_wildcard(subject);
        let said = self.pedantic && !sound;
        said.then(|| b"-ERR 'Invalid Publish Subject'".to_vec())
            .into_iter()
            .collect()
    }
}

/// Whether a session of `inbox: private` makes inboxes its own again, of which it may have none after a second CONNECT.
fn regains_inboxes(ops: &[Op]) -> bool {
    OWN_INBOXES.iter().all(|token| {
        let inbox = format!("_INBOX.{token}.>").into_bytes();
        let listens = |op: &Op| matches!(op, Op::Subscribe { subject, .. } if *subject == inbox);
        ops.iter().any(listens)
    })
}

const fn marked(because: Difference, answer: Vec<Vec<u8>>, closes: bool) -> Part {
    Part::Marked {
        because,
        answer,
        closes,
    }
}
