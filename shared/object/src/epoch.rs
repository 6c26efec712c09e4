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
    stripe: usize,
    counter: &'e AtomicU64,
}

impl Inside<'_> {
    /// Tells threads apart, roughly.
    pub(crate) const fn stripe(&self) -> usize {
        self.stripe
    }

    /// Counts out.
    #[inline]
    pub(crate) fn leave(&self) {
        // Release pairs with the fence in `has_passed`: what was done inside is over.
        self.counter.fetch_sub(1, Ordering::Release);
    }
}

impl Epochs {
    /// Counts the caller in.
    #[inline]
    pub(crate) fn enter(&self) -> Inside<'_> {
        let stripe = stripe_of_thread();
        loop {
            let now = self.now.load(Ordering::Relaxed);
            let counter = &self.stripes[stripe].inside[(now & 1) as usize];
            // SeqCst: either `has_passed` sees the count, or we see the epoch that it made.
            counter.fetch_add(1, Ordering::SeqCst);
            if self.now.load(Ordering::SeqCst) == now {
                return Inside { stripe, counter };
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

/// Threads have stacks of their own, so an address on the stack tells them apart well enough.
fn stripe_of_thread() -> usize {
    let here = 0u8;
    let page = core::ptr::from_ref(&here).addr() >> 16;
    (page.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) % STRIPES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_passes_when_all_who_were_inside_have_left() {
        let epochs = Epochs::default();
        let early = epochs.enter();
        let removed = epochs.now();
        assert!(!epochs.has_passed(removed));
        let late = epochs.enter();
        assert!(!epochs.has_passed(removed));
        early.leave();
        assert!(epochs.has_passed(removed), "the late one entered in the epoch that follows");
        let again = epochs.now();
        assert!(!epochs.has_passed(again));
        late.leave();
        assert!(epochs.has_passed(again));
    }
}
