//! What does the token of a CONNECT cost? One verification of RS256 is the floor; the rest is the gate around it.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up has to fail"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use natsentry::demo::idp::forge::{Change, Forge, Listener, Row};
use natsentry::demo::idp::{Directory, Form};
use natsentry::identity::{
    Accept, Cloud, Entra, Expectations, GroupForm, HeldKeys, KeyRing, KeySet, validate,
};
use natsentry::time::Timestamp;

const BASE: &str = "http://127.0.0.1:9333";
const NOW: Timestamp = Timestamp::from_secs(1_795_452_000);

fn token(forge: &Forge, groups: usize) -> Vec<u8> {
    let mut claims = Change::default();
    let guids = serde_json::json!({ "$guids": groups });
    claims.set.insert("groups".into(), guids);
    let row = Row {
        row: "bench".into(),
        what: String::new(),
        base: "v2-user".into(),
        header: Change::default(),
        claims,
        key: None,
        sign: None,
        wire: Vec::new(),
        issuer: None,
        listener: Listener::default(),
        verdict: "accept".into(),
        code: None,
        policy: None,
        groups: None,
    };
    forge.token(&row, NOW).unwrap()
}

fn gate(c: &mut Criterion) {
    let forge = Forge::new(BASE, Directory::default()).unwrap();
    let directory = Directory::default();
    let table = Expectations::entra(&Entra {
        cloud: Cloud::custom(BASE),
        tenants: vec![directory.tid.as_str().into()],
        audiences: vec![directory.api.as_str().into()],
        accept: Accept::ALL,
        v1_tokens: false,
        required_scope: None,
        keys_app_id: None,
        groups: GroupForm::Ids,
    })
    .unwrap();
    let held = HeldKeys {
        keys: KeySet::parse(&forge.key_document(Form::V2)).unwrap(),
        fetched_at: NOW,
        good_until: Timestamp::from_millis(u64::MAX),
        cloud: None,
        issuer: None,
    };
    let ring = KeyRing::empty(1).with(0, held);
    let mut group = c.benchmark_group("token");
    for groups in [0, 10, 200] {
        let token = token(&forge, groups);
        group.throughput(Throughput::Elements(1));
        group.bench_function(
            format!("accepted, {groups} groups, {} bytes", token.len()),
            |b| {
                b.iter(|| validate(black_box(&token), &ring, &table, NOW).unwrap());
            },
        );
        let mut forged = token.clone();
        let end = forged.len() - 8;
        forged.truncate(end);
        forged.extend_from_slice(b"AAAAAAAA");
        group.bench_function(format!("bad signature, {groups} groups"), |b| {
            b.iter(|| validate(black_box(&forged), &ring, &table, NOW).unwrap_err());
        });
    }
    group.finish();
}

criterion_group!(benches, gate);
criterion_main!(benches);
