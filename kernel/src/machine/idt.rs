//! Interrupt descriptors and vectors.

use core::arch::asm;
use spin::Once;

use super::entry::Interrupt;
use super::{apic, entry_asm, segments, serial, timer, tlb};

/// The local timer.
pub(super) const TIMER: u8 = 0x40;
/// Another CPU wants this one to schedule.
pub(super) const RESCHEDULE: u8 = 0x41;
/// Another CPU waits in [`tlb::shoot`].
pub(super) const SHOOTDOWN: u8 = 0x42;
/// The console's port.
pub(super) const CONSOLE: u8 = 0x43;
/// The local APIC's way to say "never mind".
pub(super) const SPURIOUS: u8 = 0xff;

/// Gates: present, interrupt gate; the breakpoint's may be used by user code.
const GATE: u64 = 0x8e;
const GATE_USER: u64 = 0xee;

static TABLE: Once<[[u64; 2]; 256]> = Once::new();

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

fn gate(vector: u8) -> [u64; 2] {
    let address = entry_asm::stub_address(vector);
    let stack = match vector {
        2 => segments::IST_NMI,
        8 => segments::IST_DOUBLE_FAULT,
        18 => segments::IST_MACHINE_CHECK,
        _ => 0,
    };
    let kind = if vector == 3 { GATE_USER } else { GATE };
    let low = address & 0xffff
        | u64::from(segments::KERNEL_CODE) << 16
        | u64::from(stack) << 32
        | kind << 40
        | (address >> 16 & 0xffff) << 48;
    [low, address >> 32]
}

/// Loads the table on this CPU.
pub(super) fn load() {
    let table = TABLE.call_once(|| core::array::from_fn(|vector| gate(vector as u8)));
    let pointer = TablePointer { limit: (size_of_val(table) - 1) as u16, base: table.as_ptr() as u64 };
    // SAFETY: the table is static, each gate leads to a stub that expects exactly its kind of frame, and the segments
    // and stacks that gates name have been loaded.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(nostack, preserves_flags, readonly)) };
}

/// Acknowledges an interrupt and does what the machine itself has to; what is left is for the hook.
pub(super) fn handle_interrupt(vector: u8) -> Option<Interrupt> {
    if vector != SPURIOUS {
        apic::end_of_interrupt();
    }
    match vector {
        TIMER => timer::due().then_some(Interrupt::Timer),
        RESCHEDULE => Some(Interrupt::Reschedule),
        SHOOTDOWN => {
            tlb::serve();
            None
        }
        CONSOLE => serial::console_interrupt().then_some(Interrupt::Console),
        _ => None,
    }
}
