//! Programs this machine lacks, fetched once and kept in a cache folder of the user.
//!
//! Only the ordinary clients of package registries are run (pip, apt-get), so that whatever mirror, proxy or index
//! the machine is set up for is honoured. Nothing here installs anything into the system, with one exception that
//! says so: Python itself, by apt, when it is absent and the caller is root.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

pub mod apt;
pub mod pip;

/// Why a program could not be had. Every text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The file system said no.
    #[error("cannot {what} {}: {source}", .path.display())]
    File {
        /// What was tried, as a verb.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A program that everything else depends on is not installed.
    #[error("`{program}` was not found: {advice}")]
    Missing {
        /// The program looked for.
        program: String,
        /// How to get it.
        advice: String,
    },
    /// A program ran and failed.
    #[error("`{command}` failed ({status}): {stderr}")]
    Failed {
        /// Program and arguments.
        command: String,
        /// Exit status as the system words it.
        status: String,
        /// The last lines it wrote.
        stderr: String,
    },
    /// What was fetched is not what was asked for.
    #[error("{name}: wanted version {wanted}, got {found}")]
    WrongVersion {
        /// The program.
        name: String,
        /// The version asked for.
        wanted: String,
        /// The version that answered.
        found: String,
    },
    /// What was fetched lacks a file that it has to contain.
    #[error("{} is not in the package fetched for it", .0.display())]
    Incomplete(PathBuf),
    /// Nothing worked; one line for each way that was tried.
    #[error("no {what} could be found or installed:\n  {}\n{advice}", .tried.join("\n  "))]
    Exhausted {
        /// What was wanted.
        what: String,
        /// Why each way failed.
        tried: Vec<String>,
        /// What a person can do.
        advice: String,
    },
}

impl ProvisionError {
    /// Turns an `io::Error` on `path` into an error that says what was tried.
    pub fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { what, path, source }
    }
}

/// A folder that survives runs. Entries are complete or absent: they are built aside and renamed into place.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The first of these that can be written: `$NATSENTRY_CACHE`, `$XDG_CACHE_HOME/natsentry`,
    /// `$HOME/.cache/natsentry`, `target/natsentry-cache` below the working folder.
    ///
    /// # Errors
    /// When none can be written. `$NATSENTRY_CACHE`, when set, is the only candidate.
    pub fn open() -> Result<Self, ProvisionError> {
        let mut last = None;
        for root in Self::candidates() {
            match fs::create_dir_all(&root).and_then(|()| fs::canonicalize(&root)) {
                Ok(root) => match File::create(root.join(".writable")) {
                    Ok(_) => return Ok(Self { root }),
                    Err(error) => last = Some((root, error)),
                },
                Err(error) => last = Some((root, error)),
            }
        }
        let (path, source) = last.unwrap_or_else(|| {
            (
                PathBuf::from("target"),
                io::Error::new(io::ErrorKind::NotFound, "no candidate"),
            )
        });
        Err(ProvisionError::File {
            what: "write to the cache folder",
            path,
            source,
        })
    }

    fn candidates() -> Vec<PathBuf> {
        let set = |name| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        if let Some(root) = set("NATSENTRY_CACHE") {
            return vec![root];
        }
        let xdg = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let home = set("HOME").map(|home| home.join(".cache"));
        let below = env::current_dir()
            .ok()
            .map(|here| here.join("target/natsentry-cache"));
        xdg.into_iter()
            .chain(home)
            .map(|base| base.join("natsentry"))
            .chain(below)
            .collect()
    }

    /// The folder itself, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The entry `name`, built by `build` in an empty folder when it is absent. Threads and processes that ask for
    /// the same entry wait for the one that builds it. `name` is one path component and has to change whenever the
    /// content would.
    ///
    /// # Errors
    /// Whatever `build` returns (nothing is kept then), or a file system error.
    pub fn entry(
        &self,
        name: &str,
        build: impl FnOnce(&Path) -> Result<(), ProvisionError>,
    ) -> Result<PathBuf, ProvisionError> {
        let place = self.root.join(name);
        if place.is_dir() {
            return Ok(place);
        }
        let lock_path = self.root.join(format!(".{name}.lock"));
        let lock = File::create(&lock_path).map_err(ProvisionError::file("create", &lock_path))?;
        lock.lock()
            .map_err(ProvisionError::file("lock", &lock_path))?;
        if place.is_dir() {
            return Ok(place);
        }
        let aside = self.root.join(format!(".{name}.{}", std::process::id()));
        remove_if_there(&aside)?;
        fs::create_dir_all(&aside).map_err(ProvisionError::file("create", &aside))?;
        let built = build(&aside).and_then(|()| {
            fs::rename(&aside, &place).map_err(ProvisionError::file("rename into place", &aside))
        });
        if let Err(error) = built {
            remove_if_there(&aside)?;
            return Err(error);
        }
        Ok(place)
    }

    /// Keeps every other thread and process out until the returned file is dropped. The file stays: removing it would
    /// let a third party lock a file that nobody else sees.
    pub(super) fn lock(&self, name: &str) -> Result<File, ProvisionError> {
        let path = self.root.join(format!(".{name}.lock"));
        let lock = File::create(&path).map_err(ProvisionError::file("create", &path))?;
        lock.lock().map_err(ProvisionError::file("lock", &path))?;
        Ok(lock)
    }
}

