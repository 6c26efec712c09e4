//! Transactions: any number of changes to any number of objects, all or nothing, for two fences.
//!
//! New values are staged privately; the transaction itself reads them, nobody else does. Commit writes one *record* into the
//! program's lane and flushes it together with everything that was freshly allocated: **fence 1 is the commit point**. Then the
//! new bytes are copied in place, the version word of each changed object is written, all is flushed: **fence 2**, and the
//! locks are released. Recovery applies a record to an object unless the object has a later version.
//!
//! What the transaction allocated, and objects that it made, nobody else can reach: but for the first few bytes, they are written in
//! place at once. Then there is a fence before the record is written: a record whose lines all happen to arrive counts, so what
//! it makes reachable must be durable before.
//! Freed memory is not given out again before the commit, so an undone transaction finds it as it was.

mod commit;
mod fresh;
mod link;
mod log;
mod objects;
pub(crate) mod overlay;

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::sync::atomic::Ordering as MemoryOrder;

use twizzler_abi::call::CreateSpec;
use twizzler_abi::object::{BASE_OFFSET, Header};
use twizzler_abi::pointer::PointerBits;
use twizzler_abi::{Error, ObjId, address::Slot};

use crate::backend::{Backend, Sink};
use crate::error::OpenError;
use crate::guard::Guard;
use crate::heap::Freed;
use crate::memory;
use crate::pointer::{Area, Bytes, InvPtr, InvSpan, Object, Ptr, Span};
use crate::reader::{Reader, compare_by};
use crate::space::{Access, Space, header_place};
use crate::stored::{Stored, Value};
use fresh::Fresh;
use overlay::Overlay;

/// A transaction. Dropped without [`Tx::commit`], it leaves nothing behind.
pub struct Tx<'s, B: Backend> {
    guard: &'s Guard<'s, B>,
    space: &'s Space<B>,
    overlay: Overlay,
    fresh: Fresh,
    locked: Vec<Area<'s>>,
    created: Vec<ObjId>,
    /// What those were made of; with [`Sink::Log`] alone.
    specs: Vec<CreateSpec>,
    deletes: Vec<ObjId>,
    frees: Vec<Freed<'s>>,
    /// FOT entries that it staged: (object, index, target).
    entries: Vec<(Slot, u64, Slot)>,
    /// Its number in the lane.
    number: u64,
    /// Bytes of allocations that are staged.
    staged_bytes: u64,
    committed: bool,
}

/// Allocated bytes that a transaction stages before it writes them in place. What is written in place costs a fence of its own
/// (see [`Tx::commit`]); what is staged is written twice.
const STAGED_BYTES_MAX: u64 = 512;
/// The same with [`Sink::Log`], where writing in place costs a sync of the object's file.
const STAGED_BYTES_MAX_LOG: u64 = 256 * 1024;
/// Writes of so many bytes to an object that the transaction made are not staged with [`Sink::Log`].
const IN_PLACE_BYTES_MIN: u64 = 32 * 1024;

impl<B: Backend> Guard<'_, B> {
    /// Begins a transaction, to be ended by [`Tx::commit`] or [`Tx::abort`]. Prefer [`Guard::transact`], which runs it again where it
    /// conflicts with another one.
    ///
    /// # Errors
    /// [`Error::Busy`] within another; what making a lane says.
    pub fn begin(&self) -> Result<Tx<'_, B>, Error> {
        self.backend().may_change()?;
        // Acquire pairs with the release in `Tx::drop`.
        if self.in_transaction.swap(true, MemoryOrder::Acquire) {
            return Err(Error::Busy);
        }
        let claimed = match self.backend().sink() {
            Sink::Lanes => self.claim_lane(),
            Sink::Log => Ok(()),
        };
        if let Err(error) = claimed {
            self.in_transaction.store(false, MemoryOrder::Release);
            return Err(error);
        }
        let number = self.lane.lock(self.backend()).as_ref().map_or(0, |lane| lane.transaction + 1);
        Ok(Tx {
            guard: self,
            space: self.space(),
            overlay: Overlay::default(),
            fresh: Fresh::default(),
            locked: Vec::new(),
            created: Vec::new(),
            specs: Vec::new(),
            deletes: Vec::new(),
            frees: Vec::new(),
            entries: Vec::new(),
            number,
            staged_bytes: 0,
            committed: false,
        })
    }

    /// Runs `change` in a transaction: commits where it returns `Ok`, undoes everything where it returns an error. It may run
    /// several times, so it should change nothing but through the transaction; only the last run counts.
    ///
    /// # Errors
    /// Those of `change`, of [`Guard::begin`] and of [`Tx::commit`].
    pub fn transact<'g, R, E: From<Error>>(
        &'g self,
        mut change: impl FnMut(&mut Tx<'g, B>) -> Result<R, E>,
    ) -> Result<R, E> {
        self.transact_once(&mut change)
    }

    /// The same for a `change` that can't run twice: a conflict with another transaction is [`Error::Busy`].
    ///
    /// # Errors
    /// As [`Guard::transact`].
    pub fn transact_once<'g, R, E: From<Error>>(
        &'g self,
        change: impl FnOnce(&mut Tx<'g, B>) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut tx = self.begin()?;
        let result = change(&mut tx)?;
        tx.commit()?;
        Ok(result)
    }
}

