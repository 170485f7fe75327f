//! The file of locks: restarts, hands, damage, many commands at once.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use natsentry::demo::servers::Version;
use serde_json::{Value, json};

use crate::support::cli::{natsentry, run};
use crate::support::proxy;
use crate::support::servers;
use crate::support::until::until;
use crate::support::wire::PATIENCE;
use crate::world::{CUT, REFUSED, World, audit, configuration, rest, run_in};

const ALICE: &str = "aaaaaaaa-0000-4000-8000-000000000001";

fn events(dir: &Path, event: &str) -> usize {
    audit(dir)
        .iter()
        .filter(|line| line["event"] == event)
        .count()
}

/// The rows that `lock list` prints as JSON.
async fn listed(dir: &Path) -> Vec<Value> {
    let ran = run_in(dir, &["lock", "list", "-o", "json"]).await;
    let said: Value = serde_json::from_str(&ran.out).expect("JSON");
    said["locks"].as_array().expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_outlives_the_process_and_holds_in_every_one_that_reads_the_file() {
    let shared = tempfile::tempdir().expect("a folder");
    let file = shared.path().join("locks.json");
    let place = |configuration: &mut Value| {
        configuration["locks"] = json!({ "file": file });
    };
    let one = World::with(
        proxy::idp().await,
        servers::start(Version::V2_15_1, ""),
        place,
    )
    .await;
    one.command(&["lock", "--oid", ALICE]).await;
    let World { idp, nats, proxy } = one;
    drop(proxy);
    let other = World::with(idp, nats, place).await;
    let token = other.token("alice");
    assert_eq!(other.connect(&token).await, [REFUSED]);
    until("the audit line of the start", 3 * PATIENCE, || {
        events(other.dir(), "locked") == 1
    })
    .await;
    let World { idp, nats, proxy } = other;
    let third = World::with(idp, nats, place).await;
    assert_eq!(third.connect(&token).await, [REFUSED]);
    third.command(&["unlock", "--oid", ALICE]).await;
    assert_eq!(third.connect(&token).await, ["PONG"]);
    until("the other process", 3 * PATIENCE, || {
        events(proxy.dir(), "unlocked") == 1
    })
    .await;
    assert_eq!(crate::world::connect(&proxy, &token).await, ["PONG"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_keeps_a_process_from_starting_and_says_what_to_do() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, "");
    let folder = tempfile::tempdir().expect("a folder");
    let configuration = configuration(&idp, &nats).to_string();
    fs::write(folder.path().join("natsentry.yaml"), configuration).expect("a file");
    let file = folder.path().join("locks.json");
    let started = || {
        let mut command = natsentry(folder.path());
        run(command.args(["run", "-c", "natsentry.yaml"]), b"")
    };
    let good = r#"{"version":1,"locks":[{"id":"a","all":true,"at":"2026-11-01"}]}"#;
    let cases: [(&str, u32, &str); 5] = [
        ("", 0o644, "cannot be read as a list of locks: line 1"),
        (
            &good[..40],
            0o644,
            "only when no lock is meant to hold, remove it",
        ),
        (
            "{\"version\":9,\"locks\":[]}",
            0o644,
            "version 9 is not known",
        ),
        (good, 0o666, "others than its owner may write it"),
        (
            &good.replace("true", "false"),
            0o644,
            "locks[0] (a): name exactly one of",
        ),
    ];
    for (text, mode, words) in cases {
        fs::write(&file, text).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("a mode");
        let ran = started();
        assert_eq!(ran.code, Some(1), "{text}");
        assert!(
            ran.err.contains("locks.json") && ran.err.contains(words),
            "{}",
            ran.err
        );
        // Nor does a command go on from it, or explain pretend to know.
        let ran = run_in(folder.path(), &["lock", "--oid", ALICE]).await;
        assert_eq!(ran.code, Some(1), "{}", ran.out);
        assert!(ran.err.contains(words), "{}", ran.err);
        let ran = run_in(folder.path(), &["explain", "--as", "oid=x"]).await;
        assert_eq!(ran.code, Some(1));
        assert!(ran.err.contains(words), "{}", ran.err);
        assert_eq!(fs::read_to_string(&file).expect("it is there"), text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_changed_by_hand_counts_and_one_that_is_damaged_or_gone_changes_nothing() {
    let world = World::start(Version::V2_15_1).await;
    let file = world.dir().join("locks.json");
    let (alice, bob) = (world.token("alice"), world.token("bob"));
    let mut live = world.admitted(&alice).await;
    let tid = &world.idp.directory().tid;
    let entry = format!(
        r#"{{"version":1,"locks":[{{"id":"by-hand","tid":"{tid}","oid":"{}","at":"2026-11-01"}}]}}"#,
        ALICE.to_ascii_uppercase()
    );
    fs::write(&file, &entry).expect("a file");
    assert_eq!(rest(&mut live).await, [CUT]);
    assert_eq!(world.connect(&alice).await, [REFUSED]);
    until("the audit", 3 * PATIENCE, || {
        events(world.dir(), "locked") == 1
    })
    .await;
    // Half of it, as an editor may leave it; and none of it.
    for (n, damage) in ["half", "gone"].into_iter().enumerate() {
        match damage {
            "half" => fs::write(&file, &entry[..60]).expect("a file"),
            _ => fs::remove_file(&file).expect("it was there"),
        }
        until("the complaint", 3 * PATIENCE, || {
            events(world.dir(), "locks_rejected") == n + 1
        })
        .await;
        assert_eq!(world.connect(&alice).await, [REFUSED], "{damage}");
        assert_eq!(world.connect(&bob).await, ["PONG"], "{damage}");
        let admin = world.proxy.admin().expect("an admin interface");
        let (_, metrics) = proxy::http_get(admin, "/metrics").await;
        assert!(metrics.contains("natsentry_locks_failing 1"), "{metrics}");
        let (status, ready) = proxy::http_get(admin, "/readyz").await;
        assert!(status == 200 && ready.contains("locks.json"), "{ready}");
    }
    // The same bytes again are no news, and other ones are.
    fs::write(&file, &entry).expect("a file");
    until("the end of the complaint", 3 * PATIENCE, || {
        world.proxy.find("the locks can be read again").is_some()
    })
    .await;
    assert_eq!(world.connect(&alice).await, [REFUSED]);
    fs::write(&file, entry.replace("by-hand", "an-hand")).expect("a file");
    until("the audit", 3 * PATIENCE, || {
        events(world.dir(), "locked") == 2
    })
    .await;
    fs::write(&file, r#"{"version":1,"locks":[]}"#).expect("a file");
    until("the audit", 3 * PATIENCE, || {
        events(world.dir(), "unlocked") == 2
    })
    .await;
    assert_eq!(world.connect(&alice).await, ["PONG"]);
    let audit = audit(world.dir());
    let last = audit.iter().rfind(|line| line["event"] == "unlocked");
    assert_eq!(last.expect("a line")["by"], "file");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_at_the_same_time_lose_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let idp = proxy::idp().await;
    let text = json!({
        "version": 1,
        "listen": { "client": "127.0.0.1:0" },
        "entra": { "tenants": [idp.directory().tid], "audiences": ["api://x"] },
        "upstreams": {},
    });
    fs::write(folder.path().join("natsentry.yaml"), text.to_string()).expect("a file");
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(folder.path(), mode).expect("a mode");
    // A command that was killed while it wrote leaves litter, and holds up nobody.
    fs::write(folder.path().join("locks.json.new"), "half").expect("a file");
    let one = |n: usize| {
        let dir = folder.path().to_owned();
        async move {
            let uti = format!("token-{n}");
            let ran = run_in(&dir, &["lock", "--uti", &uti]).await;
            assert_eq!(ran.code, Some(0), "{}", ran.err);
            if n.is_multiple_of(4) {
                let ran = run_in(&dir, &["unlock", "--uti", &uti]).await;
                assert_eq!(ran.code, Some(0), "{}", ran.err);
            }
        }
    };
    futures_util::future::join_all((0..24).map(one)).await;
    let mut kept: Vec<String> = listed(folder.path())
        .await
        .iter()
        .map(|lock| lock["uti"].as_str().unwrap().to_owned())
        .collect();
    kept.sort();
    let mut right: Vec<String> = (0..24)
        .filter(|n: &usize| !n.is_multiple_of(4))
        .map(|n| format!("token-{n}"))
        .collect();
    right.sort();
    assert_eq!(kept, right);
    let mode = |name: &str| {
        let facts = fs::metadata(folder.path().join(name)).expect("a file");
        facts.permissions().mode() & 0o777
    };
    // The folder is its owner's alone, and so is the file.
    assert_eq!(mode("locks.json"), 0o600);
    assert!(!folder.path().join("locks.json.new").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_list_says_so_and_keeps_what_it_has() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, "");
    let world = World::with(idp, nats, |configuration| {
        configuration["locks"] = json!({ "max": 2 });
    })
    .await;
    let soon = &["lock", "--uti", "one", "--for", "2s"];
    world.command(soon).await;
    world.command(&["lock", "--uti", "two"]).await;
    let ran = world.run(&["lock", "--oid", ALICE]).await;
    if ran.code == Some(1) {
        let words = "3 locks, and locks.max allows 2";
        assert!(ran.err.contains(words), "{}", ran.err);
        assert_eq!(world.connect(&world.token("alice")).await, ["PONG"]);
    } else {
        // On a machine so slow that the first has ended.
        assert_eq!(listed(world.dir()).await.len(), 2);
    }
    // What has ended makes room.
    until("the end of the first", 3 * PATIENCE, || {
        events(world.dir(), "unlocked") >= 1
    })
    .await;
    world.command(&["unlock", "--every-lock"]).await;
    world.command(&["lock", "--oid", ALICE]).await;
    assert_eq!(world.connect(&world.token("alice")).await, [REFUSED]);
    // More than are allowed, by hand: the list of before stays.
    let entry = |n: usize| json!({ "id": n.to_string(), "uti": "x", "at": "2026-11-01" });
    let text = json!({ "version": 1, "locks": [entry(1), entry(2), entry(3)] });
    fs::write(world.dir().join("locks.json"), text.to_string()).expect("a file");
    until("the complaint", 3 * PATIENCE, || {
        events(world.dir(), "locks_rejected") == 1
    })
    .await;
    assert_eq!(world.connect(&world.token("alice")).await, [REFUSED]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_follows_the_file_to_another_place_and_refuses_one_that_is_damaged() {
    let world = World::start(Version::V2_15_1).await;
    let file = world.dir().join("natsentry.yaml");
    let text = fs::read_to_string(&file).expect("the configuration");
    let mut configuration: Value = serde_json::from_str(&text).expect("JSON");
    let mut reload = |place: &str| {
        configuration["locks"] = json!({ "file": place });
        fs::write(&file, configuration.to_string()).expect("a file");
        let pid = world.proxy.pid().to_string();
        let status = std::process::Command::new("kill")
            .args(["-HUP", &pid])
            .status();
        assert!(status.expect("kill").success());
    };
    world.command(&["lock", "--oid", ALICE]).await;
    fs::write(world.dir().join("damaged.json"), "{").expect("a file");
    reload("damaged.json");
    until("the refusal", 3 * PATIENCE, || {
        events(world.dir(), "policy_rejected") == 1
    })
    .await;
    assert_eq!(world.connect(&world.token("alice")).await, [REFUSED]);
    let bob = r#"{"version":1,"locks":[{"id":"b","role":"reader","at":"2026-11-01"}]}"#;
    fs::write(world.dir().join("other.json"), bob).expect("a file");
    reload("other.json");
    until("the new list", 3 * PATIENCE, || {
        events(world.dir(), "locked") == 2 && events(world.dir(), "unlocked") == 1
    })
    .await;
    assert_eq!(world.connect(&world.token("alice")).await, ["PONG"]);
    assert_eq!(world.connect(&world.token("bob")).await, [REFUSED]);
}

#[tokio::test]
async fn the_file_belongs_to_whom_its_folder_belongs_and_is_readable_for_whom_the_folder_is() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let idp = proxy::idp().await;
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    fs::create_dir(&state).expect("a folder");
    // A service's own user, where we may give folders away, as a command of root meets it.
    let service = 65_534;
    let given = chown(&state, Some(service), Some(service)).is_ok();
    let text = json!({
        "version": 1,
        "listen": { "client": "127.0.0.1:0" },
        "entra": { "tenants": [idp.directory().tid], "audiences": ["api://x"] },
        "upstreams": {},
        "locks": { "file": "state/locks.json" },
    });
    fs::write(folder.path().join("natsentry.yaml"), text.to_string()).expect("a file");
    for (of_folder, of_file) in [(0o700, 0o600), (0o750, 0o640), (0o755, 0o644)] {
        fs::set_permissions(&state, fs::Permissions::from_mode(of_folder)).expect("a mode");
        let ran = run_in(folder.path(), &["lock", "--oid", ALICE]).await;
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        let facts = fs::metadata(state.join("locks.json")).expect("the file");
        let owner = fs::metadata(&state).expect("the folder").uid();
        assert_eq!(facts.permissions().mode() & 0o777, of_file);
        assert_eq!(facts.uid(), owner);
        assert_eq!(given, owner == service);
    }
    assert_eq!(listed(folder.path()).await.len(), 3);
}

#[tokio::test]
async fn a_link_laid_beside_the_file_leads_a_command_nowhere() {
    use std::os::unix::fs::{MetadataExt as _, symlink};
    let folder = tempfile::tempdir().expect("a folder");
    let text = json!({
        "version": 1,
        "listen": { "client": "127.0.0.1:0" },
        "entra": { "tenants": ["11111111-2222-3333-4444-555555555555"], "audiences": ["api://x"] },
        "upstreams": {},
        "locks": { "file": "state/locks.json" },
    });
    fs::write(folder.path().join("natsentry.yaml"), text.to_string()).expect("a file");
    let state = folder.path().join("state");
    fs::create_dir(&state).expect("a folder");
    // Where tests run as root this is the folder of a service, which may lay links in it; root's files are not its own.
    let given = std::os::unix::fs::chown(&state, Some(65_534), Some(65_534)).is_ok();
    let others = folder.path().join("of-root");
    fs::write(&others, "secret").expect("a file");
    let (turn, new) = (state.join("locks.json.turn"), state.join("locks.json.new"));
    let owner = || fs::metadata(&others).expect("the file").uid();
    let before = owner();
    for lay in [
        |from: &Path, to: &Path| symlink(from, to),
        |from: &Path, to: &Path| fs::hard_link(from, to),
    ] {
        lay(&others, &turn).expect("a link");
        let ran = run_in(folder.path(), &["lock", "--oid", ALICE]).await;
        assert_eq!(ran.code, Some(1), "{}", ran.out);
        assert!(ran.err.contains("the file .turn beside it"), "{}", ran.err);
        assert_eq!(owner(), before);
        fs::remove_file(&turn).expect("the link");
    }
    symlink(&others, &new).expect("a link");
    let ran = run_in(folder.path(), &["lock", "--oid", ALICE]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(owner(), before);
    assert_eq!(fs::read_to_string(&others).expect("the file"), "secret");
    assert_eq!(listed(folder.path()).await.len(), 1);
    assert!(!given || fs::metadata(&turn).expect("the file").uid() == 65_534);
}
