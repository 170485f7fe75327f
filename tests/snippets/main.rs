//! The client snippets of the README, run against the demonstration until each has outlived its first token.
//!
//! Each program reads `NATS_URL` and `TOKEN_URL` (C: `TOKEN_COMMAND`), subscribes to `orders.>` and prints what it hears,
//! one payload a line. A session never outlives its token, so a message published after that token's end shows that the
//! callback was asked again.
#![cfg(feature = "demo")]
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::large_futures,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may be loud, and reads the clock"
)]

mod rust;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use natsentry::config::Config;
use natsentry::demo::provision::{Cache, ProvisionError, TempDir, command, on_path, run};
use sha2::{Digest as _, Sha256};
use support::tools;

/// How long the tokens of the programs live.
const LIFETIME: Duration = Duration::from_secs(6);

/// How long a program must go on hearing, counted from its first message.
const BEYOND: Duration = Duration::from_secs(8);

/// Until then it must have done so.
const PATIENCE: Duration = Duration::from_secs(90);

/// The snippets, and the language that the README marks them with.
const SNIPPETS: [(&str, &str); 6] = [
    ("go/main.go", "go"),
    ("python/client.py", "python"),
    ("js/client.mjs", "js"),
    ("rust.rs", "rust"),
    ("c/client.c", "c"),
    ("java/Client.java", "java"),
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

/// The demonstration, after its story.
struct Demo {
    child: Child,
    nats_url: String,
    issuer: String,
}

impl Demo {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_natsentry"))
            .args(["demo", "--port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut proxy, mut issuer) = (None, None);
        for line in lines.by_ref() {
            let line = line.unwrap();
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("natsentry"), Some(address)) if proxy.is_none() => {
                    proxy = Some(format!("nats://{address}"));
                }
                (Some("issuer"), Some(url)) => issuer = Some(url.trim_end_matches(',').to_owned()),
                (Some("Ctrl-C"), _) => break,
                _ => {}
            }
        }
        let nats_url = proxy
            .filter(|url| url.starts_with("nats://127"))
            .expect("an address");
        // It ends if nobody reads what it says.
        thread::spawn(move || lines.map_while(Result::ok).count());
        Self {
            child,
            nats_url,
            issuer: issuer.expect("an issuer"),
        }
    }

    fn token_url(&self, who: &str, lifetime: Duration) -> String {
        format!(
            "{}/token?as={who}&lifetime={}s",
            self.issuer,
            lifetime.as_secs()
        )
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let interrupt = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status();
        assert!(interrupt.unwrap().success());
        self.child.wait().unwrap();
    }
}

/// What a program heard: its name, and when the message was published.
type Heard = (&'static str, Duration);

/// A program at work; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start(name: &'static str, mut program: Command, demo: &Demo, heard: Sender<Heard>) -> Running {
    let url = demo.token_url("bob", LIFETIME);
    program
        .env("NATS_URL", &demo.nats_url)
        .env("TOKEN_COMMAND", format!("curl -s '{url}'"))
        .env("TOKEN_URL", url)
        .env("RENEW_MS", "1000")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = program
        .spawn()
        .unwrap_or_else(|error| panic!("{program:?}: {error}"));
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if heard.send((name, published_at(&line))).is_err() {
                return;
            }
        }
    });
    Running(child)
}

/// Every message is the number of milliseconds since the start, in words.
fn published_at(payload: &str) -> Duration {
    let number = payload
        .strip_prefix("tick ")
        .and_then(|number| number.parse().ok());
    Duration::from_millis(number.unwrap_or_else(|| panic!("not a tick: {payload}")))
}