impl<'s, B: Backend> Tx<'s, B> {
    /// The space that it changes.
    #[must_use]
    pub const fn space(&self) -> &'s Space<B> {
        self.space
    }

    /// The guard that it runs under.
    #[must_use]
    pub const fn guard(&self) -> &'s Guard<'s, B> {
        self.guard
    }

    /// Opens an object whose base is a `T`.
    ///
    /// # Errors
    /// As [`Guard::open`].
    pub fn open<T: Stored>(&self, id: ObjId, access: Access) -> Result<Object<'s, T>, OpenError> {
        self.guard.open(id, access)
    }

    /// Opens an object of whatever type.
    ///
    /// # Errors
    /// As [`Guard::open_any`].
    pub fn open_any(&self, id: ObjId, access: Access) -> Result<Area<'s>, Error> {
        self.guard.open_any(id, access)
    }

    /// Locks an object until the transaction ends. Every write does so by itself; whoever bases a write on what it reads
    /// locks first, the root object before others.
    ///
    /// # Errors
    /// As [`Guard::lock`].
    pub fn lock(&mut self, area: Area<'s>) -> Result<(), Error> {
        if self.locked.last() == Some(&area) || self.locked.contains(&area) || self.fresh.made(area) {
            return Ok(());
        }
        self.space.acquire(area)?;
        self.locked.push(area);
        Ok(())
    }

    /// Sets the value at a place.
    ///
    /// # Errors
    /// As [`Tx::lock`].
    pub fn set<T: Value>(&mut self, place: Ptr<'s, T>, value: T) -> Result<(), Error> {
        if self.fresh.contains(place.address(), size_of::<T>() as u64) {
            memory::store(self.space.backend(), place, &value);
            self.fresh.wrote(self.space.backend(), place.address(), size_of::<T>() as u64);
            return Ok(());
        }
        self.lock(place.object())?;
        self.overlay.write(place.address(), memory::bytes_of(&value));
        Ok(())
    }

    /// Overwrites bytes from `from` on.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; otherwise as [`Tx::lock`].
    pub fn write(&mut self, to: Bytes<'s>, from: u64, bytes: &[u8]) -> Result<(), Error> {
        let to = to.slice(from, bytes.len() as u64).ok_or(Error::OutOfRange)?;
        let Some(first) = to.index(0) else { return Ok(()) };
        if self.fresh.contains(to.address(), to.len()) {
            memory::write(self.space.backend(), to, bytes);
            self.fresh.wrote(self.space.backend(), to.address(), to.len());
            return Ok(());
        }
        self.lock(first.object())?;
        if self.goes_in_place(to) {
            self.fresh.add_block(to.address(), to.len());
            memory::write(self.space.backend(), to, bytes);
        } else {
            self.overlay.write(to.address(), bytes);
        }
        Ok(())
    }

    /// With [`Sink::Log`]: true for a large part of an object that the transaction made, of which nothing is staged. It is synced at the
    /// commit, instead of being written to the log as well.
    fn goes_in_place(&self, to: Bytes<'s>) -> bool {
        to.len() >= IN_PLACE_BYTES_MIN
            && to.index(0).is_some_and(|first| {
                let mapped = self.space.mapped(first.object());
                !self.specs.is_empty() && mapped.is_ok_and(|mapped| self.created.contains(&mapped.id))
            })
            && !self.overlay.holds(to.address(), to.len())
    }

    /// Writes into a file, from `at` bytes beyond the base; makes the pages exist. The length stays as it is.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] beyond what an object holds, [`Error::OutOfNvm`]; otherwise as [`Tx::lock`].
    pub fn write_at(&mut self, area: Area<'s>, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let offset = at.checked_add(BASE_OFFSET).ok_or(Error::OutOfRange)?;
        let to: Bytes<'s> = area.span(offset, bytes.len() as u64).ok_or(Error::OutOfRange)?;
        self.ensure(area, offset, to.len())?;
        self.write(to, 0, bytes)
    }

    /// Sets a file's length.
    ///
    /// # Errors
    /// As [`Tx::lock`].
    pub fn set_len_bytes(&mut self, area: Area<'s>, len_bytes: u64) -> Result<(), Error> {
        self.set(header_place(area, core::mem::offset_of!(Header, len_bytes)), len_bytes)
    }

    /// Makes pages exist.
    pub(crate) fn ensure(&self, area: Area<'s>, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.space.backend().ensure(self.space.mapped(area)?.id, offset, len_bytes)
    }

    /// Notes that the transaction has allocated these bytes. The first few are staged like other changes; what is more is written
    /// in place.
    pub(crate) fn allocated(&mut self, bytes: Bytes<'s>) {
        if self.fresh.contains(bytes.address(), bytes.len()) {
            return;
        }
        let staged_bytes_max = match self.space.backend().sink() {
            Sink::Lanes => STAGED_BYTES_MAX,
            Sink::Log => STAGED_BYTES_MAX_LOG,
        };
        if self.staged_bytes + bytes.len() <= staged_bytes_max {
            self.staged_bytes += bytes.len();
        } else {
            self.fresh.add_block(bytes.address(), bytes.len());
        }
    }

    /// True for memory that the transaction has made itself and writes in place.
    pub(crate) fn is_fresh(&self, bytes: Bytes<'s>) -> bool {
        self.fresh.contains(bytes.address(), bytes.len())
    }

    /// Sets bytes to zero.
    pub(crate) fn zero(&mut self, bytes: Bytes<'s>) -> Result<(), Error> {
        if self.fresh.contains(bytes.address(), bytes.len()) {
            memory::zero(self.space.backend(), bytes);
            self.fresh.wrote(self.space.backend(), bytes.address(), bytes.len());
            return Ok(());
        }
        const ZEROS: [u8; 512] = [0; 512];
        let mut at = 0;
        while at < bytes.len() {
            let len = (bytes.len() - at).min(ZEROS.len() as u64);
            self.write(bytes, at, &ZEROS[..len as usize])?;
            at += len;
        }
        Ok(())
    }

    pub(crate) fn push_free(&mut self, freed: Freed<'s>) {
        self.frees.push(freed);
    }

    pub(crate) fn take_frees(&mut self) -> Vec<Freed<'s>> {
        core::mem::take(&mut self.frees)
    }

    /// Undoes everything. The same as dropping it.
    pub fn abort(self) {}
}

