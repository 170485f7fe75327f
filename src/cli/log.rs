//! The log of `natsentry run`: what is logged, how it looks, and who writes it.

mod lines;

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

pub(super) use self::lines::Lines;

/// Options of the log.
#[derive(Clone, Debug, Args)]
pub(super) struct LogOptions {
    /// What is logged to standard error: error, warn, info, debug, trace, or per module as
    /// `info,natsentry::upstream=debug`.
    #[arg(
        long = "log",
        value_name = "FILTER",
        env = "NATSENTRY_LOG",
        default_value = "info"
    )]
    filter: String,
    /// How log lines look.
    #[arg(long = "log-format", value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Begins the log of this process on standard error. What it returns writes it, and has written it when it is dropped.
pub(super) fn begin(options: &LogOptions) -> anyhow::Result<Lines> {
    let filter = EnvFilter::try_new(&options.filter)
        .with_context(|| format!("--log {}: not a log filter", options.filter))?;
    let lines = Lines::start(io::stderr()).context("the log cannot begin")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines.queue());
    let begun = match options.format {
        Format::Text => log.with_ansi(io::stderr().is_terminal()).try_init(),
        Format::Json => log.json().flatten_event(true).try_init(),
    };
    begun.map_err(|error| anyhow::anyhow!("the log cannot begin: {error}"))?;
    Ok(lines)
}
