//! Who was told that which message arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// What acknowledges a client's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Pong,
    PubAck,
}

#[derive(Debug, Default)]
struct Account {
    acknowledged: BTreeSet<u64>,
    connections: u64,
    by: Option<By>,
    /// The client said that it has ended for good.
    ended: Option<String>,
}

/// Shared by all clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<BTreeMap<String, Account>>>);

impl Ledger {
    fn with<T>(&self, client: &str, act: impl FnOnce(&mut Account) -> T) -> T {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(accounts.entry(client.to_owned()).or_default())
    }

    pub(crate) fn acknowledged(
        &self,
        client: &str,
        by: By,
        numbers: impl IntoIterator<Item = u64>,
    ) {
        self.with(client, |account| {
            account.by = Some(by);
            account.acknowledged.extend(numbers);
        });
    }

    pub(crate) fn connected(&self, client: &str) {
        self.with(client, |account| account.connections += 1);
    }

    pub(crate) fn ended(&self, client: &str, why: &str) {
        self.with(client, |account| account.ended = Some(why.to_owned()));
    }

    /// How many messages of a client are acknowledged; a panic when it has ended for good.
    pub(crate) fn count(&self, client: &str) -> usize {
        self.with(client, |account| {
            assert_eq!(account.ended, None, "{client} has ended");
            account.acknowledged.len()
        })
    }

    pub(crate) fn counts(&self) -> Vec<(String, String)> {
        let accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let say = |account: &Account| {
            format!(
                "{} acknowledged by {:?}, {} connections",
                account.acknowledged.len(),
                account.by.unwrap(),
                account.connections,
            )
        };
        accounts
            .iter()
            .map(|(client, account)| (client.clone(), say(account)))
            .collect()
    }

    fn check(&self, by: By, arrived: &BTreeSet<(String, u64)>) {
        let accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut checked, mut all_lost) = (0, Vec::new());
        for (client, account) in accounts
            .iter()
            .filter(|(_, account)| account.by == Some(by))
        {
            let lost: Vec<_> = account
                .acknowledged
                .iter()
                .filter(|number| !arrived.contains(&(client.clone(), **number)))
                .collect();
            if !lost.is_empty() {
                all_lost.push(format!("{client}: {lost:?}"));
            }
            checked += account.acknowledged.len();
        }
        assert!(
            all_lost.is_empty(),
            "acknowledged by {by:?} and lost: {all_lost:#?}"
        );
        assert!(checked > 0, "nothing was acknowledged by {by:?}");
        println!("chaos: {checked} messages acknowledged by {by:?}, none lost");
    }

    /// Every message with a PONG is among those that a subscriber on the server saw.
    pub(crate) fn check_core(&self, seen: &BTreeSet<(String, u64)>) {
        self.check(By::Pong, seen);
    }

    /// Every message with a PubAck is in the stream.
    pub(crate) fn check_stored(&self, stored: &BTreeSet<(String, u64)>) {
        self.check(By::PubAck, stored);
    }
}

/// The client and the number that a subject `chaos.<kind>.<client>.<number>` names.
pub(crate) fn named(subject: &str) -> Option<(String, u64)> {
    let mut tokens = subject.split('.').skip(2);
    Some((tokens.next()?.to_owned(), tokens.next()?.parse().ok()?))
}
