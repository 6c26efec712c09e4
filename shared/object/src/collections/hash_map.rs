//! Hash maps.

use alloc::vec::Vec;
use core::marker::PhantomData;

use twizzler_abi::Error;

use super::entries::described;
use super::entry::{Entry, Keyed};
use super::hash::hash_bytes;
use super::hash_bytes::Pair;
use super::raw::{Look, Types, bytes_of, steady};
use super::table::{Layout, Slot, Table, TableRoot};
use crate::Stored;
use crate::backend::Backend;
use crate::memory;
use crate::pointer::{Area, Ptr};
use crate::reader::Reader;
use crate::stored::{Collected, Field, Shape, Value, type_of};
use crate::tx::Tx;

/// What a hash map is in an object: put one into a record of your own. All zero is an empty map.
#[repr(transparent)]
pub struct HashMapRoot<K: ?Sized, V: ?Sized> {
    table: TableRoot,
    types: Types<K, V>,
}

// SAFETY: transparent over a stored record.
unsafe impl<K: Stored, V: Stored> Stored for HashMapRoot<K, V> {
    const NAME: &'static str = "twizzler.hash-map";
    const FINGERPRINT: u64 =
        Collected::HashMap.fingerprint(false).word(K::FINGERPRINT).word(V::FINGERPRINT).finish();
    const LAYOUT: () = {
        let () = K::LAYOUT;
        V::LAYOUT
    };
    const SHAPE: Shape = Shape::Collection {
        form: Collected::HashMap,
        parts: &[type_of::<K>, type_of::<V>],
        layout: &described::<K, V>(),
    };
}

// SAFETY: as above.
unsafe impl Stored for HashMapRoot<[u8], [u8]> {
    const NAME: &'static str = "twizzler.hash-map-of-bytes";
    const FINGERPRINT: u64 = Collected::HashMap.fingerprint(true).finish();
    const SHAPE: Shape =
        Shape::Collection { form: Collected::HashMap, parts: &[], layout: &described::<u64, Pair>() };
}

impl<K: ?Sized, V: ?Sized> HashMapRoot<K, V> {
    const TABLE: Field<Self, TableRoot> = {
        // SAFETY: transparent: the table is at 0.
        unsafe { Field::new(0) }
    };
}

/// A hash map whose root lies somewhere in an object. Keys are equal if their bytes are. After an error of a change
/// everything is as it was, or the transaction can't commit unless it undoes a savepoint that the change is part of.
///
/// Growing adds one bucket at a time, so that no insertion costs much more than another. What is taken out makes room for what comes;
/// [`HashMap::clear`] gives the memory back. Who reads outside a transaction while others commit sees each entry whole; an iteration may
/// see some of a commit's changes and not yet others. Read in a transaction, or from an [`super::OrderedMap`], where that matters.
pub struct HashMap<'s, K: ?Sized, V: ?Sized> {
    pub(super) root: Ptr<'s, HashMapRoot<K, V>>,
}

impl<K: ?Sized, V: ?Sized> Clone for HashMap<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K: ?Sized, V: ?Sized> Copy for HashMap<'_, K, V> {}
impl<K: ?Sized, V: ?Sized> core::fmt::Debug for HashMap<'_, K, V> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "hash map at {:?}", self.root)
    }
}

/// Entries of fixed sizes.
pub(super) struct Fixed<K, V>(PhantomData<(K, V)>);

impl<K: Value, V: Stored> Layout for Fixed<K, V> {
    type Key = K;
    type Value = V;

    #[inline(always)]
    fn hash(key: &K, seed: u64) -> u64 {
        hash_bytes(bytes_of(key), seed)
    }
}

impl<'s, K: ?Sized, V: ?Sized> HashMap<'s, K, V> {
    /// The map of that root.
    #[must_use]
    pub const fn new(root: Ptr<'s, HashMapRoot<K, V>>) -> Self {
        Self { root }
    }

