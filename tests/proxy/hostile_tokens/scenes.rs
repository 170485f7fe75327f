//! The rows that are more than one token: documents of an issuer, forms of CONNECT, sequences.

use std::collections::BTreeMap;
use tokio::io::{AsyncWriteExt as _, BufReader};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use natsentry::clock;
use natsentry::demo::idp::forge::{Corpus, Scene};
use natsentry::demo::idp::{SigningKey, TokenRequest, sign};
use serde_json::{Value, json};

use super::world::{Heard, World, line};
use super::{Expected, connect};
use crate::support::cli::{natsentry, run};
use crate::support::documents::Document;
use crate::support::proxy;
use crate::support::wire::Wire;

type Wanted = BTreeMap<String, Expected>;

pub(super) async fn play_all(world: &mut World, corpus: &Corpus, wanted: &mut Wanted) {
    let of = |name: &'static str| {
        corpus
            .scenes
            .iter()
            .filter(move |scene| scene.scene == name)
    };
    let known = [
        "connect", "endless", "flood", "keys", "metadata", "new-key", "revoked", "second",
    ];
    for scene in &corpus.scenes {
        assert!(
            known.contains(&scene.scene.as_str()),
            "nobody plays {}",
            scene.scene
        );
    }
    let signer = SigningKey::generate().expect("a key");
    let other = SigningKey::generate().expect("a key");
    issuers(world, of("keys").chain(of("metadata")), &signer, &other).await;
    for scene in of("connect") {
        connects(world, scene, wanted).await;
    }
    for scene in of("endless") {
        endless(world, scene, wanted).await;
    }
    for scene in of("keys") {
        keys(world, scene, &signer, &other, wanted).await;
    }
    for scene in of("metadata") {
        metadata(world, scene, &signer, wanted).await;
    }
    for scene in of("second") {
        second(world, scene, wanted).await;
    }
    for scene in of("flood") {
        flood(world, scene, wanted).await;
    }
    for scene in of("new-key") {
        new_key(world, scene, wanted).await;
    }
    for scene in of("revoked") {
        revoked(world, scene, wanted).await;
    }
}

fn expect(wanted: &mut Wanted, scene: &Scene, from: String, heard: Heard, reason: Option<&str>) {
    let row = scene.row.clone();
    let reason = reason.map(str::to_owned);
    wanted.insert(from, Expected { row, heard, reason });
}

/// One CONNECT, word for word.
async fn connects(world: &mut World, scene: &Scene, wanted: &mut Wanted) {
    let token = proxy::token(&world.idp, "alice");
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let document = scene.with.as_str().expect("a CONNECT");
    let document = document.replace("{token}", &token).replace("{deep}", &deep);
    let text = format!("CONNECT {document}\r\nPING\r\n");
    let (from, heard) = world.connect("usual", &text).await;
    let right = match scene.verdict.as_str() {
        "refuse" => Heard::Refused,
        _ => Heard::Silence,
    };
    assert_eq!(heard, right, "{}", scene.row);
    expect(wanted, scene, from, heard, scene.code.as_deref());
}

/// More bytes than a CONNECT may have, without a line end.
async fn endless(world: &mut World, scene: &Scene, wanted: &mut Wanted) {
    let text = format!("CONNECT {{\"auth_token\":\"{}", "a".repeat(1_000_000));
    let (from, heard) = world.connect("usual", &text).await;
    let right = "-ERR 'maximum control line exceeded'\r\n";
    assert!(
        matches!(&heard, Heard::Other(said) if said.eq_ignore_ascii_case(right)),
        "{heard:?}"
    );
    expect(wanted, scene, from, Heard::Refused, scene.code.as_deref());
}

/// A token of the plain issuer of a scene.
fn token(issuer: &str, kid: &str, key: &SigningKey) -> Vec<u8> {
    let now = clock::now().as_secs();
    let claims = json!({
        "iss": issuer, "aud": "nats", "sub": "plain", "azp": "client", "scope": "nats",
        "roles": ["Nats.Operator"], "iat": now, "exp": now + 600,
    });
    let header = json!({ "typ": "JWT", "alg": "RS256", "kid": kid });
    let (header, claims) = (header.to_string(), claims.to_string());
    sign(header.as_bytes(), claims.as_bytes(), key)
        .expect("a signature")
        .into_bytes()
}

fn path(scene: &Scene) -> String {
    format!("/scene-{}", scene.row)
}

fn named(key: &SigningKey, kid: &str) -> Value {
    let mut jwk = key.jwk();
    jwk["kid"] = kid.into();
    jwk
}

