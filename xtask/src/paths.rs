//! Where things lie.

use std::path::{Path, PathBuf};

/// The repository.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

/// What the commands keep between runs: tools, NVM file, logs. `.twizzler` in the repository, or what the
/// environment's `TWIZZLER_DIR` says.
#[must_use]
pub fn state() -> PathBuf {
    std::env::var_os("TWIZZLER_DIR").map_or_else(|| root().join(".twizzler"), PathBuf::from)
}

/// Where cargo puts what it builds.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Finds a program in `PATH`.
#[must_use]
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
