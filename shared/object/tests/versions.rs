//! Readers of ordered maps beside writers: nobody waits, and everybody sees one version, whole.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{BytesMap, MapRoot, OrderedMap, OrderedMapRoot};
use twizzler_object::{Access, Backend, Guard, KEEPS_MAX, Space, Stored};

type Value = [u64; 5];

/// The roots lie so that the second one's number and the first one's states share a line, and no root fits one line.
#[derive(Stored)]
#[stored(name = "test.versions", version = 1)]
#[repr(C)]
struct Root {
    before: [u64; 3],
    first: OrderedMapRoot<u64, Value>,
    second: OrderedMapRoot<u64, Value>,
    bytes: MapRoot,
}

#[derive(Clone, Copy)]
struct Maps<'g> {
    first: OrderedMap<'g, u64, Value>,
    second: OrderedMap<'g, u64, Value>,
    bytes: BytesMap<'g>,
}

fn make<B: Backend>(space: &Space<B>) -> ObjId {
    space.transact(|tx| Ok::<_, Error>(space.id_of(tx.create::<Root>()?.area()))).expect("made")
}

fn open<'g, B: Backend>(guard: &'g Guard<'_, B>, id: ObjId) -> Maps<'g> {
    let root = guard.open::<Root>(id, Access::Write).expect("there").base();
    Maps {
        first: OrderedMap::new(root.at(Root::first)),
        second: OrderedMap::new(root.at(Root::second)),
        bytes: BytesMap::new(root.at(Root::bytes)),
    }
}

fn used<B: Backend>(guard: &Guard<'_, B>, id: ObjId) -> u64 {
    guard.heap_usage(guard.open_any(id, Access::Read).expect("there")).expect("whole").used_bytes
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    *state >> 33
}

/// Keys that are always there; their values are changed.
const STAYING: u64 = 600;
/// Keys that come and go, all of them in one transaction: so that nodes are split and joined.
const GUESTS: u64 = 200;

const fn staying(n: u64) -> u64 {
    n * 1000
}

