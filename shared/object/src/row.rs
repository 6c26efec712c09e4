//! A row of the translation table: words for FOT indexes, and what is known of the object that is mapped there.

use twizzler_abi::address::{LARGE_SLOTS, SLOTS_PER_PML4, SMALL_SLOTS, Slot};
use twizzler_abi::object::FOT_INLINE_ENTRIES;

use crate::backend::{Backend, ROW_WORDS, TRANSLATION_BYTES};
use crate::memory;
use crate::space::Space;

/// Words of a row behind those for FOT indexes: state, ID (2), fingerprint.
pub(crate) const STATE: u64 = FOT_INLINE_ENTRIES as u64;
/// The word that says where the second level is ([`crate::entries`]).
pub(crate) const BEYOND: u64 = READ_AS + 4;
/// The word that says where in the coordination segment changes of the object are counted, so that readers need not work it out.
pub(crate) const CHANGES: u64 = BEYOND + 1;
/// Words of a row that are in use.
const USED: u64 = CHANGES + 1;
const _: () = assert!(USED <= ROW_WORDS);
/// Words behind those: fingerprints of types that the object's type list is known to have, and what says by which types a program has got at it; see
/// [`crate::types`]. Each has its place by its lowest bits.
pub(crate) const HELD: u64 = STATE + 4;
pub(crate) const READ_AS: u64 = HELD + 4;
/// Bits of the state word.
pub(crate) const IS_MAPPED: u64 = 1;
pub(crate) const IS_WRITABLE: u64 = 2;
pub(crate) const IS_PERSISTENT: u64 = 4;
/// Never unmapped.
pub(crate) const IS_PINNED: u64 = 8;
/// Unmapped, but for who was inside then: nothing new is entered into its row.
pub(crate) const IS_LEAVING: u64 = 16;

impl<B: Backend> Space<B> {
    /// Where the row of the object that is mapped at a slot begins.
    #[inline(always)]
    fn row_of(&self, slot: Slot) -> u64 {
        let number = slot.number();
        let row = match number.checked_sub(LARGE_SLOTS.start) {
            Some(beyond) => SMALL_SLOTS.len() as u64 + u64::from(beyond / SLOTS_PER_PML4),
            None => u64::from(number.wrapping_sub(SMALL_SLOTS.start)),
        };
        debug_assert!(
            row * ROW_WORDS * 8 < TRANSLATION_BYTES,
            "objects are mapped at small slots, or in the area of large ones"
        );
        self.translation + row * ROW_WORDS * 8
    }

    /// A word of a row.
    #[inline]
    pub(crate) fn row(&self, slot: Slot, index: u64) -> u64 {
        let [word] = self.row_words(slot, [index]);
        word
    }

    /// Words of a row, loaded one after the other.
    #[inline(always)]
    pub(crate) fn row_words<const N: usize>(&self, slot: Slot, indices: [u64; N]) -> [u64; N] {
        let row = self.row_of(slot);
        // SAFETY: the slot is of a mapped object, which lies at a small slot or a large range as the backend promises, so that its row lies
        // within the table; the indices are those of words of a row.
        indices.map(|index| unsafe { memory::load_row(row, index * 8) })
    }

    /// Sets a word of a row.
    pub(crate) fn set_row(&self, slot: Slot, index: u64, base: u64) {
        // SAFETY: as in `row`.
        unsafe { memory::store_row(self.row_of(slot), index * 8, base) };
    }

    /// Sets the word that tells others whether they may use what is mapped there.
    pub(crate) fn set_state(&self, slot: Slot, state: u64) {
        self.backend().interleave();
        self.set_row(slot, STATE, state);
        self.backend().interleave();
    }

    /// Clears what is in use of a row.
    pub(crate) fn clear_row(&self, slot: Slot) {
        for index in 0..USED {
            self.set_row(slot, index, 0);
        }
    }
}
