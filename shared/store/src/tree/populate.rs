//! Making whole ranges exist, with shared fences and 2 MiB leaves.

use core::ops::Range;

use twizzler_pmem::Persist;

use super::{Cell, Tree, WORD_BYTES};
use crate::entry::{Entry, Level, Presence, Protection};
use crate::error::Error;
use crate::frames::{FrameKind, FrameNo, Frames, HUGE_FRAMES, Need};

/// Leaves that share a fence.
const CHUNK: usize = 64;

impl<F: Frames> Tree<'_, F> {
    /// Makes every page of the range exist and the MMU see it. Where 2 MiB are asked for, empty, and to be had
    /// in one piece, they are one leaf. Returns how many pages were stored. Under the object's shared lock.
    ///
    /// # Errors
    /// As for [`Tree::fill`]. What was stored by then stays: zeros.
    pub fn populate(&self, pages: Range<u64>) -> Result<u64, Error> {
        if pages.is_empty() {
            return Ok(0);
        }
        self.check_reach(pages.end - 1)?;
        let (mut page, mut stored) = (pages.start, 0);
        while page < pages.end {
            let block_end = (page / HUGE_FRAMES + 1) * HUGE_FRAMES;
            let end = block_end.min(pages.end);
            let whole = end - page == HUGE_FRAMES;
            let cell = self.descend(page, Level::Two)?;
            match self.decode(cell)? {
                Entry::Hole | Entry::DemandZero if cell.place.level == Level::Two && whole => {
                    stored += self.populate_huge(cell)?;
                }
                Entry::Hole | Entry::DemandZero if cell.place.level != Level::One => self.link_table(cell)?,
                Entry::Leaf(..) if cell.place.level == Level::Two => {
                    self.fill(page, super::Batch::Page)?;
                    page = end;
                }
                Entry::Forbidden if cell.place.level != Level::One => return Err(Error::Forbidden),
                Entry::Poisoned if cell.place.level != Level::One => return Err(Error::Unreadable),
                Entry::Link(_) if cell.place.level != Level::One => return Err(Error::NotSupported),
                _ => {
                    stored += self.populate_leaves(page..end)?;
                    page = end;
                }
            }
        }
        Ok(stored)
    }

    /// One 2 MiB leaf, or a table where there are no contiguous frames. The caller looks again.
    fn populate_huge(&self, cell: Cell) -> Result<u64, Error> {
        let Ok(frame) = self.frames.allocate_huge(Need::Store) else {
            self.link_table(cell)?;
            return Ok(0);
        };
        let leaf = Entry::Leaf(frame, Presence::Valid, Protection::Writable);
        let word = self.encode(leaf, cell.place);
        if self.frames.media().compare_exchange(cell.at, cell.word, word).is_err() {
            (0..HUGE_FRAMES).for_each(|i| self.frames.free_unused(FrameNo(frame.0 + i), FrameKind::Data));
            return Ok(0);
        }
        self.help(Cell { word, ..cell });
        Ok(HUGE_FRAMES)
    }

    /// Pages under one page table that exists.
    fn populate_leaves(&self, pages: Range<u64>) -> Result<u64, Error> {
        let first = self.descend(pages.start, Level::One)?;
        if first.place.level != Level::One {
            return Err(Error::Damaged);
        }
        let table_at = first.at - u64::from(first.place.index) * WORD_BYTES;
        let (mut page, mut stored) = (pages.start, 0);
        while page < pages.end {
            let end = ((page / CHUNK as u64 + 1) * CHUNK as u64).min(pages.end);
            stored += self.populate_chunk(table_at, page..end)?;
            page = end;
        }
        Ok(stored)
    }

    /// At most [`CHUNK`] leaves of the table at `table_at`, for one fence.
    fn populate_chunk(&self, table_at: u64, pages: Range<u64>) -> Result<u64, Error> {
        let (mut cells, mut empty, mut pending) = ([(0, 0, 0); CHUNK], 0, false);
        for page in pages.clone() {
            let cell = self.cell(table_at, Level::One, Level::One.index(page));
            match self.decode(cell)? {
                Entry::Hole | Entry::DemandZero => {
                    cells[empty] = (cell.at, cell.word, cell.place.index);
                    empty += 1;
                }
                Entry::Leaf(_, presence, _) => pending |= presence == Presence::Valid,
                Entry::Forbidden => return Err(Error::Forbidden),
                Entry::Poisoned => return Err(Error::Unreadable),
                Entry::Table(..) => return Err(Error::Damaged),
                Entry::Link(_) => return Err(Error::NotSupported),
            }
        }
        if empty == 0 && !pending {
            return Ok(0);
        }
        let mut frames = [FrameNo(0); CHUNK];
        let got = self.frames.allocate_many(FrameKind::Data, Need::Store, &mut frames[..empty]);
        let mut stored = 0;
        for (&(at, old, index), &frame) in cells.iter().zip(&frames[..got]) {
            let place = crate::entry::Place { level: Level::One, index };
            let word = self.encode(Entry::Leaf(frame, Presence::Valid, Protection::Writable), place);
            match self.frames.media().compare_exchange(at, old, word) {
                Ok(()) => stored += 1,
                Err(_) => self.frames.free_unused(frame, FrameKind::Data),
            }
        }
        self.settle_chunk(table_at, pages)?;
        if got < empty { Err(Error::OutOfFrames) } else { Ok(stored) }
    }

    /// Whatever is valid in the chunk becomes durable, then present; whoever stored it.
    fn settle_chunk(&self, table_at: u64, pages: Range<u64>) -> Result<(), Error> {
        let start = table_at + u64::from(Level::One.index(pages.start)) * WORD_BYTES;
        let mut seen = [0; CHUNK];
        for (word, page) in seen.iter_mut().zip(pages.clone()) {
            *word = self.cell(table_at, Level::One, Level::One.index(page)).word;
        }
        self.frames.media().persist(start, (pages.end - pages.start) * WORD_BYTES);
        for (&word, page) in seen.iter().zip(pages) {
            let index = Level::One.index(page);
            let cell = Cell { word, ..self.cell(table_at, Level::One, index) };
            if let Entry::Leaf(_, Presence::Valid, _) = self.decode(cell)? {
                self.publish(cell.at, word);
            }
        }
        Ok(())
    }
}
