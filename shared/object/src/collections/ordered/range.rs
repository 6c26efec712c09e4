//! Goes through a map in order.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::cmp::Ordering;
use core::ops::Bound;

use twizzler_abi::Error;

use super::Entries;
use super::page::Page;
use super::snapshot::place_of;
use super::version::Version;
use super::walk::Walk;
use crate::keeps::Keep;
use crate::pointer::Bytes;
use crate::reader::Reader;
use crate::stored::Value;

type Owned<K> = <K as ToOwned>::Owned;

/// Entries of a map, in the order of their keys, from both ends, as they were when the iteration began. An error ends it.
pub struct Range<'r, 's, R: Reader<'s>, K: Entries<V> + ?Sized, V: ?Sized> {
    reader: &'r R,
    front: End<'s, K, V>,
    back: End<'s, K, V>,
    version: Result<Version<'s>, Error>,
    /// Keeps the version, if it is not a snapshot's.
    _keep: Option<Keep<'s>>,
    over: bool,
}

/// One end of a range.
struct End<'s, K: Entries<V> + ?Sized, V: ?Sized> {
    walk: Walk<'s, K::Page>,
    /// Nothing beyond this is given out: what the caller asked for, and then the last key that was.
    bound: Bound<Owned<K>>,
    begun: bool,
}

impl<'r, 's, R: Reader<'s>, K: Entries<V> + ?Sized, V: ?Sized> Range<'r, 's, R, K, V> {
    pub(super) fn new(
        version: Result<(Version<'s>, Option<Keep<'s>>), Error>,
        reader: &'r R,
        from: Bound<Owned<K>>,
        to: Bound<Owned<K>>,
    ) -> Self {
        let (version, keep) = match version {
            Ok((version, keep)) => (Ok(version), keep),
            Err(error) => (Err(error), None),
        };
        let end = |bound| End { walk: Walk::new(version.ok()), bound, begun: false };
        Self { reader, front: end(from), back: end(to), version, _keep: keep, over: false }
    }

    /// The next entry from one end: its key, and the bytes of its value.
    fn step(&mut self, forward: bool) -> Result<Option<(Owned<K>, Bytes<'s>)>, Error> {
        let (near, far) = if forward { (&mut self.front, &self.back) } else { (&mut self.back, &self.front) };
        let again = near.begun;
        near.advance(self.reader, forward)?;
        let Some((at, i)) = near.walk.here() else { return Ok(None) };
        let key = K::Page::read_key(self.reader, &at, i)?;
        let (towards, away) =
            if forward { (Ordering::Less, Ordering::Greater) } else { (Ordering::Greater, Ordering::Less) };
        let within = match &far.bound {
            Bound::Included(to) => key.borrow().cmp(to.borrow()) != away,
            Bound::Excluded(to) => key.borrow().cmp(to.borrow()) == towards,
            Bound::Unbounded => true,
        };
        if !within {
            return Ok(None);
        }
        // Keys that don't ascend are damage, and would let a circle of nodes go on for ever.
        if again && matches!(&near.bound, Bound::Excluded(last) if key.borrow().cmp(last.borrow()) != away) {
            return Err(Error::Damaged);
        }
        let value = K::Page::read_value(self.reader, &at, i)?;
        near.bound = Bound::Excluded(key.clone());
        Ok(Some((key, value)))
    }

    fn give<T>(
        &mut self,
        forward: bool,
        make: impl FnOnce(&R, Owned<K>, Bytes<'s>) -> Result<T, Error>,
    ) -> Option<Result<T, Error>> {
        if self.over {
            return None;
        }
        let entry = match self.version {
            Ok(version) => {
                let entry = match self.step(forward) {
                    Ok(None) => Ok(None),
                    Ok(Some((key, value))) => make(self.reader, key, value).map(Some),
                    Err(error) => Err(error),
                };
                version.whole(self.reader, entry).transpose()
            }
            Err(error) => Some(Err(error)),
        };
        self.over = !matches!(entry, Some(Ok(_)));
        entry
    }
}

impl<'s, K: Entries<V> + ?Sized, V: ?Sized> End<'s, K, V> {
    /// Goes to the next entry; at first, to the first one that the bound allows.
    fn advance(&mut self, reader: &impl Reader<'s>, forward: bool) -> Result<(), Error> {
        if self.begun {
            return if forward { self.walk.next(reader) } else { self.step_back(reader) };
        }
        self.begun = true;
        match (&self.bound, forward) {
            (Bound::Unbounded, true) => self.walk.first(reader),
            (Bound::Unbounded, false) => self.walk.last(reader),
            (Bound::Included(key), true) => self.walk.seek(reader, key.borrow()).map(drop),
            (Bound::Excluded(key), true) => match self.walk.seek(reader, key.borrow())? {
                true => self.walk.next(reader),
                false => Ok(()),
            },
            (Bound::Included(key), false) => match self.walk.seek(reader, key.borrow())? {
                true => Ok(()),
                false => self.walk.previous(reader),
            },
            (Bound::Excluded(key), false) => {
                self.walk.seek(reader, key.borrow())?;
                self.walk.previous(reader)
            }
        }
    }

    fn step_back(&mut self, reader: &impl Reader<'s>) -> Result<(), Error> {
        // Before the first entry, `previous` would begin again at the last.
        if self.walk.here().is_some() { self.walk.previous(reader) } else { Ok(()) }
    }
}

impl<'s, R: Reader<'s>, K: Value + Ord, V: Value> Iterator for Range<'_, 's, R, K, V> {
    type Item = Result<(K, V), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.give(true, |reader, key, value| Ok((key, reader.get(place_of(value)?))))
    }
}

impl<'s, R: Reader<'s>, K: Value + Ord, V: Value> DoubleEndedIterator for Range<'_, 's, R, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.give(false, |reader, key, value| Ok((key, reader.get(place_of(value)?))))
    }
}

impl<'s, R: Reader<'s>> Iterator for Range<'_, 's, R, [u8], [u8]> {
    type Item = Result<(Vec<u8>, Vec<u8>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.give(true, |reader, key, value| Ok((key, reader.to_vec(value))))
    }
}

impl<'s, R: Reader<'s>> DoubleEndedIterator for Range<'_, 's, R, [u8], [u8]> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.give(false, |reader, key, value| Ok((key, reader.to_vec(value))))
    }
}
