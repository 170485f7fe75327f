//! Real servers: the model must agree with them on what is read of a stream and on how the connection ends, and what natsentry
//! forwards must be read by them as what was judged. The server's trace tells which operations it read, connection by
//! connection, and a subscriber on `>` tells what it made of them.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use natsentry::demo::servers::{NatsServer, Version};
use natsentry::wire::push_quoted;
use serde_json::json;

use super::generate::{self, Random};
use super::properties::client_stream::cut;
use super::properties::front::{START, World};
use super::properties::reading;
use super::properties::server::{End, Op, Parser, Settings};
use super::support::proxy::{self, Proxy, STATIC_USER, Setup};
use super::support::{servers, wire::connect_line};

/// Streams tried with each server, directly and through natsentry, unless the environment says otherwise.
const STREAMS: usize = 300;

/// Connections at a time.
const BATCH: usize = 50;

/// A server's first reads take this much and no more, so that what is sent at once is read at once.
const LONGEST: usize = 240;

const PATIENCE: Duration = Duration::from_secs(20);

fn streams(random: &mut Random, count: usize) -> Vec<Vec<u8>> {
    let mut streams: Vec<Vec<u8>> = Vec::new();
    while streams.len() < count {
        let stream = generate::stream(random);
        // A trace with a line feed in it cannot be told from two; CONNECT takes the credentials of the test.
        let upper = stream.to_ascii_uppercase();
        let has = |text: &[u8]| upper.windows(text.len()).any(|part| part == text);
        let traced = !has(b" \n") && !has(b"\t\n") && !has(b"CONNECT") && !has(b"INFO");
        if stream.len() <= LONGEST && !stream.is_empty() && traced {
            streams.push(stream);
        }
    }
    streams
}

