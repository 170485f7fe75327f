//! What is tried. With `NATSENTRY_HOSTILE=full` cut at every byte where it says so, else at every seventh.
//!
//! `S!` in bytes stands for a payload that must never arrive anywhere but below `ok.`; what must never come back to
//! the attacker carries another mark, which the stage publishes.

/// The mark of what must not come in.
pub(crate) const SMUGGLED: &str = "SMUGGLED";

/// Who tries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// May publish to `ok.>` and `js.ok.*`, subscribe to `ok.>`, `in.*` and `wide.>` without `wide.hidden`, and read `js.ok.*` of the
    /// stream S by the consumer `mine`; inbox private.
    Guest,
    /// May publish and subscribe to everything, inbox off.
    Wide,
    /// Has no session: speaks before or instead of CONNECT.
    Stranger,
}

/// One attempt.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The item of the list of surprises that it is about; `-` for others.
    pub(crate) item: &'static str,
    pub(crate) name: &'static str,
    pub(crate) who: Who,
    /// More members of CONNECT, with a leading comma.
    pub(crate) connect: String,
    pub(crate) bytes: Vec<u8>,
    /// Play it once for every place where the bytes can be cut in two.
    pub(crate) at_every_cut: bool,
    /// What has to be among the answers; empty for "closed, or anything that is not forbidden".
    pub(crate) answer: &'static str,
}

impl Attempt {
    /// Where to cut: 0 for not at all.
    pub(crate) fn cuts(&self) -> Vec<usize> {
        if self.at_every_cut {
            let step = if std::env::var_os("NATSENTRY_HOSTILE").is_some() {
                1
            } else {
                7
            };
            (0..self.bytes.len()).step_by(step).collect()
        } else {
            vec![0]
        }
    }

    pub(crate) fn row(&self) -> (String, String) {
        (self.item.to_owned(), self.name.to_owned())
    }

    fn cut(mut self) -> Self {
        self.at_every_cut = true;
        self
    }

    fn who(mut self, who: Who) -> Self {
        self.who = who;
        self
    }

    fn connect(mut self, connect: &str) -> Self {
        connect.clone_into(&mut self.connect);
        self
    }

    fn answer(mut self, answer: &'static str) -> Self {
        self.answer = answer;
        self
    }
}

fn attempt(item: &'static str, name: &'static str, bytes: impl AsRef<[u8]>) -> Attempt {
    let text = bytes.as_ref();
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|two| two == b"S!") {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(SMUGGLED.as_bytes());
        rest = &rest[at + 2..];
    }
    out.extend_from_slice(rest);
    Attempt {
        item,
        name,
        who: Who::Guest,
        connect: String::new(),
        bytes: out,
        at_every_cut: false,
        answer: "",
    }
}

/// A publish with the right size.
fn publish(subject: &str, reply: &str, body: &str) -> String {
    let body = body.replace("S!", SMUGGLED);
    format!("PUB {subject} {reply} {}\r\n{body}\r\n", body.len())
}

fn headers(subject: &str, block: &str, body: &str) -> String {
    let body = body.replace("S!", SMUGGLED);
    let (head, total) = (block.len(), block.len() + body.len());
    format!("HPUB {subject} {head} {total}\r\n{block}{body}\r\n")
}

const INBOX: &str = "_INBOX.attackerattackerattac";

fn with_inbox(then: &str) -> String {
    format!("SUB {INBOX}.* 9\r\n{then}")
}

const PUBLISH_DENIED: &str = "Permissions Violation for Publish";
const SUBSCRIBE_DENIED: &str = "Permissions Violation for Subscription";

/// Everything.
pub(crate) fn all() -> Vec<Attempt> {
    [
        grammar(),
        connects(),
        subscriptions(),
        replies(),
        jetstream(),
        header_names(),
        reserved(),
    ]
    .concat()
}

const HIDDEN: &str = "PUB secret.x 8\r\nS!\r\n";

