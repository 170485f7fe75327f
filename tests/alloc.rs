//! In steady state a message costs no allocation: counted, not argued. The session is driven as the server's lanes do it:
//! one buffer a direction, judged in place, written as slices of it. And what is remembered of tokens holds no more bytes
//! than it may.
#![allow(
    unsafe_code,
    reason = "a global allocator cannot be written without it; nothing of this file ships"
)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

#[path = "support/session.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write;
use std::hint::black_box;
use std::io::IoSlice;
use std::sync::Arc;

use natsentry::demo::idp::forge::{Forge, Row};
use natsentry::demo::idp::{Directory, Form};
use natsentry::identity::{
    Accept, Accepted, Cloud, Entra, Expectations, GroupForm, HeldKeys, KeyRing, KeySet,
};
use natsentry::session::{Limits, Outbox, Session};
use natsentry::time::Timestamp;
use serde_json::{Value, json};
use support::START;

/// Counts what each thread asks for, and holds.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends may ask when its counter is gone; nobody looks at it then.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get().wrapping_add(1)));
}

fn hold(taken: usize, given: usize) {
    let change = |held: &Cell<usize>| held.set(held.get().wrapping_add(taken).wrapping_sub(given));
    let _ = HELD.try_with(change);
}

/// What mimalloc, the program's allocator, takes for a block: there are four sizes from one power of two to the next.
fn block(size: usize) -> usize {
    let step = match size {
        0..=8 => 8,
        9..=64 => 16,
        _ => size.next_power_of_two() / 8,
    };
    size.next_multiple_of(step)
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        hold(block(layout.size()), 0);
        // SAFETY: the caller's promises are the ones that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        hold(block(layout.size()), 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        hold(block(size), block(layout.size()));
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        hold(0, block(layout.size()));
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

/// Messages of each case.
const MESSAGES: usize = 10_000;

/// Bytes read at a time: no multiple of any frame, so that reads end anywhere.
const READ: usize = 4093;

const BUFFER: usize = 64 * 1024;

#[derive(Clone, Copy)]
enum Side {
    Client,
    Upstream,
}

/// One direction, as in the server: what was read, judged and not yet judged.
struct Lane {
    side: Side,
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    wants: usize,
    written: u64,
}

impl Lane {
    fn new(side: Side) -> Self {
        Self {
            side,
            buffer: vec![0; BUFFER],
            start: 0,
            filled: 0,
            wants: 0,
            written: 0,
        }
    }

    /// Reads `stream` piece by piece, has it judged, and writes what comes of it.
    fn pass(&mut self, session: &mut Session, stream: &[u8]) {
        for piece in stream.chunks(READ) {
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
            self.buffer[self.filled..self.filled + piece.len()].copy_from_slice(piece);
            self.filled += piece.len();
            while self.filled > self.start && self.filled - self.start >= self.wants {
                let unhandled = &mut self.buffer[self.start..self.filled];
                let taken = match self.side {
                    Side::Client => session.handle_client(unhandled, self.start, START),
                    Side::Upstream => session.handle_upstream(unhandled, self.start, START),
                };
                self.start += taken.used;
                self.wants = taken.wants;
                let outbox = match self.side {
                    Side::Client => session.to_upstream(),
                    Side::Upstream => session.to_client(),
                };
                self.written += write(outbox, &self.buffer);
                if taken.used == 0 && !session.gives_way() {
                    break;
                }
            }
        }
    }
}

/// Takes what an outbox holds, as a socket would: some slices at a time, and not always all of them.
fn write(outbox: &mut Outbox, buffer: &[u8]) -> u64 {
    let mut written = 0;
    while !outbox.is_drained() {
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = outbox.fill(buffer, &mut slices);
        let offered: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
        black_box(&slices[..filled]);
        let taken = offered.div_ceil(2).max(1);
        outbox.advance(taken);
        written += taken as u64;
    }
    written
}

fn session(role: &Value) -> Session {
    support::serving(1, "alice", role, Limits::default(), &Arc::default())
}

/// Passes the frames twice, and says how many allocations the second time took. The first time, buffers grow and
/// subjects are remembered.
fn steady(session: &mut Session, side: Side, frame: impl Fn(usize) -> String) -> u64 {
    let mut stream = String::new();
    for index in 0..MESSAGES {
        stream.push_str(&frame(index));
    }
    let mut lane = Lane::new(side);
    let passed = |session: &Session| {
        let traffic = session.traffic();
        traffic.messages_in + traffic.messages_out
    };
    lane.pass(session, stream.as_bytes());
    let (before, written) = (passed(session), lane.written);
    let taken = allocations(|| lane.pass(session, stream.as_bytes()));
    assert_eq!(
        passed(session) - before,
        MESSAGES as u64,
        "not every message passed"
    );
    assert!(lane.written > written);
    assert_eq!(session.close_reason(), None);
    taken
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| ()), 0);
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
    let grown = allocations(|| {
        let mut text = String::new();
        for index in 0..1000 {
            write!(text, "{index}").unwrap();
        }
        black_box(&text);
    });
    assert!(grown > 1, "{grown}");
}

