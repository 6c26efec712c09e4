//! The store against `BTreeMap`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_kv::{BadLine, LoadError, Store, StoreRoot};
use twizzler_object::{Access, Backend, Guard, Space};

fn make<B: Backend>(space: &Space<B>) -> ObjId {
    space.transact(|tx| Ok::<_, Error>(space.id_of(tx.create::<StoreRoot>()?.area()))).expect("made")
}

fn open<'g, B: Backend>(guard: &'g Guard<'g, B>, id: ObjId) -> Store<'g, B> {
    Store::new(guard, guard.open(id, Access::Write).expect("there"))
}

fn all<B: Backend>(store: &Store<'_, B>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut all = BTreeMap::new();
    store
        .scan(None, None, |key, value| assert!(all.insert(key.to_vec(), value.to_vec()).is_none()))
        .expect("whole");
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn loads_do_what_puts_do(first in prop::collection::vec(("[a-e]{0,3}", "[x-z]{0,9}"), 0..200), rounds in prop::collection::vec(prop::collection::vec(("[a-e]{0,3}", "[x-z]{0,9}"), 0..30), 0..5)) {
        let backend = MemoryBackend::new();
        let space = Space::attach(&backend).expect("attached");
        let guard = space.enter();
        let store = open(&guard, make(&space));
        let mut model = BTreeMap::new();
        for entries in std::iter::once(first).chain(rounds) {
            let text: String = entries.iter().map(|(k, v)| format!("{k}\t{v}\n")).collect();
            prop_assert_eq!(store.load(text.as_bytes()), Ok(entries.len() as u64));
            model.extend(entries.into_iter().map(|(k, v)| (k.into_bytes(), v.into_bytes())));
            prop_assert_eq!(all(&store), model.clone());
            prop_assert_eq!(store.stat().expect("whole").entries, model.len() as u64);
        }
    }
}

#[test]
fn what_is_no_entry_is_named_and_nothing_is_loaded() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let store = open(&guard, make(&space));
    assert_eq!(store.load(b"a\t1\nb 2\n"), Err(LoadError::Line(BadLine { line: 2 })));
    let long = [b"a\t1\n\n".as_slice(), &[b'k'; 1025], b"\t2\n"].concat();
    assert_eq!(store.load(&long), Err(LoadError::TooLong(3)));
    assert!(all(&store).is_empty());
}

#[test]
fn commands_do_what_they_say() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let id = make(&space);
    let store = open(&guard, id);
    assert_eq!(store.put(b"b", b"2"), Ok(false));
    assert_eq!(store.put(b"b", b"3"), Ok(true));
    assert_eq!(store.put(b"a", &vec![7; 1 << 20]), Ok(false));
    assert_eq!(store.get(b"b"), Ok(Some(b"3".to_vec())));
    assert_eq!(store.get(b"c"), Ok(None));
    assert_eq!(store.delete(b"c"), Ok(false));
    assert_eq!(store.delete(b"b"), Ok(true));
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let mut keys = Vec::new();
    open(&guard, id)
        .scan(Some(b"a"), Some(b"b"), |key, value| keys.push((key.to_vec(), value.len())))
        .expect("whole");
    assert_eq!(keys, [(b"a".to_vec(), 1 << 20)]);
}
