//! Threads ordered by deadline: a binary heap that knows where each thread is, so that one can be taken
//! out when it is woken earlier.

use alloc::vec::Vec;

use crate::{OutOfMemory, ThreadNo, grow};

const ABSENT: u32 = u32::MAX;

/// The heap. Room is made in [`Deadlines::admit`]; all else needs no memory.
pub(crate) struct Deadlines {
    heap: Vec<(u64, ThreadNo)>,
    /// For each thread its place in the heap.
    place: Vec<u32>,
}

impl Deadlines {
    pub(crate) const fn new() -> Self {
        Self { heap: Vec::new(), place: Vec::new() }
    }

    /// Makes room for all threads up to this one.
    pub(crate) fn admit(&mut self, thread: ThreadNo) -> Result<(), OutOfMemory> {
        let len = thread.index() + 1;
        self.heap.try_reserve(len.saturating_sub(self.heap.len())).map_err(|_| OutOfMemory)?;
        grow(&mut self.place, len, &ABSENT)
    }

    /// Adds a thread that is not in.
    pub(crate) fn insert(&mut self, thread: ThreadNo, at: u64) {
        let end = self.heap.len();
        self.heap.push((at, thread));
        self.place[thread.index()] = end as u32;
        self.up(end);
    }

    /// Takes a thread out, if it is in.
    pub(crate) fn remove(&mut self, thread: ThreadNo) {
        let place = core::mem::replace(&mut self.place[thread.index()], ABSENT);
        if place == ABSENT {
            return;
        }
        let place = place as usize;
        self.heap.swap_remove(place);
        if let Some(&(_, moved)) = self.heap.get(place) {
            self.place[moved.index()] = place as u32;
            self.up(place);
            self.down(self.place[moved.index()] as usize);
        }
    }

    /// The earliest deadline and whose it is.
    pub(crate) fn first(&self) -> Option<(u64, ThreadNo)> {
        self.heap.first().copied()
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.place[self.heap[a].1.index()] = a as u32;
        self.place[self.heap[b].1.index()] = b as u32;
    }

    fn up(&mut self, mut at: usize) {
        while at > 0 && self.heap[at] < self.heap[(at - 1) / 2] {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn down(&mut self, mut at: usize) {
        loop {
            let least = [2 * at + 1, 2 * at + 2]
                .into_iter()
                .filter(|&child| child < self.heap.len())
                .min_by_key(|&child| self.heap[child]);
            match least {
                Some(child) if self.heap[child] < self.heap[at] => {
                    self.swap(at, child);
                    at = child;
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_sorted_set(steps in proptest::collection::vec((0u32..20, 0u64..10, any::<bool>()), 0..300)) {
            let mut deadlines = Deadlines::new();
            deadlines.admit(ThreadNo(19)).expect("room for twenty");
            let mut model = BTreeSet::new();
            for (thread, at, insert) in steps {
                let thread = ThreadNo(thread);
                let there = model.iter().find(|&&(_, other)| other == thread).copied();
                match (insert, there) {
                    (true, None) => { deadlines.insert(thread, at); model.insert((at, thread)); }
                    (false, there) => {
                        deadlines.remove(thread);
                        if let Some(entry) = there { model.remove(&entry); }
                    }
                    _ => {}
                }
                prop_assert_eq!(deadlines.first(), model.first().copied());
            }
        }
    }
}
