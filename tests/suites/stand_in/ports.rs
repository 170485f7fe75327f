//! The ports file: the real server's with our address in it, under our process id.
//!
//! Source: nats-server `ports.go`: `<folder>/<program>_<pid>.ports`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::process::Real;
use super::{NAME, host_and_port};

/// The real server writes its file when it is ready, a moment after it listens.
const STEPS: u32 = 1000;

/// Where ours is.
pub fn file(folder: &Path) -> PathBuf {
    folder.join(format!("{NAME}_{}.ports", std::process::id()))
}

/// Writes it, whole from the first moment on.
pub async fn write(folder: &Path, real: &Real, host: &str, port: u16) -> Result<(), String> {
    let mut ports = read(real).await?;
    let host = if host == "0.0.0.0" { "127.0.0.1" } else { host };
    ports["nats"] = json!([format!("nats://{}", host_and_port(host, port))]);
    let aside = folder.join(format!(".{NAME}_{}", std::process::id()));
    fs::write(&aside, ports.to_string())
        .and_then(|()| fs::rename(&aside, file(folder)))
        .map_err(|error| format!("{}: {error}", folder.display()))
}

async fn read(real: &Real) -> Result<Value, String> {
    let ending = format!("_{}.ports", real.pid());
    for _ in 0..STEPS {
        let entries = fs::read_dir(real.folder.path())
            .into_iter()
            .flatten()
            .flatten();
        let mut files = entries.map(|entry| entry.path());
        let found = files.find(|path| path.to_string_lossy().ends_with(&ending));
        let ports = found.and_then(|path| serde_json::from_slice(&fs::read(path).ok()?).ok());
        if let Some(ports) = ports {
            return Ok(ports);
        }
        sleep(Duration::from_millis(5)).await;
    }
    Err("the server writes no ports file".to_owned())
}
