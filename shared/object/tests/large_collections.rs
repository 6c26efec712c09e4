//! Collections that outgrow a gigabyte, in a large object.

use twizzler_abi::Error;
use twizzler_abi::call::{CreateSpec, USUAL_RIGHTS};
use twizzler_abi::rights::ObjectFlags;
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{HashMap, HashMapRoot, OrderedMap, OrderedMapRoot, Vector, VectorRoot};
use twizzler_object::{Access, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.large", version = 1)]
#[repr(C)]
struct Root {
    ordered: OrderedMapRoot<[u8], [u8]>,
    hashed: HashMapRoot<[u8], [u8]>,
    numbers: OrderedMapRoot<u64, u64>,
    vector: VectorRoot<u64>,
}

/// Together 1.25 GiB.
const ENTRIES: u64 = 24;
const BYTES: usize = 53 << 20;

#[test]
fn collections_outgrow_a_gigabyte_in_a_large_object() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let spec = CreateSpec {
        nonce: [5; 16],
        owner: twizzler_abi::ObjId::NONE,
        flags: (ObjectFlags::PERSISTENT | ObjectFlags::LARGE).bits(),
        default_rights: USUAL_RIGHTS.bits(),
        fingerprint: <Root as Stored>::FINGERPRINT,
    };
    let made = space.transact(|tx| {
        let area = tx.create_with(&spec)?;
        tx.write_at(area, 0, &[0; size_of::<Root>()])?;
        tx.set_len_bytes(area, size_of::<Root>() as u64)?;
        Ok::<_, Error>(space.id_of(area))
    });
    let id = made.expect("made");
    let guard = space.enter();
    let root = guard.open::<Root>(id, Access::Write).expect("of that type").base();
    let (ordered, hashed) = (OrderedMap::new(root.at(Root::ordered)), HashMap::new(root.at(Root::hashed)));
    let (numbers, vector) = (OrderedMap::new(root.at(Root::numbers)), Vector::new(root.at(Root::vector)));
    let value = |n: u64| vec![n as u8; BYTES];
    // More small ones behind each large one: so they lie on both sides of the gigabyte.
    for n in 0..ENTRIES {
        let fill = guard.transact(|tx| {
            if n % 2 == 0 {
                ordered.insert(tx, &n.to_be_bytes(), &value(n))?;
            } else {
                hashed.insert(tx, &n.to_be_bytes(), &value(n))?;
            }
            (n * 1000..n * 1000 + 1000).try_for_each(|n| {
                numbers.insert(tx, n, n + 1)?;
                vector.push(tx, n)
            })
        });
        fill.expect("there is room for more than a gigabyte");
        // An undone transaction leaves nothing, at the very border neither.
        let undone = guard.transact(|tx| {
            ordered.insert(tx, b"undone", &value(n))?;
            Err::<(), _>(Error::Interrupted)
        });
        assert_eq!(undone, Err(Error::Interrupted));
    }
    let usage = space.heap_usage(root.object()).expect("sound");
    assert!(usage.used_bytes > (1 << 30) + (200 << 20), "{usage:?}");
    drop(guard);
    drop(space);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let reader = &guard;
    let root = guard.open::<Root>(id, Access::Write).expect("of that type").base();
    let (ordered, hashed) = (OrderedMap::new(root.at(Root::ordered)), HashMap::new(root.at(Root::hashed)));
    let (numbers, vector) = (OrderedMap::new(root.at(Root::numbers)), Vector::new(root.at(Root::vector)));
    for n in 0..ENTRIES {
        let key = n.to_be_bytes();
        let found = if n % 2 == 0 { ordered.get(&reader, &key) } else { hashed.get(&reader, &key) };
        assert!(found.expect("whole").is_some_and(|found| found == value(n)), "entry {n}");
    }
    assert!(numbers.iter(&reader).eq((0..ENTRIES * 1000).map(|n| Ok((n, n + 1)))));
    assert!(vector.iter(&reader).eq((0..ENTRIES * 1000).map(Ok)));
    for n in 0..ENTRIES {
        let key = n.to_be_bytes();
        guard.transact(|tx| ordered.remove(tx, &key).and(hashed.remove(tx, &key))).expect("removed");
    }
    guard
        .transact(|tx| ordered.clear(tx).and(numbers.clear(tx)).and(hashed.clear(tx)).and(vector.clear(tx)))
        .expect("cleared");
    guard.transact(|tx| ordered.shrink_to_fit(tx).and(numbers.shrink_to_fit(tx))).expect("given back");
    assert_eq!(space.heap_usage(root.object()).map(|usage| usage.used_bytes), Ok(0));
}