    /// The object that it lies in.
    pub(super) const fn area(&self) -> Area<'s> {
        self.root.object()
    }

    #[inline(always)]
    pub(super) fn table_of<L: Layout>(&self) -> Table<'s, L> {
        Table::new(self.root.at(HashMapRoot::TABLE))
    }
}

impl<'s, K: Value, V: Stored> HashMap<'s, K, V> {
    #[inline(always)]
    fn table(&self) -> Table<'s, Fixed<K, V>> {
        self.table_of()
    }

    #[inline(always)]
    fn find(&self, reader: &impl Reader<'s>, key: &K) -> Result<Option<Slot<'s, Fixed<K, V>>>, Error> {
        let table = self.table();
        let hash = hash_bytes(bytes_of(key), table.seed(reader));
        table.find(reader, hash, |_, slot| Ok(bytes_of(&slot.key) == bytes_of(key)))
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

    /// Where the value of a key lies. It moves when the map grows.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline]
    pub fn place(&self, reader: &impl Reader<'s>, key: &K) -> Result<Option<Ptr<'s, V>>, Error> {
        let find = || Ok(self.find(reader, key)?.map(|slot| self.table().value(&slot)));
        steady(reader, self.area(), find)
    }

    /// True if the key has a value.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn contains_key(&self, reader: &impl Reader<'s>, key: &K) -> Result<bool, Error> {
        steady(reader, self.area(), || Ok(self.find(reader, key)?.is_some()))
    }

    /// The place of a key's value, to be written until the map grows; for a key without a value, one of zeros is put in.
    ///
    /// # Errors
    /// As [`HashMap::insert`].
    pub fn place_mut<B: Backend>(&self, tx: &mut Tx<'s, B>, key: K) -> Result<Ptr<'s, V>, Error> {
        let table = self.table();
        table.begin(tx)?;
        if let Some(place) = self.place(tx, &key)? {
            return Ok(place);
        }
        let hash = hash_bytes(bytes_of(&key), table.seed(tx));
        let slot = table.insert(tx, hash, key)?;
        let place = table.value(&slot);
        tx.zero(place.as_span().memory())?;
        Ok(place)
    }

    /// Takes a key out. False if it wasn't there.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn delete<B: Backend>(&self, tx: &mut Tx<'s, B>, key: &K) -> Result<bool, Error> {
        tx.lock(self.root.object())?;
        let Some(slot) = self.find(tx, key)? else { return Ok(false) };
        self.table().remove(tx, &slot)?;
        Ok(true)
    }

    /// All keys and the places of their values, in no order. An error ends them.
    pub fn places<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl Iterator<Item = Result<(K, Ptr<'s, V>), Error>> + use<'r, 's, R, K, V> {
        let table = self.table();
        table.slots(reader, move |_, slot| Ok((slot.key, table.value(&slot))))
    }

    /// Takes all entries out, and gives the memory back.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn clear<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<(), Error> {
        self.table().clear(tx)
    }
}

