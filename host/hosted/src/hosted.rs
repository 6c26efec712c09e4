//! The programming model over a store's directory.

use std::ops::Range;
use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, PoisonError};

use rustix::thread::{Timespec, futex};
use twizzler_abi::address::{PAGE_BYTES, SLOT_BYTES, Slot};
use twizzler_abi::call::{CreateSpec, ObjectStat};
use twizzler_abi::object::METADATA_OFFSET;
use twizzler_abi::{Error, ObjId, Rights};
use twizzler_object::Backend;
use twizzler_object::backend::TRANSLATION_BYTES;
use twizzler_slots::{Area, Reserved};

use crate::disk::Disk;
use crate::fork::Birth;
use crate::mapped::{Mapping, Mappings};
use crate::objects::{self, NEW, OBJECTS, host, new_path_of, path_of};
use crate::options::Mode;
use crate::persistence::Persistence;
use crate::process;
use crate::segment::Segment;

/// A store's objects: the system that a [`crate::Space`] of the hosted runtime works on.
#[derive(Debug)]
pub struct HostedBackend {
    pub(crate) disk: Disk,
    pub(crate) segment: Segment,
    pub(crate) owner: u64,
    pub(crate) mode: Mode,
    pub(crate) persistence: Persistence,
    pub(crate) mapped: Mappings,
    pub(crate) tables: Mutex<Vec<Area>>,
    pub(crate) birth: Birth,
}

/// Space is set aside in steps that grow with the object, so that growing it costs few calls.
const STEP_BYTES_MAX: u64 = 16 << 20;

/// Pages that a range touches, as bytes.
fn pages_of(offset: u64, len_bytes: u64) -> Result<Range<u64>, Error> {
    let end = offset.checked_add(len_bytes).filter(|&end| end <= SLOT_BYTES).ok_or(Error::OutOfRange)?;
    let start = offset / PAGE_BYTES * PAGE_BYTES;
    if start < METADATA_OFFSET { Err(Error::OutOfRange) } else { Ok(start..end.next_multiple_of(PAGE_BYTES)) }
}

/// Where the next step ends, for an object that is to have space up to `end`.
fn step_end(end: u64) -> u64 {
    let step = (end.next_power_of_two() / 8).clamp(PAGE_BYTES, STEP_BYTES_MAX);
    end.next_multiple_of(step).min(SLOT_BYTES)
}

impl HostedBackend {
    /// True after a failed sync: what is on the disk is not known, so nothing more is written. Open the store anew.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.segment.is_poisoned()
    }

    /// Whoever may only read, and a child that was forked, changes nothing.
    pub(crate) fn may_write(&self) -> Result<(), Error> {
        if self.mode == Mode::Read || self.segment.is_poisoned() {
            return Err(Error::ReadOnly);
        }
        self.not_forked()
    }

    fn not_forked(&self) -> Result<(), Error> {
        if self.birth.is_forked() { Err(Error::NotSupported) } else { Ok(()) }
    }

    fn reserve(&self) -> Result<Reserved, Error> {
        host(Reserved::new())
    }
}

// SAFETY: each mapped object has a reserved slot of its own until it is unmapped; a deleted one's slot is kept while the backend
// lives. Tables are mappings of their own. Provenance is exposed where they are made.
unsafe impl Backend for HostedBackend {
    fn create(&self, spec: &CreateSpec) -> Result<ObjId, Error> {
        self.may_write()?;
        let inputs = objects::inputs(spec)?;
        let id = ObjId::derive(&inputs);
        let new = new_path_of(self.owner, id);
        let file = objects::make(&self.disk, &new, &inputs, spec.fingerprint)?;
        let published = || {
            if self.persistence.syncs() {
                self.disk.sync_file(&file, &new)?;
                self.disk.sync_directory(NEW)?;
            }
            self.disk.rename_new(&new, &path_of(id))?;
            if self.persistence.syncs() { self.disk.sync_directory(OBJECTS) } else { Ok(()) }
        };
        let result = host(published());
        if result.is_err() {
            // What can't be removed now goes when the store is opened next.
            let _ = self.disk.remove(&new);
        }
        result.map(|()| id)
    }

    fn delete(&self, id: ObjId) -> Result<(), Error> {
        self.may_write()?;
        if !host(self.disk.remove(&path_of(id)))? {
            return Err(Error::NoSuchObject);
        }
        self.mapped.deleted(id);
        if self.persistence.syncs() { host(self.disk.sync_directory(OBJECTS)) } else { Ok(()) }
    }

