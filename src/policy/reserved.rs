//! Subjects that are the server's own, whatever a role grants.
//!
//! Owns: their prefixes. Must never: be asked after a permission in place of one.

/// Prefixes of publish subjects that belong to the server's inside. nats-server refuses `_GR_.` and `$NRG.` itself
/// (`client.go:processInboundClientMsg`), depending on its version; the others reach its inside when granted too widely.
const RESERVED_SUBJECTS: [&[u8]; 5] = [b"_GR_.", b"$GR.", b"$NRG.", b"$MQTT.", b"$LDS."];

/// Prefixes of reply subjects that nats-server refuses (`client.go:isReservedReply`); `$GR.` since 2.15.1 only.
const RESERVED_REPLIES: [&[u8]; 4] = [b"_R_.", b"_GR_.", b"$GR.", b"$JS.ACK."];

/// Whether a publish subject begins with a prefix of the server's inside.
pub(super) fn is_reserved_subject(subject: &[u8]) -> bool {
    matches!(subject.first(), Some(b'$' | b'_'))
        && RESERVED_SUBJECTS
            .iter()
            .any(|prefix| subject.starts_with(prefix))
}

/// Whether nats-server would refuse this reply subject.
pub(super) fn is_reserved_reply(reply: &[u8]) -> bool {
    matches!(reply.first(), Some(b'$' | b'_'))
        && RESERVED_REPLIES
            .iter()
            .any(|prefix| reply.starts_with(prefix))
}
