//! Changes of ordered maps, and of counted pointers, that fail half-way: what a transaction commits that goes on after that is whole.

use std::collections::BTreeMap;

use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{BytesMap, InvRc, InvWeak, MapRoot, OrderedMap, OrderedMapRoot};
use twizzler_object::{Access, Guard, InvPtr, Ptr, Space, Stored, Tx};

type Long = [u64; 200];

#[derive(Stored)]
#[stored(name = "test.torn-maps", version = 1)]
#[repr(C)]
struct Root {
    short: OrderedMapRoot<u64, u64>,
    long: OrderedMapRoot<u64, Long>,
    bytes: MapRoot,
}

type G<'g, 'b> = Guard<'g, &'b MemoryBackend>;

fn make(space: &Space<&MemoryBackend>) -> ObjId {
    space.transact(|tx| Ok::<_, Error>(space.id_of(tx.create::<Root>()?.area()))).expect("made")
}

#[derive(Clone, Copy)]
struct Maps<'g> {
    short: OrderedMap<'g, u64, u64>,
    long: OrderedMap<'g, u64, Long>,
    bytes: BytesMap<'g>,
}

fn open<'g>(guard: &'g G<'_, '_>, id: ObjId) -> Maps<'g> {
    let root = guard.open::<Root>(id, Access::Write).expect("there").base();
    Maps {
        short: OrderedMap::new(root.at(Root::short)),
        long: OrderedMap::new(root.at(Root::long)),
        bytes: BytesMap::new(root.at(Root::bytes)),
    }
}

fn used(guard: &G<'_, '_>, id: ObjId) -> u64 {
    guard.heap_usage(guard.open_any(id, Access::Read).expect("there")).expect("whole").used_bytes
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    *state >> 33
}

fn bytes_of(value: u64) -> Vec<u8> {
    // Some lie in nodes, and some elsewhere.
    vec![value as u8; (value * 37 % 3000) as usize]
}

impl<'g> Maps<'g> {
    fn insert(&self, tx: &mut Tx<'g, &MemoryBackend>, which: u64, key: u64, value: u64) -> Result<(), Error> {
        match which {
            0 => self.short.insert(tx, key, value).map(drop),
            1 => self.long.insert(tx, key, [value; 200]).map(drop),
            _ => self.bytes.insert(tx, &key.to_be_bytes(), &bytes_of(value)).map(drop),
        }
    }

    fn remove(&self, tx: &mut Tx<'g, &MemoryBackend>, which: u64, key: u64) -> Result<(), Error> {
        match which {
            0 => self.short.remove(tx, &key).map(drop),
            1 => self.long.remove(tx, &key).map(drop),
            _ => self.bytes.remove(tx, &key.to_be_bytes()).map(drop),
        }
    }

    fn assert_are(&self, guard: &'g G<'_, '_>, models: &[BTreeMap<u64, u64>; 3], at: u64) {
        let [short, long, bytes] = models;
        let reader = &guard;
        assert!(
            self.short.iter(reader).eq(short.iter().map(|(&key, &value)| Ok((key, value)))),
            "round {at}"
        );
        assert!(
            self.long.iter(reader).eq(long.iter().map(|(&key, &value)| Ok((key, [value; 200])))),
            "round {at}"
        );
        let entries = bytes.iter().map(|(key, &value)| Ok((key.to_be_bytes().to_vec(), bytes_of(value))));
        assert!(self.bytes.iter(reader).eq(entries), "round {at}");
        assert_eq!(self.bytes.len(reader), Ok(bytes.len() as u64));
    }
}

