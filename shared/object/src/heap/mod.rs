//! Allocation inside an object, as part of a transaction.
//!
//! All that the allocator knows lies in the object and is changed by staged writes alone, so it commits or vanishes with the
//! transaction: nothing leaks, and nothing is scanned at open. Free blocks hold no links, because a transaction writes into what
//! it allocates before it commits. Taking or giving back a block stages one word, unless a slab becomes full or empty.
//!
//! - [`Heap`], the root: heads of the slab lists, and where the page map is.
//! - The *page map* ([`runs`]): two bits for each page of the object; behind the root for the first gigabyte, behind that for all.
//! - *Slabs* ([`slabs`]): up to 64 KiB of equal blocks, with a map of those in use; for up to 8 KiB.
//! - *Runs* ([`runs`]) of pages, for what is larger, found first-fit.
//!
//! The root lies behind the typed root, at a distance that is the object's *colour*: 1 of 128 pages and 1 of 64 lines, from the object's
//! ID. Objects begin at multiples of a gigabyte; at equal distances their first allocations would share one set of the TLB and of
//! the caches. The pages left out are never touched and cost no memory.
//!
//! - [`reuse`]: what is freed is free with the commit, and given out again when readers have passed.
//!
//! Transactions that allocate in one object exclude each other by its lock anyway, so threads have no leases of their own on parts
//! of a heap: who wants to write in parallel writes to several objects.
//!
//! What lies there is untrusted: any byte may be wrong, and the answer is [`Error::Damaged`], or memory given out that is in use
//! already, but never an access outside the object.

mod check;
mod classes;
mod reuse;
mod runs;
mod slabs;

use core::mem::offset_of;

use twizzler_abi::Error;
use twizzler_abi::address::{PAGE_BYTES, SLOT_BYTES, Slot};
use twizzler_abi::object::{BASE_OFFSET, Header};

use crate::backend::Backend;
use crate::pointer::{Area, Bytes, Ptr, Span};
use crate::reader::Reader;
use crate::space::{area_of, header_place};
use crate::stored::Stored;
use crate::tx::Tx;
use crate::types::{HELD_TOGETHER, HeldType};
pub use check::{HeapFinding, HeapReport, HeapUsage, check_heap};
use classes::{CLASSES, Class};
pub(crate) use reuse::Reuse;

/// Pages of a small object: where the allocator's root and its first map lie, in large ones too.
const PAGES: u64 = SLOT_BYTES / PAGE_BYTES;
/// Marks a heap: "TWZHEAP" and the version, 2.
const MAGIC: u64 = u64::from_le_bytes(*b"TWZHEAP\x02");
/// Colours: so many pages, and so many lines of the first page.
const PAGE_COLOURS: u64 = 128;
const LINE_COLOURS: u64 = 60;

/// The allocator's root. The page map follows it.
#[derive(Stored)]
#[stored(name = "twizzler.heap", version = 2)]
#[repr(C)]
pub(crate) struct Heap {
    /// [`MAGIC`].
    magic: u64,
    /// Bytes of the page map that are known to exist; the map ends with a page.
    map_bytes: u64,
    /// No page before this one is free: low pages are used first, so that an object keeps small.
    hint: u64,
    /// The first page that can be given out; slabs are aligned from here.
    origin: u64,
    /// Colours the heads of slabs.
    colour: u64,
    /// Where the page map is, once it has outgrown its place behind the root; 0: there.
    map_at: u64,
    /// The version of the object that last freed pages ([`reuse`]).
    freed: u64,
    /// Offset of the block with the rest of the type list; 0: there is none.
    pub(crate) types_beyond: u64,
    /// For each class, the page of the first slab with a free block; 0: none.
    heads: [u32; CLASSES],
    reserved2: [u32; 3],
    /// The first entries of the object's type list.
    pub(crate) types: [HeldType; HELD_TOGETHER],
}

/// Bytes of the root: whole lines, so that the map begins a line.
const HEAP_BYTES: u64 = size_of::<Heap>() as u64;
const _: () = assert!(HEAP_BYTES == 192 && LINE_COLOURS * 64 + HEAP_BYTES < PAGE_BYTES + 64);

/// The first page that a heap gives out whose root lies at an offset: behind the room for its page map.
const fn origin_of(offset: u64) -> u64 {
    (offset + HEAP_BYTES + runs::MAP_BYTES).div_ceil(PAGE_BYTES)
}

/// True where an allocator's root lies at an offset of an object, whose words `word` gives.
pub(crate) fn is_heap(offset: u64, mut word: impl FnMut(u64) -> Result<u64, Error>) -> Result<bool, Error> {
    let can_be = (BASE_OFFSET..SLOT_BYTES - PAGE_BYTES).contains(&offset) && offset.is_multiple_of(8);
    Ok(can_be && word(offset + Heap::magic.offset())? == MAGIC)
}

/// What a transaction has freed; performed at commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Freed {
    /// Where the object lies.
    slot: Slot,
    offset: u64,
    len_bytes: u64,
    align: u64,
}

