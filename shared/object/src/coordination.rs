//! The coordination segment: what all programs of a system share while they run, and nobody needs after a boot.
//!
//! | offset | |
//! |---|---|
//! | 0 | [`FORMAT`], set by the first program |
//! | 64 | who administers lanes: a program's owner word; bit 0: someone waits |
//! | 128 | the last age drawn |
//! | 192 | 1: what earlier boots left in lanes is dealt with |
//! | 4096 | for each lane a line: its owner, the age of its transaction (0: none drawn), its turn, and if it was chosen |
//! | 64 KiB | for each lock stripe a line: writer, readers; who sleeps: readers, writers, holders of others; who was overtaken: readers, writers; changes |
//! | 320 KiB | versions that readers keep ([`crate::keeps`]) |
//!
//! A *writer* word holds the number of a lane plus one; the others of a stripe have a bit for each lane. A lane's *turn* counts how
//! often it was woken ([`crate::lock`]).
//! Anything may stand there: a program that goes wild can make others wait, or wait no longer, but touch no memory.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use twizzler_abi::ObjId;

use crate::backend::{Backend, COORDINATION_BYTES, Waited};
use crate::lane::LANES_MAX;
use crate::space::Space;

/// What the first word says.
const FORMAT: u64 = u64::from_le_bytes(*b"TWZCOOR\x02");
const LINE: u64 = 64;
const LANES: u64 = 4096;
const STRIPES_AT: u64 = 64 * 1024;
/// Locks: objects share one by a hash of their IDs.
pub(crate) const STRIPES: usize = 4096;

const _: () = assert!(LANES + LANES_MAX as u64 * LINE <= STRIPES_AT);
/// Where keeps begin.
pub(crate) const KEEPS_AT: u64 = 320 * 1024;
const _: () = assert!(STRIPES_AT + STRIPES as u64 * LINE <= KEEPS_AT && KEEPS_AT < COORDINATION_BYTES);

/// The words of a stripe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StripeWord {
    /// Who has it exclusively, or is about to: a lane's number plus one.
    Writer,
    /// Who has it shared.
    Readers,
    /// Who sleeps and wants to read.
    AsleepReaders,
    /// Who sleeps and wants to write.
    AsleepWriters,
    /// Who of the two has other locks: it looks again at each change, in case it has to die.
    AsleepHolders,
    /// Who was woken in vain and wants to read: no younger one writes before.
    OvertakenReaders,
    /// The same of those who want to write: no younger one reads or writes before.
    OvertakenWriters,
    /// Counts on when a commit begins to be put in place, and when it is: odd meanwhile.
    Changes,
}

/// The stripe of an object's lock.
pub(crate) const fn stripe_of(id: ObjId) -> usize {
    let mixed = (id.hi ^ id.lo.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 52) as usize % STRIPES
}

/// Where in the segment a word of a stripe is.
pub(crate) const fn stripe_word_at(stripe: usize, word: StripeWord) -> u64 {
    STRIPES_AT + (stripe % STRIPES) as u64 * LINE + word as u64 * 8
}

/// Where in the segment the owner word of a lane is.
const fn lane_owner_at(lane: usize) -> u64 {
    LANES + (lane % LANES_MAX) as u64 * LINE
}

