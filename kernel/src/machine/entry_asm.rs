//! The few instructions between user mode and Rust, and between exceptions in the kernel and Rust.
//!
//! User registers go straight into the current context, whose address is in the CPU's data; nothing of them
//! stays on the kernel stack, which starts empty at each entry.

use core::arch::global_asm;
use core::mem::offset_of;

use twizzler_abi::thread::Registers;

use super::cpu::{self, Cpu};
use super::entry::{self, Trap, UserContext};
use super::{apic, features, idt, segments, tlb};

/// What the stubs leave on the stack at an exception or interrupt in the kernel.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct KernelFrame {
    pub(crate) r15: u64,
    pub(crate) r14: u64,
    pub(crate) r13: u64,
    pub(crate) r12: u64,
    pub(crate) r11: u64,
    pub(crate) r10: u64,
    pub(crate) r9: u64,
    pub(crate) r8: u64,
    pub(crate) rbp: u64,
    pub(crate) rdi: u64,
    pub(crate) rsi: u64,
    pub(crate) rdx: u64,
    pub(crate) rcx: u64,
    pub(crate) rbx: u64,
    pub(crate) rax: u64,
    pub(crate) vector: u64,
    pub(crate) error: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

macro_rules! registers {
    ($($name:ident)+) => {
        global_asm!(
            $(concat!(".set REG_", stringify!($name), ", {", stringify!($name), "}"),)+
            $($name = const offset_of!(Registers, $name),)+
        );
    };
}

registers!(rax rbx rcx rdx rsi rdi rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags rsp);

global_asm!(
    r#"
    // Stores what neither kind of entry has in another place, at [rax] or [rsp].
    .macro SAVE base
    mov [\base + REG_rbx], rbx
    mov [\base + REG_rdx], rdx
    mov [\base + REG_rsi], rsi
    mov [\base + REG_rdi], rdi
    mov [\base + REG_rbp], rbp
    mov [\base + REG_r8], r8
    mov [\base + REG_r9], r9
    mov [\base + REG_r10], r10
    mov [\base + REG_r12], r12
    mov [\base + REG_r13], r13
    mov [\base + REG_r14], r14
    mov [\base + REG_r15], r15
    mov [\base + REG_rcx], rcx
    mov [\base + REG_r11], r11
    .endm

    .section .text
    .global entry_syscall
entry_syscall:
    swapgs
    mov gs:[{scratch}], rsp
    mov rsp, gs:[{current}]
    mov [rsp + REG_rax], rax
    SAVE rsp
    mov [rsp + REG_rip], rcx
    mov [rsp + REG_rflags], r11
    mov rax, gs:[{scratch}]
    mov [rsp + REG_rsp], rax
    mov rdi, gs:[0]
    mov rsp, gs:[{stack_top}]
    xor ebp, ebp
    call {call}
    ud2

    // The stack: vector, error, rip, cs, rflags, rsp, ss.
entry_common:
    test byte ptr [rsp + 24], 3
    jz 2f
    swapgs
    mov gs:[{scratch}], rax
    mov rax, gs:[{current}]
    SAVE rax
    mov rbx, gs:[{scratch}]
    mov [rax + REG_rax], rbx
    mov rbx, [rsp + 16]
    mov [rax + REG_rip], rbx
    mov rbx, [rsp + 32]
    mov [rax + REG_rflags], rbx
    mov rbx, [rsp + 40]
    mov [rax + REG_rsp], rbx
    mov rsi, [rsp]
    mov rdx, [rsp + 8]
    mov rdi, gs:[0]
    mov rsp, gs:[{stack_top}]
    xor ebp, ebp
    cld
    call {trap}
    ud2

2:
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld
    mov rdi, rsp
    lea rbp, [rsp + 64]
    call {kernel_trap}
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    add rsp, 16
    iretq

    // One stub for each vector, 16 bytes apart.
    .balign 16
    .global entry_stubs
entry_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    // 8, 10-14, 17, 21, 29 and 30 come with an error code.
    .if (vector >= 32) || !((0x60227d00 >> vector) & 1)
    push 0
    .endif
    push vector
    jmp entry_common
    .set vector, vector + 1
    .endr

    // NMI, machine check, double fault: own stacks, and GS may be the kernel's or the user's.
    .global entry_paranoid_nmi
entry_paranoid_nmi:
    push 0
    push 2
    jmp entry_paranoid
    .global entry_paranoid_double_fault
entry_paranoid_double_fault:
    push 8
    jmp entry_paranoid
    .global entry_paranoid_machine_check
entry_paranoid_machine_check:
    push 0
    push 18
entry_paranoid:
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld
    mov rdi, rsp
    lea rbp, [rsp + 64]
    call {paranoid_trap}
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    add rsp, 16
    iretq

    // rdi: registers; rsi: not 0 if sysret will do.
resume_registers:
    mov rbx, [rdi + REG_rbx]
    mov rdx, [rdi + REG_rdx]
    mov rbp, [rdi + REG_rbp]
    mov r8, [rdi + REG_r8]
    mov r9, [rdi + REG_r9]
    mov r10, [rdi + REG_r10]
    mov r11, [rdi + REG_r11]
    mov r12, [rdi + REG_r12]
    mov r13, [rdi + REG_r13]
    mov r14, [rdi + REG_r14]
    mov r15, [rdi + REG_r15]
    mov rcx, [rdi + REG_rcx]
    mov rax, [rdi + REG_rax]
    test rsi, rsi
    mov rsi, [rdi + REG_rsi]
    jz 5f
    mov rsp, [rdi + REG_rsp]
    mov rdi, [rdi + REG_rdi]
    swapgs
    sysretq
5:
    push {user_data}
    push [rdi + REG_rsp]
    push [rdi + REG_rflags]
    push {user_code}
    push [rdi + REG_rip]
    mov rdi, [rdi + REG_rdi]
    swapgs
    iretq
    "#,
    scratch = const cpu::SCRATCH,
    current = const cpu::CURRENT,
    stack_top = const cpu::STACK_TOP,
    user_code = const segments::USER_CODE,
    user_data = const segments::USER_DATA,
    call = sym entered_call,
    trap = sym entered_trap,
    kernel_trap = sym kernel_trap,
    paranoid_trap = sym paranoid_trap,
);

