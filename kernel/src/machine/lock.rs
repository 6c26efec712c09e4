//! Spin locks with levels.
//!
//! The kernel spins with interrupts off, so a spinning CPU serves TLB shootdowns itself: otherwise a
//! CPU that holds a lock and waits for a shootdown would wait for one that waits for the lock.
//!
//! Locks are taken in ascending level; debug builds panic otherwise. Levels 0-39 are for objects and
//! threads, 40-63 for machine and memory ([`level`]). No allocation, user copy or device wait under a
//! lock whose level is above the heap's.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use lock_api::{GuardNoSend, RawMutex, RawRwLock};

use super::{cpu, tlb};

/// Levels of the locks below this line.
pub(crate) mod level {
    /// Input ring of the console.
    pub(crate) const CONSOLE: u8 = 44;
    /// Kernel page tables.
    pub(crate) const PAGING: u8 = 48;
    /// Random pool.
    pub(crate) const RANDOM: u8 = 50;
    /// Kernel heap.
    pub(crate) const HEAP: u8 = 54;
    /// DRAM frames.
    pub(crate) const FRAMES: u8 = 56;
    /// Serial ports.
    pub(crate) const SERIAL: u8 = 60;
}

/// Exclusive lock of level `LEVEL`.
pub(crate) type Lock<T, const LEVEL: u8> = lock_api::Mutex<RawLock<LEVEL>, T>;
/// Lock of level `LEVEL` that many may hold for reading.
pub(crate) type SharedLock<T, const LEVEL: u8> = lock_api::RwLock<RawSharedLock<LEVEL>, T>;

/// See [`Lock`].
pub(crate) struct RawLock<const LEVEL: u8> {
    taken: AtomicBool,
    not_send: PhantomData<()>,
}

// SAFETY: at most one holder: `taken` goes from false to true by one compare-exchange, with acquire; it
// goes back with release in `unlock`.
unsafe impl<const LEVEL: u8> RawMutex for RawLock<LEVEL> {
    #[allow(clippy::declare_interior_mutable_const, reason = "lock_api wants it so")]
    const INIT: Self = Self { taken: AtomicBool::new(false), not_send: PhantomData };
    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        while !self.try_lock() {
            while self.taken.load(Ordering::Relaxed) {
                relax();
            }
        }
    }

    fn try_lock(&self) -> bool {
        // Partner: the release store in `unlock`.
        let won = self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if won {
            note_taken(LEVEL);
        }
        won
    }

    unsafe fn unlock(&self) {
        note_released(LEVEL);
        // Partner: the compare-exchange in `try_lock`.
        self.taken.store(false, Ordering::Release);
    }
}

/// See [`SharedLock`]. A writer that waits keeps new readers out: otherwise CPUs that read again and again would
/// keep it out for good.
pub(crate) struct RawSharedLock<const LEVEL: u8> {
    /// Number of readers, perhaps with [`WAITING`]; or [`WRITER`].
    state: AtomicU32,
}

const WRITER: u32 = u32::MAX;
/// A writer waits. Set in `WRITER` too.
const WAITING: u32 = 1 << 31;

// SAFETY: `state` is `WRITER` while one writer holds the lock, and only a state without readers becomes `WRITER`;
// readers add themselves only where there is no writer. Taking acquires, releasing releases.
unsafe impl<const LEVEL: u8> RawRwLock for RawSharedLock<LEVEL> {
    #[allow(clippy::declare_interior_mutable_const, reason = "lock_api wants it so")]
    const INIT: Self = Self { state: AtomicU32::new(0) };
    type GuardMarker = GuardNoSend;

    fn lock_shared(&self) {
        while !self.try_lock_shared() {
            relax();
        }
    }

    fn try_lock_shared(&self) -> bool {
        let readers = self.state.load(Ordering::Relaxed);
        // Partner: the release operations of both unlocks.
        let won = readers < WAITING - 1
            && self
                .state
                .compare_exchange(readers, readers + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        if won {
            note_taken(LEVEL);
        }
        won
    }

    unsafe fn unlock_shared(&self) {
        note_released(LEVEL);
        self.state.fetch_sub(1, Ordering::Release);
    }

    fn lock_exclusive(&self) {
        while !self.try_lock_exclusive() {
            // Stays until a writer has had the lock; others that wait set it again.
            self.state.fetch_or(WAITING, Ordering::Relaxed);
            relax();
        }
    }

    fn try_lock_exclusive(&self) -> bool {
        // Partner: the release operations of both unlocks.
        let none = self.state.load(Ordering::Relaxed) & WAITING;
        let won = self.state.compare_exchange(none, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if won {
            note_taken(LEVEL);
        }
        won
    }

    unsafe fn unlock_exclusive(&self) {
        note_released(LEVEL);
        self.state.store(0, Ordering::Release);
    }
}

/// One turn of a loop that waits for another CPU: every such loop in the kernel calls this.
pub(crate) fn relax() {
    tlb::serve();
    core::hint::spin_loop();
}

/// Level of which a CPU may hold two: the store's own locks, which it takes in an order of its own.
const NESTING: u8 = crate::level::STORE;

fn note_taken(level: u8) {
    if cfg!(debug_assertions) && cpu::installed() {
        let levels = &cpu::current().lock_levels;
        let held = levels.get();
        assert!(
            held >> level == 0 || level == NESTING && held >> (level + 1) == 0,
            "lock of level {level} taken while holding levels {held:#x}"
        );
        levels.set(held | 1 << level);
    }
}

fn note_released(level: u8) {
    if cfg!(debug_assertions) && cpu::installed() {
        let levels = &cpu::current().lock_levels;
        levels.set(levels.get() & !(1 << level));
    }
}
