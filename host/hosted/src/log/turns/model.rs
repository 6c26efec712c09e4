//! Schedules of committers that share a log, tried by shuttle: at each word that they share another one may go on. One of them may be killed at any
//! step, or one write fails. Nobody's time runs out unless somebody was killed, so a call that is missed is a deadlock, which shuttle reports.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};

use super::{EVERYBODY, Machine, Turn, Turns};
use crate::log::frame::SECTOR;

const COMMITTERS: u64 = 4;
const COMMITS: u64 = 3;
const RECORD_BYTES: u64 = 100;
const VICTIM: u64 = 2;
const SCHEDULES: usize = 3000;

/// What is deliberately wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flaw {
    None,
    /// Who is to write next is not called.
    NextNotCalled,
    /// Who waits for nothing more is not called.
    DoneNotCalled,
    /// That a write has failed is said when the next one may have begun.
    FailureSaidTooLate,
}

#[derive(Debug)]
struct Shared {
    turns: Turns,
    tail: AtomicU64,
    is_written: AtomicBool,
    /// Another one may go on here.
    point: shuttle::sync::atomic::AtomicU64,
    sleepers: Mutex<HashMap<usize, VecDeque<thread::Thread>>>,
    /// Steps that the victim has left.
    steps_left: AtomicU64,
    is_dead: AtomicBool,
    is_over: AtomicBool,
    /// Writes until one fails.
    writes_left: AtomicU64,
    has_failed: AtomicBool,
    /// Somebody has said so.
    is_poisoned: AtomicBool,
    flaw: Flaw,
}

/// One of them, a process of its own.
struct One<'s> {
    shared: &'s Shared,
    number: u64,
}

/// Ends the victim's thread, after all.
struct Killed;

impl Shared {
    fn new(victims_steps: u64, writes: u64, flaw: Flaw) -> Self {
        Self {
            turns: Turns::default(),
            tail: AtomicU64::new(0),
            is_written: AtomicBool::new(false),
            point: shuttle::sync::atomic::AtomicU64::new(0),
            sleepers: Mutex::default(),
            steps_left: AtomicU64::new(victims_steps),
            is_dead: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            writes_left: AtomicU64::new(writes),
            has_failed: AtomicBool::new(false),
            is_poisoned: AtomicBool::new(false),
            flaw,
        }
    }

    fn unpark(&self, word: Option<usize>, number: usize) {
        let mut sleepers = self.sleepers.lock().expect("no panic");
        let queues = sleepers.iter_mut().filter(|(at, _)| word.is_none_or(|word| word == **at));
        let called: Vec<_> = queues.flat_map(|(_, queue)| queue.drain(..number.min(queue.len()))).collect();
        // Others may go on at each call.
        drop(sleepers);
        called.into_iter().for_each(|thread| thread.unpark());
    }
}

impl Machine for One<'_> {
    fn me(&self) -> u64 {
        2 * self.number
    }

    fn is_alive(&self, owner: u64) -> bool {
        owner != 2 * VICTIM || !self.shared.is_dead.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.shared.is_poisoned.load(Ordering::Relaxed)
    }

    fn step(&self) {
        let shared = self.shared;
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        shared.point.load(Ordering::SeqCst);
        if self.number == VICTIM && shared.steps_left.fetch_sub(1, Ordering::Relaxed) == 0 {
            shared.is_dead.store(true, Ordering::Relaxed);
            // Whoever sleeps looks, sooner or later.
            shared.unpark(None, usize::MAX);
            while !shared.is_over.load(Ordering::Relaxed) {
                thread::park();
            }
            resume_unwind(Box::new(Killed));
        }
    }

    fn sleep(&self, word: &AtomicU64, value: u64, _: u64) -> bool {
        self.step();
        let shared = self.shared;
        if shared.is_dead.load(Ordering::Relaxed) {
            thread::yield_now();
            return true;
        }
        if word.load(Ordering::SeqCst) == value {
            let mut sleepers = shared.sleepers.lock().expect("no panic");
            let queue = sleepers.entry(std::ptr::from_ref(word).addr()).or_default();
            queue.push_back(thread::current());
            drop(sleepers);
            thread::park();
        }
        false
    }

    fn wake(&self, word: &AtomicU64, number: u32) {
        if matches!((self.shared.flaw, number), (Flaw::NextNotCalled, 1) | (Flaw::DoneNotCalled, EVERYBODY)) {
            return;
        }
        self.step();
        self.shared.unpark(Some(std::ptr::from_ref(word).addr()), number as usize);
    }
}

