//! In and out of user mode: two contexts run a small program and are switched at each call.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::arch::global_asm;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use twizzler_abi::thread::Registers;

use super::machine::{USER, make_root, set_leaf};
use super::{Test, finish};
use crate::machine::cpu::Cpu;
use crate::machine::entry::{self, Hooks, Interrupt, Next, Trap, UserContext};
use crate::machine::start_info::Boot;
use crate::machine::{clock, timer};
use crate::memory::frames::{self, Claim};

pub(super) const TESTS: &[Test] =
    &[Test { name: "user_state_survives_calls_faults_and_switches", run: user_state_survives }];

// RDI: the context's number. Each step ends with a call whose number is in RAX; the call's hook knows what to expect. At
// faults, R15 says where to go on. No vector register is touched by the kernel, so XMM7 tells the contexts apart.
global_asm!(
    r#"
    .section .rodata.user_test, "a", @progbits
    .global user_test_start
    .global user_test_end
user_test_start:
    movq xmm7, rdi
    mov rbx, 0x1b
    mov rsi, 0x51
    mov rbp, 0xb0
    mov r8, 0x8
    mov r9, 0x9
    mov r10, 0x10
    mov r12, 0x12
    mov r13, 0x13
    mov r14, rdi
    mov r15, 0x15
    lea rsp, [rip + user_test_start + 4096]
    mov eax, 1
    syscall
    // What came back, and what must not have changed.
    add rax, rbx
    add rax, rsi
    add rax, rbp
    add rax, r8
    add rax, r9
    add rax, r10
    add rax, r12
    add rax, r13
    add rax, r15
    add rax, rdx
    mov rdi, rax
    movq rsi, xmm7
    mov eax, 2
    syscall
    lea r15, [rip + 2f]
    ud2
2:  lea r15, [rip + 3f]
    mov rax, [0x123]
3:  lea r15, [rip + 4f]
    cli
4:  lea r15, [rip + 5f]
    int3
5:  lea r15, [rip + 6f]
    mov rax, 0x7ffffffff000
    mov byte ptr [rax], 1
6:  lea r15, [rip + 7f]
    xor eax, eax
    div eax
7:  pushfq
    or qword ptr [rsp], 0x40400
    popfq
    mov eax, 3
    syscall
    // Flags have come back: AC and DF.
    pushfq
    pop rdi
    and edi, 0x40400
    mov eax, 4
    syscall
    cld
    // Until a timer sends us on.
    lea r15, [rip + 9f]
    mov eax, 5
    syscall
8:  inc rbx
    jmp 8b
9:  movq rsi, xmm7
    mov rdi, r14
    mov eax, 6
    syscall
    ud2
user_test_end:
    "#
);

// SAFETY: labels of the assembly above; only their addresses are taken.
unsafe extern "C" {
    static user_test_start: u8;
    static user_test_end: u8;
}

static HOOKS: Hooks = Hooks { call, fault, interrupt, schedule, resolve: |_, _, _| false, start: |_| {} };

static CONTEXTS: [AtomicPtr<UserContext>; 2] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 2];
static TURN: AtomicU64 = AtomicU64::new(0);
/// Vectors of the faults seen, in the order of the program, for both contexts: one digit in base 32 each.
static FAULTS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static ENDED: AtomicU64 = AtomicU64::new(0);
/// FS bases that the contexts set.
const FS_BASE: u64 = 0x1234_5000;

fn user_state_survives(_: &'static Boot) -> Result<(), String> {
    entry::install(&HOOKS);
    let root = make_root()?;
    let frame = frames::allocate_zeroed(Claim::User).ok_or("no frame")?;
    let (start, end) = (&raw const user_test_start, &raw const user_test_end);
    // SAFETY: the program is read-only data of the kernel, shorter than a page; the frame is the test's own.
    unsafe { core::ptr::copy_nonoverlapping(start, frame.pointer(), end as usize - start as usize) };
    set_leaf(frame.address());
    for (number, context) in (0..).zip(&CONTEXTS) {
        let registers =
            Registers { rip: USER, rdi: number, fs_base: FS_BASE + number, ..Registers::default() };
        let new = UserContext::new(registers, root.clone()).map_err(|error| format!("{error}"))?;
        context.store(Box::into_raw(Box::new(new)), Ordering::Relaxed);
    }
    entry::run(crate::machine::cpu::current())
}

