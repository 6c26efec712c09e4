//! What the tree asks of a node's layout.
//!
//! All nodes begin with a head of 32 bytes: level (2; 0 for leaves), entries or children (2), two words of the layout's own (2 each),
//! the version of the map that made the node (8), the offset of the node that it replaced (8), and eight of the layout's own.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use twizzler_abi::Error;

use super::super::raw::value_at;
use super::tail::Order;
use crate::backend::Backend;
use crate::memory;
use crate::pointer::{Area, Bytes, Ptr};
use crate::reader::Reader;
use crate::stored::Stored;
use crate::tx::Tx;

/// Bytes of a node's head.
pub(super) const HEAD_BYTES: usize = 32;
/// Where in the head the version is.
pub(super) const BIRTH: usize = 8;
/// Where the offset of what the node replaced is.
pub(super) const REPLACED: usize = 16;
/// Steps from a node to what it replaced, at most: as many changes of one node as a snapshot outlives.
const STEPS_MAX: usize = 1 << 24;

/// A node's head; the rest of the node depends on the types of keys and values.
#[derive(Stored)]
#[stored(name = "twizzler.map-node", version = 4)]
#[repr(C)]
pub(super) struct Node {
    bytes: [u64; HEAD_BYTES / 8],
}

/// What a cell holds beside its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content<'a> {
    /// The value.
    Here(&'a [u8]),
    /// Offset and length of the value.
    Elsewhere(u64, u64),
    /// A child's offset.
    Child(u64),
}

impl Content<'_> {
    /// Bytes of the value.
    pub(super) fn value_bytes(&self) -> usize {
        match *self {
            Self::Here(value) => value.len(),
            Self::Elsewhere(_, len) => len as usize,
            Self::Child(_) => 0,
        }
    }

    /// Offset and length of a value that lies elsewhere.
    pub(super) const fn elsewhere(&self) -> Option<(u64, u64)> {
        match *self {
            Self::Elsewhere(offset, len) => Some((offset, len)),
            _ => None,
        }
    }
}

/// A node where it lies, its head checked.
#[derive(Clone, Copy, Debug)]
pub struct At<'s> {
    pub(super) area: Area<'s>,
    pub(super) offset: u64,
    pub(super) level: u16,
    /// Entries or children, without the tail.
    pub(super) len: usize,
    /// Entries of the tail that are seen.
    pub(super) tail: usize,
    /// The version that made it.
    pub(super) birth: u64,
}

/// A change of one of a leaf's entries.
#[derive(Debug)]
pub struct Entry<'a, K: ?Sized> {
    /// Its place in the order, or where that would be.
    pub(super) place: usize,
    /// There is such an entry.
    pub(super) equal: bool,
    pub(super) key: &'a K,
    /// None: it goes.
    pub(super) value: Option<&'a [u8]>,
}

impl<'s> At<'s> {
    /// The node at an offset as it was in version `number` of the map; of that level, if one is given.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline]
    pub(super) fn open<P: Page>(
        reader: &impl Reader<'s>,
        area: Area<'s>,
        offset: u64,
        level: Option<u16>,
        number: u64,
    ) -> Result<Self, Error> {
        // Pairs with the release that comes before the store of the pointer: the node is seen whole.
        fence(Ordering::Acquire);
        let at = Self::head::<P>(reader, area, offset, level)?;
        let at = if at.birth <= number { at } else { at.replaced::<P>(reader, level, number)? };
        at.with_tail::<P>(reader, number)
    }

    /// What this node replaced, and that, until it is what there was in version `number`.
    #[cold]
    fn replaced<P: Page>(
        self,
        reader: &impl Reader<'s>,
        level: Option<u16>,
        number: u64,
    ) -> Result<Self, Error> {
        let mut at = self;
        for _ in 0..STEPS_MAX {
            let older = Self::head::<P>(reader, at.area, reader.get(at.place(REPLACED)?), level)?;
            if older.birth <= number {
                return Ok(older);
            }
            // It was there before what replaced it.
            if older.birth >= at.birth {
                return Err(Error::Damaged);
            }
            at = older;
        }
        Err(Error::Damaged)
    }

