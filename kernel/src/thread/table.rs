//! Which thread runs on which CPU, and how threads enter and leave the scheduler's table.

use alloc::sync::Arc;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use twizzler_abi::Error;
use twizzler_sched::ThreadNo;

use super::Thread;
use super::scheduler::{SCHEDULER, Scheduler};
use crate::machine::cpu::{CPUS_MAX, Cpu};
use crate::machine::entry::UserContext;
use crate::object::system;
use crate::view::View;

/// Most live threads.
pub(crate) const THREADS_MAX: usize = 4096;

/// The thread that runs on each CPU. Set under the scheduler's lock by the CPU itself; the table's `Arc`
/// keeps it alive for as long.
static RUNNING: [AtomicPtr<Thread>; CPUS_MAX] = [const { AtomicPtr::new(ptr::null_mut()) }; CPUS_MAX];

/// The thread that runs on this CPU, which must be `cpu`.
pub(crate) fn running(cpu: &Cpu) -> Option<Arc<Thread>> {
    let thread = RUNNING[cpu.index()].load(Ordering::Relaxed).cast_const();
    if thread.is_null() {
        return None;
    }
    // SAFETY: the pointer came from an `Arc` that the table holds until this CPU itself takes it out.
    unsafe { Arc::increment_strong_count(thread) };
    // SAFETY: the count that was just added is this `Arc`'s.
    Some(unsafe { Arc::from_raw(thread) })
}

/// The thread that made a call or fault on this CPU.
pub(crate) fn current(cpu: &Cpu) -> Arc<Thread> {
    running(cpu).expect("entries from user mode have a thread")
}

/// The registers of the thread that runs on this CPU, which must be `cpu`.
pub(super) fn running_context(cpu: &Cpu) -> Option<*mut UserContext> {
    let thread = RUNNING[cpu.index()].load(Ordering::Relaxed).cast_const();
    // SAFETY: null, or a thread that the table keeps alive until this CPU takes it out.
    unsafe { thread.as_ref() }.map(Thread::context_pointer)
}

pub(super) fn set_running(cpu: &Cpu, thread: Option<&Arc<Thread>>) {
    let pointer = thread.map_or(ptr::null(), Arc::as_ptr);
    RUNNING[cpu.index()].store(pointer.cast_mut(), Ordering::Relaxed);
}

/// Makes a thread under a free number, known to all tables, and ready to run.
///
/// # Errors
/// [`Error::TooMany`], no memory, [`Error::Busy`] if all threads of the view are being ended.
pub(super) fn add(
    priority: u32,
    cpu: usize,
    view: &View,
    make: impl FnOnce(ThreadNo) -> Thread,
) -> Result<(), Error> {
    let mut kicks = super::scheduler::Kicks::default();
    {
        let mut guard = SCHEDULER.lock();
        // Under the lock: whoever ends all threads sees this one, or is seen here.
        if view.refuses_threads() {
            return Err(Error::Busy);
        }
        let Scheduler { queues, waits, threads } = &mut *guard;
        let index = match threads.iter().position(Option::is_none) {
            Some(free) => free,
            None if threads.len() >= THREADS_MAX => return Err(Error::TooMany),
            None => {
                threads.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
                threads.push(None);
                threads.len() - 1
            }
        };
        let number = ThreadNo(index as u32);
        queues.admit(number, priority, cpu)?;
        waits.admit(number)?;
        let thread = Arc::new(make(number));
        system::list_thread(index, Some(thread.object.id));
        threads[index] = Some(thread);
        guard.make_ready(number, &mut kicks);
    }
    kicks.send();
    Ok(())
}

/// Takes a thread that runs nowhere out of everything. Under the scheduler's lock.
pub(super) fn remove(scheduler: &mut Scheduler, number: ThreadNo) -> Option<Arc<Thread>> {
    scheduler.waits.cancel(number);
    scheduler.waits.take_outcome(number);
    scheduler.queues.remove(number);
    system::list_thread(number.0 as usize, None);
    scheduler.threads[number.0 as usize].take()
}
