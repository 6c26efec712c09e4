//! What each frame is used as. In DRAM only: nothing of this lies on media, the mount learns it from the trees.
//!
//! There is one use of a frame for now, so a bit stands for its count; copy-on-write will put counts beside the
//! bits, of the frames that are shared.

use alloc::vec::Vec;

use super::bits::BitSet;
use crate::error::Error;
use crate::frames::{FrameKind, HUGE_FRAMES};

const WORDS: usize = HUGE_FRAMES as usize / 64;

/// Uses of 512 frames that could be one 2 MiB leaf: 136 bytes of DRAM.
#[derive(Clone, Debug)]
struct Group {
    used: [u64; WORDS],
    table: [u64; WORDS],
    free: u16,
}

const FREE: Group = Group { used: [0; WORDS], table: [0; WORDS], free: HUGE_FRAMES as u16 };

/// How many frames are what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// All frames of the region.
    pub total: u64,
    /// Of them, not in use.
    pub free: u64,
    /// Tables: of page trees, and what the store itself takes.
    pub tables: u64,
    /// Pages of objects.
    pub data: u64,
}

/// Uses of all frames of a region, by index.
#[derive(Debug)]
pub(crate) struct Uses {
    groups: Vec<Group>,
    /// Groups with some frames free and some not: single frames come from them first.
    partial: BitSet,
    /// Groups with all frames free.
    whole: BitSet,
    /// Group that the last single frame came from.
    cursor: usize,
    counts: Counts,
}