    /// The node at an offset, whatever version made it; of that level, if one is given.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline]
    pub(super) fn newest<P: Page>(
        reader: &impl Reader<'s>,
        area: Area<'s>,
        offset: u64,
        level: Option<u16>,
    ) -> Result<Self, Error> {
        Self::head::<P>(reader, area, offset, level)?.with_tail::<P>(reader, u64::MAX)
    }

    #[inline]
    fn head<P: Page>(
        reader: &impl Reader<'s>,
        area: Area<'s>,
        offset: u64,
        level: Option<u16>,
    ) -> Result<Self, Error> {
        if level == Some(0) {
            // So that a search waits for memory once, and not for each line that it comes to.
            for line in 1..P::SEARCHED_LINES {
                memory::prefetch(area.start().wrapping_add(offset).wrapping_add(line * 64));
            }
        }
        let node: Ptr<'_, Node> = area.place(offset).ok_or(Error::Damaged)?;
        let word =
            |at: usize| node.at(Node::bytes).index(at / 8).map(|word| reader.get(word)).ok_or(Error::Damaged);
        let (head, birth) = (word(0)?, word(BIRTH)?);
        let len = usize::from((head >> 16) as u16);
        let at = Self { area, offset, level: head as u16, len, tail: 0, birth };
        if level.is_some_and(|level| level != at.level) || at.len > P::len_max(at.level) {
            return Err(Error::Damaged);
        }
        Ok(at)
    }

    /// With what versions up to `number` have put into the tail.
    #[inline]
    fn with_tail<P: Page>(self, reader: &impl Reader<'s>, number: u64) -> Result<Self, Error> {
        if self.level > 0 { Ok(self) } else { Ok(Self { tail: P::tail(reader, &self, number)?, ..self }) }
    }

    /// A part of the node.
    #[inline]
    pub(super) fn place<T: Stored>(&self, at: usize) -> Result<Ptr<'s, T>, Error> {
        self.area.place(self.offset + at as u64).ok_or(Error::Damaged)
    }

    /// All of the node.
    pub(super) fn bytes<P: Page>(&self) -> Result<Bytes<'s>, Error> {
        self.area.span(self.offset, P::node_bytes(self.level) as u64).ok_or(Error::Damaged)
    }
}

/// A node's layout: a private copy that can be changed, and how to look into a node where it lies.
pub trait Page: Sized {
    /// What entries are ordered by.
    type Key: ?Sized + Ord + ToOwned<Owned: Clone>;

    /// Lines of a leaf, from its beginning, that a search may look at; 0: too many to be fetched together.
    const SEARCHED_LINES: u64 = 0;

