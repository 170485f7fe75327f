//! The model against real nats-servers: the same questions to both, and no difference at all.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use natsentry::demo::servers::Version;
use serde_json::json;

use super::model::{Fate, Model, Ways, is_subset};
use super::random::Random;
use super::rules::{Rules, START};
use super::subjects::{has_wildcard, pattern, show};
use super::support;
use super::verdicts::Question;

/// Users of one server's configuration, each with permissions of its own.
const USERS: usize = 250;

/// Operations in flight, so that neither side's socket buffer fills up.
const BATCH: usize = 100;

/// Asks at least `wanted` verdicts of a real server, or as many as fit in the time. How many it were.
pub(crate) fn run(seed: u64, version: Version, wanted: u64, time: Duration) -> u64 {
    let started = Instant::now();
    let (mut verdicts, mut batch) = (0, 0_u64);
    while verdicts < wanted && started.elapsed() < time {
        let mut random = Random::for_case(seed, ("confirm", version.as_str(), batch));
        let users: Vec<Rules> = (0..USERS).map(|_| Rules::random(&mut random)).collect();
        let server = support::servers::start(version, &config(&users));
        let port = server.address().port();
        let mut admin = Client::log_in(port, "admin");
        let each = (wanted - verdicts).div_ceil(USERS as u64).clamp(1, 2000);
        for (index, rules) in users.iter().enumerate() {
            if started.elapsed() > time {
                break;
            }
            let mut user = User::new(port, index, rules, version);
            let mut asked = 0;
            while asked < each {
                asked += user.ask(&mut admin, &mut random, seed);
            }
            asked += user.deliveries(&mut admin, &mut random, seed);
            verdicts += asked;
        }
        batch += 1;
    }
    verdicts
}

/// A connection and the model of it.
struct User<'a> {
    client: Client,
    model: Model,
    rules: &'a Rules,
    version: Version,
    /// A subject on which requests can be delivered to it.
    hears: Option<Vec<u8>>,
    /// Whether this server looks at deny entries when it delivers.
    filters: bool,
}

impl<'a> User<'a> {
    fn new(port: u16, index: usize, rules: &'a Rules, version: Version) -> Self {
        let mut client = Client::log_in(port, &format!("u{index}"));
        let model = Model::new(Ways::of(version), rules.for_server());
        let candidates = [
            "a", "b", "a.b", "b.c", "c.a", "a.b.c", "c.c.c", "b.a.c", "a.a.a.a", "_INBOX.x",
        ];
        let mut candidates = candidates.iter().map(|subject| subject.as_bytes());
        let hears =
            candidates.find(|subject| model.subscribe(subject, None) && model.delivers(subject));
        if let Some(subject) = hears {
            client.send(&[b"SUB ", subject, b" 1\r\n"].concat());
            assert_eq!(
                client.line(),
                "+OK",
                "{version}: SUB {} under {rules:?}",
                show(subject)
            );
        }
        Self {
            client,
            model,
            rules,
            version,
            hears: hears.map(<[u8]>::to_vec),
            filters: false,
        }
    }

    /// Asks a batch of questions of both. How many verdicts there were.
    fn ask(&mut self, admin: &mut Client, random: &mut Random, seed: u64) -> u64 {
        let mut questions = Vec::new();
        let mut verdicts = 0;
        for _ in 0..BATCH {
            match Question::random(random) {
                Question::Wait(_) | Question::Deliver(_) => {}
                Question::Request(reply) => {
                    verdicts += self.flush(&mut questions, seed);
                    if let Some(subject) = &self.hears {
                        admin.send(&[b"PUB ", &subject[..], b" ", &reply, b" 0\r\n\r\n"].concat());
                        // Reserved replies are refused to the admin, too.
                        let sent = admin
                            .round_trip()
                            .iter()
                            .all(|line| !line.starts_with("-ERR"));
                        self.client.round_trip();
                        if sent {
                            self.model.delivered(&reply, START);
                        }
                    }
                }
                question => questions.push(question),
            }
        }
        verdicts + self.flush(&mut questions, seed)
    }

    fn flush(&mut self, questions: &mut Vec<Question>, seed: u64) -> u64 {
        let count = questions.len() as u64;
        let said = self.client.verdicts(questions);
        for (question, server) in questions.drain(..).zip(said) {
            let model = match &question {
                Question::Publish(subject, reply) => {
                    self.model.publish(subject, reply.as_deref(), START)
                }
                Question::Subscribe(subject, queue) => {
                    let queue = queue.as_ref().map(String::as_bytes);
                    let granted = self.model.subscribe(subject, queue);
                    self.filters |= granted && self.model.arms_old_filter(subject);
                    if granted { Fate::Passed } else { Fate::Refused }
                }
                _ => continue,
            };
            assert_eq!(
                model,
                server,
                "nats-server {}, seed {seed}: the model is wrong about {} under {:#?}",
                self.version,
                question.show(),
                self.rules
            );
        }
        count
    }

