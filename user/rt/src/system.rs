//! What the kernel publishes: the clock, counters, the command line, threads.

use alloc::string::String;
use alloc::vec::Vec;
use core::arch::x86_64::_rdtsc;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use twizzler_abi::ObjId;
use twizzler_abi::address::band;
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::system::{CMDLINE_BYTES, System, THREADS_MAX};

use crate::memory;

/// The address of a field of the system object.
const fn address(offset: usize) -> u64 {
    band::SYSTEM.base() + BASE_OFFSET + offset as u64
}

/// A word that the kernel keeps up to date, by its offset in [`System`].
///
/// # Panics
/// Where there is no whole word at the offset.
#[must_use]
pub fn word(offset: usize) -> u64 {
    assert!(offset.is_multiple_of(8) && offset < size_of::<System>(), "the offset of a word");
    // SAFETY: the system object is mapped from before the program starts until it ends; aligned, as checked.
    unsafe { memory::word(address(offset)) }.load(Ordering::Relaxed)
}

/// Loads a word of the system object by its field's name.
#[macro_export]
macro_rules! system_word {
    ($field:ident) => {
        $crate::system::word(core::mem::offset_of!($crate::abi::system::System, $field))
    };
}

/// Nanoseconds since boot.
#[must_use]
pub fn now_ns() -> u64 {
    // SAFETY: the kernel leaves RDTSC allowed in ring 3.
    let tsc = unsafe { _rdtsc() };
    let ticks = u128::from(tsc.wrapping_sub(system_word!(tsc_base)));
    ((ticks * u128::from(system_word!(tsc_multiplier))) >> 32) as u64
}

/// Address of the word that counts presses of Ctrl-C, to wait on.
#[must_use]
pub const fn interrupts_address() -> u64 {
    address(offset_of!(System, console_interrupts))
}

/// The root of the persistent names, or [`ObjId::NONE`].
#[must_use]
pub fn names_root() -> ObjId {
    id(offset_of!(System, names_root))
}

/// IDs of the threads that live.
#[must_use]
pub fn threads() -> Vec<ObjId> {
    let len = (system_word!(threads_len) as usize).min(THREADS_MAX);
    let at = |index| id(offset_of!(System, threads) + index * size_of::<ObjId>());
    (0..len).map(at).filter(|id| !id.is_none()).collect()
}

fn id(offset: usize) -> ObjId {
    ObjId { hi: word(offset), lo: word(offset + 8) }
}

/// The kernel's command line.
#[must_use]
pub fn command_line() -> String {
    let mut bytes = [0; CMDLINE_BYTES];
    // SAFETY: in the system object, which is mapped as long as the program runs.
    unsafe { memory::copy_in(address(offset_of!(System, cmdline)), &mut bytes) };
    let len = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

/// The store's UUID.
#[must_use]
pub fn store_uuid() -> [u8; 16] {
    let mut bytes = [0; 16];
    // SAFETY: in the system object, which is mapped as long as the program runs.
    unsafe { memory::copy_in(address(offset_of!(System, store_uuid)), &mut bytes) };
    bytes
}
