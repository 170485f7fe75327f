//! The file of locks. Who can write it decides who is locked out, so it is not believed when strangers could have written
//! it; it is replaced in one step, so that nobody ever reads half of it.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use super::Settings;
use crate::locks::{Document, DocumentError};
use crate::time::Timestamp;

/// Largest file, in bytes.
const BYTES_MAX: u64 = 16 << 20;

/// How long a command waits for another one that changes the file: attempts, and the pause between them.
const TURNS: (u32, Duration) = (500, Duration::from_millis(20));

/// A file that changed so lately is read again at the next look: its time may stay the same when it changes once more.
const RESTLESS: Duration = Duration::from_secs(2);

/// Why locks cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocksError {
    /// The system said no.
    #[error("locks file {}: {what}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Strangers could have written it.
    #[error(
        "locks file {}: others than its owner may write it, or its owner is neither root, nor this user, nor the owner of \
         its folder; look at what it holds, then chmod 0640 it and chown it", .path.display()
    )]
    Ownership {
        /// Which file.
        path: PathBuf,
    },
    /// Not a list of locks.
    #[error(
        "locks file {} cannot be read as a list of locks: {source}. Mend it by hand; only when no lock is meant to hold, \
         remove it", .path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// Larger than anything that this program writes.
    #[error("locks file {}: larger than 16 MiB; is it the right file?", .path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// More locks than are allowed.
    #[error(
        "locks file {}: {count} locks, and locks.max allows {max}: take some away (natsentry lock list, natsentry unlock \
         ID), lock a client application or a role in the place of many identities, or raise locks.max", .path.display()
    )]
    Full {
        /// Which file.
        path: PathBuf,
        /// How many there are, or would be.
        count: usize,
        /// How many are allowed.
        max: usize,
    },
    /// It was there, and now it is not.
    #[error(
        "locks file {} has gone: the locks that it held stay in force. To take them away: natsentry unlock --every-lock",
        .path.display()
    )]
    Gone {
        /// Which file.
        path: PathBuf,
    },
    /// Another command does not come to its end.
    #[error("locks file {}: another command has been changing it for 10 s; try again", .path.display())]
    Busy {
        /// Which file.
        path: PathBuf,
    },
}

/// The file of locks.
#[derive(Debug)]
pub(super) struct LockFile {
    path: PathBuf,
    max: usize,
}

