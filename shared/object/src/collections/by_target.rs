//! Maps whose keys are pointers, to the map's own object or any other.
//!
//! A pointer's bits mean different things in different objects, so a key is told by what it leads to. All keys of a map lie in the map's object,
//! whose FOT has one entry for each target: there, two pointers lead to the same place exactly if their bits are equal. So a key that is asked for
//! is encoded for the map's object, and the bits are what is hashed and compared. They hold wherever the objects are mapped,
//! in other programs, after a boot, and in another store, as all pointers do.

use core::marker::PhantomData;

use twizzler_abi::Error;
use twizzler_abi::pointer::PointerBits;

use super::ordered::Entries;
use super::{HashMap, HashMapRoot, OrderedMap, OrderedMapRoot};
use crate::backend::Backend;
use crate::pointer::{Area, InvPtr, Ptr};
use crate::reader::Reader;
use crate::stored::{Collected, Field, Shape, Stored, Value, type_of};
use crate::tx::Tx;

impl<T: Stored, V: Stored> HashMapRoot<InvPtr<T>, V> {
    const BITS: Field<Self, HashMapRoot<u64, V>> = {
        // SAFETY: both are transparent over the same record, and a pointer is a word.
        unsafe { Field::new(0) }
    };
}

impl<T: Stored, V: Stored> OrderedMapRoot<InvPtr<T>, V> {
    const BITS: Field<Self, OrderedMapRoot<u64, V>> = {
        // SAFETY: as above.
        unsafe { Field::new(0) }
    };
}

// SAFETY: transparent over a stored record.
unsafe impl<T: Stored, V: Stored> Stored for OrderedMapRoot<InvPtr<T>, V> {
    const NAME: &'static str = "twizzler.map-of-pointers";
    const FINGERPRINT: u64 =
        Collected::OrderedMap.fingerprint(false).word(InvPtr::<T>::FINGERPRINT).word(V::FINGERPRINT).finish();
    const SHAPE: Shape = Shape::Collection {
        form: Collected::OrderedMap,
        parts: &[type_of::<InvPtr<T>>, type_of::<V>],
        layout: match <u64 as Entries<V>>::SHAPE {
            Shape::Collection { layout, .. } => layout,
            _ => &[],
        },
    };
    const LAYOUT: () = V::LAYOUT;
}

/// A map from the bits of pointers.
#[doc(hidden)]
pub trait BitsMap<'s, V: Value>: Copy {
    fn object(&self) -> Area<'s>;
    fn len(&self, reader: &impl Reader<'s>) -> Result<u64, Error>;
    fn get(&self, reader: &impl Reader<'s>, bits: u64) -> Result<Option<V>, Error>;
    fn insert<B: Backend>(&self, tx: &mut Tx<'s, B>, bits: u64, value: V) -> Result<Option<V>, Error>;
    fn remove<B: Backend>(&self, tx: &mut Tx<'s, B>, bits: u64) -> Result<Option<V>, Error>;
    fn clear<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<(), Error>;
    fn iter<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl Iterator<Item = Result<(u64, V), Error>> + use<'r, 's, R, V, Self>;
}

macro_rules! bits_map {
    ($map:ident, $len:expr) => {
        impl<'s, V: Value> BitsMap<'s, V> for $map<'s, u64, V> {
            fn object(&self) -> Area<'s> {
                self.area()
            }
            fn len(&self, reader: &impl Reader<'s>) -> Result<u64, Error> {
                $len(self.len(reader))
            }
            fn get(&self, reader: &impl Reader<'s>, bits: u64) -> Result<Option<V>, Error> {
                self.get(reader, &bits)
            }
            fn insert<B: Backend>(
                &self,
                tx: &mut Tx<'s, B>,
                bits: u64,
                value: V,
            ) -> Result<Option<V>, Error> {
                self.insert(tx, bits, value)
            }
            fn remove<B: Backend>(&self, tx: &mut Tx<'s, B>, bits: u64) -> Result<Option<V>, Error> {
                self.remove(tx, &bits)
            }
            fn clear<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<(), Error> {
                self.clear(tx)
            }
            fn iter<'r, R: Reader<'s>>(
                &self,
                reader: &'r R,
            ) -> impl Iterator<Item = Result<(u64, V), Error>> + use<'r, 's, R, V> {
                self.iter(reader)
            }
        }
    };
}

bits_map!(HashMap, Ok);
bits_map!(OrderedMap, core::convert::identity);

/// What it is from and to, to the type checker.
type Types<'s, T, V> = (Ptr<'s, T>, fn() -> V);

/// A map from places, wherever they are, to values: the key is what a pointer leads to, whichever pointer that is. Its root is that of a map whose keys
/// are [`InvPtr`]s. See [`PointerHashMap::hashed`] and [`PointerOrderedMap::ordered`].
pub struct PointerMap<'s, T, V, M> {
    map: M,
    types: PhantomData<Types<'s, T, V>>,
}

