//! One CPU: what it has cached, and what it does with it.
//!
//! As a real one, it may use any cached entry or walk the tables in memory, may walk ahead of time for
//! addresses nobody asked for, and forgets nothing until told to: so what it *may* do is a set, and checks
//! look at all of it. Sections of the Intel SDM, volume 3: 4.10.2 TLBs, 4.10.3 paging-structure caches,
//! 4.10.4 invalidation.

use std::collections::BTreeMap;

use twizzler_crashsim::Rng;

use crate::entry::{Access, Allowed, TOP_LEVEL, span_bytes};
use crate::physical::Physical;
use crate::walk::{Fault, Page, Table, Walk, walk};

/// Process-context identifier.
pub type Pcid = u16;

/// What the TLB is for a page, of whichever size: its first linear address and its length.
type PageKey = (Pcid, u64, u64);
/// What leads to a table: its level and the first linear address that it covers.
type TableKey = (Pcid, u32, u64);

/// A CPU of the model.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    root: u64,
    pcid: Pcid,
    tlb: BTreeMap<PageKey, Vec<Page>>,
    structures: BTreeMap<TableKey, Vec<Table>>,
}

/// Something that a CPU has cached, and would translate with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cached {
    /// A translation of the page at this linear address.
    Page(Pcid, u64, Page),
    /// The table for the range that begins at this linear address.
    Table(Pcid, u64, Table),
}

impl Cpu {
    /// The root and PCID in force.
    #[must_use]
    pub fn context(&self) -> (u64, Pcid) {
        (self.root, self.pcid)
    }

    /// Loads CR3. `keep` is bit 63: nothing is forgotten. Otherwise all of that PCID is.
    pub fn load_cr3(&mut self, root: u64, pcid: Pcid, keep: Keep) {
        self.root = root;
        self.pcid = pcid;
        if keep == Keep::Nothing {
            self.invpcid_context(pcid);
        }
    }

    /// INVLPG: forgets the page in the current PCID, and all of that PCID's tables.
    pub fn invlpg(&mut self, linear: u64) {
        let pcid = self.pcid;
        self.tlb.retain(|key, _| !covers(key, pcid, linear));
        self.structures.retain(|key, _| key.0 != pcid);
    }

    /// INVPCID, individual address: forgets the page and the tables on the way to it, in one PCID.
    pub fn invpcid_address(&mut self, pcid: Pcid, linear: u64) {
        self.tlb.retain(|key, _| !covers(key, pcid, linear));
        self.structures.retain(|key, _| *key != (pcid, key.1, table_base(linear, key.1)));
    }

    /// INVPCID, single context: forgets all of a PCID.
    pub fn invpcid_context(&mut self, pcid: Pcid) {
        self.tlb.retain(|key, _| key.0 != pcid);
        self.structures.retain(|key, _| key.0 != pcid);
    }

    /// INVPCID, all contexts.
    pub fn invpcid_all(&mut self) {
        self.tlb.clear();
        self.structures.clear();
    }

    /// What a wrong shootdown does that thinks of the TLB alone: the tables stay cached.
    pub fn forget_pages_only(&mut self, pcid: Pcid) {
        self.tlb.retain(|key, _| key.0 != pcid);
    }

    /// Walks ahead for an address, as speculation and prefetching do, and caches what it finds.
    pub fn speculate(&mut self, memory: &Physical<'_>, linear: u64, rng: &mut Rng) {
        let starts = self.starts(linear);
        let from = starts[rng.index(starts.len())];
        let walk = walk(memory, from, linear);
        self.cache(linear, &walk);
    }

    /// An access in user mode: translates by one of the ways that are possible, and caches what it finds.
    /// Real CPUs forget what they know of an address that faulted; code must not lean on it, so these don't.
    ///
    /// # Errors
    /// The fault.
    pub fn access(
        &mut self,
        memory: &Physical<'_>,
        linear: u64,
        access: Access,
        rng: &mut Rng,
    ) -> Result<u64, Fault> {
        let cached = self.tlb.iter().filter(|(key, _)| covers(key, self.pcid, linear));
        let cached: Vec<Page> = cached.flat_map(|(_, pages)| pages).copied().collect();
        let page = if !cached.is_empty() && !rng.one_in(4) {
            Ok(cached[rng.index(cached.len())])
        } else {
            let starts = self.starts(linear);
            let walk = walk(memory, starts[rng.index(starts.len())], linear);
            self.cache(linear, &walk);
            walk.end.map(|(page, _)| page)
        };
        match page {
            Ok(page) if page.allowed.allows(access) => Ok(page.translate(linear)),
            Ok(_) => Err(Fault::Rights { access }),
            Err(fault) => Err(fault),
        }
    }

    /// All that is cached.
    pub fn cached(&self) -> impl Iterator<Item = Cached> {
        let pages = self.tlb.iter().flat_map(|(&(pcid, linear, _), pages)| {
            pages.iter().map(move |&page| Cached::Page(pcid, linear, page))
        });
        let tables = self.structures.iter().flat_map(|(&(pcid, _, linear), tables)| {
            tables.iter().map(move |&table| Cached::Table(pcid, linear, table))
        });
        pages.chain(tables)
    }

    /// Where a walk for an address may begin in the current context: any cached table, or the root.
    fn starts(&self, linear: u64) -> Vec<Table> {
        let root = Table { address: self.root, level: TOP_LEVEL, allowed: Allowed::ALL };
        let cached = (1..TOP_LEVEL)
            .filter_map(|level| self.structures.get(&(self.pcid, level, table_base(linear, level))));
        std::iter::once(root).chain(cached.flatten().copied()).collect()
    }

    fn cache(&mut self, linear: u64, walk: &Walk) {
        for &(table, _) in &walk.tables {
            let key = (self.pcid, table.level, table_base(linear, table.level));
            remember(self.structures.entry(key).or_default(), table);
        }
        if let Ok((page, _)) = walk.end {
            let key = (self.pcid, linear / page.len_bytes * page.len_bytes, page.len_bytes);
            remember(self.tlb.entry(key).or_default(), page);
        }
    }
}

/// What was known before stays known beside it: which of the two a CPU uses is up to the CPU.
fn remember<T: PartialEq>(known: &mut Vec<T>, new: T) {
    if !known.contains(&new) {
        known.push(new);
    }
}

/// Whether a load of CR3 keeps what is cached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Bit 63 is set.
    Everything,
    /// Bit 63 is clear: what the PCID has is forgotten.
    Nothing,
}

fn covers(key: &PageKey, pcid: Pcid, linear: u64) -> bool {
    let &(of, first, len_bytes) = key;
    of == pcid && (first..first + len_bytes).contains(&linear)
}

/// First linear address that a table of this level covers.
fn table_base(linear: u64, level: u32) -> u64 {
    let span = span_bytes(level) * 512;
    linear / span * span
}
