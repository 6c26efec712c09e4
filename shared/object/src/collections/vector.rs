//! A vector.

mod elements;

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::marker::PhantomData;
use core::ops::{Bound, RangeBounds};

use twizzler_abi::Error;

use super::chunks::{Chunks, ChunksRoot};
use super::raw::{kept, slice_bytes, steady, value_at};
use crate::Stored;
use crate::backend::Backend;
use crate::pointer::{Area, Ptr, Span};
use crate::reader::Reader;
use crate::stored::{Collected, Field, Shape, Value, type_of};
use crate::tx::Tx;
use elements::Elements;

/// What a vector is in an object, whatever the type of its elements.
#[derive(Stored)]
#[stored(name = "twizzler.vector-root", version = 1)]
#[repr(C)]
pub(super) struct Root {
    pub(super) chunks: ChunksRoot,
    pub(super) len: u64,
}

/// What a vector is in an object: put one into a record of your own. All zero is an empty vector.
#[repr(transparent)]
pub struct VectorRoot<T> {
    root: Root,
    element: PhantomData<fn() -> T>,
}

// SAFETY: transparent over a stored record.
unsafe impl<T: Stored> Stored for VectorRoot<T> {
    const NAME: &'static str = "twizzler.vector";
    const FINGERPRINT: u64 = Collected::Vector.fingerprint(false).word(T::FINGERPRINT).finish();
    const LAYOUT: () = T::LAYOUT;
    const SHAPE: Shape = Shape::Collection { form: Collected::Vector, parts: &[type_of::<T>], layout: &[] };
}

impl<T> VectorRoot<T> {
    const ROOT: Field<Self, Root> = {
        // SAFETY: transparent: the root is at 0.
        unsafe { Field::new(0) }
    };
}

/// A vector whose root lies somewhere in an object. It grows without copying its elements, but for the first 64 KiB.
pub struct Vector<'s, T> {
    root: Ptr<'s, VectorRoot<T>>,
}

impl<T> Clone for Vector<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Vector<'_, T> {}
impl<T> core::fmt::Debug for Vector<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "vector at {:?}", self.root)
    }
}

impl<'s, T: Stored> Vector<'s, T> {
    const SOUND: () =
        assert!(align_of::<T>() <= 16 && size_of::<T>() > 0, "elements are aligned to 16 bytes at most");

    /// The vector of that root.
    #[must_use]
    pub const fn new(root: Ptr<'s, VectorRoot<T>>) -> Self {
        let () = Self::SOUND;
        Self { root }
    }

