//! Where locks come from: read at the start, looked at all the time, changed by commands.
//!
//! Owns: the sources and how a change in one is noticed. Must never: judge anybody, or take "cannot be read" for "no
//! locks".
//!
//! There is one kind of source, a file that all processes of one machine (or of one shared folder) read. A JetStream KV
//! bucket, through which all replicas learn of a lock within the same second, becomes another variant of [`Source`].

mod file;

use std::path::{Path, PathBuf};

pub use file::LocksError;
use file::{LockFile, Seen};

use crate::locks::Document;
use crate::time::Timestamp;

/// Where locks are kept, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The file.
    pub file: PathBuf,
    /// Most locks at a time.
    pub max: usize,
}

/// A source of locks.
#[derive(Debug)]
pub enum Source {
    /// A file.
    File(FileSource),
}

/// A file, and what was last seen of it.
#[derive(Debug)]
pub struct FileSource {
    file: LockFile,
    seen: Seen,
    /// What it held when it could last be read; none: nobody has heard of it yet.
    good: Option<Document>,
}

/// What a look at a source showed.
#[derive(Debug)]
pub enum Look {
    /// What was there before.
    Same,
    /// Something else, which counts from now on.
    Changed(Document),
    /// Nothing that can be read: what was there before goes on to count.
    Failed(LocksError),
}

impl Source {
    /// Opens a source and reads it for the first time. Without a file there are no locks.
    ///
    /// # Errors
    /// When what is there cannot be read: a process that does not know who is locked out must not begin.
    pub fn open(settings: &Settings, now: Timestamp) -> Result<(Self, Document), LocksError> {
        let file = LockFile::new(settings);
        let (seen, document) = file.first(now)?;
        let good = Some(document.clone());
        Ok((Self::File(FileSource { file, seen, good }), document))
    }

    /// Opens another source in the place of one that is in use. All that it holds is news at the next look.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn reopen(settings: &Settings) -> Result<Self, LocksError> {
        let file = LockFile::new(settings);
        file.read()?;
        Ok(Self::File(FileSource {
            file,
            seen: Seen::default(),
            good: None,
        }))
    }

    /// Looks whether something has changed. Blocks for one `stat`, and for reading the file where it has.
    pub fn look(&mut self, now: Timestamp) -> Look {
        match self {
            Self::File(source) => match source.file.again(&mut source.seen, now) {
                Ok(None) if source.good.is_some() => Look::Same,
                Ok(document) => {
                    let document = document.unwrap_or_default();
                    if source.good.as_ref() == Some(&document) {
                        return Look::Same;
                    }
                    source.good = Some(document.clone());
                    Look::Changed(document)
                }
                Err(error) => Look::Failed(error),
            },
        }
    }

    /// For people.
    pub fn place(&self) -> &Path {
        match self {
            Self::File(source) => source.file.path(),
        }
    }
}

/// Reads the locks as they are now.
///
/// # Errors
/// As [`Source::open`].
pub fn read(settings: &Settings) -> Result<Document, LocksError> {
    LockFile::new(settings).read()
}

/// Changes the locks. Commands at the same time wait for each other, so that none is lost; when this returns, the change is
/// on the disk.
///
/// # Errors
/// What `change` says, which leaves everything as it was; or that the source cannot be read or written, or is full.
pub fn change<T, E>(
    settings: &Settings,
    now: Timestamp,
    change: impl FnOnce(&mut Document) -> Result<T, E>,
) -> Result<Result<T, E>, LocksError> {
    LockFile::new(settings).change(now, change)
}
