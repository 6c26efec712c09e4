//! Two programs that change the same objects: one of them tries at each step of the other one's commit, on another CPU, and gets the locks as
//! soon as they are free. Then the power is cut. What the first one leaves must be durable before its locks go.

use std::cell::{Cell, RefCell};

use twizzler_abi::Error;
use twizzler_campaign::objects::{SimObjects, memory_bytes};
use twizzler_campaign::programs::{Program, Under};
use twizzler_crashsim::{Config, Effort, Log, Scenario, SimMemory, check_crashes};
use twizzler_object::{InvPtr, Reader, Space, Stored, Tx};

/// One of two objects that both programs change, each at lines of its own.
#[derive(Stored)]
#[stored(name = "test.contended", version = 1)]
#[repr(C)]
struct Root {
    counts: [[u64; 16]; 2],
    other: InvPtr<Root>,
}

const START: [u8; 16] = *b"contended start!";

/// How often each program has counted.
type Counts = [u64; 2];

/// Counts in both objects; gives what is there then.
fn count(space: &Space<Under<'_, '_>>, program: usize) -> Result<Counts, Error> {
    let guard = space.enter();
    let first = guard.well_known::<Root>(START)?.base();
    let change = |tx: &mut Tx<'_, _>| {
        tx.lock(first.object())?;
        let other = tx.follow(first.at(Root::other))?.ok_or(Error::Damaged)?;
        for root in [first, other] {
            let own = root.at(Root::counts).index(program).ok_or(Error::Damaged)?;
            tx.edit(own, |own| own.iter_mut().for_each(|count| *count += 1))?;
        }
        Ok(tx.get(first.at(Root::counts)).map(|counts| counts[0]))
    };
    guard.transact(change)
}

fn look(space: &Space<Under<'_, '_>>) -> Result<Counts, String> {
    let guard = space.enter();
    let error = |error: Error| error.to_string();
    let first = guard.well_known::<Root>(START).map_err(error)?.base();
    let other = guard.follow(first.at(Root::other)).map_err(error)?.ok_or("no second one")?;
    let [one, two] = [first, other].map(|root| guard.get(root.at(Root::counts)));
    let counts = one.map(|counts| counts[0]);
    let whole = counts.map(|count| [count; 16]);
    if [one, two] == [whole; 2] { Ok(counts) } else { Err(format!("they differ: {one:?}, {two:?}")) }
}

/// The other one tries before this step of the first one.
struct Contended(u64);

impl Scenario for Contended {
    type State = Counts;

    fn len_bytes(&self) -> u64 {
        memory_bytes(9)
    }

    fn setup(&self, memory: &SimMemory) {
        let sim = SimObjects::boot(memory);
        let spaces = [0, 1].map(|number| Program::new(number).start(&sim).expect("attached"));
        {
            let guard = spaces[0].enter();
            let first = guard.well_known::<Root>(START).expect("made").base();
            let made = guard.transact(|tx| {
                let other = tx.create::<Root>()?.base();
                tx.link(first.at(Root::other), Some(other))
            });
            made.expect("committed");
        }
        for (program, space) in spaces.iter().enumerate() {
            count(space, program).expect("committed");
        }
    }

    fn run(&self, memory: &SimMemory, log: &mut Log<'_, Counts>) {
        let sim = SimObjects::boot(memory);
        let second = Program::new(1).start(&sim).expect("attached");
        let log = RefCell::new(log);
        let told = Cell::new([1, 1]);
        // Each tells what it has seen, its own count too: all of that is there from then on.
        let tell = |seen: Counts| {
            let known = told.get();
            told.set([known[0].max(seen[0]), known[1].max(seen[1])]);
            log.borrow_mut().acknowledge(told.get());
        };
        let other = || {
            memory.run_on(1);
            match count(&second, 1) {
                Ok(seen) => tell(seen),
                // The first one has them.
                Err(error) => assert_eq!(error, Error::Busy),
            }
            memory.run_on(0);
        };
        let first = Program::cut_at(0, self.0, |_| true, &other).start(&sim).expect("attached");
        tell(count(&first, 0).expect("committed around the other one"));
    }

    fn recover(&self, memory: &SimMemory) -> Result<Counts, String> {
        let sim = SimObjects::boot(memory);
        let space = Program::new(0).start(&sim).map_err(|error| error.to_string())?;
        if space.recovery().damaged != 0 {
            return Err(format!("{:?}", space.recovery()));
        }
        look(&space)
    }

    fn keeps(&self, promised: &Counts, found: &Counts) -> bool {
        promised.iter().zip(found).all(|(promised, found)| (*promised..=2).contains(found))
    }
}

/// What became of the other one's try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tried {
    /// The first one had no such step.
    Never,
    Refused,
    /// It committed: before the first one, or after it.
    Before,
    After,
}

fn tries(at: u64) -> Tried {
    let contended = Contended(at);
    let memory = SimMemory::zeroed(contended.len_bytes());
    contended.setup(&memory);
    let sim = SimObjects::boot(&memory);
    let second = Program::new(1).start(&sim).expect("attached");
    let tried = Cell::new(Tried::Never);
    let other = || {
        tried.set(match count(&second, 1) {
            Ok([1, 2]) => Tried::Before,
            Ok([2, 2]) => Tried::After,
            Err(Error::Busy) => Tried::Refused,
            result => panic!("{result:?} at step {at}"),
        });
    };
    let first = Program::cut_at(0, at, |_| true, &other).start(&sim).expect("attached");
    count(&first, 0).expect("committed");
    tried.get()
}

#[test]
fn locks_go_when_all_that_is_under_them_is_durable() {
    let effort = Effort { exhaustive: 16, samples: 4, singles: 12 };
    let config = Config { effort, nested: None, ..Config::default() };
    let mut all = Vec::new();
    for at in 1.. {
        let tried = tries(at);
        match tried {
            Tried::Never => break,
            // The first one's transaction is whole in each image that another scenario makes.
            Tried::Refused => {}
            Tried::Before | Tried::After => {
                check_crashes(&Contended(at), &config)
                    .unwrap_or_else(|failure| panic!("at step {at}: {failure}"));
            }
        }
        all.push(tried);
    }
    let number = |wanted| all.iter().filter(|&&tried| tried == wanted).count();
    println!(
        "{} before, {} refused, {} after",
        number(Tried::Before),
        number(Tried::Refused),
        number(Tried::After)
    );
    assert!(number(Tried::Before) > 0 && number(Tried::Refused) > 10 && number(Tried::After) > 0, "{all:?}");
}
