//! Ordered maps from bytes to bytes.

use alloc::vec::Vec;

use twizzler_abi::Error;

use super::{KEY_BYTES_MAX, OrderedMap, VALUE_BYTES_MAX};
use crate::backend::Backend;
use crate::reader::Reader;
use crate::tx::Tx;

/// A key and its value.
type Entry = (Vec<u8>, Vec<u8>);

impl<'s> OrderedMap<'s, [u8], [u8]> {
    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn get(&self, reader: &impl Reader<'s>, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.latest(reader, |map| map.get(reader, key))
    }

    /// Gives a key a value. True if it had one before.
    ///
    /// # Errors
    /// [`Error::TooLong`] for keys above [`KEY_BYTES_MAX`] or values above [`VALUE_BYTES_MAX`]; [`Error::OutOfRange`] where the
    /// object is full; [`Error::Damaged`]; what the transaction says.
    pub fn insert<B: Backend>(&self, tx: &mut Tx<'s, B>, key: &[u8], value: &[u8]) -> Result<bool, Error> {
        let mut replaced = false;
        self.tree().insert(tx, key, value, &mut |_| replaced = true)?;
        Ok(replaced)
    }

    /// Takes a key out. False if it wasn't there.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn remove<B: Backend>(&self, tx: &mut Tx<'s, B>, key: &[u8]) -> Result<bool, Error> {
        self.tree().remove(tx, key, &mut |_| ())
    }

    /// Gives many keys their values: `entries` in ascending order of keys, none twice. Does the same as [`BytesMap::insert`] for each,
    /// but writes the whole map anew, each node once; that is faster when the map is not much larger than what is added.
    ///
    /// # Errors
    /// As [`BytesMap::insert`]; [`Error::InvalidArgument`] where the keys don't ascend.
    pub fn merge_sorted<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        entries: &[(&[u8], &[u8])],
    ) -> Result<(), Error> {
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(Error::InvalidArgument);
        }
        if entries.iter().any(|(key, value)| key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX) {
            return Err(Error::TooLong);
        }
        self.tree().merge(tx, entries.iter().copied())
    }

    /// The entry with the least key.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn first_key_value(&self, reader: &impl Reader<'s>) -> Result<Option<Entry>, Error> {
        self.iter(reader).next().transpose()
    }

    /// The entry with the greatest key.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn last_key_value(&self, reader: &impl Reader<'s>) -> Result<Option<Entry>, Error> {
        self.iter(reader).next_back().transpose()
    }

    /// Takes the entry with the least key out.
    ///
    /// # Errors
    /// As [`OrderedMap::remove`].
    pub fn pop_first<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<Option<Entry>, Error> {
        tx.lock(self.area())?;
        let first = self.first_key_value(tx)?;
        first.map(|(key, value)| self.remove(tx, &key).map(|_| (key, value))).transpose()
    }

    /// Takes the entry with the greatest key out.
    ///
    /// # Errors
    /// As [`OrderedMap::remove`].
    pub fn pop_last<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<Option<Entry>, Error> {
        tx.lock(self.area())?;
        let last = self.last_key_value(tx)?;
        last.map(|(key, value)| self.remove(tx, &key).map(|_| (key, value))).transpose()
    }

    /// All keys, in order, from both ends. An error ends them.
    pub fn keys<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl DoubleEndedIterator<Item = Result<Vec<u8>, Error>> + use<'r, 's, R> {
        self.iter(reader).map(|entry| entry.map(|(key, _)| key))
    }

    /// All values, in order, from both ends. An error ends them.
    pub fn values<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl DoubleEndedIterator<Item = Result<Vec<u8>, Error>> + use<'r, 's, R> {
        self.iter(reader).map(|entry| entry.map(|(_, value)| value))
    }

    /// Gives keys their values.
    ///
    /// # Errors
    /// As [`OrderedMap::insert`].
    pub fn extend<'e, B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        entries: impl IntoIterator<Item = (&'e [u8], &'e [u8])>,
    ) -> Result<(), Error> {
        entries.into_iter().try_for_each(|(key, value)| self.insert(tx, key, value).map(drop))
    }

    /// Keeps the entries for which `keep` says so.
    ///
    /// # Errors
    /// As [`OrderedMap::remove`].
    pub fn retain<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        mut keep: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        tx.lock(self.area())?;
        let mut gone = Vec::new();
        for entry in self.iter(tx) {
            let (key, value) = entry?;
            if !keep(&key, &value) {
                gone.push(key);
            }
        }
        gone.iter().try_for_each(|key| self.remove(tx, key).map(drop))
    }
}
