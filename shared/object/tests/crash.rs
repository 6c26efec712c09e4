//! Transactions under power cuts: every image that x86 may leave, recovery crashed as well.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use twizzler_abi::address::Slot;
use twizzler_abi::call::{CreateSpec, ObjectStat};
use twizzler_abi::{Error, ObjId, Rights};
use twizzler_campaign::objects::{SimObjects, memory_bytes};
use twizzler_crashsim::{Config, Effort, Log, Mutations, Scenario, SimMemory, check_crashes, mutation_run};
use twizzler_object::backend::{TRANSLATION_BYTES, Waited};
use twizzler_object::types::TYPE_OBJECT_FINGERPRINT;
use twizzler_object::{
    Access, Backend, Guard, InvBytes, InvPtr, Object, Ptr, Reader, Space, Stored, Tx, TypeName,
};

/// What each test object holds: some sums, and a list.
#[derive(Stored)]
#[stored(name = "test.crash", version = 1)]
#[repr(C)]
struct Root {
    sums: [u64; 16],
    first: InvPtr<Node>,
    other: InvPtr<Root>,
    /// An object that comes and goes.
    guest: InvPtr<Root>,
}

#[derive(Stored)]
#[stored(name = "test.crash-node", version = 1)]
#[repr(C)]
struct Node {
    next: InvPtr<Node>,
    value: u64,
    text: InvBytes,
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

/// One of several programs of a machine: they share memory, and all live until the power is cut.
struct Program<'m> {
    machine: &'m Machine<'m>,
    owner: u64,
    /// The translation table's address. It is the program's own.
    table: u64,
}

/// Words of a translation table.
const TABLE_WORDS: usize = (TRANSLATION_BYTES / 8) as usize;

impl Drop for Program<'_> {
    fn drop(&mut self) {
        let table = std::ptr::with_exposed_provenance_mut::<[u64; TABLE_WORDS]>(self.table as usize);
        // SAFETY: made by `Machine::start` from a box, and the space that used it is gone.
        drop(unsafe { Box::from_raw(table) });
    }
}

type S<'m> = Program<'m>;

/// A machine that runs programs.
struct Machine<'m> {
    sim: SimObjects<'m>,
    slots: RefCell<HashMap<ObjId, Slot>>,
    programs: Cell<u64>,
}

impl<'m> Machine<'m> {
    fn boot(memory: &'m SimMemory) -> Self {
        Self { sim: SimObjects::boot(memory), slots: RefCell::default(), programs: Cell::new(0) }
    }

    fn start(&self) -> Space<Program<'_>> {
        self.programs.set(self.programs.get() + 1);
        let owner = self.sim.owner() * 64 + self.programs.get() * 2;
        let table: Box<[u64; TABLE_WORDS]> = vec![0; TABLE_WORDS].try_into().expect("as many words");
        let table = Box::into_raw(table).expose_provenance() as u64;
        Space::attach(Program { machine: self, owner, table }).expect("attach")
    }
}

// SAFETY: as the simulator's; an object that two programs map lies at one slot, which is never unmapped. The table is a box that
// lives as long as the program.
unsafe impl Backend for Program<'_> {
    fn create(&self, spec: &CreateSpec) -> Result<ObjId, Error> {
        self.machine.sim.create(spec)
    }
    fn delete(&self, id: ObjId) -> Result<(), Error> {
        self.machine.sim.delete(id)
    }
    fn stat(&self, id: ObjId) -> Result<ObjectStat, Error> {
        self.machine.sim.stat(id)
    }
    fn map(&self, id: ObjId, _rights: Rights) -> Result<Slot, Error> {
        if let Some(&slot) = self.machine.slots.borrow().get(&id) {
            return Ok(slot);
        }
        let slot = self.machine.sim.map(id, Rights::READ | Rights::WRITE)?;
        self.machine.slots.borrow_mut().insert(id, slot);
        Ok(slot)
    }
    unsafe fn unmap(&self, _slot: Slot) {}
    fn ensure(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.machine.sim.ensure(id, offset, len_bytes)
    }
    fn translation(&self) -> u64 {
        self.table
    }
    fn coordination(&self) -> u64 {
        self.machine.sim.coordination()
    }
    fn thread(&self) -> u64 {
        self.machine.sim.thread()
    }
    fn stored(&self, address: u64, len_bytes: u64) {
        self.machine.sim.stored(address, len_bytes);
    }
    unsafe fn flush(&self, address: u64, len_bytes: u64) {
        // SAFETY: the caller's promise is that of the same method.
        unsafe { self.machine.sim.flush(address, len_bytes) };
    }
    fn fence(&self) {
        self.machine.sim.fence();
    }
    fn owner(&self) -> u64 {
        self.owner
    }
    fn is_alive(&self, owner: u64) -> bool {
        owner / 64 == self.machine.sim.owner()
    }
    fn wait(&self, _word: &AtomicU64, _value: u64, _timeout_ns: u64) -> Waited {
        Waited::TimedOut
    }
    fn wake(&self, _word: &AtomicU64) {}
    fn random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        self.machine.sim.random(bytes)
    }
}

