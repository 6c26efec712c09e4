//! The programming model over an NVM image.
//!
//! An object is mapped by mapping those frames of the file that its tree names, run by run, at the object's slot: the same
//! addresses as on Twizzler, and the same bytes. Pages that the tree does not have are read-only zeros, so a store that was not
//! preceded by [`Backend::ensure`] stops the program instead of being lost.
//!
//! Over a file that is open privately, the slot holds a copy of the pages: stores change the copy alone.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Read;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::AtomicU64;

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use twizzler_abi::address::{LARGE_BYTES, PAGE_BYTES, Slot};
use twizzler_abi::call::{CreateSpec, ObjectStat};
use twizzler_abi::object::{HEADER_OFFSET, Header, METADATA_OFFSET};
use twizzler_abi::{Error, ObjId, Rights};
use twizzler_object::Backend;
use twizzler_object::backend::{COORDINATION_BYTES, TRANSLATION_BYTES, Waited, inputs_of};
use twizzler_pmem::Persist;
use twizzler_pmem::mapped::{Mapped, copy};
use twizzler_store::{Found, Frames, Nvm, Tree, Unmapped};

use crate::media::{MediaFile, Sharing};
use twizzler_slots::{Area, Reserved};

/// The store's lock on a host.
pub type HostMutex = spin::Mutex<()>;
/// A store in an image file.
pub type Store = twizzler_store::Store<Mapped<MediaFile>, HostMutex>;

/// Objects in an image file.
#[derive(Debug)]
pub struct ImageBackend {
    pub(crate) store: Store,
    pub(crate) mapped: RefCell<HashMap<ObjId, Mapping>>,
    /// Slots of deleted objects.
    graves: RefCell<Vec<Reserved>>,
    tables: RefCell<Vec<Area>>,
    coordination: OnceCell<Area>,
    owners: RefCell<HashSet<u64>>,
    random: RefCell<Option<File>>,
    /// How often the host was asked to map something.
    maps: Cell<u64>,
}

#[derive(Debug)]
pub(crate) struct Mapping {
    pub(crate) memory: Reserved,
    writable: bool,
    /// Pages that show the file.
    shown: Vec<Range<u64>>,
}

