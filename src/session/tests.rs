//! What a hostile peer may make a session hold or do, with the real policy and without sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::identity::Kind;
use crate::policy::{Circumstances, Document, InboxRegistry, Policy};

const NOW: Timestamp = Timestamp::from_secs(1_795_451_820);

fn client() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], 50_000))
}

fn identity(oid: &str, roles: &[&str]) -> Identity {
    Identity {
        roles: roles.iter().map(|role| Box::from(*role)).collect(),
        ..Identity::plain(
            Kind::App,
            ("11111111-2222-3333-4444-555555555555", oid),
            (NOW, NOW.plus(std::time::Duration::from_secs(3600))),
        )
    }
}

/// An admission of somebody who holds `roles` of a policy, as the shell makes it.
pub(super) fn admission(policy: &Value, roles: &[&str], requested_role: Option<&str>) -> Admission {
    let document: Document = serde_json::from_value(json!({ "roles": policy })).unwrap();
    let identity = identity("alice", roles);
    let circumstances = Circumstances {
        source: client().ip(),
        now: NOW,
        requested_role,
    };
    let assignment = Policy::compile(&document)
        .unwrap()
        .assign(&identity, &circumstances)
        .unwrap();
    let info = json!({
        "server_id": "N", "server_name": "n", "version": "2.15.1", "proto": 1, "headers": true,
        "max_payload": 1_048_576,
    });
    let limits = assignment.limits;
    Admission {
        identity: Arc::new(identity),
        roles: assignment.roles,
        upstream: assignment.upstream,
        server: "10.9.8.7:4222".into(),
        judge: Judge::new(
            assignment.permissions,
            Arc::new(InboxRegistry::default()),
            1,
        ),
        limits: RoleLimits {
            payload: limits.payload.map(|bytes| u32::try_from(bytes).unwrap()),
            subscriptions: limits.subscriptions.map(|count| count as usize),
            messages_per_second: limits.messages_per_s,
            bytes_per_second: limits.bytes_per_s,
        },
        ends_at: NOW.plus(std::time::Duration::from_secs(3600)),
        info: Arc::new(ServerInfo::parse(info.to_string().as_bytes()).unwrap()),
    }
}

const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\
    \"no_responders\":true,\"protocol\":1,\"lang\":\"t\",\"auth_token\":\"x\"}\r\n";

fn accepted() -> Session {
    Session::new(Opening {
        id: SessionId(1),
        client: client(),
        listener: Listener {
            address: SocketAddr::from(([127, 0, 0, 1], 4222)),
            tls_required: false,
            tls_verify: false,
        },
        tls: false,
        limits: Arc::new(Limits::default()),
        greeting: Arc::new(ServerInfo::unknown()),
        accepted_at: NOW,
    })
}

pub(super) fn serving(admission: Admission) -> Session {
    let mut session = accepted();
    session.handle_client(&mut CONNECT.to_vec(), 0, NOW);
    assert!(matches!(session.poll_need(), Some(Need::Admission(_))));
    session.handle_admitted(admission, NOW);
    assert!(session.poll_event(NOW).is_some(), "connected");
    session
}

#[test]
fn a_client_has_the_time_of_the_limit_and_its_grace_for_connect() {
    let after = |millis| NOW.plus(std::time::Duration::from_millis(millis));
    let limit = u64::try_from(Limits::default().handshake.as_millis()).unwrap();
    for grace in [0, 1_234] {
        let (mut session, end) = (accepted(), limit + grace);
        session.handle_grace(std::time::Duration::from_millis(grace));
        assert_eq!(session.poll_timeout(), Some(after(end)));
        session.handle_time(after(end - 1));
        assert_eq!(session.close_reason(), None);
        session.handle_time(after(end));
        let reason = CloseReason::AuthenticationTimeout;
        assert_eq!(session.close_reason(), Some(reason));
    }
}

#[test]
fn where_memory_is_scarce_those_who_block_together_are_not_ended_together() {
    let deadline = Limits::default().write_deadline;
    let blocked = |id: u64, scarce: bool| {
        let mut session = accepted();
        session.opening.id = SessionId(id);
        session.timers.clear(Timer::Handshake);
        session.handle_scarcity(scarce);
        session.handle_client_blocked(true, NOW);
        session.poll_timeout().unwrap().since(NOW)
    };
    let ends: std::collections::BTreeSet<_> = (0..100).map(|id| blocked(id, true)).collect();
    assert!(ends.len() > 90, "{ends:?}");
    let longest = deadline + deadline / 2;
    assert!(*ends.first().unwrap() >= deadline && *ends.last().unwrap() <= longest);
    assert_eq!(blocked(7, false), deadline);
}

