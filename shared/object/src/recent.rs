//! Where objects lie that were opened lately, so that opening one again takes no lock.
//!
//! A word for each of a few IDs says at which slot such an object was mapped. That is a hint: whether it still is, and as what it may be used, says the
//! slot's row of the translation table, as for pointers that lead there.

use core::sync::atomic::{AtomicU64, Ordering};

use twizzler_abi::ObjId;
use twizzler_abi::address::Slot;

use crate::backend::Backend;
use crate::journal::DELETED;
use crate::memory;
use crate::migration::migrated;
use crate::pointer::Area;
use crate::recover::version_word;
use crate::row::{IS_LEAVING, IS_MAPPED, IS_WRITABLE, READ_AS, STATE};
use crate::space::{Access, Space, area_of};

const HINTS: usize = 256;

/// Slots by ID: a number plus one, or 0.
#[derive(Debug)]
pub(crate) struct Recent([AtomicU64; HINTS]);

impl Default for Recent {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; HINTS])
    }
}

impl Recent {
    #[inline(always)]
    const fn word(&self, id: ObjId) -> &AtomicU64 {
        &self.0[(id.lo % HINTS as u64) as usize]
    }

    /// Remembers at which slot an object is mapped.
    pub(crate) fn note(&self, id: ObjId, slot: Slot) {
        // Relaxed, as its partner: the row tells whether this holds.
        self.word(id).store(u64::from(slot.number()) + 1, Ordering::Relaxed);
    }
}

impl<B: Backend> Space<B> {
    /// An object that was opened before as what has this fingerprint, if it still can be. The caller has a guard, so who unmaps it from now on waits
    /// for him.
    #[inline(always)]
    pub(crate) fn opened_before(&self, id: ObjId, access: Access, fingerprint: u64) -> Option<Area<'_>> {
        // Relaxed: as in `note`.
        let number = self.recent.word(id).load(Ordering::Relaxed).checked_sub(1)?;
        let slot = Slot::new(number as u32)?;
        self.backend().interleave();
        let state = self.row(slot, STATE);
        self.backend().interleave();
        let words = [STATE + 1, STATE + 2, STATE + 3, READ_AS + (fingerprint & 3)];
        let [hi, lo, made_as, read_as] = self.row_words(slot, words);
        let wanted = match access {
            Access::Read => IS_MAPPED,
            Access::Write => IS_MAPPED | IS_WRITABLE,
        };
        let area = area_of(slot);
        let as_wanted = state & (wanted | IS_LEAVING) == wanted
            && (hi, lo) == (id.hi, id.lo)
            && migrated(area, made_as) == fingerprint
            && read_as == self.known.stamp(fingerprint);
        self.backend().interleave();
        // Another program may have deleted it since.
        (as_wanted && memory::load(version_word(area)) < DELETED).then_some(area)
    }
}
