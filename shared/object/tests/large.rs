//! Large objects: 512 GiB, of which they take what is stored.

use twizzler_abi::address::SLOT_BYTES;
use twizzler_abi::call::{CreateSpec, USUAL_RIGHTS};
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::{Access, InvPtr, InvSpan, Reader, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.far", version = 1)]
#[repr(C)]
struct Node {
    next: InvPtr<Node>,
    values: InvSpan<u64>,
    value: u64,
}

/// Places far out, and some nearby.
const OFFSETS: [u64; 6] = [
    BASE_OFFSET,
    8 * SLOT_BYTES,
    SLOT_BYTES - 4096,
    SLOT_BYTES,
    300 * SLOT_BYTES + 64,
    512 * SLOT_BYTES - 4096,
];

fn spec(nonce: u8) -> CreateSpec {
    CreateSpec {
        nonce: [nonce; 16],
        owner: ObjId::NONE,
        flags: (ObjectFlags::PERSISTENT | ObjectFlags::LARGE).bits(),
        default_rights: USUAL_RIGHTS.bits(),
        fingerprint: 0,
    }
}

/// A ring of nodes at all those offsets of two large objects, by turns.
fn ring(space: &Space<&MemoryBackend>) -> [ObjId; 2] {
    let made = space.transact(|tx| {
        let areas = [tx.create_with(&spec(1))?, tx.create_with(&spec(2))?];
        for area in areas {
            for offset in OFFSETS {
                tx.write_at(area, offset - BASE_OFFSET, &[0; 4096])?;
            }
        }
        let mut nodes = Vec::new();
        for offset in OFFSETS {
            for area in areas {
                nodes.push(area.place::<Node>(offset).ok_or(Error::OutOfRange)?);
            }
        }
        for (n, &node) in nodes.iter().enumerate() {
            tx.link(node.at(Node::next), Some(nodes[(n + 1) % nodes.len()]))?;
            let values = node.object().span::<u64>(node.offset() + 1024, 9).ok_or(Error::OutOfRange)?;
            tx.link_span(node.at(Node::values), values)?;
            tx.set(node.at(Node::value), n as u64)?;
        }
        Ok::<_, Error>(areas.map(|area| space.id_of(area)))
    });
    made.expect("made")
}

#[test]
fn pointers_lead_all_over_large_objects() {
    let backend = MemoryBackend::new();
    let ids = ring(&Space::attach(&backend).expect("attached"));
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let first = guard.open_any(ids[0], Access::Write).expect("opens");
    assert_eq!(first.range_bytes(), 512 * SLOT_BYTES);
    let mut node = first.place::<Node>(BASE_OFFSET).expect("in the object");
    let mut cursor = guard.cursor(node);
    for round in 0..2 {
        for n in 0..2 * OFFSETS.len() as u64 {
            assert_eq!(guard.get(node.at(Node::value)), n, "round {round}");
            assert_eq!(node.offset(), OFFSETS[n as usize / 2]);
            assert_eq!(space.id_of(node.object()), ids[n as usize % 2]);
            let values = guard.follow_span(node.at(Node::values)).expect("resolves");
            assert_eq!((values.len(), values.address() - node.address()), (9, 1024));
            node = guard.follow(node.at(Node::next)).expect("resolves").expect("is a ring");
            cursor = cursor.follow(Node::next).expect("resolves").expect("is a ring");
            assert_eq!(cursor.place(), node);
        }
    }
    // A transaction sees its own changes far out, and commits them.
    let far = first.place::<Node>(OFFSETS[5]).expect("in the object");
    let changed = guard.transact(|tx| {
        tx.set(far.at(Node::value), 77)?;
        tx.link(far.at(Node::next), Some(far))?;
        let again = tx.follow(far.at(Node::next))?.ok_or(Error::Damaged)?;
        Ok::<_, Error>(tx.get(again.at(Node::value)))
    });
    assert_eq!(changed, Ok(77));
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let far = guard
        .open_any(ids[0], Access::Read)
        .expect("opens")
        .place::<Node>(OFFSETS[5])
        .expect("in the object");
    assert_eq!(guard.get(far.at(Node::value)), 77);
    assert_eq!(guard.follow(far.at(Node::next)).expect("resolves"), Some(far));
    assert!(far.object().place::<Node>(512 * SLOT_BYTES - 8).is_none());
}

#[test]
fn a_small_object_becomes_a_large_one() {
    let backend = MemoryBackend::new();
    let mut space = Space::attach(&backend).expect("attached");
    let (holder, grown) = space
        .transact(|tx| {
            let [holder, grown] = [tx.create::<Node>()?.base(), tx.create::<Node>()?.base()];
            let inside = tx.alloc::<Node>(grown.object())?;
            tx.set(inside.at(Node::value), 5)?;
            tx.link(grown.at(Node::next), Some(inside))?;
            tx.link(holder.at(Node::next), Some(inside))?;
            Ok::<_, Error>((space.id_of(holder.object()), space.id_of(grown.object())))
        })
        .expect("made");
    let other = Space::attach(&backend).expect("attached");
    assert!(other.enter().open::<Node>(grown, Access::Read).is_ok());
    assert_eq!(
        space.promote(grown),
        Err(Error::Busy),
        "another program has it mapped, and memory can't be in two places"
    );
    drop(other);
    assert_eq!(space.promote(grown), Ok(()));
    assert_eq!(space.promote(grown), Ok(()), "it is that already");
    for space in [space, Space::attach(&backend).expect("attached")] {
        let guard = space.enter();
        let root = guard.open::<Node>(grown, Access::Write).expect("opens").base();
        let inside = guard.follow(root.at(Node::next)).expect("resolves").expect("is not null");
        let holder = guard.open::<Node>(holder, Access::Read).expect("opens").base();
        assert_eq!(guard.follow(holder.at(Node::next)).expect("resolves"), Some(inside));
        assert_eq!(guard.get(inside.at(Node::value)), 5);
        guard.transact(|tx| tx.write_at(root.object(), 7 * SLOT_BYTES, b"far")).expect("there is room");
        let mut text = [0; 3];
        let far = root.object().span::<u8>(BASE_OFFSET + 7 * SLOT_BYTES, 3).expect("in the object");
        guard.read(far, 0, &mut text).expect("in the object");
        assert_eq!(&text, b"far");
    }
}

#[test]
fn a_dump_goes_as_far_as_a_large_object() {
    let backend = MemoryBackend::new();
    let mut space = Space::attach(&backend).expect("attached");
    let id = space.transact(|tx| tx.create::<Node>().map(|node| space.id_of(node.area()))).expect("made");
    space.promote(id).expect("nobody else has it mapped");
    let guard = space.enter();
    let root = guard.open::<Node>(id, Access::Write).expect("opens").base();
    let far = 7 * SLOT_BYTES;
    let linked = guard.transact(|tx| {
        tx.write_at(root.object(), far - BASE_OFFSET, &[0; 4096])?;
        let node = root.object().place::<Node>(far).ok_or(Error::OutOfRange)?;
        tx.link(root.at(Node::next), Some(node))
    });
    linked.expect("there is room");
    let shown = guard.dump(root.object(), 10).expect("readable").expect("described").to_string();
    assert!(shown.contains(&format!("next: -> {far:#x}")), "{shown}");
    assert!(shown.contains(&format!("\n{far:#x} test.far")), "{shown}");
}
