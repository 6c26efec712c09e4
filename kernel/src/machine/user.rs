//! The one way by which the kernel touches user memory: checked, and with a way out of faults.
//!
//! A copy runs at user addresses in the current context's root. A page fault in it asks
//! [`super::entry::Hooks::resolve`]; if that can't map the page, the copy ends with [`Error::BadAddress`].
//! Hold no lock that `resolve` takes. The bytes copied before the fault have been copied.

use core::arch::global_asm;

use twizzler_abi::Error;

use super::cpu::Cpu;
use super::entry::{self, Access, PAGE_FAULT, USER_END};
use super::entry_asm::KernelFrame;
use super::features;

// All instructions that touch user memory lie between `user_access_start` and `user_access_end`. Each function
// returns 0, or, by way of `user_access_failed`, 1. None uses the stack in between.
global_asm!(
    r#"
    .section .text
user_access_start:
    // rdi: to; rsi: from; rdx: bytes; rcx: smap
    .global user_copy
user_copy:
    test ecx, ecx
    jz 2f
    stac
2:
    mov eax, ecx
    mov rcx, rdx
    shr rcx, 3
    rep movsq
    mov rcx, rdx
    and ecx, 7
    rep movsb
    test eax, eax
    jz 3f
    clac
3:
    xor eax, eax
    ret

    // rdi: user address; rsi: *mut u64; ecx: smap
    .global user_load
user_load:
    test ecx, ecx
    jz 2f
    stac
    mov rax, [rdi]
    clac
    mov [rsi], rax
    xor eax, eax
    ret
2:
    mov rax, [rdi]
    mov [rsi], rax
    xor eax, eax
    ret

    // rdi: user address; rsi: value; ecx: smap
    .global user_store
user_store:
    test ecx, ecx
    jz 2f
    stac
    mov [rdi], rsi
    clac
    xor eax, eax
    ret
2:
    mov [rdi], rsi
    xor eax, eax
    ret
user_access_end:

user_access_failed:
    mov eax, 1
    ret
    "#
);

// SAFETY: labels of the assembly above: the first three take their arguments and answer as it says, of the others only the
// addresses are taken.
unsafe extern "C" {
    fn user_copy(to: *mut u8, from: *const u8, bytes: usize, smap: u32) -> u32;
    fn user_load(from: u64, value: *mut u64, unused: u64, smap: u32) -> u32;
    fn user_store(to: u64, value: u64, unused: u64, smap: u32) -> u32;
    fn user_access_start();
    fn user_access_end();
    fn user_access_failed();
}

/// Copies from user memory.
///
/// # Errors
/// [`Error::BadAddress`] if it isn't all in the lower half, mapped or mappable, and readable.
pub(crate) fn copy_in(buffer: &mut [u8], address: u64) -> Result<(), Error> {
    check_range(address, buffer.len() as u64)?;
    // SAFETY: the destination is `buffer`; the source lies in the lower half, where faults are recovered from.
    done(unsafe { user_copy(buffer.as_mut_ptr(), address as *const u8, buffer.len(), smap()) })
}

/// Copies to user memory.
///
/// # Errors
/// [`Error::BadAddress`] if it isn't all in the lower half, mapped or mappable, and writable.
pub(crate) fn copy_out(address: u64, bytes: &[u8]) -> Result<(), Error> {
    check_range(address, bytes.len() as u64)?;
    // SAFETY: the source is `bytes`; the destination lies in the lower half: user memory, of which the kernel holds no
    // references, and where faults are recovered from.
    done(unsafe { user_copy(address as *mut u8, bytes.as_ptr(), bytes.len(), smap()) })
}

/// Loads an aligned word of user memory, at once.
///
/// # Errors
/// [`Error::BadAddress`] as for [`copy_in`], or if it isn't aligned.
pub(crate) fn load_word(address: u64) -> Result<u64, Error> {
    check_word(address)?;
    let mut value = 0;
    // SAFETY: as in `copy_in`.
    done(unsafe { user_load(address, &mut value, 0, smap()) })?;
    Ok(value)
}

/// Stores an aligned word of user memory, at once.
///
/// # Errors
/// [`Error::BadAddress`] as for [`copy_out`], or if it isn't aligned.
pub(crate) fn store_word(address: u64, value: u64) -> Result<(), Error> {
    check_word(address)?;
    // SAFETY: as in `copy_out`.
    done(unsafe { user_store(address, value, 0, smap()) })
}

/// Stores a word at any address, for tests of what is protected from the kernel itself.
///
/// # Safety
/// The store must fault, or be allowed.
pub(crate) unsafe fn store_word_anywhere(address: u64, value: u64) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    done(unsafe { user_store(address, value, 0, smap()) })
}

fn check_range(address: u64, len_bytes: u64) -> Result<(), Error> {
    match address.checked_add(len_bytes) {
        Some(end) if end <= USER_END => Ok(()),
        _ => Err(Error::BadAddress),
    }
}

fn check_word(address: u64) -> Result<(), Error> {
    if address.is_multiple_of(8) { check_range(address, 8) } else { Err(Error::BadAddress) }
}

fn smap() -> u32 {
    u32::from(features::smap())
}

fn done(status: u32) -> Result<(), Error> {
    if status == 0 { Ok(()) } else { Err(Error::BadAddress) }
}

/// Handles an exception in the kernel if it is one of a user access: maps the page, or makes the access fail.
pub(super) fn recover(cpu: &'static Cpu, frame: &mut KernelFrame, address: u64) -> bool {
    let range = user_access_start as *const () as u64..user_access_end as *const () as u64;
    if !range.contains(&frame.rip) {
        return false;
    }
    let access = if frame.error & 2 != 0 { Access::Write } else { Access::Read };
    let resolved = frame.vector == u64::from(PAGE_FAULT)
        && address < USER_END
        && (entry::hooks().resolve)(cpu, address, access);
    if !resolved {
        frame.rip = user_access_failed as *const () as u64;
        frame.rflags &= !AC;
    }
    true
}

const AC: u64 = 1 << 18;
