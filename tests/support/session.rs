//! A session that serves, for tests that drive the core in memory.

use std::sync::Arc;
use std::time::Duration;

use natsentry::identity::{Identity, Kind};
use natsentry::policy::{Circumstances, Document, InboxRegistry, Judge, Permissions, Policy};
use natsentry::session::{Admission, Limits, Need, Opening, RoleLimits, Session, SessionId};
use natsentry::time::Timestamp;
use natsentry::wire::{Listener, ServerInfo};
use serde_json::{Value, json};

/// When every session was accepted.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_795_451_820);

/// How long the token of every session is good.
pub(crate) const LIFETIME: Duration = Duration::from_secs(8 * 3600);

/// Somebody with the one role that there is.
pub(crate) fn identity(name: &str) -> Identity {
    Identity {
        roles: vec!["Role".into()],
        ..Identity::plain(
            Kind::App,
            ("11111111-2222-3333-4444-555555555555", name),
            (START, START.plus(LIFETIME)),
        )
    }
}

/// What somebody may do by a role as in the configuration.
pub(crate) fn permissions(role: &Value, name: &str) -> Arc<Permissions> {
    let mut role = role.clone();
    role["bind"] = json!([{"app_role": "Role"}]);
    role["upstream"] = "plant".into();
    role["broad"] = true.into();
    let document: Document = serde_json::from_value(json!({"roles": {"role": role}})).unwrap();
    let policy = Policy::compile(&document).unwrap();
    let circumstances = Circumstances {
        source: "198.51.100.7".parse().unwrap(),
        now: START,
        requested_role: None,
    };
    policy
        .assign(&identity(name), &circumstances)
        .unwrap()
        .permissions
}

/// A session of `name` whose CONNECT was admitted and whose first PING was answered.
pub(crate) fn serving(
    number: u64,
    name: &str,
    role: &Value,
    limits: Limits,
    inboxes: &Arc<InboxRegistry>,
) -> Session {
    let info = Arc::new(ServerInfo {
        headers: true,
        max_payload: 1024 * 1024,
        ..ServerInfo::unknown()
    });
    let mut session = Session::new(Opening {
        id: SessionId(number),
        client: "198.51.100.7:50000".parse().unwrap(),
        listener: Listener {
            address: "192.0.2.1:4222".parse().unwrap(),
            tls_required: false,
            tls_verify: false,
        },
        tls: false,
        limits: Arc::new(limits),
        greeting: Arc::clone(&info),
        accepted_at: START,
    });
    let connect = json!({
        "verbose": false, "pedantic": false, "headers": true, "no_responders": true,
        "protocol": 1, "lang": "test", "auth_token": name,
    });
    session.handle_client(&mut format!("CONNECT {connect}\r\n").into_bytes(), 0, START);
    assert!(matches!(session.poll_need(), Some(Need::Admission(_))));
    let judge = Judge::new(permissions(role, name), Arc::clone(inboxes), number);
    let admission = Admission {
        identity: Arc::new(identity(name)),
        roles: vec!["role".into()],
        upstream: "plant".into(),
        server: "10.0.0.1:4222".into(),
        judge,
        limits: RoleLimits::default(),
        ends_at: START.plus(LIFETIME),
        info,
    };
    session.handle_admitted(admission, START);
    let mut sent = Vec::new();
    session.handle_client(&mut { *b"PING\r\n" }, 0, START);
    session.to_upstream().drain_to(b"PING\r\n", &mut sent);
    assert_eq!(sent, b"PING\r\n");
    session.handle_upstream(b"PONG\r\n", 0, START);
    sent.clear();
    session.to_client().drain_to(b"PONG\r\n", &mut sent);
    assert_eq!(sent, b"PONG\r\n");
    while session.poll_event(START).is_some() {}
    session
}
