//! Goes through all words of one or more segments, in byte order.

use alloc::vec::Vec;

use twizzler_abi::Error;
use twizzler_abi::pointer::PointerBits;
use twizzler_object::Backend;

use crate::segment::{Found, Segment};

/// A word and what the dictionary says of it.
type Entry = (Vec<u8>, Found);
/// A child still to be visited.
type Pending = (PointerBits, u64, u32);

/// All words of one segment.
pub(crate) struct Cursor<'a, 's, B: Backend> {
    segment: &'a Segment<'s, B>,
    /// Nodes still to be visited; the next one last.
    pending: Vec<Pending>,
    /// The current leaf's entries, last first.
    leaf: Vec<Entry>,
    last: Option<Vec<u8>>,
}

impl<'a, 's, B: Backend> Cursor<'a, 's, B> {
    pub(crate) fn new(segment: &'a Segment<'s, B>) -> Self {
        let header = &segment.header;
        let root = (header.root, header.root_bytes.into(), header.levels - 1);
        Self { segment, pending: [root].into(), leaf: Vec::new(), last: None }
    }

    fn next(&mut self) -> Result<Option<Entry>, Error> {
        while self.leaf.is_empty() {
            let Some((pointer, bytes, level)) = self.pending.pop() else { return Ok(None) };
            let at = self.segment.node(pointer, bytes, level)?;
            let mut entries = at.node.entries();
            let first = self.pending.len();
            while let Some(target) = entries.next()? {
                if level == 0 {
                    self.leaf.push((entries.word().to_vec(), at.found(target)));
                } else {
                    self.pending.push((target.pointer, target.bytes, level - 1));
                }
            }
            self.pending[first..].reverse();
            self.leaf.reverse();
        }
        let entry = self.leaf.pop();
        if let Some((word, _)) = &entry {
            // Also keeps a damaged dictionary from going round in a circle.
            if self.last.as_ref().is_some_and(|last| last >= word) {
                return Err(Error::Damaged);
            }
            self.last = Some(word.clone());
        }
        Ok(entry)
    }
}

/// All words of several segments, each once.
pub(crate) struct Merged<'a, 's, B: Backend> {
    cursors: Vec<(Cursor<'a, 's, B>, Option<Entry>)>,
}

impl<'a, 's, B: Backend> Merged<'a, 's, B> {
    pub(crate) fn new(segments: impl Iterator<Item = &'a Segment<'s, B>>) -> Result<Self, Error> {
        let mut cursors = Vec::new();
        for segment in segments {
            let mut cursor = Cursor::new(segment);
            let head = cursor.next()?;
            cursors.push((cursor, head));
        }
        Ok(Self { cursors })
    }

    /// The next word, with each segment that has it, by number. `found` is cleared first.
    pub(crate) fn next(&mut self, found: &mut Vec<(usize, Found)>) -> Result<Option<Vec<u8>>, Error> {
        found.clear();
        let heads = self.cursors.iter().filter_map(|(_, head)| head.as_ref().map(|(word, _)| word));
        let Some(word) = heads.min().cloned() else { return Ok(None) };
        for (i, (cursor, head)) in self.cursors.iter_mut().enumerate() {
            if head.as_ref().is_some_and(|(w, _)| *w == word) {
                found.extend(head.take().map(|(_, entry)| (i, entry)));
                *head = cursor.next()?;
            }
        }
        Ok(Some(word))
    }
}