impl ImageBackend {
    /// Over a mounted store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            mapped: RefCell::default(),
            graves: RefCell::default(),
            tables: RefCell::default(),
            coordination: OnceCell::new(),
            owners: RefCell::default(),
            random: RefCell::default(),
            maps: Cell::new(0),
        }
    }

    /// The store.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Maps those of `pages` that the object's tree has and that are not shown yet.
    fn show(&self, id: ObjId, mapping: &mut Mapping, pages: Range<u64>) -> Result<(), Error> {
        let root = self.store.root(id)?;
        let tree: Tree<'_, Nvm<Mapped<MediaFile>, HostMutex>> = Tree::new(self.store.frames(), root);
        let end = pages.end.min(root.reach_pages());
        // A run: first page, offset in the file, pages.
        let mut run: Option<(u64, u64, u64)> = None;
        let mut page = pages.start;
        while page < end {
            let found = tree.lookup(page)?;
            let at = match found {
                Found::Page(frame, ..) if !mapping.shown.iter().any(|shown| shown.contains(&page)) => {
                    self.store.frames().offset(frame, 1)
                }
                _ => None,
            };
            run = match (run, at) {
                (Some((first, start, len)), Some(at)) if start + len * PAGE_BYTES == at => {
                    Some((first, start, len + 1))
                }
                (old, at) => {
                    self.show_run(mapping, old)?;
                    at.map(|at| (page, at, 1))
                }
            };
            page = match found {
                Found::Empty(level) => (page / level.entry_pages() + 1) * level.entry_pages(),
                _ => page + 1,
            };
        }
        self.show_run(mapping, run)
    }

    fn show_run(&self, mapping: &mut Mapping, run: Option<(u64, u64, u64)>) -> Result<(), Error> {
        let Some((first, at, len)) = run else { return Ok(()) };
        let metadata = METADATA_OFFSET / PAGE_BYTES;
        if first <= metadata && first + len > metadata + 1 {
            // The metadata is read-only, what follows is not.
            let head = metadata + 1 - first;
            self.show_run(mapping, Some((first, at, head)))?;
            return self.show_run(mapping, Some((metadata + 1, at + head * PAGE_BYTES, len - head)));
        }
        let writable = mapping.writable && first > metadata;
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let start = mapping.memory.slot().base() + first * PAGE_BYTES;
        if self.store.media().region().sharing() == Sharing::Private {
            self.copy_run(start, at, len)?;
            mapping.note_shown(first, len);
            return Ok(());
        }
        if writable {
            self.fill_holes(at..at + len * PAGE_BYTES)?;
        }
        // SAFETY: the range lies in our reserved slot, which Rust uses for nothing else; the file's pages are reached through
        // atomics alone.
        let shown = unsafe {
            mmap(
                ptr::with_exposed_provenance_mut(start as usize),
                (len * PAGE_BYTES) as usize,
                protection,
                MapFlags::SHARED | MapFlags::FIXED,
                self.store.media().region().file(),
                at,
            )
        };
        shown.map_err(|_| Error::OutOfMemory)?.expose_provenance();
        self.maps.set(self.maps.get() + 1);
        mapping.note_shown(first, len);
        Ok(())
    }

    /// Makes room for what is in use and has none: zeros that a copy of the file left out.
    fn fill_holes(&self, range: Range<u64>) -> Result<(), Error> {
        let media = self.store.media();
        let mut at = range.start;
        while at < range.end {
            let room = media.next_with_room(at).unwrap_or(range.end..range.end);
            let hole = at..room.start.min(range.end);
            if !hole.is_empty() && !media.make_room(hole.start, hole.end - hole.start) {
                return Err(Error::OutOfNvm);
            }
            at = room.end;
        }
        Ok(())
    }

    /// Makes `len` pages of the slot, from the address `start` on, a copy of the media from `at` on.
    fn copy_run(&self, start: u64, at: u64, len: u64) -> Result<(), Error> {
        // SAFETY: the range lies in our reserved slot, which Rust uses for nothing else.
        let made = unsafe {
            mmap_anonymous(
                ptr::with_exposed_provenance_mut(start as usize),
                (len * PAGE_BYTES) as usize,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED,
            )
        };
        let made: *mut u8 = made.map_err(|_| Error::OutOfMemory)?.cast();
        made.expose_provenance();
        let mut page = [0; PAGE_BYTES as usize];
        for number in 0..len {
            self.store.media().read(at + number * PAGE_BYTES, &mut page);
            let to = made.wrapping_add((number * PAGE_BYTES) as usize);
            // SAFETY: the page was mapped just now, and nothing refers to it.
            unsafe { copy(page.as_ptr(), to, page.len()) };
        }
        Ok(())
    }

    /// Makes pages exist in the tree.
    fn populate(&self, id: ObjId, pages: Range<u64>) -> Result<(), Error> {
        let root = self.store.extend(id, pages.end - 1)?;
        Tree::new(self.store.frames(), root).populate(pages)?;
        Ok(())
    }

    /// Takes everything away from a mapping: zeros that can't be written.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where the host refuses: a process has only so many mappings.
    fn hide(memory: &Reserved) -> Result<(), Error> {
        // SAFETY: the range is our reserved slot.
        let hidden = unsafe {
            mmap_anonymous(
                ptr::with_exposed_provenance_mut((memory.slot().base() + PAGE_BYTES) as usize),
                (memory.len_bytes() - PAGE_BYTES) as usize,
                ProtFlags::READ,
                MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED,
            )
        };
        hidden.map(|_| ()).map_err(|_| Error::OutOfMemory)
    }
}

impl Mapping {
    fn note_shown(&mut self, first: u64, len: u64) {
        self.shown.push(first..first + len);
        self.shown.sort_by_key(|range| range.start);
        self.shown.dedup_by(|next, before| {
            let joined = before.end == next.start;
            if joined {
                before.end = next.end;
            }
            joined
        });
    }
}

