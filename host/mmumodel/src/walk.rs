//! Walks of page tables, from the root or from the middle.

use crate::entry::{ADDRESS, Access, Allowed, LARGE, PRESENT, index, span_bytes};
use crate::physical::Physical;

/// A table that a walk goes on from, and what the entries before it allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// Physical address.
    pub address: u64,
    /// Its level: 4 is a PML4, 1 a PT.
    pub level: u32,
    /// What the way there allows.
    pub allowed: Allowed,
}

/// A page as a TLB remembers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// Physical address of the page.
    pub address: u64,
    /// Bytes: 4 KiB, 2 MiB or 1 GiB.
    pub len_bytes: u64,
    /// What the way there allows.
    pub allowed: Allowed,
}

impl Page {
    /// Physical address that a linear address within the page translates to.
    #[must_use]
    pub fn translate(&self, linear: u64) -> u64 {
        self.address + linear % self.len_bytes
    }
}

/// Why a walk or an access did not succeed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The entry at this level is not present.
    NotPresent {
        /// Level of the table that holds the entry.
        level: u32,
    },
    /// The page is there but doesn't allow the access.
    Rights {
        /// What was tried.
        access: Access,
    },
    /// A table or page lies where there is no memory: the machine would check or read garbage.
    NoMemory {
        /// The physical address.
        address: u64,
    },
}

/// A walk: the tables it came by, below the one that it began at, and how it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Walk {
    /// Tables found, top down, each with the entry that led to it.
    pub tables: Vec<(Table, u64)>,
    /// The page, with its leaf entry.
    pub end: Result<(Page, u64), Fault>,
}

/// Walks from a table down to the page of `linear`.
#[must_use]
pub fn walk(memory: &Physical<'_>, from: Table, linear: u64) -> Walk {
    let mut tables = Vec::new();
    let mut table = from;
    loop {
        let at = table.address + 8 * index(linear, table.level);
        let Some(entry) = memory.load(at) else {
            return Walk { tables, end: Err(Fault::NoMemory { address: at }) };
        };
        if entry & PRESENT == 0 {
            return Walk { tables, end: Err(Fault::NotPresent { level: table.level }) };
        }
        let allowed = table.allowed.through(entry);
        let leaf = table.level == 1 || (table.level < 4 && entry & LARGE != 0);
        if leaf {
            let len_bytes = span_bytes(table.level);
            let page = Page { address: entry & ADDRESS & !(len_bytes - 1), len_bytes, allowed };
            return Walk { tables, end: Ok((page, entry)) };
        }
        table = Table { address: entry & ADDRESS, level: table.level - 1, allowed };
        tables.push((table, entry));
    }
}
