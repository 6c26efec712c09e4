//! Builds a map from entries that come in order: each node is written once, from left to right.

use alloc::vec::Vec;

use twizzler_abi::Error;

use super::node::{Content, NODE_BYTES, Page};
use super::tree::BytesMap;
use crate::backend::Backend;
use crate::tx::Tx;

/// Nodes are filled up to here, so that the next change does not split them at once.
const FULL_BYTES: usize = NODE_BYTES - NODE_BYTES / 8;

/// A tree in the making.
pub(crate) struct Builder<'s> {
    map: BytesMap<'s>,
    /// The last node of each level, and the least key that may be in it.
    levels: Vec<(Page, Vec<u8>)>,
    /// Entries.
    pub(crate) len: u64,
}

impl<'s> Builder<'s> {
    pub(crate) fn new(map: BytesMap<'s>) -> Self {
        Self { map, levels: [(Page::new(0), Vec::new())].into(), len: 0 }
    }

    /// Adds an entry; its key is above the last one.
    pub(crate) fn push<B: Backend>(
        &mut self,
        tx: &mut Tx<'s, B>,
        key: &[u8],
        content: Content<'_>,
    ) -> Result<(), Error> {
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
    pub(crate) fn finish<B: Backend>(mut self, tx: &mut Tx<'s, B>) -> Result<(u64, u64), Error> {
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.end_node(tx, level)?;
            level += 1;
        }
        Ok((self.map.add_node(tx, &self.levels[level].0)?, level as u64 + 1))
    }
}
