//! Maps whose keys are pointers: a key is what a pointer leads to, whichever pointer, object, program and address it is.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{HashMap, HashMapRoot, OrderedMapRoot, PointerHashMap, PointerOrderedMap};
use twizzler_object::{Access, Guard, InvPtr, Ptr, Reader, Space, Stored};

/// Has things that are keys elsewhere.
#[derive(Stored)]
#[stored(name = "test.things", version = 1)]
#[repr(C)]
struct Things {
    things: [u64; 16],
}

/// Leads to a thing.
#[derive(Stored)]
#[stored(name = "test.leader", version = 1)]
#[repr(C)]
struct Leader {
    before: [InvPtr<u64>; 3],
    to: InvPtr<u64>,
}

#[derive(Stored)]
#[stored(name = "test.index", version = 1)]
#[repr(C)]
struct Index {
    hashed: HashMapRoot<InvPtr<u64>, u64>,
    ordered: OrderedMapRoot<InvPtr<u64>, u64>,
    own: [u64; 4],
}

#[derive(Stored)]
#[stored(name = "test.bytes", version = 1)]
#[repr(C)]
struct Bytes {
    map: HashMapRoot<[u8], [u8]>,
}

type B<'b> = &'b MemoryBackend;

fn make<T: Stored>(space: &Space<B<'_>>) -> ObjId {
    space.transact(|tx| tx.create::<T>().map(|object| space.id_of(object.area()))).expect("made")
}

fn thing<'g>(guard: &'g Guard<'_, B<'_>>, id: ObjId, n: usize) -> Ptr<'g, u64> {
    let things = guard.open::<Things>(id, Access::Write).expect("there").base();
    things.at(Things::things).index(n).expect("one of them")
}

fn maps<'g>(
    guard: &'g Guard<'_, B<'_>>,
    id: ObjId,
) -> (PointerHashMap<'g, u64, u64>, PointerOrderedMap<'g, u64, u64>, Ptr<'g, Index>) {
    let index = guard.open::<Index>(id, Access::Write).expect("there").base();
    (
        PointerHashMap::hashed(index.at(Index::hashed)),
        PointerOrderedMap::ordered(index.at(Index::ordered)),
        index,
    )
}

#[test]
fn pointers_from_different_objects_to_the_same_place_are_one_key() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let (things, index) = (make::<Things>(&space), make::<Index>(&space));
    let leaders = [make::<Leader>(&space), make::<Leader>(&space)];
    let guard = space.enter();
    let place = |n| guard.open::<Leader>(leaders[n], Access::Write).expect("there").base().at(Leader::to);
    // One of them knows other objects first, so that the two pointers' bits differ.
    let before = guard.open::<Leader>(leaders[1], Access::Write).expect("there").base().at(Leader::before);
    guard
        .transact(|tx| {
            tx.link(before.index(0).expect("first"), Some(place(0).object().place(0x3000).expect("there")))?;
            tx.link(place(0), Some(thing(&guard, things, 3)))?;
            tx.link(place(1), Some(thing(&guard, things, 3)))
        })
        .expect("linked");
    let (hashed, ordered, index) = maps(&guard, index);
    let own = index.at(Index::own).index(1).expect("there");
    guard
        .transact(|tx| {
            let key = tx.follow(place(0))?.ok_or(Error::Damaged)?;
            assert_eq!((hashed.insert(tx, key, 7)?, ordered.insert(tx, key, 7)?), (None, None));
            assert_eq!((hashed.insert(tx, own, 8)?, ordered.insert(tx, own, 8)?), (None, None));
            let same = tx.follow(place(1))?.ok_or(Error::Damaged)?;
            assert_eq!(
                (hashed.get(tx, same)?, ordered.get(tx, same)?),
                (Some(7), Some(7)),
                "before the commit"
            );
            assert_eq!((hashed.insert(tx, same, 9)?, ordered.insert(tx, same, 9)?), (Some(7), Some(7)));
            Ok::<_, Error>(())
        })
        .expect("put in");
    let (reader, other) = (&guard, thing(&guard, things, 4));
    for (key, value) in [
        (thing(&guard, things, 3), Some(9)),
        (own, Some(8)),
        (other, None),
        (place(0).object().place(0x3000).expect("there"), None),
    ] {
        assert_eq!((hashed.get(&reader, key), ordered.get(&reader, key)), (Ok(value), Ok(value)));
    }
    assert_eq!((hashed.len(&reader), ordered.len(&reader)), (Ok(2), Ok(2)));
    let entries: Result<Vec<_>, _> = ordered.iter(&reader).collect();
    assert_eq!(entries, Ok(vec![(own, 8), (thing(&guard, things, 3), 9)]), "its own object first");
    let removed = guard.transact(|tx| {
        let same = tx.follow(place(1))?.ok_or(Error::Damaged)?;
        Ok::<_, Error>((hashed.remove(tx, same)?, ordered.remove(tx, same)?, hashed.remove(tx, other)?))
    });
    assert_eq!(removed, Ok((Some(9), Some(9), None)));
}

