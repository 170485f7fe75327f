//! What one more idle session holds on the heap, in a server with a real nats-server behind it: counted by the allocator, so
//! that it repeats where the resident set does not. What the kernel and the allocator add is measured by
//! `cargo bench --bench end_to_end -- --only idle`.
#![allow(
    unsafe_code,
    reason = "a global allocator cannot be written without it; nothing of this file ships"
)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test"
)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use natsentry::demo::servers::Version;
use support::proxy::{self, Proxy, STATIC_USER, Setup};
use support::{servers, wire};

/// Blocks of each size that are in use now; larger ones count with the last.
static BLOCKS: [AtomicI64; SIZES] = [const { AtomicI64::new(0) }; SIZES];

const SIZES: usize = 64 * 1024;

struct Counting;

fn note(size: usize, change: i64) {
    BLOCKS[size.min(SIZES - 1)].fetch_add(change, Relaxed);
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 1);
        // SAFETY: the caller's promises are the ones that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn blocks() -> Vec<i64> {
    BLOCKS.iter().map(|blocks| blocks.load(Relaxed)).collect()
}

/// Sessions with one subscription each that then do nothing.
fn idle(address: SocketAddr, connects: &[String]) -> Vec<TcpStream> {
    let open = |(number, connect): (usize, &String)| {
        let mut tcp = TcpStream::connect(address).unwrap();
        tcp.set_read_timeout(Some(wire::PATIENCE)).unwrap();
        tcp.write_all(format!("{connect}PING\r\nSUB idle.{number} 1\r\nPING\r\n").as_bytes())
            .unwrap();
        // Whatever comes before it (INFO, the first PONG), the second PONG says that the subscription is made.
        let mut pongs = 0;
        let mut piece = [0; 4096];
        while pongs < 2 {
            let read = tcp.read(&mut piece).unwrap();
            assert!(read > 0, "closed");
            pongs += piece[..read]
                .windows(6)
                .filter(|window| window == b"PONG\r\n")
                .count();
        }
        tcp
    };
    connects.iter().enumerate().map(open).collect()
}

/// Bytes of the difference, and its largest parts. A few large blocks more are the process's own: spare read buffers, tables
/// that have grown.
fn growth(before: &[i64], after: &[i64], sessions: usize) -> (i64, String) {
    let mut parts: Vec<(i64, usize, i64)> = (0..SIZES)
        .map(|size| (after[size] - before[size], size))
        .filter(|(blocks, size)| *size < LARGE || *blocks > FEW)
        .map(|(blocks, size)| (blocks * i64::try_from(taken(size)).unwrap(), size, blocks))
        .collect();
    let sum: i64 = parts.iter().map(|part| part.0).sum();
    parts.sort_unstable_by_key(|part| -part.0);
    let mut text = String::new();
    for (bytes, size, blocks) in parts.iter().take(24).filter(|part| part.0 > 0) {
        let each = i64::try_from(sessions).unwrap();
        writeln!(
            text,
            "{:>6} bytes a session: {blocks} blocks of {size}",
            bytes / each
        )
        .unwrap();
    }
    (sum, text)
}

/// What mimalloc, the program's allocator, takes for a block. There are four sizes from one power of two to the next; as Rust
/// asks for it, with an alignment, a block is of a power of two or has room for that alignment besides (version 3,
/// `alloc-aligned.c`: `mi_malloc_is_naturally_aligned` and what it falls back to).
fn taken(size: usize) -> usize {
    let block = |size: usize| {
        let step = match size {
            0..=8 => 8,
            9..=64 => 16,
            _ => size.next_power_of_two() / 8,
        };
        size.next_multiple_of(step)
    };
    let usual = block(size);
    if usual.is_power_of_two() {
        usual
    } else {
        block(size + align_of::<u64>() - 1)
    }
}

const SESSIONS: usize = 300;

/// Blocks of this many bytes are counted when there are more than a few.
const LARGE: usize = 8 * 1024;

const FEW: i64 = 30;

/// In bytes, a little above what it is. What each part is, the test says when it fails.
const HEAP_MAX: i64 = 3_050;

/// The same of a session of a role with templates whose token nobody else brought.
const HEAP_MAX_OWN: i64 = 3_900;

