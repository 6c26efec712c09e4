//! Guards: what resolved pointers borrow from.
//!
//! A guard is entered for an operation and costs an atomic addition; what lies below it costs nothing more. While any guard is
//! alive that was entered before an object was unmapped, the object's mapping stays.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::marker::PhantomData;
use core::ops::Deref;
use core::sync::atomic::AtomicU64;

use twizzler_abi::call::CreateSpec;
use twizzler_abi::pointer::PointerBits;
use twizzler_abi::{Error, ObjId};

use crate::backend::{Backend, Sink};
use crate::epoch::Inside;
use crate::error::OpenError;
use crate::keeps::Keep;
use crate::lane::{id_of, well_known};
use crate::lock::Mode;
use crate::memory;
use crate::pointer::{Area, Bytes, InvPtr, InvSpan, Object, Ptr, Span};
use crate::reader::{Reader, compare_by};
use crate::space::{Access, Space};
use crate::stored::{Stored, Value};
use crate::tx::Tx;

/// A thread's permit to look at objects, from [`Space::enter`]. Everything that is resolved borrows from it. It reads what is in memory;
/// changes, and views that nobody else changes meanwhile, are made by [`Guard::transact`].
///
/// A guard stays with its thread:
///
/// ```compile_fail
/// use twizzler_object::{Backend, Guard};
/// fn send<T: Send>(_: T) {}
/// fn elsewhere<B: Backend + Sync>(guard: Guard<'_, B>) { send(guard) }
/// ```
///
/// And nothing that it resolved outlives it:
///
/// ```compile_fail
/// use twizzler_object::{Backend, Ptr, Space};
/// fn keep<B: Backend>(space: &Space<B>, id: twizzler_abi::ObjId) -> Option<Ptr<'_, u64>> {
///     Some(space.enter().open::<u64>(id, twizzler_object::Access::Read).ok()?.base())
/// }
/// ```
pub struct Guard<'s, B: Backend> {
    space: &'s Space<B>,
    inside: Inside<'s>,
    not_send: PhantomData<*const ()>,
}

impl<B: Backend> Space<B> {
    /// Enters: from here on, what is resolved through the guard stays mapped, until the guard is dropped. Cheap; nests.
    #[inline]
    pub fn enter(&self) -> Guard<'_, B> {
        Guard { space: self, inside: self.epochs.enter(self.backend().thread()), not_send: PhantomData }
    }

    /// Runs `change` as [`Guard::transact`] does, within a guard of its own: for changes that open by [`Tx::open`] what they need.
    ///
    /// # Errors
    /// As [`Guard::transact`].
    pub fn transact<R, E: From<Error>>(
        &self,
        change: impl for<'g> FnMut(&mut Tx<'g, B>) -> Result<R, E>,
    ) -> Result<R, E> {
        let guard = self.enter();
        guard.transact(change)
    }
}

impl<B: Backend> Drop for Guard<'_, B> {
    #[inline]
    fn drop(&mut self) {
        self.inside.leave();
    }
}

impl<B: Backend> Deref for Guard<'_, B> {
    type Target = Space<B>;

    #[inline]
    fn deref(&self) -> &Space<B> {
        self.space
    }
}