/// Pages that a range touches.
fn pages_of(offset: u64, len_bytes: u64) -> Result<Range<u64>, Error> {
    let end = offset.checked_add(len_bytes).filter(|&end| end <= LARGE_BYTES).ok_or(Error::OutOfRange)?;
    let pages = offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES);
    if pages.start == 0 { Err(Error::OutOfRange) } else { Ok(pages) }
}

// SAFETY: each mapped object has a reserved slot of its own until it is unmapped; a deleted one's slot is kept, hidden, while the
// backend lives. Tables are mappings of their own. Provenance is exposed where they are made.
unsafe impl Backend for ImageBackend {
    fn create(&self, spec: &CreateSpec) -> Result<ObjId, Error> {
        let inputs = inputs_of(spec, |nonce| self.random(nonce))?;
        Ok(self.store.create(&inputs, spec.fingerprint)?)
    }

    fn delete(&self, id: ObjId) -> Result<(), Error> {
        let mut mapped = self.mapped.borrow_mut();
        if let Some(mapping) = mapped.get(&id) {
            // First: frames that are still mapped must not be freed.
            Self::hide(&mapping.memory)?;
        }
        self.graves.borrow_mut().extend(mapped.remove(&id).map(|mapping| mapping.memory));
        Ok(self.store.delete(id, &mut Unmapped)?)
    }

    fn stat(&self, id: ObjId) -> Result<ObjectStat, Error> {
        let stat = self.store.stat(id)?;
        let mut len = [0; 8];
        let at = HEADER_OFFSET + std::mem::offset_of!(Header, len_bytes) as u64;
        // Opening puts what does not verify in quarantine, and says why.
        let damage = match (stat.quarantine, stat.metadata) {
            (None, None) => self.store.open(id).err(),
            (quarantine, _) => quarantine,
        };
        if damage.is_none() {
            self.read_raw(id, at, &mut len)?;
        }
        let quarantine = damage.map_or(0, |error| Error::from(error) as u32);
        let metadata = stat.metadata.map_or_else(Default::default, |metadata| ObjectStat {
            owner: metadata.owner,
            flags: metadata.flags,
            default_rights: metadata.default_rights,
            fingerprint: metadata.fingerprint,
            ..ObjectStat::default()
        });
        Ok(ObjectStat {
            id,
            len_bytes: u64::from_le_bytes(len),
            pages: stat.usage.pages,
            tables: stat.usage.tables,
            size_class: stat.class as u32,
            quarantine,
            ..metadata
        })
    }

    fn map(&self, id: ObjId, rights: Rights) -> Result<Slot, Error> {
        let opened = self.store.open(id)?;
        let memory = Reserved::new(opened.class).map_err(|_| Error::OutOfMemory)?;
        Self::hide(&memory)?;
        let mut mapping = Mapping { memory, writable: rights.contains(Rights::WRITE), shown: Vec::new() };
        if mapping.writable {
            let header = HEADER_OFFSET / PAGE_BYTES;
            self.populate(id, header..header + 1)?;
        }
        let pages = 1..mapping.memory.len_bytes() / PAGE_BYTES;
        self.show(id, &mut mapping, pages)?;
        let slot = mapping.memory.slot();
        self.mapped.borrow_mut().insert(id, mapping);
        Ok(slot)
    }

    unsafe fn unmap(&self, slot: Slot) {
        self.mapped.borrow_mut().retain(|_, mapping| mapping.memory.slot() != slot);
    }

    fn promote(&self, id: ObjId) -> Result<(), Error> {
        if self.mapped.borrow().contains_key(&id) {
            return Err(Error::Busy);
        }
        Ok(self.store.promote(id)?)
    }

    fn set_type(&self, id: ObjId, was: u64, fingerprint: u64) -> Result<(), Error> {
        if self.mapped.borrow().contains_key(&id) {
            // Its metadata page moves.
            return Err(Error::Busy);
        }
        Ok(self.store.set_type(id, was, fingerprint, &mut Unmapped)?)
    }

