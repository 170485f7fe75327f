//! One transcript as values: the setup, and blocks of what goes in with what must come out. `proto-fixtures/README.md`
//! is the grammar.
//!
//! Must never: guess. A line that it does not know is an error with its number.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::pattern::{Pattern, unescape};

/// A transcript.
#[derive(Debug)]
pub(crate) struct Script {
    /// File, from the folder of the fixtures on: `publish/denied.txt`.
    pub(crate) name: String,
    /// Whether a real nats-server with the same permissions must answer the client just so.
    pub(crate) real: Real,
    pub(crate) setup: Setup,
    pub(crate) blocks: Vec<Block>,
}

/// What `# real:` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Real {
    /// Never played against a server.
    No,
    /// Against every server version.
    Yes,
    /// Against these versions only.
    Only(Vec<String>),
}

/// What is given before the first byte.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) client: String,
    pub(crate) start: Start,
    /// CONNECT of a client that is there already; fields over the usual ones, `null` takes one away.
    pub(crate) connect: Map<String, Value>,
    /// INFO of the upstream connection, likewise.
    pub(crate) info: Map<String, Value>,
    /// INFO of the upstream as it was seen earlier, which the greeting is made of; the same where nothing is said.
    pub(crate) greeting: Map<String, Value>,
    /// Grants by role.
    pub(crate) roles: BTreeMap<String, Map<String, Value>>,
    /// Limits of the session by name.
    pub(crate) limits: BTreeMap<String, String>,
    pub(crate) people: BTreeMap<String, Person>,
    /// The upstream cannot be had, for this reason.
    pub(crate) unavailable: Option<String>,
    /// Nobody answers an admission until `! admit`.
    pub(crate) admission_waits: bool,
    /// The client leg is TLS.
    pub(crate) tls: bool,
}

/// How far the client is when the transcript begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Just accepted.
    Connecting,
    /// CONNECT was admitted, nothing else was said.
    Admitted,
    /// Admitted, and the first PING was answered.
    Serving,
}

/// Somebody whose token is just their name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Person {
    /// Code with which the token is refused.
    pub(crate) refused: Option<String>,
    /// How long the session may last.
    pub(crate) expires: Option<Duration>,
    /// Roles of the person; all where absent.
    pub(crate) roles: Option<Vec<String>>,
    /// Subscriptions of a session that this person has besides.
    pub(crate) holds: Vec<String>,
}

/// Inputs, and everything that must come out of them.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) inputs: Vec<(usize, Input)>,
    pub(crate) wants: Vec<Want>,
}

impl Block {
    /// The inputs, where bytes of one side that follow each other are one.
    pub(crate) fn joined(&self) -> Vec<Input> {
        let mut joined: Vec<Input> = Vec::new();
        for (_, input) in &self.inputs {
            match (joined.last_mut(), input) {
                (Some(Input::Client(bytes)), Input::Client(more))
                | (Some(Input::Upstream(bytes)), Input::Upstream(more)) => bytes.extend(more),
                _ => joined.push(input.clone()),
            }
        }
        joined
    }
}

/// One input.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Client(Vec<u8>),
    Upstream(Vec<u8>),
    Clock(Duration),
    Act(Act),
}

/// What somebody or something does.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Ends the session for the reason with this label.
    End(String),
    /// Puts other grants into a role.
    Policy(String, Map<String, Value>),
    /// Lets the admission that waits be answered.
    Admit,
    ClientCloses,
    ClientBreaks,
    ClientStalls(bool),
    UpstreamCloses,
    UpstreamStalls(bool),
}

/// One expectation.
#[derive(Debug)]
pub(crate) struct Want {
    pub(crate) line: usize,
    /// The line as it stands in the file.
    pub(crate) text: String,
    pub(crate) kind: WantKind,
}

/// What is expected where.
#[derive(Debug)]
pub(crate) enum WantKind {
    ToClient(Pattern),
    ToUpstream(Pattern),
    Fact(Fact),
}

/// Words, and pairs of key and value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) words: Vec<String>,
    pub(crate) pairs: Vec<(String, String)>,
}

/// A mistake in a transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) line: usize,
    pub(crate) message: String,
}

/// Stands for any word or value.
const ANYTHING: &str = "\\*";

type Read<T> = Result<T, String>;

