//! Per-CPU queues of ready threads by priority, preemption and stealing.
//!
//! Priorities are strict on each CPU: a thread runs only when no ready thread of that CPU has a higher
//! one. Threads of one priority take turns of [`QUANTUM_NS`]. A CPU without ready threads steals from
//! the one that has most. One that becomes ready goes where it ran last, unless another CPU is idle or
//! runs something less important.

use alloc::vec::Vec;

use crate::list::{Link, Linked, List};
use crate::{CpuNo, OutOfMemory, PRIORITIES, QUANTUM_NS, ThreadNo, grow};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Neither ready nor running: blocked, ended or never admitted.
    Away,
    Ready(CpuNo),
    Running(CpuNo),
}

#[derive(Clone)]
struct Thread {
    link: Link,
    state: State,
    priority: u32,
    last_cpu: CpuNo,
}

impl Linked for Thread {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn next(&self) -> u32 {
        self.link.next()
    }
}

const AWAY: Thread = Thread { link: Link::UNLINKED, state: State::Away, priority: 0, last_cpu: 0 };

#[derive(Clone)]
struct Cpu {
    queues: [List; PRIORITIES as usize],
    /// Bit for each priority that has ready threads.
    occupied: u32,
    ready: usize,
    running: Option<ThreadNo>,
    quantum_end: u64,
    /// The running thread gives way to others of its priority.
    yielded: bool,
}

impl Cpu {
    const IDLE: Self = Self {
        queues: [List::EMPTY; PRIORITIES as usize],
        occupied: 0,
        ready: 0,
        running: None,
        quantum_end: 0,
        yielded: false,
    };

    fn highest(&self) -> Option<u32> {
        self.occupied.checked_ilog2()
    }
}

/// Where a thread that became ready was put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// The CPU.
    pub cpu: CpuNo,
    /// It is to be told: it is idle, runs something less important, or what it runs has an end to its
    /// quantum now that it didn't have before.
    pub tell: bool,
}

/// The ready and running threads of all CPUs.
pub struct RunQueues {
    threads: Vec<Thread>,
    cpus: Vec<Cpu>,
}

impl RunQueues {
    /// For no CPUs yet; see [`RunQueues::set_cpus`].
    #[must_use]
    pub const fn new() -> Self {
        Self { threads: Vec::new(), cpus: Vec::new() }
    }

