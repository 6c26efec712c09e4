//! Removing coordination segments that killed processes have left behind, of whatever store: their own may never be opened again.
//!
//! Who uses a segment holds a share of its file's lock. Whose lock can be had alone is nobody's. Segments are made and swept under the lock of the
//! directory that they lie in, so that none is swept between its making and its locking.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

/// What the names of segments begin with.
pub(crate) const PREFIX: &str = "twizzler-segment-";

/// Removes dead segments beside the one that is to be made at `path`. Gives the directory's lock. What can't be had or removed is left, since it
/// costs nothing but memory: those of other users, for instance.
pub(crate) fn dead_segments(path: &Path) -> Option<File> {
    let directory = path.parent()?;
    if !path.file_name()?.to_str()?.starts_with(PREFIX) {
        // In the store's own directory, where there is no other.
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let lock: File = rustix::fs::open(directory, flags, Mode::empty()).ok()?.into();
    flock(&lock, FlockOperation::LockExclusive).ok()?;
    for entry in std::fs::read_dir(directory).ok()?.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            remove_dead(&entry.path());
        }
    }
    Some(lock)
}

fn remove_dead(path: &Path) {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) else { return };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        // Where it fails, somebody else has, or tries again.
        let _ = std::fs::remove_file(path);
    }
}
