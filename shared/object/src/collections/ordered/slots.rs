//! Nodes for keys and values of any length: a table of slots in the order of the keys, and cells.
//!
//! | bytes | |
//! |---|---|
//! | 32 | head; its third word is the offset of the lowest cell, its fourth the bytes of cells that were given up |
//! | 2 for each cell | its offset; in the order of the keys |
//! | … | free |
//! | … | cells, from the end downwards |
//!
//! A cell: length of the key (2), length of what follows it or [`ELSEWHERE`] (2), the key, the rest. In a leaf the rest is the
//! value; or, of a value that lies elsewhere, offset (8) and length (8). Above the leaves it is the child's offset (8), aligned by bytes
//! before it that mean nothing, and the key is the least that may be in the child; that of a node's first child means nothing. Offsets count from the start of the object that
//! holds all of the map.
//!
//! A copy is checked once, whole; after that, cells lie within the page and offsets may still be wrong. Where a node is looked into in
//! its place, each step is checked.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::ops::Range;

use twizzler_abi::Error;

use super::super::raw::value_at;
use super::VALUE_BYTES_MAX;
use super::page::{At, Content, HEAD_BYTES, Page};
use super::tail::Order;
use crate::pointer::{Bytes, Ptr};
use crate::reader::Reader;

/// Bytes of a node.
const NODE_BYTES: usize = 4096;
/// Longest key.
pub const KEY_BYTES_MAX: usize = 1024;
const CELL_HEAD_BYTES: usize = 4;
/// Longest cell: of any three, two fit one node, so that a split always makes room.
pub(super) const CELL_BYTES_MAX: usize = 1320;
/// In place of a length: the value lies elsewhere.
const ELSEWHERE: u16 = 0xffff;
/// Nodes with fewer bytes in use are joined with a neighbour where both fit one.
const FEW_BYTES: usize = NODE_BYTES / 3;

/// A copy of a node.
#[derive(Clone, Debug)]
pub struct Slots(Vec<u8>);

impl Slots {
    fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn set_word(&mut self, at: usize, word: u16) {
        self.0[at..at + 2].copy_from_slice(&word.to_le_bytes());
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
        padded(self.level(), CELL_HEAD_BYTES + self.key_bytes(at) + rest)
    }

    /// Where what follows the key is: at the end of the cell.
    fn rest(&self, at: usize) -> Range<usize> {
        let end = at + self.cell_bytes(at);
        let len = match self.word(at + 2) {
            ELSEWHERE => 16,
            len => len.into(),
        };
        end - len..end
    }

    fn key_ref(&self, i: usize) -> &[u8] {
        let at = self.cell(i);
        &self.0[at + CELL_HEAD_BYTES..][..self.key_bytes(at)]
    }

    /// Bytes that cells and slots take.
    pub(super) fn used(&self) -> usize {
        2 * self.len() + (NODE_BYTES - self.lowest()) - self.garbage()
    }

    pub(super) fn check(&self, level: u16) -> Result<(), Error> {
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
            let wrong_kind = level > 0 && (self.word(at + 2) != 8 || !at.is_multiple_of(8));
            if end > NODE_BYTES || wrong_kind || self.key_bytes(at) > KEY_BYTES_MAX {
                return Err(Error::Damaged);
            }
            used += end - at;
        }
        if used + self.garbage() != NODE_BYTES - self.lowest() { Err(Error::Damaged) } else { Ok(()) }
    }

    /// Drops the garbage.
    fn compact(&mut self) {
        let mut page = Self::new(self.level());
        page.extend(self, 0..self.len());
        page.0[8..HEAD_BYTES].copy_from_slice(&self.0[8..HEAD_BYTES]);
        *self = page;
    }

    /// Appends cells of another node.
    pub(super) fn extend(&mut self, from: &Self, cells: Range<usize>) {
        for i in cells {
            let fits = self.insert(self.len(), from.key_ref(i), from.content(i));
            assert!(fits, "the caller counted the bytes");
        }
    }
}

