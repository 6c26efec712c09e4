//! Reading objects: the same inside and outside transactions.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::sync::atomic::AtomicU64;

use twizzler_abi::Error;
use twizzler_abi::pointer::PointerBits;

use crate::keeps::Keep;
use crate::pointer::{Area, Bytes, InvPtr, InvSpan, Ptr, Span};
use crate::stored::{Stored, Value};

/// Whoever can read places: `&Guard`, which sees what is in memory, and [`crate::Tx`], which also sees what it has
/// staged. Code over `impl Reader<'s>` works with both.
pub trait Reader<'s> {
    /// The value at a place. In a transaction that can't have the lock, and so will be undone, zeros: what could be read does not belong together
    /// with what was read before.
    fn get<T: Value>(&self, place: Ptr<'s, T>) -> T;

    /// Follows the pointer at a place. None: it is null.
    ///
    /// # Errors
    /// [`Error::Damaged`] for bits that no pointer has, or an offset outside its object; what [`crate::Guard::open`] says where the target
    /// can't be mapped.
    fn follow<T: Stored>(&self, place: Ptr<'s, InvPtr<T>>) -> Result<Option<Ptr<'s, T>>, Error>;

    /// Follows the span at a place; an empty one is [`Span::EMPTY`].
    ///
    /// # Errors
    /// As [`Reader::follow`].
    fn follow_span<T: Stored>(&self, place: Ptr<'s, InvSpan<T>>) -> Result<Span<'s, T>, Error>;

    /// Copies `buffer.len()` bytes out of `bytes`, from `from` on.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; why a transaction will be undone.
    fn read(&self, bytes: Bytes<'s>, from: u64, buffer: &mut [u8]) -> Result<(), Error>;

    /// Compares bytes with others, as slices compare. Where [`Reader::get`] would give zeros, so does this.
    fn compare(&self, bytes: Bytes<'s>, other: &[u8]) -> Ordering;

    /// Keeps the version of a map whose number is at `version`, or a later one, for as long as the keep lives. None: it needs none, since
    /// nobody else changes what this reader reads.
    ///
    /// # Errors
    /// [`Error::TooMany`] where [`crate::KEEPS_MAX`] are kept.
    #[doc(hidden)]
    fn keep(&self, version: Ptr<'s, u64>) -> Result<Option<Keep<'s>>, Error> {
        let _ = version;
        Ok(None)
    }

    /// The bits of a pointer in `from` to an address in a mapped object; None: no pointer there leads to that object yet.
    #[doc(hidden)]
    fn encoded(&self, from: Area<'s>, target: u64) -> Result<Option<u64>, Error>;

    /// Where those bits lead to that lie in `from`.
    #[doc(hidden)]
    fn decoded<T: Stored>(&self, from: Area<'s>, bits: PointerBits) -> Result<Option<Ptr<'s, T>>, Error>;

    /// The word that counts changes of an object, and of those that share its lock: odd while one is being put in place. None: nobody else
    /// changes what this reader reads, since it has locks.
    #[doc(hidden)]
    fn changes(&self, area: Area<'s>) -> Option<&'s AtomicU64> {
        let _ = area;
        None
    }

    /// Waits until nobody changes an object.
    ///
    /// # Errors
    /// As [`crate::Guard::lock`].
    #[doc(hidden)]
    fn wait_for_changes(&self, area: Area<'s>) -> Result<(), Error> {
        let _ = area;
        Ok(())
    }

    /// True where it pays to call [`Reader::expect`].
    #[doc(hidden)]
    #[inline(always)]
    fn reads_slowly(&self) -> bool {
        false
    }

    /// Says that these bytes will be read soon.
    #[doc(hidden)]
    fn expect(&self, bytes: Bytes<'s>) {
        let _ = bytes;
    }

    /// A copy of all the bytes. Where [`Reader::get`] would give zeros, so does this.
    fn to_vec(&self, bytes: Bytes<'s>) -> Vec<u8> {
        let mut copy = alloc::vec![0; bytes.len() as usize];
        // The copy is as long as the span, so this fails only in a transaction that will be undone.
        let _ = self.read(bytes, 0, &mut copy);
        copy
    }
}

/// Compares through a small buffer that `read` fills.
pub(crate) fn compare_by<'s>(
    bytes: Bytes<'s>,
    other: &[u8],
    read: impl Fn(Bytes<'s>, &mut [u8]),
) -> Ordering {
    let mut buffer = [0; 64];
    let common = bytes.len().min(other.len() as u64);
    let mut at = 0;
    while at < common {
        let len = (common - at).min(buffer.len() as u64);
        let part = bytes.slice(at, len).expect("within the span");
        read(part, &mut buffer[..len as usize]);
        match buffer[..len as usize].cmp(&other[at as usize..(at + len) as usize]) {
            Ordering::Equal => at += len,
            unequal => return unequal,
        }
    }
    bytes.len().cmp(&(other.len() as u64))
}
