//! The key service against the development issuer: start, rollover, floods, outages, restarts.
#![expect(
    clippy::unwrap_used,
    reason = "what cannot be set up has to fail the test"
)]

use std::os::unix::fs::PermissionsExt as _;

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

    async fn judge(&self, jwks: &Jwks, token: &[u8]) -> Result<Identity, TokenError> {
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
async fn a_key_that_appeared_just_now_is_accepted_after_one_fetch() {
    let rig = Rig::new().await;
    let jwks = rig.ready_jwks(&calm()).await;
    let before = rig.idp.key_fetches();
    let kid = rig.idp.roll_keys().await.unwrap();
    let identity = rig.judge(&jwks, &rig.token("alice")).await.unwrap();
    assert_eq!(identity.display_name.as_deref(), Some("Alice Arden"));
    assert_eq!(rig.idp.key_fetches(), before + 1);
    assert!(jwks.ring().held(0).unwrap().keys.key(&kid).is_some());
}

#[tokio::test]
async fn many_connections_with_one_new_key_share_one_fetch() {
    let rig = Rig::new().await;
    let jwks = rig.ready_jwks(&calm()).await;
    rig.idp.roll_keys().await.unwrap();
    rig.idp.answer(Answers::Slow(Duration::from_millis(50)));
    let before = rig.idp.key_fetches();
    let token = rig.token("alice");
    let all = (0..200).map(|_| rig.judge(&jwks, &token));
    let verdicts = futures_util::future::join_all(all).await;
    assert!(verdicts.iter().all(Result::is_ok));
    assert_eq!(rig.idp.key_fetches(), before + 1);
}

#[tokio::test]
async fn a_flood_of_unknown_kids_costs_the_burst_and_disturbs_nobody() {
    let rig = Rig::new().await;
    let jwks = rig.ready_jwks(&calm()).await;
    let before = (rig.idp.metadata_fetches(), rig.idp.key_fetches());
    let known = rig.token("alice");
    let (mut refused, mut not_now) = (0, 0);
    for n in 0..10_000 {
        let request = TokenRequest::of("alice").header("kid", format!("flood-{n}"));
        // Minting signs, which is slow; the same few tokens do, under many names.
        let token = if n < 4 {
            rig.idp.mint(&request).unwrap()
        } else {
            renamed(&known, n)
        };
        match rig.judge(&jwks, token.as_bytes()).await.unwrap_err().kind() {
            Code::KeyUnknown => refused += 1,
            Code::KeyThrottled => not_now += 1,
            other => panic!("{other}"),
        }
        if n % 1000 == 0 {
            assert!(rig.judge(&jwks, &known).await.is_ok());
        }
    }
    assert_eq!((refused, not_now), (2, 9998));
    assert_eq!(rig.idp.metadata_fetches(), before.0 + 2);
    assert_eq!(rig.idp.key_fetches(), before.1 + 2);
    assert_eq!(jwks.status()[0].refreshes_throttled, 9998);
}

#[tokio::test]
async fn a_flood_cannot_keep_a_new_key_unknown() {
    let rig = Rig::new().await;
    let jwks = rig
        .ready_jwks(&Settings {
            unknown_interval: Duration::from_millis(700),
            unknown_burst: 1,
            ..calm()
        })
        .await;
    let known = rig.token("alice");
    let fetches = rig.idp.metadata_fetches();
    for n in 0..50 {
        let _ = rig.judge(&jwks, renamed(&known, n).as_bytes()).await;
    }
    let kid = rig.idp.roll_keys().await.unwrap();
    // Whoever comes with the new key meanwhile is told "not now" at the worst.
    let verdict = rig.judge(&jwks, &rig.token("alice")).await;
    assert!(verdict.is_ok() || verdict.unwrap_err().is_unavailable());
    // Nobody asks again, and yet it becomes known.
    let ring = || jwks.ring();
    until("the new key is known", || {
        ring().held(0).unwrap().keys.key(&kid).is_some()
    })
    .await;
    assert!(rig.judge(&jwks, &rig.token("alice")).await.is_ok());
    assert!(rig.idp.metadata_fetches() - fetches <= 3);
}

/// The token under another kid; its signature no longer fits, which nobody finds out without the key.
fn renamed(token: &[u8], n: usize) -> String {
    use base64::Engine as _;
    let header = format!("{{\"typ\":\"JWT\",\"alg\":\"RS256\",\"kid\":\"flood-{n}\"}}");
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header);
    let text = std::str::from_utf8(token).unwrap();
    format!("{header}.{}", text.split_once('.').unwrap().1)
}