/// Bytes of a cell without its slot.
pub(super) fn cell_bytes(key: &[u8], content: Content<'_>) -> usize {
    let rest = match content {
        Content::Here(value) => value.len(),
        Content::Elsewhere(..) => 16,
        Content::Child(_) => 8,
    };
    padded(matches!(content, Content::Child(_)).into(), CELL_HEAD_BYTES + key.len() + rest)
}

/// Bytes of a cell: above the leaves, whole words, so that those of children are aligned.
const fn padded(level: u16, bytes: usize) -> usize {
    if level > 0 { bytes.next_multiple_of(8) } else { bytes }
}

impl Page for Slots {
    type Key = [u8];

    fn node_bytes(_: u16) -> usize {
        NODE_BYTES
    }

    fn len_max(_: u16) -> usize {
        (NODE_BYTES - HEAD_BYTES) / (2 + CELL_HEAD_BYTES)
    }

    fn new(level: u16) -> Self {
        let mut page = Self(alloc::vec![0; NODE_BYTES]);
        page.set_word(0, level);
        page.set_word(4, NODE_BYTES as u16);
        page
    }

    fn of(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    fn settle(&mut self, level: u16) -> Result<(), Error> {
        self.check(level)
    }

    fn key(&self, i: usize) -> Vec<u8> {
        self.key_ref(i).to_vec()
    }

    fn content(&self, i: usize) -> Content<'_> {
        let at = self.cell(i);
        let rest = &self.0[self.rest(at)];
        if self.level() > 0 {
            Content::Child(value_at(rest, 0))
        } else if self.word(at + 2) == ELSEWHERE {
            Content::Elsewhere(value_at(rest, 0), value_at(rest, 8))
        } else {
            Content::Here(rest)
        }
    }

    fn remove(&mut self, i: usize) {
        let at = self.cell(i);
        let (len, garbage) = (self.len(), self.garbage() + self.cell_bytes(at));
        self.0.copy_within(HEAD_BYTES + 2 * (i + 1)..HEAD_BYTES + 2 * len, HEAD_BYTES + 2 * i);
        self.set_word(2, len as u16 - 1);
        self.set_word(6, garbage as u16);
    }

    fn insert(&mut self, i: usize, key: &[u8], content: Content<'_>) -> bool {
        let bytes = cell_bytes(key, content);
        if HEAD_BYTES + self.used() + 2 + bytes > NODE_BYTES {
            return false;
        }
        if HEAD_BYTES + 2 * (self.len() + 1) + bytes > self.lowest() {
            self.compact();
        }
        let lowest = self.lowest();
        let (at, len) = (lowest - bytes, self.len());
        self.0.copy_within(HEAD_BYTES + 2 * i..HEAD_BYTES + 2 * len, HEAD_BYTES + 2 * (i + 1));
        self.set_word(HEAD_BYTES + 2 * i, at as u16);
        self.set_word(2, len as u16 + 1);
        self.set_word(4, at as u16);
        self.set_word(at, key.len() as u16);
        self.0[at + CELL_HEAD_BYTES..][..key.len()].copy_from_slice(key);
        match content {
            Content::Here(value) => {
                self.set_word(at + 2, value.len() as u16);
                self.0[lowest - value.len()..lowest].copy_from_slice(value);
            }
            Content::Elsewhere(offset, len) => {
                self.set_word(at + 2, ELSEWHERE);
                self.0[lowest - 16..lowest - 8].copy_from_slice(&offset.to_le_bytes());
                self.0[lowest - 8..lowest].copy_from_slice(&len.to_le_bytes());
            }
            Content::Child(offset) => {
                self.set_word(at + 2, 8);
                self.0[lowest - 8..lowest].copy_from_slice(&offset.to_le_bytes());
            }
        }
        true
    }

    fn set_child(&mut self, i: usize, child: u64) {
        let rest = self.rest(self.cell(i));
        self.0[rest].copy_from_slice(&child.to_le_bytes());
    }

    fn split(&mut self, i: usize, key: &[u8], content: Content<'_>) -> Self {
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
        page.0[8..HEAD_BYTES].copy_from_slice(&self.0[8..HEAD_BYTES]);
        *self = page;
        let fits = if left > i { self.insert(i, key, content) } else { right.insert(i - cut, key, content) };
        assert!(fits, "a half has room for the longest cell");
        right
    }

