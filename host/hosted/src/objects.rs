//! Objects as files.
//!
//! `objects/ID` is an object: a sparse file of 1 GiB, or of 512 GiB for a large one, whose bytes are the object's range, as on Twizzler. `new/OWNER-ID` is one that a
//! program is making: it gets its name when it is whole, and goes when its owner has died.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::OFlags;
use twizzler_abi::address::{LARGE_BYTES, PAGE_BYTES, SLOT_BYTES};
use twizzler_abi::call::{CreateSpec, ObjectStat};
use twizzler_abi::id::IdInputs;
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET, Header, METADATA_OFFSET, Metadata};
use twizzler_abi::{Error, ObjId, SizeClass};
use twizzler_object::backend::inputs_of;
use zerocopy::{FromBytes, IntoBytes};

use crate::disk::Disk;
use crate::process::random;

/// Directory of objects.
pub(crate) const OBJECTS: &str = "objects";
/// Directory of objects that are being made.
pub(crate) const NEW: &str = "new";

/// Where an object lies.
pub(crate) fn path_of(id: ObjId) -> String {
    format!("{OBJECTS}/{id}")
}

/// Where an object lies that this owner is making.
pub(crate) fn new_path_of(owner: u64, id: ObjId) -> String {
    format!("{NEW}/{owner:016x}-{id}")
}

/// Bytes that a file takes on the disk.
pub(crate) fn disk_bytes(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.blocks() * 512)
}

/// The error that the programming model knows for one of the host's.
pub(crate) fn system(error: &io::Error) -> Error {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Error::OutOfNvm,
        Some(Errno::NOMEM) => Error::OutOfMemory,
        Some(Errno::ROFS) => Error::ReadOnly,
        Some(Errno::ACCESS | Errno::PERM) => Error::AccessDenied,
        Some(Errno::NOENT | Errno::LOOP) => Error::NoSuchObject,
        Some(Errno::EXIST) => Error::Exists,
        Some(Errno::MFILE | Errno::NFILE) => Error::TooMany,
        Some(Errno::OPNOTSUPP) => Error::NotSupported,
        _ => Error::Unreadable,
    }
}

pub(crate) fn host<T>(result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|error| system(&error))
}

/// What an object of this spec is made of.
pub(crate) fn inputs(spec: &CreateSpec) -> Result<IdInputs, Error> {
    inputs_of(spec, |nonce| host(random(nonce)))
}

/// Makes the file of an object that nobody can find yet.
pub(crate) fn make(disk: &Disk, path: &str, inputs: &IdInputs, fingerprint: u64) -> Result<File, Error> {
    // One that was left by an attempt that failed half-way.
    host(disk.remove(path))?;
    let file = host(disk.create(path))?;
    if let Err(error) = fill(disk, &file, path, inputs, fingerprint) {
        // What can't be removed now goes when the store is opened next.
        let _ = disk.remove(path);
        return Err(system(&error));
    }
    Ok(file)
}

/// Gives a file what every object has: its length, space for the first pages, metadata.
pub(crate) fn fill(
    disk: &Disk,
    file: &File,
    path: &str,
    inputs: &IdInputs,
    fingerprint: u64,
) -> io::Result<()> {
    // Unless it has been promoted since the record was written that makes it once more.
    if file.metadata()?.len() != LARGE_BYTES {
        disk.set_len(file, path, inputs.flags.size_class().range_bytes())?;
    }
    disk.allocate(file, path, METADATA_OFFSET, BASE_OFFSET - METADATA_OFFSET)?;
    disk.write_at(file, path, METADATA_OFFSET, Metadata::new(inputs, fingerprint).as_bytes())
}

/// Opens an object's file.
pub(crate) fn open(disk: &Disk, path: &str, writable: bool) -> Result<File, Error> {
    let flags = if writable { OFlags::RDWR } else { OFlags::RDONLY };
    host(disk.open_file(path, flags))
}

/// How far the object in a file reaches, which is the file's length.
pub(crate) fn class_of(file: &File) -> Result<SizeClass, Error> {
    match host(file.metadata())?.len() {
        SLOT_BYTES => Ok(SizeClass::Small),
        LARGE_BYTES => Ok(SizeClass::Large),
        _ => Err(Error::Damaged),
    }
}

/// Makes an object a large one. Who has it mapped goes on seeing its first GiB.
pub(crate) fn promote(disk: &Disk, path: &str) -> Result<(), Error> {
    let file = open(disk, path, true)?;
    if class_of(&file)? == SizeClass::Large {
        return Ok(());
    }
    host(disk.set_len(&file, path, LARGE_BYTES))
}

/// Opens a file to sync it.
pub(crate) fn open_for_sync(disk: &Disk, path: &str) -> io::Result<File> {
    disk.open_file(path, OFlags::RDWR)
}

/// The object in a file: its metadata, if that is sound.
fn metadata(file: &File, id: ObjId) -> Result<Metadata, Error> {
    let mut bytes = [0; size_of::<Metadata>()];
    match file.read_exact_at(&mut bytes, METADATA_OFFSET) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Error::Damaged),
        result => host(result)?,
    }
    let metadata = Metadata::read_from_bytes(&bytes).map_err(|_| Error::Damaged)?;
    metadata.verify(id)?;
    Ok(metadata)
}

/// Describes the object in a file.
pub(crate) fn stat(file: &File, id: ObjId) -> Result<ObjectStat, Error> {
    let found = host(file.metadata())?;
    if !found.is_file() {
        return Err(Error::NoSuchObject);
    }
    // Two pages are wanted. Where the host reads on behind them, it has large pieces of memory there that mappings then show. Refused: it reads more.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Random);
    let pages = found.blocks() * 512 / PAGE_BYTES;
    let class = class_of(file);
    let size_class = class.unwrap_or(SizeClass::Small) as u32;
    let mut stat = ObjectStat { id, pages, size_class, ..ObjectStat::default() };
    let sound = class.and_then(|_| metadata(file, id));
    match sound {
        Ok(metadata) => {
            let mut len = [0; 8];
            let at = HEADER_OFFSET + std::mem::offset_of!(Header, len_bytes) as u64;
            host(file.read_exact_at(&mut len, at))?;
            stat.len_bytes = u64::from_le_bytes(len);
            stat.owner = metadata.owner;
            stat.flags = metadata.flags;
            stat.default_rights = metadata.default_rights;
            stat.fingerprint = metadata.fingerprint;
        }
        Err(error) => stat.quarantine = error as u32,
    }
    Ok(stat)
}

/// All objects. A name that is none is passed over.
pub(crate) fn list(disk: &Disk) -> io::Result<Vec<ObjId>> {
    Ok(disk.names(OBJECTS)?.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Objects that somebody is making, or was when he died, and where they lie.
pub(crate) fn unpublished(disk: &Disk) -> io::Result<HashMap<ObjId, String>> {
    let names = disk.names(NEW)?;
    let found = names.iter().filter_map(|name| {
        let id = name.split_once('-')?.1.parse().ok()?;
        Some((id, format!("{NEW}/{name}")))
    });
    Ok(found.collect())
}

/// Removes what was being made by those of whom `is_gone` says that they will not go on.
pub(crate) fn remove_made_by(disk: &Disk, is_gone: impl Fn(u64) -> bool) -> io::Result<()> {
    for name in disk.names(NEW)? {
        let owner = name.split_once('-').and_then(|(owner, _)| u64::from_str_radix(owner, 16).ok());
        if owner.is_none_or(&is_gone) {
            disk.remove(&format!("{NEW}/{name}"))?;
        }
    }
    Ok(())
}