/// What tells one state of the file from another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    mark: Option<Mark>,
    /// It may have changed again since, with the same mark.
    restless: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl LockFile {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            path: settings.file.clone(),
            max: settings.max,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The first look.
    pub(super) fn first(&self, now: Timestamp) -> Result<(Seen, Document), LocksError> {
        let mark = self.mark()?;
        let document = match mark {
            Some(_) => self.read()?,
            None => Document::default(),
        };
        Ok((Seen::of(mark, now), document))
    }

    /// What the file holds, if it has changed.
    pub(super) fn again(
        &self,
        seen: &mut Seen,
        now: Timestamp,
    ) -> Result<Option<Document>, LocksError> {
        let mark = self.mark()?;
        if mark.is_none() && seen.mark.is_some() {
            return Err(LocksError::Gone {
                path: self.path.clone(),
            });
        }
        if mark == seen.mark && !seen.restless {
            return Ok(None);
        }
        let document = match mark {
            Some(_) => Some(self.read()?),
            None => None,
        };
        // Only now: what could not be read is tried again.
        *seen = Seen::of(mark, now);
        Ok(document)
    }

    fn mark(&self) -> Result<Option<Mark>, LocksError> {
        match fs::metadata(&self.path) {
            Ok(facts) => Ok(Some(Mark {
                device: facts.dev(),
                inode: facts.ino(),
                size: facts.size(),
                modified: (facts.mtime(), facts.mtime_nsec()),
                changed: (facts.ctime(), facts.ctime_nsec()),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io("look at it", error)),
        }
    }

    /// What the file holds; nothing where there is none.
    pub(super) fn read(&self) -> Result<Document, LocksError> {
        let file = match fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Document::default());
            }
            Err(error) => return Err(self.io("open it", error)),
        };
        let facts = file
            .metadata()
            .map_err(|error| self.io("look at it", error))?;
        let folder = self.folder_facts()?;
        let ours = [0, folder.uid(), rustix::process::geteuid().as_raw()];
        if !facts.is_file() || facts.mode() & 0o022 != 0 || !ours.contains(&facts.uid()) {
            return Err(LocksError::Ownership {
                path: self.path.clone(),
            });
        }
        let mut bytes = Vec::new();
        file.take(BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.io("read it", error))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > BYTES_MAX {
            return Err(LocksError::TooLarge {
                path: self.path.clone(),
            });
        }
        let document = Document::parse(&bytes).map_err(|source| LocksError::Damaged {
            path: self.path.clone(),
            source,
        })?;
        self.fits(document.locks.len())?;
        Ok(document)
    }

    fn fits(&self, count: usize) -> Result<(), LocksError> {
        if count > self.max {
            return Err(LocksError::Full {
                path: self.path.clone(),
                count,
                max: self.max,
            });
        }
        Ok(())
    }

    pub(super) fn change<T, E>(
        &self,
        now: Timestamp,
        change: impl FnOnce(&mut Document) -> Result<T, E>,
    ) -> Result<Result<T, E>, LocksError> {
        let _turn = self.turn()?;
        let before = self.read()?;
        let mut document = before.clone();
        document.drop_ended(now);
        let done = match change(&mut document) {
            Ok(done) => done,
            Err(error) => return Ok(Err(error)),
        };
        self.fits(document.locks.len())?;
        if document != before || !self.path.exists() {
            self.write(document.text().as_bytes())?;
        }
        Ok(Ok(done))
    }

    /// Waits for other commands. They wait for us until the returned file is dropped.
    ///
    /// Root comes here for a service whose folder this is, and gives the file to it: no link that the service could have
    /// laid may make that another file.
    fn turn(&self) -> Result<fs::File, LocksError> {
        let mut name = self.path.clone().into_os_string();
        name.push(".turn");
        let beside = |error| self.io("open the file .turn beside it", error);
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags.bits().cast_signed())
            .open(&name)
            .map_err(beside)?;
        let facts = file.metadata().map_err(beside)?;
        if !facts.is_file() || facts.nlink() != 1 {
            return Err(beside(io::Error::other(
                "it is a link, or no file; remove it",
            )));
        }
        self.give_away(&file).map_err(beside)?;
        for _ in 0..TURNS.0 {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(fs::TryLockError::WouldBlock) => std::thread::sleep(TURNS.1),
                Err(fs::TryLockError::Error(error)) => return Err(self.io("lock it", error)),
            }
        }
        Err(LocksError::Busy {
            path: self.path.clone(),
        })
    }

    /// Gives a file of root to whom the folder belongs to.
    fn give_away(&self, file: &fs::File) -> io::Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let folder = fs::metadata(self.folder())?;
        fchown(file, Some(folder.uid()), Some(folder.gid()))
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    fn folder_facts(&self) -> Result<fs::Metadata, LocksError> {
        fs::metadata(self.folder()).map_err(|error| self.io("look at its folder", error))
    }

    /// Replaces the file in one step, and brings it to the disk. It belongs to whom its folder belongs to, and who may read
    /// the folder may read it: a command of root must leave what the service can read.
    fn write(&self, bytes: &[u8]) -> Result<(), LocksError> {
        let folder = self.folder_facts()?;
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let beside = PathBuf::from(name);
        // Whoever left one here was killed: we have the turn.
        drop(fs::remove_file(&beside));
        let write = || -> io::Result<()> {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(bytes)?;
            self.give_away(&file)?;
            let readable = 0o600 | (folder.mode() & 0o044);
            file.set_permissions(fs::Permissions::from_mode(readable))?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)?;
            fs::File::open(self.folder())?.sync_all()
        };
        write().map_err(|error| {
            // The file of before stays; a leftover beside it would only be litter.
            let _ = fs::remove_file(&beside);
            self.io("write it", error)
        })
    }

    fn io(&self, what: &'static str, source: io::Error) -> LocksError {
        LocksError::Io {
            path: self.path.clone(),
            what,
            source,
        }
    }
}

impl Seen {
    fn of(mark: Option<Mark>, now: Timestamp) -> Self {
        let restless = mark.is_some_and(|mark| {
            let modified = u64::try_from(mark.modified.0).unwrap_or(u64::MAX);
            // Also where its time lies ahead of ours.
            Timestamp::from_secs(modified).plus(RESTLESS) > now
        });
        Self { mark, restless }
    }
}
