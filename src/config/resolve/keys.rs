//! `keys`: into the settings of the key service.

use std::path::PathBuf;

use super::super::document::Keys;
use super::Context;
use crate::jwks::Settings;

pub(super) fn resolve(context: &mut Context<'_>, written: &Keys) -> Settings {
    const HOUR_MS: u64 = 3_600_000;
    context.bounded(
        &["keys", "max_age"],
        written.max_age,
        HOUR_MS,
        30 * 24 * HOUR_MS,
    );
    context.bounded(&["keys", "refresh"], written.refresh, 60_000, 24 * HOUR_MS);
    if written.refresh > written.max_age {
        context.mistake(
            &["keys", "refresh"],
            "longer than `keys.max_age`: keys would be too old before they are fetched",
        );
    }
    context.bounded(
        &["keys", "unknown_interval"],
        written.unknown_interval,
        1_000,
        HOUR_MS,
    );
    if !(1..=100).contains(&written.unknown_burst) {
        context.mistake(
            &["keys", "unknown_burst"],
            format!("{} is out of range; write 1 to 100", written.unknown_burst),
        );
    }
    let cache = match &written.cache {
        Some(folder) => Some(context.folder.join(folder)),
        None => usual_folder(),
    };
    Settings {
        cache,
        max_age: written.max_age.get(),
        refresh: written.refresh.get(),
        unknown_burst: written.unknown_burst,
        unknown_interval: written.unknown_interval.get(),
        ..Settings::default()
    }
}

/// Where the last good keys are kept unless told otherwise: systemd's `CacheDirectory=`, else the user's cache folder.
fn usual_folder() -> Option<PathBuf> {
    let folder = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    folder("CACHE_DIRECTORY")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("natsentry")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache").join("natsentry")))
        .map(|cache| cache.join("keys"))
}
