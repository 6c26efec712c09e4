//! The ordered map: a B+ tree, copy on write, in one object.
//!
//! All nodes and long values are allocations of the object that the root lies in. Every change is part of the caller's
//! transaction, so it happens wholly or not at all with whatever else is in it. A [`Snapshot`] is a version of the map that
//! stays as it is while others go on changing the map; each read and each iteration has one.
//!
//! `tree` knows how a tree changes, `page` what it asks of a node, `arrays` and `slots` what nodes look like, `tail` what is put behind a leaf's
//! entries, `walk` how to go through a tree.

mod arrays;
mod bulk;
mod bytes;
mod cursor;
pub(super) mod entries;
mod page;
mod range;
mod remove;
mod retired;
mod slots;
mod snapshot;
mod tail;
mod tree;
mod version;
mod walk;

use core::ops::RangeBounds;

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use twizzler_abi::Error;

use super::entry::{Entry, Keyed};
use super::raw::{Types, bytes_of, value_at};
use crate::backend::Backend;
use crate::pointer::{Area, Ptr};
use crate::reader::Reader;
use crate::stored::{Collected, Field, Shape, Stored, Value, type_of};
use crate::tx::Tx;
use arrays::Arrays;
pub use cursor::Cursor;
use page::Page;
pub use range::Range;
pub use slots::KEY_BYTES_MAX;
use slots::Slots;
pub use snapshot::Snapshot;
use tree::Tree;
use version::{ATTEMPTS, TreeRoot};

/// Longest value of a map of bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// Keys of an ordered map with values of type `V`: any [`Value`] that has an order, with any [`Stored`] value; or `[u8]` with `[u8]`.
pub trait Entries<V: ?Sized>: Ord + ToOwned<Owned: Clone> {
    /// How nodes are laid out.
    #[doc(hidden)]
    type Page: Page<Key = Self>;
    /// Identifies the types of key and value.
    #[doc(hidden)]
    const FINGERPRINT: u64;
    /// What it is to who reads it without the program.
    #[doc(hidden)]
    const SHAPE: Shape;
}

impl<K: Value + Ord, V: Stored> Entries<V> for K {
    type Page = Arrays<K, V>;
    const FINGERPRINT: u64 =
        Collected::OrderedMap.fingerprint(false).word(K::FINGERPRINT).word(V::FINGERPRINT).finish();
    const SHAPE: Shape = Shape::Collection {
        form: Collected::OrderedMap,
        parts: &[type_of::<K>, type_of::<V>],
        layout: &Arrays::<K, V>::DESCRIBED,
    };
}

impl Entries<[u8]> for [u8] {
    type Page = Slots;
    const FINGERPRINT: u64 = Collected::OrderedMap.fingerprint(true).finish();
    const SHAPE: Shape = Shape::Collection { form: Collected::OrderedMap, parts: &[], layout: &[] };
}

/// What a map is in an object: put one into a record of your own. All zero is an empty map.
#[repr(transparent)]
pub struct OrderedMapRoot<K: ?Sized, V: ?Sized> {
    tree: TreeRoot,
    types: Types<K, V>,
}

// SAFETY: transparent over a stored record.
unsafe impl<K: Entries<V> + ?Sized + 'static, V: ?Sized + 'static> Stored for OrderedMapRoot<K, V> {
    const NAME: &'static str = "twizzler.map";
    const FINGERPRINT: u64 = K::FINGERPRINT;
    const SHAPE: Shape = K::SHAPE;
}

impl<K: ?Sized, V: ?Sized> OrderedMapRoot<K, V> {
    const TREE: Field<Self, TreeRoot> = {
        // SAFETY: transparent: the tree is at 0.
        unsafe { Field::new(0) }
    };
}

/// The root of a map of bytes.
pub type MapRoot = OrderedMapRoot<[u8], [u8]>;
/// An ordered map from bytes to bytes.
pub type BytesMap<'s> = OrderedMap<'s, [u8], [u8]>;

/// A map whose root lies somewhere in an object. A change that stops half-way, by an error or a panic, keeps its transaction from committing; who wants to go on
/// tries it in a [`Tx::savepoint`].
pub struct OrderedMap<'s, K: ?Sized, V: ?Sized> {
    root: Ptr<'s, OrderedMapRoot<K, V>>,
}

impl<K: ?Sized, V: ?Sized> Clone for OrderedMap<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K: ?Sized, V: ?Sized> Copy for OrderedMap<'_, K, V> {}
impl<K: ?Sized, V: ?Sized> core::fmt::Debug for OrderedMap<'_, K, V> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ordered map at {:?}", self.root)
    }
}

impl<'s, K: ?Sized, V: ?Sized> OrderedMap<'s, K, V> {
    /// The map of that root.
    #[must_use]
    pub const fn new(root: Ptr<'s, OrderedMapRoot<K, V>>) -> Self {
        Self { root }
    }

    /// The object that it lies in.
    pub(super) const fn area(&self) -> Area<'s> {
        self.root.object()
    }
}

