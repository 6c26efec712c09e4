//! Who runs, who waits, who is woken: decisions without a machine.
//!
//! [`RunQueues`] has the ready threads of each CPU by priority and decides who runs next; [`WaitTable`]
//! has the threads that wait on words, each on many at once and with a deadline. Both name threads by
//! small numbers ([`ThreadNo`]) and time by nanoseconds that the caller passes in. Memory is taken only
//! in `admit` and [`WaitTable::begin`], fallibly: waking, expiring and removing never need any.
//! Locking, and what a thread is, are the kernel's.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod deadline;
mod list;
mod runqueue;
mod wait;

pub use runqueue::{Placement, RunQueues};
pub use wait::{Outcome, WaitTable, WordKey};

/// Priorities: 0 lowest, 31 highest.
pub const PRIORITIES: u32 = 32;
/// How long a thread runs before another of the same priority has its turn.
pub const QUANTUM_NS: u64 = 5_000_000;

/// Number of a thread in the kernel's table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ThreadNo(pub u32);

impl ThreadNo {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Number of a CPU, counted from 0.
pub type CpuNo = usize;

/// No memory for the bookkeeping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

impl From<OutOfMemory> for twizzler_abi::Error {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// Makes `vec` at least `len` long.
pub(crate) fn grow<T: Clone>(
    vec: &mut alloc::vec::Vec<T>,
    len: usize,
    filler: &T,
) -> Result<(), OutOfMemory> {
    if let Some(more) = len.checked_sub(vec.len()) {
        vec.try_reserve(more).map_err(|_| OutOfMemory)?;
        vec.resize(len, filler.clone());
    }
    Ok(())
}