fn grammar() -> Vec<Attempt> {
    let hidden_in = |line: &str| format!("{line}{HIDDEN}PING\r\n");
    vec![
        attempt(
            "1",
            "an operation behind a line with too many arguments",
            hidden_in("PUB ok.a b c 5\r\nhello\r\n"),
        ),
        attempt(
            "1",
            "an operation behind a size of ten digits",
            hidden_in("PUB ok.a 0000000005\r\nhello\r\n"),
        ),
        attempt(
            "1",
            "an operation behind a size that overflows",
            hidden_in("PUB ok.a 4294967301\r\nhello\r\n"),
        ),
        attempt(
            "1",
            "an operation behind a negative size",
            hidden_in("PUB ok.a -1\r\n"),
        ),
        attempt(
            "1",
            "an operation behind HPUB whose headers exceed it",
            hidden_in("HPUB ok.a 20 5\r\nhello\r\n"),
        ),
        attempt(
            "1",
            "HPUB although CONNECT said no headers",
            headers("secret.x", "NATS/1.0\r\n\r\n", "S!"),
        )
        .connect(",\"headers\":false,\"no_responders\":false"),
        attempt(
            "1",
            "an operation behind a bare LF after a payload",
            "PUB ok.a 5\r\nhello\nPUB secret.x 8\r\nS!\r\n",
        ),
        attempt(
            "3",
            "a carriage return inside arguments, cut at every byte",
            "PUB ok.a\r 55\nPUB secret.x 8\r\nS!\r\nPUB ok.a 10\r\n0123456789\r\n",
        )
        .cut(),
        attempt(
            "3",
            "a carriage return before the line feed, twice",
            "PUB ok.a 28\r\r\nPUB secret.x 8\r\nS!\r\n\r\n",
        )
        .cut(),
        attempt(
            "3",
            "a carriage return inside a subscription, cut at every byte",
            "SUB in\r.a.b 1\r\nSUB in.a\r.b 2\r\n",
        )
        .cut(),
        attempt(
            "3",
            "a carriage return in the tail of PING",
            "PING \rPUB secret.x 8\r\nS!\r\n",
        )
        .cut(),
        attempt(
            "9",
            "a size with leading zeros over a payload with an operation",
            "PUB ok.a 000000026\r\nPUB secret.x 8\r\nS!\r\nxx\r\n",
        )
        .cut(),
        attempt(
            "28",
            "operations inside a denied payload, cut at every byte",
            format!(
                "PUB secret.x {}\r\n{HIDDEN}\r\n",
                HIDDEN.replace("S!", SMUGGLED).len()
            ),
        )
        .cut()
        .answer(PUBLISH_DENIED),
        attempt(
            "28",
            "a denied payload shorter than it says",
            "PUB secret.x 40\r\nPUB secret.y 8\r\nS!\r\nPING\r\n",
        ),
        attempt(
            "10",
            "a denied subject with quotes and control bytes that could end the error line",
            b"PUB secret.'\x01\x0b\xff\x85+OK 8\r\nS!\r\n",
        )
        .answer(PUBLISH_DENIED),
        attempt(
            "10",
            "a vertical tab, a form feed, NUL and a no-break space as separators",
            b"PUB ok.a\x0bsecret.x 8\r\nS!\r\nPUB\x0csecret.x 8\r\nS!\r\n",
        ),
        attempt(
            "10",
            "a no-break space as separator",
            "PUB\u{a0}secret.x 8\r\nS!\r\n",
        ),
        attempt(
            "-",
            "PUB in lower case with tabs and runs of blanks",
            "pUb \t secret.x\t\t 8 \nS!\r\n",
        )
        .cut()
        .answer(PUBLISH_DENIED),
        attempt(
            "-",
            "an operation in the tail of +OK",
            "+OK PUB secret.x 8\r\nS!\r\n",
        ),
        attempt(
            "-",
            "HMSG, which a server takes for a message without a subject",
            "HMSG secret.x 1 8 8\r\n\r\nPUB secret.x 8\r\nS!\r\n",
        ),
        attempt("-", "MSG from a client", "MSG secret.x 1 8\r\nS!\r\n"),
        attempt(
            "-",
            "INFO from a client, then an operation",
            "INFO {}\r\nPUB secret.x 8\r\nS!\r\n",
        )
        .answer(PUBLISH_DENIED),
        attempt(
            "-",
            "-ERR from a client, then an operation",
            "-ERR 'x'\r\nPUB secret.x 8\r\nS!\r\n",
        ),
        attempt("-", "verbs of routes and leaf nodes", "RS+ $G secret.x\r\n"),
        attempt(
            "-",
            "verbs of leaf nodes",
            "LS+ secret.x\r\nLMSG secret.x 8\r\nS!\r\n",
        ),
        attempt(
            "-",
            "verbs of gateways",
            "A+ $G\r\nRMSG $G secret.x 8\r\nS!\r\n",
        ),
        attempt(
            "-",
            "a control line beyond the limit, with an operation behind it",
            format!("PUB ok.{} 5\r\nhello\r\n{HIDDEN}", "a".repeat(5000)),
        ),
        attempt(
            "25",
            "a denied publish between two PINGs is answered between their PONGs",
            "PING\r\nPUB secret.x 8\r\nS!\r\nPING\r\n",
        )
        .answer(PUBLISH_DENIED),
    ]
}

