//! Elements of a fixed size, reached by number, that never move once there are many: in chunks of up to 64 KiB, which a directory lists.
//!
//! The first chunk doubles until it is whole; after that, growing adds a chunk and copies nothing but, now and then, the directory: 8 bytes
//! for each 64 KiB. So no growth makes a large transaction.

use twizzler_abi::Error;

use super::raw::local;
use crate::Stored;
use crate::backend::Backend;
use crate::pointer::{Area, Bytes, InvPtr, Ptr};
use crate::reader::Reader;
use crate::tx::Tx;

/// Bytes of a chunk at most, unless one element is larger.
const CHUNK_BYTES: u64 = 64 * 1024;
/// Elements of the first chunk at first.
const FIRST: u64 = 4;

/// The logarithm of a whole chunk's elements, of that size.
#[inline(always)]
pub(super) const fn shift_of(size: u64) -> u32 {
    let whole = CHUNK_BYTES / if size == 0 { 1 } else { size };
    if whole < FIRST { FIRST.ilog2() } else { whole.ilog2() }
}

/// A chunk's first byte.
type Chunk = u8;

/// Where the elements are. All zero: there are none.
#[derive(Stored)]
#[stored(name = "twizzler.chunks", version = 1)]
#[repr(C)]
pub(super) struct ChunksRoot {
    /// Pointers to the chunks: as many as a power of two holds.
    pub(super) directory: InvPtr<InvPtr<Chunk>>,
    /// Elements that there is memory for.
    pub(super) room: u64,
}

/// Elements of `size` bytes, a multiple of their alignment.
pub(super) struct Chunks<'s> {
    root: Ptr<'s, ChunksRoot>,
    size: u64,
    /// The logarithm of a whole chunk's elements.
    shift: u32,
}

impl<'s> Chunks<'s> {
    #[inline(always)]
    pub(super) const fn new(root: Ptr<'s, ChunksRoot>, size: u64) -> Self {
        Self { root, size, shift: shift_of(size) }
    }

