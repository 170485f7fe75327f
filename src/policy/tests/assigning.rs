//! Which roles an identity gets, and why it gets none.

use super::*;
use crate::policy::SessionLimits;

fn code(result: Result<Assignment, Refusal>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(refusal) => {
            assert!(Refusal::CODES.contains(&refusal.code()));
            assert!(refusal.sentence().len() > 20);
            refusal.code()
        }
    }
}

fn with(require: Value) -> Policy {
    policy(json!({ "r": bound(json!({ "publish": ["a"], "require": require })) }))
}

fn names(assignment: &Assignment) -> Vec<&str> {
    assignment.roles.iter().map(|role| &**role).collect()
}

#[test]
fn every_kind_of_bind_names_whom_it_should() {
    let app = |policy: &Policy, change: &dyn Fn(&mut Identity)| {
        let mut identity = identity();
        identity.roles.clear();
        change(&mut identity);
        code(assign(policy, &identity))
    };
    let bind =
        |bind: Value| policy(json!({ "r": bound(json!({ "publish": ["a"], "bind": [bind] })) }));

    let by_role = bind(json!({ "app_role": "Nats.*" }));
    assert_eq!(
        app(&by_role, &|who| who.roles = vec!["Nats.*".into()]),
        "ok"
    );
    assert_eq!(
        app(&by_role, &|who| who.roles = vec!["Nats.Write".into()]),
        "authz.norule"
    );
    assert_eq!(
        app(&by_role, &|who| who.roles = vec!["nats.*".into()]),
        "authz.norule"
    );

    let by_app =
        bind(json!({ "app_id": "5B7E92A4-0f5d-4f3f-9b06-6b1c7d3f9e10", "name": "historian" }));
    assert_eq!(app(&by_app, &|who| who.kind = Kind::App), "ok");
    assert_eq!(app(&by_app, &|_| {}), "authz.norule");

    let by_group = bind(json!({ "group": GROUP }));
    let member = |who: &mut Identity| who.groups = Groups::Known(vec![GROUP.to_uppercase().into()]);
    assert_eq!(app(&by_group, &member), "ok");
    assert_eq!(app(&by_group, &|_| {}), "authz.norule");

    let by_scope = bind(json!({ "scope": "Nats.Connect" }));
    assert_eq!(app(&by_scope, &|_| {}), "ok");
    assert_eq!(app(&by_scope, &|who| who.kind = Kind::App), "authz.norule");

    let by_user = bind(json!({ "user": OID.to_uppercase() }));
    assert_eq!(app(&by_user, &|_| {}), "ok");
    assert_eq!(app(&by_user, &|who| who.oid = "x".into()), "authz.norule");

    let of_tenant = bind(json!({ "user": OID, "tenant": TENANT }));
    assert_eq!(app(&of_tenant, &|_| {}), "ok");
    assert_eq!(app(&of_tenant, &|who| who.tid = OID.into()), "authz.norule");
}

#[test]
fn unknown_groups_are_never_no_groups() {
    let policy = policy(json!({
        "by-group": bound(json!({ "publish": ["g"], "bind": [{ "group": GROUP }] })),
        "by-role": bound(json!({ "publish": ["r"] })),
    }));
    let mut who = identity();
    who.groups = Groups::Unknown;
    let assignment = assign(&policy, &who).expect("an assignment");
    assert_eq!(names(&assignment), ["by-role"]);
    who.roles.clear();
    assert_eq!(code(assign(&policy, &who)), "groups.overage");
    who.groups = Groups::Known(vec!["CORP\\plant-ops".into()]);
    assert_eq!(code(assign(&policy, &who)), "groups.names");
    who.groups = Groups::Known(vec![OID.into()]);
    assert_eq!(code(assign(&policy, &who)), "authz.norule");
}

