//! What changes of collections cost in flushed lines and fences, and entries in bytes: exact counts, as the documentation gives them.
//! `cargo test -p twizzler-object --test costs -- --nocapture` prints them.

use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{
    HashMap, HashMapRoot, List, ListRoot, OrderedMap, OrderedMapRoot, Vector, VectorRoot,
};
use twizzler_object::{Access, Guard, Ptr, Space, Stored, Tx};

#[derive(Stored)]
#[stored(name = "test.costs", version = 1)]
#[repr(C)]
struct Root {
    word: u64,
    ordered: OrderedMapRoot<u64, u64>,
    hashed: HashMapRoot<u64, u64>,
    long: OrderedMapRoot<u64, [u8; 100]>,
    long_hashed: HashMapRoot<u64, [u8; 100]>,
    vector: VectorRoot<u64>,
    list: ListRoot<u64>,
}

type T<'g, 'b> = Tx<'g, &'b MemoryBackend>;

/// A key of the `n`-th entry, in no order.
const fn key(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1
}

struct Costs {
    lines: f64,
    fences_most: u64,
    fences: f64,
}

/// What `change` costs in transactions of their own: many of them, since some make room for others.
fn cost<'g, 'b>(
    backend: &MemoryBackend,
    guard: &'g Guard<'_, &'b MemoryBackend>,
    name: &str,
    mut change: impl FnMut(&mut T<'g, 'b>, u64) -> Result<(), Error>,
) -> Costs {
    const TIMES: u64 = 1000;
    let before = (backend.flushed_lines(), backend.fences());
    let mut most = 0;
    for n in 0..TIMES {
        let before = backend.fences();
        guard.transact(|tx| change(tx, n)).expect("changed");
        most = most.max(backend.fences() - before);
    }
    let costs = Costs {
        lines: (backend.flushed_lines() - before.0) as f64 / TIMES as f64,
        fences: (backend.fences() - before.1) as f64 / TIMES as f64,
        fences_most: most,
    };
    println!(
        "{name:40} {:5.1} lines, {:.2} fences, {} at most",
        costs.lines, costs.fences, costs.fences_most
    );
    costs
}

fn object(space: &Space<&MemoryBackend>) -> ObjId {
    space.transact(|tx| Ok::<_, Error>(space.id_of(tx.create::<Root>()?.area()))).expect("made")
}

#[test]
fn changes_cost_so_many_lines_and_fences() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let id = object(&space);
    let guard = space.enter();
    let root = guard.open::<Root>(id, Access::Write).expect("there").base();
    let ordered = OrderedMap::new(root.at(Root::ordered));
    let hashed = HashMap::new(root.at(Root::hashed));
    let vector = Vector::new(root.at(Root::vector));
    let list = List::new(root.at(Root::list));
    let long = OrderedMap::new(root.at(Root::long));
    let long_hashed = HashMap::new(root.at(Root::long_hashed));
    const ENTRIES: u64 = 20_000;
    for first in (0..ENTRIES).step_by(500) {
        let fill = guard.transact(|tx| {
            (first..first + 500).try_for_each(|n| {
                ordered.insert(tx, key(n), n)?;
                hashed.insert(tx, key(n), n)?;
                long.insert(tx, key(n), [0; 100])?;
                long_hashed.insert(tx, key(n), [0; 100])?;
                vector.push(tx, n)?;
                list.push_back(tx, n).map(drop)
            })
        });
        fill.expect("filled");
    }
    let word = cost(&backend, &guard, "a word", |tx, n| tx.set(root.at(Root::word), n));
    assert!(word.lines <= 5.0 && word.fences_most == 2);
    let there = |n: u64| key(n * 17 % ENTRIES);
    let new = |n: u64| key(ENTRIES + n);
    let update =
        cost(&backend, &guard, "HashMap: replace a value", |tx, n| hashed.insert(tx, there(n), n).map(drop));
    assert!(update.lines <= word.lines + 0.1 && update.fences_most == 2);
    let insert = cost(&backend, &guard, "HashMap: insert", |tx, n| hashed.insert(tx, new(n), n).map(drop));
    assert!(insert.lines <= 15.0 && insert.fences <= 2.05);
    let remove = cost(&backend, &guard, "HashMap: remove", |tx, n| hashed.remove(tx, &new(n)).map(drop));
    assert!(remove.lines <= 8.0 && remove.fences_most == 2);
    let update = cost(&backend, &guard, "OrderedMap: replace a value", |tx, n| {
        ordered.insert(tx, there(n), n).map(drop)
    });
    assert!(update.lines <= 16.0 && update.fences_most == 2);
    let insert =
        cost(&backend, &guard, "OrderedMap: insert", |tx, n| ordered.insert(tx, new(n), n).map(drop));
    assert!(insert.lines <= 18.0 && insert.fences <= 2.1);
    let remove = cost(&backend, &guard, "OrderedMap: remove", |tx, n| ordered.remove(tx, &new(n)).map(drop));
    assert!(remove.lines <= 16.0 && remove.fences <= 2.1);
    let update = cost(&backend, &guard, "HashMap: replace a value of 100 bytes", |tx, n| {
        long_hashed.insert(tx, there(n), [n as u8; 100]).map(drop)
    });
    assert!(update.lines <= 10.0 && update.fences_most == 2);
    let update = cost(&backend, &guard, "OrderedMap: replace a value of 100 bytes", |tx, n| {
        long.insert(tx, there(n), [n as u8; 100]).map(drop)
    });
    assert!(update.lines <= 36.0 && update.fences_most == 2);
    let push = cost(&backend, &guard, "Vector: push", |tx, n| vector.push(tx, n));
    assert!(push.lines <= 8.0 && push.fences <= 2.01);
    let push = cost(&backend, &guard, "List: push_back", |tx, n| list.push_back(tx, n).map(drop));
    assert!(push.lines <= 14.0 && push.fences <= 2.01);
}

