//! Programs that run at the same time, and some that don't survive.

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};

use twizzler_abi::call::{CreateSpec, ObjectStat};
use twizzler_abi::{Error, ObjId, Rights, address::Slot};
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{OrderedMap, OrderedMapRoot};
use twizzler_object::{Access, Backend, Migration, Ptr, Reader, Space, Span, Stored, Waited};

#[derive(Stored)]
#[stored(name = "test.counter", version = 1)]
#[repr(C)]
struct Counter {
    values: [u64; 8],
}

fn new_counter(backend: &MemoryBackend) -> ObjId {
    let space = Space::attach(backend).expect("attach");
    space.transact(|tx| tx.create::<Counter>().map(|root| tx.space().id_of(root.area()))).expect("create")
}

fn add<B: Backend>(space: &Space<B>, id: ObjId) -> Result<(), Error> {
    let guard = space.enter();
    let root = guard.open::<Counter>(id, Access::Write)?.base();
    guard.transact(|tx| {
        tx.lock(root.object())?;
        let values = tx.get(root.at(Counter::values));
        // All eight are always equal.
        tx.set(root.at(Counter::values), values.map(|value| value + 1))
    })
}

#[test]
fn programs_exclude_each_other() {
    let backend = MemoryBackend::new();
    let id = new_counter(&backend);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let space = Space::attach(&backend).expect("attach");
                for _ in 0..200 {
                    add(&space, id).expect("added");
                }
            });
        }
    });
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let root = guard.open::<Counter>(id, Access::Read).expect("open").base();
    assert_eq!(guard.get(root.at(Counter::values)), [800; 8]);
}

/// A backend whose program is stopped for good at its n-th step: at each word of a record, each line of what is written in place before it, and each other
/// store.
struct Dying<'b> {
    backend: &'b MemoryBackend,
    steps_left: AtomicU64,
    owner: u64,
    /// Is told `false`, and the thread sleeps for ever: no destructor runs. Without, it panics.
    ended: Option<Sender<bool>>,
    keeps_stores: bool,
}

impl Dying<'_> {
    fn step(&self) {
        if self.steps_left.fetch_sub(1, Ordering::Relaxed) == 0 {
            let Some(ended) = &self.ended else { std::panic::panic_any(Dead) };
            ended.send(false).expect("the test waits for it");
            loop {
                std::thread::park();
            }
        }
    }
}

struct Dead;

/// More than a line is never put in place from a record at once: it is what nobody can reach before the commit.
const LINE: u64 = 64;

/// Stores a word of a mapped object.
fn store_word(address: u64, word: u64) {
    let word_there = std::ptr::with_exposed_provenance::<AtomicU64>(address as usize);
    // SAFETY: an aligned word of what the caller is about to store, or has just stored; all access is by atomics.
    unsafe { &*word_there }.store(word, Ordering::Relaxed);
}

// SAFETY: as the backend that it stands on.
unsafe impl Backend for Dying<'_> {
    fn create(&self, spec: &CreateSpec) -> Result<ObjId, Error> {
        self.step();
        self.backend.create(spec)
    }
    fn delete(&self, id: ObjId) -> Result<(), Error> {
        self.step();
        self.backend.delete(id)
    }
    fn stat(&self, id: ObjId) -> Result<ObjectStat, Error> {
        self.backend.stat(id)
    }
    fn map(&self, id: ObjId, rights: Rights) -> Result<Slot, Error> {
        self.backend.map(id, rights)
    }
    unsafe fn unmap(&self, slot: Slot) {
        // SAFETY: the caller's promise is that of the same method.
        unsafe { self.backend.unmap(slot) };
    }
    fn ensure(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.backend.ensure(id, offset, len_bytes)
    }
    fn translation(&self) -> u64 {
        self.backend.translation()
    }
    fn coordination(&self) -> u64 {
        self.backend.coordination()
    }
    fn thread(&self) -> u64 {
        self.backend.thread()
    }
    fn stored(&self, address: u64, len_bytes: u64) {
        if len_bytes > LINE {
            let end = address + len_bytes;
            for at in (address.next_multiple_of(8)..end).step_by(LINE as usize).skip(1) {
                if self.steps_left.load(Ordering::Relaxed) == 0 {
                    // As if it had not come so far. What was there before means nothing either.
                    (at..end & !7).step_by(8).for_each(|at| store_word(at, 0xdead_dead_dead));
                }
                self.step();
            }
        }
        self.step();
        self.backend.stored(address, len_bytes);
    }
    unsafe fn stream(&self, to: Span<'_, u64>, words: &[u64]) {
        for (at, &word) in (to.address()..).step_by(8).zip(words) {
            store_word(at, word);
            self.stored(at, 8);
        }
        // SAFETY: a span lies in mapped memory.
        unsafe { self.flush(to.address(), to.len_bytes()) };
    }
    unsafe fn flush(&self, address: u64, len_bytes: u64) {
        // SAFETY: the caller's promise is that of the same method.
        unsafe { self.backend.flush(address, len_bytes) };
    }
    fn fence(&self) {
        self.backend.fence();
    }
    fn claim(&self, _: ObjId) -> Result<(), Error> {
        // The system would have ended the mappings of those that are dead.
        Ok(())
    }
    fn keeps_stores(&self) -> bool {
        self.keeps_stores
    }
    fn owner(&self) -> u64 {
        self.owner
    }
    fn is_alive(&self, owner: u64) -> bool {
        self.backend.is_alive(owner)
    }
    fn wait(&self, word: &AtomicU64, value: u64, timeout_ns: u64) -> Waited {
        self.backend.wait(word, value, timeout_ns)
    }
    fn wake(&self, word: &AtomicU64) {
        self.backend.wake(word);
    }
    fn random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        self.backend.random(bytes)
    }
}

