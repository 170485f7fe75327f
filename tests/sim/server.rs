//! A NATS server of the smallest kind: subscriptions, queue groups, automatic unsubscription, PING. It takes canonical frames
//! and nothing else.

use std::collections::BTreeMap;

use super::frames::next_frame;
use super::random::Random;

struct Subscription {
    subject: String,
    queue: Option<String>,
    max: Option<u64>,
    delivered: u64,
}

#[derive(Default)]
struct Connection {
    input: Vec<u8>,
    output: Vec<u8>,
    subscriptions: BTreeMap<String, Subscription>,
    publishes: Vec<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

pub(crate) struct Server(Vec<Connection>);

/// Whether a literal subject is one of a pattern's.
fn matches(pattern: &str, subject: &str) -> bool {
    let mut subject = subject.split('.');
    for token in pattern.split('.') {
        match (token, subject.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (token, Some(other)) if token == other => {}
            _ => return false,
        }
    }
    subject.next().is_none()
}

impl Server {
    pub(crate) fn new(connections: usize) -> Self {
        Self(
            std::iter::repeat_with(Connection::default)
                .take(connections)
                .collect(),
        )
    }

    /// Takes bytes of one connection and does what its whole frames say.
    pub(crate) fn receive(&mut self, random: &mut Random, from: usize, bytes: &[u8]) {
        let mut input = std::mem::take(&mut self.0[from].input);
        input.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(len) = next_frame(&input[at..]) {
            self.obey(random, from, &input[at..at + len]);
            at += len;
        }
        self.0[from].input = input.split_off(at);
    }

    fn obey(&mut self, random: &mut Random, from: usize, frame: &[u8]) {
        let end = frame.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let line = String::from_utf8(frame[..end].to_vec()).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        assert!(
            words.iter().all(|word| !word.is_empty()),
            "not canonical: {line:?}"
        );
        let connection = &mut self.0[from];
        match *words.as_slice() {
            ["PING"] => connection.output.extend_from_slice(b"PONG\r\n"),
            ["PONG"] => {}
            ["SUB", subject, sid] => connection.subscribe(subject, None, sid),
            ["SUB", subject, queue, sid] => connection.subscribe(subject, Some(queue), sid),
            ["UNSUB", sid] => {
                connection.subscriptions.remove(sid);
            }
            ["UNSUB", sid, max] => connection.unsubscribe_after(sid, max.parse().unwrap()),
            ["PUB" | "HPUB", subject, ..] => {
                connection.publishes.push(frame.to_vec());
                let headers = (words[0] == "HPUB").then(|| words[words.len() - 2]);
                let payload = frame[end + 2..frame.len() - 2].to_vec();
                self.publish(random, subject, headers, &payload);
            }
            _ => panic!("not what a client sends: {line:?}"),
        }
    }

    /// Delivers a message to everybody who has subscribed, and to one of each queue group.
    pub(crate) fn publish(
        &mut self,
        random: &mut Random,
        subject: &str,
        headers: Option<&str>,
        payload: &[u8],
    ) {
        let mut groups: BTreeMap<String, Vec<(usize, String)>> = BTreeMap::new();
        let mut chosen = Vec::new();
        for (index, connection) in self.0.iter().enumerate() {
            for (sid, subscription) in &connection.subscriptions {
                if matches(&subscription.subject, subject) {
                    match &subscription.queue {
                        None => chosen.push((index, sid.clone())),
                        Some(queue) => {
                            groups
                                .entry(queue.clone())
                                .or_default()
                                .push((index, sid.clone()));
                        }
                    }
                }
            }
        }
        for members in groups.into_values() {
            chosen.push(members[random.below(members.len() as u64) as usize].clone());
        }
        for (index, sid) in chosen {
            self.0[index].deliver(subject, &sid, headers, payload);
        }
    }

    /// What is on its way to one connection.
    pub(crate) fn take(&mut self, to: usize) -> Vec<u8> {
        std::mem::take(&mut self.0[to].output)
    }

    /// Whole publishes that came from one connection.
    pub(crate) fn publishes(&self, from: usize) -> Vec<Vec<u8>> {
        self.0[from].publishes.clone()
    }

    /// Messages that were sent to one connection.
    pub(crate) fn sent_to(&self, to: usize) -> &[Vec<u8>] {
        &self.0[to].sent
    }
}

impl Connection {
    fn subscribe(&mut self, subject: &str, queue: Option<&str>, sid: &str) {
        let subscription = Subscription {
            subject: subject.to_owned(),
            queue: queue.map(str::to_owned),
            max: None,
            delivered: 0,
        };
        self.subscriptions
            .entry(sid.to_owned())
            .or_insert(subscription);
    }

    fn unsubscribe_after(&mut self, sid: &str, max: u64) {
        if let Some(subscription) = self.subscriptions.get_mut(sid) {
            subscription.max = Some(max);
            if subscription.delivered >= max {
                self.subscriptions.remove(sid);
            }
        }
    }

    fn deliver(&mut self, subject: &str, sid: &str, headers: Option<&str>, payload: &[u8]) {
        let (verb, headers) = match headers {
            Some(length) => ("HMSG", format!("{length} ")),
            None => ("MSG", String::new()),
        };
        let line = format!("{verb} {subject} {sid} {headers}{}\r\n", payload.len());
        let frame = [line.as_bytes(), payload, b"\r\n"].concat();
        self.output.extend_from_slice(&frame);
        self.sent.push(frame);
        if let Some(subscription) = self.subscriptions.get_mut(sid) {
            subscription.delivered += 1;
            if subscription
                .max
                .is_some_and(|max| subscription.delivered >= max)
            {
                self.subscriptions.remove(sid);
            }
        }
    }
}
