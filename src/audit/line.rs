//! Facts as lines of the audit.

use super::record::{AdmittedFields, BoundFields, EndFields, OperationFields, Record, Shown, Who};
use super::sample::{Summary, Whose};
use crate::session::{Connected, Event, EventKind};
use crate::time::Timestamp;

pub(super) fn event_record<'a>(
    event: &'a Event,
    name: &'static str,
    bound: Option<&'a Connected>,
) -> Record<'a> {
    let mut record = Record {
        time: Shown(event.at),
        event: name,
        session: Some(event.session.0),
        who: Who::of(event.identity.as_deref()),
        client: Some(Shown(event.client)),
        bound: bound.map(BoundFields::of).unwrap_or_default(),
        ..Record::default()
    };
    match &event.kind {
        EventKind::Connected(connected) => {
            record.verdict = Some("allow");
            record.admitted = Some(AdmittedFields::of(connected));
        }
        EventKind::Refused {
            code,
            sentence,
            library,
        }
        | EventKind::Postponed {
            code,
            sentence,
            library,
        } => {
            let postponed = matches!(event.kind, EventKind::Postponed { .. });
            record.verdict = Some(if postponed { "not_now" } else { "refuse" });
            record.reason = Some(code);
            record.detail = Some(sentence);
            record.bound = BoundFields::library(library);
        }
        EventKind::Revoked { code, sentence } => {
            record.verdict = Some("refuse");
            record.reason = Some(code);
            record.detail = Some(sentence);
        }
        EventKind::Denied(denied) => {
            record.verdict = Some(if denied.observed { "observe" } else { "deny" });
            record.reason = Some(denied.reason.label());
            record.rule = denied.rule.as_deref();
            record.operation = Some(OperationFields::of(denied));
        }
        EventKind::Closed(closed) => {
            record.reason = Some(closed.reason.label());
            record.blame = Some(closed.reason.blame().label());
            record.detail = closed.reason.advice();
            record.end = Some(EndFields::of(closed));
        }
    }
    record
}

pub(super) fn summary_line(summary: &Summary, now: Timestamp) -> Vec<u8> {
    let (identity, client_ip) = match &summary.whose {
        Some(Whose::Identity(identity)) => (Some(&**identity), None),
        Some(Whose::Address(address)) => (None, Some(*address)),
        None => (None, None),
    };
    encode(&Record {
        time: Shown(now),
        event: "suppressed",
        reason: Some(summary.event),
        who: Who::of(identity),
        client_ip,
        suppressed: Some(summary.suppressed),
        since: Some(Shown(summary.since)),
        ..Record::default()
    })
}

/// Strings, numbers and lists of them always encode; were it otherwise, the line would say so rather than be missing.
pub(super) fn encode(record: &Record<'_>) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_else(|_| {
        format!(
            "{{\"event\":\"{}\",\"detail\":\"not encodable\"}}",
            record.event
        )
        .into_bytes()
    })
}
