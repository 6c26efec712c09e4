//! Collections under power cuts: each change happens wholly or not at all, whatever the image, and nothing leaks.

use std::collections::BTreeMap;

use twizzler_abi::Error;
use twizzler_campaign::objects::{SimObjects, memory_bytes};
use twizzler_crashsim::{Config, Log as Acknowledged, Scenario, SimMemory, check_crashes};
use twizzler_object::collections::{
    HashMap, HashMapRoot, List, ListRoot, Log, LogRoot, OrderedMap, OrderedMapRoot, Vector, VectorRoot,
};
use twizzler_object::{Guard, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.crash-collections", version = 1)]
#[repr(C)]
struct Root {
    ordered: OrderedMapRoot<u64, u64>,
    hashed: HashMapRoot<u64, u64>,
    vector: VectorRoot<u64>,
    list: ListRoot<u64>,
    log: LogRoot,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct State {
    maps: BTreeMap<u64, u64>,
    values: Vec<u64>,
    log: Vec<Vec<u8>>,
}

impl Default for State {
    /// As it is set up.
    fn default() -> Self {
        Self { maps: (0..BEFORE).map(|n| (n * 10, n)).collect(), values: Vec::new(), log: Vec::new() }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(u64, u64),
    Remove(u64),
    Push(u64),
    Pop,
    Append(usize),
}

const START: [u8; 16] = *b"collections root";
/// Entries that are there from the beginning: two levels, and a few buckets.
const BEFORE: u64 = 40;

/// Put in and taken out after each recovery.
const PROBE: u64 = 999_999;

type G<'g, 'm> = Guard<'g, SimObjects<'m>>;

fn perform(guard: &G<'_, '_>, step: Step) -> Result<(), Error> {
    let root = guard.well_known::<Root>(START)?.base();
    let (ordered, hashed) = (OrderedMap::new(root.at(Root::ordered)), HashMap::new(root.at(Root::hashed)));
    let (vector, list) = (Vector::new(root.at(Root::vector)), List::new(root.at(Root::list)));
    let log = Log::new(root.at(Root::log));
    guard.transact(|tx| match step {
        Step::Insert(key, value) => {
            ordered.insert(tx, key, value)?;
            hashed.insert(tx, key, value).map(drop)
        }
        Step::Remove(key) => {
            ordered.remove(tx, &key)?;
            hashed.remove(tx, &key).map(drop)
        }
        Step::Push(value) => {
            vector.push(tx, value)?;
            list.push_back(tx, value).map(drop)
        }
        Step::Pop => {
            vector.pop(tx)?;
            list.pop_back(tx).map(drop)
        }
        Step::Append(len) => log.append(tx, &vec![len as u8; len]).map(drop),
    })
}

fn model(state: &State, step: Step) -> State {
    let mut after = state.clone();
    match step {
        Step::Insert(key, value) => drop(after.maps.insert(key, value)),
        Step::Remove(key) => drop(after.maps.remove(&key)),
        Step::Push(value) => after.values.push(value),
        Step::Pop => drop(after.values.pop()),
        Step::Append(len) => after.log.push(vec![len as u8; len]),
    }
    after
}

fn look(guard: &G<'_, '_>) -> Result<State, Error> {
    let reader = &guard;
    let root = guard.well_known::<Root>(START)?.base();
    let maps: BTreeMap<_, _> =
        OrderedMap::new(root.at(Root::ordered)).iter(reader).collect::<Result<_, _>>()?;
    let hashed: BTreeMap<_, _> =
        HashMap::new(root.at(Root::hashed)).iter(reader).collect::<Result<_, _>>()?;
    let values: Vec<_> = Vector::new(root.at(Root::vector)).iter(reader).collect::<Result<_, _>>()?;
    let list: Vec<_> = List::new(root.at(Root::list)).iter(reader).collect::<Result<_, _>>()?;
    let log = Log::new(root.at(Root::log)).iter(reader).collect::<Result<_, _>>()?;
    if maps != hashed || values != list {
        return Err(Error::Damaged);
    }
    Ok(State { maps, values, log })
}

struct Steps(Vec<Step>);

impl Scenario for Steps {
    type State = State;

    fn len_bytes(&self) -> u64 {
        memory_bytes(6)
    }

    fn setup(&self, memory: &SimMemory) {
        let space = Space::attach(SimObjects::boot(memory)).expect("attached");
        let guard = space.enter();
        let root = guard.well_known::<Root>(START).expect("made").base();
        let (ordered, hashed) =
            (OrderedMap::new(root.at(Root::ordered)), HashMap::new(root.at(Root::hashed)));
        guard
            .transact(|tx| {
                (0..BEFORE).try_for_each(|n| {
                    ordered.insert(tx, n * 10, n)?;
                    hashed.insert(tx, n * 10, n).map(drop)
                })
            })
            .expect("filled");
    }

    fn run(&self, memory: &SimMemory, log: &mut Acknowledged<'_, State>) {
        let space = Space::attach(SimObjects::boot(memory)).expect("attached");
        let guard = space.enter();
        let mut state = look(&guard).expect("whole");
        for &step in &self.0 {
            state = model(&state, step);
            log.begin(state.clone());
            perform(&guard, step).expect("done");
            log.acknowledge(state.clone());
        }
    }

    fn recover(&self, memory: &SimMemory) -> Result<State, String> {
        let space = Space::attach(SimObjects::boot(memory)).map_err(|error| error.to_string())?;
        let guard = space.enter();
        let mut found = look(&guard).map_err(|error| error.to_string())?;
        // A recovery that was cut off may have left its probes.
        let probes = [
            (found.maps.contains_key(&PROBE), Step::Remove(PROBE)),
            (found.values.last() == Some(&PROBE), Step::Pop),
        ];
        for (_, step) in probes.into_iter().filter(|(there, _)| *there) {
            perform(&guard, step).map_err(|error| format!("{step:?} of the probe: {error}"))?;
            found = look(&guard).map_err(|error| error.to_string())?;
        }
        // What was recovered goes on working.
        for step in [Step::Insert(PROBE, 5), Step::Push(PROBE), Step::Remove(PROBE), Step::Pop] {
            perform(&guard, step).map_err(|error| format!("{step:?} after recovery: {error}"))?;
        }
        let after = look(&guard).map_err(|error| error.to_string())?;
        if after == found { Ok(found) } else { Err(format!("{found:?} became {after:?}")) }
    }
}

fn check(steps: &[Step]) {
    match check_crashes(&Steps(steps.to_vec()), &Config::default()) {
        Ok(report) => println!("{report}"),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn maps_change_wholly_or_not_at_all() {
    check(&[Step::Insert(15, 1), Step::Insert(20, 2), Step::Remove(30), Step::Insert(16, 3)]);
}

#[test]
fn vectors_lists_and_logs_change_wholly_or_not_at_all() {
    check(&[Step::Push(1), Step::Append(10), Step::Push(2), Step::Pop, Step::Append(900)]);
}
