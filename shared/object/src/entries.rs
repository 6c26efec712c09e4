//! What a program knows of the entries of objects' FOTs: where their targets are mapped, which index names which target, which are unused.
//!
//! Where a target is mapped lies in the translation table: for inline entries in the object's row, for those of its companion in a *second level*, a
//! table of its own for each object that has such entries, dense and of a power of two words. The row has its address and size in one
//! word, so a hop finds it without a lock. It is made and enlarged on demand; the one before is given back when all guards have gone that were
//! alive then, as slots are.
//!
//! The *reverse list* says which words lead to an object. Unmapping it clears these.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use twizzler_abi::ObjId;
use twizzler_abi::address::Slot;
use twizzler_abi::pointer::{FotEntry, FotKind};

use crate::backend::Backend;
use crate::fot::INLINE;
use crate::memory;
use crate::row::BEYOND;
use crate::space::{Maps, Space};

/// Bits of a second level's address, in the word of a row; above them the power of two of its size.
const ADDRESS_BITS: u32 = 56;
/// Words of a second level at least.
const BEYOND_MIN: usize = 256;

/// What is known of an object's FOT, beyond what the row says.
#[derive(Debug, Default)]
pub(crate) struct Fot {
    /// Which index names which target, among the first so many entries.
    indexes: HashMap<ObjId, u64>,
    len_entries: u64,
    /// The second level, by index; empty where nothing needs one.
    beyond: Vec<AtomicU64>,
    /// The object that has the others, once it was looked for.
    pub(crate) companion: Option<ObjId>,
    /// Entries that may be used anew, in time.
    free: BTreeMap<u64, Idle>,
    /// So many entries more, new ones and others, before unused ones are looked for again.
    patience: u64,
}

/// How an entry came to be free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Idle {
    /// A transaction that isn't over frees it.
    Leaving,
    /// It was freed in an epoch: readers who have been inside since may come by its old target.
    Since(u64),
    /// It was free when it was found.
    Found,
}

/// Which words lead to an object: (the slot of the row, the index).
pub(crate) type Incoming = BTreeSet<(Slot, u64)>;

impl<B: Backend> Space<B> {
    /// Where the target of an entry is mapped, or 0: without a lock.
    #[inline]
    pub(crate) fn known_target(&self, slot: Slot, index: u64) -> u64 {
        if index < INLINE {
            return self.row(slot, index);
        }
        let beyond = self.row(slot, BEYOND);
        if index >> (beyond >> ADDRESS_BITS) != 0 {
            return 0;
        }
        // SAFETY: the word is of a table of so many words, a `Vec` whose provenance `set_beyond` exposed; it lives as long as guards do that
        // were alive when the word was replaced, and whoever resolves is under one.
        unsafe { memory::load_row(beyond & ((1 << ADDRESS_BITS) - 1), index * 8) }
    }

    /// Remembers where the target of an entry is mapped; 0: forgets it.
    pub(crate) fn set_target(&self, slot: Slot, index: u64, base: u64) {
        self.set_target_in(&mut self.maps.lock(self.backend()), slot, index, base);
    }

    pub(crate) fn set_target_in(&self, maps: &mut Maps, slot: Slot, index: u64, base: u64) {
        let before = self.known_target(slot, index);
        if before == base {
            return;
        }
        if let Some(incoming) = number_of(before).and_then(|number| maps.incoming.get_mut(&number)) {
            incoming.remove(&(slot, index));
        }
        if let Some(number) = number_of(base) {
            maps.incoming.entry(number).or_default().insert((slot, index));
        }
        if index < INLINE {
            self.set_row(slot, index, base);
        } else {
            self.set_beyond(maps, slot, index, base);
        }
    }

