//! What a client and a third party do, step by step.

use serde_json::{Map, Value, json};

use super::random::Random;
use super::subjects::show;

/// Members of CONNECT besides credentials; what is absent has the server's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) verbose: Option<bool>,
    pub(crate) pedantic: Option<bool>,
    pub(crate) echo: Option<bool>,
    pub(crate) headers: bool,
    pub(crate) no_responders: bool,
    pub(crate) protocol: Option<u8>,
}

impl Options {
    pub(crate) fn random(random: &mut Random) -> Self {
        let flag =
            |random: &mut Random| *random.pick(&[Some(true), Some(false), Some(false), None]);
        let headers = !random.once_in(5);
        Self {
            verbose: flag(random),
            pedantic: flag(random),
            echo: *random.pick(&[Some(true), Some(false), None]),
            headers,
            no_responders: headers && !random.once_in(3),
            protocol: *random.pick(&[Some(1), Some(1), Some(0), None]),
        }
    }

    /// What holds after a second CONNECT with these, where `before` held.
    pub(crate) fn over(&self, before: &Self) -> Self {
        Self {
            verbose: self.verbose.or(before.verbose),
            pedantic: self.pedantic.or(before.pedantic),
            echo: self.echo.or(before.echo),
            protocol: self.protocol.or(before.protocol),
            ..self.clone()
        }
    }

    /// The CONNECT line with these credentials.
    pub(crate) fn connect(&self, credentials: &Map<String, Value>) -> Vec<u8> {
        let mut all = credentials.clone();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                all.insert(key.to_owned(), value);
            }
        };
        put("verbose", self.verbose.map(Value::from));
        put("pedantic", self.pedantic.map(Value::from));
        put("echo", self.echo.map(Value::from));
        put("headers", Some(self.headers.into()));
        put("no_responders", Some(self.no_responders.into()));
        put("protocol", self.protocol.map(Value::from));
        put("lang", Some(json!("oracle")));
        format!("CONNECT {}\r\n", Value::Object(all)).into_bytes()
    }
}

/// How a line is written; all of these mean the same to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    lower: bool,
    between: &'static str,
    end: &'static str,
    zeros: &'static str,
}

pub(crate) const CANONICAL: Style = Style {
    lower: false,
    between: " ",
    end: "\r\n",
    zeros: "",
};

impl Style {
    pub(crate) fn random(random: &mut Random) -> Self {
        if !random.once_in(3) {
            return CANONICAL;
        }
        Self {
            lower: random.once_in(3),
            between: *random.pick(&[" ", "  ", "\t", " \t "]),
            end: *random.pick(&["\r\n", "\r\n", "\n", " \r\n"]),
            zeros: *random.pick(&["", "", "0", "000"]),
        }
    }