#[test]
fn the_model_reads_as_real_servers_do() {
    for version in [Version::V2_9_10, Version::V2_15_1] {
        if !version.is_offered_here() {
            continue;
        }
        let (count, seed) = size_of_the_run();
        let mut random = Random(seed);
        let server = servers::start(version, &format!("{STATIC_USER}trace: true\n"));
        let streams = streams(&mut random, count);
        let (mut operations, mut ends) = (0, 0);
        let mut traces = Traces::default();
        for (number, batch) in streams.chunks(BATCH).enumerate() {
            let pieces: Vec<Vec<&[u8]>> = batch
                .iter()
                .map(|stream| few_pieces(&mut random, stream))
                .collect();
            let names: Vec<String> = (0..batch.len())
                .map(|at| format!("direct-{number}-{at}"))
                .collect();
            let heard = send_directly(server.address(), &names, &pieces);
            traces.update(&server);
            for ((name, pieces), heard) in names.iter().zip(&pieces).zip(&heard) {
                let mut model = Parser::new(Settings::default());
                pieces.iter().for_each(|piece| model.read(piece));
                let found = traces.operations(name, &["PING"], model.ops());
                let wanted: Vec<Traced> = model.ops().iter().filter_map(Traced::of).collect();
                assert_eq!(found, wanted, "{version}, seed {seed}: {}", shown(pieces));
                match model.end() {
                    Some(End::Said(text)) => assert!(
                        heard.reset || heard.says(text),
                        "{version}, seed {seed}: {text:?} in {:?} after {}",
                        heard.text,
                        shown(pieces)
                    ),
                    Some(End::Silent) | None => assert!(
                        !heard.text.contains("-ERR 'U")
                            && !heard.text.contains("-ERR 'm")
                            && !heard.text.contains("-ERR 'Max"),
                        "{version}, seed {seed}: {:?} after {}",
                        heard.text,
                        shown(pieces)
                    ),
                }
                operations += wanted.len();
                ends += usize::from(model.end().is_some());
            }
        }
        eprintln!(
            "nats-server {version}: {count} streams read alike, {operations} operations, {ends} ends, NATSENTRY_SEED={seed}"
        );
        assert!(operations > count / 2 && ends > count / 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_natsentry_forwards_is_read_as_it_was_judged() {
    let idp = proxy::idp().await;
    let token = proxy::token(&idp, "alice");
    let roles = "
roles:
  some:
    bind: [{ app_role: Nats.Operator }]
    upstream: plant
    publish: [\"a.>\", foo, \"ok.*\", \"*.b\"]
    subscribe: [\"a.>\", foo, { subject: \"jobs.*\", queue: \"q*\" }]
    deny: { publish: [\"a.no.>\"] }
    inbox: off
    broad: true
";
    let role = json!({
        "publish": ["a.>", "foo", "ok.*", "*.b"], "subscribe": ["a.>", "foo", { "subject": "jobs.*", "queue": "q*" }],
        "deny": { "publish": ["a.no.>"] }, "inbox": "off",
    });
    let world = World::new(&role, Settings::default());
    for version in [Version::V2_9_10, Version::V2_15_1] {
        if !version.is_offered_here() {
            continue;
        }
        let (count, seed) = size_of_the_run();
        let server = servers::start(version, &format!("{STATIC_USER}trace: true\n"));
        let address = server.address();
        let proxy = Proxy::start(&idp, &Setup::to(address.port()).roles(roles)).await;
        let (front, token, world) = (proxy.address, token.clone(), world.clone());
        let run = move || send_through(&server, front, &token, &world, count, seed);
        let operations = tokio::task::spawn_blocking(run)
            .await
            .expect("nothing is misread");
        eprintln!(
            "nats-server {version} behind natsentry: {count} streams, {operations} operations, 0 smuggled, NATSENTRY_SEED={seed}"
        );
        drop(proxy.stop().await);
    }
}

/// Sends streams through natsentry; returns how many operations reached the server.
fn send_through(
    server: &NatsServer,
    front: SocketAddr,
    token: &str,
    world: &World,
    count: usize,
    seed: u64,
) -> usize {
    let mut random = Random(seed ^ 0xF00D);
    let mut operations = 0;
    let mut traces = Traces::default();
    let mut listener = Client::connect(server.address());
    listener.send(format!("{}SUB > 1\r\nPING\r\n", static_connect("listener")).as_bytes());
    listener.until_pong();
    for (number, batch) in streams(&mut random, count).chunks(BATCH).enumerate() {
        let mut clients: Vec<Client> = Vec::new();
        for at in 0..batch.len() {
            let mut client = Client::connect(front);
            let more = format!(",\"name\":\"through-{number}-{at}\"");
            // A PING that comes first may be answered by natsentry itself.
            client
                .send(format!("{}SUB foo mark\r\nPING\r\n", connect_line(token, &more)).as_bytes());
            clients.push(client);
        }
        for client in &mut clients {
            client.until_pong();
        }
        for (client, stream) in clients.iter_mut().zip(batch) {
            for piece in cut(stream, random.next() % 50) {
                client.send(piece);
            }
            client.half_close();
        }
        for client in &mut clients {
            client.until_the_end();
        }
        listener.send(format!("PUB sync.{number} 0\r\n\r\n").as_bytes());
        let mut delivered = listener.until(&format!("sync.{number}"));
        traces.update(server);
        let mut published: Vec<Op> = Vec::new();
        for (at, stream) in batch.iter().enumerate() {
            let read = reading::read(stream, world.settings, reading::natsentry);
            let judged = reading::judge(&world.permissions, world.settings, read, START);
            let wanted: Vec<Traced> = judged.ops.iter().filter_map(Traced::of).collect();
            // natsentry's own PING is behind its CONNECT.
            let opening = ["PING", "SUB", "PING"];
            let name = format!("through-{number}-{at}");
            let found = traces.operations(&name, &opening, &judged.ops);
            assert!(
                but_for_own_pings(&found, &wanted),
                "SMUGGLED, seed {seed}: {found:?}, not {wanted:?}: \"{}\"",
                stream.escape_ascii()
            );
            operations += wanted.len();
            published.extend(judged.ops.into_iter().filter_map(delivered_as));
        }
        published.sort();
        delivered.sort();
        assert_eq!(delivered, published, "seed {seed}, batch {number}");
    }
    operations
}

/// As the oracle in memory has it: natsentry's own PINGs are behind an UNSUB, or before a SUB on a sid that had one.
fn but_for_own_pings(found: &[Traced], wanted: &[Traced]) -> bool {
    let mut wanted = wanted.iter().peekable();
    let mut gone: Vec<&Vec<u8>> = Vec::new();
    let mut ended = false;
    for (at, read) in found.iter().enumerate() {
        let ping = read.verb == "PING";
        if read.verb == "UNSUB" {
            gone.extend(read.words.first());
        }
        if wanted.next_if_eq(&read).is_none() {
            let next = found[at..].iter().find(|read| read.verb != "PING");
            let again = next.is_some_and(|next| {
                next.verb == "SUB" && next.words.last().is_some_and(|sid| gone.contains(&sid))
            });
            if !ping || !(ended || again) {
                return false;
            }
        }
        ended = read.verb == "UNSUB" || ended && ping;
    }
    wanted.next().is_none()
}

/// What a subscriber on `>` gets of it: nothing of a subject with an empty token, and a message without headers where their
/// length is 0.
fn delivered_as(op: Op) -> Option<Op> {
    let Op::Publish {
        subject,
        reply,
        header,
        payload,
    } = op
    else {
        return None;
    };
    let empty = subject.split(|byte| *byte == b'.').any(<[u8]>::is_empty);
    (!empty).then_some(Op::Publish {
        subject,
        reply,
        header: header.filter(|len| *len > 0),
        payload,
    })
}

fn size_of_the_run() -> (usize, u64) {
    let seed = super::environment("NATSENTRY_SEED", 20_261_128) as u64;
    (super::environment("NATSENTRY_WIRE_STREAMS", STREAMS), seed)
}

fn shown(pieces: &[&[u8]]) -> String {
    let shown: Vec<String> = pieces
        .iter()
        .map(|piece| format!("\"{}\"", piece.escape_ascii()))
        .collect();
    shown.join(" | ")
}

/// At most three, so that the server's buffer stays as large as it began.
fn few_pieces<'a>(random: &mut Random, stream: &'a [u8]) -> Vec<&'a [u8]> {
    let mut at = [
        random.below(stream.len() + 1),
        random.below(stream.len() + 1),
    ];
    at.sort_unstable();
    let pieces = match random.below(3) {
        0 => [stream, b"", b""],
        1 => [&stream[..at[0]], &stream[at[0]..], b""],
        _ => [&stream[..at[0]], &stream[at[0]..at[1]], &stream[at[1]..]],
    };
    pieces
        .into_iter()
        .filter(|piece| !piece.is_empty())
        .collect()
}

/// What a connection said until its end.
struct Heard {
    text: String,
    reset: bool,
}

impl Heard {
    fn says(&self, text: &str) -> bool {
        self.text.contains(&format!("-ERR '{text}'"))
    }
}

fn send_directly(address: SocketAddr, names: &[String], pieces: &[Vec<&[u8]>]) -> Vec<Heard> {
    let mut clients: Vec<Client> = names
        .iter()
        .map(|name| {
            let mut client = Client::connect(address);
            client.send(format!("{}PING\r\n", static_connect(name)).as_bytes());
            client
        })
        .collect();
    for client in &mut clients {
        client.until_pong();
    }
    let most = pieces.iter().map(Vec::len).max().unwrap_or(0);
    for turn in 0..most {
        for (client, pieces) in clients.iter_mut().zip(pieces) {
            if let Some(piece) = pieces.get(turn) {
                client.send(piece);
            }
        }
        until_all_is_read(address, &clients);
    }
    for client in &mut clients {
        client.half_close();
    }
    clients.iter_mut().map(Client::until_the_end).collect()
}

fn static_connect(name: &str) -> String {
    format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\"protocol\":1,\"user\":\"svc\",\"pass\":\"correct horse battery\",\"name\":\"{name}\"}}\r\n"
    )
}

/// Waits until the server has read everything that was sent to it: the kernel says how much it has not.
fn until_all_is_read(server: SocketAddr, clients: &[Client]) {
    let ports: Vec<u16> = clients.iter().map(|client| client.port).collect();
    let deadline = Instant::now() + PATIENCE;
    let port = |text: &str| {
        u16::from_str_radix(text.rsplit(':').next().unwrap_or_default(), 16).unwrap_or(0)
    };
    loop {
        let table = fs::read_to_string("/proc/net/tcp").expect("Linux");
        let unread = table.lines().skip(1).any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, local, remote, _, queues, ..] = words.as_slice() else {
                return false;
            };
            port(local) == server.port()
                && ports.contains(&port(remote))
                && !queues.ends_with(":00000000")
        });
        if !unread {
            return;
        }
        assert!(Instant::now() < deadline, "the server does not read");
        std::thread::yield_now();
    }
}

/// A connection that says what it is told to.
struct Client {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
    port: u16,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let writer =
            TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).expect("a connection");
        writer.set_nodelay(true).expect("no delay");
        writer
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        let reader = BufReader::new(writer.try_clone().expect("a second handle"));
        let port = writer.local_addr().expect("an address").port();
        let mut client = Self {
            writer,
            reader,
            port,
        };
        assert!(client.line().starts_with("INFO"));
        client
    }

    /// Errors are left for the reading side to show.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.writer.write_all(bytes);
    }

    fn half_close(&self) {
        let _ = self.writer.shutdown(Shutdown::Write);
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).expect("a line");
        assert!(!line.is_empty(), "the connection ended");
        String::from_utf8_lossy(&line).into_owned()
    }

    fn until_pong(&mut self) {
        while self.line() != "PONG\r\n" {}
    }

    fn until_the_end(&mut self) -> Heard {
        let mut bytes = Vec::new();
        let reset = match self.reader.read_to_end(&mut bytes) {
            Ok(_) => false,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
            Err(error) => panic!("no end of the connection: {error}"),
        };
        Heard {
            text: String::from_utf8_lossy(&bytes).into_owned(),
            reset,
        }
    }

    /// Messages until one on `last`.
    fn until(&mut self, last: &str) -> Vec<Op> {
        let mut all = Vec::new();
        loop {
            let mut line = Vec::new();
            self.reader.read_until(b'\n', &mut line).expect("a line");
            let text = line.strip_suffix(b"\r\n").unwrap_or(&line);
            let words: Vec<Vec<u8>> = text
                .split(|byte| *byte == b' ')
                .map(<[u8]>::to_vec)
                .collect();
            let headers = match &words[0][..] {
                b"MSG" => false,
                b"HMSG" => true,
                _ => continue,
            };
            let number = |word: &[u8]| {
                std::str::from_utf8(word)
                    .expect("digits")
                    .parse::<usize>()
                    .expect("a number")
            };
            let mut body = vec![0; number(&words[words.len() - 1]) + 2];
            self.reader.read_exact(&mut body).expect("a payload");
            body.truncate(body.len() - 2);
            if words[1] == last.as_bytes() {
                return all;
            }
            let replied = words.len() == if headers { 6 } else { 5 };
            // An HPUB without headers is delivered as a plain message.
            all.push(Op::Publish {
                subject: words[1].clone(),
                reply: replied.then(|| words[3].clone()),
                header: headers.then(|| number(&words[words.len() - 2])),
                payload: body,
            });
        }
    }
}