#[tokio::test]
async fn a_kid_that_a_fresh_document_does_not_have_is_no_and_is_not_asked_for_again() {
    let rig = Rig::new().await;
    let jwks = rig.ready_jwks(&calm()).await;
    let before = rig.idp.key_fetches();
    let token = rig
        .idp
        .mint(&TokenRequest::of("alice").header("kid", "nobody"))
        .unwrap();
    for _ in 0..5 {
        let error = rig.judge(&jwks, token.as_bytes()).await.unwrap_err();
        assert_eq!(error.kind(), Code::KeyUnknown);
        assert!(!error.is_unavailable());
    }
    assert_eq!(rig.idp.key_fetches(), before + 1);
}

#[tokio::test]
async fn an_unknown_kid_during_an_outage_is_not_now() {
    let rig = Rig::new().await;
    let jwks = rig.ready_jwks(&calm()).await;
    rig.idp.roll_keys().await.unwrap();
    rig.idp.set_down(true);
    let error = rig.judge(&jwks, &rig.token("alice")).await.unwrap_err();
    assert_eq!(error.kind(), Code::KeyUnavailable);
    assert!(error.is_unavailable());
}

#[tokio::test]
async fn a_broken_issuer_does_not_cost_the_last_good_set() {
    let target = DevIdp::start(IdpConfig::default()).await.unwrap();
    let ways = [
        Answers::Down,
        Answers::Html,
        Answers::Huge,
        Answers::NoKeys,
        Answers::Redirect(format!("{}/discovery/keys", target.base())),
        Answers::ForeignIssuer(target.base().to_owned()),
        Answers::ForeignKeys(format!("{}/discovery/keys", target.base())),
        Answers::Slow(Duration::from_secs(30)),
    ];
    let rig = Rig::new().await;
    for way in ways {
        rig.idp.answer(Answers::Well);
        let often = Settings {
            refresh: Duration::from_millis(20),
            timeout: Duration::from_millis(700),
            ..calm()
        };
        let jwks = rig.ready_jwks(&often).await;
        rig.idp.answer(way.clone());
        until("a fetch fails", || jwks.status()[0].last_error.is_some()).await;
        assert!(
            rig.judge(&jwks, &rig.token("alice")).await.is_ok(),
            "{way:?}"
        );
        assert!(jwks.is_ready(), "{way:?}");
        jwks.stop();
    }
    assert_eq!((target.metadata_fetches(), target.key_fetches()), (0, 0));
}

#[tokio::test]
async fn a_withdrawn_key_is_refused_after_the_next_fetch() {
    let rig = Rig::new().await;
    let often = Settings {
        refresh: Duration::from_millis(20),
        ..calm()
    };
    let jwks = rig.ready_jwks(&often).await;
    let token = rig.token("alice");
    assert!(rig.judge(&jwks, &token).await.is_ok());
    let kid = rig.idp.kids().pop().unwrap();
    assert!(rig.idp.remove_key(&kid));
    until("the key is gone", || {
        jwks.ring().held(0).unwrap().keys.key(&kid).is_none()
    })
    .await;
    assert_eq!(
        rig.judge(&jwks, &token).await.unwrap_err().kind(),
        Code::KeyUnknown
    );
}