impl Fact {
    /// Splits at blanks outside double quotes; a word with `=` after a name is a pair.
    pub(crate) fn parse(text: &str) -> Self {
        let mut fact = Self {
            words: Vec::new(),
            pairs: Vec::new(),
        };
        for word in split(text) {
            match word.split_once('=') {
                Some((key, value)) if key.chars().all(|c| c.is_ascii_lowercase() || c == '_') => {
                    fact.pairs.push((key.to_owned(), value.replace('"', "")));
                }
                _ => fact.words.push(word),
            }
        }
        fact
    }

    /// Whether a fact that happened is the one expected here: the same words, and no other value for a pair.
    pub(crate) fn admits(&self, happened: &Self) -> bool {
        let fits = |(wanted, word): (&String, &String)| wanted == ANYTHING || wanted == word;
        self.words.len() == happened.words.len()
            && self.words.iter().zip(&happened.words).all(fits)
            && self.pairs.iter().all(|(key, wanted)| {
                let mut found = happened.pairs.iter().filter(|(name, _)| name == key);
                found.any(|(_, value)| wanted == ANYTHING || wanted == value)
            })
    }
}

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs = self
            .pairs
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let all: Vec<String> = self.words.iter().cloned().chain(pairs).collect();
        f.write_str(&all.join(" "))
    }
}

fn split(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        quoted ^= c == '"';
        if c == ' ' && !quoted {
            words.push(String::new());
        } else if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// `1500ms`, `30s`, `5m`, `8h`.
pub(crate) fn duration(text: &str) -> Read<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("no duration: {text}"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        unit => Err(format!("no unit of time: {unit:?}")),
    }
}

/// All transcripts below `folder`, sorted by name.
pub(crate) fn all(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "txt") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

impl Script {
    /// Reads one transcript.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, Mistake> {
        let mut script = Self {
            name: name.to_owned(),
            real: Real::No,
            setup: Setup::default(),
            blocks: Vec::new(),
        };
        let mut explained = false;
        for (index, line) in text.split('\n').enumerate() {
            let read = if let Some(comment) = line.strip_prefix('#') {
                explained = true;
                script.comment(comment.trim());
                Ok(())
            } else if line.is_empty() {
                Ok(())
            } else {
                script.line(index + 1, line)
            };
            read.map_err(|message| Mistake {
                line: index + 1,
                message,
            })?;
        }
        let whole = |message: &str| Mistake {
            line: 1,
            message: message.to_owned(),
        };
        if !explained {
            return Err(whole("no comment says what this is for"));
        }
        if script.setup.client.is_empty() {
            return Err(whole("no `given client`"));
        }
        if !script.blocks.iter().any(|block| !block.wants.is_empty()) {
            return Err(whole("nothing is expected"));
        }
        Ok(script)
    }

    fn comment(&mut self, text: &str) {
        match text.strip_prefix("real:").map(str::trim) {
            None => {}
            Some("yes") => self.real = Real::Yes,
            Some(versions) => {
                self.real = Real::Only(versions.split(' ').map(str::to_owned).collect());
            }
        }
    }

    fn line(&mut self, number: usize, line: &str) -> Read<()> {
        if let Some(given) = line.strip_prefix("given ") {
            if !self.blocks.is_empty() {
                return Err("`given` comes before everything else".to_owned());
            }
            return self.setup.given(given.trim());
        }
        let (mark, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        match mark {
            "C>" => self.input(number, Input::Client(unescape(rest)?)),
            "U<" => self.input(number, Input::Upstream(unescape(rest)?)),
            "@" => self.input(number, Input::Clock(duration(rest.trim())?)),
            "!" => {
                let act = self.act(rest.trim())?;
                self.input(number, Input::Act(act))
            }
            "C<" => self.want(number, line, WantKind::ToClient(Pattern::parse(rest)?)),
            "U>" => self.want(number, line, WantKind::ToUpstream(Pattern::parse(rest)?)),
            "=" => self.want(number, line, WantKind::Fact(Fact::parse(rest.trim()))),
            _ => return Err(format!("not a line of a transcript: {line:?}")),
        }
        Ok(())
    }

    fn input(&mut self, line: usize, input: Input) {
        match self.blocks.last_mut() {
            Some(block) if block.wants.is_empty() => block.inputs.push((line, input)),
            _ => self.blocks.push(Block {
                inputs: vec![(line, input)],
                wants: Vec::new(),
            }),
        }
    }

    fn want(&mut self, line: usize, text: &str, kind: WantKind) {
        let want = Want {
            line,
            text: text.to_owned(),
            kind,
        };
        match self.blocks.last_mut() {
            Some(block) => block.wants.push(want),
            None => self.blocks.push(Block {
                inputs: Vec::new(),
                wants: vec![want],
            }),
        }
    }

    fn act(&self, text: &str) -> Read<Act> {
        if let Some(change) = text.strip_prefix("policy ") {
            let (role, grants) = role_line(change)?;
            return Ok(Act::Policy(role, grants));
        }
        Ok(match text {
            "drain" => Act::End("drained".to_owned()),
            "kill" => Act::End("killed".to_owned()),
            "lose roles" => Act::End("role_lost".to_owned()),
            "admit" => Act::Admit,
            "client closes" => Act::ClientCloses,
            "client breaks" => Act::ClientBreaks,
            "client stalls" => Act::ClientStalls(true),
            "client reads" => Act::ClientStalls(false),
            "upstream closes" => Act::UpstreamCloses,
            "upstream stalls" => Act::UpstreamStalls(true),
            "upstream reads" => Act::UpstreamStalls(false),
            _ => match text.strip_prefix("revoke ") {
                Some(name) if name == self.setup.client => Act::End("revoked".to_owned()),
                _ => return Err(format!("not an act: {text:?}")),
            },
        })
    }
}

