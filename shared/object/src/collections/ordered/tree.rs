//! Changing a tree, copy on write.
//!
//! A node that a committed version of the map reaches never changes: a transaction makes a copy of each node from the changed leaf up to
//! the root, once, and frees the old ones at its commit. The one store that makes all of it visible is that of the root pointer. So who
//! has read the root pointer can go on reading that version for as long as its memory is not given out again.
//!
//! A node knows the version that made it: one of the transaction's own version is changed where it lies.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::marker::PhantomData;
use core::sync::atomic::{Ordering, fence};

use twizzler_abi::Error;

use super::VALUE_BYTES_MAX;
use super::page::{At, BIRTH, BYTES, Content, ENTRIES, Node, Page};
use super::retired::Retired;
use crate::backend::Backend;
use crate::pointer::{Area, InvPtr, Ptr};
use crate::reader::Reader;
use crate::stored::Stored;
use crate::tx::Tx;

/// Levels that a map has at most: far more than fit an object.
const LEVELS_MAX: u16 = 24;

/// The root of a map, whatever the types. All zero is an empty map.
#[derive(Stored)]
#[stored(name = "twizzler.map-root", version = 3)]
#[repr(C)]
pub(super) struct TreeRoot {
    /// The root node.
    pub(super) node: InvPtr<Node>,
    /// How many transactions have changed the map.
    pub(super) version: u64,
    /// The oldest version of which all nodes are still there.
    pub(super) oldest: u64,
    /// What is to be freed: the oldest part of the list, and the newest.
    pub(super) retired: InvPtr<Retired>,
    pub(super) newest: InvPtr<Retired>,
    /// Bytes of all that is to be freed.
    pub(super) retired_bytes: u64,
}

/// A version of a map, as a reader has found it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version<'s> {
    /// The root node; None: the map is empty.
    pub(super) top: Option<At<'s>>,
    number: u64,
    oldest: Ptr<'s, u64>,
}

impl<'s> Version<'s> {
    /// Gives what was read of this version, if the version was whole meanwhile.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if not: the result means nothing.
    #[inline]
    pub(super) fn whole<T>(&self, reader: &impl Reader<'s>, result: Result<T, Error>) -> Result<T, Error> {
        // What was read comes before the look at the oldest version; pairs with the release that comes before it was stored.
        fence(Ordering::Acquire);
        if reader.get(self.oldest) > self.number { Err(Error::Interrupted) } else { result }
    }
}

type Owned<P> = <<P as Page>::Key as ToOwned>::Owned;

/// A map's tree.
pub(super) struct Tree<'s, P> {
    pub(super) root: Ptr<'s, TreeRoot>,
    page: PhantomData<P>,
}

impl<P> Clone for Tree<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P> Copy for Tree<'_, P> {}

/// What a change has made of a child.
struct Changed<P: Page> {
    /// Where it is now.
    offset: u64,
    /// A node that came into being beside it by a split, and the least key that may be in that.
    split: Option<(Owned<P>, u64)>,
}

/// Entries and bytes of a whole map.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Totals {
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

impl<'s, P: Page> Tree<'s, P> {
    pub(super) const fn new(root: Ptr<'s, TreeRoot>) -> Self {
        Self { root, page: PhantomData }
    }

