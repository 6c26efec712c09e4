//! Programs that run at the same time, and some that don't survive.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};

use twizzler_abi::call::{CreateSpec, ObjectStat};
use twizzler_abi::{Error, ObjId, Rights, address::Slot};
use twizzler_image::MemoryBackend;
use twizzler_object::{Access, Backend, Migration, Ptr, Reader, Space, Stored, Waited};

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

/// A backend whose program is stopped for good at its n-th flush, fence or store.
struct Dying<'b> {
    backend: &'b MemoryBackend,
    steps_left: AtomicU64,
    owner: u64,
    /// Is told `false`, and the thread sleeps for ever: no destructor runs. Without, it panics.
    ended: Option<Sender<bool>>,
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
    fn stored(&self, address: u64, len_bytes: u64) {
        self.step();
        self.backend.stored(address, len_bytes);
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
        let dying =
            Dying { backend: &backend, steps_left: AtomicU64::new(steps), owner: 0xdead_0000, ended: None };
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
        let program =
            |steps, owner, ended| Dying { backend, steps_left: AtomicU64::new(steps), owner, ended };
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
