//! Which objects this process has mapped, and where.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use twizzler_abi::ObjId;
use twizzler_abi::address::{PAGE_BYTES, Slot};
use twizzler_slots::Reserved;

use crate::objects::disk_bytes;

/// A mapped object.
#[derive(Debug)]
pub(crate) struct Mapping {
    pub(crate) memory: Reserved,
    pub(crate) space: Space,
    /// Bytes that its file takes on the disk.
    bytes: AtomicU64,
    /// The host was told that it is read here and there.
    is_random: AtomicBool,
}

impl Mapping {
    pub(crate) fn new(memory: Reserved) -> Self {
        Self { memory, space: Space::default(), bytes: AtomicU64::new(0), is_random: AtomicBool::new(false) }
    }

    /// Bytes that its file takes beyond those that were noted.
    pub(crate) fn grown(&self, file: &File) -> u64 {
        disk_bytes(file).saturating_sub(self.bytes.load(Ordering::Relaxed))
    }

    /// True if the page at this offset, which is a page's start, is in the host's memory.
    pub(crate) fn is_in_memory(&self, offset: u64) -> bool {
        let (start, mut found) = (self.memory.slot().base() + offset, 0u8);
        // SAFETY: the call writes one byte, for the one page that is asked about, to `found`; it does not touch that page.
        let result = unsafe { libc::mincore(start as usize as *mut _, PAGE_BYTES as usize, &raw mut found) };
        result == 0 && found & 1 != 0
    }

    /// Tells the host that it is read here and there.
    pub(crate) fn expect_random(&self) {
        if !self.is_random.swap(true, Ordering::Relaxed) {
            // Where it fails, reading is slower.
            let _ = self.memory.expect_random();
        }
    }
}

/// What of an object is known to have space on the disk.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// All below this offset.
    below: AtomicU64,
    /// Further ranges.
    ranges: Mutex<Vec<Range<u64>>>,
}

impl Space {
    /// True if all of the range is known to have space.
    pub(crate) fn covers(&self, wanted: &Range<u64>) -> bool {
        wanted.end <= self.below.load(Ordering::Relaxed)
            || self.lock().iter().any(|range| range.start <= wanted.start && wanted.end <= range.end)
    }

    /// Notes that a range has space.
    pub(crate) fn add(&self, new: Range<u64>) {
        let mut ranges = self.lock();
        ranges.push(new);
        ranges.sort_by_key(|range| range.start);
        ranges.dedup_by(|next, before| {
            let joined = next.start <= before.end;
            if joined {
                before.end = before.end.max(next.end);
            }
            joined
        });
        if ranges[0].start <= PAGE_BYTES {
            self.below.store(ranges[0].end, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Range<u64>>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All mapped objects.
#[derive(Debug, Default)]
pub(crate) struct Mappings {
    by_id: RwLock<HashMap<ObjId, Arc<Mapping>>>,
    /// Slots of deleted objects, until they are unmapped: resolved pointers may still be about.
    graves: Mutex<Vec<Arc<Mapping>>>,
    /// Bytes that the files of all that are mapped take.
    bytes: AtomicU64,
}

impl Mappings {
    pub(crate) fn get(&self, id: ObjId) -> Option<Arc<Mapping>> {
        self.read().get(&id).cloned()
    }

    pub(crate) fn add(&self, id: ObjId, mapping: Mapping) {
        if let Some(old) = self.write().insert(id, Arc::new(mapping)) {
            self.bury(old);
        }
    }

    /// Notes how many bytes an object's file takes; gives those of all.
    pub(crate) fn set_bytes(&self, id: ObjId, bytes: u64) -> u64 {
        let by_id = self.read();
        let before = by_id.get(&id).map_or(bytes, |mapping| mapping.bytes.swap(bytes, Ordering::Relaxed));
        let change = bytes.wrapping_sub(before);
        self.bytes.fetch_add(change, Ordering::Relaxed).wrapping_add(change)
    }

    /// Tells the host that they are all read here and there.
    pub(crate) fn expect_random(&self) {
        self.read().values().for_each(|mapping| mapping.expect_random());
    }

    /// Ends a mapping; tells of which object, where that isn't gone.
    pub(crate) fn remove(&self, slot: Slot) -> Option<ObjId> {
        let is_it = |mapping: &Arc<Mapping>| mapping.memory.slot() == slot;
        let mut graves = self.graves();
        if let Some(grave) = graves.iter().position(is_it) {
            // Whatever is mapped there from here on is another one.
            graves.swap_remove(grave);
            return None;
        }
        drop(graves);
        let mut by_id = self.write();
        let id = *by_id.iter().find(|(_, mapping)| is_it(mapping))?.0;
        by_id.remove(&id).iter().for_each(|mapping| self.forget_bytes(mapping));
        Some(id)
    }

    /// The object is gone; its mapping stays. False: there is none.
    pub(crate) fn deleted(&self, id: ObjId) -> bool {
        let mapping = self.write().remove(&id);
        let was_mapped = mapping.is_some();
        mapping.into_iter().for_each(|mapping| self.bury(mapping));
        was_mapped
    }

    fn bury(&self, mapping: Arc<Mapping>) {
        self.forget_bytes(&mapping);
        self.graves().push(mapping);
    }

    fn graves(&self) -> MutexGuard<'_, Vec<Arc<Mapping>>> {
        self.graves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_bytes(&self, mapping: &Mapping) {
        self.bytes.fetch_sub(mapping.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<ObjId, Arc<Mapping>>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<ObjId, Arc<Mapping>>> {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join() {
        let space = Space::default();
        space.add(4096..8192);
        assert!(space.covers(&(4096..8192)) && !space.covers(&(4096..8193)));
        space.add(100_000..200_000);
        assert!(space.covers(&(150_000..160_000)) && !space.covers(&(8000..120_000)));
        space.add(8192..100_000);
        assert!(space.covers(&(5000..200_000)));
    }
}