impl<'s, K: Entries<V> + ?Sized, V: ?Sized> OrderedMap<'s, K, V> {
    #[inline]
    fn tree(&self) -> Tree<'s, K::Page> {
        Tree::new(self.root.at(OrderedMapRoot::TREE))
    }

    /// The map as it is now. For a reader outside transactions it stays so, whatever is committed meanwhile, and nobody waits for anybody.
    ///
    /// # Errors
    /// [`Error::TooMany`] where [`crate::KEEPS_MAX`] snapshots, iterations and cursors are kept, in all programs; [`Error::Damaged`].
    pub fn snapshot(&self, reader: &impl Reader<'s>) -> Result<Snapshot<'s, K, V>, Error> {
        self.tree().kept_version(reader).map(|(version, keep)| Snapshot::new(version, keep))
    }

    /// Reads the newest version; again, if it has gone meanwhile.
    #[inline]
    fn latest<T>(
        &self,
        reader: &impl Reader<'s>,
        read: impl Fn(Snapshot<'s, K, V>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        for _ in 0..ATTEMPTS {
            // Without a keep: it is short.
            let version = self.tree().version(reader).map(|version| Snapshot::new(version, None));
            match version.and_then(&read) {
                Err(Error::Interrupted) => {}
                result => return result,
            }
        }
        Err(Error::Interrupted)
    }

    /// Number of entries.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn len(&self, reader: &impl Reader<'s>) -> Result<u64, Error> {
        self.latest(reader, |map| Ok(map.len()))
    }

    /// True without entries.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn is_empty(&self, reader: &impl Reader<'s>) -> Result<bool, Error> {
        self.latest(reader, |map| Ok(map.is_empty()))
    }

    /// Bytes of all keys and values.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn len_bytes(&self, reader: &impl Reader<'s>) -> Result<u64, Error> {
        self.latest(reader, |map| Ok(map.len_bytes()))
    }

    /// Levels of nodes; 0 for an empty map.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn levels(&self, reader: &impl Reader<'s>) -> Result<u16, Error> {
        self.latest(reader, |map| Ok(map.levels()))
    }

    /// True if the key has a value.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn contains_key(&self, reader: &impl Reader<'s>, key: &K) -> Result<bool, Error> {
        self.latest(reader, |map| map.contains_key(reader, key))
    }

    /// The entries whose keys are in the range, in order, from both ends. An error ends them.
    pub fn range<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
        range: impl RangeBounds<K>,
    ) -> Range<'r, 's, R, K, V> {
        Range::new(
            self.tree().kept_version(reader),
            reader,
            range.start_bound().map(ToOwned::to_owned),
            range.end_bound().map(ToOwned::to_owned),
        )
    }

    /// All entries, in order, from both ends.
    pub fn iter<'r, R: Reader<'s>>(&self, reader: &'r R) -> Range<'r, 's, R, K, V> {
        use core::ops::Bound::Unbounded;
        Range::new(self.tree().kept_version(reader), reader, Unbounded, Unbounded)
    }

    /// A place in the map that can be moved, before the first entry.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn cursor<'r, R: Reader<'s>>(&self, reader: &'r R) -> Result<Cursor<'r, 's, R, K, V>, Error> {
        let (version, keep) = self.tree().kept_version(reader)?;
        Ok(Cursor::new(version, keep, reader))
    }

    /// Gives the memory of older versions back that no reader keeps. Changes do so by themselves, but for what may still be read, and what is replaced by
    /// the last changes.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn shrink_to_fit<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<(), Error> {
        let tree = self.tree();
        let stamp = tree.begin(tx)?;
        tree.free_retired(tx, stamp, 0, u64::MAX)
    }

    /// Takes all entries out. Their memory is given back by the changes that follow, or by [`OrderedMap::shrink_to_fit`] in a later transaction.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn clear<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<(), Error> {
        self.tree().clear(tx)
    }
}

impl<'s, K: Value + Ord, V: Stored> OrderedMap<'s, K, V> {
    /// Where the value of a key lies. It may be written only if [`OrderedMap::place_mut`] gave it. Others may give the place to something else when
    /// they have changed the map often enough: keep a [`Snapshot`], and ask that, where it is to be read for long.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline]
    pub fn place(&self, reader: &impl Reader<'s>, key: &K) -> Result<Option<Ptr<'s, V>>, Error> {
        self.latest(reader, |map| map.place(reader, key))
    }

    /// The place of a key's value, to be written in this transaction until it changes the map otherwise; for a key without a value,
    /// one of zeros is put in.
    ///
    /// # Errors
    /// As [`OrderedMap::insert`].
    pub fn place_mut<B: Backend>(&self, tx: &mut Tx<'s, B>, key: K) -> Result<Ptr<'s, V>, Error> {
        let mut value = alloc::vec![0; size_of::<V>()];
        if let Some(place) = self.place(tx, &key)? {
            tx.read(place.as_span().memory(), 0, &mut value)?;
        }
        self.tree().insert(tx, &key, &value, &mut |_| ())?;
        self.place(tx, &key)?.ok_or(Error::Damaged)
    }

    /// Takes a key out. False if it wasn't there.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn delete<B: Backend>(&self, tx: &mut Tx<'s, B>, key: &K) -> Result<bool, Error> {
        self.tree().remove(tx, key, &mut |_| ())
    }
}

impl<'s, K: Value + Ord, V: Value> OrderedMap<'s, K, V> {
    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline]
    pub fn get(&self, reader: &impl Reader<'s>, key: &K) -> Result<Option<V>, Error> {
        self.latest(reader, |map| map.get(reader, key))
    }

