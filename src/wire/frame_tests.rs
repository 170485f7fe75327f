//! What the decoder accepts, refuses and leaves open, and that its two ways of reading agree.

use proptest::prelude::*;

use super::*;
use crate::wire::op::Publish;

const LIMITS: LineLimits = LineLimits {
    control: 4096,
    connect: 49_152,
};

fn client(input: &[u8]) -> Result<Frame<ClientOp<'_>>, LineFault> {
    decode_client(input, 0, LIMITS)
}

fn line(input: &[u8]) -> (ClientOp<'_>, usize, bool) {
    match client(input).unwrap() {
        Frame::Line { op, len, canonical } => (op, len, canonical),
        other => panic!("{other:?}"),
    }
}

#[test]
fn canonical_lines_are_told_from_tolerated_ones() {
    for (text, canonical) in [
        (&b"PUB a.b 5\r\n"[..], true),
        (b"PUB a.b r 5\r\n", true),
        (b"PUB a.b 0\r\n", true),
        (b"PUB a.b  5\r\n", false),
        (b"PUB a.b 05\r\n", false),
        (b"PUB  a.b 5\r\n", false),
        (b"PUB a.b 5 \r\n", false),
        (b"PUB a.b 5\n", false),
        (b"pub a.b 5\r\n", false),
        (b"PUB\ta.b 5\r\n", false),
        (b"HPUB a.b 1 5\r\n", true),
        (b"HPUB a.b r 01 5\r\n", false),
        (b"PING\r\n", true),
        (b"PING x\r\n", false),
        (b"ping\r\n", false),
        (b"PING\n", false),
    ] {
        let (_, len, found) = line(text);
        assert_eq!(found, canonical, "{}", text.escape_ascii());
        assert_eq!(len, text.len());
    }
}

#[test]
fn what_no_server_writes_is_not_passed_on() {
    for text in [
        &b"msg a 1 3\r\n"[..],
        b"MSG a 1 3\n",
        b"MSG\ta 1 3\r\n",
        b"MSG a\t1 3\r\n",
        b"MSGX a 1 3\r\n",
        b"HMSGa 1 12 12\r\n",
        b"PONG\n",
        b"+ok\r\n",
    ] {
        let found = decode_server(text, 0);
        assert_eq!(
            found,
            Err(LineFault::UnknownOperation),
            "{}",
            text.escape_ascii()
        );
    }
    assert!(decode_server(b"MSG a 1  3\r\n", 0).is_ok());
}

#[test]
fn what_depends_on_how_tcp_cut_it_is_refused() {
    for text in [&b"HMSG a 1 12 12\r\n"[..], b"hm", b"HMSG \n\r\n"] {
        assert_eq!(client(text), Err(LineFault::UnknownOperation));
    }
}

#[test]
fn faults_are_the_servers() {
    use LineFault::{Malformed, TooLong, UnknownOperation};
    for (text, fault) in [
        (&b"\r\n"[..], UnknownOperation),
        (b" PING\r\n", UnknownOperation),
        (b"GET / HTTP/1.1\r\n", UnknownOperation),
        (b"MSG a 1 0\r\n", UnknownOperation),
        (b"RS+ a b\r\n", UnknownOperation),
        (b"PUBx a 1\r\n", UnknownOperation),
        (b"CFOO", UnknownOperation),
        (b"PUB a\r 55\n", UnknownOperation),
        (b"SUB fo\ro.bar 1\r\n", UnknownOperation),
        (b"PING \rx\r\n", UnknownOperation),
        (b"PUB a\r\r\n", UnknownOperation),
        (b"PUB a\r\n", Malformed),
        (b"PUB a b c 1\r\n", Malformed),
        (b"PUB a 0000000005\r\n", Malformed),
        (b"PUB a -5\r\n", Malformed),
        (b"HPUB a 5\r\n", Malformed),
        (b"HPUB a 6 5\r\n", Malformed),
        (b"SUB a\r\n", Malformed),
        (b"UNSUB 1 2 3\r\n", Malformed),
    ] {
        assert_eq!(client(text), Err(fault), "{}", text.escape_ascii());
    }
    let long = [b"SUB ".as_slice(), &[b'a'; 4095], b" 1\r\n"].concat();
    assert_eq!(client(&long), Err(TooLong));
    let fits = [b"SUB   ".as_slice(), &[b'a'; 4094], b" 1\r\n"].concat();
    assert!(matches!(client(&fits), Ok(Frame::Line { .. })));
    let unfinished = [b"PUB ".as_slice(), &[b'a'; 4097]].concat();
    assert_eq!(client(&unfinished), Err(TooLong));
    let connect = [b"CONNECT {".as_slice(), &[b'a'; 48_000]].concat();
    assert!(matches!(client(&connect), Ok(Frame::Partial { .. })));
}

