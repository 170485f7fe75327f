//! The development side: everything that lets a person, or a test, see natsentry work on one machine.
//!
//! Packages and containers are built without it, so that nothing that mints tokens or fetches programs ships.

mod client;
mod feed;
pub mod idp;
mod paste;
pub mod provision;
pub mod servers;
mod stage;
mod story;
mod terminal;

use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use stage::Stage;
use terminal::Terminal;

/// How long the start may take before a word is said about it.
const WAIT_UNTOLD: Duration = Duration::from_secs(2);

/// What is asked of the demonstration.
#[derive(Clone, Debug)]
pub struct Options {
    /// This very program, for what the story does with its other commands.
    pub program: PathBuf,
    /// The nats-server to put the proxy in front of; none: one is found or fetched.
    pub nats_server: Option<PathBuf>,
    /// Port of the proxy on 127.0.0.1; 0, or one that is taken, becomes a free one.
    pub port: u16,
    /// End after the story.
    pub once: bool,
}

/// Sets the stage, tells the story, and stays until a signal unless it is to end at `once`. Blocks.
///
/// # Errors
/// When a part does not start, or something is not as the story tells it.
pub fn run(options: Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let shown = runtime.block_on(show(options));
    // A look for nats-server that a signal interrupted is not worth waiting for.
    runtime.shutdown_background();
    shown
}

async fn show(options: Options) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let mut stopped = std::pin::pin!(async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    });
    let terminal = Terminal::detect();
    let begun = Instant::now();
    terminal.heading(
        "natsentry: people and applications with Entra tokens, a NATS server with one password",
    )?;
    let stage = tokio::select! {
        stage = Stage::set(options.nats_server.as_deref(), options.port) => stage?,
        () = &mut stopped => return Ok(()),
        told = tell_of_the_wait(terminal) => return told,
    };
    paste::introduction(&stage, terminal, options.port)?;
    terminal.fact(
        "ready",
        &format!("after {:.1} s", begun.elapsed().as_secs_f64()),
    )?;
    let played = tokio::select! {
        played = play(&stage, terminal, &options, begun) => played,
        () = &mut stopped => Ok(()),
    };
    let cleared = stage.clear().await;
    played.and(cleared)
}

/// Says what takes so long, once, and never completes well.
async fn tell_of_the_wait(terminal: Terminal) -> anyhow::Result<()> {
    tokio::time::sleep(WAIT_UNTOLD).await;
    terminal.evidence("a first run may have to fetch a nats-server; later runs start at once")?;
    std::future::pending().await
}

async fn play(
    stage: &Stage,
    terminal: Terminal,
    options: &Options,
    begun: Instant,
) -> anyhow::Result<()> {
    story::tell(stage, terminal, &options.program).await?;
    let seconds = begun.elapsed().as_secs_f64();
    terminal.heading(&format!(
        "Every ✓ was checked in this run, which took {seconds:.1} s."
    ))?;
    if options.once {
        return Ok(());
    }
    paste::commands(stage, terminal, &options.program)?;
    feed::follow(stage, terminal).await
}
