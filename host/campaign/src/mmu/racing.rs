//! Memory in which other CPUs run between any two steps of an operation, and in which each store to a table is
//! looked at.

use std::cell::{Cell, RefCell};

use twizzler_crashsim::{Media, SimMemory};
use twizzler_mmumodel::entry::{ACCESSED, ADDRESS, DIRTY, LARGE, PRESENT, WRITE};
use twizzler_pmem::Persist;
use twizzler_store::{FrameKind, FrameNo};

use super::cpus::{Cpus, Flaw};

/// The store's memory as the operations see it.
pub(super) struct Racing<'m> {
    memory: &'m SimMemory,
    first: FrameNo,
    cpus: &'m Cpus<'m>,
    /// What is durable so far.
    media: RefCell<Media>,
    busy: Cell<bool>,
}

impl<'m> Racing<'m> {
    pub(super) fn new(memory: &'m SimMemory, first: FrameNo, cpus: &'m Cpus<'m>) -> Self {
        let media = RefCell::new(Media::new(memory.image()));
        Self { memory, first, cpus, media, busy: Cell::new(false) }
    }

    /// Lets other CPUs do something.
    fn tick(&self) {
        if !self.busy.replace(true) {
            self.cpus.run_a_little();
            self.busy.set(false);
        }
    }

    /// Looks at the durable image as of now.
    pub(super) fn with_durable<R>(&self, look: impl FnOnce(&Media) -> R) -> R {
        let mut media = self.media.borrow_mut();
        for event in self.memory.take_trace() {
            media.apply(&event);
        }
        look(&media)
    }

    fn before_store(&self, at: u64, new: u64) {
        let frame = FrameNo(self.first.0 + at / 4096);
        let mut ledger = self.cpus.ledger.borrow_mut();
        if ledger.kind(frame) != Some(FrameKind::Table) {
            return;
        }
        let old = self.memory.load(at);
        if old & PRESENT != 0 && new & PRESENT == 0 {
            ledger.broke(at);
        }
        if new & PRESENT == 0 {
            return;
        }
        if old & PRESENT != 0 && (old ^ new) & (ADDRESS | WRITE | LARGE) != 0 {
            ledger.violation(format!("the entry at {at:#x} changed from {old:#x} to {new:#x} while present"));
        }
        let target = FrameNo::of(new & ADDRESS);
        let leaf = ledger.kind(target) != Some(FrameKind::Table);
        if old & PRESENT == 0 {
            ledger.made(at);
        }
        if new & ACCESSED == 0 || (leaf && new & DIRTY == 0) {
            ledger.violation(format!("hardware would write to the entry {new:#x} at {at:#x}"));
        }
    }

    /// An entry that was stored before becomes present: it must be durable by now.
    fn before_publish(&self, at: u64, new: u64) {
        let durable = self.with_durable(|media| media.durable_word(at));
        if durable | PRESENT != new {
            let text = format!("the entry {new:#x} at {at:#x} became present while {durable:#x} was durable");
            self.cpus.ledger.borrow_mut().violation(text);
        }
    }
}

impl Persist for Racing<'_> {
    fn len_bytes(&self) -> u64 {
        self.memory.len_bytes()
    }

    fn load(&self, at: u64) -> u64 {
        self.memory.load(at)
    }

    fn store(&self, at: u64, value: u64) {
        self.before_store(at, value);
        self.memory.store(at, value);
        self.tick();
    }

    fn compare_exchange(&self, at: u64, old: u64, new: u64) -> Result<(), u64> {
        if self.memory.load(at) == old {
            self.before_store(at, new);
            if old != 0 && old | PRESENT == new && old != new {
                self.before_publish(at, new);
            }
        }
        let result = self.memory.compare_exchange(at, old, new);
        self.tick();
        result
    }

    fn read(&self, at: u64, buffer: &mut [u8]) {
        self.memory.read(at, buffer);
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.write(at, bytes);
        self.tick();
    }

    fn zero(&self, at: u64, len_bytes: u64) {
        self.memory.zero(at, len_bytes);
        self.tick();
    }

    fn flush(&self, at: u64, len_bytes: u64) {
        if self.cpus.flaw != Flaw::DropsFlushes {
            self.memory.flush(at, len_bytes);
        }
        self.tick();
    }

    fn fence(&self) {
        self.memory.fence();
        self.tick();
    }
}
