//! `check`: the mount's survey without its changes, over a mounted store, and what mounting has no time for: every
//! object's metadata, pages beyond populated bounds, frames that the allocator thinks are in use.
//!
//! It can't detect data that was changed in place: only metadata and the store's own structures carry check codes.

use core::fmt;

use alloc::vec::Vec;

use lock_api::RawMutex;
use twizzler_abi::ObjId;
use twizzler_abi::address::PAGE_BYTES;
use twizzler_pmem::Persist;

use crate::entry::{Level, TABLE_ENTRIES};
use crate::error::Error;
use crate::frames::{FrameNo, Frames};
use crate::store::Store;
use crate::superblock::{State, Superblock};
use crate::survey::{Mode, Region, each_entry, root_of, survey};
use crate::table::bucket::Record;
use crate::tree::Root;
use crate::tree::walk::{Visit, walk};

/// Something that is not as it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// An object's entry or tree, from that page on.
    Object {
        /// The object, as its entry claims.
        id: ObjId,
        /// Damaged or unreadable.
        why: Error,
        /// First page concerned; None: its entry.
        page: Option<u64>,
    },
    /// An object's metadata.
    Metadata {
        /// The object.
        id: ObjId,
        /// What is wrong.
        why: Error,
    },
    /// A page is stored beyond the populated bound of its object, where mounting does not look.
    BeyondBound {
        /// The object.
        id: ObjId,
        /// The page.
        page: u64,
    },
    /// A frame is in use and the allocator thinks that it is free, or the other way round.
    Frame {
        /// The frame, counted from the region's start.
        frame: u64,
        /// Whether a tree or the table refers to it.
        reachable: bool,
    },
    /// Directory words that are damaged in one copy.
    WordsDamaged {
        /// How many.
        count: u32,
    },
    /// Directory words that are damaged in both copies.
    WordsLost {
        /// How many.
        count: u32,
    },
    /// Buckets of the table whose first line is damaged.
    HeadersDamaged {
        /// How many.
        count: u32,
    },
    /// A copy of the superblock.
    Superblock {
        /// 0 or 1.
        copy: usize,
    },
    /// No copy of the state is sound.
    StateLost,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Object { id, why, page: Some(page) } => {
                write!(f, "object {id}: {why}, from page {page:#x} on")
            }
            Self::Object { id, why, page: None } => write!(f, "object {id}: its table entry: {why}"),
            Self::Metadata { id, why } => write!(f, "object {id}: its metadata: {why}"),
            Self::BeyondBound { id, page } => write!(f, "object {id}: page {page:#x} lies beyond its bound"),
            Self::Frame { frame, reachable: true } => {
                write!(f, "frame {frame:#x} is in use, but counted as free")
            }
            Self::Frame { frame, reachable: false } => {
                write!(f, "frame {frame:#x} is not in use, but counted so")
            }
            Self::WordsDamaged { count } => write!(f, "{count} words of the table are damaged in one copy"),
            Self::WordsLost { count } => write!(f, "{count} words of the table are damaged in both copies"),
            Self::HeadersDamaged { count } => {
                write!(f, "{count} buckets of the table have a damaged first line")
            }
            Self::Superblock { copy } => write!(f, "copy {copy} of the superblock is damaged"),
            Self::StateLost => f.write_str("no copy of the state is sound"),
        }
    }
}

/// What `check` found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckReport {
    /// Objects.
    pub objects: u64,
    /// Pages that they store.
    pub pages: u64,
    /// Frames of tables of their trees.
    pub tables: u64,
    /// Entries that are durable and not present yet: not wrong.
    pub pending: u64,
    /// What is wrong; at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
}

/// Findings that a report holds; more are not told.
pub const FINDINGS_MAX: usize = 1000;

impl CheckReport {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, finding: Finding) -> Result<(), Error> {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
            self.findings.push(finding);
        }
        Ok(())
    }
}

