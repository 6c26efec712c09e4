//! A store's files, as the disk and the page cache hold them.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{SeekFrom, seek, syncfs};
use rustix::io::{Errno, pread};

/// Bytes that a folder's files take on the disk.
pub(crate) fn on_disk(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { on_disk(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// Waits until the host has written back what was loaded, and reads it all: so everybody begins with a store that is clean, and all in the page cache.
///
/// # Errors
/// The disk's.
pub(super) fn settle(folder: &Path) -> Result<()> {
    syncfs(File::open(folder)?).context("can't wait for the disk")?;
    read_all(folder)
}

fn read_all(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_all(&path)?;
        } else {
            read_data(&File::open(&path)?).with_context(|| format!("can't read {}", path.display()))?;
        }
    }
    Ok(())
}

/// Reads a file but for its holes, which may be a thousand times as long.
fn read_data(file: &File) -> Result<(), Errno> {
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        at = match seek(file, SeekFrom::Data(at)) {
            // Nothing follows.
            Err(Errno::NXIO) => return Ok(()),
            found => found?,
        };
        let end = seek(file, SeekFrom::Hole(at))?;
        while at < end {
            at += match pread(file, &mut buffer, at)? {
                0 => return Ok(()),
                len => len as u64,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn holes_are_neither_read_nor_counted() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).expect("a folder can be made");
        let mut file = File::create(inner.join("sparse")).expect("a file can be made");
        for at in [0, 1 << 40] {
            file.seek(std::io::SeekFrom::Start(at)).expect("a file may be long");
            file.write_all(&[7; 4096]).expect("there is room");
        }
        // Reading 1 TiB of holes would take minutes.
        settle(folder.path()).expect("the disk works");
        let bytes = on_disk(folder.path()).expect("the folder is there");
        assert!((8192..1 << 20).contains(&bytes), "{bytes}");
    }
}