    /// The object that it lies in.
    pub(super) const fn area(&self) -> Area<'s> {
        self.root.object()
    }

    fn field(&self) -> Ptr<'s, Root> {
        self.root.at(VectorRoot::ROOT)
    }

    fn chunks(&self) -> Chunks<'s> {
        Chunks::new(self.field().at(Root::chunks), size_of::<T>() as u64)
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self, reader: &impl Reader<'s>) -> u64 {
        reader.get(self.field().at(Root::len))
    }

    /// Number of elements, if there can be so many: for who goes through them.
    fn checked_len(&self, reader: &impl Reader<'s>) -> Result<u64, Error> {
        self.chunks().checked(reader, self.len(reader))
    }

    /// True without elements.
    #[must_use]
    pub fn is_empty(&self, reader: &impl Reader<'s>) -> bool {
        self.len(reader) == 0
    }

    /// Where an element lies; None beyond the end. It moves when a vector of less than 64 KiB grows.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline]
    pub fn place(&self, reader: &impl Reader<'s>, index: u64) -> Result<Option<Ptr<'s, T>>, Error> {
        steady(reader, self.root.object(), || self.find(reader, index))
    }

    /// [`Vector::place`], beside changes perhaps.
    #[inline]
    fn find(&self, reader: &impl Reader<'s>, index: u64) -> Result<Option<Ptr<'s, T>>, Error> {
        if index >= self.len(reader) { Ok(None) } else { self.at(reader, index).map(Some) }
    }

    #[inline]
    fn at(&self, reader: &impl Reader<'s>, index: u64) -> Result<Ptr<'s, T>, Error> {
        let offset = self.chunks().offset(reader, index)?;
        self.root.object().place(offset).ok_or(Error::Damaged)
    }

    /// Adds an element of zeros at the end, and gives its place: to be filled field by field, with pointers as well.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] where the object is full; [`Error::Damaged`]; what the transaction says.
    pub fn push_zeroed<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<Ptr<'s, T>, Error> {
        let place = self.push_place(tx)?;
        tx.zero(place.as_span().memory())?;
        Ok(place)
    }

    fn push_place<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<Ptr<'s, T>, Error> {
        let chunks = self.chunks();
        tx.lock(self.root.object())?;
        let len = self.len(tx);
        let more = len.checked_add(1).ok_or(Error::Damaged)?;
        chunks.grow(tx, len, more)?;
        tx.set(self.field().at(Root::len), more)?;
        self.at(tx, len)
    }

    /// Forgets the elements from `len` on. Their memory is kept for others to come.
    ///
    /// # Errors
    /// What the transaction says.
    pub fn truncate<B: Backend>(&self, tx: &mut Tx<'s, B>, len: u64) -> Result<(), Error> {
        tx.lock(self.root.object())?;
        if len < self.len(tx) { tx.set(self.field().at(Root::len), len) } else { Ok(()) }
    }

    /// Forgets all elements, and gives their memory back.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn clear<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<(), Error> {
        self.truncate(tx, 0)?;
        self.chunks().clear(tx)
    }

    /// The places of all elements. What a growing vector leaves behind meanwhile keeps its content.
    pub fn places<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl DoubleEndedIterator<Item = Result<Ptr<'s, T>, Error>> + use<'r, 's, R, T> {
        let keep = kept(reader, self.root.object());
        Elements::new(*self, reader, keep, |_, place| place)
    }
}

impl<'s, T: Value> Vector<'s, T> {
    /// An element; None beyond the end.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[inline]
    pub fn get(&self, reader: &impl Reader<'s>, index: u64) -> Result<Option<T>, Error> {
        steady(reader, self.root.object(), || Ok(self.find(reader, index)?.map(|place| reader.get(place))))
    }

