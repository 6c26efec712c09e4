//! Damaged and hostile objects: errors, never panics, never access outside the object.

use proptest::prelude::*;
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET};
use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{HashMap, HashMapRoot, List, ListRoot, Log, LogRoot, Vector, VectorRoot};
use twizzler_object::types::type_object;
use twizzler_object::{Access, Area, Backend, Guard, InvBytes, InvPtr, Ptr, Reader, Space, Stored, Tx};

#[derive(Stored)]
#[stored(name = "test.hostile", version = 1)]
#[repr(C)]
struct Root {
    first: InvPtr<Node>,
    other: InvPtr<Root>,
    text: InvBytes,
}

#[derive(Stored)]
#[stored(name = "test.hostile-node", version = 1)]
#[repr(C)]
struct Node {
    next: InvPtr<Node>,
    value: u64,
}

/// Two objects that point to each other, with lists, and a record in a lane that is not in place.
fn prepared() -> (MemoryBackend, ObjId) {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let id = space
        .transact(|tx| {
            let [a, b] = [tx.create::<Root>()?, tx.create::<Root>()?];
            tx.link(a.base().at(Root::other), Some(b.base()))?;
            tx.link(b.base().at(Root::other), Some(a.base()))?;
            Ok::<_, Error>(tx.space().id_of(a.area()))
        })
        .expect("created");
    for value in 0..20 {
        work(&space, id, value).expect("sound");
    }
    std::mem::forget(space);
    backend.kill_all();
    (backend, id)
}

/// Does a bit of everything. Whatever it meets, it ends.
fn work<B: Backend>(space: &Space<B>, id: ObjId, value: u64) -> Result<(), Error> {
    let guard = space.enter();
    let root = guard.open::<Root>(id, Access::Write)?.base();
    let result = guard.transact(|tx| {
        tx.lock(root.object())?;
        let other = tx.follow(root.at(Root::other))?.ok_or(Error::Damaged)?;
        let back = tx.follow(other.at(Root::other))?.ok_or(Error::Damaged)?;
        let node = tx.alloc::<Node>(other.object())?;
        tx.set(node.at(Node::value), value)?;
        let first = tx.follow(back.at(Root::first))?;
        tx.link(node.at(Node::next), first)?;
        tx.link(back.at(Root::first), Some(node))?;
        let text = tx.alloc_bytes(root.object(), &vec![7; value as usize * 700 + 1])?;
        let old = tx.follow_span(root.at(Root::text))?;
        tx.free_span(old)?;
        tx.link_span(root.at(Root::text), text)
    });
    let mut next = guard.follow(root.at(Root::first))?;
    for _ in 0..50 {
        let Some(node) = next else { break };
        let _ = guard.get(node.at(Node::value));
        next = guard.follow(node.at(Node::next))?;
    }
    let _ = space.heap_usage(root.object());
    let _ = space.type_name(root.object()).to_string();
    let _ = guard.content(root.object()).len();
    let text = guard.follow_span(root.at(Root::text))?;
    let mut some = [0; 8];
    if guard.read(text, 0, &mut some) == Ok(()) {
        let _ = guard.compare(text, b"something");
    }
    result
}

#[derive(Clone, Debug)]
struct Damage {
    object: prop::sample::Index,
    /// Where: mostly where structures are.
    page: prop::sample::Index,
    offset: u64,
    bytes: [u8; 8],
}

fn damage() -> impl Strategy<Value = Damage> {
    let offset = prop_oneof![3 => (0u64..64).prop_map(|word| word * 8), 1 => 0u64..4089];
    let bytes = prop_oneof![
        any::<u64>(),
        (0u64..1 << 31),
        (0u64..120, 0u64..1 << 30).prop_map(|(index, offset)| index << 44 | offset),
        Just(u64::MAX),
        Just(0),
    ];
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), offset, bytes)
        .prop_map(|(object, page, offset, bytes)| Damage { object, page, offset, bytes: bytes.to_le_bytes() })
}