#[test]
fn keys_hold_in_another_program_and_beyond_the_table_in_the_header() {
    let backend = MemoryBackend::new();
    let (things, index) = {
        let space = Space::attach(&backend).expect("attach");
        let things: Vec<ObjId> = (0..200).map(|_| make::<Things>(&space)).collect();
        let index = make::<Index>(&space);
        let guard = space.enter();
        let (hashed, ordered, _) = maps(&guard, index);
        for (n, &id) in things.iter().enumerate() {
            let change = guard.transact(|tx| {
                let key = thing(&guard, id, n % 16);
                hashed.insert(tx, key, n as u64)?;
                ordered.insert(tx, key, n as u64)
            });
            change.expect("put in");
        }
        (things, index)
    };
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let reader = &guard;
    let (hashed, ordered, _) = maps(&guard, index);
    for (n, &id) in things.iter().enumerate() {
        let (key, other) = (thing(&guard, id, n % 16), thing(&guard, id, (n + 1) % 16));
        assert_eq!(
            (hashed.get(&reader, key), ordered.get(&reader, key)),
            (Ok(Some(n as u64)), Ok(Some(n as u64)))
        );
        assert_eq!((hashed.get(&reader, other), ordered.get(&reader, other)), (Ok(None), Ok(None)));
    }
    let found: Result<BTreeMap<u64, u64>, Error> =
        hashed.iter(&reader).map(|entry| entry.map(|(key, value)| (value, key.address()))).collect();
    let expected = things.iter().enumerate().map(|(n, &id)| (n as u64, thing(&guard, id, n % 16).address()));
    assert_eq!(found, Ok(expected.collect()));
}

#[test]
fn what_is_undone_leaves_no_key() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let (a, b, index) = (make::<Things>(&space), make::<Things>(&space), make::<Index>(&space));
    let guard = space.enter();
    let (hashed, ordered, _) = maps(&guard, index);
    let put = |tx: &mut twizzler_object::Tx<'_, _>, id| {
        let root = tx.open::<Index>(index, Access::Write)?.base();
        let things = tx.open::<Things>(id, Access::Write)?.base();
        let key = things.at(Things::things).index(0).ok_or(Error::Damaged)?;
        PointerHashMap::hashed(root.at(Index::hashed)).insert(tx, key, 1)?;
        PointerOrderedMap::ordered(root.at(Index::ordered)).insert(tx, key, 1)
    };
    let undone = guard.transact(|tx| put(tx, a).and(Err::<(), _>(Error::Busy)).or(Err(Error::Exists)));
    assert_eq!(undone, Err(Error::Exists));
    assert_eq!(hashed.get(&&guard, thing(&guard, a, 0)), Ok(None));
    guard.transact(|tx| put(tx, b)).expect("put in");
    for (id, value) in [(a, None), (b, Some(1))] {
        let key = thing(&guard, id, 0);
        assert_eq!((hashed.get(&&guard, key), ordered.get(&&guard, key)), (Ok(value), Ok(value)));
    }
}

