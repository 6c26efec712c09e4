//! The calls, typed. One function for each call, or for each of its operations.

use core::mem::MaybeUninit;

use twizzler_abi::address::Slot;
use twizzler_abi::call::{
    Call, ConsoleOp, ControlOp, CreateSpec, ObjectStat, PowerOp, SpawnSpec, StatOp, SyncOp, ThreadOp,
};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::thread::UpcallFrame;
use twizzler_abi::{Error, ObjId, Rights};

use crate::syscall::raw;

/// A call whose arguments give the kernel nothing to write to.
fn plain(call: Call, arguments: [u64; 6]) -> Result<u64, Error> {
    // SAFETY: callers pass numbers, and addresses of memory that the kernel only reads.
    let answer = unsafe { raw(call as u64, arguments) };
    checked(answer)
}

/// A call that writes a value to the address that `arguments` is given.
fn filling<T>(
    call: Call,
    value: &mut MaybeUninit<T>,
    arguments: impl FnOnce(u64) -> [u64; 6],
) -> Result<u64, Error> {
    let address = value.as_mut_ptr() as u64;
    // SAFETY: the kernel writes one `T` to `address` at most, which is ours alone.
    let answer = unsafe { raw(call as u64, arguments(address)) };
    checked(answer)
}

fn checked((rax, rdx): (u64, u64)) -> Result<u64, Error> {
    match u32::try_from(rax) {
        Ok(0) => Ok(rdx),
        Ok(number) => Err(Error::from_number(number).unwrap_or(Error::InvalidArgument)),
        Err(_) => Err(Error::InvalidArgument),
    }
}

/// Makes an object.
///
/// # Errors
/// The kernel's reason.
pub fn create_object(spec: &CreateSpec) -> Result<ObjId, Error> {
    let mut id = MaybeUninit::new(ObjId::NONE);
    filling(Call::Create, &mut id, |out| [core::ptr::from_ref(spec) as u64, out, 0, 0, 0, 0])?;
    // SAFETY: it was initialised, and every bit pattern is an ID.
    Ok(unsafe { id.assume_init() })
}

/// Makes an object of no declared type, with a random ID.
///
/// # Errors
/// The kernel's reason.
pub fn create(flags: ObjectFlags, rights: Rights) -> Result<ObjId, Error> {
    create_object(&CreateSpec {
        nonce: [0; 16],
        owner: ObjId::NONE,
        flags: flags.bits(),
        default_rights: rights.bits(),
        fingerprint: 0,
    })
}

/// Deletes an object.
///
/// # Errors
/// The kernel's reason.
pub fn delete(id: ObjId) -> Result<(), Error> {
    plain(Call::Delete, [id.hi, id.lo, 0, 0, 0, 0]).map(drop)
}

/// Deletes an object that may be in use for a moment yet: a thread that has just ended, its stack and view.
pub fn delete_soon(id: ObjId) {
    // A thread is told to be ended a little before its CPU has let go of it.
    for _ in 0..100_000 {
        if delete(id) != Err(Error::Busy) {
            return;
        }
        thread_yield();
    }
}

/// Describes an object, or the next one after `id`.
///
/// # Errors
/// The kernel's reason.
pub fn stat(op: StatOp, id: ObjId) -> Result<ObjectStat, Error> {
    let mut stat = MaybeUninit::new(ObjectStat::default());
    filling(Call::Stat, &mut stat, |out| [op as u64, id.hi, id.lo, out, 0, 0])?;
    // SAFETY: it was initialised, and every bit pattern is a description.
    Ok(unsafe { stat.assume_init() })
}

/// All objects of one life, by ID.
pub fn objects(op: StatOp) -> impl Iterator<Item = ObjectStat> {
    let mut last = ObjId::NONE;
    core::iter::from_fn(move || {
        let next = stat(op, last).ok()?;
        last = next.id;
        Some(next)
    })
}

/// Changes an object's pages or metadata.
///
/// # Errors
/// The kernel's reason.
pub fn control(op: ControlOp, id: ObjId, a: u64, b: u64) -> Result<(), Error> {
    plain(Call::Control, [op as u64, id.hi, id.lo, a, b, 0]).map(drop)
}

/// A call that does nothing, to measure it.
pub fn nothing() {
    let _ = plain(Call::Control, [ControlOp::Nothing as u64, 0, 0, 0, 0, 0]);
}

/// Makes the kernel forget what was mapped in slots of a view.
///
/// # Errors
/// The kernel's reason.
pub fn invalidate(view: ObjId, first: Slot, slots: u64) -> Result<(), Error> {
    plain(Call::Invalidate, [view.hi, view.lo, u64::from(first.number()), slots, 0, 0]).map(drop)
}

/// Starts a thread.
///
/// # Safety
/// In this program's own view, the thread must find valid code at `entry` and a stack of its own.
///
/// # Errors
/// The kernel's reason.
pub unsafe fn thread_spawn(spec: &SpawnSpec) -> Result<ObjId, Error> {
    let mut id = MaybeUninit::new(ObjId::NONE);
    filling(Call::ThreadSpawn, &mut id, |out| [core::ptr::from_ref(spec) as u64, out, 0, 0, 0, 0])?;
    // SAFETY: it was initialised, and every bit pattern is an ID.
    Ok(unsafe { id.assume_init() })
}