fn commit(one: &One<'_>) {
    let shared = one.shared;
    one.step();
    let end = shared.tail.fetch_add(RECORD_BYTES, Ordering::SeqCst) + RECORD_BYTES;
    loop {
        match shared.turns.wait(end, one) {
            Turn::Over => {
                assert!(shared.is_poisoned.load(Ordering::Relaxed), "nobody said so");
                break;
            }
            Turn::Done(synced) => {
                assert!(synced >= end, "told too early");
                break;
            }
            Turn::Write(writer) => {
                let was = shared.is_written.swap(true, Ordering::SeqCst);
                assert!(!was || shared.is_dead.load(Ordering::Relaxed), "two at a time");
                one.step();
                assert!(!shared.has_failed.load(Ordering::Relaxed), "written after a write that failed");
                // As under the lock of whoever appends.
                let to = shared.tail.load(Ordering::SeqCst).next_multiple_of(SECTOR);
                shared.tail.store(to, Ordering::SeqCst);
                writer.begin(to);
                one.step();
                let fails = shared.writes_left.fetch_sub(1, Ordering::Relaxed) == 0;
                if fails {
                    shared.has_failed.store(true, Ordering::Relaxed);
                    if shared.flaw != Flaw::FailureSaidTooLate {
                        shared.is_poisoned.store(true, Ordering::Relaxed);
                    }
                } else {
                    writer.done(to);
                }
                one.step();
                shared.is_written.store(false, Ordering::SeqCst);
                drop(writer);
                if fails {
                    shared.is_poisoned.store(true, Ordering::Relaxed);
                    break;
                }
            }
        }
    }
}

fn run(victims_steps: u64, writes: u64, flaw: Flaw) {
    let shared = Shared::new(victims_steps, writes, flaw);
    thread::scope(|scope| {
        let all: Vec<_> = (1..=COMMITTERS)
            .map(|number| {
                let shared = &shared;
                scope.spawn(move || {
                    let work = || (0..COMMITS).for_each(|_| commit(&One { shared, number }));
                    match catch_unwind(AssertUnwindSafe(work)) {
                        Err(cause) if !cause.is::<Killed>() => resume_unwind(cause),
                        _ => {}
                    }
                })
            })
            .collect();
        let mut victim = None;
        for (number, one) in (1..).zip(all) {
            if number == VICTIM {
                victim = Some(one);
            } else {
                one.join().expect("no panic");
            }
        }
        let victim = victim.expect("one of them");
        while !victim.is_finished() && !shared.is_dead.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        shared.is_over.store(true, Ordering::Relaxed);
        victim.thread().unpark();
        victim.join().expect("no panic");
    });
}

/// What is drawn for each schedule.
type Draw = fn() -> u64;

/// Tries schedules with so many steps of the victim and so many writes that succeed.
fn explore(count: usize, victims_steps: Draw, writes: Draw, flaw: Flaw) {
    fn runner(scheduler: impl Scheduler + 'static, run: impl Fn() + Send + Sync + 'static) {
        Runner::new(scheduler, Config::new()).run(run);
    }
    let run = move || run(victims_steps(), writes(), flaw);
    runner(RandomScheduler::new_from_seed(1, count), run);
    runner(PctScheduler::new_from_seed(2, 4, count), run);
}

const fn all() -> u64 {
    u64::MAX
}

fn below_60() -> u64 {
    thread_rng().gen_range(0..60)
}

fn below_6() -> u64 {
    thread_rng().gen_range(0..6)
}

#[test]
fn no_call_is_missed() {
    explore(SCHEDULES, all, all, Flaw::None);
}

#[test]
fn whoever_is_killed_at_whatever_step_others_go_on() {
    explore(SCHEDULES, below_60, all, Flaw::None);
}

#[test]
fn after_a_failed_write_nothing_is_written_and_everybody_is_told() {
    explore(SCHEDULES, all, below_6, Flaw::None);
    explore(SCHEDULES, below_60, below_6, Flaw::None);
}

#[test]
fn what_is_wrong_is_noticed() {
    for flaw in [Flaw::NextNotCalled, Flaw::DoneNotCalled, Flaw::FailureSaidTooLate] {
        let writes = if flaw == Flaw::FailureSaidTooLate { below_6 } else { all };
        let failed = std::panic::catch_unwind(|| explore(SCHEDULES, all, writes, flaw));
        assert!(failed.is_err(), "nobody notices {flaw:?}");
    }
}
