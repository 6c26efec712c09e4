//! Entries of a map of either kind within a transaction, as in `std`.

use core::marker::PhantomData;

use twizzler_abi::Error;

use crate::backend::Backend;
use crate::stored::Value;
use crate::tx::Tx;

/// A map with keys and values of fixed sizes.
pub trait Keyed<'s, K, V>: Copy {
    #[doc(hidden)]
    fn get<B: Backend>(&self, tx: &Tx<'s, B>, key: &K) -> Result<Option<V>, Error>;
    #[doc(hidden)]
    fn put<B: Backend>(&self, tx: &mut Tx<'s, B>, key: K, value: V) -> Result<(), Error>;
    #[doc(hidden)]
    fn delete<B: Backend>(&self, tx: &mut Tx<'s, B>, key: &K) -> Result<(), Error>;
}

/// A key's entry: there, or not.
pub enum Entry<'t, 's, B: Backend, M, K, V> {
    /// The key has a value.
    Occupied(OccupiedEntry<'t, 's, B, M, K, V>),
    /// It has none.
    Vacant(VacantEntry<'t, 's, B, M, K, V>),
}

/// An entry that is there.
pub struct OccupiedEntry<'t, 's, B: Backend, M, K, V> {
    entry: VacantEntry<'t, 's, B, M, K, V>,
    value: V,
}

/// A key without a value.
pub struct VacantEntry<'t, 's, B: Backend, M, K, V> {
    map: M,
    tx: &'t mut Tx<'s, B>,
    key: K,
    value: PhantomData<V>,
}

impl<'t, 's, B: Backend, M: Keyed<'s, K, V>, K: Value, V: Value> Entry<'t, 's, B, M, K, V> {
    pub(super) fn new(map: M, tx: &'t mut Tx<'s, B>, key: K) -> Result<Self, Error> {
        let value = map.get(tx, &key)?;
        let entry = VacantEntry { map, tx, key, value: PhantomData };
        Ok(match value {
            Some(value) => Self::Occupied(OccupiedEntry { entry, value }),
            None => Self::Vacant(entry),
        })
    }

    /// The key.
    pub const fn key(&self) -> &K {
        match self {
            Self::Occupied(entry) => &entry.entry.key,
            Self::Vacant(entry) => &entry.key,
        }
    }

    /// The value; gives the key this one if it has none.
    ///
    /// # Errors
    /// As [`super::OrderedMap::insert`].
    pub fn or_insert(self, value: V) -> Result<V, Error> {
        self.or_insert_with(|| value)
    }

    /// The value; gives the key the one that `make` makes if it has none.
    ///
    /// # Errors
    /// As [`super::OrderedMap::insert`].
    pub fn or_insert_with(self, make: impl FnOnce() -> V) -> Result<V, Error> {
        match self {
            Self::Occupied(entry) => Ok(entry.value),
            Self::Vacant(entry) => entry.insert(make()),
        }
    }

    /// The value; gives the key the default one if it has none.
    ///
    /// # Errors
    /// As [`super::OrderedMap::insert`].
    pub fn or_default(self) -> Result<V, Error>
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }

    /// Changes the value, if there is one.
    ///
    /// # Errors
    /// As [`super::OrderedMap::insert`].
    pub fn and_modify(mut self, change: impl FnOnce(&mut V)) -> Result<Self, Error> {
        if let Self::Occupied(entry) = &mut self {
            let mut value = entry.value;
            change(&mut value);
            entry.insert(value)?;
        }
        Ok(self)
    }
}

impl<'s, B: Backend, M: Keyed<'s, K, V>, K: Value, V: Value> OccupiedEntry<'_, 's, B, M, K, V> {
    /// The key.
    pub const fn key(&self) -> &K {
        &self.entry.key
    }

    /// The value.
    pub const fn get(&self) -> &V {
        &self.value
    }

    /// Replaces the value; gives the old one.
    ///
    /// # Errors
    /// As [`super::OrderedMap::insert`].
    pub fn insert(&mut self, value: V) -> Result<V, Error> {
        let VacantEntry { map, tx, key, .. } = &mut self.entry;
        map.put(tx, *key, value)?;
        Ok(core::mem::replace(&mut self.value, value))
    }

    /// Takes the entry out; gives its value.
    ///
    /// # Errors
    /// As [`super::OrderedMap::remove`].
    pub fn remove(self) -> Result<V, Error> {
        let VacantEntry { map, tx, key, .. } = self.entry;
        map.delete(tx, &key)?;
        Ok(self.value)
    }
}

impl<'s, B: Backend, M: Keyed<'s, K, V>, K: Value, V: Value> VacantEntry<'_, 's, B, M, K, V> {
    /// The key.
    pub const fn key(&self) -> &K {
        &self.key
    }

    /// Gives the key a value.
    ///
    /// # Errors
    /// As [`super::OrderedMap::insert`].
    pub fn insert(self, value: V) -> Result<V, Error> {
        self.map.put(self.tx, self.key, value)?;
        Ok(value)
    }
}
