//! Goes through a table.

use twizzler_abi::Error;

use super::{Bucket, CHAIN_MAX, Layout, Slot, Table, occupied};
use crate::keeps::Keep;
use crate::reader::Reader;

/// All entries of a table.
pub(in super::super) struct Slots<'r, 's, R, L: Layout> {
    pub(super) table: Table<'s, L>,
    pub(super) reader: &'r R,
    pub(super) bucket: Option<Bucket<'s, L>>,
    /// Entries of the bucket that are still to come.
    pub(super) rest: u64,
    /// Buckets of the chain so far.
    pub(super) steps: usize,
    pub(super) number: u64,
    pub(super) buckets: u64,
    /// What is freed meanwhile keeps its content.
    pub(super) keep: Result<Option<Keep<'s>>, Error>,
}

impl<'s, R: Reader<'s>, L: Layout> Slots<'_, 's, R, L> {
    fn step(&mut self) -> Result<Option<Slot<'s, L>>, Error> {
        self.keep.as_ref().map_err(|&error| error)?;
        while self.rest == 0 {
            let next = match self.bucket {
                Some(bucket) => bucket.next(self.reader)?,
                None => None,
            };
            let bucket = match next {
                Some(_) if self.steps == CHAIN_MAX => return Err(Error::Damaged),
                Some(next) => next,
                None if self.number == self.buckets => return Ok(None),
                None => {
                    self.steps = 0;
                    self.number += 1;
                    self.table.bucket(self.reader, self.number - 1)?
                }
            };
            self.steps += 1;
            self.bucket = Some(bucket);
            self.rest = occupied(bucket.tags(self.reader));
        }
        let index = self.rest.trailing_zeros() as usize / 8;
        self.rest &= self.rest - 1;
        let bucket = self.bucket.ok_or(Error::Damaged)?;
        let key = self.reader.get(bucket.key(index));
        Ok(Some(Slot { bucket, index, key }))
    }
}

impl<'s, R: Reader<'s>, L: Layout> Iterator for Slots<'_, 's, R, L> {
    type Item = Result<Slot<'s, L>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let slot = self.step().transpose();
        if matches!(slot, Some(Err(_))) {
            (self.rest, self.bucket, self.number) = (0, None, self.buckets);
        }
        slot
    }
}
