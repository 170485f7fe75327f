//! The stream of a client, cut anywhere, before a server whose parser was written apart from ours.
//!
//! What goes upstream is read by that server as exactly the operations that were judged; the session ends where, and as,
//! that server would have ended the connection, or earlier where reading is a matter of luck; and cuts change nothing.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use natsentry::session::{CloseReason, Farewell};
use serde_json::json;

use super::front::{Front, START, World};
use super::reading::{self, Judged, Read};
use super::server::{End, Op, Parser, Settings};

/// What the role of every session here grants: enough for some to pass and some not.
pub static WORLDS: LazyLock<Vec<World>> = LazyLock::new(|| {
    // No body is judged: what they say has tests of its own.
    let everything =
        json!({ "publish": [">"], "subscribe": [">"], "inbox": "off", "stream_config": "any" });
    let some = json!({
        "publish": ["a.>", "foo", "ok.*", "*.b"], "subscribe": ["a.>", "foo", { "subject": "jobs.*", "queue": "q*" }],
        "deny": { "publish": ["a.no.>"] }, "inbox": "off", "stream_config": "any",
    });
    let small = Settings {
        headers: true,
        max_payload: 64,
        max_control_line: 200,
        takes_subscriptions: true,
    };
    let headless = Settings {
        headers: false,
        ..Settings::default()
    };
    vec![
        World::new(&everything, Settings::default()),
        World::new(&some, Settings::default()),
        World::new(&everything, small),
        World::new(&some, headless),
    ]
});

/// The first byte picks the world, the second the cuts; the rest is the stream.
pub fn client_stream(data: &[u8]) {
    let [world, cuts, stream @ ..] = data else {
        return;
    };
    let world = &WORLDS[usize::from(*world) % WORLDS.len()];
    if let Err(fault) = check(
        world,
        stream,
        &cut(stream, u64::from(*cuts)),
        reading::natsentry,
    ) {
        panic!("{fault}");
    }
}

/// Single bytes of a stream that are sent one by one; the rest of a longer one comes in larger pieces.
const SINGLE: usize = 1024;

/// Pieces of a stream: 0 leaves it whole, 1 makes single bytes, every other number cuts in its own way.
pub fn cut(stream: &[u8], seed: u64) -> Vec<&[u8]> {
    match seed {
        0 => vec![stream],
        1 => {
            let (single, rest) = stream.split_at(stream.len().min(SINGLE));
            single.chunks(1).chain(rest.chunks(61)).collect()
        }
        seed => {
            let mut pieces = Vec::new();
            let mut rest = stream;
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            while !rest.is_empty() {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let most = [2, 5, 16, 64, 1024][(state >> 40) as usize % 5];
                let len = (1 + (state >> 20) as usize % most).min(rest.len());
                let (piece, left) = rest.split_at(len);
                pieces.push(piece);
                rest = left;
            }
            pieces
        }
    }
}

/// What came of a stream.
#[derive(Clone)]
pub struct Outcome {
    /// What the upstream got.
    pub upstream: Vec<u8>,
    /// What the client got.
    pub client: Vec<u8>,
    pub close: Option<CloseReason>,
}

/// Sends a stream through a session.
pub fn through(world: &World, pieces: &[&[u8]]) -> Outcome {
    let mut front = Front::serving(world);
    for piece in pieces {
        front.client(piece);
        front.upstream_answers();
        front.refuse();
    }
    front.upstream_ends_too();
    Outcome {
        close: front.close(),
        upstream: front.to_upstream,
        client: front.to_client,
    }
}

/// Checks one stream.
///
/// # Errors
/// What does not hold.
pub fn check(
    world: &World,
    stream: &[u8],
    pieces: &[&[u8]],
    decode: reading::Decode,
) -> Result<Seen, String> {
    let show = || stream.escape_ascii().to_string();
    let got = through(world, pieces);
    let read = reading::read(stream, world.settings, decode);
    let (fault, rest) = (read.fault, read.rest);
    let judged = reading::judge(&world.permissions, world.settings, read, START);
    let upstream = upstream_reads(world, &got.upstream, stream.len() as u64)?;
    let same = if judged.counts_itself {
        published(&upstream).eq(published(&judged.ops))
    } else {
        but_for_own_pings(&in_order(&upstream), &in_order(&judged.ops))
    };
    if !same {
        return Err(format!(
            "SMUGGLED: upstream reads {upstream:?}\n   what was judged is {:?}\n   stream \"{}\"",
            judged.ops,
            show()
        ));
    }
    if got.close != judged.close {
        return Err(format!(
            "closed {:?}, not {:?}: \"{}\"",
            got.close,
            judged.close,
            show()
        ));
    }
    let whole = if let [_] = pieces {
        got.clone()
    } else {
        through(world, &[stream])
    };
    // Of a message whose end is wrong, some may have gone upstream already.
    let same =
        got.upstream.starts_with(&whole.upstream) || whole.upstream.starts_with(&got.upstream);
    if !same || (&whole.client, whole.close) != (&got.client, got.close) {
        return Err(format!("cuts make a difference: \"{}\"", show()));
    }
    let unlucky = fault.is_some() && is_a_matter_of_luck(&stream[rest..]);
    as_with_the_server(world, pieces, &judged, unlucky)
        .map_err(|why| format!("{why}\n   stream \"{}\"", show()))?;
    Ok(Seen {
        operations: upstream.len(),
        ended: got.close.is_some(),
    })
}

