//! Packages of the Debian release this machine runs, unpacked into a folder instead of installed: no root needed.
//!
//! Signatures and checksums are apt's own business; nothing here relaxes them.

use std::fs;
use std::path::{Path, PathBuf};

use super::{ProvisionError, TempDir, command, is_root, run};

const ADVICE: &str = "apt-get and dpkg-deb are needed (a Debian or Ubuntu machine)";

/// Downloads `packages` (each a name, or `name=version` where the version may end in `*`) and unpacks them below
/// `into`. Dependencies are not followed.
///
/// Where the machine has no package lists, or stale ones, lists of our own are fetched for this one call.
///
/// # Errors
/// When apt is absent, or neither the machine's lists nor fresh ones have the packages.
pub fn unpack(packages: &[&str], into: &Path) -> Result<(), ProvisionError> {
    let parcels = into.join(".apt");
    fs::create_dir_all(&parcels).map_err(ProvisionError::file("create", &parcels))?;
    if download(&[], packages, &parcels).is_err() {
        let lists = TempDir::create("apt")?;
        let options = own_lists(lists.path())?;
        download(&options, packages, &parcels)?;
    }
    let entries = fs::read_dir(&parcels).map_err(ProvisionError::file("read", &parcels))?;
    for entry in entries {
        let parcel = entry
            .map_err(ProvisionError::file("read", &parcels))?
            .path();
        if parcel
            .extension()
            .is_some_and(|extension| extension == "deb")
        {
            run(command("dpkg-deb").arg("-x").arg(&parcel).arg(into), ADVICE)?;
        }
    }
    fs::remove_dir_all(&parcels).map_err(ProvisionError::file("remove", &parcels))
}

fn download(options: &[String], packages: &[&str], into: &Path) -> Result<(), ProvisionError> {
    let mut apt = command("apt-get");
    // As root, apt would fetch as a user of its own that cannot write to folders of ours.
    apt.args(["-q", "-o", "APT::Sandbox::User=root"])
        .args(options);
    run(apt.arg("download").args(packages).current_dir(into), ADVICE).map(drop)
}

/// Fetches package lists into `place` and returns the options that make apt use them.
fn own_lists(place: &Path) -> Result<Vec<String>, ProvisionError> {
    for folder in ["lists/partial", "archives/archives/partial"] {
        let folder = place.join(folder);
        fs::create_dir_all(&folder).map_err(ProvisionError::file("create", &folder))?;
    }
    let options = vec![
        "-o".to_owned(),
        format!("Dir::State::Lists={}", place.join("lists").display()),
        "-o".to_owned(),
        format!("Dir::Cache={}", place.join("archives").display()),
    ];
    let mut apt = command("apt-get");
    apt.args(["-q", "-o", "APT::Sandbox::User=root"])
        .args(&options)
        .arg("update");
    run(&mut apt, ADVICE)?;
    Ok(options)
}

/// Installs `packages` into the system.
///
/// # Errors
/// When the caller is not root, or apt fails; the error names the packages.
pub fn install(packages: &[&str]) -> Result<(), ProvisionError> {
    let advice = format!("install {} by hand", packages.join(" "));
    if !is_root() {
        let program = packages.join(" ");
        return Err(ProvisionError::Missing { program, advice });
    }
    let install = || {
        run(
            command("apt-get")
                .args(["-q", "-y", "install"])
                .args(packages),
            &advice,
        )
    };
    if install().is_ok() {
        return Ok(());
    }
    run(command("apt-get").args(["-q", "update"]), &advice)?;
    install().map(drop)
}

/// The release name of this machine (`bookworm`), from `/etc/os-release`; none where there is no apt.
#[must_use]
pub fn release() -> Option<String> {
    super::on_path("apt-get", |_| true)?;
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(name.trim_matches('"').to_owned())
}

/// The one file below `root` with this path, in whichever of `folders` it lies.
pub(crate) fn unpacked(
    root: &Path,
    folders: &[&str],
    name: &str,
) -> Result<PathBuf, ProvisionError> {
    let found = folders
        .iter()
        .map(|folder| root.join(folder).join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| ProvisionError::Incomplete(PathBuf::from(name)))
}
