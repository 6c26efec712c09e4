//! Savepoints within the transaction that makes an object: its collections are what the kept ones have made them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use twizzler_abi::Error;
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{
    BytesMap, HashMap, HashMapRoot, List, ListRoot, MapRoot, OrderedMap, OrderedMapRoot, Text, TextRoot,
    Vector, VectorRoot,
};
use twizzler_object::{Access, InvPtr, InvSpan, Ptr, Reader, Space, Stored, Tx};

type Long = [u64; 50];
type Transaction<'g, 'b> = Tx<'g, &'b MemoryBackend>;

#[derive(Stored)]
#[stored(name = "test.savepoints", version = 1)]
#[repr(C)]
struct Root {
    short: OrderedMapRoot<u64, u64>,
    long: OrderedMapRoot<u64, Long>,
    bytes: MapRoot,
    hashed: HashMapRoot<u64, u64>,
    /// What was put in, one after the other.
    vector: VectorRoot<u64>,
    list: ListRoot<u64>,
    text: TextRoot,
}

#[derive(Clone, Copy)]
struct All<'g> {
    short: OrderedMap<'g, u64, u64>,
    long: OrderedMap<'g, u64, Long>,
    bytes: BytesMap<'g>,
    hashed: HashMap<'g, u64, u64>,
    vector: Vector<'g, u64>,
    list: List<'g, u64>,
    text: Text<'g>,
}

/// What the collections hold: entries of the maps, and what the others list.
#[derive(Clone, Default)]
struct Model {
    map: BTreeMap<u64, u64>,
    listed: Vec<u64>,
}

/// Keys that there may be: enough for leaves that split, few enough to come back.
const KEYS: u64 = 240;

#[derive(Clone, Debug)]
enum Step {
    /// So many keys from the first one on, so far apart.
    Insert(u64, u64, u64, u64),
    Remove(u64, u64),
    Savepoint(Vec<Step>, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let change = prop_oneof![
        3 => (0..KEYS, 1u64..4, 0u64..1000).prop_map(|(first, many, value)| Step::Insert(first, many, 1, value)),
        1 => (0..KEYS, 5u64..80, 1u64..4, 0u64..1000).prop_map(|(first, many, apart, value)| Step::Insert(first, many, apart, value)),
        2 => (0..KEYS, 1u64..4).prop_map(|(first, many)| Step::Remove(first, many)),
        1 => (0..KEYS, 5u64..60).prop_map(|(first, many)| Step::Remove(first, many)),
    ];
    change.prop_recursive(3, 60, 8, |step| {
        (prop::collection::vec(step, 1..8), prop::bool::weighted(0.7))
            .prop_map(|(steps, kept)| Step::Savepoint(steps, kept))
    })
}

impl<'g> All<'g> {
    fn new(root: Ptr<'g, Root>) -> Self {
        Self {
            short: OrderedMap::new(root.at(Root::short)),
            long: OrderedMap::new(root.at(Root::long)),
            bytes: BytesMap::new(root.at(Root::bytes)),
            hashed: HashMap::new(root.at(Root::hashed)),
            vector: Vector::new(root.at(Root::vector)),
            list: List::new(root.at(Root::list)),
            text: Text::new(root.at(Root::text)),
        }
    }

    fn insert(
        &self,
        tx: &mut Transaction<'g, '_>,
        model: &mut Model,
        key: u64,
        value: u64,
    ) -> Result<(), Error> {
        let old = model.map.insert(key, value);
        assert_eq!(self.short.insert(tx, key, value), Ok(old));
        assert_eq!(self.long.insert(tx, key, [value; 50]), Ok(old.map(|old| [old; 50])));
        assert_eq!(self.bytes.insert(tx, &key.to_be_bytes(), &value.to_le_bytes()), Ok(old.is_some()));
        assert_eq!(self.hashed.insert(tx, key, value), Ok(old));
        model.listed.push(value);
        self.vector.push(tx, value)?;
        self.list.push_back(tx, value)?;
        self.text.push(tx, letter(value))
    }

    fn remove(&self, tx: &mut Transaction<'g, '_>, model: &mut Model, key: u64) -> Result<(), Error> {
        let old = model.map.remove(&key);
        assert_eq!(self.short.remove(tx, &key), Ok(old));
        assert_eq!(self.long.remove(tx, &key), Ok(old.map(|old| [old; 50])));
        assert_eq!(self.bytes.remove(tx, &key.to_be_bytes()), Ok(old.is_some()));
        assert_eq!(self.hashed.remove(tx, &key), Ok(old));
        let last = model.listed.pop();
        assert_eq!(self.vector.pop(tx), Ok(last));
        assert_eq!(self.list.pop_back(tx), Ok(last));
        assert_eq!(self.text.pop(tx), Ok(last.map(letter)));
        Ok(())
    }