    pub(super) fn area(&self) -> Area<'s> {
        self.root.object()
    }

    /// The version that is there now.
    #[inline]
    pub(super) fn version(&self, reader: &impl Reader<'s>) -> Result<Version<'s>, Error> {
        // Before the pointer, which is stored before the number: the version is this one or a later one.
        let number = reader.get(self.root.at(TreeRoot::version));
        fence(Ordering::Acquire);
        Ok(Version { top: self.top(reader)?, number, oldest: self.root.at(TreeRoot::oldest) })
    }

    /// The root node; None: the map is empty.
    #[inline]
    pub(super) fn top(&self, reader: &impl Reader<'s>) -> Result<Option<At<'s>>, Error> {
        let Some(node) = reader.follow(self.root.at(TreeRoot::node))? else { return Ok(None) };
        // Pairs with the release that comes before the store of the pointer: the nodes are seen whole.
        fence(Ordering::Acquire);
        if node.object() != self.area() {
            return Err(Error::Damaged);
        }
        let top = At::open::<P>(reader, self.area(), node.offset(), None)?;
        if top.level >= LEVELS_MAX { Err(Error::Damaged) } else { Ok(Some(top)) }
    }

    /// The version that the transaction makes. A node of that version is its own.
    pub(super) fn begin<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<u64, Error> {
        tx.lock(self.area())?;
        let place = self.root.at(TreeRoot::version);
        let committed = tx.committed().get(place);
        let stamp = if tx.is_fresh(place.as_span().as_bytes()) {
            // The map itself is new, and all nodes are the transaction's own.
            committed.max(1)
        } else {
            committed.wrapping_add(1)
        };
        Ok(stamp)
    }

    /// Notes that the transaction has changed the map.
    pub(super) fn stamp<B: Backend>(&self, tx: &mut Tx<'s, B>, stamp: u64) -> Result<(), Error> {
        let place = self.root.at(TreeRoot::version);
        tx.publish(place);
        if tx.get(place) != stamp { tx.set(place, stamp) } else { Ok(()) }
    }

    /// A copy of a node. What others have committed is read past what the transaction has staged.
    pub(super) fn read<B: Backend>(&self, tx: &Tx<'s, B>, at: At<'s>, stamp: u64) -> Result<P, Error> {
        let mut bytes = alloc::vec![0; P::node_bytes(at.level)];
        if self.is_own(tx, &at, stamp)? {
            tx.read(at.bytes::<P>()?, 0, &mut bytes)?;
        } else {
            tx.committed().read(at.bytes::<P>()?, 0, &mut bytes)?;
        }
        let page = P::of(bytes);
        page.check(at.level)?;
        Ok(page)
    }

    /// True for a node that the transaction has made itself. All others are as they are in memory.
    fn is_own<B: Backend>(&self, tx: &Tx<'s, B>, at: &At<'s>, stamp: u64) -> Result<bool, Error> {
        Ok(tx.get::<u64>(at.place(BIRTH)?) == stamp)
    }

    /// The child of a node that may have a key.
    pub(super) fn seek_child<B: Backend>(
        &self,
        tx: &Tx<'s, B>,
        at: &At<'s>,
        key: &P::Key,
        stamp: u64,
    ) -> Result<(usize, At<'s>), Error> {
        let (i, offset) = if self.is_own(tx, at, stamp)? {
            let i = P::seek_child(tx, at, key)?;
            (i, P::read_child(tx, at, i)?)
        } else {
            let i = P::seek_child(&tx.committed(), at, key)?;
            (i, P::read_child(&tx.committed(), at, i)?)
        };
        Ok((i, self.open(tx, offset, at.level.checked_sub(1).ok_or(Error::Damaged)?)?))
    }

    pub(super) fn seek<B: Backend>(
        &self,
        tx: &Tx<'s, B>,
        at: &At<'s>,
        key: &P::Key,
        stamp: u64,
    ) -> Result<(usize, bool), Error> {
        if self.is_own(tx, at, stamp)? { P::seek(tx, at, key) } else { P::seek(&tx.committed(), at, key) }
    }

    pub(super) fn child<B: Backend>(&self, tx: &Tx<'s, B>, at: &At<'s>, i: usize) -> Result<At<'s>, Error> {
        let offset = P::read_child(tx, at, i)?;
        self.open(tx, offset, at.level.checked_sub(1).ok_or(Error::Damaged)?)
    }

    pub(super) fn open(&self, reader: &impl Reader<'s>, offset: u64, level: u16) -> Result<At<'s>, Error> {
        At::open::<P>(reader, self.area(), offset, Some(level))
    }

    /// Writes a new node.
    pub(super) fn add<B: Backend>(&self, tx: &mut Tx<'s, B>, page: &mut P, stamp: u64) -> Result<u64, Error> {
        page.set_head(BIRTH, stamp);
        let node = tx.alloc_bytes(self.area(), page.bytes())?;
        Ok(node.address() - self.area().start())
    }

    /// Writes a changed node: where it lies, or else a copy. Gives its place.
    pub(super) fn store<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        at: At<'s>,
        page: &mut P,
        stamp: u64,
    ) -> Result<u64, Error> {
        if page.birth() == stamp {
            tx.write(at.bytes::<P>()?, 0, page.bytes())?;
            return Ok(at.offset);
        }
        self.retire(tx, at.bytes::<P>()?, stamp)?;
        self.add(tx, page, stamp)
    }

    /// Frees a node: at once, if it is the transaction's own.
    pub(super) fn drop_node<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        at: At<'s>,
        stamp: u64,
    ) -> Result<(), Error> {
        let bytes = at.bytes::<P>()?;
        if self.is_own(tx, &at, stamp)? { tx.free_span(bytes) } else { self.retire(tx, bytes, stamp) }
    }

    /// Entries and bytes, as the root node tells.
    pub(super) fn totals(reader: &impl Reader<'s>, top: Option<At<'s>>) -> Result<Totals, Error> {
        let Some(top) = top else { return Ok(Totals::default()) };
        Ok(Totals { entries: reader.get(top.place(ENTRIES)?), bytes: reader.get(top.place(BYTES)?) })
    }

    /// Makes a node the root. It is the transaction's own.
    pub(super) fn set_top<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        offset: u64,
        totals: Totals,
        stamp: u64,
    ) -> Result<(), Error> {
        self.stamp(tx, stamp)?;
        let place = |at: usize| self.area().place(offset + at as u64).ok_or(Error::Damaged);
        tx.set(place(ENTRIES)?, totals.entries)?;
        tx.set(place(BYTES)?, totals.bytes)?;
        let root = self.root.at(TreeRoot::node);
        let node = self.area().place(offset).ok_or(Error::Damaged)?;
        if tx.follow(root)? != Some(node) {
            tx.link(root, Some(node))?;
        }
        Ok(())
    }

    /// Where a value is to go: puts it elsewhere if it is long.
    pub(super) fn new_content<'v, B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        key: &P::Key,
        value: &'v [u8],
    ) -> Result<Content<'v>, Error> {
        if P::too_long(key) || value.len() > VALUE_BYTES_MAX {
            return Err(Error::TooLong);
        }
        if P::fits(key, value) {
            return Ok(Content::Here(value));
        }
        let long = tx.alloc_bytes(self.area(), value)?;
        Ok(Content::Elsewhere(long.address() - self.area().start(), value.len() as u64))
    }

    /// Gives a key a value. Tells `old` what it replaces.
    pub(super) fn insert<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        key: &P::Key,
        value: &[u8],
        old: &mut dyn FnMut(Content<'_>),
    ) -> Result<(), Error> {
        let stamp = self.begin(tx)?;
        let content = self.new_content(tx, key, value)?;
        let top = self.top(tx)?;
        let mut totals = Self::totals(tx, top)?;
        totals.entries = totals.entries.wrapping_add(1);
        totals.bytes = totals.bytes.wrapping_add((P::key_bytes(key) + value.len()) as u64);
        let Some(top) = top else {
            let mut page = P::new(0);
            let fits = page.insert(0, key, content);
            assert!(fits, "an empty node has room for the longest cell");
            let offset = self.add(tx, &mut page, stamp)?;
            return self.set_top(tx, offset, totals, stamp);
        };
        let mut replaced = |content: Content<'_>| {
            totals.entries = totals.entries.wrapping_sub(1);
            totals.bytes = totals.bytes.wrapping_sub((P::key_bytes(key) + content.value_bytes()) as u64);
            old(content);
        };
        let Changed { mut offset, split } = self.insert_below(tx, top, key, content, stamp, &mut replaced)?;
        if let Some((separator, right)) = split {
            let mut page = P::new(top.level + 1);
            // The first key means nothing.
            let fits = page.insert(0, separator.borrow(), Content::Child(offset))
                && page.insert(1, separator.borrow(), Content::Child(right));
            assert!(fits, "two cells fit a node");
            offset = self.add(tx, &mut page, stamp)?;
        }
        self.set_top(tx, offset, totals, stamp)
    }

    fn insert_below<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        at: At<'s>,
        key: &P::Key,
        content: Content<'_>,
        stamp: u64,
        old: &mut dyn FnMut(Content<'_>),
    ) -> Result<Changed<P>, Error> {
        if at.level == 0 {
            let (i, equal) = self.seek(tx, &at, key, stamp)?;
            let mut page = self.read(tx, at, stamp)?;
            if equal {
                old(page.content(i));
                self.retire_value(tx, page.content(i), stamp)?;
                page.remove(i);
            }
            return self.put(tx, at, page, i, key, content, stamp);
        }
        let (i, child) = self.seek_child(tx, &at, key, stamp)?;
        let changed = self.insert_below(tx, child, key, content, stamp, old)?;
        if changed.offset == child.offset && changed.split.is_none() {
            return Ok(Changed { offset: at.offset, split: None });
        }
        let mut page = self.read(tx, at, stamp)?;
        page.set_child(i, changed.offset);
        match changed.split {
            Some((separator, right)) => {
                self.put(tx, at, page, i + 1, separator.borrow(), Content::Child(right), stamp)
            }
            None => Ok(Changed { offset: self.store(tx, at, &mut page, stamp)?, split: None }),
        }
    }

    /// Puts an entry into a node, splitting it if need be.
    #[allow(clippy::too_many_arguments, reason = "a step of one recursion, not an interface")]
    fn put<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        at: At<'s>,
        mut page: P,
        i: usize,
        key: &P::Key,
        content: Content<'_>,
        stamp: u64,
    ) -> Result<Changed<P>, Error> {
        let mut split = None;
        if !page.insert(i, key, content) {
            let mut right = page.split(i, key, content);
            split = Some((right.key(0), self.add(tx, &mut right, stamp)?));
        }
        Ok(Changed { offset: self.store(tx, at, &mut page, stamp)?, split })
    }

    /// Frees what an entry holds elsewhere, as soon as no reader should need it.
    pub(super) fn retire_value<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        content: Content<'_>,
        stamp: u64,
    ) -> Result<(), Error> {
        let Content::Elsewhere(offset, len) = content else { return Ok(()) };
        self.retire(tx, self.area().span::<u8>(offset, len).ok_or(Error::Damaged)?, stamp)
    }

    /// Frees what an entry holds elsewhere.
    pub(super) fn free_value<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        content: Content<'_>,
    ) -> Result<(), Error> {
        let Content::Elsewhere(offset, len) = content else { return Ok(()) };
        tx.free_span(self.area().span::<u8>(offset, len).ok_or(Error::Damaged)?)
    }

    /// All of a node's entries or children, and frees the node.
    pub(super) fn take_node<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        at: At<'s>,
        stamp: u64,
    ) -> Result<P, Error> {
        let page = self.read(tx, at, stamp)?;
        tx.free_span(at.bytes::<P>()?)?;
        Ok(page)
    }

    /// A child of a node that was read.
    pub(super) fn open_child<B: Backend>(&self, tx: &Tx<'s, B>, page: &P, i: usize) -> Result<At<'s>, Error> {
        self.open(tx, page.child(i)?, page.level().checked_sub(1).ok_or(Error::Damaged)?)
    }
}

/// Nodes that a builder has not ended yet.
pub(super) type Levels<P> = Vec<(P, Option<Owned<P>>)>;
