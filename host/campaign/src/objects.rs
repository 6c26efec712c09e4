//! The programming model over the crash simulator.
//!
//! [`SimObjects`] is a [`Backend`] whose objects are real memory, so that everything above runs as it is.
//! Each announced store is copied into the simulator's memory. Stores that were not announced are found by
//! [`SimObjects::check_announced`], and now and then when a backend is dropped.
//!
//! Several programs of one machine share a backend: an object that they map lies at one slot, and each has a translation table.
//!
//! Not simulated: creating and deleting objects, which count as atomic and durable (the store has tests of its
//! own); several threads at once; running out of NVM other than by [`AREA_BYTES`] and the number of areas.

mod directory;
mod slots;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use twizzler_abi::address::{PAGE_BYTES, Slot};
use twizzler_abi::call::{CreateSpec, ObjectStat};
use twizzler_abi::object::{METADATA_OFFSET, Metadata};
use twizzler_abi::{Error, ObjId, Rights};
use twizzler_crashsim::{Page, Rng, SimMemory};
use twizzler_object::backend::{Backend, Waited, inputs_of};
use twizzler_pmem::Persist;
use zerocopy::{FromBytes, IntoBytes};

use directory::{Area, Directory};
use slots::{Coordination, Region, Translation};

pub use directory::{AREA_BYTES, memory_bytes};

/// Of the backends that are dropped, one in so many is checked for unannounced stores: it takes longer than
/// most recoveries.
const CHECK_ONE_IN: u64 = 32;
/// Programs of a boot.
const PROGRAMS_MAX: u64 = 32;
static DROPS: AtomicU64 = AtomicU64::new(0);

/// Objects in simulated memory, for one program in one boot.
pub struct SimObjects<'m> {
    memory: &'m SimMemory,
    boot: u64,
    random: RefCell<Rng>,
    mapped: RefCell<Vec<Mapping>>,
    used: RefCell<Vec<Slot>>,
    /// One for each program that was attached.
    translations: RefCell<Vec<Translation>>,
    coordination: Coordination,
}

struct Mapping {
    /// None: the object is gone, and what is stored there is nobody's.
    area: Option<Area>,
    rights: Rights,
    region: Region,
    /// Programs that have it mapped.
    programs: usize,
}

impl<'m> SimObjects<'m> {
    /// Boots over a memory.
    #[must_use]
    pub fn boot(memory: &'m SimMemory) -> Self {
        let boot = Directory::new(memory).boot();
        Self {
            memory,
            boot,
            random: RefCell::new(Rng::new(boot).fork(0x6f_626a)),
            mapped: RefCell::default(),
            used: RefCell::default(),
            translations: RefCell::default(),
            coordination: Coordination::new(),
        }
    }

    /// The owner word of one of the programs of this boot.
    #[must_use]
    pub fn owner_of(&self, program: u64) -> u64 {
        (self.boot * PROGRAMS_MAX + program % PROGRAMS_MAX) * 2
    }

    /// All objects, in no order.
    #[must_use]
    pub fn ids(&self) -> Vec<ObjId> {
        self.directory().ids()
    }

    /// Checks that every store to mapped objects was announced.
    ///
    /// # Panics
    /// If one was not: says where.
    pub fn check_announced(&self) {
        for mapping in &*self.mapped.borrow() {
            let Some(area) = mapping.area else { continue };
            for (number, page) in self.pages(area).iter().enumerate().skip(1) {
                let mut is = [0; PAGE_BYTES as usize];
                mapping.region.read(number as u64 * PAGE_BYTES, &mut is);
                if is != **page {
                    let at = (0..is.len()).find(|&at| is[at] != page[at]).expect("they differ");
                    panic!("unannounced store at {:#x} of an object", number * page.len() + at);
                }
            }
        }
    }

    fn directory(&self) -> Directory<'m> {
        Directory::new(self.memory)
    }

    fn metadata(&self, area: Area) -> Metadata {
        let mut bytes = [0; size_of::<Metadata>()];
        self.memory.read(area.start() + METADATA_OFFSET, &mut bytes);
        Metadata::read_from_bytes(&bytes).expect("any bytes are metadata")
    }

    fn pages(&self, area: Area) -> Vec<Arc<Page>> {
        let first = (area.start() / PAGE_BYTES) as usize;
        let numbers = first..first + (AREA_BYTES / PAGE_BYTES) as usize;
        self.memory.with_image(|image| numbers.map(|number| Arc::clone(image.page(number))).collect())
    }

    /// Offset in the memory of a range of a mapped object, if a store may go there. None: the object is gone.
    fn place(&self, address: u64, len_bytes: u64, rights: Rights) -> Option<u64> {
        let mapped = self.mapped.borrow();
        let slot = Slot::of(address);
        let mapping = mapped.iter().find(|mapping| Some(mapping.region.slot()) == slot);
        let mapping = mapping.unwrap_or_else(|| panic!("{address:#x} is in no mapped object"));
        let offset = address - mapping.region.slot().base();
        assert!(offset + len_bytes <= AREA_BYTES, "{address:#x} is beyond the object's area");
        assert!(mapping.rights.contains(rights), "{address:#x} is mapped with {:?} only", mapping.rights);
        Some(mapping.area?.start() + offset)
    }
}

