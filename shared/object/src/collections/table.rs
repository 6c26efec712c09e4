//! Linear hashing: a hash table that grows by one bucket at a time.
//!
//! A bucket holds seven entries, with a byte of the hash for each, and leads to further buckets where those are not enough. With `n` buckets, a
//! hash belongs to the one that its low bits name: as many bits as `n` needs, or one less where there is no such bucket yet. A new bucket
//! takes its entries from one other. So a change touches a few lines, whatever the table's size.
//!
//! | bucket | |
//! |---|---|
//! | 7 bytes | tags: 0 where there is no entry, else 0x80 and the hash's top seven bits |
//! | 1 byte | zero |
//! | 8 bytes | pointer to the next bucket of the chain |
//! | then | seven times key and value |

mod slots;

use alloc::vec::Vec;
use core::num::NonZeroU64;

use twizzler_abi::Error;
use twizzler_abi::object::BASE_OFFSET;

use super::chunks::{Chunks, ChunksRoot};
use super::raw::{kept, local};
use crate::Stored;
use crate::backend::Backend;
use crate::memory;
use crate::pointer::{Area, InvPtr, Ptr};
use crate::reader::Reader;
use crate::stored::{Field, Value};
use crate::tx::Tx;
use slots::{Position, Slots};

/// Entries of a bucket.
pub(super) const SLOTS: usize = 7;
/// Entries for each ten buckets, beyond which a bucket is added. Buckets that are still to be split have up to twice as many.
const FULL: u64 = 40;
/// Buckets of a chain at most: far more than a hash with a secret seed ever makes.
const CHAIN_MAX: usize = 1 << 12;
/// Bytes of a cache line.
const LINE_BYTES: u64 = 64;
/// One in each byte that is a tag.
const ONES: u64 = 0x0001_0101_0101_0101;

/// What a table is in an object. All zero is an empty table.
#[derive(Stored)]
#[stored(name = "twizzler.hash-table", version = 1)]
#[repr(C)]
pub(super) struct TableRoot {
    pub(super) chunks: ChunksRoot,
    /// Buckets that are not behind another.
    pub(super) buckets: u64,
    /// Entries.
    pub(super) len: u64,
    /// Keys the hash.
    seed: u64,
}

/// What a table's entries are.
pub(super) trait Layout {
    type Key: Value;
    type Value: Stored;
    fn hash(key: &Self::Key, seed: u64) -> u64;
}

/// A table.
pub(super) struct Table<'s, L> {
    root: Ptr<'s, TableRoot>,
    layout: core::marker::PhantomData<L>,
}

impl<L> Clone for Table<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<L> Copy for Table<'_, L> {}

/// A bucket as it lies in an object. There may be gaps between keys and values, so it is looked at field by field.
#[repr(C)]
pub(super) struct Cells<K, V> {
    tags: u64,
    next: InvPtr<u64>,
    pub(super) slots: [Cell<K, V>; SLOTS],
}

#[repr(C)]
pub(super) struct Cell<K, V> {
    key: K,
    pub(super) value: V,
}

/// Bytes from one bucket to the next.
pub(super) const fn bucket_bytes<K, V>() -> u64 {
    size_of::<Cells<K, V>>().next_multiple_of(16) as u64
}

/// A bucket: where all of it is.
struct Bucket<'s, L: Layout> {
    cells: Ptr<'s, Cells<L::Key, L::Value>>,
}

impl<L: Layout> Clone for Bucket<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<L: Layout> Copy for Bucket<'_, L> {}
impl<L: Layout> PartialEq for Bucket<'_, L> {
    fn eq(&self, other: &Self) -> bool {
        self.cells == other.cells
    }
}

