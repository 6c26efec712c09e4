//! Plain pointers, chased by the same loop: what a hop costs at least.

use std::time::Duration;

use super::ring::Ring;
use crate::clock::Stopwatch;

/// A node of the packed heap: as large as the others.
#[repr(C, align(64))]
struct Node {
    next: u64,
    payload: [u64; 7],
}

/// All nodes of a ring in one allocation, in the order of objects.
pub(super) struct Heap {
    nodes: Vec<Node>,
    start: u64,
}

impl Heap {
    pub(super) fn new(ring: &Ring) -> Self {
        let len = ring.visits.len();
        let mut nodes: Vec<Node> = (0..len).map(|_| Node { next: 0, payload: [0; 7] }).collect();
        let base = nodes.as_mut_ptr().expose_provenance();
        let at = |object: u32, index: u32| object as usize * ring.nodes as usize + index as usize;
        for (from, to) in ring.links() {
            let next = base + at(to.object, to.index) * size_of::<Node>();
            nodes[at(from.object, from.index)].next = next as u64;
        }
        let first = ring.visits[0];
        let start = (base + at(first.object, first.index) * size_of::<Node>()) as u64;
        debug_assert!(nodes.iter().all(|node| node.payload == [0; 7]));
        Self { nodes, start }
    }

    pub(super) fn chase(&mut self, number: u64) -> Duration {
        assert!(!self.nodes.is_empty(), "a ring has nodes");
        // SAFETY: the words at offset 0 of all nodes lead around the ring.
        let (took, end) = unsafe { chase(self.start, 0, number) };
        self.start = end;
        took
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
