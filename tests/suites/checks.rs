//! Checks that the stand-in does what its callers rely on, and that natsentry is really inside. `cargo test` runs these.

use std::fs;
use std::future::Future;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use async_nats::{ConnectOptions, Event};
use futures_util::StreamExt as _;
use natsentry::demo::idp::{DevIdp, IdpConfig};
use natsentry::demo::provision::{TempDir, command};
use natsentry::demo::servers::{Version, find_or_install};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::stand_in::inside::{Everybody, ISSUER_VARIABLE};
use crate::stand_in::{NAME, SERVER_VARIABLE};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Runs those whose name contains one of the words that are no options; all of them without such a word.
pub fn run(words: &[String]) -> ExitCode {
    let filters: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let wanted =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(*filter));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let idp = DevIdp::start(IdpConfig::default())
            .await
            .expect("loopback has ports");
        let everybody = Everybody::of(&idp).expect("the directory knows everybody");
        let place = Place::new(serde_json::to_string(&everybody).expect("JSON"));
        let mut failed = false;
        let mut check = async |name: &str, work: &mut dyn FnMut() -> Boxed| {
            if !wanted(name) {
                return;
            }
            let outcome = timeout(PATIENCE * 2, work()).await;
            match outcome.unwrap_or_else(|_| Err("took too long".into())) {
                Ok(()) => println!("test {name} ... ok"),
                Err(error) => {
                    failed = true;
                    println!("test {name} ... FAILED: {error}");
                }
            }
        };
        check("a_session_goes_through_natsentry", &mut || {
            Box::pin(a_session_goes_through_natsentry(place.clone()))
        })
        .await;
        check("the_servers_own_users_are_asked", &mut || {
            Box::pin(the_servers_own_users_are_asked(place.clone()))
        })
        .await;
        check("tls_is_the_servers", &mut || {
            Box::pin(tls_is_the_servers(place.clone()))
        })
        .await;
        check("signals_reach_the_server", &mut || {
            Box::pin(signals_reach_the_server(place.clone()))
        })
        .await;
        check("no_signal_comes_too_early", &mut || {
            Box::pin(no_signal_comes_too_early(place.clone()))
        })
        .await;
        check("nothing_is_left_behind", &mut || {
            Box::pin(nothing_is_left_behind(place.clone()))
        })
        .await;
        if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    })
}

type Boxed = std::pin::Pin<Box<dyn Future<Output = Outcome>>>;

/// Where stand-ins are started from.
#[derive(Clone)]
struct Place {
    bin: std::sync::Arc<TempDir>,
    everybody: String,
}

impl Place {
    fn new(everybody: String) -> Self {
        let bin = TempDir::create("stand-in-bin").expect("a temporary folder");
        let this = std::env::current_exe().expect("this program has a file");
        symlink(this, bin.path().join(NAME)).expect("a link");
        Self {
            bin: std::sync::Arc::new(bin),
            everybody,
        }
    }

    /// Starts one as a suite would.
    fn spawn(
        &self,
        config: &str,
        arguments: &[&str],
    ) -> Result<StandIn, Box<dyn std::error::Error + Send + Sync>> {
        let folder = TempDir::create("stand-in-run")?;
        let path = |name: &str| folder.path().join(name);
        fs::write(path("server.conf"), config)?;
        let child = Command::new(self.bin.path().join(NAME))
            .args(["-p", "-1", "-a", "127.0.0.1", "-m", "-1", "-c"])
            .arg(path("server.conf"))
            .arg(format!("--ports_file_dir={}", folder.path().display()))
            .arg("-l")
            .arg(path("log"))
            .arg("--pid")
            .arg(path("pid"))
            .args(arguments)
            .env(ISSUER_VARIABLE, &self.everybody)
            .env(SERVER_VARIABLE, find_or_install(Version::LATEST)?)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(StandIn {
            child,
            folder,
            ports: Value::Null,
        })
    }

