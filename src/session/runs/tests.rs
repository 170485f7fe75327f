//! That a run passes what the careful way passes, byte for byte, and counts the same.
//!
//! The careful way is taken by every message of a client that wants `+OK` for each (its upstream's bytes are the same),
//! and by every delivery of which the line is there and the rest is not.

use proptest::prelude::*;
use serde_json::json;

use super::super::tests::{admission, serving};
use super::super::{Inbound, Session, Traffic};
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_secs(1_795_451_820);

fn session(respond: bool) -> Session {
    let mut role = json!({
        "bind": [{ "app_role": "R" }],
        "upstream": "a",
        "publish": ["a.*", "b.>", "w.>", "{oid}.*.x"],
        "subscribe": ["a.*", "b.>"],
        "deny": { "publish": ["b.no"], "subscribe": ["b.no"] },
    });
    if respond {
        role["respond"] = json!({ "max": 1, "ttl": "30s" });
    }
    serving(admission(&json!({ "r": role }), &["R"], None))
}

fn verbose(session: &mut Session) {
    let line = b"CONNECT {\"verbose\":true,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n";
    session.handle_client(line, 0, NOW);
    drop(upstream_hears(session, b"PING\r\n"));
    assert!(session.verbose);
}

/// What goes upstream when `bytes` come from the client, in one piece as far as the session takes them.
fn upstream_hears(session: &mut Session, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let taken = session.handle_client(rest, at, NOW);
        session.to_upstream().drain_to(bytes, &mut out);
        session.to_client().discard();
        while session.poll_event(NOW).is_some() {}
        if taken.used == 0 {
            break;
        }
        at += taken.used;
    }
    out
}

/// What the client hears when `bytes` come from upstream.
fn client_hears(session: &mut Session, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let taken = session.handle_upstream(rest, at, NOW);
        session.to_client().drain_to(bytes, &mut out);
        while session.poll_event(NOW).is_some() {}
        if taken.used == 0 {
            break;
        }
        at += taken.used;
    }
    out
}

/// Likewise, but so that no message is ever there as a whole.
fn client_hears_in_pieces(session: &mut Session, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut at, mut len) = (0, 1);
    while let Some(rest) = bytes
        .get(at..)
        .filter(|rest| !rest.is_empty() && len <= rest.len())
    {
        let piece = match session.outbound {
            Inbound::Payload { left, .. } => usize::try_from(left).unwrap().min(rest.len()),
            Inbound::Line { .. } | Inbound::Tail(_) => len,
        };
        let taken = session.handle_upstream(&rest[..piece], at, NOW);
        session.to_client().drain_to(bytes, &mut out);
        while session.poll_event(NOW).is_some() {}
        if session.close_reason().is_some() {
            break;
        }
        at += taken.used;
        len = if taken.used == 0 { len + 1 } else { 1 };
    }
    out
}

fn blank() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just(" "), 2 => Just("  "), 1 => Just("\t"), 1 => Just(" \t ")]
}

fn subject() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        6 => Just("a.1"), 3 => Just("a.2"), 2 => Just("b.some.where.longer.than.the.others"), 1 => Just("b.no"),
        1 => Just("c"), 1 => Just("a"), 1 => Just("a.1x"), 1 => Just("b.*"), 1 => Just("$JS.API.x"), 1 => Just("a..b"),
        // Of one length, on open ground and beside it.
        6 => prop::sample::select(vec![
            "w.1234567", "w.7654321", "w.abc.def", "w.abc..ef", "w.*.abcde", "w.12345.>", "w.ab\x0bcd.", "x.1234567", "w.1.2.3.4",
        ]),
    ]
}

fn reply() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![
        5 => Just(None), 1 => Just(Some("a.9")), 1 => Just(Some("12")), 1 => Just(Some("_INBOX.abcdefghijklmnopqrst.1")),
        1 => Just(Some("_R_.x")), 1 => Just(Some("b.no")),
    ]
}

fn payload() -> impl Strategy<Value = usize> {
    prop_oneof![
        Just(0_usize),
        Just(1),
        Just(9),
        Just(10),
        0..40_usize,
        500..520_usize,
        Just(12_345)
    ]
}

/// One publish in one of the forms that servers accept.
fn publish() -> impl Strategy<Value = Vec<u8>> {
    let verb = prop_oneof![8 => Just("PUB"), 2 => Just("pub"), 1 => Just("Pub")];
    let end = prop_oneof![8 => Just("\r\n"), 2 => Just("\n")];
    let zeros = prop_oneof![9 => Just(""), 1 => Just("0")];
    let headers = prop_oneof![6 => Just(false), 1 => Just(true)];
    (
        verb,
        blank(),
        subject(),
        blank(),
        reply(),
        payload(),
        zeros,
        end,
        headers,
    )
        .prop_map(
            |(verb, first, subject, second, reply, size, zeros, end, headers)| {
                let reply = reply
                    .map(|reply| format!("{reply}{second}"))
                    .unwrap_or_default();
                let (h, header) = if headers { ("H", "0 ") } else { ("", "") };
                let line =
                    format!("{h}{verb}{first}{subject}{second}{reply}{header}{zeros}{size}{end}");
                [line.into_bytes(), vec![b'x'; size], b"\r\n".to_vec()].concat()
            },
        )
}

