//! Two CPUs fill the same places: the second runs whole at each single step of the first. Nothing may be seen as present
//! that is not durable, no page may get two frames, no frame may be lost. And many threads at once.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::{FORMAT, MIB, WRITE, large};
use twizzler_crashsim::heap::Memory;
use twizzler_pmem::{LINE_BYTES, Persist, lines};
use twizzler_store::{Batch, Found, Store, Tree};

/// Flushed lines: content, and when.
type Flushed = BTreeMap<u64, ([u8; 64], u64)>;

/// A region that knows what is durable at worst, for two CPUs, and interrupts the first at a step.
struct Watch {
    memory: Memory,
    durable: Memory,
    /// Lines that each CPU has flushed and not fenced.
    flushed: Mutex<[Flushed; 2]>,
    /// When each line became durable last.
    since: Mutex<BTreeMap<u64, u64>>,
    clock: AtomicU64,
    cpu: AtomicUsize,
    watching: AtomicBool,
    /// Steps until the second CPU runs.
    steps: AtomicU64,
    intruder: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Watch {
    fn new(memory: Memory) -> Self {
        Self {
            durable: memory.clone(),
            memory,
            flushed: Mutex::default(),
            since: Mutex::default(),
            clock: AtomicU64::new(1),
            cpu: AtomicUsize::new(0),
            watching: AtomicBool::new(false),
            steps: AtomicU64::new(u64::MAX),
            intruder: Mutex::new(None),
        }
    }

    fn step(&self) {
        self.clock.fetch_add(1, Ordering::Relaxed);
        if self.cpu.load(Ordering::Relaxed) == 0 && self.steps.fetch_sub(1, Ordering::Relaxed) == 0 {
            let intruder = self.intruder.lock().expect("not poisoned").take();
            if let Some(intruder) = intruder {
                self.cpu.store(1, Ordering::Relaxed);
                intruder();
                self.cpu.store(0, Ordering::Relaxed);
            }
        }
    }

    /// A word that the MMU sees: valid and present. Its line must hold it durably, but for the present bit.
    fn stored(&self, at: u64, word: u64) {
        if self.watching.load(Ordering::Relaxed) && word & 1 != 0 && word & 1 << 9 != 0 {
            let durable = self.durable.load(at);
            assert_eq!(durable | 1, word, "{word:#x} at {at:#x} is present and not durable");
        }
    }
}

impl Persist for Watch {
    fn len_bytes(&self) -> u64 {
        self.memory.len_bytes()
    }
    fn load(&self, at: u64) -> u64 {
        self.step();
        self.memory.load(at)
    }
    fn store(&self, at: u64, value: u64) {
        self.step();
        self.memory.store(at, value);
        self.stored(at, value);
    }
    fn compare_exchange(&self, at: u64, old: u64, new: u64) -> Result<(), u64> {
        self.step();
        self.memory.compare_exchange(at, old, new)?;
        self.stored(at, new);
        Ok(())
    }
    fn read(&self, at: u64, buffer: &mut [u8]) {
        self.memory.read(at, buffer);
    }
    fn write(&self, at: u64, bytes: &[u8]) {
        self.step();
        self.memory.write(at, bytes);
    }
    fn zero(&self, at: u64, len_bytes: u64) {
        self.step();
        self.memory.zero(at, len_bytes);
    }
    fn flush(&self, at: u64, len_bytes: u64) {
        self.step();
        let now = self.clock.load(Ordering::Relaxed);
        let mut flushed = self.flushed.lock().expect("not poisoned");
        for line in lines(at, len_bytes) {
            let mut content = [0; LINE_BYTES as usize];
            self.memory.read(line, &mut content);
            flushed[self.cpu.load(Ordering::Relaxed)].insert(line, (content, now));
        }
    }
    fn fence(&self) {
        self.step();
        let mut flushed = self.flushed.lock().expect("not poisoned");
        let mut since = self.since.lock().expect("not poisoned");
        for (line, (content, when)) in std::mem::take(&mut flushed[self.cpu.load(Ordering::Relaxed)]) {
            let last = since.entry(line).or_default();
            if *last <= when {
                *last = when;
                self.durable.write(line, &content);
            }
        }
    }
}

type WatchedStore = Store<Watch, spin::Mutex<()>>;

#[derive(Clone, Copy, Debug)]
enum Action {
    Fill(u64, Batch),
    Populate(u64, u64),
}

impl Action {
    fn run(self, store: &WatchedStore, root: twizzler_store::Root) {
        let tree = Tree::new(store.frames(), root);
        match self {
            Self::Fill(page, batch) => drop(tree.fill(page, batch).expect("room")),
            Self::Populate(from, to) => drop(tree.populate(from..to).expect("room")),
        }
    }

