//! Collections of types against those of `std`, and on damaged objects.

use std::collections::{BTreeMap, HashMap as StdHashMap};
use std::ops::Bound;

use proptest::prelude::*;
use twizzler_abi::Error;
use twizzler_abi::object::BASE_OFFSET;
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{HashMap, HashMapRoot, OrderedMap, OrderedMapRoot, Vector, VectorRoot};
use twizzler_object::{Access, Guard, InvPtr, Space, Stored, Tx};

#[derive(Stored)]
#[stored(name = "test.typed-root", version = 1)]
#[repr(C)]
struct Root {
    ordered: OrderedMapRoot<u32, [u64; 3]>,
    hashed: HashMapRoot<u32, [u64; 3]>,
    bytes: HashMapRoot<[u8], [u8]>,
    vector: VectorRoot<[u8; 24]>,
    places: OrderedMapRoot<u64, InvPtr<u64>>,
}

struct All<'g> {
    ordered: OrderedMap<'g, u32, [u64; 3]>,
    hashed: HashMap<'g, u32, [u64; 3]>,
    bytes: HashMap<'g, [u8], [u8]>,
    vector: Vector<'g, [u8; 24]>,
    places: OrderedMap<'g, u64, InvPtr<u64>>,
}

type G<'g, 'b> = Guard<'g, &'b MemoryBackend>;

fn make(backend: &MemoryBackend) -> twizzler_abi::ObjId {
    let space = Space::attach(backend).expect("attached");
    space.transact(|tx| Ok::<_, Error>(space.id_of(tx.create::<Root>()?.area()))).expect("made")
}

fn open<'g>(guard: &'g G<'g, '_>, id: twizzler_abi::ObjId) -> All<'g> {
    let root = guard.open::<Root>(id, Access::Write).expect("there").base();
    All {
        ordered: OrderedMap::new(root.at(Root::ordered)),
        hashed: HashMap::new(root.at(Root::hashed)),
        bytes: HashMap::new(root.at(Root::bytes)),
        vector: Vector::new(root.at(Root::vector)),
        places: OrderedMap::new(root.at(Root::places)),
    }
}

fn value(n: u64) -> [u64; 3] {
    [n, n ^ 7, !n]
}

#[derive(Clone, Debug)]
enum Step {
    /// Keys and values, all in one transaction.
    Insert(Vec<(u32, u64)>),
    Remove(Vec<u32>),
    Merge(BTreeMap<u32, u64>),
    Entry(Vec<u32>),
    Range(Bound<u32>, Bound<u32>, Vec<bool>),
    Pop(bool),
    Retain(u64),
    Abort(Vec<(u32, u64)>),
    Clear,
}

fn key() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 0u32..200, 2 => 0u32..3000, 1 => any::<u32>()]
}

fn bound() -> impl Strategy<Value = Bound<u32>> {
    prop_oneof![key().prop_map(Bound::Included), key().prop_map(Bound::Excluded), Just(Bound::Unbounded)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec((key(), any::<u64>()), 1..200).prop_map(Step::Insert),
        6 => prop::collection::vec(key(), 1..200).prop_map(Step::Remove),
        2 => prop::collection::btree_map(key(), any::<u64>(), 0..300).prop_map(Step::Merge),
        2 => prop::collection::vec(key(), 1..50).prop_map(Step::Entry),
        4 => (bound(), bound(), prop::collection::vec(any::<bool>(), 0..400)).prop_map(|(a, b, c)| Step::Range(a, b, c)),
        2 => any::<bool>().prop_map(Step::Pop),
        1 => any::<u64>().prop_map(Step::Retain),
        2 => prop::collection::vec((key(), any::<u64>()), 1..50).prop_map(Step::Abort),
        1 => Just(Step::Clear),
    ]
}

