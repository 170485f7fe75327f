//! The command line: arguments in, an exit code out.
//!
//! Owns: the commands, what they print and their exit codes (0 done or allowed, 1 mistakes, denied or failed, 2 wrong
//! usage). Must never: hold logic of its own that a library user would miss, or print a token that was not asked for.

mod bearer;
mod check;
#[cfg(feature = "demo")]
mod demo;
mod explain;
mod lock;
mod log;
mod output;
mod run;
mod token;
mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Config;

#[cfg(feature = "demo")]
pub use demo::DemoOptions;

/// What the commands `run` and `demo` start. `main` joins it to the server.
pub trait Program {
    /// Serves until a signal ends it. `file` is where `config` came from, for reloads.
    ///
    /// # Errors
    /// Whatever keeps the server from starting or makes it stop early.
    fn run(&self, config: Config, file: PathBuf) -> anyhow::Result<()>;

    /// Runs the demonstration until a signal ends it.
    ///
    /// # Errors
    /// Whatever keeps it from starting.
    #[cfg(feature = "demo")]
    fn demo(&self, options: DemoOptions) -> anyhow::Result<()>;
}

/// Identity-aware proxy between Microsoft Entra ID and NATS servers that cannot be changed.
#[derive(Debug, Parser)]
#[command(
    name = "natsentry",
    version,
    propagate_version = true,
    max_term_width = 100
)]
struct Arguments {
    /// How results are printed.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Tables and sentences, for people.
    Table,
    /// One JSON document, for scripts.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients.
    Run(run::RunOptions),
    /// Check a configuration file: every mistake with line and column; exit code 1 if there is any.
    Check(ConfigFile),
    /// Say whether an identity may publish or subscribe, and which line of the policy decides.
    Explain(explain::ExplainOptions),
    /// Lock somebody out: new connections are refused and live ones cut within a second; `lock list` shows the locks.
    Lock(Box<lock::LockOptions>),
    /// Take locks away, by their ids or by whom they select.
    Unlock(Box<lock::UnlockOptions>),
    /// Get an access token for a person or a workload, and print it alone; `token inspect` looks at one.
    Token(Box<token::TokenOptions>),
    /// Print the JSON Schema of the configuration file.
    Schema,
    /// Show natsentry at work with a development identity provider, on this machine alone.
    #[cfg(feature = "demo")]
    Demo(DemoOptions),
    /// Print the version and how this program was built.
    Version,
}

/// The configuration file.
#[derive(Clone, Debug, Args)]
struct ConfigFile {
    /// Configuration file.
    #[arg(short, long = "config", value_name = "FILE", env = "NATSENTRY_CONFIG")]
    config: PathBuf,
}

/// Reads the arguments of this process and does what they say.
pub fn main(program: &dyn Program) -> ExitCode {
    // clap prints usage errors itself and exits with 2.
    let Arguments { output, command } = Arguments::parse();
    let done = match command {
        Command::Run(options) => run::run(program, options),
        Command::Check(file) => check::check(&file.config, output),
        Command::Explain(options) => explain::explain(&options, output),
        Command::Lock(options) => lock::lock(&options, output),
        Command::Unlock(options) => lock::unlock(&options, output),
        Command::Token(options) => token::token(&options, output),
        Command::Schema => schema(),
        #[cfg(feature = "demo")]
        Command::Demo(options) => program.demo(options).map(|()| ExitCode::SUCCESS),
        Command::Version => version::version(output),
    };
    match done {
        Ok(code) => code,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("natsentry: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn schema() -> anyhow::Result<ExitCode> {
    output::json(&crate::config::json_schema())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
