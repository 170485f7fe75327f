//! Lines as they reach the file: fields, sampling, the chain over restarts and rotation, and what failure does.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::sink::rotated;
use super::*;
use crate::identity::{Groups, Identity, Kind};
use crate::policy::DenialReason;
use crate::session::{Closed, Denied, Operation, Traffic};
use crate::time::Timestamp;

fn identity() -> Arc<Identity> {
    Arc::new(Identity {
        issuer: "https://login.microsoftonline.com/t/v2.0".into(),
        azp: Some("5b7e92a4-0f5d-4f3f-9b06-6b1c7d3f9e10".into()),
        azpacr: Some(1),
        roles: vec!["Nats.Write".into()],
        groups: Groups::Unknown,
        uti: Some("uti-1".into()),
        display_name: Some("Ada \"the Countess\" Lovelace".into()),
        ..Identity::plain(
            Kind::User,
            (
                "11111111-2222-3333-4444-555555555555",
                "aaaaaaaa-0000-4000-8000-000000000001",
            ),
            (Timestamp::from_secs(1), Timestamp::from_secs(2)),
        )
    })
}

fn event(millis: u64, kind: EventKind) -> Event {
    Event {
        at: Timestamp::from_millis(1_795_451_820_000 + millis),
        session: SessionId(7),
        client: "10.1.2.3:5555".parse().unwrap(),
        identity: Some(identity()),
        kind,
    }
}

fn connected() -> EventKind {
    EventKind::Connected(Arc::new(Connected {
        roles: vec!["writer".into(), "reader".into()],
        upstream: "plant-a".into(),
        server: "10.0.0.11:4222".into(),
        library: "python3 2.16.0".into(),
        name: "historian".into(),
        ends_at: Timestamp::from_millis(1_795_455_420_000),
        tls: true,
    }))
}

fn denied() -> EventKind {
    EventKind::Denied(Denied {
        operation: Operation::Publish,
        subject: Box::from(&b"a.\xff.\\"[..]),
        reply: Some(Box::from(&b"_INBOX.x"[..])),
        queue: None,
        size: 12,
        reason: DenialReason::Denied,
        rule: Some("roles.writer.deny.publish[0]".into()),
        observed: false,
    })
}

fn closed(reason: CloseReason) -> EventKind {
    let traffic = Traffic {
        messages_in: 3,
        bytes_in: 36,
        ..Traffic::default()
    };
    EventKind::Closed(Closed {
        reason,
        duration_ms: 60_000,
        traffic,
    })
}