    fn ensure(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        if len_bytes == 0 {
            return Ok(());
        }
        let pages = pages_of(offset, len_bytes)?;
        let mut mapped = self.mapped.borrow_mut();
        let mapping = mapped.get_mut(&id);
        let is_shown = |shown: &Range<u64>| shown.start <= pages.start && pages.end <= shown.end;
        if mapping.as_ref().is_some_and(|mapping| mapping.shown.iter().any(is_shown)) {
            return Ok(());
        }
        self.populate(id, pages.clone())?;
        mapping.map_or(Ok(()), |mapping| self.show(id, mapping, pages))
    }

    fn translation(&self) -> u64 {
        let table = Area::new(TRANSLATION_BYTES as usize).expect("the host has address space for a table");
        let address = table.address();
        self.tables.borrow_mut().push(table);
        address
    }

    #[inline]
    fn thread(&self) -> u64 {
        twizzler_slots::this_thread()
    }

    fn coordination(&self) -> u64 {
        // Whoever opens an image has it alone, so this is all of the system.
        let area = || Area::new(COORDINATION_BYTES as usize).expect("the host has address space");
        self.coordination.get_or_init(area).address()
    }

    unsafe fn flush(&self, _address: u64, _len_bytes: u64) {}

    fn fence(&self) {}

    fn owner(&self) -> u64 {
        let owner = (RandomState::new().build_hasher().finish() | 2) & !1;
        self.owners.borrow_mut().insert(owner);
        owner
    }

    fn is_alive(&self, owner: u64) -> bool {
        self.owners.borrow().contains(&owner)
    }

    fn wait(&self, _word: &AtomicU64, _value: u64, timeout_ns: u64) -> Waited {
        // Nobody else uses an image, so nobody will wake us.
        std::thread::sleep(std::time::Duration::from_nanos(timeout_ns));
        Waited::TimedOut
    }

    fn wake(&self, _word: &AtomicU64) {}

    fn random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        let mut random = self.random.borrow_mut();
        if random.is_none() {
            *random = Some(File::open("/dev/urandom").map_err(|_| Error::NotSupported)?);
        }
        let file = random.as_mut().ok_or(Error::NotSupported)?;
        file.read_exact(bytes).map_err(|_| Error::NotSupported)
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FallocateFlags, fallocate};
    use twizzler_abi::rights::ObjectFlags;
    use twizzler_store::{Access, FormatOptions, MountOptions};

    use super::*;

    fn mount(file: &File) -> ImageBackend {
        let media = MediaFile::of(file.try_clone().expect("open")).expect("mapped");
        let options = MountOptions { access: Access::ReadWrite, base: None };
        ImageBackend::new(Store::mount(media, &options).expect("a store").0)
    }

    #[test]
    fn what_a_copy_left_out_has_room_before_it_is_stored_to() {
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len(8 << 20).expect("longer");
        let media = MediaFile::of(file.try_clone().expect("open")).expect("mapped");
        Store::format(&media, &FormatOptions { uuid: [1; 16], base: FormatOptions::USUAL_BASE })
            .expect("made");
        let image = mount(&file);
        let spec = CreateSpec {
            nonce: [0; 16],
            owner: ObjId::NONE,
            flags: ObjectFlags::PERSISTENT.bits(),
            default_rights: (Rights::READ | Rights::WRITE).bits(),
            fingerprint: 0,
        };
        let id = image.create(&spec).expect("room");
        image.ensure(id, 0x3000, 3 * PAGE_BYTES).expect("room");
        let tree = Tree::new(image.store.frames(), image.store.root(id).expect("there"));
        let Ok(Found::Page(frame, ..)) = tree.lookup(4) else { panic!("not there") };
        let at = image.store.frames().offset(frame, 1).expect("in the file");
        drop(image);
        fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, PAGE_BYTES)
            .expect("a hole");
        let image = mount(&file);
        let has_room = || image.store.media().next_with_room(at).is_some_and(|room| room.start == at);
        assert!(!has_room());
        image.map(id, Rights::READ | Rights::WRITE).expect("mapped");
        assert!(has_room());
    }
}