impl<B: Backend> Drop for Tx<'_, B> {
    fn drop(&mut self) {
        if !self.committed {
            self.undo();
        }
        for &area in self.locked.iter().rev() {
            self.space.release(area);
        }
        // Release pairs with the acquire in `Guard::begin`.
        self.space.in_transaction.store(false, MemoryOrder::Release);
    }
}

impl<'s, B: Backend> Reader<'s> for Tx<'s, B> {
    #[inline]
    fn get<T: Value>(&self, place: Ptr<'s, T>) -> T {
        let mut value = memory::load(place);
        if !self.overlay.is_empty() {
            self.overlay.patch(place.address(), memory::bytes_of_mut(&mut value));
        }
        value
    }

    #[inline]
    fn follow<T: Stored>(&self, place: Ptr<'s, InvPtr<T>>) -> Result<Option<Ptr<'s, T>>, Error> {
        self.space.resolve(place.address(), PointerBits(self.get(place.bits())))
    }

    fn follow_span<T: Stored>(&self, place: Ptr<'s, InvSpan<T>>) -> Result<Span<'s, T>, Error> {
        let at = place.at(InvSpan::AT);
        self.space.resolve_span(
            at.address(),
            PointerBits(self.get(at.bits())),
            self.get(place.at(InvSpan::LEN)),
        )
    }

    fn read(&self, bytes: Bytes<'s>, from: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let part = bytes.slice(from, buffer.len() as u64).ok_or(Error::OutOfRange)?;
        memory::read(part, buffer);
        self.overlay.patch(part.address(), buffer);
        Ok(())
    }

    fn compare(&self, bytes: Bytes<'s>, other: &[u8]) -> Ordering {
        compare_by(bytes, other, |part, buffer| {
            memory::read(part, buffer);
            self.overlay.patch(part.address(), buffer);
        })
    }
}
