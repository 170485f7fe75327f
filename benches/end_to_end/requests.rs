//! Questions and answers as client libraries do them: each asker has one subscription `_INBOX.<id>.*` for all answers,
//! and names the subject of its own `_INBOX.<id>.<n>` with each question.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::client::{Client, frame, is_timeout};
use super::contenders::Contender;

/// Asks at a steady rate and times each answer.
///
/// A question that is late because the answer before it was, counts from when it was due: a stall shows in all the
/// questions that it kept waiting, not in one.
pub(crate) fn steady(contender: &Contender, time: Duration) -> Result<Vec<Duration>> {
    let answerer = Answerer::start(contender)?;
    let mut asker = Asker::connect(contender)?;
    let mut samples = Vec::new();
    let begun = Instant::now();
    let mut due = begun;
    let mut free = begun;
    while begun.elapsed() < time {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let from = counted_from(due, free, Instant::now());
        asker.ask(1)?;
        while asker.answers()? == 0 {}
        free = Instant::now();
        samples.push(free.saturating_duration_since(from));
        due += QUESTION_EVERY;
    }
    answerer.stop()?;
    // The first ones find cold caches.
    Ok(samples.split_off(samples.len() / 10))
}

/// Since when a question waits that was asked `now`: since it was `due`, if the answer before it came later than that.
pub(crate) fn counted_from(due: Instant, free: Instant, now: Instant) -> Instant {
    if free > due { due } else { now }
}

/// Questions that were answered while `look` saw the one and the other.
pub(crate) struct Answered<T> {
    pub(crate) questions: u64,
    pub(crate) took: Duration,
    pub(crate) looks: (T, T),
}

/// Keeps `window` questions under way. `look` is called after a warm-up and again after `time`.
pub(crate) fn windowed<T>(
    contender: &Contender,
    window: usize,
    (warm_up, time): (Duration, Duration),
    mut look: impl FnMut() -> T,
) -> Result<Answered<T>> {
    let answerer = Answerer::start(contender)?;
    let mut asker = Asker::connect(contender)?;
    asker.ask(window)?;
    let mut run_for = |time: Duration| {
        let (mut questions, begun) = (0_u64, Instant::now());
        while begun.elapsed() < time {
            let answered = asker.answers()?;
            asker.ask(answered)?;
            questions = questions.saturating_add(u64::try_from(answered)?);
        }
        anyhow::Ok((questions, begun.elapsed()))
    };
    run_for(warm_up)?;
    let before = look();
    let (questions, took) = run_for(time)?;
    let looks = (before, look());
    answerer.stop()?;
    Ok(Answered {
        questions,
        took,
        looks,
    })
}

/// Who asks.
struct Asker {
    client: Client,
    inbox: String,
    asked: u64,
    incoming: Incoming,
}

impl Asker {
    fn connect(contender: &Contender) -> Result<Self> {
        // As long as the ids of the libraries, and never one twice.
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let inbox = format!("_INBOX.bench{id:017}");
        let mut client = Client::connect(contender, 4)?;
        client.settle(format!("SUB {inbox}.* 1\r\n").as_bytes())?;
        Ok(Self {
            client,
            inbox,
            asked: 0,
            incoming: Incoming::default(),
        })
    }

    /// Says `count` questions in one write.
    fn ask(&mut self, count: usize) -> Result<()> {
        let mut bytes = Vec::with_capacity(count.saturating_mul(96));
        for _ in 0..count {
            let (inbox, number) = (&self.inbox, self.asked % 1_000_000);
            let line = format!("PUB {SUBJECT} {inbox}.{number} {SIZE}\r\n");
            bytes.extend_from_slice(&frame(&line, SIZE));
            self.asked = self.asked.saturating_add(1);
        }
        self.client.say(&bytes)
    }

    /// Reads once, and counts the answers in that.
    fn answers(&mut self) -> Result<usize> {
        self.incoming.read(&mut self.client)?;
        let mut answers = 0_usize;
        while let Some(said) = self.incoming.said()? {
            match said {
                Said::Message { .. } => answers = answers.saturating_add(1),
                Said::Ping => self.client.say(b"PONG\r\n")?,
            }
        }
        Ok(answers)
    }
}

/// Who answers, on a thread of its own.
struct Answerer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Answerer {
    fn start(contender: &Contender) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut client = Client::connect(contender, 3)?;
        client.settle(format!("SUB {SUBJECT} 1\r\n").as_bytes())?;
        client.stream.tcp().set_read_timeout(Some(TICK))?;
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || answer(client, &stop)
        });
        Ok(Self { stop, thread })
    }

    fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow::anyhow!("the responder panicked"))?
    }
}

/// All that one read brought is answered in one write.
fn answer(mut client: Client, stop: &AtomicBool) -> Result<()> {
    let mut incoming = Incoming::default();
    let mut answers = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match incoming.read(&mut client) {
            Ok(()) => {}
            Err(error)
                if error
                    .downcast_ref::<std::io::Error>()
                    .is_some_and(is_timeout) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        }
        answers.clear();
        while let Some(said) = incoming.said()? {
            match said {
                Said::Message { reply } => {
                    let line = format!("PUB {} {SIZE}\r\n", reply.context("no reply subject")?);
                    answers.extend_from_slice(&frame(&line, SIZE));
                }
                Said::Ping => answers.extend_from_slice(b"PONG\r\n"),
            }
        }
        if !answers.is_empty() {
            client.say(&answers)?;
        }
    }
    Ok(())
}

/// What a server says to a client that has been greeted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    Message { reply: Option<&'a str> },
    Ping,
}

/// What came in and was not looked at yet.
#[derive(Default)]
pub(crate) struct Incoming {
    bytes: Vec<u8>,
    at: usize,
}

impl Incoming {
    fn read(&mut self, client: &mut Client) -> Result<()> {
        let mut some = [0; 64 * 1024];
        let count = client.stream.read(&mut some)?;
        if count == 0 {
            bail!("closed while questions were under way");
        }
        self.push(some.get(..count).unwrap_or(&[]));
        Ok(())
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next thing that is there as a whole.
    pub(crate) fn said(&mut self) -> Result<Option<Said<'_>>> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let Some(end) = memchr::memmem::find(rest, b"\r\n") else {
            return Ok(None);
        };
        let line = str::from_utf8(rest.get(..end).unwrap_or(&[]))?;
        let behind = end.saturating_add(2);
        let mut words = line.split(' ');
        match words.next() {
            Some("MSG") => {
                let words: Vec<_> = words.collect();
                let size: usize = words.last().context("a MSG without a size")?.parse()?;
                let whole = behind.saturating_add(size).saturating_add(2);
                if rest.len() < whole {
                    return Ok(None);
                }
                self.at = self.at.saturating_add(whole);
                // Subject, sid, reply, size.
                let reply = words.get(2).copied().filter(|_| words.len() == 4);
                Ok(Some(Said::Message { reply }))
            }
            Some("PING") => {
                self.at = self.at.saturating_add(behind);
                Ok(Some(Said::Ping))
            }
            _ => bail!("the server says {line:?}"),
        }
    }
}

const SUBJECT: &str = "bench.ask";

/// Bytes of a question and of an answer.
const SIZE: usize = 16;

const QUESTION_EVERY: Duration = Duration::from_micros(1000);

/// How often the responder looks whether it should go on.
const TICK: Duration = Duration::from_millis(25);