#[tokio::test]
async fn a_restart_during_an_outage_still_admits() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("keys");
    let settings = Settings {
        cache: Some(cache.clone()),
        ..calm()
    };
    let rig = Rig::new().await;
    let first = rig.ready_jwks(&settings).await;
    let files = || std::fs::read_dir(&cache).map_or(0, Iterator::count);
    until("the set is written", || files() == 1).await;
    let fetched_at = first.status()[0].fetched_at;
    first.stop();

    rig.idp.set_down(true);
    let second = rig.jwks(&settings);
    assert!(second.is_ready());
    assert_eq!(second.status()[0].fetched_at, fetched_at);
    assert!(rig.judge(&second, &rig.token("alice")).await.is_ok());
    second.stop();

    // Too old to be used; nothing is admitted on its word.
    let old = Settings {
        max_age: Duration::ZERO,
        ..settings.clone()
    };
    assert!(!rig.jwks(&old).is_ready());

    // Others could have written it.
    let path = std::fs::read_dir(&cache)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(!rig.jwks(&settings).is_ready());

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(rig.jwks(&settings).is_ready());

    // Its folder, or both, belong to a stranger, who could lay there what he likes; where tests may give files away.
    let stranger = Some(65_534);
    for (what, also) in [(&cache, None), (&cache, Some(&path)), (&path, None)] {
        let given = std::os::unix::fs::chown(what, stranger, None).is_ok()
            && also.is_none_or(|also| std::os::unix::fs::chown(also, stranger, None).is_ok());
        assert!(
            !given || !rig.jwks(&settings).is_ready(),
            "{what:?} {also:?}"
        );
        for what in [&cache, &path] {
            let back = given.then(|| std::os::unix::fs::chown(what, Some(0), None));
            assert!(back.is_none_or(|back| back.is_ok()));
        }
    }
    assert!(rig.jwks(&settings).is_ready());

    // A link to a good one.
    let elsewhere = folder.path().join("elsewhere");
    std::fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(!rig.jwks(&settings).is_ready());
    std::fs::rename(&elsewhere, &path).unwrap();

    // Cut short anywhere, altered, or not what we wrote.
    let whole = std::fs::read(&path).unwrap();
    let altered = String::from_utf8(whole.clone())
        .unwrap()
        .replace("\"location\":\"http", "\"location\":\"https");
    let cut = (0..whole.len())
        .step_by(97)
        .map(|end| whole[..end].to_vec());
    for bad in cut.chain([altered.into_bytes(), b"{\"version\":1}".to_vec()]) {
        std::fs::write(&path, &bad).unwrap();
        assert!(!rig.jwks(&settings).is_ready(), "{} bytes", bad.len());
    }
    std::fs::write(&path, whole).unwrap();
    assert!(rig.jwks(&settings).is_ready());
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_does_not_keep_anybody_out() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    std::fs::write(&blocked, b"x").unwrap();
    let rig = Rig::new().await;
    let jwks = rig
        .ready_jwks(&Settings {
            cache: Some(blocked),
            ..calm()
        })
        .await;
    assert!(rig.judge(&jwks, &rig.token("alice")).await.is_ok());
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

#[tokio::test]
async fn no_token_of_the_corpus_makes_us_open_a_connection() {
    let rig = Rig::new().await;
    let forge = Forge::of(&rig.idp).unwrap();
    let jwks = rig
        .ready_jwks(&Settings {
            unknown_burst: 0,
            ..calm()
        })
        .await;
    let before = (rig.idp.metadata_fetches(), rig.idp.key_fetches());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/tokens.json");
    let text = std::fs::read_to_string(path).unwrap();
    let corpus: crate::demo::idp::forge::Corpus = serde_json::from_str(&text).unwrap();
    let mut judged = 0;
    for row in corpus
        .tokens
        .iter()
        .filter(|row| row.base.starts_with("v2") && row.issuer.is_none())
    {
        let token = forge.token(row, clock::now()).unwrap();
        let accepted = rig.judge(&jwks, &token).await.is_ok();
        let listener = &row.listener;
        let usual = listener.thumbprint.is_none() && listener.scope.is_none();
        if usual && listener.users && !listener.id_tokens {
            assert_eq!(accepted, row.verdict == "accept", "{}", row.row);
        }
        judged += 1;
    }
    assert!(judged > 200);
    assert_eq!((rig.idp.metadata_fetches(), rig.idp.key_fetches()), before);
}

/// From where to where.
type Redirects = &'static [(&'static str, &'static str)];

