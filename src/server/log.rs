//! Events as log lines, for people. The audit is the record; this is for whoever looks at a terminal.

use crate::audit::Recorded;
use crate::session::{Blame, CloseReason, Closed, Event, EventKind};

/// Logs one event that got a line in the audit, with the decision id that it has there. What sampling left out there is
/// left out here too, so that strangers cannot fill a log either; the audit counts it.
pub(super) fn event(event: &Event, recorded: Recorded) {
    let Recorded { written, decision } = recorded;
    if !written {
        return;
    }
    let session = event.session.0;
    let client = tracing::field::display(event.client);
    let decision = decision.map(tracing::field::display);
    let oid = event.identity.as_ref().map(|identity| &*identity.oid);
    match &event.kind {
        EventKind::Connected(connected) => tracing::info!(
            session, client, oid, decision,
            roles = ?connected.roles,
            upstream = %connected.upstream,
            server = %connected.server,
            library = %connected.library,
            ends_at = %connected.ends_at,
            "connected",
        ),
        EventKind::Refused {
            code,
            sentence,
            library,
        } => {
            tracing::warn!(
                session,
                client,
                code,
                library,
                decision,
                "refused: {sentence}"
            );
        }
        EventKind::Postponed {
            code,
            sentence,
            library,
        } => {
            tracing::warn!(
                session,
                client,
                code,
                library,
                decision,
                "not now: {sentence}"
            );
        }
        EventKind::Revoked { code, sentence } => {
            tracing::warn!(session, client, oid, code, decision, "revoked: {sentence}");
        }
        EventKind::Denied(denied) => {
            tracing::info!(
                session, client, oid, decision,
                op = denied.operation.label(),
                subject = %denied.subject.escape_ascii(),
                reason = denied.reason.label(),
                rule = denied.rule.as_deref(),
                "denied",
            );
        }
        EventKind::Closed(closed) => end(event, closed),
    }
}

/// The end of a session.
fn end(event: &Event, closed: &Closed) {
    let session = event.session.0;
    let client = tracing::field::display(event.client);
    let oid = event.identity.as_ref().map(|identity| &*identity.oid);
    let reason = closed.reason;
    let expected = reason.blame() == Blame::Client || reason == CloseReason::Drained;
    let (label, blame) = (reason.label(), reason.blame().label());
    let ms = closed.duration_ms;
    let advice = reason.advice();
    // The level of a line is fixed where it is written.
    macro_rules! closed {
        ($level:ident) => {
            tracing::$level!(
                session,
                client,
                oid,
                reason = label,
                blame,
                ms,
                advice,
                "closed"
            )
        };
    }
    if expected {
        closed!(info);
    } else {
        closed!(warn);
    }
}
