//! Schedules of threads and programs, tried by shuttle: at each word that they share, each store, flush and fence, another one may go on.
//!
//! Memory is that of a machine that stays up: what is killed is a program. It stops for good at any step, with its lane and its locks, and a
//! survivor recovers. `TWIZZLER_SCHEDULES` sets how many schedules are tried; the usual number is for a quick look. A failure prints the
//! schedule; `shuttle::replay` runs it again.

mod memory_log;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memory_log::MemoryLog;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};
use twizzler_abi::{Error, ObjId};
use twizzler_campaign::hooked::{Hooked, Hooks, Step};
use twizzler_image::MemoryBackend;
use twizzler_object::backend::{Commit, Sink, Ticket};
use twizzler_object::{Access, Backend, Ptr, Reader, Space, Stored, Tx, Waited};

/// Some accounts, and how many transfers each thread has made.
#[derive(Stored)]
#[stored(name = "test.schedules", version = 1)]
#[repr(C)]
struct Bank {
    accounts: [u64; 2],
    transfers: [u64; 4],
}

const START: u64 = 100;
const BANKS: usize = 2;
/// Programs of a machine: the survivor, the one that may die, the one that looks at the end.
const PROGRAMS: usize = 3;
const VICTIM: usize = 1;
/// Waits at least as long are for somebody who will wake the waiter.
const LONG_NS: u64 = 10_000_000;

/// What is deliberately wrong, to see that it is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flaw {
    None,
    /// Nobody is ever woken.
    Sleep,
    /// Who lives is taken for dead.
    Burial,
    /// What a dead program has logged is not finished.
    Forgotten,
}

/// When a victim is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Counts {
    Steps,
    /// So that it is often killed when it has put half of a record in place.
    Stores,
}

/// What the programs of a machine share beside its memory.
struct Machine {
    memory: MemoryBackend,
    /// Another thread may go on here.
    point: shuttle::sync::atomic::AtomicU64,
    /// Steps that the victim has left; stores alone, where only those count.
    steps_left: AtomicU64,
    counts: Counts,
    /// Its threads, once they have stopped.
    stopped: Mutex<Vec<thread::Thread>>,
    is_dead: AtomicBool,
    /// Everything has been looked at.
    is_over: AtomicBool,
    /// Who sleeps on which word. None: sleepers look again and again.
    sleepers: Option<Mutex<HashMap<usize, Vec<thread::Thread>>>>,
    flaw: Flaw,
    /// None: records go to lanes.
    log: Option<MemoryLog>,
}

/// A program of the machine.
struct Program<'m> {
    machine: &'m Machine,
    number: usize,
}

/// Ends the thread of a killed program, after all.
struct Killed;

type Under<'m> = Hooked<&'m MemoryBackend, Program<'m>>;

impl Machine {
    fn new(victims_steps: u64, sleeps: bool, flaw: Flaw, sink: Sink) -> Self {
        Self {
            flaw,
            log: (sink == Sink::Log).then(MemoryLog::default),
            memory: MemoryBackend::new(),
            point: shuttle::sync::atomic::AtomicU64::new(0),
            steps_left: AtomicU64::new(victims_steps),
            counts: Counts::Steps,
            stopped: Mutex::default(),
            is_dead: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            sleepers: sleeps.then(Mutex::default),
        }
    }

    fn start(&self, number: usize) -> Result<Space<Under<'_>>, Error> {
        Space::attach(Hooked::new(&self.memory, Program { machine: self, number }))
    }
}

const fn owner(number: usize) -> u64 {
    0x1000 + 2 * number as u64
}

