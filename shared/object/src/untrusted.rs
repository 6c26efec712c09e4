//! Objects that somebody may be writing to with ill will.
//!
//! The handle says whom one trusts. [`crate::Object`] and [`crate::Ptr`] are for objects whose other mappers *cooperate*: they change them in
//! transactions, and keep to the rules of the collections in them. Memory is safe in any case; what a *hostile* mapper
//! could do through those handles is to make a program wait, walk for ever, map objects of somebody else's choice, and believe a value that
//! has changed since it was checked. An [`Untrusted`] place has none of the means for it:
//!
//! - it only gives copies, each read once: what was checked is what is used;
//! - everything that is read has a bound, which the reader names: so many values, so many steps;
//! - pointers lead within the object only: nothing is mapped on the object's word;
//! - it takes no lock, waits for nobody, is part of no transaction and can't be written.

use alloc::vec::Vec;
use core::fmt;

use twizzler_abi::pointer::PointerBits;
use twizzler_abi::{Error, ObjId};

use crate::backend::Backend;
use crate::error::OpenError;
use crate::guard::Guard;
use crate::memory;
use crate::pointer::{InvPtr, InvSpan, Ptr};
use crate::resolve::{Meaning, Want, meaning_of};
use crate::space::Access;
use crate::stored::{Field, Stored, Value};

/// A place in an object whose other mappers are not trusted. See the module.
///
/// ```
/// # use twizzler_abi::Error;
/// # use twizzler_image::MemoryBackend;
/// use twizzler_object::{InvBytes, InvPtr, Space, Stored};
///
/// #[derive(Stored)]
/// #[stored(name = "example.request", version = 1)]
/// #[repr(C)]
/// struct Request { next: InvPtr<Request>, text: InvBytes, amount: u64 }
///
/// # let backend = MemoryBackend::new();
/// # let space = Space::attach(&backend)?;
/// # let id = space.transact(|tx| {
/// #     let request = tx.create::<Request>()?.base();
/// #     let text = tx.alloc_bytes(request.object(), b"pay")?;
/// #     tx.link_span(request.at(Request::text), text)?;
/// #     tx.set(request.at(Request::amount), 7)?;
/// #     Ok::<_, Error>(space.id_of(request.object()))
/// # })?;
/// let guard = space.enter();
/// for request in guard.open_untrusted::<Request>(id)?.walk(Request::next, 100) {
///     let request = request?; // at most a hundred
///     let amount = request.get(Request::amount); // a copy: it stays what is checked now
///     let text = request.read(Request::text, 64)?; // at most 64 bytes
///     assert!(amount < 10 && text == b"pay");
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct Untrusted<'g, T> {
    /// Never given away: with it would go the means that this type keeps from its owner.
    place: Ptr<'g, T>,
}

impl<T> Clone for Untrusted<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Untrusted<'_, T> {}
impl<T> fmt::Debug for Untrusted<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "untrusted place at {:?}", self.place)
    }
}

impl<B: Backend> Guard<'_, B> {
    /// Opens an object whose base is a `T`, as one whose other mappers are not trusted.
    ///
    /// # Errors
    /// As [`Guard::open`].
    pub fn open_untrusted<T: Stored>(&self, id: ObjId) -> Result<Untrusted<'_, T>, OpenError> {
        Ok(Untrusted { place: self.open::<T>(id, Access::Read)?.base() })
    }
}

impl<'g, T: Stored> Untrusted<'g, T> {
    /// A field's place.
    #[must_use]
    pub fn at<F: Stored>(self, field: Field<T, F>) -> Untrusted<'g, F> {
        Untrusted { place: self.place.at(field) }
    }

    /// A copy of the value in a field.
    #[must_use]
    pub fn get<F: Value>(self, field: Field<T, F>) -> F {
        memory::load(self.place.at(field))
    }

    /// Follows the pointer in a field. None: it is null.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] for a pointer to another object; [`Error::Damaged`] for bits that no pointer has.
    pub fn follow<F: Stored>(self, field: Field<T, InvPtr<F>>) -> Result<Option<Untrusted<'g, F>>, Error> {
        let bits = PointerBits(memory::load(self.place.at(field).bits()));
        let Some(offset) = self.local(bits, Want::one::<F>())? else { return Ok(None) };
        let place = self.place.object().place(offset).ok_or(Error::Damaged)?;
        Ok(Some(Untrusted { place }))
    }

    /// A copy of the values of the span in a field, at most `len_max` of them.
    ///
    /// # Errors
    /// [`Error::TooLong`] for more; otherwise as [`Untrusted::follow`].
    pub fn read<F: Value>(self, field: Field<T, InvSpan<F>>, len_max: u64) -> Result<Vec<F>, Error> {
        let span = self.place.at(field);
        let len = memory::load(span.at(InvSpan::LEN));
        let bits = PointerBits(memory::load(span.at(InvSpan::AT).bits()));
        if len > len_max {
            return Err(Error::TooLong);
        }
        let len_bytes = len.checked_mul(size_of::<F>() as u64).ok_or(Error::TooLong)?;
        if len == 0 {
            return Ok(Vec::new());
        }
        let want = Want { len_bytes, align: align_of::<F>() as u64 };
        let offset = self.local(bits, want)?.ok_or(Error::Damaged)?;
        let values = self.place.object().span(offset, len).ok_or(Error::Damaged)?;
        Ok((0..len).filter_map(|index| values.index(index)).map(memory::load).collect())
    }

    /// This place, and those that the pointer in a field leads to, one after the other. After so many steps, and where a pointer
    /// can't be followed, the last thing that it gives is an error.
    pub fn walk(self, next: Field<T, InvPtr<T>>, steps_max: u64) -> Walk<'g, T> {
        Walk { here: Some(Ok(self)), next, steps_left: steps_max }
    }

    /// The offset in this object that bits point to. None: they are null.
    fn local(self, bits: PointerBits, want: Want) -> Result<Option<u64>, Error> {
        match meaning_of(bits, want, self.place.object().range_bytes())? {
            Meaning::Null => Ok(None),
            Meaning::Local(offset) => Ok(Some(offset)),
            Meaning::Foreign { .. } => Err(Error::AccessDenied),
        }
    }
}

impl<'g, T: Stored, const N: usize> Untrusted<'g, [T; N]> {
    /// An element's place; None beyond the end.
    #[must_use]
    pub fn index(self, index: usize) -> Option<Untrusted<'g, T>> {
        self.place.index(index).map(|place| Untrusted { place })
    }
}

impl<T: Value> Untrusted<'_, T> {
    /// A copy of the value.
    #[must_use]
    pub fn copy(self) -> T {
        memory::load(self.place)
    }
}

/// See [`Untrusted::walk`].
pub struct Walk<'g, T> {
    here: Option<Result<Untrusted<'g, T>, Error>>,
    next: Field<T, InvPtr<T>>,
    steps_left: u64,
}

impl<T> fmt::Debug for Walk<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "walk of at most {} more steps", self.steps_left)
    }
}

impl<'g, T: Stored> Iterator for Walk<'g, T> {
    type Item = Result<Untrusted<'g, T>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let here = self.here.take()?;
        if let Ok(place) = here {
            self.here = match place.follow(self.next) {
                Ok(Some(_)) if self.steps_left <= 1 => Some(Err(Error::TooLong)),
                Ok(next) => next.map(Ok),
                Err(error) => Some(Err(error)),
            };
            self.steps_left = self.steps_left.saturating_sub(1);
        }
        Some(here)
    }
}
