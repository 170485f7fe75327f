//! Documents that compile, documents that do not, and what is said about them.

use super::*;

fn found(roles: Value) -> Vec<(String, String)> {
    mistakes(json!({ "roles": roles }))
        .into_iter()
        .map(|mistake| (mistake.path.join("/"), mistake.message))
        .collect()
}

#[track_caller]
fn only(role: Value, path: &str, part: &str) {
    let found = found(json!({ "r": bound(role) }));
    let [(at, message)] = found.as_slice() else {
        panic!("not one mistake: {found:?}");
    };
    assert_eq!(at, path);
    assert!(message.contains(part), "{message}");
}

#[test]
fn the_example_of_the_design_compiles_and_its_tests_pass() {
    let oid = "aaaaaaaa-0000-4000-8000-00000000000a";
    let document = document(json!({
        "roles": {
            "telemetry-writer": {
                "bind": [
                    { "app_role": "Nats.Telemetry.Write" },
                    { "app_id": "5b7e92a4-0f5d-4f3f-9b06-6b1c7d3f9e10", "name": "historian" },
                    { "group": GROUP, "name": "sg-plant-ops" },
                ],
                "require": { "acrs": "c1", "azpacr": 1, "source": ["10.0.0.0/8"] },
                "upstream": "plant-a",
                "publish": ["telemetry.{oid}.>", "telemetry.shared.*"],
                "subscribe": ["cmd.{oid}.>", { "subject": "jobs.*", "queue": "hist-*" }],
                "request": ["svc.lookup"],
                "respond": { "max": 1, "ttl": "30s" },
                "deny": { "publish": ["telemetry.shared.admin"], "subscribe": [] },
                "inbox": "private",
                "limits": { "connections": 20, "subscriptions": 500, "payload": "256KiB", "messages": "5000/s", "bytes": "10MiB/s" },
                "valid": { "from": "2026-11-01", "until": "2027-06-30" },
                "mode": "enforce",
            },
            "analyst": {
                "bind": [{ "group": "9a1f0000-0000-4000-8000-000000000001", "name": "sg-analytics" }],
                "upstream": "plant-a",
                "stream": { "ORDERS": { "read": ["orders.eu.>"], "consumers": ["an-{oid}-*", "ephemeral"] } },
                "kv": { "config": { "read": ["shared.>"], "write": ["{oid}.>"] } },
                "object": { "reports": { "read": true } },
            },
        },
        "tests": [
            {
                "as": { "oid": oid, "app_roles": ["Nats.Telemetry.Write"], "acrs": ["c1"], "azpacr": 2, "source": "10.9.9.9" },
                "allow": [
                    format!("pub telemetry.{oid}.temp"), format!("sub cmd.{oid}.>"), "sub jobs.a queue hist-1",
                    "pub svc.lookup", "sub _INBOX.Zk3nN7uX0kyExample1AAb.*",
                ],
                "deny": ["pub telemetry.bbbb.temp", "sub cmd.>", "sub _INBOX.>", "sub jobs.a", "pub telemetry.shared.admin"],
                "roles": ["telemetry-writer"],
            },
            { "as": { "oid": oid, "app_roles": ["Nats.Telemetry.Write"], "source": "10.9.9.9" }, "deny": ["pub svc.lookup"], "roles": [] },
            { "as": { "groups_overage": true }, "deny": ["pub svc.lookup"] },
        ],
    }));
    let policy = Policy::compile(&document).expect("a policy");
    assert_eq!(policy.run_tests(&document, NOW), []);
    assert_eq!(policy.hash().len(), 64);
    assert_eq!(
        policy.groups_of_tenant("any"),
        [
            GROUP.into(),
            Box::<str>::from("9a1f0000-0000-4000-8000-000000000001")
        ]
    );
}

