//! A client that knows what it may do, and so what must become of everything it sends. Its judgement is written down here as
//! plainly as possible; it shares nothing with the policy.

use super::random::Random;

/// What one client sends, and what must come of it.
pub(crate) struct Client {
    stream: Vec<u8>,
    sent: usize,
    granted: Vec<Vec<u8>>,
    errors: Vec<String>,
    pings: usize,
    unsubscribes: bool,
}

/// Whether a frame's subject is a secret one.
pub(crate) fn is_secret(frame: &[u8]) -> bool {
    subject(frame).starts_with("pub.secret.")
}

/// The first argument of a frame.
pub(crate) fn subject(frame: &[u8]) -> String {
    let word = frame
        .split(|byte| matches!(byte, b' ' | b'\r'))
        .nth(1)
        .unwrap_or_default();
    String::from_utf8_lossy(word).into_owned()
}

fn may_publish(subject: &str) -> bool {
    subject.starts_with("pub.") && !subject.starts_with("pub.secret.")
}

/// Secrets themselves are refused; so is a queue that would take some.
fn may_subscribe(subject: &str, queue: Option<&str>) -> bool {
    let secret = subject.starts_with("pub.secret.");
    let overlaps = subject == "pub.>";
    subject.starts_with("pub.") && !secret && !(queue.is_some() && overlaps)
}

impl Client {
    pub(crate) fn new(random: &mut Random, operations: usize) -> Self {
        let mut client = Self {
            stream: Vec::new(),
            sent: 0,
            granted: Vec::new(),
            errors: Vec::new(),
            pings: 0,
            unsubscribes: random.chance(2),
        };
        for number in 0..operations {
            match random.below(10) {
                0 | 1 => client.subscribe(random, number),
                2 if client.unsubscribes => client.unsubscribe(random, number),
                3 => client.ping(random),
                _ => client.publish(random, number),
            }
        }
        client
    }

    fn push(&mut self, text: &str) {
        self.stream.extend_from_slice(text.as_bytes());
    }

    fn publish(&mut self, random: &mut Random, number: usize) {
        let subject =
            ["pub.open.a", "pub.b.x", "pub.secret.k", "other.x"][random.below(4) as usize];
        let reply = if random.chance(3) {
            Some("answers")
        } else {
            None
        };
        // Payloads look like protocol, and some are larger than any piece that is read at once.
        let length = if random.chance(8) {
            3000
        } else {
            random.below(40) as usize
        };
        let mut payload = format!("{number} \r\n-ERR 'x'\r\nPUB pub.secret.k 1\r\nx\r\n");
        payload.extend(std::iter::repeat_n('p', length));
        let block = if random.chance(4) {
            "NATS/1.0\r\nA: b\r\n\r\n"
        } else {
            ""
        };
        let sizes = match block.len() {
            0 => payload.len().to_string(),
            headers => format!("{headers} {}", headers + payload.len()),
        };
        let verb = if block.is_empty() { "PUB" } else { "HPUB" };
        let body = format!("{block}{payload}\r\n");
        match random.below(3) {
            0 => self.push(&format!(
                "{verb} {subject} {}  {sizes}\r\n{body}",
                reply.unwrap_or("")
            )),
            1 => self.push(&format!(
                "{}\t{subject} {} {sizes} \n{body}",
                verb.to_lowercase(),
                reply.unwrap_or("")
            )),
            _ => {
                let reply = reply.map_or(String::new(), |reply| format!("{reply} "));
                self.push(&format!("{verb} {subject} {reply}{sizes}\r\n{body}"));
            }
        }
        if may_publish(subject) {
            let reply = reply.map_or(String::new(), |reply| format!("{reply} "));
            let frame = format!("{verb} {subject} {reply}{sizes}\r\n{body}");
            self.granted.push(frame.into_bytes());
        } else {
            self.errors.push(format!(
                "Permissions Violation for Publish to \"{subject}\""
            ));
        }
    }

    fn subscribe(&mut self, random: &mut Random, number: usize) {
        let subject = [
            "pub.open.*",
            "pub.>",
            "pub.secret.k",
            "other.>",
            "pub.open.a",
        ][random.below(5) as usize];
        let queue = if random.chance(3) {
            Some("workers")
        } else {
            None
        };
        let words = queue.map_or(String::new(), |queue| format!(" {queue}"));
        self.push(&format!("SUB {subject}{words} {number}\r\n"));
        if !may_subscribe(subject, queue) {
            let using = queue.map_or(String::new(), |queue| format!(" using queue \"{queue}\""));
            let text = format!("Permissions Violation for Subscription to \"{subject}\"{using}");
            self.errors.push(text);
        }
    }

    fn unsubscribe(&mut self, random: &mut Random, number: usize) {
        let sid = random.below(number as u64 + 1);
        if random.chance(2) {
            self.push(&format!("UNSUB {sid} {}\r\n", random.below(9)));
        } else {
            self.push(&format!("UNSUB {sid}\r\n"));
        }
    }

    fn ping(&mut self, random: &mut Random) {
        self.push(if random.chance(4) {
            "ping with a tail\n"
        } else {
            "PING\r\n"
        });
        self.pings += 1;
    }

    /// In place of everything else: wide subscriptions that end by themselves, and narrow ones on the same sids, which
    /// take effect where the wide ones were refused or lost.
    pub(crate) fn subscribe_to_everything(&mut self) {
        self.stream.clear();
        for number in 0..100 {
            self.push(&format!("SUB pub.> {number}\r\nUNSUB {number} 20\r\n"));
            self.push("PUB pub.b.x 2\r\nhi\r\nPUB pub.open.a 2\r\nhi\r\nPING\r\n");
            let earlier = number - number.min(2);
            self.push(&format!(
                "SUB pub.open.* {earlier}\r\nUNSUB {earlier} 30\r\n"
            ));
        }
    }

    /// The next bytes, at most `most`.
    pub(crate) fn send(&mut self, most: usize) -> &[u8] {
        let end = self.stream.len().min(self.sent + most);
        let piece = &self.stream[self.sent..end];
        self.sent = end;
        piece
    }

    pub(crate) fn is_done(&self) -> bool {
        self.sent == self.stream.len()
    }

    /// Frames that upstream must see, in order.
    pub(crate) fn granted(&self) -> Vec<Vec<u8>> {
        self.granted.clone()
    }

    /// Errors that the client must hear, in order.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.errors.clone()
    }

    pub(crate) const fn pings(&self) -> usize {
        self.pings
    }

    pub(crate) const fn unsubscribes(&self) -> bool {
        self.unsubscribes
    }
}