impl<'s, B: Backend> Tx<'s, B> {
    /// Allocates a `T` of zeros in an object.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] where the object is full, [`Error::OutOfNvm`], [`Error::Damaged`] for a heap that makes no sense;
    /// [`Error::WrongType`] where the object holds another version of `T`; otherwise as [`Tx::lock`].
    pub fn alloc<T: Stored>(&mut self, area: Area<'s>) -> Result<Ptr<'s, T>, Error> {
        self.alloc_span(area, 1)?.index(0).ok_or(Error::InvalidArgument)
    }

    /// Allocates `len` values of zeros, one after the other, aligned as `T` asks for. None at all need no memory.
    ///
    /// # Errors
    /// As [`Tx::alloc`]; [`Error::WrongType`] where the object holds another version of `T`.
    pub fn alloc_span<T: Stored>(&mut self, area: Area<'s>, len: u64) -> Result<Span<'s, T>, Error> {
        const { assert!(align_of::<T>() as u64 <= PAGE_BYTES, "nothing is aligned to more than a page") };
        let len_bytes = len.checked_mul(size_of::<T>() as u64).ok_or(Error::OutOfRange)?;
        if len_bytes == 0 {
            return Ok(Span::EMPTY);
        }
        self.hold::<T>(area)?;
        let bytes = self.alloc_raw(area, len_bytes, align_of::<T>() as u64)?;
        self.allocated(bytes)?;
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
        let bytes = self.alloc_raw(area, content.len() as u64, 1)?;
        self.allocated(bytes)?;
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

    /// Frees what [`Tx::alloc_span`] or [`Tx::alloc_bytes`] gave: all of it, as the type that it was allocated as.
    ///
    /// # Errors
    /// As [`Tx::free`]. What is only found to be wrong at commit makes that fail.
    pub fn free_span<T: Stored>(&mut self, span: Span<'s, T>) -> Result<(), Error> {
        let Some(first) = span.index(0) else { return Ok(()) };
        let area = first.object();
        self.lock(area)?;
        let align = align_of::<T>() as u64;
        let slot = Slot::of(area.start()).ok_or(Error::Damaged)?;
        self.push_free(Freed { slot, offset: first.offset(), len_bytes: span.len_bytes(), align });
        Ok(())
    }

    /// Performs what was freed, but for what goes with its object.
    pub(crate) fn free_now(&mut self) -> Result<(), Error> {
        let mut number = 0;
        while let Some(Freed { slot, offset, len_bytes, align }) = self.freed(number) {
            number += 1;
            // Locked when it was freed, under the guard that the transaction runs under: it is mapped.
            let area = area_of(slot);
            if self.deletes(area)? {
                continue;
            }
            let heap = self.heap(area)?;
            match Class::of(len_bytes, align) {
                Some(class) => self.free_block(area, heap, class, offset)?,
                None => self.free_run(area, heap, offset, len_bytes.div_ceil(PAGE_BYTES))?,
            }
        }
        Ok(())
    }

    /// Allocates memory of whatever content. What is written there is staged like all other changes, unless the transaction is told
    /// that it has [`Tx::allocated`] it.
    pub(crate) fn alloc_raw(
        &mut self,
        area: Area<'s>,
        len_bytes: u64,
        align: u64,
    ) -> Result<Bytes<'s>, Error> {
        self.lock(area)?;
        let heap = self.heap(area)?;
        let offset = match Class::of(len_bytes, align) {
            Some(class) => self.alloc_block(area, heap, class)?,
            None => {
                let pages = len_bytes.div_ceil(PAGE_BYTES);
                self.alloc_run(area, heap, (pages, pages), 1)?
            }
        };
        area.span(offset, len_bytes).ok_or(Error::Damaged)
    }

    /// The heap's root; made on first use, behind the bytes in use.
    pub(crate) fn heap(&mut self, area: Area<'s>) -> Result<Ptr<'s, Heap>, Error> {
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
        let id = self.space().id_of(area);
        let colour = crate::journal::checksum(0, &[id.hi, id.lo]);
        let page = (len.min(SLOT_BYTES) + BASE_OFFSET).div_ceil(PAGE_BYTES) + colour % PAGE_COLOURS;
        let offset = page * PAGE_BYTES + (colour / PAGE_COLOURS % LINE_COLOURS) * 64;
        let heap: Ptr<'s, Heap> = area.place(offset).ok_or(Error::OutOfRange)?;
        let origin = origin_of(offset);
        if origin >= PAGES {
            return Err(Error::OutOfRange);
        }
        self.ensure(area, offset, HEAP_BYTES)?;
        for class in 0..CLASSES {
            self.set(heap.at(Heap::heads).index(class).ok_or(Error::Damaged)?, 0)?;
        }
        self.set(heap.at(Heap::magic), MAGIC)?;
        self.set(heap.at(Heap::map_bytes), 0)?;
        self.set(heap.at(Heap::hint), origin)?;
        self.set(heap.at(Heap::origin), origin)?;
        self.set(heap.at(Heap::colour), colour / PAGE_COLOURS)?;
        self.set(heap.at(Heap::map_at), 0)?;
        self.set(heap.at(Heap::freed), 0)?;
        self.set(heap.at(Heap::types_beyond), 0)?;
        self.set(heap.at(Heap::types), [HeldType { key: 0, fingerprint: 0 }; HELD_TOGETHER])?;
        self.set(allocator, offset)?;
        self.used_up_to(area, origin * PAGE_BYTES)?;
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
