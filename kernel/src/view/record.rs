//! What a view has mapped: records, and the upper page-table entries that they stand for.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::DefaultHashBuilder;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use twizzler_abi::address::{Area, SLOTS, SLOTS_PER_PML4, Slot};
use twizzler_abi::{Error, Rights};
use twizzler_sched::WordKey;
use twizzler_store::FrameNo;
use twizzler_store::entry::Level;

use super::{View, table};
use crate::machine::tlb::{self, Flush, Root};
use crate::object::{Object, frames};

/// What is mapped in a slot.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) object: Arc<Object>,
    pub(super) rights: Rights,
}

/// What a view's lock guards, along with the root's upper entries.
pub(super) struct Records {
    by_slot: HashMap<u32, Record, DefaultHashBuilder>,
    /// Threads that run in the view.
    pub(super) threads: u64,
}

impl Records {
    /// None, and one thread.
    pub(super) fn new() -> Self {
        Self { by_slot: HashMap::default(), threads: 1 }
    }
}

/// Entries of the lower half of a PML4.
const LOWER_HALF: usize = (SLOTS / SLOTS_PER_PML4) as usize;

impl View {
    pub(super) fn record(&self, slot: Slot) -> Option<Record> {
        self.records.lock().by_slot.get(&slot.number()).cloned()
    }

    /// Which word of which object an address is, if something is mapped there.
    pub(crate) fn word(&self, address: u64) -> Option<WordKey> {
        let (slot, _) = Slot::of(address)?.entry_slot()?;
        let record = self.record(slot)?;
        Some(WordKey { object: record.object.id, offset: address - slot.base() })
    }

    /// Records that `object` is mapped in a slot, and points the slot's upper entry to `top`. False if
    /// something is mapped there already. Called under the object's lock.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn enter_record(
        &self,
        slot: Slot,
        object: &Arc<Object>,
        rights: Rights,
        top: FrameNo,
    ) -> Result<bool, Error> {
        let mut records = self.records.lock();
        records.by_slot.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        let Entry::Vacant(place) = records.by_slot.entry(slot.number()) else { return Ok(false) };
        let (table, index) = self.upper_entry(slot, Missing::Make)?.ok_or(Error::OutOfMemory)?;
        table::set(table, index, table::granting(top, rights));
        place.insert(Record { object: object.clone(), rights });
        Ok(true)
    }

    /// Points a slot to another table, if `object` is mapped there. Called under the object's lock; CPUs may
    /// go on using what they know.
    pub(crate) fn redirect(&self, slot: Slot, object: &Object, top: FrameNo) {
        let records = self.records.lock();
        let Some(record) = records.by_slot.get(&slot.number()).filter(|record| is(record, object)) else {
            return;
        };
        if let Ok(Some((table, index))) = self.upper_entry(slot, Missing::Leave) {
            table::set(table, index, table::granting(top, record.rights));
        }
    }

    /// Takes a mapping out, if `object` is mapped there. CPUs have to be told afterwards.
    pub(crate) fn remove_record(&self, slot: Slot, object: &Object) {
        let removed = {
            let mut records = self.records.lock();
            match records.by_slot.entry(slot.number()) {
                Entry::Occupied(place) if is(place.get(), object) => {
                    self.clear(slot);
                    Some(place.remove())
                }
                _ => None,
            }
        };
        drop(removed);
    }

    /// Takes out mappings in a range of slots, at most as many as `into` has room for. CPUs have to be told
    /// afterwards.
    pub(super) fn take_records(&self, first: u32, slots: u32, into: &mut Vec<(Slot, Record)>) {
        let mut records = self.records.lock();
        let range = first..first.saturating_add(slots);
        let Records { by_slot, .. } = &mut *records;
        if slots == 1 {
            if into.len() < into.capacity()
                && let Some(record) = by_slot.remove(&first)
            {
                self.take(first, record, into);
            }
            return;
        }
        let room = into.capacity() - into.len();
        let inside = by_slot.extract_if(|slot, _| range.contains(slot)).take(room);
        for (slot, record) in inside {
            self.take(slot, record, into);
        }
    }

    fn take(&self, slot: u32, record: Record, into: &mut Vec<(Slot, Record)>) {
        let slot = Slot::new(slot).expect("records are of slots");
        self.clear(slot);
        into.push((slot, record));
    }

    fn clear(&self, slot: Slot) {
        if let Ok(Some((table, index))) = self.upper_entry(slot, Missing::Leave) {
            table::set(table, index, 0);
        }
    }

    /// The table and index of a slot's upper entry: in the PML4 for large mappings, in a PDPT for small ones.
    fn upper_entry(&self, slot: Slot, missing: Missing) -> Result<Option<(FrameNo, usize)>, Error> {
        let pml4 = pml4(&self.root);
        let index = slot.pml4() as usize;
        if top_level(slot) == Level::Three {
            return Ok(Some((pml4, index)));
        }
        let pdpt = match (table::target(table::get(pml4, index)), missing) {
            (Some(pdpt), _) => pdpt,
            (None, Missing::Leave) => return Ok(None),
            (None, Missing::Make) => {
                let pdpt = frames::allocate()?;
                table::set(pml4, index, table::link(pdpt));
                pdpt
            }
        };
        Ok(Some((pdpt, (slot.number() % SLOTS_PER_PML4) as usize)))
    }
}

/// The level of the table that a mapping in a slot points to. A large object in a small slot shows its first GiB.
pub(crate) fn top_level(slot: Slot) -> Level {
    if slot.area() == Area::Large { Level::Three } else { Level::Two }
}

#[derive(Clone, Copy)]
enum Missing {
    Make,
    Leave,
}

fn is(record: &Record, object: &Object) -> bool {
    core::ptr::eq(&*record.object, object)
}

fn pml4(root: &Root) -> FrameNo {
    FrameNo::of(root.pml4().address())
}

/// Frees the PDPTs of a root that no thread runs in and in which nothing is mapped. A CPU may still have it
/// loaded.
pub(super) fn free_tables(root: &Root) {
    let mut pdpts = [None; LOWER_HALF];
    for (index, pdpt) in pdpts.iter_mut().enumerate() {
        *pdpt = table::target(table::get(pml4(root), index));
        table::set(pml4(root), index, 0);
    }
    tlb::shoot(&[root], Flush::All);
    pdpts.into_iter().flatten().for_each(frames::free);
}