fn ordered_bounds(from: &Bound<u32>, to: &Bound<u32>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Excluded(a), Bound::Excluded(b)) => a < b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a <= b,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn both_maps_do_what_btreemap_does(steps in prop::collection::vec(step(), 1..30)) {
        let backend = MemoryBackend::new();
        let id = make(&backend);
        let space = Space::attach(&backend).expect("attached");
        let mut model = BTreeMap::new();
        for step in steps {
            let guard = space.enter();
            let All { ordered, hashed, .. } = open(&guard, id);
            match step {
                Step::Insert(entries) => {
                    let wanted: Vec<_> = entries.iter().map(|&(k, v)| model.insert(k, value(v))).collect();
                    let got = guard.transact(|tx| entries.iter().map(|&(k, v)| {
                        let old = ordered.insert(tx, k, value(v))?;
                        assert_eq!(hashed.insert(tx, k, value(v))?, old);
                        assert_eq!(hashed.get(tx, &k)?, ordered.get(tx, &k)?);
                        Ok(old)
                    }).collect::<Result<Vec<_>, Error>>());
                    prop_assert_eq!(got, Ok(wanted));
                }
                Step::Remove(keys) => {
                    let wanted: Vec<_> = keys.iter().map(|k| model.remove(k)).collect();
                    let got = guard.transact(|tx| keys.iter().map(|k| {
                        let old = ordered.remove(tx, k)?;
                        assert_eq!(hashed.remove(tx, k)?, old);
                        Ok(old)
                    }).collect::<Result<Vec<_>, Error>>());
                    prop_assert_eq!(got, Ok(wanted));
                }
                Step::Merge(entries) => {
                    let list: Vec<_> = entries.iter().map(|(&k, &v)| (k, value(v))).collect();
                    model.extend(list.iter().copied());
                    prop_assert_eq!(guard.transact(|tx| {
                        list.iter().try_for_each(|&(k, v)| hashed.insert(tx, k, v).map(drop))?;
                        ordered.merge_sorted(tx, &list)
                    }), Ok(()));
                }
                Step::Entry(keys) => {
                    for k in &keys {
                        model.entry(*k).and_modify(|v| v[0] += 1 & (v[0] < 9) as u64).or_insert([1, 2, 3]);
                    }
                    let change = |v: &mut [u64; 3]| v[0] += 1 & (v[0] < 9) as u64;
                    prop_assert_eq!(guard.transact(|tx| keys.iter().try_for_each(|&k| {
                        ordered.entry(tx, k)?.and_modify(change)?.or_insert([1, 2, 3])?;
                        hashed.entry(tx, k)?.and_modify(change)?.or_insert([1, 2, 3]).map(drop)
                    })), Ok::<(), Error>(()));
                }
                Step::Range(from, to, ends) => {
                    let mut wanted: Vec<_> = if ordered_bounds(&from, &to) { model.range((from, to)).map(|(k, v)| (*k, *v)).collect() } else { vec![] };
                    let reader = &guard;
                    let mut range = ordered.range(&reader, (from, to));
                    for forward in ends {
                        let (got, want) = if forward {
                            (range.next(), (!wanted.is_empty()).then(|| wanted.remove(0)))
                        } else {
                            (range.next_back(), wanted.pop())
                        };
                        prop_assert_eq!(got, want.map(Ok));
                    }
                }
                Step::Pop(first) => {
                    let wanted = if first { model.pop_first() } else { model.pop_last() };
                    prop_assert_eq!(guard.transact(|tx| {
                        let popped = if first { ordered.pop_first(tx)? } else { ordered.pop_last(tx)? };
                        popped.map_or(Ok(false), |(key, _)| hashed.delete(tx, &key))?;
                        Ok::<_, Error>(popped)
                    }), Ok(wanted));
                }
                Step::Retain(bits) => {
                    let keep = |k: &u32, v: &[u64; 3]| (bits >> (k % 64) ^ v[0]) & 1 == 0;
                    model.retain(|k, v| keep(k, v));
                    prop_assert_eq!(guard.transact(|tx| {
                        ordered.retain(tx, keep)?;
                        hashed.retain(tx, keep)
                    }), Ok::<(), Error>(()));
                }
                Step::Abort(entries) => {
                    let mut tx = guard.begin().expect("begun");
                    for &(k, v) in &entries {
                        ordered.insert(&mut tx, k, value(v)).expect("inserted");
                        hashed.insert(&mut tx, k, value(v)).expect("inserted");
                    }
                    tx.abort();
                }
                Step::Clear => {
                    model.clear();
                    prop_assert_eq!(guard.transact(|tx| { ordered.clear(tx)?; hashed.clear(tx) }), Ok::<(), Error>(()));
                    // Readers without a keep may have needed it until now.
                    prop_assert_eq!(guard.transact(|tx| ordered.shrink_to_fit(tx)), Ok::<(), Error>(()));
                    let root = guard.open_any(id, Access::Read).expect("there");
                    prop_assert_eq!(guard.heap_usage(root).expect("whole").used_bytes, 0, "nothing has leaked");
                }
            }
            let reader = &guard;
            prop_assert_eq!(ordered.len(&reader), Ok(model.len() as u64));
            prop_assert_eq!(hashed.len(&reader), model.len() as u64);
            prop_assert!(ordered.iter(&reader).eq(model.iter().map(|(k, v)| Ok((*k, *v)))));
            prop_assert!(ordered.iter(&reader).rev().eq(model.iter().rev().map(|(k, v)| Ok((*k, *v)))));
            let all: Result<BTreeMap<_, _>, Error> = hashed.iter(&reader).collect();
            prop_assert_eq!(all.as_ref(), Ok(&model));
            prop_assert_eq!(hashed.iter(&reader).count(), model.len());
        }
    }

    #[test]
    fn a_hash_map_of_bytes_does_what_hashmap_does(steps in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..3), prop::option::of(prop::collection::vec(any::<u8>(), 0..700))), 1..300)) {
        let backend = MemoryBackend::new();
        let id = make(&backend);
        let space = Space::attach(&backend).expect("attached");
        let guard = space.enter();
        let map = open(&guard, id).bytes;
        let reader = &guard;
        let mut model = StdHashMap::new();
        for (key, value) in steps {
            match value {
                Some(value) => {
                    let replaced = guard.transact(|tx| map.insert(tx, &key, &value));
                    prop_assert_eq!(replaced, Ok(model.insert(key, value).is_some()));
                }
                None => {
                    let removed = guard.transact(|tx| map.remove(tx, &key));
                    prop_assert_eq!(removed, Ok(model.remove(&key).is_some()));
                }
            }
        }
        let all: Result<StdHashMap<_, _>, Error> = map.iter(&reader).collect();
        prop_assert_eq!(&all, &Ok(model.clone()));
        for (key, value) in &model {
            prop_assert_eq!(map.get(&reader, key), Ok(Some(value.clone())));
        }
        guard.transact(|tx| map.clear(tx)).expect("cleared");
        let root = guard.open_any(id, Access::Read).expect("there");
        prop_assert_eq!(guard.heap_usage(root).expect("whole").used_bytes, 0);
    }

    #[test]
    fn a_vector_does_what_vec_does(steps in prop::collection::vec((0u8..8, any::<u16>(), any::<u8>()), 1..80)) {
        let backend = MemoryBackend::new();
        let id = make(&backend);
        let space = Space::attach(&backend).expect("attached");
        let guard = space.enter();
        let vector = open(&guard, id).vector;
        let reader = &guard;
        let mut model: Vec<[u8; 24]> = Vec::new();
        for (what, index, fill) in steps {
            let (value, at) = ([fill; 24], usize::from(index) % (model.len() + 1));
            let done = guard.transact(|tx| match what {
                0 => vector.push(tx, value),
                1 => vector.extend_from_slice(tx, &vec![value; usize::from(index) % 6000]),
                2 => vector.pop(tx).map(|popped| assert_eq!(popped, model.last().copied())),
                3 => vector.insert(tx, at as u64, value),
                4 if at < model.len() => vector.remove(tx, at as u64).map(|old| assert_eq!(old, model[at])),
                5 if at < model.len() => vector.set(tx, at as u64, value).map(|old| assert_eq!(old, model[at])),
                6 if at < model.len() => vector.swap_remove(tx, at as u64).map(|old| assert_eq!(old, model[at])),
                7 if fill < 40 => vector.clear(tx),
                7 => vector.truncate(tx, at as u64),
                _ => Ok(()),
            });
            prop_assert_eq!(done, Ok(()));
            match what {
                0 => model.push(value),
                1 => model.extend_from_slice(&vec![value; usize::from(index) % 6000]),
                2 => drop(model.pop()),
                3 => model.insert(at, value),
                4 if at < model.len() => drop(model.remove(at)),
                5 if at < model.len() => model[at] = value,
                6 if at < model.len() => drop(model.swap_remove(at)),
                7 if fill < 40 => model.clear(),
                7 => model.truncate(at),
                _ => {}
            }
            prop_assert!(vector.iter(&reader).eq(model.iter().copied().map(Ok)));
            prop_assert_eq!(vector.get(&reader, at as u64), Ok(model.get(at).copied()));
        }
    }

    /// Whatever lies in the object: an answer or an error, never a panic and never without end.
    #[test]
    fn damage_is_an_error(flips in prop::collection::vec((any::<u32>(), any::<u8>()), 1..40), heads: bool) {
        let backend = MemoryBackend::new();
        let id = make(&backend);
        let space = Space::attach(&backend).expect("attached");
        let guard = space.enter();
        let reader = &guard;
        let all = open(&guard, id);
        guard.transact(|tx| (0..600u32).try_for_each(|n| {
            all.ordered.insert(tx, n * 7, value(n.into()))?;
            all.hashed.insert(tx, n * 7, value(n.into()))?;
            all.bytes.insert(tx, &n.to_le_bytes(), &[n as u8; 40])?;
            all.vector.push(tx, [n as u8; 24])
        })).expect("inserted");
        let pages: Vec<u64> = backend.pages_of(id).into_iter().filter(|page| page * 4096 >= BASE_OFFSET).collect();
        for (at, bits) in flips {
            // Roots and heads matter most.
            let page = if heads && at % 3 == 0 { pages[0] } else { pages[(at / 4096) as usize % pages.len()] };
            let at = if heads { at % 128 } else { at % 4096 };
            backend.damage(id, page * 4096 + u64::from(at), |byte| byte ^ bits);
        }
        let _ = all.ordered.iter(&reader).take(10_000).count();
        let _ = all.ordered.iter(&reader).rev().take(10_000).count();
        let _ = all.hashed.iter(&reader).take(10_000).count();
        let _ = all.bytes.iter(&reader).take(10_000).count();
        let _ = all.vector.iter(&reader).take(10_000).filter(Result::is_err).count();
        for n in (0..600u32).step_by(97) {
            let _ = (all.ordered.get(&reader, &(n * 7)), all.hashed.get(&reader, &(n * 7)), all.bytes.get(&reader, &n.to_le_bytes()));
            let Ok(mut tx) = guard.begin() else { continue };
            let _ = all.ordered.insert(&mut tx, n, value(1)).and_then(|_| all.ordered.remove(&mut tx, &(n * 7)));
            let _ = all.hashed.insert(&mut tx, n, value(1)).and_then(|_| all.hashed.remove(&mut tx, &(n * 7)));
            let _ = all.bytes.insert(&mut tx, b"key", b"value").and_then(|_| all.bytes.remove(&mut tx, &n.to_le_bytes()));
            let _ = all.vector.push(&mut tx, [1; 24]).and_then(|()| all.vector.pop(&mut tx));
            tx.abort();
        }
    }
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let backend = MemoryBackend::new();
    let id = make(&backend);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let map = open(&guard, id).ordered;
    let reader = &guard;
    guard.transact(|tx| (0..2000).try_for_each(|n| map.insert(tx, n, value(0)).map(drop))).expect("inserted");
    let before = map.snapshot(&reader).expect("whole");
    let mut half = before.iter(&reader);
    assert!((0..1000).all(|n| half.next() == Some(Ok((n, value(0))))));
    // One transaction: what it frees is given out again only after it.
    guard
        .transact(|tx| {
            (0..2000).step_by(2).try_for_each(|n| map.delete(tx, &n).map(drop))?;
            (0..2000).skip(1).step_by(2).try_for_each(|n| map.insert(tx, n, value(9)).map(drop))
        })
        .expect("changed");
    assert_eq!(map.len(&reader), Ok(1000));
    assert_eq!(before.len(), 2000);
    assert!((1000..2000).all(|n| half.next() == Some(Ok((n, value(0))))));
    assert_eq!(before.get(&reader, &0), Ok(Some(value(0))));
    assert_eq!(map.get(&reader, &1), Ok(Some(value(9))));
}

