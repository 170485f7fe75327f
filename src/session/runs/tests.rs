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
        "publish": ["a.*", "b.>", "w.>", "{oid}.*.x", "g.*.temp", "h.*.*.temp", "i.*.temp"],
        "subscribe": ["a.*", "b.>"],
        "deny": {
            "publish": ["b.no", "b.some.answ", "i.12.*"],
            "subscribe": ["b.no", "b.deep.*.no", "b.*.q.>", "b.{oid}.x.*", "b.deep.last"],
        },
    });
    if respond {
        role["respond"] = json!({ "max": 2, "ttl": "30s" });
    }
    serving(admission(&json!({ "r": role }), &["R"], None))
}

fn verbose(session: &mut Session) {
    let line = b"CONNECT {\"verbose\":true,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n";
    session.handle_client(&mut line.to_vec(), 0, NOW);
    drop(upstream_hears(session, b"PING\r\n"));
    assert!(session.verbose);
}

/// What goes upstream when `bytes` come from the client, in one piece as far as the session takes them.
fn upstream_hears(session: &mut Session, bytes: &[u8]) -> Vec<u8> {
    upstream_hears_at(session, bytes, NOW)
}

fn upstream_hears_at(session: &mut Session, bytes: &[u8], now: Timestamp) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    let mut buffer = bytes.to_vec();
    while let Some(rest) = buffer.get_mut(at..).filter(|rest| !rest.is_empty()) {
        let taken = session.handle_client(rest, at, now);
        session.to_upstream().drain_to(&buffer, &mut out);
        let unused = at + taken.used;
        assert_eq!(
            buffer[unused..],
            bytes[unused..],
            "what is not judged is as it came"
        );
        session.to_client().discard();
        while session.poll_event(now).is_some() {}
        if taken.used == 0 {
            break;
        }
        at += taken.used;
    }
    out
}

/// What the client hears when `bytes` come from upstream.
fn client_hears(session: &mut Session, bytes: &[u8]) -> Vec<u8> {
    client_hears_at(session, bytes, NOW)
}

fn client_hears_at(session: &mut Session, bytes: &[u8], now: Timestamp) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let taken = session.handle_upstream(rest, at, now);
        session.to_client().drain_to(bytes, &mut out);
        while session.poll_event(now).is_some() {}
        if taken.used == 0 {
            break;
        }
        at += taken.used;
    }
    out
}

/// Likewise, but so that no message is ever there as a whole.
fn client_hears_in_pieces(session: &mut Session, bytes: &[u8]) -> Vec<u8> {
    client_hears_in_pieces_at(session, bytes, NOW)
}

fn client_hears_in_pieces_at(session: &mut Session, bytes: &[u8], now: Timestamp) -> Vec<u8> {
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
        let taken = session.handle_upstream(&rest[..piece], at, now);
        session.to_client().drain_to(bytes, &mut out);
        while session.poll_event(now).is_some() {}
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
        // Likewise, with deny entries about them in several places.
        6 => prop::sample::select(vec![
            "b.deep.a.no", "b.deep.b.ok", "b.deep.*.no", "b.deep.>.no", "b.deep..no.", "b.deep.a.no.", "b.deep.q.ok", "b.deep.last",
            "b.alice.x.y", "b.alice.x.", "b.alice.y.x", "b.alicf.x.y", "b.deep.", "b.deep.lasu", "b..q.x.yzz", "b.*.q.x.yzz",
        ]),
    ]
}

/// Subjects around a wildcard that other tokens follow, mostly of one length.
const AROUND: [&[&str]; 4] = [
    &[
        "g.12345.temp",
        "g.54321.temp",
        "g.12345.temq",
        "g.1.345.temp",
        "g.1>345.temp",
        "g.*2345.temp",
        "g..2345.temp",
        "g.12345..tmp",
        "g.temp",
        "g.temp.temp",
    ],
    &[
        "h.1.345.temp",
        "h.1.543.temp",
        "h.2.345.temp",
        "h.12345.temp",
        "h.1...5.temp",
    ],
    &[
        "i.12.temp",
        "i.21.temp",
        "i.22.temp",
        "i.12345.temp",
        "i.54321.temp",
        "i.12345.tem.",
    ],
    &["alice.b.x", "alice.c.x", "alicf.c.x", "alice.bcx"],
];

