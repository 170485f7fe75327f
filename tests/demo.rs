//! The demonstration, run as a person runs it: the program, its output, its exit status.
#![cfg(feature = "demo")]
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "what cannot be done has to fail the test, which reads the clock"
)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A second run has to be ready within this time.
const START: Duration = Duration::from_secs(3);

/// How often the start is timed: other programs on the machine may take it from us for a while.
const TRIES: usize = 5;

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natsentry"));
    command.arg("demo").args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs it to its end, and shows all of it when the status is another one.
fn played(arguments: &[&str], status: i32) -> (String, String) {
    let Output {
        status: ended,
        stdout,
        stderr,
    } = demo(arguments).output().unwrap();
    let (out, err) = (text(&stdout), text(&stderr));
    assert_eq!(ended.code(), Some(status), "{out}\n{err}");
    (out, err)
}

/// What follows a name at the beginning of a line.
fn named(output: &str, name: &str) -> Option<String> {
    let mut lines = output
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix(name));
    lines
        .find(|rest| rest.starts_with(' '))
        .map(|rest| rest.trim().to_owned())
}

#[test]
fn the_whole_story_holds_and_ends_with_status_0() {
    let (out, err) = played(&["--once", "--port", "0"], 0);
    assert_eq!(err, "");
    for told in [
        "alice is in, as operator and nothing else",
        "bob       < -ERR 'Permissions Violation for Publish to \"orders.new\"'",
        "mallory   < -ERR 'Authorization Violation'",
        "NATS/1.0 503",
        "expired   time.expired:",
        "altered   sig.bad:",
        "bob       < INFO {… \"ldm\":true …}",
        "every connection through natsentry is the static user's",
        "natsentry_refusals_total{code=\"authz.norule\"} 1",
        "\"event\":\"denied\"",
        "roles.reader.deny.subscribe[0]",
        "omar is in, as maintenance and nothing else",
        "refused: authz.norule",
        "Every ✓ was checked in this run",
    ] {
        assert!(out.contains(told), "{told} is missing in\n{out}");
    }
    assert!(!out.contains('\x1b'), "colours went into a pipe");
    for (at, _) in out.match_indices("eyJ") {
        let token: String = out[at..]
            .chars()
            .take_while(|c| !"\" \n".contains(*c))
            .collect();
        assert!(
            token.ends_with('…') && token.chars().count() == 13,
            "{token}"
        );
    }
    let config = named(&out, "config").expect("the file is named");
    assert!(!Path::new(&config).exists(), "{config} was left behind");
}

#[test]
fn a_later_run_is_ready_in_three_seconds_and_leaves_nothing_behind_when_interrupted() {
    // The first run may have to fetch a nats-server.
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        best = best.min(ready_and_interrupted());
        if best < START {
            return;
        }
    }
    panic!("ready after {best:?} at best");
}

fn ready_and_interrupted() -> Duration {
    let begun = Instant::now();
    let mut child = demo(&["--port", "0"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = String::new();
    let ready = loop {
        let line = lines.next().expect("it ended before it was ready").unwrap();
        seen.push_str(&line);
        seen.push('\n');
        if named(&line, "ready").is_some() {
            break begun.elapsed();
        }
    };
    // Interrupted in the story or after it: both have to end well.
    let interrupt = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    let drained = thread::spawn(move || lines.map_while(Result::ok).count());
    let status = wait(&mut child, Duration::from_secs(20));
    drained.join().unwrap();
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert_eq!(status, Some(0), "{err}");
    let config = named(&seen, "config").expect("the file is named");
    assert!(!Path::new(&config).exists(), "{config} was left behind");
    let proxy = named(&seen, "natsentry").expect("the address is named");
    assert!(TcpStream::connect(&proxy).is_err(), "{proxy} still answers");
    ready
}

/// The exit status, or none when it does not end in time; then it is killed.
fn wait(child: &mut Child, patience: Duration) -> Option<i32> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().ok();
    child.wait().ok();
    None
}

#[test]
fn a_port_that_is_taken_is_replaced_and_that_is_said() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (out, _) = played(&["--once", "--port", &port], 0);
    let proxy = named(&out, "natsentry").expect("the address is named");
    assert!(
        proxy.ends_with(&format!(", since port {port} is taken")),
        "{proxy}"
    );
}

#[test]
fn a_program_that_is_no_nats_server_ends_it_with_status_1_and_a_reason() {
    let (_, err) = played(&["--once", "--port", "0", "--nats-server", "/bin/true"], 1);
    assert!(
        err.contains("/bin/true") && err.contains("nats-server"),
        "{err}"
    );
}
