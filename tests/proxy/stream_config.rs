//! Whoever may make streams reaches by their configurations no more than by subjects, unless the role says so: held to a
//! real server, which makes what is let through and knows nothing of the rest.

use natsentry::demo::servers::Version;

use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::servers;
use crate::support::wire::Wire;

const ROLES: &str = r#"
roles:
  keeper:
    bind: [{ app_role: Nats.Operator }]
    upstream: plant
    publish: ["own.>", "$JS.API.STREAM.CREATE.*", "$JS.API.STREAM.UPDATE.*", "$JS.API.STREAM.RESTORE.*",
      "$JS.API.STREAM.MSG.GET.OWN"]
    subscribe: ["own.>"]
  admin:
    bind: [{ app_role: Nats.Reader }]
    upstream: plant
    publish: ["$JS.API.STREAM.CREATE.*"]
    stream_config: any
"#;

/// What comes of a request that makes or changes a stream.
async fn asked((wire, inbox): &mut Session, operation: &str, name: &str, config: &str) -> String {
    let body = format!(r#"{{"name":"{name}","storage":"memory",{config}}}"#);
    let request = format!(
        "PUB $JS.API.STREAM.{operation}.{name} {inbox}.1 {}\r\n{body}\r\n",
        body.len()
    );
    wire.send(&request).await;
    let line = wire.answer().await.expect("an answer");
    if line.starts_with("MSG ") {
        return wire.line().await.expect("a body");
    }
    line
}

/// A connection, and the inbox that it listens in.
type Session = (Wire, String);

async fn enter(proxy: &Proxy, token: &str, inbox: &str) -> Session {
    let (mut wire, _) = Wire::admitted(proxy.address, token).await;
    wire.send(&format!("SUB {inbox}.* 1\r\n")).await;
    assert!(wire.until_pong().await.is_empty());
    (wire, inbox.to_owned())
}

async fn play(version: Version) {
    let idp = proxy::idp().await;
    let nats = servers::start(version, &format!("jetstream: {{}}\n{STATIC_USER}"));
    let proxy = Proxy::start(&idp, &Setup::to(nats.port()).roles(ROLES)).await;
    let alice = proxy::token(&idp, "alice");
    let mut keeper = enter(&proxy, &alice, "_INBOX.keeperkeeperkeeperke").await;
    let made =
        |answer: &str| answer.contains("\"did_create\":true") || answer.contains("\"config\":{");
    for (operation, name, config) in [
        (
            "CREATE",
            "OWN",
            r#""subjects":["own.a"],"republish":{"src":"own.a","dest":"own.again.a"}"#,
        ),
        (
            "UPDATE",
            "OWN",
            r#""subjects":["own.a","own.b.*"],"republish":{"src":"own.a","dest":"own.again.a"}"#,
        ),
        ("CREATE", "COPY", r#""mirror":{"name":"OWN"}"#),
        (
            "CREATE",
            "KV_own",
            r#""subjects":["$KV.own.>"],"max_msgs_per_subject":1"#,
        ),
    ] {
        let answer = asked(&mut keeper, operation, name, config).await;
        assert!(made(&answer), "{version}: {name} {config}: {answer}");
    }
    for (operation, name, config, named) in [
        ("CREATE", "T", r#""subjects":["secret.>"]"#, "secret.>"),
        ("CREATE", "T", r#""subjects":["own.c",">"]"#, ">"),
        ("CREATE", "secret", r#""max_msgs":1"#, "secret"),
        ("CREATE", "T", r#""Subjects":["secret.x"]"#, "secret.x"),
        (
            "CREATE",
            "T",
            r#""subjects":["own.c"],"republish":{"src":">","dest":"secret.>"}"#,
            "secret.>",
        ),
        (
            "CREATE",
            "T",
            r#""subjects":["own.c"],"rePublish":{"DEST":"secret.{{wildcard(1)}}"}"#,
            "secret.*",
        ),
        (
            "CREATE",
            "T",
            r#""subjects":["own.c.*"],"republish":{"src":"own.c.*","dest":"secret.$+1"}"#,
            "secret.*",
        ),
        (
            "CREATE",
            "T",
            r#""subjects":["own.c"],"republish":{"src":"own.c","dest":"$JS.API.STREAM.CREATE.U"}"#,
            "$JS.API.STREAM.CREATE.U",
        ),
        (
            "CREATE",
            "T",
            r#""mirror":{"name":"KV_own"}"#,
            "$JS.API.STREAM.MSG.GET.KV_own",
        ),
        (
            "CREATE",
            "T",
            r#""sources":[{"name":"OWN"},{"name":"KV_own"}]"#,
            "$JS.API.STREAM.MSG.GET.KV_own",
        ),
        (
            "CREATE",
            "T",
            r#""sources":[{"name":"OWN","external":{"api":"other.api","deliver":"x"}}]"#,
            "x.>",
        ),
        (
            "CREATE",
            "T",
            r#""sources":[{"name":"OWN","subject_transforms":[{"src":"own.a","dest":"secret.a"}]}]"#,
            "secret.a",
        ),
        (
            "RESTORE",
            "own",
            r#""config":{}"#,
            "$JS.API.STREAM.RESTORE.own",
        ),
        (
            "UPDATE",
            "OWN",
            r#""subjects":["own.a","secret.b"]"#,
            "secret.b",
        ),
        (
            "CREATE",
            "T",
            r#""subjects":["secret.>"],"ſubjects":["own.c"]"#,
            "$JS.API.STREAM.CREATE.T",
        ),
        (
            "CREATE",
            "T",
            r#""subjects":["own.c"],"x":"\ud800""#,
            "$JS.API.STREAM.CREATE.T",
        ),
    ] {
        let answer = asked(&mut keeper, operation, name, config).await;
        let wanted = format!("-ERR 'Permissions Violation for Publish to \"{named}\"'");
        assert_eq!(answer, wanted, "{version}: {config}");
        keeper.0.until_pong().await;
    }
    // What is held is not given to the server as a request either, by way of a reply.
    for subject in ["own.a", "$JS.API.STREAM.MSG.GET.OWN"] {
        let request = format!("PUB {subject} $JS.API.STREAM.CREATE.U 2\r\n{{}}\r\n");
        keeper.0.send(&request).await;
        let answer = keeper.0.answer().await.expect("an answer");
        let wanted = "-ERR 'Permissions Violation for Publish to \"$JS.API.STREAM.CREATE.U\"'";
        assert_eq!(answer, wanted, "{version}: {subject}");
    }
    // Too long to be held, and in pieces.
    let long = format!(
        r#""subjects":["own.d"],"description":"{}""#,
        "d".repeat(70_000)
    );
    let answer = asked(&mut keeper, "CREATE", "T", &long).await;
    assert!(answer.contains("STREAM.CREATE.T"), "{answer}");
    let bob = proxy::token(&idp, "bob");
    let mut admin = enter(&proxy, &bob, "_INBOX.adminadminadminadmina").await;
    let anything = r#""subjects":["secret.>"],"republish":{"src":"secret.>","dest":"public.>"}"#;
    let answer = asked(&mut admin, "CREATE", "ALL", anything).await;
    assert!(made(&answer), "{version}: {answer}");
    drop(proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_reaches_no_further_than_whoever_makes_it_on_2_15() {
    play(Version::V2_15_1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_reaches_no_further_than_whoever_makes_it_on_2_9() {
    play(Version::V2_9_10).await;
}