// SAFETY: labels of the assembly above; only `resume_registers` is ever called, with its two arguments in RDI and RSI.
unsafe extern "C" {
    fn entry_syscall();
    fn entry_stubs();
    fn entry_paranoid_nmi();
    fn entry_paranoid_double_fault();
    fn entry_paranoid_machine_check();
    fn resume_registers(registers: *const Registers, by_sysret: u64) -> !;
}

/// Address of the `syscall` entry.
pub(super) fn syscall_address() -> u64 {
    entry_syscall as *const () as u64
}

/// Address of the entry of an interrupt or exception.
pub(super) fn stub_address(vector: u8) -> u64 {
    match vector {
        2 => entry_paranoid_nmi as *const () as u64,
        8 => entry_paranoid_double_fault as *const () as u64,
        18 => entry_paranoid_machine_check as *const () as u64,
        _ => entry_stubs as *const () as u64 + 16 * u64::from(vector),
    }
}

/// Flags that user code may have: CF, PF, AF, ZF, SF, TF, DF, OF, AC, ID.
const RFLAGS_USER: u64 = 0x0024_0dd5;
/// Flags that it always has: IF and the reserved bit 1.
const RFLAGS_ALWAYS: u64 = 0x202;
/// Flags that `sysret` would not bring back as they are: TF.
const RFLAGS_NO_SYSRET: u64 = 0x100;

/// Goes to user mode with these registers, made harmless: a RIP outside the lower half becomes 0, where nothing is.
pub(super) fn resume(registers: &mut Registers) -> ! {
    registers.rflags = registers.rflags & RFLAGS_USER | RFLAGS_ALWAYS;
    if registers.rip >= entry::USER_END {
        registers.rip = 0;
    }
    let by_sysret = registers.rcx == registers.rip
        && registers.r11 == registers.rflags
        && registers.rflags & RFLAGS_NO_SYSRET == 0;
    // SAFETY: the registers lie in the current context, which entries may overwrite from now on; RIP is canonical, so
    // neither instruction faults; the stack is abandoned, which holds nothing that is needed.
    unsafe { resume_registers(registers, u64::from(by_sysret)) }
}

/// The current context, at an entry from user mode.
#[allow(clippy::mut_from_ref, reason = "the reference comes from the pointer that the CPU keeps")]
fn entered(cpu: &'static Cpu) -> &'static mut UserContext {
    // SAFETY: user mode was entered through `resume`, with a current context; invariant **detached**: it is alive and
    // this CPU's alone, and the borrow of the last round ended with its stack.
    unsafe { &mut *cpu.current.get() }
}

extern "C" fn entered_call(cpu: &'static Cpu) -> ! {
    (entry::hooks().call)(cpu, entered(cpu));
    entry::run(cpu)
}

extern "C" fn entered_trap(cpu: &'static Cpu, vector: u64, error: u64) -> ! {
    let address = x86_64::registers::control::Cr2::read_raw();
    forbid_user_access();
    let vector = vector as u8;
    if vector < 32 {
        (entry::hooks().fault)(cpu, entered(cpu), Trap { vector, error, address });
    } else if let Some(interrupt) = idt::handle_interrupt(vector) {
        (entry::hooks().interrupt)(cpu, interrupt);
    }
    entry::run(cpu)
}

/// Undoes what user code, or a user copy that faulted, left in the AC flag.
fn forbid_user_access() {
    if features::smap() {
        // SAFETY: SMAP is there, so the instruction is; clearing AC only forbids.
        unsafe { core::arch::asm!("clac", options(nomem, nostack)) };
    }
}

extern "C" fn kernel_trap(frame: &mut KernelFrame) {
    let address = x86_64::registers::control::Cr2::read_raw();
    forbid_user_access();
    let cpu = cpu::current();
    match frame.vector {
        0..32 => {
            if !super::user::recover(cpu, frame, address) {
                crate::panic::exception(frame, address);
            }
        }
        vector => {
            // Only while idle: interrupts are off elsewhere.
            if let Some(interrupt) = idt::handle_interrupt(vector as u8) {
                (entry::hooks().interrupt)(cpu, interrupt);
            }
        }
    }
    tlb::serve();
}

/// An exception at any moment: GS can't be relied on, and programs may set theirs to anything.
extern "C" fn paranoid_trap(frame: &mut KernelFrame) {
    if frame.vector == 2 {
        crate::panic::stop_if_panicking();
        return;
    }
    // The others don't return, so GS need not be put back.
    cpu::repair(apic::id());
    crate::panic::exception(frame, x86_64::registers::control::Cr2::read_raw());
}
