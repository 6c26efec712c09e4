//! An ordered map from byte strings to byte strings: a B+ tree in one object.
//!
//! All nodes and long values are allocations of the object that the root lies in. Every change is part of the caller's
//! transaction, so it happens wholly or not at all with whatever else is in it.

use alloc::vec::Vec;
use core::ops::RangeBounds;

use twizzler_abi::Error;

use super::node::{CELL_BYTES_MAX, Content, KEY_BYTES_MAX, NODE_BYTES, Node, Page, cell_bytes};
use super::range::Range;
use crate::backend::Backend;
use crate::pointer::{Bytes, InvPtr, Ptr};
use crate::reader::Reader;
use crate::tx::Tx;

/// Longest value.
pub const VALUE_BYTES_MAX: usize = 64 << 20;
/// Levels that a map has at most: far more than fit an object.
const LEVELS_MAX: u64 = 12;
/// Bytes that are alike for so long are not worth a range of their own.
const GAP_BYTES: usize = 32;

record! {
    /// The root of a map. All zero is an empty map.
    pub struct MapRoot: "twizzler.map", 1 {
        /// The root node.
        pub(crate) root: InvPtr<Node>,
        /// Levels; 0 where the map is empty.
        pub(crate) levels: u64,
        /// Entries.
        pub(crate) len: u64,
        /// Bytes of all keys and values.
        pub(crate) bytes: u64,
    }
}

/// A map whose root lies somewhere in an object.
#[derive(Clone, Copy, Debug)]
pub struct BytesMap<'s> {
    pub(super) root: Ptr<'s, MapRoot>,
}

/// A node that came into being by a split, and the least key that may be in it.
struct Split {
    key: Vec<u8>,
    offset: u64,
}

impl<'s> BytesMap<'s> {
    /// The map of that root.
    #[must_use]
    pub const fn new(root: Ptr<'s, MapRoot>) -> Self {
        Self { root }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self, reader: &impl Reader<'s>) -> u64 {
        reader.get(self.root.at(MapRoot::len))
    }

    /// True without entries.
    #[must_use]
    pub fn is_empty(&self, reader: &impl Reader<'s>) -> bool {
        self.len(reader) == 0
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub fn len_bytes(&self, reader: &impl Reader<'s>) -> u64 {
        reader.get(self.root.at(MapRoot::bytes))
    }

    /// Levels of nodes; 0 for an empty map.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn levels(&self, reader: &impl Reader<'s>) -> Result<u16, Error> {
        let levels = reader.get(self.root.at(MapRoot::levels));
        if levels > LEVELS_MAX { Err(Error::Damaged) } else { Ok(levels as u16) }
    }

    /// Offset and level of the root node; None: the map is empty.
    pub(super) fn top(&self, reader: &impl Reader<'s>) -> Result<Option<(u64, u16)>, Error> {
        let levels = self.levels(reader)?;
        let Some(node) = reader.follow(self.root.at(MapRoot::root))? else { return Ok(None) };
        if levels == 0 || node.object() != self.root.object() {
            return Err(Error::Damaged);
        }
        Ok(Some((node.offset(), levels - 1)))
    }

