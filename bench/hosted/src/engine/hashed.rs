//! Ours: a hash map in one object of a hosted store.

use std::path::Path;

use anyhow::{Context, Result, bail};
use twizzler::collections::{HashMap, HashMapRoot};
use twizzler::{Access, Error, Guard, HostedBackend, ObjId, Store, Tx};

use super::ours::{batches, open_store, value_of};
use super::{Engine, Session, Survives, touched};

/// A store with one map, whose values have `N` bytes.
pub(crate) struct TwizzlerHash<const N: usize> {
    store: Store,
    /// The object whose base is the map.
    id: ObjId,
}

type In<'g> = Guard<'g, HostedBackend>;
type Map<'g, const N: usize> = HashMap<'g, u64, [u8; N]>;
type Root<const N: usize> = HashMapRoot<u64, [u8; N]>;

impl<const N: usize> Engine for TwizzlerHash<N> {
    const NAME: &'static str = "Twizzler, hash map";
    const IS_ORDERED: bool = false;
    type Session<'e> = &'e Self;

    fn open(folder: &Path, survives: Survives) -> Result<Self> {
        let store = open_store(folder, survives)?;
        let guard = store.space().enter();
        let id = guard.id_of(guard.well_known::<Root<N>>(*b"bench hash map\0\0")?.area());
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

impl<const N: usize> TwizzlerHash<N> {
    #[inline]
    fn map<'g>(&self, guard: &'g In<'g>) -> Result<Map<'g, N>, Error> {
        Ok(HashMap::new(guard.open::<Root<N>>(self.id, Access::Write)?.base()))
    }

    fn change<R>(
        &self,
        mut change: impl for<'g> FnMut(&Map<'g, N>, &mut Tx<'g, HostedBackend>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let guard = self.store.space().enter();
        let map = self.map(&guard)?;
        guard.transact(|tx| change(&map, tx))
    }
}

impl<const N: usize> Session for &TwizzlerHash<N> {
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
        value.resize(N, 0);
        let value = value.first_chunk_mut().context("as long as it was made")?;
        Ok(self.map(guard)?.get_into(&guard, &key, value)?)
    }

    fn put(&mut self, key: u64, value: &[u8]) -> Result<()> {
        self.change(|map, tx| map.insert(tx, key, value_of(value)))?;
        Ok(())
    }

    fn delete(&mut self, key: u64) -> Result<bool> {
        Ok(self.change(|map, tx| map.remove(tx, &key))?.is_some())
    }

    fn scan(&mut self, _from: u64, _number: usize, _value: &mut Vec<u8>) -> Result<u64> {
        bail!("a hash map has no order")
    }

    fn modify(&mut self, key: u64) -> Result<()> {
        self.change(|map, tx| {
            let old = map.get(tx, &key)?.ok_or(Error::NoSuchObject)?;
            map.insert(tx, key, value_of(&touched(&old)))
        })
        .context("can't change a value")?;
        Ok(())
    }

    fn transfer(&mut self, _from: u64, _to: u64, _amount: u64) -> Result<()> {
        bail!("transfers are measured with the ordered map")
    }
}