#[test]
fn a_canonical_publish_takes_none() {
    let mut session = session(&json!({"publish": ["telemetry.{oid}.>"], "inbox": "off"}));
    let taken = steady(&mut session, Side::Client, |index| {
        format!(
            "PUB telemetry.alice.{} 16\r\n0123456789abcdef\r\n",
            index % 64
        )
    });
    assert_eq!(taken, 0);
}

#[test]
fn a_publish_of_nats_py_with_two_blanks_takes_none() {
    let mut session = session(&json!({"publish": ["telemetry.>"], "inbox": "off"}));
    let taken = steady(&mut session, Side::Client, |index| {
        // Every fourth is too long to be copied, so that its payload stays where it was read.
        let size = if index % 4 == 0 { 700 } else { 16 };
        format!("PUB telemetry.temp  {size}\r\n{}\r\n", "x".repeat(size))
    });
    assert_eq!(taken, 0);
}

#[test]
fn a_publish_with_headers_takes_none() {
    let mut session = session(&json!({"publish": ["telemetry.>", "trace"], "inbox": "off"}));
    let taken = steady(&mut session, Side::Client, |_| {
        let block = "NATS/1.0\r\nNats-Msg-Id: 1234\r\nNats-Trace-Dest: trace\r\n\r\n";
        format!(
            "HPUB telemetry.temp {} {}\r\n{block}hello\r\n",
            block.len(),
            block.len() + 5
        )
    });
    assert_eq!(taken, 0);
}

#[test]
fn a_request_with_a_private_inbox_takes_none() {
    let mut session = session(&json!({"request": ["svc.lookup"]}));
    let subscribe = b"SUB _INBOX.abcdefghijklmnopqrstuv.* 1\r\n";
    session.handle_client(&mut subscribe.to_vec(), 0, START);
    write(session.to_upstream(), subscribe);
    let taken = steady(&mut session, Side::Client, |index| {
        format!("PUB svc.lookup _INBOX.abcdefghijklmnopqrstuv.{index} 4\r\nping\r\n")
    });
    assert_eq!(taken, 0);
}

#[test]
fn a_delivery_takes_none_also_with_a_deny_armed() {
    let mut session = session(&json!({
        "subscribe": ["orders.>"], "deny": {"subscribe": ["orders.secret.>"]}, "inbox": "off",
    }));
    let subscribe = b"SUB orders.> 7\r\n";
    session.handle_client(&mut subscribe.to_vec(), 0, START);
    write(session.to_upstream(), subscribe);
    assert_eq!(session.subscriptions(), 1);
    let taken = steady(&mut session, Side::Upstream, |index| {
        format!("MSG orders.eu.{} 7 16\r\n0123456789abcdef\r\n", index % 64)
    });
    assert_eq!(taken, 0);
}

