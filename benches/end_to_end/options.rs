//! What the command line may say.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

pub(crate) const HELP: &str = "\
cargo bench --bench end_to_end -- [options]
  --full                cells of 2 s, every contender in every part, as many storms as rounds (over an hour)
  --quick               one round, short cells, sizes 128 and 16384, few contenders: does it work at all
  --rounds N            rounds (5)
  --seconds S           length of one cell (0.5; the steady round trips take two)
  --sizes A,B           payload sizes in bytes (16,128,1024,16384,262144,1048576)
  --contenders A,B      direct, haproxy, nginx, envoy, bare (a tokio loop that only forwards bytes), natsentry
                        (pass-through role), natsentry-typical, natsentry-filter (deny armed), haproxy-tls and
                        natsentry-tls (TLS to the client) (all); besides natsentry-roles (a thousand roles) and
                        natsentry-patterns (a role of ten thousand patterns). Contenders that are named take part
                        in every part; without it or --full, those whose row would say nothing new are left out
  --only A,B            throughput, lines, subjects, latency, requests, connects, idle, publishers, fan-out, storm
                        (all); besides scale and fleet
  --storm N             clients that come at once (10000, as far as open files allow)
  --storms N            rounds of storms (3, or fewer where there are fewer rounds: each leaves many ports behind)
  --binary FILE         another natsentry than the one built with this benchmark
  --scale A,B           idle sessions to hold in the part `scale`, as far as files and ports allow (1000,10000,50000)
  --fleet N             idle sessions of the part `fleet`, by as many processes as open files make necessary (50000)
  --idle N              idle sessions to hold; that part is measured once (2000)
  --svg FILE            writes the CPU ratios as a plot too
  --report FILE         puts the tables there too, in place of what stands between its markers";

/// The options with their defaults filled in.
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) cell: Duration,
    pub(crate) sizes: Vec<usize>,
    pub(crate) contenders: Vec<String>,
    /// Each of them takes part in everything that it can.
    pub(crate) everybody: bool,
    pub(crate) parts: Vec<Part>,
    pub(crate) idle_sessions: usize,
    pub(crate) storm_clients: usize,
    /// Rounds of storms.
    pub(crate) storms: usize,
    pub(crate) scale: Vec<usize>,
    /// Idle sessions that several processes hold.
    pub(crate) fleet: usize,
    pub(crate) svg: Option<PathBuf>,
    pub(crate) report: Option<PathBuf>,
    pub(crate) binary: PathBuf,
}

/// A part of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Throughput,
    Lines,
    Subjects,
    Latency,
    Requests,
    Connects,
    Idle,
    Publishers,
    FanOut,
    Storm,
    /// Many sessions, busy ones, subscriptions: not of the usual run.
    Scale,
    /// More sessions than one process can hold: likewise.
    Fleet,
}

impl Part {
    const ALL: [(&str, Self); 12] = [
        ("throughput", Self::Throughput),
        ("lines", Self::Lines),
        ("subjects", Self::Subjects),
        ("latency", Self::Latency),
        ("requests", Self::Requests),
        ("connects", Self::Connects),
        ("idle", Self::Idle),
        ("publishers", Self::Publishers),
        ("fan-out", Self::FanOut),
        ("storm", Self::Storm),
        ("scale", Self::Scale),
        ("fleet", Self::Fleet),
    ];

    fn usual() -> Vec<Self> {
        let parts = Self::ALL.into_iter().map(|(_, part)| part);
        parts
            .filter(|part| !matches!(part, Self::Scale | Self::Fleet))
            .collect()
    }

    fn named(name: &str) -> Result<Self> {
        let part = Self::ALL.into_iter().find(|(known, _)| *known == name);
        Ok(part.context("no such part")?.1)
    }
}

