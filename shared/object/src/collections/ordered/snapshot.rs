//! One version of a map.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::RangeBounds;

use twizzler_abi::Error;

use super::super::raw::Types;
use super::page::Page;
use super::version::Version;
use super::{Cursor, Entries, Range};
use crate::keeps::Keep;
use crate::pointer::{Bytes, Ptr};
use crate::reader::Reader;
use crate::stored::{Stored, Value};

/// A map as it was when [`super::OrderedMap::snapshot`] was called. It stays so: what changes the map puts the new beside the old.
///
/// Nobody waits for anybody. What changes replace is kept until the snapshot is dropped: so one that is kept for long beside many changes costs
/// memory in the object, and reading it takes a step for each time that the same node was written anew since.
///
/// One made inside a transaction shows the transaction's own changes until it makes the next one, no longer.
pub struct Snapshot<'s, K: ?Sized, V: ?Sized> {
    version: Version<'s>,
    /// Keeps the version. None: within a transaction, or for one read that notices where it was overtaken.
    _keep: Option<Keep<'s>>,
    types: Types<K, V>,
}

impl<K: ?Sized, V: ?Sized> core::fmt::Debug for Snapshot<'_, K, V> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "snapshot {:?}", self.version)
    }
}

impl<'s, K: Entries<V> + ?Sized, V: ?Sized> Snapshot<'s, K, V> {
    pub(super) const fn new(version: Version<'s>, keep: Option<Keep<'s>>) -> Self {
        Self { version, _keep: keep, types: PhantomData }
    }

    /// Number of entries.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.version.totals.entries
    }

    /// True without entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.version.top.is_none()
    }

    /// Levels of nodes; 0 for an empty map.
    #[must_use]
    pub fn levels(&self) -> u16 {
        self.version.top.map_or(0, |top| top.level + 1)
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.version.totals.bytes
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
        self.version.whole(reader, self.search(reader, key))
    }

    /// The same, before it is known whether the version was whole.
    #[inline]
    fn search(&self, reader: &impl Reader<'s>, key: &K) -> Result<Option<Bytes<'s>>, Error> {
        let Some(mut at) = self.version.top else { return Ok(None) };
        while at.level > 0 {
            let i = K::Page::seek_child(reader, &at, key)?;
            at = self.version.child::<K::Page>(reader, &at, i)?;
        }
        let Some(number) = K::Page::find(reader, &at, key)? else { return Ok(None) };
        K::Page::read_value(reader, &at, number).map(Some)
    }

    /// The entries whose keys are in the range, in order, from both ends. An error ends them.
    pub fn range<'r, R: Reader<'s>>(
        &'r self,
        reader: &'r R,
        range: impl RangeBounds<K>,
    ) -> Range<'r, 's, R, K, V> {
        Range::new(
            Ok((self.version, None)),
            reader,
            range.start_bound().map(ToOwned::to_owned),
            range.end_bound().map(ToOwned::to_owned),
        )
    }

    /// All entries, in order, from both ends.
    pub fn iter<'r, R: Reader<'s>>(&'r self, reader: &'r R) -> Range<'r, 's, R, K, V> {
        use core::ops::Bound::Unbounded;
        Range::new(Ok((self.version, None)), reader, Unbounded, Unbounded)
    }

    /// A place in the map that can be moved, before the first entry.
    pub const fn cursor<'r, R: Reader<'s>>(&'r self, reader: &'r R) -> Cursor<'r, 's, R, K, V> {
        Cursor::new(self.version, None, reader)
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
        let value = |bytes| Ok(reader.get(place_of(bytes)?));
        let found = self.search(reader, key).and_then(|found| found.map(value).transpose());
        self.version.whole(reader, found)
    }
}

impl<'s> Snapshot<'s, [u8], [u8]> {
    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn get(&self, reader: &impl Reader<'s>, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let found = self.search(reader, key).map(|found| found.map(|bytes| reader.to_vec(bytes)));
        self.version.whole(reader, found)
    }
}

/// The place of the value whose bytes those are.
#[inline]
pub(super) fn place_of<V: Stored>(bytes: Bytes<'_>) -> Result<Ptr<'_, V>, Error> {
    let first = bytes.index(0).ok_or(Error::Damaged)?;
    first.object().place(first.offset()).ok_or(Error::Damaged)
}
