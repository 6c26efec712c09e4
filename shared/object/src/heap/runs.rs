//! Runs of pages, and the page map.

use twizzler_abi::Error;
use twizzler_abi::address::{PAGE_BYTES, SLOT_BYTES};

use super::{Heap, PAGES};
use crate::backend::Backend;
use crate::pointer::{Area, Ptr};
use crate::reader::Reader;
use crate::tx::Tx;

/// Pages that one page of the map stands for.
const PAGES_PER_MAP_PAGE: u64 = PAGE_BYTES * 8;
const MAP_PAGES: u64 = PAGES / PAGES_PER_MAP_PAGE;

impl<'s, B: Backend> Tx<'s, B> {
    /// Makes the map, in which the first `used` pages are in use.
    pub(super) fn begin_map(&mut self, area: Area<'s>, heap: Ptr<'s, Heap>, used: u64) -> Result<(), Error> {
        while self.get(heap.at(Heap::map_pages)) * PAGES_PER_MAP_PAGE < used {
            self.extend_map(area, heap)?;
        }
        self.mark(area, heap, 0, used, true)
    }

    /// Makes one more page of the map exist, all free.
    fn extend_map(&mut self, area: Area<'s>, heap: Ptr<'s, Heap>) -> Result<(), Error> {
        let have = self.get(heap.at(Heap::map_pages));
        if have >= MAP_PAGES {
            return Err(Error::OutOfRange);
        }
        let offset = self.get(heap.at(Heap::map)) + have * PAGE_BYTES;
        if offset >= SLOT_BYTES {
            return Err(Error::Damaged);
        }
        self.ensure(area, offset, PAGE_BYTES)?;
        self.set(heap.at(Heap::map_pages), have + 1)
    }

    /// Finds `pages` free pages in a row, the first a multiple of `align`, and marks them. Gives their offset.
    pub(super) fn alloc_run(
        &mut self,
        area: Area<'s>,
        heap: Ptr<'s, Heap>,
        pages: u64,
        align: u64,
    ) -> Result<u64, Error> {
        let hint = self.get(heap.at(Heap::hint)).min(PAGES);
        let first = loop {
            let limit = self.get(heap.at(Heap::map_pages)).min(MAP_PAGES) * PAGES_PER_MAP_PAGE;
            if let Some(first) = self.find(area, heap, (hint, limit), pages, align)? {
                break first;
            }
            self.extend_map(area, heap)?;
        };
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
        if !offset.is_multiple_of(PAGE_BYTES) {
            return Err(Error::Damaged);
        }
        self.mark(area, heap, first, pages, false)?;
        if first < self.get(heap.at(Heap::hint)) {
            self.set(heap.at(Heap::hint), first)?;
        }
        Ok(())
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
        let mut first = from.next_multiple_of(align);
        'next: while first.checked_add(pages).is_some_and(|end| end <= limit) {
            let mut page = first;
            while page < first + pages {
                let word = self.get(self.map_word(area, heap, page / 64)?);
                let rest = word >> (page % 64);
                if rest == 0 {
                    page = (page / 64 + 1) * 64;
                    continue;
                }
                page += u64::from(rest.trailing_zeros());
                if page < first + pages {
                    // In use: go on behind the pages that follow it in use.
                    let taken = (!(word >> (page % 64))).trailing_zeros();
                    first = (page + u64::from(taken).min(64 - page % 64)).next_multiple_of(align);
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
        let end = first.checked_add(pages).filter(|&end| end <= PAGES).ok_or(Error::Damaged)?;
        let mut page = first;
        while page < end {
            let len = (64 - page % 64).min(end - page);
            let bits = if len == 64 { u64::MAX } else { ((1 << len) - 1) << (page % 64) };
            let place = self.map_word(area, heap, page / 64)?;
            let word = self.get(place);
            if word & bits != if used { 0 } else { bits } {
                return Err(Error::Damaged);
            }
            self.set(place, word ^ bits)?;
            page += len;
        }
        Ok(())
    }

    /// The place of a word of the map, if that part of the map exists.
    fn map_word(&self, area: Area<'s>, heap: Ptr<'s, Heap>, word: u64) -> Result<Ptr<'s, u64>, Error> {
        if word * 8 >= self.get(heap.at(Heap::map_pages)).min(MAP_PAGES) * PAGE_BYTES {
            return Err(Error::Damaged);
        }
        let map = self.get(heap.at(Heap::map));
        map.checked_add(word * 8).and_then(|offset| area.place(offset)).ok_or(Error::Damaged)
    }
}
