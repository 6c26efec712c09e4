//! What a long walk through an ordered map says of memory that it will read, where reading it for the first time is slow.

use std::cell::RefCell;
use std::ops::Range;

use twizzler_abi::Error;
use twizzler_campaign::hooked::{Hooked, Hooks, Step};
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{OrderedMap, OrderedMapRoot};
use twizzler_object::{Access, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.announced", version = 1)]
#[repr(C)]
struct Root {
    map: OrderedMapRoot<u64, u64>,
}

/// Memory that is read slowly, and what was said of it.
#[derive(Default)]
struct Slow {
    announced: RefCell<Vec<Range<u64>>>,
}

impl Hooks<&MemoryBackend> for Slow {
    fn step(&self, _: Step) {}

    fn reads_slowly(&self, _: &&MemoryBackend) -> bool {
        true
    }

    fn expect(&self, _: &&MemoryBackend, address: u64, len_bytes: u64) {
        self.announced.borrow_mut().push(address..address + len_bytes);
    }
}

const ENTRIES: u64 = 20_000;

#[test]
fn leaves_are_announced_as_far_as_a_walk_goes() {
    let backend = MemoryBackend::new();
    let space = Space::attach(Hooked::new(&backend, Slow::default())).expect("attach");
    let id = space.transact(|tx| {
        let object = tx.create::<Root>()?;
        let map = OrderedMap::new(object.base().at(Root::map));
        (0..ENTRIES).try_for_each(|n| map.insert(tx, n, n).map(drop))?;
        Ok::<_, Error>(tx.space().id_of(object.area()))
    });
    let id = id.expect("made");
    let guard = space.enter();
    let object = guard.open::<Root>(id, Access::Read).expect("there");
    let map = OrderedMap::new(object.base().at(Root::map));
    let start = object.area().start();
    let len = twizzler_abi::object::BASE_OFFSET + guard.len_bytes(object.area());
    // Of how many bytes so many entries from the middle on have said that they are about to be read.
    let walk = |entries: usize| {
        space.backend().hooks().announced.borrow_mut().clear();
        let reader = &guard;
        let mut range = map.range(&reader, ENTRIES / 2..);
        for n in 0..entries as u64 {
            let (key, value) = range.next().expect("more").expect("readable");
            assert_eq!((key, value), (ENTRIES / 2 + n, ENTRIES / 2 + n));
        }
        let mut announced = space.backend().hooks().announced.take();
        announced.sort_by_key(|range| range.start);
        for range in &announced {
            assert!(start < range.start && range.start < range.end && range.end <= start + len, "{range:?}");
        }
        // Leaves of two nodes may lie side by side, and be announced with each other: each byte counts once.
        let mut end = 0;
        let new = |range: &Range<u64>| {
            let from = range.start.max(end);
            end = end.max(range.end);
            range.end.saturating_sub(from)
        };
        announced.iter().map(new).sum::<u64>()
    };
    let (one, some, all) = (walk(1), walk(2_000), walk(ENTRIES as usize / 2));
    // An entry is 16 bytes; leaves are at least half full.
    assert!((10_000 * 16..=10_000 * 16 * 3).contains(&all), "{all}");
    assert!(one < some && some < all, "{one}, {some} of {all}");
}
