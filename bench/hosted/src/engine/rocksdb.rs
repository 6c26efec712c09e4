//! RocksDB, through its C interface (`rocksdb/c.h`). Writes that read are not isolated here, so it takes no part in contests that
//! need that.

use std::ffi::{CStr, CString, c_char, c_int, c_uchar};
use std::marker::{PhantomData, PhantomPinned};
use std::path::Path;
use std::ptr::{NonNull, null_mut};

use anyhow::{Result, bail};

use super::{Engine, Session, Survives, copied};

macro_rules! opaque {
    ($($name:ident)+) => { $(
        /// What RocksDB keeps.
        #[repr(C)]
        struct $name {
            nothing: [u8; 0],
            marker: PhantomData<(*mut u8, PhantomPinned)>,
        }
    )+ };
}

opaque! { Db Options ReadOptions WriteOptions Batch Iterator Pinned TableOptions Cache Filter }

// SAFETY: as `rocksdb/c.h` declares them; a number of the wrong width would have failed the tests of this engine.
#[link(name = "rocksdb")]
unsafe extern "C" {
    fn rocksdb_options_create() -> *mut Options;
    fn rocksdb_options_destroy(options: *mut Options);
    fn rocksdb_options_set_create_if_missing(options: *mut Options, yes: c_uchar);
    fn rocksdb_options_set_write_buffer_size(options: *mut Options, bytes: usize);
    fn rocksdb_options_set_compression(options: *mut Options, kind: c_int);
    fn rocksdb_options_set_block_based_table_factory(options: *mut Options, table: *mut TableOptions);
    fn rocksdb_block_based_options_create() -> *mut TableOptions;
    fn rocksdb_block_based_options_destroy(table: *mut TableOptions);
    fn rocksdb_block_based_options_set_block_cache(table: *mut TableOptions, cache: *mut Cache);
    fn rocksdb_block_based_options_set_filter_policy(table: *mut TableOptions, filter: *mut Filter);
    fn rocksdb_cache_create_lru(bytes: usize) -> *mut Cache;
    fn rocksdb_cache_destroy(cache: *mut Cache);
    fn rocksdb_filterpolicy_create_bloom_full(bits: f64) -> *mut Filter;
    fn rocksdb_open(options: *const Options, path: *const c_char, error: *mut *mut c_char) -> *mut Db;
    fn rocksdb_close(db: *mut Db);
    fn rocksdb_free(memory: *mut c_char);
    fn rocksdb_readoptions_create() -> *mut ReadOptions;
    fn rocksdb_readoptions_destroy(options: *mut ReadOptions);
    fn rocksdb_writeoptions_create() -> *mut WriteOptions;
    fn rocksdb_writeoptions_destroy(options: *mut WriteOptions);
    fn rocksdb_writeoptions_set_sync(options: *mut WriteOptions, yes: c_uchar);
    fn rocksdb_get_pinned(
        db: *mut Db,
        options: *const ReadOptions,
        key: *const u8,
        key_len: usize,
        error: *mut *mut c_char,
    ) -> *mut Pinned;
    fn rocksdb_pinnableslice_value(pinned: *const Pinned, len: *mut usize) -> *const u8;
    fn rocksdb_pinnableslice_destroy(pinned: *mut Pinned);
    fn rocksdb_put(
        db: *mut Db,
        options: *const WriteOptions,
        key: *const u8,
        key_len: usize,
        value: *const u8,
        value_len: usize,
        error: *mut *mut c_char,
    );
    fn rocksdb_delete(
        db: *mut Db,
        options: *const WriteOptions,
        key: *const u8,
        key_len: usize,
        error: *mut *mut c_char,
    );
    fn rocksdb_writebatch_create() -> *mut Batch;
    fn rocksdb_writebatch_destroy(batch: *mut Batch);
    fn rocksdb_writebatch_put(
        batch: *mut Batch,
        key: *const u8,
        key_len: usize,
        value: *const u8,
        value_len: usize,
    );
    fn rocksdb_write(db: *mut Db, options: *const WriteOptions, batch: *mut Batch, error: *mut *mut c_char);
    fn rocksdb_create_iterator(db: *mut Db, options: *const ReadOptions) -> *mut Iterator;
    fn rocksdb_iter_destroy(iterator: *mut Iterator);
    fn rocksdb_iter_seek(iterator: *mut Iterator, key: *const u8, key_len: usize);
    fn rocksdb_iter_valid(iterator: *const Iterator) -> c_uchar;
    fn rocksdb_iter_next(iterator: *mut Iterator);
    fn rocksdb_iter_value(iterator: *const Iterator, len: *mut usize) -> *const u8;
}

