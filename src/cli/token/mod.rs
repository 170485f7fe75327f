//! `natsentry token`: a token for a person or a workload, and a look at one.

mod advice;
mod cache;
mod get;
mod inspect;
mod report;
mod seen;
mod ways;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Output;

/// Options of `token`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct TokenOptions {
    #[command(subcommand)]
    command: Option<TokenCommand>,
    #[command(flatten)]
    get: get::GetOptions,
}

#[derive(Clone, Debug, Subcommand)]
enum TokenCommand {
    /// Decode a token, and say for each check whether it would pass and what to change if not.
    Inspect(inspect::InspectOptions),
}

pub(super) fn token(options: &TokenOptions, format: Output) -> anyhow::Result<ExitCode> {
    match &options.command {
        Some(TokenCommand::Inspect(options)) => inspect::inspect(options, format),
        None => get::get(&options.get, format),
    }
}