#[test]
fn a_cursor_goes_both_ways() {
    let backend = MemoryBackend::new();
    let id = make(&backend);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let map = open(&guard, id).ordered;
    let reader = &guard;
    guard
        .transact(|tx| (0..500).try_for_each(|n| map.insert(tx, n * 2, value(n.into())).map(drop)))
        .expect("inserted");
    let mut cursor = map.cursor(&reader).expect("whole");
    assert_eq!(cursor.key(), Ok(None));
    assert_eq!(cursor.seek(&301), Ok(false));
    assert_eq!((cursor.key(), cursor.value()), (Ok(Some(302)), Ok(Some(value(151)))));
    for n in (0..151).rev() {
        assert_eq!((cursor.move_previous(), cursor.key()), (Ok(true), Ok(Some(n * 2))));
    }
    assert_eq!((cursor.move_previous(), cursor.key()), (Ok(false), Ok(None)));
    assert_eq!((cursor.move_next(), cursor.key()), (Ok(true), Ok(Some(0))));
    assert_eq!(cursor.seek(&998), Ok(true));
    assert_eq!((cursor.move_next(), cursor.key()), (Ok(false), Ok(None)));
    assert_eq!((cursor.move_previous(), cursor.key()), (Ok(true), Ok(Some(998))));
}

