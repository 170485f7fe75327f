//! The key service against the development issuer: start, rollover, floods, outages, restarts.
#![expect(
    clippy::unwrap_used,
    reason = "what cannot be set up has to fail the test"
)]

use std::os::unix::fs::PermissionsExt as _;

mod outages;
mod requests;
mod unknown;

use super::*;
use crate::demo::idp::forge::Forge;
use crate::demo::idp::{Answers, DevIdp, IdpConfig, TokenRequest};
use crate::identity::{Code, Entra, TokenLimits};

/// One issuer, one service that trusts it, and the means to end both.
struct Rig {
    idp: DevIdp,
    table: Expectations,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Rig {
    async fn new() -> Self {
        let idp = DevIdp::start(IdpConfig::default()).await.unwrap();
        let table = table_of(&idp);
        Self {
            idp,
            table,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    fn jwks(&self, settings: &Settings) -> Jwks {
        Jwks::start(&self.table, settings, None, &self.tasks, &self.stop).unwrap()
    }

    async fn ready_jwks(&self, settings: &Settings) -> Jwks {
        let jwks = self.jwks(settings);
        until("the keys are there", || jwks.is_ready()).await;
        jwks
    }

    fn token(&self, who: &str) -> Vec<u8> {
        self.idp.mint(&TokenRequest::of(who)).unwrap().into_bytes()
    }

    async fn judge(&self, jwks: &Jwks, token: &[u8]) -> Result<Arc<Identity>, TokenError> {
        jwks.validate(token, None, &self.table).await
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The usual settings, but patient: the machine that runs tests may be busy.
fn calm() -> Settings {
    Settings {
        patience: Duration::from_secs(20),
        ..Settings::default()
    }
}

/// Version 2.0 alone, so that one source makes all the fetches.
fn table_of(idp: &DevIdp) -> Expectations {
    let mut table = Expectations::new(TokenLimits::default());
    table
        .add_entra(&Entra {
            v1_tokens: false,
            ..idp.entra()
        })
        .unwrap();
    table
}

/// Waits for something, looking every few milliseconds, and fails after half a minute.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited in vain until {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_issuer_that_is_down_at_start_is_found_soon_after_its_return() {
    // Nobody listens there while the service starts.
    let first = DevIdp::start(IdpConfig::default()).await.unwrap();
    let address = first.base().trim_start_matches("http://").parse().unwrap();
    let table = table_of(&first);
    first.stop().await;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let jwks = Jwks::start(&table, &calm(), None, &tasks, &stop).unwrap();
    until("three fetches failed", || {
        jwks.status()[0].fetches_failed >= 3
    })
    .await;
    assert!(!jwks.is_ready());
    assert!(jwks.status()[0].last_error.is_some());

    let back = DevIdp::start(IdpConfig {
        listen: address,
        ..IdpConfig::default()
    })
    .await
    .unwrap();
    let returned = tokio::time::Instant::now();
    until("the keys are there", || jwks.is_ready()).await;
    assert!(
        returned.elapsed() < Duration::from_secs(3),
        "{:?}",
        returned.elapsed()
    );
    let token = back.mint(&TokenRequest::of("alice")).unwrap();
    assert!(jwks.validate(token.as_bytes(), None, &table).await.is_ok());
    stop.cancel();
}

#[tokio::test]
async fn a_connection_waits_for_the_first_keys() {
    let rig = Rig::new().await;
    rig.idp.answer(Answers::Slow(Duration::from_millis(200)));
    let jwks = rig.jwks(&calm());
    assert!(!jwks.is_ready());
    assert!(rig.judge(&jwks, &rig.token("alice")).await.is_ok());
}

#[tokio::test]
async fn without_keys_it_is_not_now_and_never_no() {
    let rig = Rig::new().await;
    rig.idp.set_down(true);
    let patience = Duration::from_millis(300);
    let jwks = rig.jwks(&Settings { patience, ..calm() });
    let error = rig.judge(&jwks, &rig.token("alice")).await.unwrap_err();
    assert!(error.is_unavailable());
    assert_eq!(error.kind(), Code::KeyUnavailable);
    assert!(error.sentence().contains("503"), "{error}");
}

#[tokio::test]
async fn keys_beyond_their_age_are_not_now_either() {
    let rig = Rig::new().await;
    let short = Settings {
        max_age: Duration::from_secs(2),
        patience: Duration::from_millis(100),
        ..calm()
    };
    let jwks = rig.ready_jwks(&short).await;
    assert!(rig.judge(&jwks, &rig.token("alice")).await.is_ok());
    rig.idp.set_down(true);
    until("the keys are too old", || !jwks.is_ready()).await;
    let error = rig.judge(&jwks, &rig.token("alice")).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    assert!(!jwks.status()[0].usable);
}

#[tokio::test]
async fn a_new_configuration_begins_with_the_keys_of_the_old_one() {
    let rig = Rig::new().await;
    let old = rig.ready_jwks(&calm()).await;
    rig.idp.set_down(true);
    let mut table = Expectations::new(TokenLimits::default());
    table.add_issuer(&rig.idp.issuer()).unwrap();
    table
        .add_entra(&Entra {
            v1_tokens: false,
            ..rig.idp.entra()
        })
        .unwrap();
    let settings = calm();
    let new = Jwks::start(&table, &settings, Some(&old), &rig.tasks, &rig.stop).unwrap();
    old.stop();
    assert!(
        new.validate(&rig.token("alice"), None, &table)
            .await
            .is_ok()
    );
    let usable: Vec<bool> = new.status().iter().map(|status| status.usable).collect();
    assert_eq!(usable, [false, true]);
}

#[tokio::test]
async fn the_tasks_end_when_told_so() {
    let rig = Rig::new().await;
    let jwks = rig.ready_jwks(&calm()).await;
    jwks.stop();
    rig.tasks.close();
    tokio::time::timeout(Duration::from_secs(5), rig.tasks.wait())
        .await
        .unwrap();
}
