//! libpmemobj's maps, of which its package has the source as examples; what is around them is in `c/pmem_map.c`.

use std::ffi::{CString, c_char, c_int, c_void};
use std::marker::{PhantomData, PhantomPinned};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use anyhow::{Context, Result, bail, ensure};

use super::{Engine, Session, Survives, touched};

/// What C keeps.
#[repr(C)]
struct Opaque {
    nothing: [u8; 0],
    marker: PhantomData<(*mut u8, PhantomPinned)>,
}

// SAFETY: as `c/pmem_map.c` defines them.
unsafe extern "C" {
    fn map_open(path: *const c_char, is_tree: c_int, entries: u64) -> *mut Opaque;
    fn map_close(map: *mut Opaque);
    fn map_get(map: *mut Opaque, key: u64, value: *mut c_void, len: usize) -> c_int;
    fn map_put(map: *mut Opaque, keys: *const u64, values: *const u8, number: usize, len: usize) -> c_int;
    fn map_delete(map: *mut Opaque, key: u64) -> c_int;
}

/// One of the maps, in a pool of its own, with values of `N` bytes: the B-tree, or the hash table.
pub(crate) struct Pmem<const TREE: bool, const N: usize> {
    path: PathBuf,
    /// The maps leave locking to their users.
    map: RwLock<NonNull<Opaque>>,
}

/// libpmemobj's B-tree.
pub(crate) type PmemTree<const N: usize> = Pmem<true, N>;
/// libpmemobj's hash table.
pub(crate) type PmemHash<const N: usize> = Pmem<false, N>;

// SAFETY: libpmemobj's pools may be used from any thread, one at a time, which the lock sees to.
unsafe impl<const TREE: bool, const N: usize> Send for Pmem<TREE, N> {}
// SAFETY: as above; `map_get` changes nothing, so it may run in several threads.
unsafe impl<const TREE: bool, const N: usize> Sync for Pmem<TREE, N> {}

impl<const TREE: bool, const N: usize> Pmem<TREE, N> {
    /// Makes a pool with room for so many entries.
    fn make(path: PathBuf, entries: u64) -> Result<Self> {
        let c_path = CString::new(path.as_os_str().as_encoded_bytes())?;
        // SAFETY: a string that ends with a zero and outlives the call.
        let map = unsafe { map_open(c_path.as_ptr(), c_int::from(TREE), entries) };
        Ok(Self { path, map: RwLock::new(NonNull::new(map).context("can't make a pool")?) })
    }

    fn shared(&self) -> RwLockReadGuard<'_, NonNull<Opaque>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts entries in one transaction.
    fn put_all(&self, keys: &[u64], values: &[u8]) -> Result<()> {
        ensure!(values.len() == keys.len() * N, "all values of a contest have the same length");
        let map = self.alone();
        // SAFETY: an open map, ours alone, and as many keys and bytes of values as are said.
        let result = unsafe { map_put(map.as_ptr(), keys.as_ptr(), values.as_ptr(), keys.len(), N) };
        ensure!(result == 0, "libpmemobj can't put");
        Ok(())
    }

    fn alone(&self) -> RwLockWriteGuard<'_, NonNull<Opaque>> {
        self.map.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<const TREE: bool, const N: usize> Engine for Pmem<TREE, N> {
    const NAME: &'static str = if TREE { "libpmemobj, btree_map" } else { "libpmemobj, hashmap_tx" };
    const IS_ORDERED: bool = false;
    type Session<'e> = &'e Self;

    fn open(folder: &Path, survives: Survives) -> Result<Self> {
        ensure!(survives == Survives::PersistentMemory, "libpmemobj is for persistent memory");
        Self::make(folder.join("pool"), 1_000_000)
    }

    /// Neither a pool nor the table grows by itself.
    fn grow(&mut self, entries: u64) -> Result<()> {
        std::fs::remove_file(&self.path)?;
        *self = Self::make(self.path.clone(), entries)?;
        Ok(())
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(self)
    }
}

impl<const TREE: bool, const N: usize> Drop for Pmem<TREE, N> {
    fn drop(&mut self) {
        // SAFETY: made by `map_open`, and not used any more.
        unsafe { map_close(self.alone().as_ptr()) }
    }
}

impl<const TREE: bool, const N: usize> Session for &Pmem<TREE, N> {
    fn load(&mut self, entries: &mut dyn Iterator<Item = (u64, &[u8])>) -> Result<()> {
        // Many entries in a transaction, but not all: it keeps what was before.
        const BATCH: usize = 1000;
        loop {
            let (keys, values): (Vec<u64>, Vec<&[u8]>) = entries.take(BATCH).unzip();
            if keys.is_empty() {
                return Ok(());
            }
            self.put_all(&keys, &values.concat())?;
        }
    }

    fn get(&mut self, key: u64, value: &mut Vec<u8>) -> Result<bool> {
        value.resize(N, 0);
        let map = self.shared();
        // SAFETY: an open map, which nobody changes meanwhile, and as many bytes as are said.
        Ok(unsafe { map_get(map.as_ptr(), key, value.as_mut_ptr().cast(), N) } == 1)
    }

    fn put(&mut self, key: u64, value: &[u8]) -> Result<()> {
        self.put_all(&[key], value)
    }

    fn delete(&mut self, key: u64) -> Result<bool> {
        let map = self.alone();
        // SAFETY: an open map, ours alone.
        match unsafe { map_delete(map.as_ptr(), key) } {
            -1 => bail!("libpmemobj can't delete"),
            found => Ok(found == 1),
        }
    }

    fn scan(&mut self, _from: u64, _number: usize, _value: &mut Vec<u8>) -> Result<u64> {
        bail!("libpmemobj's maps can't scan from a key on")
    }

    fn modify(&mut self, key: u64) -> Result<()> {
        let mut value = Vec::new();
        ensure!(self.get(key, &mut value)?, "an entry is lost");
        self.put(key, &touched(&value))
    }

    fn transfer(&mut self, _from: u64, _to: u64, _amount: u64) -> Result<()> {
        bail!("transfers are measured with other engines")
    }
}
