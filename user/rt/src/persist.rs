//! Making what was written to persistent objects durable.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::sync::atomic::{AtomicU8, Ordering};

use twizzler_pmem::{LINE_BYTES, Persist, lines};

use crate::mapping::Mapping;

/// Which instruction writes lines back; 0: not asked yet.
static INSTRUCTION: AtomicU8 = AtomicU8::new(0);
const CLWB: u8 = 1;
const CLFLUSHOPT: u8 = 2;
const CLFLUSH: u8 = 3;

/// CPUID leaf 7, EBX (Intel SDM volume 2, CPUID).
fn choose() -> u8 {
    let features = __cpuid_count(7, 0).ebx;
    let choice = if features & 1 << 24 != 0 {
        CLWB
    } else if features & 1 << 23 != 0 {
        CLFLUSHOPT
    } else {
        CLFLUSH
    };
    INSTRUCTION.store(choice, Ordering::Relaxed);
    choice
}

/// Starts writing back every line that holds a byte of the range.
///
/// Flushing reads memory but changes none. The range must be mapped, as for a load: otherwise it is a fault.
pub fn flush(address: u64, len_bytes: u64) {
    let instruction = match INSTRUCTION.load(Ordering::Relaxed) {
        0 => choose(),
        chosen => chosen,
    };
    for line in lines(address, len_bytes) {
        match instruction {
            // SAFETY: changes no memory; a line that is not mapped is a fault, as documented.
            CLWB => unsafe { asm!("clwb [{}]", in(reg) line, options(nostack, preserves_flags)) },
            // SAFETY: as above.
            CLFLUSHOPT => unsafe { asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags)) },
            // SAFETY: as above.
            _ => unsafe { asm!("clflush [{}]", in(reg) line, options(nostack, preserves_flags)) },
        }
    }
}

/// Waits until all that was flushed is durable.
pub fn fence() {
    // SAFETY: orders stores and flushes, nothing else.
    unsafe { asm!("sfence", options(nostack, preserves_flags)) };
}

const _: () = assert!(LINE_BYTES == 64);

/// Offsets count from the object's start; what is not a data page of the object must not be written.
impl Persist for Mapping {
    fn len_bytes(&self) -> u64 {
        twizzler_abi::SizeClass::Small.range_bytes()
    }

    fn load(&self, at: u64) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    fn store(&self, at: u64, value: u64) {
        self.word(at).store(value, Ordering::Release);
    }

    fn compare_exchange(&self, at: u64, old: u64, new: u64) -> Result<(), u64> {
        self.word(at).compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }

    fn read(&self, at: u64, buffer: &mut [u8]) {
        Mapping::read(self, at, buffer);
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        Mapping::write(self, at, bytes);
    }

    fn zero(&self, at: u64, len_bytes: u64) {
        Mapping::zero(self, at, len_bytes);
    }

    fn flush(&self, at: u64, len_bytes: u64) {
        flush(self.address() + at, len_bytes);
    }

    fn fence(&self) {
        fence();
    }
}
