//! Device codes and refresh tokens that are under way (RFC 8628).

use std::collections::BTreeMap;
use std::time::Duration;

use super::answers::request_id;
use crate::time::Timestamp;

/// A sign-in that was begun, and who came.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    pub(super) scope: String,
    /// Short name of the person.
    pub(super) who: String,
    pub(super) since: Timestamp,
}

/// What a poll finds.
pub(super) enum Poll {
    Pending,
    TooFast,
    Declined,
    Expired,
    Unknown,
    SignedIn(Session),
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    SignedIn,
    Declined,
}

#[derive(Debug)]
struct Device {
    user_code: String,
    session: Session,
    stage: Stage,
    ends: Timestamp,
    interval: Duration,
    polled: Option<Timestamp>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Devices {
    waiting: BTreeMap<String, Device>,
    refresh: BTreeMap<String, Session>,
    /// Pause between two polls; Entra says 5 s.
    pub(super) interval: Duration,
    pub(super) lifetime: Duration,
}

impl Default for Devices {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            refresh: BTreeMap::new(),
            interval: Duration::from_secs(5),
            lifetime: Duration::from_secs(900),
        }
    }
}

impl Devices {
    /// Device code, user code, lifetime and interval.
    pub(super) fn start(
        &mut self,
        session: Session,
        now: Timestamp,
    ) -> (String, String, Duration, Duration) {
        let device_code = format!("DAQABAAEA.{}", request_id());
        let user_code: String = request_id()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(9)
            .collect::<String>()
            .to_uppercase();
        self.waiting.insert(
            device_code.clone(),
            Device {
                user_code: user_code.clone(),
                session,
                stage: Stage::Waiting,
                ends: now.plus(self.lifetime),
                interval: self.interval,
                polled: None,
            },
        );
        (device_code, user_code, self.lifetime, self.interval)
    }

    pub(super) fn poll(&mut self, code: &str, now: Timestamp) -> Poll {
        let Some(device) = self.waiting.get_mut(code) else {
            return Poll::Unknown;
        };
        let before = device.polled.replace(now);
        if now >= device.ends {
            return Poll::Expired;
        }
        // A second's tenth of grace: timers of clients are not exact.
        let soonest = device.interval.saturating_sub(Duration::from_millis(100));
        if before.is_some_and(|before| now.since(before) < soonest) {
            device.interval += Duration::from_secs(5).min(self.interval);
            return Poll::TooFast;
        }
        match device.stage {
            Stage::Waiting => Poll::Pending,
            Stage::Declined => Poll::Declined,
            Stage::SignedIn => {
                let session = device.session.clone();
                self.waiting.remove(code);
                Poll::SignedIn(session)
            }
        }
    }

    /// Signs somebody in with a user code. Whether the code waits.
    pub(super) fn approve(&mut self, user_code: &str, who: &str, now: Timestamp) -> bool {
        self.decide(user_code, |device| {
            who.clone_into(&mut device.session.who);
            device.session.since = now;
            device.stage = Stage::SignedIn;
        })
    }

    pub(super) fn decline(&mut self, user_code: &str) -> bool {
        self.decide(user_code, |device| device.stage = Stage::Declined)
    }

    pub(super) fn expire(&mut self, user_code: &str) -> bool {
        self.decide(user_code, |device| device.ends = Timestamp::from_millis(0))
    }

    fn decide(&mut self, user_code: &str, decide: impl FnOnce(&mut Device)) -> bool {
        let waiting = self
            .waiting
            .values_mut()
            .find(|device| device.user_code.eq_ignore_ascii_case(user_code));
        waiting.map(decide).is_some()
    }

    /// User codes that wait for somebody.
    pub(super) fn waiting(&self, now: Timestamp) -> Vec<String> {
        let waiting = self
            .waiting
            .values()
            .filter(|device| device.stage == Stage::Waiting && now < device.ends);
        waiting.map(|device| device.user_code.clone()).collect()
    }

    /// A refresh token for a sign-in.
    pub(super) fn refreshable(&mut self, session: &Session) -> String {
        let token = format!("1.AXkA.{}", request_id());
        self.refresh.insert(token.clone(), session.clone());
        token
    }

    pub(super) fn refreshed(&self, token: &str) -> Option<Session> {
        self.refresh.get(token).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_polled_until_somebody_signs_in() {
        let mut devices = Devices::default();
        let at = |secs: u64| Timestamp::from_secs(1_000_000 + secs);
        let (device, user, ..) = devices.start(Session::default(), at(0));
        assert!(matches!(devices.poll(&device, at(5)), Poll::Pending));
        assert!(matches!(devices.poll(&device, at(6)), Poll::TooFast));
        assert!(devices.approve(&user, "alice", at(7)));
        assert!(
            matches!(devices.poll(&device, at(17)), Poll::SignedIn(session) if session.who == "alice")
        );
        assert!(matches!(devices.poll(&device, at(27)), Poll::Unknown));
        let (device, user, ..) = devices.start(Session::default(), at(0));
        assert!(matches!(devices.poll(&device, at(900)), Poll::Expired));
        assert!(devices.decline(&user) && !devices.decline("NOBODY"));
    }
}
