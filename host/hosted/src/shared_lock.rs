//! A lock in memory that processes share, and that survives its holder's death.
//!
//! The word is the holder's owner word, which is even, with bit 0 set while someone waits; 0 is free. Who waits looks now and then
//! whether the holder lives. What a lock protects must make sense wherever its holder may have been killed; who takes a dead
//! one's lock is told, and puts right what does not.

use std::sync::atomic::{AtomicU64, Ordering};

use twizzler_slots::futex;

/// Someone waits.
const WAITED_FOR: u64 = 1;
/// How long one wait lasts before the holder's life is looked at.
const LOOK_NS: u64 = 20_000_000;
/// Attempts before the first wait: what is protected takes less than a microsecond, mostly.
const SPINS: u32 = 100;

/// The lock. Zero is free.
#[repr(transparent)]
#[derive(Debug, Default)]
pub(crate) struct SharedLock {
    word: AtomicU64,
}

/// Holds the lock.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    lock: &'a SharedLock,
    /// The dead owner whose lock this was.
    pub(crate) inherited_from: Option<u64>,
}

impl SharedLock {
    /// Takes the lock; `is_alive` tells of an owner whether it may still act.
    pub(crate) fn lock(&self, me: u64, is_alive: impl Fn(u64) -> bool) -> Held<'_> {
        for _ in 0..SPINS {
            if let Some(held) = self.try_lock(me) {
                return held;
            }
            std::hint::spin_loop();
        }
        // From here on, others may wait as well: who lets go wakes them all the same.
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            if seen == 0 {
                if self
                    .word
                    .compare_exchange(0, me | WAITED_FOR, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
                {
                    return Held { lock: self, inherited_from: None };
                }
                continue;
            }
            let waited = seen | WAITED_FOR;
            if seen != waited
                && self.word.compare_exchange(seen, waited, Ordering::Relaxed, Ordering::Relaxed).is_err()
            {
                continue;
            }
            if !futex::wait(&self.word, waited, LOOK_NS) || is_alive(seen & !WAITED_FOR) {
                continue;
            }
            if self
                .word
                .compare_exchange(waited, me | WAITED_FOR, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                return Held { lock: self, inherited_from: Some(seen & !WAITED_FOR) };
            }
        }
    }

    /// Takes the lock if it is free.
    pub(crate) fn try_lock(&self, me: u64) -> Option<Held<'_>> {
        // Acquire: sees what the one before did, whose release partners it.
        let taken = self.word.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_ok();
        taken.then(|| Held { lock: self, inherited_from: None })
    }

    /// The holder; 0: none.
    pub(crate) fn holder(&self) -> u64 {
        self.word.load(Ordering::Relaxed) & !WAITED_FOR
    }

    /// Takes the lock from a holder that is dead, if it still is the holder.
    pub(crate) fn inherit(&self, dead: u64, me: u64) -> Option<Held<'_>> {
        let seen = self.word.load(Ordering::Relaxed);
        let taken = seen & !WAITED_FOR == dead
            && self
                .word
                .compare_exchange(seen, me | seen & WAITED_FOR, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        taken.then(|| Held { lock: self, inherited_from: Some(dead) })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.lock.word.swap(0, Ordering::Release) & WAITED_FOR != 0 {
            futex::wake(&self.lock.word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let lock = SharedLock { word: AtomicU64::new(0) };
        let counter = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for me in [2, 4, 6, 8] {
                let (lock, counter) = (&lock, &counter);
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        let _held = lock.lock(me, |_| true);
                        let seen = counter.load(Ordering::Relaxed);
                        counter.store(seen + 1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(counter.into_inner(), 80_000);
    }

    #[test]
    fn a_dead_holder_is_succeeded_and_named() {
        let lock = SharedLock { word: AtomicU64::new(0) };
        std::mem::forget(lock.try_lock(2));
        assert!(lock.try_lock(4).is_none());
        let held = lock.lock(4, |owner| owner != 2);
        assert_eq!(held.inherited_from, Some(2));
        drop(held);
        assert_eq!(lock.lock(6, |_| true).inherited_from, None);
    }
}
