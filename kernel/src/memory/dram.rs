//! DRAM as a [`Persist`] region that forgets: offsets are physical addresses, flushes and fences do nothing.

use core::sync::atomic::{AtomicU64, Ordering};

use twizzler_pmem::Persist;

use super::{direct, frames};

/// All DRAM. Whoever uses an offset owns the frame there: [`frames::allocate`] gave it.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Dram;

impl Dram {
    fn pointer(self, at: u64, len_bytes: u64) -> *mut u8 {
        let end = at.checked_add(len_bytes);
        assert!(end.is_some_and(|end| end <= self.len_bytes()), "{at:#x} + {len_bytes:#x} is not in DRAM");
        direct::pointer(at)
    }

    fn word(&self, at: u64) -> &AtomicU64 {
        assert_eq!(at % 8, 0, "words are aligned");
        // SAFETY: DRAM in the direct map, aligned; the frame's owner accesses words atomically.
        unsafe { &*self.pointer(at, 8).cast() }
    }
}

impl Persist for Dram {
    fn len_bytes(&self) -> u64 {
        frames::end_address()
    }

    fn load(&self, at: u64) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    fn store(&self, at: u64, value: u64) {
        self.word(at).store(value, Ordering::Release);
    }

    fn compare_exchange(&self, at: u64, old: u64, new: u64) -> Result<(), u64> {
        self.word(at).compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }

    fn read(&self, at: u64, buffer: &mut [u8]) {
        let from = self.pointer(at, buffer.len() as u64);
        // SAFETY: the range is DRAM in the direct map; `buffer` is elsewhere.
        unsafe { super::copy(from, buffer.as_mut_ptr(), buffer.len()) };
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let to = self.pointer(at, bytes.len() as u64);
        // SAFETY: DRAM in the direct map, in frames that the caller owns: nobody has references into them.
        unsafe { super::copy(bytes.as_ptr(), to, bytes.len()) };
    }

    fn zero(&self, at: u64, len_bytes: u64) {
        let to = self.pointer(at, len_bytes);
        // SAFETY: as in `write`.
        unsafe { super::zero(to, len_bytes as usize) };
    }

    fn flush(&self, _: u64, _: u64) {}

    fn fence(&self) {}
}