    /// Gives a key a value; gives back the one that it had.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] where the object is full; [`Error::Damaged`]; what the transaction says.
    pub fn insert<B: Backend>(&self, tx: &mut Tx<'s, B>, key: K, value: V) -> Result<Option<V>, Error> {
        let mut old = None;
        self.tree().insert(tx, &key, bytes_of(&value), &mut |content| old = taken(content))?;
        Ok(old)
    }

    /// Takes a key out; gives back the value that it had.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn remove<B: Backend>(&self, tx: &mut Tx<'s, B>, key: &K) -> Result<Option<V>, Error> {
        let mut old = None;
        self.tree().remove(tx, key, &mut |content| old = taken(content))?;
        Ok(old)
    }

    /// The entry with the least key.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn first_key_value(&self, reader: &impl Reader<'s>) -> Result<Option<(K, V)>, Error> {
        self.iter(reader).next().transpose()
    }

    /// The entry with the greatest key.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn last_key_value(&self, reader: &impl Reader<'s>) -> Result<Option<(K, V)>, Error> {
        self.iter(reader).next_back().transpose()
    }

    /// Takes the entry with the least key out.
    ///
    /// # Errors
    /// As [`OrderedMap::remove`].
    pub fn pop_first<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<Option<(K, V)>, Error> {
        let first = self.first_key_value(tx)?;
        first.map(|(key, value)| self.delete(tx, &key).map(|_| (key, value))).transpose()
    }

    /// Takes the entry with the greatest key out.
    ///
    /// # Errors
    /// As [`OrderedMap::remove`].
    pub fn pop_last<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<Option<(K, V)>, Error> {
        let last = self.last_key_value(tx)?;
        last.map(|(key, value)| self.delete(tx, &key).map(|_| (key, value))).transpose()
    }

    /// All keys, in order, from both ends. An error ends them.
    pub fn keys<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl DoubleEndedIterator<Item = Result<K, Error>> + use<'r, 's, R, K, V> {
        self.iter(reader).map(|entry| entry.map(|(key, _)| key))
    }

    /// All values, in order, from both ends. An error ends them.
    pub fn values<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl DoubleEndedIterator<Item = Result<V, Error>> + use<'r, 's, R, K, V> {
        self.iter(reader).map(|entry| entry.map(|(_, value)| value))
    }

    /// Gives keys their values.
    ///
    /// # Errors
    /// As [`OrderedMap::insert`].
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
    /// As [`OrderedMap::remove`].
    pub fn retain<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        mut keep: impl FnMut(&K, &V) -> bool,
    ) -> Result<(), Error> {
        let mut gone = Vec::new();
        for entry in self.iter(tx) {
            let (key, value) = entry?;
            if !keep(&key, &value) {
                gone.push(key);
            }
        }
        gone.iter().try_for_each(|key| self.delete(tx, key).map(drop))
    }

    /// Takes the entries from a key on out, and gives them.
    ///
    /// # Errors
    /// As [`OrderedMap::remove`].
    pub fn split_off<B: Backend>(&self, tx: &mut Tx<'s, B>, key: &K) -> Result<Vec<(K, V)>, Error> {
        tx.lock(self.area())?;
        let entries: Vec<(K, V)> = self.range(tx, *key..).collect::<Result<_, _>>()?;
        // Who is not given them must not lose them.
        tx.whole(|tx| entries.iter().try_for_each(|(key, _)| self.delete(tx, key).map(drop)))?;
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

    /// Gives many keys their values: `entries` in ascending order of keys, none twice. Does the same as [`OrderedMap::insert`] for
    /// each, but writes the whole map anew, each node once; that is faster when the map is not much larger than what is added.
    ///
    /// # Errors
    /// As [`OrderedMap::insert`]; [`Error::InvalidArgument`] where the keys don't ascend.
    pub fn merge_sorted<B: Backend>(&self, tx: &mut Tx<'s, B>, entries: &[(K, V)]) -> Result<(), Error> {
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(Error::InvalidArgument);
        }
        self.tree().merge(tx, entries.iter().map(|(key, value)| (key, bytes_of(value))))
    }
}

impl<'s, K: Value + Ord, V: Value> Keyed<'s, K, V> for OrderedMap<'s, K, V> {
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

/// The value that a typed map's entry had.
fn taken<V: Value>(content: page::Content<'_>) -> Option<V> {
    match content {
        page::Content::Here(bytes) => Some(value_at(bytes, 0)),
        _ => None,
    }
}
