//! Write windows: the only way by which the kernel writes to NVM.
//!
//! In the direct map NVM is read-only, so a wild store of the kernel faults instead of damaging data. To write, a CPU
//! maps one page at an address of its own, stores, and unmaps it. Other CPUs never touch that address, so none has a
//! translation of it, and no shootdown is needed.

use super::paging::{self, Attributes};
use crate::machine::cpu::{self, Window};
use crate::machine::tlb;

const REGION: u64 = 0xffff_f040_0000_0000;
/// Each window lies above a page that is not mapped.
const STRIDE: u64 = 8192;

/// Makes a CPU's window, closed.
pub(crate) fn make(cpu: usize) -> Window {
    let address = REGION + cpu as u64 * STRIDE + 4096;
    Window { entry: paging::leaf_entry(address), address: address as *mut u8 }
}

/// Calls `write` with a pointer to the page at a physical address, writable until it returns. `write` must not open
/// another window.
pub(super) fn with<R>(page: u64, write: impl FnOnce(*mut u8) -> R) -> R {
    debug_assert_eq!(page % 4096, 0);
    let window = cpu::current().window.get();
    // SAFETY: this CPU's own entry; nobody else reads or writes it.
    debug_assert_eq!(unsafe { window.entry.read_volatile() }, 0, "windows don't nest");
    // SAFETY: as above. The page is of NVM: its caller's.
    unsafe { window.entry.write_volatile(page | Attributes::WINDOW.bits()) };
    let result = write(window.address);
    // SAFETY: as above.
    unsafe { window.entry.write_volatile(0) };
    tlb::flush_page(window.address as u64);
    result
}
