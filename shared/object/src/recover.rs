//! Recovery: finishing what committed and undoing what did not, for programs that no longer live.
//!
//! Everything here may be cut off and done again: applying a record is idempotent, an object's version word keeps older records
//! away, deleting twice is harmless, and the lane's generation, which makes its content void, is raised last.

use alloc::vec::Vec;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use hashbrown::HashMap;
use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::object::{HEADER_OFFSET, Header};
use twizzler_abi::{Error, ObjId};

use crate::backend::{Backend, Sink};
use crate::journal::{DELETED, Record, words_of};
use crate::lane::{Directory, INTENTS_MAX, LANES_MAX, LaneHead, RECORD_PLACES, lane_slot};
use crate::memory;
use crate::pointer::{Area, Ptr};
use crate::space::{Space, header_place};
use crate::tx::overlay::{LINE, Line};

/// What recovery found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// Lanes in which a transaction was to be finished or undone.
    pub lanes: u32,
    /// Objects that a committed transaction changed and that were brought up to it.
    pub redone: u32,
    /// Objects that were made by transactions that did not commit, and are gone again.
    pub undone: u32,
    /// Lanes, and objects named by records, that could not be read. A transaction may be lost there.
    pub damaged: u32,
}

/// A dead owner's lane, with the words of the record that it may hold.
struct Dead {
    lane: ObjId,
    generation: u64,
    words: Vec<u64>,
}

/// The highest version of each object among all records that are to be looked at.
type Newest = HashMap<ObjId, u64>;

impl<B: Backend> Space<B> {
    /// Deals with all lanes after a boot, and with those whose owner no longer lives; then releases what they had locked.
    pub(crate) fn recover(&self) -> Result<(), Error> {
        self.administer(|| {
            if self.backend().sink() == Sink::Lanes {
                self.recover_media()?;
            }
            // Release pairs with the acquire in `recover_media`.
            self.recovered().store(1, Ordering::Release);
            for number in 0..LANES_MAX {
                if self.is_dead(number) {
                    self.release_dead(number);
                    self.lane_owner(number).store(0, Ordering::Release);
                }
            }
            Ok(())
        })
    }

    fn recover_media(&self) -> Result<(), Error> {
        let since_boot = self.recovered().load(Ordering::Acquire) == 0;
        if !since_boot && !(0..LANES_MAX).any(|number| self.is_dead(number)) {
            return Ok(());
        }
        let directory = match self.lane_directory() {
            // Nothing can be finished, and nothing can be changed either.
            Err(Error::ReadOnly | Error::AccessDenied) => return Ok(()),
            result => result?.base(),
        };
        let len = (memory::load(directory.at(Directory::len)) as usize).min(LANES_MAX);
        let mut dead = Vec::new();
        for number in (0..len).filter(|&number| since_boot || self.is_dead(number)) {
            let lane = memory::load(lane_slot(directory, number)).lane;
            match self.read_lane(lane) {
                Ok((generation, words)) => dead.push(Dead { lane, generation, words }),
                Err(error) if is_damage(error) => self.note(|found| found.damaged += 1),
                Err(error) => return Err(error),
            }
        }
        let mut newest = Newest::new();
        for lane in &dead {
            let record = Record::decode(lane.generation, &lane.words);
            for object in record.into_iter().flat_map(|record| record.objects()) {
                let version = newest.entry(object.id).or_default();
                *version = object.version.max(*version);
            }
        }
        for lane in &dead {
            match self.recover_lane(lane, &newest) {
                Ok(()) => {}
                Err(error) if is_damage(error) => self.note(|found| found.damaged += 1),
                Err(error) => return Err(error),
            }
        }
        // Before any other processor's thread makes an object that an old intent would delete again.
        self.backend().fence();
        Ok(())
    }

    fn read_lane(&self, lane: ObjId) -> Result<(u64, Vec<u64>), Error> {
        let head = self.open_lane(lane)?;
        let generation = memory::load(head.at(LaneHead::generation));
        Ok((generation, read_record(head.object(), self.stat(lane)?.pages, generation)))
    }

    fn recover_lane(&self, lane: &Dead, newest: &Newest) -> Result<(), Error> {
        let head = self.open_lane(lane.lane)?;
        let mut committed = memory::load(head.at(LaneHead::done));
        let mut left = false;
        if let Some(record) = Record::decode(lane.generation, &lane.words) {
            // Where the latest one was cut off, this is the one before it that left a record, applied long ago; numbers of a lane only grow.
            left = record.transaction > memory::load(head.at(LaneHead::applied));
            if left {
                self.redo(&record, newest)?;
                for id in record.deletes() {
                    self.delete_if_there(id)?;
                }
            }
            committed = committed.max(record.transaction);
        }
        for index in 0..INTENTS_MAX {
            let intent = memory::load(head.at(LaneHead::intents).index(index).expect("below INTENTS_MAX"));
            if intent.holds(lane.generation)
                && intent.transaction > committed
                && self.delete_if_there(intent.id)?
            {
                self.note(|found| found.undone += 1);
                left = true;
            }
        }
        self.note(|found| found.lanes += u32::from(left));
        // COMMIT, when it is durable: what lies in the lane is void.
        self.store_flushed(head.at(LaneHead::generation), &lane.generation.wrapping_add(1));
        Ok(())
    }

