//! `natsentry explain`.
use super::{ConfigFile, Output};
use clap::Args;
use std::process::ExitCode;
/// Options of `explain`.
#[derive(Clone, Debug, Args)]
pub(super) struct ExplainOptions {
    #[command(flatten)]
    file: ConfigFile,
}
pub(super) fn explain(options: &ExplainOptions, _format: Output) -> anyhow::Result<ExitCode> {
    drop(options.file.clone());
    Ok(ExitCode::SUCCESS)
}
