//! Forgetting what was mapped.

use alloc::sync::Arc;
use alloc::vec::Vec;

use twizzler_abi::Error;
use twizzler_abi::address::{SLOTS, Slot};

use super::View;
use super::record::Record;
use crate::machine::tlb::{self, Flush};

/// Mappings that are taken out with one shootdown.
const BATCH: usize = 64;

impl View {
    /// Forgets what is mapped in a range of slots, so that the next access reads the view's entries again.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; then a part may be forgotten already.
    pub(crate) fn invalidate(self: &Arc<Self>, first: u32, slots: u32) -> Result<(), Error> {
        let mut taken: Vec<(Slot, Record)> = Vec::new();
        taken.try_reserve_exact(BATCH.min(slots as usize)).map_err(|_| Error::OutOfMemory)?;
        loop {
            self.take_records(first, slots, &mut taken);
            let full = taken.len() == taken.capacity();
            self.finish(&mut taken);
            if !full || slots == 1 {
                return Ok(());
            }
        }
    }

    /// Forgets everything: the last thread has left.
    pub(super) fn forget_all(self: &Arc<Self>) {
        // With room for one, it works without memory.
        if self.invalidate(0, SLOTS).is_err() {
            (0..SLOTS).for_each(|slot| self.forget_one(slot));
        }
    }

    fn forget_one(self: &Arc<Self>, slot: u32) {
        let Some((slot, record)) = Slot::new(slot).and_then(|slot| Some((slot, self.record(slot)?))) else {
            return;
        };
        self.remove_record(slot, &record.object);
        tlb::shoot(&[self.root()], Flush::All);
        record.object.unlist(self, slot);
    }

    /// The order matters: as long as CPUs may know a mapping, its object lists it, so that whoever deletes the
    /// object makes them forget it.
    fn finish(self: &Arc<Self>, taken: &mut Vec<(Slot, Record)>) {
        if taken.is_empty() {
            return;
        }
        tlb::shoot(&[self.root()], Flush::All);
        for (slot, record) in taken.drain(..) {
            record.object.unlist(self, slot);
        }
    }
}
