//! Bytes of mapped objects, which others may change at any time.
//!
//! Bulk copies go through [`mapped`], words through atomics: so whoever writes at the same time can spoil values, never
//! memory safety.

use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use core::sync::atomic::AtomicU64;

use twizzler_pmem::mapped;

/// Copies `bytes` to `address`.
///
/// # Safety
/// The range must be within a slot that this program has taken for a mapping, and not hold anything that
/// Rust knows of.
pub(crate) unsafe fn copy_out(bytes: &[u8], address: u64) {
    // SAFETY: reads the slice, writes what the caller promises.
    unsafe { mapped::copy(bytes.as_ptr(), with_exposed_provenance_mut(address as usize), bytes.len()) }
}

/// Fills `bytes` from `address`.
///
/// # Safety
/// The range must be within a slot that this program has taken for a mapping.
pub(crate) unsafe fn copy_in(address: u64, bytes: &mut [u8]) {
    // SAFETY: writes the slice, reads what the caller promises.
    unsafe { mapped::copy(with_exposed_provenance(address as usize), bytes.as_mut_ptr(), bytes.len()) }
}

/// Writes zeros.
///
/// # Safety
/// As for [`copy_out`].
pub(crate) unsafe fn zero(address: u64, len_bytes: u64) {
    // SAFETY: writes what the caller promises.
    unsafe { mapped::zero(with_exposed_provenance_mut(address as usize), len_bytes as usize) }
}

/// The word at `address`.
///
/// # Safety
/// It must be aligned and lie where the program has an object mapped for as long as the reference lives.
pub(crate) unsafe fn word<'a>(address: u64) -> &'a AtomicU64 {
    // SAFETY: the caller's promise; an atomic may be changed by others.
    unsafe { AtomicU64::from_ptr(address as *mut u64) }
}