fn expect(what: &str, found: u64, expected: u64) {
    if found != expected {
        finish(Err(format!("{what}: {found:#x} instead of {expected:#x}")));
    }
}

fn check_kernel_flags() {
    // AC would let the kernel touch user memory by mistake; DF would turn its copies round.
    expect("kernel flags", x86_64::registers::rflags::read_raw() & 0x4_0400, 0);
}

fn call(cpu: &'static Cpu, user: &mut UserContext) {
    check_kernel_flags();
    let r = &mut user.registers;
    let number = r.r14;
    match r.rax {
        1 => {
            for (what, found, expected) in [
                ("rbx", r.rbx, 0x1b),
                ("rsi", r.rsi, 0x51),
                ("rdi", r.rdi, number),
                ("rbp", r.rbp, 0xb0),
                ("r8", r.r8, 8),
                ("r9", r.r9, 9),
                ("r10", r.r10, 0x10),
                ("r12", r.r12, 0x12),
                ("r13", r.r13, 0x13),
                ("r15", r.r15, 0x15),
            ] {
                expect(what, found, expected);
            }
            (r.rax, r.rdx) = (0x1000, 0x20000);
        }
        2 => {
            let sum = 0x1000 + 0x20000 + 0x1b + 0x51 + 0xb0 + 8 + 9 + 0x10 + 0x12 + 0x13 + 0x15;
            expect("registers after a call", r.rdi, sum);
            expect("xmm7 after a switch", r.rsi, number);
        }
        3 => expect("flags at a call", r.rflags & 0x4_0400, 0x4_0400),
        4 => expect("flags after a call", r.rdi, 0x4_0400),
        5 => timer::arm(clock::now_ns() + 2_000_000),
        6 => {
            expect("xmm7 at the end", r.rsi, number);
            expect("rdi at the end", r.rdi, number);
            let fault_vectors = [6, 14, 13, 3, 14, 0].into_iter().fold(1, |all, vector| all << 5 | vector);
            expect("faults", FAULTS[number as usize].load(Ordering::Relaxed), fault_vectors);
            entry::detach(cpu);
            expect("fs base", user.registers.fs_base, FS_BASE + number);
            if ENDED.fetch_add(1, Ordering::Relaxed) == 1 {
                finish(Ok(()));
            }
            CONTEXTS[number as usize].store(core::ptr::null_mut(), Ordering::Relaxed);
            return;
        }
        other => expect("call number", other, 0),
    }
    // The other one's turn.
    if user.registers.rax != 5 {
        entry::detach(cpu);
        TURN.fetch_add(1, Ordering::Relaxed);
    }
}

fn fault(cpu: &'static Cpu, user: &mut UserContext, trap: Trap) {
    check_kernel_flags();
    let vectors = &FAULTS[user.registers.r14 as usize];
    let before = vectors.load(Ordering::Relaxed).max(1);
    vectors.store(before << 5 | u64::from(trap.vector), Ordering::Relaxed);
    if trap.vector == 14 {
        let write = trap.access() == entry::Access::Write;
        expect("fault address", trap.address, if write { 0x7fff_ffff_f000 } else { 0x123 });
    }
    user.registers.rip = user.registers.r15;
    entry::detach(cpu);
    TURN.fetch_add(1, Ordering::Relaxed);
}

fn interrupt(cpu: &'static Cpu, interrupt: Interrupt) {
    check_kernel_flags();
    let Some(user) = entry::current(cpu) else { return };
    // SAFETY: the current context, of which the machine holds no reference while it calls this hook.
    let registers = unsafe { &mut (*user).registers };
    if interrupt == Interrupt::Timer && registers.rax == 5 {
        registers.rip = registers.r15;
        entry::detach(cpu);
        TURN.fetch_add(1, Ordering::Relaxed);
    }
}

fn schedule(cpu: &'static Cpu) -> Next {
    if let Some(context) = entry::current(cpu) {
        return Next::User(context);
    }
    let turn = TURN.load(Ordering::Relaxed) as usize;
    let next = [turn % 2, (turn + 1) % 2].map(|at| CONTEXTS[at].load(Ordering::Relaxed));
    match next.into_iter().find(|context| !context.is_null()) {
        Some(context) => Next::User(context),
        None => finish(Err(String::from("no context left"))),
    }
}
