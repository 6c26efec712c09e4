//! Filling holes, by any number of CPUs at once.
//!
//! Order: the frame is zero, durably (its allocator's promise); the entry is stored *valid* by compare-and-swap;
//! flush; fence; *present*. Where tables are missing, they are built apart, with valid entries, and linked by the
//! one compare-and-swap; all of it shares the fence. Who loses the race gives back what it built.

use twizzler_pmem::Persist;

use super::{Cell, LINE_ENTRIES, Tree, WORD_BYTES};
use crate::entry::{Entry, Level, Place, Presence, Protection};
use crate::error::Error;
use crate::frames::{FrameKind, FrameNo, Frames, Need};

/// How much a fill stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Batch {
    /// The page alone.
    Page,
    /// The page, and what is empty of the eight pages whose entries share its line: for one flush and fence in all.
    Line,
}

/// What a fill did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filled {
    /// The page's frame.
    pub frame: FrameNo,
    /// Pages that were stored now; 0: someone else had done it.
    pub pages: u64,
}

/// Entries that were stored and wait for the fence: leaves, and tables over them.
#[derive(Default)]
struct Pending {
    entries: [(u64, u64); LINE_ENTRIES + 3],
    len: usize,
}

impl Pending {
    fn push(&mut self, at: u64, word: u64) {
        self.entries[self.len] = (at, word);
        self.len += 1;
    }

    fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.entries[..self.len].iter().copied()
    }
}

