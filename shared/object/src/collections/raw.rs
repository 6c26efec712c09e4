//! Values in private copies of object memory.

use core::cmp::Ordering;
use core::marker::PhantomData;

use twizzler_abi::Error;

use crate::memory;
use crate::pointer::{Bytes, InvPtr, InvSpan, Ptr, Span};
use crate::reader::Reader;
use crate::reader::compare_by;
use crate::stored::{Stored, Value};

/// What a map is of, to the type checker.
pub(super) type Types<K, V> = PhantomData<(fn() -> *const K, fn() -> *const V)>;

/// The value whose bytes are at `at`.
///
/// # Panics
/// Beyond the end.
pub(super) fn value_at<T: Value>(bytes: &[u8], at: usize) -> T {
    const { T::LAYOUT };
    let part = &bytes[at..at + size_of::<T>()];
    // SAFETY: the slice has as many bytes as a `T`, all initialised, and every bit pattern is one.
    unsafe { part.as_ptr().cast::<T>().read_unaligned() }
}

/// The bytes of a value.
pub(super) fn bytes_of<T: Value>(value: &T) -> &[u8] {
    memory::bytes_of(value)
}

/// The bytes of values.
pub(super) const fn slice_bytes<T: Value>(values: &[T]) -> &[u8] {
    const { T::LAYOUT };
    // SAFETY: a stored type has no padding, so all bytes of the slice are initialised; they live as long as it.
    unsafe { core::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// `at`, or what follows it and is aligned for a `T`.
pub(super) const fn aligned<T: Stored>(at: usize) -> usize {
    at.next_multiple_of(align_of::<T>())
}

/// The offset that a pointer into its own object leads to: not yet checked, and no offset at all if it leads elsewhere. 0: null.
#[inline(always)]
pub(super) fn local<'s, T>(reader: &impl Reader<'s>, place: Ptr<'s, InvPtr<T>>) -> u64 {
    reader.get(place.bits())
}

/// Reads what is committed, past what a transaction has staged: for what no transaction changes once it is committed.
#[derive(Clone, Copy)]
pub(super) struct Committed;

impl<'s> Reader<'s> for Committed {
    #[inline(always)]
    fn get<T: Value>(&self, place: Ptr<'s, T>) -> T {
        memory::load(place)
    }

    fn follow<T: Stored>(&self, _: Ptr<'s, InvPtr<T>>) -> Result<Option<Ptr<'s, T>>, Error> {
        Err(Error::NotSupported)
    }

    fn follow_span<T: Stored>(&self, _: Ptr<'s, InvSpan<T>>) -> Result<Span<'s, T>, Error> {
        Err(Error::NotSupported)
    }

    fn read(&self, bytes: Bytes<'s>, from: u64, buffer: &mut [u8]) -> Result<(), Error> {
        memory::read(bytes.slice(from, buffer.len() as u64).ok_or(Error::OutOfRange)?, buffer);
        Ok(())
    }

    fn compare(&self, bytes: Bytes<'s>, other: &[u8]) -> Ordering {
        compare_by(bytes, other, memory::read)
    }
}