// SAFETY: regions are memory of their own at the slot's address, with the rest of the slot and the null page
// inaccessible (`slots::reserve`), until given back when unmapped or dropped; a translation table is mapped memory,
// zero where slots are used again (`Translation::give_back`), and belongs to one backend at a time.
unsafe impl Backend for SimObjects<'_> {
    fn create(&self, spec: &CreateSpec) -> Result<ObjId, Error> {
        let inputs = inputs_of(spec, |nonce| self.random(nonce))?;
        let metadata = Metadata::new(&inputs, spec.fingerprint);
        self.directory().create(metadata.id, metadata.as_bytes())?;
        Ok(metadata.id)
    }

    fn delete(&self, id: ObjId) -> Result<(), Error> {
        let area = self.directory().find(id);
        self.directory().delete(id)?;
        for mapping in self.mapped.borrow_mut().iter_mut().filter(|mapping| mapping.area == area) {
            mapping.area = None;
        }
        Ok(())
    }

    fn stat(&self, id: ObjId) -> Result<ObjectStat, Error> {
        let area = self.directory().find(id).ok_or(Error::NoSuchObject)?;
        let metadata = self.metadata(area);
        let mapped = self.mapped.borrow().iter().any(|mapping| mapping.area == Some(area));
        Ok(ObjectStat {
            id,
            owner: metadata.owner,
            flags: metadata.flags,
            default_rights: metadata.default_rights,
            fingerprint: metadata.fingerprint,
            len_bytes: self.memory.load(area.start() + twizzler_abi::object::HEADER_OFFSET),
            pages: AREA_BYTES / PAGE_BYTES,
            tables: 1,
            mappings: u64::from(mapped),
            size_class: 0,
            quarantine: 0,
        })
    }

    fn map(&self, id: ObjId, rights: Rights) -> Result<Slot, Error> {
        let area = self.directory().find(id).ok_or(Error::NoSuchObject)?;
        let mut mapped = self.mapped.borrow_mut();
        if let Some(mapping) = mapped.iter_mut().find(|mapping| mapping.area == Some(area)) {
            mapping.programs += 1;
            return Ok(mapping.region.slot());
        }
        let mut region = Region::take(AREA_BYTES);
        region.load(&self.pages(area));
        let slot = region.slot();
        self.used.borrow_mut().push(slot);
        mapped.push(Mapping { area: Some(area), rights, region, programs: 1 });
        Ok(slot)
    }

    unsafe fn unmap(&self, slot: Slot) {
        let mut mapped = self.mapped.borrow_mut();
        let at =
            mapped.iter().position(|mapping| mapping.region.slot() == slot).expect("mapped by this backend");
        mapped[at].programs -= 1;
        if mapped[at].programs > 0 {
            return;
        }
        let mapping = mapped.swap_remove(at);
        let pages = mapping.area.map(|area| self.pages(area));
        mapping.region.give_back(pages);
    }

    fn ensure(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.directory().find(id).ok_or(Error::NoSuchObject)?;
        match offset.checked_add(len_bytes) {
            Some(end) if end <= AREA_BYTES => Ok(()),
            _ => Err(Error::OutOfNvm),
        }
    }

    fn translation(&self) -> u64 {
        let translation = Translation::take();
        let address = translation.address();
        self.translations.borrow_mut().push(translation);
        address
    }

    fn coordination(&self) -> u64 {
        self.coordination.address()
    }

    fn thread(&self) -> u64 {
        // There is but one.
        2
    }

    fn stored(&self, address: u64, len_bytes: u64) {
        let Some(at) = self.place(address, len_bytes, Rights::WRITE) else { return };
        let slot = Slot::of(address).expect("checked by place");
        let mut bytes = vec![0; len_bytes as usize];
        let mapped = self.mapped.borrow();
        let mapping = mapped.iter().find(|mapping| mapping.region.slot() == slot).expect("checked by place");
        mapping.region.read(address - slot.base(), &mut bytes);
        self.memory.write(at, &bytes);
    }

    unsafe fn flush(&self, address: u64, len_bytes: u64) {
        if let Some(at) = self.place(address, len_bytes, Rights::READ) {
            self.memory.flush(at, len_bytes);
        }
    }

    fn fence(&self) {
        self.memory.fence();
    }

    fn owner(&self) -> u64 {
        self.owner_of(0)
    }

    fn is_alive(&self, owner: u64) -> bool {
        owner / (2 * PROGRAMS_MAX) == self.boot
    }

    fn wait(&self, _word: &AtomicU64, _value: u64, _timeout_ns: u64) -> Waited {
        Waited::TimedOut
    }

    fn wake(&self, _word: &AtomicU64) {}

    fn random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        let mut random = self.random.borrow_mut();
        bytes.fill_with(|| random.next_u64() as u8);
        Ok(())
    }
}

impl Drop for SimObjects<'_> {
    fn drop(&mut self) {
        let known = !std::thread::panicking();
        if known && DROPS.fetch_add(1, Ordering::Relaxed).is_multiple_of(CHECK_ONE_IN) {
            self.check_announced();
        }
        for mapping in self.mapped.take() {
            let pages = mapping.area.filter(|_| known).map(|area| self.pages(area));
            mapping.region.give_back(pages);
        }
        let used = self.used.take();
        for translation in self.translations.take() {
            translation.give_back(used.iter().copied());
        }
    }
}