fn start<'s>(guard: &'s Guard<'_, S<'_>>) -> Result<[Object<'s, Root>; 2], Error> {
    let first = guard.well_known::<Root>(START)?;
    let place = first.base().at(Root::other);
    if guard.follow(place)?.is_none() {
        guard.transact(|tx| {
            let other = tx.create::<Root>()?;
            tx.link(place, Some(other.base()))
        })?;
    }
    let other = guard.follow(place)?.ok_or(Error::Damaged)?;
    Ok([first, guard.open(guard.id_of(other.object()), Access::Write)?])
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

fn state<'g>(space: &'g Guard<'_, S<'_>>, roots: [Ptr<'g, Root>; 2]) -> Result<State, Error> {
    let mut values = Vec::new();
    let mut used = [0, 0];
    let mut next = space.follow(roots[0].at(Root::first))?;
    while let Some(node) = next {
        // Types are entered with the first of their values.
        let types = space.types_held(node.object())?;
        assert!(types.iter().any(|held| held.fingerprint == Node::FINGERPRINT), "{types:?}");
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
    if let Some(guest) = guest {
        assert_eq!(space.type_name(guest.object()), TypeName::of("test.crash"));
    }
    let sum = |guest: Ptr<'g, Root>| guest.at(Root::sums).index(3).map(|place| space.get(place));
    Ok(State {
        sums: roots.map(|root| space.get(root.at(Root::sums))),
        values,
        guest: guest.and_then(sum),
        objects: space
            .backend()
            .machine
            .sim
            .ids()
            .into_iter()
            .filter(|&id| !describes_type(space, id))
            .count(),
    })
}

/// True for an object that describes a type: it comes after the first object of the type, and stays.
fn describes_type(space: &Space<S<'_>>, id: ObjId) -> bool {
    space.stat(id).is_ok_and(|stat| stat.fingerprint == TYPE_OBJECT_FINGERPRINT)
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
    /// Changes nothing.
    Look,
    /// Changes the second object alone.
    Other(u64),
}

/// Who does the steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Programs {
    /// So many, one after the other.
    Following(usize),
    /// Two that run at the same time: which of them does each step.
    AtOnce(&'static [usize]),
}

struct Steps {
    steps: Vec<Step>,
    programs: Programs,
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
            Step::Other(amount) => transfer(tx, [roots[1], roots[1]], 2, amount),
            Step::Look => tx.lock(roots[0].object()),
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
            Step::Abort | Step::Look => {}
            Step::Other(amount) => {
                after.sums[1][2] = after.sums[1][2].wrapping_sub(amount);
                after.sums[1][13] = after.sums[1][13].wrapping_add(amount);
            }
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
        memory_bytes(9)
    }

    fn setup(&self, memory: &SimMemory) {
        let machine = Machine::boot(memory);
        let programs = [machine.start(), machine.start()];
        // Both have had a lane.
        for space in &programs {
            start(&space.enter()).expect("start");
            space.transact(|tx| tx.create_any().map(drop)).expect("commit");
        }
    }

    fn run(&self, memory: &SimMemory, log: &mut Log<'_, State>) {
        let machine = Machine::boot(memory);
        let mut programs = [machine.start(), machine.start()];
        for (number, &step) in self.steps.iter().enumerate() {
            let who = match self.programs {
                Programs::AtOnce(order) => order[number % order.len()],
                Programs::Following(count)
                    if number > 0 && number.is_multiple_of(self.steps.len().div_ceil(count)) =>
                {
                    programs[0] = machine.start();
                    0
                }
                Programs::Following(_) => 0,
            };
            let space = programs[who].enter();
            let roots = start(&space).expect("open").map(Object::base);
            let after = Self::model(log.acknowledged(), step);
            log.begin(after.clone());
            let result = space.transact(|tx| Self::perform(tx, roots, step));
            assert_eq!(result.is_err(), matches!(step, Step::Abort), "{step:?}: {result:?}");
            log.acknowledge(after);
        }
    }

    fn recover(&self, memory: &SimMemory) -> Result<State, String> {
        let machine = Machine::boot(memory);
        let space = machine.start();
        if space.recovery().damaged != 0 {
            return Err(format!("{:?}", space.recovery()));
        }
        let space = space.enter();
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

fn check(steps: &[Step], programs: Programs) {
    let scenario = Steps { steps: steps.to_vec(), programs };
    match check_crashes(&scenario, &Config::default()) {
        Ok(report) => println!("{report}"),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn transfers_are_atomic() {
    check(&[Step::Transfer(0, 5), Step::Transfer(1, 7), Step::Transfer(0, 9)], Programs::Following(1));
}

#[test]
fn nothing_leaks_and_nothing_is_given_out_twice() {
    check(
        &[Step::Push(1), Step::Push(2), Step::Pop, Step::Push(4), Step::Pop, Step::Pop],
        Programs::Following(1),
    );
}

#[test]
fn objects_come_and_go_with_their_transaction() {
    check(&[Step::Guest, Step::Push(1), Step::Guest, Step::Abort, Step::Guest], Programs::Following(1));
}

#[test]
fn programs_follow_each_other() {
    check(
        &[Step::All(10), Step::Abort, Step::All(20), Step::Pop, Step::Guest, Step::All(30)],
        Programs::Following(3),
    );
}

#[test]
fn programs_take_turns() {
    check(
        &[Step::All(10), Step::All(20), Step::Transfer(1, 2), Step::Guest, Step::Guest, Step::Pop],
        Programs::AtOnce(&[0, 1]),
    );
}

fn voids_a_lane(site: &str) -> bool {
    let mut callers = site.split(" < ").skip(1).skip_while(|caller| caller.contains("store_flushed"));
    callers.next().is_some_and(|caller| caller.contains("recover_media") || caller.contains("recover_lane"))
}

/// What keeps objects of one ID apart that come one after the other. `crash_again.rs` misses those.
fn is_for_ids_that_come_back(site: &str) -> bool {
    site.contains("flush_applied")
        || ["perform_deletes", "forget_intents"].iter().any(|caller| site.contains(caller))
            && site.contains("store_durably")
}

#[test]
fn every_flush_and_fence_is_needed() {
    let effort = Effort { exhaustive: 32, samples: 8, singles: 64 };
    let quick = Config { effort, nested: None, ..Config::default() };
    let nested = Some(Effort { exhaustive: 8, samples: 4, singles: 16 });
    // A record that a lost generation made void must not come back by recovery of recovery.
    let deep = Config { effort, nested, nested_one_in: 1, ..Config::default() };
    // The record that made the guest is written over by the one after the next transaction, which left none.
    let one = [Step::Guest, Step::Look, Step::Transfer(1, 2), Step::Abort, Step::Guest];
    let other = [Step::Transfer(1, 4), Step::Transfer(1, 5), Step::Other(2), Step::All(10)];
    let mut found = Mutations::default();
    for (config, steps, programs) in [
        (&quick, &one[..], Programs::Following(2)),
        (&quick, &other, Programs::AtOnce(&[0, 1, 1, 1])),
        (&deep, &[Step::Transfer(1, 2)], Programs::Following(1)),
    ] {
        let scenario = Steps { steps: steps.to_vec(), programs };
        found.extend(mutation_run(&scenario, config).expect("sound"));
    }
    // What an undone transaction wrote in place is nobody's business. That a recovered lane is durably void before anything else
    // happens is for other processors, and for objects that are made again under the same ID; here are neither.
    let superfluous: Vec<_> = found
        .never_missed()
        .into_iter()
        .filter(|site| {
            !site.contains("Fresh::wrote") && !voids_a_lane(site) && !is_for_ids_that_come_back(site)
        })
        .collect();
    assert!(superfluous.is_empty(), "{superfluous:#?}");
}
