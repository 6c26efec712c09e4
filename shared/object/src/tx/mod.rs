//! Transactions: any number of changes to any number of objects, all or nothing, for two fences.
//!
//! New values are staged privately; the transaction itself reads them, nobody else does. Commit writes one *record* into the
//! transaction's lane and flushes it: **fence 1 is the commit point**. Then the new bytes are copied in place, the version word of each changed
//! object is written, all is flushed: **fence 2**, and the locks are released. Recovery applies a record to an object unless the
//! object has a later version.
//!
//! What the transaction allocated, and objects that it made, nobody else can reach: but for the first few bytes, they are written in
//! place at once. Then there is a fence before the record is written: a record whose lines all happen to arrive counts, so what
//! it makes reachable must be durable before.
//! Where no power cut is to be survived that fence is free, so less is staged ([`Backend::keeps_stores`]).
//! Freed memory is not given out again before the commit, so an undone transaction finds it as it was.
//!
//! With [`crate::Sink::Log`] the record goes to the backend's log instead of a lane, and everything is staged but large allocations.
//!
//! Isolation: what is read through the transaction is locked shared, what is written exclusively, until the end ([`crate::lock`]).
//! A conflict undoes it and runs it again.

mod commit;
mod fresh;
mod link;
mod objects;
pub(crate) mod overlay;
mod pending;
mod reclaim;
mod run;
mod save;
mod work;

use alloc::boxed::Box;
use core::cmp::Ordering;
use core::mem::ManuallyDrop;

use twizzler_abi::address::{Slot, range_start};
use twizzler_abi::object::{BASE_OFFSET, Header};
use twizzler_abi::pointer::PointerBits;
use twizzler_abi::{Error, ObjId};

use crate::backend::{Backend, Sink};
use crate::coordination::stripe_of;
use crate::error::OpenError;
use crate::guard::Guard;
use crate::heap::{Freed, Reuse};
use crate::lane::Lane;
use crate::lock::{Mode, Refused};
use crate::memory;
use crate::pointer::{Area, Bytes, InvPtr, InvSpan, Object, Ptr, Span};
use crate::reader::{Reader, compare_by};
use crate::recover::version_word;
use crate::space::{Access, Space, area_of, header_place};
use crate::spare::Entered;
use crate::stored::{Stored, Value, type_of};
pub(crate) use overlay::Rank;
pub(crate) use pending::Pending;
pub use reclaim::strike_used;
use work::LastLocked;
pub(crate) use work::Work;

/// A transaction. Dropped without [`Tx::commit`], also by a panic, it leaves nothing behind.
pub struct Tx<'g, B: Backend> {
    guard: &'g Guard<'g, B>,
    space: &'g Space<B>,
    lane: ManuallyDrop<Box<Lane>>,
    entered: Entered,
    state: State,
}

/// How far a transaction has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing of it counts.
    Open,
    /// It counts, but not all of it is in place.
    Committed,
    /// All is in place.
    Done,
}

/// Writes of so many bytes to an object that the transaction made are not staged with a log.
const IN_PLACE_BYTES_MIN: u64 = 32 * 1024;

