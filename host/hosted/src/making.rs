//! Making a store's directory, and making it whole again.
//!
//! A directory is a store once it has a description, the file `store`. All of the making happens behind the gate, the lock of the file `lock`,
//! which nobody ever removes: whoever else is about to make the store waits there, and finds it made.

use std::fs;
use std::io;
use std::path::Path;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::hosted::HostedBackend;
use crate::log;
use crate::medium;
use crate::objects::{NEW, OBJECTS};
use crate::open::not_a_directory;
use crate::options::{LOG_BYTES_MIN, Mode, Options};
use crate::process;
use crate::segment::{GATE, Gate};
use crate::superblock::{self, Superblock};

impl HostedBackend {
    pub(crate) fn create(path: &Path, options: &Options) -> Result<Self, StoreError> {
        if options.log_bytes < LOG_BYTES_MIN {
            return Err(StoreError::TooSmall { what: "the log", bytes_min: LOG_BYTES_MIN });
        }
        match fs::create_dir(path) {
            // Before the gate, so that nothing is left in what is somebody else's.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => may_become_a_store(path)?,
            result => result.map_err(StoreError::io("making", path))?,
        }
        let disk = Disk::open(path, options.observer.clone()).map_err(StoreError::io("opening", path))?;
        medium::look(disk.root())?;
        make_gate(&disk).map_err(StoreError::io("making a store in", path))?;
        let gate = Gate::enter(&disk)?;
        // Again: who had the gate before may have made one.
        may_become_a_store(path)?;
        if has_content(&disk) {
            return Err(without_description(&disk));
        }
        format(&disk, options).map_err(StoreError::io("making a store in", path))?;
        drop(gate);
        Self::open(path, options)
    }
}

/// Refuses a directory that is a store, or that holds what is no part of one.
fn may_become_a_store(path: &Path) -> Result<(), StoreError> {
    let mut entries = fs::read_dir(path).map_err(not_a_directory("reading", path))?;
    if path.join(superblock::FILE).exists() {
        return Err(StoreError::Exists { path: path.to_owned() });
    }
    if entries.any(|entry| entry.is_ok_and(|entry| !is_part_of_a_store(&entry.file_name()))) {
        return Err(StoreError::NotEmpty { path: path.to_owned() });
    }
    Ok(())
}

/// What a store is made of: found alone, it is one whose making was cut off.
fn is_part_of_a_store(name: &std::ffi::OsStr) -> bool {
    let new = format!("{}.new", superblock::FILE);
    [OBJECTS, NEW, GATE, log::FILE, new.as_str(), superblock::FILE].iter().any(|&part| name == part)
}

/// True if objects are there: making a store makes none, so it was one.
fn has_content(disk: &Disk) -> bool {
    [OBJECTS, NEW].iter().any(|folder| disk.names(folder).is_ok_and(|names| !names.is_empty()))
}

/// Why a directory without a description is not opened.
pub(crate) fn without_description(disk: &Disk) -> StoreError {
    if has_content(disk) {
        StoreError::Damaged { what: "its description, the file `store`, is gone; its objects are there" }
    } else {
        StoreError::NotAStore { path: disk.path().to_owned() }
    }
}

fn make_gate(disk: &Disk) -> io::Result<()> {
    match disk.create(GATE) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Makes the file anew that is always empty, where whoever copied the store left it out. The folder `new` follows in [`crate::recover`], when it is
/// known whether anything was in it.
pub(crate) fn complete(disk: &Disk, mode: Mode) -> Result<(), StoreError> {
    match (disk.exists(GATE), mode) {
        (Ok(false), Mode::Write) => {
            make_gate(disk).map_err(StoreError::io("making", &disk.path().join(GATE)))
        }
        (Ok(false), Mode::Read) => Err(StoreError::Damaged {
            what: "its file `lock` is gone; who opens it for writing makes it anew",
        }),
        _ => Ok(()),
    }
}

/// Makes the files of a store. The description comes last: without it, there is none.
fn format(disk: &Disk, options: &Options) -> io::Result<()> {
    let mut uuid = [0; 16];
    process::random(&mut uuid)?;
    disk.make_directory(OBJECTS)?;
    disk.make_directory(NEW)?;
    log::format(disk, uuid, options.log_bytes)?;
    let durability = options.durability.unwrap_or_default();
    let block = Superblock::new(uuid, options.log_bytes, durability);
    let new = format!("{}.new", superblock::FILE);
    disk.remove(&new)?;
    let file = disk.create(&new)?;
    disk.write_at(&file, &new, 0, &block.sealed())?;
    disk.sync_file(&file, &new)?;
    disk.sync_directory(".")?;
    // COMMIT: the store exists.
    disk.rename_new(&new, superblock::FILE)?;
    disk.sync_directory(".")
}
