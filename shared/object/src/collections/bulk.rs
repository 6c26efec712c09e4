//! Builds a map from entries that come in order: each node is written once, from left to right.

use alloc::vec::Vec;
use core::iter::Peekable;
use core::slice::Iter;

use twizzler_abi::Error;

use super::node::{Content, NODE_BYTES, Page};
use super::tree::{BytesMap, MapRoot};
use crate::backend::Backend;
use crate::tx::Tx;

/// Nodes are filled up to here, so that the next change does not split them at once.
const FULL_BYTES: usize = NODE_BYTES - NODE_BYTES / 8;

impl<'s> BytesMap<'s> {
    /// Gives many keys their values: `entries` in ascending order of keys, none twice. Does the same as [`BytesMap::insert`] for each,
    /// but writes the whole map anew, each node once; that is faster when the map is not much larger than what is added.
    ///
    /// # Errors
    /// As [`BytesMap::insert`]; [`Error::InvalidArgument`] where the keys don't ascend.
    pub fn merge_sorted<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        entries: &[(&[u8], &[u8])],
    ) -> Result<(), Error> {
        if entries.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(Error::InvalidArgument);
        }
        let mut builder = Builder::new(*self);
        let mut bytes = 0;
        let mut rest = entries.iter().peekable();
        let old = self.top(tx)?;
        if let Some((offset, top)) = old {
            self.merge_below(tx, offset, top, &mut builder, &mut rest, &mut bytes)?;
        }
        for (key, value) in rest {
            self.push_new(tx, &mut builder, key, value, &mut bytes)?;
        }
        let len = builder.len;
        if len > 0 {
            let (root, levels) = builder.finish(tx)?;
            self.set_top(tx, root, levels)?;
        }
        tx.set(self.root.at(MapRoot::len), len)?;
        tx.set(self.root.at(MapRoot::bytes), bytes)
    }

    /// Hands the old subtree's entries to the builder, in order with the new ones, and frees its nodes.
    fn merge_below<'a, B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        offset: u64,
        level: u16,
        builder: &mut Builder<'s>,
        new: &mut Peekable<Iter<'a, (&'a [u8], &'a [u8])>>,
        bytes: &mut u64,
    ) -> Result<(), Error> {
        let page = self.read(tx, offset, level)?;
        for i in 0..page.len() {
            if level > 0 {
                self.merge_below(tx, page.child(i)?, level - 1, builder, new, bytes)?;
                continue;
            }
            let key = page.key(i);
            while let Some((new_key, value)) = new.next_if(|(new_key, _)| *new_key < key) {
                self.push_new(tx, builder, new_key, value, bytes)?;
            }
            if new.peek().is_some_and(|(new_key, _)| *new_key == key) {
                self.free_value(tx, page.content(i))?;
            } else {
                let content = page.content(i);
                *bytes += (key.len() + content.value_bytes()) as u64;
                builder.push(tx, key, content)?;
            }
        }
        tx.free(self.node(offset)?)
    }

    fn push_new<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        builder: &mut Builder<'s>,
        key: &[u8],
        value: &[u8],
        bytes: &mut u64,
    ) -> Result<(), Error> {
        let content = self.new_content(tx, key, value)?;
        *bytes += (key.len() + value.len()) as u64;
        builder.push(tx, key, content)
    }
}

/// A tree in the making.
struct Builder<'s> {
    map: BytesMap<'s>,
    /// The last node of each level, and the least key that may be in it.
    levels: Vec<(Page, Vec<u8>)>,
    /// Entries.
    len: u64,
    /// The last key.
    last: Option<Vec<u8>>,
}

impl<'s> Builder<'s> {
    fn new(map: BytesMap<'s>) -> Self {
        Self { map, levels: [(Page::new(0), Vec::new())].into(), len: 0, last: None }
    }

    /// Adds an entry; its key is above the last one.
    fn push<B: Backend>(
        &mut self,
        tx: &mut Tx<'s, B>,
        key: &[u8],
        content: Content<'_>,
    ) -> Result<(), Error> {
        match &mut self.last {
            // What was read from the old tree may be damaged.
            Some(last) if last.as_slice() >= key => return Err(Error::Damaged),
            Some(last) => {
                last.clear();
                last.extend_from_slice(key);
            }
            None => self.last = Some(key.to_vec()),
        }
        self.len += 1;
        self.push_at(tx, 0, key, content)
    }

    fn push_at<B: Backend>(
        &mut self,
        tx: &mut Tx<'s, B>,
        level: usize,
        key: &[u8],
        content: Content<'_>,
    ) -> Result<(), Error> {
        if level == self.levels.len() {
            self.levels.push((Page::new(level as u16), Vec::new()));
        }
        let page = &mut self.levels[level].0;
        if page.used() < FULL_BYTES && page.insert(page.len(), key, content) {
            return Ok(());
        }
        self.end_node(tx, level)?;
        let (page, first) = &mut self.levels[level];
        first.extend_from_slice(key);
        let fits = page.insert(0, key, content);
        assert!(fits, "an empty node has room for the longest cell");
        Ok(())
    }

    /// Writes the last node of a level, enters it one level above and starts the next.
    fn end_node<B: Backend>(&mut self, tx: &mut Tx<'s, B>, level: usize) -> Result<(), Error> {
        let (page, first) =
            core::mem::replace(&mut self.levels[level], (Page::new(level as u16), Vec::new()));
        let offset = self.map.add_node(tx, &page)?;
        self.push_at(tx, level + 1, &first, Content::Child(offset))
    }

    /// Ends the tree; gives the root node's offset and the number of levels.
    fn finish<B: Backend>(mut self, tx: &mut Tx<'s, B>) -> Result<(u64, u64), Error> {
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.end_node(tx, level)?;
            level += 1;
        }
        Ok((self.map.add_node(tx, &self.levels[level].0)?, level as u64 + 1))
    }
}