#[test]
fn a_failing_test_says_what_happens_and_by_which_line() {
    let document = document(json!({
        "roles": { "r": bound(json!({ "publish": ["a.>"], "deny": { "publish": ["a.x"] } })) },
        "tests": [
            {
                "as": { "app_roles": ["R"] },
                "allow": ["pub a.x", "sub b", "publish a"],
                "deny": ["pub a.b", "sub _INBOX.Zk3nN7uX0kyExample1AAb.>"],
                "roles": ["q"],
            },
            { "as": {}, "allow": ["pub a"] },
        ],
    }));
    let policy = Policy::compile(&document).expect("a policy");
    let said: Vec<String> = policy
        .run_tests(&document, NOW)
        .into_iter()
        .map(|mistake| format!("{}: {}", mistake.path.join("/"), mistake.message))
        .collect();
    let wanted = [
        "tests/0/roles: the identity has the roles [r]",
        "tests/0/allow/0: pub a.x is refused by roles.r.deny.publish[0] (denied)",
        "tests/0/allow/1: sub b is refused (not_granted)",
        "tests/0/allow/2: \"publish a\" is not a test",
        "tests/0/deny/0: pub a.b is allowed by roles.r.publish[0]",
        "tests/0/deny/1: sub _INBOX.Zk3nN7uX0kyExample1AAb.> is allowed, as an inbox of the session's own",
        "tests/1/allow/0: pub a is refused, since the identity gets no role: authenticated as",
    ];
    assert_eq!(said.len(), wanted.len(), "{said:#?}");
    for (said, wanted) in said.iter().zip(wanted) {
        assert!(said.starts_with(wanted), "{said}");
    }
}

#[test]
fn all_mistakes_are_found_in_one_run() {
    let found = found(json!({
        "bad name": { "publish": ["a"], "upstream": "u", "bind": [{ "user": OID }] },
        "empty": { "upstream": "u", "bind": [{ "user": OID }] },
        "nobody": { "upstream": "u", "publish": ["a"] },
        "worst": {
            "bind": [{}, { "app_role": "A", "group": GROUP }, { "group": "sg-plant" }, { "user": OID }, { "user": OID.to_uppercase() }],
            "publish": [">", "a..b", "a.{upn}", "ok"],
            "subscribe": [{ "subject": "*.x", "queue": "_sys_" }],
            "respond": { "max": 0 },
            "valid": { "from": "2027-01-01", "until": "2026-01-01" },
            "limits": { "messages": "0/s" },
            "stream": { "A.B": { "read": true }, "S": {} },
        },
    }));
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "roles/bad name",
            "roles/empty",
            "roles/nobody",
            "roles/worst",
            "roles/worst/bind/0",
            "roles/worst/bind/1",
            "roles/worst/bind/2",
            "roles/worst/bind/4",
            "roles/worst/publish/0",
            "roles/worst/publish/1",
            "roles/worst/publish/2",
            "roles/worst/subscribe/0",
            "roles/worst/subscribe/0",
            "roles/worst/stream/A.B",
            "roles/worst/stream/S",
            "roles/worst/respond",
            "roles/worst/valid",
            "roles/worst/limits/messages",
        ]
    );
}

#[test]
fn each_mistake_says_what_to_write_instead() {
    only(
        json!({ "publish": ["*.a"] }),
        "roles/r/publish/0",
        "broad: true",
    );
    only(
        json!({ "request": [">"] }),
        "roles/r/request/0",
        "broad: true",
    );
    only(
        json!({ "publish": ["a.b*"] }),
        "roles/r/publish/0",
        "one whole token",
    );
    only(
        json!({ "publish": ["a.>.b"] }),
        "roles/r/publish/0",
        "must be the last token",
    );
    only(
        json!({ "publish": ["a b"] }),
        "roles/r/publish/0",
        "white space",
    );
    only(
        json!({ "publish": ["a.{oid"] }),
        "roles/r/publish/0",
        "has no `}`",
    );
    only(
        json!({ "publish": ["a.oid}"] }),
        "roles/r/publish/0",
        "has no `{`",
    );
    only(
        json!({ "publish": ["a.{email}"] }),
        "roles/r/publish/0",
        "template_claims",
    );
    only(
        json!({ "subscribe": [{ "subject": "a", "queue": "x y" }] }),
        "roles/r/subscribe/0",
        "queue group",
    );
}

