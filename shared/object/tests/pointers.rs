//! What bits of pointers mean: the short ways against the definition, for bits of all kinds; walks by cursor, and over copies of
//! objects that lie anywhere.

use proptest::prelude::*;
use twizzler_abi::address::SLOT_BYTES;
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::pointer::PointerBits;
use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::{Access, InvPtr, Meaning, Ptr, Space, Stored, Want, meaning_of};

#[derive(Stored)]
#[stored(name = "test.bits", version = 1)]
#[repr(C)]
struct Node {
    next: InvPtr<Node>,
    byte: InvPtr<u8>,
    large: InvPtr<[[u64; 512]; 512]>,
    value: u64,
}

/// Two objects, of which each leads to the other by its first entry, and their list: 0, 1, 2 ... by turns in the one and the other.
fn prepared(len: u64) -> (MemoryBackend, [ObjId; 2]) {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let ids = space.transact(|tx| {
        let bases = [tx.create::<Node>()?.base(), tx.create::<Node>()?.base()];
        let mut last = bases[0];
        tx.link(bases[1].at(Node::next), Some(bases[0]))?;
        for n in 1..len {
            // Two in each object, then two in the other.
            let node = tx.alloc::<Node>(bases[(n / 2 % 2) as usize].object())?;
            tx.set(node.at(Node::value), n)?;
            tx.link(last.at(Node::next), Some(node))?;
            last = node;
        }
        Ok::<_, Error>(bases.map(|base| space.id_of(base.object())))
    });
    let ids = ids.expect("made");
    drop(space);
    (backend, ids)
}

fn bits() -> impl Strategy<Value = u64> {
    let offset = prop_oneof![
        4 => 0u64..BASE_OFFSET + 64,
        4 => SLOT_BYTES - (3 << 20)..SLOT_BYTES + 64,
        2 => 0u64..1 << 40,
        1 => (1u64 << 39) - 64..(1 << 39) + 64,
    ];
    let index =
        prop_oneof![6 => Just(0u64), 6 => Just(1), 1 => 2u64..119, 2 => 118u64..130, 1 => 0u64..1 << 20];
    let spare = prop_oneof![9 => Just(0u64), 1 => 1u64..16];
    prop_oneof![
        20 => (offset, index, spare).prop_map(|(offset, index, spare)| offset | index << 44 | spare << 40),
        1 => any::<u64>(),
        1 => Just(0),
    ]
}

/// What following must give: an address, nothing or an error.
fn expected(bits: u64, want: Want, here: u64, other: u64) -> Result<Option<u64>, Error> {
    match meaning_of(PointerBits(bits), want, SLOT_BYTES)? {
        Meaning::Null => Ok(None),
        Meaning::Local(offset) => Ok(Some(here + offset)),
        Meaning::Foreign { index: 1, offset } if offset + want.len_bytes <= SLOT_BYTES => {
            Ok(Some(other + offset))
        }
        Meaning::Foreign { .. } => Err(Error::Damaged),
    }
}

/// So many cases, or as many as a campaign wants (`cargo run -- sanitize`).
fn cases(usually: u32) -> u32 {
    std::env::var("TWIZZLER_CASES").ok().and_then(|number| number.parse().ok()).unwrap_or(usually)
}

