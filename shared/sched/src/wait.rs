//! Threads that wait on words.
//!
//! A thread waits on up to many words at once, each named by object and offset, and for a deadline.
//! Waiting has two steps, so that no wake is lost and no lock is held while user memory is read:
//! [`WaitTable::begin`] registers, then the caller reads the words, then it either takes its wait back
//! ([`WaitTable::cancel`]) or goes off the CPU, if [`WaitTable::is_waiting`] still says so. Whoever
//! changes a word and then wakes finds the registration or has changed the word before it was read.

use alloc::vec::Vec;

use twizzler_abi::ObjId;

use crate::deadline::Deadlines;
use crate::list::{Link, Linked, List};
use crate::{OutOfMemory, ThreadNo, grow};

/// Hash buckets.
const BUCKETS: usize = 1024;
const NONE: u32 = u32::MAX;

/// Names a word: wherever it is mapped, it is the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct WordKey {
    /// The object that the word lies in.
    pub object: ObjId,
    /// Where in it.
    pub offset: u64,
}

impl WordKey {
    fn bucket(self) -> usize {
        let mixed = (self.object.lo ^ self.object.hi.rotate_left(32) ^ self.offset.rotate_left(17))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 54) as usize % BUCKETS
    }
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Someone woke the word that the caller numbered so.
    Woken(u32),
    /// The deadline passed.
    TimedOut,
}

#[derive(Clone)]
struct Node {
    link: Link,
    key: WordKey,
    thread: ThreadNo,
    /// The caller's number of this word.
    word: u32,
    /// The same thread's next node, or the next free one.
    sibling: u32,
}

impl Linked for Node {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn next(&self) -> u32 {
        self.link.next()
    }
}

#[derive(Clone)]
struct Waiter {
    waiting: bool,
    nodes: u32,
    outcome: Option<Outcome>,
}

const AWAKE: Waiter = Waiter { waiting: false, nodes: NONE, outcome: None };

/// All waiting threads.
pub struct WaitTable {
    buckets: [List; BUCKETS],
    nodes: Vec<Node>,
    free: u32,
    waiters: Vec<Waiter>,
    deadlines: Deadlines,
}

impl WaitTable {
    /// Nobody waits.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            buckets: [List::EMPTY; BUCKETS],
            nodes: Vec::new(),
            free: NONE,
            waiters: Vec::new(),
            deadlines: Deadlines::new(),
        }
    }

    /// Gets to know a thread. A number may be used again once the thread doesn't wait.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub fn admit(&mut self, thread: ThreadNo) -> Result<(), OutOfMemory> {
        self.deadlines.admit(thread)?;
        grow(&mut self.waiters, thread.index() + 1, &AWAKE)?;
        self.waiters[thread.index()] = AWAKE;
        Ok(())
    }

    /// Registers a wait on words, each with the caller's number for it, and for a deadline. The thread
    /// must not be waiting already.
    ///
    /// # Errors
    /// Where there is no memory for it; then nothing is registered.
    pub fn begin(
        &mut self,
        thread: ThreadNo,
        words: impl Iterator<Item = (u32, WordKey)>,
        deadline_ns: Option<u64>,
    ) -> Result<(), OutOfMemory> {
        self.waiters[thread.index()] = Waiter { waiting: true, ..AWAKE };
        for (word, key) in words {
            let Some(index) = self.take_node(Node { link: Link::UNLINKED, key, thread, word, sibling: NONE })
            else {
                self.end(thread, None);
                return Err(OutOfMemory);
            };
            self.nodes[index as usize].sibling = self.waiters[thread.index()].nodes;
            self.waiters[thread.index()].nodes = index;
            self.buckets[key.bucket()].push_back(&mut self.nodes, index);
        }
        if let Some(at) = deadline_ns {
            self.deadlines.insert(thread, at);
        }
        Ok(())
    }

    /// True until the wait that was begun has ended.
    #[must_use]
    pub fn is_waiting(&self, thread: ThreadNo) -> bool {
        self.waiters[thread.index()].waiting
    }

    /// Takes the outcome of a wait that has ended by itself.
    pub fn take_outcome(&mut self, thread: ThreadNo) -> Option<Outcome> {
        self.waiters[thread.index()].outcome.take()
    }

    /// Takes a wait back. True if the thread was still waiting.
    pub fn cancel(&mut self, thread: ThreadNo) -> bool {
        let waiting = self.is_waiting(thread);
        if waiting {
            self.end(thread, None);
        }
        waiting
    }

    /// Ends the wait of the thread that waits longest on `key`.
    pub fn wake_one(&mut self, key: WordKey) -> Option<ThreadNo> {
        let mut at = self.buckets[key.bucket()].first();
        while let Some(index) = at {
            let node = &self.nodes[index as usize];
            if node.key == key {
                let (thread, word) = (node.thread, node.word);
                self.end(thread, Some(Outcome::Woken(word)));
                return Some(thread);
            }
            at = List::after(&self.nodes, index);
        }
        None
    }

    /// Ends the wait of a thread whose deadline is not after `now_ns`.
    pub fn expire_one(&mut self, now_ns: u64) -> Option<ThreadNo> {
        let (at, thread) = self.deadlines.first()?;
        if at > now_ns {
            return None;
        }
        self.end(thread, Some(Outcome::TimedOut));
        Some(thread)
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, _)| at)
    }

    fn end(&mut self, thread: ThreadNo, outcome: Option<Outcome>) {
        let waiter = &mut self.waiters[thread.index()];
        waiter.waiting = false;
        waiter.outcome = outcome;
        let mut at = core::mem::replace(&mut waiter.nodes, NONE);
        while at != NONE {
            let key = self.nodes[at as usize].key;
            self.buckets[key.bucket()].remove(&mut self.nodes, at);
            let next = core::mem::replace(&mut self.nodes[at as usize].sibling, self.free);
            self.free = at;
            at = next;
        }
        self.deadlines.remove(thread);
    }

    fn take_node(&mut self, node: Node) -> Option<u32> {
        if self.free == NONE {
            let index = u32::try_from(self.nodes.len()).ok().filter(|&index| index != NONE)?;
            self.nodes.try_reserve(1).ok()?;
            self.nodes.push(node);
            return Some(index);
        }
        let index = self.free;
        self.free = self.nodes[index as usize].sibling;
        self.nodes[index as usize] = node;
        Some(index)
    }
}

impl Default for WaitTable {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