impl<'m> Hooks<&'m MemoryBackend> for Program<'m> {
    fn step(&self, step: Step) {
        let machine = self.machine;
        let is_victim = self.number == VICTIM;
        if is_victim && machine.is_over.load(Ordering::Relaxed) && std::thread::panicking() {
            // Unwinding, when nobody looks any more.
            return;
        }
        machine.point.load(Ordering::SeqCst);
        if !is_victim {
            return;
        }
        if (machine.counts == Counts::Steps || step == Step::Stored)
            && !machine.is_dead.load(Ordering::Relaxed)
            && machine.steps_left.fetch_sub(1, Ordering::Relaxed) == 0
        {
            machine.is_dead.store(true, Ordering::Relaxed);
        }
        // With all its threads.
        if machine.is_dead.load(Ordering::Relaxed) {
            while !machine.is_over.load(Ordering::Relaxed) {
                machine.stopped.lock().expect("no panic").push(thread::current());
                thread::park();
            }
            resume_unwind(Box::new(Killed));
        }
    }

    fn owner(&self, _below: &&'m MemoryBackend) -> u64 {
        owner(self.number)
    }

    fn is_alive(&self, _below: &&'m MemoryBackend, of: u64) -> bool {
        let number = (0..PROGRAMS).find(|&number| owner(number) == of);
        let is_dead = self.machine.flaw == Flaw::Burial || self.machine.is_dead.load(Ordering::Relaxed);
        let lives = number.is_some_and(|number| number != VICTIM || !is_dead);
        if let (false, Some(log)) = (lives || self.machine.flaw == Flaw::Forgotten, &self.machine.log) {
            log.finish(of, &self.machine.memory);
        }
        lives
    }

    fn sink(&self, _below: &&'m MemoryBackend) -> Sink {
        if self.machine.log.is_some() { Sink::Log } else { Sink::Lanes }
    }

    fn log(&self, _below: &&'m MemoryBackend, commit: &Commit<'_>) -> Result<Ticket, Error> {
        self.step(Step::Shared);
        Ok(self.log_of().append(owner(self.number), commit.words))
    }

    fn durable(&self, _below: &&'m MemoryBackend, end: u64) -> Result<u64, Error> {
        let lives = |of| of != owner(VICTIM) || !self.machine.is_dead.load(Ordering::Relaxed);
        loop {
            self.step(Step::Shared);
            match self.log_of().sync(end, owner(self.number), lives) {
                Ok(synced) => return Ok(synced),
                Err(memory_log::Wait::ForDisk) => self.step(Step::Shared),
                Err(memory_log::Wait::ForOther) => thread::yield_now(),
            }
        }
    }

    fn publish_created(&self, _below: &&'m MemoryBackend, _created: &[ObjId]) -> Result<(), Error> {
        self.step(Step::Shared);
        Ok(())
    }

    fn applied(&self, _below: &&'m MemoryBackend, ticket: Ticket) {
        self.step(Step::Shared);
        self.log_of().land(ticket);
    }

    fn thread(&self, _below: &&'m MemoryBackend) -> u64 {
        (usize::from(shuttle::current::me()) as u64 + 1) * 2
    }

    fn wait(&self, _below: &&'m MemoryBackend, word: &AtomicU64, value: u64, timeout_ns: u64) -> Waited {
        self.step(Step::Shared);
        match &self.machine.sleepers {
            // Nobody dies, so whoever is not woken sleeps for ever: shuttle calls that a deadlock.
            Some(sleepers) if timeout_ns >= LONG_NS => {
                if word.load(Ordering::SeqCst) == value {
                    let mut sleepers = sleepers.lock().expect("no panic");
                    sleepers.entry(std::ptr::from_ref(word).addr()).or_default().push(thread::current());
                    drop(sleepers);
                    thread::park();
                }
            }
            _ => thread::yield_now(),
        }
        Waited::Early
    }

    fn wake(&self, _below: &&'m MemoryBackend, word: &AtomicU64) {
        self.step(Step::Shared);
        if let Some(sleepers) = &self.machine.sleepers
            && self.machine.flaw != Flaw::Sleep
        {
            let woken = sleepers.lock().expect("no panic").remove(&std::ptr::from_ref(word).addr());
            woken.into_iter().flatten().for_each(|sleeper| sleeper.unpark());
        }
    }
}

impl Program<'_> {
    fn log_of(&self) -> &MemoryLog {
        self.machine.log.as_ref().expect("the sink is the log")
    }
}

fn banks<B: Backend>(space: &Space<B>) -> Result<[ObjId; BANKS], Error> {
    let mut ids = [ObjId::NONE; BANKS];
    for id in &mut ids {
        *id = space.transact(|tx| {
            let bank = tx.create::<Bank>()?;
            tx.set(bank.base().at(Bank::accounts), [START; 2])?;
            Ok::<_, Error>(tx.space().id_of(bank.area()))
        })?;
    }
    Ok(ids)
}

