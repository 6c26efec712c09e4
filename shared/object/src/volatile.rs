//! A lock for what threads of one program share: volatile state, in the program's own memory.
//!
//! It waits through [`Backend::wait`], so that it neither spins for ever on bare metal nor needs a thread library. Held for
//! moments, never across a user's code.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, Ordering};

use crate::backend::Backend;

const FREE: u64 = 0;
const HELD: u64 = 1;
/// Held, and someone waits.
const CONTENDED: u64 = 2;
/// How often to look before waiting.
const SPINS: u32 = 64;
const WAIT_NS: u64 = 50_000_000;

/// A value that one thread at a time has.
#[derive(Debug, Default)]
pub(crate) struct Lock<T> {
    word: AtomicU64,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through `Held` alone, of which there is one at a time.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// Waits until nobody else has it.
    pub(crate) fn lock<'a, B: Backend>(&'a self, backend: &'a B) -> Held<'a, T, B> {
        backend.interleave();
        // Acquire pairs with the release in `Held::drop`.
        if self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.wait(backend);
        }
        Held { lock: self, backend }
    }

    #[cold]
    fn wait(&self, backend: &impl Backend) {
        for _ in 0..SPINS {
            core::hint::spin_loop();
            backend.interleave();
            // Acquire: as in `lock`.
            if self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return;
            }
        }
        // Acquire: as in `lock`.
        while self.word.swap(CONTENDED, Ordering::Acquire) != FREE {
            backend.wait(&self.word, CONTENDED, WAIT_NS);
        }
    }
}

/// The value, until dropped.
pub(crate) struct Held<'a, T, B: Backend> {
    lock: &'a Lock<T>,
    backend: &'a B,
}

impl<T, B: Backend> Deref for Held<'_, T, B> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: there is one `Held` at a time, and it is borrowed.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T, B: Backend> DerefMut for Held<'_, T, B> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: there is one `Held` at a time, and it is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T, B: Backend> Drop for Held<'_, T, B> {
    fn drop(&mut self) {
        // Release pairs with the acquire of the next holder.
        if self.lock.word.swap(FREE, Ordering::Release) == CONTENDED {
            self.backend.wake(&self.lock.word);
        }
    }
}
