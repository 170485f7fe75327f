//! `natsentry version`.

use std::process::ExitCode;

use serde::Serialize;

use super::{Output, output};

#[derive(Serialize)]
struct Version {
    version: &'static str,
    /// The commit that the build was told of.
    commit: Option<&'static str>,
    /// The compiler that the build was told of.
    rustc: Option<&'static str>,
    target: String,
    profile: &'static str,
    features: Vec<&'static str>,
    config_version: u32,
}

pub(super) fn version(format: Output) -> anyhow::Result<ExitCode> {
    let mut features = vec!["shell"];
    if cfg!(feature = "demo") {
        features.push("demo");
    }
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("NATSENTRY_COMMIT"),
        rustc: option_env!("NATSENTRY_RUSTC"),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        profile: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        features,
        config_version: crate::config::document::VERSION,
    };
    if format == Output::Json {
        output::json(&version)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::Table::default();
    table.row(["natsentry", version.version]);
    table.row(["commit", version.commit.unwrap_or("unknown")]);
    table.row(["rustc", version.rustc.unwrap_or("unknown")]);
    table.row([
        "target",
        &format!("{} ({})", version.target, version.profile),
    ]);
    table.row(["features", &version.features.join(", ")]);
    table.row([
        "configuration",
        &format!("version {}", version.config_version),
    ]);
    output::print(&table.show())?;
    Ok(ExitCode::SUCCESS)
}
