//! Writes scripts by chance: mostly about what the permissions speak of, often on a few subjects and sids only, so that
//! things meet.

use super::random::Random;
use super::rules::{Inbox, OID, OWN_INBOXES, Rules, filled};
use super::script::{CANONICAL, Op, Options, Script, Step, Style};
use super::subjects::{GROUPS, literal, literal_of, subject};

/// A script for somebody with these permissions.
pub(crate) fn script(random: &mut Random, rules: &Rules) -> Script {
    let options = Options::random(random);
    let mut author = Author::new(random, rules, options.clone());
    let mut steps = Vec::new();
    if rules.inbox == Inbox::Private {
        steps.push(Step::Client(own_inboxes(), false));
    }
    for _ in 0..author.random.between(3, 8) {
        let step = if author.random.once_in(3) {
            let count = author.random.between(1, 4);
            Step::Peer((0..count).map(|_| author.of_peer()).collect())
        } else {
            let count = *author.random.pick(&[1, 1, 2, 4, 7]);
            let ops = (0..count).flat_map(|_| author.of_client_in_full());
            Step::Client(ops.collect(), author.random.once_in(8))
        };
        steps.push(step);
    }
    if author.random.once_in(12) {
        // What was said before it is answered before it.
        let count = author.random.below(4);
        let mut ops: Vec<Op> = (0..count)
            .flat_map(|_| author.of_client_in_full())
            .collect();
        ops.push(author.last());
        steps.push(Step::Client(ops, false));
    }
    Script { options, steps }
}

/// The subscriptions with which a session of `inbox: private` makes inboxes its own.
fn own_inboxes() -> Vec<Op> {
    let each = OWN_INBOXES
        .iter()
        .enumerate()
        .map(|(index, token)| Op::Subscribe {
            subject: format!("_INBOX.{token}.>").into_bytes(),
            queue: None,
            sid: format!("{}", 900 + index),
            style: CANONICAL,
        });
    each.collect()
}

struct Author<'a> {
    random: &'a mut Random,
    rules: &'a Rules,
    options: Options,
    number: usize,
    /// Names of queue groups nobody has joined in this script: of two members a server picks one as it likes.
    groups: Vec<&'static str>,
    /// Replies of requests that the third party sent.
    replies: Vec<Vec<u8>>,
    /// Where all happens, if the script keeps to a few subjects.
    pool: Vec<Vec<u8>>,
    /// Subscriptions that may still be made. One where a server of today would count an answer twice.
    subscriptions: usize,
}

impl<'a> Author<'a> {
    fn new(random: &'a mut Random, rules: &'a Rules, options: Options) -> Self {
        let mut groups: Vec<&str> = GROUPS.to_vec();
        let first = random.below(groups.len());
        groups.rotate_left(first);
        let counted = rules.respond.is_some_and(|respond| respond.max > 0);
        let mut pool = Vec::new();
        if random.once_in(2) {
            let entries = rules
                .subscribe
                .iter()
                .chain(&rules.deny_subscribe)
                .map(|(subject, _)| subject);
            pool = entries
                .map(|entry| literal_of(random, filled(entry).as_bytes()))
                .collect();
            pool.push(b"_INBOX.abc.1".to_vec());
        }
        Self {
            pool,
            random,
            rules,
            options,
            number: 0,
            groups,
            replies: Vec::new(),
            subscriptions: if counted { 1 } else { 100 },
        }
    }

    fn of_client(&mut self) -> Op {
        match self.random.below(20) {
            0..=9 => self.publish(true),
            10..=14 if self.subscriptions > 0 => {
                self.subscriptions -= 1;
                self.subscribe()
            }
            10..=16 => Op::Unsubscribe {
                sid: self.sid(),
                max: self.random.once_in(2).then(|| {
                    (*self.random.pick(&[
                        "0",
                        "1",
                        "1",
                        "2",
                        "2",
                        "3",
                        "5",
                        "003",
                        "x",
                        "-1",
                        "9999999999",
                    ]))
                    .to_owned()
                }),
            },
            17 => Op::Ping(self.random.pick::<&str>(&[
                "PING\r\n",
                "ping\n",
                "PING and more\r\n",
                "Ping \r\n",
            ])),
            18 => Op::Noise(self.random.pick::<&str>(&[
                "PONG\r\n",
                "pong\r\n",
                "+OK\r\n",
                "+ok x\r\n",
                "INFO {}\r\n",
            ])),
            _ if self.random.once_in(3) => Op::Again {
                same: true,
                options: self.again(),
            },
            _ => self.publish(true),
        }
    }