fn connects() -> Vec<Attempt> {
    let svc = "\"user\":\"svc\",\"pass\":\"correct horse battery\"";
    vec![
        attempt("2", "an operation hidden in a CONNECT longer than a server reads", HIDDEN).connect(&format!(
            ",\"name\":\"{}\\r\\nPUB secret.x 8\\r\\nSMUGGLED\\r\\n\"",
            "n".repeat(20_000)
        )).answer(PUBLISH_DENIED),
        attempt("4", "credentials of upstream under folded keys", HIDDEN)
            .connect(",\"USER\":\"svc\",\"PA\\u017f\\u017f\":\"correct horse battery\"")
            .who(Who::Guest),
        attempt("4", "a field of the token twice, folded", HIDDEN).connect(",\"AUTH_TOKEN\":\"x\""),
        attempt("4", "an account in CONNECT", HIDDEN).connect(",\"Account\":\"$SYS\""),
        attempt("5", "a second CONNECT with upstream's credentials", format!("CONNECT {{{svc}}}\r\n{HIDDEN}")),
        attempt("5", "a second CONNECT without credentials, then an operation", format!("CONNECT {{}}\r\n{HIDDEN}")).answer(PUBLISH_DENIED),
        attempt("5", "a second CONNECT that turns echo, headers and names on and off", format!("CONNECT {{\"echo\":false,\"headers\":false,\"no_responders\":false,\"user\":\"svc\"}}\r\n{HIDDEN}")).answer(PUBLISH_DENIED),
        attempt("4", "a role that one does not have", HIDDEN).connect(",\"user\":\"wide\"").answer(PUBLISH_DENIED),
        attempt("20", "a proxy_sig, a nkey and a jwt of the client's own", HIDDEN).connect(",\"proxy_sig\":\"AAAA\",\"nkey\":\"UAGWZ22T3MJDHJFXSQVSCDGHMV3KTAEVXEGW2I7362TJPGGOCPLPQ3CA\",\"sig\":\"AAAA\"").answer(PUBLISH_DENIED),
        attempt("-", "an operation before CONNECT", HIDDEN).who(Who::Stranger).answer("Authorization Violation"),
        attempt("-", "upstream's own credentials instead of a token", format!("CONNECT {{{svc}}}\r\n{HIDDEN}")).who(Who::Stranger).answer("Authorization Violation"),
        attempt("-", "CONNECT of a leaf node", format!("CONNECT {{{svc},\"cluster\":\"c\",\"is_hub\":true}}\r\nLS+ secret.x\r\n")).who(Who::Stranger).answer("Authorization Violation"),
        attempt("-", "CONNECT of a route", "CONNECT {\"server_id\":\"x\",\"name\":\"x\",\"cluster\":\"c\"}\r\nRS+ $G secret.x\r\n").who(Who::Stranger).answer("Authorization Violation"),
        attempt("21", "a PROXY header of the client's own", format!("PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n{HIDDEN}")).who(Who::Stranger).answer("Authorization Violation"),
        attempt("-", "an HTTP upgrade to WebSocket", "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n").who(Who::Stranger).answer("Authorization Violation"),
        attempt("-", "a ClientHello on a plain listener", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03").who(Who::Stranger).answer("Authorization Violation"),
    ]
}

fn subscriptions() -> Vec<Attempt> {
    vec![
        attempt(
            "12",
            "a full wildcard under a grant that ends in a single one",
            "SUB in.> 1\r\n",
        )
        .answer(SUBSCRIBE_DENIED),
        attempt(
            "12",
            "everything",
            "SUB > 1\r\nSUB *.x 2\r\nSUB *.> 3\r\nSUB *.*.* 4\r\n",
        )
        .answer(SUBSCRIBE_DENIED),
        attempt(
            "12",
            "a wildcard inside a token and empty tokens",
            "SUB in.a*.b 1\r\nSUB in..b 2\r\nSUB in.a. 3\r\nSUB .secret.x 4\r\n",
        ),
        attempt(
            "13",
            "a wildcard over a deny entry",
            "SUB wide.> 1\r\nSUB wide.* 2\r\n",
        ),
        attempt("13", "the denied subject itself", "SUB wide.hidden 1\r\n")
            .answer(SUBSCRIBE_DENIED),
        attempt(
            "13",
            "a queue group over a deny entry",
            "SUB wide.* q 1\r\n",
        )
        .answer(SUBSCRIBE_DENIED),
        attempt(
            "13",
            "a wildcard over a deny entry with UNSUB max",
            "SUB wide.* 1\r\nUNSUB 1 3\r\n",
        ),
        attempt(
            "27",
            "a sid that is taken, with another subject",
            "SUB ok.a 7\r\nSUB secret.> 7\r\nSUB in.* 7\r\n",
        )
        .answer(SUBSCRIBE_DENIED),
        attempt(
            "27",
            "UNSUB and SUB again on a sid, with another subject",
            "SUB ok.a 7\r\nUNSUB 7\r\nSUB secret.x 7\r\n",
        )
        .answer(SUBSCRIBE_DENIED),
        attempt(
            "27",
            "UNSUB max that is garbage, of a sid nobody has",
            "UNSUB 99 -1\r\nUNSUB 98 x\r\nSUB secret.x 99\r\n",
        )
        .answer(SUBSCRIBE_DENIED),
        attempt(
            "10",
            "a subject in bytes that are no text",
            b"SUB secret.\xff\xfe\x00 1\r\n",
        )
        .answer(SUBSCRIBE_DENIED),
        attempt(
            "27",
            "a sid with blanks, quotes and wildcards around it",
            "SUB secret.x \"1\r\nSUB secret.x * > 1\r\n",
        ),
    ]
}

fn replies() -> Vec<Attempt> {
    let inbox_of_others = "_INBOX.victimvictimvictimvi";
    vec![
        attempt("14", "a reply where one may not publish", publish("ok.svc", "secret.x", "S!")).answer("Publish with Reply"),
        attempt("14", "a PubAck as a write", publish("js.ok.1", "secret.x", "S!")).answer("Publish with Reply"),
        attempt("14", "a reply in somebody else's inbox", publish("ok.svc", &format!("{inbox_of_others}.1"), "S!")).answer("Publish with Reply"),
        attempt("14", "somebody else's inbox", format!("SUB {inbox_of_others}.* 1\r\nSUB _INBOX.> 2\r\nSUB _INBOX.* 3\r\nSUB _INBOX.*.* 4\r\n")).answer(SUBSCRIBE_DENIED),
        attempt("14", "a reply with wildcards", publish("ok.svc", &format!("{INBOX}.>"), "x") + &publish("ok.svc", "secret.>", "S!")).answer("Publish with Reply"),
        attempt("14", "an inbox by a prefix of it", with_inbox(&publish("ok.svc", "_INBOX.attackerattackerattacX", "S!"))).answer("Publish with Reply"),
        attempt("23", "an answer to a request that never came", publish("secret.reply", "", "S!")).answer(PUBLISH_DENIED),
        attempt("29", "a denied request", with_inbox(&publish("secret.svc", &format!("{INBOX}.1"), "S!"))).answer(PUBLISH_DENIED),
        attempt("22", "a payload beyond the role's limit and below the server's", format!("PUB ok.a 70000\r\n{}\r\n{HIDDEN}", "x".repeat(70_000))).answer("Maximum Payload Violation"),
    ]
}

fn jetstream() -> Vec<Attempt> {
    let asks =
        |subject: &str, body: &str| with_inbox(&publish(subject, &format!("{INBOX}.1"), body));
    let mine = "$JS.API.CONSUMER.CREATE.S.mine.js.ok.*";
    let pull = asks(
        "$JS.API.CONSUMER.MSG.NEXT.S.mine",
        "{\"batch\":10,\"no_wait\":true}",
    );
    let create = |subject: &str, config: &str| {
        asks(
            subject,
            &format!(
                "{{\"stream_name\":\"S\",\"config\":{{\"name\":\"mine\",\"ack_policy\":\"none\",\"description\":\"S!\"{config}}}}}"
            ),
        )
    };
    let stream = |config: &str| {
        let body = format!("{{\"name\":\"MINE\",\"storage\":\"memory\",{config}}}");
        asks("$JS.API.STREAM.CREATE.MINE", &body)
    };
    vec![
        attempt("11", "a direct get with a wildcard wider than the grant", asks("$JS.API.DIRECT.GET.S.js.>", "")).answer(PUBLISH_DENIED),
        attempt("11", "a direct get with a full wildcard under a single one", asks("$JS.API.DIRECT.GET.S.js.ok.>", "")).answer(PUBLISH_DENIED),
        attempt("11", "a consumer with a wider filter in its subject", create("$JS.API.CONSUMER.CREATE.S.mine.js.>", ",\"filter_subject\":\"js.>\"")).answer(PUBLISH_DENIED),
        attempt("11", "a consumer under another's name", create("$JS.API.CONSUMER.CREATE.S.*.js.ok.*", ",\"filter_subject\":\"js.ok.*\"")).answer(PUBLISH_DENIED),
        attempt("11", "a consumer with its filter in the body", create("$JS.API.CONSUMER.CREATE.S.mine", ",\"filter_subject\":\"js.secret\"")).answer(PUBLISH_DENIED),
        attempt("11", "an ephemeral consumer", create("$JS.API.CONSUMER.CREATE.S", ",\"filter_subject\":\"js.secret\"")).answer(PUBLISH_DENIED),
        attempt("11", "a durable consumer", create("$JS.API.CONSUMER.DURABLE.CREATE.S.mine", ",\"durable_name\":\"mine\"")).answer(PUBLISH_DENIED),
        attempt("11", "the API of another domain", create("$JS.hub.API.CONSUMER.CREATE.S.mine", "")).answer(PUBLISH_DENIED),
        attempt("15", "a push consumer that delivers where one may not publish", create("$JS.API.CONSUMER.CREATE.S.mine.js.ok.*", ",\"filter_subject\":\"js.ok.*\",\"deliver_subject\":\"secret.x\"")).answer(PUBLISH_DENIED),
        attempt("15", "the same under a folded key", create("$JS.API.CONSUMER.CREATE.S.mine.js.ok.*", ",\"filter_subject\":\"js.ok.*\",\"deliver_\u{17f}ubject\":\"secret.x\"")).answer(PUBLISH_DENIED),
        attempt("15", "the same in a body that is cut", create("$JS.API.CONSUMER.CREATE.S.mine.js.ok.*", ",\"Deliver_Subject\":\"secret.x\"")).cut().answer(PUBLISH_DENIED),
        attempt("15", "the same with headers before the body", with_inbox(&headers("$JS.API.CONSUMER.CREATE.S.mine.js.ok.*", "NATS/1.0\r\n\r\n", "{\"stream_name\":\"S\",\"config\":{\"description\":\"S!\",\"deliver_subject\":\"secret.x\"}}"))).answer(PUBLISH_DENIED),
        attempt("15", "a push consumer that delivers into somebody else's inbox", create("$JS.API.CONSUMER.CREATE.S.mine.js.ok.*", ",\"deliver_subject\":\"_INBOX.victimvictimvictimvi.1\"")).answer(PUBLISH_DENIED),
        attempt("18", "a message by its number", asks("$JS.API.STREAM.MSG.GET.S", "{\"seq\":1}") + &asks("$JS.API.DIRECT.GET.S", "{\"seq\":1}")).answer(PUBLISH_DENIED),
        attempt("18", "a body with a selector on a direct get of a granted subject", asks("$JS.API.DIRECT.GET.S.js.ok.1", "{\"last_by_subj\":\"js.secret\"}")),
        attempt("18", "several selectors on a direct get of a granted subject", asks("$JS.API.DIRECT.GET.S.js.ok.1", "{\"multi_last\":[\"js.>\"]}") + &asks("$JS.API.DIRECT.GET.S.js.ok.1", "{\"seq\":1,\"batch\":10}") + &asks("$JS.API.DIRECT.GET.S.js.ok.1", "{\"next_by_subj\":\"js.>\"}")),
        attempt("11", "a granted consumer with another filter in its body", create(mine, ",\"filter_subject\":\"js.secret\"") + &pull),
        attempt("11", "a granted consumer with a filter under a folded key", create(mine, ",\"filter_subject\":\"js.ok.*\",\"FILTER_SUBJECT\":\"js.secret\"") + &pull),
        attempt("11", "a granted consumer with several filters in its body", create(mine, ",\"filter_subjects\":[\"js.secret\"]") + &pull),
        attempt("11", "a granted consumer without a filter in its body", create(mine, "") + &pull),
        attempt("11", "a granted consumer that is changed to another filter", create(mine, ",\"filter_subject\":\"js.ok.*\"") + &create(mine, ",\"filter_subject\":\"js.>\"") + &pull),
        attempt("11", "a granted consumer of another stream and name in its body", asks(mine, "{\"stream_name\":\"S\",\"config\":{\"name\":\"theirs\",\"durable_name\":\"theirs\",\"filter_subject\":\"js.ok.*\"}}") + &asks(mine, "{\"stream_name\":\"KV_config\",\"config\":{\"name\":\"mine\"}}") + &pull),
        attempt("16", "a rollup of a whole bucket from one's own key", headers("$KV.config.mine.a", "NATS/1.0\r\nNats-Rollup: ALL\r\n\r\n", "x")).answer(PUBLISH_DENIED),
        attempt("18", "+NXT on another's consumer", asks("$JS.ACK.S.theirs.1.1.1.1.1", "+NXT")).answer(PUBLISH_DENIED),
        attempt("18", "+NXT on another's consumer in the long form that looks like one's own", asks("$JS.ACK.S.theirs.S.mine.1.1.1", "+NXT") + &asks("$JS.ACK.S.theirs.S.mine.1.1.1.1.1", "+NXT")),
        attempt("18", "a pull from another's consumer", asks("$JS.API.CONSUMER.MSG.NEXT.S.theirs", "")).answer(PUBLISH_DENIED),
        attempt("18", "a stream of one's own over everybody's subjects", asks("$JS.API.STREAM.CREATE.T", "{\"name\":\"T\",\"subjects\":[\"secret.>\"]}")).answer(PUBLISH_DENIED),
        attempt("18", "a granted stream over everybody's subjects", stream("\"subjects\":[\"secret.>\"]")).answer(PUBLISH_DENIED),
        attempt("18", "the same in a body that is cut, under a folded key", stream("\"\u{17f}ubjects\":[\"secret.>\"]")).cut().answer(PUBLISH_DENIED),
        attempt("18", "a granted stream that copies another", stream("\"sources\":[{\"name\":\"S\"}]")).answer(PUBLISH_DENIED),
        attempt("18", "a granted stream that mirrors another", stream("\"mirror\":{\"name\":\"S\"}")).answer(PUBLISH_DENIED),
        attempt("15", "a granted stream that publishes again where one may not", stream("\"subjects\":[\"ok.mine\"],\"republish\":{\"src\":\"ok.mine\",\"dest\":\"secret.x\"}") + &publish("ok.mine", "", SMUGGLED)).answer(PUBLISH_DENIED),
        attempt("15", "the same, with a second key that is harmless", stream("\"subjects\":[\"ok.mine\"],\"republish\":{\"src\":\"ok.mine\",\"dest\":\"secret.x\",\"Dest\":\"ok.a\"}") + &publish("ok.mine", "", SMUGGLED)).answer(PUBLISH_DENIED),
        attempt("19", "who upstream's user is", asks("$SYS.REQ.USER.INFO", "")),
        attempt("19", "who is connected", asks("$SYS.REQ.ACCOUNT.PING.CONNZ", "") + &asks("$SYS.REQ.SERVER.PING", "") + &asks("$SYS.REQ.ACCOUNT.PING.STATZ", "")).answer(PUBLISH_DENIED),
        attempt("19", "events of the system", "SUB $SYS.> 1\r\nSUB $JS.EVENT.> 2\r\n").answer(SUBSCRIBE_DENIED),
    ]
}

fn header_names() -> Vec<Attempt> {
    let trace = |block: &str| headers("ok.a", block, "hello");
    vec![
        attempt("16", "a trace to where one may not publish", trace("NATS/1.0\r\nNats-Trace-Dest: secret.x\r\n\r\n")).answer(PUBLISH_DENIED),
        attempt("16", "the same, cut at every byte", trace("NATS/1.0\r\nNats-Trace-Dest:secret.x\r\n\r\n")).cut().answer(PUBLISH_DENIED),
        attempt("16", "the same with blanks and tabs around it", trace("NATS/1.0\r\nNats-Trace-Dest: \t secret.x \t\r\n\r\n")).answer(PUBLISH_DENIED),
        attempt("16", "the same behind one that is granted", trace("NATS/1.0\r\nNats-Trace-Dest: ok.t\r\nNats-Trace-Dest: secret.x\r\n\r\n")).answer(PUBLISH_DENIED),
        attempt("16", "the same in other letters", trace("NATS/1.0\r\nnats-trace-dest: secret.x\r\n\r\n") + &trace("NATS/1.0\r\nNATS-TRACE-DEST: secret.x\r\n\r\n")),
        attempt("16", "the same behind the end of the headers", trace("NATS/1.0\r\n\r\nNats-Trace-Dest: secret.x\r\n\r\n")),
        attempt("16", "the same with bare line feeds", trace("NATS/1.0\nNats-Trace-Dest: secret.x\n\n") + &trace("NATS/1.0\r\nA: b\nNats-Trace-Dest: secret.x\r\n\r\n")),
        attempt("16", "the same with blanks before and behind the name", trace("NATS/1.0\r\n Nats-Trace-Dest: secret.x\r\n\r\n") + &trace("NATS/1.0\r\nNats-Trace-Dest : secret.x\r\n\r\n")),
        attempt("16", "the same behind a status", trace("NATS/1.0 100 Idle\r\nNats-Trace-Dest: secret.x\r\n\r\n")).answer(PUBLISH_DENIED),
        attempt("16", "the same without the version", trace("Nats-Trace-Dest: secret.x\r\n\r\n")),
        attempt("16", "the same as a line of the payload", headers("ok.a", "NATS/1.0\r\n\r\n", "\r\nNats-Trace-Dest: secret.x\r\n\r\n")),
        attempt("16", "a schedule into another subject", headers("js.ok.2", "NATS/1.0\r\nNats-Schedule: @at 2030-01-01T00:00:00Z\r\nNats-Schedule-Target: js.secret\r\n\r\n", "S!")).answer(PUBLISH_DENIED),
        attempt("16", "a schedule from another subject", headers("js.ok.2", "NATS/1.0\r\nNats-Schedule: @at 2030-01-01T00:00:00Z\r\nNats-Schedule-Target: js.ok.2\r\nNats-Schedule-Source: js.secret\r\n\r\n", "S!")).answer(PUBLISH_DENIED),
    ]
}

fn reserved() -> Vec<Attempt> {
    let wide = |name, bytes: String| attempt("30", name, bytes).who(Who::Wide);
    vec![
        wide(
            "the server's own prefixes",
            ["_GR_.a.b", "$GR.a.b", "$NRG.a", "$MQTT.a", "$LDS.a"]
                .map(|subject| publish(subject, "", "S!"))
                .concat(),
        )
        .answer(PUBLISH_DENIED),
        wide(
            "reserved prefixes as reply",
            ["_GR_.a.b", "_R_.a", "$JS.ACK.S.theirs.1.1.1.1.1"]
                .map(|reply| publish("ok.a", reply, "S!"))
                .concat(),
        )
        .answer("Publish with Reply"),
        wide(
            "the queue group of the system",
            "SUB ok.a _sys_ 1\r\n".to_owned(),
        )
        .answer(SUBSCRIBE_DENIED),
    ]
}
