//! The ordered map against `BTreeMap`.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{BytesMap, KEY_BYTES_MAX, MapRoot};
use twizzler_object::{Access, Backend, Guard, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.map-root", version = 1)]
#[repr(C)]
struct Root {
    map: MapRoot,
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn make<B: Backend>(space: &Space<B>) -> ObjId {
    space.transact(|tx| Ok::<_, Error>(space.id_of(tx.create::<Root>()?.area()))).expect("made")
}

fn open<'g, B: Backend>(guard: &'g Guard<'_, B>, id: ObjId) -> BytesMap<'g> {
    BytesMap::new(guard.open::<Root>(id, Access::Write).expect("there").base().at(Root::map))
}

fn entries<'g, B: Backend>(guard: &'g Guard<'_, B>, map: BytesMap<'g>) -> Result<Entries, Error> {
    map.iter(&guard).collect()
}

fn compare<'g, B: Backend>(guard: &'g Guard<'_, B>, map: BytesMap<'g>, model: &Model) {
    assert_eq!(map.len(&guard), Ok(model.len() as u64));
    assert_eq!(map.len_bytes(&guard), Ok(model.iter().map(|(k, v)| (k.len() + v.len()) as u64).sum::<u64>()));
    assert!(entries(guard, map).expect("whole").into_iter().eq(model.clone()));
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (0u16..300).prop_map(|n| n.to_be_bytes().to_vec()),
        2 => (0u8..30, 500usize..=KEY_BYTES_MAX).prop_map(|(n, len)| vec![n; len]),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..40),
        2 => (any::<u8>(), 0usize..1400).prop_map(|(n, len)| vec![n; len]),
        1 => (any::<u8>(), 1400usize..20_000).prop_map(|(n, len)| vec![n; len]),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<(Vec<u8>, Vec<u8>)>),
    Remove(Vec<Vec<u8>>),
    Merge(Model),
    Range(Bound<Vec<u8>>, Bound<Vec<u8>>),
    Abort(Vec<u8>, Vec<u8>),
    Clear,
    Restart,
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![key().prop_map(Bound::Included), key().prop_map(Bound::Excluded), Just(Bound::Unbounded)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec((key(), value()), 1..60).prop_map(Step::Insert),
        6 => prop::collection::vec(key(), 1..100).prop_map(Step::Remove),
        3 => prop::collection::btree_map(key(), value(), 0..100).prop_map(Step::Merge),
        4 => (bound(), bound()).prop_map(|(from, to)| Step::Range(from, to)),
        2 => (key(), value()).prop_map(|(key, value)| Step::Abort(key, value)),
        1 => Just(Step::Clear),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_map_does_what_btreemap_does(steps in prop::collection::vec(step(), 1..40)) {
        for backend in MemoryBackend::kinds() {
            let mut space = Space::attach(&backend).expect("attached");
            let id = make(&space);
            let mut model = Model::new();
            for step in steps.clone() {
                let guard = space.enter();
                let map = open(&guard, id);
                match step {
                    Step::Insert(entries) => {
                        let replaced = guard.transact(|tx| entries.iter().map(|(k, v)| map.insert(tx, k, v)).collect::<Result<Vec<_>, Error>>());
                        let wanted: Vec<bool> = entries.into_iter().map(|(k, v)| model.insert(k, v).is_some()).collect();
                        prop_assert_eq!(replaced, Ok(wanted));
                    }
                    Step::Remove(keys) => {
                        let removed = guard.transact(|tx| keys.iter().map(|k| map.remove(tx, k)).collect::<Result<Vec<_>, Error>>());
                        let wanted: Vec<bool> = keys.iter().map(|k| model.remove(k).is_some()).collect();
                        prop_assert_eq!(removed, Ok(wanted));
                    }
                    Step::Merge(entries) => {
                        let list: Vec<(&[u8], &[u8])> = entries.iter().map(|(k, v)| (k.as_slice(), v.as_slice())).collect();
                        prop_assert_eq!(guard.transact(|tx| map.merge_sorted(tx, &list)), Ok(()));
                        model.extend(entries);
                    }
                    Step::Range(from, to) => {
                        let ordered = match (&from, &to) {
                            (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
                            (Bound::Excluded(a), Bound::Excluded(b)) => a < b,
                            (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a <= b,
                        };
                        let bounds = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
                        let got: Result<Vec<_>, Error> = map.range(&&guard, bounds).collect();
                        let wanted: Vec<_> = if ordered { model.range::<[u8], _>(bounds).map(|(k, v)| (k.clone(), v.clone())).collect() } else { vec![] };
                        prop_assert_eq!(got, Ok(wanted));
                    }
                    Step::Abort(key, value) => {
                        let mut tx = guard.begin().expect("begun");
                        let _ = map.remove(&mut tx, &key).expect("removed");
                        map.insert(&mut tx, &key, &value).expect("inserted");
                        prop_assert_eq!(map.get(&tx, &key), Ok(Some(value)));
                        tx.abort();
                        prop_assert_eq!(map.get(&&guard, &key), Ok(model.get(&key).cloned()));
                    }
                    Step::Clear => {
                        prop_assert_eq!(guard.transact(|tx| map.clear(tx)), Ok(()));
                        model.clear();
                    }
                    Step::Restart => {
                        drop(guard);
                        drop(space);
                        space = Space::attach(&backend).expect("attached");
                    }
                }
                let guard = space.enter();
                compare(&guard, open(&guard, id), &model);
            }
        }
    }

    /// Whatever lies in the object: an answer or an error, never a panic and never without end.
    #[test]
    fn damage_is_an_error(flips in prop::collection::vec((0u64..200 * 4096, any::<u8>()), 1..40), heads: bool) {
        let backend = MemoryBackend::new();
        let space = Space::attach(&backend).expect("attached");
        let id = make(&space);
        let guard = space.enter();
        let map = open(&guard, id);
        guard.transact(|tx| {
            (0..200u16).try_for_each(|n| map.insert(tx, &n.to_be_bytes(), &vec![n as u8; usize::from(n) * 9]).map(drop))
        }).map_err(|e: Error| e).expect("inserted");
        let pages: Vec<u64> = backend.pages_of(id).into_iter().filter(|page| page * 4096 >= BASE_OFFSET).collect();
        for (at, bits) in flips {
            // The root and the heads of nodes matter most.
            let page = pages[(at / 4096) as usize % pages.len()];
            let at = if heads { at % 64 } else { at % 4096 };
            backend.damage(id, page * 4096 + at, |byte| byte ^ bits);
        }
        let _ = entries(&guard, map);
        for n in (0..200u16).step_by(17) {
            let _ = map.get(&&guard, &n.to_be_bytes());
            if let Ok(mut tx) = guard.begin() {
                let _ = map.insert(&mut tx, &n.to_be_bytes(), &[7; 700]).and_then(|_| map.remove(&mut tx, &[0, 9]));
                tx.abort();
            }
        }
    }
}

#[test]
fn what_is_too_long_is_refused() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let map = open(&guard, make(&space));
    let insert = |key: &[u8], value: &[u8]| guard.transact(|tx| map.insert(tx, key, value));
    assert_eq!(insert(&[1; KEY_BYTES_MAX + 1], b""), Err(Error::TooLong));
    assert_eq!(insert(&[1; KEY_BYTES_MAX], &vec![5; 3 << 20]), Ok(false));
    assert_eq!(map.get(&&guard, &[1; KEY_BYTES_MAX]), Ok(Some(vec![5; 3 << 20])));
    assert_eq!(
        guard.transact(|tx| map.merge_sorted(tx, &[(b"b", b""), (b"a", b"")])),
        Err(Error::InvalidArgument)
    );
}

#[test]
fn keys_in_order_fill_their_nodes() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let id = make(&space);
    let guard = space.enter();
    let map = open(&guard, id);
    guard
        .transact(|tx| {
            (0..20_000u32).try_for_each(|n| map.insert(tx, &n.to_be_bytes(), &n.to_le_bytes()).map(drop))
        })
        .map_err(|e: Error| e)
        .expect("inserted");
    // 14 bytes for each entry; what the heap adds, and the levels above, is little.
    let used = guard.heap_usage(guard.open_any(id, Access::Read).expect("there")).expect("whole").used_bytes;
    assert!(used < 20_000 * 20, "{used}");
    assert_eq!(map.levels(&&guard), Ok(2));
}