fn delivery() -> impl Strategy<Value = Vec<u8>> {
    let sid = prop_oneof![6 => Just("1"), 2 => Just("22"), 1 => Just("3"), 1 => Just("9")];
    let headers = prop_oneof![3 => Just(None), 1 => (0..12_usize).prop_map(Some)];
    let blank = prop_oneof![40 => Just(" "), 2 => Just("  "), 1 => Just("\t")];
    let end = prop_oneof![40 => Just("\r\n"), 1 => Just("\n")];
    let parts = (subject(), sid, blank, reply(), payload(), headers, end);
    parts.prop_map(|(subject, sid, blank, reply, size, headers, end)| {
        let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
        let sizes = match headers {
            Some(header) => format!("{header} {}", size + header),
            None => size.to_string(),
        };
        let h = if headers.is_some() { "H" } else { "" };
        let line = format!("{h}MSG {subject} {sid}{blank}{reply}{sizes}{end}");
        let size = size + headers.unwrap_or(0);
        [line.into_bytes(), vec![b'x'; size], b"\r\n".to_vec()].concat()
    })
}

fn delivery_or_503() -> impl Strategy<Value = Vec<u8>> {
    let unanswered = Just(b"HMSG b.reply 22 16 16\r\nNATS/1.0 503\r\n\r\n\r\n".to_vec());
    prop_oneof![9 => delivery(), 1 => unanswered]
}

/// Pieces with repeats, as streams have them, and the end cut off.
fn stream(piece: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let pieces = proptest::collection::vec((piece, 1..7_usize), 1..12);
    (pieces, 0..30_usize).prop_map(|(pieces, cut)| {
        let whole: Vec<u8> = pieces
            .into_iter()
            .flat_map(|(piece, times)| piece.repeat(times))
            .collect();
        let len = whole.len().saturating_sub(cut);
        whole[..len].to_vec()
    })
}

fn counts(session: &Session) -> Traffic {
    session.traffic()
}

proptest! {
    #[test]
    fn publishes_pass_as_the_careful_way_passes_them(bytes in stream(publish())) {
        let (mut quick, mut careful) = (session(false), session(false));
        verbose(&mut careful);
        for session in [&mut quick, &mut careful] {
            let warm = b"PUB a.1 0\r\n\r\nPUB a.2 0\r\n\r\nPUB b.some.where.longer.than.the.others 0\r\n\r\n\
                PUB a.9 0\r\n\r\nSUB _INBOX.abcdefghijklmnopqrst.* 7\r\n";
            upstream_hears(session, warm);
        }
        let passed = upstream_hears(&mut quick, &bytes);
        prop_assert_eq!(passed.escape_ascii().to_string(), upstream_hears(&mut careful, &bytes).escape_ascii().to_string());
        let (quick_counts, careful_counts) = (counts(&quick), counts(&careful));
        prop_assert_eq!(quick_counts.messages_in, careful_counts.messages_in);
        prop_assert_eq!(quick_counts.bytes_in, careful_counts.bytes_in);
        prop_assert_eq!(quick_counts.denied, careful_counts.denied);
        prop_assert_eq!(quick.close_reason(), careful.close_reason());
    }

    #[test]
    fn deliveries_pass_as_the_careful_way_passes_them(bytes in stream(delivery_or_503()), respond in any::<bool>()) {
        let (mut quick, mut careful) = (session(respond), session(respond));
        for session in [&mut quick, &mut careful] {
            upstream_hears(session, b"SUB a.* 1\r\nSUB b.> 22\r\nSUB a.2 3\r\nUNSUB 3 2\r\n");
        }
        let (one, other) = (client_hears(&mut quick, &bytes), client_hears_in_pieces(&mut careful, &bytes));
        prop_assert_eq!(one.escape_ascii().to_string(), other.escape_ascii().to_string());
        prop_assert_eq!(counts(&quick), counts(&careful));
        prop_assert_eq!(quick.close_reason(), careful.close_reason());
        // Every reply is remembered that may be answered, and no other.
        for reply in ["12", "a.9", "b.no", "_INBOX.abcdefghijklmnopqrst.1"] {
            let answer = format!("PUB {reply} 0\r\n\r\n");
            prop_assert_eq!(upstream_hears(&mut quick, answer.as_bytes()), upstream_hears(&mut careful, answer.as_bytes()));
        }
        // What was delivered in a run counts against an UNSUB that comes behind it.
        let (one, other) = (upstream_hears(&mut quick, b"UNSUB 22 4\r\n"), upstream_hears(&mut careful, b"UNSUB 22 4\r\n"));
        prop_assert_eq!(one, other);
    }
}
