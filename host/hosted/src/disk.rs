//! Everything that is done to the store's files by calls, in one place.
//!
//! An [`Observer`] is asked before each step. So a test knows what the disk was told, in which order, and can say that it fails;
//! what programs store to mapped objects it sees by reading the files, which show mapped memory as it is.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, Mode, OFlags, RenameFlags};

/// What is about to be done to the disk. Paths are relative to the store.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Step<'a> {
    /// A new file, empty.
    Create(&'a str),
    /// A file is made this long; what is new is a hole.
    SetLen(&'a str, u64),
    /// Space is set aside for a range of a file: (start, bytes).
    Allocate(&'a str, u64, u64),
    /// Bytes are written from an offset on; not durable before a sync.
    Write(&'a str, u64, &'a [u8]),
    /// Bytes are written from an offset on, durably.
    WriteDurably(&'a str, u64, &'a [u8]),
    /// A file's content is made durable, and what is needed to read it.
    SyncFile(&'a str),
    /// A directory's entries are made durable.
    SyncDirectory(&'a str),
    /// All of the file system is made durable.
    SyncAll,
    /// A file gets another name, in place of another file where there is one.
    Rename(&'a str, &'a str),
    /// A name goes; not an error where it is gone.
    Remove(&'a str),
}

/// Is asked before each step on the disk.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A step is about to be taken.
    ///
    /// # Errors
    /// What the step is to fail with; it is not taken then.
    fn before(&self, step: Step<'_>) -> io::Result<()>;

    /// What the host is to have said when it was asked for mappings whose stores are durable without it (`MAP_SYNC`); None: it is asked. For tests of
    /// that path where there is no such device: everything is done as for one, but that files are mapped in the ordinary way.
    fn is_direct(&self) -> Option<bool> {
        None
    }
}

/// A store's directory.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    root: OwnedFd,
    observer: Option<Arc<dyn Observer>>,
}

/// Who may read and write new files, before the umask.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o777);

impl Disk {
    /// Opens the directory itself.
    pub(crate) fn open(path: &Path, observer: Option<Arc<dyn Observer>>) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        // Absolute, so that messages stay right when the program changes its directory.
        let path = std::path::absolute(path)?;
        Ok(Self { path, root, observer })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn root(&self) -> impl AsFd {
        &self.root
    }

    fn step(&self, step: Step<'_>) -> io::Result<()> {
        self.observer.as_ref().map_or(Ok(()), |observer| observer.before(step))
    }

    /// Makes a directory; says if it is new.
    pub(crate) fn make_directory(&self, path: &str) -> io::Result<bool> {
        match rustix::fs::mkdirat(&self.root, path, DIRECTORY_MODE) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a file that must be new, for reading and writing.
    pub(crate) fn create(&self, path: &str) -> io::Result<File> {
        self.step(Step::Create(path))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat(&self.root, path, flags, FILE_MODE)?.into())
    }

    /// Opens a file. `flags` are added to what is usual.
    pub(crate) fn open_file(&self, path: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat(&self.root, path, flags, Mode::empty())?.into())
    }

    pub(crate) fn set_len(&self, file: &File, path: &str, len_bytes: u64) -> io::Result<()> {
        self.step(Step::SetLen(path, len_bytes))?;
        file.set_len(len_bytes)
    }

    /// Sets space aside, so that a store to it can't fail for want of room.
    pub(crate) fn allocate(&self, file: &File, path: &str, at: u64, len_bytes: u64) -> io::Result<()> {
        self.step(Step::Allocate(path, at, len_bytes))?;
        loop {
            match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, at, len_bytes) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    pub(crate) fn write_at(&self, file: &File, path: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.step(Step::Write(path, at, bytes))?;
        std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
    }

    /// Writes to a file that was opened so that writes are durable when they return.
    pub(crate) fn write_durably(&self, file: &File, path: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.step(Step::WriteDurably(path, at, bytes))?;
        std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
    }

    pub(crate) fn sync_file(&self, file: &File, path: &str) -> io::Result<()> {
        self.step(Step::SyncFile(path))?;
        file.sync_data()
    }

    pub(crate) fn sync_directory(&self, path: &str) -> io::Result<()> {
        self.step(Step::SyncDirectory(path))?;
        match self.open_file(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(directory) => directory.sync_all(),
            // No file can be had; this needs none.
            Err(_) => self.sync_all(),
        }
    }

    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.step(Step::SyncAll)?;
        Ok(rustix::fs::syncfs(&self.root)?)
    }

    /// Renames, in place of what may have the new name.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.step(Step::Rename(from, to))?;
        Ok(rustix::fs::renameat(&self.root, from, &self.root, to)?)
    }

    /// Renames; `AlreadyExists` where something has the new name.
    pub(crate) fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.step(Step::Rename(from, to))?;
        Ok(rustix::fs::renameat_with(&self.root, from, &self.root, to, RenameFlags::NOREPLACE)?)
    }

    /// True if something has that name.
    pub(crate) fn exists(&self, path: &str) -> io::Result<bool> {
        match rustix::fs::statat(&self.root, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a name; says if it was there.
    pub(crate) fn remove(&self, path: &str) -> io::Result<bool> {
        self.step(Step::Remove(path))?;
        match rustix::fs::unlinkat(&self.root, path, rustix::fs::AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes to the start of a file that has as many bytes at least, durably. No room is needed. Of 512 bytes, a power cut leaves all or none: disks
    /// write sectors whole.
    pub(crate) fn overwrite(&self, path: &str, bytes: &[u8; 512]) -> io::Result<()> {
        let file = self.open_file(path, OFlags::RDWR)?;
        self.write_at(&file, path, 0, bytes)?;
        self.sync_file(&file, path)
    }

    /// Names in a directory of the store.
    pub(crate) fn names(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path.join(path))? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }
}