#[test]
fn values_may_be_pointers() {
    let backend = MemoryBackend::new();
    let id = make(&backend);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let map = open(&guard, id).places;
    let reader = &guard;
    for n in 0..300 {
        guard
            .transact(|tx| {
                // Every third in an object of its own.
                let area = if n % 100 == 0 { tx.create_any()? } else { guard.open_any(id, Access::Write)? };
                let target = tx.alloc::<u64>(area)?;
                tx.set(target, n * 11)?;
                let place = map.place_mut(tx, n)?;
                tx.link(place, Some(target))
            })
            .expect("inserted");
    }
    for n in 0..300 {
        let place = map.place(&reader, &n).expect("whole").expect("there");
        let target = reader.follow(place).expect("whole").expect("linked");
        assert_eq!(reader.get(target), n * 11);
    }
}

/// Tries a change with room for 0, 1, 2... pages more, until it succeeds. Each error is met within the transaction, which goes on and commits; gives
/// how often there was an error, and how often a commit after it.
fn until_there_is_room<'g, 'b>(
    guard: &'g G<'g, 'b>,
    change: impl Fn(&mut Tx<'g, &'b MemoryBackend>) -> Result<(), Error>,
    check: impl Fn(),
) -> (u64, u64) {
    let backend = *guard.backend();
    let mut commits = 0;
    for pages in 0.. {
        backend.set_room(pages);
        let committed = guard.transact(|tx| Ok::<_, Error>(change(tx)));
        backend.set_room(u64::MAX);
        commits += u64::from(committed.is_ok());
        match committed.and_then(|changed| changed) {
            Ok(()) => return (pages, commits - 1),
            Err(error) => assert_eq!(error, Error::OutOfNvm),
        }
        check();
    }
    unreachable!("some room is enough")
}