    /// Applies a record to the objects of which neither media nor another record has a later version: where one has, this record
    /// was in place before, and what it wrote may since have become someone else's fresh memory.
    fn redo(&self, record: &Record<'_>, newest: &Newest) -> Result<(), Error> {
        let mut areas: Vec<Option<Area<'_>>> = Vec::new();
        for object in record.objects() {
            let is_newest = newest.get(&object.id) == Some(&object.version);
            let area = match self.map(object.id) {
                Ok(area) => {
                    Some(area).filter(|&area| is_newest && memory::load(version_word(area)) <= object.version)
                }
                // Deleted since, by this record or a later one.
                Err(Error::NoSuchObject) => None,
                Err(error) if is_damage(error) => {
                    self.note(|found| found.damaged += 1);
                    None
                }
                Err(error) => return Err(error),
            };
            if area.is_some() {
                self.note(|found| found.redone += 1);
            }
            areas.push(area);
        }
        // Locks of the dead are released when all is in place, and that ends it.
        let held = |id: &ObjId| self.is_held_by_dead(crate::coordination::stripe_of(*id));
        self.begin_changes(record.objects().map(|object| object.id).filter(held));
        for line in record.lines() {
            let (object, offset, line) = line?;
            if let Some(&Some(area)) = areas.get(object) {
                self.apply(area, offset, &line)?;
            }
        }
        for (area, object) in areas.iter().zip(record.objects()) {
            if let &Some(area) = area {
                self.store_flushed(version_word(area), &object.version);
            }
        }
        self.backend().fence();
        Ok(())
    }

    /// Stores a line's new bytes where they belong and starts writing them back.
    pub(crate) fn apply(&self, area: Area<'_>, offset: u64, line: &Line) -> Result<(), Error> {
        let span = area.span_from::<u8>(HEADER_OFFSET, offset, LINE).ok_or(Error::Damaged)?;
        if !offset.is_multiple_of(LINE) {
            return Err(Error::Damaged);
        }
        memory::write_line(self.backend(), span, line);
        memory::flush(self.backend(), span);
        Ok(())
    }

    /// Deletes an object, which is locked or nobody else's; false if it is gone already.
    pub(crate) fn delete_if_there(&self, id: ObjId) -> Result<bool, Error> {
        let can_write = |&area: &Area<'_>| {
            self.mapped(area).is_ok_and(|mapped| mapped.writable)
                && self.backend().ensure(id, HEADER_OFFSET, PAGE_BYTES).is_ok()
        };
        let word = self.map(id).ok().filter(can_write).map(version_word);
        if let Some(word) = word {
            // For those who have it mapped, and wait for its lock. A cut before the object is gone is followed by another try.
            memory::store(self.backend(), word, &(memory::load(word) | DELETED));
        }
        match self.backend().delete(id) {
            Ok(()) => {
                self.forget(id);
                Ok(true)
            }
            Err(Error::NoSuchObject) => Ok(false),
            Err(error) => {
                if let Some(word) = word {
                    self.store_durably(word, &(memory::load(word) & !DELETED));
                    if self.backend().sink() == Sink::Log {
                        // Where that fails, so does all that follows.
                        let _ = self.backend().sync(id, word.offset(), size_of::<u64>() as u64);
                    }
                }
                Err(error)
            }
        }
    }
}

/// The words of the lane's latest record; empty where there is none. Lanes have `pages`, so a longer one is none.
fn read_record(lane: Area<'_>, pages: u64, generation: u64) -> Vec<u64> {
    let words = |offset, len: usize| -> Option<Vec<u64>> {
        let span = lane.span::<u64>(offset, len as u64)?;
        (0..len as u64).map(|index| Some(memory::load(span.index(index)?))).collect()
    };
    let whole = |(offset, room): (u64, u64)| {
        let head = words(offset, 8)?.try_into().ok()?;
        let words = words(offset, words_of(&head, room.min(pages * PAGE_BYTES) / 8)?)?;
        let transaction = Record::decode(generation, &words)?.transaction;
        Some((transaction, words))
    };
    let latest = RECORD_PLACES.into_iter().filter_map(whole).max_by_key(|&(transaction, _)| transaction);
    latest.map_or_else(Vec::new, |(_, words)| words)
}

/// The version of an object's one lock domain.
#[inline]
pub(crate) fn version_word(area: Area<'_>) -> Ptr<'_, u64> {
    header_place(area, offset_of!(Header, domain_versions))
}

/// True for an error that says something of the object, not of the system.
pub(crate) const fn is_damage(error: Error) -> bool {
    matches!(
        error,
        Error::Damaged | Error::NoSuchObject | Error::WrongType | Error::Unreadable | Error::NotSupported
    )
}