    pub(super) fn node(&self, offset: u64) -> Result<Ptr<'s, Node>, Error> {
        self.root.object().place(offset).ok_or(Error::Damaged)
    }

    pub(super) fn read(&self, reader: &impl Reader<'s>, offset: u64, level: u16) -> Result<Page, Error> {
        let bytes = self.node(offset)?.at(Node::bytes).span();
        let mut page = Page::blank();
        reader.read(bytes, 0, page.bytes_mut())?;
        page.check(level)?;
        Ok(page)
    }

    fn long(&self, offset: u64, len: u64) -> Result<Bytes<'s>, Error> {
        let bytes = self.root.object().span::<u8>(offset, len);
        bytes.filter(|_| len <= VALUE_BYTES_MAX as u64).ok_or(Error::Damaged)
    }

    pub(super) fn value(&self, reader: &impl Reader<'s>, content: Content<'_>) -> Result<Vec<u8>, Error> {
        match content {
            Content::Here(value) => Ok(value.to_vec()),
            Content::Elsewhere(offset, len) => Ok(reader.to_vec(self.long(offset, len)?)),
            Content::Child(_) => Err(Error::Damaged),
        }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn get(&self, reader: &impl Reader<'s>, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let Some((mut offset, top)) = self.top(reader)? else { return Ok(None) };
        for level in (1..=top).rev() {
            let page = self.read(reader, offset, level)?;
            offset = page.child(page.child_for(key)?)?;
        }
        let leaf = self.read(reader, offset, 0)?;
        leaf.search(key).ok().map(|i| self.value(reader, leaf.content(i))).transpose()
    }

    /// True if the key has a value.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn contains_key(&self, reader: &impl Reader<'s>, key: &[u8]) -> Result<bool, Error> {
        Ok(self.get(reader, key)?.is_some())
    }

    /// The entries whose keys are in the range, in order.
    pub fn range<'r, R: Reader<'s>>(&self, reader: &'r R, range: impl RangeBounds<[u8]>) -> Range<'r, 's, R> {
        Range::new(
            *self,
            reader,
            range.start_bound().map(<[u8]>::to_vec),
            range.end_bound().map(<[u8]>::to_vec),
        )
    }

    /// All entries, in order.
    pub fn iter<'r, R: Reader<'s>>(&self, reader: &'r R) -> Range<'r, 's, R> {
        Range::new(*self, reader, core::ops::Bound::Unbounded, core::ops::Bound::Unbounded)
    }

    /// Gives a key a value. True if it had one before.
    ///
    /// # Errors
    /// [`Error::TooLong`] for keys above [`KEY_BYTES_MAX`] or values above [`VALUE_BYTES_MAX`]; [`Error::OutOfRange`] where the
    /// object is full; [`Error::Damaged`]; what the transaction says. After an error, give the transaction up.
    pub fn insert<B: Backend>(&self, tx: &mut Tx<'s, B>, key: &[u8], value: &[u8]) -> Result<bool, Error> {
        let content = self.new_content(tx, key, value)?;
        let (offset, top) = match self.top(tx)? {
            Some(top) => top,
            None => {
                let offset = self.add_node(tx, &Page::new(0))?;
                self.set_top(tx, offset, 1)?;
                (offset, 0)
            }
        };
        let mut old = None;
        if let Some(split) = self.insert_below(tx, offset, top, key, content, &mut old)? {
            let mut page = Page::new(top + 1);
            let fits = page.insert(0, &[], Content::Child(offset))
                && page.insert(1, &split.key, Content::Child(split.offset));
            assert!(fits, "two cells fit a node");
            let offset = self.add_node(tx, &page)?;
            self.set_top(tx, offset, u64::from(top) + 2)?;
        }
        let added = key.len() as u64 + value.len() as u64;
        self.count(tx, u64::from(old.is_none()), 0, added, old.map_or(0, |value| key.len() as u64 + value))?;
        Ok(old.is_some())
    }

    /// Takes a key out. False if it wasn't there.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says. After an error, give the transaction up.
    pub fn remove<B: Backend>(&self, tx: &mut Tx<'s, B>, key: &[u8]) -> Result<bool, Error> {
        let Some((offset, top)) = self.top(tx)? else { return Ok(false) };
        let Some(value) = self.remove_below(tx, offset, top, key)? else { return Ok(false) };
        self.shrink(tx, offset, top)?;
        self.count(tx, 0, 1, 0, key.len() as u64 + value)?;
        Ok(true)
    }

    /// Takes all entries out.
    ///
    /// # Errors
    /// As [`BytesMap::remove`].
    pub fn clear<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<(), Error> {
        if let Some((offset, top)) = self.top(tx)? {
            self.free_below(tx, offset, top)?;
        }
        tx.link(self.root.at(MapRoot::root), None)?;
        for field in [MapRoot::levels, MapRoot::len, MapRoot::bytes] {
            tx.set(self.root.at(field), 0)?;
        }
        Ok(())
    }

    /// What a cell is to hold: puts the value elsewhere if it is long.
    pub(super) fn new_content<'v, B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        key: &[u8],
        value: &'v [u8],
    ) -> Result<Content<'v>, Error> {
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(Error::TooLong);
        }
        if cell_bytes(key, Content::Here(value)) <= CELL_BYTES_MAX {
            return Ok(Content::Here(value));
        }
        let long = tx.alloc_bytes(self.root.object(), value)?;
        Ok(Content::Elsewhere(long.address() - self.root.object().start(), value.len() as u64))
    }

    fn count<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        came: u64,
        went: u64,
        bytes_came: u64,
        bytes_went: u64,
    ) -> Result<(), Error> {
        let change = |old: u64, plus, minus| old.wrapping_add(plus).wrapping_sub(minus);
        let len = tx.get(self.root.at(MapRoot::len));
        let bytes = tx.get(self.root.at(MapRoot::bytes));
        if came != went {
            tx.set(self.root.at(MapRoot::len), change(len, came, went))?;
        }
        tx.set(self.root.at(MapRoot::bytes), change(bytes, bytes_came, bytes_went))
    }

    pub(super) fn set_top<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        offset: u64,
        levels: u64,
    ) -> Result<(), Error> {
        tx.link(self.root.at(MapRoot::root), Some(self.node(offset)?))?;
        tx.set(self.root.at(MapRoot::levels), levels)
    }

    pub(super) fn add_node<B: Backend>(&self, tx: &mut Tx<'s, B>, page: &Page) -> Result<u64, Error> {
        let node = tx.alloc::<Node>(self.root.object())?;
        tx.write(node.at(Node::bytes).span(), 0, page.bytes())?;
        Ok(node.offset())
    }

    /// Writes what differs.
    fn write<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        offset: u64,
        old: &Page,
        new: &Page,
    ) -> Result<(), Error> {
        let (old, new) = (old.bytes(), new.bytes());
        let bytes = self.node(offset)?.at(Node::bytes).span();
        let mut at = 0;
        while let Some(skip) = (at..NODE_BYTES).position(|i| old[i] != new[i]) {
            let start = at + skip;
            let (mut end, mut i) = (start + 1, start + 1);
            while i < NODE_BYTES && i - end < GAP_BYTES {
                if old[i] != new[i] {
                    end = i + 1;
                }
                i += 1;
            }
            tx.write(bytes, start as u64, &new[start..end])?;
            at = end;
        }
        Ok(())
    }

    /// Inserts into the subtree; `old` becomes the length of the value that was replaced.
    fn insert_below<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        offset: u64,
        level: u16,
        key: &[u8],
        content: Content<'_>,
        old: &mut Option<u64>,
    ) -> Result<Option<Split>, Error> {
        let before = self.read(tx, offset, level)?;
        let mut page = before.clone();
        if level > 0 {
            let i = page.child_for(key)?;
            let split = self.insert_below(tx, page.child(i)?, level - 1, key, content, old)?;
            let Some(split) = split else { return Ok(None) };
            return self.put(tx, offset, &before, page, i + 1, &split.key, Content::Child(split.offset));
        }
        let i = match page.search(key) {
            Err(i) => i,
            Ok(i) => {
                *old = Some(self.free_value(tx, page.content(i))?);
                page.remove(i);
                i
            }
        };
        self.put(tx, offset, &before, page, i, key, content)
    }

    /// Puts a cell into a node, splitting it if need be.
    #[allow(clippy::too_many_arguments, reason = "a step of one recursion, not an interface")]
    fn put<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        offset: u64,
        before: &Page,
        mut page: Page,
        i: usize,
        key: &[u8],
        content: Content<'_>,
    ) -> Result<Option<Split>, Error> {
        if page.insert(i, key, content) {
            self.write(tx, offset, before, &page)?;
            return Ok(None);
        }
        let right = page.split(i, key, content);
        let split = Split { key: right.key(0).to_vec(), offset: self.add_node(tx, &right)? };
        self.write(tx, offset, before, &page)?;
        Ok(Some(split))
    }

    /// Removes from the subtree; gives the length of the value.
    fn remove_below<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        offset: u64,
        level: u16,
        key: &[u8],
    ) -> Result<Option<u64>, Error> {
        let before = self.read(tx, offset, level)?;
        let mut page = before.clone();
        if level == 0 {
            let Ok(i) = page.search(key) else { return Ok(None) };
            let value = self.free_value(tx, page.content(i))?;
            page.remove(i);
            self.write(tx, offset, &before, &page)?;
            return Ok(Some(value));
        }
        let i = page.child_for(key)?;
        let removed = self.remove_below(tx, page.child(i)?, level - 1, key)?;
        if removed.is_some() && self.join(tx, &mut page, i, level - 1)? {
            self.write(tx, offset, &before, &page)?;
        }
        Ok(removed)
    }

    /// Joins a sparse child with a neighbour, if both fit one node. True if the parent's copy has changed.
    fn join<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        parent: &mut Page,
        i: usize,
        level: u16,
    ) -> Result<bool, Error> {
        if parent.len() < 2 || !self.read(tx, parent.child(i)?, level)?.is_sparse() {
            return Ok(false);
        }
        let left = if i + 1 < parent.len() { i } else { i - 1 };
        let (left_offset, right_offset) = (parent.child(left)?, parent.child(left + 1)?);
        let before = self.read(tx, left_offset, level)?;
        let right = self.read(tx, right_offset, level)?;
        if !before.takes(&right) {
            return Ok(false);
        }
        let mut page = before.clone();
        if level == 0 {
            page.extend(&right, 0..right.len());
        } else {
            // The first key of a node is empty only in the leftmost of its level; elsewhere the parent's key stands for it.
            for n in 0..right.len() {
                let key = if n == 0 { parent.key(left + 1) } else { right.key(n) };
                if !page.insert(page.len(), key, right.content(n)) {
                    return Ok(false);
                }
            }
        }
        self.write(tx, left_offset, &before, &page)?;
        tx.free(self.node(right_offset)?)?;
        parent.remove(left + 1);
        Ok(true)
    }

    /// Takes off root nodes that have one child, and the last leaf when it is empty.
    fn shrink<B: Backend>(&self, tx: &mut Tx<'s, B>, mut offset: u64, mut level: u16) -> Result<(), Error> {
        loop {
            let page = self.read(tx, offset, level)?;
            if level == 0 && page.len() == 0 {
                tx.free(self.node(offset)?)?;
                tx.link(self.root.at(MapRoot::root), None)?;
                return tx.set(self.root.at(MapRoot::levels), 0);
            }
            if level == 0 || page.len() > 1 {
                return Ok(());
            }
            let child = page.child(0)?;
            tx.free(self.node(offset)?)?;
            self.set_top(tx, child, level.into())?;
            (offset, level) = (child, level - 1);
        }
    }

    /// Frees what a leaf's cell holds elsewhere; gives the value's length.
    pub(super) fn free_value<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        content: Content<'_>,
    ) -> Result<u64, Error> {
        match content {
            Content::Here(value) => Ok(value.len() as u64),
            Content::Elsewhere(offset, len) => {
                tx.free_span(self.long(offset, len)?)?;
                Ok(len)
            }
            Content::Child(_) => Err(Error::Damaged),
        }
    }

    fn free_below<B: Backend>(&self, tx: &mut Tx<'s, B>, offset: u64, level: u16) -> Result<(), Error> {
        let page = self.read(tx, offset, level)?;
        for i in 0..page.len() {
            if level == 0 {
                self.free_value(tx, page.content(i))?;
            } else {
                self.free_below(tx, page.child(i)?, level - 1)?;
            }
        }
        tx.free(self.node(offset)?)
    }
}
