//! Debian's package manager.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::{paths, progress};

/// Installs packages; does nothing for those that are there.
///
/// # Errors
/// No apt, no right to install, or apt fails: with the command to give instead.
pub(super) fn install(why: &str, packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let by_hand = format!("apt-get install {list}");
    let mut apt = as_root(why, &list, &by_hand)?;
    progress::say(format!("{why} is missing. Installing with apt: {list}"));
    update(&by_hand)?;
    apt.args(["install", "--yes", "--no-install-recommends"]).args(&missing);
    progress::run(&format!("Installing {list}"), &mut apt)
        .map_err(|error| error.context(format!("can't install {list}: find out why with\n    {by_hand}")))
}

/// Downloads packages into a folder.
///
/// # Errors
/// As [`install`].
pub(super) fn download(why: &str, packages: &[&str], into: &Path) -> Result<()> {
    let list = packages.join(" ");
    if paths::which("apt-get").is_none() {
        bail!("{why} is missing, and there is no apt here to download {list} with");
    }
    std::fs::create_dir_all(into)?;
    progress::say(format!("{why} is missing. Downloading with apt, without installing: {list}"));
    let mut apt = Command::new("apt-get");
    apt.current_dir(into).arg("download").args(packages);
    progress::run(&format!("Downloading {list}"), &mut apt)
}

fn installed(package: &str) -> bool {
    let query =
        Command::new("dpkg-query").args(["-W", "-f=${Status}", package]).stderr(Stdio::null()).output();
    query.is_ok_and(|query| query.stdout == b"install ok installed")
}

fn as_root(why: &str, list: &str, by_hand: &str) -> Result<Command> {
    if paths::which("apt-get").is_none() {
        bail!(
            "{why} is missing. On Debian it comes with\n    {by_hand}\nHere is no apt: install the equivalents of {list} with your system's package manager, then try again"
        );
    }
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new("apt-get")
    } else if can_sudo() {
        let mut sudo = Command::new("sudo");
        sudo.args(["--non-interactive", "--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
        sudo
    } else {
        bail!("{why} is missing, and only root may install it. Run\n    sudo {by_hand}\nthen try again");
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

fn can_sudo() -> bool {
    let mut sudo = Command::new("sudo");
    sudo.args(["--non-interactive", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sudo.status().is_ok_and(|status| status.success())
}

fn update(by_hand: &str) -> Result<()> {
    let mut apt = as_root("the package list", "", by_hand)?;
    progress::run("Updating the package list", apt.arg("update"))
}
