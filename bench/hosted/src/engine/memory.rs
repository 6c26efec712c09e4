//! std's maps behind a lock: what is possible where nothing has to last.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use anyhow::{Context, Result, bail};

use super::{Engine, Session, Survives, changed, touched};

/// `BTreeMap`.
pub(crate) struct Tree(RwLock<BTreeMap<u64, Vec<u8>>>);

/// `HashMap`.
pub(crate) struct Hash(RwLock<HashMap<u64, Vec<u8>>>);

/// A thread's access.
pub(crate) struct Borrowed<'e, M>(&'e RwLock<M>);

impl Engine for Tree {
    const NAME: &'static str = "BTreeMap, volatile";
    type Session<'e> = Borrowed<'e, BTreeMap<u64, Vec<u8>>>;

    fn open(_folder: &Path, _survives: Survives) -> Result<Self> {
        Ok(Self(RwLock::default()))
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(Borrowed(&self.0))
    }
}

impl Engine for Hash {
    const NAME: &'static str = "HashMap, volatile";
    type Session<'e> = Borrowed<'e, HashMap<u64, Vec<u8>>>;

    fn open(_folder: &Path, _survives: Survives) -> Result<Self> {
        Ok(Self(RwLock::default()))
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(Borrowed(&self.0))
    }
}

macro_rules! session {
    ($map:ty, $scan:expr) => {
        impl Session for Borrowed<'_, $map> {
            fn load(&mut self, entries: &mut dyn Iterator<Item = (u64, &[u8])>) -> Result<()> {
                let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
                map.extend(entries.map(|(key, value)| (key, value.to_vec())));
                Ok(())
            }

            fn get(&mut self, key: u64, value: &mut Vec<u8>) -> Result<bool> {
                let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
                let found = map.get(&key);
                if let Some(found) = found {
                    value.clear();
                    value.extend_from_slice(found);
                }
                Ok(found.is_some())
            }

            fn put(&mut self, key: u64, value: &[u8]) -> Result<()> {
                self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key, value.to_vec());
                Ok(())
            }

            fn delete(&mut self, key: u64) -> Result<bool> {
                Ok(self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&key).is_some())
            }

            fn scan(&mut self, from: u64, number: usize) -> Result<u64> {
                let scan: fn(&$map, u64, usize) -> Result<u64> = $scan;
                scan(&self.0.read().unwrap_or_else(PoisonError::into_inner), from, number)
            }

            fn modify(&mut self, key: u64) -> Result<()> {
                let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
                let value = map.get_mut(&key).context("no such key")?;
                *value = touched(value);
                Ok(())
            }

            fn transfer(&mut self, from: u64, to: u64, amount: u64) -> Result<()> {
                let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
                for (key, change) in [(from, -amount.cast_signed()), (to, amount.cast_signed())] {
                    let value = map.get_mut(&key).context("no such account")?;
                    *value = changed(value, change);
                }
                Ok(())
            }
        }
    };
}

session!(BTreeMap<u64, Vec<u8>>, |map, from, number| {
    Ok(map.range(from..).take(number).map(|(_, value)| u64::from(value[0])).sum())
});
session!(HashMap<u64, Vec<u8>>, |_, _, _| bail!("a hash map has no order"));
