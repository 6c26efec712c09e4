//! Finds what building and running needs, and installs what is missing, after saying so.
//!
//! Two ways lead to code for bare metal (`docs/running.md`): rustup's target `x86_64-unknown-none`, or,
//! where that can't be had, Debian's compiler with a library that `sysroot` builds once from its source.

mod apt;
mod bare_metal;
mod sysroot;

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result};

pub use bare_metal::{TARGET, Way};

use crate::paths;

/// What is there to build and run with.
#[derive(Clone, Debug)]
pub struct Tools {
    /// How code for bare metal is compiled.
    pub way: Way,
    /// QEMU.
    pub qemu: PathBuf,
}

/// Finds the tools; installs and builds what is missing.
///
/// # Errors
/// What is missing and can't be installed, with the command that would.
pub fn tools() -> Result<Tools> {
    Ok(Tools { way: way()?, qemu: qemu()? })
}

/// Finds how to compile for bare metal.
///
/// # Errors
/// As [`tools`].
pub fn way() -> Result<Way> {
    let _one_at_a_time = lock()?;
    bare_metal::find()
}

/// Finds QEMU.
///
/// # Errors
/// As [`tools`].
pub fn qemu() -> Result<PathBuf> {
    const QEMU: &str = "qemu-system-x86_64";
    if let Some(qemu) = paths::which(QEMU) {
        return Ok(qemu);
    }
    let _one_at_a_time = lock()?;
    apt::install("QEMU, which the system runs in,", &["qemu-system-x86"])?;
    paths::which(QEMU).context("qemu-system-x86 is installed, but qemu-system-x86_64 is not in PATH")
}

/// Installs Debian packages that a command needs beyond building and running.
///
/// # Errors
/// As [`tools`].
pub fn packages(why: &str, packages: &[&str]) -> Result<()> {
    let _one_at_a_time = lock()?;
    apt::install(why, packages)
}

/// Downloads Debian packages without installing them, into the current state directory's folder `into`.
///
/// # Errors
/// As [`tools`].
pub fn download(why: &str, packages: &[&str], into: &std::path::Path) -> Result<()> {
    let _one_at_a_time = lock()?;
    apt::download(why, packages, into)
}

/// Setup by several processes at once would trip over itself. Held until dropped.
fn lock() -> Result<File> {
    let state = paths::state();
    std::fs::create_dir_all(&state).with_context(|| format!("can't create {}", state.display()))?;
    let path = state.join("setup.lock");
    let file = File::create(&path).with_context(|| format!("can't write {}", path.display()))?;
    file.lock().with_context(|| format!("can't lock {}", path.display()))?;
    Ok(file)
}