    fn change(&self, tx: &mut Transaction<'g, '_>, model: &mut Model, step: &Step) -> Result<(), Error> {
        match step {
            &Step::Insert(first, many, apart, value) => {
                (0..many).try_for_each(|n| self.insert(tx, model, (first + n * apart) % KEYS, value + n))
            }
            &Step::Remove(first, many) => {
                (first..first + many).try_for_each(|key| self.remove(tx, model, key % KEYS))
            }
            Step::Savepoint(steps, kept) => {
                let before = model.clone();
                let tried = tx.savepoint(|tx| {
                    steps.iter().try_for_each(|step| self.change(tx, model, step))?;
                    if *kept { Ok(()) } else { Err(Error::Interrupted) }
                });
                assert_eq!(tried, if *kept { Ok(()) } else { Err(Error::Interrupted) });
                if !kept {
                    *model = before;
                }
                self.compare(tx, model);
                Ok(())
            }
        }
    }

    fn compare(&self, reader: &impl Reader<'g>, model: &Model) {
        let entries = || model.map.iter().map(|(&key, &value)| (key, value));
        assert_eq!(self.short.len(reader), Ok(model.map.len() as u64));
        assert!(self.short.iter(reader).eq(entries().map(Ok)));
        assert!(self.long.iter(reader).eq(entries().map(|(key, value)| Ok((key, [value; 50])))));
        let bytes = |(key, value): (u64, u64)| Ok((key.to_be_bytes().to_vec(), value.to_le_bytes().to_vec()));
        assert!(self.bytes.iter(reader).eq(entries().map(bytes)));
        let hashed: Result<BTreeMap<_, _>, Error> = self.hashed.iter(reader).collect();
        assert_eq!(hashed.as_ref(), Ok(&model.map));
        assert_eq!(self.hashed.len(reader), model.map.len() as u64);
        assert_eq!(self.vector.to_vec(reader).as_ref(), Ok(&model.listed));
        assert!(self.list.iter(reader).eq(model.listed.iter().copied().map(Ok)));
        assert_eq!(self.text.get(reader), Ok(model.listed.iter().map(|&value| letter(value)).collect()));
    }
}

fn letter(value: u64) -> char {
    // Of one byte, of two and of three.
    char::from_u32(0x60 + 7 * value as u32).expect("below the surrogates")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn what_kept_savepoints_add_to_a_new_object_is_there_once(steps in prop::collection::vec(step(), 1..16), more in prop::collection::vec(step(), 1..4)) {
        for backend in &MemoryBackend::kinds() {
            let space = Space::attach(backend).expect("attached");
            let mut model = Model::default();
            let made = space.transact(|tx| {
                model = Model::default();
                let root = tx.create::<Root>()?;
                let all = All::new(root.base());
                steps.iter().try_for_each(|step| all.change(tx, &mut model, step))?;
                all.compare(tx, &model);
                Ok::<_, Error>(space.id_of(root.area()))
            });
            // As another program finds it, and goes on.
            let space = Space::attach(backend).expect("attached");
            let guard = space.enter();
            let all = All::new(guard.open::<Root>(made.expect("made"), Access::Write).expect("there").base());
            all.compare(&&guard, &model);
            let changed = guard.transact(|tx| more.iter().try_for_each(|step| all.change(tx, &mut model, step)));
            prop_assert_eq!(changed, Ok(()));
            all.compare(&&guard, &model);
        }
    }
}

/// A leaf that is copied in one savepoint, changed in another one, and searched in a third, with a change elsewhere before that.
#[test]
fn a_leaf_of_an_earlier_savepoint_is_searched_as_it_is_now() {
    for backend in &MemoryBackend::kinds() {
        let space = Space::attach(backend).expect("attached");
        let made = space.transact(|tx| {
            let root = tx.create::<Root>()?;
            let map = OrderedMap::new(root.base().at(Root::short));
            // A leaf of 52 entries, and one of 8.
            (0..60).try_for_each(|key| map.insert(tx, key, key).map(drop))?;
            // The first eight go to the second leaf's tail, the next one copies it.
            tx.savepoint(|tx| (100..109).try_for_each(|key| map.insert(tx, key, key).map(drop)))?;
            tx.savepoint(|tx| map.insert(tx, 110, 110).map(drop))?;
            // The first leaf alone.
            assert_eq!(map.insert(tx, 0, 7), Ok(Some(0)));
            tx.savepoint(|tx| {
                assert_eq!(map.insert(tx, 110, 111), Ok(Some(110)));
                assert_eq!(map.insert(tx, 108, 109), Ok(Some(108)));
                assert_eq!(map.remove(tx, &107), Ok(Some(107)));
                Ok::<_, Error>(())
            })?;
            Ok::<_, Error>(space.id_of(root.area()))
        });
        let guard = space.enter();
        let root = guard.open::<Root>(made.expect("made"), Access::Read).expect("there").base();
        let found: Result<Vec<_>, Error> = OrderedMap::new(root.at(Root::short)).iter(&&guard).collect();
        let expected = (0..60).chain(100..107).chain([108, 110]).map(|key| match key {
            0 => (0, 7),
            108 | 110 => (key, key + 1),
            _ => (key, key),
        });
        assert_eq!(found, Ok(expected.collect()));
    }
}

/// What a kept savepoint has staged is forgotten where the same memory is made anew.
#[test]
fn new_places_are_zeros_after_a_savepoint_that_used_them() {
    for backend in &MemoryBackend::kinds() {
        let space = Space::attach(backend).expect("attached");
        let made = space.transact(|tx| {
            let root = tx.create::<Root>()?;
            let all = All::new(root.base());
            all.vector.push(tx, 1)?;
            all.hashed.insert(tx, 1, 1)?;
            tx.savepoint(|tx| {
                all.vector.push(tx, 2)?;
                all.hashed.insert(tx, 2, 2).map(drop)
            })?;
            assert_eq!((all.vector.pop(tx), all.hashed.remove(tx, &2)), (Ok(Some(2)), Ok(Some(2))));
            let places = [all.vector.push_zeroed(tx)?, all.hashed.place_mut(tx, 2)?];
            assert_eq!(places.map(|place| tx.get(place)), [0, 0]);
            Ok::<_, Error>(space.id_of(root.area()))
        });
        let guard = space.enter();
        let all = All::new(guard.open::<Root>(made.expect("made"), Access::Read).expect("there").base());
        assert_eq!(all.vector.to_vec(&&guard), Ok(vec![1, 0]));
        assert_eq!(all.hashed.get(&&guard, &2), Ok(Some(0)));
    }
}

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    freed: InvSpan<u8>,
    map: InvPtr<OrderedMapRoot<u64, u64>>,
}

