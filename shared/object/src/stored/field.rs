//! Where in a record a field lies.

use core::fmt;
use core::marker::PhantomData;

use crate::pointer::assert_has_bytes;

/// A part of a record: which, where, and of what type. Made by `#[derive(Stored)]`.
pub struct Field<T, F> {
    offset: usize,
    types: PhantomData<fn(T) -> F>,
}

impl<T, F> Clone for Field<T, F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, F> Copy for Field<T, F> {}

impl<T, F> fmt::Debug for Field<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field at {:#x}", self.offset)
    }
}

impl<T, F> Field<T, F> {
    /// # Safety
    /// `T` has a field of type `F` at `offset`.
    #[doc(hidden)]
    #[must_use]
    pub const unsafe fn new(offset: usize) -> Self {
        const { assert_has_bytes::<F>() };
        // Then it lies within any place of a `T`, and is aligned there: what safety needs of it.
        assert!(offset <= size_of::<T>() && size_of::<F>() <= size_of::<T>() - offset, "no field lies there");
        assert!(
            align_of::<F>() <= align_of::<T>() && offset.is_multiple_of(align_of::<F>()),
            "no field lies so"
        );
        Self { offset, types: PhantomData }
    }

    /// Offset of the field in its record, in bytes.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.offset as u64
    }
}