#[test]
fn names_of_groups_and_ids_are_never_taken_for_each_other() {
    let policy = policy(json!({
        "by-id": bound(json!({ "publish": ["i"], "bind": [{ "group": GROUP }] })),
        "by-name": bound(json!({ "publish": ["n"], "bind": [{ "group_name": "plant-ops" }, { "group_name": GROUP }] })),
    }));
    let mut who = identity();
    who.roles.clear();
    let mut with = |groups: Groups| {
        who.groups = groups;
        assign(&policy, &who).map(|assignment| names(&assignment).join(" "))
    };
    assert_eq!(
        with(Groups::Named(vec!["plant-ops".into()])).unwrap(),
        "by-name"
    );
    assert_eq!(with(Groups::Known(vec![GROUP.into()])).unwrap(), "by-id");
    // A group that somebody named like an id is a name.
    assert_eq!(with(Groups::Named(vec![GROUP.into()])).unwrap(), "by-name");
    for groups in [
        Groups::Misnamed,
        Groups::Named(vec!["Plant-Ops".into()]),
        Groups::Known(vec!["plant-ops".into()]),
    ] {
        assert_eq!(with(groups).unwrap_err().code(), "groups.names");
    }
    assert_eq!(with(Groups::Unknown).unwrap_err().code(), "groups.overage");
}

#[test]
fn a_deny_of_a_role_that_one_might_hold_applies() {
    let policy = policy(json!({
        "contractors": bound(json!({
            "bind": [{ "group": GROUP }],
            "deny": { "publish": ["a.secret", "a.{oid}"], "subscribe": ["s.secret"] },
            "publish": ["more"],
        })),
        "staff": bound(json!({ "publish": ["a.*"], "subscribe": ["s.*"] })),
    }));
    for (groups, secret) in [
        (Groups::Known(vec![]), true),
        (Groups::Known(vec![GROUP.into()]), false),
        (Groups::Unknown, false),
        (Groups::Known(vec!["some name".into()]), false),
    ] {
        let known_member = groups == Groups::Known(vec![GROUP.into()]);
        let mut who = identity();
        who.groups = groups;
        let assignment = assign(&policy, &who).expect("an assignment");
        let mut judge = Judge::new(assignment.permissions, Arc::default(), 1);
        assert_eq!(may_publish(&mut judge, "a.secret"), secret, "{who:?}");
        assert_eq!(may_publish(&mut judge, &format!("a.{OID}")), secret);
        assert_eq!(may_subscribe(&mut judge, "s.secret", None), secret);
        assert_eq!(may_publish(&mut judge, "more"), known_member);
        assert!(may_publish(&mut judge, "a.open"));
    }
}

fn try_with(require: Value, change: &dyn Fn(&mut Identity)) -> &'static str {
    let mut who = identity();
    change(&mut who);
    code(assign(&with(require), &who))
}

#[test]
fn every_condition_must_hold_and_a_missing_claim_never_does() {
    let plain = &|_: &mut Identity| {};
    for (require, good) in [
        (
            json!({ "acrs": "c1" }),
            (&|who: &mut Identity| who.acrs = vec!["c1".into(), "c2".into()])
                as &dyn Fn(&mut Identity),
        ),
        (json!({ "azpacr": 2 }), &|who| who.azpacr = Some(2)),
        (json!({ "acct": 1 }), &|who| who.acct = Some(1)),
        (
            json!({ "clients": ["44b0d9d0-6c4b-4e8c-8d80-cc7f0c5a3b9e"] }),
            &|who| who.azp = Some("44B0d9d0-6c4b-4e8c-8d80-cc7f0c5a3b9e".into()),
        ),
        (json!({ "amr": ["mfa", "pwd"] }), &|who| {
            who.amr = vec!["pwd".into(), "mfa".into()]
        }),
        (json!({ "scopes": "Nats.Admin" }), &|who| {
            who.scopes = vec!["Nats.Admin".into()]
        }),
        (json!({ "auth_age": "1h" }), &|who| {
            who.auth_time = Some(NOW.minus(std::time::Duration::from_secs(3600)))
        }),
        (json!({ "max_token_age": "5m" }), &|who| who.issued_at = NOW),
        (json!({ "cnf": true }), &|who| {
            who.certificate_thumbprint = Some("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0".into());
        }),
        (json!({ "kind": "app" }), &|who| who.kind = Kind::App),
        (
            json!({ "xms_mirid": "/Subscriptions/2d5f/resourceGroups/rg-edge" }),
            &|who| {
                who.xms_mirid =
                    Some("/subscriptions/2d5f/resourcegroups/rg-edge/providers/x".into());
            },
        ),
    ] {
        assert_eq!(try_with(require.clone(), good), "ok", "{require}");
        if require.get("max_token_age").is_none() {
            assert_eq!(
                try_with(require.clone(), plain),
                "authz.condition",
                "{require}"
            );
        }
    }
}

