//! Nodes for keys and values of fixed sizes: an array of keys, and one of values or children.
//!
//! A leaf has a *tail* ([`super::tail`]): its arrays hold the entries that it was made with, in the order of their keys, and behind them those of the tail. A leaf
//! is never made so full that it has no room for one.

use alloc::vec::Vec;
use core::marker::PhantomData;

use twizzler_abi::Error;

use super::super::raw::{aligned, bytes_of, value_at};
use super::page::{At, Content, Entry, HEAD_BYTES, Page};
use super::tail::{self, Kind, LEAF_HEAD_BYTES, Order, STEPS, Step, TAIL_MAX, VERSIONS};
use crate::backend::Backend;
use crate::pointer::{Bytes, Ptr, Span};
use crate::reader::Reader;
use crate::stored::{Stored, Value};
use crate::tx::Tx;

/// Sizes of nodes: those that blocks of the heap have.
const SIZES: [usize; 4] = [1024, 2048, 4096, 8192];
/// Least entries of a leaf: as many as make it rare that one is written anew, or as few as large values need.
const LEAF_LEN: usize = 12;
const LEAF_LEN_MIN: usize = 4;
/// Values of so many bytes are copied without asking for memory.
const SHORT_BYTES: usize = 128;
/// Bytes of a leaf that are fetched together.
const SEARCHED_BYTES_MAX: usize = 640;
/// Least children, so that there are few levels.
const INNER_LEN: usize = 40;

/// A copy of a node.
#[derive(Clone, Debug)]
pub struct Arrays<K, V> {
    bytes: Vec<u8>,
    types: PhantomData<fn(K) -> V>,
}

/// Bytes of a node that holds at least `least` of a key and something else behind its head; None: too many for a node.
const fn size_for(least: usize, entry: usize, head: usize) -> Option<usize> {
    let mut i = 0;
    while i < SIZES.len() {
        if head + least * entry <= SIZES[i] {
            return Some(SIZES[i]);
        }
        i += 1;
    }
    None
}

/// Bytes of a leaf.
const fn leaf_bytes(entry: usize, align: usize) -> usize {
    let head = LEAF_HEAD_BYTES + align;
    match (size_for(LEAF_LEN, entry, head), size_for(LEAF_LEN_MIN, entry, head)) {
        (Some(bytes), _) | (None, Some(bytes)) => bytes,
        _ => panic!("the value is too large for a map's node: put it elsewhere and store a pointer to it"),
    }
}

const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

impl<K: Value + Ord, V: Stored> Arrays<K, V> {
    const KEY: usize = size_of::<K>();
    const VALUE: usize = size_of::<V>();
    const LEAF_BYTES: usize = leaf_bytes(Self::KEY + Self::VALUE, align_of::<V>());
    const INNER_BYTES: usize = match size_for(INNER_LEN, Self::KEY + 8, HEAD_BYTES + 8) {
        Some(bytes) => bytes,
        None => panic!("the key is too large for a map's node"),
    };
    /// Entries of a leaf with its tail, and without.
    const LEAF_MAX: usize = min(
        tail::LEN_MAX,
        (Self::LEAF_BYTES - LEAF_HEAD_BYTES - align_of::<V>() + 1) / (Self::KEY + Self::VALUE),
    );
    const LEAF_FULL: usize = Self::LEAF_MAX - max(Self::LEAF_MAX / 8, min(4, Self::LEAF_MAX / 4));
    const INNER_MAX: usize = (Self::INNER_BYTES - HEAD_BYTES - 7) / (Self::KEY + 8);
    const VALUES: usize = aligned::<V>(LEAF_HEAD_BYTES + Self::LEAF_MAX * Self::KEY);
    const CHILDREN: usize = aligned::<u64>(HEAD_BYTES + Self::INNER_MAX * Self::KEY);
    /// What a description says: where values and children begin.
    pub(super) const DESCRIBED: [u64; 2] = [Self::VALUES as u64, Self::CHILDREN as u64];
    const SOUND: () = {
        assert!(Self::KEY > 0, "a key has at least one byte");
        assert!(align_of::<K>() <= 16 && align_of::<V>() <= 16, "nodes are aligned to 16 bytes");
        assert!(Self::VALUES + Self::LEAF_MAX * Self::VALUE <= Self::LEAF_BYTES);
        assert!(Self::CHILDREN + Self::INNER_MAX * 8 <= Self::INNER_BYTES);
    };

    /// Entries beyond which it is split.
    fn max(&self) -> usize {
        if self.level() == 0 { Self::LEAF_FULL } else { Self::INNER_MAX }
    }