/// One proxy that trusts the issuers of all these scenes.
async fn issuers<'a>(
    world: &mut World,
    scenes: impl Iterator<Item = &'a Scene>,
    signer: &SigningKey,
    other: &SigningKey,
) {
    let mut more = "issuers:\n".to_owned();
    for scene in scenes {
        let issuer = format!("{}{}", world.documents.base(), path(scene));
        let mut keys = vec![named(signer, "good")];
        if scene.scene == "keys" {
            keys.extend(odd_keys(&scene.with, signer, other));
        }
        world.documents.put_issuer(&path(scene), &issuer, &keys);
        more.push_str(&format!(
            "  - {{ issuer: \"{issuer}\", audiences: [nats] }}\n"
        ));
    }
    let setup = world.plain().more(&more);
    world.start("issuers", setup).await;
}

/// The key `odd` as the scene wants it: the signer's own but for what makes it unusable.
fn odd_keys(with: &Value, signer: &SigningKey, other: &SigningKey) -> Vec<Value> {
    let mut odd = named(signer, "odd");
    if with["twice"] == true {
        return vec![odd, named(other, "odd")];
    }
    for (name, value) in with.as_object().expect("members") {
        odd[name] = match value.as_str() {
            Some("short") => {
                let mut short = signer.modulus();
                short.drain(..128);
                short[0] |= 0x80;
                URL_SAFE_NO_PAD.encode(short).into()
            }
            Some("zeros") => {
                let padded = [&[0_u8, 0][..], &signer.modulus()].concat();
                URL_SAFE_NO_PAD.encode(padded).into()
            }
            _ => value.clone(),
        };
    }
    vec![odd]
}

/// The odd key verifies nothing, and the good one beside it does.
async fn keys(
    world: &mut World,
    scene: &Scene,
    signer: &SigningKey,
    other: &SigningKey,
    wanted: &mut Wanted,
) {
    let issuer = format!("{}{}", world.documents.base(), path(scene));
    let by = if scene.with["twice"] == true {
        other
    } else {
        signer
    };
    let (from, heard) = world
        .connect("issuers", &connect(&token(&issuer, "odd", by)))
        .await;
    assert_eq!(heard, Heard::Refused, "{}", scene.row);
    expect(wanted, scene, from, heard, scene.code.as_deref());
    let (from, heard) = world
        .connect("issuers", &connect(&token(&issuer, "good", signer)))
        .await;
    assert_eq!(heard, Heard::Admitted, "{}: the good key", scene.row);
    expect(wanted, scene, from, heard, None);
}

/// The issuer breaks after its keys were fetched: what is held stays in use, and who names an unknown key hears nothing.
async fn metadata(world: &mut World, scene: &Scene, signer: &SigningKey, wanted: &mut Wanted) {
    let path = path(scene);
    let issuer = format!("{}{path}", world.documents.base());
    let metadata_at = format!("{path}/.well-known/openid-configuration");
    let (trap, documents) = (world.trap().to_owned(), &world.documents);
    let metadata =
        |issuer: &str, keys: &str| Document::json(&json!({ "issuer": issuer, "jwks_uri": keys }));
    let own_keys = format!("{issuer}/keys");
    match scene.with.as_str().expect("a word") {
        "keys-elsewhere" => documents.put(&metadata_at, metadata(&issuer, &format!("{trap}/keys"))),
        "issuer-elsewhere" => documents.put(&metadata_at, metadata(&trap, &own_keys)),
        "redirect" => documents.put(
            &metadata_at,
            Document::redirect(&format!("{trap}/metadata")),
        ),
        "html" => documents.put(
            &metadata_at,
            Document::text("text/html", "<html>sign in</html>"),
        ),
        "no-keys" => documents.put(
            &format!("{path}/keys"),
            Document::json(&json!({ "keys": [] })),
        ),
        "huge" => {
            let filler = vec![b' '; 10_000_000];
            documents.put(
                &format!("{path}/keys"),
                Document::text("application/json", filler),
            );
        }
        other => panic!("{other}"),
    }
    let asked = world.documents.asked().len();
    let (from, heard) = world
        .connect("issuers", &connect(&token(&issuer, "new", signer)))
        .await;
    assert_eq!(heard, Heard::Silence, "{}", scene.row);
    assert!(
        world.documents.asked().len() > asked,
        "{}: it was fetched",
        scene.row
    );
    expect(wanted, scene, from, heard, scene.code.as_deref());
    let (from, heard) = world
        .connect("issuers", &connect(&token(&issuer, "good", signer)))
        .await;
    assert_eq!(
        heard,
        Heard::Admitted,
        "{}: the keys that are held",
        scene.row
    );
    expect(wanted, scene, from, heard, None);
}

