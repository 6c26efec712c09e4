//! Reuse after readers have passed.
//!
//! Whoever reads without a lock, and wants what it reads to keep its content even where a transaction frees it, *keeps* the object: by a word in the
//! coordination segment that says which version of the object was in place ([`crate::keeps`]). What a commit frees is free at once, durably; each slab, and
//! the root for runs, knows the version that last freed something there. That is not given out while somebody keeps a version before: other
//! slabs are, or new ones, and pages that were never used. So a free costs no line more, there is no list that a crash could lose, and nothing is left of it after a
//! boot: the segment is empty then.
//!
//! A keep may come after the look at keeps, as long as the look comes after what freed the memory is in place: a pointer to it can no longer be found
//! then. So the version in place is a limit too. With a log, commits may wait for the disk while the next transaction goes on.

use twizzler_abi::Error;

use crate::backend::Backend;
use crate::journal::version_after;
use crate::memory;
use crate::pointer::Area;
use crate::recover::version_word;
use crate::tx::Tx;

/// What of an object's free memory may be given out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reuse {
    /// Where the object lies; 0: none.
    start: u64,
    /// What was freed up to this version may be.
    passed: u64,
    /// The object's version. What claims to have been freed later was written by somebody else, and means nothing.
    newest: u64,
    /// Somebody keeps a version.
    watched: bool,
}

impl Reuse {
    /// True if memory that was last freed by that version may be given out.
    pub(super) const fn allows(&self, freed: u64) -> bool {
        freed <= self.passed || freed > self.newest
    }

    /// True if somebody reads the object, and may still look at what is freed now.
    pub(super) const fn is_watched(&self) -> bool {
        self.watched
    }
}

impl<B: Backend> Tx<'_, B> {
    /// What of the free memory of an object, which is locked, may be given out.
    pub(super) fn reuse(&self, area: Area<'_>) -> Result<Reuse, Error> {
        let known = self.known_reuse().get();
        if known.start == area.start() { Ok(known) } else { self.look_for_keeps(area) }
    }

    fn look_for_keeps(&self, area: Area<'_>) -> Result<Reuse, Error> {
        let (start, place) = (area.start(), version_word(area));
        let newest = self.version_of(start, self.space().mapped(area)?.id);
        // In this order: what is in place was before the look.
        let in_place = memory::load(place);
        let kept = self.space().oldest_kept(place);
        let reuse = Reuse { start, passed: in_place.min(kept), newest, watched: kept < u64::MAX };
        // Locked until the transaction ends, so a later look would allow no less.
        self.known_reuse().set(reuse);
        Ok(reuse)
    }

    /// True if somebody may still read what was freed by that version. Where only the disk is in the way, waits for it.
    pub(super) fn is_kept(&self, area: Area<'_>, freed: u64) -> Result<bool, Error> {
        if self.reuse(area)?.allows(freed) {
            return Ok(false);
        }
        self.in_place()?;
        Ok(!self.look_for_keeps(area)?.allows(freed))
    }

    /// The version that the transaction makes of an object that is locked.
    pub(super) fn next_version(&self, area: Area<'_>) -> Result<u64, Error> {
        version_after(self.reuse(area)?.newest)
    }
}