impl<'s, B: Backend> Guard<'s, B> {
    /// The space that was entered.
    #[must_use]
    pub const fn space(&self) -> &'s Space<B> {
        self.space
    }

    /// The number of the thread that entered.
    pub(crate) const fn thread(&self) -> u64 {
        self.inside.thread()
    }

    /// Opens an object whose base is a `T`.
    ///
    /// # Errors
    /// [`OpenError::WrongType`] names both types. Otherwise as [`Guard::open_any`].
    #[inline]
    pub fn open<T: Stored>(&self, id: ObjId, access: Access) -> Result<Object<'_, T>, OpenError> {
        match self.space.opened_before(id, access, T::FINGERPRINT) {
            Some(area) => Ok(Object::new(area)),
            None => self.open_settled(id, access),
        }
    }

    /// As [`Guard::open`], of one that was not opened lately.
    #[cold]
    #[inline(never)]
    fn open_settled<T: Stored>(&self, id: ObjId, access: Access) -> Result<Object<'_, T>, OpenError> {
        self.space.settle(id)?;
        self.space.open_typed(id, access)
    }

    /// Opens an object of whatever type: a file, for instance.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`], [`Error::AccessDenied`], [`Error::Damaged`], or no more room.
    pub fn open_any(&self, id: ObjId, access: Access) -> Result<Area<'_>, Error> {
        self.space.open_area(id, access)
    }

    /// Opens the persistent object that everyone finds by this nonce, and whose base is a `T`; makes it, all zeros, where it isn't
    /// there yet.
    ///
    /// # Errors
    /// As [`Guard::open`]; [`Error::OutOfNvm`].
    pub fn well_known<T: Stored>(&self, nonce: [u8; 16]) -> Result<Object<'_, T>, Error> {
        let object = match self.backend().sink() {
            Sink::Lanes => self.well_known_in_place(&well_known::<T>(nonce)),
            Sink::Log => self.well_known_logged(nonce),
        }?;
        self.space.want_description::<T>();
        Ok(object)
    }

    fn well_known_in_place<T: Stored>(&self, spec: &CreateSpec) -> Result<Object<'_, T>, Error> {
        let id = id_of(spec)?;
        // Whoever deletes one of that ID is done with it, in his lane too. Within a transaction of this thread nobody is waited for.
        let is_gone = self.space.map(id) == Err(Error::NoSuchObject);
        let holder = if is_gone { self.begin().ok() } else { None };
        if let Some(holder) = &holder {
            holder.lock_id(id, Mode::Exclusive)?;
        }
        match self.space.open_well_known(spec) {
            // Who may only read opens it for that.
            Err(Error::AccessDenied) => Ok(self.open(id, Access::Read)?),
            result => result,
        }
    }

    fn well_known_logged<T: Stored>(&self, nonce: [u8; 16]) -> Result<Object<'_, T>, Error> {
        let spec = well_known::<T>(nonce);
        let id = id_of(&spec)?;
        match self.open(id, Access::Write) {
            Err(OpenError::System(Error::NoSuchObject)) => {}
            // Who may only read opens it for that.
            Err(OpenError::System(Error::AccessDenied)) => return Ok(self.open(id, Access::Read)?),
            result => return Ok(result?),
        }
        // What it makes nobody else knows yet, so it locks nothing.
        let made = self.begin_apart().and_then(|mut tx| {
            tx.make_typed::<T>(&spec)?;
            tx.commit()
        });
        match made {
            Ok(()) | Err(Error::Exists) => Ok(self.open(id, Access::Write)?),
            Err(error) => Err(error),
        }
    }

    /// A file's bytes: as many as the header says, from the base.
    #[must_use]
    pub fn content<'g>(&'g self, area: Area<'g>) -> Bytes<'g> {
        area.span(twizzler_abi::object::BASE_OFFSET, self.space.len_bytes(area)).unwrap_or(Span::EMPTY)
    }

    /// [`Reader::get`].
    #[inline(always)]
    #[must_use]
    pub fn get<'g, T: Value>(&'g self, place: Ptr<'g, T>) -> T {
        memory::load(place)
    }

    /// [`Reader::follow`].
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    pub fn follow<'g, T: Stored>(&'g self, place: Ptr<'g, InvPtr<T>>) -> Result<Option<Ptr<'g, T>>, Error> {
        self.space.resolve(place.address(), PointerBits(memory::load(place.bits())))
    }

    /// [`Reader::follow_span`].
    ///
    /// # Errors
    /// As there.
    pub fn follow_span<'g, T: Stored>(&'g self, place: Ptr<'g, InvSpan<T>>) -> Result<Span<'g, T>, Error> {
        Reader::follow_span(&self, place)
    }

    /// [`Reader::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read<'g>(&'g self, bytes: Bytes<'g>, from: u64, buffer: &mut [u8]) -> Result<(), Error> {
        Reader::read(&self, bytes, from, buffer)
    }

    /// [`Reader::compare`].
    #[must_use]
    pub fn compare<'g>(&'g self, bytes: Bytes<'g>, other: &[u8]) -> Ordering {
        Reader::compare(&self, bytes, other)
    }

    /// [`Reader::to_vec`].
    #[must_use]
    pub fn to_vec<'g>(&'g self, bytes: Bytes<'g>) -> Vec<u8> {
        Reader::to_vec(&self, bytes)
    }
}

