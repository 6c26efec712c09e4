//! Locks and waiting, over words that threads wait on in the kernel.

use core::sync::atomic::{AtomicU64, Ordering};

use lock_api::{GuardSend, RawMutex};
use twizzler_abi::Error;
use twizzler_abi::call::{SyncKind, SyncOp};

use crate::call;

/// No end of waiting.
pub const FOR_EVER: u64 = u64::MAX;

/// A lock for data that threads of this program share. Not fair. Holding it while panicking ends the program.
pub type Mutex<T> = lock_api::Mutex<RawLock, T>;
/// What [`Mutex::lock`] returns.
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawLock, T>;

/// A part that waits while the word at `address` is `value`.
#[must_use]
pub const fn wait(address: u64, value: u64) -> SyncOp {
    SyncOp { kind: SyncKind::Wait as u64, address, value, result: 0 }
}

/// A part that wakes at most `threads` that wait on the word at `address`.
#[must_use]
pub const fn wake(address: u64, threads: u64) -> SyncOp {
    SyncOp { kind: SyncKind::Wake as u64, address, value: threads, result: 0 }
}

fn address(word: &AtomicU64) -> u64 {
    core::ptr::from_ref(word) as u64
}

/// Waits while `word` is `value`. May return early: ask again.
///
/// # Errors
/// [`Error::TimedOut`], or the kernel's reason.
pub fn wait_while(word: &AtomicU64, value: u64, timeout_ns: u64) -> Result<(), Error> {
    call::thread_sync(&mut [wait(address(word), value)], timeout_ns).map(drop)
}

/// Wakes at most `threads` that wait on `word`; returns how many.
pub fn wake_some(word: &AtomicU64, threads: u64) -> u64 {
    let mut ops = [wake(address(word), threads)];
    // A wake of a word that is mapped can't fail.
    let _ = call::thread_sync(&mut ops, 0);
    ops[0].result
}

/// Sleeps.
pub fn sleep_ns(ns: u64) {
    static NEVER: AtomicU64 = AtomicU64::new(0);
    let end = crate::system::now_ns().saturating_add(ns);
    while let Some(left) = end.checked_sub(crate::system::now_ns()).filter(|&left| left > 0) {
        let _ = wait_while(&NEVER, 0, left);
    }
}

const FREE: u64 = 0;
const HELD: u64 = 1;
const CONTENDED: u64 = 2;

/// The lock under [`Mutex`]: a word that is free, held, or held with others waiting (Drepper, "Futexes Are
/// Tricky", mutex2).
#[derive(Debug)]
pub struct RawLock(AtomicU64);

// SAFETY: `lock` and a successful `try_lock` change the word from free by an atomic exchange, which one thread
// alone can do until `unlock`.
unsafe impl RawMutex for RawLock {
    #[allow(clippy::declare_interior_mutable_const, reason = "the way in which lock_api makes locks")]
    const INIT: Self = Self(AtomicU64::new(FREE));
    type GuardMarker = GuardSend;

    fn lock(&self) {
        if self.try_lock() {
            return;
        }
        // Acquire pairs with the release in `unlock`.
        while self.0.swap(CONTENDED, Ordering::Acquire) != FREE {
            let _ = wait_while(&self.0, CONTENDED, FOR_EVER);
        }
    }

    fn try_lock(&self) -> bool {
        // Acquire pairs with the release in `unlock`.
        self.0.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    unsafe fn unlock(&self) {
        // Release pairs with the acquire of the next holder.
        if self.0.swap(FREE, Ordering::Release) == CONTENDED {
            wake_some(&self.0, 1);
        }
    }
}
