//! Which of the two ways to compile for bare metal is there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use super::{apt, sysroot};
use crate::{paths, progress};

/// What the kernel and the programs are compiled for.
pub const TARGET: &str = "x86_64-unknown-none";

/// How code for bare metal is compiled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Way {
    /// The compiler that cargo uses anyway has the target.
    Rustup,
    /// Debian's compiler with a library of our own building.
    Debian {
        /// The compiler.
        rustc: PathBuf,
        /// Where its library for the target lies.
        sysroot: PathBuf,
    },
}

/// Finds a way, making it if need be. The environment's `TWIZZLER_TOOLCHAIN` (`rustup` or `debian`) forces one.
///
/// # Errors
/// Neither is there nor can be made, with what to do.
pub(super) fn find() -> Result<Way> {
    match std::env::var("TWIZZLER_TOOLCHAIN").as_deref() {
        Ok("rustup") if rustup_has_target() || add_target() => Ok(Way::Rustup),
        Ok("rustup") => bail!("rustup can't add the target. Try\n    rustup target add {TARGET}"),
        Ok("debian") => debian(),
        Ok(other) => bail!("TWIZZLER_TOOLCHAIN is {other:?}: set it to rustup or debian, or unset it"),
        Err(_) if rustup_has_target() => Ok(Way::Rustup),
        Err(_) if sysroot::is_current() => debian(),
        Err(_) if add_target() => Ok(Way::Rustup),
        Err(_) => debian(),
    }
}

/// The compiler that cargo uses unless told otherwise. `RUSTC` is left out: it may name another one's.
fn rustc() -> Command {
    let mut rustc = Command::new("rustc");
    rustc.env_remove("RUSTC").current_dir(paths::root()).stdin(Stdio::null());
    rustc
}

/// Where that compiler keeps its libraries.
pub(super) fn rustc_sysroot() -> Option<PathBuf> {
    let output = rustc().args(["--print", "sysroot"]).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn rustup_has_target() -> bool {
    rustc_sysroot().is_some_and(|sysroot| has_core(&sysroot))
}

/// Whether a library for the target lies under `sysroot`.
pub(super) fn has_core(sysroot: &Path) -> bool {
    let folder = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    let Ok(entries) = folder.read_dir() else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("libcore-") && name.to_string_lossy().ends_with(".rlib")
    })
}

/// Asks rustup for the target; remembers a refusal, because it comes slowly.
fn add_target() -> bool {
    const PATIENCE: Duration = Duration::from_secs(60);
    let refusal = paths::state().join("rustup-has-no-target");
    if refusal.exists() || paths::which("rustup").is_none() {
        return false;
    }
    progress::say(format!(
        "The target {TARGET} is missing. Asking rustup to add it (rustup target add {TARGET}) ..."
    ));
    let added = add_target_within(PATIENCE) && rustup_has_target();
    if !added {
        progress::say(format!(
            "rustup can't add it; going on with Debian's compiler. To try again, delete {}",
            refusal.display()
        ));
        let _ = std::fs::write(&refusal, "");
    }
    added
}

fn add_target_within(patience: Duration) -> bool {
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET]).current_dir(paths::root());
    let child = rustup.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    let started = Instant::now();
    while started.elapsed() < patience {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(Duration::from_millis(50)),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

fn debian() -> Result<Way> {
    const WHY: &str = "A compiler for bare metal";
    if !sysroot::is_current() {
        apt::install(WHY, &["rustc-web", "cargo-web", "rust-web-src"]).map_err(|error| {
            anyhow!("{error:#}\nWith rustup it comes with\n    rustup target add {TARGET}")
        })?;
        sysroot::build()?;
    }
    Ok(Way::Debian { rustc: sysroot::RUSTC.into(), sysroot: sysroot::folder() })
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rustup => write!(f, "cargo's own compiler"),
            Self::Debian { rustc, .. } => write!(f, "{} with a library built here", rustc.display()),
        }
    }
}
