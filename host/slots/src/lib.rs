//! Slots of this process: where objects are mapped on the host.
//!
//! The address map is Twizzler's: objects lie in the same areas on both systems. A slot, or a range of slots for a large object, is taken
//! from a table of the process and reserved with the host kernel, which says if something else lies there.

pub mod futex;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap};
use twizzler_abi::SizeClass;
use twizzler_abi::address::{LARGE_SLOTS, PAGE_BYTES, SLOTS_PER_PML4, SMALL_SLOTS, Slot, range_bytes};
use twizzler_abi::object::{HEADER_OFFSET, METADATA_OFFSET};

/// Slots in use by this process, by their numbers, and where to look for the next ones.
#[derive(Debug)]
struct Taken {
    numbers: BTreeSet<u32>,
    next_small: u32,
    next_large: u32,
}

/// The number of the thread that asks: even, not 0, and no other thread of the process has it. Threads have 2, 4, 6 and so on, as they first ask.
#[inline]
#[must_use]
pub fn this_thread() -> u64 {
    thread_local! {
        static NUMBER: Cell<u64> = const { Cell::new(0) };
    }
    #[cold]
    fn first(number: &Cell<u64>) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(2);
        number.set(NEXT.fetch_add(2, Ordering::Relaxed));
        number.get()
    }
    NUMBER.with(|number| if number.get() == 0 { first(number) } else { number.get() })
}

static TAKEN: Mutex<Taken> = Mutex::new(Taken {
    numbers: BTreeSet::new(),
    next_small: SMALL_SLOTS.start,
    next_large: LARGE_SLOTS.start,
});

/// The range of an object of the process, reserved until dropped: the null page faults, the rest is zeros, or what is mapped over it.
#[derive(Debug)]
pub struct Reserved {
    slot: Slot,
}

impl Reserved {
    /// Reserves a range of zeros that take no memory until they are touched.
    ///
    /// # Errors
    /// The host's, `OutOfMemory` where no slot is left, or `Unsupported` for a class that has none.
    pub fn new(class: SizeClass) -> io::Result<Self> {
        loop {
            let slot = take(class)?;
            // SAFETY: a new mapping that replaces none (`MAP_FIXED_NOREPLACE`), of memory that Rust knows nothing of.
            let mapped = unsafe {
                mmap_anonymous(
                    std::ptr::with_exposed_provenance_mut(slot.base() as usize),
                    range_bytes(slot.base()) as usize,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE,
                )
            };
            match mapped {
                Ok(start) => {
                    start.expose_provenance();
                    let reserved = Self { slot };
                    reserved.forbid_null_page()?;
                    return Ok(reserved);
                }
                // Something of the process lies there: leave the slot marked as taken, try the next.
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => {
                    release(slot);
                    return Err(error.into());
                }
            }
        }
    }

    fn forbid_null_page(&self) -> io::Result<()> {
        let start = std::ptr::with_exposed_provenance_mut(self.slot.base() as usize);
        // SAFETY: the page is of our mapping, and nothing uses it.
        unsafe { mprotect(start, PAGE_BYTES as usize, rustix::mm::MprotectFlags::empty()) }?;
        Ok(())
    }

    /// Shows an object's file, which is as long as the range: metadata read-only, the rest as `writable` says, shared with all who
    /// map it. `flags` are added to the mapping's.
    ///
    /// # Errors
    /// The host's. What the slot shows then is not known; drop it.
    pub fn show_file(&self, file: impl AsFd, writable: bool, flags: MapFlags) -> io::Result<()> {
        let rest = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let parts =
            [(METADATA_OFFSET..HEADER_OFFSET, ProtFlags::READ), (HEADER_OFFSET..self.len_bytes(), rest)];
        for (range, protection) in parts {
            let start = std::ptr::with_exposed_provenance_mut((self.slot.base() + range.start) as usize);
            let len_bytes = (range.end - range.start) as usize;
            let flags = MapFlags::FIXED | flags;
            // SAFETY: the range lies in our reserved slot, which Rust uses for nothing else; whoever uses the mapping does so
            // through atomics alone.
            let shown = unsafe { mmap(start, len_bytes, protection, flags, file.as_fd(), range.start) };
            shown?.expose_provenance();
        }
        Ok(())
    }

    /// Says that the object is read here and there: the host then reads the pages that are asked for, and not 128 KiB around each.
    ///
    /// # Errors
    /// The host's.
    pub fn expect_random(&self) -> io::Result<()> {
        let start = std::ptr::with_exposed_provenance_mut((self.slot.base() + METADATA_OFFSET) as usize);
        // SAFETY: the range is of our own mapping; the advice changes no byte of it.
        unsafe { madvise(start, (self.len_bytes() - METADATA_OFFSET) as usize, Advice::Random) }?;
        Ok(())
    }

    /// Says that this part of the object will be used soon: the host reads what of it is on the disk, page by page and without waiting for it, and
    /// has memory ready for what never was.
    pub fn expect(&self, range: Range<u64>) {
        let end = range.end.min(self.len_bytes());
        expect(self.slot.base() + range.start.min(end), end.saturating_sub(range.start));
    }