#[test]
fn a_key_whose_object_was_deleted_is_an_error_of_its_own() {
    let backend = MemoryBackend::new();
    let (gone, stays, index) = {
        let space = Space::attach(&backend).expect("attach");
        let (gone, stays, index) = (make::<Things>(&space), make::<Things>(&space), make::<Index>(&space));
        let guard = space.enter();
        let (hashed, ordered, _) = maps(&guard, index);
        let fill = guard.transact(|tx| {
            for (n, id) in [gone, stays].into_iter().enumerate() {
                hashed.insert(tx, thing(&guard, id, 0), n as u64)?;
                ordered.insert(tx, thing(&guard, id, 0), n as u64)?;
            }
            Ok::<_, Error>(())
        });
        fill.expect("filled");
        (gone, stays, index)
    };
    let space = Space::attach(&backend).expect("attach");
    space.transact(|tx| tx.delete(gone)).expect("deleted");
    let guard = space.enter();
    let (reader, key) = (&guard, thing(&guard, stays, 0));
    let (hashed, ordered, _) = maps(&guard, index);
    let found: Vec<_> = ordered.iter(&reader).collect();
    assert_eq!(found, [Err(Error::NoSuchObject), Ok((key, 1))]);
    guard.transact(|tx| hashed.retain(tx, |key, _| key.is_ok())).expect("swept");
    guard.transact(|tx| ordered.retain(tx, |key, _| key.is_ok())).expect("swept");
    assert_eq!(hashed.iter(&reader).collect::<Vec<_>>(), [Ok((key, 1))]);
    assert_eq!(ordered.iter(&reader).collect::<Vec<_>>(), [Ok((key, 1))]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn they_are_maps(steps in prop::collection::vec((0usize..4, 0usize..16, prop::option::of(any::<u64>())), 1..60)) {
        let backend = MemoryBackend::new();
        let space = Space::attach(&backend).expect("attach");
        let things: Vec<ObjId> = (0..4).map(|_| make::<Things>(&space)).collect();
        let index = make::<Index>(&space);
        let guard = space.enter();
        let (hashed, ordered, _) = maps(&guard, index);
        let mut model = BTreeMap::new();
        for (object, n, value) in steps {
            let key = thing(&guard, things[object], n);
            let old = guard.transact(|tx| Ok::<_, Error>(match value {
                Some(value) => (hashed.insert(tx, key, value)?, ordered.insert(tx, key, value)?),
                None => (hashed.remove(tx, key)?, ordered.remove(tx, key)?),
            })).expect("done");
            let was = match value {
                Some(value) => model.insert((object, n), value),
                None => model.remove(&(object, n)),
            };
            prop_assert_eq!(old, (was, was));
        }
        for (object, &id) in things.iter().enumerate() {
            for n in 0..16 {
                let key = thing(&guard, id, n);
                let value = model.get(&(object, n)).copied();
                prop_assert_eq!((hashed.get(&&guard, key), ordered.get(&&guard, key)), (Ok(value), Ok(value)));
            }
        }
        prop_assert_eq!(ordered.len(&&guard), Ok(model.len() as u64));
    }
}

/// Two that both looked first, under a shared lock, would be in each other's way: one would have to begin again.
#[test]
fn who_will_change_all_keys_locks_them_first() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let (index, of_things) = (make::<Index>(&space), make::<Things>(&space));
    {
        let guard = space.enter();
        let key = thing(&guard, of_things, 1);
        guard.transact(|tx| maps(&guard, index).0.insert(tx, key, 1)).expect("put");
    }
    let (within, most) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let guard = space.enter();
                let (hashed, ..) = maps(&guard, index);
                let retained = guard.transact(|tx| {
                    hashed.retain(tx, |_, _| {
                        most.fetch_max(within.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(200));
                        within.fetch_sub(1, Ordering::SeqCst);
                        true
                    })
                });
                retained.expect("retained");
            });
        }
    });
    assert_eq!(most.into_inner(), 1);
}