impl<'s, K: Value, V: Value> HashMap<'s, K, V> {
    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline(always)]
    pub fn get(&self, reader: &impl Reader<'s>, key: &K) -> Result<Option<V>, Error> {
        // Apart from whether it is there: so it is copied as a whole, not with a byte in front.
        let mut value = memory::zeroed();
        let found = self.get_into(reader, key, &mut value)?;
        Ok(found.then_some(value))
    }

    /// Copies the value of a key to `value`, and nowhere else on the way: for large values. False if the key has none, and what `value` is then is not said.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline(always)]
    pub fn get_into(&self, reader: &impl Reader<'s>, key: &K, value: &mut V) -> Result<bool, Error> {
        let mut look = Look::new(reader, self.area());
        loop {
            if look.begin() {
                let found = self.copy(reader, key, value);
                if look.held() {
                    return found;
                }
            }
            look.again()?;
        }
    }

    /// [`HashMap::get_into`], beside changes perhaps.
    #[inline(always)]
    fn copy(&self, reader: &impl Reader<'s>, key: &K, value: &mut V) -> Result<bool, Error> {
        let Some(slot) = self.find(reader, key)? else { return Ok(false) };
        *value = reader.get(self.table().value(&slot));
        Ok(true)
    }

    /// Gives a key a value; gives back the one that it had.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] where the object is full; [`Error::Damaged`]; what the transaction says.
    pub fn insert<B: Backend>(&self, tx: &mut Tx<'s, B>, key: K, value: V) -> Result<Option<V>, Error> {
        let table = self.table();
        let seed = table.begin(tx)?;
        if let Some(place) = self.place(tx, &key)? {
            let old = tx.get(place);
            tx.set(place, value)?;
            return Ok(Some(old));
        }
        let slot = table.insert(tx, hash_bytes(bytes_of(&key), seed), key)?;
        tx.set(table.value(&slot), value)?;
        Ok(None)
    }

    /// Takes a key out; gives back the value that it had.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn remove<B: Backend>(&self, tx: &mut Tx<'s, B>, key: &K) -> Result<Option<V>, Error> {
        tx.lock(self.root.object())?;
        let Some(slot) = self.find(tx, key)? else { return Ok(None) };
        let value = tx.get(self.table().value(&slot));
        self.table().remove(tx, &slot)?;
        Ok(Some(value))
    }

    /// Takes all entries out, and gives them; the memory goes back to the heap.
    ///
    /// # Errors
    /// As [`HashMap::clear`].
    pub fn drain<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<Vec<(K, V)>, Error> {
        tx.lock(self.root.object())?;
        let entries = self.iter(tx).collect::<Result<_, _>>()?;
        self.clear(tx)?;
        Ok(entries)
    }

    /// A key's entry, to be looked at and changed.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn entry<'t, B: Backend>(
        &self,
        tx: &'t mut Tx<'s, B>,
        key: K,
    ) -> Result<Entry<'t, 's, B, Self, K, V>, Error> {
        Entry::new(*self, tx, key)
    }

    /// All entries, in no order. An error ends them.
    pub fn iter<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl Iterator<Item = Result<(K, V), Error>> + use<'r, 's, R, K, V> {
        let table = self.table();
        table.slots(reader, move |reader, slot| Ok((slot.key, reader.get(table.value(&slot)))))
    }

    /// All keys, in no order. An error ends them.
    pub fn keys<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl Iterator<Item = Result<K, Error>> + use<'r, 's, R, K, V> {
        self.iter(reader).map(|entry| entry.map(|(key, _)| key))
    }

    /// All values, in no order. An error ends them.
    pub fn values<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl Iterator<Item = Result<V, Error>> + use<'r, 's, R, K, V> {
        self.iter(reader).map(|entry| entry.map(|(_, value)| value))
    }

    /// Gives keys their values.
    ///
    /// # Errors
    /// As [`HashMap::insert`].
    pub fn extend<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        entries: impl IntoIterator<Item = (K, V)>,
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
        mut keep: impl FnMut(&K, &V) -> bool,
    ) -> Result<(), Error> {
        tx.lock(self.area())?;
        let mut gone = Vec::new();
        for entry in self.iter(tx) {
            let (key, value) = entry?;
            if !keep(&key, &value) {
                gone.push(key);
            }
        }
        gone.iter().try_for_each(|key| self.delete(tx, key).map(drop))
    }
}

impl<'s, K: Value, V: Value> Keyed<'s, K, V> for HashMap<'s, K, V> {
    fn get<B: Backend>(&self, tx: &Tx<'s, B>, key: &K) -> Result<Option<V>, Error> {
        self.get(tx, key)
    }
    fn put<B: Backend>(&self, tx: &mut Tx<'s, B>, key: K, value: V) -> Result<(), Error> {
        self.insert(tx, key, value).map(drop)
    }
    fn delete<B: Backend>(&self, tx: &mut Tx<'s, B>, key: &K) -> Result<(), Error> {
        self.delete(tx, key).map(drop)
    }
}