/// An operation as the server's trace has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Traced {
    verb: &'static str,
    words: Vec<Vec<u8>>,
    /// As Go quotes it.
    payload: Vec<u8>,
}

impl Traced {
    /// What the trace says of an operation; nothing of those without an effect.
    fn of(op: &Op) -> Option<Self> {
        let (verb, words, payload): (_, Vec<Vec<u8>>, &[u8]) = match op {
            Op::Publish {
                subject,
                reply,
                header,
                payload,
            } => {
                let mut words = vec![subject.clone()];
                words.extend(reply.clone());
                words.extend(header.map(|len| len.to_string().into_bytes()));
                words.push(payload.len().to_string().into_bytes());
                (
                    if header.is_some() { "HPUB" } else { "PUB" },
                    words,
                    payload,
                )
            }
            Op::Subscribe {
                subject,
                queue,
                sid,
            } => {
                let mut words = vec![subject.clone()];
                words.extend(queue.clone());
                words.push(sid.clone());
                ("SUB", words, b"")
            }
            Op::Unsubscribe { sid, max } => {
                let mut words = vec![sid.clone()];
                words.extend(max.map(|max| max.to_string().into_bytes()));
                ("UNSUB", words, b"")
            }
            Op::Ping => ("PING", Vec::new(), b""),
            Op::Pong => ("PONG", Vec::new(), b""),
            Op::Connect(_) | Op::Info(_) | Op::HeaderMessage => return None,
        };
        let mut quoted = Vec::new();
        if !payload.is_empty() {
            push_quoted(&mut quoted, payload);
        }
        Some(Self {
            verb,
            words,
            payload: quoted,
        })
    }

