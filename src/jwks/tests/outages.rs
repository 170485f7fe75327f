//! An issuer that is away or broken, and what is kept of its keys.

use super::*;

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
