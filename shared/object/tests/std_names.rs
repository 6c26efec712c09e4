//! Names that a Rust programmer knows, and what they do.

use twizzler_abi::Error;
use twizzler_image::MemoryBackend;
use twizzler_object::collections::entry::Entry;
use twizzler_object::collections::{
    HashMap, HashMapRoot, List, ListRoot, OrderedMap, OrderedMapRoot, Text, TextRoot, Vector, VectorRoot,
};
use twizzler_object::{Guard, Ptr, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.std-names", version = 1)]
#[repr(C)]
struct Root {
    ordered: OrderedMapRoot<u32, u64>,
    hashed: HashMapRoot<u32, u64>,
    vector: VectorRoot<u64>,
    list: ListRoot<u64>,
    text: TextRoot,
    bytes: OrderedMapRoot<[u8], [u8]>,
    hashed_bytes: HashMapRoot<[u8], [u8]>,
}

fn made<'g>(guard: &'g Guard<'_, &MemoryBackend>) -> Ptr<'g, Root> {
    guard.transact(|tx| tx.create::<Root>()).expect("made").base()
}

/// The collections whose values have a fixed size.
struct All<'g> {
    ordered: OrderedMap<'g, u32, u64>,
    hashed: HashMap<'g, u32, u64>,
    vector: Vector<'g, u64>,
    list: List<'g, u64>,
    text: Text<'g>,
}

fn all(root: Ptr<'_, Root>) -> All<'_> {
    All {
        ordered: OrderedMap::new(root.at(Root::ordered)),
        hashed: HashMap::new(root.at(Root::hashed)),
        vector: Vector::new(root.at(Root::vector)),
        list: List::new(root.at(Root::list)),
        text: Text::new(root.at(Root::text)),
    }
}

#[test]
fn names_from_std_do_what_they_do_there() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let root = made(&guard);
    let All { ordered, hashed, vector, list, text } = all(root);
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
    let mut value = 0;
    assert_eq!(hashed.get_into(&reader, &2, &mut value), Ok(true));
    assert_eq!(value, 20);
    assert_eq!(hashed.get_into(&reader, &3, &mut value), Ok(false));
    assert_eq!(vector.to_vec(&reader), Ok(vec![6, 2, 4]));
    assert_eq!((list.front(&reader), list.back(&reader)), (Ok(Some(7)), Ok(Some(8))));
    assert_eq!(text.get(&reader), Ok("grün".into()));
}

#[test]
fn parts_are_taken_out_as_in_std() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let root = made(&guard);
    let All { ordered, hashed, vector, list, text } = all(root);
    guard
        .transact(|tx| {
            vector.extend(tx, 0..10)?;
            assert_eq!(vector.drain(tx, 2..=4), Ok(vec![2, 3, 4]));
            assert_eq!(vector.split_off(tx, 5), Ok(vec![8, 9]));
            assert_eq!(vector.to_vec(tx), Ok(vec![0, 1, 5, 6, 7]));
            assert_eq!((vector.binary_search(tx, &6), vector.binary_search(tx, &2)), (Ok(Ok(3)), Ok(Err(2))));
            assert_eq!(vector.drain(tx, 3..6), Err(Error::OutOfRange));
            vector.resize(tx, 2, 9)?;
            vector.resize(tx, 4, 9)?;
            assert_eq!(vector.to_vec(tx), Ok(vec![0, 1, 9, 9]));
            list.extend(tx, 0..6)?;
            list.retain(tx, |n| n % 3 != 0)?;
            assert!(list.iter(tx).eq([1, 2, 4, 5].map(Ok)));
            text.set(tx, "grün")?;
            assert_eq!(text.truncate(tx, 3), Err(Error::InvalidArgument), "in the middle of a character");
            assert_eq!((text.pop(tx), text.pop(tx)), (Ok(Some('n')), Ok(Some('ü'))));
            text.truncate(tx, 1)?;
            assert_eq!(text.get(tx), Ok("g".into()));
            assert_eq!((text.pop(tx), text.pop(tx)), (Ok(Some('g')), Ok(None)));
            ordered.extend(tx, (0..5).map(|n| (n, 1)))?;
            assert_eq!(ordered.split_off(tx, &3), Ok(vec![(3, 1), (4, 1)]));
            assert_eq!(ordered.len(tx), Ok(3));
            hashed.extend(tx, [(7, 70)])?;
            assert_eq!(hashed.drain(tx), Ok(vec![(7, 70)]));
            assert!(hashed.is_empty(tx));
            Ok::<_, Error>(())
        })
        .expect("changed");
}

#[test]
fn maps_of_bytes_have_the_same_names() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let root = made(&guard);
    let (ordered, hashed) =
        (OrderedMap::new(root.at(Root::bytes)), HashMap::new(root.at(Root::hashed_bytes)));
    let entries: [(&[u8], &[u8]); 4] = [(b"a", b"1"), (b"b", b"2"), (b"c", b"3"), (b"d", b"4")];
    guard
        .transact(|tx| {
            ordered.extend(tx, entries)?;
            hashed.extend(tx, entries)?;
            assert!(ordered.keys(tx).rev().eq([b"d", b"c", b"b", b"a"].map(|key| Ok(key.to_vec()))));
            assert!(ordered.values(tx).eq([b"1", b"2", b"3", b"4"].map(|value| Ok(value.to_vec()))));
            let mut keys: Vec<_> = hashed.keys(tx).collect::<Result<_, _>>()?;
            keys.sort_unstable();
            assert_eq!(keys.concat(), b"abcd");
            assert_eq!(hashed.values(tx).count(), 4);
            let (first, last) = (ordered.first_key_value(tx)?, ordered.last_key_value(tx)?);
            assert_eq!((ordered.pop_first(tx)?, ordered.pop_last(tx)?), (first, last));
            ordered.retain(tx, |key, _| key != b"b")?;
            assert_eq!(ordered.pop_first(tx), Ok(Some((b"c".to_vec(), b"3".to_vec()))));
            assert_eq!((ordered.pop_first(tx), ordered.pop_last(tx)), (Ok(None), Ok(None)));
            Ok::<_, Error>(())
        })
        .expect("changed");
}
