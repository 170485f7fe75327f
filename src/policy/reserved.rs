//! Subjects that are the server's own, whatever a role grants.
//!
//! Owns: their prefixes. Must never: be asked after a permission in place of one.

/// Prefixes of publish subjects that belong to the server's inside. nats-server refuses `_GR_.` and `$NRG.` itself
/// (`client.go:processInboundClientMsg`), depending on its version; the others reach its inside when granted too widely.
const RESERVED_SUBJECTS: [&[u8]; 5] = [b"_GR_.", b"$GR.", b"$NRG.", b"$MQTT.", b"$LDS."];

/// Prefixes of reply subjects that nats-server refuses (`client.go:isReservedReply`); `$GR.` since 2.15.1 only.
const RESERVED_REPLIES: [&[u8]; 4] = [b"_R_.", b"_GR_.", b"$GR.", b"$JS.ACK."];

/// Whether a publish subject begins with a prefix of the server's inside.
#[inline]
pub(super) fn is_reserved_subject(subject: &[u8]) -> bool {
    may_be_reserved(subject)
        && RESERVED_SUBJECTS
            .iter()
            .any(|prefix| subject.starts_with(prefix))
}

/// Whether nats-server would refuse this reply subject.
#[inline]
pub(super) fn is_reserved_reply(reply: &[u8]) -> bool {
    may_be_reserved(reply)
        && RESERVED_REPLIES
            .iter()
            .any(|prefix| reply.starts_with(prefix))
}

/// What most subjects are told by: `_INBOX` is not one of them.
#[inline]
fn may_be_reserved(subject: &[u8]) -> bool {
    match subject {
        [b'$', ..] => true,
        [b'_', next, ..] => matches!(next, b'R' | b'G'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reserved_prefix_is_found() {
        for prefix in RESERVED_SUBJECTS {
            assert!(is_reserved_subject(&[prefix, b"x"].concat()));
        }
        for prefix in RESERVED_REPLIES {
            assert!(is_reserved_reply(&[prefix, b"x"].concat()));
        }
        for free in [&b"_INBOX.x"[..], b"_", b"", b"GR.x", b"_RS_.x"] {
            assert!(!is_reserved_subject(free) && !is_reserved_reply(free));
        }
    }
}
