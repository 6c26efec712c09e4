//! Budgets: what users may have of the machine.
//!
//! For now one context, and so one [`Budget`]: [`USERS`]. What users make the kernel allocate for them is
//! charged before it is allocated: frames of volatile objects and of tables, and a generous share of heap
//! for each object, thread and mapping. So the frames that are left out of the budget stay with the kernel, and what it needs to
//! delete, unmap and end never fails.

use core::sync::atomic::{AtomicU64, Ordering};

use twizzler_abi::Error;
use twizzler_abi::address::PAGE_BYTES;

/// Of all frames, this part is the kernel's own.
const RESERVE_PART: u64 = 32;
/// At least so many, if there are.
const RESERVE_FRAMES_MIN: u64 = 1024;
/// Heap that an object takes at most.
pub(crate) const OBJECT_BYTES: u64 = 1024;
/// Heap that a thread takes at most, with vector state (4 KiB) and waits on as many words as a call may name.
pub(crate) const THREAD_BYTES: u64 = 16384;
/// Heap that a view takes at most, without its mappings.
pub(crate) const VIEW_BYTES: u64 = 4096;
/// Heap that a mapping takes at most, in the view and in the object, with what growing tables waste.
pub(crate) const MAPPING_BYTES: u64 = 256;

/// An amount of memory that must not be overdrawn.
pub(crate) struct Budget {
    limit_bytes: AtomicU64,
    used_bytes: AtomicU64,
}

/// What all users together may have.
pub(crate) static USERS: Budget = Budget { limit_bytes: AtomicU64::new(0), used_bytes: AtomicU64::new(0) };

impl Budget {
    /// Sets the limit from what is free at the start.
    pub(crate) fn start(&self, free_frames: u64) {
        let reserve = (free_frames / RESERVE_PART).max(RESERVE_FRAMES_MIN).min(free_frames / 2);
        self.limit_bytes.store((free_frames - reserve) * PAGE_BYTES, Ordering::Relaxed);
    }

    /// Takes memory out for as long as the charge lives.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where there is not so much left.
    pub(crate) fn hold(&'static self, bytes: u64) -> Result<Charge, Error> {
        self.charge(bytes)?;
        Ok(Charge { budget: self, bytes })
    }

    /// Takes memory out.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where there is not so much left.
    pub(crate) fn charge(&self, bytes: u64) -> Result<(), Error> {
        let limit = self.limit_bytes.load(Ordering::Relaxed);
        let within = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= limit);
        match self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::OutOfMemory),
        }
    }

    /// Gives memory back.
    pub(crate) fn refund(&self, bytes: u64) {
        let before = self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "only what was charged is given back");
    }
}

/// Memory that is charged until this is dropped.
pub(crate) struct Charge {
    budget: &'static Budget,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.refund(self.bytes);
    }
}
