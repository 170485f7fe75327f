//! The commands as people and scripts meet them.

use std::fs;

use natsentry::demo::servers::Version;
use serde_json::Value;

use crate::support::cli::{natsentry, run};
use crate::world::{World, run_in};

const ALICE: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const TENANT: &str = "11111111-2222-3333-4444-555555555555";

/// A folder with a configuration whose secrets are not at hand, as on the machine of whoever is called at night.
fn folder(more: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "version: 1\nlisten: {{ client: 127.0.0.1:0 }}\nentra:\n  tenants: [{TENANT}]\n  audiences: [api://x]\nupstreams:\n  \
         plant: {{ servers: [nats://127.0.0.1:1], auth: {{ token: \"env:NOT_HERE\" }} }}\nroles:\n  writer: {{ bind: [{{ \
         app_role: A }}], upstream: plant, publish: [\"a.>\"] }}\n{more}"
    );
    fs::write(folder.path().join("natsentry.yaml"), text).expect("a file");
    folder
}

#[tokio::test]
async fn usage_and_names_that_cannot_be_right_are_refused_before_anything_is_written() {
    let folder = folder("");
    let cases: [(&[&str], i32, &str); 16] = [
        (&["lock"], 2, "--oid"),
        (&["lock", "--tid", TENANT], 2, "--oid"),
        (&["lock", "--all", "--uti", "x"], 2, "cannot be used with"),
        (
            &["lock", "--all", "--for", "1h", "--until", "2099-01-01"],
            2,
            "cannot be used with",
        ),
        (&["lock", "--all", "--for", "2"], 2, "such as 500ms"),
        (&["lock", "--all", "--until", "tomorrow"], 2, "2026-11-01"),
        (
            &["lock", "--all", "--tokens-before", "then"],
            2,
            "2026-11-01",
        ),
        (
            &["lock", "--all", "--until", "2020-01-01"],
            1,
            "ended before it begins",
        ),
        (&["lock", "--oid", "alice"], 1, "no object id"),
        (&["lock", "--oid", ""], 1, "is empty"),
        (&["lock", "--azp", "nats-cli"], 1, "no application id"),
        (
            &["lock", "--role", "writers"],
            1,
            "no role writers; its roles are writer",
        ),
        (
            &[
                "lock",
                "--tid",
                "21111111-2222-3333-4444-555555555555",
                "--oid",
                ALICE,
            ],
            1,
            "accepts no tokens of tenant",
        ),
        (&["unlock"], 2, "--every-lock"),
        (&["unlock", "0000"], 1, "there is no lock 0000"),
        (&["unlock", "--oid", ALICE], 1, "no lock is on identity"),
    ];
    for (arguments, code, words) in cases {
        let ran = run_in(folder.path(), arguments).await;
        assert_eq!(
            ran.code,
            Some(code),
            "{arguments:?}: {}{}",
            ran.out,
            ran.err
        );
        assert!(ran.err.contains(words), "{arguments:?}: {}", ran.err);
        assert!(!folder.path().join("locks.json").exists(), "{arguments:?}");
    }
    let long = "x".repeat(300);
    let ran = run_in(folder.path(), &["lock", "--all", "--reason", &long]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("at most 256"), "{}", ran.err);
}

