//! Commit: what was written in place, fence; record, fence; apply, fence. The first fence only where there is such.
//! With a log: sync what was written in place; log; wait until that is durable; apply ([`super::pending`]).

use core::sync::atomic::{Ordering, fence};

use twizzler_abi::address::{SLOT_BYTES, Slot, range_start};
use twizzler_abi::{Error, ObjId};

use super::{State, Tx};
use crate::backend::{Backend, Commit, Ticket};
use crate::journal::{self, Changed, LOG_SEED, version_after};
use crate::lane::{LaneHead, record_place};
use crate::memory;
use crate::pointer::Area;
use crate::recover::version_word;
use crate::space::area_of;

impl<B: Backend> Tx<'_, B> {
    /// Makes all changes at once. When it returns, they are durable.
    ///
    /// # Errors
    /// Before the commit point: the error of a change that stopped half-way; [`Error::OutOfNvm`] or [`Error::OutOfRange`] where the record doesn't fit the lane,
    /// [`Error::Damaged`] where something freed was not allocated, [`Error::NoSuchObject`] where another program has meanwhile deleted an object that
    /// is changed, [`Error::Busy`] where it conflicts with another transaction, and with a log
    /// what that says. Then nothing has changed. After it: where an object that was to be deleted could not be; the changes hold.
    pub fn commit(mut self) -> Result<(), Error> {
        self.settle()
    }

    /// The same, for one that may have to run again.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        self.doomed()?;
        self.work().torn.map_or(Ok(()), Err)?;
        self.free_now()?;
        self.doomed()?;
        let work = &self.lane.work;
        if work.overlay.is_empty()
            && work.fresh.is_clean()
            && work.created.is_empty()
            && work.deletes.is_empty()
        {
            self.forget_intents();
            self.state = State::Done;
            self.space.release_all(&mut self.lane.held.borrow_mut());
            return self.witness();
        }
        self.order_lines();
        self.gather_changed()?;
        if self.stages() {
            return self.settle_by_log();
        }
        self.make_durable()?;
        // COMMIT: the record is durable, and all that it will make reachable.
        self.state = State::Committed;
        self.apply_all()?;
        let result = self.perform_deletes();
        self.state = State::Done;
        result
    }

    /// The rest of it, with a log.
    fn settle_by_log(&mut self) -> Result<(), Error> {
        let plain = self.is_plain();
        let ticket = self.log()?;
        self.work().seen.set(0);
        let (space, backend) = (self.space, self.space.backend());
        if plain {
            self.state = State::Committed;
            self.leave_to_queue(ticket);
            // COMMIT: the record is durable. It is put in place by whoever notices that first.
            let result = space.put_in_place(ticket.end);
            self.state = State::Done;
            return result;
        }
        space.put_in_place(ticket.end)?;
        // Whoever finds an object by its name finds it whole.
        self.apply_lines(|area| self.work().fresh.made(area))?;
        backend.publish_created(&self.lane.work.created)?;
        // COMMIT: the record is durable, and all that it makes reachable.
        self.state = State::Committed;
        self.apply_lines(|area| !self.work().fresh.made(area))?;
        let result = self.perform_deletes();
        backend.applied(ticket);
        self.state = State::Done;
        result
    }

    /// What makes something reachable for readers without locks comes after what it makes reachable, in place and in the record.
    fn order_lines(&mut self) {
        let work = &mut self.lane.work;
        if !work.published.is_empty() {
            work.published.sort_unstable();
            work.overlay.put_last(&work.published);
        }
    }

    /// Which objects change, and what their versions will be.
    fn gather_changed(&mut self) -> Result<(), Error> {
        let mut changed = core::mem::take(&mut self.lane.work.changed);
        let mut last = None;
        for &(address, _) in self.work().overlay.lines() {
            if last.is_some_and(|last: Area<'_>| last.contains(address)) {
                continue;
            }
            let area = *last.insert(area_at(address));
            let start = area.start();
            if changed.iter().any(|&(known, _)| known == start) {
                continue;
            }
            let id = self.space.mapped(area)?.id;
            let Ok(version) = version_after(self.version_of(start, id)) else {
                return Err(self.lost(id));
            };
            changed.push((start, Changed { id, version }));
        }
        self.lane.work.changed = changed;
        Ok(())
    }

    /// Another program has deleted an object that is to be changed. The next one who opens it looks for it again: one of the same ID may be there.
    #[cold]
    fn lost(&self, id: ObjId) -> Error {
        self.space.forget(id);
        Error::NoSuchObject
    }

    /// Makes the record.
    fn encode_record(&mut self) {
        let lane = &mut **self.lane;
        let work = &mut lane.work;
        let seed = lane.media.map_or(LOG_SEED, |media| media.generation);
        let record = journal::Content {
            transaction: lane.transaction,
            objects: &work.changed,
            deletes: &work.deletes,
            created: &work.specs,
        };
        journal::encode_into(&mut work.words, seed, &record, work.overlay.lines());
    }

    /// Gives the record its place in the log, after what was written in place is durable.
    fn log(&mut self) -> Result<Ticket, Error> {
        self.encode_record();
        let (space, work) = (self.space, &self.lane.work);
        for (start, len_bytes) in work.fresh.blocks() {
            let id = space.mapped(area_at(start))?.id;
            space.backend().sync(id, start - range_start(start), len_bytes)?;
        }
        space.backend().log(&Commit { words: &work.words, created: &work.created })
    }

    /// Writes the record into the lane, durably.
    fn make_durable(&mut self) -> Result<(), Error> {
        self.encode_record();
        let (space, lane) = (self.space, &mut **self.lane);
        let (backend, work) = (space.backend(), &mut lane.work);
        let media = lane.media.as_mut().ok_or(Error::ReadOnly)?;
        let len_bytes = work.words.len() as u64 * 8;
        let offset = record_place(lane.transaction, len_bytes).ok_or(Error::OutOfRange)?;
        if offset + len_bytes > media.end {
            // Makes sure that the record has its pages.
            let end = (offset + len_bytes).next_multiple_of(64 * 1024).min(SLOT_BYTES);
            backend.ensure(media.id, media.end, end - media.end)?;
            media.end = end;
        }
        if !work.fresh.is_clean() {
            // Fence 0. Before the record is written: if all its lines happen to arrive, it counts, fence 1 or not.
            work.fresh.flush(backend);
            backend.fence();
        } else if work.is_in_place {
            // The same where stores are kept: the record is stored after that.
            backend.fence();
        }
        let to = area_of(media.slot).span::<u64>(offset, work.words.len() as u64);
        let to = to.ok_or(Error::OutOfRange)?;
        // SAFETY: the lane is this program's, pinned, and mapped for writing.
        unsafe { backend.stream(to, &work.words) };
        backend.fence();
        Ok(())
    }

    /// Puts in place what is staged for the objects that are wanted, and their versions.
    #[inline]
    fn apply_lines(&self, is_wanted: impl Fn(Area<'_>) -> bool) -> Result<(), Error> {
        let (space, work) = (self.space, &self.lane.work);
        // What it made itself nobody else reads yet, and has no lock.
        let shared = || {
            let is_shared = |&&(start, _): &&(u64, Changed)| {
                is_wanted(area_at(start)) && !work.fresh.made(area_at(start))
            };
            work.changed.iter().filter(is_shared).map(|&(_, Changed { id, .. })| id)
        };
        space.begin_changes(shared());
        let mut last: Option<(Area<'_>, bool)> = None;
        for &(address, ref line) in work.overlay.lines() {
            let (area, wanted) = match last {
                Some(known) if known.0.contains(address) => known,
                _ => *last.insert((area_at(address), is_wanted(area_at(address)))),
            };
            if wanted {
                // Pairs with the acquire of who reads without locks what this line makes reachable.
                fence(Ordering::Release);
                space.apply(area, address - area.start(), line)?;
            }
        }
        for &(start, Changed { version, .. }) in &work.changed {
            if is_wanted(area_at(start)) {
                space.store_flushed(version_word(area_at(start)), &version);
            }
        }
        space.end_changes(shared());
        Ok(())
    }

    /// Puts everything in place, durably.
    fn apply_all(&mut self) -> Result<(), Error> {
        self.apply_lines(|_| true)?;
        let (space, lane) = (self.space, &**self.lane);
        if let Some(media) = &lane.media {
            let head = media.head();
            if lane.work.intends {
                space.store_flushed(head.at(LaneHead::done), &lane.transaction);
            }
            if !lane.work.deletes.is_empty() {
                space.flush_applied();
            }
            space.backend().fence();
            if lane.work.deletes.is_empty() {
                memory::store(space.backend(), head.at(LaneHead::applied), &lane.transaction);
            }
        }
        Ok(())
    }

    fn perform_deletes(&self) -> Result<(), Error> {
        if self.lane.work.deletes.is_empty() {
            return Ok(());
        }
        let mut result = Ok(());
        for &id in &self.lane.work.deletes {
            if let Err(error) = self.space.delete_if_there(id) {
                result = Err(error);
            }
        }
        if let Some(media) = self.lane.media.filter(|_| result.is_ok()) {
            // Before anyone may make them again: recovery would delete those.
            self.space.store_durably(media.head().at(LaneHead::applied), &self.lane.transaction);
        }
        result
    }
}

/// The object at whose mapping a staged address lies.
pub(super) fn area_at<'s>(address: u64) -> Area<'s> {
    area_of(Slot::of(range_start(address)).expect("staged addresses lie in mapped objects"))
}
