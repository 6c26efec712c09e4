//! Goes through a map in order.

use alloc::vec::Vec;
use core::ops::Bound;

use twizzler_abi::Error;

use super::node::Page;
use super::tree::BytesMap;
use crate::reader::Reader;

/// An entry: key and value, copied.
type Entry = (Vec<u8>, Vec<u8>);

/// Entries of a map, in the order of their keys. An error ends the iteration.
///
/// A long iteration meets each node once and keeps one for each level. Who changes the map meanwhile gets a mix of old and new.
pub struct Range<'r, 's, R: Reader<'s>> {
    map: BytesMap<'s>,
    reader: &'r R,
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
    /// The nodes from the root down to the current leaf, each with the place of the next cell.
    path: Vec<(Page, usize)>,
    /// Whether the path leads to a leaf.
    state: State,
    /// The last key: keys that don't ascend are damage, and would let a circle of nodes go on for ever.
    last: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Open,
    Ended,
}

impl<'r, 's, R: Reader<'s>> Range<'r, 's, R> {
    pub(crate) const fn new(
        map: BytesMap<'s>,
        reader: &'r R,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
    ) -> Self {
        Self { map, reader, from, to, path: Vec::new(), state: State::New, last: None }
    }

    /// Goes down to the first key in the range.
    fn start(&mut self) -> Result<(), Error> {
        let Some((mut offset, top)) = self.map.top(self.reader)? else { return Ok(()) };
        let from: &[u8] = match &self.from {
            Bound::Included(key) | Bound::Excluded(key) => key,
            Bound::Unbounded => &[],
        };
        for level in (0..=top).rev() {
            let page = self.map.read(self.reader, offset, level)?;
            if level == 0 {
                let i = match page.search(from) {
                    Ok(i) if matches!(self.from, Bound::Excluded(_)) => i + 1,
                    Ok(i) | Err(i) => i,
                };
                self.path.push((page, i));
            } else {
                let i = page.child_for(from)?;
                offset = page.child(i)?;
                self.path.push((page, i + 1));
            }
        }
        Ok(())
    }

    /// Goes on to the next leaf of a tree with so many levels. False: there is none.
    fn next_leaf(&mut self, levels: usize) -> Result<bool, Error> {
        self.path.pop();
        while let Some((page, i)) = self.path.last_mut() {
            if *i >= page.len() {
                self.path.pop();
                continue;
            }
            let mut offset = page.child(*i)?;
            *i += 1;
            while self.path.len() < levels {
                let level = levels - self.path.len() - 1;
                let page = self.map.read(self.reader, offset, level as u16)?;
                if level > 0 {
                    if page.len() == 0 {
                        return Err(Error::Damaged);
                    }
                    offset = page.child(0)?;
                }
                self.path.push((page, usize::from(level > 0)));
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn read(&mut self) -> Result<Option<Entry>, Error> {
        if self.state == State::New {
            self.state = State::Open;
            self.start()?;
        }
        while let Some((leaf, i)) = self.path.last_mut() {
            if *i >= leaf.len() {
                if !self.next_leaf(self.path.len())? {
                    return Ok(None);
                }
                continue;
            }
            let key = leaf.key(*i).to_vec();
            let beyond = match &self.to {
                Bound::Included(to) => key > *to,
                Bound::Excluded(to) => key >= *to,
                Bound::Unbounded => false,
            };
            if beyond {
                return Ok(None);
            }
            if self.last.as_ref().is_some_and(|last| *last >= key) {
                return Err(Error::Damaged);
            }
            let value = self.map.value(self.reader, leaf.content(*i))?;
            *i += 1;
            self.last = Some(key.clone());
            return Ok(Some((key, value)));
        }
        Ok(None)
    }
}

impl<'s, R: Reader<'s>> Iterator for Range<'_, 's, R> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Ended {
            return None;
        }
        let entry = self.read().transpose();
        if !matches!(entry, Some(Ok(_))) {
            self.state = State::Ended;
        }
        entry
    }
}
