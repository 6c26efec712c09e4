//! Runs of pages, and the page map.
//!
//! The map has two words for each 64 pages: which are in use, and which of those begin a slab. It grows with the object. Behind the allocator's
//! root there is room for the map of a gigabyte. That of a large object moves, when it has grown so far, to the beginning of the second
//! gigabyte, where there is room for all of it; an object that was promoted does the same.

use core::mem::offset_of;

use twizzler_abi::Error;
use twizzler_abi::address::{PAGE_BYTES, SLOT_BYTES};
use twizzler_abi::object::{BASE_OFFSET, Header};

use super::{HEAP_BYTES, Heap, PAGES, origin_of};
use crate::backend::Backend;
use crate::pointer::{Area, Ptr};
use crate::reader::Reader;
use crate::space::header_place;
use crate::stored::Stored;
use crate::tx::Tx;

/// Bytes of the page map of a full small object.
pub(super) const MAP_BYTES: u64 = map_bytes(PAGES);
/// Where the map of more pages is.
pub(super) const MOVED_MAP: u64 = SLOT_BYTES;

/// Bytes of a map of so many pages.
pub(super) const fn map_bytes(pages: u64) -> u64 {
    pages / 64 * size_of::<Pages>() as u64
}

/// Pages of an object.
const fn pages_of(area: Area<'_>) -> u64 {
    area.range_bytes() / PAGE_BYTES
}

/// 64 pages.
#[derive(Stored, Clone, Copy)]
#[stored(name = "twizzler.heap-pages", version = 1)]
#[repr(C)]
pub(super) struct Pages {
    /// Bit set: the page is in use.
    pub(super) used: u64,
    /// Bit set: a slab begins there.
    pub(super) slabs: u64,
}

impl<'s, B: Backend> Tx<'s, B> {
    /// Makes more of the map exist, up to the end of a page. The new part is all free, but for what lies before the origin.
    fn extend_map(&mut self, area: Area<'s>, heap: Ptr<'s, Heap>) -> Result<(), Error> {
        let have = self.get(heap.at(Heap::map_bytes));
        let (map, most) = self.map_place(area, heap)?;
        if have >= most {
            let is_small = most == map_bytes(pages_of(area));
            return if is_small { Err(Error::OutOfRange) } else { self.move_map(area, heap) };
        }
        let at = map + have;
        if !have.is_multiple_of(size_of::<Pages>() as u64) {
            return Err(Error::Damaged);
        }
        let more = (PAGE_BYTES - at % PAGE_BYTES).min(most - have);
        self.ensure(area, at, more)?;
        // Where a file was cut short its bytes still lie.
        let new = area.span::<u8>(at, more).ok_or(Error::Damaged)?;
        if self.to_vec(new).iter().any(|&byte| byte != 0) {
            self.zero(new)?;
        }
        self.set(heap.at(Heap::map_bytes), have + more)?;
        let (first, end) = (have * 4, (have + more) * 4);
        let origin = self.get(heap.at(Heap::origin)).min(pages_of(area));
        if first < origin {
            self.mark(area, heap, first, origin.min(end) - first, true)?;
        }
        Ok(())
    }

    /// Where the map begins, and how long it may grow there.
    fn map_place(&self, area: Area<'s>, heap: Ptr<'s, Heap>) -> Result<(u64, u64), Error> {
        match self.get(heap.at(Heap::map_at)) {
            0 => Ok((heap.offset() + HEAP_BYTES, MAP_BYTES)),
            MOVED_MAP if area.range_bytes() > SLOT_BYTES => Ok((MOVED_MAP, map_bytes(pages_of(area)))),
            _ => Err(Error::Damaged),
        }
    }

    /// Moves the map of a gigabyte to where there is room for more, and lets it grow by a page.
    fn move_map(&mut self, area: Area<'s>, heap: Ptr<'s, Heap>) -> Result<(), Error> {
        let old = area.span::<u8>(heap.offset() + HEAP_BYTES, MAP_BYTES).ok_or(Error::Damaged)?;
        let mut content = self.to_vec(old);
        // The pages that the map itself may need are in use.
        let own = map_bytes(pages_of(area)) / PAGE_BYTES;
        let words = content.len() + map_bytes(own) as usize;
        content.resize(content.len() + PAGE_BYTES as usize, 0);
        for word in content[MAP_BYTES as usize..words].chunks_exact_mut(size_of::<Pages>()) {
            word[..8].fill(0xff);
        }
        let new = area.span::<u8>(MOVED_MAP, content.len() as u64).ok_or(Error::Damaged)?;
        self.ensure(area, MOVED_MAP, new.len())?;
        self.allocated(new)?;
        self.write(new, 0, &content)?;
        self.set(heap.at(Heap::map_at), MOVED_MAP)?;
        self.set(heap.at(Heap::map_bytes), new.len())?;
        self.used_up_to(area, MOVED_MAP + own * PAGE_BYTES)
    }