    fn stat(&self, id: ObjId) -> Result<ObjectStat, Error> {
        let file = objects::open(&self.disk, &path_of(id), false)?;
        let mut stat = objects::stat(&file, id)?;
        if self.mode == Mode::Read {
            stat.default_rights &= !(Rights::WRITE | Rights::DELETE).bits();
        }
        Ok(stat)
    }

    fn map(&self, id: ObjId, rights: Rights) -> Result<Slot, Error> {
        self.not_forked()?;
        let writable = rights.contains(Rights::WRITE);
        let file = objects::open(&self.disk, &path_of(id), writable)?;
        let memory = self.reserve()?;
        host(memory.show_file(&file, writable, self.persistence.map_flags()))?;
        let slot = memory.slot();
        self.mapped.add(id, Mapping { memory, space: Default::default() });
        Ok(slot)
    }

    fn unmap(&self, slot: Slot) {
        self.mapped.remove(slot);
    }

    fn ensure(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        if len_bytes == 0 {
            return Ok(());
        }
        let wanted = pages_of(offset, len_bytes)?;
        let mapping = self.mapped.get(id);
        if mapping.as_ref().is_some_and(|mapping| mapping.space.covers(&wanted)) {
            return Ok(());
        }
        self.may_write()?;
        let path = path_of(id);
        let file = objects::open(&self.disk, &path, true)?;
        let generous = wanted.start..step_end(wanted.end);
        let allocate =
            |range: &Range<u64>| self.disk.allocate(&file, &path, range.start, range.end - range.start);
        let had = match allocate(&generous) {
            Ok(()) => generous,
            Err(_) => {
                host(allocate(&wanted))?;
                wanted
            }
        };
        if let Some(mapping) = mapping {
            mapping.space.add(had);
        }
        Ok(())
    }

    fn translation(&self) -> u64 {
        let table = Area::new(TRANSLATION_BYTES as usize).expect("the host has address space for a table");
        let address = table.address();
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).push(table);
        address
    }

    #[inline]
    fn coordination(&self) -> u64 {
        self.segment.coordination()
    }

    fn flush(&self, address: u64, len_bytes: u64) {
        self.persistence.flush(self, address, len_bytes);
    }

    #[inline]
    fn fence(&self) {
        self.persistence.fence(self);
    }

    fn owner(&self) -> u64 {
        self.owner
    }

    fn is_alive(&self, owner: u64) -> bool {
        owner == self.owner || self.segment.is_alive(owner)
    }

    fn wait(&self, address: u64, value: u64, timeout_ns: u64) {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout_ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: (timeout_ns % 1_000_000_000) as i64,
        };
        // Woken, changed meanwhile or timed out: the caller looks again. The lower half of the word tells.
        let _ = futex::wait(low_half(address), futex::Flags::empty(), value as u32, Some(&timeout));
    }

    fn wake(&self, address: u64) {
        let _ = futex::wake(low_half(address), futex::Flags::empty(), i32::MAX as u32);
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        host(process::random(bytes))
    }
}

/// The lower half of the word at that address, which lies in a mapped object or in shared memory.
fn low_half(address: u64) -> &'static AtomicU32 {
    // SAFETY: the caller has the word mapped while it waits or wakes, aligned by eight; x86-64 stores the lower half first.
    unsafe { &*std::ptr::with_exposed_provenance(address as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_with_the_object() {
        assert_eq!(step_end(3 * PAGE_BYTES), 3 * PAGE_BYTES);
        assert_eq!(step_end((1 << 20) + 1), (1 << 20) + (1 << 18));
        assert_eq!(step_end(SLOT_BYTES - 1), SLOT_BYTES);
        assert_eq!(step_end((512 << 20) + 1), (512 << 20) + STEP_BYTES_MAX);
    }

    #[test]
    fn ranges_stay_within_the_object() {
        assert_eq!(pages_of(0x3001, 1), Ok(0x3000..0x4000));
        assert_eq!(pages_of(0xfff, 2), Err(Error::OutOfRange));
        assert_eq!(pages_of(SLOT_BYTES, 1), Err(Error::OutOfRange));
        assert_eq!(pages_of(u64::MAX, 2), Err(Error::OutOfRange));
    }
}
