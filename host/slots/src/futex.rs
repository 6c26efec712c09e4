//! Waiting on words in shared memory (futex(2)). The lower half of the word is what the host compares.

use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::io::Errno;
use rustix::thread::{Timespec, futex};

/// Waits while the word's lower half is that of `value`, at most `timeout_ns`. True if the time has passed.
pub fn wait(word: &AtomicU64, value: u64, timeout_ns: u64) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout_ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: (timeout_ns % 1_000_000_000) as i64,
    };
    futex::wait(low_half(word), futex::Flags::empty(), value as u32, Some(&timeout)) == Err(Errno::TIMEDOUT)
}

/// Wakes all who wait on the word.
pub fn wake(word: &AtomicU64) {
    wake_some(word, i32::MAX as u32);
}

/// Wakes so many of those who wait on the word, those first who came first.
pub fn wake_some(word: &AtomicU64, number: u32) {
    // Fails only for addresses that are none.
    let _ = futex::wake(low_half(word), futex::Flags::empty(), number);
}

fn low_half(word: &AtomicU64) -> &AtomicU32 {
    // SAFETY: the first half of a live, aligned word, and an atomic too; only its address is used.
    unsafe { &*std::ptr::from_ref(word).cast() }
}