    /// The slot, or the first one of a large range.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        self.slot
    }

    /// Bytes of the range.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        range_bytes(self.slot.base())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let start = std::ptr::with_exposed_provenance_mut(self.slot.base() as usize);
        // SAFETY: the whole range is ours; its owner dropped it, so nobody uses it.
        if unsafe { munmap(start, self.len_bytes() as usize) }.is_ok() {
            release(self.slot);
        }
    }
}

/// Says that memory of mapped objects will be read soon: the host reads what of it is on the disk, without waiting for it.
pub fn expect(address: u64, len_bytes: u64) {
    for piece in pieces(address, len_bytes) {
        let start = std::ptr::with_exposed_provenance_mut(piece.start as usize);
        // SAFETY: the advice changes no byte, whatever lies there. Where it fails, reading is slower.
        let _ = unsafe { madvise(start, (piece.end - piece.start) as usize, Advice::WillNeed) };
    }
}

/// The host heeds one such advice for no more than what it reads ahead at once (128 KiB unless told otherwise), and drops the rest.
const HEEDED_BYTES: u64 = 128 << 10;

/// Whole pages of a range, in pieces that the host heeds.
fn pieces(address: u64, len_bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let start = address / PAGE_BYTES * PAGE_BYTES;
    let end = address + len_bytes;
    (start..end).step_by(HEEDED_BYTES as usize).map(move |piece| piece..end.min(piece + HEEDED_BYTES))
}

/// From now on, small slots are taken from this number upwards, and large ranges from one that follows from it. For tests: a
/// process whose objects lie elsewhere than in others.
///
/// # Panics
/// Where no small slot has that number.
pub fn start_at(number: u32) {
    assert!(SMALL_SLOTS.contains(&number), "a small slot");
    let mut taken = taken();
    taken.next_small = number;
    taken.next_large =
        LARGE_SLOTS.start + number % (LARGE_SLOTS.len() as u32 / SLOTS_PER_PML4) * SLOTS_PER_PML4;
}

fn taken() -> MutexGuard<'static, Taken> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(class: SizeClass) -> io::Result<Slot> {
    let mut taken = taken();
    let Taken { numbers, next_small, next_large } = &mut *taken;
    let (area, next, step) = match class {
        SizeClass::Small => (SMALL_SLOTS, next_small, 1),
        SizeClass::Large => (LARGE_SLOTS, next_large, SLOTS_PER_PML4),
        SizeClass::Tiny => return Err(io::ErrorKind::Unsupported.into()),
    };
    for _ in area.clone().step_by(step as usize) {
        let number = *next;
        *next = if number + step == area.end { area.start } else { number + step };
        if numbers.insert(number) {
            return Ok(Slot::new(number).expect("both areas have slots"));
        }
    }
    Err(io::ErrorKind::OutOfMemory.into())
}

fn release(slot: Slot) {
    taken().numbers.remove(&slot.number());
}

/// Zeros of this process, where the host likes them, until dropped.
#[derive(Debug)]
pub struct Area {
    start: NonNull<u8>,
    len_bytes: usize,
}

// SAFETY: the memory is reached through atomics alone; the area only frees it.
unsafe impl Send for Area {}
// SAFETY: as above; a shared area gives no more than its address.
unsafe impl Sync for Area {}

impl Area {
    /// Maps so many bytes.
    ///
    /// # Errors
    /// The host's.
    pub fn new(len_bytes: usize) -> io::Result<Self> {
        let (protection, flags) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a new mapping where the host likes it.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), len_bytes, protection, flags) }?;
        start.expose_provenance();
        Ok(Self { start: NonNull::new(start.cast()).expect("mappings don't lie at 0"), len_bytes })
    }

    /// Where they lie. Their provenance is exposed.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.start.as_ptr().expose_provenance() as u64
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: our own mapping; whoever used it borrowed the owner of this area.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_numbered_in_turn() {
        let mut seen: Vec<u64> =
            (0..8).map(|_| std::thread::spawn(this_thread).join().expect("no panic")).collect();
        assert!(seen.iter().all(|number| number % 2 == 0 && *number != 0), "{seen:?}");
        assert!(
            seen.iter().max() < Some(&200),
            "close together, or threads would share places of small tables: {seen:?}"
        );
        seen.extend([this_thread()]);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 9, "a number of its own for each");
        assert_eq!(this_thread(), this_thread());
    }

    #[test]
    fn advice_comes_in_pieces_that_the_host_heeds() {
        let all: Vec<Range<u64>> = pieces(0x5010, 16 << 20).collect();
        assert_eq!((all[0].start, all.last().map(|last| last.end)), (0x5000, Some(0x5010 + (16 << 20))));
        assert!(all.windows(2).all(|two| two[0].end == two[1].start));
        assert!(
            all.iter().all(|piece| piece.start % PAGE_BYTES == 0 && piece.end - piece.start <= HEEDED_BYTES)
        );
        assert_eq!(pieces(0x5000, 0).count(), 0);
        assert!(pieces(0x5fff, 2).eq([Range { start: 0x5000, end: 0x6001 }]));
    }
}
