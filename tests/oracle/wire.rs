//! Scripts played to a real server whose users have the permissions, and through natsentry, whose roles are the same, to a
//! server whose users may do everything.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use natsentry::demo::idp::{DevIdp, TokenRequest};
use natsentry::demo::servers::{NatsServer, Version};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use super::author;
use super::compare::compare;
use super::differences::Difference;
use super::model::Ways;
use super::plan::Plan;
use super::player::{Peer, Side, Transcript, play};
use super::random::Random;
use super::rules::{OID, Rules};
use super::script::Script;
use super::support;
use super::support::proxy::{self, Proxy, Setup};

/// Accounts, each with a script of its own at a time.
const LANES: usize = 4;

/// Sets of permissions in each account of one batch.
const SETS: usize = 40;

/// Scripts for each set.
const SCRIPTS: usize = 5;

/// How long a failure may be made smaller.
const SHRINKING: Duration = Duration::from_secs(60);

/// What else a run needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) version: Version,
    pub(crate) scripts: u64,
    pub(crate) time: Duration,
    /// Leaves a deny entry out of natsentry's roles, to see whether that is found. Nothing is counted then.
    pub(crate) planted: bool,
}

/// One script under one set of permissions.
#[derive(Clone, Debug)]
struct Case {
    rules: Rules,
    script: Script,
}

/// What stays for a whole run.
struct Ground {
    runtime: Runtime,
    idp: DevIdp,
    /// The server behind natsentry: a user for each lane that may do everything, in an account of its own.
    open: NatsServer,
}

/// A server and a natsentry for some sets of permissions in each lane.
struct Stage {
    judge: NatsServer,
    natsentry: Proxy,
}

impl Ground {
    fn new(version: Version) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let idp = runtime.block_on(proxy::idp());
        let accounts: Map<String, Value> = (0..LANES)
            .map(|lane| {
                let user = json!({ "user": format!("svc{lane}"), "password": PASSWORD });
                (format!("A{lane}"), json!({ "users": [user] }))
            })
            .collect();
        let open = support::servers::start(version, &server_config(&accounts));
        Self { runtime, idp, open }
    }

    fn stage(&self, run: Run, sets: &[Vec<Rules>]) -> Stage {
        let mut accounts = Map::new();
        let mut roles = Map::new();
        for (lane, sets) in sets.iter().enumerate() {
            let mut users = vec![json!({ "user": format!("svc{lane}"), "password": PASSWORD })];
            for (set, rules) in sets.iter().enumerate() {
                let permissions = rules.for_server().permissions();
                users.push(json!({ "user": format!("u{set}"), "password": PASSWORD, "permissions": permissions }));
                if let Some(users) = users.last_mut() {
                    users["user"] = json!(format!("u{lane}x{set}"));
                }
                let mut given = rules.clone();
                if run.planted {
                    given.deny_publish.retain(|entry| entry != "a.*");
                    given.deny_subscribe.retain(|(entry, _)| entry != "a.*");
                    if !given.is_written() {
                        given = rules.clone();
                    }
                }
                roles.extend(given.roles(&format!("R{lane}x{set}"), &format!("lane{lane}")));
            }
            accounts.insert(format!("A{lane}"), json!({ "users": users }));
        }
        let judge = support::servers::start(run.version, &server_config(&accounts));
        let port = self.open.port();
        let mut setup = Setup::to(port).roles(&format!("roles: {}\n", Value::Object(roles)));
        // On a machine with much else to do nobody is cut off for being late.
        setup = setup.more("limits: { handshake: 60s, dial: 60s, write_deadline: 600s }\n");
        setup.auth = "{ user: svc0, password: file:password }".to_owned();
        for lane in 0..LANES {
            let auth = format!("{{ user: svc{lane}, password: file:password }}");
            let upstream = format!(
                "  lane{lane}:\n    servers: [\"nats://127.0.0.1:{port}\"]\n    auth: {auth}\n"
            );
            setup.upstream.push_str(&upstream);
        }
        let natsentry = self.runtime.block_on(Proxy::start(&self.idp, &setup));
        Stage { judge, natsentry }
    }

    /// A token for whoever has a set of permissions.
    fn token(&self, lane: usize, set: usize, oid: &str) -> Map<String, Value> {
        let request = TokenRequest::of("historian")
            .claim("oid", oid)
            .claim("sub", oid)
            .claim("roles", json!([format!("R{lane}x{set}")]));
        let token = self.idp.mint(&request).expect("a token");
        credentials("auth_token", &token, "name", "oracle")
    }
}