#[test]
fn a_change_that_finds_no_room_changes_nothing() {
    let backend = MemoryBackend::new();
    let id = make(&backend);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let All { vector, bytes, .. } = open(&guard, id);
    let mut failed = 0;
    // Until the directory of its chunks has doubled three times.
    let elements = |n: u64| [[n as u8; 24]; 512].to_vec();
    for n in 0..20 {
        let extend = |tx: &mut Tx<'_, _>| vector.extend_from_slice(tx, &elements(n));
        failed += until_there_is_room(&guard, extend, || assert_eq!(vector.len(&&guard), n * 512)).0;
    }
    assert_eq!(vector.to_vec(&&guard), Ok((0..20).flat_map(elements).collect()));
    guard.transact(|tx| vector.clear(tx)).expect("cleared");
    for len in [1000, 3000, 10] {
        let mut model = bytes.iter(&&guard).collect::<Result<BTreeMap<_, _>, _>>().expect("whole");
        for n in 0..150u8 {
            let insert = |tx: &mut Tx<'_, _>| bytes.insert(tx, &[n], &vec![n; len]).map(drop);
            failed += until_there_is_room(&guard, insert, || {
                assert_eq!(bytes.len(&&guard), model.len() as u64);
                assert_eq!(bytes.iter(&&guard).collect::<Result<_, _>>().as_ref(), Ok(&model));
            })
            .0;
            model.insert(vec![n], vec![n; len]);
        }
    }
    guard.transact(|tx| bytes.clear(tx)).expect("cleared");
    assert!(failed > 100, "{failed}");
    let area = guard.open_any(id, Access::Read).expect("there");
    assert_eq!(guard.heap_usage(area).map(|usage| usage.used_bytes), Ok(0));
}

