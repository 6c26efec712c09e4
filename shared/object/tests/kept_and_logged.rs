//! With a log, what a transaction changes goes to its record, also where each store counts at once.

use std::cell::RefCell;

use twizzler_abi::Error;
use twizzler_campaign::hooked::{Hooked, Hooks, Step};
use twizzler_image::MemoryBackend;
use twizzler_object::backend::{Commit, Sink, Ticket};
use twizzler_object::collections::{OrderedMap, OrderedMapRoot};
use twizzler_object::{Access, Space};

type Long = OrderedMapRoot<u64, [u64; 50]>;

/// Keeps the last record.
#[derive(Default)]
struct Log(RefCell<Vec<u64>>);

impl Hooks<MemoryBackend> for Log {
    fn step(&self, _: Step) {}
    fn sink(&self, _: &MemoryBackend) -> Sink {
        Sink::Log
    }
    fn log(&self, _: &MemoryBackend, commit: &Commit<'_>) -> Result<Ticket, Error> {
        *self.0.borrow_mut() = commit.words.to_vec();
        Ok(Ticket { number: 0, end: 1 })
    }
    fn durable(&self, _: &MemoryBackend, end: u64) -> Result<u64, Error> {
        Ok(end)
    }
    fn publish_created(&self, _: &MemoryBackend, _: &[twizzler_abi::ObjId]) -> Result<(), Error> {
        Ok(())
    }
    fn applied(&self, _: &MemoryBackend, _: Ticket) {}
}

#[test]
fn long_values_and_blocks_are_logged() {
    let space =
        Space::attach(Hooked::new(MemoryBackend::new().keeping_stores(), Log::default())).expect("attached");
    let made = space.transact(|tx| {
        let root = tx.create::<Long>()?;
        OrderedMap::new(root.base()).insert(tx, 1, [0; 50])?;
        Ok::<_, Error>(space.id_of(root.area()))
    });
    let guard = space.enter();
    let root = guard.open::<Long>(made.expect("made"), Access::Write).expect("there");
    let map = OrderedMap::new(root.base());
    let logged =
        |word: u64| space.backend().hooks().0.borrow().iter().filter(|&&other| other == word).count();
    guard.transact(|tx| map.insert(tx, 1, [0x1234_5678_9abc; 50]).map(drop)).expect("changed");
    assert_eq!(logged(0x1234_5678_9abc), 50);
    guard.transact(|tx| tx.alloc_bytes(root.area(), &[0x55; 400]).map(drop)).expect("allocated");
    assert_eq!(logged(0x5555_5555_5555_5555), 50);
}