fn bank<'g, B: Backend>(tx: &Tx<'g, B>, id: ObjId) -> Result<Ptr<'g, Bank>, Error> {
    Ok(tx.open::<Bank>(id, Access::Write)?.base())
}

/// Moves one from an account to one of the other bank, and counts that in both.
fn transfer<B: Backend>(space: &Space<B>, ids: &[ObjId], thread: usize, number: usize) -> Result<(), Error> {
    space.transact(|tx| {
        let first = (thread + number) % BANKS;
        let [from, to] = [bank(tx, ids[first])?, bank(tx, ids[(first + 1) % BANKS])?];
        // Read before it is written: the order that conflicts most.
        let mut accounts = [tx.get(from.at(Bank::accounts)), tx.get(to.at(Bank::accounts))];
        accounts[0][0] = accounts[0][0].wrapping_sub(1);
        accounts[1][1] = accounts[1][1].wrapping_add(1);
        tx.set(from.at(Bank::accounts), accounts[0])?;
        tx.set(to.at(Bank::accounts), accounts[1])?;
        for bank in [from, to] {
            tx.edit(bank.at(Bank::transfers), |transfers| transfers[thread] += 1)?;
        }
        Ok(())
    })
}

/// What is in all accounts, and how many transfers each thread has made, of which all banks know.
fn look<B: Backend>(space: &Space<B>, ids: &[ObjId]) -> Result<(u64, [u64; 4]), Error> {
    space.transact(|tx| {
        let mut sum = 0u64;
        let mut known = Vec::new();
        for &id in ids {
            let bank = bank(tx, id)?;
            sum = tx.get(bank.at(Bank::accounts)).into_iter().fold(sum, u64::wrapping_add);
            known.push(tx.get(bank.at(Bank::transfers)));
            // So that nobody else has a lock left.
            tx.edit(bank.at(Bank::accounts), |_| ())?;
        }
        known.dedup();
        if known.len() == 1 { Ok((sum, known[0])) } else { Err(Error::Damaged) }
    })
}

