//! New threads.

use alloc::boxed::Box;
use alloc::sync::Arc;

use twizzler_abi::address::Slot;
use twizzler_abi::call::SpawnSpec;
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::rights::{ObjectFlags, Rights};
use twizzler_abi::thread::{FaultInfo, Registers, Status, ThreadState};
use twizzler_abi::{Error, ObjId};

use super::state::{StatePage, Thread};
use super::table;
use crate::machine::cpu;
use crate::machine::entry::UserContext;
use crate::object::budget::{THREAD_BYTES, USERS};
use crate::object::{self, Object};
use crate::view::View;

/// Interrupts on, nothing else.
const RFLAGS: u64 = 0x202;

/// Starts a thread in `view` and returns its object's ID.
///
/// # Errors
/// [`Error::InvalidArgument`] for addresses that are not a user's, [`Error::AccessDenied`] for a view that nobody may
/// change, no memory, [`Error::TooMany`].
pub(crate) fn spawn(spec: &SpawnSpec, view: &Arc<Object>) -> Result<ObjId, Error> {
    let addresses = [spec.entry, spec.stack_pointer, spec.stack_low, spec.fs_base];
    let sensible = addresses.iter().all(|&address| is_user(address)) && spec.reserved == 0;
    if !sensible || spec.priority >= twizzler_sched::PRIORITIES {
        return Err(Error::InvalidArgument);
    }
    view.check(Rights::WRITE)?;
    let object = object::create::volatile(ObjectFlags::THREAD, Rights::READ | Rights::DELETE)?;
    let started = object.pin().and_then(|()| start(spec, &object, view).inspect_err(|_| object.unpin()));
    if started.is_err() {
        // Perhaps somebody has found and deleted it already.
        let _ = object::delete::delete(&object);
    }
    started.map(|()| object.id)
}

/// The object is pinned.
fn start(spec: &SpawnSpec, object: &Arc<Object>, view: &Arc<Object>) -> Result<(), Error> {
    let charge = USERS.hold(THREAD_BYTES)?;
    let page = object.resident(BASE_OFFSET)?;
    // SAFETY: the object is pinned until the thread has ended, so it is not deleted, and pages of thread objects
    // can't be discarded or written by anyone else.
    let state = unsafe { StatePage::new(page) };
    let registers = Registers {
        rip: spec.entry,
        rsp: spec.stack_pointer,
        rdi: spec.argument,
        rsi: spec.argument2,
        fs_base: spec.fs_base,
        rflags: RFLAGS,
        ..Registers::default()
    };
    let view = View::enter(view)?;
    let started = UserContext::new(registers, view.root().clone()).and_then(|context| {
        state.fill(&ThreadState {
            status: Status::Runnable as u64,
            exit_code: 0,
            fault: FaultInfo::default(),
            registers,
            id: object.id,
            view: view.object.id,
            cpu_time_ns: 0,
            cpu: 0,
            priority: spec.priority,
            stack_low: spec.stack_low,
            handler: 0,
            handler_stack: 0,
            name: spec.name,
        });
        table::add(spec.priority, cpu::current().index(), &view, |number| {
            Thread::new(
                number,
                object.clone(),
                view.clone(),
                state,
                Box::new(context),
                charge,
                spec.stack_low,
            )
        })
    });
    started.inspect_err(|_| view.thread_left())
}

/// In the half of the address space that users have.
pub(crate) fn is_user(address: u64) -> bool {
    Slot::of(address).is_some()
}
