//! However the bytes are cut and however large the frames are, upstream gets the canonical form of what was permitted and
//! nothing else, and the client gets every message whole.

use std::time::Duration;

use natsentry::demo::servers::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::servers;
use crate::support::tap::Tap;
use crate::support::wire::{PATIENCE, connect_line};

/// xorshift64: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap_or(0) % bound
    }

    fn size(&mut self) -> usize {
        let sizes = [
            0, 1, 5, 100, 510, 511, 512, 513, 4_000, 65_530, 65_536, 70_000, 262_144, 300_000,
        ];
        sizes[self.below(sizes.len())]
    }
}

/// What is sent, what upstream must get of it, and the payloads that come back.
#[derive(Default)]
struct Talk {
    sent: Vec<u8>,
    upstream: Vec<u8>,
    back: Vec<Vec<u8>>,
    refused: usize,
}

/// A payload that would be operations if anything read it as such.
fn payload(size: usize) -> Vec<u8> {
    b"\r\nPUB smuggled 2\r\nxx\r\nSUB > 9\r\n"
        .iter()
        .copied()
        .cycle()
        .take(size)
        .collect()
}

impl Talk {
    fn frame(&mut self, dice: &mut Dice, number: usize) {
        let body = payload(dice.size());
        let size = body.len();
        let (line, canonical) = match dice.below(6) {
            0 | 1 => (
                format!("PUB ok.{number} {size}\r\n"),
                format!("PUB ok.{number} {size}\r\n"),
            ),
            2 => (
                format!("pUb\t ok.{number}   0{size} \n"),
                format!("PUB ok.{number} {size}\r\n"),
            ),
            3 => (
                format!("PUB ok.{number}  {size}\r\n"),
                format!("PUB ok.{number} {size}\r\n"),
            ),
            4 => {
                self.sent
                    .extend_from_slice(format!("PUB no.{number} {size}\r\n").as_bytes());
                self.sent.extend_from_slice(&body);
                self.sent.extend_from_slice(b"\r\n");
                self.refused += 1;
                return;
            }
            _ => {
                let headers = format!("NATS/1.0\r\nA: {}\r\n\r\n", "b".repeat(dice.below(80_000)));
                let (head, all) = (headers.len(), headers.len() + size);
                let line = format!("HPUB ok.{number} {head} {all}\r\n");
                self.put(&line, &line, &[headers.as_bytes(), &body].concat());
                return;
            }
        };
        self.put(&line, &canonical, &body);
    }

    fn put(&mut self, line: &str, canonical: &str, body: &[u8]) {
        for (to, line) in [(&mut self.sent, line), (&mut self.upstream, canonical)] {
            to.extend_from_slice(line.as_bytes());
            to.extend_from_slice(body);
            to.extend_from_slice(b"\r\n");
        }
        self.back.push(body.to_vec());
    }
}

/// Payloads of messages and the number of errors in a stream of the server, until the last PONG.
fn read_back(stream: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let (mut messages, mut errors, mut at) = (Vec::new(), 0, 0);
    while let Some(end) = stream[at..].windows(2).position(|pair| pair == b"\r\n") {
        let line = String::from_utf8_lossy(&stream[at..at + end]).into_owned();
        at += end + 2;
        if line.starts_with("MSG") || line.starts_with("HMSG") {
            let size: usize = line
                .rsplit(' ')
                .next()
                .expect("a size")
                .parse()
                .expect("digits");
            messages.push(stream[at..at + size].to_vec());
            at += size;
            assert_eq!(&stream[at..at + 2], b"\r\n", "after {line}");
            at += 2;
        } else if line.starts_with("-ERR 'Permissions Violation for Publish to \"no.") {
            errors += 1;
        } else {
            assert!(
                line.starts_with("INFO ") || line == "PING" || line == "PONG",
                "{line}"
            );
        }
    }
    (messages, errors)
}

/// PONGs near the end of a stream; an INFO may stand between them.
fn pongs(stream: &[u8]) -> usize {
    let tail = &stream[stream.len().saturating_sub(2_000)..];
    tail.windows(6).filter(|part| part == b"PONG\r\n").count()
}

async fn talk_through(address: std::net::SocketAddr, token: &str, seed: u64) -> Talk {
    let mut dice = Dice(seed);
    let mut talk = Talk::default();
    for number in 0..60 {
        talk.frame(&mut dice, number);
    }
    let tcp = TcpStream::connect(address).await.expect("a connection");
    tcp.set_nodelay(true).expect("an option");
    let (mut read, mut write) = tcp.into_split();
    let start = format!("{}SUB ok.> 1\r\n", connect_line(token, ""));
    let mut bytes = [
        start.as_bytes(),
        &talk.sent,
        b"PING\r\nPING end of talk\r\n",
    ]
    .concat();
    let writing = tokio::spawn(async move {
        while !bytes.is_empty() {
            let most = [1, 3, 17, 1_400, 65_536, 400_000][dice.below(6)];
            let rest = bytes.split_off(bytes.len().min(1 + dice.below(most)));
            write.write_all(&bytes).await.expect("it is read");
            bytes = rest;
            if dice.below(4) == 0 {
                tokio::task::yield_now().await;
            }
        }
        write
    });
    let mut stream = Vec::new();
    let mut piece = vec![0; 100_000];
    while pongs(&stream) < 2 {
        let count = tokio::time::timeout(PATIENCE, read.read(&mut piece[..])).await;
        let count = count.expect("an answer in time").expect("no error");
        assert!(
            count > 0,
            "closed after {:?}",
            String::from_utf8_lossy(&stream[stream.len().saturating_sub(200)..])
        );
        stream.extend_from_slice(&piece[..count]);
        // A reader that falls behind now and then makes the other direction wait.
        if count % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    drop(writing.await.expect("all is written"));
    let (messages, errors) = read_back(&stream);
    assert_eq!(errors, talk.refused, "seed {seed}");
    assert_eq!(messages.len(), talk.back.len(), "seed {seed}");
    assert!(
        messages
            .iter()
            .zip(&talk.back)
            .all(|(got, put)| got.ends_with(put)),
        "seed {seed}"
    );
    talk
}

#[tokio::test(flavor = "multi_thread")]
async fn random_frames_in_random_cuts_reach_upstream_in_their_canonical_form_alone() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let tap = Tap::before(nats.address()).await;
    let roles = r#"
roles:
  echo:
    bind: [{ app_role: Nats.Operator }]
    upstream: plant
    publish: ["ok.>"]
    subscribe: ["ok.>"]
"#;
    let proxy = Proxy::start(&idp, &Setup::to(tap.address.port()).roles(roles)).await;
    let token = proxy::token(&idp, "alice");
    for seed in 1..=6 {
        let talk = talk_through(proxy.address, &token, 0x9E37_79B9_7F4A_7C15 ^ seed).await;
        let streams = tap.to_server();
        let talks: Vec<_> = streams
            .iter()
            .filter(|stream| {
                stream
                    .windows(9)
                    .take(2_000)
                    .any(|part| part == b"SUB ok.> ")
            })
            .collect();
        let last = talks.last().expect("a session");
        let start = last
            .windows(12)
            .position(|part| part == b"SUB ok.> 1\r\n")
            .expect("SUB")
            + 12;
        let expected = [&talk.upstream[..], b"PING\r\nPING\r\n"].concat();
        let got = &last[start..];
        let differs = got.iter().zip(&expected).position(|(a, b)| a != b);
        assert!(
            got.len() == expected.len() && differs.is_none(),
            "seed {seed}: at {differs:?}"
        );
    }
    drop(proxy.stop().await);
}
