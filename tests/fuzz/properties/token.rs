//! The token gate, with keys that were made for this run.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use natsentry::identity::{
    Accept, Cloud, Entra, Expectations, GroupForm, HeldKeys, Identity, KeyRing, KeySet,
    OtherIssuer, TokenLimits, inspect, is_guid, validate,
};
use natsentry::time::Timestamp;
use serde_json::{Value, json};

use super::keys::{is_one_plain_line, read_by_another};

/// The time at which every token is looked at.
pub const NOW: Timestamp = Timestamp::from_secs(1_795_452_000);

/// The authority of the seeds: the development issuer's default.
pub const BASE: &str = "http://127.0.0.1:9333";

/// Its tenant.
pub const TENANT: &str = "11111111-2222-3333-4444-555555555555";

/// Its application registration.
pub const API: &str = "b3c0f6de-51a2-4a60-8d0e-6a1f20c4a771";

/// Where a header with this `kid` points to the key that signs here.
pub const KID: &str = "fuzz-1";

struct Gate {
    key: KeyPair,
    table: Expectations,
    ring: KeyRing,
}

static GATE: LazyLock<Gate> = LazyLock::new(|| {
    let key = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let public: PublicKeyComponents<Vec<u8>> = key.public_key().into();
    let document = json!({ "keys": [{
        "kty": "RSA", "use": "sig", "kid": KID,
        "n": URL_SAFE_NO_PAD.encode(&public.n), "e": URL_SAFE_NO_PAD.encode(&public.e),
    }]});
    let accept = Accept {
        users: true,
        apps: true,
        id_tokens: false,
    };
    let mut table = Expectations::new(TokenLimits::default());
    let entra = Entra {
        cloud: Cloud::custom(BASE),
        tenants: vec![TENANT.into()],
        audiences: vec![API.into(), format!("api://{API}").into()],
        accept,
        v1_tokens: true,
        required_scope: None,
        keys_app_id: None,
        groups: GroupForm::Ids,
    };
    table.add_entra(&entra).expect("tenants");
    let other = OtherIssuer {
        issuer: BASE.into(),
        audiences: vec!["nats".into()],
        accept,
        required_scope: None,
        keys: None,
        groups: GroupForm::Ids,
        roles_claim: Vec::new(),
    };
    table.add_issuer(&other).expect("an issuer");
    let mut ring = KeyRing::empty(table.sources().len());
    for source in 0..table.sources().len() {
        let held = HeldKeys {
            keys: KeySet::parse(document.to_string().as_bytes()).expect("a key set"),
            fetched_at: NOW,
            good_until: Timestamp::from_secs(NOW.as_secs() + 86_400),
            cloud: None,
            issuer: None,
        };
        ring = ring.with(source, held);
    }
    Gate { key, table, ring }
});

/// The first byte says how the rest is read: as a token; as header and claims (a line feed between them), which are signed
/// here; or as those, with a few bytes of the signed token changed.
///
/// Nothing is accepted that was not signed as it stands; what is accepted says of itself what another JSON parser reads, is
/// of a known issuer and audience, and is not over; no refusal holds a part of the signature or a control character.
pub fn token(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else {
        return;
    };
    if mode & 3 == 0 {
        let verdict = judge(rest);
        assert!(verdict.is_none(), "nobody else has the key");
        return;
    }
    let (edits, rest) = if mode & 3 == 3 {
        rest.split_at(rest.len().min(6))
    } else {
        (&[][..], rest)
    };
    let at = rest
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(rest.len());
    let (header, claims) = (&rest[..at], rest.get(at + 1..).unwrap_or_default());
    let genuine = sign(header, claims);
    let mut token = genuine.clone();
    for edit in edits.chunks_exact(3) {
        let place = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % token.len();
        let at = token.len() - 1 - place;
        token[at] ^= edit[2];
    }
    let verdict = judge(&token);
    if let Some(identity) = verdict {
        assert_eq!(token, genuine, "an altered token is accepted");
        agrees(&identity, header, claims);
    }
}

/// `header.claims.signature`.
pub fn sign(header: &[u8], claims: &[u8]) -> Vec<u8> {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", encode(header), encode(claims));
    let mut signature = vec![0; GATE.key.public_modulus_len()];
    GATE.key
        .sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            message.as_bytes(),
            &mut signature,
        )
        .expect("a signature");
    format!("{message}.{}", encode(&signature)).into_bytes()
}

fn judge(token: &[u8]) -> Option<Identity> {
    let seen = inspect(token);
    for line in seen
        .trouble
        .iter()
        .chain(seen.facts.iter().map(|(_, fact)| fact))
    {
        is_one_plain_line(line);
    }
    match validate(token, &GATE.ring, &GATE.table, NOW) {
        Ok(identity) => Some(identity),
        Err(error) => {
            let sentence = error.sentence();
            is_one_plain_line(&sentence);
            assert!(sentence.is_ascii());
            let signature = token
                .rsplit(|byte| *byte == b'.')
                .next()
                .unwrap_or_default();
            let head = signature.get(..40).map(String::from_utf8_lossy);
            assert!(
                head.is_none_or(|head| !sentence.contains(&*head)),
                "a signature is shown"
            );
            None
        }
    }
}

fn agrees(identity: &Identity, header: &[u8], claims: &[u8]) {
    let header: Value = serde_json::from_slice(header).expect("JSON");
    assert_eq!(header["alg"], "RS256");
    assert_eq!(header["kid"], KID);
    let Some(claims) = read_by_another(claims) else {
        return;
    };
    let text = |name: &str| claims[name].as_str();
    let issuers = [
        format!("{BASE}/{TENANT}/v2.0"),
        format!("{BASE}/{TENANT}/"),
        BASE.to_owned(),
        Cloud::custom(BASE).v2_issuer_of(TENANT).into(),
        Cloud::custom(BASE).v1_issuer_of(TENANT).into(),
    ];
    let issuer = text("iss").expect("an issuer");
    assert!(issuers.iter().any(|known| known == issuer), "{issuer}");
    assert_eq!(&*identity.issuer, issuer);
    let audiences: Vec<&str> = match &claims["aud"] {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let ours = [API, &*format!("api://{API}"), "nats"];
    assert!(
        audiences.iter().any(|audience| ours.contains(audience)),
        "{audiences:?}"
    );
    assert!(NOW < identity.expires_at, "an expired token is accepted");
    assert_eq!(claims["exp"].as_u64(), Some(identity.expires_at.as_secs()));
    if issuer != BASE {
        assert_eq!(text("tid"), Some(&*identity.tid));
        assert_eq!(&*identity.tid, TENANT);
        assert_eq!(text("oid"), Some(&*identity.oid));
        assert!(is_guid(&identity.oid));
    }
    let roles: Vec<&str> = claims["roles"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    assert!(identity.roles.iter().all(|role| roles.contains(&&**role)));
}
