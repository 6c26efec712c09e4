//! Allocation inside an object, as part of a transaction.
//!
//! All that the allocator knows lies in the object and is changed by staged writes alone, so it commits or vanishes with the
//! transaction: nothing leaks, and nothing is scanned at open. Free blocks hold no links, because a transaction writes into what
//! it allocates before it commits.
//!
//! - [`Heap`], the root, behind the typed root: heads of the slab lists, and where the page map is.
//! - The *page map*: a bit for each page of the object.
//! - *Slabs* ([`slabs`]): up to 64 KiB of equal blocks, with a map of those in use; for up to 8 KiB.
//! - *Runs* ([`runs`]) of pages, for what is larger, found first-fit.
//!
//! What lies there is untrusted: any byte may be wrong, and the answer is [`Error::Damaged`], or memory given out that is in use
//! already, but never an access outside the object.

mod classes;
mod runs;
mod slabs;

use core::mem::offset_of;

use twizzler_abi::Error;
use twizzler_abi::address::{PAGE_BYTES, SLOT_BYTES};
use twizzler_abi::object::{BASE_OFFSET, Header};

use crate::backend::Backend;
use crate::memory;
use crate::pointer::{Area, Bytes, Ptr, Span};
use crate::reader::Reader;
use crate::space::{Space, header_place};
use crate::stored::Stored;
use crate::tx::Tx;
use classes::{CLASSES, Class};

/// Pages of an object.
const PAGES: u64 = SLOT_BYTES / PAGE_BYTES;
/// Bytes of the page map.
const MAP_BYTES: u64 = PAGES / 8;
/// Marks a heap: "TWZHEAP" and the version, 1.
const MAGIC: u64 = u64::from_le_bytes(*b"TWZHEAP\x01");

record! {
    /// The allocator's root.
    struct Heap: "twizzler.heap", 1 {
        /// [`MAGIC`].
        magic: u64,
        /// Offset of the page map; a multiple of a page.
        map: u64,
        /// Pages of the map that are known to exist.
        map_pages: u64,
        /// No page before this one is free: low pages are used first, so that an object keeps small.
        hint: u64,
        /// Bytes in blocks and runs that are in use.
        used_bytes: u64,
        reserved: [u64; 3],
        /// For each class, the page of the first slab with a free block; 0: none.
        heads: [u32; CLASSES],
        reserved2: u32,
    }
}

/// How much of an object's heap is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeapUsage {
    /// Bytes in blocks and runs, rounded up as they are given out.
    pub used_bytes: u64,
    /// Pages in slabs and runs, and those before the heap.
    pub used_pages: u64,
}

impl<B: Backend> Space<B> {
    /// How much of an object's heap is in use; nothing, where it has none.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn heap_usage(&self, area: Area<'_>) -> Result<HeapUsage, Error> {
        let offset: u64 = memory::load(header_place(area, offset_of!(Header, allocator)));
        if offset == 0 {
            return Ok(HeapUsage::default());
        }
        let heap: Ptr<'_, Heap> = area.place(offset).ok_or(Error::Damaged)?;
        let map = memory::load(heap.at(Heap::map));
        let map_bytes = memory::load(heap.at(Heap::map_pages)).saturating_mul(PAGE_BYTES).min(MAP_BYTES);
        let words = area.span::<u64>(map, map_bytes / 8).ok_or(Error::Damaged)?;
        let count = |index| words.index(index).map_or(0, |word| u64::from(memory::load(word).count_ones()));
        Ok(HeapUsage {
            used_bytes: memory::load(heap.at(Heap::used_bytes)),
            used_pages: (0..words.len()).map(count).sum(),
        })
    }
}

/// What a transaction has freed; performed at commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Freed<'s> {
    area: Area<'s>,
    offset: u64,
    len_bytes: u64,
}

