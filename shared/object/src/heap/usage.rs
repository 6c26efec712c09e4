//! How much of a heap is in use: counted from its maps, whenever someone asks.

use core::mem::offset_of;

use twizzler_abi::Error;
use twizzler_abi::address::{PAGE_BYTES, SLOT_BYTES};
use twizzler_abi::object::Header;

use super::classes::Class;
use super::runs::{MAP_BYTES, Pages};
use super::slabs::{MARK, Slab};
use super::{HEAP_BYTES, Heap, MAGIC, PAGES};
use crate::backend::Backend;
use crate::memory;
use crate::pointer::{Area, Ptr};
use crate::space::{Space, header_place};

/// How much of an object's heap is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeapUsage {
    /// Bytes in blocks and runs, rounded up as they are given out.
    pub used_bytes: u64,
    /// Pages in slabs and runs.
    pub used_pages: u64,
}

impl<B: Backend> Space<B> {
    /// How much of an object's heap is in use; nothing, where it has none. Reads the map and each slab's head.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn heap_usage(&self, area: Area<'_>) -> Result<HeapUsage, Error> {
        let offset: u64 = memory::load(header_place(area, offset_of!(Header, allocator)));
        if offset == 0 {
            return Ok(HeapUsage::default());
        }
        let heap: Ptr<'_, Heap> = area.place(offset).ok_or(Error::Damaged)?;
        if memory::load(heap.at(Heap::magic)) != MAGIC || offset > SLOT_BYTES - HEAP_BYTES - MAP_BYTES {
            return Err(Error::Damaged);
        }
        let len = memory::load(heap.at(Heap::map_bytes)).min(MAP_BYTES);
        let map = area.span::<Pages>(offset + HEAP_BYTES, len / size_of::<Pages>() as u64);
        let map = map.ok_or(Error::Damaged)?;
        let origin = memory::load(heap.at(Heap::origin)).min(PAGES);
        let colour = memory::load(heap.at(Heap::colour));
        let mut usage = HeapUsage::default();
        let mut slab_pages = 0;
        for index in 0..map.len() {
            let Pages { used, slabs } = map.index(index).map(memory::load).ok_or(Error::Damaged)?;
            usage.used_pages += u64::from(used.count_ones());
            let mut rest = slabs;
            while rest != 0 {
                let page = index * 64 + u64::from(rest.trailing_zeros());
                rest &= rest - 1;
                let (class, blocks) = slab_usage(area, page, colour)?;
                slab_pages += class.slab_pages();
                usage.used_bytes += u64::from(blocks * class.block_bytes());
            }
        }
        // Those before the origin are marked as in use, so that nobody takes them.
        usage.used_pages = usage.used_pages.checked_sub(origin.min(map.len() * 64)).ok_or(Error::Damaged)?;
        usage.used_bytes += usage.used_pages.checked_sub(slab_pages).ok_or(Error::Damaged)? * PAGE_BYTES;
        Ok(usage)
    }
}

/// A slab's class, and how many of its blocks are in use.
fn slab_usage(area: Area<'_>, page: u64, colour: u64) -> Result<(Class, u32), Error> {
    let classes = (0..).map_while(Class::new);
    for class in classes {
        let head = class.head_block(colour.wrapping_add(page / class.slab_pages()));
        let at = page * PAGE_BYTES + u64::from(head * class.block_bytes());
        let Some(place) = area.place::<Slab>(at) else { break };
        let slab = memory::load(place);
        if slab.mark == MARK | class.index() as u32 && u64::from(slab.page) == page {
            let empty = class.empty_map(head);
            let used = slab.map.iter().zip(empty).map(|(word, empty)| (word & !empty).count_ones()).sum();
            return Ok((class, used));
        }
    }
    Err(Error::Damaged)
}
