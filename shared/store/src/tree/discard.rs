//! Giving pages back. Exclusive.
//!
//! Order: entries are overwritten (each such store is the commit for what lies under it); flush; fence; CPUs
//! forget; the frames are freed. A subtree that is wholly in the range is unlinked by one store, and is then its own list
//! of what to free, so nothing is taken from the heap.

use core::ops::Range;

use twizzler_pmem::Persist;

use super::{Cell, FIRST_FREE_PAGE, Invalidate, LINE_ENTRIES, Stale, Tree, WORD_BYTES};
use crate::entry::{Entry, Level, Presence, Protection, TABLE_ENTRIES};
use crate::error::Error;
use crate::frames::{FrameKind, FrameNo, Frames, Need};

/// Leaves that share a fence and an invalidation.
const CHUNK: usize = 64;

/// Leaves that were overwritten and are not yet freed.
struct Unlinked {
    frames: [FrameNo; CHUNK],
    len: usize,
    pages: Range<u64>,
    cells: Range<u64>,
}

impl<F: Frames> Tree<'_, F> {
    /// Gives the pages back; they read as zero afterwards, but forbidden ones stay forbidden. Returns how many
    /// pages were stored. Null page and metadata can't be given back. A power cut leaves each page either as it was
    /// or empty.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for ranges that start before [`FIRST_FREE_PAGE`], [`Error::Damaged`],
    /// [`Error::OutOfFrames`] where part of a 2 MiB leaf is to go and there is no frame for the table, not even in
    /// the reserve.
    pub fn discard(&self, pages: Range<u64>, inv: &mut impl Invalidate) -> Result<u64, Error> {
        self.give_back(pages, Entry::Hole, inv)
    }

    /// Gives all pages from `first` on back.
    ///
    /// # Errors
    /// As for [`Tree::discard`].
    pub fn truncate(&self, first: u64, inv: &mut impl Invalidate) -> Result<u64, Error> {
        self.discard(first..self.root.level().table_pages(), inv)
    }

    /// Gives the pages back and makes every access to them a fault. The tree must reach them.
    ///
    /// # Errors
    /// As for [`Tree::discard`], and [`Error::Beyond`].
    pub fn forbid(&self, pages: Range<u64>, inv: &mut impl Invalidate) -> Result<u64, Error> {
        if !pages.is_empty() {
            self.check_reach(pages.end - 1)?;
        }
        self.give_back(pages, Entry::Forbidden, inv)
    }

    fn give_back(&self, pages: Range<u64>, with: Entry, inv: &mut impl Invalidate) -> Result<u64, Error> {
        let pages = pages.start..pages.end.min(self.root.level.table_pages());
        if pages.is_empty() {
            return Ok(0);
        }
        if pages.start < FIRST_FREE_PAGE {
            return Err(Error::Forbidden);
        }
        self.give_back_in(self.root.frame, self.root.level, 0, &pages, with, inv)
    }

    /// The part of the range that the table over pages from `start` on covers. At most three deep.
    fn give_back_in(
        &self,
        table: FrameNo,
        level: Level,
        start: u64,
        pages: &Range<u64>,
        with: Entry,
        inv: &mut impl Invalidate,
    ) -> Result<u64, Error> {
        let table_at = self.table_at(table)?;
        let covered = pages.start.max(start)..pages.end.min(start + level.table_pages());
        let (first, last) = (level.index(covered.start), level.index(covered.end - 1));
        let mut unlinked = Unlinked::new();
        let mut freed = 0;
        for index in first..=last {
            let cell = self.cell(table_at, level, index);
            let own = start + u64::from(index) * level.entry_pages();
            let own = own..own + level.entry_pages();
            let whole = covered.start <= own.start && own.end <= covered.end;
            let replacement = self.encode(with, cell.place);
            match self.decode(cell)? {
                Entry::Leaf(frame, ..) if level == Level::One => {
                    self.overwrite(cell, replacement);
                    unlinked.push(frame, own.start, cell.at);
                    freed += 1;
                    if unlinked.len == CHUNK {
                        self.release(&mut unlinked, inv);
                    }
                }
                Entry::Leaf(frame, ..) if whole => {
                    self.overwrite(cell, replacement);
                    self.frames.media().persist(cell.at, WORD_BYTES);
                    inv.invalidate(own, Stale::Leaves);
                    (0..level.entry_pages())
                        .for_each(|i| self.frames.free(FrameNo(frame.0 + i), FrameKind::Data));
                    freed += level.entry_pages();
                }
                Entry::Leaf(frame, ..) => {
                    let table = self.split(cell, frame, own.clone(), inv)?;
                    freed += self.give_back_in(table, Level::One, own.start, pages, with, inv)?;
                }
                Entry::Table(frame, _) if whole => {
                    let below = level.below().ok_or(Error::Damaged)?;
                    self.overwrite(cell, replacement);
                    self.frames.media().persist(cell.at, WORD_BYTES);
                    inv.invalidate(own, Stale::Tables);
                    freed += self.free_tree(frame, below, below.table_pages());
                }
                Entry::Table(frame, _) => {
                    let below = level.below().ok_or(Error::Damaged)?;
                    freed += self.give_back_in(frame, below, own.start, pages, with, inv)?;
                }
                Entry::Hole | Entry::DemandZero if with == Entry::Forbidden && whole => {
                    self.overwrite(cell, replacement);
                    self.frames.media().flush(cell.at, WORD_BYTES);
                }
                Entry::Hole | Entry::DemandZero if with == Entry::Forbidden => {
                    self.link_table(cell)?;
                    let Entry::Table(frame, _) = self.decode(self.cell(table_at, level, index))? else {
                        return Err(Error::Damaged);
                    };
                    let below = level.below().ok_or(Error::Damaged)?;
                    freed += self.give_back_in(frame, below, own.start, pages, with, inv)?;
                }
                Entry::Hole | Entry::DemandZero | Entry::Forbidden => {}
                Entry::Poisoned | Entry::Link(_) => return Err(Error::NotSupported),
            }
        }
        self.release(&mut unlinked, inv);
        if with == Entry::Forbidden {
            self.frames.media().fence();
        }
        Ok(freed)
    }

    fn overwrite(&self, cell: Cell, replacement: u64) {
        // COMMIT: what lay there is no longer the object's.
        self.frames.media().store(cell.at, replacement);
    }

    /// Frees the leaves that were overwritten.
    fn release(&self, unlinked: &mut Unlinked, inv: &mut impl Invalidate) {
        if unlinked.len != 0 {
            let cells = unlinked.cells.clone();
            self.frames.media().persist(cells.start, cells.end - cells.start);
            inv.invalidate(unlinked.pages.clone(), Stale::Leaves);
            for &frame in &unlinked.frames[..unlinked.len] {
                self.frames.free(frame, FrameKind::Data);
            }
        }
        *unlinked = Unlinked::new();
    }

    /// Puts a table in the place of a 2 MiB leaf; the same frames by 512 entries. One store changes over, so that a power
    /// cut leaves one or the other; the MMU sees nothing in between.
    fn split(
        &self,
        cell: Cell,
        frame: FrameNo,
        own: Range<u64>,
        inv: &mut impl Invalidate,
    ) -> Result<FrameNo, Error> {
        let table = self.frames.allocate(FrameKind::Table, Need::Free)?;
        let table_at = self.table_at(table)?;
        for first in (0..TABLE_ENTRIES).step_by(LINE_ENTRIES) {
            let leaf = |i: usize| FrameNo(frame.0 + u64::from(first) + i as u64);
            let entries: [Entry; LINE_ENTRIES] =
                core::array::from_fn(|i| Entry::Leaf(leaf(i), Presence::Present, Protection::Writable));
            self.store_unlinked(table_at, Level::One, first, &entries);
        }
        self.frames.media().fence();
        let word = self.encode(Entry::Table(table, Presence::Valid), cell.place);
        // COMMIT: the table is the object's, the 2 MiB leaf is not.
        self.frames.media().store(cell.at, word);
        self.frames.media().persist(cell.at, WORD_BYTES);
        inv.invalidate(own, Stale::Leaves);
        self.publish(cell.at, word);
        Ok(table)
    }

    /// Frees all of a subtree that nothing refers to any more. Returns how many pages it held.
    pub(super) fn free_tree(&self, table: FrameNo, level: Level, bound: u64) -> u64 {
        let mut share = Share { tables: u64::MAX, pages: 0 };
        self.free_some(table, level, bound, &mut share);
        share.pages
    }

    /// Frees a share of a subtree that nothing refers to any more, and of which no page from `bound` on was ever stored.
    /// True when all of it is free; until then what is left is found as before. What makes no sense is left for the
    /// next mount, which counts what is in use anew.
    pub(super) fn free_some(&self, table: FrameNo, level: Level, bound: u64, share: &mut Share) -> bool {
        let Ok(table_at) = self.table_at(table) else { return true };
        let used = bound.div_ceil(level.entry_pages()).min(u64::from(TABLE_ENTRIES)) as u16;
        let mut line = [0; LINE_ENTRIES * WORD_BYTES as usize];
        for index in 0..used {
            // Most tables are mostly empty.
            if usize::from(index) % LINE_ENTRIES == 0 {
                self.frames.media().read(table_at + u64::from(index) * WORD_BYTES, &mut line);
            }
            let at = usize::from(index) % LINE_ENTRIES * WORD_BYTES as usize;
            if line[at..at + WORD_BYTES as usize] == [0; WORD_BYTES as usize] {
                continue;
            }
            let cell = self.cell(table_at, level, index);
            if share.tables == 0 {
                return false;
            }
            match (self.decode(cell), level.below()) {
                (Ok(Entry::Table(frame, _)), Some(below)) => {
                    let start = u64::from(index) * level.entry_pages();
                    if !self.free_some(frame, below, bound - start, share) {
                        return false;
                    }
                }
                (Ok(Entry::Leaf(frame, ..)), _) => {
                    let frames = (0..level.entry_pages()).map(|i| FrameNo(frame.0 + i));
                    frames.for_each(|frame| self.frames.free(frame, FrameKind::Data));
                    share.pages += level.entry_pages();
                    if level == Level::One {
                        continue;
                    }
                    share.tables -= 1;
                }
                _ => continue,
            }
            // Not to be found again by who frees the rest.
            self.frames.media().store(cell.at, 0);
        }
        self.frames.free(table, FrameKind::Table);
        share.tables = share.tables.saturating_sub(1);
        true
    }
}

/// How much of a tree may be freed, and was.
pub(super) struct Share {
    /// Tables, or pages of 2 MiB, that may still be freed.
    pub(super) tables: u64,
    /// Pages that were freed.
    pub(super) pages: u64,
}

impl Unlinked {
    const fn new() -> Self {
        Self { frames: [FrameNo(0); CHUNK], len: 0, pages: 0..0, cells: 0..0 }
    }

    /// Adds the leaf of `page`, whose entry lies at `at`; pages come in ascending order, of one table.
    fn push(&mut self, frame: FrameNo, page: u64, at: u64) {
        if self.len == 0 {
            (self.pages.start, self.cells.start) = (page, at);
        }
        (self.pages.end, self.cells.end) = (page + 1, at + WORD_BYTES);
        self.frames[self.len] = frame;
        self.len += 1;
    }
}
