//! How often strangers may make us ask an issuer for keys: a token bucket, and a bounded memory of names that are not
//! there.
//!
//! Must never: read a clock.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// A token bucket that starts full.
#[derive(Debug)]
pub(super) struct Bucket {
    burst: u32,
    interval: Duration,
    tokens: u32,
    /// When the first of the missing tokens began to grow back.
    since: Instant,
}

impl Bucket {
    pub(super) const fn new(burst: u32, interval: Duration, now: Instant) -> Self {
        Self {
            burst,
            interval,
            tokens: burst,
            since: now,
        }
    }

    /// Takes a token, or says how long until there is one.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        match self.tokens.checked_sub(1) {
            Some(rest) => {
                if self.tokens == self.burst {
                    self.since = now;
                }
                self.tokens = rest;
                Ok(())
            }
            None => Err(self
                .interval
                .saturating_sub(now.saturating_duration_since(self.since))),
        }
    }

    fn refill(&mut self, now: Instant) {
        while self.tokens < self.burst && now.saturating_duration_since(self.since) >= self.interval
        {
            self.tokens = self.tokens.saturating_add(1);
            self.since += self.interval;
            if self.interval.is_zero() {
                self.tokens = self.burst;
            }
        }
    }
}

/// Key names that a fresh key document did not have. Bounded: when full, what is oldest is forgotten, which costs the
/// bucket at most, never memory.
#[derive(Debug)]
pub(super) struct Absent {
    most: usize,
    lifetime: Duration,
    names: HashMap<Box<str>, Instant>,
}

impl Absent {
    pub(super) fn new(most: usize, lifetime: Duration) -> Self {
        Self {
            most,
            lifetime,
            names: HashMap::new(),
        }
    }

    pub(super) fn contains(&mut self, kid: &str, now: Instant) -> bool {
        let Some(at) = self.names.get(kid) else {
            return false;
        };
        if now.saturating_duration_since(*at) < self.lifetime {
            return true;
        }
        self.names.remove(kid);
        false
    }

    pub(super) fn insert(&mut self, kid: &str, now: Instant) {
        if self.names.len() >= self.most {
            let lifetime = self.lifetime;
            self.names
                .retain(|_, at| now.saturating_duration_since(*at) < lifetime);
        }
        if self.names.len() >= self.most
            && let Some(oldest) = self
                .names
                .iter()
                .min_by_key(|(_, at)| **at)
                .map(|(k, _)| k.clone())
        {
            self.names.remove(&oldest);
        }
        self.names.insert(kid.into(), now);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_bucket_gives_its_burst_and_then_one_per_interval() {
        let start = Instant::now();
        let mut bucket = Bucket::new(2, MINUTE * 5, start);
        assert_eq!(bucket.take(start), Ok(()));
        assert_eq!(bucket.take(start + MINUTE), Ok(()));
        assert_eq!(bucket.take(start + MINUTE * 2), Err(MINUTE * 3));
        assert_eq!(bucket.take(start + MINUTE * 5), Ok(()));
        assert_eq!(bucket.take(start + MINUTE * 6), Err(MINUTE * 4));
        assert_eq!(bucket.take(start + MINUTE * 60), Ok(()));
        assert_eq!(bucket.take(start + MINUTE * 60), Ok(()));
        assert!(bucket.take(start + MINUTE * 60).is_err());
    }

    #[test]
    fn absent_names_are_forgotten_in_time_and_never_exceed_their_bound() {
        let start = Instant::now();
        let mut absent = Absent::new(3, MINUTE);
        for n in 0..100_u64 {
            absent.insert(&format!("k{n}"), start + Duration::from_millis(n));
        }
        assert_eq!(absent.len(), 3);
        assert!(absent.contains("k99", start + Duration::from_secs(1)));
        assert!(!absent.contains("k0", start + Duration::from_secs(1)));
        assert!(!absent.contains("k99", start + MINUTE * 2));
    }
}
