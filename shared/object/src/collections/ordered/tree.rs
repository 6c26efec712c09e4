//! Changing a tree.
//!
//! A node that a committed version of the map reaches keeps its entries. What a transaction changes goes into the leaf's tail ([`super::tail`]), where there is
//! one with room; otherwise it makes a copy of each node whose entries it changes, once.
//! The copy knows what it replaced. Where it takes the very place of that, one word of its parent is replaced and nothing else: who reads an older
//! version comes upon a node that is too new, and goes on to what it replaced ([`At::open`]). A parent is copied only where its own entries change:
//! by a split, or where nodes are joined or go. So most changes add to a leaf or copy one and nothing else, and no old version is lost.
//!
//! What is replaced goes on the list of [`super::retired`]. A node knows the version that made it: one of the transaction's own version is changed
//! where it lies.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::marker::PhantomData;

use twizzler_abi::Error;

use super::super::raw::local;
use super::VALUE_BYTES_MAX;
use super::page::{At, BIRTH, Content, Entry, Page, REPLACED};
use super::version::{State, Totals, TreeRoot};
use crate::backend::Backend;
use crate::pointer::{Area, Ptr};
use crate::reader::Reader;
use crate::tx::{Rank, Tx};

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

/// What came of changing a leaf by its tail.
pub(super) enum Change {
    /// It is changed.
    Done,
    /// It has no room, or is the transaction's own.
    Not {
        /// Where the entry is, or would be.
        place: usize,
        /// There is such an entry.
        equal: bool,
    },
}

impl<'s, P: Page> Tree<'s, P> {
    pub(super) const fn new(root: Ptr<'s, TreeRoot>) -> Self {
        Self { root, page: PhantomData }
    }

