//! natsentry in front of a real server, the judge on the server itself, and the conversation of one attempt.

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use natsentry::demo::idp::DevIdp;
use natsentry::demo::servers::{NatsServer, Version};
use tokio::time::{sleep, timeout};

use crate::attempts::{Attempt, SMUGGLED, Who};
use crate::support::proxy::{self, Proxy, Setup};
use crate::support::servers;
use crate::support::wire::{Wire, connect_line};

const PASSWORD: &str = "correct horse battery";

/// Longer than an answer takes. A conversation in the middle of a payload never has one.
const SILENCE: Duration = Duration::from_secs(2);

/// The mark of what must not come out.
const FORBIDDEN: &str = "FORBIDDEN";

/// Where it is published while the attacker listens.
const HIDDEN: [&str; 5] = [
    "secret.x",
    "in.a.b",
    "wide.hidden",
    "js.hidden",
    "_INBOX.victimvictimvictimvi.1",
];

const SERVER: &str =
    "jetstream: {}\nauthorization { user: svc, password: \"correct horse battery\", timeout: 5 }\n";

const ROLES: &str = r#"
roles:
  guest:
    bind: [{ app_role: Nats.Operator }, { app_role: Nats.Telemetry.Read }]
    upstream: plant
    publish: ["ok.>", "js.ok.*", "$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.UPDATE.MINE"]
    subscribe: ["ok.>", "in.*", "wide.>"]
    deny: { subscribe: ["wide.hidden"] }
    respond: { max: 1, ttl: 1m }
    stream: { S: { read: ["js.ok.*"], consumers: [mine] } }
    kv: { config: { write: ["mine.>"] } }
    limits: { payload: 64KiB }
  wide:
    bind: [{ app_role: Nats.Reader }]
    upstream: plant
    publish: [">"]
    subscribe: [">"]
    inbox: off
    broad: true
"#;

/// Everything that stands while attempts are made.
pub(crate) struct Stage {
    idp: DevIdp,
    proxy: Proxy,
    /// Sees everything on the server.
    judge: tokio::sync::Mutex<Wire>,
    /// Publishes on the server.
    publisher: tokio::sync::Mutex<Wire>,
    _victim: Wire,
    server: NatsServer,
}

/// Speaks to the server without natsentry.
async fn direct(server: &NatsServer) -> Wire {
    let mut wire = Wire::connect(server.address()).await;
    wire.line().await.expect("INFO");
    wire.send(&format!(
        "CONNECT {{\"verbose\":false,\"headers\":true,\"user\":\"svc\",\"pass\":{PASSWORD:?}}}\r\n"
    ))
    .await;
    assert!(wire.until_pong().await.is_empty());
    wire
}

impl Stage {
    pub(crate) async fn set(version: Version) -> Self {
        let idp = proxy::idp().await;
        let server = servers::start(version, SERVER);
        fill(&server).await;
        let proxy = Proxy::start(&idp, &Setup::to(server.port()).roles(ROLES)).await;
        let (mut victim, _) = Wire::admitted(proxy.address, &proxy::token(&idp, "historian")).await;
        victim.send("SUB _INBOX.victimvictimvictimvi.* 1\r\n").await;
        assert!(victim.until_pong().await.is_empty(), "the victim listens");
        let mut judge = direct(&server).await;
        judge.send("SUB > 1\r\n").await;
        judge.until_pong().await;
        Self {
            idp,
            proxy,
            judge: judge.into(),
            publisher: direct(&server).await.into(),
            _victim: victim,
            server,
        }
    }

    /// What is published on the server reaches the judge, requests to the API included: a judge that is blind would
    /// find nothing.
    pub(crate) async fn the_judge_can_see(&self) {
        for subject in [
            "secret.y",
            "$JS.API.NOTHING",
            "$SYS.REQ.NOTHING",
            "_INBOX.victimvictimvictimvi.2",
        ] {
            let publish = format!("PUB {subject} 8\r\n{SMUGGLED}\r\n");
            self.publisher.lock().await.send(&publish).await;
            let seen = self.breaches().await;
            assert!(!seen.is_empty(), "the judge does not see {subject}");
        }
    }