/// So many cases, or as many as a campaign wants (`cargo run -- sanitize`).
fn cases(usually: u32) -> u32 {
    std::env::var("TWIZZLER_CASES").ok().and_then(|number| number.parse().ok()).unwrap_or(usually)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(300)))]
    #[test]
    fn damage_is_an_error_and_not_a_disaster(damages in prop::collection::vec(damage(), 1..12)) {
        let (backend, id) = prepared();
        let ids = backend.ids();
        for damage in &damages {
            let object = ids[damage.object.index(ids.len())];
            let pages = backend.pages_of(object);
            let page = pages[damage.page.index(pages.len())];
            if page * 4096 < HEADER_OFFSET {
                continue;
            }
            for (i, byte) in damage.bytes.iter().enumerate() {
                let offset = page * 4096 + damage.offset + i as u64;
                if offset < (page + 1) * 4096 {
                    backend.damage(object, offset, |_| *byte);
                }
            }
        }
        if let Ok(space) = Space::attach(&backend) {
            for value in 0..3 {
                let _ = work(&space, id, value);
            }
            std::mem::forget(space);
        }
        // And again after a crash in the middle of that.
        backend.kill_all();
        if let Ok(space) = Space::attach(&backend) {
            let _ = work(&space, id, 3);
        }
    }
}

#[test]
fn counters_at_their_end_are_an_error() {
    let (backend, id) = prepared();
    for object in backend.ids() {
        // In a lane, the last transaction's number; in the header, the lock domain's version.
        let version =
            HEADER_OFFSET + std::mem::offset_of!(twizzler_abi::object::Header, domain_versions) as u64;
        for offset in (BASE_OFFSET + 8..BASE_OFFSET + 24).chain(version..version + 8) {
            backend.damage(object, offset, |_| 0xff);
        }
    }
    let space = Space::attach(&backend).expect("a damaged lane is left alone");
    assert_eq!(work(&space, id, 1), Err(Error::Damaged));
}

#[test]
fn pointers_that_leave_their_object_are_damage() {
    let (backend, id) = prepared();
    let bad = [
        1,                       // below the base
        BASE_OFFSET - 8,         // in the header
        (1 << 30) - 8,           // ends beyond the range
        1 << 30,                 // beyond the range
        (1 << 40) - 16,          // far beyond
        BASE_OFFSET + 4,         // not aligned
        1 << 41 | BASE_OFFSET,   // spare bits
        1 << 44 | 1 << 30,       // beyond the range of another object
        1 << 44 | 8,             // below another one's base
        50 << 44 | BASE_OFFSET,  // an unused entry
        119 << 44 | BASE_OFFSET, // the last inline entry
        120 << 44 | BASE_OFFSET, // beyond the inline entries
        u64::MAX,
    ];
    for bits in bad {
        for (i, byte) in bits.to_le_bytes().into_iter().enumerate() {
            backend.damage(id, BASE_OFFSET + i as u64, |_| byte);
        }
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        let root = guard.open::<Root>(id, Access::Read).expect("open").base();
        assert_eq!(guard.follow(root.at(Root::first)), Err(Error::Damaged), "{bits:#x}");
    }
}

#[test]
fn a_deleted_target_is_an_error() {
    let (backend, id) = prepared();
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let root = guard.open::<Root>(id, Access::Read).expect("open").base();
    let other = guard.follow(root.at(Root::other)).expect("good").expect("not null");
    let other = space.id_of(other.object());
    drop(guard);
    drop(space);
    backend.delete(other).expect("deleted");
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let root = guard.open::<Root>(id, Access::Read).expect("open").base();
    assert_eq!(guard.follow(root.at(Root::other)), Err(Error::NoSuchObject));
}

