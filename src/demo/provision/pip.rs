//! Python packages by pip, every file pinned by its SHA-256 and never built on this machine.
//!
//! Debian's `python3` comes without pip; then the copy that Debian ships for its own `ensurepip` is borrowed through
//! apt, unpacked in the cache, and run from there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Cache, ProvisionError, apt, command, on_path, run};

const ADVICE: &str =
    "install Python 3.9 or later with pip (Debian: apt-get install python3 python3-pip)";

/// A Python that can run pip.
#[derive(Debug, Clone)]
pub struct Python {
    program: PathBuf,
    borrowed_pip: Option<PathBuf>,
}

impl Python {
    /// The machine's `python3`; installed by apt when it is absent and the caller is root.
    ///
    /// # Errors
    /// When there is no Python and none can be installed, or pip is neither there nor to be had.
    pub fn find(cache: &Cache) -> Result<Self, ProvisionError> {
        let program = match on_path("python3", answers) {
            Some(program) => program,
            None => install_python(cache)?,
        };
        let mut python = Self {
            program,
            borrowed_pip: None,
        };
        if run(python.pip().arg("--version"), ADVICE).is_err() {
            python.borrowed_pip = Some(borrow_pip(cache)?);
            run(python.pip().arg("--version"), ADVICE)?;
        }
        Ok(python)
    }

    /// The interpreter.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Installs what `requirements` pins (`name==version --hash=sha256:...`, one line each, dependencies included)
    /// into the folder `into`, to be put on `PYTHONPATH`.
    ///
    /// # Errors
    /// When pip fails; a file whose hash is not listed is a failure.
    pub fn install(&self, requirements: &str, into: &Path) -> Result<(), ProvisionError> {
        let list = into.join("requirements.txt");
        fs::write(&list, requirements).map_err(ProvisionError::file("write", &list))?;
        let mut pip = self.pip();
        pip.args(["install", "--no-warn-script-location", "--target"])
            .arg(into);
        run(pinned(&mut pip, &list), ADVICE).map(drop)
    }

    /// Downloads and unpacks the wheels that `requirements` pins, below `into`, without installing anything.
    ///
    /// # Errors
    /// As for [`Python::install`].
    pub fn unpack(&self, requirements: &str, into: &Path) -> Result<(), ProvisionError> {
        let wheels = into.join(".wheels");
        fs::create_dir_all(&wheels).map_err(ProvisionError::file("create", &wheels))?;
        let list = wheels.join("requirements.txt");
        fs::write(&list, requirements).map_err(ProvisionError::file("write", &list))?;
        let mut pip = self.pip();
        pip.arg("download").arg("--dest").arg(&wheels);
        run(pinned(&mut pip, &list), ADVICE)?;
        for entry in fs::read_dir(&wheels).map_err(ProvisionError::file("read", &wheels))? {
            let wheel = entry.map_err(ProvisionError::file("read", &wheels))?.path();
            if wheel
                .extension()
                .is_some_and(|extension| extension == "whl")
            {
                let mut unzip = command(&self.program);
                run(
                    unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(into),
                    ADVICE,
                )?;
            }
        }
        fs::remove_dir_all(&wheels).map_err(ProvisionError::file("remove", &wheels))
    }

    fn pip(&self) -> Command {
        let mut pip = command(&self.program);
        // A user's wish that pip run in virtual environments only is about installing, which this does not do.
        pip.env("PIP_REQUIRE_VIRTUALENV", "0")
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
        pip.env("PIP_ROOT_USER_ACTION", "ignore")
            .args(["-m", "pip"]);
        if let Some(wheel) = &self.borrowed_pip {
            pip.env("PYTHONPATH", wheel);
        }
        pip
    }
}

fn pinned<'a>(pip: &'a mut Command, list: &Path) -> &'a mut Command {
    pip.args([
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "--quiet",
        "--no-input",
    ]);
    pip.arg("--requirement").arg(list)
}

fn answers(program: &Path) -> bool {
    let test = "import sys, zipfile, ssl; sys.exit(sys.version_info < (3, 9))";
    run(command(program).args(["-c", test]), ADVICE).is_ok()
}

fn install_python(cache: &Cache) -> Result<PathBuf, ProvisionError> {
    // apt serves one at a time, and who waited may find it done.
    let _lock = cache.lock("apt-install")?;
    if on_path("python3", answers).is_none() {
        apt::install(&["python3-minimal", "libpython3-stdlib", "ca-certificates"])?;
    }
    on_path("python3", answers).ok_or_else(|| ProvisionError::Missing {
        program: "python3".to_owned(),
        advice: ADVICE.to_owned(),
    })
}

fn borrow_pip(cache: &Cache) -> Result<PathBuf, ProvisionError> {
    let place = cache.entry("pip-from-apt", |aside| {
        apt::unpack(&["python3-pip-whl"], aside)
    })?;
    let wheels = place.join("usr/share/python-wheels");
    let entries = fs::read_dir(&wheels).map_err(ProvisionError::file("read", &wheels))?;
    let mut found = entries.filter_map(Result::ok).map(|entry| entry.path());
    let is_pip = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("pip-"))
    };
    found
        .find(is_pip)
        .ok_or_else(|| ProvisionError::Incomplete(PathBuf::from("pip-*.whl")))
}
