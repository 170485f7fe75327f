//! Sampling: the first lines of an identity in a span of time are written, the rest are counted and said in one line.
//! A client that is denied in a loop can neither flood the audit nor hide in it.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::identity::Identity;
use crate::session::Event;
use crate::time::Timestamp;

/// How many lines of one identity (before a token: of one client address) and one kind of event are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Lines written in full at the start of each span.
    pub first: u32,
    /// Length of the span; it starts with its first line.
    pub per: Duration,
    /// Lines of one kind of event in such a span that are about peers without an identity, from all addresses together:
    /// who has many addresses can neither fill the disk nor take the time of others.
    pub strangers: u32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            first: 10,
            per: Duration::from_secs(10),
            strangers: 1000,
        }
    }
}

/// What is to be done with one event.
pub(super) struct Sampled {
    /// Whether it gets a line.
    pub(super) write: bool,
    /// The span that ended just now, if it left something out.
    pub(super) ended: Option<Summary>,
}

/// What was left out in one span.
pub(super) struct Summary {
    /// The kind of event.
    pub(super) event: &'static str,
    /// Whose; none where more identities were seen than are kept apart.
    pub(super) whose: Option<Whose>,
    /// How many.
    pub(super) suppressed: u64,
    /// When the span began.
    pub(super) since: Timestamp,
}

/// Who is counted.
#[derive(Clone)]
pub(super) enum Whose {
    Identity(Arc<Identity>),
    Address(IpAddr),
}

/// The spans that run now.
pub(super) struct Sampler {
    rules: Sampling,
    spans: HashMap<u64, Span>,
    /// By kind of event: when the span of all peers without an identity began, and how many lines it has.
    strangers: HashMap<&'static str, (Timestamp, u32)>,
    hash: RandomState,
}

struct Span {
    event: &'static str,
    whose: Option<Whose>,
    since: Timestamp,
    written: u32,
    suppressed: u64,
}

impl Sampler {
    pub(super) fn new(rules: Sampling) -> Self {
        Self {
            rules,
            spans: HashMap::new(),
            strangers: HashMap::new(),
            hash: RandomState::new(),
        }
    }

    /// Counts one event of the kind `name`.
    pub(super) fn sample(&mut self, event: &Event, name: &'static str) -> Sampled {
        let mut whose = Some(match &event.identity {
            Some(identity) => Whose::Identity(Arc::clone(identity)),
            None => Whose::Address(event.client.ip()),
        });
        let mut key = match &event.identity {
            Some(identity) => self.hash.hash_one((name, &identity.tid, &identity.oid)),
            None => self.hash.hash_one((name, event.client.ip())),
        };
        let crowded = event.identity.is_none() && self.are_too_many_strangers(name, event.at);
        let full = self.spans.len() >= MAX_SPANS && !self.spans.contains_key(&key);
        if crowded || full {
            key = self.hash.hash_one(name);
            whose = None;
        }
        let per = self.rules.per;
        let fresh = || Span {
            event: name,
            whose: whose.clone(),
            since: event.at,
            written: 0,
            suppressed: 0,
        };
        let span = self.spans.entry(key).or_insert_with(fresh);
        let mut ended = None;
        if event.at.since(span.since) >= per {
            ended = std::mem::replace(span, fresh()).into_summary();
        }
        let write = !crowded && span.written < self.rules.first;
        if write {
            span.written = span.written.saturating_add(1);
            if event.identity.is_none() {
                self.count_stranger(name);
            }
        } else {
            span.suppressed = span.suppressed.saturating_add(1);
        }
        Sampled { write, ended }
    }

    fn are_too_many_strangers(&mut self, name: &'static str, now: Timestamp) -> bool {
        let (since, written) = self.strangers.entry(name).or_insert((now, 0));
        if now.since(*since) >= self.rules.per {
            (*since, *written) = (now, 0);
        }
        *written >= self.rules.strangers
    }

    fn count_stranger(&mut self, name: &'static str) {
        if let Some((_, written)) = self.strangers.get_mut(name) {
            *written = written.saturating_add(1);
        }
    }

    /// Forgets the spans that are over and says what they left out.
    pub(super) fn end_spans(&mut self, now: Timestamp) -> Vec<Summary> {
        let per = self.rules.per;
        let over = self
            .spans
            .extract_if(|_, span| now.since(span.since) >= per);
        over.filter_map(|(_, span)| span.into_summary()).collect()
    }