#[test]
fn who_clears_a_map_of_bytes_locks_it_first() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let id = make::<Bytes>(&space);
    let (runs, both) = (AtomicU64::new(0), Barrier::new(2));
    for _ in 0..5 {
        {
            let guard = space.enter();
            let map =
                HashMap::new(guard.open::<Bytes>(id, Access::Write).expect("there").base().at(Bytes::map));
            let fill = |tx: &mut _| {
                (0..3000u64).try_for_each(|n| map.insert(tx, &n.to_le_bytes(), b"value").map(drop))
            };
            guard.transact(fill).expect("filled");
        }
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    let guard = space.enter();
                    let root = guard.open::<Bytes>(id, Access::Write).expect("there").base();
                    both.wait();
                    let cleared = guard.transact(|tx| {
                        runs.fetch_add(1, Ordering::SeqCst);
                        HashMap::new(root.at(Bytes::map)).clear(tx)
                    });
                    cleared.expect("cleared");
                });
            }
        });
    }
    assert_eq!(runs.into_inner(), 10, "nobody begins again");
}

/// Makes keys in new objects, as many as there are entries in a header, and takes them out again: what they leave behind is used anew.
fn come_and_go(space: &Space<B<'_>>, index: ObjId, rounds: u64) -> Vec<ObjId> {
    let guard = space.enter();
    let (hashed, ..) = maps(&guard, index);
    let round = |n| {
        let id = make::<Things>(space);
        let key = thing(&guard, id, 0);
        guard.transact(|tx| hashed.insert(tx, key, n)).expect("put in");
        guard.transact(|tx| hashed.remove(tx, key)).expect("taken out");
        id
    };
    (0..rounds).map(round).collect()
}

#[test]
fn what_one_program_enters_anew_another_one_finds() {
    let backend = MemoryBackend::new();
    let (one, other) =
        (Space::attach(&backend).expect("attached"), Space::attach(&backend).expect("attached"));
    let index = make::<Index>(&one);
    come_and_go(&one, index, 125);
    let of_other = make::<Things>(&one);
    let guard = other.enter();
    let (hashed, ordered, _) = maps(&guard, index);
    guard.transact(|tx| hashed.insert(tx, thing(&guard, of_other, 0), 1)).expect("put in");
    for n in 0..10 {
        let of_one = make::<Things>(&one);
        {
            let guard = one.enter();
            let (hashed, ordered, _) = maps(&guard, index);
            let key = thing(&guard, of_one, 0);
            guard.transact(|tx| hashed.insert(tx, key, n).and(ordered.insert(tx, key, n))).expect("put in");
        }
        let key = thing(&guard, of_one, 0);
        assert_eq!((hashed.get(&&guard, key), ordered.get(&&guard, key)), (Ok(Some(n)), Ok(Some(n))));
        let replaced =
            guard.transact(|tx| Ok::<_, Error>((hashed.insert(tx, key, 7)?, ordered.insert(tx, key, 7)?)));
        assert_eq!(replaced, Ok((Some(n), Some(n))));
    }
}

