//! What the command line may say.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

pub(crate) const HELP: &str = "\
cargo bench --bench end_to_end -- [options]
  --quick               one round, short cells, sizes 128 and 16384: does it work at all
  --rounds N            rounds (5)
  --seconds S           length of one cell (2)
  --sizes A,B           payload sizes in bytes (16,128,1024,16384,262144,1048576)
  --contenders A,B      direct, haproxy, nginx, envoy, natsentry (pass-through role), natsentry-typical,
                        natsentry-filter (deny armed), haproxy-tls and natsentry-tls (TLS to the client; in
                        throughput, latency, connects and idle alone) (all); besides natsentry-roles (a thousand
                        roles) and natsentry-patterns (a role of ten thousand patterns)
  --only A,B            throughput, subjects, latency, connects, idle, publishers, fan-out, storm (all); besides scale
  --storm N             clients that come at once (10000, as far as open files allow)
  --binary FILE         another natsentry than the one built with this benchmark
  --scale A,B           idle sessions to hold in the part `scale`, as far as files and ports allow (1000,10000,50000)
  --idle N              idle sessions to hold (2000)
  --svg FILE            writes the CPU ratios as a plot too
  --report FILE         puts the tables there too, in place of what stands between its markers";

/// The options with their defaults filled in.
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) cell: Duration,
    pub(crate) sizes: Vec<usize>,
    pub(crate) contenders: Vec<String>,
    pub(crate) parts: Vec<Part>,
    pub(crate) idle_sessions: usize,
    pub(crate) storm_clients: usize,
    pub(crate) scale: Vec<usize>,
    pub(crate) svg: Option<PathBuf>,
    pub(crate) report: Option<PathBuf>,
    pub(crate) binary: PathBuf,
}

/// A part of the run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Throughput,
    Latency,
    Connects,
    Idle,
    Subjects,
    Publishers,
    FanOut,
    Storm,
    /// Many sessions, busy ones, subscriptions: not of the usual run.
    Scale,
}

impl Part {
    const USUAL: [Self; 8] = [
        Self::Throughput,
        Self::Latency,
        Self::Connects,
        Self::Idle,
        Self::Subjects,
        Self::Publishers,
        Self::FanOut,
        Self::Storm,
    ];
}

impl Options {
    /// Reads the command line; none when help was asked for, or nothing (`cargo test --all-targets` says nothing).
    pub(crate) fn read() -> Result<Option<Self>> {
        if std::env::args().len() < 2 {
            return Ok(None);
        }
        let mut options = Self {
            rounds: 5,
            cell: Duration::from_secs(2),
            sizes: vec![16, 128, 1024, 16_384, 262_144, 1_048_576],
            contenders: CONTENDERS.map(str::to_owned).to_vec(),
            parts: Part::USUAL.to_vec(),
            storm_clients: 10_000,
            report: None,
            idle_sessions: 2_000,
            scale: vec![1_000, 10_000, 50_000],
            svg: None,
            binary: env!("CARGO_BIN_EXE_natsentry").into(),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("{word} needs a value"))
            };
            match word.as_str() {
                // Cargo says this to every benchmark.
                "--bench" => {}
                "--help" | "-h" => return Ok(None),
                "--quick" => {
                    options.rounds = 1;
                    options.cell = Duration::from_millis(500);
                    options.sizes = vec![128, 16_384];
                    options.idle_sessions = 500;
                    options.storm_clients = 500;
                    options.contenders = ["direct", "haproxy", "natsentry"]
                        .map(str::to_owned)
                        .to_vec();
                }
                "--rounds" => options.rounds = value()?.parse()?,
                "--seconds" => options.cell = Duration::try_from_secs_f64(value()?.parse()?)?,
                "--sizes" => options.sizes = list(&value()?, |size| Ok(size.parse()?))?,
                "--contenders" => options.contenders = list(&value()?, |name| Ok(name.to_owned()))?,
                "--only" => options.parts = list(&value()?, part)?,
                "--idle" => options.idle_sessions = value()?.parse()?,
                "--scale" => options.scale = list(&value()?, |count| Ok(count.parse()?))?,
                "--binary" => options.binary = value()?.into(),
                "--storm" => options.storm_clients = value()?.parse()?,
                "--report" => options.report = Some(value()?.into()),
                "--svg" => options.svg = Some(value()?.into()),
                _ => bail!("unknown option {word}\n{HELP}"),
            }
        }
        Ok(Some(options))
    }

    pub(crate) fn wants(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    pub(crate) fn warm_up(&self) -> Duration {
        (self.cell / 4).min(Duration::from_millis(500))
    }
}

fn list<T>(text: &str, read: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    text.split(',')
        .map(|item| read(item).with_context(|| format!("{item:?}")))
        .collect()
}

fn part(name: &str) -> Result<Part> {
    Ok(match name {
        "throughput" => Part::Throughput,
        "latency" => Part::Latency,
        "connects" => Part::Connects,
        "idle" => Part::Idle,
        "subjects" => Part::Subjects,
        "publishers" => Part::Publishers,
        "fan-out" => Part::FanOut,
        "storm" => Part::Storm,
        "scale" => Part::Scale,
        _ => bail!("no such part"),
    })
}

const CONTENDERS: [&str; 9] = [
    "direct",
    "haproxy",
    "nginx",
    "envoy",
    "natsentry",
    "natsentry-typical",
    "natsentry-filter",
    "haproxy-tls",
    "natsentry-tls",
];
