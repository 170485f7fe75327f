//! Keys that are not held: new ones, invented ones, floods of them.

use super::*;

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