/// A role of a dozen grants with templates and wildcards. Compiled patterns are shared by all who have it.
fn typical() -> String {
    let mut grants = String::from("'bench.*', 'idle.*'");
    for n in 0..10 {
        write!(grants, ", 'plant.{n}.{{oid}}.>'").unwrap();
    }
    format!(
        "roles:\n  typical:\n    bind: [{{ app_role: Nats.Operator }}, {{ app_role: Nats.Telemetry.Write }}, {{ app_role: Nats.Reader }}]\n    upstream: plant\n    publish: [{grants}]\n    subscribe: [{grants}]\n"
    )
}

/// One role after the other, since the allocator counts for the whole process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_session_holds_little_whatever_its_role_and_whatever_it_did() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::LATEST, STATIC_USER);
    let roles = [
        ("everything", proxy::EVERYTHING.to_owned(), 1, HEAP_MAX),
        ("typical", typical(), 1, HEAP_MAX),
        (
            "typical, a token each",
            typical(),
            2 * SESSIONS,
            HEAP_MAX_OWN,
        ),
    ];
    for (name, roles, tokens, max) in roles {
        let proxy = Proxy::start(&idp, &Setup::to(nats.port()).roles(&roles)).await;
        let connects: Vec<_> = (0..tokens)
            .map(|_| wire::connect_line(&proxy::token(&idp, "alice"), ""))
            .collect();
        let connects: Vec<_> = connects.into_iter().cycle().take(2 * SESSIONS).collect();
        let address = proxy.address;
        let (sum, parts, held) = tokio::task::spawn_blocking(move || {
            // What the first ones bring in is not the price of one more.
            let (first, more) = connects.split_at(SESSIONS);
            let first = idle(address, first);
            std::thread::sleep(Duration::from_millis(100));
            let before = blocks();
            let held = idle(address, more);
            let (sum, parts) = growth(&before, &blocks(), SESSIONS);
            (sum, parts, (first, held))
        })
        .await
        .unwrap();
        drop(held);
        drop(proxy.stop().await);
        let each = sum / i64::try_from(SESSIONS).unwrap();
        println!("{name}: {each} bytes a session\n{parts}");
        assert!(
            each <= max,
            "{name}: {each} bytes a session, of which\n{parts}"
        );
    }
    what_a_session_remembers_is_given_back_when_it_rests().await;
}

/// What a session remembers of what it judged goes when it says no more.
async fn what_a_session_remembers_is_given_back_when_it_rests() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::LATEST, STATIC_USER);
    let roles = "roles:\n  inner:\n    bind: [{ app_role: Nats.Operator }, { app_role: Nats.Telemetry.Write }, { app_role: Nats.Reader }]\n    \
        upstream: plant\n    publish: ['plant.*.state.*']\n    subscribe: ['idle.*']\n";
    let proxy = Proxy::start(&idp, &Setup::to(nats.port()).roles(roles)).await;
    let connect = wire::connect_line(&proxy::token(&idp, "alice"), "");
    let address = proxy.address;
    let held = tokio::task::spawn_blocking(move || {
        let mut sessions = idle(address, &vec![connect; TALKERS]);
        // More subjects than a session remembers, none as long as the one before it. They differ in what is not the last
        // wildcard of the grant, so that each is a question of its own.
        let mut said = String::new();
        for n in 0..1000 {
            write!(
                said,
                "PUB plant.{}.state.x 0\r\n\r\n",
                "x".repeat(n % 7) + &n.to_string()
            )
            .unwrap();
        }
        said.push_str("PING\r\n");
        let before = blocks();
        for tcp in &mut sessions {
            tcp.write_all(said.as_bytes()).unwrap();
            let mut pong = [0; 6];
            tcp.read_exact(&mut pong).unwrap();
            assert_eq!(&pong, b"PONG\r\n");
        }
        let tables = |now: &[i64]| now[REMEMBERED] - before[REMEMBERED];
        let most = tables(&blocks());
        assert!(
            most >= i64::try_from(TALKERS).unwrap(),
            "{most} tables of answers"
        );
        let since = std::time::Instant::now();
        while tables(&blocks()) > 0 {
            assert!(
                since.elapsed() < wire::PATIENCE,
                "{} are left",
                tables(&blocks())
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        sessions
    });
    drop(held.await.unwrap());
    drop(proxy.stop().await);
}

const TALKERS: usize = 20;

/// Size of a session's table of answers, in bytes.
const REMEMBERED: usize = 16 * 1024;
