//! Every hostile token of the corpus, and every control, against the gate, with real RSA keys.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a corpus that cannot be read has to fail the test"
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use natsentry::demo::idp::Directory;
use natsentry::demo::idp::Form;
use natsentry::demo::idp::forge::{Corpus, Forge, Row};
use natsentry::identity::{
    Accept, Accepted, B2c, Cloud, Code, Entra, Expectations, GroupForm, Groups, HeldKeys, Identity,
    KeyRing, KeySet, OtherIssuer, TokenError, TokenLimits, inspect, validate_bound,
};
use natsentry::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

const BASE: &str = "http://127.0.0.1:9333";
const B2C: &str = "https://contoso.b2clogin.com";
const CIAM: &str = "https://contoso.ciamlogin.com";
const GOV_TENANT: &str = "22222222-2222-3333-4444-555555555555";
const NOW: Timestamp = Timestamp::from_secs(1_795_452_000);

fn corpus() -> Corpus {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/tokens.json");
    let text = std::fs::read_to_string(path).expect("the corpus is there");
    let text = text
        .replace("{b2c}", B2C)
        .replace("{ciam}", CIAM)
        .replace("{trap}", "https://trap.example");
    serde_json::from_str(&text).expect("the corpus is what forge.rs reads")
}

/// The table that the row's listener would have, and the forge's keys for it.
fn gate(forge: &Forge, row: &Row) -> (Expectations, KeyRing) {
    let directory = Directory::default();
    let accept = Accept {
        users: row.listener.users,
        apps: true,
        id_tokens: row.listener.id_tokens,
    };
    let mut table = Expectations::new(TokenLimits::default());
    let entra = Entra {
        cloud: Cloud::custom(BASE),
        tenants: vec![directory.tid.as_str().into()],
        audiences: vec![
            directory.api.as_str().into(),
            directory.app_id_uri.as_str().into(),
        ],
        accept,
        v1_tokens: row.listener.v1,
        required_scope: row.listener.scope.as_deref().map(Into::into),
        keys_app_id: None,
        groups: GroupForm::Ids,
    };
    table.add_entra(&entra).unwrap();
    table
        .add_entra(&Entra {
            cloud: Cloud::external_id(CIAM),
            v1_tokens: false,
            ..entra.clone()
        })
        .unwrap();
    table
        .add_entra(&Entra {
            cloud: Cloud::us_government(),
            tenants: vec![GOV_TENANT.into()],
            v1_tokens: true,
            ..entra.clone()
        })
        .unwrap();
    table
        .add_b2c(&B2c {
            authority: B2C.into(),
            tenant: directory.tid.as_str().into(),
            policies: vec!["B2C_1_signin".into()],
            audiences: entra.audiences,
            accept,
            required_scope: None,
        })
        .unwrap();
    table
        .add_issuer(&OtherIssuer {
            issuer: BASE.into(),
            audiences: vec![directory.oidc_audience.as_str().into()],
            accept,
            required_scope: None,
            keys: None,
            groups: GroupForm::Ids,
            roles_claim: Vec::new(),
        })
        .unwrap();
    let mut ring = KeyRing::empty(table.sources().len());
    for (index, source) in table.sources().iter().enumerate() {
        // Only the tenant of the forge has keys that name their issuer.
        let form = match &*source.name {
            "entra-v2-11111111-2222-3333-4444-555555555555" if !source.reads_host => Form::V2,
            name if name.starts_with("entra-v") => Form::V1,
            _ => Form::Oidc,
        };
        let gov_v1 = source.reads_host && source.name.starts_with("entra-v1");
        let said = gov_v1.then(|| format!("https://sts.example.us/{GOV_TENANT}/").into());
        let held = HeldKeys {
            keys: KeySet::parse(&forge.key_document(form)).unwrap(),
            fetched_at: NOW,
            good_until: Timestamp::from_secs(NOW.as_secs() + 86_400),
            cloud: Some("development.natsentry".into()),
            issuer: said,
        };
        ring = ring.with(index, held);
    }
    (table, ring)
}

fn judge(forge: &Forge, row: &Row) -> (Vec<u8>, Result<Identity, TokenError>) {
    let token = forge.token(row, NOW).unwrap();
    let (table, ring) = gate(forge, row);
    let thumbprint = row.listener.thumbprint.as_deref();
    let verdict = validate_bound(&token, thumbprint, &ring, &table, NOW);
    (token, verdict)
}