#[test]
fn a_change_that_finds_no_room_is_not_there_in_part() {
    for backend in &MemoryBackend::kinds() {
        let space = Space::attach(backend).expect("attached");
        let id = make(&space);
        let guard = space.enter();
        let maps = open(&guard, id);
        let mut models: [BTreeMap<u64, u64>; 3] = Default::default();
        let (mut state, mut outcomes) = (1, [0; 3]);
        for round in 0..6000 {
            let (which, key, value) =
                (random(&mut state) % 3, random(&mut state) % 300, random(&mut state) % 1000);
            let removes = random(&mut state).is_multiple_of(5);
            backend.set_room(random(&mut state) % 4);
            let tried = guard.transact(|tx| {
                let changed =
                    if removes { maps.remove(tx, which, key) } else { maps.insert(tx, which, key, value) };
                Ok::<_, Error>(changed)
            });
            backend.set_room(u64::MAX);
            match tried {
                Ok(Ok(())) => {
                    let model = &mut models[which as usize];
                    if removes {
                        model.remove(&key)
                    } else {
                        model.insert(key, value)
                    };
                    outcomes[0] += 1;
                }
                Ok(Err(error)) => {
                    assert_eq!(error, Error::OutOfNvm);
                    outcomes[1] += 1;
                }
                Err(error) => {
                    assert_eq!(error, Error::OutOfNvm);
                    outcomes[2] += 1;
                }
            }
            if round % 20 == 0 {
                maps.assert_are(&guard, &models, round);
            }
        }
        assert!(outcomes.iter().all(|&many| many > 20), "{outcomes:?}");
        maps.assert_are(&guard, &models, 6000);
        guard
            .transact(|tx| maps.short.clear(tx).and(maps.long.clear(tx)).and(maps.bytes.clear(tx)))
            .expect("cleared");
        let shrink = guard.transact(|tx| {
            maps.short.shrink_to_fit(tx).and(maps.long.shrink_to_fit(tx)).and(maps.bytes.shrink_to_fit(tx))
        });
        shrink.expect("given back");
        assert_eq!(used(&guard, id), 0, "nothing is left that nobody leads to");
    }
}

#[test]
fn entries_that_are_refused_among_many_leave_the_map_as_it_was() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let id = make(&space);
    let guard = space.enter();
    let map = open(&guard, id).bytes;
    let fill = |tx: &mut Tx<'_, _>, value: &[u8]| {
        (0..500u64).try_for_each(|key| map.insert(tx, &key.to_be_bytes(), value).map(drop))
    };
    guard.transact(|tx| fill(tx, b"first")).expect("filled");
    let long = [b'b'; 2000];
    let tried = guard.transact(|tx| Ok::<_, Error>(map.merge_sorted(tx, &[(b"a", b"b"), (&long, b"c")])));
    assert_eq!(tried, Ok(Err(Error::TooLong)));
    assert_eq!(map.get(&&guard, b"a"), Ok(None));
    for round in 0..30u8 {
        guard.transact(|tx| fill(tx, &[round; 100])).expect("changed");
        let entries = (0..500u64).map(|key| Ok((key.to_be_bytes().to_vec(), vec![round; 100])));
        assert!(map.iter(&&guard).eq(entries), "round {round}");
    }
}

/// A key that can't be compared with some others.
#[derive(Stored, Clone, Copy, PartialEq, Eq, Debug)]
#[stored(name = "test.picky", version = 1)]
#[repr(C)]
struct Picky(u64);

impl Ord for Picky {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        assert!(![self.0, other.0].contains(&REFUSED) || self == other, "is not compared with others");
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Picky {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

const REFUSED: u64 = 1000;

#[derive(Stored)]
#[stored(name = "test.picky-root", version = 1)]
#[repr(C)]
struct PickyRoot {
    map: OrderedMapRoot<Picky, u64>,
}

#[test]
fn keys_that_panic_as_they_are_compared_leave_the_map_as_it_was() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let root = guard.transact(|tx| tx.create::<PickyRoot>()).expect("made").base();
    let map = OrderedMap::new(root.at(PickyRoot::map));
    guard.transact(|tx| (0..500).try_for_each(|n| map.insert(tx, Picky(n), n).map(drop))).expect("filled");
    type Change = for<'g> fn(&mut Tx<'g, &MemoryBackend>, OrderedMap<'g, Picky, u64>) -> Result<(), Error>;
    let changes: [Change; 4] = [
        |tx, map| map.merge_sorted(tx, &[(Picky(REFUSED), 1)]),
        |tx, map| map.insert(tx, Picky(REFUSED), 1).map(drop),
        |tx, map| map.delete(tx, &Picky(REFUSED)).map(drop),
        |tx, map| map.entry(tx, Picky(REFUSED))?.or_insert(1).map(drop),
    ];
    for change in changes {
        let tried = guard.transact(|tx| {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| change(tx, map)));
            assert!(caught.is_err());
            Ok::<_, Error>(())
        });
        assert!([Ok(()), Err(Error::Interrupted)].contains(&tried));
        for round in 0..30 {
            guard
                .transact(|tx| (0..500).try_for_each(|n| map.insert(tx, Picky(n), n + round).map(drop)))
                .expect("changed");
            assert!(map.iter(&&guard).eq((0..500).map(|n| Ok((Picky(n), n + round)))), "round {round}");
        }
    }
    guard.transact(|tx| map.clear(tx)).expect("cleared");
    guard.transact(|tx| map.shrink_to_fit(tx)).expect("given back");
    assert_eq!(guard.heap_usage(root.object()).map(|usage| usage.used_bytes), Ok(0));
}