    /// Bytes of a node of that level.
    fn node_bytes(level: u16) -> usize;
    /// Most entries of a node.
    fn len_max(level: u16) -> usize;
    /// An empty node.
    fn new(level: u16) -> Self;
    /// What was read of a node.
    fn of(bytes: Vec<u8>) -> Self;
    /// All bytes.
    fn bytes(&self) -> &[u8];
    /// All bytes, to be changed.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Checks what was read, and puts the entries of a tail into their places.
    ///
    /// # Errors
    /// [`Error::Damaged`] where it is no node of that level.
    fn settle(&mut self, level: u16) -> Result<(), Error>;
    /// A key.
    fn key(&self, i: usize) -> <Self::Key as ToOwned>::Owned;
    /// What belongs to a key.
    fn content(&self, i: usize) -> Content<'_>;
    /// Puts an entry at a place. False: there is no room, and nothing has changed.
    #[must_use]
    fn insert(&mut self, i: usize, key: &Self::Key, content: Content<'_>) -> bool;
    /// Puts an entry in the place of another one with the same key. False: there is no room, and the other one is gone.
    #[must_use]
    fn replace(&mut self, i: usize, key: &Self::Key, content: Content<'_>) -> bool {
        self.remove(i);
        self.insert(i, key, content)
    }
    /// Removes an entry.
    fn remove(&mut self, i: usize);
    /// Replaces a child.
    fn set_child(&mut self, i: usize, child: u64);
    /// Cuts the node in two so that an entry can be put at place `i`, and puts it there. Gives the right part. Where the entry is the
    /// last of all, it goes to the right alone: keys that come in order fill their nodes.
    fn split(&mut self, i: usize, key: &Self::Key, content: Content<'_>) -> Self;
    /// True where the node should be joined with a neighbour.
    fn is_sparse(&self) -> bool;
    /// True where the other's entries fit as well, with room for some changes.
    fn takes(&self, other: &Self) -> bool;
    /// True where a builder should begin the next node.
    fn is_full(&self) -> bool;

    /// Entries or children.
    fn len(&self) -> usize {
        value_at::<u16>(self.bytes(), 2).into()
    }
    /// Level in the tree.
    fn level(&self) -> u16 {
        value_at(self.bytes(), 0)
    }
    /// The version that made the node.
    fn birth(&self) -> u64 {
        value_at(self.bytes(), BIRTH)
    }
    /// Sets a word of the head.
    fn set_head(&mut self, at: usize, word: u64) {
        self.bytes_mut()[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    /// The child at a place; nodes above the leaves.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    fn child(&self, i: usize) -> Result<u64, Error> {
        match self.content(i) {
            Content::Child(offset) => Ok(offset),
            _ => Err(Error::Damaged),
        }
    }

    /// Bytes of a key.
    fn key_bytes(key: &Self::Key) -> usize {
        size_of_val(key)
    }
    /// True for a key that no node takes.
    fn too_long(_: &Self::Key) -> bool {
        false
    }
    /// True where the value is short enough to lie in a node.
    fn fits(_: &Self::Key, _: &[u8]) -> bool {
        true
    }

    /// How many entries of a leaf's tail versions up to `number` have put there.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline]
    fn tail<'s>(_: &impl Reader<'s>, _: &At<'s>, _: u64) -> Result<usize, Error> {
        Ok(0)
    }
    /// The order of a leaf's entries.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline]
    fn order<'s>(_: &impl Reader<'s>, at: &At<'s>) -> Result<Order, Error> {
        Ok(Order::plain(at.len))
    }
    /// Puts an entry into a committed leaf's tail, as that of version `stamp`; tells `old` what was there before. False: there is no room.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    fn append<'s, B: Backend>(
        _: &mut Tx<'s, B>,
        _: &At<'s>,
        _: &Order,
        _: &Entry<'_, Self::Key>,
        _stamp: u64,
        _old: &mut dyn FnMut(Content<'_>),
    ) -> Result<bool, Error> {
        Ok(false)
    }
    /// The place, in the order of a leaf's entries, of the first one whose key is not below `key`, and whether it is equal.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    fn seek<'s>(
        reader: &impl Reader<'s>,
        at: &At<'s>,
        order: &Order,
        key: &Self::Key,
    ) -> Result<(usize, bool), Error>;
    /// Where in a leaf the entry of a key lies.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline]
    fn find<'s>(reader: &impl Reader<'s>, at: &At<'s>, key: &Self::Key) -> Result<Option<usize>, Error> {
        let order = Self::order(reader, at)?;
        let (place, equal) = Self::seek(reader, at, &order, key)?;
        Ok(equal.then(|| order.number(place)))
    }
    /// The child that may have the key: the last whose key is not above it. The first child's own key does not count.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    fn seek_child<'s>(reader: &impl Reader<'s>, at: &At<'s>, key: &Self::Key) -> Result<usize, Error>;
    /// Where the offset of a child is: an aligned word, so that it can be replaced while others look.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    fn child_place<'s>(reader: &impl Reader<'s>, at: &At<'s>, i: usize) -> Result<Ptr<'s, u64>, Error>;
    /// The offset of a child.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline]
    fn read_child<'s>(reader: &impl Reader<'s>, at: &At<'s>, i: usize) -> Result<u64, Error> {
        Ok(reader.get(Self::child_place(reader, at, i)?))
    }
    /// A key.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    fn read_key<'s>(
        reader: &impl Reader<'s>,
        at: &At<'s>,
        i: usize,
    ) -> Result<<Self::Key as ToOwned>::Owned, Error>;
    /// Where the value of a leaf's entry lies.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    fn read_value<'s>(reader: &impl Reader<'s>, at: &At<'s>, i: usize) -> Result<Bytes<'s>, Error>;
}