    /// The first element.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn first(&self, reader: &impl Reader<'s>) -> Result<Option<T>, Error> {
        self.get(reader, 0)
    }

    /// The last element.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn last(&self, reader: &impl Reader<'s>) -> Result<Option<T>, Error> {
        steady(reader, self.root.object(), || {
            self.len(reader).checked_sub(1).map_or(Ok(None), |last| self.get(reader, last))
        })
    }

    /// All elements, from both ends.
    pub fn iter<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl DoubleEndedIterator<Item = Result<T, Error>> + use<'r, 's, R, T> {
        Elements::new(*self, reader, Ok(None), |reader, place| reader.get(place))
    }

    /// The places of elements that lie in one chunk.
    fn run(&self, reader: &impl Reader<'s>, index: u64, len: u64) -> Result<Span<'s, T>, Error> {
        self.root.object().span(self.chunks().offset(reader, index)?, len).ok_or(Error::Damaged)
    }

    /// A copy of all elements. Through a guard, beside writers: 64 KiB at a time are as they are at one moment.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn to_vec(&self, reader: &impl Reader<'s>) -> Result<Vec<T>, Error> {
        let chunks = self.chunks();
        let (mut copy, mut end): (Vec<T>, _) = (Vec::new(), u64::MAX);
        while (copy.len() as u64) < end {
            let index = copy.len() as u64;
            let bytes;
            (bytes, end) = steady(reader, self.root.object(), || {
                let end = end.min(self.checked_len(reader)?);
                let len = end.saturating_sub(index).min(chunks.run(index));
                let run = if len == 0 { Span::EMPTY } else { self.run(reader, index, len)? };
                Ok((reader.to_vec(run.memory()), end))
            })?;
            copy.extend(bytes.chunks_exact(size_of::<T>()).map(|bytes| value_at::<T>(bytes, 0)));
        }
        Ok(copy)
    }

    /// Replaces an element; gives the old one.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] beyond the end; [`Error::Damaged`]; what the transaction says.
    pub fn set<B: Backend>(&self, tx: &mut Tx<'s, B>, index: u64, value: T) -> Result<T, Error> {
        tx.lock(self.root.object())?;
        let place = self.place(tx, index)?.ok_or(Error::OutOfRange)?;
        let old = tx.get(place);
        tx.set(place, value)?;
        Ok(old)
    }

    /// Adds an element at the end.
    ///
    /// # Errors
    /// As [`Vector::push_zeroed`].
    pub fn push<B: Backend>(&self, tx: &mut Tx<'s, B>, value: T) -> Result<(), Error> {
        let place = self.push_place(tx)?;
        tx.set(place, value)
    }

    /// Adds elements at the end; what they take is written in place, once.
    ///
    /// # Errors
    /// As [`Vector::push_zeroed`].
    pub fn extend_from_slice<B: Backend>(&self, tx: &mut Tx<'s, B>, values: &[T]) -> Result<(), Error> {
        tx.lock(self.root.object())?;
        let len = self.len(tx);
        self.replace_from(tx, len, values)
    }

    /// Makes these elements those from `index` on.
    pub(super) fn replace_from<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        mut index: u64,
        values: &[T],
    ) -> Result<(), Error> {
        tx.lock(self.root.object())?;
        let end = index.checked_add(values.len() as u64).ok_or(Error::OutOfRange)?;
        let chunks = self.chunks();
        chunks.grow(tx, index, end)?;
        let mut rest = values;
        while !rest.is_empty() {
            let (part, more) = rest.split_at(rest.len().min(chunks.run(index) as usize));
            tx.write(self.run(tx, index, part.len() as u64)?.memory(), 0, slice_bytes(part))?;
            (index, rest) = (index + part.len() as u64, more);
        }
        tx.set(self.field().at(Root::len), end)
    }

    /// Adds elements at the end, one by one.
    ///
    /// # Errors
    /// As [`Vector::push_zeroed`].
    pub fn extend<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        values: impl IntoIterator<Item = T>,
    ) -> Result<(), Error> {
        values.into_iter().try_for_each(|value| self.push(tx, value))
    }

    /// Makes it as long as `len`: forgets what is beyond, or adds copies of a value.
    ///
    /// # Errors
    /// As [`Vector::push_zeroed`].
    pub fn resize<B: Backend>(&self, tx: &mut Tx<'s, B>, len: u64, value: T) -> Result<(), Error> {
        tx.lock(self.root.object())?;
        let old = self.checked_len(tx)?;
        let more = len.saturating_sub(old);
        self.chunks().grow(tx, old, len)?;
        self.truncate(tx, len)?;
        (0..more).try_for_each(|_| self.push(tx, value))
    }

    /// Takes the elements of a range out, and gives them; those behind move down.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for what is no range of it; [`Error::Damaged`]; what the transaction says.
    pub fn drain<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        range: impl RangeBounds<u64>,
    ) -> Result<Vec<T>, Error> {
        tx.lock(self.root.object())?;
        let len = self.checked_len(tx)?;
        let first = match range.start_bound() {
            Bound::Included(&first) => first,
            Bound::Excluded(before) => before.checked_add(1).ok_or(Error::OutOfRange)?,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.checked_add(1).ok_or(Error::OutOfRange)?,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => len,
        };
        if first > end || end > len {
            return Err(Error::OutOfRange);
        }
        let mut taken = Vec::new();
        for index in first..end {
            taken.push(self.get(tx, index)?.ok_or(Error::Damaged)?);
        }
        for index in end..len {
            let moved = self.get(tx, index)?.ok_or(Error::Damaged)?;
            self.set(tx, first + (index - end), moved)?;
        }
        self.truncate(tx, len - (end - first))?;
        Ok(taken)
    }

    /// Takes the elements from `index` on out, and gives them.
    ///
    /// # Errors
    /// As [`Vector::drain`].
    pub fn split_off<B: Backend>(&self, tx: &mut Tx<'s, B>, index: u64) -> Result<Vec<T>, Error> {
        self.drain(tx, index..)
    }

    /// Where a value is in a vector that is sorted; where it could be put, if it isn't there.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn binary_search(&self, reader: &impl Reader<'s>, value: &T) -> Result<Result<u64, u64>, Error>
    where
        T: Ord,
    {
        steady(reader, self.root.object(), || {
            let (mut low, mut high) = (0, self.len(reader));
            while low < high {
                let middle = low + (high - low) / 2;
                match self.get(reader, middle)?.ok_or(Error::Damaged)?.cmp(value) {
                    Ordering::Less => low = middle + 1,
                    Ordering::Equal => return Ok(Ok(middle)),
                    Ordering::Greater => high = middle,
                }
            }
            Ok(Err(low))
        })
    }

    /// Takes the last element.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn pop<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<Option<T>, Error> {
        tx.lock(self.root.object())?;
        let Some(last) = self.len(tx).checked_sub(1) else { return Ok(None) };
        let value = tx.get(self.at(tx, last)?);
        tx.set(self.field().at(Root::len), last)?;
        Ok(Some(value))
    }

    /// Exchanges two elements.
    ///
    /// # Errors
    /// As [`Vector::set`].
    pub fn swap<B: Backend>(&self, tx: &mut Tx<'s, B>, a: u64, b: u64) -> Result<(), Error> {
        tx.lock(self.root.object())?;
        let other = self.get(tx, b)?.ok_or(Error::OutOfRange)?;
        let one = self.set(tx, a, other)?;
        self.set(tx, b, one).map(drop)
    }

    /// Keeps the elements for which `keep` says so, in their order.
    ///
    /// # Errors
    /// As [`Vector::set`].
    pub fn retain<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        mut keep: impl FnMut(&T) -> bool,
    ) -> Result<(), Error> {
        tx.lock(self.root.object())?;
        let mut kept = 0;
        for index in 0..self.checked_len(tx)? {
            let value = self.get(tx, index)?.ok_or(Error::Damaged)?;
            if keep(&value) {
                if kept < index {
                    self.set(tx, kept, value)?;
                }
                kept += 1;
            }
        }
        self.truncate(tx, kept)
    }

    /// Puts an element at `index`; those from there on move up by one.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] beyond the end; as [`Vector::push_zeroed`].
    pub fn insert<B: Backend>(&self, tx: &mut Tx<'s, B>, index: u64, value: T) -> Result<(), Error> {
        tx.lock(self.root.object())?;
        let len = self.checked_len(tx)?;
        if index > len {
            return Err(Error::OutOfRange);
        }
        self.push(tx, value)?;
        for at in (index..len).rev() {
            let moved = tx.get(self.at(tx, at)?);
            tx.set(self.at(tx, at + 1)?, moved)?;
        }
        tx.set(self.at(tx, index)?, value)
    }

    /// Takes the element at `index`; those behind it move down by one.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] beyond the end; [`Error::Damaged`]; what the transaction says.
    pub fn remove<B: Backend>(&self, tx: &mut Tx<'s, B>, index: u64) -> Result<T, Error> {
        tx.lock(self.root.object())?;
        let value = self.get(tx, index)?.ok_or(Error::OutOfRange)?;
        let last = self.checked_len(tx)? - 1;
        for at in index..last {
            let moved = tx.get(self.at(tx, at + 1)?);
            tx.set(self.at(tx, at)?, moved)?;
        }
        tx.set(self.field().at(Root::len), last)?;
        Ok(value)
    }

    /// Takes the element at `index`, and puts the last one there.
    ///
    /// # Errors
    /// As [`Vector::remove`].
    pub fn swap_remove<B: Backend>(&self, tx: &mut Tx<'s, B>, index: u64) -> Result<T, Error> {
        let value = self.get(tx, index)?.ok_or(Error::OutOfRange)?;
        let last = self.pop(tx)?.ok_or(Error::Damaged)?;
        if index < self.len(tx) {
            self.set(tx, index, last)?;
        }
        Ok(value)
    }
}
