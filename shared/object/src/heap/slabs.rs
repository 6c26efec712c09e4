//! Slabs: runs of pages cut into equal blocks.
//!
//! A slab begins at a multiple of its size from the heap's origin, with a head of one cache line, somewhere in its first page, that holds
//! the map of its blocks. Slabs with a free block are on their class's list. A slab's pages are made to exist as blocks reach them.

use twizzler_abi::Error;
use twizzler_abi::address::PAGE_BYTES;

use super::Heap;
use super::classes::{Class, HEAD_BYTES, MAP_WORDS};
use crate::backend::Backend;
use crate::pointer::{Area, Ptr};
use crate::reader::Reader;
use crate::stored::Stored;
use crate::tx::Tx;

/// Upper three bytes of a slab's mark; the lowest is its class.
pub(super) const MARK: u32 = u32::from_le_bytes(*b"\0SLB");
/// Pages that are made to exist at a time.
const GROW_PAGES: u32 = 4;
/// Slabs of a list that are looked at for one whose free blocks nobody reads any more.
const LOOKED_AT: usize = 8;

/// A slab's head.
#[derive(Stored, Clone, Copy)]
#[stored(name = "twizzler.slab", version = 2)]
#[repr(C)]
pub(super) struct Slab {
    /// [`MARK`] and the class.
    pub(super) mark: u32,
    /// The slab's own page.
    pub(super) page: u32,
    /// Page of the next slab with a free block; 0: none.
    pub(super) next: u32,
    /// Page of the one before.
    pub(super) previous: u32,
    /// Bytes from the start that are known to exist.
    pub(super) exist_bytes: u32,
    reserved: u32,
    /// The version of the object that last freed one of its blocks ([`super::reuse`]).
    freed: u64,
    /// Bit set: the block is in use, or under the head, or there is no such block.
    pub(super) map: [u64; MAP_WORDS],
}

const _: () = assert!(size_of::<Slab>() == HEAD_BYTES as usize);

/// A slab that was found to be one.
#[derive(Clone, Copy)]
struct Found<'s> {
    place: Ptr<'s, Slab>,
    page: u32,
    /// The first block under its head.
    head: u32,
}

impl<'s, B: Backend> Tx<'s, B> {
    /// Takes a block. Gives its offset.
    pub(super) fn alloc_block(
        &mut self,
        area: Area<'s>,
        heap: Ptr<'s, Heap>,
        class: Class,
    ) -> Result<u64, Error> {
        let (found, mut slab) = match self.slab_with_room(area, heap, class)? {
            Some(slab) => slab,
            None => self.make_slab(area, heap, class)?,
        };
        let block = free_block(&slab.map, found.head).filter(|&block| block < class.blocks());
        let block = block.ok_or(Error::Damaged)?;
        let start = u64::from(found.page) * PAGE_BYTES;
        let end = (block + 1) * class.block_bytes();
        if slab.exist_bytes < end {
            let grown = (end + (GROW_PAGES - 1) * PAGE_BYTES as u32).next_multiple_of(PAGE_BYTES as u32);
            slab.exist_bytes = grown.min(class.slab_bytes());
            self.ensure(area, start, slab.exist_bytes.into())?;
            self.set(found.place.at(Slab::exist_bytes), slab.exist_bytes)?;
        }
        let word = block as usize / 64;
        slab.map[word] |= 1 << (block % 64);
        self.set(found.place.at(Slab::map).index(word).ok_or(Error::Damaged)?, slab.map[word])?;
        if slab.map == [u64::MAX; MAP_WORDS] {
            self.unlist(heap, class, &slab)?;
        }
        Ok(start + u64::from(block * class.block_bytes()))
    }

    /// Gives a block back.
    pub(super) fn free_block(
        &mut self,
        area: Area<'s>,
        heap: Ptr<'s, Heap>,
        class: Class,
        offset: u64,
    ) -> Result<(), Error> {
        let origin = self.get(heap.at(Heap::origin)).checked_mul(PAGE_BYTES).ok_or(Error::Damaged)?;
        let beyond = offset.checked_sub(origin).ok_or(Error::Damaged)?;
        let within = (beyond % u64::from(class.slab_bytes())) as u32;
        let page = (offset - u64::from(within)) / PAGE_BYTES;
        let (found, slab) = self.slab(heap, class, page as u32)?;
        let block = within / class.block_bytes();
        let (word, bit) = (block as usize / 64, 1 << (block % 64));
        let empty = class.empty_map(found.head);
        let is_block = within.is_multiple_of(class.block_bytes()) && empty[word] & bit == 0;
        if !is_block || slab.map[word] & bit == 0 {
            return Err(Error::Damaged);
        }
        let mut map = slab.map;
        map[word] &= !bit;
        let alone = slab.next == 0 && slab.previous == 0;
        let is_empty = map == empty && slab.map != [u64::MAX; MAP_WORDS];
        if is_empty && !alone && !self.reuse(area)?.is_watched() {
            // The only slab with free blocks stays: often, the next block is wanted soon. And what readers may still look at had better become such
            // blocks again than pages of anything.
            self.unlist(heap, class, &slab)?;
            // So that nobody takes what is left of it for a slab.
            self.set(found.place.at(Slab::mark), 0)?;
            self.mark_slab(heap, page)?;
            return self.free_run(area, heap, page * PAGE_BYTES, class.slab_pages());
        }
        self.set(found.place.at(Slab::map).index(word).ok_or(Error::Damaged)?, map[word])?;
        self.set(found.place.at(Slab::freed), self.next_version(area)?)?;
        if slab.map == [u64::MAX; MAP_WORDS] {
            // Behind the one that blocks are taken from, which goes on being that: this one's free block may have to wait for readers.
            let head = self.get(heap.at(Heap::heads).index(class.index()).ok_or(Error::Damaged)?);
            let behind = if head == 0 { None } else { Some(self.slab(heap, class, head)?.0) };
            self.list(heap, class, found, behind)?;
        }
        Ok(())
    }

