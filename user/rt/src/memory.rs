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
    // SAFETY: reads the slice, writes what the caller promises; string instructions go up (System V ABI: DF = 0).
    unsafe {
        asm!("rep movsb", inout("rcx") bytes.len() => _, inout("rsi") bytes.as_ptr() => _, inout("rdi") address => _,
            options(nostack, preserves_flags));
    }
}

/// Fills `bytes` from `address`.
///
/// # Safety
/// The range must be within a slot that this program has taken for a mapping.
pub(crate) unsafe fn copy_in(address: u64, bytes: &mut [u8]) {
    // SAFETY: writes the slice, reads what the caller promises; string instructions go up (System V ABI: DF = 0).
    unsafe {
        asm!("rep movsb", inout("rcx") bytes.len() => _, inout("rsi") address => _, inout("rdi") bytes.as_mut_ptr() => _,
            options(nostack, preserves_flags));
    }
}

/// Writes zeros.
///
/// # Safety
/// As for [`copy_out`].
pub(crate) unsafe fn zero(address: u64, len_bytes: u64) {
    // SAFETY: writes what the caller promises; string instructions go up (System V ABI: DF = 0).
    unsafe {
        asm!("rep stosb", inout("rcx") len_bytes => _, in("al") 0u8, inout("rdi") address => _,
            options(nostack, preserves_flags));
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
