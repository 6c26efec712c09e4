//! The store: what can be asked and changed.

use alloc::vec::Vec;

use twizzler_abi::Error;
use twizzler_object::collections::{BytesMap, KEY_BYTES_MAX, MapRoot, VALUE_BYTES_MAX};
use twizzler_object::{Backend, Guard, Object, Stored, Tx};

use crate::lines::{BadLine, Lines};

/// The base of a store. All zero is an empty store.
#[derive(Stored)]
#[stored(name = "twizzler.kv", version = 1)]
#[repr(C)]
pub struct StoreRoot {
    /// The entries.
    pub map: MapRoot,
}

/// A load rewrites the whole map, instead of changing it entry by entry, if that has at most so many times the entries of the load.
const REWRITE_FACTOR: u64 = 8;

/// A store, open for writing.
pub struct Store<'s, B: Backend> {
    guard: &'s Guard<'s, B>,
    root: Object<'s, StoreRoot>,
}

/// Why nothing was loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoadError {
    /// A line is no entry.
    Line(BadLine),
    /// The key or value in this line is too long.
    TooLong(u64),
    /// The system says no, or the store is damaged.
    System(Error),
}

impl From<Error> for LoadError {
    fn from(error: Error) -> Self {
        Self::System(error)
    }
}

/// A store in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Entries.
    pub entries: u64,
    /// Bytes of all keys and values.
    pub bytes: u64,
    /// Levels of the tree.
    pub levels: u16,
    /// Bytes that the object has handed out.
    pub object_bytes: u64,
}

impl<'s, B: Backend> Store<'s, B> {
    /// The store in that object.
    pub const fn new(guard: &'s Guard<'s, B>, root: Object<'s, StoreRoot>) -> Self {
        Self { guard, root }
    }

    fn map(&self) -> BytesMap<'s> {
        BytesMap::new(self.root.base().at(StoreRoot::map))
    }

    /// Gives a key a value. True if it had one before.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::OutOfRange`] where the store's object is full, [`Error::Damaged`], the system's own. Nothing was changed then.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<bool, Error> {
        self.guard.transact(|tx| self.put_in(tx, key, value))
    }

    /// The same as part of a transaction, which may have made the store.
    ///
    /// # Errors
    /// As [`Store::put`]; the transaction is to be given up then.
    pub fn put_in(&self, tx: &mut Tx<'s, B>, key: &[u8], value: &[u8]) -> Result<bool, Error> {
        tx.lock(self.root.area())?;
        self.map().insert(tx, key, value)
    }

    /// Takes a key out. False if it wasn't there.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn delete(&self, key: &[u8]) -> Result<bool, Error> {
        self.guard.transact(|tx| {
            tx.lock(self.root.area())?;
            self.map().remove(tx, key)
        })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Damaged`], and the system's own.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let _locked = self.guard.lock(self.root.area())?;
        self.map().get(&self.guard, key)
    }

    /// Hands the entries from `from` up to, not including, `to` to `each`, in order.
    ///
    /// # Errors
    /// [`Error::Damaged`], and the system's own; entries before the damage were handed out.
    pub fn scan(
        &self,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Error> {
        use core::ops::Bound::{Excluded, Included, Unbounded};
        let _locked = self.guard.lock(self.root.area())?;
        let bounds = (from.map_or(Unbounded, Included), to.map_or(Unbounded, Excluded));
        for entry in self.map().range(&self.guard, bounds) {
            let (key, value) = entry?;
            each(&key, &value);
        }
        Ok(())
    }

    /// Puts all entries of a file with this content; of several with the same key, the last. Gives how many there were.
    ///
    /// # Errors
    /// [`LoadError`]; nothing was changed then.
    pub fn load(&self, content: &[u8]) -> Result<u64, LoadError> {
        self.guard.transact(|tx| self.load_in(tx, content))
    }

    /// The same as part of a transaction, which may have made the store.
    ///
    /// # Errors
    /// As [`Store::load`]; the transaction is to be given up then.
    pub fn load_in(&self, tx: &mut Tx<'s, B>, content: &[u8]) -> Result<u64, LoadError> {
        let mut entries = entries_of(content)?;
        let loaded = entries.len() as u64;
        // Of equal keys the last: the sort is stable, so it follows the others.
        entries.sort_by_key(|&(key, _)| key);
        entries.reverse();
        entries.dedup_by_key(|&mut (key, _)| key);
        entries.reverse();
        tx.lock(self.root.area())?;
        let map = self.map();
        if map.len(tx)? / REWRITE_FACTOR <= entries.len() as u64 {
            map.merge_sorted(tx, &entries)?;
        } else {
            entries.iter().try_for_each(|(key, value)| map.insert(tx, key, value).map(drop))?;
        }
        Ok(loaded)
    }

    /// The store in numbers.
    ///
    /// # Errors
    /// [`Error::Damaged`], and the system's own.
    pub fn stat(&self) -> Result<Stat, Error> {
        let _locked = self.guard.lock(self.root.area())?;
        let (map, guard) = (self.map(), &self.guard);
        let object_bytes = guard.len_bytes(self.root.area());
        Ok(Stat {
            entries: map.len(guard)?,
            bytes: map.len_bytes(guard)?,
            levels: map.levels(guard)?,
            object_bytes,
        })
    }
}

/// Keys and values.
type Entries<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The entries of a file, in its order.
fn entries_of(content: &[u8]) -> Result<Entries<'_>, LoadError> {
    let mut entries = Vec::new();
    let mut lines = Lines::new(content);
    while let Some(entry) = lines.next() {
        let (key, value) = entry.map_err(LoadError::Line)?;
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(LoadError::TooLong(lines.line()));
        }
        if entries.len() == entries.capacity() {
            entries.try_reserve(entries.len().max(64)).map_err(|_| Error::OutOfMemory)?;
        }
        entries.push((key, value));
    }
    Ok(entries)
}
