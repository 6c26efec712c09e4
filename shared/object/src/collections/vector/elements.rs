//! Goes through a vector.

use core::ops::Range;

use twizzler_abi::Error;

use super::super::raw::steady;
use super::Vector;
use crate::keeps::Keep;
use crate::pointer::Ptr;
use crate::reader::Reader;
use crate::stored::Stored;

/// What `read` gives of the elements of a vector. Each is read whole, where it then is; a vector that is shorter by then ends sooner.
pub(super) struct Elements<'r, 's, R, T, F> {
    vector: Vector<'s, T>,
    reader: &'r R,
    rest: Range<u64>,
    keep: Result<Option<Keep<'s>>, Error>,
    read: F,
}

impl<'r, 's, R: Reader<'s>, T: Stored, V, F: Fn(&R, Ptr<'s, T>) -> V> Elements<'r, 's, R, T, F> {
    pub(super) fn new(
        vector: Vector<'s, T>,
        reader: &'r R,
        keep: Result<Option<Keep<'s>>, Error>,
        read: F,
    ) -> Self {
        match steady(reader, vector.area(), || vector.checked_len(reader)) {
            Ok(len) => Self { vector, reader, rest: 0..len, keep, read },
            Err(error) => Self { vector, reader, rest: 0..1, keep: Err(error), read },
        }
    }

    /// The element that `index` chooses of those that are left. An error ends them.
    #[inline]
    fn step(&mut self, index: impl Fn(&Range<u64>) -> u64) -> Option<Result<V, Error>> {
        if self.rest.is_empty() {
            return None;
        }
        let look = || {
            let rest = self.rest.start..self.rest.end.min(self.vector.len(self.reader));
            if rest.is_empty() {
                return Ok(None);
            }
            let index = index(&rest);
            let value = (self.read)(self.reader, self.vector.at(self.reader, index)?);
            Ok(Some((value, index, rest.end)))
        };
        let element = match self.keep {
            Ok(_) => steady(self.reader, self.vector.area(), look),
            Err(error) => Err(error),
        };
        self.rest = match element {
            Ok(Some((_, index, end))) if index == self.rest.start => index + 1..end,
            Ok(Some((_, index, _))) => self.rest.start..index,
            _ => 0..0,
        };
        element.map(|element| element.map(|(value, ..)| value)).transpose()
    }
}

impl<'s, R: Reader<'s>, T: Stored, V, F: Fn(&R, Ptr<'s, T>) -> V> Iterator for Elements<'_, 's, R, T, F> {
    type Item = Result<V, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.step(|rest| rest.start)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, usize::try_from(self.rest.end - self.rest.start).ok())
    }
}

impl<'s, R: Reader<'s>, T: Stored, V, F: Fn(&R, Ptr<'s, T>) -> V> DoubleEndedIterator
    for Elements<'_, 's, R, T, F>
{
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(|rest| rest.end - 1)
    }
}