fn reply() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![
        5 => Just(None), 1 => Just(Some("a.9")), 1 => Just(Some("12")), 1 => Just(Some("_INBOX.abcdefghijklmnopqrst.1")),
        // Beside an inbox that is held, and beside its token.
        6 => prop::sample::select(OWN.to_vec()).prop_map(Some),
        1 => Just(Some("_R_.x")), 1 => Just(Some("b.no")),
        // Of one length, as the libraries make them; one of them may be published to anyway, one never.
        8 => prop::sample::select(INBOXES.to_vec()).prop_map(Some),
    ]
}

const OWN: [&str; 6] = [
    "_INBOX.abcdefghijklmnopqrst.22",
    "_INBOX.abcdefghijklmnopqrst.33",
    "_INBOX.abcdefghijklmnopqrst...",
    "_INBOX.abcdefghijklmnopqrsx.22",
    "_INBOX.abcdefghijklmnopqrstx22",
    "_INBOX.abcdefghijklmnopqrst.*.",
];

const INBOXES: [&str; 6] = [
    "_INBOX.zz.01",
    "_INBOX.zz.02",
    "_INBOX.zz.03",
    "a.4567890123",
    "_GR_.zz.0001",
    "b.some.answ.",
];

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

/// A publish that may be an answer, mostly of one length with the others.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let answer = (prop::sample::select(INBOXES.to_vec()), 9..12_usize);
    let answer = answer.prop_map(|(reply, size)| {
        format!("PUB {reply} {size}\r\n{}\r\n", "x".repeat(size)).into_bytes()
    });
    prop_oneof![4 => answer, 1 => publish()]
}

/// Requests, with a reply each.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let parts = (
        prop::sample::select(INBOXES.to_vec()),
        any::<bool>(),
        0..3_u32,
    );
    parts.prop_map(|(reply, denied, headers)| {
        let subject = if denied { "b.no" } else { "b.qq" };
        let (h, sizes) = if headers == 0 {
            ("H", "2 6")
        } else {
            ("", "6")
        };
        format!("{h}MSG {subject} 22 {reply} {sizes}\r\nxxxxxx\r\n").into_bytes()
    })
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

/// Publishes of all forms, so many that a run is changed in parts, and messages beside which some stay where they are.
fn many_publishes() -> impl Strategy<Value = Vec<u8>> {
    let long = (
        prop::sample::select(vec!["PUB", "pub"]),
        blank(),
        16_000..50_000_usize,
    );
    let long = long.prop_map(|(verb, blank, size)| {
        let payload = "x".repeat(size);
        format!("{verb} a.1{blank}{size}\r\n{payload}\r\n").into_bytes()
    });
    let small = (publish(), 1..90_usize).prop_map(|(message, times)| {
        let times = if message.len() > 1000 { 2 } else { times };
        message.repeat(times)
    });
    let piece = prop_oneof![1 => long, 30 => small];
    proptest::collection::vec(piece, 20..120).prop_map(|pieces| pieces.concat())
}

/// Publishes on subjects of one kind.
fn publishes_around() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(AROUND.to_vec()).prop_flat_map(|subjects| {
        let publish = (prop::sample::select(subjects.to_vec()), blank());
        stream(
            publish.prop_map(|(subject, blank)| {
                format!("PUB {subject}{blank}3\r\nxyz\r\n").into_bytes()
            }),
        )
    })
}