#[test]
fn what_is_wrong_first_is_what_is_wrong() {
    use LineFault::{TooLong, UnknownOperation};
    for (before, fault) in [(4096, UnknownOperation), (4097, TooLong)] {
        let line = [b"PUB  ".as_slice(), &vec![b'a'; before], b"\r\r\n"].concat();
        let cut = (line.len() - 8..=line.len()).find_map(|end| client(&line[..end]).err());
        assert_eq!((client(&line), cut), (Err(fault), Some(fault)));
    }
    for (before, fault) in [
        (SERVER_LINE_MAX - 1, UnknownOperation),
        (SERVER_LINE_MAX, TooLong),
    ] {
        let line = [b"MSG ".as_slice(), &vec![b'a'; before - 4], b"\r\r\n"].concat();
        let cut =
            (line.len() - 8..=line.len()).find_map(|end| decode_server(&line[..end], 0).err());
        assert_eq!(
            (decode_server(&line, 0).err(), cut),
            (Some(fault), Some(fault))
        );
    }
}

#[test]
fn the_tail_of_a_ping_has_no_limit() {
    let long = [b"PING".as_slice(), &[b'x'; 10_000]].concat();
    assert_eq!(client(&long), Ok(Frame::Tail { op: ClientOp::Ping }));
    assert_eq!(skip_tail(b"xxxx"), Ok((4, false)));
    assert_eq!(skip_tail(b"xxxx\r"), Ok((4, false)));
    assert_eq!(skip_tail(b"\r\nPUB"), Ok((2, true)));
    assert_eq!(skip_tail(b"x\nPUB"), Ok((2, true)));
    assert_eq!(skip_tail(b"x\rP"), Err(LineFault::UnknownOperation));
}

#[test]
fn server_lines_with_quirks_are_read() {
    let read = |text: &'static [u8]| match decode_server(text, 0).unwrap() {
        Frame::Line { op, .. } => op,
        other => panic!("{other:?}"),
    };
    assert_eq!(read(b"INFO {\"a\":1} \r\n"), ServerOp::Info(b"{\"a\":1}"));
    assert_eq!(
        read(b"-ERR 'Stale Connection'\r\n"),
        ServerOp::Err(b"Stale Connection")
    );
    let ServerOp::Message(double) = read(b"MSG victim.trace 3  629\r\n") else {
        panic!()
    };
    assert_eq!(
        (double.sid, double.reply, double.size),
        (&b"3"[..], None, 629)
    );
    let ServerOp::Message(zeros) = read(b"HMSG a 3 r 0016 00016\r\n") else {
        panic!()
    };
    assert_eq!((zeros.header_len, zeros.size), (Some(16), 16));
    assert!(decode_server(b"PUB a 1\r\n", 0).is_err());
    assert!(decode_server(b"MSG a 1 18446744073709551615\r\n", 0).is_err());
    assert!(decode_server(b"HMSG a 1 17 16\r\n", 0).is_err());
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"PUB ".to_vec()),
        Just(b"HPUB ".to_vec()),
        Just(b"MSG ".to_vec()),
        Just(b"HMSG ".to_vec()),
        Just(b" ".to_vec()),
        Just(b"\t".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"foo.bar".to_vec()),
        "[0-9]{1,10}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 1..9).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn the_quick_way_agrees_with_the_grammar(input in noise()) {
        if let Some(quick) = canonical::publish(&input, LIMITS.control) {
            match decode_client_slowly(&input, 0, LIMITS) {
                Ok(Frame::Line { op: ClientOp::Publish(slow), len, .. }) => {
                    prop_assert_eq!((quick.value, quick.len), (slow, len));
                }
                other => prop_assert!(false, "quick {:?}, slow {:?}", quick, other),
            }
        }
        if let Some(quick) = canonical::message(&input, SERVER_LINE_MAX) {
            match decode_server_slowly(&input, 0) {
                Ok(Frame::Line { op: ServerOp::Message(slow), len, .. }) => {
                    prop_assert_eq!((quick.value, quick.len), (slow, len));
                }
                other => prop_assert!(false, "quick {:?}, slow {:?}", quick, other),
            }
        }
    }

    #[test]
    fn an_accepted_line_is_never_read_differently_when_it_comes_in_pieces(input in noise()) {
        let whole = client(&input);
        for cut in 1..input.len() {
            let early = input.get(..cut).unwrap();
            match (decode_client(early, 0, LIMITS), whole) {
                (Ok(Frame::Line { op, len, .. }), Ok(Frame::Line { op: all, len: end, .. })) => {
                    prop_assert_eq!((op, len), (all, end));
                }
                (Ok(Frame::Line { .. }), other) => prop_assert!(false, "{:?}", other),
                (Err(fault), other) => prop_assert_eq!(Err(fault), other),
                (Ok(Frame::Partial { .. } | Frame::Tail { .. }), _) => {}
            }
        }
    }

    #[test]
    fn canonical_means_that_encoding_gives_the_same_bytes(input in noise()) {
        if let Ok(Frame::Line { op: ClientOp::Publish(op), len, canonical }) = client(&input) {
            let Publish { subject, reply, header_len, size } = op;
            let mut out = Vec::new();
            crate::wire::encode::publish(&mut out, subject, reply, header_len, size);
            prop_assert_eq!(canonical, out.as_slice() == input.get(..len).unwrap());
            prop_assert!(out.len() <= len.max(out.len().min(len + 1)));
        }
    }
}
