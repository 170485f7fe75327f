//! `audit`: into the settings of the audit adapter.

use super::super::document::{Audit, AuditWhenFull};
use super::Context;
use crate::audit::{Destination, FileSettings, Sampling, Settings, WhenFull};

pub(super) fn resolve(context: &mut Context<'_>, written: Option<&Audit>) -> Settings {
    let Some(written) = written else {
        if !context.lost_something(&["audit"]) {
            context.warning(
                &[],
                "there is no `audit`: nobody can tell later who did what; write `audit: { file: audit.jsonl }`",
            );
        }
        return settings(&Audit::nowhere(), Destination::Off);
    };
    if !(16..=1_000_000).contains(&written.queue) {
        context.mistake(
            &["audit", "queue"],
            format!("{} is out of range; write 16 to 1000000", written.queue),
        );
    }
    if written.sampling.first == 0 {
        context.mistake(
            &["audit", "sampling", "first"],
            "0 would hide every refusal; write 1 or more",
        );
    }
    if written.sampling.strangers == 0 {
        context.mistake(
            &["audit", "sampling", "strangers"],
            "0 would hide everybody who has no identity; write 1 or more",
        );
    }
    context.bounded(
        &["audit", "sampling", "per"],
        written.sampling.per,
        1_000,
        3_600_000,
    );
    let destination = match written.file.0.as_str() {
        "stdout" => Destination::Stdout,
        "" => {
            context.mistake(&["audit", "file"], "a path is needed, or the word stdout");
            Destination::Off
        }
        path => {
            let path = context.folder.join(path);
            let folder = path.parent().unwrap_or(context.folder);
            if !folder.is_dir() {
                let shown = folder.display().to_string();
                context.mistake(
                    &["audit", "file"],
                    format!("folder {shown} does not exist; create it"),
                );
            } else if path.is_dir() {
                context.mistake(&["audit", "file"], "this is a folder; name a file in it");
            }
            Destination::File(FileSettings {
                path,
                rotate_bytes: written.rotate.bytes(),
                keep: usize::try_from(written.keep).unwrap_or(usize::MAX),
            })
        }
    };
    settings(written, destination)
}

fn settings(written: &Audit, destination: Destination) -> Settings {
    Settings {
        destination,
        when_full: match written.when_full {
            AuditWhenFull::Block => WhenFull::Block,
            AuditWhenFull::Drop => WhenFull::Drop,
        },
        queue_lines: usize::try_from(written.queue).unwrap_or(usize::MAX),
        sampling: Sampling {
            first: written.sampling.first,
            per: written.sampling.per.get(),
            strangers: written.sampling.strangers,
        },
    }
}
