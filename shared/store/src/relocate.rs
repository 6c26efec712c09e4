//! Relocation: entries hold physical addresses; where the machine has the region elsewhere, they are rewritten.
//!
//! The state first says, durably, that entries of the old generation count from the old base and those of the new one from
//! the new; then every entry is rewritten, one store each, which also turns its generation bit; fence; then the state
//! says that it is done. A power cut leaves some entries of each generation, and the next mount goes on.

use twizzler_abi::address::PAGE_BYTES;
use twizzler_pmem::Persist;

use crate::entry::{self, Entry, Generation, Level, Place, TABLE_ENTRIES};
use crate::error::Error;
use crate::frames::FrameNo;
use crate::nvm::Uses;
use crate::superblock::{State, flag};
use crate::survey::each_entry;
use crate::table::Table;
use crate::table::bucket::Record;
use crate::table::directory::{Directory, Mode};

/// Generation of entries that count from the state's base.
pub(crate) const fn generation(state: &State) -> Generation {
    Generation(state.has(flag::GENERATION))
}

/// Starts a relocation to `base`.
pub(crate) fn start<P: Persist>(media: &P, state: State, base: u64) -> State {
    let turned = state.with(flag::GENERATION, !state.has(flag::GENERATION)).with(flag::RELOCATING, true);
    State { base, other_base: state.base, ..turned }.replace(media)
}

/// Finishes the relocation that the state tells of.
pub(crate) fn finish<P: Persist>(table: &Table<'_, P>, state: State, frames: u64) -> Result<State, Error> {
    let media = table.media;
    let shift = Shift {
        media,
        frames,
        to: generation(&state),
        from_first: state.other_base / PAGE_BYTES,
        to_first: state.base / PAGE_BYTES,
    };
    let directory = Directory::read(table, &mut Uses::new(frames)?, Mode::Look)?;
    each_entry(table, &directory, &mut |_, record, stale| {
        match record {
            Record::Live(_, word) | Record::Bad(_, Some(word)) if !stale => {
                shift.table(word.frame, word.level, 0)
            }
            _ => {}
        }
        Ok(())
    })?;
    media.fence();
    Ok(state.with(flag::RELOCATING, false).replace(media))
}

struct Shift<'a, P> {
    media: &'a P,
    frames: u64,
    to: Generation,
    from_first: u64,
    to_first: u64,
}

impl<P: Persist> Shift<'_, P> {
    /// A table by its frame from the region's start. Damaged entries stay as they are, for the survey to find.
    fn table(&self, frame: u64, level: Level, depth: u8) {
        let at = frame * PAGE_BYTES;
        if frame >= self.frames || depth > 3 || self.media.check_readable(at, PAGE_BYTES).is_err() {
            return;
        }
        for index in 0..TABLE_ENTRIES {
            let at = at + u64::from(index) * 8;
            let word = self.media.load(at);
            let is_new = entry::generation_of(word) == self.to;
            let Ok(found) = entry::decode(word, Place { level, index }, entry::generation_of(word)) else {
                continue;
            };
            let first = if is_new { self.to_first } else { self.from_first };
            let moved = |frame: FrameNo| frame.0.checked_sub(first).filter(|&own| own < self.frames);
            let below = match found {
                Entry::Table(frame, _) => moved(frame),
                _ => None,
            };
            if !is_new && word != 0 {
                let new = match found {
                    Entry::Table(frame, presence) => {
                        moved(frame).map(|own| Entry::Table(FrameNo(self.to_first + own), presence))
                    }
                    Entry::Leaf(frame, presence, protection) => moved(frame)
                        .map(|own| Entry::Leaf(FrameNo(self.to_first + own), presence, protection)),
                    other => Some(other),
                };
                let Some(new) = new else { continue };
                // COMMIT: this entry counts from the new base.
                self.media.store(at, entry::encode(new, Place { level, index }, self.to));
                self.media.flush(at, 8);
            }
            if let (Some(below), Some(level)) = (below, level.below()) {
                self.table(below, level, depth + 1);
            }
        }
    }
}