/// What a stream showed.
pub struct Seen {
    /// Operations that went upstream.
    pub operations: usize,
    /// Whether the session ended by it.
    pub ended: bool,
}

/// How a server reads what natsentry sent it; it must not find fault with it.
fn upstream_reads(world: &World, bytes: &[u8], cuts: u64) -> Result<Vec<Op>, String> {
    let mut server = Parser::new(world.settings);
    for piece in cut(bytes, cuts % 7) {
        server.read(piece);
    }
    let ops = server.ops().iter().map(|op| match op {
        Op::Connect(json) => reading::in_order_of_keys(json),
        op => op.clone(),
    });
    match server.end() {
        None => Ok(ops.collect()),
        Some(end) => Err(format!(
            "upstream closes, {end:?}, on \"{}\"",
            bytes.escape_ascii()
        )),
    }
}

/// Whether upstream reads what was judged, and besides only natsentry's own PINGs, whose PONG tells when a sid may be used
/// again: behind an UNSUB, or before a SUB on a sid that had one; or that everything is answered before a second CONNECT.
fn but_for_own_pings(upstream: &[Op], judged: &[Op]) -> bool {
    let mut judged = judged.iter().peekable();
    let mut gone: BTreeSet<&[u8]> = BTreeSet::new();
    let mut ended = false;
    let asks = Op::Connect(Vec::new());
    let mut asked = 0_usize;
    for (at, op) in upstream.iter().enumerate() {
        if let Op::Unsubscribe { sid, .. } = op {
            gone.insert(sid);
        }
        if *op != Op::Ping {
            asked = 0;
        }
        while judged.next_if_eq(&&asks).is_some() {
            asked += 1;
        }
        if judged.next_if_eq(&op).is_none() {
            let next = upstream[at..].iter().find(|op| **op != Op::Ping);
            let again = matches!(next, Some(Op::Subscribe { sid, .. }) if gone.contains(&**sid));
            if *op != Op::Ping || !(ended || again || asked > 0) {
                return false;
            }
            asked = asked.saturating_sub(1);
        }
        ended = matches!(op, Op::Unsubscribe { .. }) || ended && *op == Op::Ping;
    }
    judged.all(|op| *op == asks)
}

fn published(ops: &[Op]) -> impl Iterator<Item = &Op> {
    ops.iter().filter(|op| matches!(op, Op::Publish { .. }))
}

/// Subscriptions that a second CONNECT takes away end in no order.
fn in_order(ops: &[Op]) -> Vec<Op> {
    let mut ops = ops.to_vec();
    for run in ops.chunk_by_mut(|one, next| {
        let ends = |op: &Op| matches!(op, Op::Unsubscribe { max: None, .. });
        ends(one) && ends(next)
    }) {
        if run.len() > 1 {
            run.sort();
        }
    }
    ops
}

/// The same stream before the server itself: it lets through the same operations, and ends the connection the same way.
fn as_with_the_server(
    world: &World,
    pieces: &[&[u8]],
    judged: &Judged,
    unlucky: bool,
) -> Result<(), String> {
    let mut server = Parser::new(world.settings);
    for piece in pieces {
        server.read(piece);
    }
    let fault = server.end().map(|end| match end {
        End::Silent => CloseReason::Malformed,
        End::Said("Maximum Payload Violation") => CloseReason::PayloadTooLarge,
        End::Said("maximum control line exceeded") => CloseReason::ControlLineTooLong,
        End::Said(_) => CloseReason::UnknownOperation,
    });
    let read = Read {
        ops: server.ops().to_vec(),
        fault,
        rest: 0,
    };
    let servers = reading::judge(&world.permissions, world.settings, read, START);
    if unlucky {
        return if servers.ops.starts_with(&judged.ops) {
            Ok(())
        } else {
            Err(format!(
                "a server reads {:?}, natsentry {:?}",
                servers.ops, judged.ops
            ))
        };
    }
    let said = |close: Option<CloseReason>| close.map(CloseReason::farewell);
    let silent = |close: Option<CloseReason>| said(close) == Some(Farewell::Silent);
    let same = said(servers.close) == said(judged.close)
        || (silent(servers.close) && silent(judged.close));
    if !same || servers.ops != judged.ops {
        return Err(format!(
            "a server reads {:?} and ends {:?}, natsentry {:?} and ends {:?}",
            servers.ops, servers.close, judged.ops, judged.close
        ));
    }
    Ok(())
}

/// Whether what a server makes of an operation at fault depends on its version or on how TCP cut it, so that natsentry ends
/// the session in any case: a CR without LF, an LF as the first byte of the arguments, INFO and HMSG; and -ERR, after which a
/// server goes on to the end of its read.
fn is_a_matter_of_luck(operation: &[u8]) -> bool {
    let line_end = operation.iter().position(|byte| *byte == b'\n');
    let line = &operation[..line_end.map_or(operation.len(), |end| end + 1)];
    let lone_cr = line
        .windows(2)
        .any(|pair| pair[0] == b'\r' && pair[1] != b'\n');
    let verb: Vec<u8> = line
        .iter()
        .take_while(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'{'))
        .map(u8::to_ascii_uppercase)
        .collect();
    let first = line[verb.len()..]
        .iter()
        .find(|byte| !matches!(byte, b' ' | b'\t'));
    lone_cr
        || first == Some(&b'\n')
        || verb == b"INFO"
        || verb == b"-ERR"
        || b"HMSG".starts_with(&verb) && verb.len() > 1
}
