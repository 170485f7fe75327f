//! A client of a few lines: numbers its messages, and takes a PONG for what it is.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::ledger::{By, Ledger};
use crate::random::Random;

/// Without a PONG for so long, the connection is given up.
const PATIENCE: Duration = Duration::from_secs(8);

pub(crate) struct Raw {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    pub(crate) ledger: Ledger,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Raw {
    pub(crate) fn start(self, seed: u64) -> JoinHandle<()> {
        thread::spawn(move || {
            let (mut number, mut random) = (0, Random::new(seed));
            while !self.stop.load(Ordering::Acquire) {
                // Whatever it is, the next connection will tell.
                self.one_connection(&mut number, &mut random).ok();
                thread::sleep(Duration::from_millis(50));
            }
        })
    }

    fn one_connection(&self, number: &mut u64, random: &mut Random) -> io::Result<()> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let connect = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"protocol\":1,\"user\":\"core\",\"pass\":{:?}}}\r\nPING\r\n",
            self.token
        );
        (&stream).write_all(connect.as_bytes())?;
        self.pong(&stream, &mut lines)?;
        self.ledger.connected(&self.name);
        while !self.stop.load(Ordering::Acquire) {
            let batch = 1 + random.below(20);
            let mut text = String::new();
            let first = *number;
            for _ in 0..batch {
                let size = random.index(64);
                text += &format!(
                    "PUB chaos.core.{}.{number} {size}\r\n{}\r\n",
                    self.name,
                    "x".repeat(size)
                );
                *number += 1;
            }
            text += "PING\r\n";
            (&stream).write_all(text.as_bytes())?;
            self.pong(&stream, &mut lines)?;
            self.ledger
                .acknowledged(&self.name, By::Pong, first..*number);
            thread::sleep(Duration::from_millis(random.below(20)));
        }
        Ok(())
    }

    /// Reads up to the PONG. An error of the server that makes official clients stop is a failure of the test.
    fn pong(
        &self,
        mut stream: &TcpStream,
        lines: &mut impl Iterator<Item = io::Result<String>>,
    ) -> io::Result<()> {
        loop {
            let line = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
            match line.as_str() {
                "PONG" => return Ok(()),
                "PING" => stream.write_all(b"PONG\r\n")?,
                line if line.starts_with("-ERR") && line != "-ERR 'Stale Connection'" => {
                    self.ledger.ended(&self.name, line);
                }
                _ => {}
            }
        }
    }
}
