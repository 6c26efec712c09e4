//! std's maps behind a lock: what is possible where nothing has to last. Values lie in their nodes, as ours do, and the hasher works as ours does.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use anyhow::{Context, Result, bail};

use super::ours::value_of;
use super::{Engine, Session, Survives, changed, copied, touched};

/// `BTreeMap`, of values of `N` bytes.
pub(crate) struct Tree<const N: usize>(RwLock<BTreeMap<u64, [u8; N]>>);

/// `HashMap`, of values of `N` bytes.
pub(crate) struct Hash<const N: usize>(RwLock<HashMap<u64, [u8; N], Folding>>);

/// Makes [`Folded`]s of a random seed.
#[derive(Clone)]
pub(crate) struct Folding(u64);

impl Default for Folding {
    fn default() -> Self {
        Self(rand::random())
    }
}

impl BuildHasher for Folding {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

/// The hash of a key of 8 bytes, as `twizzler_object`'s hash map has it.
pub(crate) struct Folded(u64);

impl Folded {
    const FOLDS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];

    const fn fold(a: u64, b: u64) -> u64 {
        let product = (a as u128).wrapping_mul(b as u128);
        product as u64 ^ (product >> 64) as u64
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = Self::fold(Self::fold(self.0 ^ 8 ^ word, Self::FOLDS[1]) ^ Self::FOLDS[0], Self::FOLDS[0]);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A thread's access.
pub(crate) struct Borrowed<'e, M>(&'e RwLock<M>);

impl<const N: usize> Engine for Tree<N> {
    const NAME: &'static str = "BTreeMap, volatile";
    type Session<'e> = Borrowed<'e, BTreeMap<u64, [u8; N]>>;

    fn open(_folder: &Path, _survives: Survives) -> Result<Self> {
        Ok(Self(RwLock::default()))
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(Borrowed(&self.0))
    }
}

impl<const N: usize> Engine for Hash<N> {
    const NAME: &'static str = "HashMap, volatile";
    const IS_ORDERED: bool = false;
    type Session<'e> = Borrowed<'e, HashMap<u64, [u8; N], Folding>>;

    fn open(_folder: &Path, _survives: Survives) -> Result<Self> {
        Ok(Self(RwLock::default()))
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(Borrowed(&self.0))
    }
}

macro_rules! session {
    ($map:ty, $scan:expr) => {
        impl<const N: usize> Session for Borrowed<'_, $map> {
            fn load(&mut self, entries: &mut dyn Iterator<Item = (u64, &[u8])>) -> Result<()> {
                let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
                map.extend(entries.map(|(key, value)| (key, value_of(value))));
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
                self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key, value_of(value));
                Ok(())
            }

            fn delete(&mut self, key: u64) -> Result<bool> {
                Ok(self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&key).is_some())
            }

            fn scan(&mut self, from: u64, number: usize, value: &mut Vec<u8>) -> Result<u64> {
                let scan: fn(&$map, u64, usize, &mut Vec<u8>) -> Result<u64> = $scan;
                scan(&self.0.read().unwrap_or_else(PoisonError::into_inner), from, number, value)
            }

            fn modify(&mut self, key: u64) -> Result<()> {
                let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
                let value = map.get_mut(&key).context("no such key")?;
                *value = value_of(&touched(value));
                Ok(())
            }

            fn transfer(&mut self, from: u64, to: u64, amount: u64) -> Result<()> {
                let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
                for (key, change) in [(from, -amount.cast_signed()), (to, amount.cast_signed())] {
                    let value = map.get_mut(&key).context("no such account")?;
                    *value = value_of(&changed(value, change));
                }
                Ok(())
            }
        }
    };
}

session!(BTreeMap<u64, [u8; N]>, |map, from, number, value| {
    Ok(map.range(from..).take(number).map(|(_, found)| copied(found, value)).sum())
});
session!(HashMap<u64, [u8; N], Folding>, |_, _, _, _| bail!("a hash map has no order"));
