//! SQLite with a write-ahead log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{Engine, Session, Survives, changed, copied, touched};

/// A database with one table; each thread has a connection of its own, as SQLite advises.
pub(crate) struct Sqlite {
    path: PathBuf,
    survives: Survives,
}

impl Engine for Sqlite {
    const NAME: &'static str = "SQLite";
    type Session<'e> = Connected;

    fn open(folder: &Path, survives: Survives) -> Result<Self> {
        let engine = Self { path: folder.join("sqlite"), survives };
        engine
            .connect()?
            .execute_batch("CREATE TABLE IF NOT EXISTS map (key INTEGER PRIMARY KEY, value BLOB NOT NULL)")?;
        Ok(engine)
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(Connected(self.connect()?))
    }
}

impl Sqlite {
    fn connect(&self) -> Result<Connection> {
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(Duration::from_secs(60))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        let synchronous = if self.survives == Survives::PowerCut { "FULL" } else { "OFF" };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "mmap_size", 8_i64 << 30)?;
        // Negative: in KiB.
        let cache_kib = (super::cache_bytes() / 16 / 1024).cast_signed();
        connection.pragma_update(None, "cache_size", -cache_kib)?;
        Ok(connection)
    }
}

const GET: &str = "SELECT value FROM map WHERE key = ?1";
const PUT: &str = "INSERT INTO map VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";

/// A thread's connection.
pub(crate) struct Connected(Connection);

impl Connected {
    /// Reads and writes values in one transaction.
    fn change(&mut self, keys: &[u64], change: impl Fn(usize, &[u8]) -> Vec<u8>) -> Result<()> {
        let tx = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut get = tx.prepare_cached(GET)?;
            let mut put = tx.prepare_cached(PUT)?;
            for (i, &key) in keys.iter().enumerate() {
                let key = key.cast_signed();
                let value = get.query_row([key], |row| Ok(change(i, row.get_ref(0)?.as_blob()?)))?;
                put.execute(params![key, value])?;
            }
        }
        Ok(tx.commit()?)
    }
}

impl Session for Connected {
    fn load(&mut self, entries: &mut dyn Iterator<Item = (u64, &[u8])>) -> Result<()> {
        let tx = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut put = tx.prepare_cached(PUT)?;
            for (key, value) in entries {
                put.execute(params![key.cast_signed(), value])?;
            }
        }
        Ok(tx.commit()?)
    }

    fn get(&mut self, key: u64, value: &mut Vec<u8>) -> Result<bool> {
        let mut get = self.0.prepare_cached(GET)?;
        let found = get
            .query_row([key.cast_signed()], |row| {
                value.clear();
                value.extend_from_slice(row.get_ref(0)?.as_blob()?);
                Ok(())
            })
            .optional()?;
        Ok(found.is_some())
    }

    fn put(&mut self, key: u64, value: &[u8]) -> Result<()> {
        self.0.prepare_cached(PUT)?.execute(params![key.cast_signed(), value])?;
        Ok(())
    }

    fn delete(&mut self, key: u64) -> Result<bool> {
        let mut delete = self.0.prepare_cached("DELETE FROM map WHERE key = ?1")?;
        Ok(delete.execute([key.cast_signed()])? > 0)
    }

    fn scan(&mut self, from: u64, number: usize, value: &mut Vec<u8>) -> Result<u64> {
        let mut scan =
            self.0.prepare_cached("SELECT value FROM map WHERE key >= ?1 ORDER BY key LIMIT ?2")?;
        let mut rows = scan.query(params![from.cast_signed(), number.cast_signed()])?;
        let mut sum = 0;
        while let Some(row) = rows.next()? {
            sum += copied(row.get_ref(0)?.as_blob()?, value);
        }
        Ok(sum)
    }

    fn modify(&mut self, key: u64) -> Result<()> {
        self.change(&[key], |_, value| touched(value))
    }

    fn transfer(&mut self, from: u64, to: u64, amount: u64) -> Result<()> {
        let amount = amount.cast_signed();
        self.change(&[from, to], |i, value| changed(value, if i == 0 { -amount } else { amount }))
    }
}