    /// An operation, and what belongs to it: a second CONNECT may take the inboxes of `inbox: private` away.
    fn of_client_in_full(&mut self) -> Vec<Op> {
        let op = self.of_client();
        let private = self.rules.inbox == Inbox::Private;
        if private && matches!(op, Op::Again { .. }) {
            return std::iter::once(op).chain(own_inboxes()).collect();
        }
        vec![op]
    }

    /// A second CONNECT, which leaves some things as they were.
    fn again(&mut self) -> Options {
        let options = Options::random(self.random);
        self.options = options.over(&self.options);
        options
    }

    fn of_peer(&mut self) -> Op {
        match self.random.below(12) {
            0 => {
                let queue = self.random.once_in(3).then(|| self.groups.pop()).flatten();
                Op::Subscribe {
                    subject: match self.random.below(3) {
                        0 => b">".to_vec(),
                        1 => super::subjects::pattern(self.random).into_bytes(),
                        _ => literal(self.random),
                    },
                    queue: queue.map(str::to_owned),
                    sid: format!("7{}", self.random.below(4)),
                    style: CANONICAL,
                }
            }
            1 => Op::Unsubscribe {
                sid: format!("7{}", self.random.below(4)),
                max: None,
            },
            _ => self.publish(false),
        }
    }

    fn sid(&mut self) -> String {
        if !self.pool.is_empty() && !self.random.once_in(4) {
            return "1".to_owned();
        }
        (*self.random.pick(&["1", "2", "3", "4", "x-Y.z!"])).to_owned()
    }

    /// Subjects that grants and deny entries speak of are as likely as any.
    fn aimed(&mut self) -> Vec<u8> {
        if !self.pool.is_empty() && !self.random.once_in(6) {
            return self.random.pick(&self.pool).clone();
        }
        let subscribe = self
            .rules
            .subscribe
            .iter()
            .chain(&self.rules.deny_subscribe);
        let publish = self.rules.publish.iter().chain(&self.rules.deny_publish);
        let all: Vec<&String> = subscribe
            .map(|(subject, _)| subject)
            .chain(publish)
            .collect();
        if all.is_empty() || self.random.once_in(2) {
            return subject(self.random);
        }
        let entry = filled(self.random.pick::<&String>(&all));
        if self.random.once_in(4) {
            entry.into_bytes()
        } else {
            literal_of(self.random, entry.as_bytes())
        }
    }

    fn subscribe(&mut self) -> Op {
        let queue = self.random.once_in(3).then(|| self.groups.pop()).flatten();
        let queue = if self.random.once_in(40) {
            Some("_sys_")
        } else {
            queue
        };
        let subject = match self.random.below(10) {
            0 => b"_INBOX.abc.1".to_vec(),
            1 => b"_INBOX.>".to_vec(),
            2..=5 if !self.rules.subscribe.is_empty() => {
                filled(&self.random.pick(&self.rules.subscribe).0).into_bytes()
            }
            _ => self.aimed(),
        };
        Op::Subscribe {
            subject,
            queue: queue.map(str::to_owned),
            sid: self.sid(),
            style: Style::random(self.random),
        }
    }

    fn publish(&mut self, by_client: bool) -> Op {
        self.number += 1;
        let reply = self.random.once_in(3).then(|| self.reply(by_client));
        let subject = match self.replies.last() {
            Some(reply) if by_client && self.random.once_in(4) => reply.clone(),
            _ if by_client && self.random.once_in(30) => self.inner(),
            _ if by_client => self.aimed(),
            _ => {
                let any = self.aimed();
                if super::subjects::has_wildcard(&any) {
                    literal(self.random)
                } else {
                    any
                }
            }
        };
        if let (false, Some(reply)) = (by_client, &reply) {
            self.replies.push(reply.clone());
        }
        let mut body = match self.random.below(8) {
            0 => Vec::new(),
            1 => b"\r\nPUB a 0\r\n\r\n".to_vec(),
            _ => format!("message {}", self.number).into_bytes(),
        };
        if self.random.once_in(400) {
            body.resize(70_000, b'x');
        }
        let header = (self.options.headers || !by_client)
            .then(|| self.random.once_in(4).then(|| self.header(by_client)))
            .flatten();
        Op::Publish {
            subject,
            reply,
            header,
            body,
            style: Style::random(self.random),
        }
    }

