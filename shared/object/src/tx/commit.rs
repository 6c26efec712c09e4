//! Commit: what was written in place, fence; record, fence; apply, fence. The first fence only where there is such.

use alloc::vec::Vec;

use hashbrown::HashMap;
use twizzler_abi::Error;
use twizzler_abi::address::SLOT_BYTES;

use super::Tx;
use crate::backend::{Backend, Sink};
use crate::journal::{self, Changed};
use crate::lane::{LaneHead, RECORD_OFFSET};
use crate::memory;
use crate::pointer::Area;
use crate::recover::version_word;
use crate::space::area_of;
use twizzler_abi::address::Slot;

/// Objects that a transaction changes, and where they are mapped.
type Changes<'s> = Vec<(Area<'s>, Changed)>;

impl<'s, B: Backend> Tx<'s, B> {
    /// Makes all changes at once. When it returns, they are durable.
    ///
    /// # Errors
    /// Before the commit point: [`Error::OutOfNvm`] or [`Error::OutOfRange`] where the record doesn't fit the lane,
    /// [`Error::Damaged`] where something freed was not allocated. Then nothing has changed. After it: where an object that
    /// was to be deleted could not be; the changes hold.
    pub fn commit(mut self) -> Result<(), Error> {
        self.free_now()?;
        if self.overlay.is_empty()
            && self.fresh.is_empty()
            && self.created.is_empty()
            && self.deletes.is_empty()
        {
            return Ok(());
        }
        let backend = self.space.backend();
        if backend.sink() == Sink::Log {
            return self.commit_by_log();
        }
        if !self.fresh.is_empty() {
            // Fence 0. Before the record is written: if all its lines happen to arrive, it counts, fence 1 or not.
            self.fresh.flush(backend);
            backend.fence();
        }
        let changed = self.write_record()?;
        backend.fence();
        // COMMIT: the record is durable, and all that it will make reachable.
        self.committed = true;
        if let Some(lane) = self.space.lane.lock(self.space.backend()).as_mut() {
            lane.transaction = self.number;
        }
        self.apply_all(&changed)?;
        let head = self.space.open_lane(self.lane()?.0)?;
        if !self.created.is_empty() {
            self.space.store_flushed(head.at(LaneHead::done), &self.number);
        }
        backend.fence();
        memory::store(backend, head.at(LaneHead::applied), &self.number);
        self.delete_all()
    }

    /// Writes the record into the lane and starts writing it back. Gives the changed objects.
    fn write_record(&mut self) -> Result<Changes<'s>, Error> {
        let (lane, generation) = self.lane()?;
        let (changed, words) = self.record(generation)?;
        let len_bytes = words.len() as u64 * 8;
        self.room_for(len_bytes)?;
        let area = self.space.map(lane)?;
        let to = area.span::<u64>(RECORD_OFFSET, words.len() as u64).ok_or(Error::OutOfRange)?;
        memory::write_words(self.space.backend(), to, &words);
        self.space.backend().flush(to.address(), len_bytes);
        Ok(changed)
    }

    /// The record's words, checked by that seed, and the objects that it changes.
    pub(super) fn record(&self, seed: u64) -> Result<(Changes<'s>, Vec<u64>), Error> {
        let mut changed = Changes::new();
        let mut numbers: HashMap<u64, usize> = HashMap::new();
        for &(address, _) in self.overlay.lines() {
            let area = area_at(address);
            if let hashbrown::hash_map::Entry::Vacant(entry) = numbers.entry(area.start()) {
                entry.insert(changed.len());
                let id = self.space.mapped(area)?.id;
                let version = memory::load(version_word(area)).checked_add(1).ok_or(Error::Damaged)?;
                changed.push((area, Changed { id, version }));
            }
        }
        let lines = self.overlay.lines().iter().map(|(address, line)| {
            let start = address / SLOT_BYTES * SLOT_BYTES;
            (numbers[&start], address - start, line)
        });
        let objects: Vec<Changed> = changed.iter().map(|(_, object)| *object).collect();
        let words = journal::encode(seed, self.number, &objects, &self.deletes, &self.specs, lines);
        Ok((changed, words))
    }

    /// Stores what was staged where it belongs, then the versions, and starts writing all of it back.
    pub(super) fn apply_all(&self, changed: &[(Area<'s>, Changed)]) -> Result<(), Error> {
        for &(address, ref line) in self.overlay.lines() {
            self.space.apply(area_at(address), address % SLOT_BYTES, line)?;
        }
        for (area, Changed { version, .. }) in changed {
            self.space.store_flushed(version_word(*area), version);
        }
        Ok(())
    }

    /// Performs the deletes of a transaction that has committed.
    pub(super) fn delete_all(&self) -> Result<(), Error> {
        let mut result = Ok(());
        for &id in &self.deletes {
            if let Err(error) = self.space.delete_if_there(id) {
                result = Err(error);
            }
        }
        result
    }

    /// Makes sure that a record of that length has its pages.
    fn room_for(&self, len_bytes: u64) -> Result<(), Error> {
        let mut lane = self.space.lane.lock(self.space.backend());
        let lane = lane.as_mut().ok_or(Error::Busy)?;
        if len_bytes > SLOT_BYTES - RECORD_OFFSET {
            return Err(Error::OutOfRange);
        }
        if len_bytes > lane.record_bytes {
            let wanted = len_bytes.next_multiple_of(64 * 1024).min(SLOT_BYTES - RECORD_OFFSET);
            self.space.backend().ensure(lane.id, RECORD_OFFSET, wanted)?;
            lane.record_bytes = wanted;
        }
        Ok(())
    }
}

/// The object at whose mapping a staged address lies.
fn area_at<'s>(address: u64) -> Area<'s> {
    area_of(Slot::of(address).expect("staged addresses lie in mapped objects"))
}