impl<F: Frames> Tree<'_, F> {
    /// Makes `page` exist and the MMU see it. Under the object's shared lock; takes nothing from the heap.
    ///
    /// # Errors
    /// [`Error::Beyond`]: raise the tree first. [`Error::OutOfFrames`], [`Error::Forbidden`], [`Error::Damaged`],
    /// [`Error::Unreadable`], [`Error::NotSupported`].
    pub fn fill(&self, page: u64, batch: Batch) -> Result<Filled, Error> {
        self.check_reach(page)?;
        let mut stored = 0;
        loop {
            let cell = self.descend(page, Level::One)?;
            match self.decode(cell)? {
                Entry::Leaf(frame, presence, _) => {
                    if presence == Presence::Valid {
                        self.help(cell);
                    }
                    let own = FrameNo(frame.0 + page % cell.place.level.entry_pages());
                    return Ok(Filled { frame: own, pages: stored });
                }
                Entry::Hole | Entry::DemandZero if cell.place.level == Level::One => {
                    stored += self.fill_leaves(cell, batch)?;
                }
                Entry::Hole | Entry::DemandZero => stored += self.fill_chain(cell, page, batch)?,
                Entry::Table(..) => return Err(Error::Damaged),
                Entry::Forbidden => return Err(Error::Forbidden),
                Entry::Poisoned => return Err(Error::Unreadable),
                Entry::Link(_) => return Err(Error::NotSupported),
            }
        }
    }

    /// The entry of `page` that is no table, or the one at level `lowest`. Makes tables on the way present.
    pub(super) fn descend(&self, page: u64, lowest: Level) -> Result<Cell, Error> {
        let (mut table, mut level) = (self.root.frame, self.root.level);
        loop {
            let cell = self.load(table, level, page)?;
            let entry = self.decode(cell)?;
            let Entry::Table(frame, presence) = entry else { return Ok(cell) };
            if presence == Presence::Valid {
                self.help(cell);
            }
            if level == lowest {
                return Ok(cell);
            }
            (table, level) = (frame, level.below().ok_or(Error::Damaged)?);
        }
    }

    /// Stores leaves at level 1: at `cell`, and around it as `batch` says. Returns how many.
    fn fill_leaves(&self, cell: Cell, batch: Batch) -> Result<u64, Error> {
        let mut frames = [FrameNo(0); LINE_ENTRIES];
        let mut cells = [cell; LINE_ENTRIES];
        let wanted = self.empty_in_line(cell, batch, &mut cells);
        let got = self.frames.allocate_many(FrameKind::Data, Need::Store, &mut frames[..wanted]);
        if got == 0 {
            return Err(Error::OutOfFrames);
        }
        let mut pending = Pending::default();
        for (cell, frame) in cells.iter().zip(&frames[..got]) {
            self.try_leaf(*cell, *frame, &mut pending);
        }
        // The page's entry may be someone else's by now: the caller looks again.
        self.settle(&pending, cell.at);
        Ok(pending.len as u64)
    }

    /// The cells to fill: `cell` first.
    fn empty_in_line(&self, cell: Cell, batch: Batch, cells: &mut [Cell; LINE_ENTRIES]) -> usize {
        let mut len = 1;
        if batch == Batch::Line {
            let first = cell.place.index - cell.place.index % LINE_ENTRIES as u16;
            let table_at = cell.at - u64::from(cell.place.index) * WORD_BYTES;
            for index in first..first + LINE_ENTRIES as u16 {
                let other = self.cell(table_at, cell.place.level, index);
                let empty = matches!(self.decode(other), Ok(Entry::Hole | Entry::DemandZero));
                if empty && index != cell.place.index {
                    cells[len] = other;
                    len += 1;
                }
            }
        }
        len
    }

    fn try_leaf(&self, cell: Cell, frame: FrameNo, pending: &mut Pending) {
        let leaf = Entry::Leaf(frame, Presence::Valid, Protection::Writable);
        let word = self.encode(leaf, cell.place);
        if self.frames.media().compare_exchange(cell.at, cell.word, word).is_ok() {
            pending.push(cell.at, word);
        } else {
            self.frames.free_unused(frame, FrameKind::Data);
        }
    }

    /// Flushes the line at `at` and what is pending is durable; then makes it present, the lowest first.
    fn settle(&self, pending: &Pending, at: u64) {
        if pending.len != 0 {
            self.frames.media().persist(at, WORD_BYTES);
            pending.iter().for_each(|(at, word)| self.publish(at, word));
        }
    }

    /// Links a chain of new tables, down to leaves, at `cell` of level 2 or 3. Returns how many leaves.
    fn fill_chain(&self, cell: Cell, page: u64, batch: Batch) -> Result<u64, Error> {
        let mut tables = [FrameNo(0); 2];
        let tables = &mut tables[..cell.place.level as usize - 1];
        self.allocate_tables(tables)?;
        let mut leaves = [FrameNo(0); LINE_ENTRIES];
        let (line, wanted) = match batch {
            Batch::Page => (page, 1),
            Batch::Line => (page - page % LINE_ENTRIES as u64, LINE_ENTRIES),
        };
        let got = self.frames.allocate_many(FrameKind::Data, Need::Store, &mut leaves[..wanted]);
        // Where there is less than a line, the page alone.
        let (first, used) = if got == wanted { (line, wanted) } else { (page, got.min(1)) };
        leaves[used..got].iter().for_each(|&spare| self.frames.free_unused(spare, FrameKind::Data));
        let leaves = &leaves[..used];
        if leaves.is_empty() {
            self.free_unlinked(tables, leaves);
            return Err(Error::OutOfFrames);
        }
        let mut pending = Pending::default();
        self.build_chain(tables, leaves, first, &mut pending)?;
        let link = self.encode(Entry::Table(tables[tables.len() - 1], Presence::Valid), cell.place);
        if self.frames.media().compare_exchange(cell.at, cell.word, link).is_err() {
            self.free_unlinked(tables, leaves);
            return Ok(0);
        }
        pending.push(cell.at, link);
        self.settle(&pending, cell.at);
        Ok(used as u64)
    }

    /// Links one empty table chain at `cell` down to a page table: for populate.
    pub(super) fn link_table(&self, cell: Cell) -> Result<(), Error> {
        let mut table = [FrameNo(0)];
        self.allocate_tables(&mut table)?;
        let link = self.encode(Entry::Table(table[0], Presence::Valid), cell.place);
        if self.frames.media().compare_exchange(cell.at, cell.word, link).is_err() {
            self.frames.free_unused(table[0], FrameKind::Table);
            return Ok(());
        }
        self.help(Cell { word: link, ..cell });
        Ok(())
    }

    fn allocate_tables(&self, tables: &mut [FrameNo]) -> Result<(), Error> {
        let got = self.frames.allocate_many(FrameKind::Table, Need::Store, tables);
        if got == tables.len() {
            return Ok(());
        }
        tables[..got].iter().for_each(|&table| self.frames.free_unused(table, FrameKind::Table));
        Err(Error::OutOfFrames)
    }

    /// Fills new tables, the lowest first in `tables`: leaves for the pages from `first` on, and a link from each table to
    /// the one below. All of it is flushed, none is linked.
    fn build_chain(
        &self,
        tables: &[FrameNo],
        leaves: &[FrameNo],
        first: u64,
        pending: &mut Pending,
    ) -> Result<(), Error> {
        let mut level = Level::One;
        for (depth, &table) in tables.iter().enumerate() {
            let table_at = self.table_at(table)?;
            let start = table_at + u64::from(level.index(first)) * WORD_BYTES;
            let below = [tables[depth.saturating_sub(1)]];
            let entries: &[FrameNo] = if depth == 0 { leaves } else { &below };
            for (i, &frame) in entries.iter().enumerate() {
                let place = Place { level, index: level.index(first) + i as u16 };
                let entry = match level {
                    Level::One => Entry::Leaf(frame, Presence::Valid, Protection::Writable),
                    _ => Entry::Table(frame, Presence::Valid),
                };
                let word = self.encode(entry, place);
                let at = table_at + u64::from(place.index) * WORD_BYTES;
                self.frames.media().store(at, word);
                pending.push(at, word);
            }
            self.frames.media().flush(start, entries.len() as u64 * WORD_BYTES);
            level = match level {
                Level::One => Level::Two,
                _ => Level::Three,
            };
        }
        Ok(())
    }

    fn free_unlinked(&self, tables: &[FrameNo], leaves: &[FrameNo]) {
        tables.iter().for_each(|&table| self.frames.free(table, FrameKind::Table));
        leaves.iter().for_each(|&leaf| self.frames.free_unused(leaf, FrameKind::Data));
    }
}
