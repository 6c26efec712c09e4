//! Real memory at the addresses of small slots, used again by one backend after another.
//!
//! Thousands of crash images are mapped in turn; what differs between two is a few pages. So a slot remembers
//! which pages it holds and copies only the others.

use std::ptr::{
    copy_nonoverlapping, null_mut, with_exposed_provenance, with_exposed_provenance_mut, write_bytes,
};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use twizzler_abi::address::{PAGE_BYTES, SLOT_BYTES, SMALL_SLOTS, Slot};
use twizzler_crashsim::Page;
use twizzler_object::backend::{COORDINATION_BYTES, ROW_WORDS, TRANSLATION_BYTES};

/// A slot with memory at its address, for whoever holds this value.
pub(super) struct Region {
    slot: Slot,
    len_bytes: u64,
    /// What the memory holds; None: not known.
    holds: Option<Vec<Arc<Page>>>,
}

/// Regions that nobody uses, and the first slot that never had one.
struct Pool {
    free: Vec<Region>,
    next: u32,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { free: Vec::new(), next: SMALL_SLOTS.start });

impl Region {
    /// A region of that length. Its content is anything.
    pub(super) fn take(len_bytes: u64) -> Self {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = pool.free.iter().rposition(|region| region.len_bytes == len_bytes) {
            return pool.free.swap_remove(at);
        }
        loop {
            let slot = Slot::new(pool.next).filter(|slot| SMALL_SLOTS.contains(&slot.number()));
            pool.next += 1;
            let slot = slot.expect("a test maps fewer objects than there are slots");
            // Another backend's objects may lie there.
            if reserve(slot, len_bytes) {
                return Self { slot, len_bytes, holds: None };
            }
        }
    }

    /// Gives the region back, holding these pages; None: nobody knows.
    pub(super) fn give_back(mut self, holds: Option<Vec<Arc<Page>>>) {
        self.holds = holds;
        POOL.lock().unwrap_or_else(PoisonError::into_inner).free.push(self);
    }

    pub(super) fn slot(&self) -> Slot {
        self.slot
    }

    /// Makes the memory hold these pages.
    pub(super) fn load(&mut self, pages: &[Arc<Page>]) {
        assert_eq!(pages.len() as u64 * PAGE_BYTES, self.len_bytes, "pages fill the region");
        for (number, page) in pages.iter().enumerate() {
            let held = self.holds.as_ref().is_some_and(|holds| Arc::ptr_eq(&holds[number], page));
            // The null page is not accessible and stays so.
            if !held && number > 0 {
                let to = with_exposed_provenance_mut::<u8>(self.slot.base() as usize + number * page.len());
                // SAFETY: the page lies within the region, which is mapped readable and writable beyond its null page
                // (`reserve`) and belongs to this value alone; `page` is memory of its own.
                unsafe { copy_nonoverlapping(page.as_ptr(), to, page.len()) };
            }
        }
        self.holds = None;
    }

    /// Reads words.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) {
        let in_region = offset >= PAGE_BYTES && offset + buffer.len() as u64 <= self.len_bytes;
        assert!(in_region, "offset {offset:#x} is not in the region");
        let from = with_exposed_provenance::<u8>((self.slot.base() + offset) as usize);
        // SAFETY: within the region, beyond its null page, as asserted; mapped by `reserve`; nobody writes it
        // meanwhile, as one thread owns region and backend; `buffer` is memory of its own.
        unsafe { copy_nonoverlapping(from, buffer.as_mut_ptr(), buffer.len()) };
    }
}

/// Takes the slot's address range from everybody, and puts memory beyond the null page. False where something lies there.
fn reserve(slot: Slot, len_bytes: u64) -> bool {
    let address = with_exposed_provenance_mut(slot.base() as usize);
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
    // SAFETY: FIXED_NOREPLACE maps only where nothing was, so no memory of Rust's is replaced.
    let mapped = unsafe { mmap_anonymous(address, SLOT_BYTES as usize, ProtFlags::empty(), flags) };
    if mapped == Err(rustix::io::Errno::EXIST) {
        return false;
    }
    let mapped = mapped.expect("the host has address space for a slot");
    assert_eq!(mapped.expose_provenance(), address.addr(), "a kernel that knows MAP_FIXED_NOREPLACE");
    let data = with_exposed_provenance_mut((slot.base() + PAGE_BYTES) as usize);
    // SAFETY: the range was just mapped here and nothing refers to it.
    let protected = unsafe {
        mprotect(data, (len_bytes - PAGE_BYTES) as usize, MprotectFlags::READ | MprotectFlags::WRITE)
    };
    protected.expect("protection of a fresh mapping");
    true
}

/// A translation table's memory.
pub(super) struct Translation {
    address: u64,
}

static TRANSLATIONS: Mutex<Vec<Translation>> = Mutex::new(Vec::new());

impl Translation {
    /// A table whose rows are zero.
    pub(super) fn take() -> Self {
        TRANSLATIONS.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_else(|| {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            // SAFETY: a new mapping where the kernel likes it.
            let mapped = unsafe { mmap_anonymous(null_mut(), TRANSLATION_BYTES as usize, protection, flags) };
            Self { address: mapped.expect("address space for a table").expose_provenance() as u64 }
        })
    }

    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// Gives the table back after the rows of these slots were used.
    pub(super) fn give_back(self, used: impl Iterator<Item = Slot>) {
        for slot in used {
            let row_bytes = ROW_WORDS * 8;
            let row = self.address + u64::from(slot.number() - SMALL_SLOTS.start) * row_bytes;
            let row = with_exposed_provenance_mut::<u8>(row as usize);
            // SAFETY: small slots have their rows within the table, which is mapped and this value's own.
            unsafe { write_bytes(row, 0, row_bytes as usize) };
        }
        TRANSLATIONS.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }
}

/// A coordination segment: zeros, until dropped.
pub(super) struct Coordination {
    address: u64,
}

impl Coordination {
    pub(super) fn new() -> Self {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the kernel likes it.
        let mapped = unsafe { mmap_anonymous(null_mut(), COORDINATION_BYTES as usize, protection, flags) };
        Self { address: mapped.expect("address space").expose_provenance() as u64 }
    }

    pub(super) fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for Coordination {
    fn drop(&mut self) {
        // SAFETY: our own mapping; whoever used it borrowed the backend that owns this value.
        let _ = unsafe {
            munmap(with_exposed_provenance_mut(self.address as usize), COORDINATION_BYTES as usize)
        };
    }
}