    /// What the judge saw since the last time and nobody may have sent.
    async fn breaches(&self) -> Vec<String> {
        let fence = "PUB fence 0\r\n\r\n";
        self.publisher.lock().await.send(fence).await;
        let mut judge = self.judge.lock().await;
        let mut breaches = Vec::new();
        loop {
            let line = judge.line().await.expect("the judge listens");
            let words: Vec<_> = line.split_whitespace().collect();
            if words.first() == Some(&"PING") {
                judge.send("PONG\r\n").await;
            }
            let Some((["MSG" | "HMSG", subject, _], size)) = words
                .split_first_chunk::<3>()
                .and_then(|(head, rest)| Some((head, rest.last()?.parse::<usize>().ok()?)))
            else {
                continue;
            };
            let payload = judge.payload(size).await;
            if *subject == "fence" {
                return breaches;
            }
            if !is_allowed(subject, &String::from_utf8_lossy(&payload)) {
                breaches.push(line.clone());
            }
        }
    }

    /// Makes one attempt. The error says what got through, or what should have been said and was not.
    pub(crate) async fn play(&self, attempt: &Attempt, cut: usize) -> Result<(), String> {
        let mut wire = Wire::connect(self.proxy.address).await;
        wire.line().await.ok_or("no INFO")?;
        let mut said = Vec::new();
        let admitted = match attempt.who {
            Who::Stranger => true,
            Who::Guest => self.admit(&mut wire, "alice", attempt, &mut said).await,
            Who::Wide => self.admit(&mut wire, "bob", attempt, &mut said).await,
        };
        if admitted {
            let (first, second) = attempt.bytes.split_at(cut);
            if !first.is_empty() {
                wire.send_bytes(first).await;
                // Long enough for the pieces to arrive one by one, which is the point of a cut; nothing depends on it.
                sleep(Duration::from_millis(1)).await;
            }
            wire.send_bytes(second).await;
            let mut open = settle(&mut wire, &mut said).await;
            self.publish_what_is_hidden().await;
            if open {
                open = settle(&mut wire, &mut said).await;
            }
            if open {
                // Answers of the API come by themselves.
                settle(&mut wire, &mut said).await;
            }
        }
        let said = said.join("\n");
        if said.contains(FORBIDDEN) {
            return Err(format!("came out: {said}"));
        }
        if said.contains("\"svc\"") || said.contains(PASSWORD) {
            return Err(format!("upstream's user came out: {said}"));
        }
        if !said.contains(attempt.answer) {
            return Err(format!("not said: {}; answers: {said}", attempt.answer));
        }
        Ok(())
    }

    /// CONNECT; the first thing to come after it is the PONG, or a refusal.
    async fn admit(
        &self,
        wire: &mut Wire,
        who: &str,
        attempt: &Attempt,
        said: &mut Vec<String>,
    ) -> bool {
        let token = proxy::token(&self.idp, who);
        let connect = connect_line(&token, &attempt.connect);
        // The last of several counts, for natsentry as for a server.
        wire.send(&connect).await;
        wire.send("PING\r\n").await;
        match wire.line().await {
            Some(line) if line == "PONG" => true,
            Some(line) => {
                assert!(line.starts_with("-ERR '"), "{line}");
                said.push(line);
                false
            }
            None => false,
        }
    }

    async fn publish_what_is_hidden(&self) {
        let mut publisher = self.publisher.lock().await;
        for subject in HIDDEN {
            publisher
                .send(&format!(
                    "PUB {subject} {}\r\n{FORBIDDEN}\r\n",
                    FORBIDDEN.len()
                ))
                .await;
        }
        publisher.until_pong().await;
    }

