//! A store in a sparse file on a full disk: nothing is stored to where there is no room, and what has room is used.

mod common;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{FORMAT, MIB, READ, WRITE, inputs};
use twizzler_abi::ObjId;
use twizzler_abi::address::PAGE_BYTES;
use twizzler_crashsim::heap::Memory;
use twizzler_pmem::Persist;
use twizzler_store::{Error, MountError, Store, Tree, Unmapped};

/// A file of which some pages have room, on a disk that has some left.
#[derive(Clone)]
struct Sparse<'a>(&'a Disk);

struct Disk {
    memory: Memory,
    pages: Mutex<BTreeSet<u64>>,
    left: AtomicU64,
}

impl Disk {
    fn new(left: u64) -> Self {
        let memory = Memory::zeroed(8 * MIB);
        Self { memory, pages: Mutex::default(), left: AtomicU64::new(left) }
    }

    fn pages(at: u64, len_bytes: u64) -> Range<u64> {
        at / PAGE_BYTES..(at + len_bytes).div_ceil(PAGE_BYTES)
    }

    fn stored(&self, at: u64, len_bytes: u64) {
        let pages = self.pages.lock().expect("nobody panicked");
        for page in Self::pages(at, len_bytes) {
            assert!(pages.contains(&page), "a store to page {page:#x}, which has no room");
        }
    }
}

impl Persist for Sparse<'_> {
    fn len_bytes(&self) -> u64 {
        self.0.memory.len_bytes()
    }
    fn load(&self, at: u64) -> u64 {
        self.0.memory.load(at)
    }
    fn store(&self, at: u64, value: u64) {
        self.0.stored(at, 8);
        self.0.memory.store(at, value);
    }
    fn compare_exchange(&self, at: u64, old: u64, new: u64) -> Result<(), u64> {
        self.0.stored(at, 8);
        self.0.memory.compare_exchange(at, old, new)
    }
    fn read(&self, at: u64, buffer: &mut [u8]) {
        self.0.memory.read(at, buffer);
    }
    fn write(&self, at: u64, bytes: &[u8]) {
        self.0.stored(at, bytes.len() as u64);
        self.0.memory.write(at, bytes);
    }
    fn zero(&self, at: u64, len_bytes: u64) {
        self.0.stored(at, len_bytes);
        self.0.memory.zero(at, len_bytes);
    }
    fn flush(&self, _at: u64, _len_bytes: u64) {}
    fn fence(&self) {}
    fn make_room(&self, at: u64, len_bytes: u64) -> bool {
        let mut pages = self.0.pages.lock().expect("nobody panicked");
        Disk::pages(at, len_bytes).all(|page| {
            let spend = |left: u64| left.checked_sub(1);
            pages.contains(&page)
                || self.0.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
                    && pages.insert(page)
        })
    }
    fn next_with_room(&self, from: u64) -> Option<Range<u64>> {
        let pages = self.0.pages.lock().expect("nobody panicked");
        let start = *pages.range(from.div_ceil(PAGE_BYTES)..).next()?;
        let len = (start..).take_while(|page| pages.contains(page)).count() as u64;
        Some(start * PAGE_BYTES..(start + len) * PAGE_BYTES)
    }
}

const RESERVE_FRAMES: u64 = 16;

type SparseStore<'a> = Store<Sparse<'a>, spin::Mutex<()>>;

fn mounted(disk: &Disk) -> SparseStore<'_> {
    SparseStore::mount(Sparse(disk), &WRITE).expect("a store").0
}

/// Makes an object of so many pages, as long as there is room.
fn make(store: &SparseStore<'_>, number: u128, pages: u64) -> Result<ObjId, Error> {
    let id = store.create(&inputs(number), 0)?;
    let populated =
        store.extend(id, 1 + pages).and_then(|root| Tree::new(store.frames(), root).populate(2..2 + pages));
    match populated {
        Ok(_) => Ok(id),
        Err(error) => store.delete(id, &mut Unmapped).and(Err(error)),
    }
}

fn fill(store: &SparseStore<'_>, from: u128, pages: u64) -> Vec<ObjId> {
    let mut made = Vec::new();
    loop {
        match make(store, from + made.len() as u128, pages) {
            Ok(id) => made.push(id),
            Err(error) => {
                assert_eq!(error, Error::OutOfFrames);
                return made;
            }
        }
    }
}

fn assert_clean(disk: &Disk) {
    let store = SparseStore::mount(Sparse(disk), &READ).expect("a store").0;
    assert_eq!(store.check().expect("readable").findings, []);
}

#[test]
fn nothing_is_stored_to_where_there_is_no_room() {
    for left in 0..120 {
        let disk = Disk::new(left);
        match SparseStore::format(&Sparse(&disk), &FORMAT) {
            Err(MountError::NoRoom) if left < 4 => continue,
            result => result.expect("there is room"),
        }
        let store = mounted(&disk);
        store.frames().keep_reserve();
        let made = fill(&store, 0, 3);
        assert!(
            made.len() as u64 >= left.saturating_sub(4 + RESERVE_FRAMES + 8) / 5,
            "{} of {left}",
            made.len()
        );
        assert_clean(&disk);
        // What is deleted gives room, wherever it lies.
        for id in made.iter().step_by(2) {
            store.delete(*id, &mut Unmapped).expect("needs no room");
        }
        let again = fill(&store, 1000, 3);
        assert!(again.len() >= made.len().div_ceil(2), "{} after {}", again.len(), made.len());
        drop(store);
        // And when the disk has room again, there is more of it.
        disk.left.store(50, Ordering::Relaxed);
        assert!(!fill(&mounted(&disk), 2000, 3).is_empty());
        assert_clean(&disk);
    }
}

#[test]
fn room_is_kept_back_for_whoever_removes() {
    let disk = Disk::new(60);
    SparseStore::format(&Sparse(&disk), &FORMAT).expect("there is room");
    let store = mounted(&disk);
    store.frames().keep_reserve();
    fill(&store, 0, 3);
    drop(store);
    // Found again by whoever comes later, and used by none but who removes.
    let store = mounted(&disk);
    store.frames().keep_reserve();
    assert_eq!(make(&store, 1000, 1), Err(Error::OutOfFrames));
    store.frames().open_reserve();
    make(&store, 1000, RESERVE_FRAMES / 2).expect("the reserve has room");
    assert_clean(&disk);
}

#[test]
fn room_is_found_wherever_it_lies() {
    let disk = Disk::new(10);
    disk.pages.lock().expect("nobody panicked").extend(1500..1580);
    SparseStore::format(&Sparse(&disk), &FORMAT).expect("there is room");
    make(&mounted(&disk), 0, 50).expect("the pages have room");
    assert_clean(&disk);
}

#[test]
fn two_mebibytes_without_room_become_pages() {
    let disk = Disk::new(100);
    SparseStore::format(&Sparse(&disk), &FORMAT).expect("there is room");
    let store = mounted(&disk);
    let id = make(&store, 0, 1).expect("there is room");
    let root = store.extend(id, 1023).expect("there is room");
    assert_eq!(Tree::new(store.frames(), root).populate(512..1024), Err(Error::OutOfFrames));
    store.delete(id, &mut Unmapped).expect("needs no room");
    make(&store, 1, 40).expect("what was given back has room");
    assert_clean(&disk);
}