/// Says that what a dead program has logged is about to be put in place by a backend, which gives the segment's words: to all who read objects without the
/// locks that the dead one has. Who releases those says that it is done. What has no lock the dead one made, and nobody has found it yet.
pub fn begin_changes_of_dead(segment: &[AtomicU64], dead: u64, ids: impl Iterator<Item = ObjId>) {
    let word = |offset: u64| &segment[(offset / 8) as usize];
    for stripe in ids.map(stripe_of) {
        let writer = word(stripe_word_at(stripe, StripeWord::Writer)).load(Ordering::SeqCst);
        let owner = |lane: u64| word(lane_owner_at(lane as usize)).load(Ordering::SeqCst);
        if writer.checked_sub(1).is_some_and(|lane| owner(lane) == dead) {
            let changes = word(stripe_word_at(stripe, StripeWord::Changes));
            changes.store(changes.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        }
    }
    // As in `begin_changes`.
    fence(Ordering::Release);
}

impl<B: Backend> Space<B> {
    /// A word of the segment.
    #[inline]
    pub(crate) fn shared_word(&self, offset: u64) -> &AtomicU64 {
        debug_assert!(offset < COORDINATION_BYTES && offset.is_multiple_of(8), "a word of the segment");
        self.backend().interleave();
        let at = core::ptr::with_exposed_provenance::<AtomicU64>((self.coordination + offset) as usize);
        // SAFETY: the segment lies at no null address. Said so that the compiler need not look.
        unsafe { core::hint::assert_unchecked(!at.is_null()) };
        // SAFETY: `Backend::coordination` promises so many bytes, page-aligned, with exposed provenance, for as long as the backend
        // lives; all offsets are of words within them (the assertions above). Others change the words by atomics.
        unsafe { &*at }
    }

    /// False where the segment is of another version of this crate.
    pub(crate) fn knows_segment(&self) -> bool {
        let word = self.shared_word(0);
        matches!(word.compare_exchange(0, FORMAT, Ordering::AcqRel, Ordering::Acquire), Ok(_) | Err(FORMAT))
    }

    /// Who administers lanes.
    pub(crate) fn administration(&self) -> &AtomicU64 {
        self.shared_word(LINE)
    }

    /// A new age, above all others.
    pub(crate) fn draw_age(&self) -> u64 {
        self.shared_word(2 * LINE).fetch_add(1, Ordering::SeqCst) + 1
    }

    /// 1: earlier boots' lanes are dealt with.
    pub(crate) fn recovered(&self) -> &AtomicU64 {
        self.shared_word(3 * LINE)
    }

    /// The owner word of a lane; 0: nobody.
    pub(crate) fn lane_owner(&self, lane: usize) -> &AtomicU64 {
        self.shared_word(lane_owner_at(lane))
    }

    /// The age of a lane's transaction; 0: none drawn, so it is the youngest.
    pub(crate) fn lane_age(&self, lane: usize) -> &AtomicU64 {
        self.shared_word(lane_owner_at(lane) + 8)
    }

    /// Counts how often a lane was woken.
    pub(crate) fn lane_turn(&self, lane: usize) -> &AtomicU64 {
        self.shared_word(lane_owner_at(lane) + 16)
    }

    /// 1: the lane was woken in place of others who sleep for the same lock.
    pub(crate) fn lane_chosen(&self, lane: usize) -> &AtomicU64 {
        self.shared_word(lane_owner_at(lane) + 24)
    }

    /// A word of a stripe.
    #[inline]
    pub(crate) fn stripe_word(&self, stripe: usize, word: StripeWord) -> &AtomicU64 {
        self.shared_word(stripe_word_at(stripe, word))
    }

    /// Says that what these objects' stripes cover is about to be changed in place. Their locks are held.
    pub(crate) fn begin_changes(&self, ids: impl Iterator<Item = ObjId>) {
        for id in ids {
            let changes = self.stripe_word(stripe_of(id), StripeWord::Changes);
            // Two objects may share a stripe, and a program that was killed may have left it odd.
            changes.store(changes.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        }
        // Before all that is stored from here on; pairs with the acquire of who reads without locks.
        fence(Ordering::Release);
    }

    /// Says that all is in place.
    pub(crate) fn end_changes(&self, ids: impl Iterator<Item = ObjId>) {
        ids.for_each(|id| self.end_changes_of(stripe_of(id)));
    }

    /// Says so of one stripe.
    pub(crate) fn end_changes_of(&self, stripe: usize) {
        let changes = self.stripe_word(stripe, StripeWord::Changes);
        let now = changes.load(Ordering::Relaxed);
        if now & 1 == 1 {
            // Release: after all that was stored.
            changes.store(now.wrapping_add(1), Ordering::Release);
        }
    }

    /// Waits while the word is `value`.
    pub(crate) fn wait_while(&self, word: &AtomicU64, value: u64, timeout_ns: u64) -> Waited {
        self.backend().wait(word, value, timeout_ns)
    }

    /// Wakes all who wait on the word.
    pub(crate) fn wake(&self, word: &AtomicU64) {
        self.backend().wake(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_begin_where_the_dead_one_has_the_lock() {
        let words: alloc::vec::Vec<AtomicU64> =
            (0..COORDINATION_BYTES / 8).map(|_| AtomicU64::new(0)).collect();
        let word = |offset: u64| &words[(offset / 8) as usize];
        let stripe_word = |id, word_of| word(stripe_word_at(stripe_of(id), word_of));
        let [its, anothers, made] = [1, 2, 3].map(ObjId::new);
        let (dead, alive) = (14, 16);
        for (id, lane, owner) in [(its, 5, dead), (anothers, 6, alive)] {
            stripe_word(id, StripeWord::Writer).store(lane + 1, Ordering::Relaxed);
            word(lane_owner_at(lane as usize)).store(owner, Ordering::Relaxed);
        }
        // Twice: who finishes it may be killed over that.
        for _ in 0..2 {
            begin_changes_of_dead(&words, dead, [its, anothers, made].into_iter());
            let changes =
                [its, anothers, made].map(|id| stripe_word(id, StripeWord::Changes).load(Ordering::Relaxed));
            assert_eq!(changes, [1, 0, 0]);
        }
    }
}
