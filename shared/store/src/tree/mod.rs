//! Page trees: an object's index of pages, in the MMU's own format. ◆ Design, section 5.
//!
//! A [`Tree`] is a [`Root`] and the [`Frames`] it lies in. Who calls what under which lock on the object:
//!
//! | lock | operations |
//! |---|---|
//! | shared, any number of CPUs | [`Tree::lookup`], [`Tree::fill`], [`Tree::populate`], [`Tree::usage`], [`Tree::read`], [`Tree::write`] |
//! | exclusive | [`Tree::discard`], [`Tree::forbid`], [`Tree::raise`], [`Tree::set_metadata`], [`Tree::destroy`] |
//!
//! *Present implies durable*: an entry is stored *valid*, flushed, fenced, and only then made *present*. Whoever
//! meets a valid entry that is not present yet does the same for it: flush, fence, present. So nobody waits for
//! anybody, and nothing is ever seen through an entry that a power cut could take back.
//!
//! What is unlinked is unlinked durably, then forgotten by all CPUs ([`Invalidate`]), and only then freed.

mod change;
mod discard;
mod fill;
mod io;
mod populate;
pub(crate) mod walk;

use core::ops::Range;

use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::object::Metadata;
use twizzler_pmem::{LINE_BYTES, Persist};
use zerocopy::IntoBytes;

use crate::entry::{self, Entry, Level, Place, Presence, Protection, encode};
use crate::error::Error;
use crate::frames::{FrameKind, FrameNo, Frames, Need};
pub use fill::{Batch, Filled};

/// Bytes of an entry.
pub(crate) const WORD_BYTES: u64 = 8;
/// Entries of a cache line.
const LINE_ENTRIES: usize = (LINE_BYTES / WORD_BYTES) as usize;
/// Pages that the largest tree reaches: 512 GiB.
pub const MAX_PAGES: u64 = Level::Three.table_pages();
/// The page that holds the metadata.
pub const METADATA_PAGE: u64 = 1;
/// First page that may be discarded or forbidden: the header's.
pub const FIRST_FREE_PAGE: u64 = 2;

/// Where a tree starts: what the object table keeps, and what the kernel loads into an upper entry. Level one: a
/// page table (2 MiB), to go under a volatile page directory; two: a page directory (1 GiB), to go into a PDPT
/// entry; three: a PDPT (512 GiB), to go into a PML4 entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    frame: FrameNo,
    level: Level,
    bound: Bound,
}

/// The *populated bound*: no page from 8^n on has ever been stored. So that the mount of a one-page object reads
/// one line of its table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Bound(u8);

impl Bound {
    /// One line of a page table, which is what a new object uses.
    pub const LINE: Self = Self(1);
    /// Everything.
    pub const ALL: Self = Self(9);

    /// The bound of a number, if there is one.
    #[must_use]
    pub const fn new(exponent: u8) -> Option<Self> {
        if exponent >= 1 && exponent <= 9 { Some(Self(exponent)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn exponent(self) -> u8 {
        self.0
    }

    /// The first page that was never stored.
    #[must_use]
    pub const fn pages(self) -> u64 {
        1 << (3 * self.0 as u32)
    }

    /// The least bound over `page`.
    #[must_use]
    pub fn over(page: u64) -> Option<Self> {
        (1..=9).map(Self).find(|bound| page < bound.pages())
    }
}

impl Root {
    /// A root whose pages may lie anywhere in its reach.
    #[must_use]
    pub const fn new(frame: FrameNo, level: Level) -> Self {
        Self { frame, level, bound: Bound::ALL }
    }

    /// The same with another populated bound.
    #[must_use]
    pub const fn bounded(self, bound: Bound) -> Self {
        Self { bound, ..self }
    }

    /// The first table.
    #[must_use]
    pub const fn frame(self) -> FrameNo {
        self.frame
    }

    /// The first table's level.
    #[must_use]
    pub const fn level(self) -> Level {
        self.level
    }

    /// The populated bound.
    #[must_use]
    pub const fn bound(self) -> Bound {
        self.bound
    }

    /// Pages that can be filled without changing the root: the first page that [`Tree::fill`] calls beyond.
    #[must_use]
    pub fn reach_pages(self) -> u64 {
        self.level.table_pages().min(self.bound.pages())
    }
}

/// An object's page tree. See the module's table for which lock each operation needs.
#[derive(Debug)]
pub struct Tree<'a, F: Frames> {
    frames: &'a F,
    root: Root,
}

impl<F: Frames> Clone for Tree<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Frames> Copy for Tree<'_, F> {}

/// What lies at a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// The page's own frame (within a 2 MiB leaf too), the leaf's level, whether the MMU sees it.
    Page(FrameNo, Level, Presence, Protection),
    /// Nothing: reads as zero. The level of the entry that says so.
    Empty(Level),
    /// Never to be filled.
    Forbidden,
    /// The media failed here.
    Poisoned,
    /// Part of another object.
    Link,
}

/// What CPUs must forget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stale {
    /// Translations of the pages.
    Leaves,
    /// Translations of the pages, and what paging-structure caches know of tables over them.
    Tables,
}

