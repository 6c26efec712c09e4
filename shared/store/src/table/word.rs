//! The two kinds of words in the object table. Frames in them are counted from the region's start, so that the table
//! holds wherever the region lies.

use twizzler_abi::SizeClass;

use crate::entry::{Level, crc7};
use crate::tree::Bound;

const FRAME_SHIFT: u32 = 12;
const FRAME_BITS: u32 = 40;
const FRAME_MASK: u64 = ((1 << FRAME_BITS) - 1) << FRAME_SHIFT;
const CHECK_SHIFT: u32 = 52;

const fn frame_of(word: u64) -> u64 {
    (word & FRAME_MASK) >> FRAME_SHIFT
}

/// What a node's word points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// A bucket, of all words of the node whose first `depth` bits agree.
    Bucket {
        /// Bits of the index, 0 to 8.
        depth: u8,
    },
    /// A node for the next eight bits.
    Node,
}

/// A word of a directory node.
///
/// | bits | |
/// |---|---|
/// | 0-1 | 1: bucket, 2: node |
/// | 4-7 | depth of a bucket |
/// | 12-51 | frame, from the region's start |
/// | 52-58 | check code over the bits before, the node's depth and the index |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NodeWord {
    pub(crate) target: Target,
    pub(crate) frame: u64,
}

impl NodeWord {
    /// The word at `index` of a node for byte `level` of the ID.
    pub(crate) const fn encode(self, level: u32, index: usize) -> u64 {
        let low = match self.target {
            Target::Bucket { depth } => 1 | (depth as u64) << 4,
            Target::Node => 2,
        };
        // Kind and depth fit in four bits together: a depth of 0 to 8, or 9 for a node.
        let kind = match self.target {
            Target::Bucket { depth } => depth as u64,
            Target::Node => 9,
        };
        let covered = self.frame | (index as u64) << 40 | (level as u64) << 48 | kind << 52;
        low | self.frame << FRAME_SHIFT & FRAME_MASK | crc7(covered) << CHECK_SHIFT
    }

    pub(crate) fn decode(word: u64, level: u32, index: usize) -> Option<Self> {
        let target = match word & 3 {
            1 if word >> 4 & 0xf <= 8 => Target::Bucket { depth: (word >> 4 & 0xf) as u8 },
            2 => Target::Node,
            _ => return None,
        };
        let decoded = Self { target, frame: frame_of(word) };
        (decoded.encode(level, index) == word).then_some(decoded)
    }
}

/// The commit word of an object that exists. The word 0: the entry is free.
///
/// | bits | |
/// |---|---|
/// | 0-1 | state: 1, the object exists |
/// | 2 | reserved: locked by a group commit |
/// | 3 | reserved |
/// | 4-5 | level of the root |
/// | 6-7 | size class |
/// | 8-11 | populated bound, as power of 8 pages |
/// | 12-51 | root frame, from the region's start |
/// | 52-58 | check code over the bits before |
/// | 59-63 | reserved: generation, for group commit |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CommitWord {
    pub(crate) frame: u64,
    pub(crate) level: Level,
    pub(crate) class: SizeClass,
    pub(crate) bound: Bound,
}

const LIVE: u64 = 1;

impl CommitWord {
    pub(crate) const fn encode(self) -> u64 {
        let low = LIVE
            | (self.level as u64) << 4
            | (self.class as u64) << 6
            | (self.bound.exponent() as u64) << 8
            | self.frame << FRAME_SHIFT & FRAME_MASK;
        low | crc7(low) << CHECK_SHIFT
    }

    pub(crate) fn decode(word: u64) -> Option<Self> {
        let decoded = Self {
            frame: frame_of(word),
            level: Level::new((word >> 4 & 3) as u8)?,
            class: SizeClass::try_from((word >> 6 & 3) as u8).ok()?,
            bound: Bound::new((word >> 8 & 0xf) as u8)?,
        };
        (decoded.encode() == word).then_some(decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn node_words_round_trip_and_notice_flips(frame in 0u64..1 << 40, level in 0u32..16, index in 0usize..256, depth in 0u8..=9) {
            let target = if depth == 9 { Target::Node } else { Target::Bucket { depth } };
            let word = NodeWord { target, frame };
            let bits = word.encode(level, index);
            prop_assert_eq!(NodeWord::decode(bits, level, index), Some(word));
            prop_assert!((0..64).all(|bit| NodeWord::decode(bits ^ 1 << bit, level, index).is_none()));
            prop_assert!(NodeWord::decode(bits, level, index ^ 1).is_none());
        }

        #[test]
        fn commit_words_round_trip_and_notice_flips(frame in 0u64..1 << 40, level in 1u8..=3, class in 0u8..3, bound in 1u8..=9) {
            let word = CommitWord {
                frame,
                level: Level::new(level).expect("1 to 3"),
                class: SizeClass::try_from(class).expect("0 to 2"),
                bound: Bound::new(bound).expect("1 to 9"),
            };
            prop_assert_eq!(CommitWord::decode(word.encode()), Some(word));
            prop_assert!((0..64).all(|bit| CommitWord::decode(word.encode() ^ 1 << bit).is_none()));
        }
    }

    #[test]
    fn zero_is_neither() {
        assert_eq!(NodeWord::decode(0, 0, 0), None);
        assert_eq!(CommitWord::decode(0), None);
    }
}