/// Answers each path with a redirect or a document, and remembers what was asked for.
async fn redirecting(
    redirects: Redirects,
    documents: Vec<(&'static str, Vec<u8>)>,
) -> (String, Arc<std::sync::Mutex<Vec<String>>>) {
    use axum::http::{StatusCode, Uri, header};
    use axum::response::IntoResponse as _;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (here, remembered) = (base.clone(), Arc::clone(&asked));
    let answer = move |uri: Uri| {
        remembered.lock().unwrap().push(uri.path().to_owned());
        let to = redirects.iter().find(|(from, _)| *from == uri.path());
        let document = documents.iter().find(|(path, _)| *path == uri.path());
        let answer = match (to, document) {
            (Some((_, to)), _) => {
                let to = to.replace("{base}", &here);
                (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
            }
            (None, Some((_, body))) => {
                let body = String::from_utf8(body.clone()).unwrap();
                body.replace("{base}", &here).into_response()
            }
            (None, None) => StatusCode::NOT_FOUND.into_response(),
        };
        std::future::ready(answer)
    };
    let app = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (base, asked)
}

#[tokio::test]
async fn redirects_within_a_host_are_followed_three_times_and_to_another_never() {
    let rig = Rig::new().await;
    let forge = Forge::of(&rig.idp).unwrap();
    let keys = forge.key_document(crate::demo::idp::Form::Oidc);
    let metadata = br#"{"issuer":"{base}/i","jwks_uri":"{base}/keys"}"#.to_vec();
    let well_known = "/i/.well-known/openid-configuration";
    let documents = || vec![("/m", metadata.clone()), ("/k", keys.clone())];
    let cases: [(Redirects, Option<&str>); 6] = [
        // Both documents, by an absolute and by a relative address.
        (
            &[
                ("/i/.well-known/openid-configuration", "{base}/m"),
                ("/keys", "/k"),
            ],
            None,
        ),
        // As often as is allowed, and once more.
        (
            &[
                ("/i/.well-known/openid-configuration", "/1"),
                ("/1", "/2"),
                ("/2", "/m"),
                ("/keys", "k"),
            ],
            None,
        ),
        (
            &[
                ("/i/.well-known/openid-configuration", "/1"),
                ("/1", "/2"),
                ("/2", "/3"),
                ("/3", "/m"),
                ("/keys", "/k"),
            ],
            Some("only redirects within a host"),
        ),
        // In a circle.
        (
            &[(
                "/i/.well-known/openid-configuration",
                "/i/.well-known/openid-configuration",
            )],
            Some("only redirects within a host"),
        ),
        // To another host, and to another port of this one.
        (
            &[(
                "/i/.well-known/openid-configuration",
                "https://keys.example.com/m",
            )],
            Some("redirects to https://keys.example.com"),
        ),
        (
            &[
                ("/i/.well-known/openid-configuration", "/m"),
                ("/keys", "http://127.0.0.1:9/k"),
            ],
            Some("redirects to http://127.0.0.1:9"),
        ),
    ];
    for (redirects, trouble) in cases {
        let (base, asked) = redirecting(redirects, documents()).await;
        let mut table = Expectations::new(TokenLimits::default());
        let mut issuer = rig.idp.issuer();
        issuer.issuer = format!("{base}/i").into();
        table.add_issuer(&issuer).unwrap();
        let jwks = Jwks::start(&table, &calm(), None, &rig.tasks, &rig.stop).unwrap();
        until("it was tried", || {
            let status = &jwks.status()[0];
            status.fetches_ok + status.fetches_failed > 0
        })
        .await;
        jwks.stop();
        let status = jwks.status().remove(0);
        match trouble {
            None => assert!(jwks.is_ready(), "{redirects:?}: {:?}", status.last_error),
            Some(words) => {
                let said = status.last_error.unwrap_or_default();
                assert!(
                    !jwks.is_ready() && said.contains(words),
                    "{redirects:?}: {said}"
                );
            }
        }
        assert_eq!(
            asked.lock().unwrap().first().map(String::as_str),
            Some(well_known)
        );
    }
}
