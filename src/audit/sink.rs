//! Where lines go: the one writer behind the queue, which chains them, rotates the file and never loses its place.
//!
//! A write that fails is tried again every second, after opening the file anew, until it succeeds; meanwhile nothing else
//! is taken from the queue, so the queue fills and its `when_full` decides. A line that was written in part is cut off
//! before it is written again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::chain::Link;
use crate::clock;

/// The audit file.
#[derive(Clone, Debug)]
pub struct FileSettings {
    /// Path; created with mode 0600, appended to when it exists.
    pub path: PathBuf,
    /// Size in bytes from which the file is renamed to `<path>.<time>` and a new one begun; 0 is never.
    pub rotate_bytes: u64,
    /// Renamed files kept; 0 is all of them.
    pub keep: usize,
}

/// A destination that lines are appended to.
pub(super) enum Target {
    File(AuditFile),
    Stdout,
}

impl Target {
    /// Appends `lines` whole, or says why not and leaves nothing of them behind where that is possible.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.append(lines),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
        }
    }

    /// Opens the file anew, after something else renamed it or after a failure.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.reopen(),
            Self::Stdout => Ok(()),
        }
    }

    /// Brings everything to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self {
            Self::File(file) => file.file.sync_data(),
            Self::Stdout => Ok(()),
        }
    }

    /// Begins a new file if this one is large enough.
    pub(super) fn rotate_if_due(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.rotate_if_due(),
            Self::Stdout => Ok(()),
        }
    }
}

/// An open audit file.
pub(super) struct AuditFile {
    settings: FileSettings,
    file: File,
    /// Bytes of whole lines.
    len: u64,
}

impl AuditFile {
    /// Opens or creates the file and finds the end of its chain.
    pub(super) fn open(settings: FileSettings) -> io::Result<(Self, Link)> {
        let mut file = open(&settings.path)?;
        let last = last_line(&mut file)?;
        let link = last.as_deref().map_or_else(Link::default, |line| {
            Link::of(line.strip_suffix(b"\n").unwrap_or(line))
        });
        if last.is_some_and(|line| !line.ends_with(b"\n")) {
            // The process died while it wrote. The stump stays, as a line of its own.
            file.write_all(b"\n")?;
        }
        let len = file.metadata()?.len();
        Ok((
            Self {
                settings,
                file,
                len,
            },
            link,
        ))
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        // Asked each time, since another program may have cut the file (logrotate's copytruncate).
        self.len = self.file.metadata()?.len();
        if let Err(error) = self.file.write_all(lines) {
            self.file.set_len(self.len)?;
            return Err(error);
        }
        let added = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        self.len = self.len.saturating_add(added);
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        let same = is_same(&self.file, &self.settings.path);
        if same {
            return Ok(());
        }
        let file = open(&self.settings.path)?;
        self.len = file.metadata()?.len();
        self.file = file;
        Ok(())
    }

    fn rotate_if_due(&mut self) -> io::Result<()> {
        let limit = self.settings.rotate_bytes;
        if limit == 0 || self.len < limit {
            return Ok(());
        }
        self.file.sync_data()?;
        fs::rename(&self.settings.path, self.rotated_name())?;
        self.reopen()?;
        self.remove_old()
    }

    /// `<path>.20261123T163700.000Z`, with a number after it if that is taken.
    fn rotated_name(&self) -> PathBuf {
        let time: String = clock::now()
            .to_string()
            .chars()
            .filter(|c| !matches!(c, '-' | ':'))
            .collect();
        let named = |suffix: &str| {
            let mut name = self.settings.path.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        let first = named(&format!(".{time}"));
        let others = (1..u32::MAX).map(|n| named(&format!(".{time}.{n}")));
        std::iter::once(first)
            .chain(others)
            .find(|path| !path.exists())
            .unwrap_or_else(|| named(".old"))
    }

    fn remove_old(&self) -> io::Result<()> {
        if self.settings.keep == 0 {
            return Ok(());
        }
        let mut old = rotated(&self.settings.path)?;
        old.sort();
        let surplus = old.len().saturating_sub(self.settings.keep);
        old.iter().take(surplus).try_for_each(fs::remove_file)
    }
}

/// The renamed files of `path`, in no order.
pub(super) fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let Some(stem) = path.file_name().and_then(|name| name.to_str()) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let time = name
            .to_str()
            .and_then(|name| name.strip_prefix(stem)?.strip_prefix('.'));
        let looks_like_time = |time: &str| {
            time.len() >= 20 && time.starts_with("20") && time.as_bytes().get(8) == Some(&b'T')
        };
        if time.is_some_and(looks_like_time) {
            found.push(folder.join(name));
        }
    }
    Ok(found)
}

/// Opens for reading and appending, and keeps a second process from doing the same: two writers would break the chain.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        // A pipe or a device has no end to keep.
        return Ok(file);
    }
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another process writes this audit file",
        )),
        // Some network file systems cannot lock.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether `path` still names the open file.
#[cfg(unix)]
fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => open.dev() == named.dev() && open.ino() == named.ino(),
        _ => false,
    }
}

/// Whether `path` still names the open file; where that cannot be asked, an open file cannot be renamed either.
#[cfg(not(unix))]
fn is_same(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// The last line of a file with its line feed if it has one; none of an empty file.
fn last_line(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut start = end;
    let mut tail: Vec<u8> = Vec::new();
    while start > 0 {
        let step = start.min(TAIL_STEP);
        start = start.saturating_sub(step);
        file.seek(SeekFrom::Start(start))?;
        let mut head = Vec::new();
        io::Read::take(&mut *file, step).read_to_end(&mut head)?;
        head.append(&mut tail);
        tail = head;
        let body = tail.strip_suffix(b"\n").unwrap_or(&tail);
        if let Some(at) = memchr::memrchr(b'\n', body) {
            return Ok(Some(tail.split_off(at.saturating_add(1))));
        }
        if end.saturating_sub(start) > LONGEST_LINE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its last line is longer than any audit line",
            ));
        }
    }
    Ok((!tail.is_empty()).then_some(tail))
}

/// Bytes read at a time, from the end.
const TAIL_STEP: u64 = 64 * 1024;

/// Bytes; lines are far shorter, since all that a peer chooses is clipped.
const LONGEST_LINE: u64 = 4 * 1024 * 1024;

/// How long after a failed write the next is tried.
pub(super) const RETRY: Duration = Duration::from_secs(1);