fn settings(path: &Path) -> Settings {
    Settings {
        destination: Destination::File(FileSettings {
            path: path.into(),
            rotate_bytes: 0,
            keep: 0,
        }),
        when_full: WhenFull::Block,
        queue_lines: 64,
        sampling: Sampling::default(),
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn flush(audit: &Audit) {
    audit.flush(Duration::from_secs(20)).await.unwrap();
}

#[tokio::test]
async fn an_end_without_a_word_to_the_client_says_here_what_to_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let audit = Audit::start(settings(&path)).unwrap();
    for reason in [CloseReason::HeadersNotSupported, CloseReason::Expired] {
        audit.record(&event(0, closed(reason))).await;
    }
    flush(&audit).await;
    let lines = lines(&path);
    let advice = lines[0]["detail"].as_str().unwrap();
    assert!(advice.contains("headers from 2.2"), "{advice}");
    assert_eq!(lines[1].get("detail"), None);
}

#[tokio::test]
async fn every_line_of_a_session_stands_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let audit = Audit::start(settings(&path)).unwrap();
    audit.set_policy("cafe");
    let admission = audit.record(&event(0, connected())).await.decision.unwrap();
    let denial = audit.record(&event(1, denied())).await.decision.unwrap();
    assert!(
        audit
            .record(&event(2, closed(CloseReason::Expired)))
            .await
            .decision
            .is_none()
    );
    flush(&audit).await;

    let lines = lines(&path);
    assert_eq!(lines.len(), 3);
    for line in &lines {
        assert_eq!(line["tid"], "11111111-2222-3333-4444-555555555555");
        assert_eq!(line["oid"], "aaaaaaaa-0000-4000-8000-000000000001");
        assert_eq!(line["azp"], "5b7e92a4-0f5d-4f3f-9b06-6b1c7d3f9e10");
        assert_eq!(line["uti"], "uti-1");
        assert_eq!(line["name"], "Ada \"the Countess\" Lovelace");
        assert_eq!(line["roles"], serde_json::json!(["writer", "reader"]));
        assert_eq!(line["upstream"], "plant-a");
        assert_eq!(line["library"], "python3 2.16.0");
        assert_eq!(line["client"], "10.1.2.3:5555");
        assert_eq!(line["session"], 7);
        assert_eq!(line["policy"], "cafe");
    }
    let [first, second, third] = &lines[..] else {
        unreachable!("three lines")
    };
    assert_eq!(
        (&first["event"], &first["verdict"]),
        (&"connected".into(), &"allow".into())
    );
    assert_eq!(first["time"], "2026-11-23T16:37:00.000Z");
    assert_eq!(first["ends_at"], "2026-11-23T17:37:00.000Z");
    assert_eq!(first["decision"], admission.to_string());
    assert_eq!(
        (&second["event"], &second["verdict"]),
        (&"denied".into(), &"deny".into())
    );
    assert_eq!(second["decision"], denial.to_string());
    assert_eq!(second["subject"], "a.\\xff.\\\\");
    assert_eq!(second["rule"], "roles.writer.deny.publish[0]");
    assert_eq!(
        (&second["op"], &second["size"]),
        (&"publish".into(), &12.into())
    );
    assert_eq!(
        (&third["reason"], &third["blame"]),
        (&"expired".into(), &"client".into())
    );
    assert_eq!(
        (&third["messages_in"], &third["duration_ms"]),
        (&3.into(), &60_000.into())
    );
}

#[tokio::test]
async fn a_loop_of_denials_leaves_ten_lines_and_a_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let audit = Audit::start(settings(&path)).unwrap();
    let mut numbered = 0;
    for millis in 0..1000 {
        numbered += usize::from(
            audit
                .record(&event(millis, denied()))
                .await
                .decision
                .is_some(),
        );
    }
    flush(&audit).await;
    let lines = lines(&path);
    assert_eq!((numbered, lines.len()), (10, 11));
    assert_eq!(
        (&lines[10]["event"], &lines[10]["suppressed"]),
        (&"suppressed".into(), &990.into())
    );
    assert_eq!(lines[10]["oid"], "aaaaaaaa-0000-4000-8000-000000000001");
    let health = audit.health();
    assert_eq!(
        (health.suppressed, health.written, health.dropped),
        (990, 11, 0)
    );
}

#[tokio::test]
async fn the_chain_goes_on_over_restart_and_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let mut settings = settings(&path);
    settings.destination = Destination::File(FileSettings {
        path: path.clone(),
        rotate_bytes: 3000,
        keep: 0,
    });
    let mut heads = Vec::new();
    for _ in 0..2 {
        let audit = start_when_free(&settings).await;
        for millis in 0..20 {
            audit
                .record(&event(millis, closed(CloseReason::ClientClosed)))
                .await;
            flush(&audit).await;
        }
        heads.push(audit.health().head);
    }
    let mut files = rotated(&path).unwrap();
    assert!(files.len() >= 2, "{files:?}");
    files.sort();
    files.push(path);
    let mut whole = Vec::new();
    for file in &files {
        whole.extend_from_slice(&fs::read(file).unwrap());
    }
    let verified = verify(&whole[..]).unwrap();
    assert_eq!((verified.lines, verified.faults), (40, Vec::new()));
    assert_eq!(verified.end, heads[1]);
}

