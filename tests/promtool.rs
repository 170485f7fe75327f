//! Prometheus' own `promtool` judges what we print and the alert rules that we ship.
//!
//! It is taken from `PROMTOOL`, from the search path, or fetched once from the Debian package into the target folder.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a broken test environment has to be loud"
)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use natsentry::metrics::{HandshakeResult, Metrics, Names};
use natsentry::time::Timestamp;

#[test]
fn promtool_has_no_complaint_about_our_metrics() {
    let text = metrics().text().expect("text");
    let mut child = Command::new(promtool())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(text.as_bytes())
        .expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.trim().is_empty(),
        "{said}\n{text}"
    );
}

#[test]
fn the_alert_rules_fire_when_they_should() {
    for arguments in [
        ["check", "rules", "alerts.yaml"],
        ["test", "rules", "alerts_test.yaml"],
    ] {
        let output = Command::new(promtool())
            .args(arguments)
            .current_dir(rules())
            .output()
            .expect("promtool");
        let said = [output.stdout, output.stderr].concat();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&said)
        );
    }
}

#[test]
fn every_metric_that_an_alert_names_exists() {
    let text = metrics().text().expect("text");
    let rules = std::fs::read_to_string(rules().join("alerts.yaml")).expect("rules");
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let named = rules
        .split(word)
        .filter(|name| name.starts_with("natsentry_"));
    // Histograms are named by people without their suffix.
    let shown = |name: &str| {
        ["", "_bucket"].iter().any(|suffix| {
            [' ', '{']
                .iter()
                .any(|end| text.contains(&format!("\n{name}{suffix}{end}")))
        })
    };
    let absent: Vec<_> = named.filter(|name| !shown(name)).collect();
    assert!(absent.is_empty(), "{absent:?}");
}

fn metrics() -> Metrics {
    let names = Names {
        roles: &["writer".into()],
        upstreams: &["plant-a".into()],
        issuers: &["https://login.microsoftonline.com/t/v2.0".into()],
        refusal_codes: &["time.expired"],
        postponement_codes: &["graph.throttled"],
    };
    let metrics = Metrics::new(names, Timestamp::from_secs(1_795_451_820)).expect("families");
    metrics.dialled("plant-a", true, Duration::from_millis(3));
    metrics.handshake_ended(HandshakeResult::Admitted, Duration::from_millis(9));
    metrics.policy_loaded(Some("0123456789abcdef"));
    metrics
}

fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

/// The program, or a panic that says how to get it.
fn promtool() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = std::env::var_os("PROMTOOL") {
        return path.into();
    }
    let on_path = PathBuf::from("promtool");
    if runs(&on_path) {
        return on_path;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("promtool");
    let fetched = folder.join("root/usr/bin/promtool");
    if !runs(&fetched) {
        fetch(&folder);
    }
    assert!(
        runs(&fetched),
        "promtool is needed: install it (apt-get install prometheus) or set PROMTOOL"
    );
    fetched
}

fn runs(program: &Path) -> bool {
    let status = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Downloads and unpacks the Debian package; needs no root. Failure shows when the program is run.
fn fetch(folder: &Path) {
    std::fs::create_dir_all(folder).expect("target folder is writable");
    let script = "apt-get download prometheus && dpkg-deb -x prometheus_*.deb root";
    if let Err(error) = Command::new("sh")
        .args(["-c", script])
        .current_dir(folder)
        .status()
    {
        panic!("sh: {error}");
    }
}
