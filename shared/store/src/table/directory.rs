//! The whole directory at once, for mount and `check`: every bucket, reached once.

use alloc::vec::Vec;

use twizzler_abi::address::PAGE_BYTES;
use twizzler_pmem::{LINE_BYTES, Persist};

use super::bucket;
use super::node::Node;
use super::word::Target;
use super::{MAX_LEVELS, Table};
use crate::error::Error;
use crate::frames::FrameKind;
use crate::nvm::Uses;

/// Whether recovery may change anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Only looks.
    Look,
    /// Finishes splits, repairs mirrored words, makes valid entries present.
    Recover,
}

/// A bucket, and the bits of the IDs that lead to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bucket {
    pub(crate) frame: u64,
    pub(crate) prefix: u128,
    pub(crate) bits: u32,
}

/// What the nodes say.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) buckets: Vec<Bucket>,
    /// Words that were damaged in one copy.
    pub(crate) words_damaged: u32,
    /// Words that lead nowhere, in both copies: the objects behind them can't be found.
    pub(crate) words_lost: u32,
    /// Buckets whose first line is damaged.
    pub(crate) headers_damaged: u32,
    /// Nodes in which a split or a repair was finished.
    pub(crate) nodes_settled: u32,
}

impl Directory {
    /// Reads all nodes, marks them and the buckets as used, and, where it may, finishes what was interrupted in nodes.
    /// What is used already can't be a node or bucket as well: so this ends, whatever the words say.
    pub(crate) fn read<P: Persist>(table: &Table<'_, P>, uses: &mut Uses, mode: Mode) -> Result<Self, Error> {
        let mut directory = Self::default();
        directory.node(table, uses, mode, Node { frame: table.root, level: 0 }, 0)?;
        Ok(directory)
    }

    fn node<P: Persist>(
        &mut self,
        table: &Table<'_, P>,
        uses: &mut Uses,
        mode: Mode,
        node: Node,
        prefix: u128,
    ) -> Result<(), Error> {
        if node.level >= MAX_LEVELS || !uses.mark(node.frame, FrameKind::Table) {
            self.words_lost += 1;
            return Ok(());
        }
        let resolved = node.resolve(table.media, &table.uuid)?;
        self.words_damaged += resolved.damaged;
        if mode == Mode::Recover && node.settle(table.media, &resolved) {
            self.nodes_settled += 1;
        }
        let mut last = None;
        for (index, word) in resolved.words.iter().enumerate() {
            let prefix = prefix | (index as u128) << (120 - 8 * node.level);
            match word.map(|word| (word.target, word.frame)) {
                Some((Target::Bucket { .. }, frame)) if last == Some(frame) => {}
                Some((Target::Bucket { depth }, frame)) if uses.mark(frame, FrameKind::Table) => {
                    last = Some(frame);
                    self.header(table, frame, mode);
                    self.buckets.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
                    self.buckets.push(Bucket { frame, prefix, bits: 8 * node.level + u32::from(depth) });
                }
                Some((Target::Node, frame)) => {
                    self.node(table, uses, mode, Node { frame, level: node.level + 1 }, prefix)?;
                }
                Some((Target::Bucket { .. }, _)) | None => self.words_lost += 1,
            }
        }
        Ok(())
    }

    /// Looks at a bucket's first line. Only words tell that it is a bucket then, so it is made whole.
    fn header<P: Persist>(&mut self, table: &Table<'_, P>, frame: u64, mode: Mode) {
        let readable = table.media.check_readable(frame * PAGE_BYTES, LINE_BYTES).is_ok();
        if !readable || !bucket::has_header(table.media, frame, &table.uuid) {
            self.headers_damaged += 1;
            if mode == Mode::Recover {
                bucket::write_header(table.media, frame, &table.uuid);
            }
        }
    }
}