    pub(super) fn area(&self) -> Area<'s> {
        self.root.object()
    }

    /// The version that the transaction makes, one for all of its changes. A node of that version is its own, and no other is.
    pub(super) fn begin<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<u64, Error> {
        tx.lock(self.area())?;
        tx.stamp(self.root.at(TreeRoot::version))
    }

    /// A copy of a node, with all entries in their places.
    pub(super) fn read<B: Backend>(&self, tx: &Tx<'s, B>, at: At<'s>) -> Result<P, Error> {
        let mut bytes = alloc::vec![0; P::node_bytes(at.level)];
        tx.read(at.bytes::<P>()?, 0, &mut bytes)?;
        let mut page = P::of(bytes);
        page.settle(at.level)?;
        // There are none; and with such, few nodes that lead to each other could be a tree of any size.
        if page.len() == 0 { Err(Error::Damaged) } else { Ok(page) }
    }

    /// True for a node that the transaction has made itself. All others are as they are in memory, but for tails and the places of children.
    const fn is_own(at: &At<'s>, stamp: u64) -> bool {
        at.birth == stamp
    }

    /// The child of a node that may have a key.
    pub(super) fn seek_child<B: Backend>(
        &self,
        tx: &Tx<'s, B>,
        at: &At<'s>,
        key: &P::Key,
        stamp: u64,
    ) -> Result<(usize, At<'s>), Error> {
        let (i, offset) = if Self::is_own(at, stamp) {
            let i = P::seek_child(tx, at, key)?;
            (i, P::read_child(tx, at, i)?)
        } else {
            let i = P::seek_child(&tx.committed(), at, key)?;
            (i, P::read_child(tx, at, i)?)
        };
        Ok((i, self.open(tx, offset, at.level.checked_sub(1).ok_or(Error::Damaged)?)?))
    }

    /// Changes an entry of a leaf by its tail; tells `old` what was there before. Otherwise gives where the entry is or would be.
    pub(super) fn change<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        at: &At<'s>,
        (key, value): (&P::Key, Option<Content<'_>>),
        stamp: u64,
        old: &mut dyn FnMut(Content<'_>),
    ) -> Result<Change, Error> {
        let order = P::order(tx, at)?;
        if Self::is_own(at, stamp) {
            let (place, equal) = P::seek(tx, at, &order, key)?;
            return Ok(Change::Not { place, equal });
        }
        // Only a tail that the transaction has changed itself is staged.
        let (place, equal) = if at.tail == 0 {
            P::seek(&tx.committed(), at, &order, key)?
        } else {
            P::seek(tx, at, &order, key)?
        };
        let value = match value {
            Some(Content::Here(value)) => Some(value),
            None if equal && order.len() > 1 => None,
            _ => return Ok(Change::Not { place, equal }),
        };
        let entry = Entry { place, equal, key, value };
        if P::append(tx, at, &order, &entry, stamp, old)? {
            Ok(Change::Done)
        } else {
            Ok(Change::Not { place, equal })
        }
    }

    pub(super) fn child<B: Backend>(&self, tx: &Tx<'s, B>, at: &At<'s>, i: usize) -> Result<At<'s>, Error> {
        let offset = P::read_child(tx, at, i)?;
        self.open(tx, offset, at.level.checked_sub(1).ok_or(Error::Damaged)?)
    }

    /// A node as the transaction sees it.
    pub(super) fn open<B: Backend>(&self, tx: &Tx<'s, B>, offset: u64, level: u16) -> Result<At<'s>, Error> {
        At::newest::<P>(tx, self.area(), offset, Some(level))
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
        page.set_head(REPLACED, at.offset);
        // Without the copy, what is to be freed would still be needed.
        self.add(tx, page, stamp).map_err(|error| tx.tear(error))
    }

    /// Makes a node lead to another child in the place of one that the child has replaced.
    pub(super) fn replace_child<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        at: &At<'s>,
        i: usize,
        child: u64,
    ) -> Result<(), Error> {
        let place = P::child_place(tx, at, i)?;
        tx.publish(place, Rank::Pointer);
        tx.set(place, child)
    }

    /// Frees a node: at once, if it is the transaction's own and no committed node leads to it. One that has replaced another may still be come
    /// upon by readers of older versions, on their way to that.
    pub(super) fn drop_node<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        at: At<'s>,
        stamp: u64,
    ) -> Result<(), Error> {
        let bytes = at.bytes::<P>()?;
        let is_unknown = Self::is_own(&at, stamp) && tx.get::<u64>(at.place(REPLACED)?) == 0;
        if is_unknown { tx.free_span(bytes) } else { self.retire(tx, bytes, stamp) }
    }

    /// Ends a change: says what the new version consists of. None: nothing.
    pub(super) fn set_version<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        node: Option<u64>,
        totals: Totals,
        stamp: u64,
    ) -> Result<(), Error> {
        let state = self.state(stamp)?;
        // Mostly, the version before the last one has left the same there.
        if local(tx, state.at(State::node)) != node.unwrap_or(0) {
            let node = node.map(|offset| self.area().place(offset).ok_or(Error::Damaged)).transpose()?;
            tx.link(state.at(State::node), node)?;
        }
        tx.set(state.at(State::totals), totals)?;
        let place = self.root.at(TreeRoot::version);
        tx.publish(place, Rank::Version);
        tx.set(place, stamp)
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
        let (top, totals) = self.newest(tx)?;
        let content = self.new_content(tx, key, value)?;
        self.insert_content(tx, (top, totals), (key, value.len()), content, stamp, old).map_err(|error| {
            // Nothing leads to what lies elsewhere.
            if content.elsewhere().is_some() { tx.tear(error) } else { error }
        })
    }

    fn insert_content<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        (top, mut totals): (Option<At<'s>>, Totals),
        (key, value_bytes): (&P::Key, usize),
        content: Content<'_>,
        stamp: u64,
        old: &mut dyn FnMut(Content<'_>),
    ) -> Result<(), Error> {
        totals.entries = totals.entries.wrapping_add(1);
        totals.bytes = totals.bytes.wrapping_add((P::key_bytes(key) + value_bytes) as u64);
        let Some(top) = top else {
            let mut page = P::new(0);
            let fits = page.insert(0, key, content);
            assert!(fits, "an empty node has room for the longest cell");
            let offset = self.add(tx, &mut page, stamp)?;
            return self.set_version(tx, Some(offset), totals, stamp);
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
            offset = self.add(tx, &mut page, stamp).map_err(|error| tx.tear(error))?;
        }
        self.set_version(tx, Some(offset), totals, stamp)
    }

    /// What fails before it has changed anything leaves all as it was; what fails later tears the transaction.
    fn insert_below<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        at: At<'s>,
        key: &P::Key,
        content: Content<'_>,
        stamp: u64,
        old: &mut dyn FnMut(Content<'_>),
    ) -> Result<Changed<P>, Error> {
        if at.level > 0 {
            let (i, child) = self.seek_child(tx, &at, key, stamp)?;
            let changed = self.insert_below(tx, child, key, content, stamp, old)?;
            if changed.split.is_none() && changed.offset == child.offset {
                return Ok(Changed { offset: at.offset, split: None });
            }
            return self.changed_below(tx, at, i, changed, stamp).map_err(|error| tx.tear(error));
        }
        let (i, equal) = match self.change(tx, &at, (key, Some(content)), stamp, old)? {
            Change::Done => return Ok(Changed { offset: at.offset, split: None }),
            Change::Not { place, equal } => (place, equal),
        };
        let mut page = self.read(tx, at)?;
        if !equal {
            return self.put(tx, at, page, i, key, content, stamp);
        }
        old(page.content(i));
        let gone = page.content(i).elsewhere();
        let changed = if page.replace(i, key, content) {
            Changed { offset: self.store(tx, at, &mut page, stamp)?, split: None }
        } else {
            self.put(tx, at, page, i, key, content, stamp)?
        };
        self.retire_value(tx, gone, stamp).map_err(|error| tx.tear(error))?;
        Ok(changed)
    }

    /// What another child, or two, make of a node.
    fn changed_below<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        at: At<'s>,
        i: usize,
        changed: Changed<P>,
        stamp: u64,
    ) -> Result<Changed<P>, Error> {
        let Some((separator, right)) = changed.split else {
            self.replace_child(tx, &at, i, changed.offset)?;
            return Ok(Changed { offset: at.offset, split: None });
        };
        let mut page = self.read(tx, at)?;
        page.set_child(i, changed.offset);
        self.put(tx, at, page, i + 1, separator.borrow(), Content::Child(right), stamp)
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
        let stored = self.store(tx, at, &mut page, stamp);
        // Nothing would lead to the right part.
        let stored = stored.map_err(|error| if split.is_some() { tx.tear(error) } else { error });
        Ok(Changed { offset: stored?, split })
    }

    /// Frees what an entry held elsewhere, as soon as no reader should need it.
    pub(super) fn retire_value<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        elsewhere: Option<(u64, u64)>,
        stamp: u64,
    ) -> Result<(), Error> {
        let Some((offset, len)) = elsewhere else { return Ok(()) };
        self.retire(tx, self.area().span::<u8>(offset, len).ok_or(Error::Damaged)?, stamp)
    }

    /// All of a node's entries or children, and frees the node.
    pub(super) fn take_node<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        at: At<'s>,
        stamp: u64,
    ) -> Result<P, Error> {
        let page = self.read(tx, at)?;
        self.drop_node(tx, at, stamp)?;
        Ok(page)
    }

    /// A child of a node that was read.
    pub(super) fn open_child<B: Backend>(&self, tx: &Tx<'s, B>, page: &P, i: usize) -> Result<At<'s>, Error> {
        self.open(tx, page.child(i)?, page.level().checked_sub(1).ok_or(Error::Damaged)?)
    }
}

/// Nodes that a builder has not ended yet.
pub(super) type Levels<P> = Vec<(P, Option<Owned<P>>)>;
