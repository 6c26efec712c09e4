//! Taking entries out of a tree.

use core::borrow::Borrow;

use hashbrown::HashSet;
use twizzler_abi::Error;

use super::page::{At, Content, Page};
use super::tree::{Change, Tree};
use super::version::Totals;
use crate::backend::Backend;
use crate::tx::Tx;

/// What a removal has made of a child.
struct Shrunk {
    offset: u64,
    len: usize,
    sparse: bool,
}

impl<'s, P: Page> Tree<'s, P> {
    /// Takes a key out; tells `old` what it had. False if it wasn't there.
    pub(super) fn remove<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        key: &P::Key,
        old: &mut dyn FnMut(Content<'_>),
    ) -> Result<bool, Error> {
        let stamp = self.begin(tx)?;
        let (Some(top), mut totals) = self.newest(tx)? else { return Ok(false) };
        let mut removed = |content: Content<'_>| {
            totals.entries = totals.entries.wrapping_sub(1);
            totals.bytes = totals.bytes.wrapping_sub((P::key_bytes(key) + content.value_bytes()) as u64);
            old(content);
        };
        let Some(shrunk) = self.remove_below(tx, top, key, stamp, &mut removed)? else { return Ok(false) };
        let ended = self.removed(tx, top.level, &shrunk, totals, stamp);
        ended.map(|()| true).map_err(|error| tx.tear(error))
    }

    /// Ends a removal.
    fn removed<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        level: u16,
        shrunk: &Shrunk,
        totals: Totals,
        stamp: u64,
    ) -> Result<(), Error> {
        if shrunk.len == 0 {
            return self.set_version(tx, None, Totals::default(), stamp);
        }
        if level == 0 || shrunk.len > 1 {
            return self.set_version(tx, Some(shrunk.offset), totals, stamp);
        }
        // Root nodes that have one child go.
        let mut top = self.open(tx, shrunk.offset, level)?;
        while top.level > 0 && top.len == 1 {
            let child = self.child(tx, &top, 0)?;
            self.drop_node(tx, top, stamp)?;
            top = child;
        }
        self.set_version(tx, Some(top.offset), totals, stamp)
    }

    /// What fails before it has changed anything leaves all as it was; what fails later tears the transaction.
    fn remove_below<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        at: At<'s>,
        key: &P::Key,
        stamp: u64,
        old: &mut dyn FnMut(Content<'_>),
    ) -> Result<Option<Shrunk>, Error> {
        if at.level > 0 {
            let (i, child) = self.seek_child(tx, &at, key, stamp)?;
            let Some(shrunk) = self.remove_below(tx, child, key, stamp, old)? else { return Ok(None) };
            if shrunk.len > 0 && !shrunk.sparse && shrunk.offset == child.offset {
                return Ok(Some(Shrunk { offset: at.offset, len: at.len, sparse: false }));
            }
            let shrunk = self.shrunk_below(tx, at, (i, child), &shrunk, stamp);
            return shrunk.map(Some).map_err(|error| tx.tear(error));
        }
        let i = match self.change(tx, &at, (key, None), stamp, old)? {
            Change::Done => return Ok(Some(Shrunk { offset: at.offset, len: at.len, sparse: false })),
            Change::Not { equal: false, .. } => return Ok(None),
            Change::Not { place, .. } => place,
        };
        let mut page = self.read(tx, at)?;
        old(page.content(i));
        let gone = page.content(i).elsewhere();
        page.remove(i);
        let shrunk = self.store_shrunk(tx, at, page, stamp)?;
        self.retire_value(tx, gone, stamp).map_err(|error| tx.tear(error))?;
        Ok(Some(shrunk))
    }

    /// What a removal from a child makes of a node.
    fn shrunk_below<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        at: At<'s>,
        (i, child): (usize, At<'s>),
        shrunk: &Shrunk,
        stamp: u64,
    ) -> Result<Shrunk, Error> {
        if shrunk.len > 0 && shrunk.offset != child.offset {
            self.replace_child(tx, &at, i, shrunk.offset)?;
        }
        let same = Shrunk { offset: at.offset, len: at.len, sparse: false };
        if shrunk.len > 0 && !shrunk.sparse {
            return Ok(same);
        }
        let mut page = self.read(tx, at)?;
        if shrunk.len == 0 {
            page.remove(i);
        } else if !self.join(tx, &mut page, i, child.level, stamp)? {
            return Ok(same);
        }
        self.store_shrunk(tx, at, page, stamp)
    }

    /// Writes a node that something was taken out of; or frees it, if that was the last.
    fn store_shrunk<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        at: At<'s>,
        mut page: P,
        stamp: u64,
    ) -> Result<Shrunk, Error> {
        if page.len() == 0 {
            self.drop_node(tx, at, stamp)?;
            return Ok(Shrunk { offset: 0, len: 0, sparse: true });
        }
        let offset = self.store(tx, at, &mut page, stamp)?;
        Ok(Shrunk { offset, len: page.len(), sparse: page.is_sparse() })
    }

    /// Joins a sparse child with a neighbour, if both fit one node. True if the parent's copy has changed.
    fn join<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        parent: &mut P,
        i: usize,
        level: u16,
        stamp: u64,
    ) -> Result<bool, Error> {
        if parent.len() < 2 {
            return Ok(false);
        }
        let i = if i + 1 < parent.len() { i } else { i - 1 };
        let left_at = self.open(tx, parent.child(i)?, level)?;
        let right_at = self.open(tx, parent.child(i + 1)?, level)?;
        let mut left = self.read(tx, left_at)?;
        let right = self.read(tx, right_at)?;
        if !left.takes(&right) {
            return Ok(false);
        }
        for n in 0..right.len() {
            // The first key of a node above the leaves means nothing; the parent's stands for it.
            let key = if level > 0 && n == 0 { parent.key(i + 1) } else { right.key(n) };
            if !left.insert(left.len(), key.borrow(), right.content(n)) {
                return Ok(false);
            }
        }
        let offset = self.store(tx, left_at, &mut left, stamp)?;
        self.drop_node(tx, right_at, stamp)?;
        parent.set_child(i, offset);
        parent.remove(i + 1);
        Ok(true)
    }

    /// Takes all entries out.
    pub(super) fn clear<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<(), Error> {
        let stamp = self.begin(tx)?;
        let Some(top) = self.newest(tx)?.0 else { return Ok(()) };
        tx.whole(|tx| {
            self.retire_below(tx, top, stamp, &mut HashSet::new())?;
            self.set_version(tx, None, Totals::default(), stamp)
        })
    }

    /// `seen`: where nodes lie that were come by. No node is one of two others, so that this comes to an end.
    fn retire_below<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        at: At<'s>,
        stamp: u64,
        seen: &mut HashSet<u64>,
    ) -> Result<(), Error> {
        if !seen.insert(at.offset) {
            return Err(Error::Damaged);
        }
        let page = self.read(tx, at)?;
        for i in 0..page.len() {
            if at.level == 0 {
                self.retire_value(tx, page.content(i).elsewhere(), stamp)?;
            } else {
                let child = self.open(tx, page.child(i)?, at.level - 1)?;
                self.retire_below(tx, child, stamp, seen)?;
            }
        }
        self.drop_node(tx, at, stamp)
    }
}
