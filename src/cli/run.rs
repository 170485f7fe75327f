//! `natsentry run`: the log, the configuration, and then the server.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::{ConfigFile, Program, output};
use crate::config::Config;

/// Options of `run`.
#[derive(Clone, Debug, Args)]
pub(super) struct RunOptions {
    #[command(flatten)]
    file: ConfigFile,
    /// What is logged to standard error: error, warn, info, debug, trace, or per module as
    /// `info,natsentry::upstream=debug`.
    #[arg(
        long,
        value_name = "FILTER",
        env = "NATSENTRY_LOG",
        default_value = "info"
    )]
    log: String,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

pub(super) fn run(program: &dyn Program, options: RunOptions) -> anyhow::Result<ExitCode> {
    begin_log(&options)?;
    let config = match Config::load(&options.file.config) {
        Ok(config) => config,
        Err(mistakes) => {
            output::complain(&mistakes.to_string());
            return Ok(ExitCode::FAILURE);
        }
    };
    for warning in &config.warnings {
        tracing::warn!(
            file = config.source.file(),
            line = warning.at.line,
            "{}",
            warning.message
        );
    }
    program.run(config, options.file.config)?;
    Ok(ExitCode::SUCCESS)
}

fn begin_log(options: &RunOptions) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&options.log)
        .with_context(|| format!("--log {}: not a log filter", options.log))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let begun = match options.log_format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    begun.map_err(|error| anyhow::anyhow!("the log cannot begin: {error}"))
}