    /// The same, and waits for its ports file.
    async fn start(
        &self,
        config: &str,
        arguments: &[&str],
    ) -> Result<StandIn, Box<dyn std::error::Error + Send + Sync>> {
        let mut stand_in = self.spawn(config, arguments)?;
        let file = stand_in
            .folder
            .path()
            .join(format!("{NAME}_{}.ports", stand_in.child.id()));
        let log = stand_in.folder.path().join("log");
        wait_for("the ports file", || {
            if let Ok(Some(status)) = stand_in.child.try_wait() {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Some(Err(format!("the stand-in ended ({status}): {log}")));
            }
            let ports = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
            stand_in.ports = ports;
            Some(Ok(()))
        })
        .await??;
        Ok(stand_in)
    }
}

/// A stand-in that runs.
struct StandIn {
    child: Child,
    folder: TempDir,
    ports: Value,
}

impl StandIn {
    /// Of `nats` or `monitoring`.
    fn url(&self, kind: &str) -> String {
        self.ports[kind][0].as_str().unwrap_or_default().to_owned()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }

    fn signal(&self, name: &str) {
        let mut kill = command("kill");
        kill.args(["-s", name, &self.child.id().to_string()])
            .status()
            .expect("kill");
    }

    async fn ended(&mut self) -> Result<i32, Box<dyn std::error::Error + Send + Sync>> {
        let status = wait_for("its end", || self.child.try_wait().ok().flatten()).await?;
        Ok(status.code().unwrap_or(-1))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn wait_for<T>(what: &str, mut reached: impl FnMut() -> Option<T>) -> Result<T, String> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(value) = reached() {
            return Ok(value);
        }
        sleep(Duration::from_millis(10)).await;
    }
    Err(format!("waited in vain for {what}"))
}

fn ensure(condition: bool, detail: impl std::fmt::Debug) -> Outcome {
    if condition {
        Ok(())
    } else {
        Err(format!("not as expected: {detail:?}").into())
    }
}

async fn a_session_goes_through_natsentry(place: Place) -> Outcome {
    let stand_in = place.start("jetstream: { store_dir: \"js\" }", &[]).await?;
    let client = async_nats::connect(stand_in.url("nats")).await?;
    // What the server would not say of this user: it is natsentry that answers, for the identity of the token.
    let said = client.request("$SYS.REQ.USER.INFO", "".into()).await?;
    let said = String::from_utf8_lossy(&said.payload).into_owned();
    ensure(said.contains("aaaaaaaa-0000-4000-8000-000000000001"), said)?;
    let mut sub = client.subscribe("events.*").await?;
    client.publish("events.one", "hello".into()).await?;
    let message = sub.next().await.ok_or("the subscription ended")?;
    ensure(message.payload == "hello", &message)?;
    let js = async_nats::jetstream::new(client.clone());
    js.create_stream(async_nats::jetstream::stream::Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["orders.>".to_owned()],
        ..Default::default()
    })
    .await?;
    let ack = js.publish("orders.one", "1".into()).await?.await?;
    ensure(ack.sequence == 1, ack)?;
    let port = stand_in
        .url("nats")
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .to_owned();
    let listening = format!("Listening for client connections on 127.0.0.1:{port}");
    ensure(
        stand_in.read("log").contains(&listening),
        stand_in.read("log"),
    )?;
    ensure(
        stand_in.read("pid") == stand_in.child.id().to_string(),
        stand_in.read("pid"),
    )?;
    ensure(
        client.server_info().port.to_string() == port,
        client.server_info(),
    )
}

