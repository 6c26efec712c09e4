//! Which objects the simulated memory holds: a table in its first pages, then one area for each object.
//!
//! Stands for the store, which has crash tests of its own: each change here is durable at once.

use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::{Error, ObjId};
use twizzler_crashsim::SimMemory;
use twizzler_pmem::Persist;

/// Bytes that an object may reach.
pub const AREA_BYTES: u64 = 1 << 20;

const ENTRY_BYTES: u64 = 32;
const BOOTS: u64 = 0;
const ENTRIES: u64 = ENTRY_BYTES;

/// The table in a memory.
#[derive(Clone, Copy)]
pub(super) struct Directory<'m> {
    memory: &'m SimMemory,
}

/// Number of an object's area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Area(u64);

impl Area {
    /// Its first byte in the memory.
    pub(super) fn start(self) -> u64 {
        PAGE_BYTES + self.0 * AREA_BYTES
    }
}

/// Bytes of a memory for so many objects.
#[must_use]
pub const fn memory_bytes(objects: u64) -> u64 {
    PAGE_BYTES + objects * AREA_BYTES
}

impl<'m> Directory<'m> {
    pub(super) fn new(memory: &'m SimMemory) -> Self {
        Self { memory }
    }

    /// Counts one more boot.
    pub(super) fn boot(self) -> u64 {
        let boots = self.memory.load(BOOTS) + 1;
        self.set(BOOTS, boots);
        boots
    }

    pub(super) fn find(self, id: ObjId) -> Option<Area> {
        (0..self.areas()).map(Area).find(|&area| self.id(area) == Some(id))
    }

    pub(super) fn ids(self) -> Vec<ObjId> {
        (0..self.areas()).filter_map(|area| self.id(Area(area))).collect()
    }

    /// Enters an object, whose content is zero but for `metadata`.
    pub(super) fn create(self, id: ObjId, metadata: &[u8]) -> Result<(), Error> {
        if self.find(id).is_some() {
            return Err(Error::Exists);
        }
        let area =
            (0..self.areas()).map(Area).find(|&area| self.id(area).is_none()).ok_or(Error::OutOfNvm)?;
        self.memory.zero(area.start(), AREA_BYTES);
        self.memory.write(area.start() + PAGE_BYTES, metadata);
        self.memory.settle(area.start(), AREA_BYTES);
        let at = ENTRIES + area.0 * ENTRY_BYTES;
        self.set(at + 8, id.hi);
        self.set(at + 16, id.lo);
        self.set(at, 1);
        Ok(())
    }

    pub(super) fn delete(self, id: ObjId) -> Result<(), Error> {
        let area = self.find(id).ok_or(Error::NoSuchObject)?;
        self.set(ENTRIES + area.0 * ENTRY_BYTES, 0);
        Ok(())
    }

    fn areas(self) -> u64 {
        (self.memory.len_bytes() - PAGE_BYTES) / AREA_BYTES
    }

    fn id(self, area: Area) -> Option<ObjId> {
        let at = ENTRIES + area.0 * ENTRY_BYTES;
        let id = || ObjId { hi: self.memory.load(at + 8), lo: self.memory.load(at + 16) };
        (self.memory.load(at) != 0).then(id)
    }

    fn set(self, at: u64, value: u64) {
        self.memory.store(at, value);
        self.memory.settle(at, 8);
    }
}
