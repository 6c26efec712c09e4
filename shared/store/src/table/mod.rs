//! The object table: extendible hashing by the ID itself, which is a hash. Eight bits of it, highest first, choose a word of
//! a *node*, which leads to a *bucket* of 63 entries or to a node for the next eight bits. So the table is in ascending
//! order of IDs, and grows by one frame at a time.
//!
//! **Split.** The new bucket gets its header and copies of the entries that lead to it; flush; fence. The words of
//! the upper half of the range are stored one by one (each is a commit of its own: both buckets hold what it leads
//! to); fence; then those of the lower half, which only note the new depth; then the copies left in the old
//! bucket are freed. An entry counts only in the bucket that its ID leads to. After a power cut, [`node::Resolved`]
//! tells what is missing.

pub(crate) mod bucket;
pub(crate) mod directory;
pub(crate) mod node;
pub(crate) mod word;

use twizzler_abi::ObjId;
use twizzler_pmem::Persist;

use crate::error::Error;
use bucket::{ENTRIES, Record, Slot, field};
use node::{Node, WORDS};
use word::{CommitWord, NodeWord, Target};

/// Nodes on the way to a bucket, at most: the bytes of an ID.
pub(crate) const MAX_LEVELS: u32 = 16;

/// The table of a region.
#[derive(Debug)]
pub(crate) struct Table<'a, P> {
    pub(crate) media: &'a P,
    pub(crate) uuid: [u8; 16],
    /// Frame of the first node.
    pub(crate) root: u64,
}

/// A bucket, as reached from a node.
#[derive(Clone, Copy, Debug)]
struct Reached {
    node: Node,
    index: usize,
    frame: u64,
    depth: u8,
}

/// Byte `level` of an ID, from the highest.
const fn byte(id: ObjId, level: u32) -> usize {
    (id.get() >> (120 - 8 * level) & 0xff) as usize
}

/// Whether `id` leads to where the first `bits` bits of `prefix` lead.
pub(crate) const fn leads(id: ObjId, prefix: u128, bits: u32) -> bool {
    bits == 0 || (id.get() ^ prefix) >> (128 - bits) == 0
}

