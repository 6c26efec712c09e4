//! Hash maps from bytes to bytes.

use alloc::vec::Vec;

use twizzler_abi::Error;

use super::hash::hash_bytes;
use super::hash_map::HashMap;
use super::ordered::VALUE_BYTES_MAX;
use super::raw::steady;
use super::table::{Layout, Slot, Table};
use crate::Stored;
use crate::backend::Backend;
use crate::pointer::{Bytes, Ptr};
use crate::reader::Reader;
use crate::tx::Tx;

/// Entries of bytes: the hash, and where key and value lie.
pub(super) struct OfBytes;

/// Where an entry of bytes lies: the key, then the value.
#[derive(Stored, Clone, Copy, Default)]
#[stored(name = "twizzler.hash-map-pair", version = 1)]
#[repr(C)]
pub(super) struct Pair {
    pub(super) offset: u64,
    pub(super) key_bytes: u32,
    pub(super) value_bytes: u32,
}

impl Layout for OfBytes {
    type Key = u64;
    type Value = Pair;

    fn hash(key: &u64, _: u64) -> u64 {
        *key
    }
}

impl<'s> HashMap<'s, [u8], [u8]> {
    fn table(&self) -> Table<'s, OfBytes> {
        self.table_of()
    }

    /// Where key and value of an entry lie.
    fn parts(
        &self,
        reader: &impl Reader<'s>,
        slot: &Slot<'s, OfBytes>,
    ) -> Result<(Bytes<'s>, Bytes<'s>), Error> {
        let pair: Pair = reader.get(self.table().value(slot));
        if pair.key_bytes.max(pair.value_bytes) as usize > VALUE_BYTES_MAX {
            return Err(Error::Damaged);
        }
        let len = u64::from(pair.key_bytes) + u64::from(pair.value_bytes);
        let all = self.root.object().span::<u8>(pair.offset, len).ok_or(Error::Damaged)?;
        let key = all.slice(0, pair.key_bytes.into());
        key.zip(all.slice(pair.key_bytes.into(), pair.value_bytes.into())).ok_or(Error::Damaged)
    }

    fn find(&self, reader: &impl Reader<'s>, key: &[u8]) -> Result<(u64, Option<Slot<'s, OfBytes>>), Error> {
        let table = self.table();
        let hash = hash_bytes(key, table.seed(reader));
        let slot = table.find(reader, hash, |reader, slot| {
            Ok(slot.key == hash && reader.compare(self.parts(reader, slot)?.0, key).is_eq())
        })?;
        Ok((hash, slot))
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self, reader: &impl Reader<'s>) -> u64 {
        self.table().len(reader)
    }

    /// True without entries.
    #[must_use]
    pub fn is_empty(&self, reader: &impl Reader<'s>) -> bool {
        self.len(reader) == 0
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn get(&self, reader: &impl Reader<'s>, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        steady(reader, self.root.object(), || {
            let Some(slot) = self.find(reader, key)?.1 else { return Ok(None) };
            Ok(Some(reader.to_vec(self.parts(reader, &slot)?.1)))
        })
    }

    /// True if the key has a value.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn contains_key(&self, reader: &impl Reader<'s>, key: &[u8]) -> Result<bool, Error> {
        steady(reader, self.area(), || Ok(self.find(reader, key)?.1.is_some()))
    }

    /// Gives a key a value. True if it had one before.
    ///
    /// # Errors
    /// [`Error::TooLong`] for keys and values above [`VALUE_BYTES_MAX`]; [`Error::OutOfRange`] where the object is full;
    /// [`Error::Damaged`]; what the transaction says.
    pub fn insert<B: Backend>(&self, tx: &mut Tx<'s, B>, key: &[u8], value: &[u8]) -> Result<bool, Error> {
        if key.len() > VALUE_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(Error::TooLong);
        }
        let table = self.table();
        table.begin(tx)?;
        let (hash, old) = self.find(tx, key)?;
        let replaced = old.is_some();
        let mut all = Vec::with_capacity(key.len() + value.len());
        all.extend_from_slice(key);
        all.extend_from_slice(value);
        // First: where there is no room for them, everything stays as it is.
        let bytes = tx.alloc_bytes(self.root.object(), &all)?;
        let slot = match old {
            Some(slot) => {
                self.free(tx, &slot)?;
                slot
            }
            None => match table.insert(tx, hash, hash) {
                Ok(slot) => slot,
                Err(error) => {
                    tx.free_span(bytes)?;
                    return Err(error);
                }
            },
        };
        // The empty key with the empty value takes no memory: any offset will do that is one.
        let offset = bytes.index(0).map_or(twizzler_abi::object::BASE_OFFSET, Ptr::offset);
        let (key_bytes, value_bytes) = (key.len() as u32, value.len() as u32);
        tx.set(table.value(&slot), Pair { offset, key_bytes, value_bytes })?;
        Ok(replaced)
    }

    /// Takes a key out. False if it wasn't there.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn remove<B: Backend>(&self, tx: &mut Tx<'s, B>, key: &[u8]) -> Result<bool, Error> {
        tx.lock(self.root.object())?;
        let (_, Some(slot)) = self.find(tx, key)? else { return Ok(false) };
        self.free(tx, &slot)?;
        self.table().remove(tx, &slot)?;
        Ok(true)
    }

    /// Frees an entry's memory.
    fn free<B: Backend>(&self, tx: &mut Tx<'s, B>, slot: &Slot<'s, OfBytes>) -> Result<(), Error> {
        let (key, value) = self.parts(tx, slot)?;
        let first = key.index(0).or_else(|| value.index(0));
        let Some(first) = first else { return Ok(()) };
        let all = self.root.object().span::<u8>(first.offset(), key.len() + value.len());
        tx.free_span(all.ok_or(Error::Damaged)?)
    }

    /// All entries, in no order. An error ends them.
    pub fn iter<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), Error>> + use<'r, 's, R> {
        let map = *self;
        self.table().slots(reader, move |reader, slot| {
            let (key, value) = map.parts(reader, &slot)?;
            Ok((reader.to_vec(key), reader.to_vec(value)))
        })
    }

    /// All keys, in no order. An error ends them.
    pub fn keys<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl Iterator<Item = Result<Vec<u8>, Error>> + use<'r, 's, R> {
        self.iter(reader).map(|entry| entry.map(|(key, _)| key))
    }

    /// All values, in no order. An error ends them.
    pub fn values<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl Iterator<Item = Result<Vec<u8>, Error>> + use<'r, 's, R> {
        self.iter(reader).map(|entry| entry.map(|(_, value)| value))
    }

    /// Gives keys their values.
    ///
    /// # Errors
    /// As [`HashMap::insert`].
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
    /// As [`HashMap::remove`].
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

    /// Takes all entries out, and gives the memory back.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn clear<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<(), Error> {
        tx.lock(self.area())?;
        let slots: Vec<_> = self.table().slots(tx, |_, slot| Ok(slot)).collect::<Result<_, _>>()?;
        slots.iter().try_for_each(|slot| self.free(tx, slot))?;
        self.table().clear(tx)
    }
}
