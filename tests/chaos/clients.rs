//! The clients under load: official libraries with their own ways to come back, and a raw one.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use natsentry::demo::provision::command;

use crate::ledger::{By, Ledger};
use crate::raw::Raw;
use crate::stage::Stage;
use crate::support::tools;

const RAW: [&str; 2] = ["raw-0", "raw-1"];
const ASYNC_NATS: &str = "async-nats";
const NATS_PY_CORE: &str = "nats-py-core";
const NATS_PY_STORE: &str = "nats-py-store";

const ALL: [&str; 5] = [RAW[0], RAW[1], ASYNC_NATS, NATS_PY_CORE, NATS_PY_STORE];

/// All of them.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    programs: Vec<Child>,
}

impl Clients {
    pub(crate) fn start(stage: &Stage, ledger: &Ledger) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (seed, name) in RAW.into_iter().enumerate() {
            let raw = Raw {
                name: name.to_owned(),
                address: stage.address(),
                token: stage.token(),
                ledger: ledger.clone(),
                stop: Arc::clone(&stop),
            };
            threads.push(raw.start(seed as u64));
        }
        threads.push(async_nats(stage, ledger.clone(), Arc::clone(&stop)));
        let mut programs = Vec::new();
        for (name, role, by) in [
            (NATS_PY_CORE, "core", By::Pong),
            (NATS_PY_STORE, "store", By::PubAck),
        ] {
            let (program, thread) = nats_py(stage, ledger.clone(), name, role, by);
            programs.push(program);
            threads.push(thread);
        }
        Self {
            stop,
            threads,
            programs,
        }
    }

    /// Waits until every client has `more` messages acknowledged than in `before`.
    fn all_exceed(ledger: &Ledger, before: &[usize], within: Duration, when: &str) {
        let deadline = Instant::now() + within;
        for (client, before) in ALL.into_iter().zip(before) {
            while ledger.count(client) <= *before {
                assert!(
                    Instant::now() < deadline,
                    "{client} is not served {when}: {before} messages acknowledged"
                );
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    pub(crate) fn all_have(&self, ledger: &Ledger, count: usize, within: Duration, when: &str) {
        assert!(!self.stop.load(Ordering::Acquire), "they run");
        Self::all_exceed(ledger, &[count - 1; ALL.len()], within, when);
    }

    /// Every client gets more acknowledged from now on. What is under way at this moment counts for nothing: of so many more,
    /// some were sent after it.
    pub(crate) fn all_come_back(&self, ledger: &Ledger, within: Duration) {
        assert!(!self.stop.load(Ordering::Acquire), "they run");
        let before = ALL.map(|client| ledger.count(client) + 40);
        Self::all_exceed(ledger, &before, within, "after the chaos");
    }

    /// Ends all of them.
    pub(crate) fn stop(mut self) {
        self.stop.store(true, Ordering::Release);
        for program in &mut self.programs {
            program.kill().ok();
            program.wait().ok();
        }
        for thread in self.threads.drain(..) {
            thread.join().expect("a client does not panic");
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for program in &mut self.programs {
            program.kill().ok();
            program.wait().ok();
        }
    }
}

/// Publishes to the stream and waits for each PubAck.
fn async_nats(stage: &Stage, ledger: Ledger, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    let (url, token) = (format!("nats://{}", stage.address()), stage.token());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let counting = ledger.clone();
            let options =
                async_nats::ConnectOptions::with_user_and_password("store".to_owned(), token)
                    .reconnect_delay_callback(|_| Duration::from_millis(100))
                    .connection_timeout(Duration::from_secs(5))
                    .retry_on_initial_connect()
                    .event_callback(move |event| {
                        let ledger = counting.clone();
                        async move {
                            match event {
                                async_nats::Event::Connected => ledger.connected(ASYNC_NATS),
                                async_nats::Event::Closed => ledger.ended(ASYNC_NATS, "closed"),
                                _ => {}
                            }
                        }
                    });
            let client = options.connect(url).await.expect("it tries for ever");
            let mut context = jetstream::new(client);
            context.set_timeout(Duration::from_secs(3));
            let mut number = 0_u64;
            while !stop.load(Ordering::Acquire) {
                let subject = format!("chaos.store.{ASYNC_NATS}.{number}");
                let sent = context.publish(subject, "x".into()).await;
                if let Ok(ack) = sent
                    && ack.await.is_ok()
                {
                    ledger.acknowledged(ASYNC_NATS, By::PubAck, [number]);
                }
                number += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    })
}

/// Runs nats-py, which prints the number of each message that was acknowledged.
fn nats_py(
    stage: &Stage,
    ledger: Ledger,
    name: &'static str,
    role: &str,
    by: By,
) -> (Child, JoinHandle<()>) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let environment = tools::python(&tests.join("clients/python/requirements.txt"))
        .unwrap_or_else(|error| panic!("{error}"));
    let mut child = command(environment.python)
        .arg(tests.join("chaos/python/client.py"))
        .env("PYTHONPATH", environment.packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NATS_URL", format!("nats://{}", stage.address()))
        .env("NATS_TOKEN", stage.token())
        .env("ROLE", role)
        .env("NAME", name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("Python runs");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let thread = thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            match line.split_once(' ') {
                Some(("ack", numbers)) => {
                    let numbers = numbers.split(' ').filter_map(|number| number.parse().ok());
                    ledger.acknowledged(name, by, numbers);
                }
                Some(("ended", why)) => ledger.ended(name, why),
                _ => ledger.connected(name),
            }
        }
    });
    (child, thread)
}
