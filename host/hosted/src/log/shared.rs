//! What processes share of the log: where it ends, what is under way, which objects are dirty, and the newest bytes themselves.

use std::sync::atomic::{AtomicU64, Ordering};

use twizzler_abi::ObjId;

use crate::log::turns::Turns;
use crate::shared_lock::SharedLock;

/// Bytes of the ring that frames wait in before they are written.
pub(crate) const RING_BYTES: u64 = 4 << 20;
/// Records that can be under way at the same time.
const FLIGHTS_MAX: usize = 512;
/// Objects that can be dirty before all of the file system is synced instead.
const DIRTY_MAX: usize = 4096;
/// Slots that are looked at for one object.
const PROBES: usize = 16;

/// In the coordination segment. Zeros mean: not open.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct LogShared {
    /// Level 3. Protects `tail` and the ring beyond it, `epoch`, the dirty slots' marks.
    pub(crate) append: SharedLock,
    /// Level 2. Who writes.
    pub(crate) turns: Turns,
    /// Level 1. Who checkpoints, or finishes what a dead one logged.
    pub(crate) checkpoint: SharedLock,
    /// Seeds frames' checks. 0: the log isn't begun; the first record begins it.
    pub(crate) epoch: AtomicU64,
    /// Where the next frame goes.
    pub(crate) tail: AtomicU64,
    /// All before may be written over.
    pub(crate) start: AtomicU64,
    /// Not 0: more objects are dirty than there are slots.
    pub(crate) overflow: AtomicU64,
    /// Position of the last record that made or deleted objects, plus 1.
    pub(crate) named: AtomicU64,
    flights: [Flight; FLIGHTS_MAX],
    dirty: [Dirty; DIRTY_MAX],
}

/// A record between being logged and being in place.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Flight {
    /// Whose; 0: free.
    pub(crate) owner: AtomicU64,
    /// Its position plus 1; 0: not logged.
    pub(crate) position: AtomicU64,
    /// Where it ends.
    pub(crate) end: AtomicU64,
}

/// An object that was changed since the last checkpoint.
#[repr(C)]
#[derive(Debug)]
struct Dirty {
    hi: AtomicU64,
    lo: AtomicU64,
    /// Position of the last record that changed it, plus 1; 0: free.
    last: AtomicU64,
    /// Bits of [`MADE`] and [`DELETED`].
    what: AtomicU64,
}

/// The object was made since the last checkpoint.
pub(crate) const MADE: u64 = 1;
/// It was deleted since.
pub(crate) const DELETED: u64 = 2;

impl LogShared {
    /// Takes a free flight for `owner`.
    pub(crate) fn take_off(&self, owner: u64) -> Option<usize> {
        // Neighbours in time begin at different places, so that they don't fight for one line.
        let first = owner as usize / 2 + self.tail.load(Ordering::Relaxed) as usize / 64;
        (0..FLIGHTS_MAX).map(|n| (first + n) % FLIGHTS_MAX).find(|&n| {
            let word = &self.flights[n].owner;
            word.load(Ordering::Relaxed) == 0
                && word.compare_exchange(0, owner, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        })
    }

    pub(crate) fn flight(&self, number: usize) -> &Flight {
        &self.flights[number % FLIGHTS_MAX]
    }

    pub(crate) fn flights(&self) -> &[Flight] {
        &self.flights
    }

    /// Bytes that can't be written over yet.
    pub(crate) fn in_use(&self) -> u64 {
        // One after the other, so that the start is never the later one.
        let start = self.start.load(Ordering::Acquire);
        self.tail.load(Ordering::Relaxed).saturating_sub(start)
    }

    /// The position before which all records are in place. The append lock is held.
    pub(crate) fn settled(&self) -> u64 {
        let tail = self.tail.load(Ordering::Relaxed);
        let positions =
            self.flights.iter().filter_map(|flight| flight.position.load(Ordering::Acquire).checked_sub(1));
        positions.min().map_or(tail, |first| first.min(tail))
    }

    /// Notes that the record at `position` changes an object. The append lock is held.
    pub(crate) fn mark(&self, id: ObjId, position: u64, what: u64) {
        let found = self.slot(id).or_else(|| {
            let free = self.probe(id).find(|slot| slot.last.load(Ordering::Relaxed) == 0)?;
            free.hi.store(id.hi, Ordering::Relaxed);
            free.lo.store(id.lo, Ordering::Relaxed);
            free.what.store(0, Ordering::Relaxed);
            Some(free)
        });
        match found {
            Some(slot) => {
                slot.last.store(position + 1, Ordering::Relaxed);
                slot.what.fetch_or(what, Ordering::Relaxed);
            }
            None => self.overflow.store(position + 1, Ordering::Relaxed),
        }
    }

    /// What happened to the object since the last checkpoint, as far as that is known. The append lock is held.
    pub(crate) fn what(&self, id: ObjId) -> u64 {
        self.slot(id).map_or(0, |slot| slot.what.load(Ordering::Relaxed))
    }

    /// True unless it is known that an object's name is durable. The append lock is held.
    pub(crate) fn may_be_new(&self, id: ObjId) -> bool {
        self.what(id) & MADE != 0 || self.overflow.load(Ordering::Relaxed) != 0
    }

    /// All dirty objects. The append lock is held.
    pub(crate) fn dirty(&self) -> Vec<ObjId> {
        let used = self.dirty.iter().filter(|slot| slot.last.load(Ordering::Relaxed) != 0);
        used.map(|slot| ObjId { hi: slot.hi.load(Ordering::Relaxed), lo: slot.lo.load(Ordering::Relaxed) })
            .collect()
    }

    /// Forgets what no record from `start` on has changed. The append lock is held.
    pub(crate) fn clean(&self, start: u64) {
        let words = self.dirty.iter().map(|slot| &slot.last).chain([&self.overflow, &self.named]);
        for last in words.filter(|last| last.load(Ordering::Relaxed) <= start) {
            last.store(0, Ordering::Relaxed);
        }
    }

    fn probe(&self, id: ObjId) -> impl Iterator<Item = &Dirty> {
        (0..PROBES).map(move |n| &self.dirty[(id.lo as usize).wrapping_add(n) % DIRTY_MAX])
    }

    fn slot(&self, id: ObjId) -> Option<&Dirty> {
        self.probe(id).find(|slot| {
            slot.last.load(Ordering::Relaxed) != 0
                && slot.lo.load(Ordering::Relaxed) == id.lo
                && slot.hi.load(Ordering::Relaxed) == id.hi
        })
    }
}