/// The writer of a dropped `Audit` lets go of the file a moment later.
async fn start_when_free(settings: &Settings) -> Audit {
    for _ in 0..1000 {
        match Audit::start(settings.clone()) {
            Ok(audit) => return audit,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("the file stays locked");
}

#[tokio::test]
async fn old_files_beyond_the_number_to_keep_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    fs::write(folder.path().join("audit.jsonl.notes"), "mine").unwrap();
    let mut settings = settings(&path);
    settings.destination = Destination::File(FileSettings {
        path: path.clone(),
        rotate_bytes: 1,
        keep: 2,
    });
    let audit = Audit::start(settings).unwrap();
    for millis in 0..5 {
        audit
            .record(&event(millis, closed(CloseReason::ClientClosed)))
            .await;
        flush(&audit).await;
    }
    assert_eq!(rotated(&path).unwrap().len(), 2);
    assert!(folder.path().join("audit.jsonl.notes").exists());
}

#[tokio::test]
async fn a_file_that_was_renamed_is_created_anew_on_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let audit = Audit::start(settings(&path)).unwrap();
    audit.record(&event(0, connected())).await;
    flush(&audit).await;
    fs::rename(&path, folder.path().join("moved")).unwrap();
    audit.reopen().await;
    audit.record(&event(1, closed(CloseReason::Killed))).await;
    flush(&audit).await;
    assert_eq!(lines(&folder.path().join("moved")).len(), 1);
    assert_eq!(lines(&path).len(), 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}

#[tokio::test]
async fn a_line_cut_by_a_crash_stays_and_the_chain_goes_on_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    fs::write(&path, "{\"event\":\"conn").unwrap();
    let audit = Audit::start(settings(&path)).unwrap();
    audit.record(&event(0, connected())).await;
    flush(&audit).await;
    let verified = verify(&fs::read(&path).unwrap()[..]).unwrap();
    assert_eq!(verified.lines, 2);
    assert_eq!(
        verified.faults,
        [Fault {
            line: 1,
            kind: FaultKind::Unreadable
        }]
    );
}

#[tokio::test]
async fn two_processes_cannot_write_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let _first = Audit::start(settings(&path)).unwrap();
    let second = Audit::start(settings(&path));
    assert!(matches!(second, Err(AuditError::Open { .. })));
}

/// `/dev/full` answers every write with "no space left on device".
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_blocks_or_drops_as_configured() {
    let mut settings = settings(Path::new("/dev/full"));
    settings.queue_lines = 1;
    settings.when_full = WhenFull::Drop;
    let audit = Audit::start(settings.clone()).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while audit.health().failing.is_none() || audit.health().dropped == 0 {
        audit.record(&event(0, connected())).await;
        tokio::task::yield_now().await;
        assert!(std::time::Instant::now() < deadline, "{:?}", audit.health());
    }
    assert_eq!(audit.health().written, 0);

    settings.when_full = WhenFull::Block;
    let audit = Audit::start(settings).unwrap();
    let recording = async {
        for _ in 0..100 {
            audit.record(&event(0, connected())).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_millis(300), recording)
            .await
            .is_err()
    );
    assert!(audit.flush(Duration::from_millis(50)).await.is_err());
}

#[tokio::test]
async fn what_observe_mode_lets_through_is_not_called_denied() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let audit = Audit::start(settings(&path)).unwrap();
    let EventKind::Denied(mut operation) = denied() else {
        unreachable!("a denial")
    };
    operation.observed = true;
    audit.record(&event(0, EventKind::Denied(operation))).await;
    flush(&audit).await;
    let line = &lines(&path)[0];
    assert_eq!(
        (&line["event"], &line["verdict"]),
        (&"observed".into(), &"observe".into())
    );
}

#[tokio::test]
async fn without_a_destination_decisions_are_numbered_all_the_same() {
    let mut settings = settings(Path::new("unused"));
    settings.destination = Destination::Off;
    let audit = Audit::start(settings).unwrap();
    let first = audit.record(&event(0, denied())).await.decision.unwrap();
    let second = audit.record(&event(0, denied())).await.decision.unwrap();
    assert_ne!(first, second);
    flush(&audit).await;
}

#[tokio::test]
async fn acts_of_operators_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let audit = Audit::start(settings(&path)).unwrap();
    let at = Timestamp::from_secs(1_795_451_820);
    audit
        .record_act(Act {
            at,
            kind: ActKind::PolicyRejected,
            by: "SIGHUP",
            detail: "line 3",
        })
        .await;
    flush(&audit).await;
    let line = &lines(&path)[0];
    assert_eq!(
        (&line["event"], &line["by"]),
        (&"policy_rejected".into(), &"SIGHUP".into())
    );
}
