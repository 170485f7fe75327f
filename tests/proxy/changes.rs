//! A change of rights while messages pass at full speed: not one passes after it, in either direction.
//!
//! "After" is meant as a client can tell. A reload: whoever has seen the audit line `policy_reloaded` and sends a message
//! then, or has it sent by somebody behind the server, sees it refused or kept back. The calendar: what was sent when the
//! clock of the machine had reached the end of `valid`. And in the order of one session's own stream: behind the first
//! refusal there is no success, and behind the error that takes a subscription away no message.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use natsentry::clock;
use natsentry::demo::idp::DevIdp;
use natsentry::demo::servers::Version;
use natsentry::time::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::binary::Binary;
use crate::support::cli;
use crate::support::proxy;
use crate::support::servers;
use crate::support::until::until;
use crate::support::wire::{PATIENCE, connect_line};

/// Messages before a change, and after it.
const ENOUGH: u64 = 2_000;

/// Messages that may be on their way: enough to keep everybody busy, and few enough that one sent after a change is not
/// judged much later.
const AHEAD_MAX: u64 = 1_000;

/// Messages in one write.
const BATCH: u64 = 50;

fn config(idp: &DevIdp, server: SocketAddr, roles: &Value) -> Value {
    let directory = idp.directory();
    json!({
        "version": 1,
        "listen": { "client": "127.0.0.1:0" },
        "entra": {
            "cloud": { "authority": idp.base() }, "tenants": [directory.tid], "audiences": [directory.api],
        },
        "upstreams": { "plant": { "servers": [format!("nats://{server}")], "auth": "none" } },
        "roles": roles,
        "audit": { "file": "audit.jsonl" },
    })
}

/// A role of alice with these words.
fn role(words: Value) -> Value {
    let mut role =
        json!({ "bind": [{ "app_role": "Nats.Operator" }], "upstream": "plant", "inbox": "off" });
    let role_words = role.as_object_mut().expect("an object");
    role_words.extend(words.as_object().cloned().unwrap_or_default());
    role
}

/// Puts new roles in force, and returns when the audit says that they are.
async fn reload(natsentry: &Binary, config: &Value) {
    let before = reloads(natsentry);
    let file = natsentry.dir().join("natsentry.yaml");
    std::fs::write(file, config.to_string()).expect("a new policy");
    let status = std::process::Command::new("kill")
        .args(["-HUP", &natsentry.pid().to_string()])
        .status();
    assert!(status.expect("kill").success());
    until("policy_reloaded", 6 * PATIENCE, || {
        reloads(natsentry) > before
    })
    .await;
}

/// Reloads that the audit knows of.
fn reloads(natsentry: &Binary) -> usize {
    let text = std::fs::read_to_string(natsentry.dir().join("audit.jsonl")).unwrap_or_default();
    text.matches("\"policy_reloaded\"").count()
}

/// One line that a client received, or a message by its sid and number.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Message(String, u64),
    Line(String),
}

/// A connection of which everything is read until a PONG that [`Client::finish`] asks for.
struct Client {
    write: OwnedWriteHalf,
    reader: JoinHandle<Vec<Heard>>,
    /// Everything heard so far, lines as well.
    messages: Arc<AtomicU64>,
    finishing: Arc<AtomicBool>,
}

impl Client {
    async fn connect(address: SocketAddr, hello: &str) -> Self {
        let tcp = TcpStream::connect(address).await.expect("a connection");
        let (read, mut write) = tcp.into_split();
        write.write_all(hello.as_bytes()).await.expect("sent");
        write.write_all(b"PING\r\n").await.expect("sent");
        let mut read = BufReader::new(read);
        while line(&mut read).await.as_deref() != Some("PONG") {}
        let (messages, finishing) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let reader = tokio::spawn(listen(read, Arc::clone(&messages), Arc::clone(&finishing)));
        Self {
            write,
            reader,
            messages,
            finishing,
        }
    }

    /// Everything that was heard, when the other side has answered all so far.
    async fn finish(mut self) -> Vec<Heard> {
        self.finishing.store(true, Ordering::Release);
        let _ = self.write.write_all(b"PING\r\n").await;
        let heard = timeout(6 * PATIENCE, self.reader)
            .await
            .expect("an answer in time");
        heard.expect("no panic")
    }
}

async fn line(read: &mut BufReader<OwnedReadHalf>) -> Option<String> {
    let mut line = Vec::new();
    let count = read.read_until(b'\n', &mut line).await.unwrap_or(0);
    (count > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned())
}

