//! Schedules of threads and programs, tried by shuttle: at each word that they share, each store, flush and fence, another one may go on.
//!
//! Memory is that of a machine that stays up: what is killed is a program. It stops for good at any step, with its lane and its locks, and a
//! survivor recovers. `TWIZZLER_SCHEDULES` sets how many schedules are tried; the usual number is for a quick look. A failure prints the
//! schedule; `shuttle::replay` runs it again.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};
use twizzler_abi::{Error, ObjId};
use twizzler_campaign::hooked::{Hooked, Hooks, Step};
use twizzler_image::MemoryBackend;
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
}

/// What the programs of a machine share beside its memory.
struct Machine {
    memory: MemoryBackend,
    /// Another thread may go on here.
    point: shuttle::sync::atomic::AtomicU64,
    /// Steps that the victim has left.
    steps_left: AtomicU64,
    is_dead: AtomicBool,
    /// Everything has been looked at.
    is_over: AtomicBool,
    /// Who sleeps on which word. None: sleepers look again and again.
    sleepers: Option<Mutex<HashMap<u64, Vec<thread::Thread>>>>,
    flaw: Flaw,
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
    fn new(victims_steps: u64, sleeps: bool, flaw: Flaw) -> Self {
        Self {
            flaw,
            memory: MemoryBackend::new(),
            point: shuttle::sync::atomic::AtomicU64::new(0),
            steps_left: AtomicU64::new(victims_steps),
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
    fn step(&self, _step: Step) {
        let machine = self.machine;
        let is_victim = self.number == VICTIM;
        if is_victim && machine.is_dead.load(Ordering::Relaxed) {
            // Unwinding, when nobody looks any more.
            return;
        }
        machine.point.load(Ordering::SeqCst);
        if is_victim && machine.steps_left.fetch_sub(1, Ordering::Relaxed) == 0 {
            machine.is_dead.store(true, Ordering::Relaxed);
            while !machine.is_over.load(Ordering::Relaxed) {
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
        number.is_some_and(|number| number != VICTIM || !is_dead)
    }

    fn thread(&self, _below: &&'m MemoryBackend) -> u64 {
        (usize::from(shuttle::current::me()) as u64 + 1) * 2
    }

    fn wait(&self, _below: &&'m MemoryBackend, address: u64, value: u64, timeout_ns: u64) -> Waited {
        self.step(Step::Shared);
        match &self.machine.sleepers {
            // Nobody dies, so whoever is not woken sleeps for ever: shuttle calls that a deadlock.
            Some(sleepers) if timeout_ns >= LONG_NS => {
                if word(address).load(Ordering::SeqCst) == value {
                    let mut sleepers = sleepers.lock().expect("no panic");
                    sleepers.entry(address).or_default().push(thread::current());
                    drop(sleepers);
                    thread::park();
                }
            }
            _ => thread::yield_now(),
        }
        Waited::Early
    }

    fn wake(&self, _below: &&'m MemoryBackend, address: u64) {
        self.step(Step::Shared);
        if let Some(sleepers) = &self.machine.sleepers
            && self.machine.flaw != Flaw::Sleep
        {
            let woken = sleepers.lock().expect("no panic").remove(&address);
            woken.into_iter().flatten().for_each(|sleeper| sleeper.unpark());
        }
    }
}

/// The word at that address.
fn word(address: u64) -> &'static AtomicU64 {
    // SAFETY: who waits has the word, aligned by eight, while it does.
    unsafe { &*std::ptr::with_exposed_provenance(address as usize) }
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

/// Two threads of one program and one of another: nobody sleeps for ever, and as if one transaction came after the other.
fn everybody_lives(flaw: Flaw) {
    let machine = Machine::new(u64::MAX, true, flaw);
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

/// How many were killed after so many transfers.
static KILLED: [AtomicU64; TRANSFERS + 1] = [const { AtomicU64::new(0) }; TRANSFERS + 1];

/// One program is killed at any step, while two threads of another one go on.
fn one_is_killed(flaw: Flaw) {
    let steps = if flaw == Flaw::Burial { u64::MAX } else { thread_rng().gen_range(0..STEPS) };
    let machine = Machine::new(steps, false, flaw);
    let survivor = machine.start(0).expect("attach");
    let ids = banks(&survivor).expect("made");
    let told = AtomicU64::new(0);
    thread::scope(|scope| {
        let victim = scope.spawn(|| {
            let killed = catch_unwind(AssertUnwindSafe(|| {
                let space = machine.start(VICTIM).expect("attach");
                for number in 0..TRANSFERS {
                    transfer(&space, &ids, 3, number).expect("moved");
                    told.fetch_add(1, Ordering::Relaxed);
                }
            }));
            assert!(killed.is_ok() || killed.is_err_and(|why| why.is::<Killed>()));
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
        let (sum, [first, second, _, third]) = look(&survivor, &ids).expect("whole");
        assert_eq!((sum, first, second), (START * 4, all, all), "killed after {steps} steps");
        let told = told.load(Ordering::Relaxed);
        if machine.is_dead.load(Ordering::Relaxed) {
            KILLED[told as usize].fetch_add(1, Ordering::Relaxed);
        }
        assert!(
            third == told || third == told + 1,
            "{third} of {told} transfers, killed after {steps} steps"
        );
        let last = machine.start(2).expect("attach");
        assert_eq!(last.recovery().damaged, 0);
        assert_eq!(look(&last, &ids).map(|(sum, _)| sum), Ok(START * 4));
        machine.is_over.store(true, Ordering::Relaxed);
        victim.thread().unpark();
        victim.join().expect("no panic");
    });
}

#[test]
fn nobody_sleeps_for_ever() {
    try_all(60, || everybody_lives(Flaw::None));
}

#[test]
fn a_survivor_finishes_what_a_killed_program_had_begun() {
    try_all(100, || one_is_killed(Flaw::None));
    let killed = KILLED.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert!(
        killed[..TRANSFERS].iter().all(|&count| count > 5),
        "{killed:?}: killed in the midst of each transfer"
    );
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_lost_wake_is_noticed() {
    try_all(60, || everybody_lives(Flaw::Sleep));
}

#[test]
#[should_panic]
fn a_living_program_that_is_buried_is_noticed() {
    try_all(100, || one_is_killed(Flaw::Burial));
}
