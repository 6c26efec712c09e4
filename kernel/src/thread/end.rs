//! The end of threads: by themselves, by a fault, by others.

use alloc::sync::Arc;

use twizzler_abi::Error;
use twizzler_abi::thread::{FaultInfo, FaultKind};

use super::scheduler::{self, Kicks, SCHEDULER};
use super::{Thread, table};
use crate::machine::cpu::Cpu;
use crate::machine::{clock, entry};
use crate::view::View;

/// How a thread ends.
#[derive(Clone, Copy)]
pub(crate) struct Ending {
    pub(crate) exit_code: u64,
    pub(crate) fault: FaultInfo,
}

impl Ending {
    /// Ended by another thread.
    pub(super) const KILLED: Self = Self {
        exit_code: 0,
        fault: FaultInfo {
            kind: FaultKind::Killed as u32,
            access: 0,
            address: 0,
            object: twizzler_abi::ObjId::NONE,
        },
    };

    /// By itself.
    pub(crate) fn exit(exit_code: u64) -> Self {
        Self { exit_code, fault: FaultInfo::default() }
    }
}

/// Ends the thread that runs on this CPU. Its context is gone afterwards.
pub(crate) fn end_current(cpu: &'static Cpu, thread: &Arc<Thread>, ending: Ending) {
    thread.account(clock::now_ns());
    entry::discard(cpu);
    {
        let mut scheduler = SCHEDULER.lock();
        scheduler.queues.leave(cpu.index());
        table::set_running(cpu, None);
        table::remove(&mut scheduler, thread.number);
    }
    finish(thread, ending);
}

/// Ends any thread but those of no table any more. One that runs on another CPU is told, and ends there at once.
pub(crate) fn kill(thread: &Arc<Thread>) -> Result<(), Error> {
    let mut kicks = Kicks::default();
    let removed = {
        let mut scheduler = SCHEDULER.lock();
        let listed = scheduler.threads[thread.number.0 as usize].as_ref();
        if !listed.is_some_and(|listed| Arc::ptr_eq(listed, thread)) {
            return Err(Error::NoSuchObject);
        }
        thread.set_killed();
        match scheduler.queues.runs_on(thread.number) {
            Some(cpu) => {
                kicks.add(cpu);
                None
            }
            None => table::remove(&mut scheduler, thread.number),
        }
    };
    kicks.send();
    if removed.is_some() {
        finish(thread, Ending::KILLED);
    }
    Ok(())
}

/// Ends all threads of a view, those too that are being started. The caller's own goes on the way out of the kernel.
pub(crate) fn kill_all(view: &View) {
    view.refuse_threads();
    let mut number = 0;
    loop {
        let thread = {
            let scheduler = SCHEDULER.lock();
            let Some(thread) = scheduler.threads.get(number) else { return };
            thread.as_ref().filter(|thread| core::ptr::eq(&*thread.view, view)).cloned()
        };
        if let Some(thread) = thread {
            // If it has ended meanwhile, so much the better.
            let _ = kill(&thread);
        }
        number += 1;
    }
}

/// What is to be done once no CPU and no table has the thread.
fn finish(thread: &Arc<Thread>, ending: Ending) {
    let context = thread.context_pointer();
    // SAFETY: the thread runs nowhere and is in no table, so nobody else touches its context.
    let registers = unsafe { (*context).registers };
    thread.state().set_end(ending.exit_code, ending.fault, registers);
    thread.view.thread_left();
    thread.object.unpin();
    scheduler::wake(thread.status_key(), u64::MAX);
}