    /// What arrives on a wildcard subscription, of every short literal that it contains.
    fn deliveries(&mut self, admin: &mut Client, random: &mut Random, seed: u64) -> u64 {
        let subject = pattern(random);
        if !has_wildcard(subject.as_bytes()) || !self.model.subscribe(subject.as_bytes(), None) {
            return 0;
        }
        self.filters |= self.model.arms_old_filter(subject.as_bytes());
        let looks = self.filters || !Ways::of(self.version).queue_deny_overrides;
        let literals: Vec<String> = every_literal()
            .into_iter()
            .filter(|literal| is_subset(literal.as_bytes(), subject.as_bytes()))
            .filter(|literal| self.hears.as_deref() != Some(literal.as_bytes()))
            .collect();
        let wanted: BTreeSet<&str> = literals
            .iter()
            .map(String::as_str)
            .filter(|literal| !looks || self.model.delivers(literal.as_bytes()))
            .collect();
        self.client.send(format!("SUB {subject} 2\r\n").as_bytes());
        self.client.round_trip();
        for literal in &literals {
            admin.send(format!("PUB {literal} 0\r\n\r\n").as_bytes());
        }
        admin.round_trip();
        self.client.send(b"UNSUB 2\r\n");
        let lines = self.client.round_trip();
        let arrived: BTreeSet<&str> = lines
            .iter()
            .filter_map(|line| line.strip_prefix("MSG ")?.split(' ').next())
            .collect();
        assert_eq!(
            arrived, wanted,
            "nats-server {}, seed {seed}: deliveries on {subject} under {:#?}",
            self.version, self.rules
        );
        literals.len() as u64
    }
}

/// A verbose connection: every operation has one answer, in order.
struct Client {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
    sid: usize,
}

impl Client {
    fn log_in(port: u16, user: &str) -> Self {
        let writer = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        writer.set_nodelay(true).expect("no delay");
        let timeout = Some(Duration::from_secs(60));
        writer.set_read_timeout(timeout).expect("a time limit");
        let reader = BufReader::new(writer.try_clone().expect("a second handle"));
        let mut client = Self {
            writer,
            reader,
            sid: 100,
        };
        client.send(
            format!("CONNECT {{\"verbose\":true,\"pedantic\":false,\"echo\":false,\"user\":\"{user}\",\"pass\":\"p\"}}\r\n")
                .as_bytes(),
        );
        assert_eq!(client.line(), "+OK");
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).expect("sent");
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        loop {
            line.clear();
            self.reader.read_until(b'\n', &mut line).expect("a line");
            assert!(!line.is_empty(), "the server closed the connection");
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if text != "PING" && !text.starts_with("INFO ") {
                return text;
            }
        }
    }

    /// Lines that arrive until a PING is answered.
    fn round_trip(&mut self) -> Vec<String> {
        self.send(b"PING\r\n");
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            if line == "PONG" {
                return lines;
            }
            lines.push(line);
        }
    }

    /// What the server says to each question. `Invalid Subject` comes after the permission check, so it counts as yes.
    fn verdicts(&mut self, questions: &[Question]) -> Vec<Fate> {
        let mut text = Vec::new();
        for question in questions {
            match question {
                Question::Publish(subject, reply) => {
                    text.extend_from_slice(&[b"PUB ", &subject[..], b" "].concat());
                    text.extend_from_slice(reply.as_deref().unwrap_or_default());
                    text.extend_from_slice(b" 0\r\n\r\n");
                }
                Question::Subscribe(subject, queue) => {
                    self.sid += 1;
                    text.extend_from_slice(&[b"SUB ", &subject[..]].concat());
                    let queue = queue.as_deref().unwrap_or_default();
                    text.extend_from_slice(
                        format!(" {queue} {0}\r\nUNSUB {0}\r\n", self.sid).as_bytes(),
                    );
                }
                _ => {}
            }
        }
        self.send(&text);
        let verdicts = questions.iter().map(|question| {
            let fate = match self.line().as_str() {
                "+OK" | "-ERR 'Invalid Subject'" => Fate::Passed,
                text if text.starts_with("-ERR 'Permissions Violation for Publish with Reply") => {
                    Fate::ReplyRefused
                }
                text if text.starts_with("-ERR 'Permissions Violation") => Fate::Refused,
                other => panic!("{}: {other}", question.show()),
            };
            if let Question::Subscribe(..) = question {
                assert_eq!(self.line(), "+OK");
            }
            fate
        });
        verdicts.collect()
    }
}

/// One user for each set of rules, and one that may do everything. JSON is a server's configuration, too.
fn config(users: &[Rules]) -> String {
    let mut all = vec![json!({ "user": "admin", "password": "p" })];
    for (index, rules) in users.iter().enumerate() {
        let permissions = rules.for_server().permissions();
        all.push(
            json!({ "user": format!("u{index}"), "password": "p", "permissions": permissions }),
        );
    }
    json!({ "authorization": { "users": all } }).to_string()
}

/// All subjects of up to four of the tokens that patterns use.
fn every_literal() -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut longest = vec![String::new()];
    for _ in 0..4 {
        longest = longest
            .iter()
            .flat_map(|head| {
                ["a", "b", "c"].map(|token| match head.as_str() {
                    "" => token.to_owned(),
                    head => format!("{head}.{token}"),
                })
            })
            .collect();
        all.extend_from_slice(&longest);
    }
    all
}