    /// A line of the trace, `PUB foo 5`; nothing for one that the server does not take.
    fn parse(text: &[u8]) -> Option<Self> {
        let end = text
            .iter()
            .position(|byte| *byte == b' ')
            .unwrap_or(text.len());
        let arguments = &text[end..];
        let words = |blanks: &[u8]| -> Vec<Vec<u8>> {
            let words = arguments.split(|byte| blanks.contains(byte));
            words
                .filter(|word| !word.is_empty())
                .map(<[u8]>::to_vec)
                .collect()
        };
        let decimal = |word: &mut Vec<u8>| {
            if let Some(number) = std::str::from_utf8(word)
                .ok()
                .and_then(|text| text.parse::<usize>().ok())
            {
                *word = number.to_string().into_bytes();
            }
        };
        let (verb, mut words) = match &text[..end] {
            b"PUB" => ("PUB", words(b" \t")),
            b"HPUB" => ("HPUB", words(b" \t")),
            b"SUB" => ("SUB", words(b" \t\r\n")),
            b"UNSUB" => ("UNSUB", words(b" \t\r\n")),
            b"PING" => ("PING", Vec::new()),
            b"PONG" => ("PONG", Vec::new()),
            _ => return None,
        };
        match (verb, words.len()) {
            ("SUB", 2 | 3) | ("UNSUB", 1) => {}
            ("UNSUB", 2) => {
                let number = words[1].iter().all(u8::is_ascii_digit) && words[1].len() <= 9;
                decimal(&mut words[1]);
                if !number || words[1] == b"0" {
                    words.pop();
                }
            }
            ("PUB", 2 | 3) => words.last_mut().into_iter().for_each(decimal),
            ("HPUB", 3 | 4) => words.iter_mut().rev().take(2).for_each(decimal),
            ("PING" | "PONG", _) => {}
            _ => return None,
        }
        Some(Self {
            verb,
            words,
            payload: Vec::new(),
        })
    }

