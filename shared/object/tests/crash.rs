//! Transactions under power cuts: every image that x86 may leave, recovery crashed as well.

use twizzler_abi::Error;
use twizzler_campaign::objects::{SimObjects, memory_bytes};
use twizzler_crashsim::{Config, Log, Scenario, SimMemory, check_crashes, mutation_run};
use twizzler_object::{Access, Backend, InvBytes, InvPtr, Object, Ptr, Reader, Space, Tx, record};

record! {
    /// What each test object holds: some sums, and a list.
    struct Root: "test.crash", 1 {
        sums: [u64; 16],
        first: InvPtr<Node>,
        other: InvPtr<Root>,
        /// An object that comes and goes.
        guest: InvPtr<Root>,
    }

    struct Node: "test.crash-node", 1 {
        next: InvPtr<Node>,
        value: u64,
        text: InvBytes,
    }
}

/// Everyone's start.
const START: [u8; 16] = *b"crash test start";

/// Pushed and popped after each recovery.
const PROBE: u64 = 999_999;

/// What one can tell of the objects.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct State {
    sums: [[u64; 16]; 2],
    values: Vec<u64>,
    guest: Option<u64>,
    objects: usize,
}

type S<'m> = SimObjects<'m>;

fn start<'s>(space: &'s Space<S<'_>>) -> Result<[Object<'s, Root>; 2], Error> {
    let first = space.well_known::<Root>(START)?;
    let place = first.base().at(Root::other);
    if space.follow(place)?.is_none() {
        space.transact(|tx| {
            let other = tx.create::<Root>()?;
            tx.link(place, Some(other.base()))
        })?;
    }
    let other = space.follow(place)?.ok_or(Error::Damaged)?;
    Ok([first, space.open(space.id_of(other.object()), Access::Write)?])
}

/// Moves `amount` between sums of both objects.
fn transfer<'s, B: Backend>(
    tx: &mut Tx<'s, B>,
    [a, b]: [Ptr<'s, Root>; 2],
    index: usize,
    amount: u64,
) -> Result<(), Error> {
    tx.lock(a.object())?;
    tx.lock(b.object())?;
    let from = a.at(Root::sums).index(index).ok_or(Error::OutOfRange)?;
    let to = b.at(Root::sums).index(15 - index).ok_or(Error::OutOfRange)?;
    tx.set(from, tx.get(from).wrapping_sub(amount))?;
    tx.set(to, tx.get(to).wrapping_add(amount))
}

/// Puts a node at the head of the list; nodes lie in both objects in turn.
fn push<'s, B: Backend>(tx: &mut Tx<'s, B>, roots: [Ptr<'s, Root>; 2], value: u64) -> Result<(), Error> {
    let head = roots[0].at(Root::first);
    tx.lock(head.object())?;
    let area = roots[value as usize % 2].object();
    let node = tx.alloc::<Node>(area)?;
    let text = tx.alloc_bytes(area, value.to_string().repeat(40).as_bytes())?;
    tx.link_span(node.at(Node::text), text)?;
    tx.set(node.at(Node::value), value)?;
    let first = tx.follow(head)?;
    tx.link(node.at(Node::next), first)?;
    tx.link(head, Some(node))
}

fn pop<'s, B: Backend>(tx: &mut Tx<'s, B>, roots: [Ptr<'s, Root>; 2]) -> Result<(), Error> {
    let head = roots[0].at(Root::first);
    tx.lock(head.object())?;
    let node = tx.follow(head)?.ok_or(Error::Damaged)?;
    let next = tx.follow(node.at(Node::next))?;
    tx.link(head, next)?;
    let text = tx.follow_span(node.at(Node::text))?;
    tx.free_span(text)?;
    tx.free(node)
}

fn state(space: &Space<S<'_>>, roots: [Ptr<'_, Root>; 2]) -> Result<State, Error> {
    let mut values = Vec::new();
    let mut used = [0, 0];
    let mut next = space.follow(roots[0].at(Root::first))?;
    while let Some(node) = next {
        let value = space.get(node.at(Node::value));
        let text = space.follow_span(node.at(Node::text))?;
        if space.to_vec(text) != value.to_string().repeat(40).as_bytes() {
            return Err(Error::Damaged);
        }
        used[value as usize % 2] += 32 + text.len().next_multiple_of(16).max(48);
        values.push(value);
        next = space.follow(node.at(Node::next))?;
    }
    for (root, used) in roots.into_iter().zip(used) {
        // Nothing has leaked, nothing is given out twice.
        let heap = space.heap_usage(root.object())?;
        if heap.used_bytes < used || heap.used_bytes > used * 2 {
            panic!("{heap:?} with {used} bytes in use");
        }
    }
    let guest = space.follow(roots[0].at(Root::guest))?;
    let sum = |guest: Ptr<'_, Root>| guest.at(Root::sums).index(3).map(|place| space.get(place));
    Ok(State {
        sums: roots.map(|root| space.get(root.at(Root::sums))),
        values,
        guest: guest.and_then(sum),
        objects: space.backend().ids().len(),
    })
}

/// One of the things that the scenario does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Transfer(usize, u64),
    Push(u64),
    Pop,
    /// Makes the guest, or deletes it.
    Guest,
    /// Makes an object, but changes its mind.
    Abort,
    All(u64),
}

struct Steps {
    steps: Vec<Step>,
    /// How many programs run them, one after the other.
    programs: usize,
}

