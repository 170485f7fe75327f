//! Counts follow events, and every series of a known label exists before its first event.

use super::*;
use crate::policy::DenialReason;
use crate::session::{Closed, Denied, SessionId, Traffic};

fn metrics() -> Metrics {
    let names = Names {
        roles: &["writer".into(), "reader".into()],
        upstreams: &["plant-a".into()],
        issuers: &["http://127.0.0.1:9333".into()],
        refusal_codes: &["time.expired", "authz.norule"],
        postponement_codes: &["graph.throttled"],
    };
    Metrics::new(names, Timestamp::from_secs(1_795_451_820)).unwrap()
}

fn event(kind: EventKind) -> Event {
    Event {
        at: Timestamp::from_secs(1),
        session: SessionId(1),
        client: "127.0.0.1:4222".parse().unwrap(),
        identity: None,
        kind,
    }
}

fn value(metrics: &Metrics, series: &str) -> String {
    let text = metrics.text().unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no series {series} in\n{text}"))
        .to_owned()
}

#[test]
fn every_known_series_exists_before_its_first_event() {
    let metrics = metrics();
    for reason in CloseReason::ALL {
        let (blame, reason) = (reason.blame().label(), reason.label());
        let series =
            format!("natsentry_sessions_closed_total{{blame=\"{blame}\",reason=\"{reason}\"}}");
        assert_eq!(value(&metrics, &series), "0");
    }
    for series in [
        "natsentry_refusals_total{code=\"time.expired\"}",
        "natsentry_denials_total{op=\"deliver\",reason=\"header_subject\"}",
        "natsentry_messages_total{direction=\"out\",upstream=\"plant-a\"}",
        "natsentry_role_sessions{role=\"writer\"}",
        "natsentry_connections_rejected_total{limit=\"per_address\"}",
        "natsentry_jwks_fetches_total{issuer=\"http://127.0.0.1:9333\",result=\"failed\"}",
        "natsentry_audit_lines_total{result=\"dropped\"}",
    ] {
        assert_eq!(value(&metrics, series), "0", "{series}");
    }
    assert_eq!(
        value(
            &metrics,
            "natsentry_jwks_age_seconds{issuer=\"http://127.0.0.1:9333\"}"
        ),
        "inf"
    );
}

#[test]
fn each_close_reason_is_counted_under_its_own_label() {
    let metrics = metrics();
    for reason in CloseReason::ALL {
        metrics.record(&event(EventKind::Closed(Closed {
            reason,
            duration_ms: 5,
            traffic: Traffic::default(),
        })));
        let (blame, label) = (reason.blame().label(), reason.label());
        let series =
            format!("natsentry_sessions_closed_total{{blame=\"{blame}\",reason=\"{label}\"}}");
        assert_eq!(value(&metrics, &series), "1");
    }
}

#[test]
fn each_denial_is_counted_under_its_operation_and_reason() {
    let metrics = metrics();
    for operation in Operation::ALL {
        for reason in DenialReason::ALL {
            metrics.record(&event(EventKind::Denied(Denied {
                operation,
                subject: Box::from(&b"a"[..]),
                reply: None,
                queue: None,
                size: 0,
                reason,
                rule: None,
                observed: false,
            })));
            let (op, reason) = (operation.label(), reason.label());
            let series = format!("natsentry_denials_total{{op=\"{op}\",reason=\"{reason}\"}}");
            assert_eq!(value(&metrics, &series), "1");
        }
    }
}

#[test]
fn what_observe_mode_lets_through_is_no_denial() {
    let metrics = metrics();
    metrics.record(&event(EventKind::Denied(Denied {
        operation: Operation::Subscribe,
        subject: Box::from(&b"a"[..]),
        reply: None,
        queue: None,
        size: 0,
        reason: DenialReason::NotGranted,
        rule: None,
        observed: true,
    })));
    let labels = "{op=\"subscribe\",reason=\"not_granted\"}";
    assert_eq!(
        value(&metrics, &format!("natsentry_denials_total{labels}")),
        "0"
    );
    assert_eq!(
        value(
            &metrics,
            &format!("natsentry_observed_denials_total{labels}")
        ),
        "1"
    );
}

#[test]
fn a_session_leaves_the_gauges_when_it_is_dropped() {
    let metrics = metrics();
    let roles: [Arc<str>; 2] = ["writer".into(), "reader".into()];
    let session = metrics.session("plant-a", &roles);
    let handshake = metrics.handshake_begun();
    add_traffic(
        &session.traffic,
        Traffic {
            messages_in: 3,
            bytes_in: 42,
            filtered: 1,
            ..Traffic::default()
        },
    );
    assert_eq!(
        value(&metrics, "natsentry_sessions{upstream=\"plant-a\"}"),
        "1"
    );
    assert_eq!(
        value(&metrics, "natsentry_role_sessions{role=\"reader\"}"),
        "1"
    );
    assert_eq!(value(&metrics, "natsentry_handshakes_in_progress"), "1");
    drop((session, handshake));
    assert_eq!(
        value(&metrics, "natsentry_sessions{upstream=\"plant-a\"}"),
        "0"
    );
    assert_eq!(
        value(&metrics, "natsentry_role_sessions{role=\"reader\"}"),
        "0"
    );
    assert_eq!(value(&metrics, "natsentry_handshakes_in_progress"), "0");
    assert_eq!(
        value(
            &metrics,
            "natsentry_messages_total{direction=\"in\",upstream=\"plant-a\"}"
        ),
        "3"
    );
    assert_eq!(
        value(
            &metrics,
            "natsentry_message_bytes_total{direction=\"in\",upstream=\"plant-a\"}"
        ),
        "42"
    );
    assert_eq!(
        value(
            &metrics,
            "natsentry_deliveries_filtered_total{upstream=\"plant-a\"}"
        ),
        "1"
    );
}

#[test]
fn totals_that_others_keep_never_count_twice() {
    let metrics = metrics();
    for written in [5, 5, 7] {
        metrics.set_audit(AuditFigures {
            written,
            ..AuditFigures::default()
        });
    }
    assert_eq!(
        value(&metrics, "natsentry_audit_lines_total{result=\"written\"}"),
        "7"
    );
}

#[test]
fn one_policy_hash_is_shown_at_a_time() {
    let metrics = metrics();
    metrics.policy_loaded(Some("aaaa"));
    metrics.policy_loaded(None);
    metrics.policy_loaded(Some("bbbb"));
    let text = metrics.text().unwrap();
    assert!(!text.contains("aaaa"));
    assert_eq!(value(&metrics, "natsentry_policy_info{hash=\"bbbb\"}"), "1");
    assert_eq!(
        value(
            &metrics,
            "natsentry_policy_reloads_total{result=\"rejected\"}"
        ),
        "1"
    );
}
