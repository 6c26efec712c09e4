//! Exclusive locks on objects.
//!
//! The lock is a word of the object's header that holds the owner's word ([`Backend::owner`]); bit 0 says that someone waits.
//! It is volatile in meaning though it lies in the object: the word of a program that no longer lives, for
//! instance because the power was cut, counts as free. Before a dead owner's lock is taken, the dead one's transaction is finished
//! from its lane, so that whoever holds the lock sees the object whole.

use core::mem::offset_of;

use twizzler_abi::Error;
use twizzler_abi::object::Header;

use crate::backend::Backend;
use crate::guard::Guard;
use crate::memory;
use crate::pointer::{Area, Ptr};
use crate::space::{Space, header_place};

/// Someone waits for the lock.
const WAITED_FOR: u64 = 1;
/// How long one wait lasts before the owner's life is looked at again.
const LOOK_NS: u64 = 50_000_000;
/// How often, before the wait is given up: 10 seconds in all.
const LOOKS: u32 = 200;

/// An exclusive lock, until dropped.
#[must_use]
pub struct Locked<'s, B: Backend> {
    space: &'s Space<B>,
    area: Area<'s>,
}

impl<B: Backend> Drop for Locked<'_, B> {
    fn drop(&mut self) {
        self.space.release(self.area);
    }
}

impl<B: Backend> Guard<'_, B> {
    /// Locks an object against all other programs. Who holds several locks takes them in an agreed order, the root object's
    /// first; a program may take one that it holds already.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] for an object that can't be written; [`Error::Busy`] where the owner lives and does not let
    /// go for 10 seconds; what recovery of a dead owner's transaction says.
    pub fn lock<'g>(&'g self, area: Area<'g>) -> Result<Locked<'g, B>, Error> {
        self.space().acquire(area)?;
        Ok(Locked { space: self.space(), area })
    }
}

impl<B: Backend> Space<B> {
    pub(crate) fn acquire(&self, area: Area<'_>) -> Result<(), Error> {
        if let Some(count) = self.held.lock(self.backend()).get_mut(&area.start()) {
            *count += 1;
            return Ok(());
        }
        if !self.mapped(area)?.writable {
            return Err(Error::AccessDenied);
        }
        self.take(lock_word(area), || self.recover())?;
        self.held.lock(self.backend()).insert(area.start(), 1);
        Ok(())
    }

    pub(crate) fn release(&self, area: Area<'_>) {
        let mut held = self.held.lock(self.backend());
        let Some(count) = held.get_mut(&area.start()) else { return };
        *count -= 1;
        if *count == 0 {
            held.remove(&area.start());
            self.leave(lock_word(area));
        }
    }

    /// Takes a lock word; `bury` deals with what a dead owner left.
    pub(crate) fn take(&self, word: Ptr<'_, u64>, bury: impl Fn() -> Result<(), Error>) -> Result<(), Error> {
        for _ in 0..LOOKS {
            let Err(seen) = memory::compare_exchange(self.backend(), word, 0, self.owner) else {
                return Ok(());
            };
            let owner = seen & !WAITED_FOR;
            if owner == self.owner || !self.backend().is_alive(owner) {
                bury()?;
                if memory::compare_exchange(self.backend(), word, seen, self.owner | seen & WAITED_FOR)
                    .is_ok()
                {
                    return Ok(());
                }
            } else if seen & WAITED_FOR != 0
                || memory::compare_exchange(self.backend(), word, seen, seen | WAITED_FOR).is_ok()
            {
                self.backend().wait(word.address(), owner | WAITED_FOR, LOOK_NS);
            }
        }
        Err(Error::Busy)
    }

    /// Lets go of a lock word.
    pub(crate) fn leave(&self, word: Ptr<'_, u64>) {
        if memory::store_release(self.backend(), word, 0) & WAITED_FOR != 0 {
            self.backend().wake(word.address());
        }
    }
}

pub(crate) fn lock_word(area: Area<'_>) -> Ptr<'_, u64> {
    header_place(area, offset_of!(Header, lock))
}
