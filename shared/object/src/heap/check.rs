//! Looks through a heap: how much of it is in use, and what in it is inconsistent or lost.
//!
//! It reads raw bytes, of an object that need not be mapped, and believes none of them. It can't tell whether a block that is in use belongs
//! to anybody: that is known by the types of what lies in the object.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::mem::offset_of;

use twizzler_abi::Error;
use twizzler_abi::address::{LARGE_BYTES, PAGE_BYTES, SLOT_BYTES};
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET, Header};

use super::classes::{CLASSES, Class, HEAD_BYTES, MAP_WORDS};
use super::runs::{MAP_BYTES, MOVED_MAP, Pages, map_bytes};
use super::slabs::{MARK, Slab};
use super::{HEAP_BYTES, Heap, MAGIC, origin_of};
use crate::backend::Backend;
use crate::memory;
use crate::pointer::Area;
use crate::space::Space;
use crate::types::read_types;

/// More are not told.
const FINDINGS_MAX: usize = 100;

/// How much of an object's heap is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeapUsage {
    /// Bytes in blocks and runs, rounded up as they are given out.
    pub used_bytes: u64,
    /// Pages in slabs and runs.
    pub used_pages: u64,
}

/// Something in a heap that is not as it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeapFinding {
    /// Where: an offset in the object.
    pub offset: u64,
    /// What is wrong there.
    pub what: &'static str,
}

/// What there is to say of a heap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeapReport {
    /// How much is in use.
    pub usage: HeapUsage,
    /// What is wrong. Empty: nothing.
    pub findings: Vec<HeapFinding>,
}

/// Looks through the heap of an object, whose bytes `read` gives: as many as the buffer holds, from an offset in the object. An
/// object without a heap has an empty report.
///
/// # Errors
/// Those of `read`. What is wrong with the heap is a finding.
pub fn check_heap(read: impl FnMut(u64, &mut [u8]) -> Result<(), Error>) -> Result<HeapReport, Error> {
    let mut check = Check {
        read,
        report: HeapReport::default(),
        origin: 0,
        colour: 0,
        map: 0,
        map_bytes_max: MAP_BYTES,
        used: Vec::new(),
    };
    let offset = check.word(HEADER_OFFSET + offset_of!(Header, allocator) as u64)?;
    if offset != 0 && check.root(offset)? {
        let slabs = check.pages(offset)?;
        check.lists(offset, &slabs)?;
        if !read_types(&mut check.read)?.1 {
            check.find(offset, "the type list makes no sense");
        }
    }
    Ok(check.report)
}

impl<B: Backend> Space<B> {
    /// How much of an object's heap is in use; nothing, where it has none. Reads the map and each slab's head. Nobody may change the object
    /// meanwhile: lock it, if there are others.
    ///
    /// # Errors
    /// [`Error::Damaged`] where [`check_heap`] finds anything.
    pub fn heap_usage(&self, area: Area<'_>) -> Result<HeapUsage, Error> {
        let report = check_heap(|offset, buffer| {
            let bytes = area.span_from::<u8>(HEADER_OFFSET, offset, buffer.len() as u64);
            memory::read(bytes.ok_or(Error::Damaged)?, buffer);
            Ok(())
        })?;
        if report.findings.is_empty() { Ok(report.usage) } else { Err(Error::Damaged) }
    }
}

/// A look through a heap.
struct Check<R> {
    read: R,
    report: HeapReport,
    origin: u64,
    colour: u64,
    /// Where the map begins, and how long it can be.
    map: u64,
    map_bytes_max: u64,
    /// 64 pages each: those in use.
    used: Vec<u64>,
}

/// A slab that was found.
struct Found {
    class: Class,
    next: u32,
    previous: u32,
    /// It has a free block, so it should be on its list.
    has_room: bool,
}

