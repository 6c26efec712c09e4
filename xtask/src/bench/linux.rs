//! The Linux guest that Twizzler is measured beside: Debian's kernel for virtual machines, and one static
//! program as its only process (`bench/examples/linux_peer.rs`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::newc::Archive;
use crate::{paths, progress, setup};

/// What boots the guest.
#[derive(Debug)]
pub(super) struct Guest {
    /// Linux.
    pub(super) kernel: PathBuf,
    /// Its version.
    pub(super) version: String,
    /// The initramfs.
    pub(super) archive: PathBuf,
}

/// The guest's kernel command line. Without mitigations for processors' faults, because Twizzler has none.
pub(super) const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off";

/// Gets the kernel and builds the program.
pub(super) fn prepare() -> Result<Guest> {
    let folder = paths::state().join("linux");
    let (version, kernel) = kernel(&folder)?;
    let mut archive = Archive::default();
    archive.folder("dev");
    archive.device("dev/console", 5, 1);
    archive.program("init", &fs::read(peer()?)?);
    let path = folder.join("initramfs");
    fs::write(&path, archive.finish()).with_context(|| format!("can't write {}", path.display()))?;
    Ok(Guest { kernel, version, archive: path })
}

/// Debian's current kernel for virtual machines, downloaded once.
fn kernel(folder: &Path) -> Result<(String, PathBuf)> {
    if let Some(found) = downloaded(folder) {
        return Ok(found);
    }
    let package = current_package()?;
    setup::download("The Linux kernel to compare with", &[&package], folder)?;
    let deb = find(folder, |name| name.ends_with(".deb")).context("apt downloaded nothing")?;
    let unpacked = folder.join("unpacked");
    progress::run("Unpacking the Linux kernel", Command::new("dpkg").arg("-x").arg(&deb).arg(&unpacked))?;
    let kernel = find(&unpacked.join("boot"), |name| name.starts_with("vmlinuz-"))
        .with_context(|| format!("{package} has no kernel"))?;
    fs::rename(&kernel, folder.join(kernel.file_name().expect("a file found has a name")))?;
    fs::remove_dir_all(unpacked)?;
    fs::remove_file(deb)?;
    downloaded(folder).context("the kernel is gone again")
}

fn downloaded(folder: &Path) -> Option<(String, PathBuf)> {
    let kernel = find(folder, |name| name.starts_with("vmlinuz-"))?;
    let version = kernel.file_name()?.to_string_lossy().trim_start_matches("vmlinuz-").to_owned();
    Some((version, kernel))
}

fn find(folder: &Path, wanted: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| wanted(&path.file_name().unwrap_or_default().to_string_lossy()))
}

/// The package that `linux-image-cloud-amd64` stands for at the moment.
fn current_package() -> Result<String> {
    let output =
        Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]).stderr(Stdio::null()).output();
    let output = output.context("the Linux guest needs Debian's apt")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let package = text.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    match package {
        Some(rest) => Ok(format!("linux-image-{rest}")),
        None => bail!("apt knows no linux-image-cloud-amd64: run apt-get update"),
    }
}

/// Builds the static program for Linux.
fn peer() -> Result<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let target = paths::target().join("linux-peer");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(paths::root())
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static\x1f-Crelocation-model=static")
        .env("CARGO_TARGET_DIR", &target)
        .args([
            "build",
            "--release",
            "--package",
            "twizzler-bench",
            "--example",
            "linux_peer",
            "--target",
            TARGET,
        ]);
    progress::run("Building the Linux side of the comparison", &mut cargo)?;
    Ok(target.join(TARGET).join("release/examples/linux_peer"))
}
