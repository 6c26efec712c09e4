//! Whose turn it is to write the log.
//!
//! A *batch* is what one write takes. It is numbered as it begins, and covers what was logged until then; what is logged later is of the
//! next one. Who waits for a batch sleeps on the word for its number, which is even or odd. At the end of a batch
//! one of those who wait for the next one is called first, to write it, and then all those whose records it has made durable. So nobody else is woken
//! to sleep again.
//!
//! 1. Who is about to sleep has read the word before he looks whether the batch is done and whether he can write himself. Whoever ends a
//!    batch says that it is done, gives the lock back, and changes both words, in this order. So no call is missed.
//! 2. The lock makes the writer, not the call: who comes along may take it first, and who is called finds what he waits for done, or sleeps again.
//! 3. Who is called may be killed instead of writing. So all look now and then, and who finds the lock free writes.
//! 4. Who finds its holder dead says that the batch was none, so that all wait for the next one, and calls everybody.
//! 5. Whoever's write fails says that nothing will be written any more before he gives the lock back, and whoever takes the lock looks for that. So
//!    nothing is written after it, and what somebody was told will never be durable is not made so by somebody else.

#[cfg(test)]
mod model;

use std::sync::atomic::{AtomicU64, Ordering};

use twizzler_slots::futex;

use crate::log::frame::SECTOR;
use crate::shared_lock::{Held, SharedLock};

/// How long one sleeps before one looks whether the writer lives.
const LOOK_NS: u64 = 50_000_000;
/// As many as there may be.
const EVERYBODY: u32 = i32::MAX as u32;

/// In the coordination segment. Zeros: nothing was written yet.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Level 2. Who has it writes. Protects `synced`, `batch` and the file.
    writer: SharedLock,
    /// All before is on the disk.
    synced: AtomicU64,
    /// Where the newest batch ends, which is where a sector begins; below that, its number.
    batch: AtomicU64,
    /// The words that those sleep on who wait for an even batch, and for an odd one.
    calls: [AtomicU64; 2],
}

/// How waiting ended.
#[derive(Debug)]
pub(crate) enum Turn<'t, M: Machine> {
    /// What was waited for is on the disk, and so is all before this.
    Done(u64),
    /// It is our turn to write.
    Write(Writer<'t, M>),
    /// Nothing will be written any more.
    Over,
}

/// Who writes. Calls the others when dropped.
#[derive(Debug)]
pub(crate) struct Writer<'t, M: Machine> {
    turns: &'t Turns,
    machine: &'t M,
    held: Option<Held<'t>>,
}

/// What it runs on: a process of Linux, or a test's.
pub(crate) trait Machine {
    /// Our owner word.
    fn me(&self) -> u64;
    /// Whether an owner may still act.
    fn is_alive(&self, owner: u64) -> bool;
    /// Whether nothing will be written any more.
    fn is_over(&self) -> bool;
    /// Others may go on here.
    fn step(&self) {}

    /// Sleeps while the word has this value; true if the time is over.
    fn sleep(&self, word: &AtomicU64, value: u64, ns: u64) -> bool {
        futex::wait(word, value, ns)
    }

    /// Wakes so many who sleep on the word, those first who came first.
    fn wake(&self, word: &AtomicU64, number: u32) {
        futex::wake_some(word, number);
    }
}

impl Turns {
    /// Sets where the log begins, before anyone uses it.
    pub(crate) fn start_at(&self, position: u64) {
        self.synced.store(position, Ordering::Relaxed);
    }

    /// All before is on the disk.
    pub(crate) fn synced(&self) -> u64 {
        // Acquire: partner of the release in `done`.
        self.synced.load(Ordering::Acquire)
    }

