//! Growing, changing metadata, and the end of a tree. Exclusive, but for [`Tree::usage`].

use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::object::Metadata;
use twizzler_pmem::Persist;

use super::discard::Share;
use super::walk::{Visit, walk};
use super::{Bound, Invalidate, METADATA_PAGE, Root, Stale, Tree, Usage, WORD_BYTES};
use crate::entry::{Entry, Level, Presence, Protection};
use crate::error::Error;
use crate::frames::{FrameKind, FrameNo, Frames, Need};

impl<F: Frames> Tree<'_, F> {
    /// A root that reaches `page`: higher tables over this one, and a higher bound. The old root goes on being right for
    /// what it reached. All is durable; a persistent object's new root holds once the object table has it
    /// ([`crate::Store::extend`] does both), a volatile one's as soon as its owner takes it.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] beyond [`super::MAX_PAGES`]; [`Error::OutOfFrames`].
    pub fn raise(&self, page: u64) -> Result<Root, Error> {
        let bound = Bound::over(page).ok_or(Error::OutOfRange)?;
        let mut root = self.root.bounded(self.root.bound.max(bound));
        while page >= root.level.table_pages() {
            let level = Level::new(root.level as u8 + 1).ok_or(Error::OutOfRange)?;
            let Ok(table) = self.frames.allocate(FrameKind::Table, Need::Store) else {
                self.lower(root);
                return Err(Error::OutOfFrames);
            };
            let table_at = self.table_at(table)?;
            self.store_unlinked(table_at, level, 0, &[Entry::Table(root.frame, Presence::Present)]);
            root = Root { frame: table, level, ..root };
        }
        if root.level != self.root.level {
            self.frames.media().fence();
        }
        Ok(root)
    }

    /// Gives back what [`Tree::raise`] has put over this tree, when the new root could not be kept.
    pub fn lower(&self, raised: Root) {
        let (mut table, mut level) = (raised.frame, raised.level);
        while level > self.root.level {
            let below = self.load(table, level, 0).and_then(|cell| self.decode(cell));
            self.frames.free(table, FrameKind::Table);
            let (Ok(Entry::Table(next, _)), Some(next_level)) = (below, level.below()) else { return };
            (table, level) = (next, next_level);
        }
    }

    /// Puts a new metadata page in the place of the old one: a power cut leaves one or the other.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::OutOfFrames`].
    pub fn set_metadata(&self, metadata: &Metadata, inv: &mut impl Invalidate) -> Result<(), Error> {
        let cell = self.descend(METADATA_PAGE, Level::One)?;
        let Entry::Leaf(old, _, Protection::ReadOnly) = self.decode(cell)? else {
            return Err(Error::Damaged);
        };
        let new = self.frames.allocate(FrameKind::Data, Need::Free)?;
        self.copy_extensions(old, new)?;
        self.write_metadata(new, metadata)?;
        self.frames.media().fence();
        let word = self.encode(Entry::Leaf(new, Presence::Valid, Protection::ReadOnly), cell.place);
        // COMMIT: the new metadata holds.
        self.frames.media().store(cell.at, word);
        self.frames.media().persist(cell.at, WORD_BYTES);
        inv.invalidate(METADATA_PAGE..METADATA_PAGE + 1, Stale::Leaves);
        self.publish(cell.at, word);
        self.frames.free(old, FrameKind::Data);
        Ok(())
    }

    /// Copies what follows the fixed part of the metadata, and flushes it.
    fn copy_extensions(&self, from: FrameNo, to: FrameNo) -> Result<(), Error> {
        let media = self.frames.media();
        let (from, to) = (self.frame_at(from)?, self.frame_at(to)?);
        media.check_readable(from, PAGE_BYTES).map_err(|_| Error::Unreadable)?;
        let mut line = [0; 64];
        for at in (size_of::<Metadata>() as u64..PAGE_BYTES).step_by(line.len()) {
            media.read(from + at, &mut line);
            // The new frame is zero: lines of zeros are there already.
            if line != [0; 64] {
                media.write(to + at, &line);
                media.flush(to + at, line.len() as u64);
            }
        }
        Ok(())
    }

    /// Frees all of the tree. Nothing durable refers to it any more.
    pub fn destroy(self, inv: &mut impl Invalidate) -> u64 {
        inv.invalidate(0..self.root.level.table_pages(), Stale::Tables);
        self.free_tree(self.root.frame, self.root.level, self.root.reach_pages())
    }

    /// Frees so many tables of the tree, with their pages. Nothing refers to it any more, and no CPU knows it. True when all
    /// of it is free; otherwise it must be called again, and nothing else.
    pub fn destroy_some(&self, tables: u64) -> bool {
        let mut share = Share { tables, pages: 0 };
        self.free_some(self.root.frame, self.root.level, self.root.reach_pages(), &mut share)
    }

    /// Counts what the tree takes.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unreadable`].
    pub fn usage(&self) -> Result<Usage, Error> {
        let mut count = Count::default();
        walk(self.frames, self.root, &mut count);
        count.failed.map_or(Ok(count.usage), Err)
    }
}

#[derive(Default)]
struct Count {
    usage: Usage,
    failed: Option<Error>,
}

impl Visit for Count {
    fn table(&mut self, _frame: FrameNo, _level: Level) -> bool {
        self.usage.tables += 1;
        true
    }

    fn leaf(&mut self, _frame: FrameNo, _page: u64, pages: u64) {
        self.usage.pages += pages;
    }

    fn bad(&mut self, _page: u64, error: Error) {
        self.failed = self.failed.or(Some(error));
    }
}
