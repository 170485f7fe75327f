//! Key names that are made up, a thousand in a second, beside valid clients of the real program.
//!
//! What it costs others cannot be read off a machine that also runs the flood: its clients take their share of the cores
//! whomever they talk to. So the same valid clients are measured beside four things, in turn and in short slices, so that
//! whatever else happens on the machine happens to all four:
//!
//! - `quiet`: nothing;
//! - `elsewhere`: the same flood, byte for byte and at the same pace, against a listener that says the same INFO, reads what is
//!   said and closes, in a process of its own: what the flood takes from the machine before natsentry does anything;
//! - `refused`: the same flood against natsentry, with an algorithm that is refused without a look at any key;
//! - `names`: the same flood against natsentry, with made-up key names.
//!
//! `names` to `elsewhere` is what natsentry's answer to made-up names costs valid clients. CPU time of natsentry per connect
//! comes from `/proc`, so that it holds on a loaded machine, too.
//!
//! `NATSENTRY_LOAD_SECONDS` makes the runs longer (4 by default), and `NATSENTRY_LOAD_STRICT=1` turns the ratio into an
//! assertion, for a quiet machine and a release build.

use std::io::{BufRead as _, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use natsentry::demo::idp::DevIdp;
use natsentry::demo::servers::Version;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::hostile_tokens::world::{Heard, say};
use crate::rollover::{address_of, hello, load, strict};
use crate::support::binary::Binary;
use crate::support::plant;
use crate::support::proxy::{self, STATIC_USER};
use crate::support::servers;

/// Length of one slice. Each of the four things gets one before any gets its next.
const SLICE: Duration = Duration::from_millis(500);

/// The token under another header; without its key nobody finds out that the signature no longer fits.
fn renamed(token: &str, alg: &str, n: u32) -> String {
    let header = format!("{{\"typ\":\"JWT\",\"alg\":\"{alg}\",\"kid\":\"made-up-{n}\"}}");
    let (_, rest) = token.split_once('.').expect("a token");
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header))
}

/// A listener that does the least that can be done, in a process of its own as natsentry is in one: the INFO of `proxy`, and
/// the end after what the client says.
struct Elsewhere {
    child: Child,
    _said: std::io::BufReader<ChildStdout>,
    address: SocketAddr,
}

/// The INFO that this program shall say, as the one of [`Elsewhere`], rather than test anything.
const INFO: &str = "NATSENTRY_TEST_LEAST_LISTENER";

impl Elsewhere {
    async fn start(proxy: SocketAddr) -> Self {
        let mut info = String::new();
        let mut tcp = BufReader::new(TcpStream::connect(proxy).await.expect("a connection"));
        tcp.read_line(&mut info).await.expect("INFO");
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--exact",
                "key_flood::a_flood_of_made_up_key_names_costs_two_fetches_and_valid_clients_next_to_nothing",
                "--nocapture",
            ])
            .env(INFO, info)
            // It ends with its standard input, and so with this process, however that ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be run");
        let mut said = std::io::BufReader::new(child.stdout.take().expect("piped"));
        let address = said
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening: ")?.parse().ok())
            .expect("an address");
        Self {
            child,
            _said: said,
            address,
        }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What the program of [`Elsewhere`] does.
async fn the_least_that_can_be_done(info: Arc<str>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    // A line of its own, whatever the harness has printed before.
    println!(
        "\nlistening: {}",
        listener.local_addr().expect("an address")
    );
    let serving = tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(said_and_done(tcp, Arc::clone(&info)));
        }
    });
    let ended = || std::io::stdin().read_to_end(&mut Vec::new());
    let _ = tokio::task::spawn_blocking(ended).await;
    serving.abort();
}

async fn said_and_done(mut tcp: TcpStream, info: Arc<str>) {
    let mut heard = Vec::with_capacity(4096);
    if tcp.write_all(info.as_bytes()).await.is_ok() {
        while !heard.ends_with(b"PING\r\n") && tcp.read_buf(&mut heard).await.is_ok_and(|n| n > 0) {
        }
    }
}

