//! Key-value engines behind one interface: ours, the peers, and std's maps as what is possible in memory.
//!
//! Keys are 8 bytes, big-endian where an engine orders bytes; values are bytes. Each call of a [`Session`] is a transaction of its own.

mod hashed;
#[cfg(feature = "peers")]
mod lmdb;
mod memory;
mod ours;
#[cfg(pmem_maps)]
mod pmem;
#[cfg(feature = "peers")]
mod redb;
#[cfg(feature = "peers")]
mod rocksdb;
#[cfg(feature = "peers")]
mod sqlite;

use std::path::Path;

use anyhow::Result;

#[cfg(pmem_maps)]
pub(crate) use self::pmem::{PmemHash, PmemTree};
#[cfg(feature = "peers")]
pub(crate) use self::{lmdb::Lmdb, redb::Redb, rocksdb::RocksDb, sqlite::Sqlite};
pub(crate) use hashed::TwizzlerHash;
pub(crate) use memory::{Hash, Tree};
pub(crate) use ours::{Twizzler, open_store};

/// What a finished write survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Survives {
    /// A power cut: the disk has been told to keep it.
    PowerCut,
    /// The end of the process, however it comes: the operating system has it.
    ProcessKill,
    /// A power cut, if the memory that its files lie in is persistent: it has left the caches.
    PersistentMemory,
}

/// Where each engine's settings come from; shown on the page.
pub(crate) const SETTINGS: &str = "Settings, by the engines' own documentation. LMDB (the one that heed 0.23 builds): map of 64 GiB, `MDB_NOTLS`; `MDB_WRITEMAP | MDB_NOSYNC` where only \
     the process may die. redb 4: cache of 1 GiB, `Durability::Immediate`; it has no level that survives a killed process alone, so `None` with the same file stands there. SQLite \
     (the system's): WAL, `synchronous=FULL` (`OFF` where only the process may die), `mmap_size` 8 GiB, `cache_size` 64 MiB, a table with an integer primary key, prepared statements kept. RocksDB 7.8 (C interface): `WriteOptions.sync` as needed, block cache of 1 GiB, Bloom filter of 10 bits, 64 MiB write buffers, no \
     compression. Where memory is limited to 48 MiB, the caches have 16 MiB (SQLite: 1 MiB and its map), RocksDB's write buffers 8 MiB, and LMDB has `MDB_NORDAHEAD`. Gets and scans copy the values out and are transactions of their own everywhere.";

/// Room for the caches of the engines that have one; a sixteenth of that for SQLite, which also maps its file.
#[cfg(feature = "peers")]
fn cache_bytes() -> usize {
    if crate::limit::asked().is_some() { 16 << 20 } else { 1 << 30 }
}

/// An engine with a store of its own.
pub(crate) trait Engine: Send + Sync + Sized + 'static {
    /// What tables call it.
    const NAME: &'static str;
    /// True where entries have an order, in which they can be scanned.
    const IS_ORDERED: bool = true;
    /// What a thread works through.
    type Session<'e>: Session
    where
        Self: 'e;

    /// Makes a store in an empty folder, or opens the one that is there.
    fn open(folder: &Path, survives: Survives) -> Result<Self>;

    /// Makes an empty store ready for so many entries, more than a million, where that has to be asked for.
    fn grow(&mut self, _entries: u64) -> Result<()> {
        Ok(())
    }

    /// For one thread.
    fn session(&self) -> Result<Self::Session<'_>>;
}

/// A thread's access.
pub(crate) trait Session {
    /// Puts many entries, in ascending order of keys, in one transaction.
    fn load(&mut self, entries: &mut dyn Iterator<Item = (u64, &[u8])>) -> Result<()>;

    /// Copies a key's value out; false if there is none.
    fn get(&mut self, key: u64, value: &mut Vec<u8>) -> Result<bool>;

    /// Gives a key a value.
    fn put(&mut self, key: u64, value: &[u8]) -> Result<()>;

    /// Takes a key out; false if it wasn't there.
    fn delete(&mut self, key: u64) -> Result<bool>;

    /// Copies up to `number` values out, from a key on, one after the other; the sum of their first bytes.
    fn scan(&mut self, from: u64, number: usize, value: &mut Vec<u8>) -> Result<u64>;

    /// Reads a value, changes its first byte and puts it back, in one transaction.
    fn modify(&mut self, key: u64) -> Result<()>;

    /// Moves an amount between two values that begin with little-endian numbers, in one transaction.
    fn transfer(&mut self, from: u64, to: u64, amount: u64) -> Result<()>;
}

/// Copies a value out; its first byte.
fn copied(from: &[u8], value: &mut Vec<u8>) -> u64 {
    value.clear();
    value.extend_from_slice(from);
    value.first().map_or(0, |&first| first.into())
}

/// The number that a value begins with, plus `change`.
fn changed(value: &[u8], change: i64) -> Vec<u8> {
    let mut value = value.to_vec();
    if let Some(head) = value.first_chunk_mut::<8>() {
        *head = u64::from_le_bytes(*head).wrapping_add_signed(change).to_le_bytes();
    }
    value
}

/// The value with another first byte.
fn touched(value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if let Some(first) = value.first_mut() {
        *first = first.wrapping_add(1);
    }
    value
}
