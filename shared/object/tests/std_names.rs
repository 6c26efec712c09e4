//! Names that a Rust programmer knows, and what they do.

use twizzler_abi::Error;
use twizzler_image::MemoryBackend;
use twizzler_object::collections::entry::Entry;
use twizzler_object::collections::{
    HashMap, HashMapRoot, List, ListRoot, OrderedMap, OrderedMapRoot, Text, TextRoot, Vector, VectorRoot,
};
use twizzler_object::{Space, Stored};

#[derive(Stored)]
#[stored(name = "test.std-names", version = 1)]
#[repr(C)]
struct Root {
    ordered: OrderedMapRoot<u32, u64>,
    hashed: HashMapRoot<u32, u64>,
    vector: VectorRoot<u64>,
    list: ListRoot<u64>,
    text: TextRoot,
}

#[test]
fn names_from_std_do_what_they_do_there() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let root = guard.transact(|tx| tx.create::<Root>()).expect("made").base();
    let (ordered, hashed) = (OrderedMap::new(root.at(Root::ordered)), HashMap::new(root.at(Root::hashed)));
    let (vector, list) = (Vector::new(root.at(Root::vector)), List::new(root.at(Root::list)));
    let text = Text::new(root.at(Root::text));
    guard
        .transact(|tx| {
            ordered.extend(tx, (0..5).map(|n| (n, u64::from(n) * 10)))?;
            hashed.extend(tx, [(1, 10), (2, 20)])?;
            assert_eq!(ordered.entry(tx, 77)?.or_default(), Ok(0));
            assert_eq!(hashed.entry(tx, 1)?.or_default(), Ok(10));
            match ordered.entry(tx, 3)? {
                Entry::Occupied(entry) => assert_eq!((entry.key(), entry.get()), (&3, &30)),
                Entry::Vacant(entry) => panic!("{} is there", entry.key()),
            }
            vector.extend_from_slice(tx, &[1, 2, 3, 4, 5, 6])?;
            vector.swap(tx, 0, 5)?;
            assert_eq!(vector.swap(tx, 0, 6), Err(Error::OutOfRange));
            vector.retain(tx, |value| value % 2 == 0)?;
            list.push_back(tx, 7)?;
            list.push_back(tx, 8)?;
            text.push_str(tx, "gr")?;
            text.push(tx, 'ü')?;
            text.push(tx, 'n')
        })
        .expect("changed");
    let reader = &guard;
    assert!(ordered.keys(&reader).eq([0, 1, 2, 3, 4, 77].map(Ok)));
    assert!(ordered.values(&reader).rev().eq([0, 40, 30, 20, 10, 0].map(Ok)));
    assert_eq!(hashed.keys(&reader).map(Result::unwrap).sum::<u32>(), 3);
    assert_eq!(hashed.values(&reader).map(Result::unwrap).sum::<u64>(), 30);
    assert_eq!(vector.to_vec(&reader), Ok(vec![6, 2, 4]));
    assert_eq!((list.front(&reader), list.back(&reader)), (Ok(Some(7)), Ok(Some(8))));
    assert_eq!(text.get(&reader), Ok("grün".into()));
}