async fn listen(
    mut read: BufReader<OwnedReadHalf>,
    messages: Arc<AtomicU64>,
    finishing: Arc<AtomicBool>,
) -> Vec<Heard> {
    let mut all = Vec::new();
    while let Some(line) = line(&mut read).await {
        if line.starts_with("INFO ") || line == "PING" {
            continue;
        }
        if line == "PONG" && finishing.load(Ordering::Acquire) {
            break;
        }
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] != "MSG" {
            all.push(Heard::Line(line));
            messages.fetch_add(1, Ordering::AcqRel);
            continue;
        }
        let size: usize = words
            .last()
            .and_then(|size| size.parse().ok())
            .expect("a size");
        let mut body = vec![0; size + 2];
        read.read_exact(&mut body).await.expect("a payload");
        let number = std::str::from_utf8(&body[..size])
            .ok()
            .and_then(|text| text.parse().ok());
        all.push(Heard::Message(
            words[2].to_owned(),
            number.expect("a number"),
        ));
        messages.fetch_add(1, Ordering::AcqRel);
    }
    all
}

/// Publishes numbers as fast as it can until it is stopped. Each batch is noted before its first byte is written.
struct Flood {
    task: JoinHandle<(OwnedWriteHalf, Vec<(u64, Timestamp)>)>,
    /// The last number of which the writing has begun.
    begun: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Flood {
    /// Publishes on each of `subjects`, not more than [`AHEAD_MAX`] messages ahead of `heard` for each.
    fn start(
        mut write: OwnedWriteHalf,
        subjects: &'static [&'static str],
        heard: Arc<AtomicU64>,
    ) -> Self {
        let (begun, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counter, stopped) = (Arc::clone(&begun), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut times = Vec::new();
            let mut number = 0;
            while !stopped.load(Ordering::Acquire) {
                if number > heard.load(Ordering::Acquire) + AHEAD_MAX {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
                let mut text = String::new();
                for _ in 0..BATCH {
                    number += 1;
                    let body = number.to_string();
                    for subject in subjects {
                        text.push_str(&format!("PUB {subject} {}\r\n{body}\r\n", body.len()));
                    }
                }
                counter.store(number, Ordering::SeqCst);
                times.push((number, clock::now()));
                if write.write_all(text.as_bytes()).await.is_err() {
                    break;
                }
            }
            (write, times)
        });
        Self { task, begun, stop }
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    async fn goes_on(&self, more: u64) {
        let wanted = self.begun() + more;
        until("more messages", 6 * PATIENCE, || self.begun() >= wanted).await;
    }

    async fn end(self) -> (OwnedWriteHalf, Vec<(u64, Timestamp)>) {
        self.stop.store(true, Ordering::Release);
        self.task.await.expect("no panic")
    }
}

const DIRECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1}\r\n";

fn verbose(idp: &DevIdp) -> String {
    let connect = connect_line(&proxy::token(idp, "alice"), "");
    connect.replace("\"verbose\":false", "\"verbose\":true")
}

fn numbers(heard: &[Heard], wanted: &str) -> Vec<u64> {
    let of_sid = heard.iter().filter_map(|heard| match heard {
        Heard::Message(sid, number) if sid == wanted => Some(*number),
        _ => None,
    });
    of_sid.collect()
}

fn is_unbroken(numbers: &[u64]) -> bool {
    numbers.iter().copied().eq(1..=numbers.len() as u64)
}

/// How many were let through at the publisher's: all before the first refusal, none behind it.
fn passed(answers: &[Heard]) -> u64 {
    let ok = Heard::Line("+OK".to_owned());
    let passed = answers.iter().take_while(|answer| **answer == ok).count();
    let mut rest = answers[passed..].iter();
    assert!(
        rest.all(|answer| *answer != ok),
        "a success behind a refusal"
    );
    passed as u64
}

/// Publishes through natsentry at full speed, verbose, with somebody who listens at the server.
struct Publishing {
    flood: Flood,
    answers: JoinHandle<Vec<Heard>>,
    finishing: Arc<AtomicBool>,
    watcher: Client,
}

impl Publishing {
    async fn start(idp: &DevIdp, natsentry: SocketAddr, server: SocketAddr) -> Self {
        let watcher = Client::connect(server, &format!("{DIRECT}SUB load.> 1\r\n")).await;
        let Client {
            write,
            reader,
            finishing,
            messages,
        } = Client::connect(natsentry, &verbose(idp)).await;
        let flood = Flood::start(write, &["load.x"], messages);
        let heard = Arc::clone(&watcher.messages);
        until("the first messages", 6 * PATIENCE, || {
            heard.load(Ordering::Acquire) >= ENOUGH
        })
        .await;
        Self {
            flood,
            answers: reader,
            finishing,
            watcher,
        }
    }

