//! The whole corpus of hostile tokens and of controls, sent the way clients send them: through CONNECT of real proxies,
//! before a real server. What the client sees, what the audit says, and that nobody was asked anything.

mod scenes;
pub(crate) mod world;

use std::collections::BTreeMap;

use natsentry::clock;
use natsentry::demo::idp::forge::{Corpus, Listener, Row};

use world::{Heard, World};

/// Which of the proxies a row is for: the first letters of what is special about its listener.
fn proxy_of(listener: &Listener) -> &'static str {
    match listener {
        Listener { v1: false, .. } => "v2-only",
        Listener { users: false, .. } => "apps",
        Listener {
            id_tokens: true, ..
        } => "id-tokens",
        Listener { scope: Some(_), .. } => "scope",
        Listener {
            thumbprint: Some(_),
            ..
        } => "certificate",
        _ => "usual",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_corpus_gets_its_verdict_and_its_code_through_connect() {
    let mut world = World::new().await;
    let corpus = world.corpus();
    let fetches = world.fetches();
    let upstream_before = world.upstream_sessions();
    let mut expected: BTreeMap<String, Expected> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut unknown_kids = 0_u64;

    for row in &corpus.tokens {
        // Its metadata is at an address of Microsoft's; the gate itself is shown these rows in `tests/tokens.rs`.
        if row.issuer.as_deref() == Some("usgov") {
            continue;
        }
        let mut name = proxy_of(&row.listener).to_owned();
        if row.code.as_deref() == Some("key.unknown") {
            // Two unknown names may cause a fetch; the third is "not now". Each of these is to be the first.
            name = format!("{name}-{}", unknown_kids / 2);
            unknown_kids += 1;
        }
        let token = world.forge.token(row, clock::now()).expect("a token");
        let (from, heard) = world.connect(&name, &connect(&token)).await;
        let wanted = Expected::of(row, &token);
        if heard != wanted.heard {
            wrong.push(format!("{} ({}): {heard:?}", row.row, row.what));
        }
        expected.insert(from, wanted);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let asked = world.fetches().since(&fetches);
    assert!(
        asked.0 <= world.started_sources() + unknown_kids && asked.1 <= asked.0,
        "only unknown names cause fetches, one each: {asked:?}"
    );
    let admitted = expected.values().filter(|e| e.heard == Heard::Admitted);
    assert_eq!(
        world.upstream_sessions() - upstream_before,
        admitted.count(),
        "nobody who was refused reached the server"
    );

    scenes::play_all(&mut world, &corpus, &mut expected).await;
    world.nobody_was_trapped();
    check_audit(&world.audit().await, &expected);
    println!(
        "{} rows of one token, {} scenes",
        corpus.tokens.len(),
        corpus.scenes.len()
    );
}

/// What a row must have come to.
struct Expected {
    row: String,
    heard: Heard,
    /// Reason in the audit; none for who is admitted.
    reason: Option<String>,
}

impl Expected {
    fn of(row: &Row, token: &[u8]) -> Self {
        let code = row.policy.as_deref().or(row.code.as_deref());
        // An empty token is no token, which has its own code.
        let code = code.map(|code| {
            if token.is_empty() {
                "connect.no_token"
            } else {
                code
            }
        });
        Self {
            row: row.row.clone(),
            heard: if code.is_some() {
                Heard::Refused
            } else {
                Heard::Admitted
            },
            reason: code.map(str::to_owned),
        }
    }
}

/// Each client has an address of its own, so that its line is found by it and none is left out by sampling.
fn check_audit(audit: &[serde_json::Value], expected: &BTreeMap<String, Expected>) {
    let mut lines: BTreeMap<&str, Vec<&serde_json::Value>> = BTreeMap::new();
    for line in audit {
        let client = line["client"].as_str().unwrap_or_default();
        let address = client.rsplit_once(':').map_or("", |(address, _)| address);
        lines.entry(address).or_default().push(line);
    }
    let mut wrong = Vec::new();
    for (address, wanted) in expected {
        let of_client = lines.remove(address.as_str()).unwrap_or_default();
        let refused = of_client
            .iter()
            .find(|line| line["event"] == "refused" || line["event"] == "postponed");
        let said = refused.map(|line| line["reason"].as_str().unwrap_or_default());
        let decided =
            |line: &&&serde_json::Value| line["decision"].as_str().is_some_and(|id| !id.is_empty());
        let fits = match (&wanted.reason, &wanted.heard) {
            (None, _) => of_client.iter().any(|line| line["event"] == "connected"),
            (Some(reason), Heard::Silence) if said.is_none() => of_client
                .iter()
                .any(|line| line["event"] == "closed" && line["reason"] == **reason),
            (Some(reason), heard) => {
                let later = *heard == Heard::Silence;
                let verdict = if later { "not_now" } else { "refuse" };
                said == Some(reason)
                    && refused.filter(decided).is_some_and(|line| {
                        line["verdict"] == verdict
                            && line["detail"].as_str().is_some_and(|text| text.len() > 10)
                    })
            }
        };
        if !fits {
            wrong.push(format!(
                "{}: wanted {:?}, audit has {of_client:?}",
                wanted.row, wanted.reason
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn connect(token: &[u8]) -> String {
    let document = serde_json::json!({
        "verbose": false, "pedantic": false, "protocol": 1, "lang": "test", "version": "1",
        "auth_token": String::from_utf8_lossy(token),
    });
    format!("CONNECT {document}\r\nPING\r\n")
}

#[test]
fn every_row_of_the_table_is_there() {
    let corpus: Corpus = serde_json::from_str(world::CORPUS).expect("the corpus");
    let number = |row: &str| {
        row.trim_end_matches(|c: char| c.is_ascii_lowercase())
            .parse::<u32>()
            .ok()
    };
    let rows = corpus.tokens.iter().map(|row| &row.row);
    let rows: Vec<u32> = rows
        .chain(corpus.scenes.iter().map(|scene| &scene.row))
        .filter_map(|row| number(row))
        .collect();
    let missing: Vec<u32> = (1..=80).filter(|row| !rows.contains(row)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