#[test]
fn every_snippet_goes_on_hearing_after_the_end_of_its_first_token() {
    natsentry::tls::install_provider();
    let programs = programs();
    let demo = Demo::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.spawn(tick(
        demo.nats_url.clone(),
        demo.token_url("alice", Duration::from_secs(3600)),
    ));
    let (sender, heard) = channel();
    let mut names = vec!["async-nats"];
    let mut running = Vec::new();
    let to = sender.clone();
    runtime.spawn(rust::listen(
        demo.nats_url.clone(),
        demo.token_url("bob", LIFETIME),
        move |text| {
            to.send(("async-nats", published_at(&text))).ok();
        },
    ));
    for (name, program) in programs {
        names.push(name);
        running.push(start(name, program, &demo, sender.clone()));
    }
    let missing = wait_for_all(names, &heard);
    runtime.shutdown_background();
    drop(running);
    assert!(
        missing.is_empty(),
        "not heard of after {BEYOND:?}: {missing:?}"
    );
}

/// Those who were not heard of for long enough within the time, and how far they got.
fn wait_for_all(names: Vec<&'static str>, heard: &Receiver<Heard>) -> Vec<(&'static str, String)> {
    let end = Instant::now() + PATIENCE;
    let mut spans: Vec<_> = names
        .into_iter()
        .map(|name| (name, None::<(Duration, Duration)>))
        .collect();
    let done = |span: &Option<(Duration, Duration)>| {
        span.is_some_and(|(first, last)| last.saturating_sub(first) > BEYOND)
    };
    while spans.iter().any(|(_, span)| !done(span)) {
        let Ok((name, at)) = heard.recv_timeout(end.saturating_duration_since(Instant::now()))
        else {
            break;
        };
        for (_, span) in spans.iter_mut().filter(|(known, _)| *known == name) {
            *span = Some(span.map_or((at, at), |(first, _)| (first, at)));
        }
    }
    spans.retain(|(_, span)| !done(span));
    spans
        .into_iter()
        .map(|(name, span)| (name, format!("{span:?}")))
        .collect()
}

/// Publishes as alice, ten times a second.
async fn tick(nats_url: String, token_url: String) {
    let token = reqwest::Client::builder().no_proxy().build().unwrap();
    let token = token
        .get(token_url)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let client = async_nats::ConnectOptions::with_token(token)
        .connect(nats_url)
        .await
        .unwrap();
    let begun = Instant::now();
    let mut every = tokio::time::interval(Duration::from_millis(100));
    loop {
        every.tick().await;
        let payload = format!("tick {}", begun.elapsed().as_millis());
        client.publish("orders.tick", payload.into()).await.unwrap();
    }
}

/// Every program that this machine can run; what is ours to fetch has to be there.
fn programs() -> Vec<(&'static str, Command)> {
    let made = [
        ("nats-py", python().map(Some)),
        ("nats.js", javascript().map(Some)),
        ("nats.go", go()),
        ("nats.c", c()),
        ("nats.java", java()),
    ];
    let mut programs = Vec::new();
    for (name, program) in made {
        match program.unwrap_or_else(|error| panic!("{name}: {error}")) {
            Some(program) => programs.push((name, program)),
            None => println!("not run: this machine has no toolchain for {name}"),
        }
    }
    programs
}

fn python() -> Result<Command, ProvisionError> {
    let environment = tools::python(&folder("clients/python/requirements.txt"))?;
    let mut python = command(environment.python);
    python.arg(folder("snippets/python/client.py"));
    python
        .env("PYTHONPATH", environment.packages)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(python)
}

/// A folder with the snippet, and what pins its packages for the client matrix beside it.
fn with_pins(snippet: &str, pins: &[&str]) -> Result<TempDir, ProvisionError> {
    let place = TempDir::create("snippet")?;
    let language = snippet.split('/').next().unwrap();
    tools::copy(&folder("clients").join(language), pins, place.path())?;
    let (from, file) = snippet.rsplit_once('/').unwrap();
    tools::copy(&folder("snippets").join(from), &[file], place.path())?;
    Ok(place)
}

fn javascript() -> Result<Command, ProvisionError> {
    let node = tools::node()?;
    let source = with_pins("js/client.mjs", &["package.json", "package-lock.json"])?;
    let mut command = command(&node.node);
    command.arg(node.program(source.path())?.join("client.mjs"));
    Ok(command)
}

