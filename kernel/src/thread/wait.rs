//! Waiting in calls.

use twizzler_abi::{Error, ObjId};
use twizzler_sched::{Outcome, WordKey};

use super::Thread;
use super::scheduler::{self, Blocked, SCHEDULER};
pub(crate) use super::state::OnWake;
use crate::machine::cpu::Cpu;

/// The key that readers of the console wait on: no object has this ID.
pub(crate) const CONSOLE: WordKey = WordKey { object: ObjId::NONE, offset: 0 };

/// How a wait in a call went on.
pub(crate) enum Waited {
    /// The thread is off the CPU: leave its registers alone.
    Blocked,
    /// It ended at once.
    Ended(Outcome),
    /// What it would have waited for is there already.
    Unneeded,
}

/// Waits on words and for a deadline, unless `unneeded` finds a reason not to once the wait is
/// registered. When the thread runs again, the outcome is in its registers.
///
/// # Errors
/// No memory for the wait, or the error of `unneeded`; then nothing is waited for.
pub(crate) fn wait(
    cpu: &'static Cpu,
    thread: &Thread,
    words: impl Iterator<Item = (u32, WordKey)>,
    deadline_ns: Option<u64>,
    on_wake: OnWake,
    unneeded: impl FnOnce() -> Result<bool, Error>,
) -> Result<Waited, Error> {
    {
        let mut scheduler = SCHEDULER.lock();
        scheduler.waits.begin(thread.number, words, deadline_ns)?;
    }
    let unneeded = unneeded();
    if !matches!(unneeded, Ok(false)) {
        let mut scheduler = SCHEDULER.lock();
        scheduler.waits.cancel(thread.number);
        // A wake that came meanwhile is used up by this call, which returns anyway.
        scheduler.waits.take_outcome(thread.number);
        return unneeded.map(|_| Waited::Unneeded);
    }
    Ok(match scheduler::block(cpu, thread, on_wake) {
        Blocked::Yes => Waited::Blocked,
        Blocked::No(outcome) => outcome.map_or(Waited::Unneeded, Waited::Ended),
    })
}

/// Waits for console input and starts the call again after it; `ready` tells that there is no need to.
///
/// # Errors
/// No memory for the wait.
pub(crate) fn console_input(
    cpu: &'static Cpu,
    thread: &Thread,
    ready: impl FnOnce() -> bool,
) -> Result<Waited, Error> {
    wait(cpu, thread, core::iter::once((0, CONSOLE)), None, OnWake::Restart, || Ok(ready()))
}
