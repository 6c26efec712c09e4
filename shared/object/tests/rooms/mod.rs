//! A backend that maps objects where others were mapped before: in the lowest room that is free. What a free room shows is zeros, so whoever still
//! looks at what was there, sees that it is gone, or sees another object.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::pwrite;
use rustix::mm::MapFlags;
use twizzler_abi::address::{SLOT_BYTES, Slot};
use twizzler_abi::call::{CreateSpec, ObjectStat};
use twizzler_abi::object::{METADATA_OFFSET, Metadata};
use twizzler_abi::{Error, ObjId, Rights, SizeClass};
use twizzler_object::backend::{Backend, COORDINATION_BYTES, TRANSLATION_BYTES, Waited, inputs_of};
use twizzler_slots::{Area, Reserved, futex};
use zerocopy::IntoBytes;

/// What programs share: objects, as files in memory.
pub(crate) struct Machine {
    objects: Mutex<HashMap<ObjId, Made>>,
    coordination: Area,
    /// What a free room shows.
    nothing: OwnedFd,
}

struct Made {
    file: Arc<OwnedFd>,
    spec: CreateSpec,
}

/// A program, with its rooms.
pub(crate) struct Program<'m> {
    machine: &'m Machine,
    number: u64,
    rooms: Mutex<Rooms>,
    translation: Area,
    nonces: AtomicU64,
}

#[derive(Default)]
struct Rooms {
    free: BTreeMap<u32, Reserved>,
    taken: BTreeMap<u32, Reserved>,
    /// How often a room was taken that another object had had.
    again: u64,
}

fn file() -> OwnedFd {
    let file = memfd_create("object", MemfdFlags::CLOEXEC).expect("memory");
    ftruncate(&file, SLOT_BYTES).expect("no limit");
    file
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    pub(crate) fn new() -> Self {
        let coordination = Area::new(COORDINATION_BYTES as usize).expect("address space");
        Self { objects: Mutex::default(), coordination, nothing: file() }
    }

    pub(crate) fn program(&self, number: u64) -> Program<'_> {
        let translation = Area::new(TRANSLATION_BYTES as usize).expect("address space");
        Program { machine: self, number, rooms: Mutex::default(), translation, nonces: AtomicU64::new(0) }
    }
}

impl Program<'_> {
    /// How often a room was taken that another object had had.
    pub(crate) fn reused(&self) -> u64 {
        lock(&self.rooms).again
    }

    fn draw(&self) -> u64 {
        (self.number << 32) | (self.nonces.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

// SAFETY: each object is shown in a room of its own until it is unmapped, rooms last as long as the program, and what an object shows after it was
// deleted is what it was. Tables are mappings of their own. Provenance of all is exposed.
unsafe impl Backend for Program<'_> {
    fn create(&self, spec: &CreateSpec) -> Result<ObjId, Error> {
        let inputs = inputs_of(spec, |nonce| {
            nonce[8..].copy_from_slice(&self.draw().to_le_bytes());
            Ok(())
        })?;
        let id = ObjId::derive(&inputs);
        let mut objects = lock(&self.machine.objects);
        if objects.contains_key(&id) {
            return Err(Error::Exists);
        }
        let file = file();
        let metadata = Metadata::new(&inputs, spec.fingerprint);
        pwrite(&file, metadata.as_bytes(), METADATA_OFFSET).map_err(|_| Error::OutOfMemory)?;
        objects.insert(id, Made { file: Arc::new(file), spec: CreateSpec { nonce: inputs.nonce, ..*spec } });
        Ok(id)
    }

    fn delete(&self, id: ObjId) -> Result<(), Error> {
        lock(&self.machine.objects).remove(&id).map(drop).ok_or(Error::NoSuchObject)
    }

    fn stat(&self, id: ObjId) -> Result<ObjectStat, Error> {
        let objects = lock(&self.machine.objects);
        let spec = &objects.get(&id).ok_or(Error::NoSuchObject)?.spec;
        Ok(ObjectStat {
            id,
            owner: spec.owner,
            flags: spec.flags,
            default_rights: spec.default_rights,
            fingerprint: spec.fingerprint,
            size_class: SizeClass::Small as u32,
            mappings: 2,
            ..ObjectStat::default()
        })
    }

    fn map(&self, id: ObjId, _rights: Rights) -> Result<Slot, Error> {
        let file = Arc::clone(&lock(&self.machine.objects).get(&id).ok_or(Error::NoSuchObject)?.file);
        let mut rooms = lock(&self.rooms);
        let room = match rooms.free.pop_first() {
            Some((_, room)) => {
                rooms.again += 1;
                room
            }
            None => Reserved::new(SizeClass::Small).map_err(|_| Error::TooMany)?,
        };
        room.show_file(&*file, true, MapFlags::SHARED).map_err(|_| Error::OutOfMemory)?;
        let slot = room.slot();
        rooms.taken.insert(slot.number(), room);
        Ok(slot)
    }

    unsafe fn unmap(&self, slot: Slot) {
        let mut rooms = lock(&self.rooms);
        let room = rooms.taken.remove(&slot.number()).expect("what is unmapped was mapped");
        room.show_file(&self.machine.nothing, true, MapFlags::PRIVATE).expect("as before");
        rooms.free.insert(slot.number(), room);
    }

    fn ensure(&self, _id: ObjId, _offset: u64, _len_bytes: u64) -> Result<(), Error> {
        Ok(())
    }

    fn translation(&self) -> u64 {
        self.translation.address()
    }

    fn coordination(&self) -> u64 {
        self.machine.coordination.address()
    }

    fn thread(&self) -> u64 {
        twizzler_slots::this_thread()
    }

    unsafe fn flush(&self, _address: u64, _len_bytes: u64) {}

    fn fence(&self) {}

    fn owner(&self) -> u64 {
        2 * (self.number + 1)
    }

    fn is_alive(&self, _owner: u64) -> bool {
        true
    }

    fn wait(&self, word: &AtomicU64, value: u64, timeout_ns: u64) -> Waited {
        if futex::wait(word, value, timeout_ns) { Waited::TimedOut } else { Waited::Early }
    }

    fn wake(&self, word: &AtomicU64) {
        futex::wake(word);
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        let word = self.draw().to_le_bytes();
        bytes.iter_mut().zip(word.into_iter().cycle()).for_each(|(byte, value)| *byte = value);
        Ok(())
    }
}