#[test]
fn applications_of_other_issuers_are_known_by_names_letter_by_letter() {
    let by_name = policy(json!({ "r": bound(json!({
        "bind": [{ "app_id": "nats-edge" }], "require": { "clients": "nats-edge" }, "publish": ["a"],
    })) }));
    for (azp, kind, wanted) in [
        ("nats-edge", Kind::App, "ok"),
        ("NATS-edge", Kind::App, "authz.norule"),
        ("nats-edge2", Kind::App, "authz.norule"),
        // A person who comes through it is not it.
        ("nats-edge", Kind::User, "authz.norule"),
    ] {
        let mut who = identity();
        (who.azp, who.kind) = (Some(azp.into()), kind);
        assert_eq!(code(assign(&by_name, &who)), wanted, "{azp}");
    }
    let through = json!({ "clients": "nats-cli" });
    for (azp, wanted) in [("nats-cli", "ok"), ("Nats-cli", "authz.condition")] {
        assert_eq!(
            try_with(through.clone(), &|who| who.azp = Some(azp.into())),
            wanted
        );
    }
}

#[test]
fn a_refusal_names_every_condition_that_does_not_hold_and_no_other() {
    let all = json!({
        "kind": "app", "azpacr": 2, "cnf": true, "acct": 1, "clients": ["44b0d9d0-6c4b-4e8c-8d80-cc7f0c5a3b9e"],
        "xms_mirid": "/subscriptions/2d5f", "acrs": ["c1", "c2"], "amr": "mfa", "scopes": ["A", "B"], "auth_age": "1h",
        "max_token_age": "5m", "source": ["192.0.2.0/24"],
    });
    let mut who = identity();
    who.issued_at = NOW.minus(std::time::Duration::from_secs(301));
    let sentence = |require: &Value, who: &Identity| {
        let refusal = assign(&with(require.clone()), who).expect_err("a condition");
        assert_eq!(refusal.code(), "authz.condition");
        refusal.sentence()
    };
    let words = [
        ("kind", "kind is user"),
        ("azpacr", "azpacr is 1, 2 at least"),
        ("cnf", "not bound to a TLS client certificate"),
        ("acct", "acct is "),
        ("clients", "client application "),
        ("xms_mirid", "xms_mirid absent"),
        ("acrs", "acrs lacks c1"),
        ("acrs", "acrs lacks c2"),
        ("amr", "amr lacks mfa"),
        ("scopes", "scp lacks A"),
        ("scopes", "scp lacks B"),
        ("auth_age", "auth_time is absent"),
        ("max_token_age", "token was issued at"),
        (
            "source",
            "source 10.1.2.3 is in none of the ranges 192.0.2.0/24",
        ),
    ];
    let said = sentence(&all, &who);
    for (_, word) in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    for (key, value) in all.as_object().expect("conditions") {
        let said = sentence(&json!({ key: value }), &who);
        for (of, word) in words {
            assert_eq!(said.contains(word), of == key, "{key}, {word}: {said}");
        }
    }
}

