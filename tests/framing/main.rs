//! The parser oracle: no sequence of bytes may make natsentry and the server behind it disagree about what was said.
//!
//! Streams of a client go through a session in memory, and what comes out is read by a model of nats-server's parser
//! (`tests/fuzz/properties/server.rs`): it has to read exactly the operations that were judged, and the session has to end as that
//! server would have ended the connection. `wire` holds the model to real servers and sends streams through the whole proxy.
//!
//! `NATSENTRY_STREAMS` sets how many random streams are tried in memory, `NATSENTRY_WIRE_STREAMS` how many with each real
//! server, `NATSENTRY_SEED` repeats a run.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a broken test environment has to be loud"
)]
#![allow(unreachable_pub, reason = "modules of a test program")]

#[path = "../fuzz/properties/mod.rs"]
mod properties;
#[path = "../support/mod.rs"]
mod support;

mod generate;
mod planted;
mod wire;

use std::time::Instant;

use generate::Random;
use properties::client_stream::{WORLDS, check, cut};
use properties::reading;

/// Streams tried in memory unless the environment says otherwise.
const STREAMS: usize = 20_000;

/// Everything of the reference on hazards of framing, and what surrounds it.
const HAZARDS: [&[u8]; 28] = [
    b"PUB a\r 55\nhello\r\n",
    b"PUB foo\r 15\nA\r\nPUB a 3\r\nokk\r\n",
    b"PUB foo\r 15\r\nA\r\nPUB a 3\r\nokk\r\n",
    b"PUB foo.a\rX 2\r\nok\r\n",
    b"PUB foo 2\r1\r\nok\r\n",
    b"SUB fo\ro.bar 1\r\n",
    b"SUB foo\r 1\nPING\r\n",
    b"UNSUB 1\r\r\n",
    b"PING\rPUB a 0\r\n\r\n",
    b"PINGPUB a 0\r\n\r\nPING\r\n",
    b"+OK PUB a 0\r\n\r\n",
    b"HMSG a 1 2 2\r\n\r\nPUB a 0\r\n\r\n",
    b"HMSG \n\r\nPUB a 0\r\n\r\n",
    b"INFO {}\r\nPUB a 0\r\n\r\n",
    b"INFO {\"x\":\"\\r\\nPUB a 0\\r\\n\"}\r\nPING\r\n",
    b"INFO \n{}\r\nPING\r\n",
    b"PUB a 00005\r\nhello\r\nPING\r\n",
    b"PUB a 0000000005\r\nhello\r\n",
    b"PUB a 000000005\r\nhello\r\n",
    b"PUB \na 3\r\nabc\r\n",
    b"PUB a 3\r\nabc\nPING\r\n",
    b"PUB a 3\r\nabcPING\r\n",
    b"PUB a 0\r\n\r\nPUB a 0\r\n\nPING\r\n",
    b"HPUB a 0 0\r\n\r\nHPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n",
    b"HPUB a 5 3\r\nabc\r\n",
    b"CONNECT {\"user\":\"a\",\"USER\":\"b\"}\r\nPING\r\n",
    b"SUB\ta.b\t1\nUNSUB\t1 \tx\nSUB a.b 1\r\nSUB a.c 1\r\n",
    b"PUB a\xe2\x80\xa8b\xc2\xa0c\x0bd\x0ce 1\r\nx\r\n",
];

#[test]
fn hazards_cut_at_every_byte() {
    for stream in HAZARDS {
        for world in WORLDS.iter() {
            for at in 0..=stream.len() {
                for then in at..=stream.len() {
                    let pieces = [&stream[..at], &stream[at..then], &stream[then..]];
                    if let Err(fault) = check(world, stream, &pieces, reading::natsentry) {
                        panic!("cut at {at} and {then}: {fault}");
                    }
                }
            }
            let bytes = cut(stream, 1);
            check(world, stream, &bytes, reading::natsentry)
                .unwrap_or_else(|fault| panic!("{fault}"));
        }
    }
}

#[test]
fn random_streams_smuggle_nothing() {
    let wanted = environment("NATSENTRY_STREAMS", STREAMS);
    let seed = environment("NATSENTRY_SEED", 20_261_128);
    let start = Instant::now();
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(wanted.div_ceil(STREAMS));
    let (operations, ends) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || try_streams(seed, thread, wanted.div_ceil(threads))))
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no stream is misread"))
            .fold((0, 0), |(operations, ends), (more, closed)| {
                (operations + more, ends + closed)
            })
    });
    eprintln!(
        "{} streams, {operations} operations upstream, {ends} streams that ended the session, 0 smuggled; {:?}, NATSENTRY_SEED={seed}",
        wanted.div_ceil(threads) * threads,
        start.elapsed()
    );
    assert!(
        operations > wanted / 2 && ends > wanted / 10,
        "streams that say nothing show nothing"
    );
}

fn try_streams(seed: usize, thread: usize, count: usize) -> (usize, usize) {
    let mut random = Random((seed as u64) ^ ((thread as u64) << 32));
    let (mut operations, mut ends) = (0, 0);
    for _ in 0..count {
        let world = &WORLDS[random.below(WORLDS.len())];
        let stream = generate::stream(&mut random);
        let pieces = cut(&stream, random.next() % 1000);
        match check(world, &stream, &pieces, reading::natsentry) {
            Ok(seen) => {
                operations += seen.operations;
                ends += usize::from(seen.ended);
            }
            Err(fault) => panic!("NATSENTRY_SEED={seed}: {fault}"),
        }
    }
    (operations, ends)
}

fn environment(name: &str, default: usize) -> usize {
    let stated = std::env::var(name).ok();
    stated.map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number"))
    })
}