#[test]
fn each_mistake_about_jetstream_says_what_to_write_instead() {
    only(
        json!({ "stream": { "S": { "read": ["a"], "consumers": ["a.b"] } } }),
        "roles/r/stream/S/consumers/0",
        "letters, figures",
    );
    only(
        json!({ "stream": { "S": { "consumers": ["ephemeral"] } } }),
        "roles/r/stream/S/consumers/0",
        "needs read",
    );
    only(
        json!({ "stream": { "S": { "read": ["a.b*"] } } }),
        "roles/r/stream/S/read/0",
        "one whole token",
    );
    only(
        json!({ "stream": { "S": { "read": true, "domain": "a.b" } } }),
        "roles/r/stream/S/domain",
        "domain",
    );
    only(
        json!({ "kv": { "b": {} } }),
        "roles/r/kv/b",
        "grants nothing",
    );
    only(
        json!({ "kv": { "b": { "read": [] } } }),
        "roles/r/kv/b/read",
        "the list is empty",
    );
    only(
        json!({ "object": { "b": { "read": false } } }),
        "roles/r/object/b",
        "grants nothing",
    );
    only(
        json!({ "publish": ["a"], "upstream": "" }),
        "roles/r",
        "upstream",
    );
    let claims = mistakes(json!({ "template_claims": ["upn", "a b"] }));
    assert_eq!(claims.len(), 2);
}

#[test]
fn deny_entries_may_be_as_broad_as_they_like() {
    policy(
        json!({ "r": bound(json!({ "publish": ["a"], "deny": { "publish": [">"], "subscribe": ["*.secret"] } })) }),
    );
}

#[test]
fn unknown_keys_and_wrong_forms_are_errors() {
    for (role, part) in [
        (json!({ "publsh": ["a"] }), "unknown field `publsh`"),
        (
            json!({ "subscribe": [{ "subject": "a", "que": "b" }] }),
            "unknown field `que`",
        ),
        (json!({ "subscribe": [7] }), "a subject, or { subject"),
        (
            json!({ "publish": [{ "subject": "a", "queue": "b" }] }),
            "expected a string",
        ),
        (
            json!({ "kv": { "b": { "read": 7 } } }),
            "true for everything",
        ),
        (json!({ "limits": { "payload": "much" } }), "256KiB"),
        (json!({ "respond": { "ttl": "soon" } }), "30s"),
        (json!({ "valid": { "from": "soon" } }), "2026-11-01"),
        (json!({ "require": { "source": ["here"] } }), "10.0.0.0/8"),
        (json!({ "inbox": "open" }), "unknown variant `open`"),
    ] {
        let error = serde_json::from_value::<Document>(json!({ "roles": { "r": role } }))
            .expect_err("an error")
            .to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_hash_is_of_the_meaning_and_not_of_the_layout() {
    let hash = |text: &str| {
        let document: Document = serde_json::from_str(text).expect("a document");
        Policy::compile(&document)
            .expect("a policy")
            .hash()
            .to_owned()
    };
    let one = hash(
        r#"{"roles":{"b":{"upstream":"u","bind":[{"user":"x"}],"publish":["a"]},"a":{"upstream":"u","bind":[{"user":"x"}],"publish":["a"]}}}"#,
    );
    let other = hash(
        r#"{ "roles": {"a":{"publish":["a"],"bind":[{"user":"x"}],"upstream":"u"},"b":{"bind":[{"user":"x"}],"publish":["a"],"upstream":"u","deny":{}}}, "tests": []}"#,
    );
    assert_eq!(one, other);
    let changed = hash(r#"{"roles":{"a":{"upstream":"u","bind":[{"user":"x"}],"publish":["b"]}}}"#);
    assert_ne!(one, changed);
}

#[test]
fn a_document_survives_being_written_and_read() {
    let document = document(json!({ "roles": { "r": bound(json!({
        "publish": ["a"],
        "subscribe": ["a", { "subject": "b", "queue": "c" }],
        "limits": { "payload": "256KiB", "bytes": "10MiB/s", "messages": "5/s" },
        "respond": { "ttl": "90m" },
        "valid": { "from": "2026-11-01", "until": "2026-11-01T08:00:00Z" },
        "require": { "source": ["10.0.0.0/8"], "acrs": "c1" },
        "kv": { "b": { "read": true, "write": ["x"] } },
    })) } }));
    let written = serde_json::to_value(&document).expect("JSON");
    let read: Document = serde_json::from_value(written).expect("a document");
    assert_eq!(read, document);
}

#[test]
fn the_schema_knows_every_key_of_a_role() {
    let schema = schemars::schema_for!(Document).to_value().to_string();
    for key in [
        "app_role",
        "xms_mirid",
        "template_claims",
        "auth_age",
        "consumers",
        "requested_role",
    ] {
        assert!(schema.contains(&format!("\"{key}\"")), "{key}");
    }
}
