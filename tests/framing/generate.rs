//! Random streams of a client: operations in every spelling that some server takes, whatever it does not take, and payloads
//! that would be operations if anything read them as such; then changed a little, and cut.

/// SplitMix64: small, and the same everywhere for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("small")
    }

    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }
}

const SUBJECTS: [&[u8]; 16] = [
    b"foo",
    b"a.b",
    b"a.no.x",
    b"ok.1",
    b"x.b",
    b"a.*",
    b">",
    b"*",
    b"a..b",
    b"\x0b",
    b"f\xc2\xa0o",
    b"\xff\xfe",
    b"a\x00b",
    b"jobs.1",
    b"$SYS.REQ.USER.INFO",
    b"_INBOX.aaaaaaaaaaaaaaaaaaaaaa.1",
];

const HIDDEN: [&[u8]; 8] = [
    b"PUB a 3\r\nokk\r\n",
    b"\r\nSUB > 9\r\n",
    b"x\r\nPUB foo 1\r\ny\r\n",
    b"PING\r\n",
    b"\r\n\r\n",
    b"UNSUB 1\r\n",
    b"PUB smuggled 0\r\n\r\n",
    b"\n",
];

const OTHERS: [&[u8]; 25] = [
    b"PING\r\n",
    b"PING\n",
    b"pInG junk\r\n",
    b"PINGPUB a 0\r\n",
    b"PONG\r\n",
    b"PONG \t\r\n",
    b"+OK\r\n",
    b"+ok x\n",
    b"INFO {}\r\n",
    b"INFO{\"port\":4222}\r\n",
    b"CONNECT {}\r\n",
    b"CONNECT{\"verbose\":true}\n",
    b"CONNECT {\"echo\":false,\"name\":\"\\r\\nPUB smuggled 0\\r\\n\"}\r\n",
    b"CONNECT {\"headers\":false}\r\n",
    b"CONNECT {\"Headers\":true,\"pa\\u017fs\":null,\"protocol\":0}\r\n",
    b"-ERR x\r\n",
    b"HMSG a 1 2 2\r\n\r\n",
    b"MSG a 1 0\r\n\r\n",
    b"\r\n",
    b" PING\r\n",
    b"PUB \nfoo 0\r\n\r\n",
    b"SUB\r\n",
    b"PUB\r\n",
    b"INFO [1]\r\n",
    b"\x00",
];

const BLANKS: [&[u8]; 6] = [b" ", b" ", b" ", b"  ", b"\t", b" \t "];

/// What no two readers should be trusted to read alike.
const POISON: [&[u8]; 12] = [
    b"\r",
    b"\n",
    b"\r\r",
    b" ",
    b"\t",
    b"\x0c",
    b"\x85",
    b"0",
    b"9",
    b"-",
    b"+",
    b"\xe2\x80\xa8",
];

/// A stream of a few operations.
pub fn stream(random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..=random.below(5) {
        operation(random, &mut out);
    }
    if random.once_in(2) {
        for _ in 0..=random.below(3) {
            change(random, &mut out);
        }
    }
    out
}

fn operation(random: &mut Random, out: &mut Vec<u8>) {
    match random.below(10) {
        0..=4 => publish(random, out),
        5 | 6 => {
            verb(random, b"SUB", out);
            word(random, &SUBJECTS, out);
            if random.once_in(3) {
                word(random, &[b"q", b"q1", b"_sys_", b"a..b"], out);
            }
            word(random, &[b"1", b"2", b"x-Y.!", b"9"], out);
            line_end(random, out);
        }
        7 => {
            verb(random, b"UNSUB", out);
            word(random, &[b"1", b"2", b"x-Y.!", b"9"], out);
            if random.once_in(2) {
                word(
                    random,
                    &[
                        b"0",
                        b"1",
                        b"007",
                        b"5",
                        b"x",
                        b"-1",
                        b"1234567890",
                        b"999999999",
                    ],
                    out,
                );
            }
            line_end(random, out);
        }
        _ => out.extend_from_slice(random.pick(&OTHERS)),
    }
}

fn publish(random: &mut Random, out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    for _ in 0..random.below(4) {
        payload.extend_from_slice(random.pick(&HIDDEN));
    }
    if random.once_in(24) {
        payload.resize(payload.len() + random.below(300), b'z');
    }
    let headers: &[u8] = random.pick(&[
        &b"NATS/1.0\r\n\r\n"[..],
        b"NATS/1.0\r\nA: b\r\n\r\n",
        b"",
        b"NATS/1.0\r\nNats-Trace-Dest: a.no.x\r\n\r\n",
        b"junk",
    ]);
    let with_headers = random.once_in(3);
    verb(random, if with_headers { b"HPUB" } else { b"PUB" }, out);
    word(random, &SUBJECTS, out);
    if random.once_in(3) {
        word(
            random,
            &[
                b"r",
                b"a.b",
                b"foo.*",
                b"_INBOX.aaaaaaaaaaaaaaaaaaaaaa.2",
                b"$JS.ACK.x",
            ],
            out,
        );
    }
    if with_headers {
        let len = headers.len();
        size(random, len, out);
        payload.splice(0..0, headers.iter().copied());
    }
    let len = payload.len();
    size(random, len, out);
    line_end(random, out);
    out.extend_from_slice(&payload);
    out.extend_from_slice(if random.once_in(40) { b"\n" } else { b"\r\n" });
}

fn verb(random: &mut Random, name: &[u8], out: &mut Vec<u8>) {
    let name = if random.once_in(6) {
        name.to_ascii_lowercase()
    } else {
        name.to_vec()
    };
    out.extend_from_slice(&name);
}

fn word(random: &mut Random, words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(random.pick(&BLANKS));
    out.extend_from_slice(random.pick(words));
}

/// A length, mostly right, in some spelling.
fn size(random: &mut Random, len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(random.pick(&BLANKS));
    let text = match random.below(40) {
        0..=31 => format!("{len}"),
        32..=34 => format!("0{len}"),
        35 => format!("{len:09}"),
        36 => format!("{len:010}"),
        37 => format!("{}", len + 1),
        38 => format!("{}", len.saturating_sub(1 + random.below(3))),
        _ => random
            .pick(&[
                "-1",
                "+3",
                "0x5",
                "",
                "1e1",
                "65",
                "4097",
                "999999999",
                "99999999999999999999",
            ])
            .to_owned(),
    };
    out.extend_from_slice(text.as_bytes());
}

fn line_end(random: &mut Random, out: &mut Vec<u8>) {
    if random.once_in(12) {
        out.extend_from_slice(random.pick(&BLANKS));
    }
    out.extend_from_slice(if random.once_in(8) { b"\n" } else { b"\r\n" });
}

fn change(random: &mut Random, stream: &mut Vec<u8>) {
    let at = random.below(stream.len() + 1);
    let to = (at + 1 + random.below(6)).min(stream.len());
    match random.below(5) {
        0 => drop(stream.drain(at..to)),
        1 if at < stream.len() => stream[at] ^= 1 << random.below(8),
        2 => {
            let again = stream[at..to].to_vec();
            drop(stream.splice(at..at, again));
        }
        _ => {
            let poison = random.pick(&POISON);
            drop(stream.splice(at..at, poison.iter().copied()));
        }
    }
}