    fn set_beyond(&self, maps: &mut Maps, slot: Slot, index: u64, base: u64) {
        let fot = maps.fots.entry(slot.number()).or_default();
        if index as usize >= fot.beyond.len() {
            if base == 0 {
                return;
            }
            let len = (index as usize + 1).next_power_of_two().max(BEYOND_MIN);
            let was =
                |index| fot.beyond.get(index).map_or(0, |word: &AtomicU64| word.load(Ordering::Relaxed));
            let larger: Vec<AtomicU64> = (0..len).map(|index| AtomicU64::new(was(index))).collect();
            let address = larger.as_ptr().expose_provenance() as u64;
            let outgrown = core::mem::replace(&mut fot.beyond, larger);
            // What was copied is seen by whoever sees the table: `set_row` releases.
            self.set_row(slot, BEYOND, address | u64::from(len.ilog2()) << ADDRESS_BITS);
            maps.outgrown.push((outgrown, self.epochs.now()));
        }
        // Release pairs with the acquire of `memory::load_row`.
        fot.beyond[index as usize].store(base, Ordering::Release);
    }

    /// Forgets where the targets of an object's pointers are mapped, and what is known of its FOT.
    pub(crate) fn forget_fot(&self, maps: &mut Maps, slot: Slot) -> Option<Fot> {
        let mut fot = maps.fots.remove(&slot.number());
        let beyond = fot.as_mut().map(|fot| core::mem::take(&mut fot.beyond)).unwrap_or_default();
        let inline = (0..INLINE).map(|index| self.row(slot, index));
        let targets =
            inline.chain(beyond.iter().skip(INLINE as usize).map(|word| word.load(Ordering::Relaxed)));
        for (index, target) in (0..).zip(targets) {
            if let Some(incoming) = number_of(target).and_then(|number| maps.incoming.get_mut(&number)) {
                incoming.remove(&(slot, index));
            }
        }
        for index in (0..INLINE).chain([BEYOND]) {
            self.set_row(slot, index, 0);
        }
        if !beyond.is_empty() {
            maps.outgrown.push((beyond, self.epochs.now()));
        }
        fot
    }

    /// Clears all words that lead to the object at a slot.
    pub(crate) fn forget_incoming(&self, maps: &mut Maps, slot: Slot) {
        for (from, index) in maps.incoming.remove(&slot.number()).unwrap_or_default() {
            self.set_target_in(maps, from, index, 0);
        }
    }

    /// Which index of the FOT of the object at `from` is known to name a target.
    pub(crate) fn known_index(&self, from: Slot, target: ObjId) -> Option<u64> {
        let maps = self.maps.lock(self.backend());
        let fot = maps.fots.get(&from.number())?;
        // A reader may have remembered what has been freed since he looked.
        fot.indexes.get(&target).copied().filter(|index| !fot.free.contains_key(index))
    }

    /// How many of its entries are known.
    pub(crate) fn known_entries(&self, from: Slot) -> u64 {
        self.maps.lock(self.backend()).fots.get(&from.number()).map_or(0, |fot| fot.len_entries)
    }

    /// Notes that an entry is known, and to name a target.
    pub(crate) fn know_entry(&self, from: Slot, index: u64, target: Option<ObjId>) {
        let mut maps = self.maps.lock(self.backend());
        let fot = maps.fots.entry(from.number()).or_default();
        fot.len_entries = fot.len_entries.max(index + 1);
        if let Some(target) = target {
            fot.indexes.entry(target).or_insert(index);
        }
    }

    /// Notes what entries from `first` on are, as they were found while nobody changed them. What has been learnt of some meanwhile is newer.
    pub(crate) fn know_entries(&self, from: Slot, first: u64, found: &[FotEntry]) {
        let mut maps = self.maps.lock(self.backend());
        let fot = maps.fots.entry(from.number()).or_default();
        let known = fot.len_entries.max(1);
        if known < first {
            // Those before have been forgotten.
            return;
        }
        for (index, entry) in (first..).zip(found).skip_while(|&(index, _)| index < known) {
            match entry.decode() {
                Ok((FotKind::Id, _)) => drop(fot.indexes.entry(entry.target).or_insert(index)),
                Ok((FotKind::Free, _)) => drop(fot.free.entry(index).or_insert(Idle::Found)),
                _ => {}
            }
        }
        fot.len_entries = known.max(first + found.len() as u64);
    }

