//! A place in one version of a tree, and steps from there.

use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::Range;

use twizzler_abi::Error;

use super::page::{At, Page};
use super::tail::Order;
use super::version::Version;
use crate::reader::Reader;

/// The nodes from the root down to a leaf, each with the place in it. Empty: before the first entry, or behind the last.
pub(super) struct Walk<'s, P> {
    version: Option<Version<'s>>,
    path: Vec<(At<'s>, usize)>,
    /// The order of the leaf's entries.
    order: Order,
    page: PhantomData<P>,
}

/// Leaves that are announced together where a walk may end soon.
const AHEAD: usize = 16;

/// Which end of a subtree.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    First,
    Last,
}

impl<'s, P: Page> Walk<'s, P> {
    /// None: an empty map.
    pub(super) const fn new(version: Option<Version<'s>>) -> Self {
        Self { version, path: Vec::new(), order: Order::plain(0), page: PhantomData }
    }

    fn top(&self) -> Option<At<'s>> {
        self.version.and_then(|version| version.top)
    }

    fn child(&self, reader: &impl Reader<'s>, at: &At<'s>, i: usize) -> Result<At<'s>, Error> {
        self.version.ok_or(Error::Damaged)?.child::<P>(reader, at, i)
    }

    /// The entry here: its leaf, and where in that it lies.
    #[inline]
    pub(super) fn here(&self) -> Option<(At<'s>, usize)> {
        self.path.last().map(|&(leaf, place)| (leaf, self.order.number(place)))
    }

    /// Goes to no entry.
    pub(super) fn leave(&mut self) {
        self.path.clear();
    }

    pub(super) fn first(&mut self, reader: &impl Reader<'s>) -> Result<(), Error> {
        self.path.clear();
        self.top().map_or(Ok(()), |top| self.descend(reader, top, End::First))
    }

    pub(super) fn last(&mut self, reader: &impl Reader<'s>) -> Result<(), Error> {
        self.path.clear();
        self.top().map_or(Ok(()), |top| self.descend(reader, top, End::Last))
    }

    /// Goes to the first entry whose key is not below `key`. True if it is equal.
    pub(super) fn seek(&mut self, reader: &impl Reader<'s>, key: &P::Key) -> Result<bool, Error> {
        self.path.clear();
        let Some(mut at) = self.top() else { return Ok(false) };
        while at.level > 0 {
            let i = P::seek_child(reader, &at, key)?;
            self.path.push((at, i));
            Self::announce(reader, &at, || i..i + AHEAD);
            at = self.child(reader, &at, i)?;
        }
        self.order = P::order(reader, &at)?;
        let (i, equal) = P::seek(reader, &at, &self.order, key)?;
        if self.order.len() == 0 {
            return Err(Error::Damaged);
        }
        self.path.push((at, i));
        if i == self.order.len() {
            self.path.pop();
            self.up(reader, End::First)?;
        }
        Ok(equal)
    }

    /// Goes to the next entry.
    pub(super) fn next(&mut self, reader: &impl Reader<'s>) -> Result<(), Error> {
        let Some((_, i)) = self.path.last_mut() else { return Ok(()) };
        *i += 1;
        if *i < self.order.len() {
            return Ok(());
        }
        self.path.pop();
        self.up(reader, End::First)
    }

    /// Goes to the entry before; from behind the last one, to the last.
    pub(super) fn previous(&mut self, reader: &impl Reader<'s>) -> Result<(), Error> {
        let Some((_, i)) = self.path.last_mut() else { return self.last(reader) };
        if *i > 0 {
            *i -= 1;
            return Ok(());
        }
        self.path.pop();
        self.up(reader, End::Last)
    }

    /// Goes up until there is a neighbour, and down to its end.
    fn up(&mut self, reader: &impl Reader<'s>, end: End) -> Result<(), Error> {
        while let Some((at, i)) = self.path.last_mut() {
            let neighbour = match end {
                End::First => (*i + 1 < at.len).then(|| *i + 1),
                End::Last => i.checked_sub(1),
            };
            if let Some(neighbour) = neighbour {
                *i = neighbour;
                let at = *at;
                if neighbour.is_multiple_of(AHEAD) {
                    Self::announce(reader, &at, || match end {
                        End::First => neighbour..neighbour + 2 * AHEAD,
                        End::Last => neighbour.saturating_sub(2 * AHEAD)..neighbour,
                    });
                }
                let below = self.child(reader, &at, neighbour)?;
                return self.descend(reader, below, end);
            }
            self.path.pop();
        }
        Ok(())
    }

    fn descend(&mut self, reader: &impl Reader<'s>, mut at: At<'s>, end: End) -> Result<(), Error> {
        loop {
            let len = if at.level > 0 {
                at.len
            } else {
                self.order = P::order(reader, &at)?;
                self.order.len()
            };
            let last = len.checked_sub(1).ok_or(Error::Damaged)?;
            let i = if end == End::First { 0 } else { last };
            self.path.push((at, i));
            if at.level == 0 {
                return Ok(());
            }
            // The walk has come from another leaf, so it is a long one.
            Self::announce(reader, &at, || 0..at.len);
            at = self.child(reader, &at, i)?;
        }
    }

    /// Says that these of a node's leaves will be read, where they may have to come from a disk: together, not each when the walk gets there.
    #[inline]
    fn announce(reader: &impl Reader<'s>, at: &At<'s>, children: impl FnOnce() -> Range<usize>) {
        if at.level == 1 && reader.reads_slowly() {
            Self::expect(reader, at, children());
        }
    }

    #[cold]
    fn expect(reader: &impl Reader<'s>, at: &At<'s>, children: Range<usize>) {
        /// Leaves that are so near each other are announced as one.
        const NEAR_BYTES: u64 = 8192;
        let bytes = P::node_bytes(0) as u64;
        let children = children.start..children.end.min(at.len);
        // What can't be read now is an error when it is needed.
        let mut leaves: Vec<u64> = children.filter_map(|i| P::read_child(reader, at, i).ok()).collect();
        leaves.sort_unstable();
        for near in leaves.chunk_by(|left, right| right - left <= NEAR_BYTES) {
            if let (Some(first), Some(last)) = (near.first(), near.last())
                && let Some(span) = at.area.span(*first, last - first + bytes)
            {
                reader.expect(span);
            }
        }
    }
}
