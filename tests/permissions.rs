//! Verdicts against those of real nats-servers: random permissions, random operations, no difference but the deliberate
//! ones, each of which is worked out here from the entries themselves, token by token and without a trie.
//!
//! `NATSENTRY_VERDICTS` sets how many operations each server version is asked about, `NATSENTRY_SEED` repeats a run.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "a broken test environment has to be loud"
)]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use natsentry::demo::servers::Version;
use natsentry::identity::{Groups, Identity, Kind};
use natsentry::policy::{Circumstances, Document, Judge, Policy};
use natsentry::subject::is_subset;
use natsentry::time::Timestamp;
use serde_json::json;

/// Operations asked about per server version unless the environment says otherwise.
const DEFAULT_CASES: usize = 30_000;

/// Users of one server's configuration, each with permissions of its own.
const USERS: usize = 250;

/// Operations in flight, so that neither side's socket buffer fills up.
const BATCH: usize = 200;

const NOW: Timestamp = Timestamp::from_secs(1_795_451_820);

#[test]
fn publish_and_subscribe_verdicts_are_those_of_real_servers() {
    for version in Version::offered_here() {
        if version == Version::V2_10_26 {
            // Its `sublist.go:matchLevelForAny` takes the node of `c.c` in the way to an entry `c.c.b.a` for an answer
            // and forgets `c.*`: it refuses what `allow: [c.c.b.a, c.*]` grants. Neither older nor newer servers do.
            continue;
        }
        let mut random = Random::from_environment();
        let mut left = cases();
        while left > 0 {
            let users: Vec<Rules> = (0..USERS).map(|_| Rules::random(&mut random)).collect();
            let server = support::servers::start(version, &config(&users));
            let each = (left / USERS).clamp(1, 4000);
            for (index, rules) in users.iter().enumerate() {
                let mut client = Client::connect(server.address().port(), index);
                let mut judge = rules.judge();
                for _ in 0..each.div_ceil(BATCH) {
                    let size = BATCH.min(each);
                    let operations: Vec<Operation> =
                        (0..size).map(|_| Operation::random(&mut random)).collect();
                    let verdicts = client.verdicts(&operations);
                    for (operation, server_says) in operations.iter().zip(verdicts) {
                        let wanted = server_says && rules.is_kept(operation);
                        let found = operation.ask(&mut judge);
                        assert_eq!(
                            found, wanted,
                            "{version}, seed {}: {operation:?} under {rules:?}; the server says {server_says}",
                            random.seed
                        );
                    }
                }
            }
            left = left.saturating_sub(each * USERS);
        }
        eprintln!(
            "nats-server {version}: {} operations, seed {}",
            cases(),
            random.seed
        );
    }
}

/// What arrives on a subscription that overlaps a deny entry. Only the newest server reads every overlap as we do
/// (`SubjectsCollide`, since 2.11.16, 2.12.7 and 2.14.0).
#[test]
fn filtered_deliveries_are_those_of_the_newest_server() {
    let mut random = Random::from_environment();
    let users: Vec<Rules> = (0..USERS).map(|_| Rules::random(&mut random)).collect();
    let server = support::servers::start(Version::V2_15_1, &config(&users));
    let port = server.address().port();
    let literals = every_literal();
    let mut publisher = Client::admin(port);
    for (index, rules) in users.iter().enumerate() {
        let mut client = Client::connect(port, index);
        let mut judge = rules.judge();
        for _ in 0..3 {
            let subject = pattern(&mut random);
            let Ok(permit) = judge.subscribe(subject.as_bytes(), None) else {
                continue;
            };
            let filtered = permit.is_filtered();
            let wanted: BTreeSet<&str> = literals
                .iter()
                .map(String::as_str)
                .filter(|literal| is_subset(literal.as_bytes(), subject.as_bytes()))
                .filter(|literal| !filtered || judge.delivers(literal.as_bytes()))
                .collect();
            client.send(&format!("SUB {subject} 1\r\n"));
            client.round_trip();
            publisher.publish_all(&literals);
            let arrived = client.round_trip();
            let found: BTreeSet<&str> = arrived.iter().map(String::as_str).collect();
            assert_eq!(
                found, wanted,
                "seed {}: {subject} under {rules:?}",
                random.seed
            );
            client.send("UNSUB 1\r\n");
            client.round_trip();
        }
    }
}

