//! A backend of anonymous memory: for tests and measurements on the host.
//!
//! Objects live as long as the backend, whatever [`twizzler_object::Space`]s come and go: dropping a space is a program's end in
//! order; forgetting it and calling [`MemoryBackend::kill_all`] is a program that was killed. The backend checks that every store goes to
//! pages that were made to exist, counts flushes and fences, and can run out of memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use twizzler_abi::address::{LARGE_BYTES, PAGE_BYTES, Slot, range_start};
use twizzler_abi::call::{CreateSpec, ObjectStat};
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET, Header, METADATA_OFFSET, Metadata};
use twizzler_abi::{Error, ObjId, Rights, SizeClass};
use twizzler_object::Backend;
use twizzler_object::backend::{COORDINATION_BYTES, TRANSLATION_BYTES, Waited, inputs_of};

use twizzler_slots::{Area, Reserved, futex};

/// Objects in anonymous memory.
#[derive(Debug)]
pub struct MemoryBackend {
    state: Mutex<State>,
    coordination: Area,
    flushed_lines: AtomicU64,
    fences: AtomicU64,
    keeps_stores: bool,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ObjId, MemoryObject>,
    by_slot: HashMap<u64, ObjId>,
    tables: Vec<Area>,
    /// Slots of deleted objects.
    graves: Vec<Reserved>,
    /// Pages that may still be made to exist.
    room_pages: u64,
    owners: u64,
    living: HashSet<u64>,
    quarantine: HashSet<ObjId>,
    /// Something was overwritten: from then on, pages come to exist when they are stored to.
    damaged: bool,
    nonces: u64,
}

#[derive(Debug)]
struct MemoryObject {
    memory: Reserved,
    spec: CreateSpec,
    pages: BTreeSet<u64>,
    /// Programs that have it mapped.
    mappings: u64,
}

impl MemoryObject {
    fn class(&self) -> SizeClass {
        if self.memory.len_bytes() == LARGE_BYTES { SizeClass::Large } else { SizeClass::Small }
    }
}

impl MemoryBackend {
    /// No objects, and room for any number of pages.
    #[must_use]
    pub fn new() -> Self {
        Self::with_room(u64::MAX)
    }

    /// Room for so many pages of objects.
    #[must_use]
    pub fn with_room(pages: u64) -> Self {
        Self {
            state: Mutex::new(State { room_pages: pages, ..State::default() }),
            coordination: Area::new(COORDINATION_BYTES as usize).expect("the host has address space"),
            flushed_lines: AtomicU64::new(0),
            fences: AtomicU64::new(0),
            keeps_stores: false,
        }
    }

    /// The same, of which programs believe that each store counts at once ([`Backend::keeps_stores`]). So it does: nothing but programs is
    /// ever killed here, and flushes and fences do nothing.
    #[must_use]
    pub const fn keeping_stores(mut self) -> Self {
        self.keeps_stores = true;
        self
    }

    /// One of each kind: of which programs believe that, and of which they don't.
    #[must_use]
    pub fn kinds() -> [Self; 2] {
        [Self::new(), Self::new().keeping_stores()]
    }

    /// Changes the number of pages that may still be made to exist.
    pub fn set_room(&self, pages: u64) {
        self.state().room_pages = pages;
    }

    /// From now on, every program that attached before counts as dead.
    pub fn kill_all(&self) {
        let mut state = self.state();
        state.living.clear();
        state.objects.values_mut().for_each(|object| object.mappings = 0);
    }

    /// From now on, the object is in quarantine.
    pub fn quarantine(&self, id: ObjId) {
        self.state().quarantine.insert(id);
    }

    /// Cache lines flushed so far.
    pub fn flushed_lines(&self) -> u64 {
        self.flushed_lines.load(Ordering::Relaxed)
    }

    /// Fences so far.
    pub fn fences(&self) -> u64 {
        self.fences.load(Ordering::Relaxed)
    }

    /// All objects there are.
    pub fn ids(&self) -> Vec<ObjId> {
        self.state().objects.keys().copied().collect()
    }

    /// Where an object lies: the address of its null page.
    pub fn address_of(&self, id: ObjId) -> Option<u64> {
        self.state().objects.get(&id).map(|object| object.memory.slot().base())
    }

    /// Pages of an object that exist.
    pub fn pages_of(&self, id: ObjId) -> Vec<u64> {
        self.state().objects.get(&id).map(|object| object.pages.iter().copied().collect()).unwrap_or_default()
    }

    /// What the object was made of.
    pub fn spec_of(&self, id: ObjId) -> Option<CreateSpec> {
        self.state().objects.get(&id).map(|object| object.spec)
    }