impl<'s, B: Backend> Tx<'s, B> {
    /// Allocates a `T` of zeros in an object.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] where the object is full, [`Error::OutOfNvm`], [`Error::Damaged`] for a heap that makes no sense;
    /// otherwise as [`Tx::lock`].
    pub fn alloc<T: Stored>(&mut self, area: Area<'s>) -> Result<Ptr<'s, T>, Error> {
        self.alloc_span(area, 1)?.index(0).ok_or(Error::InvalidArgument)
    }

    /// Allocates `len` values of zeros, one after the other. None at all need no memory.
    ///
    /// # Errors
    /// As [`Tx::alloc`].
    pub fn alloc_span<T: Stored>(&mut self, area: Area<'s>, len: u64) -> Result<Span<'s, T>, Error> {
        const { assert!(align_of::<T>() <= 16, "blocks are aligned to 16 bytes") };
        let len_bytes = len.checked_mul(size_of::<T>() as u64).ok_or(Error::OutOfRange)?;
        if len_bytes == 0 {
            return Ok(Span::EMPTY);
        }
        let bytes = self.alloc_raw(area, len_bytes)?;
        self.zero(bytes)?;
        area.span(bytes.address() - area.start(), len).ok_or(Error::Damaged)
    }

    /// Allocates bytes with that content.
    ///
    /// # Errors
    /// As [`Tx::alloc`].
    pub fn alloc_bytes(&mut self, area: Area<'s>, content: &[u8]) -> Result<Bytes<'s>, Error> {
        if content.is_empty() {
            return Ok(Span::EMPTY);
        }
        let bytes = self.alloc_raw(area, content.len() as u64)?;
        self.write(bytes, 0, content)?;
        Ok(bytes)
    }

    /// Frees what [`Tx::alloc`] gave. The memory is not given out again before the commit.
    ///
    /// # Errors
    /// [`Error::Damaged`] for what can't have been allocated; otherwise as [`Tx::lock`].
    pub fn free<T: Stored>(&mut self, at: Ptr<'s, T>) -> Result<(), Error> {
        self.free_span(at.as_span())
    }

    /// Frees what [`Tx::alloc_span`] or [`Tx::alloc_bytes`] gave: all of it.
    ///
    /// # Errors
    /// As [`Tx::free`]. What is only found to be wrong at commit makes that fail.
    pub fn free_span<T: Stored>(&mut self, span: Span<'s, T>) -> Result<(), Error> {
        let Some(first) = span.index(0) else { return Ok(()) };
        let area = first.object();
        self.lock(area)?;
        self.push_free(Freed { area, offset: first.offset(), len_bytes: span.len_bytes() });
        Ok(())
    }

    /// Performs what was freed.
    pub(crate) fn free_now(&mut self) -> Result<(), Error> {
        for Freed { area, offset, len_bytes } in self.take_frees() {
            let heap = self.heap(area)?;
            match Class::of(len_bytes) {
                Some(class) => self.free_block(area, heap, class, offset)?,
                None => self.free_run(area, heap, offset, len_bytes.div_ceil(PAGE_BYTES))?,
            }
            let used = self.get(heap.at(Heap::used_bytes));
            self.set(heap.at(Heap::used_bytes), used.saturating_sub(occupied(len_bytes)))?;
        }
        Ok(())
    }

    fn alloc_raw(&mut self, area: Area<'s>, len_bytes: u64) -> Result<Bytes<'s>, Error> {
        self.lock(area)?;
        let heap = self.heap(area)?;
        let offset = match Class::of(len_bytes) {
            Some(class) => self.alloc_block(area, heap, class)?,
            None => {
                let pages = len_bytes.div_ceil(PAGE_BYTES);
                let offset = self.alloc_run(area, heap, pages, 1)?;
                self.ensure(area, offset, pages * PAGE_BYTES)?;
                offset
            }
        };
        let used = self.get(heap.at(Heap::used_bytes));
        self.set(heap.at(Heap::used_bytes), used.saturating_add(occupied(len_bytes)))?;
        let bytes: Bytes<'s> = area.span(offset, len_bytes).ok_or(Error::Damaged)?;
        self.allocated(bytes);
        Ok(bytes)
    }

    /// The heap's root; made on first use, behind the bytes in use.
    fn heap(&mut self, area: Area<'s>) -> Result<Ptr<'s, Heap>, Error> {
        let place = header_place(area, offset_of!(Header, allocator));
        let offset: u64 = self.get(place);
        if offset == 0 {
            return self.make_heap(area, place);
        }
        let heap: Ptr<'s, Heap> = area.place(offset).ok_or(Error::Damaged)?;
        if self.get(heap.at(Heap::magic)) != MAGIC {
            return Err(Error::Damaged);
        }
        Ok(heap)
    }

    fn make_heap(&mut self, area: Area<'s>, allocator: Ptr<'s, u64>) -> Result<Ptr<'s, Heap>, Error> {
        let len: u64 = self.get(header_place(area, offset_of!(Header, len_bytes)));
        let offset = len.min(SLOT_BYTES).next_multiple_of(64) + BASE_OFFSET;
        let map = (offset + size_of::<Heap>() as u64).next_multiple_of(PAGE_BYTES);
        let heap: Ptr<'s, Heap> = area.place(offset).ok_or(Error::OutOfRange)?;
        let end = map + MAP_BYTES;
        if end >= SLOT_BYTES {
            return Err(Error::OutOfRange);
        }
        self.ensure(area, offset, size_of::<Heap>() as u64)?;
        for class in 0..CLASSES {
            self.set(heap.at(Heap::heads).index(class).ok_or(Error::Damaged)?, 0)?;
        }
        self.set(heap.at(Heap::magic), MAGIC)?;
        self.set(heap.at(Heap::map), map)?;
        self.set(heap.at(Heap::map_pages), 0)?;
        self.set(heap.at(Heap::hint), end / PAGE_BYTES)?;
        self.set(heap.at(Heap::used_bytes), 0)?;
        self.set(allocator, offset)?;
        self.begin_map(area, heap, end / PAGE_BYTES)?;
        self.used_up_to(area, end)?;
        Ok(heap)
    }

    /// Notes in the header that the object is in use up to the offset `end`.
    fn used_up_to(&mut self, area: Area<'s>, end: u64) -> Result<(), Error> {
        let place = header_place(area, offset_of!(Header, len_bytes));
        let len: u64 = self.get(place);
        if len < end - BASE_OFFSET {
            self.set(place, end - BASE_OFFSET)?;
        }
        Ok(())
    }
}

/// What an allocation of that length takes.
fn occupied(len_bytes: u64) -> u64 {
    Class::of(len_bytes)
        .map_or(len_bytes.next_multiple_of(PAGE_BYTES), |class| u64::from(class.block_bytes()))
}