    /// What others stored is still there.
    async fn nothing_is_gone(&self) {
        let context = context(&self.server).await;
        let stream = context.get_stream("S").await.expect("the stream");
        stream
            .get_last_raw_message_by_subject("js.secret")
            .await
            .expect("somebody else's message");
        let bucket = context.get_stream("KV_config").await.expect("the bucket");
        bucket
            .get_last_raw_message_by_subject("$KV.config.theirs")
            .await
            .expect("somebody else's key");
        let theirs: Result<jetstream::consumer::PullConsumer, _> =
            stream.get_consumer("theirs").await;
        let theirs = theirs.expect("somebody else's consumer");
        let config = &theirs.cached_info().config;
        assert_eq!(
            (
                config.deliver_subject.as_deref(),
                config.filter_subject.as_str()
            ),
            (None, "")
        );
    }

    pub(crate) async fn end(self) {
        self.nothing_is_gone().await;
        drop(self.proxy.stop().await);
    }
}

/// Reads up to the answer of a PING. False when the connection ended, or waits for more of what was begun.
async fn settle(wire: &mut Wire, said: &mut Vec<String>) -> bool {
    wire.send("PING\r\n").await;
    while let Ok(Some(line)) = timeout(SILENCE, wire.line()).await {
        if line == "PONG" {
            return true;
        }
        said.push(line);
    }
    false
}

/// Whether a message on the server may have been sent by somebody here.
fn is_allowed(subject: &str, payload: &str) -> bool {
    if payload.contains(FORBIDDEN) || subject.starts_with("$JS.EVENT.") {
        return true;
    }
    if subject.starts_with("ok.") || subject.starts_with("js.ok.") {
        return true;
    }
    if let Some(token) = subject.strip_prefix("_INBOX.") {
        return !token.starts_with("victim");
    }
    // The long form of an acknowledgement of one's own consumer, whose fourth and third token are free. No other consumer
    // listens to eleven tokens; had one, its message would have come out.
    if subject.starts_with("$JS.ACK.") && subject.split('.').skip(4).take(2).eq(["S", "mine"]) {
        return subject.split('.').count() >= 11;
    }
    // Requests to the API that are granted, with bodies that try to get more: what counts is what comes out.
    let granted = [
        "$JS.API.DIRECT.GET.S.js.ok.1",
        "$JS.API.CONSUMER.CREATE.S.mine.js.ok.*",
        "$JS.API.CONSUMER.MSG.NEXT.S.mine",
    ];
    granted.contains(&subject)
        || subject.starts_with("$KV.config.mine.")
        || !(subject.starts_with("secret.")
            || subject.starts_with('$')
            || payload.contains(SMUGGLED))
}

/// JetStream without natsentry.
async fn context(server: &NatsServer) -> jetstream::Context {
    let options = async_nats::ConnectOptions::with_user_and_password("svc".into(), PASSWORD.into());
    let client = options.connect(server.url()).await.expect("the server");
    jetstream::new(client)
}

/// A stream with something to hide, and a consumer of somebody else.
async fn fill(server: &NatsServer) {
    let context = context(server).await;
    let config = stream::Config {
        name: "S".to_owned(),
        subjects: vec!["js.ok.*".to_owned(), "js.secret".to_owned()],
        allow_direct: true,
        ..stream::Config::default()
    };
    let stream = context.create_stream(config).await.expect("a stream");
    for (subject, body) in [("js.secret", FORBIDDEN), ("js.ok.1", "open")] {
        let ack = context.publish(subject, body.into()).await.expect("sent");
        ack.await.expect("stored");
    }
    // A bucket as clients make it; by hand, since the newest client's own way is not for the oldest server.
    let bucket = stream::Config {
        name: "KV_config".to_owned(),
        subjects: vec!["$KV.config.>".to_owned()],
        max_messages_per_subject: 1,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..stream::Config::default()
    };
    context.create_stream(bucket).await.expect("a bucket");
    let ack = context
        .publish("$KV.config.theirs", FORBIDDEN.into())
        .await
        .expect("sent");
    ack.await.expect("stored");
    let theirs = jetstream::consumer::pull::Config {
        durable_name: Some("theirs".to_owned()),
        ..Default::default()
    };
    stream.create_consumer(theirs).await.expect("a consumer");
}
