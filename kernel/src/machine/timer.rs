//! Each CPU's one-shot timer: TSC deadline where there is one, the local APIC's counter otherwise.

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::registers::model_specific::Msr;

use super::{apic, clock, cpu, features, idt};

const MSR_TSC_DEADLINE: u32 = 0x6e0;
const DEADLINE_MODE: u32 = 2 << 17;
const DIVIDE_BY_16: u32 = 3;

/// Counter ticks for 2^32 nanoseconds.
static TICKS_PER_UNIT: AtomicU64 = AtomicU64::new(0);

/// Interrupts this CPU at a time of [`clock::now_ns`], or at once if that has passed. Replaces what was set before;
/// `u64::MAX`: never. The interrupt may come early by the counter's rounding; [`super::entry::Interrupt::Timer`] doesn't.
pub(crate) fn arm(at_ns: u64) {
    cpu::current().deadline.set(at_ns);
    program(at_ns);
}

fn program(at_ns: u64) {
    let deadline_mode = features::get().tsc_deadline;
    let left_ns = at_ns.saturating_sub(clock::now_ns());
    if deadline_mode {
        let at =
            if at_ns == u64::MAX { 0 } else { clock::tsc().saturating_add(clock::ticks(left_ns)).max(1) };
        // SAFETY: CPUID has the deadline mode, and `init` has switched it on.
        unsafe { Msr::new(MSR_TSC_DEADLINE).write(at) };
        return;
    }
    let ticks = if at_ns == u64::MAX {
        0
    } else {
        let ticks = (u128::from(left_ns) * u128::from(TICKS_PER_UNIT.load(Ordering::Relaxed))) >> 32;
        ticks.clamp(1, u128::from(u32::MAX)) as u32
    };
    apic::write(apic::TIMER_INITIAL, ticks);
}

/// Whether the time of [`arm`] has really come; programs the rest where the counter could not hold it all.
pub(super) fn due() -> bool {
    let at_ns = cpu::current().deadline.get();
    if at_ns > clock::now_ns() {
        program(at_ns);
        return false;
    }
    cpu::current().deadline.set(u64::MAX);
    true
}

/// Sets up this CPU's timer.
pub(super) fn init() {
    if features::get().tsc_deadline {
        apic::write(apic::TIMER, u32::from(idt::TIMER) | DEADLINE_MODE);
        // The xAPIC's registers are memory, and the deadline must not be set before the mode (SDM volume 3, 11.5.4.1).
        // SAFETY: only orders.
        unsafe { core::arch::asm!("mfence", options(nostack, preserves_flags)) };
    } else {
        apic::write(apic::TIMER_DIVIDE, DIVIDE_BY_16);
        apic::write(apic::TIMER, u32::from(idt::TIMER));
    }
}

/// Measures the counter: called at the start (None) and at the end of a time span.
pub(super) fn measure(ns: Option<u64>) {
    match ns {
        None => {
            apic::write(apic::TIMER_DIVIDE, DIVIDE_BY_16);
            apic::write(apic::TIMER_INITIAL, u32::MAX);
        }
        Some(ns) => {
            let ticks = u32::MAX - apic::read(apic::TIMER_CURRENT);
            apic::write(apic::TIMER_INITIAL, 0);
            TICKS_PER_UNIT.store((u64::from(ticks) << 32) / ns.max(1), Ordering::Relaxed);
        }
    }
}