/// What is measured of valid clients beside one of the four things.
#[derive(Default)]
struct Beside {
    times: Vec<Duration>,
    /// Connects of the flood, and CPU time of natsentry, in slices with it.
    connects: u32,
    cpu: Duration,
}

impl Beside {
    fn median(&mut self) -> f64 {
        self.times.sort_unstable();
        self.times[self.times.len() / 2].as_secs_f64() * 1e6
    }

    /// CPU time of natsentry in microseconds for each connect of the flood, less what the valid clients take.
    fn cost(&self, quiet: &Self) -> f64 {
        let valid = quiet.cpu.as_secs_f64() / quiet.times.len() as f64 * self.times.len() as f64;
        (self.cpu.as_secs_f64() - valid) * 1e6 / f64::from(self.connects.max(1))
    }
}

struct Stage {
    proxy: Binary,
    valid: Vec<u8>,
    valid_clients: AtomicU32,
}

impl Stage {
    /// User and system time of natsentry so far (proc(5), in ticks of 10 ms).
    fn cpu(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.proxy.pid()))
            .expect("it is alive");
        let (_, fields) = text.rsplit_once(") ").expect("a name in brackets");
        let ticks = fields.split(' ').skip(11).take(2);
        Duration::from_millis(10 * ticks.map(|t| t.parse::<u64>().expect("ticks")).sum::<u64>())
    }

    /// Valid clients, one after the other, until `end`.
    async fn valid_until(&self, end: Instant) -> Vec<Duration> {
        let mut times = Vec::new();
        while Instant::now() < end || times.is_empty() {
            let from = address_of(30_000 + self.valid_clients.fetch_add(1, Ordering::Relaxed));
            let begun = Instant::now();
            let heard = say(self.proxy.address(), from, None, &self.valid).await;
            times.push(begun.elapsed());
            assert_eq!(heard, Heard::Admitted);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        times
    }

    /// One slice beside `flood`: a thousand of its texts in a second to an address.
    async fn slice(&self, beside: &mut Beside, flood: Option<(SocketAddr, &Flood)>) {
        let before = self.cpu();
        let running = flood.map(|(address, flood)| flood.start(address));
        let times = self.valid_until(Instant::now() + SLICE).await;
        if let Some(running) = running {
            beside.connects += running.await.expect("it was sent");
        }
        beside.times.extend(times);
        beside.cpu += self.cpu().saturating_sub(before);
    }
}

/// Texts that are each said once.
struct Flood {
    texts: Arc<Vec<Vec<u8>>>,
    next: Arc<AtomicU32>,
}

impl Flood {
    fn new(count: u32, make: impl Fn(u32) -> String) -> Self {
        Self {
            texts: Arc::new((0..count).map(|n| hello(&make(n))).collect()),
            next: Arc::default(),
        }
    }

    /// One slice of it: a client each millisecond, whether or not those before have been answered.
    fn start(&self, address: SocketAddr) -> JoinHandle<u32> {
        let (texts, next) = (Arc::clone(&self.texts), Arc::clone(&self.next));
        let count = u32::try_from(SLICE.as_millis()).expect("short");
        tokio::spawn(async move {
            let mut clients = JoinSet::new();
            let mut pace = tokio::time::interval(Duration::from_millis(1));
            for _ in 0..count {
                pace.tick().await;
                let n = next.fetch_add(1, Ordering::Relaxed);
                let texts = Arc::clone(&texts);
                clients.spawn(async move {
                    let text = &texts[n as usize];
                    let heard = say(address, address_of(n), None, text).await;
                    assert_ne!(heard, Heard::Admitted);
                });
            }
            clients.join_all().await;
            count
        })
    }
}