/// Ends this thread at once: nothing is flushed, dropped or told to anyone.
pub fn thread_exit(code: u64) -> ! {
    loop {
        let _ = plain(Call::ThreadControl, [ThreadOp::Exit as u64, code, 0, 0, 0, 0]);
    }
}

/// Lets others run.
pub fn thread_yield() {
    let _ = plain(Call::ThreadControl, [ThreadOp::Yield as u64, 0, 0, 0, 0, 0]);
}

/// Ends another thread; with a view's ID, all threads that run in it.
///
/// # Errors
/// The kernel's reason.
pub fn thread_kill(id: ObjId) -> Result<(), Error> {
    plain(Call::ThreadControl, [ThreadOp::Kill as u64, id.hi, id.lo, 0, 0, 0]).map(drop)
}

/// Sets a thread's priority, 0 to 31.
///
/// # Errors
/// The kernel's reason.
pub fn thread_priority(id: ObjId, priority: u32) -> Result<(), Error> {
    plain(Call::ThreadControl, [ThreadOp::SetPriority as u64, id.hi, id.lo, u64::from(priority), 0, 0])
        .map(drop)
}

/// Sets where faults of this thread go.
///
/// # Safety
/// `handler` must be code that keeps to the rules of [`UpcallFrame`], `stack_top` the end of a stack that is
/// used for nothing else.
///
/// # Errors
/// The kernel's reason.
pub unsafe fn set_handler(handler: u64, stack_top: u64) -> Result<(), Error> {
    plain(Call::ThreadControl, [ThreadOp::SetHandler as u64, handler, stack_top, 0, 0, 0]).map(drop)
}

/// Goes on with the frame's state. Returns only where the kernel refuses it.
///
/// # Safety
/// The state must be one that this thread may go on with.
pub unsafe fn upcall_return(frame: *const UpcallFrame) -> Error {
    plain(Call::ThreadControl, [ThreadOp::UpcallReturn as u64, frame as u64, 0, 0, 0, 0])
        .err()
        .unwrap_or(Error::InvalidArgument)
}

/// Wakes and waits on words; see [`Call::ThreadSync`]. Returns the index of the wait that ended it.
///
/// # Errors
/// [`Error::TimedOut`], or the kernel's reason.
pub fn thread_sync(ops: &mut [SyncOp], timeout_ns: u64) -> Result<u64, Error> {
    let arguments = [ops.as_mut_ptr() as u64, ops.len() as u64, timeout_ns, 0, 0, 0];
    // SAFETY: the kernel writes to `ops` alone, which is borrowed for that; any word of a result has meaning.
    let answer = unsafe { raw(Call::ThreadSync as u64, arguments) };
    checked(answer)
}

/// Fills with random bytes.
///
/// # Errors
/// The kernel's reason.
pub fn random(bytes: &mut [u8]) -> Result<(), Error> {
    for part in bytes.chunks_mut(twizzler_abi::call::TRANSFER_BYTES_MAX as usize) {
        let arguments = [part.as_mut_ptr() as u64, part.len() as u64, 0, 0, 0, 0];
        // SAFETY: the kernel writes to `part` alone, which is borrowed for that.
        let answer = unsafe { raw(Call::Random as u64, arguments) };
        checked(answer)?;
    }
    Ok(())
}

/// Waits for input of the console; returns how much came.
///
/// # Errors
/// The kernel's reason.
pub fn console_read(bytes: &mut [u8]) -> Result<usize, Error> {
    let most = bytes.len().min(twizzler_abi::call::TRANSFER_BYTES_MAX as usize);
    let arguments = [ConsoleOp::Read as u64, bytes.as_mut_ptr() as u64, most as u64, 0, 0, 0];
    // SAFETY: the kernel writes to `bytes` alone, which is borrowed for that.
    let answer = unsafe { raw(Call::Console as u64, arguments) };
    checked(answer).map(|moved| (moved as usize).min(most))
}

/// Writes to the console: output or messages, as `op` says. Returns how much was written.
///
/// # Errors
/// The kernel's reason.
pub fn console_write(op: ConsoleOp, bytes: &[u8]) -> Result<usize, Error> {
    let most = bytes.len().min(twizzler_abi::call::TRANSFER_BYTES_MAX as usize);
    if op == ConsoleOp::Read {
        return Err(Error::InvalidArgument);
    }
    plain(Call::Console, [op as u64, bytes.as_ptr() as u64, most as u64, 0, 0, 0])
        .map(|moved| (moved as usize).min(most))
}

/// Powers off with a status for the host.
///
/// # Errors
/// The kernel's reason; otherwise it does not return.
pub fn power_off(status: u64) -> Result<(), Error> {
    plain(Call::Power, [PowerOp::Off as u64, status, 0, 0, 0, 0]).map(drop)
}