    pub(super) const fn area(&self) -> Area<'s> {
        self.root.object()
    }

    /// Elements that there is memory for.
    pub(super) fn room(&self, reader: &impl Reader<'s>) -> u64 {
        reader.get(self.root.at(ChunksRoot::room))
    }

    /// `len` elements, if there can be so many: a count that makes no sense would keep us busy, or cost memory without end.
    pub(super) fn checked(&self, reader: &impl Reader<'s>, len: u64) -> Result<u64, Error> {
        let room = self.room(reader);
        let fits = room.checked_mul(self.size).is_some_and(|bytes| bytes <= self.area().range_bytes());
        if len <= room && fits { Ok(len) } else { Err(Error::Damaged) }
    }

    /// The offset of an element within the room: not yet checked, and none at all where the chunks are damaged.
    #[inline(always)]
    pub(super) fn offset(&self, reader: &impl Reader<'s>, index: u64) -> Result<u64, Error> {
        let chunk = local(reader, self.entry(reader, index >> self.shift)?);
        Ok(chunk.wrapping_add((index & ((1 << self.shift) - 1)) * self.size))
    }

    /// How many elements from `index` on lie in the same chunk, if it is whole.
    pub(super) const fn run(&self, index: u64) -> u64 {
        let whole = 1 << self.shift;
        whole - (index & (whole - 1))
    }

    /// The directory's entry of a chunk.
    #[inline(always)]
    fn entry(&self, reader: &impl Reader<'s>, chunk: u64) -> Result<Ptr<'s, InvPtr<Chunk>>, Error> {
        let directory = local(reader, self.root.at(ChunksRoot::directory));
        self.area().place(directory.wrapping_add(chunk.wrapping_mul(8))).ok_or(Error::Damaged)
    }

    /// Makes room for `need` elements, where there were `len`. Those up to there will be written by this transaction. After an error there is as much room as there was, or some
    /// more.
    pub(super) fn grow<B: Backend>(&self, tx: &mut Tx<'s, B>, len: u64, need: u64) -> Result<(), Error> {
        tx.lock(self.area())?;
        let whole = 1 << self.shift;
        let mut room = self.room(tx);
        if len > room {
            return Err(Error::Damaged);
        }
        if need <= room {
            return Ok(());
        }
        if need.checked_mul(self.size).is_none_or(|bytes| bytes > self.area().range_bytes()) {
            return Err(Error::OutOfRange);
        }
        if room < whole {
            let first = need.min(whole).next_power_of_two().max(FIRST.min(whole));
            room = self.grow_first(tx, room, first)?;
            tx.set(self.root.at(ChunksRoot::room), room)?;
        }
        while room < need {
            self.add_chunk(tx, room >> self.shift, (need - room).min(whole))?;
            room += whole;
            tx.set(self.root.at(ChunksRoot::room), room)?;
        }
        Ok(())
    }

    /// Replaces the first chunk by a larger one.
    fn grow_first<B: Backend>(&self, tx: &mut Tx<'s, B>, old: u64, new: u64) -> Result<u64, Error> {
        let area = self.area();
        let bytes = tx.alloc_raw(area, new * self.size, 1)?;
        tx.allocated(bytes)?;
        tx.zero(bytes)?;
        let entry = if old == 0 {
            let directory = tx.alloc::<InvPtr<Chunk>>(area);
            let directory = self.or_free(tx, bytes, directory)?;
            tx.link(self.root.at(ChunksRoot::directory), Some(directory))?;
            directory
        } else {
            let from = area.span::<u8>(self.offset(tx, 0)?, old * self.size).ok_or(Error::Damaged)?;
            let content = tx.to_vec(from);
            tx.write(bytes, 0, &content)?;
            tx.free_span(from)?;
            self.entry(tx, 0)?
        };
        tx.link(entry, bytes.index(0))?;
        Ok(new)
    }

    /// Adds chunk number `chunk`, of which the first `used` elements are written by this transaction.
    fn add_chunk<B: Backend>(&self, tx: &mut Tx<'s, B>, chunk: u64, used: u64) -> Result<(), Error> {
        let bytes = tx.alloc_raw(self.area(), self.size << self.shift, 1)?;
        tx.allocated(bytes.slice(0, used * self.size).ok_or(Error::Damaged)?)?;
        // After the chunk: a directory's length follows from the room, so it may not grow alone.
        if chunk.is_power_of_two() {
            let doubled = self.double_directory(tx, chunk);
            self.or_free(tx, bytes, doubled)?;
        }
        tx.link(self.entry(tx, chunk)?, bytes.index(0))
    }

    /// Frees a chunk again that nothing will lead to, because of an error.
    fn or_free<B: Backend, T>(
        &self,
        tx: &mut Tx<'s, B>,
        bytes: Bytes<'s>,
        result: Result<T, Error>,
    ) -> Result<T, Error> {
        if result.is_err() {
            tx.free_span(bytes)?;
        }
        result
    }

    /// Makes the directory of `len` entries one of twice as many.
    fn double_directory<B: Backend>(&self, tx: &mut Tx<'s, B>, len: u64) -> Result<(), Error> {
        let area = self.area();
        let old = area.span::<InvPtr<Chunk>>(self.entry(tx, 0)?.offset(), len).ok_or(Error::Damaged)?;
        let new = tx.alloc_span::<InvPtr<Chunk>>(area, len * 2)?;
        for i in 0..len {
            let (from, to) = old.index(i).zip(new.index(i)).ok_or(Error::Damaged)?;
            let chunk = tx.follow(from)?;
            tx.link(to, chunk)?;
        }
        tx.free_span(old)?;
        tx.link(self.root.at(ChunksRoot::directory), new.index(0))
    }

    /// Gives all memory back.
    pub(super) fn clear<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<(), Error> {
        tx.lock(self.area())?;
        let room = self.checked(tx, self.room(tx))?;
        if room == 0 {
            return Ok(());
        }
        let whole = 1 << self.shift;
        let chunks = room.div_ceil(whole);
        for chunk in 0..chunks {
            let at = self.offset(tx, chunk << self.shift)?;
            let len = whole.min(room) * self.size;
            tx.free_span(self.area().span::<u8>(at, len).ok_or(Error::Damaged)?)?;
        }
        let directory = self.entry(tx, 0)?.offset();
        let len = chunks.next_power_of_two();
        tx.free_span(self.area().span::<InvPtr<Chunk>>(directory, len).ok_or(Error::Damaged)?)?;
        tx.link(self.root.at(ChunksRoot::directory), None)?;
        tx.set(self.root.at(ChunksRoot::room), 0)
    }
}
