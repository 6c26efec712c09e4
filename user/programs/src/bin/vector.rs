//! Checks that vector and floating-point state survives: threads fill their registers with patterns of their own, are
//! preempted or yield, and look again. `selftest` runs it: native programs use no such registers otherwise.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::vec::Vec;
use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::mem::offset_of;

use twizzler_rt::{call, eprintln, exit, println, system, thread};

twizzler_rt::program!(run);

/// Threads at once: more than there are CPUs, so that they take turns.
const THREADS: u64 = 8;
/// How long each goes on: many times a turn.
const RUN_NS: u64 = 300_000_000;
/// Rounds of idle spinning between filling the registers and looking again.
const SPIN: u64 = 200_000;

/// What a thread keeps in its registers.
#[repr(C, align(32))]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pattern {
    vectors: [[u64; 4]; 8],
    /// Control and status of SSE: exceptions masked, rounding by thread.
    mxcsr: u32,
    /// Control word of the x87: precision and rounding by thread.
    control: u16,
    /// What lies on the x87 stack.
    number: u64,
}

impl Pattern {
    fn new(thread: u64, round: u64) -> Self {
        let word = |n: u64| (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ thread << 56 ^ round;
        Self {
            vectors: core::array::from_fn(|i| core::array::from_fn(|j| word(i as u64 * 4 + j as u64))),
            mxcsr: 0x1f80 | ((thread as u32 & 3) << 13),
            control: 0x037f | ((thread as u16 & 3) << 10),
            number: thread << 32 | round,
        }
    }

    const ZERO: Self = Self { vectors: [[0; 4]; 8], mxcsr: 0, control: 0, number: 0 };
}

/// True where the processor has AVX and the kernel has switched it on (Intel SDM volume 1, section 14.3).
fn has_avx() -> bool {
    let features = __cpuid(1).ecx;
    if features & 1 << 27 == 0 || features & 1 << 28 == 0 {
        return false;
    }
    let enabled: u32;
    // SAFETY: OSXSAVE says that the instruction is there; it reads register 0, which always exists.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") enabled, out("edx") _, options(nomem, nostack)) };
    enabled & 6 == 6
}

/// What happens between filling the registers and looking again.
extern "C" fn give_way() {
    call::thread_yield();
}

/// Fills the registers from `from`, spins and gives way, and stores what they hold then. AVX: all 32 bytes of each vector.
fn round_trip(from: &Pattern, avx: bool) -> Pattern {
    let mut to = Pattern::ZERO;
    // SAFETY: reads `from` and writes `to` within their sizes; changes registers that it names or that the called function may
    // change by its ABI; takes off the x87 stack what it puts there.
    unsafe {
        asm!(
            "ldmxcsr [r12 + {mxcsr}]",
            "fldcw [r12 + {control}]",
            "fild qword ptr [r12 + {number}]",
            "test r15d, r15d",
            "jz 2f",
            "vmovdqu ymm0, [r12 + 0]", "vmovdqu ymm1, [r12 + 32]", "vmovdqu ymm2, [r12 + 64]", "vmovdqu ymm3, [r12 + 96]", "vmovdqu ymm12, [r12 + 128]", "vmovdqu ymm13, [r12 + 160]", "vmovdqu ymm14, [r12 + 192]", "vmovdqu ymm15, [r12 + 224]",
            "jmp 3f",
            "2:",
            "movdqu xmm0, [r12 + 0]", "movdqu xmm1, [r12 + 32]", "movdqu xmm2, [r12 + 64]", "movdqu xmm3, [r12 + 96]", "movdqu xmm12, [r12 + 128]", "movdqu xmm13, [r12 + 160]", "movdqu xmm14, [r12 + 192]", "movdqu xmm15, [r12 + 224]",
            "3:",
            "dec r14",
            "jnz 3b",
            "call {give_way}",
            "test r15d, r15d",
            "jz 4f",
            "vmovdqu [r13 + 0], ymm0", "vmovdqu [r13 + 32], ymm1", "vmovdqu [r13 + 64], ymm2", "vmovdqu [r13 + 96], ymm3", "vmovdqu [r13 + 128], ymm12", "vmovdqu [r13 + 160], ymm13", "vmovdqu [r13 + 192], ymm14", "vmovdqu [r13 + 224], ymm15",
            "jmp 5f",
            "4:",
            "movdqu [r13 + 0], xmm0", "movdqu [r13 + 32], xmm1", "movdqu [r13 + 64], xmm2", "movdqu [r13 + 96], xmm3", "movdqu [r13 + 128], xmm12", "movdqu [r13 + 160], xmm13", "movdqu [r13 + 192], xmm14", "movdqu [r13 + 224], xmm15",
            "5:",
            "stmxcsr [r13 + {mxcsr}]",
            "fnstcw [r13 + {control}]",
            "fistp qword ptr [r13 + {number}]",
            give_way = sym give_way,
            mxcsr = const offset_of!(Pattern, mxcsr),
            control = const offset_of!(Pattern, control),
            number = const offset_of!(Pattern, number),
            in("r12") &raw const *from,
            in("r13") &raw mut to,
            inout("r14") SPIN => _,
            in("r15") u64::from(avx),
            clobber_abi("sysv64"),
        );
    }
    to
}

/// Rounds until the time is up; the first difference, if there is one.
fn work(thread: u64, avx: bool) -> Result<u64, u64> {
    let end = system::now_ns() + RUN_NS;
    let mut round = 0;
    while system::now_ns() < end {
        let mut wanted = Pattern::new(thread, round);
        let found = round_trip(&wanted, avx);
        if !avx {
            wanted.vectors.iter_mut().for_each(|vector| vector[2..].fill(0));
        }
        // Conversions may have set the flags of what was inexact.
        if (Pattern { mxcsr: found.mxcsr & !0x3f, ..found }) != wanted {
            return Err(round);
        }
        round += 1;
    }
    Ok(round)
}

fn run() -> u64 {
    let avx = has_avx();
    let handles = (0..THREADS).map(|n| thread::spawn("vectors", move || work(n, avx)));
    let handles: Vec<_> = match handles.collect() {
        Ok(handles) => handles,
        Err(error) => {
            eprintln!("vector: can't start a thread: {error}");
            return exit::FAILURE;
        }
    };
    let mut status = exit::SUCCESS;
    let mut rounds = 0;
    for (thread, handle) in handles.into_iter().enumerate() {
        match handle.join() {
            Ok(Ok(done)) => rounds += done,
            Ok(Err(round)) => {
                eprintln!("vector: thread {thread} found other values in its registers in round {round}");
                status = exit::FAILURE;
            }
            Err(end) => {
                eprintln!("vector: thread {thread} ended: {end:?}");
                status = exit::FAILURE;
            }
        }
    }
    let registers = if avx { "256-bit vectors" } else { "128-bit vectors" };
    println!("vector: {registers}, {THREADS} threads, {rounds} rounds");
    status
}
