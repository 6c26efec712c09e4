//! Noticing that the process was forked.
//!
//! A child has its parent's memory but not its place among the owners: it must not commit, lock or unlock. A page that the host
//! wipes in children (`MADV_WIPEONFORK`, madvise(2)) tells, for the price of a load.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{Advice, madvise};
use twizzler_slots::Area;

/// Knows if this is still the process that made it.
#[derive(Debug)]
pub(crate) struct Birth {
    page: Area,
}

impl Birth {
    pub(crate) fn new() -> std::io::Result<Self> {
        let page = Area::new(4096)?;
        let start = std::ptr::with_exposed_provenance_mut(page.address() as usize);
        // SAFETY: our own page, which holds nothing yet.
        unsafe { madvise(start, 4096, Advice::LinuxWipeOnFork) }?;
        let birth = Self { page };
        birth.word().store(1, Ordering::Relaxed);
        Ok(birth)
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: the page is ours as long as `self`, aligned, zeros at first, and reached in this way alone.
        unsafe { &*std::ptr::with_exposed_provenance(self.page.address() as usize) }
    }

    /// True in a child that was forked after this was made.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.word().load(Ordering::Relaxed) == 0
    }
}
