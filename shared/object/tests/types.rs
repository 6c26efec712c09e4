//! Objects are described in the store, for those who don't have the program.

use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::types::{Difference, TypeTable, type_object};
use twizzler_object::{Access, Flag, InvBytes, InvPtr, OpenError, Space, Stored, TypeName};

#[derive(Stored)]
#[stored(name = "test.diary", version = 1)]
#[repr(C)]
struct Diary {
    newest: InvPtr<Page>,
    len: u64,
}

#[derive(Stored)]
#[stored(name = "test.page", version = 1)]
#[repr(C)]
struct Page {
    before: InvPtr<Page>,
    text: InvBytes,
    private: Flag,
    reserved: [u8; 7],
}

/// A diary of one page, which says this.
fn write(space: &Space<&MemoryBackend>, text: &str) -> Result<ObjId, Error> {
    space.transact(|tx| {
        let diary = tx.create::<Diary>()?;
        let page = tx.alloc::<Page>(diary.area())?;
        let bytes = tx.alloc_bytes(diary.area(), text.as_bytes())?;
        tx.link_span(page.at(Page::text), bytes)?;
        tx.set(page.at(Page::private), Flag::SET)?;
        tx.link(diary.base().at(Diary::newest), Some(page))?;
        tx.set(diary.base().at(Diary::len), 1)?;
        Ok(tx.space().id_of(diary.area()))
    })
}

#[test]
fn an_object_can_be_shown_without_its_program() {
    let backend = MemoryBackend::new();
    let id = write(&Space::attach(&backend).expect("attaches"), "It rained.").expect("written");

    let space = Space::attach(&backend).expect("attaches");
    let guard = space.enter();
    let area = guard.open_any(id, Access::Read).expect("there");
    let shown = guard.dump(area, 10).expect("readable").expect("described");
    let text = shown.to_string();
    assert_eq!(shown.places.len(), 3, "{text}");
    for part in
        ["0x3000 test.diary {", "len: 1", "test.page {", "before: null", "private: true", "\"It rained.\""]
    {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn a_type_is_described_once() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attaches");
    write(&space, "a").expect("written");
    let first = space.stat(type_object(Diary::FINGERPRINT)).expect("made");
    write(&space, "b").expect("written");
    write(&Space::attach(&backend).expect("attaches"), "c").expect("written");
    assert_eq!(space.stat(first.id), Ok(first));
    assert_eq!(space.enter().describe(Diary::FINGERPRINT), Ok(Some(TypeTable::of::<Diary>())));
    assert_eq!(space.enter().describe(Page::FINGERPRINT), Ok(None), "no object of its own");
}

#[test]
fn an_undone_transaction_may_describe_a_type_later() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attaches");
    let undone: Result<(), Error> = space.transact(|tx| {
        tx.create::<Diary>()?;
        Err(Error::Busy)
    });
    assert_eq!(undone, Err(Error::Busy));
    assert_eq!(space.enter().describe(Diary::FINGERPRINT), Ok(None));
    write(&space, "a").expect("written");
    assert!(space.enter().describe(Diary::FINGERPRINT).expect("sound").is_some());
}

#[test]
fn a_forged_description_is_damage() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attaches");
    let id = write(&space, "a").expect("written");
    let forged = TypeTable::of::<Page>().encode();
    space
        .transact(|tx| {
            let area = tx.open_any(type_object(Diary::FINGERPRINT), Access::Write)?;
            tx.write_at(area, 0, &forged)?;
            tx.set_len_bytes(area, forged.len() as u64)
        })
        .expect("anybody may write it");
    let guard = space.enter();
    let area = guard.open_any(id, Access::Read).expect("there");
    assert_eq!(guard.dump(area, 10), Err(Error::Damaged));
}

#[derive(Stored)]
#[stored(name = "test.diary", version = 2)]
#[repr(C)]
struct Newer {
    newest: InvPtr<Page>,
}

#[derive(Stored)]
#[stored(name = "test.diary", version = 1)]
#[repr(C)]
struct Other {
    newest: InvPtr<Page>,
    length: u64,
}

#[derive(Stored)]
#[stored(name = "test.diary", version = 1)]
#[repr(C)]
struct Longer {
    newest: InvPtr<Page>,
    len: u64,
    more: u64,
}

#[test]
fn opening_as_another_type_says_what_differs() {
    fn differs<T: Stored>(space: &Space<&MemoryBackend>, id: ObjId) -> Difference {
        match space.enter().open::<T>(id, Access::Read) {
            Err(OpenError::WrongType { difference, .. }) => difference,
            other => panic!("{other:?}"),
        }
    }
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attaches");
    let id = write(&space, "a").expect("written");
    assert_eq!(differs::<Newer>(&space, id), Difference::Version { wanted: 2, found: 1 });
    assert_eq!(differs::<Other>(&space, id), Difference::Field(TypeName::of("length")));
    assert_eq!(differs::<Longer>(&space, id), Difference::Field(TypeName::of("more")));
    assert_eq!(differs::<Page>(&space, id), Difference::Name);
    let file = space.transact(|tx| Ok::<_, Error>(tx.space().id_of(tx.create_any()?))).expect("made");
    assert_eq!(differs::<Page>(&space, file), Difference::Unknown);
    let error = space.enter().open::<Newer>(id, Access::Read).expect_err("another version");
    assert_eq!(
        error.to_string(),
        "wrong type: it holds test.diary, not test.diary of this version: it is version 1, not 2"
    );
    // As where collections were kept in another way when it was made: nothing is believed of its description.
    backend.damage(type_object(Diary::FINGERPRINT), BASE_OFFSET + 40, |byte| byte ^ 1);
    let error = space.enter().open::<Other>(id, Access::Read).expect_err("another type").to_string();
    assert!(error.contains("version of Twizzler"), "{error}");
}