/// Fails unless these publishes pass as the careful way passes them.
fn assert_alike(bytes: &[u8]) -> Result<(), TestCaseError> {
    let (mut quick, mut careful) = (session(false), session(false));
    verbose(&mut careful);
    for session in [&mut quick, &mut careful] {
        let warm =
            b"PUB a.1 0\r\n\r\nPUB a.2 0\r\n\r\nPUB b.some.where.longer.than.the.others 0\r\n\r\n\
            PUB a.9 0\r\n\r\nSUB _INBOX.abcdefghijklmnopqrst.* 7\r\n";
        upstream_hears(session, warm);
    }
    let text = |heard: Vec<u8>| heard.escape_ascii().to_string();
    prop_assert_eq!(
        text(upstream_hears(&mut quick, bytes)),
        text(upstream_hears(&mut careful, bytes))
    );
    let (quick_counts, careful_counts) = (counts(&quick), counts(&careful));
    prop_assert_eq!(quick_counts.messages_in, careful_counts.messages_in);
    prop_assert_eq!(quick_counts.bytes_in, careful_counts.bytes_in);
    prop_assert_eq!(quick_counts.denied, careful_counts.denied);
    prop_assert_eq!(quick.close_reason(), careful.close_reason());
    Ok(())
}

proptest! {
    #[test]
    fn publishes_pass_as_the_careful_way_passes_them(bytes in stream(publish())) {
        assert_alike(&bytes)?;
    }

    #[test]
    fn many_publishes_do_likewise(bytes in many_publishes()) {
        assert_alike(&bytes)?;
    }

    #[test]
    fn publishes_around_a_wildcard_do_likewise(bytes in publishes_around()) {
        assert_alike(&bytes)?;
    }

    #[test]
    fn deliveries_pass_as_the_careful_way_passes_them(
        bytes in stream(delivery_or_503()), respond in any::<bool>(), cut in any::<prop::sample::Index>(),
    ) {
        let (mut quick, mut careful) = (session(respond), session(respond));
        for session in [&mut quick, &mut careful] {
            upstream_hears(session, b"SUB a.* 1\r\nSUB b.> 22\r\nSUB a.2 3\r\nUNSUB 3 2\r\n");
        }
        let mut one = Vec::new();
        let first = &bytes[..cut.index(bytes.len() + 1)];
        let taken = quick.handle_upstream(first, 0, NOW).used;
        quick.to_client().drain_to(first, &mut one);
        while quick.poll_event(NOW).is_some() {}
        one.extend(client_hears(&mut quick, &bytes[taken..]));
        let other = client_hears_in_pieces(&mut careful, &bytes);
        prop_assert_eq!(one.escape_ascii().to_string(), other.escape_ascii().to_string());
        prop_assert_eq!(counts(&quick), counts(&careful));
        prop_assert_eq!(quick.close_reason(), careful.close_reason());
        // Every reply is remembered that may be answered, and no other.
        for reply in ["12", "a.9", "b.no", "_INBOX.abcdefghijklmnopqrst.1"].iter().chain(&INBOXES) {
            let answer = format!("PUB {reply} 0\r\n\r\n");
            prop_assert_eq!(upstream_hears(&mut quick, answer.as_bytes()), upstream_hears(&mut careful, answer.as_bytes()));
        }
        // What was delivered in a run counts against an UNSUB that comes behind it.
        let (one, other) = (upstream_hears(&mut quick, b"UNSUB 22 4\r\n"), upstream_hears(&mut careful, b"UNSUB 22 4\r\n"));
        prop_assert_eq!(one, other);
    }
    #[test]
    fn answers_pass_as_the_careful_way_passes_them(
        rounds in prop::collection::vec((stream(request()), stream(answer())), 1..4), later in 0..40_u64,
    ) {
        let (mut quick, mut careful) = (session(true), session(true));
        verbose(&mut careful);
        for session in [&mut quick, &mut careful] {
            upstream_hears(session, b"SUB b.> 22\r\n");
        }
        let mut now = NOW;
        for (requests, answers) in rounds {
            let (one, other) =
                (client_hears_at(&mut quick, &requests, now), client_hears_in_pieces_at(&mut careful, &requests, now));
            prop_assert_eq!(one.escape_ascii().to_string(), other.escape_ascii().to_string());
            now = now.plus(std::time::Duration::from_secs(later));
            let (one, other) = (upstream_hears_at(&mut quick, &answers, now), upstream_hears_at(&mut careful, &answers, now));
            prop_assert_eq!(one.escape_ascii().to_string(), other.escape_ascii().to_string());
            prop_assert_eq!(quick.traffic().denied, careful.traffic().denied);
            prop_assert_eq!(quick.close_reason(), careful.close_reason());
        }
    }
}