/// `allow_responses` by number, against the server whose rule is the documented one.
#[test]
fn answers_to_requests_are_those_of_nats_server_2_9() {
    if !Version::V2_9_10.is_offered_here() {
        eprintln!("nats-server 2.9.10 is offered on Debian 12 only");
        return;
    }
    let mut random = Random::from_environment();
    for max in [1_i64, 2, 5, -1] {
        let config = format!(
            "authorization {{ users: [ {{ user: admin, password: p }}, {{ user: u0, password: p, permissions: {{
                publish: {{ allow: [\"open.>\"], deny: [\"reply.b\"] }}, subscribe: \"req.>\",
                allow_responses: {{ max: {max}, expires: \"1m\" }} }} }} ] }}"
        );
        let server = support::servers::start(Version::V2_9_10, &config);
        let port = server.address().port();
        let (mut admin, mut client) = (Client::admin(port), Client::connect(port, 0));
        let mut judge = judge(json!({
            "publish": ["open.>"], "subscribe": ["req.>"], "deny": { "publish": ["reply.b"] },
            "respond": { "max": max, "ttl": "1m" },
        }));
        client.send("SUB req.> 1\r\n");
        client.round_trip();
        for _ in 0..400 {
            let reply = ["reply.a", "reply.b", "reply.*", "open.x", "_INBOX.q.1"][random.below(5)];
            if random.below(2) == 0 {
                admin.send(&format!("PUB req.x {reply} 0\r\n\r\n"));
                admin.round_trip();
                client.round_trip();
                judge.delivered(reply.as_bytes(), NOW);
            } else {
                let operation = Operation::Publish(reply.to_owned());
                let [wanted] = client.verdicts(std::slice::from_ref(&operation))[..] else {
                    panic!("one verdict");
                };
                assert_eq!(operation.ask(&mut judge), wanted, "{reply}, max {max}");
            }
        }
    }
}

/// A subscribe entry: subject and queue group.
type Entry = (String, Option<String>);

/// Permissions of one user.
#[derive(Debug)]
struct Rules {
    publish: Vec<String>,
    deny_publish: Vec<String>,
    subscribe: Vec<Entry>,
    deny_subscribe: Vec<Entry>,
}

impl Rules {
    fn random(random: &mut Random) -> Self {
        let patterns = |random: &mut Random, least: usize, most: usize| -> Vec<String> {
            let count = least + random.below(most - least + 1);
            (0..count).map(|_| pattern(random)).collect()
        };
        let entries = |random: &mut Random, subjects: Vec<String>| -> Vec<Entry> {
            subjects
                .into_iter()
                .map(|subject| (subject, queue(random)))
                .collect()
        };
        let publish = patterns(random, 1, 4);
        let deny_publish = patterns(random, 0, 3);
        let subscribe = patterns(random, 1, 4);
        let subscribe = entries(random, subscribe);
        let deny_subscribe = patterns(random, 0, 2);
        let deny_subscribe = entries(random, deny_subscribe);
        Self {
            publish,
            deny_publish,
            subscribe,
            deny_subscribe,
        }
    }

    fn judge(&self) -> Judge {
        let entries = |entries: &[Entry]| -> Vec<serde_json::Value> {
            let written = entries.iter().map(|(subject, queue)| match queue {
                None => json!(subject),
                Some(queue) => json!({ "subject": subject, "queue": queue }),
            });
            written.collect()
        };
        judge(json!({
            "publish": self.publish,
            "subscribe": entries(&self.subscribe),
            "deny": { "publish": self.deny_publish, "subscribe": entries(&self.deny_subscribe) },
        }))
    }

    /// Whether an operation that the server permits stays permitted by the deliberate differences.
    fn is_kept(&self, operation: &Operation) -> bool {
        match operation {
            Operation::Publish(subject) => {
                let contained = || contains(&self.publish, subject);
                let touched = || self.deny_publish.iter().any(|deny| collide(deny, subject));
                !has_wildcard(subject) || (contained() && !touched())
            }
            Operation::Subscribe(subject, None) => {
                let plain = self.subscribe.iter().filter(|(_, queue)| queue.is_none());
                plain
                    .into_iter()
                    .any(|(outer, _)| contained_in(subject, outer))
            }
            Operation::Subscribe(subject, Some(queue)) => {
                let fits = |entry: &Option<String>| {
                    entry
                        .as_ref()
                        .is_some_and(|wanted| queue_fits(queue, wanted))
                };
                let narrowed = self
                    .subscribe
                    .iter()
                    .any(|(outer, group)| group.is_some() && matches_literally(outer, subject));
                let granted = self.subscribe.iter().any(|(outer, group)| {
                    contained_in(subject, outer)
                        && if narrowed {
                            fits(group)
                        } else {
                            group.is_none()
                        }
                });
                let touched = self.deny_subscribe.iter().any(|(deny, group)| {
                    collide(deny, subject) && (group.is_none() || fits(group))
                });
                granted && !touched
            }
        }
    }
}

/// A judge for a role of these words, whose refusals are nats-server's own but for the deliberate differences.
fn judge(mut role: serde_json::Value) -> Judge {
    let more = json!({
        "bind": [{ "app_role": "R" }], "upstream": "u", "inbox": "off", "broad": true,
    });
    let words = role.as_object_mut().expect("a role");
    words.extend(more.as_object().cloned().unwrap_or_default());
    let document: Document =
        serde_json::from_value(json!({ "roles": { "r": role } })).expect("a document");
    let policy = Policy::compile(&document).expect("a policy");
    let identity = Identity {
        tid: "t".into(),
        oid: "o".into(),
        issuer: "i".into(),
        sub: None,
        azp: None,
        azpacr: None,
        kind: Kind::App,
        roles: vec!["R".into()],
        groups: Groups::Known(Vec::new()),
        scopes: Vec::new(),
        acrs: Vec::new(),
        amr: Vec::new(),
        acct: None,
        auth_time: None,
        issued_at: NOW,
        expires_at: NOW,
        uti: None,
        display_name: None,
        xms_mirid: None,
        certificate_thumbprint: None,
        template_claims: std::collections::BTreeMap::new(),
    };
    let here = Circumstances {
        source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        now: NOW,
        requested_role: None,
    };
    let assignment = policy.assign(&identity, &here).expect("an assignment");
    Judge::new(assignment.permissions, Arc::default(), 1)
}

/// What a client asks for.
#[derive(Debug)]
enum Operation {
    Publish(String),
    Subscribe(String, Option<String>),
}

impl Operation {
    fn random(random: &mut Random) -> Self {
        if random.below(2) == 0 {
            Self::Publish(subject(random))
        } else {
            Self::Subscribe(subject(random), queue(random))
        }
    }

    fn ask(&self, judge: &mut Judge) -> bool {
        match self {
            Self::Publish(subject) => judge.publish(subject.as_bytes(), None, NOW).is_ok(),
            Self::Subscribe(subject, queue) => {
                let queue = queue.as_ref().map(String::as_bytes);
                judge.subscribe(subject.as_bytes(), queue).is_ok()
            }
        }
    }
}

/// A verbose connection: every operation has one answer, in order.
struct Client {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
    sid: usize,
}

impl Client {
    fn connect(port: u16, user: usize) -> Self {
        Self::log_in(port, &format!("u{user}"))
    }

    fn admin(port: u16) -> Self {
        Self::log_in(port, "admin")
    }

    fn log_in(port: u16, user: &str) -> Self {
        let writer = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        writer.set_nodelay(true).expect("no delay");
        let timeout = Some(Duration::from_secs(20));
        writer.set_read_timeout(timeout).expect("a time limit");
        let reader = BufReader::new(writer.try_clone().expect("a second handle"));
        let mut client = Self {
            writer,
            reader,
            sid: 100,
        };
        client.line();
        client.send(&format!(
            "CONNECT {{\"verbose\":true,\"pedantic\":false,\"echo\":false,\"user\":\"{user}\",\"pass\":\"p\"}}\r\n"
        ));
        assert_eq!(client.line(), "+OK");
        client
    }

    fn send(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).expect("sent");
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        loop {
            line.clear();
            self.reader.read_until(b'\n', &mut line).expect("a line");
            assert!(!line.is_empty(), "the server closed the connection");
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if text != "PING" {
                return text;
            }
        }
    }

    /// Subjects of the messages that arrive until a PING is answered.
    fn round_trip(&mut self) -> Vec<String> {
        self.send("PING\r\n");
        let mut subjects = Vec::new();
        loop {
            let line = self.line();
            if line == "PONG" {
                return subjects;
            }
            if let Some(message) = line.strip_prefix("MSG ") {
                subjects.extend(message.split(' ').next().map(str::to_owned));
            }
        }
    }

    fn publish_all(&mut self, subjects: &[String]) {
        let mut text = String::new();
        for subject in subjects {
            write!(text, "PUB {subject} 0\r\n\r\n").expect("written");
        }
        self.send(&text);
        self.round_trip();
    }

    /// What the server says to each operation. `Invalid Subject` comes after the permission check, so it counts as yes.
    fn verdicts(&mut self, operations: &[Operation]) -> Vec<bool> {
        let mut text = String::new();
        for operation in operations {
            self.sid += 1;
            match operation {
                Operation::Publish(subject) => write!(text, "PUB {subject} 0\r\n\r\n"),
                Operation::Subscribe(subject, queue) => {
                    let queue = queue.as_deref().unwrap_or_default();
                    write!(text, "SUB {subject} {queue} {0}\r\nUNSUB {0}\r\n", self.sid)
                }
            }
            .expect("written");
        }
        self.send(&text);
        let verdicts = operations.iter().map(|operation| {
            let answer = self.line();
            let yes = match answer.as_str() {
                "+OK" | "-ERR 'Invalid Subject'" => true,
                text if text.starts_with("-ERR 'Permissions Violation") => false,
                other => panic!("{operation:?}: {other}"),
            };
            if let Operation::Subscribe(..) = operation {
                assert_eq!(self.line(), "+OK");
            }
            yes
        });
        verdicts.collect()
    }
}

/// A configuration with one user for each set of rules, and one that may do everything.
fn config(users: &[Rules]) -> String {
    let list = |entries: &[String]| {
        let quoted: Vec<String> = entries.iter().map(|entry| format!("\"{entry}\"")).collect();
        format!("[{}]", quoted.join(", "))
    };
    let queued = |entries: &[Entry]| -> Vec<String> {
        let written = entries.iter().map(|(subject, queue)| match queue {
            None => subject.clone(),
            Some(queue) => format!("{subject} {queue}"),
        });
        written.collect()
    };
    let mut text = "authorization { users: [\n{ user: admin, password: p }\n".to_owned();
    for (index, rules) in users.iter().enumerate() {
        let line = format!(
            "{{ user: u{index}, password: p, permissions: {{ publish: {{ allow: {}, deny: {} }}, subscribe: {{ allow: {}, deny: {} }} }} }}\n",
            list(&rules.publish),
            list(&rules.deny_publish),
            list(&queued(&rules.subscribe)),
            list(&queued(&rules.deny_subscribe)),
        );
        text.push_str(&line);
    }
    text.push_str("] }\n");
    text
}

/// A valid pattern of up to four tokens over a small alphabet, so that patterns meet often.
fn pattern(random: &mut Random) -> String {
    let count = 1 + random.below(4);
    let mut parts: Vec<&str> = (0..count)
        .map(|_| ["a", "b", "c", "*"][random.below(4)])
        .collect();
    if random.below(3) == 0 {
        parts.pop();
        parts.push(">");
    }
    parts.join(".")
}

/// What a client may send: mostly valid, sometimes with `>` in the middle, odd tokens, or none between two dots.
fn subject(random: &mut Random) -> String {
    let count = 1 + random.below(4);
    let parts: Vec<&str> = (0..count)
        .map(|_| match random.below(40) {
            0 => "a*",
            1 => ">",
            2 => "",
            3 | 4 => "d",
            5..=9 => "*",
            n => ["a", "b", "c"][n % 3],
        })
        .collect();
    let text = parts.join(".");
    if text.is_empty() {
        "a".to_owned()
    } else {
        text
    }
}

fn queue(random: &mut Random) -> Option<String> {
    let names = ["v1", "v2", "grp.a", "grp.*", "grp.>", "grp.a.b", "*", ">"];
    let pick = random.below(2 * names.len());
    names.get(pick).map(|name| (*name).to_owned())
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

fn has_wildcard(subject: &str) -> bool {
    subject.split('.').any(|token| token == "*" || token == ">")
}

/// `pattern` matches the tokens of `subject` taken as literals.
fn matches_literally(pattern: &str, subject: &str) -> bool {
    let tokens: Vec<&str> = subject.split('.').collect();
    let wanted: Vec<&str> = pattern.split('.').collect();
    if tokens.contains(&"") {
        return false;
    }
    let rest = wanted.last() == Some(&">");
    let fixed = wanted.len() - usize::from(rest);
    let long_enough = if rest {
        tokens.len() > fixed
    } else {
        tokens.len() == fixed
    };
    long_enough
        && wanted
            .iter()
            .take(fixed)
            .zip(&tokens)
            .all(|(wanted, token)| *wanted == "*" || wanted == token)
}

/// Every subject of `inner` is one of `outer`; a `>` of `inner` that is not last counts as a literal token.
fn contained_in(inner: &str, outer: &str) -> bool {
    let tail = inner.ends_with(".>") || inner == ">";
    matches_literally(outer, inner) && (!tail || outer_takes_tail(inner, outer))
}

/// Whether the `>` at the end of `inner` meets a `>` of `outer`.
fn outer_takes_tail(inner: &str, outer: &str) -> bool {
    let count = outer.split('.').count();
    (outer.ends_with(".>") || outer == ">") && count <= inner.split('.').count()
}

fn contains(patterns: &[String], inner: &str) -> bool {
    patterns.iter().any(|outer| contained_in(inner, outer))
}

/// The two have a subject in common.
fn collide(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.').peekable(), other.split('.').peekable());
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(""), _) | (_, Some("")) | (None, _) | (_, None) => return false,
            (Some(">"), _) if one.peek().is_none() => return other.all(|token| !token.is_empty()),
            (_, Some(">")) if other.peek().is_none() => return one.all(|token| !token.is_empty()),
            (Some("*" | ">"), _) | (_, Some("*" | ">")) => {}
            (Some(a), Some(b)) if a == b => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

/// A queue group under the name in an entry: equal, or inside it as a pattern.
fn queue_fits(queue: &str, wanted: &str) -> bool {
    queue == wanted || (has_wildcard(wanted) && is_subset(queue.as_bytes(), wanted.as_bytes()))
}

fn cases() -> usize {
    let stated = std::env::var("NATSENTRY_VERDICTS").ok();
    stated.map_or(DEFAULT_CASES, |text| text.parse().expect("a number"))
}

/// SplitMix64: small, and the same everywhere for the same seed.
struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    fn from_environment() -> Self {
        let seed = std::env::var("NATSENTRY_SEED").ok();
        let seed = seed.map_or(20_261_123, |text| text.parse().expect("a number"));
        Self { seed, state: seed }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        let z = z ^ z >> 31;
        usize::try_from(z % bound as u64).expect("small")
    }
}