#[test]
fn quarantined_lanes_take_nothing_else_along() {
    let (backend, id) = prepared();
    // All but the two objects and the description of their type: the directory of lanes, and a lane.
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let is_ours = |other: &ObjId| guard.open::<Root>(*other, Access::Read).is_ok();
    let (ours, mut lanes): (Vec<_>, Vec<_>) = backend.ids().into_iter().partition(is_ours);
    let description = type_object(Root::FINGERPRINT);
    lanes.retain(|&id| id != description);
    assert_eq!((ours.len(), lanes.len()), (2, 2));
    drop(guard);
    drop(space);
    backend.quarantine(description);
    for subset in 1..4 {
        let some = lanes.iter().enumerate().filter(|(i, _)| subset >> i & 1 != 0);
        some.for_each(|(_, &lane)| backend.quarantine(lane));
        for value in 0..3 {
            let space = Space::attach(&backend).expect("attach");
            work(&space, id, value).expect("everything else is sound");
            assert!(value != 0 || space.recovery().damaged > 0);
            std::mem::forget(space);
            backend.kill_all();
        }
    }
}

/// Where the sum of an object's address and an offset is beyond all numbers.
#[test]
fn offsets_at_the_end_of_all_numbers_are_damage() {
    for is_directory in [true, false] {
        let backend = MemoryBackend::new();
        let space = Space::attach(&backend).expect("attach");
        let made = space.transact(|tx| {
            let root = tx.create::<HashMapRoot<u64, u64>>()?;
            HashMap::new(root.base()).insert(tx, 1, 1)?;
            Ok::<_, Error>(tx.space().id_of(root.area()))
        });
        let id = made.expect("made");
        let guard = space.enter();
        let root = guard.open::<HashMapRoot<u64, u64>>(id, Access::Write).expect("there").base();
        let word = |at: u64| guard.get(root.object().place::<u64>(at).expect("within"));
        // The table's first word leads to the directory, whose first leads to the bucket, whose second leads to the next one.
        let directory = word(root.offset());
        let at = if is_directory { directory } else { word(directory) + 8 };
        for (n, byte) in (u64::MAX - 15).to_le_bytes().into_iter().enumerate() {
            backend.damage(id, at + n as u64, |_| byte);
        }
        let map = HashMap::new(root);
        assert_eq!(map.get(&&guard, &2), Err(Error::Damaged));
        assert_eq!(guard.transact(|tx| map.insert(tx, 2, 2)), Err(Error::Damaged));
        assert_eq!(map.iter(&&guard).last(), Some(Err(Error::Damaged)));
    }
}

#[derive(Stored)]
#[stored(name = "test.hostile-counts", version = 1)]
#[repr(C)]
struct Counts {
    vector: VectorRoot<u64>,
    map: HashMapRoot<u64, u64>,
    large: HashMapRoot<u64, [u64; 128]>,
    bytes: HashMapRoot<[u8], [u8]>,
}

type G<'g, 'b> = Guard<'g, &'b MemoryBackend>;

/// An object with a little in each collection.
fn with_counts(look: impl for<'g> FnOnce(&'g G<'_, '_>, Ptr<'g, Counts>)) {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let root = guard.transact(|tx| tx.create::<Counts>()).expect("made").base();
    let filled = guard.transact(|tx| {
        (0..3).try_for_each(|n| Vector::new(root.at(Counts::vector)).push(tx, n))?;
        HashMap::new(root.at(Counts::map)).insert(tx, 1, 1)?;
        HashMap::new(root.at(Counts::large)).insert(tx, 1, [1; 128])?;
        HashMap::new(root.at(Counts::bytes)).insert(tx, b"key", b"value")
    });
    assert_eq!(filled, Ok(false));
    look(&guard, root);
}

fn word<'g>(guard: &'g G<'_, '_>, area: Area<'g>, offset: u64) -> u64 {
    guard.get(area.place(offset).expect("within"))
}

