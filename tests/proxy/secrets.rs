//! The token stays here, and the upstream's secrets stay there.

use natsentry::demo::idp::TokenRequest;
use natsentry::demo::servers::Version;

use crate::support::binary::Binary;
use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::servers;
use crate::support::tap::Tap;
use crate::support::wire::{Wire, connect_line};

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_a_token_reaches_upstream() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let tap = Tap::before(nats.address()).await;
    let proxy = Proxy::start(&idp, &Setup::to(tap.address.port())).await;
    let token = proxy::token(&idp, "alice");
    for connect in [
        connect_line(&token, ""),
        connect_line("", &format!(",\"user\":\"x\",\"pass\":\"{token}\"")),
        connect_line(
            "",
            &format!(",\"jwt\":\"{token}\",\"nkey\":\"\",\"sig\":\"\""),
        ),
        connect_line(
            &token,
            &format!(",\"nkey\":\"{token}\",\"sig\":\"{token}\",\"unknown\":\"{token}\""),
        ),
    ] {
        let mut wire = Wire::connect(proxy.address).await;
        wire.line().await.expect("INFO");
        wire.send(&connect).await;
        wire.send("PUB a 1\r\nx\r\n").await;
        assert!(wire.until_pong().await.is_empty(), "{}", &connect[..80]);
    }
    let all = tap.to_server().concat();
    let (head, signature) = token.rsplit_once('.').expect("a JWT");
    let (_, payload) = head.split_once('.').expect("a JWT");
    let contains = |needle: &str| {
        all.windows(needle.len())
            .any(|part| part == needle.as_bytes())
    };
    assert!(contains("PUB a 1"), "the tap is in the way");
    for part in [&token, signature, payload, &payload[..24], &signature[..24]] {
        assert!(!contains(part));
    }
    drop(proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_of_48_kib_is_accepted_and_goes_upstream_in_less_than_4() {
    let idp = proxy::idp().await;
    for version in [Version::V2_9_10, Version::V2_15_1] {
        let nats = servers::start(version, STATIC_USER);
        let tap = Tap::before(nats.address()).await;
        let proxy = Proxy::start(&idp, &Setup::to(tap.address.port())).await;
        // Padding in a claim that nobody knows makes the token as large as tokens may be; a field that nobody knows
        // fills up the rest. "CONNECT " and CR LF are not counted.
        let request = TokenRequest::of("alice").claim("xms_pad", "x".repeat(22_500));
        let token = idp.mint(&request).expect("a token");
        assert!(token.len() > 30_000, "{}", token.len());
        let bare = connect_line(&token, ",\"pad\":\"\"");
        let pad = "x".repeat(48 * 1024 + 10 - bare.len());
        let connect = connect_line(&token, &format!(",\"pad\":\"{pad}\""));
        assert_eq!(connect.len(), 48 * 1024 + 10);
        let mut wire = Wire::connect(proxy.address).await;
        wire.line().await.expect("INFO");
        wire.send(&connect).await;
        assert!(wire.until_pong().await.is_empty());
        for stream in tap.to_server() {
            let end = stream
                .windows(2)
                .position(|pair| pair == b"\r\n")
                .unwrap_or(stream.len());
            assert!(end < 4096, "{end} bytes of CONNECT");
        }
        drop(proxy.stop().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_over_the_limit_is_refused_with_the_servers_text() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let proxy = Proxy::start(&idp, &Setup::to(nats.port())).await;
    let mut wire = Wire::connect(proxy.address).await;
    wire.line().await.expect("INFO");
    wire.send(&connect_line(&"x".repeat(49_200), "")).await;
    assert_eq!(
        wire.line().await.as_deref(),
        Some("-ERR 'maximum control line exceeded'")
    );
    assert_eq!(wire.line().await, None);
    drop(proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_info_ever_tells_where_upstream_is_or_how_it_is_locked() {
    let idp = proxy::idp().await;
    let seed = nkeys_user();
    let config = format!(
        "authorization {{ users = [ {{ user: svc, password: \"correct horse battery\" }}, {{ nkey: {seed} }} ] }}\n\
         cluster {{ name: hidden, listen: \"127.0.0.1:-1\" }}\nserver_name: \"hidden-name\"\n"
    );
    for version in Version::ALL {
        let mut nats = servers::start(version, &config);
        let proxy = Proxy::start(&idp, &Setup::to(nats.port())).await;
        let (mut wire, first) = Wire::admitted(proxy.address, &proxy::token(&idp, "alice")).await;
        wire.send("PING\r\n").await;
        nats.signal("ldm").expect("lame duck mode");
        let mut infos = vec![first];
        while let Some(line) = wire.line().await {
            if line.starts_with("INFO ") {
                infos.push(line);
            }
            if infos
                .last()
                .is_some_and(|info| info.contains("\"ldm\":true"))
            {
                break;
            }
        }
        assert!(infos.len() >= 2, "{version:?}: {infos:?}");
        for info in &infos {
            for hidden in [
                "nonce",
                "xkey",
                "connect_urls",
                "tls_",
                "cluster",
                "remote_account",
            ] {
                assert!(!info.contains(hidden), "{version:?}: {hidden} in {info}");
            }
            assert!(
                !info.contains(&format!("\"port\":{}", nats.port())),
                "{info}"
            );
            assert!(
                info.contains(&format!("\"port\":{}", proxy.address.port())),
                "{info}"
            );
        }
        nats.kill();
        drop(proxy.stop().await);
    }
}

fn nkeys_user() -> &'static str {
    "UAGWZ22T3MJDHJFXSQVSCDGHMV3KTAEVXEGW2I7362TJPGGOCPLPQ3CA"
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_bad_connects_open_no_upstream_connection() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let tap = Tap::before(nats.address()).await;
    let proxy = Proxy::start(&idp, &Setup::to(tap.address.port())).await;
    let (mut good, _) = Wire::admitted(proxy.address, &proxy::token(&idp, "alice")).await;
    let forged = format!("{}x", proxy::token(&idp, "alice"));
    let norole = proxy::token(&idp, "mallory");
    let attempts = (0..200).map(|number| {
        let connect = match number % 8 {
            0 => connect_line(&forged, ""),
            1 => connect_line(&norole, ""),
            2 => connect_line("", ""),
            3 => "CONNECT {}\r\n".to_owned(),
            4 => connect_line("not.a.jwt", ""),
            5 => "CONNECT {\"user\":\"svc\",\"pass\":\"correct horse battery\"}\r\n".to_owned(),
            6 => "PUB a 1\r\nx\r\n".to_owned(),
            _ => "GET / HTTP/1.1\r\n\r\n".to_owned(),
        };
        let address = proxy.address;
        async move {
            let mut wire = Wire::connect(address).await;
            wire.line().await.expect("INFO");
            wire.send(&connect).await;
            let answer = wire.rest().await;
            assert_eq!(answer, ["-ERR 'Authorization Violation'"], "{connect}");
        }
    });
    futures_util::future::join_all(attempts).await;
    assert!(good.until_pong().await.is_empty());
    let ours: Vec<_> = tap
        .to_server()
        .into_iter()
        .filter(|stream| !stream.windows(15).any(|part| part == b"natsentry probe"))
        .filter(|stream| !stream.is_empty())
        .collect();
    assert_eq!(ours.len(), 1, "only the session that was admitted");
    drop(proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn not_even_a_log_of_everything_holds_a_token_or_a_password() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let directory = idp.directory();
    let server = format!("nats://127.0.0.1:{}", nats.port());
    let upstream = |password: &str| {
        serde_json::json!({
            "servers": [server], "auth": { "user": "env:NATS_USER", "password": password },
        })
    };
    let role = |who: &str, upstream: &str| {
        serde_json::json!({
            "bind": [{ "app_role": who }], "upstream": upstream, "publish": ["a"],
        })
    };
    let config = serde_json::json!({
        "version": 1,
        "listen": { "client": "127.0.0.1:0" },
        "entra": {
            "cloud": { "authority": idp.base() }, "tenants": [directory.tid], "audiences": [directory.api],
        },
        "upstreams": { "good": upstream("env:GOOD"), "wrong": upstream("env:WRONG") },
        "roles": { "operator": role("Nats.Operator", "good"), "reader": role("Nats.Reader", "wrong") },
        "audit": { "file": "audit.jsonl" },
    });
    let (good, wrong) = ("correct horse battery", "wrong horse battery");
    let environment = [("NATS_USER", "svc"), ("GOOD", good), ("WRONG", wrong)];
    let mut natsentry = Binary::start_logging("trace", &config, &environment);
    let (alice, bob) = (proxy::token(&idp, "alice"), proxy::token(&idp, "bob"));
    let forged = format!("{}AAAA", &alice[..alice.len() - 4]);
    for connect in [
        connect_line(&alice, ""),
        connect_line(&bob, ""),
        connect_line(&forged, ""),
        connect_line(&alice, &format!(",\"pass\":\"{alice}\"")),
        connect_line("", &format!(",\"user\":\"{alice}\"")),
        connect_line("", &format!(",\"user\":\"{alice}\",\"pass\":\"{alice}\"")),
        connect_line("", &format!(",\"lang\":\"{alice}\",\"name\":\"x\"")),
        connect_line(&format!("Bearer {alice}"), ""),
        format!("CONNECT {{\"auth_token\":\"{alice}\"\r\n"),
        format!("CONNECT {{\"auth_token\":[\"{alice}\"]}}\r\n"),
    ] {
        let mut wire = Wire::connect(natsentry.address()).await;
        wire.line().await.expect("INFO");
        wire.send(&connect).await;
        wire.send("PUB a 1\r\nx\r\nNOTHING\r\n").await;
        wire.rest().await;
    }
    natsentry.end();
    let audit = std::fs::read_to_string(natsentry.dir().join("audit.jsonl")).expect("the audit");
    let log = natsentry.log();
    assert!(log.contains("\"level\":\"TRACE\"") || log.contains("\"level\":\"DEBUG\""));
    assert!(log.contains("connected") && audit.contains("refused"));
    for token in [&alice, &bob, &forged] {
        let mut parts = token.split('.').skip(1);
        let (payload, signature) = (parts.next().expect("a JWT"), parts.next().expect("a JWT"));
        for secret in [
            &signature[..24],
            &payload[..24],
            &payload[payload.len() - 24..],
            good,
            wrong,
        ] {
            for (name, text) in [("log", &log), ("audit", &audit)] {
                let found = text.lines().find(|line| line.contains(secret));
                assert!(found.is_none(), "{name}: {secret} in {found:?}");
            }
        }
    }
}