async fn start(idp: &DevIdp, port: u16) -> Binary {
    let roles = json!({ "operator": {
        "bind": [{ "app_role": "Nats.Operator" }], "upstream": "plant", "publish": ["a.>"],
    } });
    let configuration = plant::configuration(idp, port, &roles);
    let start = move || Binary::start(&configuration, &[plant::SECRET]);
    tokio::task::spawn_blocking(start).await.expect("it starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_made_up_key_names_costs_two_fetches_and_valid_clients_next_to_nothing() {
    if let Ok(info) = std::env::var(INFO) {
        return the_least_that_can_be_done(info.into()).await;
    }
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let token = proxy::token(&idp, "alice");
    let stage = Stage {
        proxy: start(&idp, nats.port()).await,
        valid: hello(&token),
        valid_clients: AtomicU32::new(0),
    };
    let proxy = stage.proxy.address();
    stage
        .valid_until(Instant::now() + Duration::from_millis(300))
        .await;

    let rounds = u32::try_from(load().as_millis().div_ceil(SLICE.as_millis())).expect("few");
    let each = rounds * u32::try_from(SLICE.as_millis()).expect("short");
    let names = Flood::new(each, |n| renamed(&token, "RS256", n));
    let other_names = Flood::new(each, |n| renamed(&token, "RS256", n));
    let algorithms = Flood::new(each, |n| renamed(&token, "RS512", n));
    let decoy = Elsewhere::start(proxy).await;
    let before = (idp.metadata_fetches(), idp.key_fetches());
    let [mut quiet, mut elsewhere, mut refused, mut made_up] =
        std::array::from_fn(|_| Beside::default());
    for _ in 0..rounds {
        stage.slice(&mut quiet, None).await;
        stage
            .slice(&mut elsewhere, Some((decoy.address, &other_names)))
            .await;
        stage.slice(&mut refused, Some((proxy, &algorithms))).await;
        stage.slice(&mut made_up, Some((proxy, &names))).await;
    }
    let asked = (
        idp.metadata_fetches() - before.0,
        idp.key_fetches() - before.1,
    );
    let (algorithm_cost, name_cost) = (refused.cost(&quiet), made_up.cost(&quiet));
    let count = made_up.connects;
    let [quiet, elsewhere, refused, made_up] =
        [&mut quiet, &mut elsewhere, &mut refused, &mut made_up].map(Beside::median);
    println!(
        "{count} made-up names in {} s cost {asked:?} fetches. Median valid connect: {quiet:.0} us quiet, {elsewhere:.0} us \
         beside the flood elsewhere, {refused:.0} us beside as many other refusals, {made_up:.0} us beside the names: \
         {:.2} x elsewhere, {:.2} x other refusals, {:.2} x quiet. CPU of natsentry per connect: {name_cost:.0} us for a \
         name, {algorithm_cost:.0} us for another refusal",
        load().as_secs_f64(),
        made_up / elsewhere,
        made_up / refused,
        made_up / quiet,
    );
    assert!(asked.0 <= 2 && asked.1 <= 2, "{asked:?}");
    // Generous, for a machine that does something else meanwhile; it does so to all four.
    assert!(made_up / elsewhere < 2.5, "{:.2}", made_up / elsewhere);
    assert!(made_up / refused < 2.0, "{:.2}", made_up / refused);
    if strict() {
        assert!(made_up / elsewhere <= 1.1, "{:.2}", made_up / elsewhere);
    }
    // Neither the audit nor the log grows with it: a thousand lines of a kind in ten seconds.
    let audit = std::fs::read_to_string(stage.proxy.dir().join("audit.jsonl")).expect("the audit");
    let lines = |event: &str| {
        let event = format!("\"event\":\"{event}\"");
        audit.lines().filter(|line| line.contains(&event)).count()
    };
    let spans = 2 + usize::try_from(4 * load().as_secs() / 10).expect("few");
    assert!(lines("postponed") <= 1000 * spans, "{}", lines("postponed"));
    assert!(
        stage
            .proxy
            .log()
            .lines()
            .filter(|line| line.contains("not now"))
            .count()
            <= 1000 * spans
    );
}