fn bytes_of(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

/// Begins with all that stays.
fn fill<B: Backend>(space: &Space<B>, id: ObjId) {
    let guard = space.enter();
    let maps = open(&guard, id);
    let fill = guard.transact(|tx| {
        (0..STAYING).try_for_each(|n| {
            maps.first.insert(tx, staying(n), [0; 5])?;
            maps.second.insert(tx, staying(n), [0; 5])?;
            maps.bytes.insert(tx, &bytes_of(n), &bytes_of(0)).map(drop)
        })
    });
    fill.expect("filled");
}

/// What writers do; each change keeps what readers rely on: in both numeric maps the same values, the guests of one number all or none.
fn change<B: Backend>(space: &Space<B>, id: ObjId, seed: &mut u64, count: &AtomicU64) {
    let guard = space.enter();
    let maps = open(&guard, id);
    let (kind, n) = (random(seed) % 20, random(seed) % STAYING);
    let few = n % 4;
    guard
        .transact(|tx| {
            // Drawn with the lock held: otherwise a number drawn earlier may be committed later, and time goes back.
            maps.first.contains_key(tx, &staying(n))?;
            let now = count.fetch_add(1, Ordering::Relaxed) + 1;
            match kind {
                0 => {
                    let at = staying(few) + 1;
                    let there = maps.first.contains_key(tx, &at)?;
                    (0..GUESTS).try_for_each(|guest| {
                        if there {
                            maps.first.delete(tx, &(at + guest)).map(drop)
                        } else {
                            maps.first.insert(tx, at + guest, [now; 5]).map(drop)
                        }
                    })
                }
                1 => (0..STAYING).try_for_each(|n| {
                    maps.first.insert(tx, staying(n), [now; 5])?;
                    maps.second.insert(tx, staying(n), [now; 5]).map(drop)
                }),
                2 => {
                    let guest: Vec<(u64, Value)> =
                        (0..GUESTS).map(|guest| (staying(few) + 1 + guest, [now; 5])).collect();
                    maps.first.merge_sorted(tx, &guest)
                }
                _ => {
                    maps.second.insert(tx, staying(n), [now; 5])?;
                    maps.bytes.insert(tx, &bytes_of(n), &bytes_of(now))?;
                    maps.first.insert(tx, staying(n), [now; 5]).map(drop)
                }
            }
        })
        .expect("changed");
}

/// Looks at everything once.
fn look<B: Backend>(space: &Space<B>, id: ObjId, seed: &mut u64) {
    let guard = space.enter();
    let (maps, reader) = (open(&guard, id), &guard);
    for _ in 0..50 {
        let n = random(seed) % STAYING;
        let before = maps.first.get(&reader, &staying(n)).expect("whole").expect("it is always there");
        let snapshot = maps.first.snapshot(&reader).expect("whole");
        let after = snapshot.get(&reader, &staying(n)).expect("whole").expect("it is always there");
        assert!(after[0] >= before[0] || before == after, "time goes on");
        assert!(after.iter().all(|word| *word == after[0]), "of one version");
        let found = maps.bytes.get(&reader, &bytes_of(n)).expect("whole").expect("it is always there");
        assert_eq!(found.len(), 8);
    }
    let snapshot = maps.first.snapshot(&reader).expect("whole");
    let seen = |keys: &[u64]| {
        assert!(keys.is_sorted_by(|a, b| a < b), "in order, none twice");
        assert!((0..STAYING).all(|n| keys.binary_search(&staying(n)).is_ok()), "none is missing");
        let guests: Vec<u64> = keys.iter().copied().filter(|key| key % 1000 != 0).collect();
        assert!(guests.chunk_by(|a, b| a / 1000 == b / 1000).all(|chunk| chunk.len() as u64 == GUESTS));
    };
    let entries: Vec<(u64, Value)> =
        snapshot.iter(&reader).collect::<Result<_, _>>().expect("never interrupted");
    seen(&entries.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    assert_eq!(entries.len() as u64, snapshot.len());
    let again: Vec<(u64, Value)> =
        snapshot.iter(&reader).rev().collect::<Result<_, _>>().expect("never interrupted");
    assert!(again.into_iter().rev().eq(entries.iter().copied()), "it stays as it is");
    let all: Vec<u64> = maps.first.iter(&reader).map(|entry| entry.expect("never interrupted").0).collect();
    seen(&all);
    let mut cursor = maps.first.cursor(&reader).expect("whole");
    let mut keys = Vec::new();
    while cursor.move_next().expect("never interrupted") {
        keys.push(cursor.key().expect("never interrupted").expect("there"));
    }
    seen(&keys);
    let of_bytes: Vec<_> = maps.bytes.iter(&reader).collect::<Result<_, _>>().expect("never interrupted");
    assert_eq!(of_bytes.len() as u64, STAYING);
}

#[test]
fn every_entry_is_found_and_every_snapshot_stays_beside_writers() {
    for backend in MemoryBackend::kinds() {
        let spaces = [(); 2].map(|()| Space::attach(&backend).expect("attached"));
        let id = make(&spaces[0]);
        fill(&spaces[0], id);
        let (done, count) = (AtomicBool::new(false), AtomicU64::new(0));
        let looks = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for (n, space) in spaces.iter().enumerate() {
                let (done, looks) = (&done, &looks);
                scope.spawn(move || {
                    let mut seed = n as u64;
                    while !done.load(Ordering::Relaxed) || looks.load(Ordering::Relaxed) < 20 {
                        look(space, id, &mut seed);
                        looks.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let writers: Vec<_> = (0..2)
                .map(|n| {
                    let (space, count) = (&spaces[n], &count);
                    scope.spawn(move || {
                        let mut seed = 77 + n as u64;
                        (0..1500).for_each(|_| change(space, id, &mut seed, count));
                    })
                })
                .collect();
            writers.into_iter().for_each(|writer| writer.join().expect("no assertion failed"));
            done.store(true, Ordering::Relaxed);
        });
        println!("{} looks beside {} changes", looks.into_inner(), count.into_inner());
        // Nobody reads any more: what is kept has a bound.
        let guard = spaces[0].enter();
        let maps = open(&guard, id);
        guard.transact(|tx| maps.first.clear(tx).and_then(|()| maps.second.clear(tx))).expect("cleared");
        guard.transact(|tx| maps.bytes.clear(tx)).expect("cleared");
        for n in 0..400 {
            let change = guard.transact(|tx| {
                maps.first.insert(tx, 1, [n; 5])?;
                maps.second.insert(tx, 1, [n; 5])?;
                maps.bytes.insert(tx, b"1", &bytes_of(n)).map(drop)
            });
            change.expect("changed");
        }
        assert!(used(&guard, id) < 400 * 1024, "{} bytes are kept", used(&guard, id));
    }
}

#[test]
fn a_snapshot_outlives_any_number_of_changes_and_then_gives_its_memory_back() {
    for backend in MemoryBackend::kinds() {
        let space = Space::attach(&backend).expect("attached");
        let id = make(&space);
        fill(&space, id);
        let guard = space.enter();
        let (maps, reader) = (open(&guard, id), &guard);
        let old = maps.first.snapshot(&reader).expect("whole");
        let (mut seed, count) = (1, AtomicU64::new(0));
        (0..3000).for_each(|_| change(&space, id, &mut seed, &count));
        guard.transact(|tx| maps.first.clear(tx)).expect("cleared");
        assert_eq!(maps.first.len(&reader), Ok(0));
        let all: Vec<(u64, Value)> = old.iter(&reader).collect::<Result<_, _>>().expect("never interrupted");
        assert!(all.into_iter().eq((0..STAYING).map(|n| (staying(n), [0; 5]))));
        let kept = used(&guard, id);
        drop(old);
        fill(&space, id);
        guard.transact(|tx| maps.first.clear(tx)).expect("cleared");
        for n in 0..3000 {
            guard.transact(|tx| maps.first.insert(tx, 1, [n; 5]).map(drop)).expect("changed");
        }
        let left = used(&guard, id);
        assert!(left < kept / 3 && left < 600 * 1024, "{kept} bytes were kept, and {left} still are");
    }
}

#[test]
fn so_many_versions_can_be_kept_and_no_more() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let id = make(&space);
    let guard = space.enter();
    let (maps, reader) = (open(&guard, id), &guard);
    let kept: Vec<_> = (0..KEEPS_MAX).map(|_| maps.first.snapshot(&reader).expect("kept")).collect();
    assert_eq!(maps.first.snapshot(&reader).err(), Some(Error::TooMany));
    assert_eq!(maps.first.iter(&reader).next(), Some(Err(Error::TooMany)));
    assert_eq!(maps.first.get(&reader, &1), Ok(None), "which needs none");
    drop(kept);
    maps.first.snapshot(&reader).expect("kept again");
}

/// A reader's program is killed with a snapshot in hand.
#[test]
fn what_a_dead_program_kept_is_let_go() {
    for backend in MemoryBackend::kinds() {
        let dead = ManuallyDrop::new(Space::attach(&backend).expect("attached"));
        let id = make(&dead);
        fill(&dead, id);
        {
            let guard = ManuallyDrop::new(dead.enter());
            let maps = open(&guard, id);
            std::mem::forget(maps.first.snapshot(&&*guard).expect("whole"));
        }
        backend.kill_all();
        let space = Space::attach(&backend).expect("attached");
        let (mut seed, count) = (1, AtomicU64::new(0));
        (0..300).for_each(|_| change(&space, id, &mut seed, &count));
        let before = used(&space.enter(), id);
        (0..1000).for_each(|_| change(&space, id, &mut seed, &count));
        let after = used(&space.enter(), id);
        assert!(after < before + before / 2, "{before} bytes became {after}");
    }
}

#[test]
fn savepoints_in_a_new_object_keep_what_they_add() {
    for backend in MemoryBackend::kinds() {
        let space = Space::attach(&backend).expect("attached");
        let guard = space.enter();
        let id = guard
            .transact(|tx| {
                let root = tx.create::<Root>()?;
                let map = OrderedMap::new(root.base().at(Root::first));
                let insert = |tx: &mut twizzler_object::Tx<'_, _>, keys: std::ops::Range<u64>| {
                    let map = OrderedMap::new(
                        tx.open::<Root>(space.id_of(root.area()), Access::Write)?.base().at(Root::first),
                    );
                    keys.into_iter().try_for_each(|key| map.insert(tx, key, [key; 5]).map(drop))
                };
                insert(tx, 0..50)?;
                tx.savepoint(|tx| insert(tx, 50..100))?;
                insert(tx, 100..150)?;
                let undone = tx.savepoint(|tx| insert(tx, 150..200).and(Err::<(), _>(Error::Busy)));
                assert_eq!(undone, Err(Error::Busy));
                tx.savepoint(|tx| insert(tx, 200..250))?;
                insert(tx, 250..300)?;
                assert_eq!(map.len(tx), Ok(250));
                Ok::<_, Error>(space.id_of(root.area()))
            })
            .expect("made");
        let maps = open(&guard, id);
        let keys: Vec<u64> = maps.first.iter(&&guard).map(|entry| entry.expect("whole").0).collect();
        assert!(keys.into_iter().eq((0..150).chain(200..300)));
    }
}