    fn is_sparse(&self) -> bool {
        self.used() < FEW_BYTES
    }

    fn takes(&self, other: &Self) -> bool {
        self.used() + other.used() + HEAD_BYTES <= NODE_BYTES - FEW_BYTES / 2
    }

    fn is_full(&self) -> bool {
        self.used() >= NODE_BYTES - NODE_BYTES / 8
    }

    fn too_long(key: &[u8]) -> bool {
        key.len() > KEY_BYTES_MAX
    }

    fn fits(key: &[u8], value: &[u8]) -> bool {
        cell_bytes(key, Content::Here(value)) <= CELL_BYTES_MAX
    }

    fn seek<'s>(
        reader: &impl Reader<'s>,
        at: &At<'s>,
        _: &Order,
        key: &[u8],
    ) -> Result<(usize, bool), Error> {
        search(reader, at, 0, key)
    }

    fn seek_child<'s>(reader: &impl Reader<'s>, at: &At<'s>, key: &[u8]) -> Result<usize, Error> {
        let (i, equal) = search(reader, at, 1, key)?;
        if equal { Ok(i) } else { i.checked_sub(1).ok_or(Error::Damaged) }
    }

    fn child_place<'s>(reader: &impl Reader<'s>, at: &At<'s>, i: usize) -> Result<Ptr<'s, u64>, Error> {
        let (_, rest, len) = cell(reader, at, i)?;
        let first = rest.index(0).filter(|_| at.level > 0 && len == 8).ok_or(Error::Damaged)?;
        at.area.place(first.offset()).ok_or(Error::Damaged)
    }

    fn read_key<'s>(reader: &impl Reader<'s>, at: &At<'s>, i: usize) -> Result<Vec<u8>, Error> {
        Ok(reader.to_vec(cell(reader, at, i)?.0))
    }

    fn read_value<'s>(reader: &impl Reader<'s>, at: &At<'s>, i: usize) -> Result<Bytes<'s>, Error> {
        let (_, rest, len) = cell(reader, at, i)?;
        if at.level != 0 {
            return Err(Error::Damaged);
        }
        if len != ELSEWHERE {
            return Ok(rest);
        }
        long(at, read_word(reader, rest, 0)?, read_word(reader, rest, 8)?)
    }
}

/// A value that lies elsewhere.
fn long<'s>(at: &At<'s>, offset: u64, len: u64) -> Result<Bytes<'s>, Error> {
    at.area.span(offset, len).filter(|_| len <= VALUE_BYTES_MAX as u64).ok_or(Error::Damaged)
}

fn read_word<'s>(reader: &impl Reader<'s>, from: Bytes<'s>, at: u64) -> Result<u64, Error> {
    let mut word = [0; 8];
    reader.read(from, at, &mut word)?;
    Ok(u64::from_le_bytes(word))
}

/// A cell where it lies: its key, what follows, and the length word of that.
fn cell<'s>(reader: &impl Reader<'s>, at: &At<'s>, i: usize) -> Result<(Bytes<'s>, Bytes<'s>, u16), Error> {
    if i >= at.len {
        return Err(Error::Damaged);
    }
    let slot: u16 = reader.get(at.place(HEAD_BYTES + 2 * i)?);
    let node: Bytes<'s> = at.bytes::<Slots>()?;
    let mut head = [0; CELL_HEAD_BYTES];
    reader.read(node, slot.into(), &mut head).map_err(|_| Error::Damaged)?;
    let [a, b, c, d] = head;
    let (key_bytes, len) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
    let rest_bytes = if len == ELSEWHERE { 16 } else { len };
    let start = u64::from(slot) + CELL_HEAD_BYTES as u64;
    let key = node.slice(start, key_bytes.into());
    let len_bytes = padded(at.level, CELL_HEAD_BYTES + usize::from(key_bytes) + usize::from(rest_bytes));
    let rest = node.slice(u64::from(slot) + len_bytes as u64 - u64::from(rest_bytes), rest_bytes.into());
    key.zip(rest).map(|(key, rest)| (key, rest, len)).ok_or(Error::Damaged)
}

