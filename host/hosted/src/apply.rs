//! Bringing objects up to a record without mapping them: after a crash, and for someone who died.
//!
//! All of it may be done again: bytes are written where the record says, objects are made that aren't there, names that are to go are gone
//! the second time.

use std::collections::HashMap;
use std::fs::File;
use std::mem::offset_of;

use twizzler_abi::address::{LARGE_BYTES, SLOT_BYTES};
use twizzler_abi::call::CreateSpec;
use twizzler_abi::object::{HEADER_OFFSET, Header};
use twizzler_abi::{Error, ObjId, SizeClass};
use twizzler_object::journal::{Changed, DELETED, LINE, LOG_SEED, Record};

use crate::disk::Disk;
use crate::objects::{self, host, new_path_of, path_of};

/// Where an object's version is.
const VERSION_AT: u64 = HEADER_OFFSET + offset_of!(Header, domain_versions) as u64;
/// Files that are kept open at the same time.
const FILES_MAX: usize = 200;

/// Who makes durable what is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Syncs {
    /// [`Applier::sync`].
    Here,
    /// The next checkpoint, for which the records' objects are marked.
    Checkpoint,
}

/// Applies records.
#[derive(Debug)]
pub(crate) struct Applier<'a> {
    disk: &'a Disk,
    syncs: Syncs,
    /// Open files; None: the object is gone.
    files: HashMap<ObjId, Option<File>>,
    /// Objects under the names that they were made under.
    unpublished: HashMap<ObjId, String>,
    /// Records, or parts of some, that made no sense.
    pub(crate) damaged: u32,
}

/// Says of a range of an object (ID, offset, length) whether a record may still be applied to it.
pub(crate) type Allowed<'a> = &'a dyn Fn(ObjId, u64, u64) -> bool;

impl<'a> Applier<'a> {
    pub(crate) fn new(disk: &'a Disk, syncs: Syncs) -> Result<Self, Error> {
        let unpublished = host(objects::unpublished(disk))?;
        Ok(Self { disk, syncs, files: HashMap::new(), unpublished, damaged: 0 })
    }

    /// Applies the record in these words.
    pub(crate) fn apply(&mut self, words: &[u64], allowed: Allowed<'_>) -> Result<(), Error> {
        let Some(record) = Record::decode(LOG_SEED, words) else {
            self.damaged += 1;
            return Ok(());
        };
        for spec in record.created() {
            self.make(&spec)?;
        }
        let objects: Vec<ObjId> = record.objects().map(|object| object.id).collect();
        for Changed { id, version } in record.objects() {
            if allowed(id, VERSION_AT, 8) {
                self.write(id, VERSION_AT, &version.to_le_bytes())?;
            }
        }
        for line in record.lines() {
            let Ok((number, offset, line)) = line else {
                self.damaged += 1;
                break;
            };
            let in_range =
                offset >= HEADER_OFFSET && offset.is_multiple_of(LINE) && offset <= LARGE_BYTES - LINE;
            let (true, Some(&id)) = (in_range, objects.get(number)) else {
                self.damaged += 1;
                continue;
            };
            if !allowed(id, offset, LINE) {
                continue;
            }
            for (first, len) in line.runs() {
                let bytes = &line.bytes[first as usize..(first + len) as usize];
                self.write(id, offset + first, bytes)?;
            }
        }
        for id in record.deletes() {
            // For those who have it mapped. Where that can't be written, nobody can write to the object.
            let _ = self.write(id, VERSION_AT, &DELETED.to_le_bytes());
            self.files.insert(id, None);
            host(self.disk.remove(&path_of(id)))?;
        }
        Ok(())
    }

    /// Makes everything that was applied durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        for (id, file) in self.files.drain() {
            if let Some(file) = file {
                host(self.disk.sync_file(&file, &path_of(id)))?;
            }
        }
        host(self.disk.sync_directory(objects::OBJECTS))?;
        host(self.disk.sync_directory(objects::NEW))
    }

    /// Writes to an object, if it is still there.
    fn write(&mut self, id: ObjId, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let disk = self.disk;
        match self.file(id)? {
            // No record says so of a small object; it must not grow because one does.
            Some(file) if offset >= SLOT_BYTES && objects::class_of(file)? != SizeClass::Large => {
                self.damaged += 1;
                Ok(())
            }
            Some(file) => host(disk.write_at(file, &path_of(id), offset, bytes)),
            None => Ok(()),
        }
    }

    fn file(&mut self, id: ObjId) -> Result<Option<&File>, Error> {
        if self.files.len() >= FILES_MAX && !self.files.contains_key(&id) {
            match self.syncs {
                Syncs::Here => self.sync()?,
                Syncs::Checkpoint => self.files.clear(),
            }
        }
        let entry = match self.files.entry(id) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let file = match objects::open(self.disk, &path_of(id), true) {
                    // Deleted since, by this record or a later one.
                    Err(Error::NoSuchObject) => None,
                    result => Some(result?),
                };
                entry.insert(file)
            }
        };
        Ok(entry.as_ref())
    }

    /// Makes sure that an object is there, whole: what the file system knows of it may be older than the log.
    fn make(&mut self, spec: &CreateSpec) -> Result<(), Error> {
        let inputs = objects::inputs(spec)?;
        let id = ObjId::derive(&inputs);
        let path = path_of(id);
        if let Some(made) = self.unpublished.remove(&id) {
            // It has what was written to it in place, beyond what the record says.
            host(self.disk.rename(&made, &path))?;
        }
        let file = match objects::open(self.disk, &path, true) {
            Err(Error::NoSuchObject) => {
                let new = new_path_of(0, id);
                let file = objects::make(self.disk, &new, &inputs, spec.fingerprint)?;
                host(self.disk.rename(&new, &path))?;
                file
            }
            result => {
                let file = result?;
                host(objects::fill(self.disk, &file, &path, &inputs, spec.fingerprint))?;
                file
            }
        };
        self.files.insert(id, Some(file));
        Ok(())
    }
}
