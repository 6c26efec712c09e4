//! Exact counts of what durability costs.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use twizzler_pmem::{Persist, Unreadable, lines};

/// What was done to a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Costs {
    /// Cache lines flushed.
    pub flushes: u64,
    /// Fences.
    pub fences: u64,
    /// Bytes written, by words, copies and zeroing.
    pub written_bytes: u64,
}

impl std::ops::Sub for Costs {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            flushes: self.flushes - earlier.flushes,
            fences: self.fences - earlier.fences,
            written_bytes: self.written_bytes - earlier.written_bytes,
        }
    }
}

/// A region that counts.
#[derive(Debug, Default)]
pub struct Counted<P> {
    inner: P,
    flushes: AtomicU64,
    fences: AtomicU64,
    written_bytes: AtomicU64,
}

impl<P> Counted<P> {
    /// Counts from zero on.
    pub const fn new(inner: P) -> Self {
        Self {
            inner,
            flushes: AtomicU64::new(0),
            fences: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
        }
    }

    /// The region itself.
    pub const fn inner(&self) -> &P {
        &self.inner
    }

    /// The counts so far.
    pub fn costs(&self) -> Costs {
        Costs {
            flushes: self.flushes.load(Ordering::Relaxed),
            fences: self.fences.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
        }
    }

    fn wrote(&self, len_bytes: u64) {
        self.written_bytes.fetch_add(len_bytes, Ordering::Relaxed);
    }
}

impl<P: Persist> Persist for Counted<P> {
    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }
    fn load(&self, at: u64) -> u64 {
        self.inner.load(at)
    }
    fn store(&self, at: u64, value: u64) {
        self.wrote(8);
        self.inner.store(at, value);
    }
    fn compare_exchange(&self, at: u64, old: u64, new: u64) -> Result<(), u64> {
        self.inner.compare_exchange(at, old, new)?;
        self.wrote(8);
        Ok(())
    }
    fn read(&self, at: u64, buffer: &mut [u8]) {
        self.inner.read(at, buffer);
    }
    fn write(&self, at: u64, bytes: &[u8]) {
        self.wrote(bytes.len() as u64);
        self.inner.write(at, bytes);
    }
    fn zero(&self, at: u64, len_bytes: u64) {
        self.wrote(len_bytes);
        self.inner.zero(at, len_bytes);
    }
    fn flush(&self, at: u64, len_bytes: u64) {
        self.flushes.fetch_add(lines(at, len_bytes).count() as u64, Ordering::Relaxed);
        self.inner.flush(at, len_bytes);
    }
    fn fence(&self) {
        self.fences.fetch_add(1, Ordering::Relaxed);
        self.inner.fence();
    }
    fn check_readable(&self, at: u64, len_bytes: u64) -> Result<(), Unreadable> {
        self.inner.check_readable(at, len_bytes)
    }
    fn make_room(&self, at: u64, len_bytes: u64) -> bool {
        self.inner.make_room(at, len_bytes)
    }
    fn next_with_room(&self, from: u64) -> Option<Range<u64>> {
        self.inner.next_with_room(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::Memory;

    #[test]
    fn counts_lines_not_calls() {
        let region = Counted::new(Memory::zeroed(4096));
        region.store(8, 1);
        region.persist(60, 8);
        region.zero(0, 4096);
        region.flush(0, 4096);
        assert_eq!(region.costs(), Costs { flushes: 66, fences: 1, written_bytes: 4104 });
    }
}
