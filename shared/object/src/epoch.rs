//! When nobody can hold a resolved pointer any more: epochs of guards.
//!
//! Who enters counts itself in under the epoch of the moment; who leaves counts itself out. The epoch moves on from `e` when nobody is
//! left who entered in `e - 1`. So what was taken out of the tables in epoch `e` is used by nobody in `e + 2`: whoever saw it
//! entered in `e` or before.
//!
//! Counters are striped, so that threads don't compete for a line; entering and leaving is one addition each.

use core::sync::atomic::{AtomicU64, Ordering, fence};

const STRIPES: usize = 16;

/// Counts of those inside, by the lowest bit of their epoch.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    inside: [AtomicU64; 2],
}

/// Who is inside.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    now: AtomicU64,
    stripes: [Stripe; STRIPES],
}

/// Someone inside, who is to [`Inside::leave`].
#[derive(Debug)]
pub(crate) struct Inside<'e> {
    thread: u64,
    counter: &'e AtomicU64,
}

impl Inside<'_> {
    /// The thread's number, as it said.
    pub(crate) const fn thread(&self) -> u64 {
        self.thread
    }

    /// Counts out.
    #[inline]
    pub(crate) fn leave(&self) {
        // Release pairs with the fence in `has_passed`: what was done inside is over.
        self.counter.fetch_sub(1, Ordering::Release);
    }
}

impl Epochs {
    /// Counts the caller in, a thread of this number ([`crate::Backend::thread`]).
    #[inline]
    pub(crate) fn enter(&self, thread: u64) -> Inside<'_> {
        let stripe = one_of(STRIPES, thread);
        loop {
            let now = self.now.load(Ordering::Relaxed);
            let counter = &self.stripes[stripe].inside[(now & 1) as usize];
            // SeqCst: either `has_passed` sees the count, or we see the epoch that it made.
            counter.fetch_add(1, Ordering::SeqCst);
            if self.now.load(Ordering::SeqCst) == now {
                return Inside { thread, counter };
            }
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The epoch in which something has just been taken out of the tables.
    pub(crate) fn now(&self) -> u64 {
        // The stores to the tables come before; pairs with the SeqCst operations in `enter`.
        fence(Ordering::SeqCst);
        self.now.load(Ordering::SeqCst)
    }

    /// Moves on if nobody holds the epoch back. True if what was taken out in `epoch` is used by nobody any more.
    pub(crate) fn has_passed(&self, epoch: u64) -> bool {
        loop {
            let now = self.now.load(Ordering::SeqCst);
            if now >= epoch + 2 {
                // Acquire: pairs with the release in `leave`.
                fence(Ordering::Acquire);
                return true;
            }
            let before = ((now + 1) & 1) as usize;
            let left = self.stripes.iter().any(|stripe| stripe.inside[before].load(Ordering::SeqCst) != 0);
            if left {
                return false;
            }
            // Whoever else moves on at the same time has looked as well.
            let _ = self.now.compare_exchange(now, now + 1, Ordering::SeqCst, Ordering::SeqCst);
        }
    }
}

/// Which of so many parts a thread of this number takes first. Numbers are given in turn, so few threads take one part.
#[inline]
pub(crate) const fn one_of(parts: usize, thread: u64) -> usize {
    (thread / 2) as usize % parts
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn an_epoch_passes_when_all_who_were_inside_have_left() {
        let epochs = Epochs::default();
        let early = epochs.enter(2);
        let removed = epochs.now();
        assert!(!epochs.has_passed(removed));
        let late = epochs.enter(4);
        assert!(!epochs.has_passed(removed));
        early.leave();
        assert!(epochs.has_passed(removed), "the late one entered in the epoch that follows");
        let again = epochs.now();
        assert!(!epochs.has_passed(again));
        late.leave();
        assert!(epochs.has_passed(again));
    }

    #[test]
    fn sixteen_threads_count_in_apart() {
        let epochs = Epochs::default();
        let inside: Vec<_> = (1..=STRIPES as u64).map(|ordinal| epochs.enter(2 * ordinal)).collect();
        assert!(epochs.stripes.iter().all(|stripe| stripe.inside[0].load(Ordering::Relaxed) == 1));
        inside.iter().for_each(Inside::leave);
    }
}