#[test]
fn what_is_looked_up_while_its_entry_goes_is_entered_again() {
    let backend = MemoryBackend::new();
    let one = Space::attach(&backend).expect("attached");
    let index = make::<Index>(&one);
    // Two short of those that the header has room for.
    let gone = come_and_go(&one, index, 118);
    let other = Space::attach(&backend).expect("attached");
    let others = other.enter();
    {
        let guard = one.enter();
        let (hashed, ..) = maps(&guard, index);
        let more: Vec<_> = (0..3).map(|_| thing(&guard, make::<Things>(&one), 0)).collect();
        let entered = guard.transact(|tx| {
            more.iter().try_for_each(|&key| hashed.insert(tx, key, 1).map(drop))?;
            // It has looked for unused entries by now, and not committed what it has found.
            let (hashed, ..) = maps(&others, index);
            for &id in &gone {
                assert_eq!(hashed.get(&&others, thing(&others, id, 0)), Ok(None));
            }
            Ok::<_, Error>(())
        });
        entered.expect("put in");
    }
    let (hashed, ordered, _) = maps(&others, index);
    for (n, &id) in (0..).zip(&gone) {
        let key = thing(&others, id, 0);
        others.transact(|tx| hashed.insert(tx, key, n).and(ordered.insert(tx, key, n))).expect("put in");
        assert_eq!(hashed.get(&&others, key), Ok(Some(n)));
    }
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let (hashed, ordered, _) = maps(&guard, index);
    for (n, &id) in (0..).zip(&gone) {
        let key = thing(&guard, id, 0);
        assert_eq!((hashed.get(&&guard, key), ordered.get(&&guard, key)), (Ok(Some(n)), Ok(Some(n))));
    }
    let found: Result<Vec<_>, _> = ordered.iter(&&guard).map(|entry| entry.map(|(key, _)| key)).collect();
    assert_eq!(found.map(|keys| keys.len()), Ok(gone.len()));
}

#[test]
fn what_is_learnt_of_an_object_whose_mapping_ends_is_not_believed_later() {
    let backend = MemoryBackend::new();
    let (one, other) =
        (Space::attach(&backend).expect("attached"), Space::attach(&backend).expect("attached"));
    let (wanted, index) = (make::<Things>(&one), make::<Index>(&one));
    let put = |space: &Space<B<'_>>, n| {
        let guard = space.enter();
        let (hashed, ..) = maps(&guard, index);
        guard.transact(|tx| hashed.insert(tx, thing(&guard, wanted, 0), n)).expect("put in")
    };
    put(&other, 1);
    {
        let guard = one.enter();
        let (hashed, ..) = maps(&guard, index);
        one.unmap(index);
        // Who has a guard goes on.
        assert_eq!(hashed.get(&&guard, thing(&guard, wanted, 0)), Ok(Some(1)));
    }
    one.unmap(index);
    {
        let guard = other.enter();
        let (hashed, ..) = maps(&guard, index);
        guard.transact(|tx| hashed.remove(tx, thing(&guard, wanted, 0))).expect("taken out");
    }
    come_and_go(&other, index, 250);
    other.unmap(index);
    assert_eq!(put(&one, 2), None);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let (hashed, ..) = maps(&guard, index);
    let key = thing(&guard, wanted, 0);
    assert_eq!(hashed.get(&&guard, key), Ok(Some(2)));
    assert_eq!(hashed.iter(&&guard).collect::<Vec<_>>(), [Ok((key, 2))]);
}

/// Who only reads would else look at all entries again for each object.
#[test]
fn entries_are_looked_at_once_by_who_only_reads() {
    let backend = MemoryBackend::new();
    let index = {
        let space = Space::attach(&backend).expect("attached");
        let index = make::<Index>(&space);
        let things: Vec<ObjId> = (0..3000).map(|_| make::<Things>(&space)).collect();
        let guard = space.enter();
        let (hashed, ..) = maps(&guard, index);
        let fill = guard.transact(|tx| {
            things.iter().try_for_each(|&id| hashed.insert(tx, thing(&guard, id, 0), 1).map(drop))
        });
        fill.expect("filled");
        index
    };
    let space = Space::attach(&backend).expect("attached");
    let other = make::<Things>(&space);
    let guard = space.enter();
    let (hashed, ..) = maps(&guard, index);
    let key = thing(&guard, other, 0);
    let look = |times: u32| {
        let start = Instant::now();
        (0..times).for_each(|_| assert_eq!(hashed.get(&&guard, key), Ok(None)));
        start.elapsed()
    };
    let first = look(1);
    assert!(look(1000) < first * 100, "of {first:?} for the first");
}