impl Uses {
    /// All free.
    pub(crate) fn new(frames: u64) -> Result<Self, Error> {
        let len = usize::try_from(frames.div_ceil(HUGE_FRAMES)).map_err(|_| Error::OutOfMemory)?;
        let mut groups = Vec::new();
        groups.try_reserve_exact(len).map_err(|_| Error::OutOfMemory)?;
        groups.resize(len, FREE);
        let mut uses = Self {
            groups,
            partial: BitSet::new(len)?,
            whole: BitSet::new(len)?,
            cursor: 0,
            counts: Counts { total: frames, free: frames, tables: 0, data: 0 },
        };
        (0..len).for_each(|group| uses.whole.insert(group));
        // What the last group has beyond the region's end is never free.
        for absent in frames..len as u64 * HUGE_FRAMES {
            uses.occupy(absent);
        }
        Ok(uses)
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// What a frame is used as.
    pub(crate) fn get(&self, frame: u64) -> Option<FrameKind> {
        let (group, word, bit) = split(frame);
        let group = self.groups.get(group)?;
        if group.used[word] & bit == 0 {
            return None;
        }
        Some(if group.table[word] & bit == 0 { FrameKind::Data } else { FrameKind::Table })
    }

    /// Marks a frame as used. False: it is in use already.
    pub(crate) fn mark(&mut self, frame: u64, kind: FrameKind) -> bool {
        if frame >= self.counts.total || self.get(frame).is_some() {
            return false;
        }
        self.occupy(frame);
        self.counts.free -= 1;
        self.set_kind(frame, kind);
        true
    }

    /// Marks all frames of a group as data. False, and nothing done: some are in use already, or it is no whole group.
    pub(crate) fn mark_group(&mut self, first: u64) -> bool {
        let (group, word, bit) = split(first);
        let Some(state) = self.groups.get_mut(group) else { return false };
        if (word, bit) != (0, 1) || u64::from(state.free) != HUGE_FRAMES {
            return false;
        }
        *state = Group { used: [u64::MAX; WORDS], table: [0; WORDS], free: 0 };
        self.whole.remove(group);
        self.counts.free -= HUGE_FRAMES;
        self.counts.data += HUGE_FRAMES;
        true
    }

    /// A free frame.
    pub(crate) fn take(&mut self, kind: FrameKind) -> Option<u64> {
        let group = self.partial.next(self.cursor).or_else(|| self.whole.next(self.cursor))?;
        self.cursor = group;
        let (word, bits) = self.groups[group].used.iter().enumerate().find(|&(_, &bits)| bits != u64::MAX)?;
        let frame = group as u64 * HUGE_FRAMES + word as u64 * 64 + u64::from((!bits).trailing_zeros());
        self.mark(frame, kind).then_some(frame)
    }

    /// 512 free data frames of one group. Returns the first.
    pub(crate) fn take_huge(&mut self) -> Option<u64> {
        let group = self.whole.next(self.cursor)?;
        let first = group as u64 * HUGE_FRAMES;
        self.mark_group(first).then_some(first)
    }

    /// Makes a frame free. False: it was not in use as that.
    pub(crate) fn put(&mut self, frame: u64, kind: FrameKind) -> bool {
        if frame >= self.counts.total || self.get(frame) != Some(kind) {
            return false;
        }
        let (group, word, bit) = split(frame);
        let state = &mut self.groups[group];
        state.used[word] &= !bit;
        state.table[word] &= !bit;
        state.free += 1;
        if u64::from(state.free) == HUGE_FRAMES {
            self.partial.remove(group);
            self.whole.insert(group);
        } else if state.free == 1 {
            self.partial.insert(group);
        }
        self.counts.free += 1;
        match kind {
            FrameKind::Table => self.counts.tables -= 1,
            FrameKind::Data => self.counts.data -= 1,
        }
        true
    }

    /// Leaves the free frames of a range out: they are never taken, as if they were in use.
    pub(crate) fn leave_out(&mut self, frames: core::ops::Range<u64>) {
        for frame in frames.start..frames.end.min(self.counts.total) {
            if self.get(frame).is_none() {
                self.occupy(frame);
                self.counts.free -= 1;
            }
        }
    }

    /// Says what a frame, taken before, is used as.
    pub(crate) fn retype(&mut self, frame: u64, kind: FrameKind) {
        match self.get(frame) {
            Some(FrameKind::Table) => self.counts.tables -= 1,
            Some(FrameKind::Data) => self.counts.data -= 1,
            None => return,
        }
        self.set_kind(frame, kind);
    }

    fn set_kind(&mut self, frame: u64, kind: FrameKind) {
        let (group, word, bit) = split(frame);
        match kind {
            FrameKind::Table => {
                self.groups[group].table[word] |= bit;
                self.counts.tables += 1;
            }
            FrameKind::Data => {
                self.groups[group].table[word] &= !bit;
                self.counts.data += 1;
            }
        }
    }

    fn occupy(&mut self, frame: u64) {
        let (group, word, bit) = split(frame);
        let state = &mut self.groups[group];
        state.used[word] |= bit;
        state.free -= 1;
        if u64::from(state.free) + 1 == HUGE_FRAMES {
            self.whole.remove(group);
            self.partial.insert(group);
        }
        if state.free == 0 {
            self.partial.remove(group);
        }
    }
}

const fn split(frame: u64) -> (usize, usize, u64) {
    let within = frame % HUGE_FRAMES;
    ((frame / HUGE_FRAMES) as usize, (within / 64) as usize, 1 << (within % 64))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_frame_is_taken_once_and_none_beyond_the_end() {
        let mut uses = Uses::new(1000).expect("heap");
        let taken: std::collections::BTreeSet<u64> =
            core::iter::from_fn(|| uses.take(FrameKind::Data)).collect();
        assert!(taken.into_iter().eq(0..1000));
        assert_eq!(uses.counts(), Counts { total: 1000, free: 0, tables: 0, data: 1000 });
    }

    #[test]
    fn single_frames_leave_whole_groups_alone() {
        let mut uses = Uses::new(4 * HUGE_FRAMES).expect("heap");
        assert!(uses.mark(700, FrameKind::Table));
        assert!((0..511).all(|_| uses.take(FrameKind::Data).is_some_and(|frame| frame / HUGE_FRAMES == 1)));
        let whole: std::vec::Vec<u64> = core::iter::from_fn(|| uses.take_huge()).collect();
        assert_eq!(whole.len(), 3);
        assert_eq!(uses.take(FrameKind::Data), None);
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0u8..5, 0u64..3000), 1..400)) {
            let mut uses = Uses::new(2900).expect("heap");
            let mut model = BTreeMap::new();
            for (what, frame) in steps {
                match what {
                    0 => prop_assert_eq!(uses.mark(frame, FrameKind::Table), frame < 2900 && model.insert(frame, FrameKind::Table).is_none_or(|old| { model.insert(frame, old); false })),
                    1 => prop_assert_eq!(uses.put(frame, FrameKind::Table), model.get(&frame) == Some(&FrameKind::Table) && model.remove(&frame).is_some()),
                    2 => if let Some(frame) = uses.take(FrameKind::Data) {
                        prop_assert!(model.insert(frame, FrameKind::Data).is_none());
                    },
                    3 => if let Some(first) = uses.take_huge() {
                        for frame in first..first + HUGE_FRAMES {
                            prop_assert!(model.insert(frame, FrameKind::Data).is_none());
                        }
                    },
                    _ => prop_assert_eq!(uses.put(frame, FrameKind::Data), model.get(&frame) == Some(&FrameKind::Data) && model.remove(&frame).is_some()),
                }
                model.retain(|&frame, _| frame < 2900);
                prop_assert_eq!(uses.counts().free, 2900 - model.len() as u64);
                prop_assert_eq!(uses.counts().tables, model.values().filter(|&&kind| kind == FrameKind::Table).count() as u64);
            }
        }
    }
}
