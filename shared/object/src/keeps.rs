//! Versions that readers keep.
//!
//! A reader that wants what it reads to stay for long says so in the coordination segment: of what, and which version. Who
//! changes that looks there before it gives out anew what older versions consist of. Neither waits for the other; and what a dead program
//! keeps, nobody keeps. What is kept has a word with the number of its version: an ordered map has one of its own, whose versions stay whole
//! ([`crate::collections::ordered`]); and each object has one, for the memory of its heap ([`Guard::keep`]).
//!
//! | offset | |
//! |---|---|
//! | 320 KiB | how many keeps were ever in use |
//! | 64 bytes further | for each keep: its program's owner word (0: free), what is kept, the version, nothing |
//!
//! **Why none is missed.** A reader stores the version that is in place, and looks again: it still is. A change frees nothing that the
//! version consists of that was in place before it looked for keeps, nor any later one. So a change that looked before the reader's word was
//! stored leaves the reader's version alone, since that was in place later; and every other one sees the word.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use twizzler_abi::Error;

use crate::backend::{Backend, COORDINATION_BYTES};
use crate::coordination::KEEPS_AT;
use crate::epoch::one_of;
use crate::guard::Guard;
use crate::memory;
use crate::pointer::{Area, Ptr};
use crate::recover::version_word;
use crate::space::Space;

/// Versions that can be kept at the same time, in all programs.
pub const KEEPS_MAX: usize = 1024;
const KEEP_BYTES: u64 = 32;
/// Keeps that a group of threads looks at first, and how many groups there are.
const NEAR: usize = 4;
const GROUPS: usize = 16;
const FIRST: u64 = KEEPS_AT + 64;

const _: () = assert!(FIRST + KEEPS_MAX as u64 * KEEP_BYTES <= COORDINATION_BYTES);

/// A version that is kept, until dropped: of an object by [`Guard::keep`].
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

impl<B: Backend> Guard<'_, B> {
    /// From here on, until the keep is dropped, what lies in the object keeps its memory even where a transaction frees it: who reads through this
    /// guard, without a lock, may see values from before and after a change, but never what has been put in the place of something else. Collections'
    /// iterations do this by themselves, where they need it.
    ///
    /// Nobody waits for a keep. What others free meanwhile is free, but not given out; so one that is kept for long beside many changes costs memory in
    /// the object. A program that is killed keeps nothing.
    ///
    /// # Errors
    /// [`Error::TooMany`] where [`KEEPS_MAX`] are kept, in all programs.
    pub fn keep<'g>(&'g self, area: Area<'g>) -> Result<Keep<'g>, Error> {
        self.space().keep(version_word(area), self.thread())
    }
}

impl<B: Backend> Space<B> {
    fn keep_word(&self, number: usize, word: u64) -> &AtomicU64 {
        self.shared_word(FIRST + (number % KEEPS_MAX) as u64 * KEEP_BYTES + word * 8)
    }

    /// Tells what is kept apart, by where the numbers of its versions are. That two look the same by chance does no harm.
    fn kept_as(&self, version: Ptr<'_, u64>) -> u64 {
        let id = self.id_of(version.object());
        crate::journal::checksum(version.offset(), &[id.hi, id.lo])
    }

    /// Keeps the version of that whose number is at `version`, or a later one.
    pub(crate) fn keep(&self, version: Ptr<'_, u64>, thread: u64) -> Result<Keep<'_>, Error> {
        let near = one_of(GROUPS, thread) * NEAR;
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

    /// The oldest version that a reader keeps of that whose number is at `version`; none: the highest number. What dead programs keep is let go.
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
