//! Credentials of the upstream lie in a vault: read at the start, and again, without a restart.

use std::time::{Duration, Instant};

use natsentry::clock;
use natsentry::config::Config;
use natsentry::demo::idp::{DevIdp, Endpoint, Fault};
use natsentry::demo::servers::Version;
use natsentry::secret::Secret;
use natsentry::server::Server;

use crate::support::proxy::{self, Proxy, Setup};
use crate::support::servers;
use crate::support::until::until_told;
use crate::support::wire::Wire;
use crate::tls::certificates;

/// Two users, so that it shows which one a connection was made with.
const USERS: &str = r#"authorization { users: [
  { user: svc, password: "one", permissions: { publish: "old.>" } }
  { user: svc-next, password: "two", permissions: { publish: "new.>" } }
] }
"#;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

const READER: &str = "{ client_secret: { client_id: 4e475300-0000-4000-8000-000000000008, secret: file:own-secret } }";

fn setup(idp: &DevIdp, port: u16) -> Setup {
    let mut setup = Setup::to(port).more(&format!(
        "keyvault: {{ credential: {READER}, refresh: 1s }}\n"
    ));
    setup.auth = format!(
        "{{ user: \"keyvault:{}\", password: \"keyvault:{}\" }}",
        idp.secret_address("nats-user"),
        idp.secret_address("nats-password"),
    );
    setup
}

fn set(idp: &DevIdp, user: &str, password: &str) {
    idp.set_secret("nats-user", Secret::new(user));
    // As some tools leave it.
    idp.set_secret("nats-password", Secret::new(format!("{password}\n")));
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("own-secret");
    std::fs::write(secret, "natsentry-development-secret").expect("a secret file");
    folder
}