/// A map's root is zeros, whatever has lain in its memory before.
#[test]
fn a_map_in_reused_memory_begins_as_any_other() {
    for (backend, was) in
        MemoryBackend::kinds().iter().flat_map(|backend| [-1i64, -2].map(|was| (backend, was)))
    {
        let space = Space::attach(backend).expect("attached");
        let made = space.transact(|tx| {
            let root = tx.create::<Holder>()?;
            // Of the size that the root of a map has.
            let words: Vec<u8> = was.to_le_bytes().repeat(size_of::<OrderedMapRoot<u64, u64>>() / 8);
            let bytes = tx.alloc_bytes(root.area(), &words)?;
            tx.link_span(root.base().at(Holder::freed), bytes)?;
            Ok::<_, Error>(space.id_of(root.area()))
        });
        let guard = space.enter();
        let root = guard.open::<Holder>(made.expect("made"), Access::Write).expect("there").base();
        let bytes = guard.follow_span(root.at(Holder::freed)).expect("there");
        guard.transact(|tx| tx.free_span(bytes)).expect("freed");
        let map = guard.transact(|tx| {
            let map = tx.alloc::<OrderedMapRoot<u64, u64>>(root.object())?;
            tx.link(root.at(Holder::map), Some(map))?;
            let within = bytes.address()..bytes.address() + bytes.len();
            assert!(within.contains(&map.address()), "the memory is given out again");
            let map = OrderedMap::new(map);
            map.insert(tx, 0, 0)?;
            Ok::<_, Error>(map)
        });
        let map = map.expect("made");
        for key in 1..100 {
            assert_eq!(guard.transact(|tx| map.insert(tx, key, key)), Ok(None));
        }
        assert!(map.iter(&&guard).eq((0..100).map(|key| Ok((key, key)))));
    }
}
