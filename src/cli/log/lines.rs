//! Log lines on their way out: whoever logs puts a line down and goes on, one thread writes.
//!
//! A terminal that was stopped or a collector that does not read would otherwise stop the sessions of the thread that logs,
//! and even where it reads, a system call for each line costs more than the connection that it tells of.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How long lines gather after some were written. The first line after silence goes out at once.
const GATHER: Duration = Duration::from_millis(5);

/// Bytes of lines that may wait; what comes then is lost, and counted in a line of its own.
const WAITING_MAX: usize = 1024 * 1024;

/// Bytes of a buffer that stay after a burst.
const KEPT: usize = 64 * 1024;

/// How long the end of the process waits for lines that nobody takes.
const PATIENCE: Duration = Duration::from_secs(1);

/// The writer of the log. Dropping it writes out what waits.
pub(in crate::cli) struct Lines {
    queue: Queue,
    ended: Receiver<()>,
}

impl Lines {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Queue::default();
        // The thread holds the other end; nothing is ever sent, its going away tells that all is written.
        let (ending, ended) = mpsc::channel();
        let lines = queue.clone();
        thread::Builder::new().name("log".into()).spawn(move || {
            lines.write_to(out);
            drop(ending);
        })?;
        Ok(Self { queue, ended })
    }

    /// Where lines are put.
    pub(super) fn queue(&self) -> Queue {
        self.queue.clone()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.queue.waiting().ended = true;
        self.queue.shared.news.notify_one();
        // Were this to time out, whoever reads the log has stopped, and would not read of it either.
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

/// Where lines are put.
#[derive(Clone, Default)]
pub(super) struct Queue {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    lost: u64,
    /// Whether the writer has to be woken for a line.
    asleep: bool,
    ended: bool,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.shared
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.lines.len().saturating_add(line.len()) > WAITING_MAX {
            waiting.lost = waiting.lost.saturating_add(1);
            return;
        }
        waiting.lines.extend_from_slice(line);
        if std::mem::take(&mut waiting.asleep) {
            drop(waiting);
            self.shared.news.notify_one();
        }
    }

    fn write_to(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            let (lost, ended) = self.take(&mut batch);
            // A log that cannot be written has nowhere to say so.
            drop(out.write_all(&batch));
            if lost > 0 {
                drop(writeln!(
                    out,
                    "natsentry: {lost} log lines were lost, because whatever reads this log did not keep up"
                ));
            }
            drop(out.flush());
            if ended {
                return;
            }
            batch.clear();
            batch.shrink_to(KEPT);
            self.gather();
        }
    }

    /// Waits for lines and takes them all. Also, how many were lost, and whether these are the last.
    fn take(&self, batch: &mut Vec<u8>) -> (u64, bool) {
        let mut waiting = self.waiting();
        while waiting.lines.is_empty() && waiting.lost == 0 && !waiting.ended {
            waiting.asleep = true;
            waiting = self
                .shared
                .news
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        waiting.asleep = false;
        std::mem::swap(&mut waiting.lines, batch);
        (std::mem::take(&mut waiting.lost), waiting.ended)
    }

    /// Lets lines gather, unless these are the last.
    fn gather(&self) {
        let waited = self
            .shared
            .news
            .wait_timeout_while(self.waiting(), GATHER, |waiting| !waiting.ended);
        drop(waited);
    }
}

impl MakeWriter<'_> for Queue {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// A line is written in one go, as `tracing_subscriber` does.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::time::Instant;

    use super::*;

    /// Takes a line for each permission, and tells what it took.
    struct Out {
        may: Receiver<()>,
        took: Sender<Vec<u8>>,
    }

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Everything is permitted once nobody is there to permit.
            let _ = self.may.recv();
            let _ = self.took.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start() -> (Lines, Sender<()>, Receiver<Vec<u8>>) {
        let (permit, may) = channel();
        let (took, taken) = channel();
        let lines = Lines::start(Out { may, took }).expect("a thread");
        (lines, permit, taken)
    }

    #[test]
    fn dropping_it_writes_out_what_waits() {
        let (lines, permit, taken) = start();
        drop(permit);
        let queue = lines.queue();
        for n in 0..1000 {
            queue.put(format!("line {n}\n").as_bytes());
        }
        drop(lines);
        let written: Vec<u8> = taken.try_iter().flatten().collect();
        let expected: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&written), expected);
    }

    #[test]
    fn a_reader_that_stops_stops_nobody_who_logs_and_loss_is_told() {
        let (lines, permit, taken) = start();
        let queue = lines.queue();
        queue.put(b"first\n");
        let line = vec![b'x'; 1024];
        let begun = Instant::now();
        for _ in 0..3 * WAITING_MAX / line.len() {
            queue.put(&line);
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(queue.waiting().lines.len() <= WAITING_MAX);
        drop(permit);
        drop(lines);
        let written: Vec<u8> = taken.try_iter().flatten().collect();
        let written = String::from_utf8_lossy(&written);
        assert!(written.starts_with("first\n"), "{:.80}", written);
        assert!(
            written.contains("log lines were lost"),
            "{:.80}",
            written.trim_start_matches('x')
        );
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_never_reads() {
        let (lines, _permit, _taken) = start();
        lines.queue().put(b"never read\n");
        let begun = Instant::now();
        drop(lines);
        assert!(begun.elapsed() < PATIENCE * 5);
    }
}