/// Bytes of the heap for each entry that `fill` puts in.
fn space_of(name: &str, fill: impl for<'g, 'b> Fn(&mut T<'g, 'b>, ObjId, u64) -> Result<(), Error>) -> f64 {
    const ENTRIES: u64 = 50_000;
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let id = object(&space);
    let guard = space.enter();
    for n in 0..ENTRIES / 500 {
        guard.transact(|tx| (n * 500..n * 500 + 500).try_for_each(|n| fill(tx, id, n))).expect("filled");
    }
    let root = guard.open::<Root>(id, Access::Write).expect("there").base();
    guard.transact(|tx| OrderedMap::new(root.at(Root::ordered)).shrink_to_fit(tx)).expect("given back");
    let bytes = space.heap_usage(root.object()).expect("sound").used_bytes as f64 / ENTRIES as f64;
    println!("{name:40} {bytes:5.1} bytes for each entry");
    bytes
}

#[test]
fn entries_take_so_many_bytes() {
    fn root<'g>(tx: &T<'g, '_>, id: ObjId) -> Result<Ptr<'g, Root>, Error> {
        Ok(tx.open::<Root>(id, Access::Write)?.base())
    }
    let hashed = space_of("HashMap", |tx, id, n| {
        let map = HashMap::new(root(tx, id)?.at(Root::hashed));
        map.insert(tx, key(n), n).map(drop)
    });
    assert!(hashed < 42.0);
    let ordered = space_of("OrderedMap, keys in no order", |tx, id, n| {
        let map = OrderedMap::new(root(tx, id)?.at(Root::ordered));
        map.insert(tx, key(n), n).map(drop)
    });
    assert!(ordered < 30.0);
    let ordered = space_of("OrderedMap, keys in order", |tx, id, n| {
        let map = OrderedMap::new(root(tx, id)?.at(Root::ordered));
        map.insert(tx, n, n).map(drop)
    });
    assert!(ordered < 21.0);
    let vector = space_of("Vector", |tx, id, n| Vector::new(root(tx, id)?.at(Root::vector)).push(tx, n));
    assert!(vector < 10.0);
    let list =
        space_of("List", |tx, id, n| List::new(root(tx, id)?.at(Root::list)).push_back(tx, n).map(drop));
    assert!(list < 33.0);
}

/// What happens where an object is full: an error, and nothing is lost.
#[test]
fn a_full_object_is_an_error_and_loses_nothing() {
    #[derive(Stored)]
    #[stored(name = "test.costs-large", version = 1)]
    #[repr(C)]
    struct Large {
        ordered: OrderedMapRoot<[u8], [u8]>,
        hashed: HashMapRoot<[u8], [u8]>,
        vector: VectorRoot<u64>,
    }
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let id = space.transact(|tx| Ok::<_, Error>(space.id_of(tx.create::<Large>()?.area()))).expect("made");
    let guard = space.enter();
    let root = guard.open::<Large>(id, Access::Write).expect("there").base();
    let (ordered, hashed) = (OrderedMap::new(root.at(Large::ordered)), HashMap::new(root.at(Large::hashed)));
    let vector = Vector::new(root.at(Large::vector));
    let first = guard.transact(|tx| {
        ordered.insert(tx, b"1", b"one")?;
        hashed.insert(tx, b"1", b"one")?;
        vector.push(tx, 1)
    });
    first.expect("fits");
    let large = vec![7; 48 << 20];
    let (mut entries, mut error) = (0u64, None);
    while error.is_none() && entries < 40 {
        let more = guard.transact(|tx| {
            if entries % 2 == 0 {
                ordered.insert(tx, &entries.to_be_bytes(), &large).map(drop)
            } else {
                hashed.insert(tx, &entries.to_be_bytes(), &large).map(drop)
            }
        });
        match more {
            Ok(()) => entries += 1,
            Err(said) => error = Some(said),
        }
    }
    assert_eq!(error, Some(Error::OutOfRange), "after {entries} entries of 48 MiB");
    assert!(entries >= 19, "a gigabyte holds them: {entries}");
    let reader = &guard;
    for n in 0..entries {
        let found = if n % 2 == 0 {
            ordered.get(&reader, &n.to_be_bytes())
        } else {
            hashed.get(&reader, &n.to_be_bytes())
        };
        assert!(found.expect("whole").is_some_and(|value| value == large), "{n} is there");
    }
    assert_eq!((ordered.get(&reader, b"1"), vector.len(&reader)), (Ok(Some(b"one".to_vec())), 1));
    assert_eq!(space.heap_usage(root.object()).map(|_| ()), Ok(()));
    // What is taken out makes room.
    guard.transact(|tx| hashed.remove(tx, &1u64.to_be_bytes()).map(drop)).expect("removed");
    guard.transact(|tx| hashed.insert(tx, b"again", &large).map(drop)).expect("fits again");
}