#[test]
fn conditions_on_time_and_place_have_edges() {
    let plain = &|_: &mut Identity| {};
    let old = &|who: &mut Identity| who.issued_at = NOW.minus(std::time::Duration::from_secs(301));
    assert_eq!(
        try_with(json!({ "max_token_age": "5m" }), old),
        "authz.condition"
    );
    let stale =
        &|who: &mut Identity| who.auth_time = Some(NOW.minus(std::time::Duration::from_secs(3601)));
    assert_eq!(
        try_with(json!({ "auth_age": "1h" }), stale),
        "authz.condition"
    );
    let neighbour = &|who: &mut Identity| {
        who.xms_mirid = Some("/subscriptions/2d5f/resourcegroups/rg-edge2/x".into())
    };
    let edge = json!({ "xms_mirid": "/subscriptions/2d5f/resourceGroups/rg-edge" });
    assert_eq!(try_with(edge, neighbour), "authz.condition");
    assert_eq!(
        try_with(json!({ "source": ["10.0.0.0/8", "fd00::/8"] }), plain),
        "ok"
    );
    assert_eq!(
        try_with(json!({ "source": ["10.2.0.0/16"] }), plain),
        "authz.condition"
    );
    assert_eq!(
        try_with(json!({ "azpacr": 1, "source": ["192.0.2.0/24"] }), plain),
        "authz.condition"
    );
}

#[test]
fn a_role_outside_its_time_does_not_match() {
    let at = |from: &str, until: &str| {
        let valid = json!({ "from": from, "until": until });
        let policy = policy(json!({ "r": bound(json!({ "publish": ["a"], "valid": valid })) }));
        (code(assign(&policy, &identity())), policy.next_change(NOW))
    };
    // NOW is 2026-11-23T16:37:00Z.
    assert_eq!(at("2026-11-01", "2027-06-30").0, "ok");
    assert_eq!(at("2026-11-23", "2026-11-23").0, "ok");
    assert_eq!(at("2026-11-23T16:37:01Z", "2027-06-30").0, "authz.window");
    assert_eq!(at("2026-11-01", "2026-11-22").0, "authz.window");
    assert_eq!(at("2026-11-01", "2026-11-23T16:37:00Z").0, "authz.window");
    let next = at("2026-11-01", "2026-11-23")
        .1
        .map(|next| next.to_string());
    assert_eq!(next.as_deref(), Some("2026-11-24T00:00:00.000Z"));
}

#[test]
fn several_upstreams_need_a_priority_or_the_clients_word() {
    let roles = |a: Option<i64>, b: Option<i64>| {
        policy(json!({
            "role-a": bound(json!({ "publish": ["a"], "priority": a })),
            "role-b": bound(json!({ "publish": ["b"], "upstream": "plant-b", "priority": b })),
            "role-c": bound(json!({ "publish": ["c"] })),
        }))
    };
    assert_eq!(
        code(assign(&roles(None, None), &identity())),
        "authz.upstream"
    );
    assert_eq!(
        code(assign(&roles(Some(1), Some(1)), &identity())),
        "authz.upstream"
    );
    let high = assign(&roles(None, Some(-5)), &identity()).expect("an assignment");
    assert_eq!((&*high.upstream, names(&high)), ("plant-b", vec!["role-b"]));
    let asked = |name| {
        let here = Circumstances {
            requested_role: Some(name),
            ..here()
        };
        roles(Some(9), None)
            .assign(&identity(), &here)
            .expect("an assignment")
    };
    assert_eq!(names(&asked("role-b")), ["role-b"]);
    assert_eq!(names(&asked("role-c")), ["role-a", "role-c"]);
    assert_eq!(names(&asked("alice")), ["role-a", "role-c"]);
    let mut judge = Judge::new(asked("role-b").permissions, Arc::default(), 1);
    assert!(may_publish(&mut judge, "b") && !may_publish(&mut judge, "a"));
}

