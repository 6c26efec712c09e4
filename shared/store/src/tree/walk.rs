//! One walk over everything a tree refers to, with all checks: mount, `check`, counting and relocation share it.

use twizzler_pmem::Persist;

use super::{METADATA_PAGE, Root, WORD_BYTES};
use crate::entry::{self, Entry, Generation, Level, Place, Presence, Protection, TABLE_ENTRIES};
use crate::error::Error;
use crate::frames::{FrameNo, Frames};

/// What a walk tells of.
pub(crate) trait Visit {
    /// A table, before its entries. False: don't look into it.
    fn table(&mut self, frame: FrameNo, level: Level) -> bool;

    /// A leaf of `pages` pages over `page` and following.
    fn leaf(&mut self, frame: FrameNo, page: u64, pages: u64);

    /// An entry that is valid and not present, before what it refers to.
    fn pending(&mut self, _at: u64, _word: u64) {}

    /// Something that fails its checks, over `page` and following. The walk goes on beside it.
    fn bad(&mut self, page: u64, error: Error);
}

/// Visits all that `root` refers to below its populated bound, depth first, in ascending order.
pub(crate) fn walk<F: Frames>(frames: &F, root: Root, visit: &mut impl Visit) {
    Walk { frames, generation: frames.generation(), bound: root.bound().pages() }.table(
        root.frame(),
        root.level(),
        0,
        visit,
    );
}

struct Walk<'a, F> {
    frames: &'a F,
    generation: Generation,
    bound: u64,
}

impl<F: Frames> Walk<'_, F> {
    fn table(&self, table: FrameNo, level: Level, start: u64, visit: &mut impl Visit) {
        let Some(table_at) = self.frames.offset(table, 1) else {
            return visit.bad(start, Error::Damaged);
        };
        if !visit.table(table, level) {
            return;
        }
        let entries =
            self.bound.saturating_sub(start).div_ceil(level.entry_pages()).min(TABLE_ENTRIES.into());
        if self.frames.media().check_readable(table_at, entries * WORD_BYTES).is_err() {
            return visit.bad(start, Error::Unreadable);
        }
        for index in 0..entries {
            let page = start + index * level.entry_pages();
            let word = self.frames.media().load(table_at + index * WORD_BYTES);
            if word != 0 || page <= METADATA_PAGE {
                self.entry(table_at + index * WORD_BYTES, word, level, page, visit);
            }
        }
    }

    fn entry(&self, at: u64, word: u64, level: Level, page: u64, visit: &mut impl Visit) {
        let place = Place { level, index: level.index(page) };
        match entry::decode(word, place, self.generation) {
            Ok(Entry::Table(frame, presence)) if self.frames.offset(frame, 1).is_some() => {
                if presence == Presence::Valid {
                    visit.pending(at, word);
                }
                if let Some(below) = level.below() {
                    self.table(frame, below, page, visit);
                }
            }
            Ok(Entry::Leaf(frame, presence, protection))
                if self.frames.offset(frame, level.entry_pages()).is_some()
                    && may_be(page, level, protection) =>
            {
                if presence == Presence::Valid {
                    visit.pending(at, word);
                }
                visit.leaf(frame, page, level.entry_pages());
            }
            Ok(Entry::Forbidden) => {}
            Ok(Entry::Hole | Entry::DemandZero) if page > METADATA_PAGE => {}
            Ok(_) | Err(_) => visit.bad(page, Error::Damaged),
        }
    }
}

/// The metadata's page alone is read-only, and the null page is never a leaf.
fn may_be(page: u64, level: Level, protection: Protection) -> bool {
    match page {
        0 => false,
        METADATA_PAGE => level == Level::One && protection == Protection::ReadOnly,
        _ => protection == Protection::Writable,
    }
}