#[test]
fn every_token_of_the_corpus_gets_its_verdict_and_its_code() {
    let forge = Forge::new(BASE, Directory::default()).unwrap();
    let mut wrong = Vec::new();
    for row in &corpus().tokens {
        let (_, verdict) = judge(&forge, row);
        let said = match &verdict {
            Ok(identity) => match (&identity.groups, row.groups.as_deref()) {
                (Groups::Unknown, Some("unknown"))
                | (Groups::Misnamed, Some("misnamed"))
                | (Groups::Known(_), None) => "accept".into(),
                (groups, _) => format!("accept with {groups:?}"),
            },
            Err(error) => format!("refuse {}", error.code()),
        };
        let wanted = match &row.code {
            Some(code) => format!("{} {code}", row.verdict),
            None => row.verdict.clone(),
        };
        if said != wanted {
            wrong.push(format!(
                "{} ({}): wanted {wanted}, got {said}: {verdict:?}",
                row.row, row.what
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_refusal_shows_a_signature_or_a_control_character() {
    let forge = Forge::new(BASE, Directory::default()).unwrap();
    for row in &corpus().tokens {
        let (token, verdict) = judge(&forge, row);
        let Err(error) = verdict else { continue };
        let said = format!("{error} {error:?}");
        assert!(said.len() < 2000, "{}: {} bytes", row.row, said.len());
        assert!(
            !error
                .sentence()
                .chars()
                .any(|c| c.is_control() || !c.is_ascii()),
            "{}",
            row.row
        );
        let text = String::from_utf8_lossy(&token).into_owned();
        for segment in text.split('.').filter(|segment| segment.len() >= 40) {
            let Some(head) = segment.get(..32) else {
                continue;
            };
            assert!(!said.contains(head), "{} shows part of the token", row.row);
        }
    }
}

#[test]
fn the_corpus_covers_every_row_of_the_table_and_every_code() {
    let corpus = corpus();
    let number = |row: &str| {
        row.trim_end_matches(|c: char| c.is_ascii_lowercase())
            .parse()
            .ok()
    };
    let rows: BTreeSet<u32> = corpus
        .tokens
        .iter()
        .filter_map(|row| number(&row.row))
        .chain(corpus.scenes.iter().filter_map(|scene| number(&scene.row)))
        .collect();
    let missing: Vec<u32> = (1..=80).filter(|row| !rows.contains(row)).collect();
    assert!(missing.is_empty(), "rows without a token: {missing:?}");

    let names: BTreeSet<_> = corpus.tokens.iter().map(|row| &row.row).collect();
    assert_eq!(names.len(), corpus.tokens.len(), "a row is named twice");

    let codes: BTreeSet<_> = corpus
        .tokens
        .iter()
        .filter_map(|row| row.code.as_deref())
        .collect();
    let by_the_shell = [Code::KeyThrottled, Code::KeyUnavailable];
    let untested: Vec<_> = Code::ALL
        .iter()
        .filter(|code| !by_the_shell.contains(code) && !codes.contains(code.as_str()))
        .collect();
    assert!(untested.is_empty(), "codes without a token: {untested:?}");
}

#[test]
fn an_unknown_key_says_which_and_keys_that_are_missing_or_old_are_not_a_refusal() {
    let forge = Forge::new(BASE, Directory::default()).unwrap();
    let corpus = corpus();
    let named = |name: &str| corpus.tokens.iter().find(|row| row.row == name).unwrap();
    let (_, unknown) = judge(&forge, named("15b"));
    let error = unknown.unwrap_err();
    let need = error.needs_key().unwrap();
    assert_eq!(need.source, 0);
    assert!(!error.is_unavailable());

    let row = named("ok-v2-user");
    let token = forge.token(row, NOW).unwrap();
    let (table, ring) = gate(&forge, row);
    let none = KeyRing::empty(table.sources().len());
    let old = Timestamp::from_secs(NOW.as_secs() + 86_400);
    for (ring, now) in [(&none, NOW), (&ring, old)] {
        let error = validate_bound(&token, None, ring, &table, now).unwrap_err();
        assert_eq!(error.kind(), Code::KeyUnavailable);
        assert!(error.is_unavailable());
    }
}

#[test]
fn an_identity_holds_what_the_token_says_and_another_issuer_is_its_own_tenant() {
    let forge = Forge::new(BASE, Directory::default()).unwrap();
    let corpus = corpus();
    let accepted = |name: &str| {
        let row = corpus.tokens.iter().find(|row| row.row == name).unwrap();
        judge(&forge, row).1.unwrap()
    };
    let directory = Directory::default();
    let alice = accepted("ok-v2-user");
    assert_eq!(&*alice.tid, directory.tid);
    assert_eq!(&*alice.oid, "aaaaaaaa-0000-4000-8000-000000000001");
    assert_eq!(alice.azp.as_deref(), Some(directory.cli.as_str()));
    assert_eq!(alice.azpacr, Some(0));
    assert_eq!(alice.scopes, ["Nats.Connect".into()]);
    assert_eq!(alice.roles, ["Nats.Operator".into()]);
    assert_eq!(alice.acrs, ["c1".into()]);
    assert_eq!(alice.acct, Some(0));
    assert_eq!(alice.display_name.as_deref(), Some("Alice Arden"));
    assert_eq!(alice.expires_at.as_secs(), NOW.as_secs() + 3600);
    assert!(alice.uti.is_some());

    let gateway = accepted("ok-mi");
    assert_eq!(gateway.expires_at.as_secs(), NOW.as_secs() + 86_400);
    assert!(gateway.xms_mirid.is_some());
    assert_eq!(gateway.azpacr, Some(2));

    // A plain issuer may say any tid; its identities stay its own.
    let plain = accepted("ok-oidc-user");
    assert_eq!(&*plain.tid, BASE);
    assert_eq!(
        accepted("70g")
            .certificate_thumbprint
            .as_deref()
            .map(str::len),
        Some(43)
    );
}

#[test]
fn the_bounds_of_time_hold_to_the_second() {
    let forge = Forge::new(BASE, Directory::default()).unwrap();
    let mut row = corpus()
        .tokens
        .into_iter()
        .find(|row| row.row == "ok-v2-user")
        .unwrap();
    let mut said = |claims: &[(&str, i64)]| {
        row.claims.set.clear();
        for (name, seconds) in claims {
            let at = serde_json::json!({ "$now": seconds });
            row.claims.set.insert((*name).to_owned(), at);
        }
        match judge(&forge, &row).1 {
            Ok(_) => "accept",
            Err(error) => error.code(),
        }
    };
    // 60 s of skew for what lies ahead, none for the end, 28 h and the skew for a life.
    let day = 28 * 3600;
    for (claims, wanted) in [
        (&[("nbf", 60)][..], "accept"),
        (&[("nbf", 61)], "time.early"),
        (&[("iat", 60)], "accept"),
        (&[("iat", 61)], "time.early"),
        (&[("auth_time", 60)], "accept"),
        (&[("auth_time", 61)], "time.early"),
        (&[("exp", 1)], "accept"),
        (&[("exp", 0)], "time.expired"),
        (&[("exp", -1)], "time.expired"),
        (&[("nbf", 0), ("iat", 0), ("exp", day + 60)], "accept"),
        (
            &[("nbf", 0), ("iat", 0), ("exp", day + 61)],
            "time.lifetime",
        ),
        (
            &[("nbf", -10), ("iat", 0), ("exp", day + 51)],
            "time.lifetime",
        ),
        (
            &[("nbf", 0), ("iat", -10), ("exp", day + 51)],
            "time.lifetime",
        ),
        (&[("nbf", 50), ("iat", 0), ("exp", 51)], "accept"),
        (&[("nbf", 50), ("iat", 0), ("exp", 50)], "time.order"),
    ] {
        assert_eq!(said(claims), wanted, "{claims:?}");
    }
}

#[test]
fn no_change_of_one_byte_makes_another_accepted_token() {
    let forge = Forge::new(BASE, Directory::default()).unwrap();
    let corpus = corpus();
    let row = corpus
        .tokens
        .iter()
        .find(|row| row.row == "ok-v2-user")
        .unwrap();
    let token = forge.token(row, NOW).unwrap();
    let (table, ring) = gate(&forge, row);
    for at in 0..token.len() {
        for other in [b'A', b'.', b'-', b'=', b' ', 0, 0xff] {
            let mut changed = token.clone();
            if std::mem::replace(&mut changed[at], other) == other {
                continue;
            }
            let verdict = validate_bound(&changed, None, &ring, &table, NOW);
            assert!(verdict.is_err(), "byte {at} as {other:#x} is accepted");
        }
        let cut = validate_bound(&token[..at], None, &ring, &table, NOW);
        assert!(cut.is_err(), "the first {at} bytes are accepted");
    }
}

/// One token, brought again and again: with other certificates, later and earlier, under keys that change, grow too old or are
/// gone. What is remembered of it never speaks otherwise than the gate.
#[test]
fn who_was_let_through_before_is_judged_as_if_for_the_first_time() {
    let forge = Forge::new(BASE, Directory::default()).unwrap();
    let mut let_through = 0_u32;
    for row in &corpus().tokens {
        let token = forge.token(row, NOW).unwrap();
        let (table, ring) = gate(&forge, row);
        let none = Arc::new(KeyRing::empty(table.sources().len()));
        let again = Arc::new(gate(&forge, row).1);
        let ends = |ends: [u64; 2]| Arc::new(aged(&again, table.sources().len(), ends));
        let (aged, even, odd) = (ends([5, 5]), ends([5, 0]), ends([0, 5]));
        let (ring, memory) = (Arc::new(ring), Accepted::default());
        let own = row.listener.thumbprint.as_deref();
        for (ring, seconds, thumbprint) in [
            (&ring, 0, own),
            (&ring, 0, own),
            (&ring, 0, Some("another")),
            (&ring, 0, None),
            (&ring, 600, own),
            (&ring, -900, own),
            (&ring, -900_000, own),
            (&ring, 90_000, own),
            (&ring, 0, own),
            (&aged, 0, own),
            (&aged, 10, own),
            (&even, 0, own),
            (&even, 4, own),
            (&even, 5, own),
            (&even, -1, own),
            (&even, 0, own),
            (&odd, 0, own),
            (&odd, 4, own),
            (&odd, 5, own),
            (&odd, -1, own),
            (&odd, 0, own),
            (&none, 0, own),
            (&ring, 0, own),
            (&again, 0, own),
        ] {
            let now = Timestamp::from_secs(NOW.as_secs().saturating_add_signed(seconds));
            let said = memory.validate(&token, thumbprint, ring, &table, now);
            let gate = validate_bound(&token, thumbprint, ring, &table, now);
            assert_eq!(said.as_deref(), gate.as_ref(), "{} {seconds}", row.row);
            let_through += u32::from(gate.is_ok());
        }
    }
    assert!(let_through > 100, "{let_through}");
}

/// The same keys, too old from so many seconds after [`NOW`] on: those of even sources, and of odd ones.
fn aged(ring: &KeyRing, sources: usize, ends: [u64; 2]) -> KeyRing {
    (0..sources)
        .zip(ends.into_iter().cycle())
        .fold(ring.clone(), |aged, (source, end)| {
            let held = HeldKeys {
                good_until: Timestamp::from_secs(NOW.as_secs() + end),
                ..ring.held(source).unwrap().as_ref().clone()
            };
            aged.with(source, held)
        })
}

proptest! {
    #[test]
    fn no_payload_makes_the_gate_panic_and_none_is_accepted_unsigned(
        header in ".{0,60}", payload in "[\\[\\]{}\",:a-z0-9\\\\ -]{0,200}", garbage in vec(any::<u8>(), 0..300),
    ) {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let good = r#"{"typ":"JWT","alg":"RS256","kid":"k"}"#;
        let table = Expectations::new(TokenLimits::default());
        let ring = KeyRing::empty(0);
        for token in [
            format!("{}.{}.AAAA", encode(&header), encode(&payload)).into_bytes(),
            format!("{}.{}.AAAA", encode(good), encode(&payload)).into_bytes(),
            garbage.clone(),
        ] {
            prop_assert!(validate_bound(&token, None, &ring, &table, NOW).is_err());
            let _ = inspect(&token);
        }
        prop_assert!(KeySet::parse(&garbage).is_err());
        prop_assert!(KeySet::parse(payload.as_bytes()).is_err());
    }
}