impl<P: Persist> Table<'_, P> {
    const fn first(&self) -> Node {
        Node { frame: self.root, level: 0 }
    }

    fn reach(&self, id: ObjId) -> Result<Reached, Error> {
        let mut node = self.first();
        loop {
            let index = byte(id, node.level);
            let word = node.load(self.media, index)?;
            match word.target {
                Target::Bucket { depth } => return Ok(Reached { node, index, frame: word.frame, depth }),
                Target::Node if node.level + 1 < MAX_LEVELS => {
                    node = Node { frame: word.frame, level: node.level + 1 };
                }
                Target::Node => return Err(Error::Damaged),
            }
        }
    }

    /// The entry of `id`.
    pub(crate) fn find(&self, id: ObjId) -> Result<Option<(Slot, Record)>, Error> {
        let frame = self.reach(id)?.frame;
        let found = bucket::slots(frame, id).find(|&slot| bucket::is_for(self.media, slot, id));
        Ok(found.map(|slot| (slot, bucket::read(self.media, slot))))
    }

    /// A free entry for `id`; None where its bucket is full.
    fn vacant(&self, id: ObjId) -> Result<Option<Slot>, Error> {
        let frame = self.reach(id)?.frame;
        Ok(bucket::slots(frame, id).find(|&slot| bucket::is_free(self.media, slot)))
    }

    /// Makes an entry for an object whose tree is flushed. Durable on return.
    ///
    /// # Errors
    /// Whatever `allocate`, which gives zeroed frames for the table, fails with; [`Error::Exists`].
    pub(crate) fn insert(
        &self,
        id: ObjId,
        word: CommitWord,
        mut allocate: impl FnMut() -> Result<u64, Error>,
    ) -> Result<(), Error> {
        if self.find(id)?.is_some() {
            return Err(Error::Exists);
        }
        let slot = loop {
            match self.vacant(id)? {
                Some(slot) => break slot,
                None => self.split(id, &mut allocate)?,
            }
        };
        bucket::write_body(self.media, slot, id, 0);
        self.media.fence();
        self.commit(slot, word.encode());
        Ok(())
    }

    /// Stores a commit word. Durable on return.
    pub(crate) fn commit(&self, slot: Slot, word: u64) {
        // COMMIT: the object exists as the word says, or, with 0, no longer.
        self.media.store(slot.at + field::COMMIT, word);
        self.media.persist(slot.at + field::COMMIT, 8);
    }

    /// Makes room where `id` leads to.
    fn split(&self, id: ObjId, allocate: &mut impl FnMut() -> Result<u64, Error>) -> Result<(), Error> {
        let full = self.reach(id)?;
        if full.depth == 8 {
            return self.deepen(full, allocate);
        }
        let depth = full.depth + 1;
        let len = WORDS >> depth;
        let lower = full.index / (2 * len) * (2 * len);
        let new = allocate()?;
        bucket::write_header(self.media, new, &self.uuid);
        for number in 0..ENTRIES {
            if self.moves(full, number, lower + len) {
                self.copy(bucket::slot(full.frame, number), bucket::slot(new, number));
            }
        }
        self.media.fence();
        for (start, frame) in [(lower + len, new), (lower, full.frame)] {
            for index in start..start + len {
                full.node.store(self.media, index, NodeWord { target: Target::Bucket { depth }, frame });
            }
            self.media.fence();
        }
        for number in 0..ENTRIES {
            if self.moves(full, number, lower + len) {
                self.free_copy(bucket::slot(full.frame, number));
            }
        }
        Ok(())
    }

    /// Whether an entry belongs to the words from `upper` on; damaged ones stay.
    fn moves(&self, full: Reached, number: usize, upper: usize) -> bool {
        let slot = bucket::slot(full.frame, number);
        let live = matches!(bucket::read(self.media, slot), Record::Live(..));
        live && byte(bucket::id_of(self.media, slot), full.node.level) >= upper
    }

    fn copy(&self, from: Slot, to: Slot) {
        let mut line = [0; 64];
        self.media.read(from.at, &mut line);
        self.media.write(to.at, &line);
        self.media.flush(to.at, 64);
    }

    /// Frees what a split has left behind and counts no longer. Need not be durable: the next mount does it again, and
    /// in the entry's line it comes before whatever is written there next.
    pub(crate) fn free_copy(&self, slot: Slot) {
        self.media.store(slot.at + field::COMMIT, 0);
    }

    /// Puts a node between a node and a bucket that one word alone leads to.
    fn deepen(&self, full: Reached, allocate: &mut impl FnMut() -> Result<u64, Error>) -> Result<(), Error> {
        let level = full.node.level + 1;
        if level >= MAX_LEVELS {
            return Err(Error::TooMany);
        }
        let node = Node { frame: allocate()?, level };
        for index in 0..WORDS {
            node.store(
                self.media,
                index,
                NodeWord { target: Target::Bucket { depth: 0 }, frame: full.frame },
            );
        }
        self.media.fence();
        full.node.store(self.media, full.index, NodeWord { target: Target::Node, frame: node.frame });
        self.media.fence();
        Ok(())
    }

    /// The least ID greater than `id`.
    pub(crate) fn next_after(&self, id: ObjId) -> Result<Option<ObjId>, Error> {
        self.next_in(self.first(), Some(id))
    }

    /// The same below a node; None: the least of all.
    fn next_in(&self, node: Node, after: Option<ObjId>) -> Result<Option<ObjId>, Error> {
        let first = after.map_or(0, |id| byte(id, node.level));
        let mut index = first;
        while index < WORDS {
            let after = after.filter(|_| index == first);
            let mut next = index + 1;
            let found = match node.load(self.media, index).map(|word| (word.target, word.frame)) {
                Ok((Target::Bucket { .. }, frame)) => {
                    let same = |index| node.load(self.media, index).is_ok_and(|word| word.frame == frame);
                    next = (next..WORDS).find(|&index| !same(index)).unwrap_or(WORDS);
                    self.least_in(node, index..next, frame, after)
                }
                Ok((Target::Node, frame)) if node.level + 1 < MAX_LEVELS => {
                    self.next_in(Node { frame, level: node.level + 1 }, after)?
                }
                Ok((Target::Node, _)) | Err(_) => None,
            };
            if found.is_some() {
                return Ok(found);
            }
            index = next;
        }
        Ok(None)
    }

    /// The least ID in a bucket, of those that these words of a node lead to: what a split has left behind counts no
    /// longer, and one that a power cut interrupted may have left its words mixed.
    fn least_in(
        &self,
        node: Node,
        words: core::ops::Range<usize>,
        frame: u64,
        after: Option<ObjId>,
    ) -> Option<ObjId> {
        let ids =
            (0..ENTRIES).filter_map(|number| match bucket::read(self.media, bucket::slot(frame, number)) {
                Record::Live(id, _) if after.is_none_or(|after| id > after) => Some(id),
                _ => None,
            });
        let here = |id: &ObjId| {
            words.contains(&byte(*id, node.level))
                && self.reach(*id).is_ok_and(|reached| reached.frame == frame)
        };
        ids.filter(here).min()
    }
}