    /// Overwrites a byte, as damaged media would. From then on stores may go to pages that need not exist, as damaged pointers
    /// lead there: they come to exist, as demand-zero pages do.
    ///
    /// # Panics
    /// Where there is no such object or page.
    pub fn damage(&self, id: ObjId, offset: u64, change: impl FnOnce(u8) -> u8) {
        let mut state = self.state();
        state.damaged = true;
        let object = &state.objects[&id];
        assert!(object.pages.contains(&(offset / PAGE_BYTES)), "no page there");
        let at = std::ptr::with_exposed_provenance_mut::<u8>((object.memory.slot().base() + offset) as usize);
        // SAFETY: the page exists, so it lies in the object's mapping, beyond the null page.
        let old = unsafe { at.read_volatile() };
        // SAFETY: as above; others see the memory through atomics alone.
        unsafe { at.write_volatile(change(old)) };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn ensure(&mut self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        let object = self.objects.get_mut(&id).ok_or(Error::NoSuchObject)?;
        let end = offset
            .checked_add(len_bytes)
            .filter(|&end| end <= object.memory.len_bytes())
            .ok_or(Error::OutOfRange)?;
        for page in offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
            if page == 0 {
                return Err(Error::OutOfRange);
            }
            if !object.pages.contains(&page) {
                self.room_pages = self.room_pages.checked_sub(1).ok_or(Error::OutOfNvm)?;
                object.pages.insert(page);
            }
        }
        Ok(())
    }
}

// SAFETY: each object lies in a reserved slot of its own until it is deleted or the backend dropped; a deleted one's slot is kept
// while the backend lives (`graves`). Tables are mappings of their own, one for each call. Provenance of both is exposed.
unsafe impl Backend for MemoryBackend {
    fn create(&self, spec: &CreateSpec) -> Result<ObjId, Error> {
        let mut state = self.state();
        let inputs = inputs_of(spec, |nonce| {
            state.nonces += 1;
            nonce[..8].copy_from_slice(&state.nonces.to_le_bytes());
            nonce[15] = 0xaa;
            Ok(())
        })?;
        let id = ObjId::derive(&inputs);
        if state.objects.contains_key(&id) {
            return Err(Error::Exists);
        }
        let memory = Reserved::new(inputs.flags.size_class()).map_err(|_| Error::OutOfMemory)?;
        let metadata = Metadata::new(&inputs, spec.fingerprint);
        let at = memory.slot().base() + METADATA_OFFSET;
        // SAFETY: the page is of the new mapping, aligned, and nobody knows of it yet.
        unsafe { std::ptr::with_exposed_provenance_mut::<Metadata>(at as usize).write(metadata) };
        state.by_slot.insert(memory.slot().base(), id);
        let spec = CreateSpec { nonce: inputs.nonce, ..*spec };
        state.objects.insert(id, MemoryObject { memory, spec, pages: BTreeSet::new(), mappings: 0 });
        let made = state.ensure(id, METADATA_OFFSET, BASE_OFFSET - METADATA_OFFSET);
        if made.is_err() {
            state.objects.remove(&id);
        }
        made.map(|()| id)
    }

    fn delete(&self, id: ObjId) -> Result<(), Error> {
        let mut state = self.state();
        let object = state.objects.remove(&id).ok_or(Error::NoSuchObject)?;
        state.quarantine.remove(&id);
        state.room_pages = state.room_pages.saturating_add(object.pages.len() as u64);
        // Resolved pointers may still be about: they fault, or read what was there.
        state.graves.push(object.memory);
        Ok(())
    }