    /// Where the keys of a node are.
    #[inline(always)]
    const fn keys_at(level: u16) -> usize {
        if level == 0 { LEAF_HEAD_BYTES } else { HEAD_BYTES }
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
        let key = |i: usize| Self::keys_at(self.level()) + i * Self::KEY;
        let (from_key, end_key, to_key) = (key(from), key(len), key(to));
        self.bytes.copy_within(from_key..end_key, to_key);
        self.bytes.copy_within(second + from * size..second + len * size, second + to * size);
    }

    fn put(&mut self, i: usize, key: &K, content: Content<'_>) {
        let at = Self::keys_at(self.level()) + i * Self::KEY;
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
        let first = at.offset + Self::keys_at(at.level) as u64;
        at.area.span(first, (at.len + at.tail) as u64).ok_or(Error::Damaged)
    }

    /// How many of the keys up to place `to`, counting those before `from`, are below what `below` says. `number`: where the key of a place lies.
    #[inline(always)]
    fn partition<'s>(
        reader: &impl Reader<'s>,
        keys: Span<'s, K>,
        (from, to): (usize, usize),
        number: impl Fn(usize) -> usize,
        below: impl Fn(&K) -> bool,
    ) -> Result<usize, Error> {
        let (mut first, mut len) = (from, to.saturating_sub(from));
        // No branch depends on the comparison: what the processor would guess wrongly half the time.
        while len > 0 {
            let half = len.div_ceil(2);
            let key = reader.get(keys.index(number(first + half - 1) as u64).ok_or(Error::Damaged)?);
            first = if below(&key) { first + half } else { first };
            len -= half;
        }
        Ok(first)
    }
}

impl<K: Value + Ord, V: Stored> Page for Arrays<K, V> {
    type Key = K;

    const SEARCHED_LINES: u64 =
        min(LEAF_HEAD_BYTES + Self::LEAF_MAX * Self::KEY, SEARCHED_BYTES_MAX).div_ceil(64) as u64;

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

    fn settle(&mut self, level: u16) -> Result<(), Error> {
        if self.level() != level || self.len() > Self::len_max(level) {
            return Err(Error::Damaged);
        }
        if level > 0 {
            return Ok(());
        }
        let version = |i: usize| value_at::<u32>(&self.bytes, VERSIONS + 4 * i);
        let tail = (0..TAIL_MAX).take_while(|&i| version(i) != 0).count();
        if tail == 0 {
            return Ok(());
        }
        let all = self.len() + tail;
        if all > Self::LEAF_MAX {
            return Err(Error::Damaged);
        }
        let order = Order::after(self.len(), (0..tail).map(|i| Ok(self.bytes[STEPS + i])))?;
        let mut page = Self::new(0);
        page.bytes[..STEPS].copy_from_slice(&self.bytes[..STEPS]);
        let mut place = 0;
        while place < order.len() {
            // What lies in a row is copied at once.
            let first = order.number(place);
            let mut len = 1;
            while place + len < order.len() && order.number(place + len) == first + len {
                len += 1;
            }
            for (array, size) in [(LEAF_HEAD_BYTES, Self::KEY), (Self::VALUES, Self::VALUE)] {
                let part = &self.bytes[array + first * size..array + (first + len) * size];
                page.bytes[array + place * size..][..len * size].copy_from_slice(part);
            }
            place += len;
        }
        page.set_len(order.len());
        *self = page;
        Ok(())
    }

    fn key(&self, i: usize) -> K {
        value_at(&self.bytes, Self::keys_at(self.level()) + i * Self::KEY)
    }

