//! The real program as a command, with what it printed.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What a command came to.
pub struct Ran {
    /// Exit status.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// `natsentry` with nothing of this process's environment that could lead to a token.
pub fn natsentry(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natsentry"));
    command.current_dir(folder).env_remove("NATSENTRY_CONFIG");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["AZURE_", "IDENTITY_", "IMDS_", "MSI_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a command to its end with this on its standard input.
pub fn run(command: &mut Command, input: &[u8]) -> Ran {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be run");
    // A program that does not read its input may have ended.
    child.stdin.take().expect("piped").write_all(input).ok();
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().expect("it ends");
    Ran {
        code: status.code(),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}