    /// Ends all, and returns what passed and when each batch was begun.
    async fn end(self) -> (u64, Vec<(u64, Timestamp)>) {
        let (mut write, times) = self.flood.end().await;
        self.finishing.store(true, Ordering::Release);
        write.write_all(b"PING\r\n").await.expect("sent");
        let answers = timeout(6 * PATIENCE, self.answers)
            .await
            .expect("in time")
            .expect("no panic");
        let passed = passed(&answers);
        let received = numbers(&self.watcher.finish().await, "1");
        assert!(
            is_unbroken(&received),
            "what passed arrives once and in order"
        );
        assert_eq!(
            received.len() as u64,
            passed,
            "what was acknowledged is what arrived"
        );
        (passed, times)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_after_a_reload() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, "");
    let roles = |subject: &str| json!({ "writer": role(json!({ "publish": [subject] })) });
    let natsentry = Binary::start(&config(&idp, nats.address(), &roles("load.>")), &[]);
    let publishing = Publishing::start(&idp, natsentry.address(), nats.address()).await;
    reload(&natsentry, &config(&idp, nats.address(), &roles("other"))).await;
    let begun = publishing.flood.begun();
    publishing.flood.goes_on(ENOUGH).await;
    let (passed, _) = publishing.end().await;
    assert!(
        (ENOUGH..=begun).contains(&passed),
        "{passed} passed, {begun} were begun at the reload"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_delivered_after_a_reload_and_what_stays_misses_nothing() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, "");
    let roles = |subjects: &[&str]| json!({ "reader": role(json!({ "subscribe": subjects })) });
    let before = config(&idp, nats.address(), &roles(&["load.>", "keep.>"]));
    let natsentry = Binary::start(&before, &[]);
    let hello = connect_line(&proxy::token(&idp, "alice"), "");
    let hello = format!("{hello}SUB load.> 1\r\nSUB keep.> 2\r\n");
    let client = Client::connect(natsentry.address(), &hello).await;
    let publisher = Client::connect(nats.address(), DIRECT).await;
    let flood = Flood::start(
        publisher.write,
        &["load.x", "keep.x"],
        Arc::clone(&client.messages),
    );
    let messages = Arc::clone(&client.messages);
    until("the first messages", 6 * PATIENCE, || {
        messages.load(Ordering::Acquire) >= ENOUGH
    })
    .await;
    reload(
        &natsentry,
        &config(&idp, nats.address(), &roles(&["keep.>"])),
    )
    .await;
    let begun = flood.begun();
    flood.goes_on(ENOUGH).await;
    let (mut write, _) = flood.end().await;
    publisher.finishing.store(true, Ordering::Release);
    write.write_all(b"PING\r\n").await.expect("sent");
    publisher.reader.await.expect("no panic");
    let heard = client.finish().await;
    let (lost, kept) = (numbers(&heard, "1"), numbers(&heard, "2"));
    assert!(
        is_unbroken(&lost) && is_unbroken(&kept),
        "none is missing, none comes twice"
    );
    assert!(
        lost.len() as u64 <= begun && kept.len() as u64 > begun,
        "{} and {}",
        lost.len(),
        kept.len()
    );
    let error = "-ERR 'Permissions Violation for Subscription to \"load.>\" (sid \"1\")'";
    let told = heard
        .iter()
        .position(|heard| *heard == Heard::Line(error.to_owned()));
    let behind = &heard[told.expect("the subscription was taken away")..];
    assert!(
        numbers(behind, "1").is_empty(),
        "nothing comes behind the error"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_or_delivered_after_the_end_of_a_window() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, "");
    // One role ends, another one stays, so that the session goes on.
    let roles = |until: Timestamp| {
        let valid = json!({ "until": until.to_string() });
        json!({
            "guest": role(json!({ "publish": ["load.x"], "subscribe": ["in.>"], "valid": valid })),
            "staff": role(json!({ "publish": ["other"], "subscribe": ["keep.>"] })),
        })
    };
    let far = clock::now().plus(Duration::from_secs(3600));
    let natsentry = Binary::start(&config(&idp, nats.address(), &roles(far)), &[]);
    let hello = connect_line(&proxy::token(&idp, "alice"), "");
    let hello = format!("{hello}SUB in.> 1\r\nSUB keep.> 2\r\n");
    let client = Client::connect(natsentry.address(), &hello).await;
    let publisher = Client::connect(nats.address(), DIRECT).await;
    let flood = Flood::start(
        publisher.write,
        &["in.x", "keep.x"],
        Arc::clone(&client.messages),
    );
    let publishing = Publishing::start(&idp, natsentry.address(), nats.address()).await;
    // Set while all is running; a machine that needs longer to take it gets longer.
    let mut until = far;
    for seconds in [2, 8, 32] {
        until = clock::now().plus(Duration::from_secs(seconds));
        reload(&natsentry, &config(&idp, nats.address(), &roles(until))).await;
        if clock::now() < until {
            break;
        }
    }
    assert!(clock::now() < until, "this machine is too slow");
    self::until("the end of the window", 6 * PATIENCE, || {
        clock::now() >= until
    })
    .await;
    flood.goes_on(ENOUGH).await;
    publishing.flood.goes_on(ENOUGH).await;
    let (passed, published) = publishing.end().await;
    let (mut write, sent) = flood.end().await;
    publisher.finishing.store(true, Ordering::Release);
    write.write_all(b"PING\r\n").await.expect("sent");
    publisher.reader.await.expect("no panic");
    let heard = client.finish().await;
    let (lost, kept) = (numbers(&heard, "1"), numbers(&heard, "2"));
    assert!(
        is_unbroken(&lost) && is_unbroken(&kept),
        "none is missing, none comes twice"
    );
    // The last batch that was begun before the end.
    let last = |times: &[(u64, Timestamp)]| {
        let before = times.iter().take_while(|(_, at)| *at < until);
        before.last().map_or(0, |(number, _)| *number)
    };
    assert!(
        passed <= last(&published),
        "{passed} passed of {}",
        last(&published)
    );
    assert!(
        lost.len() as u64 <= last(&sent),
        "{} of {}",
        lost.len(),
        last(&sent)
    );
    assert!(
        kept.len() as u64 > last(&sent),
        "the other subscription stays"
    );
}