impl<'s, L: Layout> Bucket<'s, L> {
    /// Bytes from one bucket to the next.
    const BYTES: u64 = bucket_bytes::<L::Key, L::Value>();
    const SOUND: () = {
        assert!(align_of::<Cells<L::Key, L::Value>>() <= 16, "buckets are aligned to 16 bytes");
        assert!(Self::BYTES <= 8192, "the value is too large for a bucket: store a pointer to it");
    };
    const TAGS: Field<Cells<L::Key, L::Value>, u64> = {
        // SAFETY: the compiler computed the offset of this very field.
        unsafe { Field::new(core::mem::offset_of!(Cells<L::Key, L::Value>, tags)) }
    };
    const HEAD: Field<Cells<L::Key, L::Value>, [u64; 2]> = {
        // SAFETY: tags and pointer are the first two words, and the bits of a pointer are a word.
        unsafe { Field::new(0) }
    };
    const NEXT: Field<Cells<L::Key, L::Value>, InvPtr<u64>> = {
        // SAFETY: as of `TAGS`.
        unsafe { Field::new(core::mem::offset_of!(Cells<L::Key, L::Value>, next)) }
    };

    /// The bucket at an offset.
    #[inline(always)]
    fn at(area: Area<'s>, offset: u64) -> Result<Self, Error> {
        let () = Self::SOUND;
        let fits = offset.wrapping_sub(BASE_OFFSET) <= area.range_bytes() - BASE_OFFSET - Self::BYTES;
        // It may be any number yet.
        let address = NonZeroU64::new(area.start().wrapping_add(offset)).ok_or(Error::Damaged)?;
        if !fits || !offset.is_multiple_of(16) {
            return Err(Error::Damaged);
        }
        // SAFETY: all of the bucket lies in the area, beyond the metadata, aligned.
        Ok(Self { cells: unsafe { Ptr::new(address) } })
    }

    #[inline(always)]
    fn part<F: Stored>(&self, index: usize, at: usize) -> Ptr<'s, F> {
        assert!(index < SLOTS, "a bucket has seven slots");
        let slot = core::mem::offset_of!(Cells<L::Key, L::Value>, slots)
            + index * size_of::<Cell<L::Key, L::Value>>();
        // SAFETY: the slot is one of the seven; `at` is the offset of an `F` in it, as callers see to.
        let field = unsafe { Field::<Cells<L::Key, L::Value>, F>::new(slot + at) };
        self.cells.at(field)
    }

    #[inline(always)]
    fn key(&self, index: usize) -> Ptr<'s, L::Key> {
        self.part(index, core::mem::offset_of!(Cell<L::Key, L::Value>, key))
    }

    #[inline(always)]
    fn value(&self, index: usize) -> Ptr<'s, L::Value> {
        self.part(index, core::mem::offset_of!(Cell<L::Key, L::Value>, value))
    }

    /// Starts fetching what is beside the tags where that is no more than a line: so the entry, which the tags will tell, is not waited for again. Of larger buckets
    /// this would fetch much that nobody wants.
    #[inline(always)]
    fn prefetch_rest(&self) {
        if (LINE_BYTES + 1..=2 * LINE_BYTES).contains(&Self::BYTES) {
            memory::prefetch(self.cells.address() + LINE_BYTES);
        }
    }

    #[inline(always)]
    fn tags(&self, reader: &impl Reader<'s>) -> u64 {
        reader.get(self.cells.at(Self::TAGS)) & (ONES * 0xff)
    }

    #[inline(always)]
    fn next(&self, reader: &impl Reader<'s>) -> Result<Option<Self>, Error> {
        match local(reader, self.cells.at(Self::NEXT)) {
            0 => Ok(None),
            offset => Self::at(self.cells.object(), offset).map(Some),
        }
    }

    /// Sets one of the tags.
    fn set_tag<B: Backend>(&self, tx: &mut Tx<'s, B>, index: usize, tag: u8) -> Result<(), Error> {
        // SAFETY: the tags are bytes.
        let bytes = unsafe { Field::<Cells<L::Key, L::Value>, [u8; 8]>::new(0) };
        tx.set(self.cells.at(bytes).index(index).ok_or(Error::Damaged)?, tag)
    }

    fn blank<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<(), Error> {
        tx.set(self.cells.at(Self::HEAD), [0; 2])
    }
}

