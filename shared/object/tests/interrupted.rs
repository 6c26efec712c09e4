//! What happens between two steps of a reader without locks.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::cmp::Ordering;

use twizzler_abi::Error;
use twizzler_abi::pointer::PointerBits;
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{HashMapRoot, PointerHashMap};
use twizzler_object::{Area, Bytes, Guard, InvPtr, InvSpan, Ptr, Reader, Space, Span, Stored, Value};

/// Reads through a guard, and lets something happen when it has encoded a key.
struct Interrupted<'r, 'g, 's, 'b> {
    guard: &'r &'g Guard<'s, &'b MemoryBackend>,
    then: RefCell<Option<Box<dyn FnOnce() + 'r>>>,
}

impl<'g> Reader<'g> for Interrupted<'_, 'g, '_, '_> {
    fn get<T: Value>(&self, place: Ptr<'g, T>) -> T {
        Reader::get(self.guard, place)
    }
    fn follow<T: Stored>(&self, place: Ptr<'g, InvPtr<T>>) -> Result<Option<Ptr<'g, T>>, Error> {
        Reader::follow(self.guard, place)
    }
    fn follow_span<T: Stored>(&self, place: Ptr<'g, InvSpan<T>>) -> Result<Span<'g, T>, Error> {
        Reader::follow_span(self.guard, place)
    }
    fn read(&self, bytes: Bytes<'g>, from: u64, buffer: &mut [u8]) -> Result<(), Error> {
        Reader::read(self.guard, bytes, from, buffer)
    }
    fn compare(&self, bytes: Bytes<'g>, other: &[u8]) -> Ordering {
        Reader::compare(self.guard, bytes, other)
    }
    fn encoded(&self, from: Area<'g>, target: u64) -> Result<Option<u64>, Error> {
        let encoded = self.guard.encoded(from, target);
        if let Some(then) = self.then.take() {
            then();
        }
        encoded
    }
    fn decoded<T: Stored>(&self, from: Area<'g>, bits: PointerBits) -> Result<Option<Ptr<'g, T>>, Error> {
        self.guard.decoded(from, bits)
    }
}

#[test]
fn an_undone_key_never_has_the_value_of_another_one() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attaches");
    let guard = &space.enter();
    let made = guard.transact(|tx| {
        let map = tx.create::<HashMapRoot<InvPtr<u64>, u64>>()?.base();
        Ok::<_, Error>((map, [tx.create::<u64>()?.base(), tx.create::<u64>()?.base()]))
    });
    let (root, [ours, other]) = made.expect("made");
    let map = PointerHashMap::hashed(root);
    let mut tx = guard.begin().expect("begun");
    map.insert(&mut tx, ours, 1).expect("staged");
    let then = || {
        tx.abort();
        // Its object gets the number that ours had.
        assert_eq!(guard.transact(|tx| map.insert(tx, other, 2)), Ok(None));
    };
    let reader = Interrupted { guard: &guard, then: RefCell::new(Some(Box::new(then))) };
    assert_eq!(map.get(&reader, ours), Ok(None));
    assert_eq!(map.get(&reader, other), Ok(Some(2)));
}