fn remove_if_there(path: &Path) -> Result<(), ProvisionError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ProvisionError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// A fresh folder below the system's temporary folder, readable by this user alone, removed on drop.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes it. `label` is for people who look into the temporary folder.
    ///
    /// # Errors
    /// When the temporary folder cannot be written.
    pub fn create(label: &str) -> Result<Self, ProvisionError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let base = env::temp_dir();
        // A leftover of a killed process with our process id may hold a name: go on to the next one.
        for _ in 0..10_000 {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("natsentry-{label}-{}-{number}", std::process::id());
            let path = base.join(name);
            match private_folder(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(ProvisionError::file("create", &path)(error)),
            }
        }
        let full = io::Error::new(io::ErrorKind::AlreadyExists, "every name tried is taken");
        Err(ProvisionError::file("create a folder in", &base)(full))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Nothing to be done about a folder that will not go: the system clears its temporary folder itself.
        fs::remove_dir_all(&self.path).ok();
    }
}

/// A shell that waits for the end of this process, however it comes, and then kills another one and removes a folder:
/// what a child process needs so that it never outlives us. On drop it stands down.
#[derive(Debug)]
pub struct Keeper {
    shell: Option<Child>,
}

impl Keeper {
    /// Watches over the process `pid`, which must be a child of ours and stay unreaped as long as this lives, and over
    /// `folder`. Where there is no shell, nobody watches.
    #[must_use]
    pub fn over(pid: u32, folder: &Path) -> Self {
        let mut shell = Command::new("sh");
        // It blocks on a pipe whose other end only we hold.
        shell
            .args(["-c", "read -r _; kill -9 \"$1\"; rm -rf \"$2\"", "sh"])
            .arg(pid.to_string());
        shell
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // A terminal's interrupt goes to every process of the group; the keeper has to outlive that.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut shell, 0);
        Self {
            shell: shell.spawn().ok(),
        }
    }

    /// Stands down. To be called before the process is reaped, since its id may belong to somebody else afterwards.
    pub fn dismiss(&mut self) {
        if let Some(mut shell) = self.shell.take() {
            shell.kill().ok();
            shell.wait().ok();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.dismiss();
    }
}

#[cfg(unix)]
fn private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path)
}

#[cfg(not(unix))]
fn private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

/// Sets the permission bits of an executable that was unpacked by something that forgets them.
///
/// # Errors
/// When the file cannot be changed.
pub fn make_executable(path: &Path) -> Result<(), ProvisionError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let bits = fs::Permissions::from_mode(0o755);
        fs::set_permissions(path, bits).map_err(ProvisionError::file("make executable", path))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// The first executable file of this name on `PATH` for which `good` holds.
#[must_use]
pub fn on_path(name: &str, good: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file() && good(file))
}

/// Whether this process runs as root, as far as the owner of its own entry in `/proc` tells. False where there is
/// no `/proc`.
#[must_use]
pub fn is_root() -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0)
    }
    #[cfg(not(unix))]
    false
}

/// A command whose texts are English and that reads nothing from the terminal.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .env("LC_ALL", "C.UTF-8")
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Runs to the end and returns what was written to standard output.
///
/// # Errors
/// [`ProvisionError::Missing`] when there is no such program, with `advice`; [`ProvisionError::Failed`] when it
/// does not end with success.
pub fn run(command: &mut Command, advice: &str) -> Result<String, ProvisionError> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().map_err(|error| ProvisionError::Missing {
        program: command.get_program().to_string_lossy().into_owned(),
        advice: format!("{advice} ({error})"),
    })?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&stderr);
    let said = if stderr.trim().is_empty() {
        stdout.as_str()
    } else {
        stderr.as_ref()
    };
    Err(ProvisionError::Failed {
        command: worded(command),
        status: status.to_string(),
        stderr: last_lines(said, 8),
    })
}

fn worded(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let from = lines.len().saturating_sub(count);
    lines.get(from..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (TempDir, Cache) {
        let dir = TempDir::create("cache-test").unwrap();
        let root = dir.path().to_path_buf();
        (dir, Cache { root })
    }

    #[test]
    fn an_entry_is_built_once() {
        let (_dir, cache) = cache();
        let built = AtomicU64::new(0);
        let build = |aside: &Path| {
            built.fetch_add(1, Ordering::Relaxed);
            fs::write(aside.join("tool"), "x").map_err(ProvisionError::file("write", aside))
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| cache.entry("tool-1", build).unwrap());
            }
        });
        assert_eq!(built.load(Ordering::Relaxed), 1);
        assert!(cache.root().join("tool-1/tool").is_file());
    }

    #[test]
    fn a_build_that_fails_leaves_nothing_and_is_tried_again() {
        let (_dir, cache) = cache();
        let fail = |aside: &Path| {
            fs::write(aside.join("half"), "x").unwrap();
            Err(ProvisionError::Incomplete(PathBuf::from("tool")))
        };
        assert!(cache.entry("tool-1", fail).is_err());
        assert!(!cache.root().join("tool-1").exists());
        let place = cache.entry("tool-1", |_| Ok(())).unwrap();
        assert!(!place.join("half").exists());
    }

    #[test]
    fn a_failure_says_what_ran_and_what_it_wrote() {
        let error = run(
            command("sh").args(["-c", "echo no >&2; exit 3"]),
            "install sh",
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`sh -c echo no >&2; exit 3` failed (exit status: 3): no"
        );
    }

    #[test]
    fn a_missing_program_comes_with_advice() {
        let error = run(&mut command("no-such-program-here"), "install it").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("`no-such-program-here` was not found: install it")
        );
    }

    #[test]
    fn a_temporary_folder_is_gone_after_its_owner() {
        let dir = TempDir::create("gone").unwrap();
        let path = dir.path().to_path_buf();
        fs::write(path.join("file"), "x").unwrap();
        drop(dir);
        assert!(!path.exists());
    }
}
