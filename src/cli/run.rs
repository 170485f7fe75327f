//! `natsentry run`: the log, the configuration, and then the server.

use std::process::ExitCode;

use clap::Args;

use super::log::{self, LogOptions};
use super::{ConfigFile, Program, output};
use crate::config::Config;

/// Options of `run`.
#[derive(Clone, Debug, Args)]
pub(super) struct RunOptions {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    log: LogOptions,
}

pub(super) fn run(program: &dyn Program, options: RunOptions) -> anyhow::Result<ExitCode> {
    let _log = log::begin(&options.log)?;
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