fn taken_from(outbox: &mut Outbox, input: &[u8]) -> String {
    let mut out = Vec::new();
    outbox.drain_to(input, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Feeds `input` as the pump does: only while the session wants it, with one event taken out in a turn.
fn pump(session: &mut Session, input: &[u8]) -> usize {
    let (mut used, mut most) = (0, 0);
    let mut input = input.to_vec();
    let mut turns = 0;
    while used < input.len() {
        session.gives_way();
        if session.wants_client() {
            used += session.handle_client(&mut input[used..], used, NOW).used;
        }
        most = most.max(session.events.len());
        taken_from(session.to_upstream(), &input);
        taken_from(session.to_client(), b"");
        session.poll_event(NOW);
        turns += 1;
        assert!(turns < 1_000_000 && session.close_reason().is_none());
    }
    most
}

#[test]
fn a_flood_of_refused_operations_never_piles_up_facts() {
    for mode in ["enforce", "observe"] {
        let policy = json!({ "writer": {
            "bind": [{ "app_role": "w" }], "upstream": "a", "publish": ["good"], "mode": mode,
        } });
        let mut session = serving(admission(&policy, &["w"], None));
        let flood = "PUB b 0\r\n\r\nSUB c 1\r\n".repeat(20_000);
        let most = pump(&mut session, flood.as_bytes());
        assert!(most <= 128, "{mode}: {most} facts waited at a time");
    }
}

/// A second CONNECT, judged to give `admission`.
fn connect_again(session: &mut Session, admission: Admission) {
    session.handle_client(&mut CONNECT.to_vec(), 0, NOW);
    assert!(matches!(session.poll_need(), Some(Need::Readmission(_))));
    session.handle_readmitted(admission, NOW);
}

#[test]
fn a_second_connect_brings_no_rights_of_another_upstream() {
    let policy = json!({
        "reader": { "bind": [{ "app_role": "r" }], "upstream": "a", "publish": ["a.>"] },
        "admin": { "bind": [{ "app_role": "w" }], "upstream": "b", "publish": ["admin.>"] },
    });
    let roles = ["r", "w"];
    let mut session = serving(admission(&policy, &roles, Some("reader")));
    connect_again(&mut session, admission(&policy, &roles, Some("admin")));
    session.handle_client(&mut { *b"PUB admin.x 0\r\n\r\n" }, 0, NOW);
    let upstream = taken_from(session.to_upstream(), b"PUB admin.x 0\r\n\r\n");
    assert_eq!(upstream, "");
    assert_eq!(session.close_reason(), Some(CloseReason::Unauthorized));
}

#[test]
fn a_second_connect_puts_the_limits_of_its_roles_in_force() {
    let limits = json!({ "payload": "1KiB", "subscriptions": 1, "messages": "2/s" });
    let grants = json!({ "publish": ["a"], "subscribe": ["a", "b"] });
    let role = |app_role: &str, limits: Value| {
        let mut role =
            json!({ "bind": [{ "app_role": app_role }], "upstream": "a", "limits": limits });
        role.as_object_mut()
            .unwrap()
            .extend(grants.as_object().unwrap().clone());
        role
    };
    let policy = json!({ "free": role("f", json!({})), "bound": role("b", limits) });
    let mut session = serving(admission(&policy, &["f"], None));
    connect_again(&mut session, admission(&policy, &["b"], None));
    taken_from(session.to_client(), b"");
    session.handle_client(&mut { *b"SUB a 1\r\nSUB b 2\r\n" }, 0, NOW);
    let said = taken_from(session.to_client(), b"");
    assert_eq!(said, "-ERR 'maximum subscriptions exceeded'\r\n");
    taken_from(session.to_upstream(), b"");
    let flood = b"PUB a 0\r\n\r\nPUB a 0\r\n\r\nPUB a 0\r\n\r\n";
    let used = session.handle_client(&mut flood.to_vec(), 0, NOW).used;
    assert_eq!(used, 22, "two messages in a second");
    taken_from(session.to_upstream(), flood);
    session.handle_time(NOW.plus(std::time::Duration::from_secs(1)));
    session.handle_client(
        &mut { *b"PUB a 2000\r\n" },
        0,
        NOW.plus(std::time::Duration::from_secs(1)),
    );
    assert!(
        session.ends_upstream(),
        "what it said before is answered first"
    );
    session.handle_upstream_eof(NOW);
    assert_eq!(session.close_reason(), Some(CloseReason::PayloadTooLarge));
}

#[test]
fn what_a_client_calls_itself_cannot_begin_a_log_line() {
    let policy =
        json!({ "r": { "bind": [{ "app_role": "r" }], "upstream": "a", "publish": ["a"] } });
    let mut session = Session::new(serving(admission(&policy, &["r"], None)).opening);
    let connect = b"CONNECT {\"lang\":\"go\\n2026 INFO connected\",\"version\":\"1\\r\\u0085\",\
        \"name\":\"a\\u2028b\",\"auth_token\":\"x\"}\r\n";
    session.handle_client(&mut connect.to_vec(), 0, NOW);
    session.handle_admitted(admission(&policy, &["r"], None), NOW);
    let Some(Event {
        kind: EventKind::Connected(connected),
        ..
    }) = session.poll_event(NOW)
    else {
        panic!("not connected");
    };
    assert_eq!(&*connected.library, "go?2026 INFO connected 1??");
    assert_eq!(&*connected.name, "a?b");
}

#[test]
fn an_observed_role_is_not_stopped_by_a_header_but_the_servers_own_subjects_stay_closed() {
    let policy = json!({ "r": {
        "bind": [{ "app_role": "r" }], "upstream": "a", "publish": ["a"], "mode": "observe",
    } });
    let publish = |named: &str| {
        let headers =
            format!("NATS/1.0\r\nNats-Trace-Dest: other\r\nNats-Trace-Dest: {named}\r\n\r\n");
        format!("HPUB a {0} {0}\r\n{headers}\r\n", headers.len())
    };
    let mut session = serving(admission(&policy, &["r"], None));
    let frame = publish("t");
    session.handle_client(&mut frame.clone().into_bytes(), 0, NOW);
    assert_eq!(taken_from(session.to_upstream(), frame.as_bytes()), frame);
    assert_eq!(taken_from(session.to_client(), b""), "");
    let Some(Event {
        kind: EventKind::Denied(denied),
        ..
    }) = session.poll_event(NOW)
    else {
        panic!("not recorded");
    };
    assert!(denied.observed && *denied.subject == *b"other");
    let frame = publish("$NRG.x");
    session.handle_client(&mut frame.clone().into_bytes(), 0, NOW);
    assert_eq!(taken_from(session.to_upstream(), frame.as_bytes()), "");
    let said = taken_from(session.to_client(), b"");
    assert_eq!(
        said,
        "-ERR 'Permissions Violation for Publish to \"$NRG.x\"'\r\n"
    );
}

#[test]
fn nothing_happens_to_a_session_that_has_ended() {
    let role = |subscribe: &[&str]| json!({ "r": { "bind": [{ "app_role": "R" }], "upstream": "u", "subscribe": subscribe } });
    let mut session = serving(admission(&role(&["a"]), &["R"], None));
    pump(&mut session, b"SUB a 1\r\n");
    session.handle_end(CloseReason::Revoked, NOW);
    let narrower = admission(&role(&["b"]), &["R"], None);
    session.handle_policy(Arc::clone(narrower.judge.permissions()));
    session.handle_limits(
        &RoleLimits {
            payload: Some(1),
            ..RoleLimits::default()
        },
        NOW,
    );
    let said = taken_from(session.to_client(), b"");
    assert_eq!(said, "-ERR 'User Authentication Revoked'\r\n");
    let facts = std::iter::from_fn(|| session.poll_event(NOW));
    let last = facts.last().expect("the end");
    assert!(matches!(last.kind, EventKind::Closed(_)), "{last:?}");
}

#[test]
fn a_payload_with_a_wrong_end_goes_nowhere_however_it_is_cut() {
    let role = json!({ "r": { "bind": [{ "app_role": "R" }], "upstream": "u", "publish": ["a"] } });
    for input in [
        &b"PUB a 3\r\nabcX"[..],
        b"PUB a 3\r\nabc\rX",
        b"PUB a 0\r\nX",
    ] {
        let mut session = serving(admission(&role, &["R"], None));
        session.handle_client(&mut input.to_vec(), 0, NOW);
        assert_eq!(session.close_reason(), Some(CloseReason::UnknownOperation));
        assert_eq!(taken_from(session.to_upstream(), input), "");
    }
}

#[test]
fn a_client_that_leaves_is_waited_for_only_where_upstream_may_still_be_about_what_it_said() {
    let role = json!({ "r": {
        "bind": [{ "app_role": "R" }], "upstream": "u", "publish": ["a"], "subscribe": ["a"],
    } });
    let left_after = |said: &[u8], answered: &[u8]| {
        let mut session = serving(admission(&role, &["R"], None));
        pump(&mut session, said);
        session.handle_upstream(answered, 0, NOW);
        taken_from(session.to_client(), answered);
        session.handle_client_eof(NOW);
        session.close_reason()
    };
    let at_once = Some(CloseReason::ClientClosed);
    for (said, answered) in [
        (&b""[..], &b""[..]),
        (b"PING\r\n", b"PONG\r\n"),
        (b"SUB a 1\r\nUNSUB 1\r\nPING\r\n", b"PONG\r\n"),
        // Refused here; upstream knows nothing of it.
        (b"PUB b 1\r\nx\r\n", b""),
    ] {
        assert_eq!(left_after(said, answered), at_once, "{said:?}");
    }
    for (said, answered) in [
        (&b"PING\r\n"[..], &b""[..]),
        (b"PING\r\nPING\r\n", b"PONG\r\n"),
        (b"PUB a 1\r\nx\r\n", b""),
        (b"PUB a 1\r\nx\r\nPING\r\n", b"PONG\r\n"),
        (b"SUB a 1\r\n", b""),
        (b"SUB a 1\r\nUNSUB 1\r\n", b""),
        (b"PING\r\nSUB a 1\r\nUNSUB 1\r\n", b"PONG\r\n"),
    ] {
        assert_eq!(left_after(said, answered), None, "{said:?}");
    }
}

/// A role that may do everything but what thousands of deny entries say.
fn denied_thousands() -> Session {
    let denied: Vec<String> = (0..10_000).map(|n| format!("a{n}.x")).collect();
    let role = json!({
        "bind": [{ "app_role": "R" }], "upstream": "a", "broad": true,
        "publish": [">"], "subscribe": [">"], "deny": { "publish": denied, "subscribe": denied },
    });
    serving(admission(&json!({ "r": role }), &["R"], None))
}

#[test]
fn wildcards_against_thousands_of_deny_entries_leave_others_their_turn() {
    // The same sid each time, so that nothing is kept that could come to a limit.
    for operation in [
        "SUB *.c{} 1\r\n",
        "SUB *.c{} q 1\r\n",
        "PUB *.c{} 0\r\n\r\n",
    ] {
        let mut session = denied_thousands();
        let said: Vec<String> = (0..40)
            .map(|n| operation.replace("{}", &n.to_string()))
            .collect();
        let mut bytes = said.concat().into_bytes();
        let (mut at, mut turns) = (0, 0);
        while at < bytes.len() {
            session.gives_way();
            let taken = session.handle_client(&mut bytes[at..], at, NOW);
            assert!(taken.used > 0 && taken.wants <= 1, "{operation}: {taken:?}");
            at += taken.used;
            turns += 1;
            session.to_upstream().discard();
            session.to_client().discard();
            while session.poll_event(NOW).is_some() {}
        }
        assert!((10..=40).contains(&turns), "{operation}: {turns}");
        assert_eq!(session.close_reason(), None);
    }
    // Without wildcards nothing is put off.
    let mut session = denied_thousands();
    let mut bytes = "PUB a.c 0\r\n\r\n".repeat(1000).into_bytes();
    assert_eq!(session.handle_client(&mut bytes, 0, NOW).used, bytes.len());
}

#[test]
fn queue_groups_against_thousands_of_entries_for_groups_do_likewise() {
    let tied: Vec<Value> = (0..10_000)
        .map(|n| json!({ "subject": "a", "queue": format!("g{n}") }))
        .collect();
    for denied in [false, true] {
        let mut role = json!({
            "bind": [{ "app_role": "R" }], "upstream": "a", "broad": true, "subscribe": [">"],
        });
        if denied {
            role["deny"] = json!({ "subscribe": tied });
        } else {
            role["subscribe"] = json!(tied);
        }
        let mut session = serving(admission(&json!({ "r": role }), &["R"], None));
        let mut bytes = b"SUB a other 1\r\n".repeat(40);
        let mut turns = 0;
        let mut at = 0;
        while at < bytes.len() {
            session.gives_way();
            at += session.handle_client(&mut bytes[at..], at, NOW).used;
            turns += 1;
            session.to_upstream().discard();
            session.to_client().discard();
            while session.poll_event(NOW).is_some() {}
        }
        assert!((10..=40).contains(&turns), "{denied}: {turns}");
    }
}

#[test]
fn a_body_names_only_so_many_wildcards_against_thousands_of_deny_entries() {
    let mut session = denied_thousands();
    let judge = &mut session.serving.as_mut().unwrap().judge;
    let mut named =
        |subject: &'static [u8], count| judge.can_judge(std::iter::repeat_n(subject, count));
    assert!(named(b"*.c", 90) && !named(b"*.c", 110) && named(b"a.c", 10_000));
    assert!(judge.is_spent(), "what a body asks counts to the turn");
}

/// What goes upstream of `message`, and what is said of it.
fn outcome_of(session: &mut Session, message: &str) -> (bool, String) {
    let mut bytes = message.as_bytes().to_vec();
    assert_eq!(session.handle_client(&mut bytes, 0, NOW).used, bytes.len());
    let passed = !taken_from(session.to_upstream(), &bytes).is_empty();
    while session.poll_event(NOW).is_some() {}
    (passed, taken_from(session.to_client(), b""))
}

#[test]
fn one_message_asks_only_so_much_of_thousands_of_deny_entries() {
    let numbered = |text: &str, count: usize| -> String {
        let each = |n: usize| text.replace("{}", &n.to_string());
        (0..count).map(each).collect()
    };
    let with_headers = |count| {
        let names = numbered("Nats-Trace-Dest: *.c{}\r\n", count);
        let block = format!("NATS/1.0\r\n{names}\r\n");
        format!("HPUB a {0} {0}\r\n{block}\r\n", block.len())
    };
    let with_body = |count| {
        let names = numbered("{\"deliver_subject\":\"b.*.c{}\"},", count);
        let body = format!("[{names}0]");
        let subject = "$JS.API.CONSUMER.CREATE.S";
        format!("PUB {subject} {}\r\n{body}\r\n", body.len())
    };
    for message in [&with_headers as &dyn Fn(usize) -> String, &with_body] {
        assert!(outcome_of(&mut denied_thousands(), &message(90)).0);
        let (passed, said) = outcome_of(&mut denied_thousands(), &message(110));
        assert!(!passed && said.contains("Permissions Violation"), "{said}");
        // What one message asked is over before the next one is judged.
        let mut many = message(20).repeat(20).into_bytes();
        let mut session = denied_thousands();
        let used = session.handle_client(&mut many, 0, NOW).used;
        assert_eq!(used, many.len() / 20);
        assert!(session.gives_way() && !session.gives_way());
    }
}

#[test]
fn a_reply_with_wildcards_is_open_without_a_question() {
    let role = json!({
        "bind": [{ "app_role": "R" }], "upstream": "a", "broad": true,
        "publish": [">"], "subscribe": [">"], "respond": { "max": 1 },
    });
    let mut session = serving(admission(&json!({ "r": role }), &["R"], None));
    let judge = &mut session.serving.as_mut().unwrap().judge;
    judge.hear(NOW).opened(b"granted.anyway");
    judge.delivered(b"granted.anyway", NOW);
    assert!(!judge.may_answer());
    judge.hear(NOW).opened(b"*.c1");
    assert!(judge.answer(b"*.c1", NOW).is_some() && !judge.may_answer());
    judge.delivered(b"*.c1", NOW);
    assert!(judge.may_answer());
    assert!(judge.publish(b"*.c1", None, NOW).is_ok() && judge.publish(b"*.c1", None, NOW).is_ok());
}

#[test]
fn permissions_are_the_same_where_roles_and_what_fills_them_are() {
    let document: Document = serde_json::from_value(json!({ "roles": {
        "r": { "bind": [{ "app_role": "R" }], "upstream": "u", "publish": ["{oid}.a"] },
        "s": { "bind": [{ "app_role": "S" }], "upstream": "u", "publish": ["{oid}.b"] },
    } }))
    .unwrap();
    let policy = Policy::compile(&document).unwrap();
    let circumstances = Circumstances {
        source: client().ip(),
        now: NOW,
        requested_role: None,
    };
    let permissions = |name: &str, roles: &[&str]| {
        let assigned = policy.assign(&identity(name, roles), &circumstances);
        assigned.unwrap().permissions
    };
    let alice = permissions("alice", &["R"]);
    assert!(alice.are_those_of(&permissions("alice", &["R"])));
    assert!(!alice.are_those_of(&permissions("alice", &["R", "S"])));
    assert!(!alice.are_those_of(&permissions("bob", &["R"])));
}
