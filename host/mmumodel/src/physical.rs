//! Physical memory: regions at physical addresses.

use twizzler_pmem::Persist;

/// A region of physical memory.
#[derive(Clone, Copy)]
pub struct Region<'m> {
    /// Physical address of its first byte.
    pub base: u64,
    /// Its bytes.
    pub memory: &'m dyn Persist,
}

/// All of physical memory.
#[derive(Clone)]
pub struct Physical<'m> {
    regions: Vec<Region<'m>>,
}

impl<'m> Physical<'m> {
    /// Memory of these regions, which don't overlap.
    #[must_use]
    pub fn new(regions: Vec<Region<'m>>) -> Self {
        Self { regions }
    }

    /// Loads a word; None where there is no memory.
    #[must_use]
    pub fn load(&self, address: u64) -> Option<u64> {
        self.find(address).map(|(memory, at)| memory.load(at))
    }

    /// Stores a word. False where there is no memory.
    #[must_use]
    pub fn store(&self, address: u64, value: u64) -> bool {
        self.find(address).map(|(memory, at)| memory.store(at, value)).is_some()
    }

    fn find(&self, address: u64) -> Option<(&'m dyn Persist, u64)> {
        let holds = |region: &&Region<'m>| {
            address.checked_sub(region.base).is_some_and(|at| at < region.memory.len_bytes())
        };
        self.regions.iter().find(holds).map(|region| (region.memory, address - region.base))
    }
}