    /// One of the first slabs of a list whose free blocks can be given out.
    fn slab_with_room(
        &self,
        area: Area<'s>,
        heap: Ptr<'s, Heap>,
        class: Class,
    ) -> Result<Option<(Found<'s>, Slab)>, Error> {
        let mut page = self.get(heap.at(Heap::heads).index(class.index()).ok_or(Error::Damaged)?);
        for _ in 0..LOOKED_AT {
            if page == 0 {
                break;
            }
            let (found, slab) = self.slab(heap, class, page)?;
            if self.reuse(area)?.allows(slab.freed) {
                return Ok(Some((found, slab)));
            }
            page = slab.next;
        }
        Ok(None)
    }

    /// The slab at a page, checked to be one of that class.
    fn slab(&self, heap: Ptr<'s, Heap>, class: Class, page: u32) -> Result<(Found<'s>, Slab), Error> {
        let found = self.place(heap, class, page)?;
        let slab = self.get(found.place);
        if slab.mark != MARK | class.index() as u32 || slab.page != page {
            return Err(Error::Damaged);
        }
        Ok((found, slab))
    }

    /// Where the head of a slab at that page is.
    fn place(&self, heap: Ptr<'s, Heap>, class: Class, page: u32) -> Result<Found<'s>, Error> {
        let colour = self.get(heap.at(Heap::colour)).wrapping_add(u64::from(page) / class.slab_pages());
        let head = class.head_block(colour);
        let at = u64::from(page) * PAGE_BYTES + u64::from(head * class.block_bytes());
        Ok(Found { place: heap.object().place(at).ok_or(Error::Damaged)?, page, head })
    }

    fn make_slab(
        &mut self,
        area: Area<'s>,
        heap: Ptr<'s, Heap>,
        class: Class,
    ) -> Result<(Found<'s>, Slab), Error> {
        let offset = self.alloc_run(area, heap, (class.slab_pages(), 1), class.slab_pages())?;
        let found = self.place(heap, class, (offset / PAGE_BYTES) as u32)?;
        let slab = Slab {
            mark: MARK | class.index() as u32,
            page: found.page,
            next: 0,
            previous: 0,
            exist_bytes: PAGE_BYTES as u32,
            reserved: 0,
            freed: 0,
            map: class.empty_map(found.head),
        };
        self.set(found.place, slab)?;
        self.mark_slab(heap, found.page.into())?;
        self.list(heap, class, found, None)?;
        Ok((found, self.get(found.place)))
    }

    /// Puts a slab on its class's list: at the head, or behind another one.
    fn list(
        &mut self,
        heap: Ptr<'s, Heap>,
        class: Class,
        found: Found<'s>,
        behind: Option<Found<'s>>,
    ) -> Result<(), Error> {
        let (link, previous) = match behind {
            Some(before) => (before.place.at(Slab::next), before.page),
            None => (heap.at(Heap::heads).index(class.index()).ok_or(Error::Damaged)?, 0),
        };
        let next = self.get(link);
        if next != 0 {
            let (next, _) = self.slab(heap, class, next)?;
            self.set(next.place.at(Slab::previous), found.page)?;
        }
        self.set(found.place.at(Slab::next), next)?;
        self.set(found.place.at(Slab::previous), previous)?;
        self.set(link, found.page)
    }

    /// Takes a slab off its class's list.
    fn unlist(&mut self, heap: Ptr<'s, Heap>, class: Class, slab: &Slab) -> Result<(), Error> {
        if slab.next != 0 {
            let (next, _) = self.slab(heap, class, slab.next)?;
            self.set(next.place.at(Slab::previous), slab.previous)?;
        }
        let link = match slab.previous {
            0 => heap.at(Heap::heads).index(class.index()).ok_or(Error::Damaged)?,
            previous => self.slab(heap, class, previous)?.0.place.at(Slab::next),
        };
        self.set(link, slab.next)
    }
}

/// A free block: the first behind the head, or else the first.
fn free_block(map: &[u64; MAP_WORDS], head: u32) -> Option<u32> {
    let start = head as usize / 64;
    let behind = !map[start] & u64::MAX << (head % 64);
    if behind != 0 {
        return Some(start as u32 * 64 + behind.trailing_zeros());
    }
    let order = (start + 1..MAP_WORDS).chain(0..=start);
    order
        .into_iter()
        .find(|&word| map[word] != u64::MAX)
        .map(|word| word as u32 * 64 + map[word].trailing_ones())
}
