//! Slabs: runs of pages cut into equal blocks.
//!
//! A slab begins at a multiple of its size, with a head of one cache line that holds the map of its blocks. Slabs with a free
//! block are on their class's list. A slab's pages are made to exist as blocks reach them.

use twizzler_abi::Error;
use twizzler_abi::address::PAGE_BYTES;

use super::Heap;
use super::classes::{Class, HEAD_BYTES};
use crate::backend::Backend;
use crate::pointer::{Area, Ptr};
use crate::reader::Reader;
use crate::tx::Tx;

/// Upper three bytes of a slab's mark; the lowest is its class.
const MARK: u32 = u32::from_le_bytes(*b"\0SLB");

record! {
    /// A slab's head.
    #[derive(Clone, Copy)]
    struct Slab: "twizzler.slab", 1 {
        /// [`MARK`] and the class.
        mark: u32,
        /// Blocks in use.
        used: u32,
        /// Page of the next slab with a free block; 0: none.
        next: u32,
        /// Page of the one before.
        previous: u32,
        /// Bytes from the start that are known to exist.
        exist_bytes: u32,
        reserved: [u32; 3],
        /// Bit set: the block is in use, or under the head.
        map: [u64; 4],
    }
}

const _: () = assert!(size_of::<Slab>() == HEAD_BYTES as usize);

impl<'s, B: Backend> Tx<'s, B> {
    /// Takes a block. Gives its offset.
    pub(super) fn alloc_block(
        &mut self,
        area: Area<'s>,
        heap: Ptr<'s, Heap>,
        class: Class,
    ) -> Result<u64, Error> {
        let head = heap.at(Heap::heads).index(class.index()).ok_or(Error::Damaged)?;
        let place = match self.get(head) {
            0 => self.make_slab(area, heap, class)?,
            page => self.slab(area, class, page)?,
        };
        let mut slab = self.get(place);
        let word = slab.map.iter().position(|&word| word != u64::MAX).ok_or(Error::Damaged)?;
        let bit = slab.map[word].trailing_ones();
        let block = word as u32 * 64 + bit;
        if block >= class.blocks() {
            return Err(Error::Damaged);
        }
        let end = (block + 1) * class.block_bytes();
        if slab.exist_bytes < end {
            slab.exist_bytes =
                (end + 3 * PAGE_BYTES as u32).next_multiple_of(PAGE_BYTES as u32).min(class.slab_bytes());
            self.ensure(area, place.offset(), u64::from(slab.exist_bytes))?;
            self.set(place.at(Slab::exist_bytes), slab.exist_bytes)?;
        }
        slab.map[word] |= 1 << bit;
        slab.used = slab.used.wrapping_add(1);
        self.set(place.at(Slab::map).index(word).ok_or(Error::Damaged)?, slab.map[word])?;
        self.set(place.at(Slab::used), slab.used)?;
        if slab.used == class.blocks() - class.first_block() {
            self.unlist(area, heap, class, place)?;
        }
        Ok(place.offset() + u64::from(block * class.block_bytes()))
    }

    /// Gives a block back.
    pub(super) fn free_block(
        &mut self,
        area: Area<'s>,
        heap: Ptr<'s, Heap>,
        class: Class,
        offset: u64,
    ) -> Result<(), Error> {
        let slab_bytes = u64::from(class.slab_bytes());
        let within = (offset % slab_bytes) as u32;
        let place = self.slab(area, class, ((offset - offset % slab_bytes) / PAGE_BYTES) as u32)?;
        let slab = self.get(place);
        let block = within / class.block_bytes();
        let (word, bit) = ((block / 64) as usize, block % 64);
        let is_block = within.is_multiple_of(class.block_bytes())
            && block >= class.first_block()
            && block < class.blocks();
        if !is_block || slab.map[word] >> bit & 1 == 0 || slab.used == 0 {
            return Err(Error::Damaged);
        }
        self.set(place.at(Slab::map).index(word).ok_or(Error::Damaged)?, slab.map[word] & !(1 << bit))?;
        self.set(place.at(Slab::used), slab.used - 1)?;
        if slab.used == class.blocks() - class.first_block() {
            self.list(area, heap, class, place)?;
        }
        if slab.used == 1 {
            self.unlist(area, heap, class, place)?;
            // So that nobody takes what is left of it for a slab.
            self.set(place.at(Slab::mark), 0)?;
            self.free_run(area, heap, place.offset(), class.slab_pages())?;
        }
        Ok(())
    }

    /// The slab at a page, checked to be one of that class.
    fn slab(&self, area: Area<'s>, class: Class, page: u32) -> Result<Ptr<'s, Slab>, Error> {
        let offset = u64::from(page) * PAGE_BYTES;
        if !offset.is_multiple_of(u64::from(class.slab_bytes())) {
            return Err(Error::Damaged);
        }
        let place: Ptr<'s, Slab> = area.place(offset).ok_or(Error::Damaged)?;
        if self.get(place.at(Slab::mark)) != MARK | class.index() as u32 {
            return Err(Error::Damaged);
        }
        Ok(place)
    }

    fn make_slab(
        &mut self,
        area: Area<'s>,
        heap: Ptr<'s, Heap>,
        class: Class,
    ) -> Result<Ptr<'s, Slab>, Error> {
        let offset = self.alloc_run(area, heap, class.slab_pages(), class.slab_pages())?;
        self.ensure(area, offset, PAGE_BYTES)?;
        let place: Ptr<'s, Slab> = area.place(offset).ok_or(Error::Damaged)?;
        let slab = Slab {
            mark: MARK | class.index() as u32,
            used: 0,
            next: 0,
            previous: 0,
            exist_bytes: PAGE_BYTES as u32,
            reserved: [0; 3],
            map: [(1 << class.first_block()) - 1, 0, 0, 0],
        };
        self.set(place, slab)?;
        self.list(area, heap, class, place)?;
        Ok(place)
    }

    /// Puts a slab at the head of its class's list.
    fn list(
        &mut self,
        area: Area<'s>,
        heap: Ptr<'s, Heap>,
        class: Class,
        place: Ptr<'s, Slab>,
    ) -> Result<(), Error> {
        let head = heap.at(Heap::heads).index(class.index()).ok_or(Error::Damaged)?;
        let page = (place.offset() / PAGE_BYTES) as u32;
        let next = self.get(head);
        if next != 0 {
            let next = self.slab(area, class, next)?;
            self.set(next.at(Slab::previous), page)?;
        }
        self.set(place.at(Slab::next), next)?;
        self.set(place.at(Slab::previous), 0)?;
        self.set(head, page)
    }

    /// Takes a slab off its class's list.
    fn unlist(
        &mut self,
        area: Area<'s>,
        heap: Ptr<'s, Heap>,
        class: Class,
        place: Ptr<'s, Slab>,
    ) -> Result<(), Error> {
        let (next, previous) = (self.get(place.at(Slab::next)), self.get(place.at(Slab::previous)));
        if next != 0 {
            let next = self.slab(area, class, next)?;
            self.set(next.at(Slab::previous), previous)?;
        }
        let link = match previous {
            0 => heap.at(Heap::heads).index(class.index()).ok_or(Error::Damaged)?,
            previous => self.slab(area, class, previous)?.at(Slab::next),
        };
        self.set(link, next)
    }
}