impl Options {
    fn usual() -> Self {
        Self {
            rounds: 5,
            cell: Duration::from_millis(500),
            sizes: vec![16, 128, 1024, 16_384, 262_144, 1_048_576],
            contenders: CONTENDERS.map(str::to_owned).to_vec(),
            everybody: false,
            parts: Part::usual(),
            storm_clients: 10_000,
            storms: STORMS,
            report: None,
            idle_sessions: 2_000,
            scale: vec![1_000, 10_000, 50_000],
            fleet: 50_000,
            svg: None,
            binary: env!("CARGO_BIN_EXE_natsentry").into(),
        }
    }

    /// Everything once and as short as it can be, for a test of the harness itself.
    pub(crate) fn smallest(contenders: &[&str]) -> Self {
        Self {
            rounds: 1,
            storms: 1,
            cell: Duration::from_millis(25),
            sizes: vec![128],
            contenders: contenders.iter().map(|name| (*name).to_owned()).collect(),
            everybody: true,
            idle_sessions: 10,
            storm_clients: 50,
            ..Self::usual()
        }
    }

    /// Reads the command line; none when help was asked for.
    pub(crate) fn read(words: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self::usual();
        let (mut full, mut cell, mut storms) = (false, None, None);
        let mut words = words.into_iter();
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
                "--full" => {
                    full = true;
                    options.everybody = true;
                    options.cell = Duration::from_secs(2);
                }
                "--quick" => {
                    options.rounds = 1;
                    options.cell = Duration::from_millis(200);
                    options.sizes = vec![128, 16_384];
                    options.idle_sessions = 500;
                    options.storm_clients = 500;
                    options.contenders = QUICK.map(str::to_owned).to_vec();
                }
                "--rounds" => options.rounds = positive(&value()?)?,
                "--seconds" => cell = Some(Duration::try_from_secs_f64(value()?.parse()?)?),
                "--sizes" => options.sizes = list(&value()?, |size| Ok(size.parse()?))?,
                "--contenders" => {
                    options.contenders = list(&value()?, contender)?;
                    options.everybody = true;
                }
                "--only" => options.parts = list(&value()?, Part::named)?,
                "--idle" => options.idle_sessions = positive(&value()?)?,
                "--scale" => options.scale = list(&value()?, |count| Ok(count.parse()?))?,
                "--fleet" => options.fleet = positive(&value()?)?,
                "--binary" => options.binary = value()?.into(),
                "--storm" => options.storm_clients = positive(&value()?)?,
                "--storms" => storms = Some(positive(&value()?)?),
                "--report" => options.report = Some(value()?.into()),
                "--svg" => options.svg = Some(value()?.into()),
                _ => bail!("unknown option {word}\n{HELP}"),
            }
        }
        options.cell = cell.unwrap_or(options.cell);
        let usual = if full { options.rounds } else { STORMS };
        options.storms = storms.unwrap_or(usual.min(options.rounds));
        Ok(Some(options))
    }

    pub(crate) fn wants(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// The run before a figure is taken.
    pub(crate) fn warm_up(&self) -> Duration {
        (self.cell / 4).min(Duration::from_millis(500))
    }
}

fn list<T>(text: &str, read: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    text.split(',')
        .map(|item| read(item).with_context(|| format!("{item:?}")))
        .collect()
}

fn positive(text: &str) -> Result<usize> {
    let count = text.parse().with_context(|| format!("{text:?}"))?;
    if count == 0 {
        bail!("0 of it would measure nothing");
    }
    Ok(count)
}

fn contender(name: &str) -> Result<String> {
    if !CONTENDERS
        .iter()
        .chain(&BESIDES)
        .any(|known| *known == name)
    {
        bail!("no contender is called so");
    }
    Ok(name.to_owned())
}

pub(crate) const CONTENDERS: [&str; 10] = [
    "direct",
    "haproxy",
    "nginx",
    "envoy",
    "bare",
    "natsentry",
    "natsentry-typical",
    "natsentry-filter",
    "haproxy-tls",
    "natsentry-tls",
];

/// Those of the part `scale`.
const BESIDES: [&str; 2] = ["natsentry-roles", "natsentry-patterns"];

const QUICK: [&str; 4] = ["direct", "haproxy", "bare", "natsentry"];

const STORMS: usize = 3;
