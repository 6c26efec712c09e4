//! LMDB, through heed.

use std::ops::Bound;
use std::path::Path;

use anyhow::{Context, Result};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, PutFlags, WithoutTls};

use super::{Engine, Session, Survives, changed, copied, touched};

/// An environment with one database.
pub(crate) struct Lmdb {
    /// Lives to the end of the program, since the database borrows it.
    env: &'static Env<WithoutTls>,
    map: Database<'static, Bytes, Bytes>,
}

impl Engine for Lmdb {
    const NAME: &'static str = "LMDB";
    type Session<'e> = &'e Self;

    fn open(folder: &Path, survives: Survives) -> Result<Self> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(64 << 30).max_readers(256);
        let mut flags = EnvFlags::empty();
        if survives == Survives::ProcessKill {
            flags |= EnvFlags::WRITE_MAP | EnvFlags::NO_SYNC;
        }
        if crate::limit::asked().is_some() {
            // As LMDB's documentation advises for what is larger than memory.
            flags |= EnvFlags::NO_READ_AHEAD;
        }
        // SAFETY: the flags give up durability at a power cut, where they do; nothing of this program writes into LMDB's map.
        unsafe { options.flags(flags) };
        // SAFETY: the folder is this run's alone, so nobody opens or changes its files otherwise.
        let env = Box::leak(Box::new(unsafe { options.open(folder) }?));
        let map = env
            .create_databases_and_commit(env.write_txn()?, |opener, tx| {
                opener.create_database(tx, None).map(CommitOrAbort::<_, ()>::Commit)
            })?
            .unwrap_commit();
        Ok(Self { env, map })
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(self)
    }
}

impl Session for &Lmdb {
    fn load(&mut self, entries: &mut dyn Iterator<Item = (u64, &[u8])>) -> Result<()> {
        let mut tx = self.env.write_txn()?;
        let ascending = self.map.last(&tx)?.map(|(key, _)| key.to_vec());
        for (key, value) in entries {
            let key = key.to_be_bytes();
            if ascending.as_deref().is_none_or(|last| last < key.as_slice()) {
                self.map.put_with_flags(&mut tx, PutFlags::APPEND, &key, value)?;
            } else {
                self.map.put(&mut tx, &key, value)?;
            }
        }
        Ok(tx.commit()?)
    }

    fn get(&mut self, key: u64, value: &mut Vec<u8>) -> Result<bool> {
        let tx = self.env.read_txn()?;
        let found = self.map.get(&tx, &key.to_be_bytes())?;
        if let Some(found) = found {
            value.clear();
            value.extend_from_slice(found);
        }
        Ok(found.is_some())
    }

    fn put(&mut self, key: u64, value: &[u8]) -> Result<()> {
        let mut tx = self.env.write_txn()?;
        self.map.put(&mut tx, &key.to_be_bytes(), value)?;
        Ok(tx.commit()?)
    }

    fn delete(&mut self, key: u64) -> Result<bool> {
        let mut tx = self.env.write_txn()?;
        let was = self.map.delete(&mut tx, &key.to_be_bytes())?;
        tx.commit()?;
        Ok(was)
    }

    fn scan(&mut self, from: u64, number: usize, value: &mut Vec<u8>) -> Result<u64> {
        let tx = self.env.read_txn()?;
        let from = from.to_be_bytes();
        let mut sum = 0;
        for entry in self.map.range(&tx, &(Bound::Included(&from[..]), Bound::Unbounded))?.take(number) {
            sum += copied(entry?.1, value);
        }
        Ok(sum)
    }

    fn modify(&mut self, key: u64) -> Result<()> {
        let mut tx = self.env.write_txn()?;
        let value = touched(self.map.get(&tx, &key.to_be_bytes())?.context("no such key")?);
        self.map.put(&mut tx, &key.to_be_bytes(), &value)?;
        Ok(tx.commit()?)
    }

    fn transfer(&mut self, from: u64, to: u64, amount: u64) -> Result<()> {
        let mut tx = self.env.write_txn()?;
        for (key, change) in [(from, -amount.cast_signed()), (to, amount.cast_signed())] {
            let value = changed(self.map.get(&tx, &key.to_be_bytes())?.context("no such account")?, change);
            self.map.put(&mut tx, &key.to_be_bytes(), &value)?;
        }
        Ok(tx.commit()?)
    }
}
