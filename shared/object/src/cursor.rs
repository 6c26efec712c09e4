//! Walking along pointers.

use core::fmt;

use twizzler_abi::Error;
use twizzler_abi::address::range_start;
use twizzler_abi::pointer::PointerBits;

use crate::backend::Backend;
use crate::guard::Guard;
use crate::memory;
use crate::pointer::{InvPtr, Ptr};
use crate::resolve::Want;
use crate::space::Space;
use crate::stored::{Field, Stored, Value, type_of};

/// A place that knows the start of its object's range, so that a local hop is a comparison and an addition. For walks of many hops in a
/// guard; sees what is in memory, as the guard does.
///
/// ```
/// # use twizzler_abi::Error;
/// # use twizzler_image::MemoryBackend;
/// # use twizzler_object::{Access, Guard, InvPtr, Ptr, Space, Stored, Backend};
/// #[derive(Stored)]
/// #[stored(name = "example.link", version = 1)]
/// #[repr(C)]
/// struct Link { next: InvPtr<Link>, value: u64 }
///
/// fn sum<'g, B: Backend>(guard: &'g Guard<'_, B>, first: Ptr<'g, Link>) -> Result<u64, Error> {
///     let mut link = guard.cursor(first);
///     let mut sum = link.get(Link::value);
///     while let Some(next) = link.follow(Link::next)? {
///         link = next;
///         sum += link.get(Link::value);
///     }
///     Ok(sum)
/// }
/// # let backend = MemoryBackend::new();
/// # let space = Space::attach(&backend)?;
/// # let id = space.transact(|tx| {
/// #     let first = tx.create::<Link>()?.base();
/// #     let second = tx.alloc::<Link>(first.object())?;
/// #     tx.set(first.at(Link::value), 3)?;
/// #     tx.set(second.at(Link::value), 4)?;
/// #     tx.link(first.at(Link::next), Some(second))?;
/// #     Ok::<_, Error>(tx.space().id_of(first.object()))
/// # })?;
/// # let guard = space.enter();
/// # assert_eq!(sum(&guard, guard.open::<Link>(id, Access::Read)?.base()), Ok(7));
/// # Ok::<(), Error>(())
/// ```
pub struct Cursor<'g, T, B: Backend> {
    space: &'g Space<B>,
    start: u64,
    at: Ptr<'g, T>,
}

impl<T, B: Backend> Clone for Cursor<'_, T, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, B: Backend> Copy for Cursor<'_, T, B> {}
impl<T, B: Backend> fmt::Debug for Cursor<'_, T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cursor at {:?}", self.at)
    }
}

impl<B: Backend> Guard<'_, B> {
    /// A cursor at a place.
    #[inline(always)]
    #[must_use]
    pub fn cursor<'g, T: Stored>(&'g self, at: Ptr<'g, T>) -> Cursor<'g, T, B> {
        Cursor { space: self.space(), start: range_start(at.address()), at }
    }
}

impl<'g, T: Stored, B: Backend> Cursor<'g, T, B> {
    /// The place.
    #[inline(always)]
    #[must_use]
    pub const fn place(self) -> Ptr<'g, T> {
        self.at
    }

    /// The value of a field.
    #[inline(always)]
    #[must_use]
    pub fn get<V: Value>(self, field: Field<T, V>) -> V {
        memory::load(self.at.at(field))
    }

    /// Follows the pointer in a field. None: it is null.
    ///
    /// # Errors
    /// As [`crate::Reader::follow`].
    #[inline(always)]
    pub fn follow<U: Stored>(self, field: Field<T, InvPtr<U>>) -> Result<Option<Cursor<'g, U, B>>, Error> {
        let bits = PointerBits(memory::load(self.at.at(field).bits()));
        let found = self.space.resolve_from(self.start, self.start, bits, Want::one::<U>(), type_of::<U>)?;
        Ok(found.map(|spot| {
            // SAFETY: `start` is that of the mapped object that `at` lies in, so `resolve_from` has checked that a `U`'s bytes at its
            // alignment lie in a mapped object's range beyond the metadata; the guard, which `'g` borrows, keeps that mapped.
            let at = unsafe { Ptr::new(spot.address) };
            Cursor { space: self.space, start: spot.start, at }
        }))
    }
}
