//! Groups that are not in tokens: asked of Graph, exactly those that the policy names, and never taken for none.

use std::time::{Duration, Instant};

use natsentry::demo::idp::{DevIdp, Directory, Endpoint, Fault, IdpConfig, Person, TokenRequest};
use natsentry::demo::servers::{NatsServer, Version};

use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::servers;
use crate::support::wire::{Wire, connect_line};

/// Of the proxy itself.
const GRAPH: &str = "{ client_secret: { client_id: 4e475300-0000-4000-8000-000000000008, secret: file:graph-secret } }";

/// Omar is in it, as in 249 others.
const PLANT_OPS: &str = "0d9ad1c3-1b8b-45d6-8f5a-7f2f0a63d1c4";
/// Nobody is in it at first.
const NIGHT_SHIFT: &str = "70000000-0000-4000-8000-000000000001";

struct Rig {
    idp: DevIdp,
    _nats: NatsServer,
    proxy: Proxy,
}

impl Rig {
    /// `graph` are further keys of `entra.graph`.
    async fn start(graph: &str, roles: &str) -> Self {
        Self::of(directory(), graph, roles).await
    }

    async fn of(directory: Directory, graph: &str, roles: &str) -> Self {
        let idp = DevIdp::start(IdpConfig {
            directory,
            ..IdpConfig::default()
        })
        .await
        .expect("the emulator starts");
        let nats = servers::start(Version::V2_15_1, STATIC_USER);
        let setup = Setup::to(nats.port())
            .roles(roles)
            .entra(&format!("  graph: {{ credential: {GRAPH}{graph} }}\n"));
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(
            folder.path().join("graph-secret"),
            "natsentry-development-secret",
        )
        .expect("a secret file");
        let proxy = Proxy::start_in(folder, &idp, &setup).await;
        Self {
            idp,
            _nats: nats,
            proxy,
        }
    }

    fn token(&self, who: &str) -> String {
        proxy::token(&self.idp, who)
    }

    /// What the client gets after its CONNECT and PING until the end, without INFO.
    async fn turned_away(&self, token: &str) -> Vec<String> {
        let mut wire = Wire::connect(self.proxy.address).await;
        wire.line().await.expect("INFO");
        wire.send(&connect_line(token, "")).await;
        wire.send("PING\r\n").await;
        let lines = wire.rest().await;
        assert!(!lines.iter().any(|line| line == "PONG"), "admitted");
        lines
    }

    /// Which of the subjects a client may publish to.
    async fn may_publish(&self, token: &str, subjects: &[&str]) -> Vec<bool> {
        let (mut wire, _) = Wire::admitted(self.proxy.address, token).await;
        may_publish(&mut wire, subjects).await
    }

    /// The newest audit line of a kind, once there is one for which this holds.
    async fn audit(
        &self,
        event: &str,
        holds: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        audited(&self.proxy, event, holds).await
    }

    fn checks(&self) -> usize {
        let seen = self.idp.seen();
        let checks = seen
            .iter()
            .filter(|seen| seen.path.ends_with("/checkMemberGroups"));
        checks.count()
    }
}