/// Has an operator lock alice out, and returns when the audit says that it is in force.
async fn lock_alice(natsentry: &Binary) {
    let alice = "aaaaaaaa-0000-4000-8000-000000000001";
    let mut command = cli::natsentry(natsentry.dir());
    command.args(["lock", "-c", "natsentry.yaml", "--oid", alice]);
    let ran = tokio::task::spawn_blocking(move || cli::run(&mut command, b"")).await;
    let ran = ran.expect("no panic");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let audit = || std::fs::read_to_string(natsentry.dir().join("audit.jsonl")).unwrap_or_default();
    until("locked", 6 * PATIENCE, || {
        audit().contains("\"event\":\"locked\"")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_or_delivered_after_a_lock() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, "");
    let roles = json!({ "both": role(json!({ "publish": ["load.>"], "subscribe": ["in.>"] })) });
    let natsentry = Binary::start(&config(&idp, nats.address(), &roles), &[]);
    let hello = format!(
        "{}SUB in.> 1\r\n",
        connect_line(&proxy::token(&idp, "alice"), "")
    );
    let client = Client::connect(natsentry.address(), &hello).await;
    let publisher = Client::connect(nats.address(), DIRECT).await;
    let to_alice = Flood::start(publisher.write, &["in.x"], Arc::clone(&client.messages));
    let publishing = Publishing::start(&idp, natsentry.address(), nats.address()).await;
    let messages = Arc::clone(&client.messages);
    until("the first messages", 6 * PATIENCE, || {
        messages.load(Ordering::Acquire) >= ENOUGH
    })
    .await;
    lock_alice(&natsentry).await;
    let (begun, sent) = (publishing.flood.begun(), to_alice.begun());
    // Both sessions end, with the word for it as the last that they hear.
    let told = Heard::Line("-ERR 'User Authentication Revoked'".to_owned());
    let heard = timeout(6 * PATIENCE, client.reader).await.expect("an end");
    let heard = heard.expect("no panic");
    let answers = timeout(6 * PATIENCE, publishing.answers).await;
    let answers = answers.expect("an end").expect("no panic");
    assert_eq!(heard.last(), Some(&told));
    assert_eq!(answers.last(), Some(&told));
    let delivered = numbers(&heard, "1");
    assert!(is_unbroken(&delivered) && delivered.len() as u64 >= ENOUGH);
    assert!(
        delivered.len() as u64 <= sent,
        "{} were delivered, {sent} were begun at the lock",
        delivered.len()
    );
    to_alice.stop.store(true, Ordering::Release);
    drop(to_alice.end().await);
    drop(publishing.flood.end().await);
    let received = numbers(&publishing.watcher.finish().await, "1");
    assert!(is_unbroken(&received) && received.len() as u64 >= ENOUGH);
    assert!(
        received.len() as u64 <= begun,
        "{} passed, {begun} were begun at the lock",
        received.len()
    );
}