/// A server with these accounts that cuts nobody off for being late.
fn server_config(accounts: &Map<String, Value>) -> String {
    json!({ "accounts": accounts, "authorization": { "timeout": 60 }, "write_deadline": "600s" })
        .to_string()
}

/// The password of the test's servers, as the helper writes it into a file.
const PASSWORD: &str = "correct horse battery";

fn credentials(first: &str, one: &str, second: &str, two: &str) -> Map<String, Value> {
    [(first, one), (second, two)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect()
}

/// Both sides of one lane.
struct Lane<'a> {
    ground: &'a Ground,
    stage: &'a Stage,
    lane: usize,
    version: Version,
    peers: [Peer; 2],
}

/// What both sides showed.
struct Shown {
    plan: Plan,
    transcripts: [Transcript; 2],
}

impl<'a> Lane<'a> {
    fn new(ground: &'a Ground, stage: &'a Stage, lane: usize, version: Version) -> Self {
        let user = format!("svc{lane}");
        let peer = |address| Peer::connect(address, &user, PASSWORD);
        let peers = [peer(stage.judge.address()), peer(ground.open.address())];
        Self {
            ground,
            stage,
            lane,
            version,
            peers,
        }
    }

    fn sides(&self, set: usize) -> [Side; 2] {
        let lane = self.lane;
        let somebody = "bbbbbbbb-0000-4000-8000-00000000beef";
        [
            Side {
                address: self.stage.judge.address(),
                credentials: [
                    credentials("user", &format!("u{lane}x{set}"), "pass", PASSWORD),
                    credentials("user", &format!("svc{lane}"), "pass", PASSWORD),
                ],
                is_server: true,
            },
            Side {
                address: self.stage.natsentry.address,
                credentials: [
                    self.ground.token(lane, set, OID),
                    self.ground.token(lane, set, somebody),
                ],
                is_server: false,
            },
        ]
    }

    fn show(&mut self, sides: &[Side; 2], case: &Case) -> Shown {
        let plan = Plan::new(&case.rules, &case.script, self.version);
        let [server, natsentry] = &mut self.peers;
        let transcripts = [
            play(&sides[0], server, &case.script, &plan),
            play(&sides[1], natsentry, &case.script, &plan),
        ];
        Shown { plan, transcripts }
    }

    fn judge(
        &mut self,
        sides: &[Side; 2],
        case: &Case,
    ) -> Result<Vec<Difference>, (String, Shown)> {
        let shown = self.show(sides, case);
        let [server, found] = &shown.transcripts;
        let ways = Ways::of(self.version);
        compare(
            &case.rules,
            &case.script,
            &shown.plan,
            [server, found],
            ways,
        )
        .map_err(|text| (text, shown))
    }
}