    fn line(self, verb: &str, words: &[&[u8]]) -> Vec<u8> {
        let verb = if self.lower {
            verb.to_lowercase()
        } else {
            verb.to_owned()
        };
        let mut line = verb.into_bytes();
        for word in words {
            line.extend_from_slice(self.between.as_bytes());
            line.extend_from_slice(word);
        }
        line.extend_from_slice(self.end.as_bytes());
        line
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Publish {
        subject: Vec<u8>,
        reply: Option<Vec<u8>>,
        /// A header block, which makes it an HPUB.
        header: Option<Vec<u8>>,
        body: Vec<u8>,
        style: Style,
    },
    Subscribe {
        subject: Vec<u8>,
        queue: Option<String>,
        sid: String,
        style: Style,
    },
    Unsubscribe {
        sid: String,
        max: Option<String>,
    },
    /// Answered with PONG.
    Ping(&'static str),
    /// A line without an answer.
    Noise(&'static str),
    /// A second CONNECT, as the same identity or as somebody else.
    Again {
        same: bool,
        options: Options,
    },
    /// Something that ends the session. With a CR without LF where the flag is set.
    Fatal {
        bytes: Vec<u8>,
        lone_cr: bool,
    },
}

impl Op {
    /// What goes over the wire; `credentials` are those of the same identity and of another one.
    pub(crate) fn bytes(&self, credentials: [&Map<String, Value>; 2]) -> Vec<u8> {
        match self {
            Self::Publish {
                subject,
                reply,
                header,
                body,
                style,
            } => {
                let digits = |count: usize| format!("{}{count}", style.zeros).into_bytes();
                let block = header.as_deref().unwrap_or_default();
                let (inner, total) = (digits(block.len()), digits(block.len() + body.len()));
                let mut words: Vec<&[u8]> = vec![subject];
                words.extend(reply.as_deref());
                if header.is_some() {
                    words.push(&inner);
                }
                words.push(&total);
                let verb = if header.is_some() { "HPUB" } else { "PUB" };
                [&style.line(verb, &words), block, body, b"\r\n"].concat()
            }
            Self::Subscribe {
                subject,
                queue,
                sid,
                style,
            } => {
                let mut words: Vec<&[u8]> = vec![subject];
                words.extend(queue.as_ref().map(|queue| queue.as_bytes()));
                words.push(sid.as_bytes());
                style.line("SUB", &words)
            }
            Self::Unsubscribe { sid, max } => {
                let max = max
                    .as_ref()
                    .map(|max| format!(" {max}"))
                    .unwrap_or_default();
                format!("UNSUB {sid}{max}\r\n").into_bytes()
            }
            Self::Ping(line) | Self::Noise(line) => line.as_bytes().to_vec(),
            Self::Again { same, options } => options.connect(credentials[usize::from(!same)]),
            Self::Fatal { bytes, .. } => bytes.clone(),
        }
    }

    pub(crate) fn show(&self) -> String {
        match self {
            Self::Again { same, options } => {
                format!("CONNECT again, same identity: {same}, {options:?}")
            }
            Self::Fatal { bytes, .. } if bytes.len() > 200 => {
                format!("{}... ({} bytes)", show(&bytes[..200]), bytes.len())
            }
            op => show(&op.bytes([&Map::new(), &Map::new()])),
        }
    }
}

/// What is done before everybody waits for a PONG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// By the client, in one write or, with the flag, in several.
    Client(Vec<Op>, bool),
    /// By the third party.
    Peer(Vec<Op>),
}

impl Step {
    pub(crate) fn ops(&self) -> &[Op] {
        match self {
            Self::Client(ops, _) | Self::Peer(ops) => ops,
        }
    }

    pub(crate) fn ops_mut(&mut self) -> &mut Vec<Op> {
        match self {
            Self::Client(ops, _) | Self::Peer(ops) => ops,
        }
    }
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) options: Options,
    pub(crate) steps: Vec<Step>,
}

impl Script {
    pub(crate) fn show(&self) -> String {
        let mut text = format!("  {:?}\n", self.options);
        for step in &self.steps {
            let who = match step {
                Step::Client(_, false) => "client",
                Step::Client(_, true) => "client, in pieces",
                Step::Peer(_) => "third party",
            };
            text.push_str(&format!("  {who}\n"));
            for op in step.ops() {
                text.push_str(&format!("    {}\n", op.show()));
            }
        }
        text
    }

    /// Everything that is a little shorter, the bolder cuts first.
    pub(crate) fn shorter(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for index in 0..self.steps.len() {
            let mut copy = self.clone();
            copy.steps.remove(index);
            all.push(copy);
        }
        for index in 0..self.steps.len() {
            for op in 0..self.steps[index].ops().len() {
                let mut copy = self.clone();
                copy.steps[index].ops_mut().remove(op);
                all.push(copy);
            }
        }
        let plain = Options {
            verbose: Some(false),
            pedantic: Some(false),
            echo: None,
            headers: true,
            no_responders: self.options.no_responders,
            protocol: Some(1),
        };
        if self.options != plain {
            all.push(Self {
                options: plain,
                ..self.clone()
            });
        }
        all
    }

    /// What holds for each operation of the client in a step.
    pub(crate) fn in_force(&self, step: usize) -> Vec<Options> {
        let mut options = self.options.clone();
        let mut all = Vec::new();
        for step in self.steps.iter().take(step + 1) {
            all.clear();
            for op in step.ops() {
                if let Op::Again { options: later, .. } = op {
                    options = later.over(&options);
                }
                all.push(options.clone());
            }
        }
        all
    }

    /// Whether the client wants to hear of requests that nobody answers at some time.
    pub(crate) fn asks_for_no_responders(&self) -> bool {
        let mut ops = self.steps.iter().flat_map(Step::ops);
        let later = |op: &Op| matches!(op, Op::Again { options, .. } if options.no_responders);
        self.options.no_responders || ops.any(later)
    }

    /// Every sid that the client names.
    pub(crate) fn sids(&self) -> Vec<String> {
        let ops = self.steps.iter().flat_map(Step::ops);
        let mut sids: Vec<String> = ops
            .filter_map(|op| match op {
                Op::Subscribe { sid, .. } => Some(sid.clone()),
                _ => None,
            })
            .collect();
        sids.sort();
        sids.dedup();
        sids
    }
}