fn schedules(usual: usize) -> usize {
    std::env::var("TWIZZLER_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn try_all(usual: usize, run: fn()) {
    fn runner(scheduler: impl Scheduler + 'static, run: fn()) {
        let mut config = Config::new();
        config.stack_size = 1 << 20;
        Runner::new(scheduler, config).run(run);
    }
    let count = schedules(usual);
    runner(RandomScheduler::new_from_seed(1, count), run);
    runner(PctScheduler::new_from_seed(2, 4, count), run);
}

const TRANSFERS: usize = 2;
/// Within so many steps, a program makes its transfers, unless it waits for long.
const STEPS: u64 = 600;
/// The same of stores.
const STORES: u64 = 40;

/// Two threads of one program and one of another: nobody sleeps for ever, and as if one transaction came after the other.
fn everybody_lives(flaw: Flaw, sink: Sink) {
    let machine = Machine::new(u64::MAX, true, flaw, sink);
    let spaces = [0, 2].map(|number| machine.start(number).expect("attach"));
    let ids = banks(&spaces[0]).expect("made");
    thread::scope(|scope| {
        for thread in 0..3 {
            let (spaces, ids) = (&spaces, &ids);
            scope.spawn(move || {
                for number in 0..TRANSFERS {
                    transfer(&spaces[thread % 2], ids, thread, number).expect("moved");
                }
            });
        }
    });
    let all = TRANSFERS as u64;
    assert_eq!(look(&spaces[1], &ids), Ok((START * 4, [all, all, all, 0])));
}

/// How many threads were killed after so many transfers: with lanes, with a log.
static KILLED: [[AtomicU64; TRANSFERS + 1]; 2] = [const { [const { AtomicU64::new(0) }; TRANSFERS + 1] }; 2];

/// One program is killed at any step, with its two threads, while two threads of another one go on.
fn one_is_killed(flaw: Flaw, sink: Sink) {
    let counts = [Counts::Steps, Counts::Stores][thread_rng().gen_range(0..2)];
    let most = if counts == Counts::Steps { STEPS } else { STORES };
    let steps = if flaw == Flaw::Burial { u64::MAX } else { thread_rng().gen_range(0..most) };
    let machine = Machine { counts, ..Machine::new(steps, false, flaw, sink) };
    let survivor = machine.start(0).expect("attach");
    let ids = banks(&survivor).expect("made");
    let told = [0; 2].map(AtomicU64::new);
    let is_killed = |result: std::thread::Result<()>| {
        assert!(result.is_ok() || result.is_err_and(|why| why.is::<Killed>()));
    };
    thread::scope(|scope| {
        let victim = scope.spawn(|| {
            is_killed(catch_unwind(AssertUnwindSafe(|| {
                let space = machine.start(VICTIM).expect("attach");
                thread::scope(|inner| {
                    for thread in [2, 3] {
                        let (space, ids, told) = (&space, &ids, &told[thread - 2]);
                        inner.spawn(move || {
                            is_killed(catch_unwind(AssertUnwindSafe(|| {
                                for number in 0..TRANSFERS {
                                    transfer(space, ids, thread, number).expect("moved");
                                    told.fetch_add(1, Ordering::Relaxed);
                                }
                            })));
                        });
                    }
                });
            })));
        });
        let others: Vec<_> = (0..2)
            .map(|thread| {
                let (survivor, ids) = (&survivor, &ids);
                scope.spawn(move || {
                    for number in 0..TRANSFERS {
                        transfer(survivor, ids, thread, number).expect("moved");
                    }
                })
            })
            .collect();
        others.into_iter().for_each(|other| other.join().expect("no panic"));
        while !victim.is_finished() && !machine.is_dead.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        let all = TRANSFERS as u64;
        let (sum, [first, second, found @ ..]) = look(&survivor, &ids).expect("whole");
        assert_eq!((sum, first, second), (START * 4, all, all), "killed after {steps} steps");
        for (told, found) in told.iter().zip(found) {
            let told = told.load(Ordering::Relaxed);
            if machine.is_dead.load(Ordering::Relaxed) {
                KILLED[usize::from(sink == Sink::Log)][told as usize].fetch_add(1, Ordering::Relaxed);
            }
            assert!(
                found == told || found == told + 1,
                "{found} of {told} transfers, killed after {steps} steps"
            );
        }
        let last = machine.start(2).expect("attach");
        assert_eq!(last.recovery().damaged, 0);
        assert_eq!(look(&last, &ids).map(|(sum, _)| sum), Ok(START * 4));
        machine.is_over.store(true, Ordering::Relaxed);
        let stopped = std::mem::take(&mut *machine.stopped.lock().expect("no panic"));
        stopped.iter().for_each(thread::Thread::unpark);
        victim.join().expect("no panic");
    });
}

#[test]
fn nobody_sleeps_for_ever() {
    try_all(60, || everybody_lives(Flaw::None, Sink::Lanes));
}

#[test]
fn what_waits_for_the_log_is_seen_by_whoever_takes_the_lock() {
    try_all(60, || everybody_lives(Flaw::None, Sink::Log));
}

fn in_the_midst_of_each_transfer(sink: Sink) {
    let killed = KILLED[usize::from(sink == Sink::Log)].each_ref().map(|count| count.load(Ordering::Relaxed));
    assert!(killed[..TRANSFERS].iter().all(|&count| count > 5), "{killed:?}");
}

#[test]
fn a_survivor_finishes_what_a_killed_program_had_begun() {
    try_all(100, || one_is_killed(Flaw::None, Sink::Lanes));
    in_the_midst_of_each_transfer(Sink::Lanes);
}

#[test]
fn a_survivor_finishes_what_a_killed_program_had_logged() {
    try_all(100, || one_is_killed(Flaw::None, Sink::Log));
    in_the_midst_of_each_transfer(Sink::Log);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_lost_wake_is_noticed() {
    try_all(60, || everybody_lives(Flaw::Sleep, Sink::Lanes));
}

#[test]
#[should_panic]
fn a_living_program_that_is_buried_is_noticed() {
    try_all(100, || one_is_killed(Flaw::Burial, Sink::Lanes));
}

#[test]
#[should_panic]
fn a_logged_record_that_nobody_finishes_is_noticed() {
    try_all(100, || one_is_killed(Flaw::Forgotten, Sink::Log));
}