/// Leads to many objects, and counts pointers to one in yet another.
#[derive(Stored)]
#[stored(name = "test.counting", version = 1)]
#[repr(C)]
struct Counting {
    others: [InvPtr<u64>; 200],
    first: InvRc<u64>,
    second: InvRc<u64>,
    weak: InvWeak<u64>,
}

#[test]
fn a_pointer_that_finds_no_room_is_not_counted() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let root = |full: usize| {
        let root = guard.transact(|tx| tx.create::<Counting>()).expect("made").base();
        for n in 0..full {
            let target = guard.transact(|tx| tx.create::<u64>()).expect("made").base();
            let place = root.at(Counting::others).index(n).expect("one of them");
            guard.transact(|tx| tx.link(place, Some(target))).expect("linked");
        }
        root
    };
    // The one leads to as many objects as its header has room for.
    let (full, other) = (root(119), root(0));
    let (first, weak) = (other.at(Counting::first), other.at(Counting::weak));
    let area = other.object();
    guard.transact(|tx| InvRc::fill(tx, first, area).and(InvRc::downgrade(tx, first, weak))).expect("filled");
    let used = || guard.heap_usage(area).expect("whole").used_bytes;
    let before = used();
    type Change = for<'g> fn(&mut Tx<'g, &MemoryBackend>, [Ptr<'g, Counting>; 2]) -> Result<(), Error>;
    let changes: [Change; 4] = [
        |tx, [full, other]| InvRc::share(tx, other.at(Counting::first), full.at(Counting::second)),
        |tx, [full, other]| InvRc::downgrade(tx, other.at(Counting::first), full.at(Counting::weak)),
        |tx, [full, other]| {
            InvWeak::upgrade(tx, other.at(Counting::weak), full.at(Counting::second)).map(drop)
        },
        |tx, [full, other]| InvRc::fill(tx, full.at(Counting::second), other.object()).map(drop),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        backend.set_room(1);
        let tried = guard.transact(|tx| Ok::<_, Error>(change(tx, [full, other])));
        backend.set_room(u64::MAX);
        assert_eq!(tried, Ok(Err(Error::OutOfNvm)), "change {n}");
        assert_eq!(InvRc::open(&&guard, full.at(Counting::second)), Ok(None));
        assert_eq!(InvRc::strong_count(&&guard, first), Ok(1), "change {n}");
        assert_eq!(used(), before, "change {n}");
    }
    let refused = guard.transact(|tx| {
        assert_eq!(InvRc::release(tx, first, |_, _| Err(Error::Exists)), Err(Error::Exists));
        Ok::<_, Error>(())
    });
    assert_eq!(refused, Err(Error::Exists));
    assert_eq!(InvRc::strong_count(&&guard, first), Ok(1));
    assert_eq!(guard.transact(|tx| InvRc::release(tx, first, |_, _| Ok(()))), Ok(true));
    guard.transact(|tx| InvWeak::release(tx, weak)).expect("released");
    assert_eq!(used(), 0);
}