    fn is_publish(&self) -> bool {
        self.verb == "PUB" || self.verb == "HPUB"
    }

    fn is_empty_publish(&self) -> bool {
        self.is_publish() && self.words.last().is_some_and(|size| size == b"0")
    }
}

/// The trace of a server: what it read on the connections that gave a name.
#[derive(Default)]
struct Traces {
    /// Bytes of the log that were read.
    seen: u64,
    /// Name by connection.
    names: HashMap<Vec<u8>, String>,
    /// What was read, by name.
    lines: HashMap<String, Vec<Vec<u8>>>,
}

impl Traces {
    /// Reads what the server has written since the last time.
    fn update(&mut self, server: &NatsServer) {
        let mut file = fs::File::open(server.dir().join("log")).expect("a log");
        file.seek(SeekFrom::Start(self.seen))
            .expect("a place in the log");
        let mut log = Vec::new();
        file.read_to_end(&mut log).expect("the log");
        let end = log
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        self.seen += end as u64;
        for line in log[..end].split(|byte| *byte == b'\n') {
            let Some((connection, said)) = traced(line) else {
                continue;
            };
            if let Some(json) = said.strip_prefix(b"CONNECT ") {
                let json = String::from_utf8_lossy(json);
                let name = json
                    .split("\"name\":\"")
                    .nth(1)
                    .and_then(|rest| rest.split('"').next());
                let name = name.unwrap_or_default().to_owned();
                self.names.insert(connection.to_vec(), name);
            } else if let Some(name) = self.names.get(connection) {
                let lines = self.lines.entry(name.clone()).or_default();
                lines.push(said.to_vec());
            }
        }
    }

    /// What the server read on a connection after an opening of these verbs. Of an empty payload nothing is traced: whether
    /// the last one ended well is taken from what is `expected`.
    fn operations(&self, name: &str, opening: &[&str], expected: &[Op]) -> Vec<Traced> {
        let mut found: Vec<Traced> = Vec::new();
        let mut open: Option<Traced> = None;
        for line in self.lines.get(name).into_iter().flatten() {
            if let Some(payload) = line.strip_prefix(b"MSG_PAYLOAD: [") {
                if let Some(mut publish) = open.take() {
                    publish.payload = payload.to_vec();
                    if payload == b"\"\"" {
                        publish.payload.clear();
                    }
                    found.push(publish);
                }
                continue;
            }
            found.extend(open.take().filter(Traced::is_empty_publish));
            match Traced::parse(line) {
                Some(read) if read.is_publish() => open = Some(read),
                read => found.extend(read),
            }
        }
        for verb in opening {
            assert_eq!(found.remove(0).verb, *verb, "{name}");
        }
        if let Some(last) = open.filter(Traced::is_empty_publish) {
            let wanted = expected.iter().filter_map(Traced::of).collect::<Vec<_>>();
            if wanted.last() == Some(&last) && wanted.len() > found.len() {
                found.push(last);
            }
        }
        found
    }
}

/// The connection and what the server read on it: `... - cid:7 - "name" - <<- [PUB foo 3]`.
fn traced(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = |text: &[u8]| line.windows(text.len()).position(|part| part == text);
    let arrow = at(b"<<- ")?;
    let cid = at(b"cid:")?;
    let connection = line[cid..].split(|byte| *byte == b' ').next()?;
    let said = &line[arrow + 4..];
    if let Some(payload) = said.strip_prefix(b"MSG_PAYLOAD: [") {
        // Kept with its own prefix.
        return Some((connection, &line[arrow + 4..line.len() - 1]))
            .filter(|_| payload.ends_with(b"]"));
    }
    Some((connection, said.strip_prefix(b"[")?.strip_suffix(b"]")?))
}
