//! Type tables there and back, dumps of honest objects, and whatever else lies in a store.

use alloc::string::ToString;
use alloc::vec::Vec;

use proptest::prelude::*;
use twizzler_abi::object::{BASE_OFFSET, FOT_OFFSET};
use twizzler_abi::pointer::{FotEntry, PointerBits};
use twizzler_abi::{Error, ObjId, Rights};

use super::*;
use crate::collections::{HashMapRoot, MapRoot, OrderedMapRoot, TextRoot, VectorRoot};
use crate::{Choice, Fingerprint, Flag, InvBytes, InvPtr, InvSpan, Stored, StoredEnum};

#[derive(Stored)]
#[stored(name = "test.diary", version = 3)]
#[repr(C)]
struct Diary {
    newest: InvPtr<Page<u32>>,
    other: InvPtr<Diary>,
    marks: InvSpan<InvPtr<Page<u32>>>,
    owner: ObjId,
    moods: [Choice<Mood>; 4],
    locked: Flag,
    reserved: [u8; 3],
    debt: i32,
    weight: f32,
}

#[derive(Stored)]
#[stored(name = "test.page", version = 1)]
#[repr(C)]
struct Page<T> {
    before: InvPtr<Page<T>>,
    text: InvBytes,
    number: T,
    again: T,
}

#[derive(StoredEnum, Clone, Copy)]
#[stored(name = "test.mood", version = 1)]
#[repr(u8)]
enum Mood {
    Calm = 0,
    Glad = 7,
}

/// An object of which the first pages were written.
struct Memory(Vec<u8>);

impl Memory {
    fn new() -> Self {
        Self(alloc::vec![0; 0x6000])
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) {
        self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn point(&mut self, offset: u64, index: u64, to: u64) {
        self.put(offset, &PointerBits::new(index, to).expect("fits").0.to_le_bytes());
    }
}

impl Source for Memory {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let offset = usize::try_from(offset).map_err(|_| Error::OutOfRange)?;
        for (index, byte) in buffer.iter_mut().enumerate() {
            *byte = self.0.get(offset + index).copied().unwrap_or(0);
        }
        Ok(())
    }
}

fn diary() -> Memory {
    let mut memory = Memory::new();
    memory.point(BASE_OFFSET, 0, 0x4000);
    memory.point(BASE_OFFSET + 8, 1, 0x3000);
    let target = FotEntry::to_id(ObjId::new(77), Rights::READ, Diary::FINGERPRINT);
    memory.put(FOT_OFFSET + 32, crate::memory::bytes_of(&target));
    memory.point(BASE_OFFSET + 16, 0, 0x5000);
    memory.put(BASE_OFFSET + 24, &2u64.to_le_bytes());
    memory.put(BASE_OFFSET + 48, &[7, 0, 9, 7, 1, 0, 0, 0]);
    memory.put(BASE_OFFSET + 56, &(-5i32).to_le_bytes());
    memory.put(BASE_OFFSET + 60, &1.5f32.to_le_bytes());
    memory.point(0x4000, 0, 0x4000);
    memory.point(0x4008, 0, 0x4100);
    memory.put(0x4010, &5u64.to_le_bytes());
    memory.put(0x4018, &[1, 0, 0, 0, 2, 0, 0, 0]);
    memory.put(0x4100, b"It's\n");
    memory.point(0x5008, 0, 0x4000);
    memory
}

#[test]
fn tables_survive_encoding() {
    let table = TypeTable::of::<Diary>();
    let names: Vec<&str> = table.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(TypeTable::decode(Diary::FINGERPRINT, &table.encode()), Ok(table));
}

#[test]
fn all_sorts_of_roots_prove_themselves() {
    fn check<T: Stored>() {
        let table = TypeTable::of::<T>();
        assert_eq!(TypeTable::decode(T::FINGERPRINT, &table.encode()), Ok(table));
    }
    check::<u64>();
    check::<[Flag; 3]>();
    check::<InvPtr<InvPtr<[u8; 5]>>>();
    check::<InvSpan<InvSpan<Flag>>>();
    check::<Page<Page<u64>>>();
    check::<InvPtr<Page<[Choice<Mood>; 4]>>>();
    check::<FotEntry>();
}

#[test]
fn a_table_is_no_other_types() {
    let bytes = TypeTable::of::<Diary>().encode();
    assert_eq!(TypeTable::decode(Page::<u32>::FINGERPRINT, &bytes), Err(Error::Damaged));
    assert_ne!(type_object(1), type_object(2));
}

#[test]
fn a_dump_shows_what_pointers_lead_to() {
    let shown = dump(&diary(), &TypeTable::of::<Diary>(), 10).expect("readable");
    assert_eq!(
        shown.to_string(),
        r#"0x3000 test.diary {
    newest: -> 0x4000
    other: -> 0000000000000000000000000000004d:0x3000
    marks: 2 -> 0x5000
    owner: 00000000000000000000000000000000
    moods: [Glad (7), Calm (0), damaged: 9, Glad (7)]
    locked: true
    reserved: ""
    debt: -5
    weight: 1.5
}
0x4000 test.page {
    before: -> 0x4000
    text: 5 -> 0x4100
    number: 1
    again: 2
}
0x5000 [InvPtr<test.page>; 2] [null, -> 0x4000]
0x4100 [u8; 5] "It\'s\n"
"#
    );
}

#[test]
fn a_dump_is_as_long_as_was_asked_for() {
    let shown = dump(&diary(), &TypeTable::of::<Diary>(), 2).expect("readable");
    assert!(shown.truncated && shown.places.len() == 2);
}

