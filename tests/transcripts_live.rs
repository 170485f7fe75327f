//! Plays the transcripts marked `# real:` against real nats-servers whose own permissions say what the policy of the file
//! says, and compares what the client receives: the server is the judge of the expectations.
#![cfg(feature = "demo")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test"
)]

#[path = "transcripts/frames.rs"]
mod frames;
#[path = "transcripts/live.rs"]
mod live;
#[path = "transcripts/pattern.rs"]
mod pattern;
#[path = "transcripts/script.rs"]
mod script;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use natsentry::demo::servers::{NatsServer, Version, find_or_install};
use script::{Real, Script};

/// The oldest server that is promised, and the newest.
const VERSIONS: [Version; 2] = [Version::V2_9_10, Version::V2_15_1];

fn real_scripts() -> Vec<Script> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-fixtures");
    let scripts = script::all(&folder).into_iter().map(|path| {
        let name = path.strip_prefix(&folder).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        Script::parse(&name, &text)
            .unwrap_or_else(|mistake| panic!("{name}:{}: {}", mistake.line, mistake.message))
    });
    scripts.filter(|script| script.real != Real::No).collect()
}

#[test]
fn real_servers_answer_as_the_transcripts_say() {
    let scripts = real_scripts();
    assert!(scripts.len() >= 100, "only {} transcripts are marked real", scripts.len());
    let mut failures = Vec::new();
    let mut played = 0;
    for version in VERSIONS.into_iter().filter(|version| version.is_offered_here()) {
        let binary = find_or_install(version).unwrap_or_else(|error| panic!("{error}"));
        let mut groups: BTreeMap<String, Vec<&Script>> = BTreeMap::new();
        for script in scripts.iter().filter(|script| script.real.is_for(version.as_str())) {
            groups.entry(format!("{:?}", script.setup.limits)).or_default().push(script);
        }
        for group in groups.values() {
            let server = NatsServer::start(&binary, &live::configuration(group))
                .unwrap_or_else(|error| panic!("{error}"));
            let mut publisher = live::Publisher::connect(server.address());
            for (index, script) in group.iter().enumerate() {
                played += 1;
                if let Err(report) = live::play(server.address(), index, script, &mut publisher) {
                    failures.push(format!("{} against {version}: {report}", script.name));
                }
            }
        }
    }
    let failed = failures.len();
    assert!(failures.is_empty(), "{failed} of {played} fail\n\n{}", failures.join("\n"));
}