fn requests(range: std::ops::Range<usize>) -> Vec<u8> {
    let request = |n: usize| format!("MSG b.qq 22 _INBOX.zz.{n:06} 6\r\nxxxxxx\r\n").into_bytes();
    range.flat_map(request).collect()
}

fn answers(range: std::ops::Range<usize>) -> Vec<u8> {
    let answer = |n: usize| format!("PUB _INBOX.zz.{n:06} 2\r\nok\r\n").into_bytes();
    range.flat_map(answer).collect()
}

/// How many of these answers go through, once.
fn passed(session: &mut Session, range: std::ops::Range<usize>) -> usize {
    let heard = upstream_hears(session, &answers(range));
    heard.windows(4).filter(|word| word == b"PUB ").count()
}

fn responder() -> Session {
    let mut session = session(true);
    upstream_hears(&mut session, b"SUB b.> 22\r\n");
    session
}

#[test]
fn a_request_may_be_answered_before_a_byte_of_it_is_written() {
    let mut session = responder();
    let run = requests(0..3);
    assert_eq!(session.handle_upstream(&run, 0, NOW).used, run.len());
    // The client takes nothing yet; its upstream's bytes have not to wait for that.
    let mut said = answers(0..3);
    session.handle_client(&mut said, 0, NOW);
    let mut out = Vec::new();
    session.to_upstream().drain_to(&said, &mut out);
    assert_eq!(out, answers(0..3));
}

#[test]
fn an_answer_that_comes_in_pieces_is_used_up_once() {
    let mut session = responder();
    client_hears(&mut session, &requests(0..2));
    let said = answers(0..1);
    for _ in 0..2 {
        // Nothing of it is there as a whole, then the rest.
        for (at, piece) in [
            (0, &said[..said.len() - 3]),
            (said.len() - 3, &said[said.len() - 3..]),
        ] {
            let taken = session.handle_client(&mut piece.to_vec(), at, NOW);
            assert_eq!(taken.used, piece.len());
            session.to_upstream().drain_to(&said, &mut Vec::new());
        }
    }
    assert_eq!(session.traffic().denied, 0);
    assert_eq!(
        passed(&mut session, 0..2),
        1,
        "two each, of which the first has none left"
    );
}

#[test]
fn a_run_opens_no_more_requests_than_may_be_open() {
    let mut session = responder();
    for n in 0..100 {
        client_hears(&mut session, &requests(n * 300..(n + 1) * 300));
    }
    assert_eq!(passed(&mut session, 16_000..16_384), 384);
    assert_eq!(passed(&mut session, 16_384..16_400), 0);
}

#[test]
fn a_run_opens_few_requests_where_memory_is_scarce() {
    let (mut quick, mut careful) = (responder(), responder());
    for session in [&mut quick, &mut careful] {
        session.handle_scarcity(true);
    }
    let run = requests(0..1000);
    client_hears(&mut quick, &run);
    client_hears_in_pieces(&mut careful, &run);
    let opened = passed(&mut careful, 0..1000);
    assert!((100..400).contains(&opened), "{opened}");
    assert_eq!(passed(&mut quick, 0..1000), opened);
}

#[test]
fn what_rests_has_given_back_what_it_remembered_and_knows_its_requests() {
    let mut session = responder();
    client_hears(&mut session, &requests(0..1000));
    assert_eq!(passed(&mut session, 0..998), 998);
    assert_eq!(passed(&mut session, 0..998), 998);
    upstream_hears(
        &mut session,
        b"PUB c.no 0\r\n\r\nPUB a.1 0\r\n\r\nPUB b.2.3 0\r\n\r\n",
    );
    assert!(session.may_rest() && session.held() > 128 * 1000);
    session.handle_rest(NOW);
    assert!(
        session.may_rest() && session.held() < 8 * 1024,
        "{}",
        session.held()
    );
    assert_eq!(passed(&mut session, 998..1000), 2);
    session.handle_rest(NOW.plus(std::time::Duration::from_secs(31)));
    assert!(!session.may_rest());
    assert_eq!(passed(&mut session, 998..1000), 0);
}