/// Makes every CPU forget translations. Called when the store that unlinked is durable, and before anything that was
/// unlinked is used again; when it returns, no CPU may reach `pages` (of the object that the operation is on)
/// by a translation from before.
pub trait Invalidate {
    /// Makes CPUs forget what they know of `pages`.
    fn invalidate(&mut self, pages: Range<u64>, stale: Stale);
}

/// For objects that nothing maps: host tools, and objects that were never shown to anyone.
#[derive(Clone, Copy, Debug)]
pub struct Unmapped;

impl Invalidate for Unmapped {
    fn invalidate(&mut self, _pages: Range<u64>, _stale: Stale) {}
}

impl<I: Invalidate + ?Sized> Invalidate for &mut I {
    fn invalidate(&mut self, pages: Range<u64>, stale: Stale) {
        (**self).invalidate(pages, stale);
    }
}

/// What a tree takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Pages stored, counting metadata and header.
    pub pages: u64,
    /// Frames of tables.
    pub tables: u64,
}

/// An entry as read: where it lies, its place and bits.
#[derive(Clone, Copy, Debug)]
struct Cell {
    at: u64,
    place: Place,
    word: u64,
}

impl<'a, F: Frames> Tree<'a, F> {
    /// The tree that starts at `root`.
    #[must_use]
    pub const fn new(frames: &'a F, root: Root) -> Self {
        Self { frames, root }
    }

    /// Where it starts.
    #[must_use]
    pub const fn root(&self) -> Root {
        self.root
    }

    /// Makes the tree of a new object: one table, with the null page forbidden and the metadata's page stored. On
    /// return all of it is flushed, but not fenced: whoever links it fences first.
    ///
    /// # Errors
    /// [`Error::OutOfFrames`].
    pub fn create(frames: &'a F, metadata: &Metadata) -> Result<Self, Error> {
        let page = frames.allocate(FrameKind::Data, Need::Store)?;
        let Ok(table) = frames.allocate(FrameKind::Table, Need::Store) else {
            frames.free_unused(page, FrameKind::Data);
            return Err(Error::OutOfFrames);
        };
        let tree = Self::new(frames, Root::new(table, Level::One));
        tree.write_metadata(page, metadata)?;
        let at = tree.table_at(table)?;
        let leaf = Entry::Leaf(page, Presence::Present, Protection::ReadOnly);
        tree.store_unlinked(at, Level::One, 0, &[Entry::Forbidden, leaf]);
        Ok(tree)
    }