    fn content(&self, i: usize) -> Content<'_> {
        let (second, size) = Self::second(self.level());
        let bytes = &self.bytes[second + i * size..][..size];
        if self.level() == 0 { Content::Here(bytes) } else { Content::Child(value_at(bytes, 0)) }
    }

    fn replace(&mut self, i: usize, key: &K, content: Content<'_>) -> bool {
        self.put(i, key, content);
        true
    }

    fn insert(&mut self, i: usize, key: &K, content: Content<'_>) -> bool {
        if self.len() >= self.max() {
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
    fn tail<'s>(reader: &impl Reader<'s>, at: &At<'s>, number: u64) -> Result<usize, Error> {
        let versions = at.place::<[u32; TAIL_MAX]>(VERSIONS)?;
        let version = |i: usize| versions.index(i).map_or(0, |place| u64::from(reader.get(place)));
        if version(0) == 0 {
            return Ok(0);
        }
        let most = number.saturating_sub(at.birth);
        let tail = (0..TAIL_MAX).take_while(|&i| (1..=most).contains(&version(i))).count();
        if at.len + tail > Self::LEAF_MAX { Err(Error::Damaged) } else { Ok(tail) }
    }

    #[inline]
    fn order<'s>(reader: &impl Reader<'s>, at: &At<'s>) -> Result<Order, Error> {
        if at.tail == 0 {
            return Ok(Order::plain(at.len));
        }
        Order::after(at.len, (0..at.tail).map(|i| Ok(reader.get(at.place(STEPS + i)?))))
    }

    fn append<'s, B: Backend>(
        tx: &mut Tx<'s, B>,
        at: &At<'s>,
        order: &Order,
        entry: &Entry<'_, K>,
        stamp: u64,
        old: &mut dyn FnMut(Content<'_>),
    ) -> Result<bool, Error> {
        let version = |i: usize| at.place::<u32>(VERSIONS + 4 * i);
        let after = stamp.checked_sub(at.birth).filter(|&after| after > 0);
        let Some(after) = after.and_then(|after| u32::try_from(after).ok()) else { return Ok(false) };
        let replaced = entry.equal.then(|| order.number(entry.place));
        let is_own = |i: usize| Ok::<_, Error>(tx.get(version(i)?) == after);
        let own = match (replaced.and_then(|number| number.checked_sub(at.len)), entry.value) {
            (Some(i), Some(_)) => is_own(i)?,
            _ => false,
        };
        let number = at.len + at.tail;
        if !entry.equal && order.len() >= Self::LEAF_FULL {
            // To be split now: then replacing values never has to.
            return Ok(false);
        }
        if !own && (at.tail == TAIL_MAX || number == Self::LEAF_MAX) {
            return Ok(false);
        }
        let value_at = |number: usize| {
            at.area.span::<u8>(at.offset + (Self::VALUES + number * Self::VALUE) as u64, Self::VALUE as u64)
        };
        if let Some(replaced) = replaced {
            let (mut short, mut long) = ([0; SHORT_BYTES], Vec::new());
            let bytes = if Self::VALUE <= SHORT_BYTES {
                &mut short[..Self::VALUE]
            } else {
                long.resize(Self::VALUE, 0);
                &mut long
            };
            tx.read(value_at(replaced).ok_or(Error::Damaged)?, 0, bytes)?;
            old(Content::Here(bytes));
        }
        let number = replaced.filter(|_| own).unwrap_or(number);
        if let Some(value) = entry.value {
            let to = value_at(number).ok_or(Error::Damaged)?;
            if own {
                tx.write(to, 0, value)?;
            } else {
                // Nobody looks there before the step is seen.
                tx.write_unseen(to, value)?;
            }
        }
        if !own {
            let kind = match (entry.equal, entry.value) {
                (_, None) => Kind::Remove,
                (true, _) => Kind::Replace,
                (false, _) => Kind::Insert,
            };
            let step = Step { kind, place: entry.place as u8 };
            tx.set(at.place(LEAF_HEAD_BYTES + number * Self::KEY)?, *entry.key)?;
            tx.set(at.place(STEPS + at.tail)?, step.encode())?;
            tx.set(version(at.tail)?, after)?;
        }
        Ok(true)
    }

    #[inline]
    fn seek<'s>(
        reader: &impl Reader<'s>,
        at: &At<'s>,
        order: &Order,
        key: &K,
    ) -> Result<(usize, bool), Error> {
        let keys = Self::keys(at)?;
        let place = Self::partition(
            reader,
            keys,
            (0, order.len()),
            |place| order.number(place),
            |other| other < key,
        )?;
        let equal = place < order.len()
            && keys.index(order.number(place) as u64).is_some_and(|place| reader.get(place) == *key);
        Ok((place, equal))
    }

    #[inline]
    fn find<'s>(reader: &impl Reader<'s>, at: &At<'s>, key: &K) -> Result<Option<usize>, Error> {
        let keys = Self::keys(at)?;
        for i in (0..at.tail).rev() {
            if reader.get(keys.index((at.len + i) as u64).ok_or(Error::Damaged)?) == *key {
                let step = Step::decode(reader.get(at.place(STEPS + i)?))?;
                return Ok((step.kind != Kind::Remove).then_some(at.len + i));
            }
        }
        let place = Self::partition(reader, keys, (0, at.len), |place| place, |other| other < key)?;
        let equal = place < at.len && keys.index(place as u64).is_some_and(|place| reader.get(place) == *key);
        Ok(equal.then_some(place))
    }

    #[inline]
    fn seek_child<'s>(reader: &impl Reader<'s>, at: &At<'s>, key: &K) -> Result<usize, Error> {
        let i = Self::partition(reader, Self::keys(at)?, (1, at.len), |place| place, |other| other <= key)?;
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
        if at.level != 0 || i >= at.len + at.tail {
            return Err(Error::Damaged);
        }
        let offset = at.offset + (Self::VALUES + i * Self::VALUE) as u64;
        at.area.span(offset, Self::VALUE as u64).ok_or(Error::Damaged)
    }
}