async fn may_publish(wire: &mut Wire, subject: &str) -> bool {
    wire.send(&format!("PUB {subject} 1\r\nx\r\n")).await;
    // The server may ask with a PING of its own whether we are there.
    let lines = wire.until_pong().await;
    !lines.iter().any(|line| line.starts_with("-ERR"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_is_used_for_new_connections_and_live_ones_stay() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, USERS);
    set(&idp, "svc", "one");
    // A vault that is not there yet is waited for.
    idp.fail_times(Endpoint::Vault, 1, Fault::Status(503, None));
    let proxy = Proxy::start_in(folder(), &idp, &setup(&idp, nats.port())).await;
    let token = proxy::token(&idp, "alice");
    let (mut before, _) = Wire::admitted(proxy.address, &token).await;
    assert!(may_publish(&mut before, "old.x").await);
    assert!(!may_publish(&mut before, "new.x").await);

    // A vault that does not answer costs nothing.
    idp.fail(Endpoint::Vault, Fault::Status(503, None));
    until_told("failed", PATIENCE, async || {
        proxy
            .metric("natsentry_keyvault_reads_total", "failed")
            .await
            >= 1.0
    })
    .await;
    let (_, ready) = proxy.get("/readyz").await;
    assert!(
        ready.contains("the vault answered with status 503"),
        "{ready}"
    );
    let (mut meanwhile, _) = Wire::admitted(proxy.address, &token).await;
    assert!(may_publish(&mut meanwhile, "old.x").await);

    idp.mend_all();
    set(&idp, "svc-next", "two");
    until_told("rotated", PATIENCE, async || {
        proxy
            .audit()
            .iter()
            .any(|line| line["event"] == "secrets_rotated")
    })
    .await;
    // Both secrets may have been read between one change and the other; the next reading has both.
    until_told("the new user", PATIENCE, async || {
        let (mut after, _) = Wire::admitted(proxy.address, &token).await;
        may_publish(&mut after, "new.x").await
    })
    .await;
    assert!(
        may_publish(&mut before, "old.x").await,
        "still as the old user"
    );
    assert!(!may_publish(&mut before, "new.x").await);
    assert!(proxy.metric("natsentry_keyvault_age_seconds", "").await < 30.0);
    // Neither the audit nor the admin interface names a value.
    let (_, sessions) = proxy.get("/sessions").await;
    let audit = std::fs::read_to_string(proxy.audit_file()).expect("the audit");
    for text in [&audit, &sessions] {
        assert!(
            !text.contains("svc-next") && !text.contains("\"two"),
            "{text}"
        );
    }
    drop(proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_read_holds_up_its_own_upstream_alone() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, USERS);
    set(&idp, "svc", "one");
    idp.set_secret("ash-token", Secret::new("t"));
    let mut setup = setup(&idp, nats.port());
    setup.upstream = format!(
        "  ash:\n    servers: [\"nats://127.0.0.1:1\"]\n    auth: {{ token: \"keyvault:{}\" }}\n",
        idp.secret_address("ash-token"),
    );
    let proxy = Proxy::start_in(folder(), &idp, &setup).await;
    let token = proxy::token(&idp, "alice");
    let ready = async |words: &str| proxy.get("/readyz").await.1.contains(words);

    // Of a pair, one half is there and the other is not: both stay as they were.
    idp.disable_secret("nats-password");
    idp.set_secret("nats-user", Secret::new("svc-next"));
    until_told("refused", PATIENCE, async || {
        ready("/secrets/nats-password: the vault refused").await
    })
    .await;
    let (mut wire, _) = Wire::admitted(proxy.address, &token).await;
    assert!(may_publish(&mut wire, "old.x").await);

    // Another upstream's secret has gone, which is none of this one's business.
    idp.remove_secret("ash-token");
    idp.set_secret("nats-password", Secret::new("two"));
    until_told("the new user", PATIENCE, async || {
        let (mut after, _) = Wire::admitted(proxy.address, &token).await;
        may_publish(&mut after, "new.x").await
    })
    .await;
    assert!(ready("/secrets/ash-token: the vault has no such secret").await);
    drop(proxy.stop().await);
}

/// Whether a TLS session with these certificates of ours comes about.
async fn tls(proxy: &Proxy, token: &str, files: &std::path::Path) -> Option<async_nats::Client> {
    let options = async_nats::ConnectOptions::with_token(token.to_owned())
        .require_tls(true)
        .add_root_certificates(files.join("ca.pem"))
        .connection_timeout(Duration::from_secs(5));
    let client = options
        .connect(format!("nats://{}", proxy.address))
        .await
        .ok()?;
    client.flush().await.ok()?;
    Some(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_certificate_is_shown_to_new_clients_once_its_key_fits() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, proxy::STATIC_USER);
    let (old, new) = (certificates(), certificates());
    let put = |name: &str, from: &tempfile::TempDir, file: &str| {
        let pem = std::fs::read(from.path().join(file)).expect("a file");
        idp.set_secret(name, Secret::new(pem));
    };
    put("tls-cert", &old, "server.pem");
    put("tls-key", &old, "server.key");
    let setup = Setup::to(nats.port())
        .listen(&format!(
            "  tls: {{ cert: \"keyvault:{}\", key: \"keyvault:{}\" }}\n",
            idp.secret_address("tls-cert"),
            idp.secret_address("tls-key"),
        ))
        .more(&format!(
            "keyvault: {{ credential: {READER}, refresh: 1s }}\n"
        ));
    let proxy = Proxy::start_in(folder(), &idp, &setup).await;
    let token = proxy::token(&idp, "alice");
    let live = tls(&proxy, &token, old.path()).await.expect("a session");
    assert!(tls(&proxy, &token, new.path()).await.is_none());

    // Half of it: a certificate whose key is not there yet is not used, and costs nobody anything.
    put("tls-cert", &new, "server.pem");
    let reads = async || proxy.metric("natsentry_keyvault_reads_total", "ok").await;
    let before = reads().await;
    until_told("read twice", PATIENCE, async || {
        reads().await >= before + 2.0
    })
    .await;
    assert!(tls(&proxy, &token, old.path()).await.is_some());
    assert!(tls(&proxy, &token, new.path()).await.is_none());

    put("tls-key", &new, "server.key");
    until_told("the new certificate", PATIENCE, async || {
        tls(&proxy, &token, new.path()).await.is_some()
    })
    .await;
    assert!(tls(&proxy, &token, old.path()).await.is_none());
    live.flush().await.expect("the session of before stays");
    assert_eq!(
        live.statistics()
            .connects
            .load(std::sync::atomic::Ordering::Relaxed),
        1
    );
    drop(proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_asks_nobody_and_a_start_says_what_is_missing() {
    let idp = proxy::idp().await;
    let folder = folder();
    std::fs::write(folder.path().join("password"), "x").expect("a file");
    let text = proxy::config_text(&idp, &setup(&idp, 4222));
    let parse = |text: &str| Config::parse(text, "natsentry.yaml", folder.path(), clock::now());
    let config = parse(&text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(config.unread, 2);
    assert!(
        !idp.seen()
            .iter()
            .any(|seen| seen.endpoint == Endpoint::Vault)
    );
    // Without the secrets it does not run.
    let error = Server::build(config.clone(), None).err().expect("an error");
    assert!(error.to_string().contains("were not read"), "{error}");

    let refused = async |config: Config| {
        let error = Server::open(config, None).await.err().expect("an error");
        format!("{error:#}")
    };
    // No such secret: at once, since waiting helps nobody.
    let started = Instant::now();
    let error = refused(config.clone()).await;
    assert!(
        error.contains("/secrets/nats-password: the vault has no such secret (404)"),
        "{error}"
    );
    idp.set_secret("nats-user", Secret::new("svc"));
    idp.set_secret("nats-password", Secret::new("one"));
    idp.disable_secret("nats-password");
    let error = refused(config).await;
    assert!(
        error.contains("refused identity abababab-0000-4000-8000-000000000008 (403)"),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(30));

    // References that cannot be, and nobody to read them.
    let complaint = |text: &str| parse(text).expect_err("mistakes").to_string();
    let elsewhere = text.replace(
        &format!("keyvault:{}/", idp.base()),
        "keyvault:https://evil.example/",
    );
    assert!(complaint(&elsewhere).contains("evil.example is no vault of the configured cloud"));
    let nobody = text.replace(&format!("credential: {READER}, "), "");
    assert!(
        complaint(&nobody).contains("nobody is there to read the vault"),
        "{}",
        complaint(&nobody)
    );
    let inside = text.replace(
        "secret: file:own-secret",
        &format!("secret: \"keyvault:{}\"", idp.secret_address("own")),
    );
    assert!(
        complaint(&inside).contains("cannot lie in a vault"),
        "{}",
        complaint(&inside)
    );
}