/// A database.
pub(crate) struct RocksDb {
    db: NonNull<Db>,
    read: NonNull<ReadOptions>,
    write: NonNull<WriteOptions>,
}

// SAFETY: RocksDB's database and options may be used by any number of threads (`rocksdb/db.h`).
unsafe impl Send for RocksDb {}
// SAFETY: as above.
unsafe impl Sync for RocksDb {}

/// The error that a call left, if it left one.
fn checked(error: *mut c_char) -> Result<()> {
    let Some(error) = NonNull::new(error) else { return Ok(()) };
    // SAFETY: RocksDB gives a C string.
    let text = unsafe { CStr::from_ptr(error.as_ptr()) }.to_string_lossy().into_owned();
    // SAFETY: that is ours to free.
    unsafe { rocksdb_free(error.as_ptr()) };
    bail!("RocksDB: {text}")
}

/// Options as its tuning guide has them for point lookups in memory.
#[allow(clippy::multiple_unsafe_ops_per_block, reason = "a sequence of setters of fresh options")]
fn options() -> NonNull<Options> {
    // SAFETY: each function gets what another one has just made; the table's options own cache and filter by reference counts.
    let options = unsafe {
        let options = rocksdb_options_create();
        rocksdb_options_set_create_if_missing(options, 1);
        rocksdb_options_set_compression(options, 0);
        rocksdb_options_set_write_buffer_size(options, super::cache_bytes().min(128 << 20) / 2);
        let table = rocksdb_block_based_options_create();
        let cache = rocksdb_cache_create_lru(super::cache_bytes());
        rocksdb_block_based_options_set_block_cache(table, cache);
        rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(10.0));
        rocksdb_options_set_block_based_table_factory(options, table);
        rocksdb_cache_destroy(cache);
        rocksdb_block_based_options_destroy(table);
        options
    };
    NonNull::new(options).expect("RocksDB ends the process where memory is out")
}

impl Engine for RocksDb {
    const NAME: &'static str = "RocksDB";
    type Session<'e> = &'e Self;

    fn open(folder: &Path, survives: Survives) -> Result<Self> {
        let path = CString::new(folder.join("rocksdb").as_os_str().as_encoded_bytes())?;
        let options = options();
        let mut error = null_mut();
        // SAFETY: options, a C string, and room for the error.
        let db = unsafe { rocksdb_open(options.as_ptr(), path.as_ptr(), &raw mut error) };
        // SAFETY: nobody uses them any more.
        unsafe { rocksdb_options_destroy(options.as_ptr()) };
        checked(error)?;
        let db = NonNull::new(db).expect("a database, as there is no error");
        // SAFETY: makes options.
        let read = NonNull::new(unsafe { rocksdb_readoptions_create() }).expect("memory");
        // SAFETY: as above.
        let write = NonNull::new(unsafe { rocksdb_writeoptions_create() }).expect("memory");
        // SAFETY: fresh options.
        unsafe { rocksdb_writeoptions_set_sync(write.as_ptr(), u8::from(survives == Survives::PowerCut)) };
        Ok(Self { db, read, write })
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(self)
    }
}

impl Drop for RocksDb {
    #[allow(clippy::multiple_unsafe_ops_per_block, reason = "one end of everything")]
    fn drop(&mut self) {
        // SAFETY: all three are ours, and nobody uses them any more.
        unsafe {
            rocksdb_close(self.db.as_ptr());
            rocksdb_readoptions_destroy(self.read.as_ptr());
            rocksdb_writeoptions_destroy(self.write.as_ptr());
        }
    }
}

