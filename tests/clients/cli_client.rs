//! The operations of the client matrix with the `nats` command line tool: one command is one connection.
//!
//! What the tool has no word for is not in its rows: it cannot be told to drain, and it takes a token once, so that a
//! reconnect shows the wire being replaced but no fresh token.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use natsentry::demo::provision::{TempDir, command};

use crate::driver::{Mode, Place};
use crate::program::Said;
use crate::report::Line;
use crate::support::tokens;

const PATIENCE: Duration = Duration::from_secs(20);
const VIOLATION: &str = "Permissions Violation";
const NO_RESPONDERS: &str = "no responders";

/// Stands before the detail of a refusal whose violation the tool did not live to show.
pub const UNSAID: &str = "(ended before it could show the violation)";

type Outcome = Result<String, String>;

/// The tool, and where it connects to.
pub struct Cli {
    pub program: PathBuf,
    pub place: Place,
}

/// One command at work.
struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Running {
    fn lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn count(&self, containing: &str) -> usize {
        self.lines()
            .iter()
            .filter(|line| line.contains(containing))
            .count()
    }

    fn wait_for(&self, containing: &str) -> Outcome {
        wait_until(|| {
            self.lines()
                .into_iter()
                .find(|line| line.contains(containing))
        })
        .ok_or_else(|| format!("waited in vain for {containing:?}: {:?}", self.lines()))
    }

    /// The output of a command that ends by itself, and with success.
    fn end(mut self) -> Outcome {
        let status = wait_until(|| self.child.try_wait().ok().flatten());
        // Both readers end with the process; give the last line the time to arrive.
        let status = status.ok_or_else(|| format!("never ended: {:?}", self.lines()))?;
        wait_until(|| (Arc::strong_count(&self.lines) == 1).then_some(()));
        let text = self.lines().join("\n");
        if status.success() {
            Ok(text)
        } else {
            Err(format!("{status}: {text}"))
        }
    }
}

fn wait_until<T>(mut reached: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(value) = reached() {
            return Some(value);
        }
        thread::sleep(Duration::from_millis(10));
    }
    None
}

fn ensure(condition: bool, detail: impl std::fmt::Debug) -> Result<(), String> {
    if condition {
        Ok(())
    } else {
        Err(format!("not as expected: {detail:?}"))
    }
}

impl Cli {
    /// Runs to the end, blocking.
    pub fn run(&self, mode: Mode, said: &Sender<Said>) {
        let tell = |op: &str, outcome: Outcome| {
            let (ok, detail) = match outcome {
                Ok(detail) => (true, detail),
                Err(detail) => (false, detail),
            };
            said.send(Said::Line(Line {
                op: op.to_owned(),
                ok,
                detail,
            }))
            .ok();
        };
        tell("connect", self.text(&["rtt", "1"]).map(|_| String::new()));
        match mode {
            Mode::Permitted => {
                tell("publish_subscribe", self.publish_subscribe());
                tell("wildcards", self.wildcards());
                tell("large_payload", self.large_payload());
                tell("flush_rtt", self.text(&["rtt", "3"]).map(|_| String::new()));
                tell("queue_group", self.queue_group());
                tell("request_reply", self.request_reply());
                tell("headers", self.headers());
                tell("no_responders", self.no_responders());
                tell("jetstream_publish", self.jetstream_publish());
                tell("pull_consumer", self.pull_consumer());
                tell("ordered_consumer", self.ordered_consumer());
                tell("kv_put_get", self.kv_put_get());
                tell("kv_watch", self.kv_watch());
                tell("object_put_get", self.object_put_get());
                tell("reconnect", self.reconnect(said));
            }
            Mode::Password | Mode::Tls => tell("publish_subscribe", self.publish_subscribe()),
            Mode::Expiring | Mode::LameDuck => panic!("the tool has no token callback"),
            Mode::Refused => {
                for (op, args) in REFUSED {
                    tell(op, self.refuse(args));
                }
                tell("alive", self.publish_subscribe());
            }
        }
    }

    fn start(&self, args: &[&str]) -> Result<Running, String> {
        let mut command = command(&self.program);
        command
            .args(["--no-context", "--server", &self.place.url])
            .args(args);
        if let Some(ca) = &self.place.ca {
            command.arg("--tlsca").arg(ca);
        }
        // The tool reads files of the user otherwise.
        command.env("NATS_CONTEXT", "").env("NO_COLOR", "1");
        if let Some(url) = &self.place.token_url {
            command.env(
                "NATS_TOKEN",
                tokens::fetch(url).map_err(|error| error.to_string())?,
            );
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().expect("piped"), Arc::clone(&lines));
        collect(child.stderr.take().expect("piped"), Arc::clone(&lines));
        Ok(Running { child, lines })
    }

