//! A range of NVM as a [`Persist`] region: loads through the direct map, stores through [`window`]s.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use twizzler_pmem::{Persist, cache, mapped};

use super::paging::{self, Attributes};
use super::{direct, window};
use crate::machine::cpu;
use crate::machine::features;

const PAGE: u64 = 4096;

/// A physical range of NVM. Offset 0 is at [`Nvm::base`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Nvm {
    base: u64,
    len_bytes: u64,
}

/// What all CPUs did to NVM since boot.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct NvmCounts {
    /// Cache-line flushes.
    pub(crate) flushes: u64,
    /// Fences.
    pub(crate) fences: u64,
    /// Bytes written.
    pub(crate) written_bytes: u64,
}

/// What the kernel did to NVM since boot.
#[must_use]
pub(crate) fn counts() -> NvmCounts {
    cpu::all().fold(NvmCounts::default(), |sum, cpu| NvmCounts {
        flushes: sum.flushes + cpu.nvm.flushes.get(),
        fences: sum.fences + cpu.nvm.fences.get(),
        written_bytes: sum.written_bytes + cpu.nvm.written_bytes.get(),
    })
}

impl Nvm {
    /// Maps a range for reading, for good.
    pub(crate) fn map(range: &Range<u64>) -> Self {
        let len_bytes = range.end - range.start;
        paging::map(direct::BASE + range.start, range.start, len_bytes, Attributes::READ);
        Self { base: range.start, len_bytes }
    }

    /// Physical address of offset 0.
    #[must_use]
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    fn check(&self, at: u64, len_bytes: u64) {
        let end = at.checked_add(len_bytes);
        assert!(
            end.is_some_and(|end| end <= self.len_bytes),
            "offset {at:#x} + {len_bytes:#x} is not in NVM"
        );
    }

    fn pointer(&self, at: u64) -> *const u8 {
        direct::pointer(self.base + at)
    }

    fn word(&self, at: u64) -> &AtomicU64 {
        self.check(at, 8);
        assert_eq!(at % 8, 0, "words are aligned");
        // SAFETY: mapped for good, aligned, and written by atomic stores or by hardware as a whole. Only loads go
        // through this reference: the mapping is read-only.
        unsafe { &*self.pointer(at).cast() }
    }

    /// Calls `write` with a writable place for a word.
    fn with_word<R>(&self, at: u64, write: impl FnOnce(&AtomicU64) -> R) -> R {
        self.check(at, 8);
        assert_eq!(at % 8, 0, "words are aligned");
        cpu::current().nvm.written_bytes.add(8);
        let address = self.base + at;
        window::with(address & !(PAGE - 1), |page| {
            // SAFETY: within the open window's page, and aligned.
            write(unsafe { &*page.wrapping_add((address % PAGE) as usize).cast::<AtomicU64>() })
        })
    }

    /// Calls `write` for each page's part of a range: a writable pointer, offset in the range, bytes.
    fn with_pages(&self, at: u64, len_bytes: u64, mut write: impl FnMut(*mut u8, usize, usize)) {
        self.check(at, len_bytes);
        cpu::current().nvm.written_bytes.add(len_bytes);
        let mut done = 0;
        while done < len_bytes {
            let address = self.base + at + done;
            let bytes = (PAGE - address % PAGE).min(len_bytes - done);
            window::with(address & !(PAGE - 1), |page| {
                // SAFETY: within the open window's page.
                write(unsafe { page.add((address % PAGE) as usize) }, done as usize, bytes as usize);
            });
            done += bytes;
        }
    }
}

impl Persist for Nvm {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn load(&self, at: u64) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    fn store(&self, at: u64, value: u64) {
        self.with_word(at, |word| word.store(value, Ordering::Release));
    }

    fn compare_exchange(&self, at: u64, old: u64, new: u64) -> Result<(), u64> {
        self.with_word(at, |word| {
            word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).map(drop)
        })
    }

    fn read(&self, at: u64, buffer: &mut [u8]) {
        self.check(at, buffer.len() as u64);
        // SAFETY: the range was checked and is mapped for good; `buffer` is the kernel's.
        unsafe { mapped::copy(self.pointer(at), buffer.as_mut_ptr(), buffer.len()) };
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.with_pages(at, bytes.len() as u64, |to, from, len| {
            // SAFETY: `with_pages` gives parts of the range, so of `bytes`, and a place in NVM, where no references are.
            unsafe { mapped::copy(bytes[from..].as_ptr(), to, len) };
        });
    }

    fn zero(&self, at: u64, len_bytes: u64) {
        // SAFETY: as in `write`.
        self.with_pages(at, len_bytes, |to, _, len| unsafe { mapped::zero(to, len) });
    }

    fn flush(&self, at: u64, len_bytes: u64) {
        self.check(at, len_bytes);
        let address = self.pointer(at) as u64;
        cpu::current().nvm.flushes.add(features::get().write_back.flush(address, len_bytes));
    }

    fn fence(&self) {
        cache::fence();
        cpu::current().nvm.fences.add(1);
    }
}
