//! Nodes of the ordered map: pages with slots, read and changed as a copy in memory.
//!
//! | bytes | |
//! |---|---|
//! | 2 | level: 0 for leaves |
//! | 2 | cells |
//! | 2 | offset of the lowest cell |
//! | 2 | bytes of cells that were given up |
//! | 2 for each cell | its offset; in the order of the keys |
//! | … | free |
//! | … | cells, from the end downwards |
//!
//! A cell: length of the key (2), length of what follows it or [`ELSEWHERE`] (2), the key, the rest. In a leaf the rest is the
//! value; or, of a value that lies elsewhere, offset (8) and length (8). Above the leaves it is the child's offset (8), and the key
//! is the least that may be in the child; the first child's is empty. Offsets count from the start of the object that holds all of the map.
//!
//! What was read is checked once, whole; after that, cells lie within the page and offsets may still be wrong.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::ops::Range;

use twizzler_abi::Error;

/// Bytes of a node.
pub(crate) const NODE_BYTES: usize = 4096;
/// Longest key.
pub const KEY_BYTES_MAX: usize = 1024;
const HEAD_BYTES: usize = 8;
const CELL_HEAD_BYTES: usize = 4;
/// Longest cell: of any three, two fit one node, so that a split always makes room.
pub(crate) const CELL_BYTES_MAX: usize = 1336;
/// In place of a length: the value lies elsewhere.
const ELSEWHERE: u16 = 0xffff;
/// Nodes with fewer bytes in use are joined with a neighbour where both fit one.
const FEW_BYTES: usize = NODE_BYTES / 3;

record! {
    /// A node, as it lies in an object.
    pub struct Node: "twizzler.map-node", 1 {
        pub(crate) bytes: [u8; NODE_BYTES],
    }
}

/// What a cell holds beside its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content<'a> {
    /// The value.
    Here(&'a [u8]),
    /// Offset and length of the value.
    Elsewhere(u64, u64),
    /// A child's offset.
    Child(u64),
}

impl Content<'_> {
    /// Bytes of the value.
    pub(crate) fn value_bytes(&self) -> usize {
        match *self {
            Self::Here(value) => value.len(),
            Self::Elsewhere(_, len) => len as usize,
            Self::Child(_) => 0,
        }
    }
}

/// A copy of a node.
#[derive(Clone)]
pub(crate) struct Page(Box<[u8; NODE_BYTES]>);

impl Page {
    pub(crate) fn new(level: u16) -> Self {
        let mut page = Self(Box::new([0; NODE_BYTES]));
        page.set_word(0, level);
        page.set_word(4, NODE_BYTES as u16);
        page
    }

    /// Memory for a node that is to be read.
    pub(crate) fn blank() -> Self {
        Self(Box::new([0; NODE_BYTES]))
    }

    pub(crate) fn bytes(&self) -> &[u8; NODE_BYTES] {
        &self.0
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; NODE_BYTES] {
        &mut self.0
    }

    /// Checks what was read.
    ///
    /// # Errors
    /// [`Error::Damaged`] where it is no node of that level.
    pub(crate) fn check(&self, level: u16) -> Result<(), Error> {
        let slots_end = HEAD_BYTES + 2 * self.len();
        if self.level() != level || slots_end > self.lowest() || self.lowest() > NODE_BYTES {
            return Err(Error::Damaged);
        }
        let mut used = 0;
        for i in 0..self.len() {
            let at = self.cell(i);
            if at < self.lowest() || at + CELL_HEAD_BYTES > NODE_BYTES {
                return Err(Error::Damaged);
            }
            let end = at + self.cell_bytes(at);
            let wrong_kind = level > 0 && self.word(at + 2) != 8;
            if end > NODE_BYTES || wrong_kind || self.key_bytes(at) > KEY_BYTES_MAX {
                return Err(Error::Damaged);
            }
            used += end - at;
        }
        if used + self.garbage() != NODE_BYTES - self.lowest() { Err(Error::Damaged) } else { Ok(()) }
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn set_word(&mut self, at: usize, word: u16) {
        self.0[at..at + 2].copy_from_slice(&word.to_le_bytes());
    }

    fn level(&self) -> u16 {
        self.word(0)
    }

    /// Number of cells.
    pub(crate) fn len(&self) -> usize {
        self.word(2).into()
    }

    fn lowest(&self) -> usize {
        self.word(4).into()
    }

    fn garbage(&self) -> usize {
        self.word(6).into()
    }

    fn cell(&self, i: usize) -> usize {
        self.word(HEAD_BYTES + 2 * i).into()
    }

    fn key_bytes(&self, at: usize) -> usize {
        self.word(at).into()
    }

    fn cell_bytes(&self, at: usize) -> usize {
        let rest = match self.word(at + 2) {
            ELSEWHERE => 16,
            len => len.into(),
        };
        CELL_HEAD_BYTES + self.key_bytes(at) + rest
    }

    /// Bytes that cells and slots take.
    pub(crate) fn used(&self) -> usize {
        2 * self.len() + (NODE_BYTES - self.lowest()) - self.garbage()
    }

    /// True where the node should be joined with a neighbour.
    pub(crate) fn is_sparse(&self) -> bool {
        self.used() < FEW_BYTES
    }

    /// True where the other's cells fit as well, with room for one more change.
    pub(crate) fn takes(&self, other: &Self) -> bool {
        self.used() + other.used() + HEAD_BYTES <= NODE_BYTES - FEW_BYTES / 2
    }

    /// The key of a cell.
    pub(crate) fn key(&self, i: usize) -> &[u8] {
        let at = self.cell(i);
        &self.0[at + CELL_HEAD_BYTES..][..self.key_bytes(at)]
    }

    /// What a cell holds.
    pub(crate) fn content(&self, i: usize) -> Content<'_> {
        let at = self.cell(i);
        let rest = &self.0[at + CELL_HEAD_BYTES + self.key_bytes(at)..at + self.cell_bytes(at)];
        let word = |i: usize| u64::from_le_bytes(rest[i..i + 8].try_into().expect("8 bytes"));
        if self.level() > 0 {
            Content::Child(word(0))
        } else if self.word(at + 2) == ELSEWHERE {
            Content::Elsewhere(word(0), word(8))
        } else {
            Content::Here(rest)
        }
    }

