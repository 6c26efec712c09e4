//! One version of a map.

use alloc::borrow::ToOwned;
use core::marker::PhantomData;
use core::ops::RangeBounds;

use twizzler_abi::Error;

use super::super::raw::Types;
use super::page::{At, Page};
use super::tree::Tree;
use super::walk::child;
use super::{Cursor, Entries, Range};
use crate::pointer::{Bytes, Ptr};
use crate::reader::Reader;
use crate::stored::{Stored, Value};

/// A map as it was when [`super::OrderedMap::snapshot`] was called. It stays so while it lives: what changes the map copies
/// what it changes, and memory is given out again only after all readers that may know it have gone.
///
/// One made inside a transaction shows the transaction's own changes until it makes the next one, no longer.
pub struct Snapshot<'s, K: ?Sized, V: ?Sized> {
    top: Option<At<'s>>,
    types: Types<K, V>,
}

impl<K: ?Sized, V: ?Sized> Clone for Snapshot<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K: ?Sized, V: ?Sized> Copy for Snapshot<'_, K, V> {}
impl<K: ?Sized, V: ?Sized> core::fmt::Debug for Snapshot<'_, K, V> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "snapshot {:?}", self.top)
    }
}

impl<'s, K: Entries<V> + ?Sized, V: ?Sized> Snapshot<'s, K, V> {
    pub(super) const fn new(top: Option<At<'s>>) -> Self {
        Self { top, types: PhantomData }
    }

    /// Number of entries.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn len(&self, reader: &impl Reader<'s>) -> Result<u64, Error> {
        Ok(Tree::<K::Page>::totals(reader, self.top)?.entries)
    }

    /// True without entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.top.is_none()
    }

    /// Bytes of all keys and values.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn len_bytes(&self, reader: &impl Reader<'s>) -> Result<u64, Error> {
        Ok(Tree::<K::Page>::totals(reader, self.top)?.bytes)
    }

    /// True if the key has a value.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn contains_key(&self, reader: &impl Reader<'s>, key: &K) -> Result<bool, Error> {
        Ok(self.find(reader, key)?.is_some())
    }

    /// The bytes of a key's value.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline]
    pub fn find(&self, reader: &impl Reader<'s>, key: &K) -> Result<Option<Bytes<'s>>, Error> {
        let Some(mut at) = self.top else { return Ok(None) };
        while at.level > 0 {
            let i = K::Page::seek_child(reader, &at, key)?;
            at = child::<K::Page>(reader, &at, i)?;
        }
        let (i, equal) = K::Page::seek(reader, &at, key)?;
        if equal { K::Page::read_value(reader, &at, i).map(Some) } else { Ok(None) }
    }

    /// The entries whose keys are in the range, in order, from both ends. An error ends them.
    pub fn range<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
        range: impl RangeBounds<K>,
    ) -> Range<'r, 's, R, K, V> {
        Range::new(
            Ok(self.top),
            reader,
            range.start_bound().map(ToOwned::to_owned),
            range.end_bound().map(ToOwned::to_owned),
        )
    }

    /// All entries, in order, from both ends.
    pub fn iter<'r, R: Reader<'s>>(&self, reader: &'r R) -> Range<'r, 's, R, K, V> {
        use core::ops::Bound::Unbounded;
        Range::new(Ok(self.top), reader, Unbounded, Unbounded)
    }

    /// A place in the map that can be moved, before the first entry.
    pub const fn cursor<'r, R: Reader<'s>>(&self, reader: &'r R) -> Cursor<'r, 's, R, K, V> {
        Cursor::new(self.top, reader)
    }
}

impl<'s, K: Value + Ord, V: Stored> Snapshot<'s, K, V> {
    /// Where the value of a key lies.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline]
    pub fn place(&self, reader: &impl Reader<'s>, key: &K) -> Result<Option<Ptr<'s, V>>, Error> {
        let Some(bytes) = self.find(reader, key)? else { return Ok(None) };
        place_of(bytes).map(Some)
    }
}

impl<'s, K: Value + Ord, V: Value> Snapshot<'s, K, V> {
    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline]
    pub fn get(&self, reader: &impl Reader<'s>, key: &K) -> Result<Option<V>, Error> {
        Ok(self.place(reader, key)?.map(|place| reader.get(place)))
    }
}

/// The place of the value whose bytes those are.
#[inline]
pub(super) fn place_of<V: Stored>(bytes: Bytes<'_>) -> Result<Ptr<'_, V>, Error> {
    let first = bytes.index(0).ok_or(Error::Damaged)?;
    first.object().place(first.offset()).ok_or(Error::Damaged)
}
