//! Budgets: what users may have of the machine.
//!
//! For now one context, and so one [`Budget`]: [`USERS`]. What users make the kernel allocate for them is
//! charged before it is allocated: frames of volatile objects, of tables, and a share of heap for each
//! object. So the frames that are left out of the budget stay with the kernel, and what it needs to
//! delete, unmap and end never fails.

use core::sync::atomic::{AtomicU64, Ordering};

use twizzler_abi::Error;

/// Of all frames, this part is the kernel's own.
const RESERVE_PART: u64 = 32;
/// At least so many, if there are.
const RESERVE_FRAMES_MIN: u64 = 1024;
/// Heap that an object or a thread takes, in frames, rounded up.
pub(crate) const OBJECT_FRAMES: u64 = 1;

/// A number of frames that must not be overdrawn.
pub(crate) struct Budget {
    limit: AtomicU64,
    used: AtomicU64,
}

/// What all users together may have.
pub(crate) static USERS: Budget = Budget { limit: AtomicU64::new(0), used: AtomicU64::new(0) };

impl Budget {
    /// Sets the limit from what is free at the start.
    pub(crate) fn start(&self, free_frames: u64) {
        let reserve = (free_frames / RESERVE_PART).max(RESERVE_FRAMES_MIN).min(free_frames / 2);
        self.limit.store(free_frames - reserve, Ordering::Relaxed);
    }

    /// Takes frames out.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where there are not so many left.
    pub(crate) fn charge(&self, frames: u64) -> Result<(), Error> {
        let limit = self.limit.load(Ordering::Relaxed);
        let within = |used: u64| used.checked_add(frames).filter(|&sum| sum <= limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::OutOfMemory),
        }
    }

    /// Gives frames back.
    pub(crate) fn refund(&self, frames: u64) {
        let before = self.used.fetch_sub(frames, Ordering::Relaxed);
        debug_assert!(before >= frames, "only what was charged is given back");
    }

    /// Frames in use.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Frames that may be used.
    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }
}
