//! Builds a map from entries that come in order: each node is written once, from left to right.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::iter::Peekable;

use twizzler_abi::Error;

use super::page::{At, Content, Page};
use super::tree::{Levels, Tree};
use super::version::Totals;
use crate::backend::Backend;
use crate::tx::Tx;

impl<'s, P: Page> Tree<'s, P> {
    /// Gives many keys their values. Their order is checked as they come.
    pub(super) fn merge<'a, B: Backend, I>(&self, tx: &mut Tx<'s, B>, entries: I) -> Result<(), Error>
    where
        I: Iterator<Item = (&'a P::Key, &'a [u8])>,
        P::Key: 'a,
    {
        let stamp = self.begin(tx)?;
        let top = self.newest(tx)?.0;
        let mut builder = Builder::new(*self, stamp);
        let mut rest = entries.peekable();
        // Keys may panic as they are compared.
        tx.whole(|tx| {
            if let Some(top) = top {
                self.merge_below(tx, top, &mut builder, &mut rest)?;
            }
            for (key, value) in rest {
                builder.push_new(tx, key, value)?;
            }
            if builder.totals.entries > 0 {
                let totals = builder.totals;
                let offset = builder.finish(tx)?;
                self.set_version(tx, Some(offset), totals, stamp)?;
            }
            Ok(())
        })
    }

    /// Hands the old subtree's entries to the builder, in order with the new ones, and frees its nodes.
    fn merge_below<'a, B: Backend, I>(
        &self,
        tx: &mut Tx<'s, B>,
        at: At<'s>,
        builder: &mut Builder<'s, P>,
        new: &mut Peekable<I>,
    ) -> Result<(), Error>
    where
        I: Iterator<Item = (&'a P::Key, &'a [u8])>,
        P::Key: 'a,
    {
        let page = self.take_node(tx, at, builder.stamp)?;
        for i in 0..page.len() {
            if at.level > 0 {
                let child = self.open_child(tx, &page, i)?;
                self.merge_below(tx, child, builder, new)?;
                continue;
            }
            let key = page.key(i);
            let key: &P::Key = key.borrow();
            while let Some((new_key, value)) = new.next_if(|(new_key, _)| *new_key < key) {
                builder.push_new(tx, new_key, value)?;
            }
            if new.peek().is_some_and(|(new_key, _)| *new_key == key) {
                self.retire_value(tx, page.content(i).elsewhere(), builder.stamp)?;
            } else {
                builder.push(tx, key, page.content(i))?;
            }
        }
        Ok(())
    }
}

/// A tree in the making.
struct Builder<'s, P: Page> {
    tree: Tree<'s, P>,
    stamp: u64,
    /// The last node of each level, and the least key that may be in it.
    levels: Levels<P>,
    totals: Totals,
    /// The last key.
    last: Option<<P::Key as ToOwned>::Owned>,
}

impl<'s, P: Page> Builder<'s, P> {
    fn new(tree: Tree<'s, P>, stamp: u64) -> Self {
        Self { tree, stamp, levels: Vec::new(), totals: Totals::default(), last: None }
    }

    fn push_new<B: Backend>(&mut self, tx: &mut Tx<'s, B>, key: &P::Key, value: &[u8]) -> Result<(), Error> {
        let content = self.tree.new_content(tx, key, value)?;
        self.push(tx, key, content)
    }

    /// Adds an entry; its key must be above the last one.
    fn push<B: Backend>(
        &mut self,
        tx: &mut Tx<'s, B>,
        key: &P::Key,
        content: Content<'_>,
    ) -> Result<(), Error> {
        if self.last.as_ref().is_some_and(|last| last.borrow() >= key) {
            // What the caller gave was checked; what was read from the old tree may be damaged.
            return Err(Error::Damaged);
        }
        self.last = Some(key.to_owned());
        self.totals.entries += 1;
        self.totals.bytes += (P::key_bytes(key) + content.value_bytes()) as u64;
        self.push_at(tx, 0, key, content)
    }

    fn push_at<B: Backend>(
        &mut self,
        tx: &mut Tx<'s, B>,
        level: usize,
        key: &P::Key,
        content: Content<'_>,
    ) -> Result<(), Error> {
        if level == self.levels.len() {
            self.levels.push((P::new(level as u16), None));
        }
        let (page, first) = &mut self.levels[level];
        if page.len() == 0 {
            *first = Some(key.to_owned());
        }
        if !page.is_full() && page.insert(page.len(), key, content) {
            return Ok(());
        }
        self.end_node(tx, level)?;
        let (page, first) = &mut self.levels[level];
        *first = Some(key.to_owned());
        let fits = page.insert(0, key, content);
        assert!(fits, "an empty node has room for the longest cell");
        Ok(())
    }

    /// Writes the last node of a level, enters it one level above and starts the next.
    fn end_node<B: Backend>(&mut self, tx: &mut Tx<'s, B>, level: usize) -> Result<(), Error> {
        let (mut page, first) = core::mem::replace(&mut self.levels[level], (P::new(level as u16), None));
        let offset = self.tree.add(tx, &mut page, self.stamp)?;
        let first = first.expect("a node that ends has an entry");
        self.push_at(tx, level + 1, first.borrow(), Content::Child(offset))
    }

    /// Ends the tree; gives the root node's offset.
    fn finish<B: Backend>(mut self, tx: &mut Tx<'s, B>) -> Result<u64, Error> {
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.end_node(tx, level)?;
            level += 1;
        }
        self.tree.add(tx, &mut self.levels[level].0, self.stamp)
    }
}