    fn inner(&mut self) -> Vec<u8> {
        self.random
            .pick(&[
                &b"_GR_.x.y"[..],
                b"$GR.abc.x",
                b"$NRG.x",
                b"$MQTT.sub.x",
                b"$LDS.x",
                b"$SYS.REQ.USER.INFO",
            ])
            .to_vec()
    }

    /// Replies of requests differ from one another, so that an answer belongs to one of them.
    fn reply(&mut self, by_client: bool) -> Vec<u8> {
        let number = self.number;
        if by_client && !self.pool.is_empty() && !self.random.once_in(3) {
            return b"_INBOX.abc.1".to_vec();
        }
        if !by_client {
            return match self.random.below(4) {
                0 => format!("reply.{number}"),
                1 => format!("a.r{number}"),
                _ => format!("_PEER.{number}"),
            }
            .into_bytes();
        }
        match self.random.below(12) {
            0 => b"_R_.x".to_vec(),
            1 => b"$JS.ACK.S.C.1.1.1.1.0".to_vec(),
            2 => self
                .random
                .pick(&[&b"$JS.ACK"[..], b"_R_", b"_GR_.x.y", b"$GR.abc.x"])
                .to_vec(),
            3 => b"foo.*".to_vec(),
            4 => b"a..b".to_vec(),
            5 => format!("_INBOX.{}.{number}", OWN_INBOXES[0]).into_bytes(),
            6 => format!("_INBOX_{OID}.{number}").into_bytes(),
            7 | 8 => b"_INBOX.abc.1".to_vec(),
            _ => literal(self.random),
        }
    }

    fn header(&mut self, by_client: bool) -> Vec<u8> {
        if !by_client {
            return b"NATS/1.0\r\nX: y\r\n\r\n".to_vec();
        }
        match self.random.below(8) {
            0 => Vec::new(),
            1 => b"not a header".to_vec(),
            2 => b"NATS/1.0 503\r\n\r\n".to_vec(),
            3..=5 => {
                let name = *self.random.pick(&[
                    "Nats-Trace-Dest",
                    "Nats-Schedule-Target",
                    "Nats-Schedule-Source",
                ]);
                let named = String::from_utf8(literal(self.random)).expect("letters");
                format!("NATS/1.0\r\n{name}: {named}\r\n\r\n").into_bytes()
            }
            _ => b"NATS/1.0\r\nX: y\r\nA:b\r\n\r\n".to_vec(),
        }
    }

    /// Something after which there is nothing more to say.
    fn last(&mut self) -> Op {
        let long = [b"PUB ", &vec![b'a'; 5000][..], b" 0\r\n\r\n"].concat();
        let all: [&[u8]; 26] = [
            b"PUB a 5\r\nhello world\r\n",
            b"PUB a 5\r\nhello\n",
            b"FOO\r\n",
            b"\r\n",
            b" PING\r\n",
            b"PUB a\r\n",
            b"PUB a b c 1\r\n",
            b"SUB a\r\n",
            b"SUB a b c d\r\n",
            b"UNSUB\r\n",
            b"UNSUB 1 2 3\r\n",
            b"PUB a 99999999999\r\n",
            b"PUB a -1\r\n",
            b"PUB a 0x5\r\n",
            b"PUB a 2000000\r\n",
            b"HPUB a 9 5\r\n",
            b"HPUB a 5\r\n",
            b"-ERR 'x'\r\n",
            b"INFO {bad\r\n",
            b"MSG a 1 0\r\n\r\n",
            b"CONNECT {bad\r\n",
            b"CONNECT {\"protocol\":7}\r\n",
            &long,
            b"CONNECT {\"no_responders\":true,\"headers\":false}\r\n",
            b"PUB a\r 55\n",
            b"SUB fo\ro.bar 1\r\n",
        ];
        let pick = self.random.below(all.len() + 1);
        match all.get(pick) {
            None => Op::Again {
                same: false,
                options: self.again(),
            },
            Some(bytes) => Op::Fatal {
                bytes: bytes.to_vec(),
                lone_cr: pick >= all.len() - 2,
            },
        }
    }
}
