//! A session that serves, without sockets: what the micro-benchmarks feed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use natsentry::identity::{Identity, Kind};
use natsentry::policy::{Circumstances, Document, InboxRegistry, Judge, Policy};
use natsentry::session::{Admission, Limits, Need, Opening, RoleLimits, Session, SessionId};
use natsentry::time::Timestamp;
use natsentry::wire::{Listener, ServerInfo};
use serde_json::{Value, json};

/// When all of it happens.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_795_451_820);

const CLIENT: &str = "198.51.100.7:50000";

/// A dozen grants, some with a template and wildcards.
pub(crate) fn typical() -> Value {
    let mut grants = vec![json!("bench.*"), json!("telemetry.{oid}.>")];
    grants.extend((0..10).map(|n| json!(format!("plant.{n}.*.state"))));
    json!({ "publish": grants, "subscribe": grants })
}

/// The same, and a deny that a wildcard subscription overlaps, so that each delivery is judged.
pub(crate) fn filtered() -> Value {
    let mut role = typical();
    if let Some(fields) = role.as_object_mut() {
        fields.insert("deny".to_owned(), json!({ "subscribe": ["bench.secret"] }));
    }
    role
}

/// A session of an identity with the role, past CONNECT and the first PONG.
pub(crate) fn serving(role: &Value) -> Session {
    let client: SocketAddr = CLIENT.parse().expect("an address");
    let info = Arc::new(ServerInfo::parse(
        br#"{"server_id":"N","version":"2.15.1","proto":1,"headers":true,"max_payload":8388608,"client_id":7}"#,
    )
    .expect("INFO"));
    let mut session = Session::new(Opening {
        id: SessionId(1),
        client,
        listener: Listener {
            address: client,
            tls_required: false,
            tls_verify: false,
        },
        tls: false,
        limits: Arc::new(Limits::default()),
        greeting: Arc::clone(&info),
        accepted_at: NOW,
    });
    say(
        &mut session,
        b"CONNECT {\"verbose\":false,\"pedantic\":false,\"auth_token\":\"t\",\"protocol\":1,\"headers\":true}\r\n",
    );
    let Some(Need::Admission(_)) = session.poll_need() else {
        panic!("CONNECT asks for admission")
    };
    session.handle_admitted(admission(role, client, info), NOW);
    say(&mut session, b"PING\r\n");
    feed_upstream(&mut session, b"PONG\r\n");
    while session.poll_event(NOW).is_some() {}
    assert!(
        session.close_reason().is_none(),
        "{:?}",
        session.close_reason()
    );
    session
}

fn admission(role: &Value, client: SocketAddr, info: Arc<ServerInfo>) -> Admission {
    let mut written = json!({ "bind": [{ "app_role": "Bench" }], "upstream": "plant-a" });
    if let (Some(written), Some(role)) = (written.as_object_mut(), role.as_object()) {
        written.extend(role.clone());
    }
    let document: Document =
        serde_json::from_value(json!({ "roles": { "bench": written } })).expect("roles");
    let policy = Policy::compile(&document).expect("a policy");
    let identity = identity();
    let circumstances = Circumstances {
        source: client.ip(),
        now: NOW,
        requested_role: None,
    };
    let assigned = policy.assign(&identity, &circumstances).expect("a role");
    Admission {
        judge: Judge::new(assigned.permissions, Arc::new(InboxRegistry::default()), 1),
        identity: Arc::new(identity),
        roles: assigned.roles,
        upstream: assigned.upstream,
        server: "10.0.0.11:4222".into(),
        limits: RoleLimits::default(),
        ends_at: NOW.plus(Duration::from_secs(3600)),
        info,
    }
}

fn identity() -> Identity {
    Identity {
        roles: vec!["Bench".into()],
        ..Identity::plain(
            Kind::App,
            (
                "11111111-2222-3333-4444-555555555555",
                "aaaaaaaa-0000-4000-8000-000000000001",
            ),
            (NOW, NOW.plus(Duration::from_secs(3600))),
        )
    }
}

/// Hands in a line of the client.
pub(crate) fn say(session: &mut Session, line: &[u8]) -> usize {
    feed_client(session, &mut line.to_vec())
}

/// Hands `bytes` in from the client, and takes what is permitted off the outbox as a write would. Returns its length.
pub(crate) fn feed_client(session: &mut Session, bytes: &mut [u8]) -> usize {
    let mut at = 0;
    let mut written = 0;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
        let taken = session.handle_client(rest, at, NOW);
        written += drain(session.to_upstream(), bytes);
        drain(session.to_client(), &[]);
        if taken.used == 0 && !session.gives_way() {
            break;
        }
        at += taken.used;
    }
    written
}

/// Hands `bytes` in from upstream, likewise.
pub(crate) fn feed_upstream(session: &mut Session, bytes: &[u8]) -> usize {
    let mut at = 0;
    let mut written = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let taken = session.handle_upstream(rest, at, NOW);
        written += drain(session.to_client(), bytes);
        if taken.used == 0 {
            break;
        }
        at += taken.used;
    }
    written
}

fn drain(outbox: &mut natsentry::session::Outbox, input: &[u8]) -> usize {
    let mut written = 0;
    while !outbox.is_drained() {
        let mut slices = [std::io::IoSlice::new(&[]); 64];
        let filled = outbox.fill(input, &mut slices);
        let length = slices.iter().take(filled).map(|slice| slice.len()).sum();
        if length == 0 {
            break;
        }
        outbox.advance(length);
        written += length;
    }
    written
}

/// As many copies of a frame as a read buffer of 64 KiB holds, with subjects that differ in `subjects` ways.
pub(crate) fn batch(frame: impl Fn(usize) -> Vec<u8>, subjects: usize) -> (Vec<u8>, u64) {
    let mut bytes = Vec::new();
    let mut count = 0;
    for n in (0..subjects).cycle() {
        let next = frame(n);
        if bytes.len() + next.len() > 64 * 1024 {
            return (bytes, count);
        }
        bytes.extend_from_slice(&next);
        count += 1;
    }
    (bytes, count)
}