    /// Forgets an entry that was not committed: a new one, and those after it, or one that may be used anew again.
    pub(crate) fn forget_entry(&self, from: Slot, index: u64, how: Entered) {
        let mut maps = self.maps.lock(self.backend());
        self.set_target_in(&mut maps, from, index, 0);
        if let Some(fot) = maps.fots.get_mut(&from.number()) {
            match how {
                Entered::Added => {
                    fot.len_entries = fot.len_entries.min(index);
                    fot.indexes.retain(|_, known| *known < index);
                }
                Entered::Anew => {
                    fot.indexes.retain(|_, known| *known != index);
                    fot.free.insert(index, Idle::Since(0));
                }
            }
        }
    }

    /// Notes the companion of the object at a slot.
    pub(crate) fn know_companion(&self, holder: Slot, companion: ObjId) {
        self.maps.lock(self.backend()).fots.entry(holder.number()).or_default().companion = Some(companion);
    }

    /// Notes that an entry is free, as it was found.
    pub(crate) fn know_free(&self, from: Slot, index: u64) {
        let mut maps = self.maps.lock(self.backend());
        maps.fots.entry(from.number()).or_default().free.entry(index).or_insert(Idle::Found);
    }

    /// Notes that an entry has been made free, by a transaction that is over.
    pub(crate) fn know_freed(&self, from: Slot, index: u64) {
        let epoch = self.epochs.now();
        let mut maps = self.maps.lock(self.backend());
        maps.fots.entry(from.number()).or_default().free.insert(index, Idle::Since(epoch));
    }

    /// An entry that may be used anew: nobody who may still have come by its old target is left, and no other program that may remember it as free, and would enter
    /// the new target once more. Of those that were free before this program looked, other programs may know what they were.
    pub(crate) fn take_free(&self, from: Slot, id: ObjId) -> Option<u64> {
        let mut maps = self.maps.lock(self.backend());
        let fot = maps.fots.get_mut(&from.number())?;
        let passed = |idle: &Idle| match *idle {
            Idle::Since(epoch) => self.epochs.has_passed(epoch),
            Idle::Found => true,
            Idle::Leaving => false,
        };
        let found = fot.free.iter().find(|(_, idle)| passed(idle)).map(|(&index, _)| index)?;
        if !self.backend().is_sole(id) {
            return None;
        }
        fot.free.remove(&found);
        fot.indexes.retain(|_, known| *known != found);
        Some(found)
    }

    /// Notes that a transaction that isn't over frees an entry.
    pub(crate) fn know_leaving(&self, from: Slot, index: u64) {
        let mut maps = self.maps.lock(self.backend());
        maps.fots.entry(from.number()).or_default().free.insert(index, Idle::Leaving);
    }

    /// Notes that the transaction that was to free an entry was undone: it names what it named. Others may be looked for at once.
    pub(crate) fn know_staying(&self, from: Slot, index: u64) {
        if let Some(fot) = self.maps.lock(self.backend()).fots.get_mut(&from.number()) {
            fot.patience = 0;
            if fot.free.get(&index) == Some(&Idle::Leaving) {
                fot.free.remove(&index);
            }
        }
    }

    /// True where unused entries are to be looked for, as an entry is added.
    pub(crate) fn is_impatient(&self, from: Slot) -> bool {
        let mut maps = self.maps.lock(self.backend());
        let fot = maps.fots.entry(from.number()).or_default();
        let is_impatient = fot.patience == 0;
        fot.patience = fot.patience.saturating_sub(1);
        is_impatient
    }

    /// Looks for unused entries again when so many have been added.
    pub(crate) fn be_patient(&self, from: Slot, patience: u64) {
        self.maps.lock(self.backend()).fots.entry(from.number()).or_default().patience = patience;
    }
}

/// How a transaction came by an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entered {
    /// It is a new one.
    Added,
    /// It was free.
    Anew,
}

/// The number of the slot of what is mapped there.
fn number_of(base: u64) -> Option<u32> {
    if base == 0 { None } else { Slot::of(base).map(Slot::number) }
}