#[test]
fn what_is_kept_back_gives_no_leave_to_answer_however_it_is_cut() {
    let kept_back = String::from_utf8(requests(1..2))
        .unwrap()
        .replace("b.qq", "b.no");
    let nobodys = String::from_utf8(requests(2..3))
        .unwrap()
        .replace(" 22 ", " 23 ");
    let run = [
        &requests(0..1)[..],
        kept_back.as_bytes(),
        nobodys.as_bytes(),
        &requests(3..4),
    ]
    .concat();
    for cut in 0..run.len() {
        let mut session = responder();
        let taken = session.handle_upstream(&run[..cut], 0, NOW).used;
        session.to_client().discard();
        client_hears(&mut session, &run[taken..]);
        let passed: Vec<usize> = (0..4)
            .filter(|n| passed(&mut session, *n..*n + 1) == 1)
            .collect();
        assert_eq!(passed, [0, 3], "cut at {cut}");
    }
}

#[test]
fn a_line_that_was_cut_is_read_from_its_start_when_a_run_has_passed_it() {
    let mut session = session(false);
    let mut bytes = b"PUB a.1  3\r\nabc\r\nPUB a.1 0\r\n\r\n".to_vec();
    assert_eq!(session.handle_client(&mut bytes[..9], 0, NOW).used, 0);
    assert_eq!(session.handle_client(&mut bytes[..17], 0, NOW).used, 17);
    session.to_upstream().discard();
    assert!(matches!(session.inbound, Inbound::Line { searched: 0 }));
}

#[test]
fn little_that_is_changed_between_other_lines_is_no_piece_of_its_own() {
    for line in [
        "PUB a.1  0\r\n\r\n+OK\r\n",
        "pub a.1 0\r\n\r\n+OK\r\n",
        "PUB a.1\t0\r\n\r\n+OK\r\n",
    ] {
        let mut session = session(false);
        upstream_hears(&mut session, b"PUB a.1 0\r\n\r\n");
        let mut bytes = line.repeat(1000).into_bytes();
        let len = bytes.len();
        assert_eq!(session.handle_client(&mut bytes, 0, NOW).used, len);
        let mut slices = [std::io::IoSlice::new(&[]); 64];
        let pieces = session.to_upstream().fill(&bytes, &mut slices);
        assert!(pieces <= 2, "{line}: {pieces}");
    }
}

#[test]
fn looking_for_open_ground_among_thousands_of_deny_entries_leaves_others_their_turn() {
    let denied: Vec<String> = (0..10_000).map(|n| format!("d{n}.t.y")).collect();
    let role = json!({
        "bind": [{ "app_role": "R" }], "upstream": "a", "broad": true,
        "publish": ["*.t.x"], "deny": { "publish": denied },
    });
    let turns_of = |end: &str| {
        let mut session = serving(admission(&json!({ "r": role }), &["R"], None));
        let message = |n: usize| {
            let size = n % 8;
            format!("PUB a{}.t.x {size}\r\n{}\r\n", n % 500, "x".repeat(size))
        };
        let said: Vec<String> = (0..1800)
            .map(|n| message(n) + if n % 9 == 8 { end } else { "" })
            .collect();
        let mut bytes = said.concat().into_bytes();
        let (mut at, mut turns) = (0, 0);
        while at < bytes.len() {
            session.gives_way();
            at += session.handle_client(&mut bytes[at..], at, NOW).used;
            session.to_upstream().discard();
            turns += 1;
        }
        turns
    };
    assert_eq!(turns_of(""), 1, "it is looked for once in a run");
    // `+OK` ends a run, and nothing comes of it.
    let turns = turns_of("+OK\r\n");
    assert!((20..=200).contains(&turns), "{turns}");
}