fn go() -> Result<Option<Command>, ProvisionError> {
    // The library's own `go.mod` asks for it.
    let Some(go) = tools::go(26) else {
        return Ok(None);
    };
    let source = with_pins("go/main.go", &["go.mod", "go.sum"])?;
    Ok(Some(command(tools::go_program(&go, source.path())?)))
}

fn c() -> Result<Option<Command>, ProvisionError> {
    let Some(built) = tools::c_program(&folder("snippets/c"))? else {
        return Ok(None);
    };
    let mut command = command(built.program);
    command.env("LD_LIBRARY_PATH", built.libraries);
    Ok(Some(command))
}

/// nats.java, by Maven, where the machine has both a JDK and Maven.
const JNATS: &str = "io.nats:jnats:2.26.2";
const JNATS_SHA256: &str = "0deaf67bc6c69ed0cf3af915c7fe2dde2c3f66d996c32c218e2c1146a106b0ae";

fn java() -> Result<Option<Command>, ProvisionError> {
    let answers = |program: &Path| run(command(program).arg("--version"), "").is_ok();
    let (Some(java), Some(mvn)) = (on_path("java", answers), on_path("mvn", answers)) else {
        return Ok(None);
    };
    let jar = "jnats-2.26.2.jar";
    let place = Cache::open()?.entry("java-jnats-2.26.2", |aside| {
        let mut fetch = command(&mvn);
        fetch.args([
            "-q",
            "-B",
            "dependency:copy",
            &format!("-Dartifact={JNATS}"),
        ]);
        fetch
            .arg(format!("-DoutputDirectory={}", aside.display()))
            .current_dir(aside);
        run(&mut fetch, "Maven has to work")?;
        let bytes = fs::read(aside.join(jar)).map_err(ProvisionError::file("read", aside))?;
        let found: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            found, JNATS_SHA256,
            "{JNATS} is another file than the one that was tried"
        );
        Ok(())
    })?;
    let mut command = command(java);
    command
        .arg("-cp")
        .arg(place.join(jar))
        .arg(folder("snippets/java/Client.java"));
    Ok(Some(command))
}

#[test]
fn the_readme_shows_what_was_run() {
    let readme = fs::read_to_string(folder("../README.md")).unwrap();
    for (file, language) in SNIPPETS {
        let shown = format!(
            "```{language}\n{}```\n",
            shown_part(&folder("snippets").join(file))
        );
        assert!(
            readme.contains(&shown),
            "README.md does not show {file}:\n{shown}"
        );
    }
}

#[test]
fn the_smallest_configuration_of_the_readme_is_free_of_mistakes() {
    let readme = fs::read_to_string(folder("../README.md")).unwrap();
    let (_, shown) = readme
        .split_once("```yaml\n")
        .expect("a configuration is shown");
    let (shown, _) = shown.split_once("```").expect("it ends");
    let place = TempDir::create("readme").unwrap();
    let write = |name: &str, text: String| fs::write(place.path().join(name), text).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    write("tls.crt", made.cert.pem());
    write("tls.key", made.signing_key.serialize_pem());
    write("password", "not shown".to_owned());
    // Variables and folders of the reader's machine.
    let text = shown
        .replace("env:NATS_USER", "nats")
        .replace("/var/log/natsentry/", "")
        .replace("/run/secrets/nats", "password");
    write("natsentry.yaml", text);
    let loaded = Config::load(&place.path().join("natsentry.yaml"));
    let config = loaded.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(config.warnings.len(), 0, "{:?}", config.warnings);
}

/// What stands between the marks, without the indentation that all of it has.
fn shown_part(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let marked: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.contains("README: begin"))
        .skip(1)
        .take_while(|line| !line.contains("README: end"))
        .collect();
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let common = marked
        .iter()
        .filter(|line| !line.is_empty())
        .map(indent)
        .min()
        .unwrap_or(0);
    marked
        .iter()
        .map(|line| format!("{}\n", line.get(common..).unwrap_or_default()))
        .collect()
}
