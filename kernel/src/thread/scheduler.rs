//! The scheduler: applies what `twizzler-sched` decides.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use twizzler_abi::Error;
use twizzler_abi::thread::Status;
use twizzler_sched::{Outcome, RunQueues, ThreadNo, WaitTable, WordKey};

use super::state::OnWake;
use super::{Thread, end, table};
use crate::level;
use crate::machine::cpu::{self, CPUS_MAX, Cpu};
use crate::machine::entry::Next;
use crate::machine::lock::Lock;
use crate::machine::{clock, smp, timer};
use crate::object::{garbage, nvm, system};

/// Everything about who runs.
pub(crate) static SCHEDULER: Lock<Scheduler, { level::SCHEDULER }> =
    Lock::new(Scheduler { queues: RunQueues::new(), waits: WaitTable::new(), threads: Vec::new() });

/// What the scheduler lock guards.
pub(crate) struct Scheduler {
    pub(super) queues: RunQueues,
    pub(super) waits: WaitTable,
    /// By number; None: a free number.
    pub(super) threads: Vec<Option<Arc<Thread>>>,
}

/// CPUs to be told that they have to decide anew, once the lock is free.
#[must_use]
#[derive(Default)]
pub(crate) struct Kicks(u64);

impl Kicks {
    pub(super) fn add(&mut self, cpu: usize) {
        self.0 |= 1 << cpu;
    }

    /// Tells them. Not to be called under the scheduler's lock.
    pub(crate) fn send(self) {
        let me = cpu::current().index();
        if self.0 & 1 << me != 0 {
            decide_anew(me);
        }
        (0..cpu::count()).filter(|&cpu| cpu != me && self.0 & 1 << cpu != 0).for_each(smp::kick);
    }
}

impl Scheduler {
    /// Makes a thread whose wait has ended ready.
    pub(super) fn make_ready(&mut self, thread: ThreadNo, kicks: &mut Kicks) {
        if let Some(placement) = self.queues.ready(thread) {
            if let Some(thread) = &self.threads[thread.0 as usize] {
                thread.state().set_status(Status::Runnable);
            }
            if placement.tell {
                kicks.add(placement.cpu);
            }
        }
    }

    fn expire(&mut self, now_ns: u64, kicks: &mut Kicks) {
        while let Some(thread) = self.waits.expire_one(now_ns) {
            self.make_ready(thread, kicks);
        }
    }

    fn thread(&self, number: ThreadNo) -> &Arc<Thread> {
        self.threads[number.0 as usize].as_ref().expect("queued threads are in the table")
    }
}

/// Prepares for the boot CPU and all others.
pub(crate) fn start() -> Result<(), Error> {
    Ok(SCHEDULER.lock().queues.set_cpus(cpu::count())?)
}

/// Wakes at most `most` threads that wait on a word. Returns how many.
pub(crate) fn wake(key: WordKey, most: u64) -> u64 {
    let mut kicks = Kicks::default();
    let mut woken = 0;
    {
        let mut scheduler = SCHEDULER.lock();
        while woken < most
            && let Some(thread) = scheduler.waits.wake_one(key)
        {
            scheduler.make_ready(thread, &mut kicks);
            woken += 1;
        }
    }
    kicks.send();
    woken
}

/// CPUs that have to decide anew even though a thread runs there. Each CPU sets and clears its own.
static DUE: [AtomicBool; CPUS_MAX] = [const { AtomicBool::new(false) }; CPUS_MAX];

/// Makes this CPU, whose number is `me`, decide anew before it leaves the kernel.
pub(super) fn decide_anew(me: usize) {
    DUE[me].store(true, Ordering::Relaxed);
}

/// Decides who runs on this CPU and makes it so. The last thing before leaving the kernel.
pub(crate) fn schedule(cpu: &'static Cpu) -> Next {
    let due = &DUE[cpu.index()];
    if !due.load(Ordering::Relaxed)
        && let Some(context) = table::running_context(cpu)
    {
        return Next::User(context);
    }
    due.store(false, Ordering::Relaxed);
    system::refresh();
    loop {
        let mut kicks = Kicks::default();
        let chosen = choose(cpu, clock::now_ns(), &mut kicks);
        kicks.send();
        match chosen {
            Err(killed) => end::end_current(cpu, &killed, end::Ending::KILLED),
            Ok(next) => {
                if let Next::Idle = next {
                    nvm::prepare();
                    garbage::tidy();
                }
                return next;
            }
        }
    }
}