    fn pages(self) -> std::ops::Range<u64> {
        match self {
            Self::Fill(page, _) => page..page + 1,
            Self::Populate(from, to) => from..to,
        }
    }
}

/// The second action at each step of the first, on an object with a tree of three levels.
fn interleaved(first: Action, second: Action) {
    let formatted = Memory::zeroed(6 * MIB);
    Store::<_, spin::Mutex<()>>::format(&formatted, &FORMAT).expect("large enough");
    let (store, _) = Store::<_, spin::Mutex<()>>::mount(formatted, &WRITE).expect("a store");
    let id = store.create(&large(1), 0).expect("room");
    store.extend(id, 1 << 20).expect("room");
    let image = store.media().clone();
    for steps in 0.. {
        let (store, _) = WatchedStore::mount(Watch::new(image.clone()), &WRITE).expect("a store");
        let store = Arc::new(store);
        let root = store.root(id).expect("there");
        let intruding = store.clone();
        let intruder = move || second.run(&intruding, root);
        *store.media().intruder.lock().expect("not poisoned") = Some(Box::new(intruder));
        store.media().steps.store(steps, Ordering::Relaxed);
        store.media().watching.store(true, Ordering::Relaxed);
        first.run(&store, root);
        store.media().watching.store(false, Ordering::Relaxed);
        let done = store.media().intruder.lock().expect("not poisoned").take().is_some();
        let tree = Tree::new(store.frames(), root);
        for page in first.pages().chain(if done { 0..0 } else { second.pages() }) {
            let found = tree.lookup(page);
            let present = matches!(found, Ok(Found::Page(_, _, twizzler_store::entry::Presence::Present, _)));
            assert!(present, "step {steps} page {page}: {found:?}");
        }
        let report = store.check().expect("heap");
        assert!(report.is_clean() && report.pending == 0, "step {steps}: {report:?}");
        if done {
            assert!(steps > 10);
            return;
        }
    }
}

const PAIRS: [Action; 7] = [
    Action::Fill(100, Batch::Page),
    Action::Fill(100, Batch::Line),
    Action::Fill(101, Batch::Line),
    Action::Fill((1 << 18) + 5, Batch::Page),
    Action::Fill((1 << 18) + 3, Batch::Line),
    Action::Populate(97, 106),
    Action::Populate(512, 1024),
];

#[test]
fn two_cpus_meet_at_every_step() {
    for first in PAIRS {
        for second in PAIRS {
            interleaved(first, second);
        }
    }
}

#[test]
fn many_threads_fill_one_object() {
    let media = Memory::zeroed(16 * MIB);
    Store::<_, spin::Mutex<()>>::format(&media, &FORMAT).expect("large enough");
    let (store, _) = Store::<_, spin::Mutex<()>>::mount(media, &WRITE).expect("a store");
    let id = store.create(&large(1), 0).expect("room");
    let root = store.extend(id, 1 << 20).expect("room");
    let stored = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (store, stored) = (&store, &stored);
            scope.spawn(move || {
                let tree = Tree::new(store.frames(), root);
                for i in 0..1500 {
                    let page = (i * (thread + 1) * 7 + thread) % 1500 + 2;
                    let batch = if i % 3 == 0 { Batch::Line } else { Batch::Page };
                    stored.fetch_add(tree.fill(page, batch).expect("room").pages, Ordering::Relaxed);
                }
            });
        }
    });
    let usage = Tree::new(store.frames(), root).usage().expect("sound");
    assert_eq!(usage.pages, stored.load(Ordering::Relaxed) + 1);
    let report = store.check().expect("heap");
    assert!(report.is_clean() && report.pending == 0, "{report:?}");
}