#[test]
fn pointers_out_of_the_object_are_shown_as_damaged() {
    let mut memory = diary();
    memory.put(BASE_OFFSET, &0x3fff_fff8u64.to_le_bytes());
    memory.put(BASE_OFFSET + 8, &(1u64 << 41).to_le_bytes());
    memory.put(BASE_OFFSET + 24, &u64::MAX.to_le_bytes());
    let shown = dump(&memory, &TypeTable::of::<Diary>(), 10).expect("readable");
    let Shown::Record(fields) = &shown.places[0].value else { panic!("a record") };
    assert_eq!(fields[0].1, Shown::Pointer(Target::Damaged(0x3fff_fff8)));
    assert_eq!(fields[1].1, Shown::Pointer(Target::Damaged(1 << 41)));
    assert_eq!(fields[2].1, Shown::Span(Target::Damaged(0x5000), u64::MAX));
    assert_eq!(shown.places.len(), 1);
}

#[derive(Stored)]
#[stored(name = "test.collections", version = 1)]
#[repr(C)]
struct Collections {
    numbers: VectorRoot<u64>,
    text: TextRoot,
    ages: HashMapRoot<u32, [u16; 3]>,
    words: HashMapRoot<[u8], [u8]>,
    squares: OrderedMapRoot<u64, u128>,
    files: MapRoot,
}

#[test]
fn descriptions_of_collections_are_decoded_and_proven() {
    let table = TypeTable::of::<Collections>();
    assert_eq!(TypeTable::decode(Collections::FINGERPRINT, &table.encode()), Ok(table.clone()));
    for strange in 0..table.types.len() {
        let mut table = table.clone();
        let found = table.types.values_mut().nth(strange).expect("there");
        let Form::Collection(collection) = &mut found.form else { continue };
        collection.parts.push(Kind::Flag);
        assert_eq!(TypeTable::decode(Collections::FINGERPRINT, &table.encode()), Err(Error::Damaged));
    }
}

/// A table whose record holds itself: no fingerprint allows it, so it can't be decoded; a dump ends all the same.
#[test]
fn types_within_types_come_to_an_end() {
    let fields = alloc::vec![FieldDescription { name: "a".into(), offset: 0, kind: Kind::Named(1) }];
    let record = TypeDescription {
        name: "loop".into(),
        version: 1,
        fingerprint: 1,
        arguments: 0,
        size: 8,
        form: Form::Record(fields),
    };
    let table = super::table::TypeTable { root: Kind::Named(1), types: [(1, record)].into() };
    assert_eq!(TypeTable::decode(1, &table.encode()), Err(Error::Damaged));
    assert!(dump(&Memory::new(), &table, 10).is_ok());
}

#[test]
fn names_that_a_terminal_would_obey_are_refused() {
    let record = |name: &str| TypeDescription {
        name: name.into(),
        version: 1,
        fingerprint: 0,
        arguments: 0,
        size: 1,
        form: Form::Record(alloc::vec![FieldDescription { name: "a".into(), offset: 0, kind: Kind::Flag }]),
    };
    for (name, ok) in [("test.plain", true), ("test.\u{1b}[2J", false), ("test.\n", false)] {
        let hash = Fingerprint::new(name, 1).word(1).text("a").word(0).word(Flag::FINGERPRINT).finish();
        let found = TypeDescription { fingerprint: hash, ..record(name) };
        let table = super::table::TypeTable { root: Kind::Named(hash), types: [(hash, found)].into() };
        let decoded = TypeTable::decode(hash, &table.encode());
        assert_eq!(decoded, if ok { Ok(table) } else { Err(Error::Damaged) }, "{name:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_a_table(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut framed = b"TWZTYPES\x01\0\0\0".to_vec();
        framed.extend(&bytes);
        prop_assert!(TypeTable::decode(1, &bytes).is_err());
        prop_assert!(TypeTable::decode(1, &framed).is_err());
    }

    /// Only what proves nothing may change: that of pointers' targets, whose names alone are hashed.
    #[test]
    fn a_changed_byte_is_refused_or_harmless(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = TypeTable::of::<Diary>().encode();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(table) = TypeTable::decode(Diary::FINGERPRINT, &bytes) {
            let _ = dump(&diary(), &table, 10);
        }
    }

    #[test]
    fn a_dump_of_damaged_collections_ends(
        words in prop::collection::vec((0u64..0x400 / 8, any::<u64>(), 0u64..0x4000), 0..200),
        layout in prop::array::uniform4(prop_oneof![0u64..64, any::<u64>()]),
    ) {
        let mut memory = Memory::new();
        for (at, word, near) in words {
            let word = if word % 4 > 0 { (near + 0x2fff) & !7 } else { word };
            memory.put(0x3000 + at * 8, &word.to_le_bytes());
        }
        let mut table = TypeTable::of::<Collections>();
        for strange in [false, true] {
            for found in table.types.values_mut() {
                if let (true, Form::Collection(collection)) = (strange, &mut found.form) {
                    collection.layout.iter_mut().zip(layout).for_each(|(word, to)| *word = to);
                }
            }
            let shown = dump(&memory, &table, 50).expect("the source never fails");
            let _ = shown.to_string();
        }
    }

    #[test]
    fn a_dump_of_anything_ends(words in prop::collection::vec((0u64..0x3000 / 8, any::<u64>(), 0u64..0x4000), 0..200)) {
        let mut memory = diary();
        for (at, word, near) in words {
            let word = if word % 2 == 0 { near + 0x2fff } else { word };
            memory.put(0x3000 + at * 8, &word.to_le_bytes());
        }
        let shown = dump(&memory, &TypeTable::of::<Diary>(), 50).expect("the source never fails");
        prop_assert!(shown.places.len() <= 50);
        let _ = shown.to_string();
    }
}
