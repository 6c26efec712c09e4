//! Powering off.

use core::sync::atomic::{AtomicU32, Ordering};

use x86_64::instructions::port::Port;

/// Port of QEMU's `isa-debug-exit`.
const EXIT_PORT: u16 = 0xf4;
/// Status of a kernel panic.
pub(crate) const STATUS_PANIC: u32 = 100;

/// PM1a control port and the value that switches off; 0: unknown.
static SOFT_OFF: AtomicU32 = AtomicU32::new(0);

/// Tells how ACPI switches this machine off.
pub(super) fn set_soft_off(port: u16, sleep_type: u8) {
    let value = 1 << 13 | u32::from(sleep_type & 7) << 10;
    SOFT_OFF.store(u32::from(port) << 16 | value, Ordering::Relaxed);
}

/// Ends the machine with a status for the host; by ACPI where there is no host.
pub(crate) fn off(status: u32) -> ! {
    // SAFETY: a port that exists only to end the emulator; elsewhere the write does nothing.
    unsafe { Port::<u32>::new(EXIT_PORT).write(status) };
    let soft_off = SOFT_OFF.load(Ordering::Relaxed);
    if soft_off != 0 {
        // SAFETY: the PM1a control register, as the FADT gives it, with the sleep type of S5.
        unsafe { Port::<u16>::new((soft_off >> 16) as u16).write(soft_off as u16) };
    }
    halt()
}

/// Stops this CPU for good.
pub(crate) fn halt() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}
