//! Arguments, configuration, server, exit code.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use natsentry::cli;
use natsentry::config::Config;

/// Joins the commands to what they start.
struct Program;

impl cli::Program for Program {
    fn run(&self, config: Config, file: PathBuf) -> anyhow::Result<()> {
        natsentry::server::run(config, file)
    }

    #[cfg(feature = "demo")]
    fn demo(&self, options: cli::DemoOptions) -> anyhow::Result<()> {
        let cli::DemoOptions {
            nats_server,
            port,
            once,
        } = options;
        let program = std::env::current_exe()?;
        natsentry::demo::run(natsentry::demo::Options {
            program,
            nats_server,
            port,
            once,
        })
    }
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    natsentry::tls::install_provider();
    cli::main(&Program)
}