/// `KEY = JSON`, for the one role `fixture`; or `ROLE.KEY = JSON`.
fn role_line(text: &str) -> Read<(String, Map<String, Value>)> {
    let (key, value) = text.split_once('=').ok_or("no `=`")?;
    let value: Value = serde_json::from_str(value.trim()).map_err(|error| error.to_string())?;
    let (role, key) = key
        .trim()
        .split_once('.')
        .unwrap_or(("fixture", key.trim()));
    Ok((role.to_owned(), Map::from_iter([(key.to_owned(), value)])))
}

fn object(text: &str) -> Read<Map<String, Value>> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            client: String::new(),
            start: Start::Serving,
            connect: Map::new(),
            info: Map::new(),
            greeting: Map::new(),
            roles: BTreeMap::new(),
            limits: BTreeMap::new(),
            people: BTreeMap::new(),
            unavailable: None,
            admission_waits: false,
            tls: false,
        }
    }
}

impl Setup {
    fn given(&mut self, text: &str) -> Read<()> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim();
        match word {
            "policy" => {
                let (role, grants) = role_line(rest)?;
                self.roles.entry(role).or_default().extend(grants);
            }
            "client" => {
                let (name, start) = rest.split_once(',').ok_or("client NAME, STATE")?;
                self.client = name.trim().to_owned();
                self.people.entry(self.client.clone()).or_default();
                self.start = match start.trim() {
                    "connecting" => Start::Connecting,
                    "admitted" => Start::Admitted,
                    "serving" => Start::Serving,
                    other => return Err(format!("not a state: {other:?}")),
                };
            }
            "connect" => self.connect.extend(object(rest)?),
            "greeting" => self.greeting.extend(object(rest)?),
            "tls" => self.tls = true,
            "limits" => {
                let (key, value) = rest.split_once('=').ok_or("limits KEY = VALUE")?;
                self.limits
                    .insert(key.trim().to_owned(), value.trim().to_owned());
            }
            "admission" if rest == "waits" => self.admission_waits = true,
            "upstream" => match rest.split_once(' ') {
                Some(("info", info)) => self.info.extend(object(info)?),
                Some(("unavailable", label)) => self.unavailable = Some(label.trim().to_owned()),
                _ => return Err(format!("not a thing to say of the upstream: {rest:?}")),
            },
            name => return self.person(name, rest),
        }
        Ok(())
    }

    fn person(&mut self, name: &str, text: &str) -> Read<()> {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let person = self.people.entry(name.to_owned()).or_default();
        match verb {
            "admitted" => {}
            "refused" => person.refused = Some(rest.to_owned()),
            "expires" => person.expires = Some(duration(rest)?),
            "has" => {
                let roles = rest.split(',').map(|role| role.trim().to_owned());
                person.roles = Some(roles.filter(|role| role != "nothing").collect());
            }
            "holds" => person.holds.push(rest.to_owned()),
            _ => return Err(format!("not a thing to be given: {name} {text}")),
        }
        Ok(())
    }
}
