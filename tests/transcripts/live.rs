//! Plays the transcripts marked `# real:` against real nats-servers whose own permissions say what the policy of the file
//! says, and compares what the client receives: the server is the judge of the expectations. What the file lets upstream
//! deliver is published by a second connection.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use natsentry::demo::servers::{NatsServer, Version, find_or_install};
use serde_json::{Map, Value, json};

use super::frames::next_frame;
use super::pattern::{Pattern, escaped_lines};
use super::script::{Block, Fact, Input, Real, Script, Setup, Start, WantKind, all};

/// How long a server may take to answer. It answers at once or never.
const PATIENCE: Duration = Duration::from_secs(10);

const PASSWORD: &str = "alice";

impl Real {
    pub(crate) fn is_for(&self, version: &str) -> bool {
        match self {
            Self::No => false,
            Self::Yes => true,
            Self::Only(versions) => versions.iter().any(|one| one == version),
        }
    }
}

/// A server's configuration in which each script has a user of its own. They share their limits.
pub(crate) fn configuration(scripts: &[&Script]) -> String {
    let everything = json!({"publish": [">"], "subscribe": [">"]});
    let anything = permissions(everything.as_object().unwrap());
    let mut users = vec![
        json!({"user": "publisher", "password": "publisher"}),
        // For transcripts that begin before CONNECT: what they send names this user.
        json!({"user": "alice", "password": PASSWORD, "permissions": anything}),
    ];
    for (index, script) in scripts.iter().enumerate() {
        let role = script.setup.roles.get("fixture");
        assert!(
            script.setup.roles.len() <= 1,
            "{}: several roles are not real",
            script.name
        );
        let permissions = role.map_or_else(|| anything.clone(), permissions);
        let user = user(index);
        users.push(json!({"user": user, "password": PASSWORD, "permissions": permissions}));
    }
    let mut configuration = json!({"authorization": {"users": users}});
    let limits = &scripts.first().unwrap().setup.limits;
    for (key, value) in limits {
        let name = match key.as_str() {
            "payload" => "max_payload",
            "control_line" => "max_control_line",
            "subscriptions" => "max_subscriptions",
            _ => panic!("limits {key} is not real"),
        };
        configuration[name] = value.parse::<u64>().unwrap().into();
    }
    configuration.to_string()
}

fn user(index: usize) -> String {
    format!("user-{index}")
}

/// A role in the server's own words.
fn permissions(role: &Map<String, Value>) -> Value {
    let list = |value: Option<&Value>| -> Vec<Value> {
        let entries = value.and_then(Value::as_array).cloned().unwrap_or_default();
        entries.into_iter().map(subject_and_queue).collect()
    };
    let denied = |key: &str| list(role.get("deny").and_then(|deny| deny.get(key)));
    let side = |key: &str, silent: bool| {
        let (allow, deny) = (list(role.get(key)), denied(key));
        let mut side = Map::new();
        if !allow.is_empty() {
            side.insert("allow".to_owned(), allow.into());
        } else if !silent {
            // An empty allow list would mean everything to the server.
            side.insert("deny".to_owned(), json!([">"]));
            return side;
        }
        if !deny.is_empty() {
            side.insert("deny".to_owned(), deny.into());
        }
        side
    };
    let respond = role.get("respond");
    let mut permissions = json!({
        "publish": side("publish", respond.is_some()),
        "subscribe": side("subscribe", false),
    });
    if permissions["publish"] == json!({}) {
        permissions.as_object_mut().unwrap().remove("publish");
    }
    if let Some(respond) = respond {
        permissions["allow_responses"] = json!({"max": respond["max"], "expires": respond["ttl"]});
    }
    permissions
}

fn subject_and_queue(entry: Value) -> Value {
    match (
        entry.get("subject").and_then(Value::as_str),
        entry.get("queue").and_then(Value::as_str),
    ) {
        (Some(subject), Some(queue)) => format!("{subject} {queue}").into(),
        _ => entry,
    }
}

/// A connection that may do everything, and publishes what transcripts have the upstream deliver.
pub(crate) struct Publisher(Connection);

impl Publisher {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut connection = Connection::open(address);
        connection.send(
            b"CONNECT {\"verbose\":false,\"headers\":true,\"user\":\"publisher\",\"pass\":\"publisher\"}\r\n",
        );
        connection.flush(0).unwrap();
        Self(connection)
    }

    /// Publishes what `frame`, a MSG or HMSG, brings. It is with the server when this returns.
    fn publish(&mut self, frame: &[u8]) {
        let line = frame.split(|byte| *byte == b'\r').next().unwrap();
        let line = std::str::from_utf8(line).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let verb = if words[0] == "HMSG" { "HPUB" } else { "PUB" };
        // All but the sid.
        let rest = words[3..].join(" ");
        self.0
            .send(format!("{verb} {} {rest}", words[1]).as_bytes());
        self.0.send(&frame[line.len()..]);
        self.0.flush(0).unwrap();
    }
}

