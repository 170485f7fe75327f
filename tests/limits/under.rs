//! The measure of every attack: memory, latency of others, and what is left of it afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::honest::Honest;
use crate::is_full;
use crate::world::World;

pub(crate) const KIB: u64 = 1024;
pub(crate) const MIB: u64 = 1024 * KIB;

/// Of the process with nobody connected. README, "Memory".
const PROCESS: u64 = 64 * MIB;

/// How long latency is measured at a time.
fn window() -> Duration {
    if is_full() {
        Duration::from_secs(10)
    } else {
        Duration::from_millis(700)
    }
}

/// Watches the resident memory of a process.
struct Watch {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    fn over(pid: u32) -> Self {
        let (peak, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (seen, stopped) = (Arc::clone(&peak), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                seen.fetch_max(World::memory(pid, "VmRSS"), Ordering::AcqRel);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { peak, stop }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// Runs one attack. `attack` returns what it holds once it is at its height; `allowed` is what the README lets it cost besides the
/// process itself.
pub(crate) async fn attack<T>(
    name: &str,
    world: &World,
    allowed: u64,
    attack: impl AsyncFnOnce(&World) -> T,
) {
    attack_above(Duration::ZERO, name, world, allowed, attack).await;
}

/// The p99 of a session beside others who do what they may, and as much of it as they can.
pub(crate) async fn p99_beside<T>(
    world: &World,
    others: impl AsyncFnOnce(&World) -> T,
) -> Duration {
    let mut honest = Honest::enter(world).await;
    let held = others(world).await;
    let p99 = honest.p99(window()).await;
    drop(held);
    world.counts(1).await;
    drop(honest);
    world.counts(0).await;
    p99
}

/// As [`attack`], where others had to wait `busy` already beside those who mean well.
pub(crate) async fn attack_above<T>(
    busy: Duration,
    name: &str,
    world: &World,
    allowed: u64,
    attack: impl AsyncFnOnce(&World) -> T,
) {
    let mut honest = Honest::enter(world).await;
    let before = honest.p99(window()).await;
    let idle = World::memory(world.proxy.pid(), "VmRSS");
    let watch = Watch::over(world.proxy.pid());
    let held = attack(world).await;
    let during = honest.p99(window()).await;
    // And newcomers are served.
    drop(
        world
            .enter("worker")
            .await
            .unwrap_or_else(|error| panic!("{name}: a newcomer is not served: {error}")),
    );
    let peak = watch.peak.load(Ordering::Acquire);
    drop(watch);
    drop(held);
    world.counts(1).await;
    let after = honest.p99(window()).await;
    println!(
        "{name}: memory {} KiB idle, {} KiB at most, {} KiB allowed; p99 {before:?} before, {during:?} during, {after:?} after",
        idle / KIB,
        peak / KIB,
        (PROCESS + allowed) / KIB,
    );
    assert!(peak <= PROCESS + allowed, "{name}: {peak} bytes resident");
    let quiet = before.max(after).max(busy);
    let most = if is_full() {
        quiet * 2
    } else {
        quiet * 10 + Duration::from_millis(250)
    };
    assert!(
        during <= most,
        "{name}: p99 {during:?}, {quiet:?} without the attack"
    );
    drop(honest);
    world.counts(0).await;
}