/// Chooses; or says that the running thread has to be ended first. Whoever kills it later finds it running here,
/// and this CPU is told, or finds it off its CPU.
fn choose(cpu: &'static Cpu, now: u64, kicks: &mut Kicks) -> Result<Next, Arc<Thread>> {
    let me = cpu.index();
    let mut guard = SCHEDULER.lock();
    let scheduler = &mut *guard;
    let before = scheduler.queues.running(me);
    if let Some(running) = before.map(|number| scheduler.thread(number)).filter(|thread| thread.is_killed()) {
        return Err(running.clone());
    }
    scheduler.expire(now, kicks);
    let after = scheduler.queues.decide(me, now);
    arm(scheduler, me, now);
    if before != after {
        if let Some(before) = before {
            scheduler.thread(before).off_cpu(cpu, now);
        }
        system::count(system::Counter::Switches);
    }
    let Some(number) = after else {
        table::set_running(cpu, None);
        return Ok(Next::Idle);
    };
    let thread = scheduler.thread(number).clone();
    if before != after {
        let outcome = scheduler.waits.take_outcome(number);
        thread.on_cpu(cpu, now);
        // SAFETY: the scheduler has just given the thread to this CPU, on which no other reference to the
        // context lives.
        deliver(&thread, outcome);
        table::set_running(cpu, Some(&thread));
    } else {
        thread.account(now);
    }
    Ok(Next::User(thread.context_pointer()))
}

/// Writes the results of the call that the thread waited in.
fn deliver(thread: &Thread, outcome: Option<Outcome>) {
    let (rax, rdx) = match (thread.take_on_wake(), outcome) {
        (OnWake::Results, Some(Outcome::Woken(word))) => (0, u64::from(word)),
        (OnWake::Results, Some(Outcome::TimedOut)) => (Error::TimedOut as u64, 0),
        _ => return,
    };
    thread.set_results(rax, rdx);
}

/// What each CPU's timer is set to. Each CPU sets its own.
static ARMED: [AtomicU64; CPUS_MAX] = [const { AtomicU64::new(u64::MAX) }; CPUS_MAX];

fn arm(scheduler: &Scheduler, me: usize, now: u64) {
    let ends = [scheduler.queues.quantum_end(me), scheduler.waits.next_deadline()];
    let at = ends.into_iter().flatten().min().unwrap_or(u64::MAX);
    // Programming a timer is slow, above all in a virtual machine.
    if ARMED[me].swap(at, Ordering::Relaxed) != at || at <= now {
        timer::arm(at);
    }
}

/// The running thread goes off its CPU, if the wait that it has begun has not ended meanwhile. Then
/// the kernel must not touch its registers any more.
pub(crate) fn block(cpu: &'static Cpu, thread: &Thread, on_wake: OnWake) -> Blocked {
    let mut scheduler = SCHEDULER.lock();
    if thread.is_killed() {
        scheduler.waits.cancel(thread.number);
        return Blocked::Yes;
    }
    if !scheduler.waits.is_waiting(thread.number) {
        return Blocked::No(scheduler.waits.take_outcome(thread.number));
    }
    thread.set_on_wake(on_wake);
    thread.off_cpu(cpu, clock::now_ns());
    thread.state().set_status(Status::Blocked);
    scheduler.queues.leave(cpu.index());
    table::set_running(cpu, None);
    Blocked::Yes
}

/// What became of going off the CPU.
pub(crate) enum Blocked {
    /// It is off, or about to be ended: leave its registers alone.
    Yes,
    /// The wait had ended already, so.
    No(Option<Outcome>),
}

/// Lets others of the running thread's priority run.
pub(crate) fn give_way(cpu: &Cpu) {
    decide_anew(cpu.index());
    SCHEDULER.lock().queues.give_way(cpu.index());
}

/// A live thread by its object's ID.
pub(crate) fn find(id: twizzler_abi::ObjId) -> Result<Arc<Thread>, Error> {
    let scheduler = SCHEDULER.lock();
    scheduler
        .threads
        .iter()
        .flatten()
        .find(|thread| thread.object.id == id)
        .cloned()
        .ok_or(Error::NoSuchObject)
}

/// Changes a thread's priority.
pub(crate) fn set_priority(thread: &Thread, priority: u32) {
    let mut kicks = Kicks::default();
    {
        let mut scheduler = SCHEDULER.lock();
        if scheduler
            .threads
            .get(thread.number.0 as usize)
            .is_some_and(|t| t.as_ref().is_some_and(|t| core::ptr::eq(&**t, thread)))
        {
            if let Some(cpu) = scheduler.queues.set_priority(thread.number, priority) {
                kicks.add(cpu);
            }
            thread.state().set_priority(priority);
        }
    }
    kicks.send();
}