/// Checks a store. The caller keeps everyone from changing it meanwhile.
pub(crate) fn check<P: Persist, L: RawMutex>(store: &Store<P, L>, frames: u64) -> Result<CheckReport, Error> {
    let nvm = store.frames();
    let region = Region { media: nvm.media(), first: nvm.first(), generation: nvm.generation() };
    let table = store.table();
    let survey = survey(&region, &table, frames, Mode::Look)?;
    let mut report = CheckReport {
        objects: survey.objects,
        pages: survey.pages,
        tables: survey.tables,
        pending: survey.pending,
        findings: Vec::new(),
    };
    copies(nvm.media(), &mut report)?;
    let directory = &survey.directory;
    for (count, finding) in [
        (directory.words_damaged, Finding::WordsDamaged { count: directory.words_damaged }),
        (directory.words_lost, Finding::WordsLost { count: directory.words_lost }),
        (directory.headers_damaged, Finding::HeadersDamaged { count: directory.headers_damaged }),
    ] {
        if count != 0 {
            report.add(finding)?;
        }
    }
    for apart in &survey.quarantine {
        report.add(Finding::Object { id: apart.id, why: apart.why, page: apart.page })?;
    }
    each_entry(&table, &survey.directory, &mut |_, record, stale| {
        let Record::Live(id, word) = record else { return Ok(()) };
        if stale || survey.quarantine.iter().any(|apart| apart.id == id) {
            return Ok(());
        }
        if let Err(why) = store.verify(id, word) {
            report.add(Finding::Metadata { id, why })?;
        }
        match beyond(&region, root_of(&region, word)) {
            Some(page) => report.add(Finding::BeyondBound { id, page }),
            None => Ok(()),
        }
    })?;
    // Frames of objects in quarantine are in use as far as their trees can be followed; no more can be said.
    for frame in 0..if survey.quarantine.is_empty() { frames } else { 0 } {
        let counted = nvm.kind_of(FrameNo(nvm.first().0 + frame));
        if counted != survey.uses.get(frame) {
            report.add(Finding::Frame { frame, reachable: survey.uses.get(frame).is_some() })?;
        }
    }
    Ok(report)
}

fn copies<P: Persist>(media: &P, report: &mut CheckReport) -> Result<(), Error> {
    for copy in [0, 1] {
        if !Superblock::read(media, copy).is_some_and(|superblock| superblock.is_sound()) {
            report.add(Finding::Superblock { copy })?;
        }
    }
    if State::load(media).is_none() { report.add(Finding::StateLost) } else { Ok(()) }
}

/// First page at or beyond the populated bound in the tables that the bound cuts through.
fn beyond<P: Persist>(region: &Region<'_, P>, root: Root) -> Option<u64> {
    let mut tables = Beyond { region, bound: root.bound().pages(), found: None };
    walk(region, root, &mut tables);
    tables.found
}

struct Beyond<'a, 'r, P> {
    region: &'a Region<'r, P>,
    bound: u64,
    found: Option<u64>,
}

impl<P: Persist> Visit for Beyond<'_, '_, P> {
    fn table(&mut self, frame: FrameNo, level: Level) -> bool {
        // The bound is a power of two: it cuts through the first table of each level or through none.
        let first = self.bound.div_ceil(level.entry_pages());
        if first < u64::from(TABLE_ENTRIES)
            && let Some(at) = self.region.offset(frame, 1)
            && self.region.media.check_readable(at, PAGE_BYTES).is_ok()
        {
            let used =
                (first..TABLE_ENTRIES.into()).find(|index| self.region.media.load(at + index * 8) != 0);
            self.found = self.found.or(used.map(|index| index * level.entry_pages()));
        }
        true
    }

    fn leaf(&mut self, _frame: FrameNo, _page: u64, _pages: u64) {}
    fn bad(&mut self, _page: u64, _error: Error) {}
}
