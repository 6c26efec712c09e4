//! Segments, task state and the registers that `syscall` goes by. Alike on each CPU, but for its stacks.

use alloc::boxed::Box;
use core::arch::asm;

use x86_64::registers::model_specific::Msr;

use super::entry_asm;

/// Selectors. `sysret` asks for this order: data before code.
pub(super) const KERNEL_CODE: u16 = 0x08;
const KERNEL_DATA: u16 = 0x10;
pub(super) const USER_DATA: u64 = 0x23;
pub(super) const USER_CODE: u64 = 0x2b;
const TASK: u16 = 0x30;

/// Interrupt stack table entries.
pub(super) const IST_NMI: u8 = 1;
pub(super) const IST_DOUBLE_FAULT: u8 = 2;
pub(super) const IST_MACHINE_CHECK: u8 = 3;

/// Task state segment: Intel SDM volume 3, figure 8-11.
#[repr(C, packed(4))]
struct TaskState {
    reserved0: u32,
    rsp: [u64; 3],
    reserved1: u64,
    ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    io_map: u16,
}

const _: () = assert!(size_of::<TaskState>() == 104);

#[repr(C)]
struct Tables {
    task: TaskState,
    descriptors: [u64; 8],
}

/// Highest addresses of a CPU's stacks.
#[derive(Clone, Copy)]
pub(crate) struct StackTops {
    pub(crate) kernel: u64,
    pub(crate) ist: [u64; 3],
}

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// Builds and loads this CPU's segments, and sets up `syscall`.
pub(super) fn load(stacks: StackTops) {
    let tables = Box::leak(Box::new(Tables {
        task: TaskState {
            reserved0: 0,
            rsp: [stacks.kernel, 0, 0],
            reserved1: 0,
            ist: [stacks.ist[0], stacks.ist[1], stacks.ist[2], 0, 0, 0, 0],
            reserved2: 0,
            reserved3: 0,
            io_map: size_of::<TaskState>() as u16,
        },
        descriptors: [0; 8],
    }));
    let task = core::ptr::from_ref(&tables.task) as u64;
    let limit = size_of::<TaskState>() as u64 - 1;
    tables.descriptors = [
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
        limit | (task & 0xff_ffff) << 16 | 0x89 << 40 | (task >> 24 & 0xff) << 56,
        task >> 32,
    ];
    let pointer = TablePointer { limit: 63, base: tables.descriptors.as_ptr() as u64 };
    // SAFETY: the descriptors are leaked, so they stay; code and data descriptors are those of a flat 64-bit kernel, as
    // before, and the far return only reloads CS. GS is left alone: loading it may clear its base, which is in use.
    unsafe {
        asm!(
            "lgdt [{pointer}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ss, {data:e}",
            "mov ds, {zero:e}",
            "mov es, {zero:e}",
            "mov fs, {zero:e}",
            "ltr {task:x}",
            pointer = in(reg) &raw const pointer,
            code = const KERNEL_CODE as u64,
            scratch = out(reg) _,
            data = in(reg) u32::from(KERNEL_DATA),
            zero = in(reg) 0u32,
            task = in(reg) TASK,
        );
    }
    let msrs = [
        // STAR: `syscall` loads CS from bits 32-47; `sysret` loads SS from bits 48-63 plus 8, CS plus 16.
        (0xc000_0081, (USER_DATA - 8) << 48 | u64::from(KERNEL_CODE) << 32),
        (0xc000_0082, entry_asm::syscall_address()),
        // SFMASK: all flags that change how the kernel runs: TF, IF, DF, IOPL, NT, RF, AC.
        (0xc000_0084, 0x0005_7700),
    ];
    for (msr, value) in msrs {
        // SAFETY: `syscall` now enters `entry_syscall`, with the segments just loaded.
        unsafe { Msr::new(msr).write(value) };
    }
}