impl Session for &RocksDb {
    #[allow(clippy::multiple_unsafe_ops_per_block, reason = "the life of one batch")]
    fn load(&mut self, entries: &mut dyn std::iter::Iterator<Item = (u64, &[u8])>) -> Result<()> {
        let mut error = null_mut();
        // SAFETY: an open database, its options, a batch that lives here, and slices that live through each call.
        unsafe {
            let batch = rocksdb_writebatch_create();
            for (key, value) in entries {
                rocksdb_writebatch_put(batch, key.to_be_bytes().as_ptr(), 8, value.as_ptr(), value.len());
            }
            rocksdb_write(self.db.as_ptr(), self.write.as_ptr(), batch, &raw mut error);
            rocksdb_writebatch_destroy(batch);
        }
        checked(error)
    }

    fn get(&mut self, key: u64, value: &mut Vec<u8>) -> Result<bool> {
        let (key, mut error) = (key.to_be_bytes(), null_mut());
        // SAFETY: an open database, its options, a key, and room for the error.
        let pinned = unsafe {
            rocksdb_get_pinned(self.db.as_ptr(), self.read.as_ptr(), key.as_ptr(), 8, &raw mut error)
        };
        checked(error)?;
        if pinned.is_null() {
            return Ok(false);
        }
        let mut len = 0;
        // SAFETY: a pinned value.
        let bytes = unsafe { rocksdb_pinnableslice_value(pinned, &raw mut len) };
        value.clear();
        // SAFETY: `len` bytes, until the value is let go.
        value.extend_from_slice(unsafe { std::slice::from_raw_parts(bytes, len) });
        // SAFETY: nobody uses it any more.
        unsafe { rocksdb_pinnableslice_destroy(pinned) };
        Ok(true)
    }

    fn put(&mut self, key: u64, value: &[u8]) -> Result<()> {
        let (key, mut error) = (key.to_be_bytes(), null_mut());
        let (db, options) = (self.db.as_ptr(), self.write.as_ptr());
        // SAFETY: an open database, its options, slices, and room for the error.
        unsafe { rocksdb_put(db, options, key.as_ptr(), 8, value.as_ptr(), value.len(), &raw mut error) };
        checked(error)
    }

    fn delete(&mut self, key: u64) -> Result<bool> {
        let (key, mut error) = (key.to_be_bytes(), null_mut());
        let (db, options) = (self.db.as_ptr(), self.write.as_ptr());
        // SAFETY: an open database, its options, a key, and room for the error.
        unsafe { rocksdb_delete(db, options, key.as_ptr(), 8, &raw mut error) };
        // It doesn't say whether the key was there.
        checked(error).map(|()| true)
    }

    #[allow(clippy::multiple_unsafe_ops_per_block, reason = "the life of one iterator")]
    fn scan(&mut self, from: u64, number: usize, value: &mut Vec<u8>) -> Result<u64> {
        let mut sum = 0;
        // SAFETY: an open database, its options, an iterator that lives here; values are read while it stands on them.
        unsafe {
            let iterator = rocksdb_create_iterator(self.db.as_ptr(), self.read.as_ptr());
            rocksdb_iter_seek(iterator, from.to_be_bytes().as_ptr(), 8);
            for _ in 0..number {
                if rocksdb_iter_valid(iterator) == 0 {
                    break;
                }
                let mut len = 0;
                let found = rocksdb_iter_value(iterator, &raw mut len);
                sum += copied(std::slice::from_raw_parts(found, len), value);
                rocksdb_iter_next(iterator);
            }
            rocksdb_iter_destroy(iterator);
        }
        Ok(sum)
    }

    fn modify(&mut self, _key: u64) -> Result<()> {
        bail!("RocksDB takes no part in this: its plain writes are not isolated from reads")
    }

    fn transfer(&mut self, _from: u64, _to: u64, _amount: u64) -> Result<()> {
        bail!("RocksDB takes no part in this: its plain writes are not isolated from reads")
    }
}