/// A program is killed at each of its stores; one that goes on at the same time finds everything whole.
#[test]
fn survivors_find_everything_whole() {
    std::panic::set_hook(Box::new(|info| {
        if !info.payload().is::<Dead>() {
            eprintln!("{info}");
        }
    }));
    let mut finished = false;
    for steps in 0.. {
        let backend = MemoryBackend::new();
        let id = new_counter(&backend);
        let survivor = Space::attach(&backend).expect("attach");
        add(&survivor, id).expect("added");
        let dying = Dying {
            backend: &backend,
            steps_left: AtomicU64::new(steps),
            owner: 0xdead_0000,
            ended: None,
            keeps_stores: false,
        };
        let made = std::thread::scope(|scope| {
            let program = scope.spawn(|| {
                let space = std::mem::ManuallyDrop::new(Space::attach(&dying).expect("attach"));
                let guard = std::mem::ManuallyDrop::new(space.enter());
                let root = guard.open::<Counter>(id, Access::Write).expect("open").base();
                // What it leaves behind when it dies must not run: a killed program's destructors don't.
                let mut tx = std::mem::ManuallyDrop::new(guard.begin().expect("begin"));
                tx.lock(root.object()).expect("locked");
                let values = tx.get(root.at(Counter::values));
                tx.set(root.at(Counter::values), values.map(|value| value + 1)).expect("set");
                let other = tx.create::<Counter>().expect("created");
                tx.set(other.base().at(Counter::values), [5; 8]).expect("set");
                std::mem::ManuallyDrop::into_inner(tx).commit().expect("commit");
            });
            program.join().is_ok()
        });
        add(&survivor, id).expect("the dead one's lock is taken over");
        let guard = survivor.enter();
        let root = guard.open::<Counter>(id, Access::Read).expect("open").base();
        let [value, ..] = guard.get(root.at(Counter::values));
        assert_eq!(guard.get(root.at(Counter::values)), [value; 8], "killed at store {steps}");
        drop(guard);
        drop(survivor);
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        assert_eq!(space.recovery().damaged, 0);
        // Lane directory, lanes and the counter; with the other one exactly if the transaction committed.
        let others = backend
            .ids()
            .into_iter()
            .filter(|&other| other != id && guard.open::<Counter>(other, Access::Read).is_ok());
        assert_eq!(others.count() as u64, value - 2, "killed at store {steps}");
        if made {
            assert_eq!(value, 3);
            finished = true;
            break;
        }
    }
    assert!(finished);
}

#[derive(Stored, Clone, Copy)]
#[stored(name = "test.counter", version = 2)]
#[repr(C)]
struct Wider {
    values: [u64; 8],
    sum: u64,
}

fn widen<B: Backend>(space: &mut Space<B>, id: ObjId) -> Result<Migration, Error> {
    space.migrate(id, |tx, old: Ptr<'_, Counter>, new: Ptr<'_, Wider>| {
        let values = tx.get(old.at(Counter::values)).map(|value| value * 2);
        tx.set(new, Wider { values, sum: values.iter().sum() })
    })
}

