//! Changes of an ordered map that lie behind the entries of its leaves: each version sees its own.

use std::collections::BTreeMap;

use proptest::prelude::*;
use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{OrderedMap, OrderedMapRoot};
use twizzler_object::{Access, Guard, Space, Stored, Value};

/// Values of all kinds of leaves: with many entries, with few, and with so few that a tail has one entry.
#[derive(Stored)]
#[stored(name = "test.tails", version = 1)]
#[repr(C)]
struct Root {
    before: u64,
    small: OrderedMapRoot<u16, u16>,
    middle: OrderedMapRoot<u64, [u8; 100]>,
    large: OrderedMapRoot<u32, [u64; 200]>,
}

/// Keys that there may be: some leaves of the smallest entries, and many of the others.
const KEYS: u16 = 160;

#[derive(Clone, Copy, Debug)]
enum Change {
    Insert(u16, u16),
    Remove(u16),
    /// Both in one transaction, and both again in a savepoint that is undone.
    Both(u16, u16),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        5 => (0..KEYS, any::<u16>()).prop_map(|(key, value)| Change::Insert(key, value)),
        3 => (0..KEYS).prop_map(Change::Remove),
        1 => (0..KEYS, any::<u16>()).prop_map(|(key, value)| Change::Both(key, value)),
    ]
}

/// One of the maps, with numbers as keys and values.
trait Numbers: Value + Ord + TryFrom<u64, Error: std::fmt::Debug> + Into<u64> {}
impl<T: Value + Ord + TryFrom<u64, Error: std::fmt::Debug> + Into<u64>> Numbers for T {}

fn key<K: Numbers>(key: u16) -> K {
    K::try_from(u64::from(key) * 7).expect("fits")
}

/// Makes the changes, each in a transaction of its own and in turns through two spaces, as two programs would; keeps every version, and looks at all of them then.
/// Gives what is shown to who doesn't know the types, and what is there.
fn versions_stay<K: Numbers, V: Value + PartialEq + std::fmt::Debug>(
    backend: &MemoryBackend,
    changes: &[Change],
    map: impl for<'g> Fn(&'g Guard<'_, &MemoryBackend>, ObjId) -> OrderedMap<'g, K, V>,
    value: impl Fn(u16) -> V,
) -> (String, BTreeMap<u16, u16>) {
    let spaces = [(); 2].map(|()| Space::attach(backend).expect("attached"));
    let id =
        spaces[0].transact(|tx| Ok::<_, Error>(spaces[0].id_of(tx.create::<Root>()?.area()))).expect("made");
    let guards = [spaces[0].enter(), spaces[1].enter()];
    let maps = [map(&guards[0], id), map(&guards[1], id)];
    let mut model = BTreeMap::<u16, u16>::new();
    let mut kept = Vec::new();
    let fill = guards[0]
        .transact(|tx| (0..KEYS).step_by(2).try_for_each(|n| maps[0].insert(tx, key(n), value(n)).map(drop)));
    fill.expect("filled");
    model.extend((0..KEYS).step_by(2).map(|n| (n, n)));
    for (n, &change) in changes.iter().enumerate() {
        let (guard, map) = (&guards[n % 2], &maps[n % 2]);
        let old = guard.transact(|tx| {
            let both = |tx: &mut twizzler_object::Tx<'_, _>, n: u16, to: u16| {
                map.insert(tx, key(n), value(to))?;
                map.insert(tx, key((n + 1) % KEYS), value(to))?;
                map.remove(tx, &key((n + 2) % KEYS))?;
                map.insert(tx, key(n), value(to / 2))
            };
            match change {
                Change::Insert(n, to) => map.insert(tx, key(n), value(to)),
                Change::Remove(n) => map.remove(tx, &key(n)),
                Change::Both(n, to) => {
                    let undone = tx.savepoint(|tx| {
                        both(tx, (n + 5) % KEYS, to)?;
                        Err::<(), _>(Error::InvalidArgument)
                    });
                    assert_eq!(undone, Err(Error::InvalidArgument));
                    both(tx, n, to)
                }
            }
        });
        let expected = match change {
            Change::Insert(n, to) => model.insert(n, to),
            Change::Remove(n) => model.remove(&n),
            Change::Both(n, to) => {
                model.insert(n, to);
                model.insert((n + 1) % KEYS, to);
                model.remove(&((n + 2) % KEYS));
                model.insert(n, to / 2)
            }
        };
        assert_eq!(old, Ok(expected.map(&value)));
        let (other, reader) = (&maps[(n + 1) % 2], &guards[(n + 1) % 2]);
        kept.push((other.snapshot(&reader).expect("whole"), model.clone()));
    }
    for (snapshot, model) in &kept {
        let reader = &&guards[0];
        assert_eq!(snapshot.len(), model.len() as u64);
        let entries = || model.iter().map(|(&n, &to)| Ok::<_, Error>((key::<K>(n), value(to))));
        assert!(snapshot.iter(reader).eq(entries()));
        assert!(snapshot.iter(reader).rev().eq(entries().rev()));
        for n in 0..KEYS {
            assert_eq!(snapshot.get(reader, &key(n)), Ok(model.get(&n).map(|&to| value(to))));
        }
        let (from, to) = (KEYS / 3, KEYS / 2);
        let part = snapshot.range(reader, key::<K>(from)..key::<K>(to));
        assert!(part.eq(model.range(from..to).map(|(&n, &to)| Ok((key::<K>(n), value(to))))));
    }
    let dump = guards[0].dump(guards[0].open_any(id, Access::Read).expect("there"), 1000);
    (dump.expect("readable").expect("described").to_string(), model)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_version_sees_its_own_entries(changes in prop::collection::vec(change(), 1..120)) {
        fn root<'g>(guard: &'g Guard<'_, &MemoryBackend>, id: ObjId) -> twizzler_object::Ptr<'g, Root> {
            guard.open::<Root>(id, Access::Write).expect("there").base()
        }
        for backend in &MemoryBackend::kinds() {
            let (shown, model) =
                versions_stay(backend, &changes, |guard, id| OrderedMap::new(root(guard, id).at(Root::small)), |n| n);
            // So many are shown.
            let entries: String =
                model.iter().take(64).map(|(n, to)| format!("        {} => {to}\n", n * 7)).collect();
            prop_assert!(shown.contains(&entries), "{entries}\n{shown}");
            versions_stay(backend, &changes, |guard, id| OrderedMap::new(root(guard, id).at(Root::middle)), |n| [n as u8; 100]);
            versions_stay(backend, &changes, |guard, id| OrderedMap::new(root(guard, id).at(Root::large)), |n| [n.into(); 200]);
        }
    }
}
