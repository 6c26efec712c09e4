//! Upcalls: a fault is handed to the thread's own handler, with all that is needed to go on.

use alloc::vec::Vec;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use twizzler_abi::Error;
use twizzler_abi::thread::{FaultInfo, ThreadState, UpcallFrame};
use zerocopy::{FromZeros, IntoBytes};

use super::Thread;
use super::spawn::is_user;
use crate::machine::cpu::Cpu;
use crate::machine::entry::{self, UserContext};
use crate::machine::{user, vector};

/// Vector state is aligned so (Intel SDM volume 1, section 13.4).
const VECTOR_ALIGN: u64 = 64;

/// Sets where faults of this thread go.
pub(crate) fn set_handler(thread: &Thread, handler: u64, stack: u64) -> Result<(), Error> {
    if !is_user(handler) || !is_user(stack) {
        return Err(Error::InvalidArgument);
    }
    thread.handler_stack.store(stack, Ordering::Relaxed);
    thread.handler.store(handler, Ordering::Relaxed);
    thread.state().set(offset_of!(ThreadState, handler), handler);
    thread.state().set(offset_of!(ThreadState, handler_stack), stack);
    Ok(())
}

/// Turns the thread to its handler. False if it has none, is in it already, or its stack can't be written.
pub(super) fn deliver(
    cpu: &'static Cpu,
    thread: &Thread,
    context: &mut UserContext,
    fault: FaultInfo,
) -> bool {
    let handler = thread.handler.load(Ordering::Relaxed);
    if handler == 0 || thread.in_upcall.load(Ordering::Relaxed) {
        return false;
    }
    let top = thread.handler_stack.load(Ordering::Relaxed);
    let Some((vector_at, frame_at)) = places(top) else { return false };
    let frame = UpcallFrame {
        fault,
        registers: context.registers,
        vector_state: vector_at,
        vector_state_bytes: vector::area_bytes() as u64,
    };
    // From the CPU's registers into the context.
    entry::detach(cpu);
    let written = user::copy_out(vector_at, context.vector_state())
        .and_then(|()| user::copy_out(frame_at, frame.as_bytes()));
    if written.is_err() {
        return false;
    }
    thread.in_upcall.store(true, Ordering::Relaxed);
    // As if called: the handler finds its stack 8 below a multiple of 16.
    context.registers.rsp = frame_at - 8;
    context.registers.rdi = frame_at;
    context.registers.rip = handler;
    context.registers.rflags = 0x202;
    true
}

/// Where vector state and frame go on a stack.
fn places(top: u64) -> Option<(u64, u64)> {
    let vector_at = top.checked_sub(vector::area_bytes() as u64)? & !(VECTOR_ALIGN - 1);
    let frame_at = vector_at.checked_sub(size_of::<UpcallFrame>() as u64)? & !15;
    Some((vector_at, frame_at))
}

/// Goes on as a frame says. Registers are made harmless on the way out of the kernel; vector state is
/// made so as well.
///
/// # Errors
/// [`Error::BadAddress`], or [`Error::InvalidArgument`] for vector state that the CPU would refuse.
pub(crate) fn go_on(
    cpu: &'static Cpu,
    thread: &Thread,
    context: &mut UserContext,
    at: u64,
) -> Result<(), Error> {
    let mut frame = UpcallFrame::new_zeroed();
    user::copy_in(frame.as_mut_bytes(), at)?;
    if frame.vector_state_bytes != vector::area_bytes() as u64 || !is_user(frame.registers.rip) {
        return Err(Error::InvalidArgument);
    }
    let mut state = Vec::new();
    state.try_reserve_exact(vector::area_bytes()).map_err(|_| Error::OutOfMemory)?;
    state.resize(vector::area_bytes(), 0);
    user::copy_in(&mut state, frame.vector_state)?;
    entry::detach(cpu);
    context.set_vector_state(&state)?;
    let bases = (context.registers.fs_base, context.registers.gs_base);
    context.registers = frame.registers;
    (context.registers.fs_base, context.registers.gs_base) = bases;
    thread.in_upcall.store(false, Ordering::Relaxed);
    Ok(())
}