/// Entries on their way from one bucket to another may find no room in the middle. Then there is no commit, but for who undoes that by a savepoint.
#[test]
fn a_change_that_stops_half_way_is_not_committed() {
    let backend = MemoryBackend::new();
    let id = make(&backend);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let All { hashed, places, .. } = open(&guard, id);
    let area = guard.open_any(id, Access::Write).expect("there");
    let (mut failed, mut others) = (0, Vec::new());
    for n in 0..3000 {
        // Each fourth one makes a bucket.
        let in_savepoint = n % 8 >= 4;
        // Somebody else has all blocks that are free, of the size of buckets.
        backend.set_room(0);
        while let Ok(other) = guard.transact(|tx| tx.alloc_span::<u8>(area, 240)) {
            others.push(other);
        }
        let insert = |tx: &mut Tx<'_, _>| {
            if !in_savepoint {
                return hashed.insert(tx, n, value(n.into())).map(drop);
            }
            let tried = tx.savepoint(|tx| hashed.insert(tx, n, value(n.into())).map(drop));
            // It is still the transaction that it was.
            places.len(tx).and(tried)
        };
        let (errors, commits) = until_there_is_room(&guard, insert, || {
            assert_eq!(hashed.len(&&guard), u64::from(n));
            let entries: Result<BTreeMap<_, _>, _> = hashed.iter(&&guard).collect();
            assert!(entries.expect("whole").into_iter().eq((0..n).map(|n| (n, value(n.into())))));
        });
        failed += errors;
        // The first records may find no room either.
        assert!(!in_savepoint || n < 50 || errors == commits, "{n}: {commits} commits after {errors} errors");
    }
    assert!(failed > 30, "{failed}");
    guard.transact(|tx| others.iter().try_for_each(|&other| tx.free_span(other))).expect("freed");
    guard.transact(|tx| hashed.clear(tx)).expect("cleared");
    assert_eq!(guard.heap_usage(area).map(|usage| usage.used_bytes), Ok(0));
}
