//! The object table grows: by splits, by further nodes, and over power cuts in between. Here stores reach media in order;
//! the crash simulator (`host/campaign`) reorders them.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};

use common::{FORMAT, MIB, READ, WRITE, inputs};
use twizzler_abi::ObjId;
use twizzler_abi::id::IdInputs;
use twizzler_crashsim::heap::Memory;
use twizzler_pmem::Persist;
use twizzler_store::{MountReport, Store};

/// The power goes after so many stores: the rest are lost.
struct Cut {
    memory: Memory,
    left: AtomicU64,
}

impl Cut {
    fn spend(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

impl Persist for Cut {
    fn len_bytes(&self) -> u64 {
        self.memory.len_bytes()
    }
    fn load(&self, at: u64) -> u64 {
        self.memory.load(at)
    }
    fn store(&self, at: u64, value: u64) {
        if self.spend() {
            self.memory.store(at, value);
        }
    }
    fn compare_exchange(&self, at: u64, old: u64, new: u64) -> Result<(), u64> {
        if self.spend() { self.memory.compare_exchange(at, old, new) } else { Ok(()) }
    }
    fn read(&self, at: u64, buffer: &mut [u8]) {
        self.memory.read(at, buffer);
    }
    fn write(&self, at: u64, bytes: &[u8]) {
        if self.spend() {
            self.memory.write(at, bytes);
        }
    }
    fn zero(&self, at: u64, len_bytes: u64) {
        if self.spend() {
            self.memory.zero(at, len_bytes);
        }
    }
    fn flush(&self, _at: u64, _len_bytes: u64) {}
    fn fence(&self) {}
}

type CutStore = Store<Cut, spin::Mutex<()>>;

fn mount(memory: Memory, stores: u64) -> (CutStore, MountReport) {
    CutStore::mount(Cut { memory, left: AtomicU64::new(stores) }, &WRITE).expect("a store")
}

/// Inputs of objects whose IDs start with these bits.
fn crowded(prefix: u128, bits: u32) -> impl Iterator<Item = IdInputs> {
    (0..).map(inputs).filter(move |inputs| ObjId::derive(inputs).get() >> (128 - bits) == prefix)
}

fn filled(objects: &[IdInputs]) -> Memory {
    let memory = Memory::zeroed(2 * MIB);
    let cut = Cut { memory, left: AtomicU64::new(u64::MAX) };
    CutStore::format(&cut, &FORMAT).expect("large enough");
    let (store, _) = mount(cut.memory, u64::MAX);
    for inputs in objects {
        store.create(inputs, 0).expect("room");
    }
    store.media().memory.clone()
}

fn ids(store: &CutStore) -> Vec<ObjId> {
    let next = |id: &ObjId| store.next_after(*id).expect("sound");
    std::iter::successors(next(&ObjId::NONE), next).collect()
}

/// Makes one more object with the power cut after each number of stores, and cuts the recovery short as well.
fn cut_everywhere(objects: &[IdInputs], one_more: &IdInputs, stride: u64) {
    let before = filled(objects);
    let mut expected: Vec<ObjId> = objects.iter().map(ObjId::derive).collect();
    expected.sort_unstable();
    let last = ObjId::derive(one_more);
    let mut stores = 0;
    loop {
        let (store, _) = mount(before.clone(), u64::MAX);
        store.media().left.store(stores, Ordering::Relaxed);
        // What it says without power means nothing.
        let _ = store.create(one_more, 0);
        let complete = store.media().left.load(Ordering::Relaxed) > 0;
        let mut memory = store.media().memory.clone();
        // A look without a change sees the same objects.
        let look = Cut { memory: memory.clone(), left: AtomicU64::new(0) };
        let looked = CutStore::mount(look, &READ).expect("a store").0;
        let seen = ids(&looked);
        for interrupted in [5, 40] {
            memory = mount(memory, interrupted).0.media().memory.clone();
        }
        let (store, report) = mount(memory, u64::MAX);
        assert!(report.quarantine.is_empty() && report.words_lost == 0, "after {stores} stores: {report:?}");
        let found = ids(&store);
        assert_eq!(found, seen, "after {stores} stores");
        let rest: Vec<ObjId> = found.iter().copied().filter(|&id| id != last).collect();
        assert_eq!(rest, expected, "after {stores} stores");
        assert!(found.iter().all(|&id| store.open(id).is_ok()), "after {stores} stores");
        let check = store.check().expect("heap");
        assert!(check.is_clean(), "after {stores} stores: {:?}", check.findings);
        if complete {
            assert_eq!(found.len(), objects.len() + 1);
            return;
        }
        stores += stride;
    }
}

#[test]
fn a_split_survives_a_power_cut_after_each_store() {
    let mut objects: Vec<IdInputs> = (0..63).map(inputs).collect();
    let one_more = inputs(1000);
    cut_everywhere(&objects, &one_more, 1);
    objects.truncate(10);
    cut_everywhere(&objects, &one_more, 1);
}

#[test]
fn a_further_node_survives_power_cuts() {
    // All in one word's bucket: eight splits bring it there, each with an empty half; the ninth needs a node. Thousands of
    // stores: a stride that is prime to what the words of a split take.
    let mut objects: Vec<IdInputs> = crowded(0x5a, 8).take(64).collect();
    let one_more = objects.pop().expect("64 of them");
    cut_everywhere(&objects, &one_more, 23);
}

#[test]
fn hundreds_of_objects_share_their_first_bits() {
    let objects: Vec<IdInputs> = crowded(0xa57, 12).take(300).collect();
    let memory = Memory::zeroed(8 * MIB);
    let cut = Cut { memory, left: AtomicU64::new(u64::MAX) };
    CutStore::format(&cut, &FORMAT).expect("large enough");
    let (store, _) = mount(cut.memory, u64::MAX);
    let mut expected: Vec<ObjId> =
        objects.iter().map(|inputs| store.create(inputs, 0).expect("room")).collect();
    expected.sort_unstable();
    assert_eq!(ids(&store), expected);
    let (store, report) = mount(store.media().memory.clone(), u64::MAX);
    assert_eq!((report.objects, report.nodes_settled, report.words_damaged), (300, 0, 0));
    assert_eq!(ids(&store), expected);
    assert!(store.check().expect("heap").is_clean());
}