/// Where the key is from cell `low` on, or where it would be.
fn search<'s>(
    reader: &impl Reader<'s>,
    at: &At<'s>,
    mut low: usize,
    key: &[u8],
) -> Result<(usize, bool), Error> {
    let mut high = at.len;
    while low < high {
        let middle = usize::midpoint(low, high);
        match reader.compare(cell(reader, at, middle)?.0, key) {
            Ordering::Less => low = middle + 1,
            Ordering::Equal => return Ok((middle, true)),
            Ordering::Greater => high = middle,
        }
    }
    Ok((low, false))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec;
    use proptest::prelude::*;

    fn search(page: &Slots, key: &[u8]) -> Result<usize, usize> {
        let keys: Vec<_> = (0..page.len()).map(|i| page.key_ref(i)).collect();
        keys.binary_search(&key)
    }

    fn cell() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        (prop::collection::vec(any::<u8>(), 0..300), prop::collection::vec(any::<u8>(), 0..900))
    }

    proptest! {
        #[test]
        fn a_page_is_a_sorted_map(steps in prop::collection::vec((cell(), any::<bool>()), 0..60)) {
            let (mut page, mut model) = (Slots::new(0), BTreeMap::new());
            for ((key, value), remove) in steps {
                match search(&page, &key) {
                    Ok(i) => { page.remove(i); model.remove(&key); }
                    Err(i) if remove && page.len() > 0 => {
                        let i = i % page.len();
                        model.remove(page.key_ref(i));
                        page.remove(i);
                    }
                    Err(i) => if page.insert(i, &key, Content::Here(&value)) { model.insert(key, value); },
                }
                prop_assert_eq!(page.check(0), Ok(()));
                prop_assert!((0..page.len()).map(|i| (page.key_ref(i), page.content(i)))
                    .eq(model.iter().map(|(k, v)| (k.as_slice(), Content::Here(v)))));
            }
        }

        #[test]
        fn a_split_keeps_all_cells_in_order(cells: BTreeMap<[u8; 2], u16>, key: [u8; 2], len in 0usize..CELL_BYTES_MAX - 6) {
            let mut page = Slots::new(0);
            for (key, len) in &cells {
                let i = page.len();
                if !page.insert(i, key, Content::Here(&vec![7; usize::from(*len) % (CELL_BYTES_MAX - 6)])) { break; }
            }
            if let Err(i) = search(&page, &key) {
                let before: Vec<_> = (0..page.len()).map(|i| page.key_ref(i).to_vec()).collect();
                let right = page.split(i, &key, Content::Here(&vec![9; len]));
                prop_assert_eq!(page.check(0), Ok(()));
                prop_assert_eq!(right.check(0), Ok(()));
                let mut after: Vec<_> = (0..page.len()).map(|i| page.key_ref(i).to_vec()).collect();
                after.extend((0..right.len()).map(|i| right.key_ref(i).to_vec()));
                prop_assert_eq!(after.remove(i), key.to_vec());
                prop_assert_eq!(after, before);
                prop_assert!(right.len() > 0);
            }
        }

        #[test]
        fn what_passes_the_check_can_be_read(flips in prop::collection::vec((0usize..NODE_BYTES, any::<u8>()), 1..9), level in 0u16..2) {
            let mut page = Slots::new(level);
            for i in 0..9u8 {
                let content = if level == 0 { Content::Here(&[i; 40]) } else { Content::Child(i.into()) };
                assert!(page.insert(i.into(), &[i; 3], content));
            }
            for (at, bits) in flips {
                // Mostly where it matters.
                let at = if at % 2 == 0 { at % 60 } else { at };
                page.bytes_mut()[at] ^= bits;
            }
            if page.check(level).is_ok() {
                for i in 0..page.len() {
                    let _ = (page.key_ref(i), page.content(i));
                }
                let _ = search(&page, b"key");
            }
        }
    }
}