#[test]
fn a_delivery_with_headers_and_reply_takes_none() {
    let mut session = session(&json!({"subscribe": ["orders.>"], "inbox": "off"}));
    let subscribe = b"SUB orders.> 7\r\n";
    session.handle_client(&mut subscribe.to_vec(), 0, START);
    write(session.to_upstream(), subscribe);
    let taken = steady(&mut session, Side::Upstream, |index| {
        let block = "NATS/1.0\r\nNats-Msg-Id: 1234\r\n\r\n";
        let (headers, size) = (block.len(), block.len() + 5);
        format!("HMSG orders.eu 7 $JS.ACK.O.c.1.{index}.1.1.0 {headers} {size}\r\n{block}hello\r\n")
    });
    assert_eq!(taken, 0);
}

/// A delivery that a deny keeps back costs the audit its fact for the first few, then nothing.
#[test]
fn a_delivery_that_is_kept_back_takes_none() {
    let mut session = session(&json!({
        "subscribe": ["orders.>"], "deny": {"subscribe": ["orders.secret.>"]}, "inbox": "off",
    }));
    let stream = "MSG orders.secret.a 7 5\r\nhello\r\n".repeat(MESSAGES);
    let mut lane = Lane::new(Side::Upstream);
    lane.pass(&mut session, stream.as_bytes());
    let taken = allocations(|| lane.pass(&mut session, stream.as_bytes()));
    assert_eq!(session.traffic().filtered, 2 * MESSAGES as u64);
    assert_eq!((taken, lane.written), (0, 0));
}

const BASE: &str = "http://127.0.0.1:9333";
const NOW: Timestamp = Timestamp::from_secs(1_795_452_000);

/// A table that takes two claims over for templates, and the keys of its one source.
fn gate(forge: &Forge, until: u64) -> (Expectations, Arc<KeyRing>) {
    let directory = Directory::default();
    let mut table = Expectations::entra(&Entra {
        cloud: Cloud::custom(BASE),
        tenants: vec![directory.tid.as_str().into()],
        audiences: vec![directory.api.as_str().into()],
        accept: Accept::ALL,
        v1_tokens: false,
        required_scope: None,
        keys_app_id: None,
        groups: GroupForm::Ids,
    })
    .unwrap();
    table.set_template_claims(vec!["site".into(), "line".into()]);
    let held = HeldKeys {
        keys: KeySet::parse(&forge.key_document(Form::V2)).unwrap(),
        fetched_at: NOW,
        good_until: Timestamp::from_secs(NOW.as_secs() + until),
        cloud: None,
        issuer: None,
    };
    (table, Arc::new(KeyRing::empty(1).with(0, held)))
}

fn token(forge: &Forge, claims: &Value) -> Vec<u8> {
    let row = Row::of_user("remembered", claims.as_object().unwrap().clone());
    forge.token(&row, NOW).unwrap()
}

/// Tokens with little in them weigh by what is around it: the places that they take, the node that holds two claims. One token
/// with many certificates is many.
#[test]
fn what_is_remembered_of_tokens_holds_no_more_than_8_mib_and_goes_with_the_keys() {
    const MOST: usize = 8 * 1024 * 1024;
    let forge = Forge::new(BASE, Directory::default()).unwrap();
    let roles: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    for (claims, times) in [
        (json!({"site": "s", "line": "1"}), 8_000),
        (json!({"roles": roles}), 500),
    ] {
        let token = token(&forge, &claims);
        let ((table, ring), (_, fresh)) = (gate(&forge, 100), gate(&forge, 200));
        let accepted = Accepted::default();
        let validate = |certificate: &str, ring| {
            accepted
                .validate(&token, Some(certificate), ring, &table, NOW)
                .map(drop)
                .unwrap();
        };
        let before = HELD.get();
        let held = || HELD.get().wrapping_sub(before);
        let mut most = 0;
        for n in 0..times {
            validate(&n.to_string(), &ring);
            most = most.max(held());
        }
        assert!((MOST / 4 * 3..=MOST).contains(&most), "{most}");
        assert!(held() > MOST / 4 * 3, "fewer than it takes");
        validate("one more", &fresh);
        assert!(held() < 64 * 1024, "{}", held());
    }
}
