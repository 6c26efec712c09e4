//! Goes through a table.

use twizzler_abi::Error;

use super::super::raw::steady;
use super::{Bucket, CHAIN_MAX, Layout, Slot, Table, TableRoot, occupied};
use crate::keeps::Keep;
use crate::reader::Reader;

/// What `read` gives of all entries of a table. What is freed meanwhile keeps its content, and each entry is read whole; one that is moved meanwhile
/// may come twice, or not at all.
pub(in super::super) struct Slots<'r, 's, R, L: Layout, F> {
    pub(super) table: Table<'s, L>,
    pub(super) reader: &'r R,
    pub(super) read: F,
    pub(super) at: Position<'s, L>,
    pub(super) buckets: u64,
    pub(super) keep: Result<Option<Keep<'s>>, Error>,
    pub(super) over: bool,
}

/// Where it is.
pub(super) struct Position<'s, L: Layout> {
    bucket: Option<Bucket<'s, L>>,
    /// Entries of the bucket that are still to come.
    rest: u64,
    /// Buckets of the chain so far.
    steps: usize,
    /// Buckets of all chains so far.
    seen: u64,
    number: u64,
}

impl<L: Layout> Clone for Position<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<L: Layout> Copy for Position<'_, L> {}

impl<L: Layout> Position<'_, L> {
    pub(super) const START: Self = Self { bucket: None, rest: 0, steps: 0, seen: 0, number: 0 };
}

impl<'s, R: Reader<'s>, L: Layout, F> Slots<'_, 's, R, L, F> {
    /// The entry behind a position.
    fn step(&self, at: &mut Position<'s, L>) -> Result<Option<Slot<'s, L>>, Error> {
        // Some may have been taken out since.
        at.rest &= at.bucket.map_or(0, |bucket| occupied(bucket.tags(self.reader)));
        while at.rest == 0 {
            let next = match at.bucket {
                Some(bucket) => bucket.next(self.reader)?,
                None => None,
            };
            let bucket = match next {
                Some(_) if at.steps == CHAIN_MAX => return Err(Error::Damaged),
                Some(next) => next,
                None if at.number >= self.buckets => return Ok(None),
                // Emptied since.
                None if at.number >= self.reader.get(self.table.root.at(TableRoot::buckets)) => {
                    return Ok(None);
                }
                None => {
                    at.steps = 0;
                    at.number += 1;
                    self.table.bucket(self.reader, at.number - 1)?
                }
            };
            // What is freed meanwhile is kept, so that no bucket comes twice.
            if at.seen == self.table.buckets_max() {
                return Err(Error::Damaged);
            }
            (at.steps, at.seen) = (at.steps + 1, at.seen + 1);
            at.bucket = Some(bucket);
            at.rest = occupied(bucket.tags(self.reader));
        }
        let index = at.rest.trailing_zeros() as usize / 8;
        at.rest &= at.rest - 1;
        let bucket = at.bucket.ok_or(Error::Damaged)?;
        let key = self.reader.get(bucket.key(index));
        Ok(Some(Slot { bucket, index, key }))
    }
}

impl<'s, R: Reader<'s>, L: Layout, T, F: Fn(&R, Slot<'s, L>) -> Result<T, Error>> Iterator
    for Slots<'_, 's, R, L, F>
{
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let entry = match self.keep {
            Err(error) => Err(error),
            Ok(_) => steady(self.reader, self.table.area(), || {
                let mut at = self.at;
                let slot = self.step(&mut at)?;
                Ok((at, slot.map(|slot| (self.read)(self.reader, slot)).transpose()?))
            }),
        };
        let entry = entry.map(|(at, entry)| {
            self.at = at;
            entry
        });
        self.over = !matches!(entry, Ok(Some(_)));
        entry.transpose()
    }
}
