//! Plain pointers, chased by the same loop: what a hop costs at least.

use std::ffi::c_void;
use std::fs::File;
use std::path::Path;
use std::ptr::NonNull;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::FallocateFlags;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::ring::{Place, Ring};
use crate::clock::Stopwatch;

/// A node of the packed heap: as large as the others.
#[repr(C, align(64))]
struct Node {
    next: u64,
    payload: [u64; 7],
}

/// All nodes of a ring in one mapped file, in the order of objects.
pub(super) struct Heap {
    start: u64,
    /// Where it is mapped, and how many bytes.
    mapped: (NonNull<c_void>, usize),
}

impl Heap {
    pub(super) fn new(folder: &Path, ring: &Ring) -> Result<Self> {
        let len = ring.visits.len() * size_of::<Node>();
        let file = File::options().read(true).write(true).create_new(true).open(folder.join("heap"))?;
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len as u64)?;
        let (protection, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping, where nothing is.
        let base = unsafe { mmap(std::ptr::null_mut(), len, protection, shared, &file, 0) }?;
        let at = |place: Place| {
            let number = place.object as usize * ring.nodes as usize + place.index as usize;
            base.expose_provenance() + number * size_of::<Node>()
        };
        for (from, to) in ring.links() {
            let node = std::ptr::with_exposed_provenance_mut::<Node>(at(from));
            // SAFETY: a node of the mapping, which is as long as all of them, aligned, and nobody else's.
            unsafe { node.write(Node { next: at(to) as u64, payload: [0; 7] }) };
        }
        let mapped = (NonNull::new(base).context("nothing is mapped at 0")?, len);
        Ok(Self { start: at(ring.visits[0]) as u64, mapped })
    }

    pub(super) fn chase(&mut self, number: u64) -> Duration {
        // SAFETY: the words at offset 0 of all nodes lead around the ring, which is mapped as long as `self` lives.
        let (took, end) = unsafe { chase(self.start, 0, number) };
        self.start = end;
        took
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        let (base, len) = self.mapped;
        // SAFETY: our own mapping, which nobody uses any more. Where it fails, it stays.
        let _ = unsafe { munmap(base.as_ptr(), len) };
    }
}

/// Follows plain addresses that lie `offset` bytes into each node; gives the time and where it ended.
///
/// # Safety
/// `start` is the address of a node, and the word at `offset` of each node that is reached is the address of another one.
#[inline(never)]
pub(super) unsafe fn chase(start: u64, offset: u64, number: u64) -> (Duration, u64) {
    let clock = Stopwatch::start();
    let mut at = start;
    for _ in 0..number {
        let word = std::ptr::with_exposed_provenance::<u64>((at + offset) as usize);
        // SAFETY: the caller's promise.
        at = unsafe { word.read_volatile() };
    }
    (clock.elapsed(), at)
}