/// A program is killed at each store of a migration; one that goes on finds the object of the one type or of the other, as soon as it looks.
#[test]
fn a_migration_is_done_once_or_not_at_all() {
    let mut seen = [false; 2];
    for steps in 0.. {
        // Those that are killed are never done with it.
        let backend: &MemoryBackend = Box::leak(Box::new(MemoryBackend::new()));
        let id = new_counter(backend);
        add(&Space::attach(backend).expect("attach"), id).expect("added");
        let (tell, told) = channel();
        let program = |steps, owner, ended| Dying {
            backend,
            steps_left: AtomicU64::new(steps),
            owner,
            ended,
            keeps_stores: false,
        };
        let living = program(u64::MAX, backend.owner(), None);
        let mut survivor = Space::attach(&living).expect("attach");
        let dying = program(steps, 0xdead_0000, Some(tell.clone()));
        std::thread::spawn(move || {
            let mut space = ManuallyDrop::new(Space::attach(&dying).expect("attach"));
            widen(&mut space, id).expect("migrated");
            tell.send(true).expect("the test waits for it");
        });
        let ended = told.recv().expect("it says how it ended");
        let was_old = {
            let guard = survivor.enter();
            let old = guard.open::<Counter>(id, Access::Write);
            let new = guard.open::<Wider>(id, Access::Write).map(|new| guard.get(new.base().at(Wider::sum)));
            assert_ne!(old.is_ok(), new.is_ok(), "killed at store {steps}");
            assert!(new.is_err() || new == Ok(16), "killed at store {steps}");
            old.is_ok()
        };
        seen[usize::from(was_old)] = true;
        let wanted = if was_old { Migration::Done } else { Migration::Already };
        assert_eq!(widen(&mut survivor, id), Ok(wanted), "killed at store {steps}");
        let guard = survivor.enter();
        let new = guard.open::<Wider>(id, Access::Read).expect("of the new type").base();
        assert_eq!(guard.get(new.at(Wider::values)), [2; 8], "killed at store {steps}");
        if ended {
            break;
        }
    }
    assert_eq!(seen, [true; 2]);
}

type Long = OrderedMapRoot<u64, [u8; 400]>;

/// What the map holds after so many transactions.
fn long_after(transactions: u64) -> BTreeMap<u64, [u8; 400]> {
    let mut model: BTreeMap<_, _> = (0..6).map(|key| (key, [0; 400])).collect();
    for n in 1..=transactions {
        model.insert(n % 3, [n as u8; 400]);
        model.insert(100 + n, [n as u8; 400]);
        model.remove(&(3 + n % 2));
    }
    model
}

/// Where stores are kept, values and copies of leaves are written in place before the record. A program is killed at each of its stores; what the others
/// find is what some of its transactions have made.
#[test]
fn what_is_written_in_place_before_the_record_does_not_count_without_it() {
    const TRANSACTIONS: u64 = 5;
    for steps in 0.. {
        // Those that are killed are never done with it.
        let backend: &MemoryBackend = Box::leak(Box::new(MemoryBackend::new()));
        let survivor = Space::attach(backend).expect("attach");
        let made = survivor.transact(|tx| {
            let root = tx.create::<Long>()?;
            let map = OrderedMap::new(root.base());
            (0..6).try_for_each(|key| map.insert(tx, key, [0; 400]).map(drop))?;
            Ok::<_, Error>(tx.space().id_of(root.area()))
        });
        let id = made.expect("made");
        let (steps_left, owner) = (AtomicU64::new(steps), 0xdead_0000);
        let (tell, told) = channel();
        let dying = Dying { backend, steps_left, owner, ended: Some(tell.clone()), keeps_stores: true };
        let done: &AtomicU64 = Box::leak(Box::new(AtomicU64::new(0)));
        std::thread::spawn(move || {
            let space = ManuallyDrop::new(Space::attach(&dying).expect("attach"));
            let guard = ManuallyDrop::new(space.enter());
            let map = OrderedMap::new(guard.open::<Long>(id, Access::Write).expect("open").base());
            for n in 1..=TRANSACTIONS {
                let value = [n as u8; 400];
                let changed = guard.transact(|tx| {
                    map.insert(tx, n % 3, value)?;
                    let undone = tx.savepoint(|tx| {
                        map.insert(tx, n % 3, [77; 400])?;
                        map.insert(tx, 50 + n, [78; 400])?;
                        Err::<(), _>(Error::Busy)
                    });
                    assert_eq!(undone, Err(Error::Busy));
                    map.insert(tx, 100 + n, value)?;
                    map.remove(tx, &(3 + n % 2))
                });
                changed.expect("changed");
                done.store(n, Ordering::Relaxed);
            }
            tell.send(true).expect("the test waits for it");
        });
        let finished = told.recv().expect("it says how it ended");
        // Takes the dead one's locks over.
        let guard = survivor.enter();
        let root = guard.open::<Long>(id, Access::Write).expect("open");
        guard.transact(|tx| tx.lock(root.area())).expect("recovered");
        let found: Result<BTreeMap<_, _>, Error> = OrderedMap::new(root.base()).iter(&&guard).collect();
        let (found, done) = (found.expect("sound"), done.load(Ordering::Relaxed));
        let sound = found == long_after(done) || !finished && found == long_after(done + 1);
        assert!(sound, "killed at store {steps}, after {done} transactions");
        if finished {
            println!("killed at each of {steps} steps");
            assert!(steps > 500 && done == TRANSACTIONS, "{steps} steps, {done} transactions");
            break;
        }
    }
}
