//! Calls: decoded here, checked and done in one file for each kind.
//!
//! Arguments are claims. Numbers become types or an error; pointers are only ever given to
//! `machine::user`, which reads and writes user memory as the thread itself could. No lock is held
//! meanwhile. A call returns a value, an error, or [`Done::Elsewhere`]: then the thread is blocked, ended
//! or has got other registers.

mod console;
mod object;
mod sync;
mod thread;

use alloc::sync::Arc;

use twizzler_abi::address::SLOTS;
use twizzler_abi::call::{Call, PowerOp, TRANSFER_BYTES_MAX};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId, Rights};

use crate::machine::cpu::Cpu;
use crate::machine::entry::UserContext;
use crate::machine::{power, random, user};
use crate::object::{nvm, registry};
use crate::thread::Thread;

/// Highest status that a host is given: beyond it are the kernel's own.
const STATUS_MAX: u64 = 63;

/// How a call that didn't fail went.
enum Done {
    /// It returns this value.
    Value(u64),
    /// The thread's registers are not to be touched.
    Elsewhere,
    /// There is more to be done: the thread makes the call again, after others that are to have the CPU.
    Again,
}

/// Bytes of the `syscall` instruction: going back by them makes the thread call again.
const SYSCALL_BYTES: u64 = 2;

/// Nothing to tell.
const DONE: Result<Done, Error> = Ok(Done::Value(0));

/// Who calls.
struct Caller<'a> {
    cpu: &'static Cpu,
    thread: &'a Arc<Thread>,
    context: &'a mut UserContext,
}

/// Serves the call that is in the thread's registers.
pub(crate) fn dispatch(cpu: &'static Cpu, thread: &Arc<Thread>, context: &mut UserContext) {
    let r = context.registers;
    let mut caller = Caller { cpu, thread, context };
    let done = match Call::try_from(r.rax) {
        Ok(call) => serve(call, &mut caller, [r.rdi, r.rsi, r.rdx, r.r10, r.r8]),
        Err(_) => Err(Error::NoSuchCall),
    };
    let registers = &mut caller.context.registers;
    match done {
        Ok(Done::Value(value)) => (registers.rax, registers.rdx) = (0, value),
        Err(error) => (registers.rax, registers.rdx) = (error as u64, 0),
        Ok(Done::Elsewhere) => {}
        Ok(Done::Again) => registers.rip -= SYSCALL_BYTES,
    }
}

fn serve(call: Call, caller: &mut Caller<'_>, [a, b, c, d, e]: [u64; 5]) -> Result<Done, Error> {
    match call {
        Call::Create => object::create(a, b),
        Call::Delete => object::delete(id(a, b)),
        Call::Stat => object::stat(a, id(b, c), d),
        Call::Control => object::control(a, id(b, c), d, e),
        Call::Invalidate => invalidate(caller, id(a, b), c, d),
        Call::ThreadSpawn => thread::spawn(caller, a, b),
        Call::ThreadControl => thread::control(caller, [a, b, c, d]),
        Call::ThreadSync => sync::sync(caller, a, b, c),
        Call::Random => fill_random(a, b),
        Call::Console => console::console(caller, a, b, c),
        Call::Power => power_off(a, b),
        Call::Commit | Call::Context | Call::GateCall | Call::GateReturn | Call::Device => {
            Err(Error::NotSupported)
        }
    }
}

const fn id(hi: u64, lo: u64) -> ObjId {
    ObjId { hi, lo }
}

fn invalidate(caller: &Caller<'_>, view: ObjId, first: u64, slots: u64) -> Result<Done, Error> {
    let (Ok(first), Ok(slots)) = (u32::try_from(first), u32::try_from(slots)) else {
        return Err(Error::OutOfRange);
    };
    if first.checked_add(slots).is_none_or(|end| end > SLOTS) {
        return Err(Error::OutOfRange);
    }
    if slots == 0 {
        return DONE;
    }
    if view.is_none() || view == caller.thread.view.object.id {
        caller.thread.view.invalidate(first, slots)?;
        return DONE;
    }
    let object = registry::find(view)?;
    if !object.flags().contains(ObjectFlags::VIEW) {
        return Err(Error::WrongType);
    }
    object.check(Rights::WRITE)?;
    if let Some(view) = object.with_view(|view| view.clone())? {
        view.invalidate(first, slots)?;
    }
    DONE
}

// Like all that have buffers: not to be part of every call's stack frame.
#[inline(never)]
fn fill_random(address: u64, bytes: u64) -> Result<Done, Error> {
    let mut buffer = [0; TRANSFER_BYTES_MAX as usize];
    let buffer = part(&mut buffer, bytes)?;
    random::fill(buffer);
    user::copy_out(address, buffer)?;
    DONE
}

/// As much of a buffer as a transfer wants.
fn part(buffer: &mut [u8; TRANSFER_BYTES_MAX as usize], bytes: u64) -> Result<&mut [u8], Error> {
    let bytes = usize::try_from(bytes).map_err(|_| Error::TooLong)?;
    buffer.get_mut(..bytes).ok_or(Error::TooLong)
}

fn power_off(op: u64, status: u64) -> Result<Done, Error> {
    let PowerOp::Off = PowerOp::try_from(op)?;
    if status > STATUS_MAX {
        return Err(Error::InvalidArgument);
    }
    nvm::close();
    power::off(status as u32)
}
