//! Type lists: which versions of types lie in an object, and programs that have others.

use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::types::{HeldType, type_key};
use twizzler_object::{Access, Area, Choice, InvPtr, OpenError, Space, Stored, StoredEnum, Tx};

/// A root, whose source is the same in both programs; their `Node`s are not.
macro_rules! root {
    () => {
        #[derive(Stored)]
        #[stored(name = "test.root", version = 1)]
        #[repr(C)]
        pub(crate) struct Root {
            pub(crate) first: InvPtr<Node>,
            pub(crate) other: InvPtr<Node>,
            pub(crate) root: InvPtr<Root>,
            pub(crate) number: InvPtr<u64>,
        }
    };
}

/// What programs built at different times have: the same names.
mod before {
    use super::*;

    root!();

    #[derive(Stored)]
    #[stored(name = "test.node", version = 1)]
    #[repr(C)]
    pub(crate) struct Node {
        pub(crate) next: InvPtr<Node>,
        pub(crate) value: u64,
        pub(crate) mood: Choice<Mood>,
        pub(crate) reserved: [u8; 7],
    }

    #[derive(StoredEnum, Clone, Copy)]
    #[stored(name = "test.mood", version = 1)]
    #[repr(u8)]
    pub(crate) enum Mood {
        Calm = 0,
    }
}

mod after {
    use super::*;

    root!();

    #[derive(Stored)]
    #[stored(name = "test.root", version = 2)]
    #[repr(C)]
    pub(crate) struct NewRoot {
        pub(crate) first: InvPtr<Node>,
        pub(crate) len: u64,
    }

    #[derive(Stored)]
    #[stored(name = "test.node", version = 2)]
    #[repr(C)]
    pub(crate) struct Node {
        pub(crate) value: u64,
        pub(crate) next: InvPtr<Node>,
    }
}

/// An object with a node.
fn write<'g>(tx: &mut Tx<'g, &MemoryBackend>) -> Result<Area<'g>, Error> {
    let root = tx.create::<before::Root>()?.base();
    let node = tx.alloc::<before::Node>(root.object())?;
    tx.set(node.at(before::Node::value), 7)?;
    tx.link(root.at(before::Root::first), Some(node))?;
    Ok(root.object())
}

fn object(backend: &MemoryBackend) -> ObjId {
    let space = Space::attach(backend).expect("attaches");
    space.transact(|tx| write(tx).map(|area| tx.space().id_of(area))).expect("written")
}

fn table(backend: &MemoryBackend, id: ObjId) -> Vec<HeldType> {
    let space = Space::attach(backend).expect("attaches");
    let guard = space.enter();
    guard.types_held(guard.open_any(id, Access::Read).expect("there")).expect("readable")
}

fn held<T: Stored>() -> HeldType {
    HeldType { key: type_key(T::NAME, T::ARGUMENTS), fingerprint: T::FINGERPRINT }
}

#[test]
fn types_are_entered_with_what_they_consist_of_and_once() {
    let backend = MemoryBackend::new();
    let id = object(&backend);
    let expected = {
        let mut expected = vec![held::<before::Node>(), held::<Choice<before::Mood>>()];
        expected.sort_by_key(|held| held.fingerprint);
        expected
    };
    assert_eq!(table(&backend, id), expected);
    let space = Space::attach(&backend).expect("attaches");
    let more = |tx: &mut Tx<'_, _>| {
        let area = tx.open_any(id, Access::Write)?;
        tx.alloc::<before::Node>(area)?;
        tx.alloc::<u64>(area)?;
        tx.alloc_bytes(area, b"bytes").map(drop)
    };
    space.transact(more).expect("allocated");
    space.transact(more).expect("allocated");
    assert_eq!(table(&backend, id), expected);
}

#[test]
fn an_undone_transaction_enters_nothing() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attaches");
    let id = space
        .transact(|tx| Ok::<_, Error>(tx.space().id_of(tx.create::<before::Root>()?.area())))
        .expect("made");
    let fails: Result<(), Error> = space.transact(|tx| {
        let area = tx.open_any(id, Access::Write)?;
        tx.alloc::<before::Node>(area)?;
        tx.alloc::<before::Node>(area)?;
        Err(Error::Exists)
    });
    assert_eq!(fails, Err(Error::Exists));
    assert_eq!(table(&backend, id), []);
    space
        .transact(|tx| tx.alloc::<before::Node>(tx.open_any(id, Access::Write)?).map(drop))
        .expect("allocated");
    assert_eq!(table(&backend, id).len(), 2, "what an undone one noted is forgotten");
}

