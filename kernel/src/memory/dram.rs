//! DRAM as a `Persist` region that forgets: offsets are physical addresses, flushes and fences do nothing.

use twizzler_pmem::mapped::{Mapped, Region};

use super::{direct, frames};

/// All DRAM, by physical address. Whoever uses an offset owns the frame there: [`frames::allocate`] gave it.
pub(crate) type Dram = Mapped<AllDram>;

/// The one value.
pub(crate) const DRAM: Dram = Mapped::new(AllDram);

/// The direct map up to the end of DRAM.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct AllDram;

// SAFETY: DRAM is mapped there for good. Frames that are used through this belong to their user, who accesses them
// through `Mapped` or as hardware does.
unsafe impl Region for AllDram {
    fn start(&self) -> *mut u8 {
        direct::pointer(0)
    }

    fn len_bytes(&self) -> u64 {
        frames::end_address()
    }
}