    /// The child at a place; nodes above the leaves.
    pub(crate) fn child(&self, i: usize) -> Result<u64, Error> {
        match self.content(i) {
            Content::Child(offset) => Ok(offset),
            _ => Err(Error::Damaged),
        }
    }

    /// Where the key is, or where it would be.
    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.key(middle).cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// The child that may have the key: the last whose key is not above it.
    pub(crate) fn child_for(&self, key: &[u8]) -> Result<usize, Error> {
        match self.search(key) {
            Ok(i) => Ok(i),
            Err(0) => Err(Error::Damaged),
            Err(i) => Ok(i - 1),
        }
    }

    /// Removes a cell.
    pub(crate) fn remove(&mut self, i: usize) {
        let at = self.cell(i);
        let (len, garbage) = (self.len(), self.garbage() + self.cell_bytes(at));
        self.0.copy_within(HEAD_BYTES + 2 * (i + 1)..HEAD_BYTES + 2 * len, HEAD_BYTES + 2 * i);
        self.set_word(2, len as u16 - 1);
        self.set_word(6, garbage as u16);
    }

    /// Puts a cell at a place. False: there is no room, and nothing has changed.
    #[must_use]
    pub(crate) fn insert(&mut self, i: usize, key: &[u8], content: Content<'_>) -> bool {
        let bytes = cell_bytes(key, content);
        if HEAD_BYTES + self.used() + 2 + bytes > NODE_BYTES {
            return false;
        }
        if HEAD_BYTES + 2 * (self.len() + 1) + bytes > self.lowest() {
            self.compact();
        }
        let (at, len) = (self.lowest() - bytes, self.len());
        self.0.copy_within(HEAD_BYTES + 2 * i..HEAD_BYTES + 2 * len, HEAD_BYTES + 2 * (i + 1));
        self.set_word(HEAD_BYTES + 2 * i, at as u16);
        self.set_word(2, len as u16 + 1);
        self.set_word(4, at as u16);
        self.set_word(at, key.len() as u16);
        let rest = at + CELL_HEAD_BYTES + key.len();
        self.0[at + CELL_HEAD_BYTES..rest].copy_from_slice(key);
        match content {
            Content::Here(value) => {
                self.set_word(at + 2, value.len() as u16);
                self.0[rest..rest + value.len()].copy_from_slice(value);
            }
            Content::Elsewhere(offset, len) => {
                self.set_word(at + 2, ELSEWHERE);
                self.0[rest..rest + 8].copy_from_slice(&offset.to_le_bytes());
                self.0[rest + 8..rest + 16].copy_from_slice(&len.to_le_bytes());
            }
            Content::Child(offset) => {
                self.set_word(at + 2, 8);
                self.0[rest..rest + 8].copy_from_slice(&offset.to_le_bytes());
            }
        }
        true
    }

    /// Drops the garbage.
    fn compact(&mut self) {
        let mut page = Self::new(self.level());
        page.extend(self, 0..self.len());
        *self = page;
    }

    /// Appends cells of another node.
    pub(crate) fn extend(&mut self, from: &Self, cells: Range<usize>) {
        for i in cells {
            let fits = self.insert(self.len(), from.key(i), from.content(i));
            assert!(fits, "the caller counted the bytes");
        }
    }

