//! Directory nodes: 256 words for eight bits of the ID, and the same again. The second half mirrors the first, so that a
//! damaged word costs nothing.

use alloc::vec::Vec;

use twizzler_abi::address::PAGE_BYTES;
use twizzler_pmem::Persist;

use super::bucket;
use super::word::{NodeWord, Target};
use crate::error::Error;

/// Words of one half.
pub(crate) const WORDS: usize = 256;
/// Bytes of one half.
pub(crate) const HALF_BYTES: u64 = WORDS as u64 * 8;

/// A node: its frame, and which byte of the ID it decides on, from 0, the highest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Node {
    pub(crate) frame: u64,
    pub(crate) level: u32,
}

/// The words of a node as they should be; None where both copies are damaged and no other word tells.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) words: Vec<Option<NodeWord>>,
    /// Words that could not be read or were not as they should be, in either copy.
    pub(crate) damaged: u32,
}

impl Node {
    const fn at(self, index: usize, copy: u64) -> u64 {
        self.frame * PAGE_BYTES + copy * HALF_BYTES + index as u64 * 8
    }

    fn copy<P: Persist>(self, media: &P, index: usize, copy: u64) -> Option<NodeWord> {
        let frames = media.len_bytes() / PAGE_BYTES;
        NodeWord::decode(media.load(self.at(index, copy)), self.level, index)
            .filter(|word| word.frame < frames)
    }

    /// The word at `index`, from whichever copy is sound.
    pub(crate) fn load<P: Persist>(self, media: &P, index: usize) -> Result<NodeWord, Error> {
        self.copy(media, index, 0).or_else(|| self.copy(media, index, 1)).ok_or(Error::Damaged)
    }

    /// Stores a word, both times, and flushes it.
    pub(crate) fn store<P: Persist>(self, media: &P, index: usize, word: NodeWord) {
        let bits = word.encode(self.level, index);
        for copy in [0, 1] {
            // COMMIT: from here on IDs of this word are looked for where it says.
            media.store(self.at(index, copy), bits);
            media.flush(self.at(index, copy), 8);
        }
    }

    /// Makes all words what [`Resolved`] says, and tells whether any was not.
    pub(crate) fn settle<P: Persist>(self, media: &P, resolved: &Resolved) -> bool {
        let mut changed = false;
        for (index, word) in resolved.words.iter().enumerate() {
            let Some(word) = word else { continue };
            let bits = word.encode(self.level, index);
            if [0, 1].iter().any(|&copy| media.load(self.at(index, copy)) != bits) {
                self.store(media, index, *word);
                changed = true;
            }
        }
        if changed {
            media.fence();
        }
        changed
    }

    /// What the words should be: splits that a power cut interrupted are taken as finished, damaged words as what their
    /// mirror says, or else the words beside them.
    pub(crate) fn resolve<P: Persist>(self, media: &P, uuid: &[u8; 16]) -> Result<Resolved, Error> {
        let mut read = Vec::new();
        read.try_reserve_exact(WORDS).map_err(|_| Error::OutOfMemory)?;
        let mut words = Vec::new();
        words.try_reserve_exact(WORDS).map_err(|_| Error::OutOfMemory)?;
        let mut damaged = 0;
        let mut trusted = None;
        let readable: [bool; 2] =
            core::array::from_fn(|copy| media.check_readable(self.at(0, copy as u64), HALF_BYTES).is_ok());
        for index in 0..WORDS {
            let copies: [Option<NodeWord>; 2] = core::array::from_fn(|copy| {
                if readable[copy] { self.copy(media, index, copy as u64) } else { None }
            });
            damaged += u32::from(copies[0].is_none()) + u32::from(copies[1].is_none());
            let sound = |word: &NodeWord| sound(media, uuid, word, &mut trusted);
            let word = copies.into_iter().flatten().find(sound);
            read.push(word.or(copies[0]).or(copies[1]));
        }
        let deepest = read.iter().flatten().map(depth).max().unwrap_or(0);
        words.extend((0..WORDS).map(|index| claimed(&read, index, deepest)));
        let mut index = 0;
        while index < WORDS {
            let agreeing = agreeing(&words, index);
            for word in words[range(index, agreeing)].iter_mut().flatten() {
                if let Target::Bucket { depth } = &mut word.target {
                    *depth = agreeing;
                }
            }
            index = range(index, agreeing).end;
        }
        Ok(Resolved { words, damaged })
    }
}

/// Whether what a word points to looks like it. `trusted`: the bucket that passed last.
fn sound<P: Persist>(media: &P, uuid: &[u8; 16], word: &NodeWord, trusted: &mut Option<u64>) -> bool {
    if word.target == Target::Node || *trusted == Some(word.frame) {
        return true;
    }
    let readable = media.check_readable(word.frame * PAGE_BYTES, PAGE_BYTES).is_ok();
    let good = readable && bucket::has_header(media, word.frame, uuid);
    if good {
        *trusted = Some(word.frame);
    }
    good
}

/// Indices whose first `depth` bits agree with those of `index`.
fn range(index: usize, depth: u8) -> core::ops::Range<usize> {
    let len = WORDS >> depth;
    let start = index / len * len;
    start..start + len
}

const fn depth(word: &NodeWord) -> u8 {
    match word.target {
        Target::Bucket { depth } => depth,
        Target::Node => 8,
    }
}

/// What the word at `index` should point to: the deepest claim of any word on it.
fn claimed(read: &[Option<NodeWord>], index: usize, deepest: u8) -> Option<NodeWord> {
    let own = read[index];
    if own.is_some_and(|word| word.target == Target::Node) {
        return own;
    }
    let deeper = own.as_ref().map_or(0, |word| depth(word) + 1);
    let claim = |depth| {
        let claims = |word: &&NodeWord| word.target == Target::Bucket { depth };
        read[range(index, depth)].iter().flatten().find(claims).copied()
    };
    (deeper..=deepest).rev().find_map(claim).or(own)
}

/// Bits in which all words around `index` that point to the same bucket agree, and no others.
fn agreeing(words: &[Option<NodeWord>], index: usize) -> u8 {
    let frame = |word: &Option<NodeWord>| word.map(|word| word.frame);
    (0..=8u8)
        .find(|&depth| words[range(index, depth)].iter().all(|word| frame(word) == frame(&words[index])))
        .unwrap_or(8)
}