    fn stat(&self, id: ObjId) -> Result<ObjectStat, Error> {
        let state = self.state();
        let object = state.objects.get(&id).ok_or(Error::NoSuchObject)?;
        let len =
            object.memory.slot().base() + HEADER_OFFSET + std::mem::offset_of!(Header, len_bytes) as u64;
        // SAFETY: an aligned word of the object's header page.
        let len = unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(len as usize) };
        Ok(ObjectStat {
            id,
            owner: object.spec.owner,
            flags: object.spec.flags,
            default_rights: object.spec.default_rights,
            fingerprint: object.spec.fingerprint,
            len_bytes: len.load(Ordering::Relaxed),
            pages: object.pages.len() as u64,
            size_class: object.class() as u32,
            mappings: object.mappings,
            quarantine: if state.quarantine.contains(&id) { Error::Damaged as u32 } else { 0 },
            ..ObjectStat::default()
        })
    }

    fn map(&self, id: ObjId, _rights: Rights) -> Result<Slot, Error> {
        let mut state = self.state();
        let object = state.objects.get_mut(&id).ok_or(Error::NoSuchObject)?;
        object.mappings += 1;
        Ok(object.memory.slot())
    }

    unsafe fn unmap(&self, slot: Slot) {
        self.left(slot);
    }

    fn left(&self, slot: Slot) {
        let state = &mut *self.state();
        // Gone, and not there any more: it has been deleted.
        if let Some(object) = state.by_slot.get(&slot.base()).and_then(|id| state.objects.get_mut(id)) {
            object.mappings = object.mappings.saturating_sub(1);
        }
    }

    fn promote(&self, id: ObjId) -> Result<(), Error> {
        let state = &mut *self.state();
        let object = state.objects.get_mut(&id).ok_or(Error::NoSuchObject)?;
        if object.class() == SizeClass::Large {
            return Ok(());
        }
        // Anonymous memory can't be in two places.
        if object.mappings != 0 {
            return Err(Error::Busy);
        }
        let large = Reserved::new(SizeClass::Large).map_err(|_| Error::OutOfMemory)?;
        for page in &object.pages {
            let [from, to] = [&object.memory, &large].map(|memory| memory.slot().base() + page * PAGE_BYTES);
            let to = std::ptr::with_exposed_provenance_mut::<u8>(to as usize);
            // SAFETY: pages that exist lie in the object's mapping beyond the null page, and at the same offset of the new one, which nobody
            // knows of yet; no program has the object mapped, so nobody changes it meanwhile.
            unsafe {
                std::ptr::with_exposed_provenance::<u8>(from as usize).copy_to(to, PAGE_BYTES as usize)
            };
        }
        state.by_slot.remove(&object.memory.slot().base());
        state.by_slot.insert(large.slot().base(), id);
        state.graves.push(std::mem::replace(&mut object.memory, large));
        Ok(())
    }

    fn set_type(&self, id: ObjId, was: u64, fingerprint: u64) -> Result<(), Error> {
        let mut state = self.state();
        let spec = &mut state.objects.get_mut(&id).ok_or(Error::NoSuchObject)?.spec;
        if spec.fingerprint != fingerprint && spec.fingerprint != was {
            return Err(Error::WrongType);
        }
        spec.fingerprint = fingerprint;
        Ok(())
    }

    fn ensure(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.state().ensure(id, offset, len_bytes)
    }

    fn translation(&self) -> u64 {
        let table = Area::new(TRANSLATION_BYTES as usize).expect("the host has address space for a table");
        let address = table.address();
        self.state().tables.push(table);
        address
    }

    #[inline]
    fn thread(&self) -> u64 {
        twizzler_slots::this_thread()
    }

    fn coordination(&self) -> u64 {
        self.coordination.address()
    }

    fn stored(&self, address: u64, len_bytes: u64) {
        let mut state = self.state();
        let base = range_start(address);
        let Some(object) = state.objects.values().find(|object| object.memory.slot().base() == base) else {
            return;
        };
        let (first, last) =
            ((address - base) / PAGE_BYTES, (address - base + len_bytes.max(1) - 1) / PAGE_BYTES);
        assert!(first >= HEADER_OFFSET / PAGE_BYTES, "a store to the metadata");
        if state.damaged {
            let id = state.by_slot[&base];
            // Where there is no room, the program would end here; so would the test, if it looked.
            let _ = state.ensure(id, first * PAGE_BYTES, (last + 1 - first) * PAGE_BYTES);
            return;
        }
        for page in first..=last {
            assert!(object.pages.contains(&page), "a store to page {page}, which need not exist");
        }
    }

    unsafe fn flush(&self, address: u64, len_bytes: u64) {
        let lines = twizzler_pmem::lines(address, len_bytes).count() as u64;
        self.flushed_lines.fetch_add(lines, Ordering::Relaxed);
    }

    fn fence(&self) {
        self.fences.fetch_add(1, Ordering::Relaxed);
    }

    fn keeps_stores(&self) -> bool {
        self.keeps_stores
    }

    fn owner(&self) -> u64 {
        let mut state = self.state();
        state.owners += 2;
        let owner = state.owners;
        state.living.insert(owner);
        owner
    }

    fn is_alive(&self, owner: u64) -> bool {
        self.state().living.contains(&owner)
    }

    fn wait(&self, word: &AtomicU64, value: u64, timeout_ns: u64) -> Waited {
        if futex::wait(word, value, timeout_ns) { Waited::TimedOut } else { Waited::Early }
    }

    fn wake(&self, word: &AtomicU64) {
        futex::wake(word);
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        let mut state = self.state();
        state.nonces += 1;
        // Not random, but never twice, and the same in every run.
        for (byte, value) in bytes.iter_mut().zip(state.nonces.to_le_bytes().into_iter().cycle()) {
            *byte = value;
        }
        Ok(())
    }
}
