//! What a transaction gathers until it commits. It stays with the lane, so that the next one finds its memory.

use alloc::vec::Vec;
use core::cell::Cell;

use twizzler_abi::address::Slot;
use twizzler_abi::call::CreateSpec;
use twizzler_abi::{Error, ObjId};

use super::fresh::Fresh;
use super::overlay::{Overlay, Rank};
use crate::entries::Entered;
use crate::heap::{Freed, Reuse};
use crate::journal::Changed;
use crate::pointer::Area;

/// Where an object lies that is locked. Of none, no address.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastLocked {
    start: u64,
    bytes: u64,
    /// Nobody else reads it.
    is_exclusive: bool,
}

impl LastLocked {
    pub(super) const fn new(area: Area<'_>, is_exclusive: bool) -> Self {
        Self { start: area.start(), bytes: area.range_bytes(), is_exclusive }
    }

    /// True for an address in the object.
    #[inline(always)]
    pub(super) const fn covers(&self, address: u64) -> bool {
        address.wrapping_sub(self.start) < self.bytes
    }

    /// The same, if nobody else reads the object.
    #[inline(always)]
    pub(super) const fn covers_exclusively(&self, address: u64) -> bool {
        self.is_exclusive && self.covers(address)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(super) overlay: Overlay,
    pub(super) fresh: Fresh,
    pub(super) created: Vec<ObjId>,
    /// What they were made of; for logs.
    pub(super) specs: Vec<CreateSpec>,
    pub(super) deletes: Vec<ObjId>,
    /// There are intents of it in its lane.
    pub(super) intends: bool,
    pub(super) frees: Vec<Freed>,
    /// FOT entries that it staged: (object, index, how it came by it).
    pub(super) entries: Vec<(Slot, u64, Entered)>,
    /// FOT entries that it freed.
    pub(super) freed_entries: Vec<(Slot, u64)>,
    /// Objects that the record names: where they lie, and how they change.
    pub(super) changed: Vec<(u64, Changed)>,
    /// Versions of maps that it makes: where the map's number lies, and the version ([`super::Tx::stamp`]).
    pub(super) stamps: Vec<(u64, u64)>,
    /// The record.
    pub(super) words: Vec<u64>,
    /// Lines that are to be stored after all others: where they lie.
    pub(super) published: Vec<(Rank, u64)>,
    /// It migrates an object, whose type list it may change.
    pub(super) replaces_types: bool,
    /// Something was written in place that is not in `fresh`: where stores are kept.
    pub(super) is_in_place: bool,
    /// Bytes of allocations that are staged.
    pub(super) staged_bytes: u64,
    /// The object that was last seen to be locked.
    pub(super) last: Cell<LastLocked>,
    /// Where the last record ends that it may have seen before that was durable; 0: none ([`super::pending`]).
    pub(super) seen: Cell<u64>,
    /// What may be given out of the memory of the object that it last allocated in.
    pub(super) reuse: Cell<Reuse>,
    /// Someone older was in the way: to be run again.
    pub(super) conflict: Cell<bool>,
    /// Why it can't commit any more.
    pub(super) failed: Cell<Option<Error>>,
    /// Why it can't commit unless it undoes a savepoint: a change stopped half-way.
    pub(super) torn: Option<Error>,
}

impl Work {
    /// Forgets everything but memory.
    pub(super) fn clear(&mut self, stages_objects: bool) {
        self.overlay.clear();
        self.fresh.clear(stages_objects);
        self.created.clear();
        self.specs.clear();
        self.deletes.clear();
        self.intends = false;
        self.frees.clear();
        self.entries.clear();
        self.freed_entries.clear();
        self.changed.clear();
        self.stamps.clear();
        self.published.clear();
        self.staged_bytes = 0;
        self.is_in_place = false;
        self.replaces_types = false;
        self.last.set(LastLocked::default());
        self.seen.set(0);
        self.reuse.set(Reuse::default());
        self.conflict.set(false);
        self.failed.set(None);
        self.torn = None;
    }
}
