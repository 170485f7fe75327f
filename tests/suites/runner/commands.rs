//! Processes with a time limit, which leave nothing behind.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use natsentry::demo::provision::command;

/// Runs it in a process group of its own with its output in a file. None when it did not end in time; then, and when it
/// has left others of its group behind, all of the group are killed.
pub fn limited(
    run: &mut Command,
    output: &Path,
    limit: Duration,
) -> io::Result<Option<ExitStatus>> {
    let file = File::create(output)?;
    run.stdout(file.try_clone()?).stderr(file).process_group(0);
    let mut child = run.spawn()?;
    let end = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > end {
            break None;
        }
        sleep(Duration::from_millis(10));
    };
    let group = format!("-{}", child.id());
    let mut kill = command("kill");
    let killed = kill
        .args(["-s", "KILL", "--", &group])
        .stderr(File::open("/dev/null")?)
        .status();
    killed?;
    if status.is_none() {
        child.wait()?;
    }
    Ok(status)
}