    /// What lies at `page`. Decodes as the MMU would, and more strictly.
    ///
    /// # Errors
    /// [`Error::Beyond`], and [`Error::Damaged`] where an entry on the way fails its checks.
    pub fn lookup(&self, page: u64) -> Result<Found, Error> {
        self.check_reach(page)?;
        let (mut table, mut level) = (self.root.frame, self.root.level);
        loop {
            match self.decode(self.load(table, level, page)?)? {
                Entry::Table(frame, _) => {
                    (table, level) = (frame, level.below().ok_or(Error::Damaged)?);
                }
                Entry::Leaf(frame, presence, protection) => {
                    let own = FrameNo(frame.0 + page % level.entry_pages());
                    return Ok(Found::Page(own, level, presence, protection));
                }
                Entry::Hole | Entry::DemandZero => return Ok(Found::Empty(level)),
                Entry::Forbidden => return Ok(Found::Forbidden),
                Entry::Poisoned => return Ok(Found::Poisoned),
                Entry::Link(_) => return Ok(Found::Link),
            }
        }
    }

    fn check_reach(&self, page: u64) -> Result<(), Error> {
        if page < self.root.reach_pages() { Ok(()) } else { Err(Error::Beyond) }
    }

    /// Offset of a table.
    fn table_at(&self, table: FrameNo) -> Result<u64, Error> {
        self.frames.offset(table, 1).ok_or(Error::Damaged)
    }

    /// The entry of `page` in `table`.
    fn load(&self, table: FrameNo, level: Level, page: u64) -> Result<Cell, Error> {
        Ok(self.cell(self.table_at(table)?, level, level.index(page)))
    }

    fn cell(&self, table_at: u64, level: Level, index: u16) -> Cell {
        let at = table_at + u64::from(index) * WORD_BYTES;
        Cell { at, place: Place { level, index }, word: self.frames.media().load(at) }
    }

    /// What an entry means, if it and the frames it names make sense.
    fn decode(&self, cell: Cell) -> Result<Entry, Error> {
        let entry =
            entry::decode(cell.word, cell.place, self.frames.generation()).map_err(|_| Error::Damaged)?;
        let exists = match entry {
            Entry::Table(frame, _) => self.frames.offset(frame, 1).is_some(),
            Entry::Leaf(frame, ..) => self.frames.offset(frame, cell.place.level.entry_pages()).is_some(),
            _ => true,
        };
        if exists { Ok(entry) } else { Err(Error::Damaged) }
    }

    fn encode(&self, entry: Entry, place: Place) -> u64 {
        encode(entry, place, self.frames.generation())
    }

    /// Stores entries, at most a line of them, of a table that nothing refers to yet, and flushes them.
    fn store_unlinked(&self, table_at: u64, level: Level, first: u16, entries: &[Entry]) {
        let mut words = [0; LINE_ENTRIES];
        for ((index, word), &entry) in (first..).zip(&mut words).zip(entries) {
            *word = self.encode(entry, Place { level, index }).to_le();
        }
        let bytes = words[..entries.len()].as_bytes();
        let at = table_at + u64::from(first) * WORD_BYTES;
        self.frames.media().write(at, bytes);
        self.frames.media().flush(at, bytes.len() as u64);
    }

    /// Makes a durable entry present. Another CPU may have done it, or may even have gone on from there.
    fn publish(&self, at: u64, valid: u64) {
        // COMMIT: from here on the MMU sees the entry.
        let _ = self.frames.media().compare_exchange(at, valid, entry::made_present(valid));
    }

    /// Makes an entry that someone stored durable and present.
    fn help(&self, cell: Cell) {
        self.frames.media().persist(cell.at, WORD_BYTES);
        self.publish(cell.at, cell.word);
    }

    fn write_metadata(&self, page: FrameNo, metadata: &Metadata) -> Result<(), Error> {
        let at = self.frames.offset(page, 1).ok_or(Error::Damaged)?;
        self.frames.media().write(at, metadata.as_bytes());
        self.frames.media().flush(at, size_of::<Metadata>() as u64);
        Ok(())
    }
}

/// Page and offset in it of a byte.
const fn page_of(offset: u64) -> (u64, u64) {
    (offset / PAGE_BYTES, offset % PAGE_BYTES)
}