    /// Forgets every span, at the end of the process.
    pub(super) fn end_all(&mut self) -> Vec<Summary> {
        self.spans
            .drain()
            .filter_map(|(_, span)| span.into_summary())
            .collect()
    }
}

impl Span {
    fn into_summary(self) -> Option<Summary> {
        let Self {
            event,
            whose,
            since,
            suppressed,
            ..
        } = self;
        (suppressed > 0).then_some(Summary {
            event,
            whose,
            suppressed,
            since,
        })
    }
}

/// Identities and addresses counted apart; those above share one span for each kind of event. About 100 bytes each.
const MAX_SPANS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{CloseReason, Closed, EventKind, SessionId, Traffic};

    fn event(address: &str, millis: u64) -> Event {
        Event {
            at: Timestamp::from_millis(millis),
            session: SessionId(1),
            client: format!("{address}:1").parse().unwrap(),
            identity: None,
            kind: EventKind::Closed(Closed {
                reason: CloseReason::Malformed,
                duration_ms: 0,
                traffic: Traffic::default(),
            }),
        }
    }

    #[test]
    fn a_loop_gets_its_first_lines_and_one_summary() {
        let mut sampler = Sampler::new(Sampling {
            first: 3,
            per: Duration::from_secs(10),
            ..Sampling::default()
        });
        let mut written = 0;
        for millis in 0..1000 {
            let sampled = sampler.sample(&event("10.0.0.1", millis), "denied");
            written += u32::from(sampled.write);
            assert!(sampled.ended.is_none());
        }
        assert_eq!(written, 3);
        assert!(sampler.sample(&event("10.0.0.2", 1000), "denied").write);
        assert!(sampler.sample(&event("10.0.0.1", 1000), "refused").write);
        assert!(sampler.end_spans(Timestamp::from_millis(9_999)).is_empty());
        let summaries = sampler.end_spans(Timestamp::from_millis(10_000));
        assert_eq!(summaries.len(), 1);
        assert_eq!(
            (summaries[0].event, summaries[0].suppressed),
            ("denied", 997)
        );
    }

    #[test]
    fn the_next_span_begins_with_lines_again() {
        let mut sampler = Sampler::new(Sampling {
            first: 1,
            per: Duration::from_secs(10),
            ..Sampling::default()
        });
        assert!(sampler.sample(&event("10.0.0.1", 0), "denied").write);
        assert!(!sampler.sample(&event("10.0.0.1", 1), "denied").write);
        let sampled = sampler.sample(&event("10.0.0.1", 10_000), "denied");
        assert!(sampled.write);
        assert_eq!(sampled.ended.unwrap().suppressed, 1);
    }

    #[test]
    fn many_addresses_share_what_is_written_of_strangers() {
        let mut sampler = Sampler::new(Sampling {
            strangers: 100,
            ..Sampling::default()
        });
        let mut write = |n: u32, millis: u64| {
            let address = std::net::Ipv4Addr::from(n).to_string();
            sampler.sample(&event(&address, millis), "refused").write
        };
        assert_eq!((0..5000).filter(|n| write(*n, 0)).count(), 100);
        assert!(write(6000, 10_000));
        let summaries = sampler.end_spans(Timestamp::from_millis(10_000));
        let left_out: Vec<u64> = summaries.iter().map(|s| s.suppressed).collect();
        // One line says it for all of them.
        assert_eq!(left_out, [4900]);
        assert!(summaries[0].whose.is_none());
        assert!(sampler.spans.len() < 10);
    }

    #[test]
    fn the_spans_are_bounded() {
        let mut sampler = Sampler::new(Sampling {
            strangers: u32::MAX,
            ..Sampling::default()
        });
        for n in 0..u32::try_from(MAX_SPANS).unwrap() + 500 {
            sampler.sample(
                &event(&std::net::Ipv4Addr::from(n).to_string(), 0),
                "denied",
            );
        }
        assert!(sampler.spans.len() <= MAX_SPANS + 1);
        let summaries = sampler.end_all();
        assert_eq!(summaries.iter().map(|s| s.suppressed).sum::<u64>(), 490);
        assert!(summaries[0].whose.is_none());
    }
}