#[test]
fn a_program_with_other_nodes_is_refused_at_the_root() {
    let backend = MemoryBackend::new();
    let id = object(&backend);
    assert_eq!(before::Root::FINGERPRINT, after::Root::FINGERPRINT, "names alone can't tell");
    let space = Space::attach(&backend).expect("attaches");
    let refused = space.enter().open::<after::Root>(id, Access::Read).expect_err("other nodes");
    assert!(matches!(refused, OpenError::HoldsOther { .. }));
    assert_eq!(
        refused.to_string(),
        "wrong type: what it holds of test.node is of another version than the program's: it is version 1, not 2; see \
         `Space::migrate`"
    );
    assert_eq!(Error::from(refused), Error::WrongType);
}

#[test]
fn a_pointer_into_another_object_is_refused_where_its_nodes_are_others() {
    let backend = MemoryBackend::new();
    let target = object(&backend);
    // A holder without nodes of its own, so that it opens.
    let holder = {
        let space = Space::attach(&backend).expect("attaches");
        let linked = space.transact(|tx| {
            let to = tx.open::<before::Root>(target, Access::Write).map_err(Error::from)?.base();
            let node = tx.guard().follow(to.at(before::Root::first))?.ok_or(Error::Damaged)?;
            let root = tx.create::<before::Root>()?.base();
            tx.link(root.at(before::Root::first), Some(node))?;
            tx.link(root.at(before::Root::root), Some(to))?;
            Ok::<_, Error>(tx.space().id_of(root.object()))
        });
        linked.expect("linked")
    };
    let space = Space::attach(&backend).expect("attaches");
    let guard = space.enter();
    let root = guard.open::<before::Root>(holder, Access::Read).expect("the same").base();
    assert!(guard.follow(root.at(before::Root::first)).is_ok_and(|node| node.is_some()));

    let space = Space::attach(&backend).expect("attaches");
    let guard = space.enter();
    let root = guard.open::<after::Root>(holder, Access::Read).expect("it has no nodes").base();
    let first = root.at(after::Root::first);
    assert_eq!(guard.follow(first), Err(Error::WrongType));
    let why = guard.explain(first).expect("it fails");
    assert!(why.to_string().contains("test.node") && why.to_string().contains("version 1, not 2"), "{why}");
    assert_eq!(guard.follow(root.at(after::Root::root)), Err(Error::WrongType), "it leads to nodes as well");
}

/// Pointers share an entry of the FOT, and what is found once is found by all: so the first one is compared for all.
#[test]
fn what_one_pointer_found_is_not_misread_by_another() {
    let backend = MemoryBackend::new();
    let target = object(&backend);
    let holder = {
        let space = Space::attach(&backend).expect("attaches");
        let linked = space.transact(|tx| {
            let to = tx.open::<before::Root>(target, Access::Write).map_err(Error::from)?.base();
            let node = tx.guard().follow(to.at(before::Root::first))?.ok_or(Error::Damaged)?;
            let root = tx.create::<before::Root>()?.base();
            tx.link(root.at(before::Root::first), Some(node))?;
            tx.link(root.at(before::Root::number), Some(node.at(before::Node::value)))?;
            Ok::<_, Error>(tx.space().id_of(root.object()))
        });
        linked.expect("linked")
    };
    let space = Space::attach(&backend).expect("attaches");
    let guard = space.enter();
    let root = guard.open::<after::Root>(holder, Access::Read).expect("it has no nodes").base();
    assert_eq!(guard.follow(root.at(after::Root::number)), Err(Error::WrongType));
    assert_eq!(guard.follow(root.at(after::Root::first)), Err(Error::WrongType));
}

