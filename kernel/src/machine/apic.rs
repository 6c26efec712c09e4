//! Local APICs (x2APIC by registers, xAPIC by memory) and I/O APICs.
//!
//! Source: Intel SDM volume 3, chapter 11; 82093AA I/O APIC data sheet.

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

use super::{features, idt};
use crate::memory::direct;

const MSR_APIC_BASE: u32 = 0x1b;
const MSR_X2APIC: u32 = 0x800;

/// Register numbers; times 16, an offset in the xAPIC's page.
const ID: u32 = 0x02;
const TASK_PRIORITY: u32 = 0x08;
const END_OF_INTERRUPT: u32 = 0x0b;
const SPURIOUS: u32 = 0x0f;
const COMMAND: u32 = 0x30;
const COMMAND_HIGH: u32 = 0x31;
pub(super) const TIMER: u32 = 0x32;
const LINT0: u32 = 0x35;
const LINT1: u32 = 0x36;
const ERROR: u32 = 0x37;
pub(super) const TIMER_INITIAL: u32 = 0x38;
pub(super) const TIMER_CURRENT: u32 = 0x39;
pub(super) const TIMER_DIVIDE: u32 = 0x3e;

const MASKED: u32 = 1 << 16;
const ENABLE: u32 = 1 << 8;
const SENDING: u32 = 1 << 12;

const COMMAND_NMI: u32 = 0x4400;
const COMMAND_INIT: u32 = 0x4500;
const COMMAND_START: u32 = 0x4600;
const OTHERS: u32 = 0xc_0000;

/// Address of the xAPIC's registers; 0: x2APIC.
static REGISTERS: AtomicU64 = AtomicU64::new(0);

/// Finds the boot CPU's local APIC and silences the old interrupt controllers.
pub(super) fn init() {
    mask_8259();
    if !features::get().x2apic {
        // SAFETY: reads.
        let base = unsafe { Msr::new(MSR_APIC_BASE).read() } & 0x000f_ffff_ffff_f000;
        REGISTERS.store(direct::map_device(base, 4096) as u64, Ordering::Relaxed);
    }
    enable();
}

/// Switches this CPU's local APIC on.
pub(super) fn enable() {
    let mut base = Msr::new(MSR_APIC_BASE);
    // SAFETY: reads.
    let value = unsafe { base.read() } | 1 << 11 | if features::get().x2apic { 1 << 10 } else { 0 };
    // SAFETY: switches the APIC on, into x2APIC mode where CPUID has it; its address stays.
    unsafe { base.write(value) };
    write(TASK_PRIORITY, 0);
    write(TIMER, MASKED | u32::from(idt::TIMER));
    write(LINT0, MASKED);
    write(LINT1, 0x400);
    write(ERROR, MASKED);
    write(SPURIOUS, ENABLE | u32::from(idt::SPURIOUS));
}

/// This CPU's APIC ID.
pub(super) fn id() -> u32 {
    let id = read(ID);
    if REGISTERS.load(Ordering::Relaxed) == 0 { id } else { id >> 24 }
}

pub(super) fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Sends an interrupt to another CPU.
pub(super) fn interrupt(apic_id: u32, vector: u8) {
    command(apic_id, u32::from(vector));
}

pub(super) fn send_init(apic_id: u32) {
    command(apic_id, COMMAND_INIT);
}

/// Starts a CPU at a physical page below 1 MiB.
pub(super) fn send_start(apic_id: u32, page: u64) {
    command(apic_id, COMMAND_START | (page >> 12) as u32);
}

/// Interrupts all other CPUs, whatever they do.
pub(crate) fn send_nmi_to_others() {
    command(0, COMMAND_NMI | OTHERS);
}

fn command(apic_id: u32, command: u32) {
    if REGISTERS.load(Ordering::Relaxed) == 0 {
        // x2APIC: unlike the xAPIC's memory accesses, WRMSR does not wait for earlier stores (SDM volume 3, 11.12.3).
        // SAFETY: fences only order.
        unsafe { core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags)) };
        // SAFETY: sends an interrupt that its receiver has a gate for.
        unsafe { Msr::new(MSR_X2APIC + COMMAND).write(u64::from(apic_id) << 32 | u64::from(command)) };
        return;
    }
    while read(COMMAND) & SENDING != 0 {
        core::hint::spin_loop();
    }
    write(COMMAND_HIGH, apic_id << 24);
    write(COMMAND, command);
}

pub(super) fn read(register: u32) -> u32 {
    match REGISTERS.load(Ordering::Relaxed) {
        // SAFETY: a readable register of the x2APIC, which is on.
        0 => unsafe { Msr::new(MSR_X2APIC + register).read() as u32 },
        // SAFETY: the page of the xAPIC's registers, mapped for good (invariant **direct**).
        base => unsafe { ((base + u64::from(register) * 16) as *const u32).read_volatile() },
    }
}

pub(super) fn write(register: u32, value: u32) {
    match REGISTERS.load(Ordering::Relaxed) {
        // SAFETY: a register of the x2APIC, which is on; values are what each caller argues.
        0 => unsafe { Msr::new(MSR_X2APIC + register).write(u64::from(value)) },
        // SAFETY: as in `read`.
        base => unsafe { ((base + u64::from(register) * 16) as *mut u32).write_volatile(value) },
    }
}

/// Masks the two 8259s, after moving their vectors away from the exceptions'.
fn mask_8259() {
    for (port, value) in [
        (0x20, 0x11),
        (0xa0, 0x11),
        (0x21, 0x20),
        (0xa1, 0x28),
        (0x21, 4),
        (0xa1, 2),
        (0x21, 1),
        (0xa1, 1),
        (0x21, 0xff),
        (0xa1, 0xff),
    ] {
        // SAFETY: the PC's interrupt controllers; the sequence initialises and masks them.
        unsafe { Port::<u8>::new(port).write(value) };
    }
}

/// An interrupt line as the MADT describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Physical address of the I/O APIC.
    pub(super) io_apic: u64,
    /// Its input.
    pub(super) input: u32,
    pub(super) active_low: bool,
    pub(super) level: bool,
}

/// Routes an interrupt line to a vector of one CPU.
pub(super) fn route(line: Line, vector: u8, apic_id: u32) {
    let registers = direct::map_device(line.io_apic, 4096).cast::<u32>();
    let write = |index: u32, value: u32| {
        // SAFETY: the I/O APIC's index register (invariant **direct**); called on the boot CPU alone.
        unsafe { registers.write_volatile(index) };
        // SAFETY: its data register, 16 bytes further in the same page.
        unsafe { registers.wrapping_add(4).write_volatile(value) };
    };
    let flags = u32::from(line.active_low) << 13 | u32::from(line.level) << 15;
    write(0x11 + 2 * line.input, apic_id << 24);
    write(0x10 + 2 * line.input, u32::from(vector) | flags);
}
