//! Ours: an ordered map in one object of a hosted store.

use std::path::Path;

use anyhow::{Context, Result};
use twizzler::collections::{OrderedMap, OrderedMapRoot};
use twizzler::{Access, Durability, Error, Guard, HostedBackend, ObjId, Object, Options, Store, Tx};

use super::{Engine, Session, Survives, changed, touched};

/// A store with one map, whose values have `N` bytes.
pub(crate) struct Twizzler<const N: usize> {
    store: Store,
    /// The object whose base is the map.
    id: ObjId,
}

type In<'g> = Guard<'g, HostedBackend>;
type Map<'g, const N: usize> = OrderedMap<'g, u64, [u8; N]>;
type Root<const N: usize> = OrderedMapRoot<u64, [u8; N]>;

impl<const N: usize> Engine for Twizzler<N> {
    const NAME: &'static str = "Twizzler, ordered map";
    type Session<'e> = &'e Self;

    fn open(folder: &Path, survives: Survives) -> Result<Self> {
        let store = open_store(folder, survives)?;
        let guard = store.space().enter();
        let id = guard.id_of(guard.well_known::<Root<N>>(*b"bench map object")?.area());
        drop(guard);
        Ok(Self { store, id })
    }

    fn grow(&mut self, _entries: u64) -> Result<()> {
        Ok(self.store.promote(self.id)?)
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(self)
    }
}

/// Reads again where writers have gone on so far that the version that was read is no more.
fn until_not_overtaken<R>(mut read: impl FnMut() -> Result<R, Error>) -> Result<R, Error> {
    loop {
        match read() {
            Err(Error::Interrupted) => {}
            result => return result,
        }
    }
}

/// Makes or opens the store in a folder.
pub(crate) fn open_store(folder: &Path, survives: Survives) -> Result<Store> {
    let options = match survives {
        Survives::PowerCut => Options::new().durability(Durability::PowerCut),
        Survives::ProcessKill => Options::new().durability(Durability::ProcessKill),
        Survives::PersistentMemory => Options::new().assume_persistent_memory(),
    };
    Ok(options.open_or_create(folder.join("store"))?)
}

/// The value, which has as many bytes as the map's values.
pub(super) fn value_of<const N: usize>(value: &[u8]) -> [u8; N] {
    value.try_into().expect("all values of a contest have the same length")
}

/// The entries in batches, each for one transaction: a record of the log holds it.
pub(super) fn batches<'e, const N: usize>(
    entries: &'e mut dyn Iterator<Item = (u64, &[u8])>,
) -> impl Iterator<Item = Vec<(u64, [u8; N])>> + 'e {
    const BATCH_BYTES: usize = 128 << 10;
    std::iter::from_fn(move || {
        let batch: Vec<(u64, [u8; N])> =
            entries.take(BATCH_BYTES / (8 + N)).map(|(key, value)| (key, value_of(value))).collect();
        (!batch.is_empty()).then_some(batch)
    })
}

impl<const N: usize> Twizzler<N> {
    /// The store.
    pub(crate) const fn store(&self) -> &Store {
        &self.store
    }

    /// Closes the store in order.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) fn close(self) -> Result<()> {
        Ok(self.store.close()?)
    }

    fn root<'g>(&self, guard: &'g In<'g>) -> Result<Object<'g, Root<N>>, Error> {
        Ok(guard.open::<Root<N>>(self.id, Access::Write)?)
    }

    fn map<'g>(&self, guard: &'g In<'g>) -> Result<Map<'g, N>, Error> {
        Ok(OrderedMap::new(self.root(guard)?.base()))
    }

    fn change<R>(
        &self,
        mut change: impl for<'g> FnMut(&Map<'g, N>, &mut Tx<'g, HostedBackend>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let guard = self.store.space().enter();
        let root = self.root(&guard)?;
        let map = OrderedMap::new(root.base());
        guard.transact(|tx| {
            // Before it reads, as the library advises, and as SQLite does with `BEGIN IMMEDIATE`.
            tx.lock(root.area())?;
            change(&map, tx)
        })
    }

    /// Replaces the values of keys that are there, in one transaction.
    fn replace(&self, keys: &[u64], new: impl Fn(usize, &[u8]) -> Vec<u8>) -> Result<()> {
        self.change(|map, tx| {
            for (i, &key) in keys.iter().enumerate() {
                let old = map.get(tx, &key)?.ok_or(Error::NoSuchObject)?;
                map.insert(tx, key, value_of(&new(i, &old)))?;
            }
            Ok(())
        })
        .context("can't change values")
    }
}

impl<const N: usize> Session for &Twizzler<N> {
    fn load(&mut self, entries: &mut dyn Iterator<Item = (u64, &[u8])>) -> Result<()> {
        for batch in batches::<N>(entries) {
            self.change(|map, tx| {
                batch.iter().try_for_each(|&(key, value)| map.insert(tx, key, value).map(|_| ()))
            })?;
        }
        Ok(())
    }

    fn get(&mut self, key: u64, value: &mut Vec<u8>) -> Result<bool> {
        let guard = &self.store.space().enter();
        let map = self.map(guard)?;
        let found = until_not_overtaken(|| map.get(&guard, &key))?;
        if let Some(found) = found {
            value.clear();
            value.extend_from_slice(&found);
        }
        Ok(found.is_some())
    }

    fn put(&mut self, key: u64, value: &[u8]) -> Result<()> {
        self.change(|map, tx| map.insert(tx, key, value_of(value)))?;
        Ok(())
    }

    fn delete(&mut self, key: u64) -> Result<bool> {
        Ok(self.change(|map, tx| map.remove(tx, &key))?.is_some())
    }

    fn scan(&mut self, from: u64, number: usize, _value: &mut Vec<u8>) -> Result<u64> {
        let guard = &self.store.space().enter();
        let map = self.map(guard)?;
        let sum = until_not_overtaken(|| {
            map.range(&guard, from..).take(number).try_fold(0, |sum, entry| {
                // The map has copied it out.
                let (_, value) = std::hint::black_box(entry?);
                Ok(sum + u64::from(value[0]))
            })
        })?;
        Ok(sum)
    }

    fn modify(&mut self, key: u64) -> Result<()> {
        self.replace(&[key], |_, value| touched(value))
    }

    fn transfer(&mut self, from: u64, to: u64, amount: u64) -> Result<()> {
        let amount = amount.cast_signed();
        self.replace(&[from, to], |i, value| changed(value, if i == 0 { -amount } else { amount }))
    }
}
