//! Nodes for keys and values of fixed sizes: an array of keys, and one of values or children.

use alloc::vec::Vec;
use core::marker::PhantomData;

use twizzler_abi::Error;

use super::super::raw::{aligned, bytes_of, value_at};
use super::page::{At, Content, HEAD_BYTES, Page};
use crate::pointer::{Bytes, Ptr, Span};
use crate::reader::Reader;
use crate::stored::{Stored, Value};

/// Sizes of nodes: those that blocks of the heap have.
const SIZES: [usize; 5] = [512, 1024, 2048, 4096, 8192];
/// Least entries of a leaf, since a change copies a leaf; and least children, so that there are few levels.
const LEAF_LEN: usize = 4;
const INNER_LEN: usize = 40;

/// A copy of a node.
#[derive(Clone, Debug)]
pub struct Arrays<K, V> {
    bytes: Vec<u8>,
    types: PhantomData<fn(K) -> V>,
}

/// Bytes of a node that holds at least `least` of a key and something else.
const fn size_for(least: usize, entry: usize, align: usize) -> usize {
    let mut i = 0;
    while i < SIZES.len() {
        if HEAD_BYTES + align + least * entry <= SIZES[i] {
            return SIZES[i];
        }
        i += 1;
    }
    panic!("the value is too large for a map's node: put it elsewhere and store a pointer to it")
}

impl<K: Value + Ord, V: Stored> Arrays<K, V> {
    const KEY: usize = size_of::<K>();
    const VALUE: usize = size_of::<V>();
    const LEAF_BYTES: usize = size_for(LEAF_LEN, Self::KEY + Self::VALUE, align_of::<V>());
    const INNER_BYTES: usize = size_for(INNER_LEN, Self::KEY + 8, 8);
    const LEAF_MAX: usize = (Self::LEAF_BYTES - HEAD_BYTES - align_of::<V>() + 1) / (Self::KEY + Self::VALUE);
    const INNER_MAX: usize = (Self::INNER_BYTES - HEAD_BYTES - 7) / (Self::KEY + 8);
    const VALUES: usize = aligned::<V>(HEAD_BYTES + Self::LEAF_MAX * Self::KEY);
    const CHILDREN: usize = aligned::<u64>(HEAD_BYTES + Self::INNER_MAX * Self::KEY);
    /// What a description says: where values and children begin.
    pub(super) const DESCRIBED: [u64; 2] = [Self::VALUES as u64, Self::CHILDREN as u64];
    const SOUND: () = {
        assert!(Self::KEY > 0, "a key has at least one byte");
        assert!(align_of::<K>() <= 16 && align_of::<V>() <= 16, "nodes are aligned to 16 bytes");
        assert!(Self::VALUES + Self::LEAF_MAX * Self::VALUE <= Self::LEAF_BYTES);
        assert!(Self::CHILDREN + Self::INNER_MAX * 8 <= Self::INNER_BYTES);
    };

    fn max(&self) -> usize {
        Self::len_max(self.level())
    }

    /// Where the second array is, and the size of its elements.
    fn second(level: u16) -> (usize, usize) {
        if level == 0 { (Self::VALUES, Self::VALUE) } else { (Self::CHILDREN, 8) }
    }

    fn set_len(&mut self, len: usize) {
        self.bytes[2..4].copy_from_slice(&(len as u16).to_le_bytes());
    }

    /// Moves entries from place `from` on to place `to`.
    fn shift(&mut self, from: usize, to: usize) {
        let len = self.len();
        let (second, size) = Self::second(self.level());
        let key = |i: usize| HEAD_BYTES + i * Self::KEY;
        self.bytes.copy_within(key(from)..key(len), key(to));
        self.bytes.copy_within(second + from * size..second + len * size, second + to * size);
    }

    fn put(&mut self, i: usize, key: &K, content: Content<'_>) {
        let at = HEAD_BYTES + i * Self::KEY;
        self.bytes[at..at + Self::KEY].copy_from_slice(bytes_of(key));
        let (second, size) = Self::second(self.level());
        let to = &mut self.bytes[second + i * size..][..size];
        match content {
            Content::Here(value) => to.copy_from_slice(value),
            Content::Child(child) => to.copy_from_slice(&child.to_le_bytes()),
            Content::Elsewhere(..) => unreachable!("values of a fixed size lie in their node"),
        }
    }

    /// Moves the entries from `cut` on to a new node.
    fn cut(&mut self, cut: usize) -> Self {
        let mut right = Self::new(self.level());
        for i in cut..self.len() {
            right.put(i - cut, &self.key(i), self.content(i));
        }
        right.set_len(self.len() - cut);
        self.set_len(cut);
        right
    }

