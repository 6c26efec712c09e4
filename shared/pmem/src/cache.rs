//! The instructions that write cache lines back (Intel SDM volume 2: CLWB, CLFLUSHOPT, CLFLUSH, SFENCE).

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::sync::atomic::{AtomicU32, Ordering};

use crate::lines;

/// The instruction that writes a cache line back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteBack {
    /// Keeps the line.
    Clwb,
    /// Evicts it, in parallel with others.
    Clflushopt,
    /// Evicts it, one after the other.
    Clflush,
}

impl WriteBack {
    /// The best that this processor has. Asks it once: under a hypervisor that takes microseconds.
    #[must_use]
    pub fn detect() -> Self {
        /// CPUID leaf 7, EBX, with [`ASKED`]; 0: not asked yet.
        static FEATURES: AtomicU32 = AtomicU32::new(0);
        /// A bit that nothing here depends on.
        const ASKED: u32 = 1;
        let mut features = FEATURES.load(Ordering::Relaxed);
        if features == 0 {
            features = ASKED | if __cpuid(0).eax >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
            FEATURES.store(features, Ordering::Relaxed);
        }
        Self::of_features(features)
    }

    /// The best of those in CPUID leaf 7, EBX.
    const fn of_features(ebx: u32) -> Self {
        if ebx & 1 << 24 != 0 {
            Self::Clwb
        } else if ebx & 1 << 23 != 0 {
            Self::Clflushopt
        } else {
            Self::Clflush
        }
    }

    /// Starts writing back every line that holds a byte of the range; gives their number.
    ///
    /// Changes no values. The range must be mapped for reading: otherwise it is a fault, as for a load. The processor must
    /// have the instruction: otherwise it is an invalid one.
    pub fn flush(self, address: u64, len_bytes: u64) -> u64 {
        let mut count = 0;
        for line in lines(address, len_bytes) {
            match self {
                // SAFETY: changes no memory; what can't be flushed is a fault, as documented.
                Self::Clwb => unsafe { asm!("clwb [{}]", in(reg) line, options(nostack, preserves_flags)) },
                // SAFETY: as above.
                Self::Clflushopt => unsafe {
                    asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags))
                },
                // SAFETY: as above.
                Self::Clflush => unsafe {
                    asm!("clflush [{}]", in(reg) line, options(nostack, preserves_flags))
                },
            }
            count += 1;
        }
        count
    }
}

/// Waits until all that was flushed is durable.
#[inline]
pub fn fence() {
    // SAFETY: orders stores and flushes, nothing else.
    unsafe { asm!("sfence", options(nostack, preserves_flags)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_instruction_is_chosen() {
        assert_eq!(WriteBack::of_features(0), WriteBack::Clflush);
        assert_eq!(WriteBack::of_features(1 << 23), WriteBack::Clflushopt);
        assert_eq!(WriteBack::of_features(1 << 23 | 1 << 24), WriteBack::Clwb);
    }

    #[test]
    fn flushing_counts_lines_and_changes_nothing() {
        let bytes: [u8; 256] = core::array::from_fn(|i| i as u8);
        let address = bytes.as_ptr() as u64;
        let count = WriteBack::detect().flush(address, 256);
        fence();
        assert_eq!(count, lines(address, 256).count() as u64);
        assert!(bytes.iter().enumerate().all(|(i, &byte)| byte == i as u8));
        assert_eq!(WriteBack::detect().flush(address, 0), 0);
    }
}
