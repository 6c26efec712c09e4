//! Kernel stacks, each above a page that is never mapped: an overflow is a double fault, not silent damage.

use super::frames::{self, Claim, FRAME_BYTES};
use super::paging::{self, Attributes};
use crate::machine::StackTops;
use crate::machine::cpu::CPUS_MAX;

const REGION: u64 = 0xffff_f000_0000_0000;
/// Distance between CPUs' stacks.
const CPU_BYTES: u64 = 1 << 20;
/// Bytes of the stack for everything, and of those for NMI, double fault and machine check.
const KERNEL_BYTES: u64 = 128 << 10;
const EXCEPTION_BYTES: u64 = 16 << 10;

/// Makes a CPU's stacks.
pub(crate) fn make(cpu: usize) -> Option<StackTops> {
    let mut next = REGION + cpu as u64 * CPU_BYTES;
    let mut stack = |bytes: u64| {
        let low = next + FRAME_BYTES;
        for page in (0..bytes).step_by(FRAME_BYTES as usize) {
            let frame = frames::allocate(Claim::Kernel)?;
            paging::map(low + page, frame.address(), FRAME_BYTES, Attributes::WRITE);
        }
        next = low + bytes;
        Some(next)
    };
    let kernel = stack(KERNEL_BYTES)?;
    let ist = [stack(EXCEPTION_BYTES)?, stack(EXCEPTION_BYTES)?, stack(EXCEPTION_BYTES)?];
    Some(StackTops { kernel, ist })
}

/// Lowest address of a CPU's kernel stack.
pub(crate) fn kernel_low(top: u64) -> u64 {
    top - KERNEL_BYTES
}

/// Whether an address lies in the stacks' region where nothing is mapped.
pub(crate) fn is_guard(address: u64) -> bool {
    let end = REGION + CPUS_MAX as u64 * CPU_BYTES;
    (REGION..end).contains(&address) && paging::translate(address).is_none()
}
