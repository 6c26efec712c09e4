//! Pointers to names: resolved when they are first followed.

use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_names::{NameError, Names, resolve};
use twizzler_object::{Access, InvPtr, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.late-root", version = 1)]
#[repr(C)]
struct Root {
    library: InvPtr<Library>,
    again: InvPtr<Library>,
    wrong: InvPtr<Root>,
}

#[derive(Stored)]
#[stored(name = "test.library", version = 1)]
#[repr(C)]
struct Library {
    edition: u64,
}

fn program(backend: &MemoryBackend) -> Space<&MemoryBackend> {
    let space = Space::attach(backend).expect("attached");
    space.resolve_names_by(resolve);
    space
}

/// An object with pointers to a name that nothing has yet.
fn prepared(backend: &MemoryBackend) -> ObjId {
    let space = program(backend);
    let made = space.transact(|tx| {
        let root = tx.create::<Root>()?.base();
        tx.link_to_name(root.at(Root::library), "libraries/newest")?;
        tx.link_to_name(root.at(Root::again), "libraries/newest")?;
        tx.link_to_name(root.at(Root::wrong), "libraries/newest")?;
        Ok::<_, Error>(space.id_of(root.object()))
    });
    made.expect("made")
}

fn publish(backend: &MemoryBackend, edition: u64, name: &str) {
    let space = program(backend);
    let guard = space.enter();
    let names = Names::open(&guard).expect("open");
    let published = guard.transact(|tx| {
        let library = names.create::<Library>(tx, name)?;
        Ok::<_, NameError>(tx.set(library.base().at(Library::edition), edition)?)
    });
    published.expect("published");
}

fn edition(space: &Space<&MemoryBackend>, id: ObjId) -> Result<u64, Error> {
    let guard = space.enter();
    let root = guard.open::<Root>(id, Access::Read)?.base();
    let library = guard.follow(root.at(Root::library))?.expect("is no null pointer");
    let again = guard.follow(root.at(Root::again))?.expect("is no null pointer");
    assert_eq!(library, again);
    Ok(guard.get(library.at(Library::edition)))
}

#[test]
fn a_name_is_resolved_when_it_is_first_followed() {
    let backend = MemoryBackend::new();
    let id = prepared(&backend);
    let early = program(&backend);
    assert_eq!(edition(&early, id), Err(Error::NoSuchName), "there are no names at all");
    let names = program(&backend);
    let guard = names.enter();
    let made = guard.transact(|tx| Names::open(&guard).expect("open").make_directory(tx, "libraries"));
    made.expect("made");
    assert_eq!(edition(&early, id), Err(Error::NoSuchName));
    publish(&backend, 1, "libraries/newest");
    assert_eq!(edition(&early, id), Ok(1), "what failed is tried again");
    // The name passes on to another object.
    let names = Names::open(&guard).expect("open");
    guard.transact(|tx| names.rename(tx, "libraries/newest", "libraries/first")).expect("renamed");
    publish(&backend, 2, "libraries/newest");
    assert_eq!(edition(&early, id), Ok(1), "who has resolved it stays with that");
    assert_eq!(edition(&program(&backend), id), Ok(2), "another program resolves it anew");
    early.unmap(names.object("libraries/first").expect("there"));
    assert_eq!(edition(&early, id), Ok(2), "and so does who has unmapped it");
}

#[test]
fn what_is_wrong_is_told() {
    let backend = MemoryBackend::new();
    let id = prepared(&backend);
    let space = program(&backend);
    let guard = space.enter();
    let names = Names::open(&guard).expect("open");
    guard.transact(|tx| names.make_directory(tx, "libraries")).expect("made");
    publish(&backend, 1, "libraries/newest");
    let root = guard.open::<Root>(id, Access::Read).expect("opens").base();
    assert_eq!(guard.follow(root.at(Root::wrong)), Err(Error::WrongType));
    let nobody = Space::attach(&backend).expect("attached");
    assert_eq!(edition(&nobody, id), Err(Error::NotSupported), "nobody knows names");
    guard.transact(|tx| names.rename(tx, "libraries/newest", "libraries/old")).expect("renamed");
    guard.transact(|tx| names.make_directory(tx, "libraries/newest")).expect("made");
    assert_eq!(edition(&program(&backend), id), Err(Error::NoSuchName), "a directory is no object");
    let long = "x".repeat(2000);
    let refused = guard.transact(|tx| tx.link_to_name(root.at(Root::library), &long));
    assert_eq!(refused, Err(Error::TooLong));
}

#[test]
fn a_transaction_follows_what_it_has_linked_and_forgets_what_it_undoes() {
    let backend = MemoryBackend::new();
    let space = program(&backend);
    let guard = space.enter();
    let names = Names::open(&guard).expect("open");
    guard.transact(|tx| names.create::<Library>(tx, "one").map(drop)).expect("made");
    guard.transact(|tx| names.create::<Library>(tx, "two").map(drop)).expect("made");
    let [one, two] = ["one", "two"].map(|name| names.object(name).expect("there"));
    let root = guard.transact(|tx| tx.create::<Root>()).expect("made").base();
    let undone = guard.transact(|tx| {
        tx.link_to_name(root.at(Root::library), "one")?;
        use twizzler_object::Reader;
        let library = tx.follow(root.at(Root::library))?.expect("is no null pointer");
        assert_eq!(space.id_of(library.object()), one);
        Err::<(), _>(Error::Interrupted)
    });
    assert_eq!(undone, Err(Error::Interrupted));
    guard.transact(|tx| tx.link_to_name(root.at(Root::library), "two")).expect("linked");
    let library = guard.follow(root.at(Root::library)).expect("resolves").expect("is no null pointer");
    assert_eq!(space.id_of(library.object()), two, "the entry that was undone is not remembered");
}
