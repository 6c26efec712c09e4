//! redb.

use std::path::Path;

use anyhow::{Context, Result};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{Engine, Session, Survives, changed, copied, touched};

const MAP: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("map");

/// A database with one table.
pub(crate) struct Redb {
    database: Database,
    durability: Durability,
}

impl Redb {
    fn write(&self) -> Result<WriteTransaction> {
        let mut tx = self.database.begin_write()?;
        tx.set_durability(self.durability)?;
        Ok(tx)
    }
}

impl Engine for Redb {
    const NAME: &'static str = "redb";
    type Session<'e> = &'e Self;

    fn open(folder: &Path, survives: Survives) -> Result<Self> {
        let database =
            Database::builder().set_cache_size(super::cache_bytes()).create(folder.join("redb"))?;
        let tx = database.begin_write()?;
        tx.open_table(MAP)?;
        tx.commit()?;
        let durability = match survives {
            Survives::PowerCut => Durability::Immediate,
            Survives::ProcessKill | Survives::PersistentMemory => Durability::None,
        };
        Ok(Self { database, durability })
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(self)
    }
}

impl Session for &Redb {
    fn load(&mut self, entries: &mut dyn Iterator<Item = (u64, &[u8])>) -> Result<()> {
        // Durable in any case: otherwise it all stays in redb's cache, and no space is taken on the disk.
        let tx = self.database.begin_write()?;
        {
            let mut map = tx.open_table(MAP)?;
            for (key, value) in entries {
                map.insert(key, value)?;
            }
        }
        Ok(tx.commit()?)
    }

    fn get(&mut self, key: u64, value: &mut Vec<u8>) -> Result<bool> {
        let tx = self.database.begin_read()?;
        let map = tx.open_table(MAP)?;
        let found = map.get(key)?;
        if let Some(found) = &found {
            value.clear();
            value.extend_from_slice(found.value());
        }
        Ok(found.is_some())
    }

    fn put(&mut self, key: u64, value: &[u8]) -> Result<()> {
        let tx = self.write()?;
        tx.open_table(MAP)?.insert(key, value)?;
        Ok(tx.commit()?)
    }

    fn delete(&mut self, key: u64) -> Result<bool> {
        let tx = self.write()?;
        let was = tx.open_table(MAP)?.remove(key)?.is_some();
        tx.commit()?;
        Ok(was)
    }

    fn scan(&mut self, from: u64, number: usize, value: &mut Vec<u8>) -> Result<u64> {
        let tx = self.database.begin_read()?;
        let map = tx.open_table(MAP)?;
        let mut sum = 0;
        for entry in map.range(from..)?.take(number) {
            sum += copied(entry?.1.value(), value);
        }
        Ok(sum)
    }

    fn modify(&mut self, key: u64) -> Result<()> {
        let tx = self.write()?;
        {
            let mut map = tx.open_table(MAP)?;
            let value = touched(map.get(key)?.context("no such key")?.value());
            map.insert(key, value.as_slice())?;
        }
        Ok(tx.commit()?)
    }

    fn transfer(&mut self, from: u64, to: u64, amount: u64) -> Result<()> {
        let tx = self.write()?;
        {
            let mut map = tx.open_table(MAP)?;
            for (key, change) in [(from, -amount.cast_signed()), (to, amount.cast_signed())] {
                let value = changed(map.get(key)?.context("no such account")?.value(), change);
                map.insert(key, value.as_slice())?;
            }
        }
        Ok(tx.commit()?)
    }
}