/// What is asked for at a time where reading is slow, while what was asked for before is read.
const PIECE_BYTES: u64 = 256 << 10;

impl<B: Backend> Guard<'_, B> {
    /// Reads bytes, and says of each piece beforehand that it will be read.
    #[cold]
    fn read_ahead(&self, bytes: Bytes<'_>, buffer: &mut [u8]) -> Result<(), Error> {
        let backend = self.space.backend();
        let piece = |at: u64| bytes.slice(at, PIECE_BYTES.min(bytes.len() - at)).ok_or(Error::OutOfRange);
        backend.expect(bytes.address(), PIECE_BYTES);
        let mut at = 0;
        for buffer in buffer.chunks_mut(PIECE_BYTES as usize) {
            let next = at + PIECE_BYTES;
            if next < bytes.len() {
                let ahead = piece(next)?;
                backend.expect(ahead.address(), ahead.len());
            }
            memory::read(piece(at)?, buffer);
            at = next;
        }
        Ok(())
    }
}

impl<'g, B: Backend> Reader<'g> for &'g Guard<'_, B> {
    #[inline(always)]
    fn get<T: Value>(&self, place: Ptr<'g, T>) -> T {
        memory::load(place)
    }

    #[inline(always)]
    fn follow<T: Stored>(&self, place: Ptr<'g, InvPtr<T>>) -> Result<Option<Ptr<'g, T>>, Error> {
        self.space.resolve(place.address(), PointerBits(memory::load(place.bits())))
    }

    fn follow_span<T: Stored>(&self, place: Ptr<'g, InvSpan<T>>) -> Result<Span<'g, T>, Error> {
        let at = place.at(InvSpan::AT);
        let bits = PointerBits(memory::load(at.bits()));
        self.space.resolve_span(at.address(), bits, memory::load(place.at(InvSpan::LEN)))
    }

    fn read(&self, bytes: Bytes<'g>, from: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let part = bytes.slice(from, buffer.len() as u64).ok_or(Error::OutOfRange)?;
        if part.len() > PIECE_BYTES && self.space.backend().reads_slowly() {
            return self.read_ahead(part, buffer);
        }
        memory::read(part, buffer);
        Ok(())
    }

    fn encoded(&self, from: Area<'g>, target: u64) -> Result<Option<u64>, Error> {
        self.space.encoded(self, from, target)
    }

    fn decoded<T: Stored>(&self, from: Area<'g>, bits: PointerBits) -> Result<Option<Ptr<'g, T>>, Error> {
        self.space.resolve(from.start(), bits)
    }

    #[inline(always)]
    fn reads_slowly(&self) -> bool {
        self.space.backend().reads_slowly()
    }

    fn expect(&self, bytes: Bytes<'g>) {
        self.space.backend().expect(bytes.address(), bytes.len());
    }

    #[inline]
    fn changes(&self, area: Area<'g>) -> Option<&'g AtomicU64> {
        Some(self.space.changes_of(area))
    }

    fn wait_for_changes(&self, area: Area<'g>) -> Result<(), Error> {
        self.lock(area).map(drop)
    }

    fn keep(&self, version: Ptr<'g, u64>) -> Result<Option<Keep<'g>>, Error> {
        self.space.keep(version, self.thread()).map(Some)
    }

    fn compare(&self, bytes: Bytes<'g>, other: &[u8]) -> Ordering {
        compare_by(bytes, other, |part, buffer| memory::read(part, buffer))
    }
}