/// One connection as a client, with everything that was received.
struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// PINGs sent to know when the server is through.
    flushes: usize,
    ended: bool,
}

impl Connection {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            received: Vec::new(),
            flushes: 0,
            ended: false,
        }
    }

    /// A server that has closed takes nothing more, which is no mistake of ours.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Waits until the server has answered everything so far, of which `pings` were PINGs of the script.
    fn flush(&mut self, pings: usize) -> Result<(), String> {
        self.send(b"PING\r\n");
        self.flushes += 1;
        while self.count(b"PONG\r\n") < pings + self.flushes {
            self.read()?;
            if self.ended {
                return Err("the server closed the connection".to_owned());
            }
        }
        let at = self.received.len() - b"PONG\r\n".len();
        if &self.received[at..] != b"PONG\r\n" {
            return Err("something came after the PONG".to_owned());
        }
        self.received.truncate(at);
        self.flushes -= 1;
        Ok(())
    }

    fn read_to_end(&mut self) -> Result<(), String> {
        while !self.ended {
            self.read()?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), String> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.ended = true,
            Err(error) => return Err(format!("nothing came: {error}")),
        }
        self.drop_what_is_the_servers_own();
        Ok(())
    }

    /// INFO differs from server to server, and PING comes when it likes.
    fn drop_what_is_the_servers_own(&mut self) {
        let mut kept = Vec::new();
        let mut at = 0;
        while let Some(len) = next_frame(&self.received[at..]) {
            let frame = &self.received[at..at + len];
            if !frame.starts_with(b"INFO ") && frame != b"PING\r\n" {
                kept.extend_from_slice(frame);
            }
            at += len;
        }
        kept.extend_from_slice(&self.received[at..]);
        self.received = kept;
    }

    fn count(&self, wanted: &[u8]) -> usize {
        let (mut count, mut at) = (0, 0);
        while let Some(len) = next_frame(&self.received[at..]) {
            count += usize::from(&self.received[at..at + len] == wanted);
            at += len;
        }
        count
    }
}

/// Plays a script as user `index`; what differs, or nothing.
pub(crate) fn play(
    address: SocketAddr,
    index: usize,
    script: &Script,
    publisher: &mut Publisher,
) -> Result<(), String> {
    let mut client = Connection::open(address);
    match script.setup.start {
        Start::Connecting => {}
        Start::Serving => {
            client.send(format!("CONNECT {}\r\n", connect(&script.setup, index)).as_bytes());
            // The second one is answered after the INFO that newer servers send behind the first PONG.
            client.flush(0)?;
            client.flush(0)?;
            client.received.clear();
        }
        Start::Admitted => return Err("a real client cannot be only admitted".to_owned()),
    }
    let mut pings = 0;
    for block in &script.blocks {
        for input in block.joined() {
            match input {
                Input::Client(bytes) => client.send(&bytes),
                Input::Upstream(bytes) => {
                    for frame in messages(&bytes)? {
                        client.flush(pings)?;
                        publisher.publish(frame);
                    }
                }
                Input::Clock(_) | Input::Act(_) => {
                    return Err("clocks and acts are not real".to_owned());
                }
            }
        }
        pings += block
            .inputs
            .iter()
            .filter(|(_, input)| is_ping(input))
            .count();
        if closes(block) {
            client.read_to_end()?;
        } else if ends_a_line(block) {
            client.flush(pings)?;
        }
    }
    compare(script, &client.received)
}

fn connect(setup: &Setup, index: usize) -> Value {
    let mut connect = json!({
        "verbose": false, "pedantic": false, "headers": true, "protocol": 1,
        "user": user(index), "pass": PASSWORD,
    });
    connect
        .as_object_mut()
        .unwrap()
        .extend(setup.connect.clone());
    connect
}

/// The messages in what upstream sends; the rest a real server says by itself.
fn messages(bytes: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut messages = Vec::new();
    let mut rest = bytes;
    while let Some(len) = next_frame(rest) {
        let (frame, after) = rest.split_at(len);
        rest = after;
        if frame.starts_with(b"MSG ") || frame.starts_with(b"HMSG ") {
            messages.push(frame);
        } else if frame != b"PONG\r\n" {
            return Err(format!(
                "not from a real server: {:?}",
                escaped_lines(frame)
            ));
        }
    }
    if rest.is_empty() {
        Ok(messages)
    } else {
        Err("half a message is not real".to_owned())
    }
}

/// Lines of these transcripts that begin so are PINGs, whatever follows.
fn is_ping(input: &Input) -> bool {
    match input {
        Input::Client(bytes) => bytes
            .get(..4)
            .is_some_and(|verb| verb.eq_ignore_ascii_case(b"PING")),
        Input::Upstream(_) | Input::Clock(_) | Input::Act(_) => false,
    }
}