    fn text(&self, args: &[&str]) -> Outcome {
        self.start(args)?.end()
    }

    /// The first violation that the command shows; the command is ended then.
    ///
    /// A denied request is answered at once by natsentry, and where the tool has nothing else to do it ends on that
    /// answer, before its own error handler has written the violation that came first on the wire. Nothing else than
    /// a denial can have been answered so: every stream and bucket asked for is there.
    fn refuse(&self, args: &[&str]) -> Outcome {
        let mut running = self.start(args)?;
        let ended = wait_until(|| {
            let violated = running.count(VIOLATION) > 0;
            // Both readers end with the process, and drop their share of the lines then.
            let ended = running.child.try_wait().ok().flatten().is_some()
                && Arc::strong_count(&running.lines) == 1;
            (violated || ended).then(|| running.count(VIOLATION) > 0)
        });
        match ended {
            Some(true) => running.wait_for(VIOLATION),
            Some(false) => {
                let lines = running.lines();
                let answered = lines
                    .iter()
                    .any(|line| line.to_lowercase().contains(NO_RESPONDERS));
                ensure(answered, &lines)?;
                Ok(format!("{UNSAID} {lines:?}"))
            }
            None => Err(format!("neither refused nor ended: {:?}", running.lines())),
        }
    }

    /// Publishes until the subscriber has seen it: it prints that it subscribes before it does.
    fn publish_until_seen(
        &self,
        sub: &Running,
        publish: &[&str],
        seen: &str,
    ) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            self.text(publish)?;
            if sub.count(seen) > 0 {
                return Ok(());
            }
        }
        Err(format!("never seen: {:?}", sub.lines()))
    }

    fn publish_subscribe(&self) -> Outcome {
        let sub = self.start(&["sub", "app.events.*", "--raw"])?;
        self.publish_until_seen(&sub, &["pub", "app.events.one", "hello"], "hello")?;
        Ok(String::new())
    }

    fn wildcards(&self) -> Outcome {
        let subscribe = |subject| self.start(&["sub", subject, "--raw"]);
        for subject in ["app.wild.>", "app.*.card.*"] {
            let sub = subscribe(subject)?;
            self.publish_until_seen(&sub, &["pub", "app.wild.card.one", "joker"], "joker")?;
        }
        Ok(String::new())
    }

    /// As large as an argument of a command can be.
    fn large_payload(&self) -> Outcome {
        let data = "0123456789".repeat(10_000);
        let sub = self.start(&["sub", "app.large", "--raw"])?;
        self.publish_until_seen(&sub, &["pub", "app.large", &data], &data)?;
        Ok(format!("{} bytes", data.len()))
    }

    fn queue_group(&self) -> Outcome {
        let member = || self.start(&["sub", "app.work", "--queue", "crew", "--raw"]);
        let (one, two) = (member()?, member()?);
        self.publish_until_seen(&one, &["pub", "app.work", "warm", "--count", "10"], "warm")?;
        self.publish_until_seen(&two, &["pub", "app.work", "warm", "--count", "10"], "warm")?;
        self.text(&["pub", "app.work", "counted {{Count}}", "--count", "50"])?;
        let counted = || one.count("counted") + two.count("counted");
        wait_until(|| (counted() >= 50).then_some(()));
        ensure(
            counted() == 50 && one.count("counted") > 0 && two.count("counted") > 0,
            counted(),
        )?;
        Ok(String::new())
    }

    fn request_reply(&self) -> Outcome {
        let reply = self.start(&["reply", "app.echo", "re:{{Request}}"])?;
        reply.wait_for("Listening on")?;
        let end = Instant::now() + PATIENCE;
        let mut answer = String::new();
        while Instant::now() < end && !answer.contains("re:ping") {
            answer = self.text(&["req", "app.echo", "ping", "--raw"])?;
        }
        ensure(answer.contains("re:ping"), answer)?;
        Ok(String::new())
    }

    fn headers(&self) -> Outcome {
        let sub = self.start(&["sub", "app.headers"])?;
        let publish = [
            "pub",
            "app.headers",
            "body",
            "-H",
            "X-One:1",
            "-H",
            "X-Two:zwei",
        ];
        self.publish_until_seen(&sub, &publish, "body")?;
        sub.wait_for("X-One: 1")?;
        sub.wait_for("X-Two: zwei")?;
        Ok(String::new())
    }

    fn no_responders(&self) -> Outcome {
        let text = self.text(&["req", "app.nobody", "x", "--timeout", "15s"])?;
        ensure(text.contains("No responders are available"), text)?;
        Ok(String::new())
    }

    fn jetstream_publish(&self) -> Outcome {
        for number in 0..10 {
            let (subject, order) = (format!("orders.eu.{number}"), format!("order {number}"));
            let text = self.text(&["pub", &subject, &order, "--jetstream"])?;
            let stored = format!("Stored in Stream: ORDERS Sequence: {}", number + 1);
            ensure(text.contains(&stored), text)?;
        }
        Ok(String::new())
    }

    fn pull_consumer(&self) -> Outcome {
        let add = [
            "consumer",
            "add",
            "ORDERS",
            "worker",
            "--pull",
            "--filter",
            "orders.eu.>",
        ];
        let rest = ["--ack", "explicit", "--deliver", "all", "--defaults"];
        self.text(&[&add[..], &rest[..]].concat())?;
        let text = self.text(&[
            "consumer", "next", "ORDERS", "worker", "--count", "10", "--raw",
        ])?;
        for number in 0..10 {
            ensure(text.contains(&format!("order {number}")), &text)?;
        }
        let info = self.text(&["consumer", "info", "ORDERS", "worker", "-j"])?;
        ensure(info.contains(r#""num_ack_pending": 0"#), info)?;
        Ok(String::new())
    }

    fn ordered_consumer(&self) -> Outcome {
        let sub = [
            "sub",
            "orders.eu.>",
            "--stream",
            "ORDERS",
            "--all",
            "--raw",
            "--count",
            "10",
        ];
        let text = self.text(&sub)?;
        let seen: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("order "))
            .collect();
        let orders: Vec<String> = (0..10).map(|number| format!("order {number}")).collect();
        ensure(seen == orders, text)?;
        Ok(String::new())
    }

    fn kv_put_get(&self) -> Outcome {
        self.text(&["kv", "put", "config", "app.limit", "12"])?;
        let text = self.text(&["kv", "get", "config", "app.limit", "--raw"])?;
        ensure(text.trim() == "12", text)?;
        Ok(String::new())
    }

    fn kv_watch(&self) -> Outcome {
        let watch = self.start(&["kv", "watch", "config", "app.*"])?;
        watch.wait_for("app.limit: 12")?;
        self.text(&["kv", "put", "config", "app.watched", "yes"])?;
        watch.wait_for("app.watched: yes")?;
        Ok(String::new())
    }

    fn object_put_get(&self) -> Outcome {
        let dir = TempDir::create("object").map_err(|error| error.to_string())?;
        let (sent, got) = (dir.path().join("sent"), dir.path().join("got"));
        let data: Vec<u8> = (0..251).cycle().take(5 * 1024 * 1024).collect();
        fs::write(&sent, &data).map_err(|error| error.to_string())?;
        let (sent, output) = (sent.to_string_lossy(), got.to_string_lossy());
        let quiet = ["--no-progress", "--force"];
        self.text(
            &[
                &["object", "put", "files", &sent, "--name", "big"],
                &quiet[..],
            ]
            .concat(),
        )?;
        self.text(
            &[
                &["object", "get", "files", "big", "--output", &output],
                &quiet[..],
            ]
            .concat(),
        )?;
        let same = fs::read(&got).is_ok_and(|bytes| bytes == data);
        ensure(same, "another content")?;
        Ok(format!("{} bytes", data.len()))
    }

    fn reconnect(&self, said: &Sender<Said>) -> Outcome {
        let sub = self.start(&["sub", "app.after.*", "--raw"])?;
        self.publish_until_seen(&sub, &["pub", "app.after.all", "before"], "before")?;
        said.send(Said::Ready).map_err(|error| error.to_string())?;
        sub.wait_for("Disconnected")?;
        self.publish_until_seen(&sub, &["pub", "app.after.all", "back"], "back")?;
        Ok(String::new())
    }
}

fn collect(from: impl Read + Send + 'static, into: Arc<Mutex<Vec<String>>>) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            into.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
        }
    });
}

/// The commands that the role refuses, by operation.
const REFUSED: &[(&str, &[&str])] = &[
    ("publish", &["pub", "secret.plan", "x"]),
    ("headers", &["pub", "secret.headers", "x", "-H", "A:b"]),
    ("subscribe", &["sub", "secret.>"]),
    ("queue_group", &["sub", "secret.work", "--queue", "crew"]),
    ("request_reply", &["req", "secret.ask", "?"]),
    (
        "jetstream_publish",
        &["pub", "payroll.june", "x", "--jetstream"],
    ),
    ("pull_consumer", &["consumer", "next", "PAYROLL", "clerk"]),
    (
        "consumer_create",
        &[
            "consumer",
            "add",
            "PAYROLL",
            "thief",
            "--pull",
            "--defaults",
        ],
    ),
    (
        "ordered_consumer",
        &["sub", "payroll.>", "--stream", "PAYROLL", "--all"],
    ),
    ("kv", &["kv", "get", "vault", "key"]),
    ("object", &["object", "get", "archive", "key"]),
    ("stream_delete", &["stream", "rm", "ORDERS", "--force"]),
];