/// A session tries to become somebody else.
async fn second(world: &mut World, scene: &Scene, wanted: &mut Wanted) {
    let (alice, bob) = (
        proxy::token(&world.idp, "alice"),
        proxy::token(&world.idp, "bob"),
    );
    let first = connect(alice.as_bytes());
    let again = connect(bob.as_bytes());
    let from = world.fresh_address();
    let address = world.proxy("usual").await.address;
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("an address");
    let tcp = socket.connect(address).await.expect("a connection");
    let mut tcp = BufReader::new(tcp);
    tcp.write_all(first.as_bytes()).await.expect("sent");
    while line(&mut tcp).await != "PONG\r\n" {}
    tcp.write_all(again.as_bytes()).await.expect("sent");
    let mut said = String::new();
    loop {
        match line(&mut tcp).await.as_str() {
            "" => break,
            info if info.starts_with("INFO ") => {}
            other => said.push_str(other),
        }
    }
    assert_eq!(said, "-ERR 'Authorization Violation'\r\n");
    expect(
        wanted,
        scene,
        from.to_string(),
        Heard::Refused,
        scene.code.as_deref(),
    );
}

/// Invented names: two may cause a fetch, all others wait, and who has a known key does not notice.
async fn flood(world: &mut World, scene: &Scene, wanted: &mut Wanted) {
    world.proxy("flood").await;
    let before = world.fetches();
    for n in 0..200 {
        let request = TokenRequest::of("alice").header("kid", format!("flood-{n}"));
        let token = world.idp.mint(&request).expect("a token");
        let (from, heard) = world.connect("flood", &connect(token.as_bytes())).await;
        let (right, code) = match n {
            0 | 1 => (Heard::Refused, scene.code.as_deref()),
            _ => (Heard::Silence, Some("key.throttled")),
        };
        assert_eq!(heard, right, "kid {n}");
        expect(wanted, scene, from, heard, code);
        if n % 50 == 0 {
            let known = proxy::token(&world.idp, "alice");
            let (from, heard) = world.connect("flood", &connect(known.as_bytes())).await;
            assert_eq!(heard, Heard::Admitted);
            expect(wanted, scene, from, heard, None);
        }
    }
    assert_eq!(world.fetches().since(&before), (2, 2));
}

/// A key that the issuer began to use a moment ago.
async fn new_key(world: &mut World, scene: &Scene, wanted: &mut Wanted) {
    world.proxy("new").await;
    let before = world.fetches();
    world.idp.roll_keys().await.expect("a key");
    let token = proxy::token(&world.idp, "alice");
    let (from, heard) = world.connect("new", &connect(token.as_bytes())).await;
    assert_eq!(heard, Heard::Admitted);
    assert_eq!(world.fetches().since(&before), (1, 1));
    expect(wanted, scene, from, heard, None);
}

/// An operator locks: the live session ends, and its token, still good, is worth nothing. A lock on what is not of the
/// identity's own choosing (one token, those from before) lets a fresh token in.
async fn revoked(world: &mut World, scene: &Scene, wanted: &mut Wanted) {
    let token = proxy::token(&world.idp, "alice");
    let name = format!("revoked-{}", scene.row);
    let plain = world.plain();
    world.start(&name, plain).await;
    let (from, heard) = world.connect(&name, &connect(token.as_bytes())).await;
    assert_eq!(heard, Heard::Admitted);
    expect(wanted, scene, from, heard, None);
    let proxy = world.proxy(&name).await;
    let (mut live, _) = Wire::admitted(proxy.address, &token).await;
    let claims = claims(&token);
    let words: Vec<String> = serde_json::from_value(scene.with.clone()).expect("words");
    let words = words
        .iter()
        .map(|word| match word.trim_matches(['{', '}']) {
            claim if claim.len() + 2 == word.len() => {
                claims[claim].as_str().expect("a text").to_owned()
            }
            _ => word.clone(),
        });
    let mut command = natsentry(proxy.folder.path());
    command
        .args(["lock", "--config", "natsentry.yaml"])
        .args(words);
    let ran = tokio::task::spawn_blocking(move || run(&mut command, b"")).await;
    let ran = ran.expect("no panic");
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert_eq!(
        live.rest().await.last().map(String::as_str),
        Some("-ERR 'User Authentication Revoked'")
    );
    let (from, heard) = world.connect(&name, &connect(token.as_bytes())).await;
    assert_eq!(heard, Heard::Refused, "{}", scene.row);
    expect(wanted, scene, from, heard, scene.code.as_deref());
    let fresh = proxy::token(&world.idp, "alice");
    let (from, heard) = world.connect(&name, &connect(fresh.as_bytes())).await;
    let of_tokens = scene.with.to_string().contains("--uti")
        || scene.with.to_string().contains("--tokens-before");
    let (right, code) = match of_tokens {
        true => (Heard::Admitted, None),
        false => (Heard::Refused, scene.code.as_deref()),
    };
    assert_eq!(heard, right, "{}", scene.row);
    expect(wanted, scene, from, heard, code);
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a payload");
    let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    serde_json::from_slice(&payload).expect("JSON")
}
