//! The table of operations, client libraries and server versions: run, compared with the server alone, and written.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::driver::{self, Mode};
use crate::estate::{self, Expected};
use crate::program::Client;
use crate::report::Report;
use crate::servers::Server;
use crate::target::Target;
use crate::{HOUR, SHORT};

/// Where the table is, from the root of the repository.
const TABLE: &str = "tests/matrix/README.md";

/// Runs at a time: most of their time is spent waiting.
const WORKERS: usize = 6;

/// Longer than a short token and a grace period of ten seconds, which servers before 2.2 always have.
const LATE: Duration = Duration::from_secs(30);

/// Why an operation goes otherwise through natsentry than with the server alone: client, operation, reason.
const REASONS: &[(Client, &str, &str)] = &[];

/// How one operation went, compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    /// Through natsentry as with the server alone.
    Ok,
    /// Neither way: the server is older than the operation.
    NotInThisServer,
    /// Only natsentry does it.
    OnlyNatsentry,
    /// The client has no way to do it.
    NotInThisClient,
    /// Not run, and why.
    NotRun(String),
    /// It works with the server alone, and not so through natsentry.
    Differs(String),
}

/// One row: heading, mode of the run through natsentry, operation.
type Row = (String, Mode, &'static str);

/// What is compared, in the order of the table.
fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = vec![
        (
            "connect with a token".to_owned(),
            Mode::Permitted,
            "connect",
        ),
        (
            "connect with a password".to_owned(),
            Mode::Password,
            "connect",
        ),
        ("connect over TLS".to_owned(), Mode::Tls, "connect"),
        (
            "publish and subscribe over TLS".to_owned(),
            Mode::Tls,
            "publish_subscribe",
        ),
    ];
    let named = estate::PERMITTED.iter().filter(|op| **op != "connect");
    rows.extend(named.map(|op| (op.replace('_', " "), Mode::Permitted, *op)));
    rows.push((
        "reconnect after lame duck".to_owned(),
        Mode::LameDuck,
        "reconnect",
    ));
    rows.push((
        "reconnect at the end of the token".to_owned(),
        Mode::Expiring,
        "reconnect",
    ));
    let refused = estate::REFUSED.iter().filter(|(op, _)| *op != "connect");
    rows.extend(refused.map(|(op, expected)| {
        let denied = !matches!(expected, Expected::Nothing);
        let word = op.replace('_', " ");
        (
            if denied {
                format!("denied: {word}")
            } else {
                format!("after denials: {word}")
            },
            Mode::Refused,
            *op,
        )
    }));
    rows
}

type Key = (Client, Server);
type Reports = BTreeMap<(&'static str, &'static str), Report>;

/// Runs every client on the servers that `chosen` names (`full`, or versions with commas between them), and writes the
/// table of everything that was ever kept. Panics where something differs without a reason.
pub fn run_and_write(chosen: &str) {
    let wanted = |server: &Server| {
        chosen == "full" || chosen.split(',').any(|version| version == server.as_str())
    };
    let mut queue = VecDeque::new();
    for server in Server::ALL.into_iter().rev().filter(wanted) {
        queue.extend(Client::ALL.map(|client| (client, server)));
    }
    let (queue, absent) = (Mutex::new(queue), Mutex::new(BTreeMap::new()));
    let next = || queue.lock().expect("no panic while held").pop_front();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(key) = next() {
                    match one(key.0, key.1) {
                        Ok(()) => println!("{} on {}: run", key.0, key.1),
                        Err(why) => {
                            println!("{} on {}: not run: {why}", key.0, key.1);
                            absent.lock().expect("no panic while held").insert(key, why);
                        }
                    }
                }
            });
        }
    });
    let mut done = Done::new();
    for key in Client::ALL
        .iter()
        .flat_map(|client| Server::ALL.map(|server| (*client, server)))
    {
        let reports = load(key);
        let why = || absent.lock().expect("no panic while held").remove(&key);
        let result = if reports.is_empty() {
            Err(why().unwrap_or_else(|| "left out".to_owned()))
        } else {
            Ok(reports)
        };
        done.insert(key, result);
    }
    write(&done);
}

type Done = BTreeMap<Key, Result<Reports, String>>;

fn load((client, server): Key) -> Reports {
    let (client, server) = (client.to_string(), server.to_string());
    let mut reports = Reports::new();
    for mode in MODES {
        for (short, route) in [("direct", "direct, role"), ("natsentry", "natsentry")] {
            let report = Report::load(&client, &server, route, word(mode));
            reports.extend(report.map(|report| ((word(mode), short), report)));
        }
    }
    reports
}