/// A hash map from places.
pub type PointerHashMap<'s, T, V> = PointerMap<'s, T, V, HashMap<'s, u64, V>>;
/// An ordered map from places: first those in the map's own object, then those in others, by object and then by offset; the objects as the map's
/// came to know them.
pub type PointerOrderedMap<'s, T, V> = PointerMap<'s, T, V, OrderedMap<'s, u64, V>>;

impl<T, V, M: Copy> Clone for PointerMap<'_, T, V, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, V, M: Copy> Copy for PointerMap<'_, T, V, M> {}
impl<T, V, M: core::fmt::Debug> core::fmt::Debug for PointerMap<'_, T, V, M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "from pointers: {:?}", self.map)
    }
}

impl<'s, T: Stored, V: Value> PointerHashMap<'s, T, V> {
    /// The hash map of that root.
    #[must_use]
    pub fn hashed(root: Ptr<'s, HashMapRoot<InvPtr<T>, V>>) -> Self {
        Self { map: HashMap::new(root.at(HashMapRoot::<InvPtr<T>, V>::BITS)), types: PhantomData }
    }
}

impl<'s, T: Stored, V: Value> PointerOrderedMap<'s, T, V> {
    /// The ordered map of that root.
    #[must_use]
    pub fn ordered(root: Ptr<'s, OrderedMapRoot<InvPtr<T>, V>>) -> Self {
        Self { map: OrderedMap::new(root.at(OrderedMapRoot::<InvPtr<T>, V>::BITS)), types: PhantomData }
    }
}

impl<'s, T: Stored, V: Value, M: BitsMap<'s, V>> PointerMap<'s, T, V, M> {
    /// Number of entries.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn len(&self, reader: &impl Reader<'s>) -> Result<u64, Error> {
        self.map.len(reader)
    }

    /// True without entries.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn is_empty(&self, reader: &impl Reader<'s>) -> Result<bool, Error> {
        self.len(reader).map(|len| len == 0)
    }

    /// The value of a place.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn get(&self, reader: &impl Reader<'s>, key: Ptr<'s, T>) -> Result<Option<V>, Error> {
        let encoded = || reader.encoded(self.map.object(), key.address());
        while let Some(bits) = encoded()? {
            let found = self.map.get(reader, bits)?;
            // If a transaction had entered the key's object and was undone since, its index may name another one by now.
            if found.is_none() || encoded()? == Some(bits) {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// True if the place has a value.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn contains_key(&self, reader: &impl Reader<'s>, key: Ptr<'s, T>) -> Result<bool, Error> {
        self.get(reader, key).map(|value| value.is_some())
    }

    /// Gives a place a value; gives back the one that it had. From then on the map's object leads to the place's.
    ///
    /// # Errors
    /// As [`Tx::link`], and [`OrderedMap::insert`].
    pub fn insert<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        key: Ptr<'s, T>,
        value: V,
    ) -> Result<Option<V>, Error> {
        let bits = tx.encode(self.map.object(), key.address())?;
        self.map.insert(tx, bits.0, value)
    }

    /// Takes a place out; gives back the value that it had.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn remove<B: Backend>(&self, tx: &mut Tx<'s, B>, key: Ptr<'s, T>) -> Result<Option<V>, Error> {
        tx.lock(self.map.object())?;
        match tx.encoded(self.map.object(), key.address())? {
            Some(bits) => self.map.remove(tx, bits),
            None => Ok(None),
        }
    }

    /// Takes all entries out.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn clear<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<(), Error> {
        self.map.clear(tx)
    }

    /// Keeps the entries for which `keep` says so. It is given an error in place of a place that is not to be had: in an object that was deleted, say.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn retain<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        mut keep: impl FnMut(Result<Ptr<'s, T>, Error>, V) -> bool,
    ) -> Result<(), Error> {
        tx.lock(self.map.object())?;
        let mut gone = alloc::vec::Vec::new();
        for entry in self.map.iter(tx) {
            let (bits, value) = entry?;
            if !keep(self.decode(tx, bits), value) {
                gone.push(bits);
            }
        }
        gone.into_iter().try_for_each(|bits| self.map.remove(tx, bits).map(drop))
    }

    /// All places and their values. A place that is not to be had is an error in its turn, and the others follow; damage ends them.
    pub fn iter<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl Iterator<Item = Result<(Ptr<'s, T>, V), Error>> + use<'r, 's, R, T, V, M> {
        let map = *self;
        self.map.iter(reader).map(move |entry| {
            let (bits, value) = entry?;
            map.decode(reader, bits).map(|key| (key, value))
        })
    }

    fn decode(&self, reader: &impl Reader<'s>, bits: u64) -> Result<Ptr<'s, T>, Error> {
        reader.decoded(self.map.object(), PointerBits(bits))?.ok_or(Error::Damaged)
    }
}
