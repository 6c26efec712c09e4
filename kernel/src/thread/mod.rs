//! Threads: who runs, who waits, how they start, fault and end.
//!
//! A [`Thread`] is the kernel's side of a thread object. All of its state that must outlive its time on
//! a CPU lies in its `UserContext` and, mirrored for readers, in the `ThreadState` at its object's base:
//! a blocked thread has nothing on any kernel stack. A call that must wait either restarts from the
//! beginning when the thread runs again, or has its results written by [`schedule`] on the way out.
//!
//! The one [`scheduler::SCHEDULER`] lock guards run queues, waits and the table of threads; decisions are
//! `twizzler-sched`'s. A running thread belongs to its CPU: only that CPU ends it. Everybody else sets
//! `killed` and kicks the CPU.

pub(crate) mod end;
pub(crate) mod entry;
mod fault;
pub(crate) mod scheduler;
pub(crate) mod spawn;
mod state;
mod table;
pub(crate) mod upcall;
pub(crate) mod wait;

pub(crate) use state::Thread;
pub(crate) use table::current;