fn write(done: &Done) {
    let cells = |row: &Row, key: &Key| match &done[key] {
        Ok(reports) => cell(row, key, reports),
        Err(why) => Cell::NotRun(why.clone()),
    };
    let file = root().join(TABLE);
    fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    fs::write(&file, render(&cells, done)).expect("the table can be written");
    let mut unexplained = Vec::new();
    for row in rows() {
        for key in done.keys() {
            if let Cell::Differs(detail) = cells(&row, key)
                && reason(key.0, row.2).is_none()
            {
                unexplained.push(format!("{} on {}: {}: {detail}", key.0, key.1, row.0));
            }
        }
    }
    assert!(
        unexplained.is_empty(),
        "without a reason:\n{}",
        unexplained.join("\n")
    );
}

/// Runs one client on one server in every way.
fn one(client: Client, server: Server) -> Result<(), String> {
    server.binary().map_err(str::to_owned)?;
    let run = |mode: Mode, target: &dyn Fn() -> Target| -> Result<(), String> {
        // One client that hangs must not cost the others their rows.
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let mut target = target();
            if matches!(mode, Mode::Expiring | Mode::LameDuck) {
                // These wait for an end that comes when it comes.
                target.place.patience = target.place.patience.max(LATE);
            }
            driver::run(client, &target, mode)
        }));
        match ran {
            Ok(None) => Err("its toolchain is not on this machine".to_owned()),
            Ok(Some(_)) | Err(_) => Ok(()),
        }
    };
    run(Mode::Permitted, &|| Target::role(server))?;
    run(Mode::Permitted, &|| Target::proxied(server, HOUR))?;
    run(Mode::Refused, &|| Target::role(server))?;
    run(Mode::Refused, &|| Target::proxied(server, HOUR))?;
    run(Mode::Password, &|| Target::role(server))?;
    run(Mode::Password, &|| Target::proxied_by_password(server))?;
    run(Mode::Tls, &|| Target::tls(server, false))?;
    run(Mode::Tls, &|| Target::tls(server, true))?;
    if client != Client::NatsCli {
        run(Mode::LameDuck, &|| Target::of_two(server, false))?;
        run(Mode::LameDuck, &|| Target::of_two(server, true))?;
        run(Mode::Expiring, &|| Target::proxied(server, SHORT))?;
    }
    Ok(())
}

const MODES: [Mode; 6] = [
    Mode::Permitted,
    Mode::Refused,
    Mode::Expiring,
    Mode::LameDuck,
    Mode::Password,
    Mode::Tls,
];

const fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Permitted => "permitted",
        Mode::Refused => "refused",
        Mode::Expiring => "expiring",
        Mode::LameDuck => "lame duck",
        Mode::Password => "password",
        Mode::Tls => "TLS",
    }
}

fn cell((_, mode, op): &Row, (client, _): &Key, reports: &Reports) -> Cell {
    let cannot = *client == Client::NatsCli && matches!(mode, Mode::LameDuck | Mode::Expiring);
    if client.lacks(op) || cannot {
        return Cell::NotInThisClient;
    }
    let expected = mode
        .expected()
        .into_iter()
        .find(|(name, _)| name == op)
        .map_or(&Expected::Nothing, |(_, text)| text);
    let fault_of = |route| match reports.get(&(word(*mode), route)) {
        None => Some("the run did not end".to_owned()),
        Some(report) => driver::fault(*client, expected, report.line(op)),
    };
    let through = fault_of("natsentry");
    let direct = if *mode == Mode::Expiring {
        None
    } else {
        fault_of("direct")
    };
    match (direct, through) {
        (None, None) => Cell::Ok,
        (Some(_), None) => Cell::OnlyNatsentry,
        (Some(_), Some(_)) => Cell::NotInThisServer,
        (None, Some(detail)) => Cell::Differs(detail),
    }
}

fn reason(client: Client, op: &str) -> Option<&'static str> {
    let found = REASONS
        .iter()
        .find(|(known, name, _)| *known == client && *name == op);
    found.map(|(_, _, reason)| *reason)
}