/// What is empty at the end of an object is not the beginning of the next one.
#[test]
fn nothing_lies_behind_the_end_of_an_object() {
    let (backend, ids) = prepared(2);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let area = guard.open::<Node>(ids[0], Access::Write).expect("there").area();
    assert!(area.span::<u8>(SLOT_BYTES, 0).is_none() && area.place::<u8>(SLOT_BYTES).is_none());
    let set = |len| guard.transact(|tx| tx.set_len_bytes(area, len));
    assert_eq!(set(SLOT_BYTES - BASE_OFFSET), Ok(()));
    assert_eq!(
        (set(SLOT_BYTES - BASE_OFFSET + 1), set(u64::MAX)),
        (Err(Error::OutOfRange), Err(Error::OutOfRange))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(64)))]
    #[test]
    fn short_ways_agree_with_the_definition(all in prop::collection::vec(bits(), 64)) {
        let (backend, ids) = prepared(4);
        let space = Space::attach(&backend).expect("attached");
        let guard = space.enter();
        let [here, other] = ids.map(|id| guard.open::<Node>(id, Access::Read).expect("opens").base());
        let starts = [here, other].map(|base| base.object().start());
        for bits in all {
            for place in [0, 8, 16] {
                for (i, byte) in bits.to_le_bytes().into_iter().enumerate() {
                    backend.damage(ids[0], BASE_OFFSET + place + i as u64, |_| byte);
                }
            }
            // Twice: the first time an entry is used is another way than the second.
            for _ in 0..2 {
                fn address<T>(found: Result<Option<Ptr<'_, T>>, Error>) -> Result<Option<u64>, Error> {
                    found.map(|place| place.map(Ptr::address))
                }
                let cursor = guard.cursor(here);
                let node = expected(bits, Want { len_bytes: 32, align: 8 }, starts[0], starts[1]);
                prop_assert_eq!(address(guard.follow(here.at(Node::next))), node, "{:#x}", bits);
                prop_assert_eq!(address(cursor.follow(Node::next).map(|at| at.map(|at| at.place()))), node, "{:#x}", bits);
                let byte = expected(bits, Want { len_bytes: 1, align: 1 }, starts[0], starts[1]);
                prop_assert_eq!(address(guard.follow(here.at(Node::byte))), byte, "{:#x}", bits);
                prop_assert_eq!(address(cursor.follow(Node::byte).map(|at| at.map(|at| at.place()))), byte, "{:#x}", bits);
                let large = expected(bits, Want { len_bytes: 2 << 20, align: 8 }, starts[0], starts[1]);
                prop_assert_eq!(address(guard.follow(here.at(Node::large))), large, "{:#x}", bits);
            }
        }
    }
}

#[test]
fn a_cursor_walks_as_the_guard_does() {
    const LEN: u64 = 1000;
    let (backend, ids) = prepared(LEN);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let mut place = guard.open::<Node>(ids[0], Access::Read).expect("opens").base();
    let mut cursor = guard.cursor(place);
    for n in 0..LEN {
        assert_eq!(cursor.place(), place);
        assert_eq!((cursor.get(Node::value), guard.get(place.at(Node::value))), (n, n));
        let next = guard.follow(place.at(Node::next)).expect("resolves");
        let walked = cursor.follow(Node::next).expect("resolves");
        assert_eq!(next.is_none(), walked.is_none());
        let (Some(next), Some(walked)) = (next, walked) else {
            assert_eq!(n, LEN - 1);
            return;
        };
        (place, cursor) = (next, walked);
    }
    panic!("the list does not end");
}

/// The explicit base: the same list is read from copies, by slices alone.
#[test]
fn copies_are_walked_without_addresses() {
    const LEN: u64 = 100;
    let (backend, ids) = prepared(LEN);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let copies = ids.map(|id| {
        let area = guard.open_any(id, Access::Read).expect("opens");
        let pages = backend.pages_of(id).into_iter().max().expect("has pages") + 1;
        let bytes = area.span::<u8>(BASE_OFFSET, pages * 4096 - BASE_OFFSET).expect("in the object");
        guard.to_vec(bytes)
    });
    let word = |object: usize, offset: u64| {
        let at = (offset - BASE_OFFSET) as usize;
        u64::from_le_bytes(copies[object][at..at + 8].try_into().expect("a word"))
    };
    let (mut object, mut offset) = (0, BASE_OFFSET);
    for n in 0.. {
        assert_eq!(word(object, offset + Node::value.offset()), n);
        let bits = PointerBits(word(object, offset + Node::next.offset()));
        match meaning_of(bits, Want { len_bytes: 32, align: 8 }, SLOT_BYTES).expect("well-formed") {
            Meaning::Null => return assert_eq!(n, LEN - 1),
            Meaning::Local(to) => offset = to,
            // Each has one entry, for the other.
            Meaning::Foreign { index, offset: to } => {
                assert_eq!(index, 1);
                (object, offset) = (1 - object, to);
            }
        }
    }
}