async fn the_servers_own_users_are_asked(place: Place) -> Outcome {
    let users = "authorization { users: [ { user: app, password: \"open sesame\" } ] }";
    let stand_in = place.start(users, &[]).await?;
    let login =
        |password: &str| ConnectOptions::with_user_and_password("app".into(), password.into());
    let client = login("open sesame").connect(stand_in.url("nats")).await?;
    client.flush().await?;
    let refused = login("wrong").connect(stand_in.url("nats")).await;
    let refused = refused.err().ok_or("a wrong password was taken")?;
    ensure(
        refused.to_string().contains("authorization violation"),
        refused.to_string(),
    )
}

async fn tls_is_the_servers(place: Place) -> Outcome {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let certificates = TempDir::create("stand-in-tls")?;
    let file = |name: &str| certificates.path().join(name);
    fs::write(file("cert.pem"), made.cert.pem())?;
    fs::write(file("key.pem"), made.signing_key.serialize_pem())?;
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    for first in ["", "handshake_first: true"] {
        let config = format!(
            "# a comment\ntls {{\n  cert_file: {}\n  key_file: {}\n  {first}\n}}\nmax_payload: 4321\n",
            quoted(&file("cert.pem")),
            quoted(&file("key.pem")),
        );
        let stand_in = place.start(&config, &[]).await?;
        let url = stand_in
            .url("nats")
            .replace("nats://127.0.0.1", "tls://localhost");
        let mut options = ConnectOptions::new()
            .add_root_certificates(file("cert.pem"))
            .require_tls(true);
        if !first.is_empty() {
            options = options.tls_first();
        }
        let client = options.connect(url).await?;
        client.flush().await?;
        ensure(
            client.server_info().max_payload == 4321,
            client.server_info(),
        )?;
    }
    Ok(())
}

async fn signals_reach_the_server(place: Place) -> Outcome {
    let config = |payload: u32| format!("lame_duck_duration: \"30s\"\nmax_payload: {payload}\n");
    let mut stand_in = place.start(&config(1000), &[]).await?;
    let (told, mut events) = mpsc::unbounded_channel();
    let options = ConnectOptions::new().event_callback(move |event| {
        told.send(event).ok();
        std::future::ready(())
    });
    let client = options.connect(stand_in.url("nats")).await?;
    client.flush().await?;
    fs::write(stand_in.folder.path().join("server.conf"), config(2000))?;
    stand_in.signal("HUP");
    wait_for("the reload", || {
        stand_in
            .read("log")
            .contains("Reloaded: max_payload = 2000")
            .then_some(())
    })
    .await?;
    stand_in.signal("USR2");
    while !matches!(events.recv().await, Some(Event::LameDuckMode)) {}
    stand_in.signal("TERM");
    let code = stand_in.ended().await?;
    ensure(code == 0 || code == 1, code)?;
    let left: Vec<_> = fs::read_dir(stand_in.folder.path())?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    ensure(
        !left
            .iter()
            .any(|name| name == "pid" || name.to_string_lossy().ends_with(".ports")),
        left,
    )
}

/// A suite that only looks whether it can connect sends the signal within the same millisecond. Clients are served
/// before the first file is written.
async fn no_signal_comes_too_early(place: Place) -> Outcome {
    let mut stand_in = place.spawn("", &[])?;
    let end = Instant::now() + PATIENCE;
    while stand_in.read("pid").is_empty() {
        ensure(Instant::now() < end, "waited in vain for the pid file")?;
        tokio::task::yield_now().await;
    }
    stand_in.signal("INT");
    let code = stand_in.ended().await?;
    // -1 where the signal ended the stand-in itself.
    ensure(code == 0 || code == 1, code)
}

async fn nothing_is_left_behind(place: Place) -> Outcome {
    let mut stand_in = place.start("", &[]).await?;
    let monitoring = stand_in.url("monitoring").replace("http://", "");
    tokio::net::TcpStream::connect(&monitoring).await?;
    stand_in.signal("KILL");
    stand_in.ended().await?;
    let end = Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(&monitoring).await.is_ok() {
        ensure(
            Instant::now() < end,
            "the real server outlives the stand-in",
        )?;
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