/// Sets words, one behind the other.
fn put<'g>(guard: &'g G<'_, '_>, area: Area<'g>, offset: u64, words: &[u64]) {
    let put = guard.transact(|tx| {
        let mut places = (offset..).step_by(8).zip(words);
        places.try_for_each(|(at, &word)| tx.set(area.place(at).expect("within"), word))
    });
    put.expect("put");
}

/// Gives the collection whose root is at `root` a directory of so many words, which all name its first chunk; then the words of the root behind that.
fn share_chunk<'g>(guard: &'g G<'_, '_>, area: Area<'g>, root: u64, words: usize, counts: &[u64]) {
    let chunk = word(guard, area, word(guard, area, root));
    let directory =
        guard.transact(|tx| tx.alloc_span::<u64>(area, words as u64)).expect("room").index(0).expect("first");
    put(guard, area, directory.offset(), &vec![chunk; words]);
    put(guard, area, root, &[directory.offset()]);
    put(guard, area, root + 8, counts);
}

fn used_pages<'g>(guard: &'g G<'_, '_>, area: Area<'g>) -> u64 {
    guard.heap_usage(area).expect("whole").used_pages
}

#[test]
fn vectors_longer_than_their_room_or_their_object_are_damaged() {
    with_counts(|guard, root| {
        let (area, at) = (root.object(), root.at(Counts::vector).offset());
        let vector = Vector::new(root.at(Counts::vector));
        let before = used_pages(guard, area);
        put(guard, area, at + 16, &[10_000_000]);
        assert_eq!(guard.transact(|tx| vector.push(tx, 1)), Err(Error::Damaged));
        assert_eq!(guard.transact(|tx| vector.extend_from_slice(tx, &[1, 2])), Err(Error::Damaged));
        // 2 GiB of the same.
        share_chunk(guard, area, at, 1 << 15, &[1 << 28, 1 << 28]);
        assert_eq!(vector.to_vec(&guard), Err(Error::Damaged));
        assert_eq!(vector.iter(&guard).take(10).collect::<Vec<_>>(), [Err(Error::Damaged)]);
        assert_eq!(vector.places(&guard).rev().take(10).collect::<Vec<_>>(), [Err(Error::Damaged)]);
        type Change = for<'g, 'b> fn(Vector<'g, u64>, &mut Tx<'g, &'b MemoryBackend>) -> Result<(), Error>;
        let changes: [Change; 5] = [
            |vector, tx| vector.drain(tx, ..).map(drop),
            |vector, tx| vector.retain(tx, |_| true),
            |vector, tx| vector.insert(tx, 0, 1),
            |vector, tx| vector.remove(tx, 0).map(drop),
            |vector, tx| vector.resize(tx, 1 << 29, 0),
        ];
        for change in changes {
            assert_eq!(guard.transact(|tx| change(vector, tx)), Err(Error::Damaged));
        }
        assert!(used_pages(guard, area) <= before + 70, "the directory alone");
    });
}

#[test]
fn tables_with_more_buckets_than_room_are_damaged() {
    with_counts(|guard, root| {
        let (area, at) = (root.object(), root.at(Counts::map).offset());
        share_chunk(guard, area, at, 4096, &[4, 1 << 20, 1 << 30]);
        let before = used_pages(guard, area);
        let map = HashMap::new(root.at(Counts::map));
        let mut inserted = None;
        let undone = guard.transact(|tx| {
            inserted = Some(map.insert(tx, 2, 2));
            Err::<(), _>(Error::Interrupted)
        });
        assert_eq!((inserted, undone), (Some(Err(Error::Damaged)), Err(Error::Interrupted)));
        assert_eq!(used_pages(guard, area), before);
    });
}

#[test]
fn tables_whose_buckets_share_a_chain_are_damaged() {
    with_counts(|guard, root| {
        let (area, at) = (root.object(), root.at(Counts::large).offset());
        let map = HashMap::<u64, [u64; 128]>::new(root.at(Counts::large));
        // 40 buckets without entries, one behind the other, behind each of the eight of a chunk.
        let bucket = |next: u64| {
            let mut words = [0; 906];
            words[1] = next;
            let made = guard
                .transact(|tx| tx.alloc::<[u64; 906]>(area).and_then(|at| tx.set(at, words).map(|()| at)));
            made.expect("made").offset()
        };
        let chain = (0..40).fold(0, |next, _| bucket(next));
        guard.transact(|tx| (2..200).try_for_each(|n| map.insert(tx, n, [n; 128]).map(drop))).expect("grown");
        let chunk = word(guard, area, word(guard, area, at));
        (0..8).for_each(|n| put(guard, area, chunk + n * 906 * 8, &[0, chain]));
        share_chunk(guard, area, at, 2048, &[1 << 14, 1 << 14]);
        assert_eq!(map.iter(&guard).last(), Some(Err(Error::Damaged)));
        let mut cleared = None;
        let undone = guard.transact(|tx| {
            cleared = Some(map.clear(tx));
            Err::<(), _>(Error::Interrupted)
        });
        assert_eq!((cleared, undone), (Some(Err(Error::Damaged)), Err(Error::Interrupted)));
    });
}

#[test]
fn values_longer_than_any_can_be_are_damaged() {
    with_counts(|guard, root| {
        let (area, at) = (root.object(), root.at(Counts::bytes).offset());
        let bytes = HashMap::<[u8], [u8]>::new(root.at(Counts::bytes));
        // Tags, next, the key's hash, the offset; then the lengths.
        let lens = word(guard, area, word(guard, area, at)) + 32;
        assert_eq!(word(guard, area, lens), 5 << 32 | 3);
        put(guard, area, lens, &[100 << 52 | 3]);
        assert_eq!(bytes.get(&guard, b"key").map(|value| value.is_some()), Err(Error::Damaged));
    });
}

#[derive(Stored)]
#[stored(name = "test.hostile-chains", version = 1)]
#[repr(C)]
struct Chains {
    list: ListRoot<[u64; 1024]>,
    log: LogRoot,
}

#[test]
fn lists_in_a_cycle_end_with_an_error() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    for (from, len) in [(0, 2), (0, u64::MAX), (1, 2), (1, u64::MAX)] {
        let root = guard.transact(|tx| tx.create::<Chains>()).expect("made").base();
        let list = List::new(root.at(Chains::list));
        let nodes: Vec<_> = (0..2)
            .map(|n| guard.transact(|tx| list.push_back(tx, [n; 1024])).expect("pushed").offset())
            .collect();
        // The first or the second leads to the first; both lie behind the three words of the root.
        put(&guard, root.object(), nodes[from], &[nodes[0]]);
        put(&guard, root.object(), root.offset() + 16, &[len]);
        let ended = guard.transact(|tx| {
            assert_eq!(list.iter(tx).last(), Some(Err(Error::Damaged)));
            list.retain(tx, |_| true)
        });
        assert_eq!(ended, Err(Error::Damaged));
        assert_eq!(guard.transact(|tx| list.clear(tx)), Err(Error::Damaged));
    }
}

#[test]
fn logs_in_a_cycle_end_with_an_error() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    for to in 0..2 {
        let root = guard.transact(|tx| tx.create::<Chains>()).expect("made").base().at(Chains::log);
        let log = Log::new(root);
        guard
            .transact(|tx| (0..4).try_for_each(|_| log.append(tx, &[7; 60_000]).map(drop)))
            .expect("appended");
        let first = word(&guard, root.object(), root.offset());
        let second = word(&guard, root.object(), first);
        put(&guard, root.object(), second, &[[first, second][to]]);
        let end = log.end(&&guard);
        assert_eq!(guard.transact(|tx| log.drop_before(tx, end)), Err(Error::Damaged));
    }
}