/// One cell for all servers: `ok`, and for which of them it is something else.
fn grouped(client: Client, row: &Row, cells: &dyn Fn(&Row, &Key) -> Cell) -> String {
    let mut by_text: Vec<(String, Vec<Server>)> = Vec::new();
    for server in Server::ALL.into_iter().rev() {
        let text = match cells(row, &(client, server)) {
            Cell::Ok => "ok".to_owned(),
            Cell::NotInThisServer => "not in this server".to_owned(),
            Cell::OnlyNatsentry => "only through natsentry".to_owned(),
            Cell::NotInThisClient => "not in this client".to_owned(),
            Cell::NotRun(why) => format!("not run ({why})"),
            Cell::Differs(_) => format!(
                "**differs**: {}",
                reason(client, row.2).unwrap_or("no reason is known")
            ),
        };
        match by_text.iter_mut().find(|(known, _)| *known == text) {
            Some((_, servers)) => servers.insert(0, server),
            None => by_text.push((text, vec![server])),
        }
    }
    if let [(text, _)] = by_text.as_slice() {
        return text.clone();
    }
    let texts = by_text.into_iter().map(|(text, servers)| {
        if text == "ok" && servers.last() == Server::ALL.last() {
            return format!("ok from {}", servers[0]);
        }
        let names: Vec<&str> = servers.iter().map(|server| server.as_str()).collect();
        format!("{}: {text}", names.join(", "))
    });
    texts.collect::<Vec<_>>().join("; ")
}

fn render(cells: &dyn Fn(&Row, &Key) -> Cell, done: &Done) -> String {
    let mut text = String::from(HEAD);
    let servers: Vec<String> = Server::ALL.iter().map(Server::to_string).collect();
    writeln!(text, "Servers: {}.\n", servers.join(", ")).ok();
    let heading = |text: &mut String, first: &str| {
        write!(text, "| {first} |").ok();
        for client in Client::ALL {
            write!(text, " {client} |").ok();
        }
        write!(text, "\n|---|{}\n", "---|".repeat(Client::ALL.len())).ok();
    };
    heading(&mut text, "operation");
    for row in rows() {
        write!(text, "| {} |", row.0).ok();
        for client in Client::ALL {
            write!(text, " {} |", grouped(client, &row, cells)).ok();
        }
        text.push('\n');
    }
    text.push_str(REPORTED);
    heading(&mut text, "denied");
    for op in ["publish", "subscribe", "request_reply"] {
        write!(text, "| {} |", op.replace('_', " ")).ok();
        for client in Client::ALL {
            let reports = done
                .get(&(client, Server::V2_15_1))
                .and_then(|reports| reports.as_ref().ok());
            let line = reports
                .and_then(|reports| reports.get(&("refused", "natsentry"))?.line(op).cloned());
            let said = line.map_or_else(String::new, |line| {
                line.detail.replace('|', "/").replace('\n', " ")
            });
            write!(text, " {} |", said.chars().take(140).collect::<String>()).ok();
        }
        text.push('\n');
    }
    text
}

const HEAD: &str = "# Operations, client libraries, server versions

Written by `NATSENTRY_MATRIX=full cargo test --locked --test clients the_table`, which runs all of it; never by hand.

Every operation is run against nats-server itself, whose own user has the permissions of the role, and through natsentry
in front of a server of the same version. `ok`: both do the same, and where an operation is denied, both clients see the
server's own text. `not in this server`: it fails both ways, since the server is older than the operation.
`only through natsentry`: what natsentry adds. `not in this client`: the client has no way to do it.

The servers before 2.9 are built by Go from the module proxy, 2.9.10 is Debian 12's package, the others are wheels of
PyPI. 2.3 to 2.8 are in no registry but Go's; 2.13 is no release.

";

const REPORTED: &str = "
## How each client reports a denial, and what the call that was denied came to

On nats-server 2.15.1 through natsentry; the texts with the server alone are the same.

";

/// Whether the committed table has every row, every client and every server, so that nobody adds one and forgets it.
pub fn names_everything() {
    let file = root().join(TABLE);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{TABLE}: {error}"));
    for (name, _, _) in rows() {
        assert!(
            text.contains(&format!("\n| {name} |")),
            "{TABLE} has no row `{name}`: run it anew"
        );
    }
    for name in Client::ALL
        .map(|client| client.to_string())
        .into_iter()
        .chain(Server::ALL.map(|server| server.to_string()))
    {
        assert!(
            text.contains(&name),
            "{TABLE} does not name {name}: run it anew"
        );
    }
    assert!(
        !text.contains("no reason is known"),
        "{TABLE} has a difference without a reason"
    );
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}
