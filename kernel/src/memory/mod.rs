//! Physical memory: frames, the kernel's own mappings, DRAM and NVM as regions.
//!
//! The upper half of the address space, alike in all roots:
//!
//! | from | what | rights |
//! |---|---|---|
//! | `0xffff_8000_0000_0000` | direct map ([`direct`]) | DRAM: read, write; kernel image, firmware, NVM: read |
//! | `0xffff_f000_0000_0000` | stacks, each above a page that is not mapped ([`stacks`]) | read, write |
//! | `0xffff_f040_0000_0000` | write windows, one page for each CPU ([`window`]) | write, while one is open |
//! | `0xffff_ffff_8000_0000` | kernel image | by section |
//!
//! The heap ([`heap`]) takes blocks of frames where the direct map has them.

use core::arch::asm;

pub(crate) mod direct;
pub(crate) mod dram;
pub(crate) mod frames;
pub(crate) mod heap;
pub(crate) mod nvm;
pub(crate) mod paging;
pub(crate) mod stacks;
pub(crate) mod start;
pub(crate) mod window;

/// Copies memory that others may write at the same time: each byte is moved once, by words and then by bytes.
///
/// # Safety
/// `from` must be readable and `to` writable for `bytes`, and no Rust reference may be invalidated by the write.
pub(crate) unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsq", "mov rcx, {rest}", "rep movsb", rest = in(reg) bytes % 8,
            inout("rsi") from => _, inout("rdi") to => _, inout("rcx") bytes / 8 => _,
            options(nostack, preserves_flags));
    }
}

/// Writes zeros, like [`copy`].
///
/// # Safety
/// `to` must be writable for `bytes`, and no Rust reference may be invalidated by the write.
pub(crate) unsafe fn zero(to: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep stosq", "mov rcx, {rest}", "rep stosb", rest = in(reg) bytes % 8,
            in("rax") 0u64, inout("rdi") to => _, inout("rcx") bytes / 8 => _,
            options(nostack, preserves_flags));
    }
}