/// An entry: where it is.
pub(super) struct Slot<'s, L: Layout> {
    bucket: Bucket<'s, L>,
    index: usize,
    pub(super) key: L::Key,
}

/// Entries on their way from one bucket to another: keys, and the bytes of values.
type Taken<L> = Vec<(<L as Layout>::Key, Vec<u8>)>;

/// The tag of a hash.
const fn tag_of(hash: u64) -> u64 {
    hash >> 57 | 0x80
}

/// The slots whose tag is `tag`, as bits 7, 15, ...; perhaps a few more.
#[inline(always)]
const fn matching(tags: u64, tag: u64) -> u64 {
    let differ = tags ^ (ONES * tag);
    differ.wrapping_sub(ONES) & !differ & (ONES * 0x80)
}

/// The slots with an entry, as bits 7, 15, ...
#[inline(always)]
const fn occupied(tags: u64) -> u64 {
    tags & (ONES * 0x80)
}

impl<'s, L: Layout> Table<'s, L> {
    pub(super) const fn new(root: Ptr<'s, TableRoot>) -> Self {
        Self { root, layout: core::marker::PhantomData }
    }

    pub(super) const fn area(&self) -> Area<'s> {
        self.root.object()
    }

    pub(super) fn len(&self, reader: &impl Reader<'s>) -> u64 {
        reader.get(self.root.at(TableRoot::len))
    }

    #[inline(always)]
    pub(super) fn seed(&self, reader: &impl Reader<'s>) -> u64 {
        reader.get(self.root.at(TableRoot::seed))
    }

    #[inline(always)]
    fn chunks(&self) -> Chunks<'s> {
        Chunks::new(self.root.at(TableRoot::chunks), Bucket::<L>::BYTES)
    }

    #[inline(always)]
    fn bucket(&self, reader: &impl Reader<'s>, number: u64) -> Result<Bucket<'s, L>, Error> {
        Bucket::at(self.area(), self.chunks().offset(reader, number)?)
    }

    /// Who goes through more buckets than the object can hold comes upon some of them again.
    const fn buckets_max(&self) -> u64 {
        self.area().range_bytes() / Bucket::<L>::BYTES
    }

    /// The bucket that a hash belongs to; None: there are no buckets.
    #[inline(always)]
    fn bucket_of(&self, reader: &impl Reader<'s>, hash: u64) -> Result<Option<Bucket<'s, L>>, Error> {
        let buckets = reader.get(self.root.at(TableRoot::buckets));
        let Some(last) = buckets.checked_sub(1) else { return Ok(None) };
        let mask = u64::MAX >> (last | 1).leading_zeros();
        let number = hash & mask;
        let number = if number >= buckets { number & mask >> 1 } else { number };
        self.bucket(reader, number).map(Some)
    }

    /// The place of an entry's value.
    #[inline(always)]
    pub(super) fn value(&self, slot: &Slot<'s, L>) -> Ptr<'s, L::Value> {
        slot.bucket.value(slot.index)
    }

    /// The entry with that hash for which `equal` says so.
    #[inline(always)]
    pub(super) fn find<R: Reader<'s>>(
        &self,
        reader: &R,
        hash: u64,
        mut equal: impl FnMut(&R, &Slot<'s, L>) -> Result<bool, Error>,
    ) -> Result<Option<Slot<'s, L>>, Error> {
        let mut next = self.bucket_of(reader, hash)?;
        for _ in 0..CHAIN_MAX {
            let Some(bucket) = next else { return Ok(None) };
            bucket.prefetch_rest();
            let mut found = matching(bucket.tags(reader), tag_of(hash));
            while found != 0 {
                let index = found.trailing_zeros() as usize / 8;
                let slot = Slot { bucket, index, key: reader.get(bucket.key(index)) };
                if equal(reader, &slot)? {
                    return Ok(Some(slot));
                }
                found &= found - 1;
            }
            next = bucket.next(reader)?;
        }
        Err(Error::Damaged)
    }

    /// Draws the seed of a table that has no buckets yet, and makes the first.
    pub(super) fn begin<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<u64, Error> {
        tx.lock(self.area())?;
        if tx.get(self.root.at(TableRoot::buckets)) != 0 {
            return Ok(self.seed(tx));
        }
        let mut seed = [0; 8];
        tx.guard().backend().random(&mut seed)?;
        let seed = u64::from_le_bytes(seed);
        tx.set(self.root.at(TableRoot::seed), seed)?;
        self.add_bucket(tx, 0)?;
        Ok(seed)
    }

    /// Makes bucket number `number`, the next one, empty.
    fn add_bucket<B: Backend>(&self, tx: &mut Tx<'s, B>, number: u64) -> Result<Bucket<'s, L>, Error> {
        let more = number.checked_add(1).ok_or(Error::Damaged)?;
        self.chunks().grow(tx, number, more)?;
        let bucket = self.bucket(tx, number)?;
        bucket.blank(tx)?;
        tx.set(self.root.at(TableRoot::buckets), more)?;
        Ok(bucket)
    }

    /// Adds an entry that is not there yet; gives its place. The value is whatever lies there: the caller writes it.
    pub(super) fn insert<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        hash: u64,
        key: L::Key,
    ) -> Result<Slot<'s, L>, Error> {
        let len = self.len(tx).wrapping_add(1);
        let buckets = tx.get(self.root.at(TableRoot::buckets));
        if u128::from(len) * 10 > u128::from(buckets) * u128::from(FULL) {
            self.split(tx, buckets)?;
        }
        let first = self.bucket_of(tx, hash)?.ok_or(Error::Damaged)?;
        let slot = self.put(tx, first, hash, &key)?;
        tx.set(self.root.at(TableRoot::len), len)?;
        Ok(slot)
    }

    /// Puts a key into a chain.
    fn put<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        mut bucket: Bucket<'s, L>,
        hash: u64,
        key: &L::Key,
    ) -> Result<Slot<'s, L>, Error> {
        for _ in 0..CHAIN_MAX {
            let tags = bucket.tags(tx);
            let index = (!occupied(tags) & (ONES * 0x80)).trailing_zeros() as usize / 8;
            if index < SLOTS {
                bucket.set_tag(tx, index, tag_of(hash) as u8)?;
                tx.set(bucket.key(index), *key)?;
                return Ok(Slot { bucket, index, key: *key });
            }
            bucket = match bucket.next(tx)? {
                Some(next) => next,
                None => {
                    let bytes = tx.alloc_raw(self.area(), Bucket::<L>::BYTES, 1)?;
                    tx.allocated(bytes)?;
                    let first = bytes.index(0).ok_or(Error::Damaged)?;
                    let next = Bucket::<L>::at(self.area(), first.offset())?;
                    next.blank(tx)?;
                    let place = next.cells.at(Bucket::<L>::TAGS);
                    tx.link(bucket.cells.at(Bucket::<L>::NEXT), Some(place))?;
                    next
                }
            };
        }
        Err(Error::Damaged)
    }

    /// Takes an entry out.
    pub(super) fn remove<B: Backend>(&self, tx: &mut Tx<'s, B>, slot: &Slot<'s, L>) -> Result<(), Error> {
        slot.bucket.set_tag(tx, slot.index, 0)?;
        let len = self.len(tx).wrapping_sub(1);
        tx.set(self.root.at(TableRoot::len), len)
    }

    /// Makes bucket number `buckets`, and moves to it what now belongs there.
    fn split<B: Backend>(&self, tx: &mut Tx<'s, B>, buckets: u64) -> Result<(), Error> {
        let high = 1 << buckets.checked_ilog2().ok_or(Error::Damaged)?;
        let to = self.add_bucket(tx, buckets)?;
        // Buckets behind these may need memory, before what they had is free. Without it, entries have no place.
        self.fill(tx, to, buckets - high, high).map_err(|error| tx.tear(error))
    }

    /// Moves what belongs to a new bucket there, from bucket number `from`: that of hashes with the bit `high`.
    fn fill<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        to: Bucket<'s, L>,
        from: u64,
        high: u64,
    ) -> Result<(), Error> {
        let seed = self.seed(tx);
        // Only now: making room may have moved it.
        let from = self.bucket(tx, from)?;
        for (key, value) in self.take_chain(tx, from)? {
            let hash = L::hash(&key, seed);
            let slot = self.put(tx, if hash & high != 0 { to } else { from }, hash, &key)?;
            tx.write(self.value(&slot).as_span().memory(), 0, &value)?;
        }
        Ok(())
    }

    /// Takes all entries out of a chain, and frees all but its first bucket.
    fn take_chain<B: Backend>(&self, tx: &mut Tx<'s, B>, first: Bucket<'s, L>) -> Result<Taken<L>, Error> {
        let mut entries = Vec::new();
        for bucket in self.chain(tx, first)? {
            let mut rest = occupied(bucket.tags(tx));
            while rest != 0 {
                let index = rest.trailing_zeros() as usize / 8;
                rest &= rest - 1;
                let value = tx.to_vec(bucket.value(index).as_span().memory());
                entries.push((tx.get(bucket.key(index)), value));
            }
            if bucket != first {
                self.free_bucket(tx, bucket)?;
            }
        }
        first.blank(tx)?;
        Ok(entries)
    }

    fn free_bucket<B: Backend>(&self, tx: &mut Tx<'s, B>, bucket: Bucket<'s, L>) -> Result<(), Error> {
        let bytes =
            self.area().span::<u8>(bucket.cells.offset(), Bucket::<L>::BYTES).ok_or(Error::Damaged)?;
        tx.free_span(bytes)
    }

    /// The buckets of a chain.
    fn chain(&self, reader: &impl Reader<'s>, first: Bucket<'s, L>) -> Result<Vec<Bucket<'s, L>>, Error> {
        let mut chain = alloc::vec![first];
        while let Some(next) = chain[chain.len() - 1].next(reader)? {
            if chain.len() == CHAIN_MAX {
                return Err(Error::Damaged);
            }
            chain.push(next);
        }
        Ok(chain)
    }

    /// Takes everything out and gives the memory back.
    pub(super) fn clear<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<(), Error> {
        tx.lock(self.area())?;
        let buckets = self.chunks().checked(tx, tx.get(self.root.at(TableRoot::buckets)))?;
        let mut left = self.buckets_max();
        for number in 0..buckets {
            let first = self.bucket(tx, number)?;
            let chain = self.chain(tx, first)?;
            left = left.checked_sub(chain.len() as u64).ok_or(Error::Damaged)?;
            for bucket in chain.into_iter().skip(1) {
                self.free_bucket(tx, bucket)?;
            }
        }
        self.chunks().clear(tx)?;
        tx.set(self.root.at(TableRoot::buckets), 0)?;
        tx.set(self.root.at(TableRoot::len), 0)
    }

    /// What `read` gives of all entries, in no order. An error ends them.
    pub(super) fn slots<'r, R: Reader<'s>, T, F: Fn(&R, Slot<'s, L>) -> Result<T, Error>>(
        &self,
        reader: &'r R,
        read: F,
    ) -> Slots<'r, 's, R, L, F> {
        let keep = kept(reader, self.area());
        let buckets = reader.get(self.root.at(TableRoot::buckets)).min(self.chunks().room(reader));
        Slots { table: *self, reader, read, at: Position::START, buckets, keep, over: false }
    }
}