    #[inline(always)]
    fn keys<'s>(at: &At<'s>) -> Result<Span<'s, K>, Error> {
        at.area.span(at.offset + HEAD_BYTES as u64, at.len as u64).ok_or(Error::Damaged)
    }

    /// How many of the keys from `from` on are below `key`, or not above it where `or_equal`.
    #[inline(always)]
    fn partition<'s>(
        reader: &impl Reader<'s>,
        keys: Span<'s, K>,
        from: u64,
        below: impl Fn(&K) -> bool,
    ) -> Result<usize, Error> {
        let (mut first, mut len) = (from, keys.len().saturating_sub(from));
        // No branch depends on the comparison: what the processor would guess wrongly half the time.
        while len > 0 {
            let half = len.div_ceil(2);
            let key = reader.get(keys.index(first + half - 1).ok_or(Error::Damaged)?);
            first = if below(&key) { first + half } else { first };
            len -= half;
        }
        Ok(first as usize)
    }
}

impl<K: Value + Ord, V: Stored> Page for Arrays<K, V> {
    type Key = K;

    fn node_bytes(level: u16) -> usize {
        let () = Self::SOUND;
        if level == 0 { Self::LEAF_BYTES } else { Self::INNER_BYTES }
    }

    #[inline(always)]
    fn len_max(level: u16) -> usize {
        if level == 0 { Self::LEAF_MAX } else { Self::INNER_MAX }
    }

    fn new(level: u16) -> Self {
        let mut bytes = alloc::vec![0; Self::node_bytes(level)];
        bytes[..2].copy_from_slice(&level.to_le_bytes());
        Self::of(bytes)
    }

    fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, types: PhantomData }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn check(&self, level: u16) -> Result<(), Error> {
        if self.level() == level && self.len() <= self.max() { Ok(()) } else { Err(Error::Damaged) }
    }

    fn key(&self, i: usize) -> K {
        value_at(&self.bytes, HEAD_BYTES + i * Self::KEY)
    }

    fn content(&self, i: usize) -> Content<'_> {
        let (second, size) = Self::second(self.level());
        let bytes = &self.bytes[second + i * size..][..size];
        if self.level() == 0 { Content::Here(bytes) } else { Content::Child(value_at(bytes, 0)) }
    }

    fn insert(&mut self, i: usize, key: &K, content: Content<'_>) -> bool {
        if self.len() == self.max() {
            return false;
        }
        self.shift(i, i + 1);
        self.put(i, key, content);
        self.set_len(self.len() + 1);
        true
    }

    fn remove(&mut self, i: usize) {
        self.shift(i + 1, i);
        self.set_len(self.len() - 1);
    }

    fn set_child(&mut self, i: usize, child: u64) {
        let at = Self::CHILDREN + i * 8;
        self.bytes[at..at + 8].copy_from_slice(&child.to_le_bytes());
    }

    fn split(&mut self, i: usize, key: &K, content: Content<'_>) -> Self {
        let len = self.len();
        let cut = if i == len { len } else { len / 2 };
        let mut right = self.cut(cut);
        let fits = if i < cut || (i == cut && i < len) {
            self.insert(i, key, content)
        } else {
            right.insert(i - cut, key, content)
        };
        assert!(fits, "each half has room");
        right
    }

    fn is_sparse(&self) -> bool {
        self.len() < self.max() / 3
    }

    fn takes(&self, other: &Self) -> bool {
        self.len() + other.len() <= self.max() - self.max() / 6
    }

    fn is_full(&self) -> bool {
        self.len() >= self.max() - self.max() / 8
    }

    #[inline]
    fn seek<'s>(reader: &impl Reader<'s>, at: &At<'s>, key: &K) -> Result<(usize, bool), Error> {
        let keys = Self::keys(at)?;
        let i = Self::partition(reader, keys, 0, |other| other < key)?;
        let equal = keys.index(i as u64).is_some_and(|place| reader.get(place) == *key);
        Ok((i, equal))
    }

    #[inline]
    fn seek_child<'s>(reader: &impl Reader<'s>, at: &At<'s>, key: &K) -> Result<usize, Error> {
        let i = Self::partition(reader, Self::keys(at)?, 1, |other| other <= key)?;
        i.checked_sub(1).ok_or(Error::Damaged)
    }

    #[inline]
    fn child_place<'s>(_: &impl Reader<'s>, at: &At<'s>, i: usize) -> Result<Ptr<'s, u64>, Error> {
        if at.level == 0 || i >= at.len {
            return Err(Error::Damaged);
        }
        at.place(Self::CHILDREN + i * 8)
    }

    #[inline]
    fn read_key<'s>(reader: &impl Reader<'s>, at: &At<'s>, i: usize) -> Result<K, Error> {
        Ok(reader.get(Self::keys(at)?.index(i as u64).ok_or(Error::Damaged)?))
    }

    #[inline]
    fn read_value<'s>(_: &impl Reader<'s>, at: &At<'s>, i: usize) -> Result<Bytes<'s>, Error> {
        if at.level != 0 || i >= at.len {
            return Err(Error::Damaged);
        }
        let offset = at.offset + (Self::VALUES + i * Self::VALUE) as u64;
        at.area.span(offset, Self::VALUE as u64).ok_or(Error::Damaged)
    }
}