impl Steps {
    fn perform<'s>(tx: &mut Tx<'s, S<'_>>, roots: [Ptr<'s, Root>; 2], step: Step) -> Result<(), Error> {
        match step {
            Step::Transfer(index, amount) => transfer(tx, roots, index, amount),
            Step::Push(value) => push(tx, roots, value),
            Step::Pop => pop(tx, roots),
            Step::Guest => {
                tx.lock(roots[0].object())?;
                let place = roots[0].at(Root::guest);
                if let Some(guest) = tx.follow(place)? {
                    tx.delete(tx.space().id_of(guest.object()))?;
                    return tx.link(place, None);
                }
                let guest = tx.create::<Root>()?.base();
                let sum = guest.at(Root::sums).index(3).ok_or(Error::OutOfRange)?;
                tx.set(sum, 77)?;
                tx.link(place, Some(guest))
            }
            Step::Abort => {
                push(tx, roots, 1000)?;
                push(tx, roots, 1001)?;
                let made = tx.create::<Root>()?.base();
                push(tx, [made, made], 3)?;
                Err(Error::Interrupted)
            }
            Step::All(value) => {
                push(tx, roots, value)?;
                transfer(tx, roots, 5, value)?;
                push(tx, roots, value + 1)?;
                pop(tx, roots)
            }
        }
    }

    fn model(state: &State, step: Step) -> State {
        let mut after = state.clone();
        let mut transfer = |index: usize, amount: u64| {
            after.sums[0][index] = after.sums[0][index].wrapping_sub(amount);
            after.sums[1][15 - index] = after.sums[1][15 - index].wrapping_add(amount);
        };
        match step {
            Step::Transfer(index, amount) => transfer(index, amount),
            Step::Push(value) => after.values.insert(0, value),
            Step::Pop => drop(after.values.remove(0)),
            Step::Guest if after.guest.is_some() => (after.guest, after.objects) = (None, after.objects - 1),
            Step::Guest => (after.guest, after.objects) = (Some(77), after.objects + 1),
            Step::Abort => {}
            Step::All(value) => {
                transfer(5, value);
                after.values.insert(0, value);
            }
        }
        after
    }
}

impl Scenario for Steps {
    type State = State;

    fn len_bytes(&self) -> u64 {
        memory_bytes(8)
    }

    fn setup(&self, memory: &SimMemory) {
        let space = Space::attach(SimObjects::boot(memory)).expect("attach");
        start(&space).expect("start");
    }

    fn run(&self, memory: &SimMemory, log: &mut Log<'_, State>) {
        let mut space = Space::attach(SimObjects::boot(memory)).expect("attach");
        for (number, &step) in self.steps.iter().enumerate() {
            if number > 0 && number % self.steps.len().div_ceil(self.programs) == 0 {
                drop(space);
                space = Space::attach(SimObjects::boot(memory)).expect("attach");
            }
            let roots = start(&space).expect("open").map(Object::base);
            let after = Self::model(log.acknowledged(), step);
            log.begin(after.clone());
            let result = space.transact(|tx| Self::perform(tx, roots, step));
            assert_eq!(result.is_err(), matches!(step, Step::Abort), "{step:?}: {result:?}");
            log.acknowledge(after);
        }
    }

    fn recover(&self, memory: &SimMemory) -> Result<State, String> {
        let space = Space::attach(SimObjects::boot(memory)).map_err(|e| format!("attach: {e}"))?;
        if space.recovery().damaged != 0 {
            return Err(format!("{:?}", space.recovery()));
        }
        let roots = start(&space).map_err(|e| format!("start: {e}"))?.map(Object::base);
        let mut found = state(&space, roots).map_err(|e| e.to_string())?;
        if found.values.first() == Some(&PROBE) {
            space.transact(|tx| pop(tx, roots)).map_err(|e| format!("pop of the probe: {e}"))?;
            found = state(&space, roots).map_err(|e| e.to_string())?;
        }
        // What was recovered goes on working.
        space.transact(|tx| push(tx, roots, PROBE)).map_err(|e| format!("push after recovery: {e}"))?;
        space.transact(|tx| pop(tx, roots)).map_err(|e| format!("pop after recovery: {e}"))?;
        let after = state(&space, roots).map_err(|e| e.to_string())?;
        if after != found { Err(format!("{found:?} became {after:?}")) } else { Ok(found) }
    }
}

fn check(steps: &[Step], programs: usize) {
    let scenario = Steps { steps: steps.to_vec(), programs };
    match check_crashes(&scenario, &Config::default()) {
        Ok(report) => println!("{report}"),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn transfers_are_atomic() {
    check(&[Step::Transfer(0, 5), Step::Transfer(1, 7), Step::Transfer(0, 9)], 1);
}

#[test]
fn nothing_leaks_and_nothing_is_given_out_twice() {
    check(&[Step::Push(1), Step::Push(2), Step::Pop, Step::Push(4), Step::Pop, Step::Pop], 1);
}

#[test]
fn objects_come_and_go_with_their_transaction() {
    check(&[Step::Guest, Step::Push(1), Step::Guest, Step::Abort, Step::Guest], 1);
}

#[test]
fn programs_follow_each_other() {
    check(&[Step::All(10), Step::Abort, Step::All(20), Step::Pop, Step::Guest, Step::All(30)], 3);
}

#[test]
#[ignore = "minutes; run with --ignored"]
fn every_flush_and_fence_is_needed() {
    let steps = vec![Step::All(10), Step::Guest, Step::Abort, Step::Pop, Step::Guest];
    let found = mutation_run(&Steps { steps, programs: 2 }, &Config::default()).expect("sound");
    assert!(found.never_missed().is_empty(), "{found}");
}