#[test]
fn a_base_that_was_linked_to_is_compared_as_well() {
    let backend = MemoryBackend::new();
    let holder = {
        let space = Space::attach(&backend).expect("attaches");
        let linked = space.transact(|tx| {
            let node = tx.create::<before::Node>()?.base();
            let root = tx.create::<before::Root>()?.base();
            tx.link(root.at(before::Root::first), Some(node))?;
            Ok::<_, Error>(tx.space().id_of(root.object()))
        });
        linked.expect("linked")
    };
    let space = Space::attach(&backend).expect("attaches");
    let guard = space.enter();
    let root = guard.open::<after::Root>(holder, Access::Read).expect("it has no nodes").base();
    assert_eq!(guard.follow(root.at(after::Root::first)), Err(Error::WrongType));
}

#[test]
fn an_object_holds_a_type_in_one_version() {
    let backend = MemoryBackend::new();
    let id = object(&backend);
    let space = Space::attach(&backend).expect("attaches");
    let mixed = space.transact(|tx| tx.alloc::<after::Node>(tx.open_any(id, Access::Write)?).map(drop));
    assert_eq!(mixed, Err(Error::WrongType));
}

#[test]
fn migration_brings_the_table_up_to_date() {
    let backend = MemoryBackend::new();
    let id = object(&backend);
    let mut space = Space::attach(&backend).expect("attaches");
    let migrated = space.migrate::<before::Root, after::NewRoot, Error>(id, |tx, old, new| {
        let node = twizzler_object::Reader::follow(tx, old.at(before::Root::first))?.ok_or(Error::Damaged)?;
        let value = twizzler_object::Reader::get(tx, node.at(before::Node::value));
        let fresh = tx.alloc::<after::Node>(old.object())?;
        tx.set(fresh.at(after::Node::value), value)?;
        tx.free(node)?;
        tx.link(new.at(after::NewRoot::first), Some(fresh))
    });
    assert!(migrated.is_ok(), "{migrated:?}");
    assert!(table(&backend, id).contains(&held::<after::Node>()));
    assert!(!table(&backend, id).contains(&held::<before::Node>()));
    let space = Space::attach(&backend).expect("attaches");
    let guard = space.enter();
    let root = guard.open::<after::NewRoot>(id, Access::Read).expect("migrated").base();
    let node = guard.follow(root.at(after::NewRoot::first)).expect("resolves").expect("there");
    assert_eq!(guard.get(node.at(after::Node::value)), 7);
}

/// More types than the heap's root has room for.
#[test]
fn tables_grow() {
    #[derive(Stored)]
    #[stored(name = "test.box", version = 1)]
    #[repr(C)]
    struct Of<T> {
        it: T,
    }
    type Five<T> = Of<Of<Of<Of<Of<T>>>>>;
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attaches");
    let id = space.transact(|tx| write(tx).map(|area| tx.space().id_of(area))).expect("written");
    for _ in 0..2 {
        space
            .transact(|tx| {
                let area = tx.open_any(id, Access::Write)?;
                tx.alloc::<Five<u64>>(area)?;
                tx.alloc::<Five<i16>>(area).map(drop)
            })
            .expect("allocated");
    }
    let found = table(&backend, id);
    assert_eq!(found.len(), 2 + 5 + 5);
    assert!(found.contains(&held::<Of<u64>>()) && found.contains(&held::<Five<i16>>()));
    let guard = space.enter();
    let area = guard.open_any(id, Access::Read).expect("there");
    assert!(space.heap_usage(area).is_ok(), "check finds nothing");
}

#[test]
fn allocation_costs_no_fence_more_for_the_table() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attaches");
    let id = space
        .transact(|tx| Ok::<_, Error>(tx.space().id_of(tx.create::<before::Root>()?.area())))
        .expect("made");
    // The lane, the heap and a slab exist; the type is new.
    space.transact(|tx| tx.alloc::<[u64; 4]>(tx.open_any(id, Access::Write)?).map(drop)).expect("allocated");
    let costs = || {
        let before = (backend.flushed_lines(), backend.fences());
        space
            .transact(|tx| tx.alloc::<before::Node>(tx.open_any(id, Access::Write)?).map(drop))
            .expect("allocated");
        (backend.flushed_lines() - before.0, backend.fences() - before.1)
    };
    let (first, again) = (costs(), costs());
    assert_eq!((first.1, again.1), (2, 2), "fences");
    assert!(first.0 <= again.0 + 3, "lines: {first:?}, then {again:?}");
}