impl<'g, B: Backend> Tx<'g, B> {
    /// The space that it changes.
    #[must_use]
    pub const fn space(&self) -> &'g Space<B> {
        self.space
    }

    /// The guard that it runs under.
    #[must_use]
    pub const fn guard(&self) -> &'g Guard<'g, B> {
        self.guard
    }

    /// Opens an object whose base is a `T`.
    ///
    /// # Errors
    /// As [`Guard::open`].
    pub fn open<T: Stored>(&self, id: ObjId, access: Access) -> Result<Object<'g, T>, OpenError> {
        self.guard.open(id, access)
    }

    /// Opens an object of whatever type.
    ///
    /// # Errors
    /// As [`Guard::open_any`].
    pub fn open_any(&self, id: ObjId, access: Access) -> Result<Area<'g>, Error> {
        self.guard.open_any(id, access)
    }

    /// Locks an object until the transaction ends: nobody else reads it in a transaction, or changes it. Every write does so by itself; who
    /// is going to write what it reads first spares itself a conflict.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] for an object that can't be written; [`Error::Busy`] where the holder lives and does not let go for 10 seconds,
    /// and where the transaction is to run again; what recovery of a dead holder's transaction says.
    #[inline]
    pub fn lock(&mut self, area: Area<'g>) -> Result<(), Error> {
        if self.work().last.get().covers_exclusively(area.start()) || self.work().fresh.made(area) {
            return self.doomed();
        }
        self.lock_slowly(area, Mode::Exclusive)
    }

    /// Locks an object until the transaction ends: nobody else changes it. Every read does so by itself.
    ///
    /// # Errors
    /// As [`Tx::lock`].
    pub fn lock_shared(&self, area: Area<'g>) -> Result<(), Error> {
        if self.work().fresh.made(area) {
            self.work().last.set(LastLocked::new(area, true));
            return self.doomed();
        }
        self.lock_slowly(area, Mode::Shared)
    }

    fn lock_slowly(&self, area: Area<'g>, mode: Mode) -> Result<(), Error> {
        self.doomed()?;
        let mapped = self.space.mapped(area)?;
        if mode == Mode::Exclusive && !mapped.writable {
            return Err(Error::AccessDenied);
        }
        if mode == Mode::Exclusive && self.work().deletes.contains(&mapped.id) {
            // What is written there would be gone.
            return Err(Error::NoSuchObject);
        }
        self.lock_id(mapped.id, mode)?;
        self.find_pending(area.start(), mapped.id)?;
        self.work().last.set(LastLocked::new(area, mode == Mode::Exclusive));
        if mode == Mode::Exclusive {
            memory::prefetch(version_word(area).address());
        }
        Ok(())
    }

    /// Takes the lock of an object, there or not.
    pub(crate) fn lock_id(&self, id: ObjId, mode: Mode) -> Result<(), Error> {
        let held = &mut *self.lane.held.borrow_mut();
        let taken = self.space.take(held, stripe_of(id), mode);
        self.work().seen.set(self.work().seen.get().max(core::mem::take(&mut held.seen)));
        match taken {
            Ok(()) => Ok(()),
            Err(Refused::Conflict) => {
                self.work().conflict.set(true);
                self.work().failed.set(Some(Error::Busy));
                Err(Error::Busy)
            }
            Err(Refused::System(error)) => Err(error),
        }
    }

    /// An error where the transaction can't commit any more.
    #[inline]
    fn doomed(&self) -> Result<(), Error> {
        self.work().failed.get().map_or(Ok(()), Err)
    }

    /// Notes that a change has stopped half-way, so that what there is now is never committed. Undoing a savepoint that it is part of undoes that too.
    /// Gives the error back.
    #[cold]
    pub(crate) fn tear(&mut self, error: Error) -> Error {
        self.work_mut().torn.get_or_insert(error);
        error
    }

    /// Makes a change that counts as a whole: where it stops half-way, by an error or by a panic that is caught within the transaction, what there is then is never
    /// committed.
    pub(crate) fn whole<R>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let before = self.work().torn;
        self.tear(Error::Interrupted);
        let result = change(self);
        self.work_mut().torn = before.or(result.as_ref().err().copied());
        result
    }

    /// Locks what is about to be read. False: that failed, so the transaction can't commit, and what lies there is not to be looked at.
    #[inline]
    fn lock_for_read(&self, address: u64) -> bool {
        self.work().last.get().covers(address) || self.lock_for_read_slowly(range_start(address))
    }

    fn lock_for_read_slowly(&self, start: u64) -> bool {
        let Some(slot) = Slot::of(start) else { return false };
        match self.lock_shared(area_of(slot)) {
            // Unmapped meanwhile, so nobody changes it in place.
            Ok(()) | Err(Error::NoSuchObject) => true,
            Err(error) => {
                self.work().failed.set(Some(error));
                false
            }
        }
    }

    /// [`Reader::get`] of what has yet to be locked, or does not lie in place.
    #[inline(never)]
    fn get_slowly<T: Value>(&self, place: Ptr<'g, T>) -> T {
        if !self.lock_for_read(place.address()) {
            return memory::zeroed();
        }
        let mut value = self.load(place);
        self.work().overlay.patch(place.address(), memory::bytes_of_mut(&mut value));
        value
    }

    #[inline]
    fn work(&self) -> &Work {
        &self.lane.work
    }

    #[inline]
    fn work_mut(&mut self) -> &mut Work {
        &mut self.lane.work
    }

    /// Sets the value at a place.
    ///
    /// # Errors
    /// As [`Tx::lock`].
    #[inline]
    pub fn set<T: Value>(&mut self, place: Ptr<'g, T>, value: T) -> Result<(), Error> {
        let work = &mut self.lane.work;
        if work.last.get().covers_exclusively(place.address()) && work.fresh.is_empty() {
            // It is locked, and nothing lies in place that is nobody else's: what is so mostly, said again in few words.
            work.failed.get().map_or(Ok(()), Err)?;
            work.overlay.write(place.address(), memory::bytes_of(&value));
            return Ok(());
        }
        self.put(place.as_span().as_bytes(), memory::bytes_of(&value))
    }

    /// Changes the value at a place: `change` gets a copy, which is then set.
    ///
    /// # Errors
    /// As [`Tx::lock`].
    pub fn edit<T: Value, R>(
        &mut self,
        place: Ptr<'g, T>,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<R, Error> {
        self.lock(place.object())?;
        let mut value = self.get(place);
        let result = change(&mut value);
        self.set(place, value)?;
        Ok(result)
    }

    /// Overwrites bytes from `from` on.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; otherwise as [`Tx::lock`].
    pub fn write(&mut self, to: Bytes<'g>, from: u64, bytes: &[u8]) -> Result<(), Error> {
        let to = to.slice(from, bytes.len() as u64).ok_or(Error::OutOfRange)?;
        self.put(to, bytes)
    }

    /// Writes bytes, as many as the span has: in place where nobody else can look, otherwise staged.
    fn put(&mut self, to: Bytes<'g>, bytes: &[u8]) -> Result<(), Error> {
        let Some(first) = to.index(0) else { return Ok(()) };
        let backend = self.space.backend();
        if to.len() >= IN_PLACE_BYTES_MIN && self.stages() && self.work().fresh.made(first.object()) {
            // Much, for an object that nobody can reach yet: not twice.
            self.work_mut().fresh.add_block(to.address(), to.len());
        }
        if self.work().fresh.contains(to.address(), to.len()) {
            memory::write(backend, to, bytes);
            let work = self.work_mut();
            work.fresh.wrote(backend, to.address(), to.len());
            work.overlay.rewrite(to.address(), bytes);
            return Ok(());
        }
        self.lock(first.object())?;
        self.work_mut().overlay.write(to.address(), bytes);
        Ok(())
    }

    /// Writes into a file, from `at` bytes beyond the base; makes the pages exist. The length stays as it is.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] beyond what an object holds, [`Error::OutOfNvm`]; otherwise as [`Tx::lock`].
    pub fn write_at(&mut self, area: Area<'g>, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let offset = at.checked_add(BASE_OFFSET).ok_or(Error::OutOfRange)?;
        let to: Bytes<'g> = area.span(offset, bytes.len() as u64).ok_or(Error::OutOfRange)?;
        self.ensure(area, offset, to.len())?;
        self.write(to, 0, bytes)
    }

    /// Sets a file's length.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for more than the object can have; otherwise as [`Tx::lock`].
    pub fn set_len_bytes(&mut self, area: Area<'g>, len_bytes: u64) -> Result<(), Error> {
        if len_bytes > area.range_bytes() - BASE_OFFSET {
            return Err(Error::OutOfRange);
        }
        self.set(header_place(area, core::mem::offset_of!(Header, len_bytes)), len_bytes)
    }

    /// Makes pages exist.
    pub(crate) fn ensure(&self, area: Area<'g>, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.space.backend().ensure(self.space.mapped(area)?.id, offset, len_bytes)
    }

    /// Where bits lead to that lie at an address, or anywhere in the same object.
    #[inline]
    fn resolve_own<T: Stored>(&self, at: u64, bits: PointerBits) -> Result<Option<Ptr<'g, T>>, Error> {
        match self.space.resolve(at, bits) {
            // Only memory was looked at, not what is staged.
            Err(Error::Damaged) if self.resolve_own_name(at, bits, type_of::<T>)? => {
                self.space.resolve(at, bits)
            }
            result => result,
        }
    }

    /// True with a log: what is not large is staged.
    fn stages(&self) -> bool {
        self.lane.sink == Sink::Log
    }

    /// Notes that what is staged at a place makes something reachable for readers without locks: it is stored when all else is.
    pub(crate) fn publish<T>(&mut self, place: Ptr<'_, T>, rank: Rank) {
        let line = place.address() & !(overlay::LINE - 1);
        let published = &mut self.work_mut().published;
        if published.last() != Some(&(rank, line)) {
            published.push((rank, line));
        }
    }

    /// Sets bytes to zero.
    pub(crate) fn zero(&mut self, bytes: Bytes<'g>) -> Result<(), Error> {
        const ZEROS: [u8; 512] = [0; 512];
        let backend = self.space.backend();
        let is_fresh = self.is_fresh(bytes);
        if is_fresh {
            memory::zero(backend, bytes);
            self.work_mut().fresh.wrote(backend, bytes.address(), bytes.len());
        }
        let mut at = 0;
        while at < bytes.len() {
            let len = (bytes.len() - at).min(ZEROS.len() as u64);
            let zeros = &ZEROS[..len as usize];
            if is_fresh {
                // What a savepoint has staged there.
                self.work_mut().overlay.rewrite(bytes.address() + at, zeros);
            } else {
                self.write(bytes, at, zeros)?;
            }
            at += len;
        }
        Ok(())
    }

    /// From here on, the transaction puts new versions of types in the place of old ones: it migrates an object.
    pub(crate) fn replace_types(&mut self) {
        self.work_mut().replaces_types = true;
    }

    pub(crate) fn replaces_types(&self) -> bool {
        self.work().replaces_types
    }

    /// The version that the transaction makes of a map, which is locked and whose number lies at a place: the one after what is there when it is first
    /// asked for, and the same from then on, in savepoints too.
    #[inline]
    pub(crate) fn stamp(&mut self, number: Ptr<'g, u64>) -> Result<u64, Error> {
        let mut known = self.work().stamps.iter().rev();
        if let Some(&(_, stamp)) = known.find(|(at, _)| *at == number.address()) {
            return Ok(stamp);
        }
        let stamp = self.get(number).checked_add(1).ok_or(Error::Damaged)?;
        self.work_mut().stamps.push((number.address(), stamp));
        Ok(stamp)
    }

    pub(crate) fn push_free(&mut self, freed: Freed) {
        self.work_mut().frees.push(freed);
    }

    /// What was last found to be allowed of reuse.
    pub(crate) fn known_reuse(&self) -> &core::cell::Cell<Reuse> {
        &self.work().reuse
    }

    /// What was freed, by number.
    pub(crate) fn freed(&self, number: usize) -> Option<Freed> {
        self.work().frees.get(number).copied()
    }

    /// Undoes everything. The same as dropping it.
    pub fn abort(self) {}
}