    /// Sets the number of CPUs, at least one, before there are threads.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub fn set_cpus(&mut self, cpus: usize) -> Result<(), OutOfMemory> {
        grow(&mut self.cpus, cpus, &Cpu::IDLE)
    }

    /// Gets to know a thread, which is neither ready nor running. A number may be used again after
    /// [`RunQueues::remove`].
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub fn admit(&mut self, thread: ThreadNo, priority: u32, cpu: CpuNo) -> Result<(), OutOfMemory> {
        grow(&mut self.threads, thread.index() + 1, &AWAY)?;
        self.threads[thread.index()] =
            Thread { priority: priority.min(PRIORITIES - 1), last_cpu: cpu.min(self.cpus.len() - 1), ..AWAY };
        Ok(())
    }

    /// Makes a thread ready; None if it already is, or runs.
    pub fn ready(&mut self, thread: ThreadNo) -> Option<Placement> {
        let Thread { state, priority, last_cpu, .. } = self.threads[thread.index()];
        if state != State::Away {
            return None;
        }
        let cpu = self.place(priority, last_cpu);
        let better = self.running_priority(cpu).is_none_or(|running| running < priority);
        let had_end = self.quantum_end(cpu).is_some();
        self.enqueue(thread, cpu, List::push_back);
        Some(Placement { cpu, tell: better || (!had_end && self.quantum_end(cpu).is_some()) })
    }

    /// The thread that runs on a CPU leaves it, to wait or for ever.
    pub fn leave(&mut self, cpu: CpuNo) {
        if let Some(thread) = self.cpus[cpu].running.take() {
            self.threads[thread.index()].state = State::Away;
        }
    }

    /// Takes a thread out of whatever queue it is in. What it runs on must have been told to leave.
    pub fn remove(&mut self, thread: ThreadNo) {
        if let State::Ready(cpu) = self.threads[thread.index()].state {
            self.dequeue(thread, cpu);
        }
        if let State::Running(cpu) = self.threads[thread.index()].state {
            self.leave(cpu);
        }
    }

    /// The running thread lets others of its priority run.
    pub fn give_way(&mut self, cpu: CpuNo) {
        self.cpus[cpu].yielded = true;
    }

    /// Changes a priority. Returns the CPU that has to decide anew.
    pub fn set_priority(&mut self, thread: ThreadNo, priority: u32) -> Option<CpuNo> {
        let priority = priority.min(PRIORITIES - 1);
        match self.threads[thread.index()].state {
            State::Ready(cpu) => {
                self.dequeue(thread, cpu);
                self.threads[thread.index()].priority = priority;
                self.enqueue(thread, cpu, List::push_back);
                Some(cpu)
            }
            State::Running(cpu) => {
                self.threads[thread.index()].priority = priority;
                Some(cpu)
            }
            State::Away => {
                self.threads[thread.index()].priority = priority;
                None
            }
        }
    }

    /// Decides who runs on a CPU from now on: who runs there already, if nobody has a better claim.
    pub fn decide(&mut self, cpu: CpuNo, now_ns: u64) -> Option<ThreadNo> {
        if let Some(running) = self.cpus[cpu].running {
            let priority = self.threads[running.index()].priority;
            let over = now_ns >= self.cpus[cpu].quantum_end || self.cpus[cpu].yielded;
            match self.cpus[cpu].highest() {
                Some(highest) if highest > priority && !over => self.requeue(running, cpu, List::push_front),
                Some(highest) if highest > priority || (highest == priority && over) => {
                    self.requeue(running, cpu, List::push_back);
                }
                _ => {
                    if over {
                        self.cpus[cpu].quantum_end = now_ns.saturating_add(QUANTUM_NS);
                        self.cpus[cpu].yielded = false;
                    }
                    return Some(running);
                }
            }
        }
        let thread = self.first(cpu).or_else(|| self.first(self.busiest()?))?;
        let State::Ready(from) = self.threads[thread.index()].state else {
            unreachable!("queued threads are ready")
        };
        self.dequeue(thread, from);
        self.threads[thread.index()].state = State::Running(cpu);
        self.threads[thread.index()].last_cpu = cpu;
        self.cpus[cpu].running = Some(thread);
        self.cpus[cpu].quantum_end = now_ns.saturating_add(QUANTUM_NS);
        self.cpus[cpu].yielded = false;
        Some(thread)
    }

    /// When the CPU has to decide anew even if nothing happens; None: never.
    #[must_use]
    pub fn quantum_end(&self, cpu: CpuNo) -> Option<u64> {
        let running = self.running_priority(cpu)?;
        (self.cpus[cpu].highest()? >= running).then_some(self.cpus[cpu].quantum_end)
    }

    /// The CPU that a thread runs on.
    #[must_use]
    pub fn runs_on(&self, thread: ThreadNo) -> Option<CpuNo> {
        match self.threads.get(thread.index())?.state {
            State::Running(cpu) => Some(cpu),
            _ => None,
        }
    }

    /// The thread that runs on a CPU.
    #[must_use]
    pub fn running(&self, cpu: CpuNo) -> Option<ThreadNo> {
        self.cpus[cpu].running
    }

    fn running_priority(&self, cpu: CpuNo) -> Option<u32> {
        self.cpus[cpu].running.map(|thread| self.threads[thread.index()].priority)
    }

    /// The best CPU for a thread that becomes ready.
    fn place(&self, priority: u32, last: CpuNo) -> CpuNo {
        let claim = |cpu: CpuNo| match self.running_priority(cpu) {
            None if self.cpus[cpu].ready == 0 => Some(0),
            Some(running) if running < priority && self.cpus[cpu].highest().is_none_or(|h| h < priority) => {
                Some(1 + running)
            }
            _ => None,
        };
        let others = (0..self.cpus.len()).filter_map(|cpu| Some((claim(cpu)?, cpu != last, cpu)));
        others.min().map_or(last, |(.., cpu)| cpu)
    }

    fn first(&self, cpu: CpuNo) -> Option<ThreadNo> {
        let highest = self.cpus[cpu].highest()?;
        self.cpus[cpu].queues[highest as usize].first().map(ThreadNo)
    }

    fn busiest(&self) -> Option<CpuNo> {
        (0..self.cpus.len()).filter(|&cpu| self.cpus[cpu].ready > 0).max_by_key(|&cpu| self.cpus[cpu].ready)
    }

    fn requeue(&mut self, running: ThreadNo, cpu: CpuNo, push: fn(&mut List, &mut [Thread], u32)) {
        self.leave(cpu);
        self.enqueue(running, cpu, push);
    }

    fn enqueue(&mut self, thread: ThreadNo, cpu: CpuNo, push: fn(&mut List, &mut [Thread], u32)) {
        let priority = self.threads[thread.index()].priority;
        self.threads[thread.index()].state = State::Ready(cpu);
        let queues = &mut self.cpus[cpu];
        push(&mut queues.queues[priority as usize], &mut self.threads, thread.0);
        queues.occupied |= 1 << priority;
        queues.ready += 1;
    }

    fn dequeue(&mut self, thread: ThreadNo, cpu: CpuNo) {
        let priority = self.threads[thread.index()].priority;
        self.threads[thread.index()].state = State::Away;
        let queues = &mut self.cpus[cpu];
        let queue = &mut queues.queues[priority as usize];
        queue.remove(&mut self.threads, thread.0);
        if queue.is_empty() {
            queues.occupied &= !(1 << priority);
        }
        queues.ready -= 1;
    }
}

impl Default for RunQueues {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