impl<R: FnMut(u64, &mut [u8]) -> Result<(), Error>> Check<R> {
    fn find(&mut self, offset: u64, what: &'static str) {
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(HeapFinding { offset, what });
        }
    }

    fn word(&mut self, offset: u64) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        (self.read)(offset, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Checks the root. False: nothing more can be said.
    fn root(&mut self, offset: u64) -> Result<bool, Error> {
        let within = BASE_OFFSET..=SLOT_BYTES - HEAP_BYTES - MAP_BYTES;
        if !within.contains(&offset) || !offset.is_multiple_of(8) {
            self.find(offset, "the allocator can't lie there");
            return Ok(false);
        }
        if self.word(offset + offset_of!(Heap, magic) as u64)? != MAGIC {
            self.find(offset, "no allocator of this version lies there");
            return Ok(false);
        }
        self.colour = self.word(offset + offset_of!(Heap, colour) as u64)?;
        self.origin = self.word(offset + offset_of!(Heap, origin) as u64)?;
        if self.origin != origin_of(offset) {
            self.find(offset, "its first page is not the one behind its map");
            return Ok(false);
        }
        match self.word(offset + offset_of!(Heap, map_at) as u64)? {
            0 => self.map = offset + HEAP_BYTES,
            MOVED_MAP => (self.map, self.map_bytes_max) = (MOVED_MAP, map_bytes(LARGE_BYTES / PAGE_BYTES)),
            _ => {
                self.find(offset, "its map can't lie there");
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_used(&self, page: u64) -> bool {
        self.used.get((page / 64) as usize).is_some_and(|word| word >> (page % 64) & 1 != 0)
    }

    /// Checks the page map and the slabs that it names. Gives these, by page.
    fn pages(&mut self, offset: u64) -> Result<BTreeMap<u64, Found>, Error> {
        let len = self.word(offset + offset_of!(Heap, map_bytes) as u64)?;
        let (map, most) = (self.map, self.map_bytes_max);
        let ends_a_page = map.wrapping_add(len).is_multiple_of(PAGE_BYTES);
        let is_grown = len <= most && len.is_multiple_of(size_of::<Pages>() as u64);
        if !is_grown || !ends_a_page && len != 0 && len != most {
            self.find(offset, "its map has a length that no map has");
        }
        let mut starts = BTreeMap::new();
        for index in 0..len.min(most) / size_of::<Pages>() as u64 {
            let at = map + index * size_of::<Pages>() as u64;
            self.used.push(0);
            let (used, slabs) = (self.word(at)?, self.word(at + 8)?);
            self.used[index as usize] = used;
            if slabs != 0 {
                starts.insert(index * 64, slabs);
            }
        }
        let known = self.used.len() as u64 * 64;
        let hint = self.word(offset + offset_of!(Heap, hint) as u64)?;
        if (0..self.origin.min(known)).any(|page| !self.is_used(page)) {
            self.find(offset, "a page before its first could be given out");
        }
        if let Some(lost) = (self.origin..hint.min(known)).find(|&page| !self.is_used(page)) {
            self.find(lost * PAGE_BYTES, "a free page that is never looked for");
        }
        let used: u64 = self.used.iter().map(|word| u64::from(word.count_ones())).sum();
        // Neither those before the first, nor those of the map, are anybody's.
        let own = if map == MOVED_MAP { most / PAGE_BYTES } else { 0 };
        self.report.usage.used_pages = used.saturating_sub(self.origin.min(known) + own);
        if let Some(last) = (self.origin..known).rev().find(|&page| self.is_used(page)) {
            let bytes = self.word(HEADER_OFFSET + offset_of!(Header, len_bytes) as u64)?;
            if bytes.saturating_add(BASE_OFFSET) < (last + 1) * PAGE_BYTES {
                self.find(last * PAGE_BYTES, "a page in use beyond the object's length");
            }
        }
        self.slabs(&starts)
    }

    /// Checks slabs. What they don't take of the pages in use are runs.
    fn slabs(&mut self, starts: &BTreeMap<u64, u64>) -> Result<BTreeMap<u64, Found>, Error> {
        let mut found = BTreeMap::new();
        let (mut slab_pages, mut end) = (0, self.origin);
        let bits = |(first, slabs): (&u64, &u64)| {
            let (first, slabs) = (*first, *slabs);
            (0..64).filter(move |bit| slabs >> bit & 1 != 0).map(move |bit| first + bit)
        };
        for page in starts.iter().flat_map(bits) {
            // A map may name more slabs that are none than anybody wants to look at.
            if self.report.findings.len() == FINDINGS_MAX {
                break;
            }
            let Some((slab, blocks)) = self.slab(page)? else {
                self.find(page * PAGE_BYTES, "no slab, where one is said to begin");
                continue;
            };
            let pages = slab.class.slab_pages();
            if page < end {
                self.find(page * PAGE_BYTES, "a slab within another, or before the first page");
            }
            end = page + pages;
            if (page..end).any(|page| !self.is_used(page)) {
                self.find(page * PAGE_BYTES, "a slab some of whose pages are free");
            }
            slab_pages += pages;
            self.report.usage.used_bytes += u64::from(blocks * slab.class.block_bytes());
            found.insert(page, slab);
        }
        self.report.usage.used_bytes += self.report.usage.used_pages.saturating_sub(slab_pages) * PAGE_BYTES;
        Ok(found)
    }

    /// The slab at a page, and how many of its blocks are in use.
    fn slab(&mut self, page: u64) -> Result<Option<(Found, u32)>, Error> {
        for class in (0..CLASSES).filter_map(Class::new) {
            let head = class.head_block(self.colour.wrapping_add(page / class.slab_pages()));
            let at = page * PAGE_BYTES + u64::from(head * class.block_bytes());
            if page + class.slab_pages() > self.used.len() as u64 * 64
                || !page.wrapping_sub(self.origin).is_multiple_of(class.slab_pages())
            {
                continue;
            }
            let mut bytes = [0; HEAD_BYTES as usize];
            (self.read)(at, &mut bytes)?;
            let half =
                |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            let is_slab = half(offset_of!(Slab, mark)) == MARK | class.index() as u32
                && u64::from(half(offset_of!(Slab, page))) == page;
            if !is_slab {
                continue;
            }
            let empty = class.empty_map(head);
            let map: [u64; MAP_WORDS] = core::array::from_fn(|word| {
                let at = offset_of!(Slab, map) + word * 8;
                u64::from(half(at)) | u64::from(half(at + 4)) << 32
            });
            if map.iter().zip(empty).any(|(word, empty)| word & empty != empty) {
                self.find(at, "a slab that would give out its own head, or what it hasn't");
            }
            if half(offset_of!(Slab, exist_bytes)) > class.slab_bytes() {
                self.find(at, "a slab that has more pages than its class");
            }
            let blocks = map.iter().zip(empty).map(|(word, empty)| (word & !empty).count_ones()).sum();
            let found = Found {
                class,
                next: half(offset_of!(Slab, next)),
                previous: half(offset_of!(Slab, previous)),
                has_room: map != [u64::MAX; MAP_WORDS],
            };
            return Ok(Some((found, blocks)));
        }
        Ok(None)
    }

    /// Checks the classes' lists: on them are the slabs with free blocks, each once.
    fn lists(&mut self, offset: u64, slabs: &BTreeMap<u64, Found>) -> Result<(), Error> {
        let mut listed = BTreeSet::new();
        for class in (0..CLASSES).filter_map(Class::new) {
            let at = offset + offset_of!(Heap, heads) as u64 + class.index() as u64 * 4;
            let mut bytes = [0; 4];
            (self.read)(at, &mut bytes)?;
            let (mut page, mut previous) = (u32::from_le_bytes(bytes), 0);
            while page != 0 {
                let slab = slabs.get(&page.into()).filter(|slab| slab.class == class);
                let Some(slab) = slab.filter(|_| !listed.contains(&page)) else {
                    self.find(u64::from(page) * PAGE_BYTES, "on a list of slabs, but no such slab, or twice");
                    break;
                };
                if slab.previous != previous || !slab.has_room {
                    self.find(
                        u64::from(page) * PAGE_BYTES,
                        "on a list of slabs, but full, or with wrong neighbours",
                    );
                }
                listed.insert(page);
                (page, previous) = (slab.next, page);
            }
        }
        for (&page, slab) in slabs {
            if slab.has_room && !listed.contains(&(page as u32)) {
                self.find(page * PAGE_BYTES, "a slab whose free blocks are on no list");
            }
        }
        Ok(())
    }
}
