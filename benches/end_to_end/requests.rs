//! Questions and answers over two connections.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::client::{Client, frame, is_timeout};
use super::contenders::Contender;

/// Asks at a steady rate and times each answer, over one connection to ask and one that answers.
///
/// A question that is late because the answer before it was, counts from when it was due: a stall shows in all the
/// questions that it kept waiting, not in one.
pub(crate) fn round_trips(contender: &Contender, time: Duration) -> Result<Vec<Duration>> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut answering = Client::connect(contender, 3)?;
    answering.settle(b"SUB bench.ask 1\r\n")?;
    let mut asking = Client::connect(contender, 4)?;
    asking.settle(b"SUB bench.answer 1\r\n")?;
    let responder = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || respond(answering, &stop)
    });
    let question = frame("PUB bench.ask 16\r\n", 16);
    let answer = frame("MSG bench.answer 1 16\r\n", 16).len();
    let mut samples = Vec::new();
    let begun = Instant::now();
    let mut due = begun;
    let mut free = begun;
    while begun.elapsed() < time {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let from = if free > due { due } else { Instant::now() };
        asking.say(&question)?;
        asking.read_message(answer)?;
        free = Instant::now();
        samples.push(free.saturating_duration_since(from));
        due += QUESTION_EVERY;
    }
    stop.store(true, Ordering::Relaxed);
    responder
        .join()
        .map_err(|_| anyhow::anyhow!("the responder panicked"))??;
    // The first ones find cold caches.
    Ok(samples.split_off(samples.len() / 10))
}

fn respond(mut client: Client, stop: &AtomicBool) -> Result<()> {
    client
        .stream
        .tcp()
        .set_read_timeout(Some(Duration::from_millis(100)))?;
    let reply = frame("PUB bench.answer 16\r\n", 16);
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        match client.stream.read(&mut buffer) {
            Ok(0) => bail!("closed while asked"),
            // One question is under way at a time, so that each read has one, or a PING of the server.
            Ok(count)
                if buffer
                    .get(..count)
                    .is_some_and(|read| read.starts_with(b"PING")) =>
            {
                client.say(b"PONG\r\n")?;
            }
            Ok(_) => client.say(&reply)?,
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

const QUESTION_EVERY: Duration = Duration::from_micros(1000);
