//! The one instruction that enters the kernel.

use core::arch::asm;

/// Enters the kernel with a number and six words. Returns RAX and RDX.
///
/// # Safety
/// The kernel may read and write memory of this program as the call's documentation says: what it may
/// write must be memory that the caller may write, and that nobody else looks at meanwhile.
pub unsafe fn raw(number: u64, arguments: [u64; 6]) -> (u64, u64) {
    let [rdi, rsi, mut rdx, r10, r8, r9] = arguments;
    let mut rax = number;
    // SAFETY: the kernel keeps all registers but RAX, RDX, RCX and R11 (`twizzler_abi::call`), and the stack;
    // what it does to memory is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") rax,
            in("rdi") rdi,
            in("rsi") rsi,
            inlateout("rdx") rdx,
            in("r10") r10,
            in("r8") r8,
            in("r9") r9,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    (rax, rdx)
}
