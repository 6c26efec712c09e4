//! Faults of this thread, handled by the program itself.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicPtr, Ordering};

use twizzler_abi::Error;
use twizzler_abi::thread::UpcallFrame;

use crate::{call, exit};

/// What a handler decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Go on with the frame's registers.
    Resume,
    /// End the thread.
    End,
}

/// A handler: may change the frame. It runs on a stack of its own, while the thread may hold any lock: so it
/// must take none that the faulting code may hold, the heap's and the console's among them.
pub type Handler = fn(&mut UpcallFrame) -> Verdict;

const STACK_BYTES: usize = 32 << 10;

static HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Sends this thread's faults to `handler`, which all threads that call this share.
///
/// Going on with other registers than the fault found is like a jump: the handler answers for it.
///
/// # Errors
/// The kernel's reason.
pub fn handle(handler: Handler) -> Result<(), Error> {
    // Release pairs with the acquire in `run`.
    HANDLER.store(handler as *mut (), Ordering::Release);
    let stack: &'static mut [u8; STACK_BYTES] = Box::leak(Box::new([0; STACK_BYTES]));
    // SAFETY: the entry keeps to the rules; the stack is leaked, so it is used for nothing else.
    unsafe { call::set_handler(entry(), stack.as_mut_ptr_range().end as u64 & !63) }
}

/// Lets faults end this thread again.
///
/// # Errors
/// The kernel's reason.
pub fn unhandle() -> Result<(), Error> {
    // SAFETY: no handler is named.
    unsafe { call::set_handler(0, 0) }
}

#[cfg(target_os = "none")]
fn entry() -> u64 {
    // SAFETY: a label of the assembly in this file; only its address is taken.
    unsafe extern "sysv64" {
        fn twizzler_upcall();
    }
    twizzler_upcall as *const () as u64
}

#[cfg(not(target_os = "none"))]
fn entry() -> u64 {
    run as *const () as u64
}

#[cfg(target_os = "none")]
core::arch::global_asm!(
    ".global twizzler_upcall",
    "twizzler_upcall:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {run}",
    "ud2",
    run = sym run,
);

extern "sysv64" fn run(frame: *mut UpcallFrame) -> ! {
    let handler = HANDLER.load(Ordering::Acquire);
    // SAFETY: set to a `Handler` before the kernel was told of this entry.
    let handler: Handler = unsafe { core::mem::transmute(handler) };
    // SAFETY: the kernel passes a frame on this stack, which is nobody else's.
    let verdict = handler(unsafe { &mut *frame });
    if verdict == Verdict::Resume {
        // SAFETY: the handler answers for what it put into the frame.
        let _ = unsafe { call::upcall_return(frame) };
    }
    call::thread_exit(exit::FAULT)
}
