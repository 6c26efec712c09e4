//! Versions that readers keep.
//!
//! A reader of a map that wants to stay in one version for long says so in the coordination segment: which map, and which version. Who
//! changes the map looks there before it frees what older versions consist of. Neither waits for the other; and what a dead program
//! keeps, nobody keeps.
//!
//! | offset | |
//! |---|---|
//! | 320 KiB | how many keeps were ever in use |
//! | 64 bytes further | for each keep: its program's owner word (0: free), the map, the version, nothing |
//!
//! **Why none is missed.** A reader stores the version that is in place, and looks again: it still is. A change frees nothing that the
//! version consists of that was in place before it looked for keeps, nor any later one. So a change that looked before the reader's word was
//! stored leaves the reader's version alone, since that was in place later; and every other one sees the word.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use twizzler_abi::Error;

use crate::backend::{Backend, COORDINATION_BYTES};
use crate::coordination::KEEPS_AT;
use crate::memory;
use crate::pointer::Ptr;
use crate::space::Space;

/// Versions that can be kept at the same time, in all programs.
pub const KEEPS_MAX: usize = 1024;
const KEEP_BYTES: u64 = 32;
/// Keeps that a group of threads looks at first.
const NEAR: usize = 4;
const FIRST: u64 = KEEPS_AT + 64;

const _: () = assert!(FIRST + KEEPS_MAX as u64 * KEEP_BYTES <= COORDINATION_BYTES);

/// A version that is kept, until dropped.
#[derive(Debug)]
#[must_use]
pub struct Keep<'s> {
    owner: &'s AtomicU64,
}

impl Drop for Keep<'_> {
    fn drop(&mut self) {
        // Release: what was read of the version was read before.
        self.owner.store(0, Ordering::Release);
    }
}

impl<B: Backend> Space<B> {
    fn keep_word(&self, number: usize, word: u64) -> &AtomicU64 {
        self.shared_word(FIRST + (number % KEEPS_MAX) as u64 * KEEP_BYTES + word * 8)
    }

    /// Tells maps apart, by where the numbers of their versions are. That two look the same by chance does no harm.
    fn kept_as(&self, version: Ptr<'_, u64>) -> u64 {
        let id = self.id_of(version.object());
        crate::journal::checksum(version.offset(), &[id.hi, id.lo])
    }

    /// Keeps the version of a map whose number is at `version`, or a later one.
    pub(crate) fn keep(&self, version: Ptr<'_, u64>, hint: usize) -> Result<Keep<'_>, Error> {
        let near = hint * NEAR;
        let mut numbers = (near..near + NEAR).chain(0..KEEPS_MAX);
        let take = |&number: &usize| {
            let owner = self.keep_word(number, 0);
            owner.load(Ordering::Relaxed) == 0
                // Acquire pairs with the release in `drop`.
                && owner.compare_exchange(0, self.owner, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        let number = numbers.find(take).ok_or(Error::TooMany)? % KEEPS_MAX;
        let keep = Keep { owner: self.keep_word(number, 0) };
        self.shared_word(KEEPS_AT).fetch_max(number as u64 + 1, Ordering::SeqCst);
        self.keep_word(number, 1).store(self.kept_as(version), Ordering::SeqCst);
        loop {
            let newest = memory::load(version);
            self.keep_word(number, 2).store(newest, Ordering::SeqCst);
            // SeqCst here and in `oldest_kept`: the stores come before the look at the version.
            fence(Ordering::SeqCst);
            if memory::load(version) == newest {
                return Ok(keep);
            }
        }
    }

    /// The oldest version of a map that a reader keeps; none: the highest number. What dead programs keep is let go.
    pub(crate) fn oldest_kept(&self, version: Ptr<'_, u64>) -> u64 {
        fence(Ordering::SeqCst);
        let wanted = self.kept_as(version);
        let used = (self.shared_word(KEEPS_AT).load(Ordering::SeqCst) as usize).min(KEEPS_MAX);
        let mut oldest = u64::MAX;
        for number in 0..used {
            let owner = self.keep_word(number, 0);
            let holder = owner.load(Ordering::SeqCst);
            if holder == 0 || self.keep_word(number, 1).load(Ordering::SeqCst) != wanted {
                continue;
            }
            if holder == self.owner || self.backend().is_alive(holder) {
                oldest = oldest.min(self.keep_word(number, 2).load(Ordering::SeqCst));
            } else {
                // Whoever else finds it dead has done the same.
                let _ = owner.compare_exchange(holder, 0, Ordering::SeqCst, Ordering::SeqCst);
            }
        }
        oldest
    }
}