#[tokio::test]
async fn locks_are_listed_for_people_and_for_scripts() {
    let folder = folder("");
    let ran = run_in(folder.path(), &["lock", "list"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "no locks\n"));
    // A reason must not steer a terminal, nor begin a line.
    let nasty = "left \"us\"\n\u{1b}[2J\u{202e}gone";
    let upper = ALICE.to_ascii_uppercase();
    let ran = run_in(
        folder.path(),
        &["lock", "--oid", &upper, "--for", "2h", "--reason", nasty],
    )
    .await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let told = format!("locked: identity {TENANT}/{ALICE}, until ");
    assert!(ran.out.starts_with(&told), "{}", ran.out);
    assert!(ran.out.contains("within a second"), "{}", ran.out);
    let ran = run_in(folder.path(), &["lock", "list"]).await;
    assert_eq!(ran.out.lines().count(), 2, "{}", ran.out);
    assert!(ran.out.contains("left 'us'??[2J?gone"), "{}", ran.out);
    let ran = run_in(folder.path(), &["lock", "list", "-o", "json"]).await;
    let listed: Value = serde_json::from_str(&ran.out).expect("JSON");
    let one = &listed["locks"][0];
    assert_eq!(one["oid"], ALICE);
    assert_eq!(one["selects"], "identity");
    assert!(one["by"].as_str().unwrap().starts_with("olga"));
    // The same selector takes it away; who did is remembered.
    let ran = run_in(
        folder.path(),
        &["unlock", "--oid", ALICE, "--reason", "back"],
    )
    .await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let text = fs::read_to_string(folder.path().join("locks.json")).expect("the file");
    let kept: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(kept["locks"].as_array().map(Vec::len), Some(0));
    assert_eq!(kept["lifted"][0]["reason"], "back");
}

#[tokio::test]
async fn mistakes_elsewhere_do_not_keep_anybody_from_locking_and_mistakes_here_do() {
    let broken = folder("limits: { handshake: 1 fortnight }\n");
    let ran = run_in(broken.path(), &["lock", "--all"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    for more in [
        "locks: { fil: elsewhere.json }\n",
        "lock: { file: elsewhere.json }\n",
        "locks: { file: a.json }\nlocks: { file: b.json }\n",
    ] {
        let doubtful = folder(more);
        let ran = run_in(doubtful.path(), &["lock", "--all"]).await;
        assert_eq!(ran.code, Some(1), "{more}: {}", ran.out);
        assert!(ran.err.contains("natsentry.yaml:"), "{}", ran.err);
    }
    let nowhere = folder("locks: { file: not/here/locks.json }\n");
    let ran = run_in(nowhere.path(), &["lock", "--all"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("not/here/locks.json"), "{}", ran.err);
}

#[tokio::test]
async fn check_finds_what_is_wrong_with_the_section() {
    let folder = folder("locks: { file: absent/locks.json, max: 0 }\n");
    let ran = run_in(folder.path(), &["check"]).await;
    assert_eq!(ran.code, Some(1));
    for words in [
        "locks.file: folder ./absent does not exist; create it",
        "locks.max: 0 is out of range; write 1 to 10000",
    ] {
        assert!(ran.err.contains(words), "{words}\n{}", ran.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_and_inspect_say_what_the_audit_says() {
    let world = World::start(Version::V2_15_1).await;
    let token = world.token("alice");
    world
        .command(&["lock", "--oid", ALICE, "--for", "2h", "--reason", "left"])
        .await;
    world.connect(&token).await;
    let audited = || {
        let audit = world.audit();
        let line = audit.into_iter().find(|line| line["event"] == "refused")?;
        line["detail"].as_str().map(str::to_owned)
    };
    let mut sentence = audited();
    while sentence.is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        sentence = audited();
    }
    for arguments in [
        &["explain", "--token-stdin", "-o", "json"][..],
        &["token", "inspect", "-c", "natsentry.yaml", "-o", "json"],
    ] {
        let mut command = natsentry(world.dir());
        command
            .args(arguments)
            .env("NATSENTRY_CONFIG", "natsentry.yaml");
        let ran = run(&mut command, token.as_bytes());
        assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
        let said: Value = serde_json::from_str(&ran.out).expect("JSON");
        assert_eq!(said["code"], "revoked");
        assert_eq!(said["sentence"].as_str(), sentence.as_deref());
    }
    // An identity in words is asked about in the same way, and the role in which a lock goes.
    world.command(&["unlock", "--oid", ALICE]).await;
    world.command(&["lock", "--role", "operator"]).await;
    let ran = world
        .run(&[
            "explain",
            "--as",
            &format!("oid={ALICE},app_roles=Nats.Operator"),
        ])
        .await;
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.out.contains("an operator locked role operator"),
        "{}",
        ran.out
    );
}
