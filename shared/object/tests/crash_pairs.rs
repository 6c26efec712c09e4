//! Two transactions of two programs in the midst of their commits, and the power is cut: both lanes are recovered.
//!
//! At each step of the one in turn, the other one begins, commits on another CPU, and returns. So each pair of how far they have come is there
//! when the power is cut, whichever of them began.

use std::cell::{Cell, RefCell};

use twizzler_abi::Error;
use twizzler_campaign::hooked::Step;
use twizzler_campaign::objects::{SimObjects, memory_bytes};
use twizzler_campaign::programs::{Program, Under};
use twizzler_crashsim::{Config, Effort, Log, Scenario, SimMemory, check_crashes};
use twizzler_object::{Guard, InvPtr, Ptr, Reader, Space, Stored, Tx};

/// One of two that a transaction keeps equal.
#[derive(Stored)]
#[stored(name = "test.twin", version = 1)]
#[repr(C)]
struct Twin {
    values: [u64; 12],
    other: InvPtr<Twin>,
    next: InvPtr<Twin>,
    guest: InvPtr<Twin>,
}

const START: [u8; 16] = *b"crash pair start";

/// How often each transaction has committed. None: it runs, so nobody knows.
type Commits = [Option<u64>; 2];

/// What only programs that run can tell needs no cut.
fn shows(step: Step) -> bool {
    step != Step::Shared
}

type Twins<'g> = [Ptr<'g, Twin>; 2];

/// Both transactions' twins, which are four objects.
fn twins<'g>(guard: &'g Guard<'_, Under<'_, '_>>) -> Result<[Twins<'g>; 2], Error> {
    let first = guard.well_known::<Twin>(START)?.base();
    if guard.follow(first.at(Twin::next))?.is_none() {
        guard.transact(|tx| {
            let made = [(); 3].map(|()| tx.create::<Twin>());
            let [second, third, fourth] = made;
            let [second, third, fourth] = [second?.base(), third?.base(), fourth?.base()];
            tx.link(first.at(Twin::other), Some(second))?;
            tx.link(third.at(Twin::other), Some(fourth))?;
            tx.link(first.at(Twin::next), Some(third))
        })?;
    }
    let pair = |first: Ptr<'g, Twin>| {
        Ok::<_, Error>([first, guard.follow(first.at(Twin::other))?.ok_or(Error::Damaged)?])
    };
    let third = guard.follow(first.at(Twin::next))?.ok_or(Error::Damaged)?;
    Ok([pair(first)?, pair(third)?])
}

/// Counts in both twins, over several lines. The first one also makes an object and lets go of the one before.
fn count<'g, 'h, 'm>(tx: &mut Tx<'g, Under<'h, 'm>>, twins: Twins<'g>, makes: bool) -> Result<(), Error> {
    for twin in twins {
        tx.edit(twin.at(Twin::values), |values| values.iter_mut().for_each(|value| *value += 1))?;
    }
    if makes {
        let before = tx.follow(twins[0].at(Twin::guest))?;
        let made = tx.create::<Twin>()?.base();
        let value = tx.get(twins[0].at(Twin::values))[0];
        tx.set(made.at(Twin::values), [value; 12])?;
        tx.link(twins[0].at(Twin::guest), Some(made))?;
        if let Some(before) = before {
            tx.delete(tx.space().id_of(before.object()))?;
        }
    }
    Ok(())
}

/// How often twins were counted in, if they agree.
fn look<'g>(
    guard: &'g Guard<'_, Under<'_, '_>>,
    [one, other]: Twins<'g>,
    makes: bool,
) -> Result<u64, String> {
    let values = [one, other].map(|twin| guard.get(twin.at(Twin::values)));
    let [value, ..] = values[0];
    if values != [[value; 12]; 2] {
        return Err(format!("twins differ: {values:?}"));
    }
    if makes && value > 0 {
        let guest =
            guard.follow(one.at(Twin::guest)).map_err(|error| error.to_string())?.ok_or("no guest")?;
        if guard.get(guest.at(Twin::values)) != [value; 12] {
            return Err(format!("a guest of another time than {value}"));
        }
    }
    Ok(value)
}

