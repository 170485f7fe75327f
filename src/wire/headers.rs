//! The headers of an HPUB that name another subject: server features that act on it with the rights of the connection,
//! which behind a proxy are the upstream user's. Nothing else in a header block is looked at.
//!
//! Source: nats-server `msgtrace.go:genHeaderMapIfTraceHeadersPresent` (2.11), `client.go:sliceHeader` and
//! `stream.go` (`JSScheduleTarget` 2.12, `JSScheduleSource` 2.14).

use memchr::memmem;

/// A header that names a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SideChannel {
    /// `Nats-Trace-Dest`: the server publishes trace events there.
    TraceDest,
    /// `Nats-Schedule-Target`: the server publishes the scheduled message there.
    ScheduleTarget,
    /// `Nats-Schedule-Source`: the server reads the message from there.
    ScheduleSource,
}

const NAMES: [(&[u8], SideChannel); 3] = [
    (b"Nats-Trace-Dest", SideChannel::TraceDest),
    (b"Nats-Schedule-Target", SideChannel::ScheduleTarget),
    (b"Nats-Schedule-Source", SideChannel::ScheduleSource),
];

/// With this value the server takes a trace destination as absent (`msgtrace.go`).
const TRACE_DISABLED: &[u8] = b"trace disabled";

/// The subjects that side-channel headers of `block` name, with which header did.
///
/// Every place where a server could begin a header is looked at: right after any LF. Names are exact in case, as in
/// the server; empty values are skipped, as there.
pub fn side_channels(block: &[u8]) -> impl Iterator<Item = (SideChannel, &[u8])> {
    memmem::find_iter(block, b"\nNats-").filter_map(move |at| {
        let line = block.get(at.saturating_add(1)..)?;
        let (name, channel) = NAMES.iter().find(|(name, _)| line.starts_with(name))?;
        let rest = line.get(name.len()..)?.strip_prefix(b":")?;
        let end = memmem::find(rest, b"\r\n").unwrap_or(rest.len());
        let value = trim(rest.get(..end)?);
        let disabled = *channel == SideChannel::TraceDest && value == TRACE_DISABLED;
        (!value.is_empty() && !disabled).then_some((*channel, value))
    })
}

/// The header that has a stream drop older messages.
const ROLLUP: &[u8] = b"\nNats-Rollup:";

/// Whether a header of `block` has the server drop every other message of the stream, whatever its subject (`stream.go:getRollup`).
pub fn rolls_up_everything(block: &[u8]) -> bool {
    memmem::find_iter(block, ROLLUP).any(|at| {
        let rest = block.get(at.saturating_add(ROLLUP.len())..);
        let rest = rest.unwrap_or_default();
        let end = memmem::find(rest, b"\r\n").unwrap_or(rest.len());
        let value = trim(rest.get(..end).unwrap_or_default());
        value.eq_ignore_ascii_case(b"all")
    })
}

fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().take_while(blank).count();
    let value = value.get(start..).unwrap_or_default();
    let trailing = value.iter().rev().take_while(blank).count();
    value
        .get(..value.len().saturating_sub(trailing))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollup_of_everything_is_found() {
        for block in [
            &b"NATS/1.0\r\nNats-Rollup: all\r\n\r\n"[..],
            b"NATS/1.0\r\nA: b\r\nNats-Rollup:\t ALL \r\n\r\n",
            b"NATS/1.0\r\nNats-Rollup: sub\r\nNats-Rollup: aLL\r\n\r\n",
        ] {
            assert!(rolls_up_everything(block));
        }
        for block in [
            &b"NATS/1.0\r\nNats-Rollup: sub\r\n\r\n"[..],
            b"NATS/1.0\r\nX-Nats-Rollup: all\r\n\r\n",
            b"NATS/1.0\r\n\r\n",
        ] {
            assert!(!rolls_up_everything(block));
        }
    }

    fn found(block: &[u8]) -> Vec<(SideChannel, &[u8])> {
        side_channels(block).collect()
    }

    #[test]
    fn every_subject_in_a_header_is_found() {
        let block =
            b"NATS/1.0\r\nA: b\r\nNats-Trace-Dest:\t trace.me \r\nNats-Schedule-Target: t\r\n\
            Nats-Schedule-Source:s\r\nNats-Trace-Dest: two\r\n\r\n";
        assert_eq!(
            found(block),
            [
                (SideChannel::TraceDest, &b"trace.me"[..]),
                (SideChannel::ScheduleTarget, b"t"),
                (SideChannel::ScheduleSource, b"s"),
                (SideChannel::TraceDest, b"two"),
            ]
        );
    }

    #[test]
    fn other_headers_are_left_alone() {
        let block = b"NATS/1.0\r\nNats-Msg-Id: 1\r\nnats-trace-dest: x\r\nX-Nats-Trace-Dest: y\r\n\
            Nats-Trace-Dest-2: z\r\nNats-Trace-Dest: \r\nNats-Trace-Dest: trace disabled\r\n\r\n";
        assert!(found(block).is_empty());
    }

    #[test]
    fn a_block_without_its_first_line_is_searched_too() {
        let block = b"\r\nNats-Schedule-Target: t";
        assert_eq!(found(block), [(SideChannel::ScheduleTarget, &b"t"[..])]);
    }
}