impl<B: Backend> Drop for Tx<'_, B> {
    fn drop(&mut self) {
        match self.state {
            State::Open => self.undo(),
            State::Done => self.tell_freed_entries(),
            // A panic in the backend, between the commit and its end: what is half in place stays locked, until this program has ended and
            // someone finishes it.
            State::Committed => {
                self.space.spare.leave(self.space.backend(), self.entered, None);
                return;
            }
        }
        {
            let held = &mut *self.lane.held.borrow_mut();
            self.space.release_all(held);
            self.space.forget_age(held);
        }
        // Whoever is told of an error, or reads nothing but its outcome, may act on what it has seen. A failed sync is the next commit's error.
        let _ = self.witness();
        // SAFETY: dropped once; the lane is not touched after that.
        let lane = unsafe { ManuallyDrop::take(&mut self.lane) };
        self.space.spare.leave(self.space.backend(), self.entered, Some(lane));
    }
}

impl<'g, B: Backend> Reader<'g> for Tx<'g, B> {
    #[inline]
    fn get<T: Value>(&self, place: Ptr<'g, T>) -> T {
        let work = self.work();
        if work.seen.get() == 0 && work.last.get().covers(place.address()) && !work.overlay.may_have(place) {
            return memory::load(place);
        }
        self.get_slowly(place)
    }

    #[inline]
    fn follow<T: Stored>(&self, place: Ptr<'g, InvPtr<T>>) -> Result<Option<Ptr<'g, T>>, Error> {
        let bits = PointerBits(self.get(place.bits()));
        self.doomed()?;
        self.resolve_own(place.address(), bits)
    }

    fn follow_span<T: Stored>(&self, place: Ptr<'g, InvSpan<T>>) -> Result<Span<'g, T>, Error> {
        let at = place.at(InvSpan::AT);
        let (bits, len) = (PointerBits(self.get(at.bits())), self.get(place.at(InvSpan::LEN)));
        self.doomed()?;
        self.space.resolve_span(at.address(), bits, len)
    }

    fn read(&self, bytes: Bytes<'g>, from: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let part = bytes.slice(from, buffer.len() as u64).ok_or(Error::OutOfRange)?;
        if part.is_empty() {
            return Ok(());
        }
        if !self.lock_for_read(part.address()) {
            self.doomed()?;
        }
        self.load_bytes(part, buffer);
        self.work().overlay.patch(part.address(), buffer);
        Ok(())
    }

    fn encoded(&self, from: Area<'g>, target: u64) -> Result<Option<u64>, Error> {
        self.lock_shared(from)?;
        self.space.encoded(self, from, target)
    }

    fn decoded<T: Stored>(&self, from: Area<'g>, bits: PointerBits) -> Result<Option<Ptr<'g, T>>, Error> {
        self.doomed()?;
        self.resolve_own(from.start(), bits)
    }

    fn compare(&self, bytes: Bytes<'g>, other: &[u8]) -> Ordering {
        let locked = bytes.is_empty() || self.lock_for_read(bytes.address());
        compare_by(bytes, other, |part, buffer| {
            if !locked {
                return buffer.fill(0);
            }
            self.load_bytes(part, buffer);
            self.work().overlay.patch(part.address(), buffer);
        })
    }
}