    /// Finds `pages` free pages in a row, at a multiple of `align` from the origin, makes the first `exist` of them exist, and marks all. Gives
    /// their offset. Nothing is marked where that fails.
    pub(super) fn alloc_run(
        &mut self,
        area: Area<'s>,
        heap: Ptr<'s, Heap>,
        (pages, exist): (u64, u64),
        align: u64,
    ) -> Result<u64, Error> {
        let origin = self.get(heap.at(Heap::origin));
        if origin != origin_of(heap.offset()) {
            return Err(Error::Damaged);
        }
        // First: looking for what can't be there would make all of the map exist.
        if pages > pages_of(area).saturating_sub(origin) {
            return Err(Error::OutOfRange);
        }
        let hint = self.get(heap.at(Heap::hint)).min(pages_of(area));
        let freed = self.get(heap.at(Heap::freed));
        // Somebody may still read what was freed: pages, then, that were never used.
        let from = if self.is_kept(area, freed)? { hint.max(self.pages_in_use(area)) } else { hint };
        let first = loop {
            let limit = self.get(heap.at(Heap::map_bytes)).min(map_bytes(pages_of(area))) * 4;
            if let Some(first) = self.find(area, heap, (from, limit), pages, align)? {
                break first;
            }
            self.extend_map(area, heap)?;
        };
        self.ensure(area, first * PAGE_BYTES, exist * PAGE_BYTES)?;
        self.mark(area, heap, first, pages, true)?;
        if first == hint {
            self.set(heap.at(Heap::hint), first + pages)?;
        }
        self.used_up_to(area, (first + pages) * PAGE_BYTES)?;
        Ok(first * PAGE_BYTES)
    }

    /// Frees pages, all of which must be in use.
    pub(super) fn free_run(
        &mut self,
        area: Area<'s>,
        heap: Ptr<'s, Heap>,
        offset: u64,
        pages: u64,
    ) -> Result<(), Error> {
        let first = offset / PAGE_BYTES;
        if !offset.is_multiple_of(PAGE_BYTES) || first < self.get(heap.at(Heap::origin)) {
            return Err(Error::Damaged);
        }
        self.mark(area, heap, first, pages, false)?;
        self.set(heap.at(Heap::freed), self.next_version(area)?)?;
        if first < self.get(heap.at(Heap::hint)) {
            self.set(heap.at(Heap::hint), first)?;
        }
        Ok(())
    }

    /// Pages up to the last that was ever used.
    fn pages_in_use(&self, area: Area<'s>) -> u64 {
        let len: u64 = self.get(header_place(area, offset_of!(Header, len_bytes)));
        len.saturating_add(BASE_OFFSET).div_ceil(PAGE_BYTES).min(pages_of(area))
    }

    /// Notes that a slab begins at a page, or no longer does.
    pub(super) fn mark_slab(&mut self, heap: Ptr<'s, Heap>, page: u64) -> Result<(), Error> {
        let place = self.map_word(heap.object(), heap, page / 64)?.at(Pages::slabs);
        self.set(place, self.get(place) ^ 1 << (page % 64))
    }

    /// The first of `pages` free pages within `range`.
    fn find(
        &self,
        area: Area<'s>,
        heap: Ptr<'s, Heap>,
        range: (u64, u64),
        pages: u64,
        align: u64,
    ) -> Result<Option<u64>, Error> {
        let (from, limit) = range;
        let origin = self.get(heap.at(Heap::origin)).min(pages_of(area));
        let aligned = |page: u64| origin + page.saturating_sub(origin).next_multiple_of(align);
        let mut first = aligned(from);
        'next: while first.checked_add(pages).is_some_and(|end| end <= limit) {
            let mut page = first;
            while page < first + pages {
                let word = self.get(self.map_word(area, heap, page / 64)?.at(Pages::used));
                let rest = word >> (page % 64);
                if rest == 0 {
                    page = (page / 64 + 1) * 64;
                    continue;
                }
                page += u64::from(rest.trailing_zeros());
                if page < first + pages {
                    // In use: go on behind the pages that follow it in use.
                    let taken = (!(word >> (page % 64))).trailing_zeros();
                    first = aligned(page + u64::from(taken).min(64 - page % 64));
                    continue 'next;
                }
            }
            return Ok(Some(first));
        }
        Ok(None)
    }

    /// Marks pages as in use or free. Their bits must all say the opposite.
    fn mark(
        &mut self,
        area: Area<'s>,
        heap: Ptr<'s, Heap>,
        first: u64,
        pages: u64,
        used: bool,
    ) -> Result<(), Error> {
        let end = first.checked_add(pages).filter(|&end| end <= pages_of(area)).ok_or(Error::Damaged)?;
        let mut page = first;
        while page < end {
            let len = (64 - page % 64).min(end - page);
            let bits = if len == 64 { u64::MAX } else { ((1 << len) - 1) << (page % 64) };
            let place = self.map_word(area, heap, page / 64)?.at(Pages::used);
            let word = self.get(place);
            if word & bits != if used { 0 } else { bits } {
                return Err(Error::Damaged);
            }
            self.set(place, word ^ bits)?;
            page += len;
        }
        Ok(())
    }

    /// The place of 64 pages' bits, if that part of the map exists.
    fn map_word(&self, area: Area<'s>, heap: Ptr<'s, Heap>, index: u64) -> Result<Ptr<'s, Pages>, Error> {
        let at = index * size_of::<Pages>() as u64;
        let (map, most) = self.map_place(area, heap)?;
        if at >= self.get(heap.at(Heap::map_bytes)).min(most) {
            return Err(Error::Damaged);
        }
        area.place(map + at).ok_or(Error::Damaged)
    }
}