/// The transaction at one of whose steps the other one comes.
struct Pair {
    /// Before which step of the first one.
    at: u64,
    /// Whether the first one makes objects, or the other one.
    first_makes: bool,
}

impl Pair {
    fn commit(&self, space: &Space<Under<'_, '_>>, which: usize) -> Result<(), Error> {
        let guard = space.enter();
        let twins = twins(&guard)?[which];
        guard.transact(|tx| count(tx, twins, self.first_makes == (which == 0)))
    }
}

impl Scenario for Pair {
    type State = Commits;

    fn len_bytes(&self) -> u64 {
        memory_bytes(16)
    }

    fn setup(&self, memory: &SimMemory) {
        let sim = SimObjects::boot(memory);
        // Both have had a lane, and something to be overwritten by.
        let spaces = [0, 1].map(|number| Program::new(number).start(&sim).expect("attached"));
        for (which, space) in spaces.iter().enumerate() {
            self.commit(space, which).expect("committed");
        }
    }

    fn run(&self, memory: &SimMemory, log: &mut Log<'_, Commits>) {
        let sim = SimObjects::boot(memory);
        let second = Program::new(1).start(&sim).expect("attached");
        log.operation([Some(1), Some(2)], || {
            self.commit(&second, 1).expect("committed, and the lane is claimed");
        });
        let log = RefCell::new(log);
        let done = Cell::new(false);
        let other = || {
            log.borrow_mut().begin_any(vec![[None, None]]);
            memory.run_on(1);
            self.commit(&second, 1).expect("committed in the midst of the other one");
            memory.run_on(0);
            log.borrow_mut().acknowledge([None, Some(3)]);
            done.set(true);
        };
        let first = Program::cut_at(0, self.at, shows, &other).start(&sim).expect("attached");
        log.borrow_mut().begin_any(vec![[None, Some(2)]]);
        self.commit(&first, 0).expect("committed around the other one");
        log.borrow_mut().acknowledge([Some(2), Some(if done.get() { 3 } else { 2 })]);
    }

    fn recover(&self, memory: &SimMemory) -> Result<Commits, String> {
        let sim = SimObjects::boot(memory);
        let space = Program::new(0).start(&sim).map_err(|error| error.to_string())?;
        if space.recovery().damaged != 0 {
            return Err(format!("{:?}", space.recovery()));
        }
        let guard = space.enter();
        let [one, other] = twins(&guard).map_err(|error| error.to_string())?;
        Ok([Some(look(&guard, one, self.first_makes)?), Some(look(&guard, other, !self.first_makes)?)])
    }

    fn keeps(&self, promised: &Commits, found: &Commits) -> bool {
        promised.iter().zip(found).all(|(promised, found)| promised.is_none() || promised == found)
    }
}

/// True if the other one came before the first one was done.
fn check(at: u64, first_makes: bool) -> bool {
    let pair = Pair { at, first_makes };
    // What the first one leaves when nothing is cut tells if the other one came.
    let memory = SimMemory::zeroed(pair.len_bytes());
    pair.setup(&memory);
    let sim = SimObjects::boot(&memory);
    let came = Cell::new(false);
    let other = || came.set(true);
    let first = Program::cut_at(0, at, shows, &other).start(&sim).expect("attached");
    pair.commit(&first, 0).expect("committed");
    drop(first);
    drop(sim);
    let effort = Effort { exhaustive: 16, samples: 4, singles: 12 };
    let nested = Some(Effort { exhaustive: 4, samples: 2, singles: 2 });
    let config = Config { effort, nested, ..Config::default() };
    check_crashes(&pair, &config).unwrap_or_else(|failure| panic!("at step {at}: {failure}"));
    came.get()
}

fn check_all(first_makes: bool) {
    let steps = (1..).take_while(|&at| check(at, first_makes)).count();
    println!("{steps} steps");
    assert!(steps > 15, "a commit has more than {steps} steps");
}

#[test]
fn one_commits_at_each_step_of_another_that_makes_an_object() {
    check_all(true);
}

#[test]
fn one_that_makes_an_object_commits_at_each_step_of_another() {
    check_all(false);
}
