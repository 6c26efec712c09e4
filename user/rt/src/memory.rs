//! Bytes of mapped objects, which others may change at any time.
//!
//! Bulk copies go through string instructions that the compiler can't look into, words through atomics:
//! so whoever writes at the same time can spoil values, never memory safety.

use core::arch::asm;
use core::sync::atomic::AtomicU64;

/// Copies `bytes` to `address`.
///
/// # Safety
/// The range must be within a slot that this program has taken for a mapping, and not hold anything that
/// Rust knows of.
pub(crate) unsafe fn copy_out(bytes: &[u8], address: u64) {
    // SAFETY: reads the slice, writes what the caller promises.
    unsafe { copy(bytes.as_ptr() as u64, address, bytes.len()) }
}

/// Fills `bytes` from `address`.
///
/// # Safety
/// The range must be within a slot that this program has taken for a mapping.
pub(crate) unsafe fn copy_in(address: u64, bytes: &mut [u8]) {
    // SAFETY: writes the slice, reads what the caller promises.
    unsafe { copy(address, bytes.as_mut_ptr() as u64, bytes.len()) }
}

/// Copies, most of it in words: an emulator takes as long for a byte as for a word.
///
/// # Safety
/// `len` bytes can be read at `from` and written at `to`.
unsafe fn copy(from: u64, to: u64, len: usize) {
    // SAFETY: the caller's promise; string instructions go up (System V ABI: DF = 0).
    unsafe {
        asm!(
            "rep movsq",
            "mov rcx, {rest}",
            "rep movsb",
            rest = in(reg) len % 8,
            inout("rcx") len / 8 => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Writes zeros.
///
/// # Safety
/// As for [`copy_out`].
pub(crate) unsafe fn zero(address: u64, len_bytes: u64) {
    // SAFETY: writes what the caller promises; string instructions go up (System V ABI: DF = 0).
    unsafe {
        asm!(
            "rep stosq",
            "mov rcx, {rest}",
            "rep stosb",
            rest = in(reg) len_bytes % 8,
            inout("rcx") len_bytes / 8 => _,
            in("rax") 0_u64,
            inout("rdi") address => _,
            options(nostack, preserves_flags),
        );
    }
}

/// The word at `address`.
///
/// # Safety
/// It must be aligned and lie where the program has an object mapped for as long as the reference lives.
pub(crate) unsafe fn word<'a>(address: u64) -> &'a AtomicU64 {
    // SAFETY: the caller's promise; an atomic may be changed by others.
    unsafe { AtomicU64::from_ptr(address as *mut u64) }
}
