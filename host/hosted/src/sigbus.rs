//! What happens when the host can't give a page of a mapped object: the file was cut short behind our back, the disk fails, or it is full
//! where a program stored to a page that it had not made to exist.
//!
//! The host sends SIGBUS. A load can't return an error, and going on with zeros would turn a fault into silence, so the process
//! stops; but it says which object, where, and what to do. Faults elsewhere go to whoever handled them before.

use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};

use twizzler_abi::address::{LARGE_SLOTS, SMALL_SLOTS, Slot, range_start};

/// Who handled SIGBUS before us.
static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(std::ptr::null_mut());

/// From now on, a page that can't be had is explained. Does it once for the process.
pub(crate) fn explain() {
    survive_file_size_limits();
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut before = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: all zeros is a `sigaction`: no flags, an empty mask.
        let mut ours = unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() };
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = stop;
        ours.sa_sigaction = handler as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: both are `sigaction`s of ours; the handler does what a handler may.
        if unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, before.as_mut_ptr()) } == 0 {
            // SAFETY: zeroed at first, and filled by the call.
            let before = Box::new(unsafe { before.assume_init() });
            // Kept for the life of the process, as handlers are.
            BEFORE.store(Box::into_raw(before), Ordering::Release);
        }
    });
}

/// From now on, a file that grows beyond the process's limit (`RLIMIT_FSIZE`) is an error of the call, like a full disk, and does not end the
/// process by SIGXFSZ. Where somebody handles that signal, nothing changes. Opening a store does this.
pub fn survive_file_size_limits() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the signal is ignored from now on, which calls no code.
        let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        if before != libc::SIG_DFL && before != libc::SIG_ERR {
            // SAFETY: back to what was there.
            unsafe { libc::signal(libc::SIGXFSZ, before) };
        }
    });
}

/// Handles SIGBUS: only calls that a signal handler may make (signal-safety(7)), no allocation.
extern "C" fn stop(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the host hands over a valid one (`SA_SIGINFO`).
    let info = unsafe { &*info };
    // SAFETY: SIGBUS has an address.
    let address = unsafe { info.si_addr() } as u64;
    // Nothing else of a Linux process lies in these slots.
    if Slot::of(address)
        .is_some_and(|slot| [SMALL_SLOTS, LARGE_SLOTS].iter().any(|area| area.contains(&slot.number())))
    {
        let mut text = Text::default();
        text.add("twizzler: a page of a mapped object can't be had (SIGBUS): offset 0x");
        text.add_hex(address - range_start(address));
        text.add(" of the object at 0x");
        text.add_hex(range_start(address));
        text.add(".\nIts file was cut short, or the disk failed or is full. What was committed is in the store's log; ");
        text.add("`twz check` tells which object it is.\n");
        // SAFETY: `write` may be called from handlers; the bytes are ours.
        unsafe { libc::write(2, text.bytes.as_ptr().cast(), text.len) };
    }
    let before = BEFORE.load(Ordering::Acquire);
    // SAFETY: null, or what `explain` leaked, which nobody changes.
    match unsafe { before.as_ref() } {
        // Back to who was there; the access happens again when we return.
        // SAFETY: a `sigaction` that the host gave us.
        Some(before) => unsafe { libc::sigaction(signal, before, std::ptr::null_mut()) },
        // SAFETY: the default action for our signal.
        None => unsafe { libc::signal(signal, libc::SIG_DFL) as libc::c_int },
    };
}

/// Text without allocation.
struct Text {
    bytes: [u8; 400],
    len: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self { bytes: [0; 400], len: 0 }
    }
}

impl Text {
    fn add(&mut self, text: &str) {
        for &byte in text.as_bytes() {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
                self.len += 1;
            }
        }
    }

    fn add_hex(&mut self, number: u64) {
        let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
        for digit in (0..digits).rev() {
            let value = (number >> (digit * 4)) as usize & 15;
            self.add(&"0123456789abcdef"[value..=value]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for number in [0, 1, 0x10, 0x7fff_dead_beef, u64::MAX] {
            let mut text = Text::default();
            text.add_hex(number);
            assert_eq!(std::str::from_utf8(&text.bytes[..text.len]), Ok(format!("{number:x}").as_str()));
        }
    }

    #[test]
    fn what_does_not_fit_is_cut() {
        let mut text = Text::default();
        text.add(&"x".repeat(1000));
        assert_eq!(text.len, 400);
    }
}