    /// Cuts the node in two so that a cell can be put at place `i`, and puts it there. Gives the right part.
    ///
    /// Where the cell is the last of all, it goes to the right alone: keys that come in order fill their nodes.
    pub(crate) fn split(&mut self, i: usize, key: &[u8], content: Content<'_>) -> Self {
        let bytes: Vec<usize> = (0..self.len()).map(|i| self.cell_bytes(self.cell(i)) + 2).collect();
        let cell = cell_bytes(key, content) + 2;
        let total = bytes.iter().sum::<usize>() + cell;
        // How many of the cells, the new one counted, go to the left.
        let with_new = |n: usize| {
            if n < i {
                bytes[n]
            } else if n == i {
                cell
            } else {
                bytes[n - 1]
            }
        };
        let (mut left, mut left_bytes) = (0, 0);
        if i == self.len() {
            left = i;
        } else {
            while left_bytes + with_new(left) / 2 < total / 2 {
                left_bytes += with_new(left);
                left += 1;
            }
        }
        let cut = if left > i { left - 1 } else { left };
        let mut right = Self::new(self.level());
        right.extend(self, cut..self.len());
        let mut page = Self::new(self.level());
        page.extend(self, 0..cut);
        *self = page;
        let fits = if left > i { self.insert(i, key, content) } else { right.insert(i - cut, key, content) };
        assert!(fits, "a half has room for the longest cell");
        right
    }
}

/// Bytes of a cell without its slot.
pub(crate) fn cell_bytes(key: &[u8], content: Content<'_>) -> usize {
    let rest = match content {
        Content::Here(value) => value.len(),
        Content::Elsewhere(..) => 16,
        Content::Child(_) => 8,
    };
    CELL_HEAD_BYTES + key.len() + rest
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec;
    use proptest::prelude::*;

    fn cell() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        (prop::collection::vec(any::<u8>(), 0..300), prop::collection::vec(any::<u8>(), 0..900))
    }

    proptest! {
        #[test]
        fn a_page_is_a_sorted_map(steps in prop::collection::vec((cell(), any::<bool>()), 0..60)) {
            let (mut page, mut model) = (Page::new(0), BTreeMap::new());
            for ((key, value), remove) in steps {
                match page.search(&key) {
                    Ok(i) => { page.remove(i); model.remove(&key); }
                    Err(i) if remove && page.len() > 0 => {
                        let i = i % page.len();
                        model.remove(page.key(i));
                        page.remove(i);
                    }
                    Err(i) => if page.insert(i, &key, Content::Here(&value)) { model.insert(key, value); },
                }
                prop_assert_eq!(page.check(0), Ok(()));
                prop_assert!((0..page.len()).map(|i| (page.key(i), page.content(i)))
                    .eq(model.iter().map(|(k, v)| (k.as_slice(), Content::Here(v)))));
            }
        }

        #[test]
        fn a_split_keeps_all_cells_in_order(cells: BTreeMap<[u8; 2], u16>, key: [u8; 2], len in 0usize..CELL_BYTES_MAX - 6) {
            let mut page = Page::new(0);
            for (key, len) in &cells {
                let i = page.len();
                if !page.insert(i, key, Content::Here(&vec![7; usize::from(*len) % (CELL_BYTES_MAX - 6)])) { break; }
            }
            if let Err(i) = page.search(&key) {
                let before: Vec<_> = (0..page.len()).map(|i| page.key(i).to_vec()).collect();
                let right = page.split(i, &key, Content::Here(&vec![9; len]));
                prop_assert_eq!(page.check(0), Ok(()));
                prop_assert_eq!(right.check(0), Ok(()));
                let mut after: Vec<_> = (0..page.len()).map(|i| page.key(i).to_vec()).collect();
                after.extend((0..right.len()).map(|i| right.key(i).to_vec()));
                prop_assert_eq!(after.remove(i), key.to_vec());
                prop_assert_eq!(after, before);
                prop_assert!(right.len() > 0);
            }
        }

        #[test]
        fn what_passes_the_check_can_be_read(flips in prop::collection::vec((0usize..NODE_BYTES, any::<u8>()), 1..9), level in 0u16..2) {
            let mut page = Page::new(level);
            for i in 0..9u8 {
                let content = if level == 0 { Content::Here(&[i; 40]) } else { Content::Child(i.into()) };
                assert!(page.insert(i.into(), &[i; 3], content));
            }
            for (at, bits) in flips {
                // Mostly where it matters.
                let at = if at % 2 == 0 { at % 30 } else { at };
                page.bytes_mut()[at] ^= bits;
            }
            if page.check(level).is_ok() {
                for i in 0..page.len() {
                    let _ = (page.key(i), page.content(i));
                }
                let _ = page.search(b"key");
            }
        }
    }
}