    /// Waits until all before `end` is on the disk, or until it is our turn to see to that.
    pub(crate) fn wait<'t, M: Machine>(&'t self, end: u64, machine: &'t M) -> Turn<'t, M> {
        loop {
            machine.step();
            let word = self.word(self.batch_of(end));
            machine.step();
            // Acquire: partner of the release in `call`.
            let seen = word.load(Ordering::Acquire);
            machine.step();
            if !std::ptr::eq(word, self.word(self.batch_of(end))) {
                // A dead writer's batch was one until now.
                continue;
            }
            machine.step();
            let synced = self.synced();
            if synced >= end {
                return Turn::Done(synced);
            }
            if machine.is_over() {
                self.call_everybody(machine);
                return Turn::Over;
            }
            machine.step();
            if let Some(held) = self.writer.try_lock(machine.me()) {
                let writer = self.writer(held, machine);
                machine.step();
                // The last one's write may have failed since.
                return if machine.is_over() { Turn::Over } else { Turn::Write(writer) };
            }
            machine.step();
            let timed_out = machine.sleep(word, seen, LOOK_NS);
            let holder = self.writer.holder();
            if timed_out && holder != 0 && !machine.is_alive(holder) {
                let inherited = self.writer.inherit(holder, machine.me());
                drop(inherited.map(|held| self.writer(held, machine)));
            }
        }
    }

    /// Waits until nobody else writes. None: nothing will be written any more.
    pub(crate) fn write<'t, M: Machine>(&'t self, machine: &'t M) -> Option<Writer<'t, M>> {
        let writer = self.writer(self.writer.lock(machine.me(), |owner| machine.is_alive(owner)), machine);
        (!machine.is_over()).then_some(writer)
    }

    fn writer<'t, M: Machine>(&'t self, held: Held<'t>, machine: &'t M) -> Writer<'t, M> {
        if held.inherited_from.is_some() {
            let number = self.batch.load(Ordering::Relaxed) % SECTOR;
            machine.step();
            self.batch.store(self.synced() | number, Ordering::Release);
            self.call_everybody(machine);
        }
        Writer { turns: self, machine, held: Some(held) }
    }

    /// The number of the batch that covers `end`, which is logged. That batch may be done.
    fn batch_of(&self, end: u64) -> u64 {
        // Acquire: who sees a batch sees that the one before it is done.
        let batch = self.batch.load(Ordering::Acquire);
        let number = batch % SECTOR;
        if end <= batch - number { number } else { number + 1 }
    }

    fn word(&self, number: u64) -> &AtomicU64 {
        &self.calls[(number % 2) as usize]
    }

    fn call(&self, number: u64, sleepers: u32, machine: &impl Machine) {
        machine.step();
        let word = self.word(number);
        // Release: partner of the acquire in `wait`.
        word.fetch_add(1, Ordering::Release);
        machine.step();
        machine.wake(word, sleepers);
    }

    fn call_everybody(&self, machine: &impl Machine) {
        self.call(0, EVERYBODY, machine);
        self.call(1, EVERYBODY, machine);
    }
}

impl<M: Machine> Writer<'_, M> {
    /// A batch begins that ends at `to`: whatever is logged from here on comes behind.
    pub(crate) fn begin(&self, to: u64) {
        debug_assert!(to.is_multiple_of(SECTOR), "the number has its place below");
        let number = (self.turns.batch.load(Ordering::Relaxed) + 1) % SECTOR;
        // Release: partner of the acquire in `batch_of`.
        self.turns.batch.store(to | number, Ordering::Release);
    }

    /// All before `to` is on the disk.
    pub(crate) fn done(&self, to: u64) {
        // COMMIT: partner of the acquire in `synced`.
        self.turns.synced.store(to, Ordering::Release);
    }
}

impl<M: Machine> Drop for Writer<'_, M> {
    fn drop(&mut self) {
        let number = self.turns.batch.load(Ordering::Relaxed) % SECTOR;
        self.held = None;
        self.turns.call(number + 1, 1, self.machine);
        self.turns.call(number, EVERYBODY, self.machine);
    }
}