/// Plays until there were enough scripts or the time is over. How many there were, or the first unexplained difference.
pub(crate) fn run(run: Run) -> Result<u64, String> {
    let ground = Ground::new(run.version);
    let started = Instant::now();
    let played = AtomicU64::new(0);
    let mut told = Duration::from_secs(60);
    for batch in 0_u64.. {
        if played.load(Ordering::Relaxed) >= run.scripts || started.elapsed() > run.time {
            break;
        }
        let mut random = Random::for_case(run.seed, ("wire", run.version.as_str(), batch));
        let sets: Vec<Vec<Rules>> = (0..LANES)
            .map(|_| (0..SETS).map(|_| Rules::random(&mut random)).collect())
            .collect();
        let stage = ground.stage(run, &sets);
        let failure: Mutex<Option<(Case, String)>> = Mutex::default();
        std::thread::scope(|scope| {
            for (lane, sets) in sets.iter().enumerate() {
                let (ground, stage, failure, played) = (&ground, &stage, &failure, &played);
                scope.spawn(move || {
                    let mut player = Lane::new(ground, stage, lane, run.version);
                    for (set, rules) in sets.iter().enumerate() {
                        let sides = player.sides(set);
                        for number in 0..SCRIPTS {
                            let over = started.elapsed() > run.time
                                || played.load(Ordering::Relaxed) >= run.scripts
                                || failure.lock().expect("no panic").is_some();
                            if over {
                                return;
                            }
                            let place = ("script", run.version.as_str(), batch, lane, set, number);
                            let script =
                                author::script(&mut Random::for_case(run.seed, place), rules);
                            let case = Case {
                                rules: rules.clone(),
                                script,
                            };
                            match player.judge(&sides, &case) {
                                Ok(_) if run.planted => {}
                                Ok(seen) => seen.into_iter().for_each(Difference::seen),
                                Err((text, shown)) => {
                                    let text =
                                        report(run, &case, &text, &shown, &format!("{place:?}"));
                                    failure
                                        .lock()
                                        .expect("no panic")
                                        .get_or_insert((case, text));
                                }
                            }
                            played.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        drop(ground.runtime.block_on(stage.natsentry.stop()));
        if let Some((case, text)) = failure.into_inner().expect("no panic") {
            return Err(format!("{text}\n{}", shrunk(&ground, run, case)));
        }
        if started.elapsed() > told {
            told = started.elapsed() + Duration::from_secs(60);
            eprintln!(
                "{} scripts after {:?}",
                played.load(Ordering::Relaxed),
                started.elapsed()
            );
        }
    }
    Ok(played.into_inner())
}

/// The smallest case found in time that still differs, with all there is to know about it.
fn shrunk(ground: &Ground, run: Run, mut case: Case) -> String {
    let started = Instant::now();
    let mut text = "it did not differ again by itself".to_owned();
    let differs = |case: &Case| {
        let stage = ground.stage(run, &[vec![case.rules.clone()]]);
        let result = {
            let mut player = Lane::new(ground, &stage, 0, run.version);
            let sides = player.sides(0);
            player
                .judge(&sides, case)
                .err()
                .map(|(text, shown)| report(run, case, &text, &shown, "shrunk"))
        };
        drop(ground.runtime.block_on(stage.natsentry.stop()));
        result
    };
    // What was planted is known.
    let time = if run.planted {
        SHRINKING / 6
    } else {
        SHRINKING
    };
    'smaller: while started.elapsed() < time {
        let scripts = case.script.shorter().into_iter();
        let scripts = scripts.map(|script| Case {
            script,
            ..case.clone()
        });
        let rules = case.rules.simpler().into_iter().map(|rules| Case {
            rules,
            ..case.clone()
        });
        for copy in scripts.chain(rules) {
            if started.elapsed() > time {
                break;
            }
            if let Some(report) = differs(&copy) {
                (case, text) = (copy, report);
                continue 'smaller;
            }
        }
        break;
    }
    text
}

fn report(run: Run, case: &Case, text: &str, shown: &Shown, place: &str) -> String {
    let [server, found] = &shown.transcripts;
    format!(
        "nats-server {}, seed {}, {place}: {text}\n{:#?}\n{}parts: {:?}\nthe server:\n{}natsentry:\n{}",
        run.version,
        run.seed,
        case.rules,
        case.script.show(),
        shown.plan.parts,
        server.show(),
        found.show()
    )
}
