//! Cursors.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;

use twizzler_abi::Error;

use super::Entries;
use super::page::Page;
use super::snapshot::place_of;
use super::version::Version;
use super::walk::Walk;
use crate::keeps::Keep;
use crate::pointer::{Bytes, Ptr};
use crate::reader::Reader;
use crate::stored::{Stored, Value};

/// A place in a map: at an entry, or at none, which is before the first and behind the last.
///
/// It shows the map as it was when the cursor was made.
pub struct Cursor<'r, 's, R, K: Entries<V> + ?Sized, V: ?Sized> {
    reader: &'r R,
    version: Version<'s>,
    /// Keeps the version, if it is not a snapshot's.
    _keep: Option<Keep<'s>>,
    walk: Walk<'s, K::Page>,
}

impl<'r, 's, R: Reader<'s>, K: Entries<V> + ?Sized, V: ?Sized> Cursor<'r, 's, R, K, V> {
    pub(super) const fn new(version: Version<'s>, keep: Option<Keep<'s>>, reader: &'r R) -> Self {
        Self { reader, version, _keep: keep, walk: Walk::new(Some(version)) }
    }

    /// Goes to the first entry whose key is not below `key`. True if it is equal.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn seek(&mut self, key: &K) -> Result<bool, Error> {
        let found = self.walk.seek(self.reader, key);
        self.arrived(found)
    }

    /// After an error it is at no entry, and not somewhere on the way to one.
    fn arrived<T>(&mut self, moved: Result<T, Error>) -> Result<T, Error> {
        self.version.whole(self.reader, moved).inspect_err(|_| self.walk.leave())
    }

    /// Goes to the next entry: from none, to the first. False: there is no next one.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn move_next(&mut self) -> Result<bool, Error> {
        let moved = match self.walk.here() {
            Some(_) => self.walk.next(self.reader),
            None => self.walk.first(self.reader),
        };
        self.arrived(moved)?;
        Ok(self.walk.here().is_some())
    }

    /// Goes to the entry before: from none, to the last. False: there is none before.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn move_previous(&mut self) -> Result<bool, Error> {
        let moved = self.walk.previous(self.reader);
        self.arrived(moved)?;
        Ok(self.walk.here().is_some())
    }

    /// The key here.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn key(&self) -> Result<Option<<K as ToOwned>::Owned>, Error> {
        let key = self.walk.here().map(|(at, i)| K::Page::read_key(self.reader, &at, i)).transpose();
        self.version.whole(self.reader, key)
    }

    /// The bytes of the value here.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn value_bytes(&self) -> Result<Option<Bytes<'s>>, Error> {
        let value = self.walk.here().map(|(at, i)| K::Page::read_value(self.reader, &at, i)).transpose();
        self.version.whole(self.reader, value)
    }
}

impl<'s, R: Reader<'s>, K: Value + Ord, V: Stored> Cursor<'_, 's, R, K, V> {
    /// The place of the value here.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn place(&self) -> Result<Option<Ptr<'s, V>>, Error> {
        self.value_bytes()?.map(place_of).transpose()
    }
}

impl<'s, R: Reader<'s>, K: Value + Ord, V: Value> Cursor<'_, 's, R, K, V> {
    /// The value here.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn value(&self) -> Result<Option<V>, Error> {
        let value = self.place()?.map(|place| self.reader.get(place));
        self.version.whole(self.reader, Ok(value))
    }
}

impl<'s, R: Reader<'s>> Cursor<'_, 's, R, [u8], [u8]> {
    /// The value here.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn value(&self) -> Result<Option<Vec<u8>>, Error> {
        let value = self.value_bytes()?.map(|bytes| self.reader.to_vec(bytes));
        self.version.whole(self.reader, Ok(value))
    }
}