fn closes(block: &Block) -> bool {
    block.wants.iter().any(|want| match &want.kind {
        WantKind::Fact(Fact { words, .. }) => words.first().is_some_and(|word| word == "closed"),
        WantKind::ToClient(_) | WantKind::ToUpstream(_) => false,
    })
}

/// Whether what the client sent so far ends with a line, so that a PING can follow.
fn ends_a_line(block: &Block) -> bool {
    match block.joined().last() {
        Some(Input::Client(bytes)) => bytes.ends_with(b"\n"),
        Some(Input::Upstream(_) | Input::Clock(_) | Input::Act(_)) | None => true,
    }
}

fn compare(script: &Script, received: &[u8]) -> Result<(), String> {
    let wants = script.blocks.iter().flat_map(|block| &block.wants);
    let wanted: Vec<(&str, &Pattern)> = wants
        .filter_map(|want| match &want.kind {
            WantKind::ToClient(pattern) if !pattern.is_info() => Some((&*want.text, pattern)),
            WantKind::ToClient(_) | WantKind::ToUpstream(_) | WantKind::Fact(_) => None,
        })
        .collect();
    let rest = wanted
        .iter()
        .try_fold(received, |rest, (_, pattern)| pattern.strip(rest));
    if rest.is_some_and(<[u8]>::is_empty) {
        return Ok(());
    }
    let mut report = "the client received something else\n".to_owned();
    for (text, _) in wanted {
        report.push_str(&format!("  expected  {text}\n"));
    }
    for line in escaped_lines(received) {
        report.push_str(&format!("  happened  C< {line}\n"));
    }
    Err(report)
}

/// The oldest server that is promised, and the newest.
const VERSIONS: [Version; 2] = [Version::V2_9_10, Version::V2_15_1];

fn real_scripts() -> Vec<Script> {
    let folder = super::folder();
    let scripts = all(&folder).into_iter().map(|path| {
        let name = path.strip_prefix(&folder).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        Script::parse(&name, &text)
            .unwrap_or_else(|mistake| panic!("{name}:{}: {}", mistake.line, mistake.message))
    });
    scripts.filter(|script| script.real != Real::No).collect()
}

#[test]
fn real_servers_answer_as_the_transcripts_say() {
    let scripts = real_scripts();
    assert!(
        scripts.len() >= 100,
        "only {} transcripts are marked real",
        scripts.len()
    );
    let mut failures = Vec::new();
    let mut played = 0;
    for version in VERSIONS
        .into_iter()
        .filter(|version| version.is_offered_here())
    {
        let binary = find_or_install(version).unwrap_or_else(|error| panic!("{error}"));
        let mut groups: BTreeMap<String, Vec<&Script>> = BTreeMap::new();
        for script in scripts
            .iter()
            .filter(|script| script.real.is_for(version.as_str()))
        {
            groups
                .entry(format!("{:?}", script.setup.limits))
                .or_default()
                .push(script);
        }
        for group in groups.values() {
            let server = NatsServer::start(&binary, &configuration(group))
                .unwrap_or_else(|error| panic!("{error}"));
            let mut publisher = Publisher::connect(server.address());
            for (index, script) in group.iter().enumerate() {
                played += 1;
                if let Err(report) = play(server.address(), index, script, &mut publisher) {
                    failures.push(format!("{} against {version}: {report}", script.name));
                }
            }
        }
    }
    let failed = failures.len();
    assert!(
        failures.is_empty(),
        "{failed} of {played} fail\n\n{}",
        failures.join("\n")
    );
}

/// The comparison sees a difference: what a server does not say, and what it says besides.
#[test]
fn a_wrong_expectation_is_seen_by_a_real_server() {
    let text = "# why\n# real: yes\ngiven policy publish = [\"a\"]\ngiven client alice, serving\n\
        C> PUB b 1\nC> x\nC< -ERR 'Permissions Violation for Publish to \"b\"'\n\
        = denied publish b\n";
    let wrong = [
        text.replace("to \"b\"'", "to \"c\"'"),
        text.replace("C< -ERR 'Permissions Violation for Publish to \"b\"'\n", ""),
        text.replace("C< -ERR", "C< +OK\nC< -ERR"),
    ];
    let texts = std::iter::once(text.to_owned()).chain(wrong);
    let scripts: Vec<Script> = texts
        .map(|text| Script::parse("wrong.txt", &text).unwrap())
        .collect();
    let binary = find_or_install(Version::LATEST).unwrap_or_else(|error| panic!("{error}"));
    let group: Vec<&Script> = scripts.iter().collect();
    let server = NatsServer::start(&binary, &configuration(&group))
        .unwrap_or_else(|error| panic!("{error}"));
    let mut publisher = Publisher::connect(server.address());
    for (index, script) in group.iter().enumerate() {
        let played = play(server.address(), index, script, &mut publisher);
        assert_eq!(played.is_ok(), index == 0, "{played:?}");
    }
}
