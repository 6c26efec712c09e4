//! Damaged and hostile objects: errors, never panics, never access outside the object.

use proptest::prelude::*;
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET};
use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{HashMap, HashMapRoot};
use twizzler_object::types::type_object;
use twizzler_object::{Access, Backend, InvBytes, InvPtr, Reader, Space, Stored};

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
