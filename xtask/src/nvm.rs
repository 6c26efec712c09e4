//! The file that the emulated NVDIMM lies in: created sparse, locked while in use, checked before use.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use twz::size::Bytes;

/// The size of a new file, unless told otherwise.
pub const DEFAULT_SIZE: Bytes = Bytes(Bytes::GIB);
/// Below this a store makes no sense.
const SIZE_MIN: u64 = 8 * Bytes::MIB;
/// QEMU wants NVDIMMs in multiples of this, so that they align with large pages.
const SIZE_STEP: u64 = 2 * Bytes::MIB;

/// An NVM file that is ours alone until this is dropped, and that a QEMU started meanwhile keeps locked
/// until it ends, even if we die first.
#[derive(Debug)]
pub struct Nvm {
    path: PathBuf,
    size: Bytes,
    _lock: File,
}

impl Nvm {
    /// Opens the file, or creates it with `size`.
    ///
    /// # Errors
    /// A file that can't be used, with what to do about it.
    pub fn open(path: &Path, size: Option<Bytes>) -> Result<Self> {
        let shown = path.display();
        if path.is_dir() {
            bail!("{shown} is a directory: name a file for --nvm");
        }
        let fresh = !path.exists();
        if fresh && let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            if path != default_path() && !folder.is_dir() {
                bail!("there is no directory {}: create it first", folder.display());
            }
            std::fs::create_dir_all(folder).with_context(|| format!("can't create {}", folder.display()))?;
        }
        if fresh {
            check_size(size.unwrap_or(DEFAULT_SIZE))?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("can't open the NVM file {shown} for reading and writing"))?;
        lock(&file, path)?;
        let metadata = file.metadata().with_context(|| format!("can't look at {shown}"))?;
        if !metadata.is_file() {
            bail!("{shown} is no ordinary file: name another one for --nvm");
        }
        let size = match metadata.len() {
            0 => {
                let size = size.unwrap_or(DEFAULT_SIZE);
                check_size(size)?;
                file.set_len(size.0).with_context(|| format!("can't make {shown} {size} long"))?;
                size
            }
            length => existing(path, Bytes(length), size)?,
        };
        Ok(Self { path: path.to_owned(), size, _lock: file })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size.
    #[must_use]
    pub fn size(&self) -> Bytes {
        self.size
    }
}

/// Where the NVM file lies unless told otherwise.
#[must_use]
pub fn default_path() -> PathBuf {
    crate::paths::state().join("nvm.img")
}

fn lock(file: &File, path: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            bail!(
                "{} is in use by another machine: wait until it ends, or give --nvm another file",
                path.display()
            )
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("can't lock {}", path.display()));
        }
    }
    // The lock belongs to the open file, so a QEMU that inherits it holds it.
    rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty()).context("can't keep the lock for QEMU")
}

fn existing(path: &Path, length: Bytes, wanted: Option<Bytes>) -> Result<Bytes> {
    let shown = path.display();
    if let Some(wanted) = wanted
        && wanted != length
    {
        bail!(
            "{shown} is {length} ({} bytes), not {wanted}: leave --nvm-size away to use it as it is, or give --nvm another file",
            length.0
        );
    }
    if !length.0.is_multiple_of(SIZE_STEP) || length.0 < SIZE_MIN {
        bail!(
            "{shown} was truncated or is no NVM file: its size of {} bytes is no multiple of 2 MiB from 8 MiB up. Restore it from a copy, or give --nvm another file",
            length.0
        );
    }
    Ok(length)
}

fn check_size(size: Bytes) -> Result<()> {
    if size.0 < SIZE_MIN || !size.0.is_multiple_of(SIZE_STEP) {
        bail!("{size} can't be the size of an NVM file: take a multiple of 2 MiB from 8 MiB up");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("twizzler-nvm-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("temporary folder");
        folder
    }

    #[test]
    fn new_files_are_sparse_and_kept() {
        use std::os::unix::fs::MetadataExt;
        let folder = folder("sparse");
        let path = folder.join("a.nvm");
        let nvm = Nvm::open(&path, Some(Bytes(64 << 20))).expect("creates");
        assert_eq!(nvm.size(), Bytes(64 << 20));
        assert!(path.metadata().expect("exists").blocks() < 64);
        drop(nvm);
        assert_eq!(Nvm::open(&path, None).expect("opens").size(), Bytes(64 << 20));
        let error = Nvm::open(&path, Some(Bytes(32 << 20))).expect_err("another size");
        assert!(error.to_string().contains("--nvm-size"), "{error}");
        std::fs::remove_dir_all(folder).expect("cleans up");
    }

    #[test]
    fn files_in_use_and_truncated_ones_are_refused() {
        let folder = folder("refused");
        let path = folder.join("a.nvm");
        let nvm = Nvm::open(&path, Some(Bytes(16 << 20))).expect("creates");
        let error = Nvm::open(&path, None).expect_err("locked");
        assert!(error.to_string().contains("in use"), "{error}");
        drop(nvm);
        OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_len(12_345_678))
            .expect("truncates");
        let error = Nvm::open(&path, None).expect_err("truncated");
        assert!(error.to_string().contains("truncated"), "{error}");
        std::fs::remove_dir_all(folder).expect("cleans up");
    }
}