#[test]
fn templates_are_filled_with_one_token_or_the_grant_vanishes() {
    let document = document(json!({
        "template_claims": ["extn.site"],
        "roles": { "r": bound(json!({
            "publish": ["t.{oid}.>", "c.{azp}.{tid}", "e.{extn.site}.x", "fixed"],
            "subscribe": ["x-{oid}-y", { "subject": "q.{oid}", "queue": "w" }],
        })) },
    }));
    let policy = Policy::compile(&document).expect("a policy");
    let mut who = identity();
    who.template_claims
        .insert("extn.site".into(), "north_1".into());
    let assignment = assign(&policy, &who).expect("an assignment");
    assert_eq!(assignment.vanished, []);
    let mut judge = Judge::new(assignment.permissions, Arc::default(), 1);
    assert!(may_publish(&mut judge, &format!("t.{OID}.temp")));
    assert!(!may_publish(&mut judge, "t.other.temp"));
    assert!(may_publish(
        &mut judge,
        &format!("c.5b7e92a4-0f5d-4f3f-9b06-6b1c7d3f9e10.{TENANT}")
    ));
    assert!(may_publish(&mut judge, "e.north_1.x"));
    assert!(may_subscribe(&mut judge, &format!("x-{OID}-y"), None));
    assert!(may_subscribe(&mut judge, &format!("q.{OID}"), Some("w")));
    assert!(!may_subscribe(&mut judge, &format!("q.{OID}"), Some("v")));

    for bad in [
        "",
        "a.b",
        "*",
        ">",
        "a b",
        "\u{e4}",
        &"x".repeat(65),
        "a*",
        "{oid}",
    ] {
        who.template_claims.insert("extn.site".into(), bad.into());
        let assignment = assign(&policy, &who).expect("an assignment");
        let vanished: Vec<&str> = assignment.vanished.iter().map(|gone| &*gone.rule).collect();
        assert_eq!(vanished, ["roles.r.publish[2]"], "{bad:?}");
        let mut judge = Judge::new(assignment.permissions, Arc::default(), 1);
        assert!(!may_publish(&mut judge, &format!("e.{bad}.x")));
        assert!(may_publish(&mut judge, "fixed"));
    }
}

#[test]
fn a_deny_that_cannot_be_made_refuses_the_identity() {
    let policy = policy(json!({ "r": bound(json!({
        "publish": ["t.>"],
        "deny": { "publish": ["t.{azp}"] },
    })) }));
    let mut who = identity();
    assert_eq!(code(assign(&policy, &who)), "ok");
    who.azp = None;
    assert_eq!(code(assign(&policy, &who)), "authz.template");
}

#[test]
fn limits_are_the_most_generous_that_some_role_states() {
    let policy = policy(json!({
        "one": bound(json!({ "publish": ["a"], "audit": "messages", "limits": { "connections": 5, "messages": "100/s" } })),
        "two": bound(json!({ "publish": ["b"], "mode": "observe", "limits": { "connections": 20, "payload": "256KiB", "bytes": "10MiB/s", "subscriptions": 500 } })),
    }));
    let assignment = assign(&policy, &identity()).expect("an assignment");
    let wanted = SessionLimits {
        connections: Some(20),
        subscriptions: Some(500),
        payload: Some(262_144),
        messages_per_s: Some(100),
        bytes_per_s: Some(10 << 20),
    };
    assert_eq!(assignment.limits, wanted);
    assert!(assignment.audit_messages);
    assert!(!assignment.observe, "one role enforces");
}

#[test]
fn roles_add_up_and_a_deny_of_either_holds() {
    let policy = policy(json!({
        "one": bound(json!({ "publish": ["a", "x"] })),
        "two": bound(json!({ "publish": ["b"], "deny": { "publish": ["x"] } })),
    }));
    let assignment = assign(&policy, &identity()).expect("an assignment");
    assert_eq!(names(&assignment), ["one", "two"]);
    let explained = policy.explain_publish(&assignment, b"a");
    assert_eq!(explained.rule.as_deref(), Some("roles.one.publish[0]"));
    let explained = policy.explain_publish(&assignment, b"x");
    assert!(!explained.allowed);
    assert_eq!(explained.rule.as_deref(), Some("roles.two.deny.publish[0]"));
    let mut judge = Judge::new(assignment.permissions, Arc::default(), 1);
    assert!(may_publish(&mut judge, "a") && may_publish(&mut judge, "b"));
    assert!(!may_publish(&mut judge, "x"));
}