async fn audited(
    proxy: &Proxy,
    event: &str,
    holds: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let lines = proxy.audit();
        let newest = lines.iter().rev().find(|line| line["event"] == event);
        if let Some(found) = newest.filter(|line| holds(line)) {
            return found.clone();
        }
        assert!(Instant::now() < deadline, "no such {event} in {lines:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a line has this reason.
fn because(reason: &str) -> impl Fn(&serde_json::Value) -> bool {
    move |line| line["reason"] == reason
}

/// The usual people, and Olga: in as many groups as Omar, with an app role besides.
fn directory() -> Directory {
    let mut directory = Directory::default();
    let omar = directory.people.iter().find(|person| person.name == "omar");
    let olga = Person {
        name: "olga".into(),
        oid: "abcdabcd-0000-4000-8000-00000000000b".into(),
        roles: vec!["Nats.Reader".into()],
        ..omar.expect("Omar").clone()
    };
    directory.people.push(olga);
    directory
}

async fn may_publish(wire: &mut Wire, subjects: &[&str]) -> Vec<bool> {
    let mut may = Vec::new();
    for subject in subjects {
        wire.send(&format!("PUB {subject} 1\r\nx\r\n")).await;
        // The server may ask with a PING of its own whether we are there.
        let lines = wire.until_pong().await;
        may.push(!lines.iter().any(|line| line.starts_with("-ERR")));
    }
    may
}

/// A role for plant operations, one for the night shift, one by an app role; the second also denies.
fn roles() -> String {
    format!(
        r#"
roles:
  ops: {{ bind: [{{ group: {PLANT_OPS} }}], upstream: plant, publish: [ops.x], deny: {{ publish: [shared.secret] }} }}
  night: {{ bind: [{{ group: {NIGHT_SHIFT} }}], upstream: plant, publish: [night.x], deny: {{ publish: [shared.night] }} }}
  reader: {{ bind: [{{ app_role: Nats.Reader }}, {{ app_role: Nats.Operator }}], upstream: plant, publish: ["shared.*"] }}
"#
    )
}

const SUBJECTS: [&str; 5] = [
    "ops.x",
    "night.x",
    "shared.x",
    "shared.secret",
    "shared.night",
];

#[tokio::test(flavor = "multi_thread")]
async fn somebody_in_250_groups_has_exactly_the_roles_of_the_groups_that_the_policy_names() {
    // 45 groups, so that three requests are needed; Omar is in every other one.
    let mut text = "\nroles:\n".to_owned();
    for number in 1..=45 {
        let kind = if number % 2 == 0 { 6 } else { 7 };
        let group = format!("{kind}0000000-0000-4000-8000-{number:012}");
        text.push_str(&format!(
            "  r{number:02}: {{ bind: [{{ group: {group} }}], upstream: plant, publish: [g{number}.x] }}\n"
        ));
    }
    let rig = Rig::start("", &text).await;
    let subjects: Vec<String> = (1..=45).map(|number| format!("g{number}.x")).collect();
    let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
    let may = rig.may_publish(&rig.token("omar"), &subjects).await;
    let wanted: Vec<bool> = (1..=45).map(|number| number % 2 == 0).collect();
    assert_eq!(may, wanted);
    assert_eq!(rig.checks(), 3, "chunks of 20");
    let connected = rig.audit("connected", |_| true).await;
    let roles: Vec<String> = (1..=45)
        .filter(|number| number % 2 == 0)
        .map(|number| format!("r{number:02}"))
        .collect();
    assert_eq!(connected["roles"], serde_json::json!(roles));
    assert_eq!(connected["groups"], "graph");
    // The answer is good for a while.
    rig.may_publish(&rig.token("omar"), &["g2.x"]).await;
    assert_eq!(rig.checks(), 3);
    assert!(
        rig.proxy
            .metric("natsentry_graph_requests_total", "ok")
            .await
            >= 3.0
    );
    assert!(
        rig.proxy
            .metric("natsentry_graph_cache_hits_total", "fresh")
            .await
            >= 1.0
    );
    // Whoever has few groups has them in the token, and nobody is asked.
    let refused = rig.turned_away(&rig.token("alice")).await;
    assert_eq!(refused, ["-ERR 'Authorization Violation'"]);
    assert_eq!(rig.checks(), 3);
    // Nobody but the login host and Graph was asked, for nobody but Omar.
    for seen in rig.idp.seen() {
        let known = match seen.endpoint {
            Endpoint::Metadata | Endpoint::Keys | Endpoint::Token => true,
            Endpoint::Graph => {
                seen.path == "/v1.0/users/abcdabcd-0000-4000-8000-00000000000a/checkMemberGroups"
            }
            _ => false,
        };
        assert!(known, "{seen:?}");
    }
    drop(rig.proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_in_claim_sources_is_never_asked() {
    let trap = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = trap.local_addr().expect("an address");
    let rig = Rig::start("", &roles()).await;
    let token = TokenRequest::of("omar")
        .claim("_claim_names", serde_json::json!({ "groups": "src1" }))
        .claim(
            "_claim_sources",
            serde_json::json!({ "src1": { "endpoint": format!("http://{address}/getMemberObjects") } }),
        );
    let token = rig.idp.mint(&token).expect("a token");
    let may = rig.may_publish(&token, &SUBJECTS).await;
    assert_eq!(may, [true, false, false, false, false]);
    let asked = tokio::time::timeout(Duration::from_millis(50), trap.accept()).await;
    assert!(asked.is_err(), "{asked:?}");
    drop(rig.proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_graph_cannot_be_asked_it_is_not_now_and_never_no() {
    let rig = Rig::start(", timeout: 2s, cache: { fresh: 0s }", &roles()).await;
    let omar = rig.token("omar");
    let page = "<html>".to_owned();
    let part = format!(
        r#"{{"value":[],"@odata.nextLink":"{}/v1.0/users/next"}}"#,
        rig.idp.base()
    );
    let rows: [(Fault, &str); 13] = [
        (Fault::Status(429, Some(60)), "graph.throttled"),
        (Fault::Status(503, None), "graph.unavailable"),
        (Fault::Status(503, Some(60)), "graph.unavailable"),
        (Fault::Status(410, None), "graph.unavailable"),
        // A page of whoever stands on the way says nothing of the person.
        (Fault::Body(404, page.clone()), "graph.unavailable"),
        // A part of an answer is none.
        (Fault::Body(200, part), "graph.unavailable"),
        (Fault::Status(400, None), "graph.unavailable"),
        (Fault::Hang, "graph.unavailable"),
        (Fault::Reset, "graph.unavailable"),
        (Fault::Html, "graph.unavailable"),
        (Fault::Truncated, "graph.unavailable"),
        (Fault::Body(200, page), "graph.unavailable"),
        (Fault::Body(200, "{}".into()), "graph.unavailable"),
    ];
    for (fault, code) in rows {
        // A proxy of its own for each: what one failure makes it wait for must not be the answer of the next.
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(
            folder.path().join("graph-secret"),
            "natsentry-development-secret",
        )
        .expect("a secret");
        rig.idp.fail(Endpoint::Graph, fault.clone());
        let proxy = {
            let text = std::fs::read_to_string(rig.proxy.folder.path().join("natsentry.yaml"))
                .expect("the configuration");
            Proxy::start_with(folder, &text).await
        };
        let mut wire = Wire::connect(proxy.address).await;
        wire.line().await.expect("INFO");
        wire.send(&connect_line(&omar, "")).await;
        assert_eq!(wire.rest().await, Vec::<String>::new(), "{fault:?}");
        let line = audited(&proxy, "postponed", because(code)).await;
        assert_eq!(line["verdict"], "not_now");
        assert!(proxy.metric("natsentry_postponements_total", code).await >= 1.0);
        if let Fault::Status(_, Some(_)) = fault {
            // As long as Graph said.
            let paused = proxy.metric("natsentry_graph_paused_seconds", "").await;
            assert!((40.0..=60.0).contains(&paused), "{fault:?}: {paused}");
        }
        rig.idp.mend(Endpoint::Graph);
        drop(proxy.stop().await);
    }
    // What is right again is right at once, for whoever was never told to wait.
    assert_eq!(rig.may_publish(&omar, &["ops.x"]).await, [true]);
    drop(rig.proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_wait_is_waited_and_a_replica_that_lags_is_asked_again() {
    let rig = Rig::start(", cache: { fresh: 0s }", &roles()).await;
    let omar = rig.token("omar");
    rig.idp
        .fail_times(Endpoint::Graph, 1, Fault::Status(429, Some(1)));
    let started = Instant::now();
    assert_eq!(rig.may_publish(&omar, &["ops.x"]).await, [true]);
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(rig.checks(), 2);
    rig.idp
        .fail_times(Endpoint::Graph, 2, Fault::Status(404, None));
    assert_eq!(rig.may_publish(&omar, &["ops.x"]).await, [true]);
    rig.idp
        .fail_times(Endpoint::Graph, 1, Fault::Status(401, None));
    assert_eq!(rig.may_publish(&omar, &["ops.x"]).await, [true]);
    // Whoever is not there when asked three times is not there.
    rig.idp.fail(Endpoint::Graph, Fault::Status(404, None));
    let refused = rig.turned_away(&omar).await;
    assert_eq!(refused, ["-ERR 'Authorization Violation'"]);
    rig.audit("refused", because("graph.unknown")).await;
    rig.idp.mend_all();
    // Ids that were not asked for have no meaning, and the token goes where it belongs alone.
    let everything = format!(r#"{{"value":["{NIGHT_SHIFT}-x","*",""]}}"#);
    rig.idp
        .fail_times(Endpoint::Graph, 1, Fault::Body(200, everything));
    let refused = rig.turned_away(&omar).await;
    assert_eq!(refused, ["-ERR 'Authorization Violation'"]);
    rig.audit("refused", because("authz.norule")).await;
    let trap = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let elsewhere = format!("http://{}/", trap.local_addr().expect("an address"));
    rig.idp
        .fail_times(Endpoint::Graph, 1, Fault::Redirect(elsewhere));
    assert_eq!(rig.turned_away(&omar).await, Vec::<String>::new());
    let asked = tokio::time::timeout(Duration::from_millis(50), trap.accept()).await;
    assert!(asked.is_err(), "{asked:?}");
    drop(rig.proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_that_are_missing_are_named_before_and_when_they_are_needed() {
    let mut directory = directory();
    for application in &mut directory.applications {
        if application.name == "natsentry" {
            application.graph = vec!["User.Read.All".into()];
        }
    }
    let rig = Rig::of(directory, "", &roles()).await;
    // Before anybody needs it.
    let deadline = Instant::now() + Duration::from_secs(10);
    let named = loop {
        let (_, body) = rig.proxy.get("/readyz").await;
        if body.contains("lacks") || Instant::now() > deadline {
            break body;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(
        named.contains("identity abababab-0000-4000-8000-000000000008 lacks the application permissions Application.Read.All and GroupMember.Read.All"),
        "{named:?}"
    );
    let checks: serde_json::Value = serde_json::from_str(&named).expect("JSON");
    let graph = checks["checks"]
        .as_array()
        .and_then(|checks| checks.iter().find(|check| check["name"] == "graph"));
    assert_eq!(graph.expect("a check")["ok"], true, "others are served");
    assert_eq!(
        rig.turned_away(&rig.token("omar")).await,
        Vec::<String>::new()
    );
    let line = rig.audit("postponed", because("graph.denied")).await;
    let sentence = line["detail"].as_str().expect("a sentence");
    assert!(
        sentence.contains("grant the application permissions GroupMember.Read.All"),
        "{sentence}"
    );
    assert!(!sentence.contains("User.Read.All and"), "{sentence}");
    drop(rig.proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_answer_counts_during_an_outage_where_the_policy_says_so() {
    let rig = Rig::start(", outage: cached, cache: { fresh: 0s }", &roles()).await;
    let (omar, olga) = (rig.token("omar"), rig.token("olga"));
    let before = rig.may_publish(&omar, &SUBJECTS).await;
    assert_eq!(before, [true, false, false, false, false]);
    rig.idp.fail(Endpoint::Graph, Fault::Status(429, Some(60)));
    assert_eq!(rig.may_publish(&omar, &SUBJECTS).await, before);
    rig.audit("connected", |line| line["groups"] == "graph")
        .await;
    assert!(
        rig.proxy
            .metric("natsentry_graph_cache_hits_total", "stale")
            .await
            >= 1.0
    );
    assert!(rig.proxy.metric("natsentry_graph_paused_seconds", "").await > 30.0);
    // Of her nothing is known.
    assert_eq!(rig.turned_away(&olga).await, Vec::<String>::new());
    let line = rig.audit("postponed", because("graph.throttled")).await;
    assert!(
        line["detail"]
            .as_str()
            .is_some_and(|text| text.contains("retry after")),
        "{line}"
    );
    // Told to wait, it waits: however many come, Graph is left alone.
    let asked = rig.checks();
    for _ in 0..10 {
        rig.turned_away(&olga).await;
    }
    assert_eq!(rig.checks(), asked);
    drop(rig.proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_old_does_not_count() {
    let cache = ", outage: cached, cache: { fresh: 0s, stale: 1s }";
    let rig = Rig::start(cache, &roles()).await;
    let omar = rig.token("omar");
    rig.may_publish(&omar, &["ops.x"]).await;
    rig.idp.fail(Endpoint::Graph, Fault::Status(503, None));
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut wire = Wire::connect(rig.proxy.address).await;
        wire.line().await.expect("INFO");
        wire.send(&connect_line(&omar, "")).await;
        wire.send("PING\r\n").await;
        match wire.answer().await.as_deref() {
            Some("PONG") => assert!(Instant::now() < deadline, "still counts"),
            other => break assert_eq!(other, None),
        }
    }
    drop(rig.proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_do_not_go_by_groups_are_given_during_an_outage_where_the_policy_says_so() {
    let rig = Rig::start(", outage: roles_only, cache: { fresh: 0s }", &roles()).await;
    let (omar, olga) = (rig.token("omar"), rig.token("olga"));
    // As long as Graph answers: what her groups deny, and what groups deny that she is not in.
    let whole = rig.may_publish(&olga, &SUBJECTS).await;
    assert_eq!(whole, [true, false, true, false, true]);
    rig.idp.fail(Endpoint::Graph, Fault::Status(503, None));
    // Roles by groups are not given, and what any of them denies is denied.
    let (mut wire, _) = Wire::admitted(rig.proxy.address, &olga).await;
    let less = may_publish(&mut wire, &SUBJECTS).await;
    assert_eq!(less, [false, false, true, false, false]);
    rig.audit("connected", |line| {
        line["groups"] == "unknown" && line["roles"] == serde_json::json!(["reader"])
    })
    .await;
    // Who has no other role is not refused.
    assert_eq!(rig.turned_away(&omar).await, Vec::<String>::new());
    rig.audit("postponed", because("graph.unavailable")).await;
    // When Graph is back, the session gets what it lacked.
    rig.idp.mend(Endpoint::Graph);
    let deadline = Instant::now() + Duration::from_secs(60);
    while may_publish(&mut wire, &SUBJECTS).await != whole {
        assert!(Instant::now() < deadline, "never asked again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(rig.proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_are_looked_up_as_service_principals() {
    let rig = Rig::start(", cache: { fresh: 0s }", &roles()).await;
    let historian = rig.token("historian");
    assert_eq!(
        rig.turned_away(&historian).await,
        ["-ERR 'Authorization Violation'"]
    );
    rig.idp.join_group(NIGHT_SHIFT, "historian");
    let may = rig.may_publish(&historian, &SUBJECTS).await;
    assert_eq!(may, [false, true, false, false, false]);
    let seen = rig.idp.seen();
    let asked = "/v1.0/servicePrincipals/cccccccc-0000-4000-8000-000000000003/checkMemberGroups";
    assert!(seen.iter().any(|seen| seen.path == asked));
    assert!(!seen.iter().any(|seen| seen.path.contains("/users/")));
    drop(rig.proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_policy_has_the_groups_asked_for_that_it_names_anew() {
    let ops = format!(
        "\nroles:\n  ops: {{ bind: [{{ group: {PLANT_OPS} }}], upstream: plant, publish: [ops.x] }}\n"
    );
    let rig = Rig::start("", &ops).await;
    rig.idp.join_group(NIGHT_SHIFT, "omar");
    let (mut wire, _) = Wire::admitted(rig.proxy.address, &rig.token("omar")).await;
    assert_eq!(
        may_publish(&mut wire, &["ops.x", "night.x"]).await,
        [true, false]
    );
    // The role by the old group goes, one by a group that was never asked for comes.
    let file = rig.proxy.folder.path().join("natsentry.yaml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let night = ops.replace(PLANT_OPS, NIGHT_SHIFT).replace("ops", "night");
    std::fs::write(&file, text.replace(&ops, &night)).expect("a new file");
    proxy::hang_up();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !rig
        .proxy
        .audit()
        .iter()
        .any(|line| line["event"] == "policy_reloaded")
    {
        assert!(Instant::now() < deadline, "not reloaded");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        may_publish(&mut wire, &["ops.x", "night.x"]).await,
        [false, true]
    );
    // With Graph gone nothing is certain by the next policy: the end, but not a no.
    rig.idp.fail(Endpoint::Graph, Fault::Status(503, None));
    let third = "60000000-0000-4000-8000-000000000003";
    std::fs::write(&file, text.replace(&ops, &ops.replace(PLANT_OPS, third))).expect("a file");
    proxy::hang_up();
    let rest = wire.rest().await;
    assert!(
        !rest.iter().any(|line| line.starts_with("-ERR")),
        "{rest:?}"
    );
    rig.audit("closed", because("identity_unavailable")).await;
    drop(rig.proxy.stop().await);
}
