//! Mappings that outlive what they were made for: objects that another process deletes, or is killed while it does, and objects that are unmapped and
//! opened again within a guard; and maps whose keys are pointers, mapped elsewhere each time.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use twizzler::collections::{HashMapRoot, OrderedMapRoot, PointerHashMap, PointerOrderedMap};
use twizzler::{
    Access, Durability, Error, InvPtr, ObjId, Observer, Options, Ptr, Reader, Step, Store, Stored,
};

fn options(durability: Durability) -> Options {
    Options::new().durability(durability).log_bytes(1 << 20)
}

/// A new store; None where temporary files lie in memory, which no power cut survives.
fn store(durability: Durability) -> Option<(tempfile::TempDir, PathBuf, Store)> {
    let keep = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("room");
    let path = keep.path().join("store");
    match options(durability).create(&path) {
        Err(twizzler::StoreError::Unsuitable { .. }) => None,
        store => Some((keep, path, store.expect("new"))),
    }
}

fn make(store: &Store, value: u64) -> ObjId {
    let made = store.transact(|tx| {
        let object = tx.create::<u64>()?;
        tx.set(object.base(), value)?;
        Ok::<_, Error>(tx.space().id_of(object.area()))
    });
    made.expect("room")
}

/// What happens to the process that deletes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Ordinary,
    /// It is killed when it is about to delete the first of its objects.
    Killed,
}

#[derive(Debug)]
struct KilledAtDelete;

impl Observer for KilledAtDelete {
    fn before(&self, step: Step<'_>) -> io::Result<()> {
        if matches!(step, Step::Remove(name) if name.starts_with("objects/")) {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
        }
        Ok(())
    }
}

/// Is run as a process of its own by the tests below.
#[test]
#[ignore = "is started by the other tests"]
fn deleter() {
    let var = |name: &str| std::env::var(name).expect("the test sets it");
    let durability =
        if var("DURABILITY") == "PowerCut" { Durability::PowerCut } else { Durability::ProcessKill };
    let mut options = options(durability).first_slot(7000);
    if var("END") == "Killed" {
        options = options.observer(Arc::new(KilledAtDelete));
    }
    let store = options.open(var("STORE")).expect("opens");
    let ids: Vec<ObjId> = var("OBJECTS").split(',').map(|id| id.parse().expect("an ID")).collect();
    store.transact(|tx| ids.iter().try_for_each(|&id| tx.delete(id))).expect("deleted");
}

/// Has another process delete objects.
fn delete(path: &Path, durability: Durability, ids: &[ObjId], end: End) -> ExitStatus {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "deleter", "--ignored", "--quiet"])
        .env("STORE", path)
        .env("OBJECTS", ids.join(","))
        .env("DURABILITY", format!("{durability:?}"))
        .env("END", format!("{end:?}"))
        .status()
        .expect("this test runs")
}

fn nothing_is_written_to_what_is_gone(durability: Durability, end: End) {
    let Some((_keep, path, store)) = store(durability) else { return };
    let ids = [1, 2, 3].map(|value| make(&store, value));
    let guard = store.enter();
    let places = ids.map(|id| guard.open::<u64>(id, Access::Write).expect("there").base());
    guard
        .transact(|tx| places.iter().try_for_each(|&place| tx.edit(place, |value| *value += 10)))
        .expect("set");
    let status = delete(&path, durability, &ids[1..], end);
    assert_eq!(status.success(), end == End::Ordinary, "{status}");
    // The second one last: who was killed had marked the first one itself.
    for gone in [places[1], places[2]] {
        let written = guard.transact(|tx| {
            tx.set(places[0], 99)?;
            tx.set(gone, 99)
        });
        assert_eq!(written, Err(Error::NoSuchObject), "{durability:?}, {end:?}");
    }
    assert_eq!(guard.get(places[0]), 11);
    for id in &ids[1..] {
        assert!(guard.open::<u64>(*id, Access::Read).is_err());
    }
    drop(guard);
    drop(store);
    let store = options(durability).open(&path).expect("opens");
    assert_eq!(store.stat(ids[1]).map(drop), Err(Error::NoSuchObject));
    assert_eq!(store.stat(ids[2]).map(drop), Err(Error::NoSuchObject));
}

#[test]
fn nothing_is_written_to_what_another_process_has_deleted() {
    for durability in [Durability::PowerCut, Durability::ProcessKill] {
        nothing_is_written_to_what_is_gone(durability, End::Ordinary);
    }
}

#[test]
fn nor_to_what_a_killed_process_was_deleting() {
    for durability in [Durability::PowerCut, Durability::ProcessKill] {
        nothing_is_written_to_what_is_gone(durability, End::Killed);
    }
}

#[derive(Debug)]
struct KeepsNames;

impl Observer for KeepsNames {
    fn before(&self, step: Step<'_>) -> io::Result<()> {
        let is_object = matches!(step, Step::Remove(name) if name.starts_with("objects/"));
        if is_object { Err(rustix::io::Errno::ACCESS.into()) } else { Ok(()) }
    }
}

/// What could not be deleted is an object as before.
#[test]
fn an_object_whose_file_can_not_be_removed_is_written_to() {
    for durability in [Durability::PowerCut, Durability::ProcessKill] {
        let Some((_keep, path, store)) = store(durability) else { continue };
        let id = make(&store, 1);
        drop(store);
        let store = options(durability).observer(Arc::new(KeepsNames)).open(&path).expect("opens");
        assert_eq!(store.transact(|tx| tx.delete(id)), Err(Error::AccessDenied));
        let guard = store.enter();
        let place = guard.open::<u64>(id, Access::Write).expect("there").base();
        guard.transact(|tx| tx.set(place, 2)).expect("written");
        assert_eq!(guard.get(place), 2);
    }
}

#[test]
fn an_object_lies_at_one_address_within_a_guard() {
    for durability in [Durability::PowerCut, Durability::ProcessKill] {
        let Some((_keep, _path, store)) = store(durability) else { continue };
        let [from, id] = [1, 2].map(|value| make(&store, value));
        let guard = store.enter();
        let old = guard.open::<u64>(id, Access::Write).expect("there").base();
        store.unmap(id);
        let new = guard.open::<u64>(id, Access::Write).expect("there").base();
        let both = guard.transact(|tx| {
            tx.set(old, 5)?;
            let seen = tx.get(new);
            let blocks = [tx.alloc::<u64>(old.object())?, tx.alloc::<u64>(new.object())?];
            Ok::<_, Error>((seen, blocks.map(|block| block.offset())))
        });
        let (seen, [one, two]) = both.expect("committed");
        assert_eq!(seen, 5);
        assert_ne!(one, two);
        // With no guard left, it may lie elsewhere.
        drop(guard);
        store.unmap(id);
        store.unmap(from);
        let guard = store.enter();
        assert_eq!(guard.get(guard.open::<u64>(id, Access::Read).expect("there").base()), 5);
    }
}

/// Maps from words of any objects.
#[derive(Stored)]
#[stored(name = "test.words-numbered", version = 1)]
#[repr(C)]
struct Numbered {
    hashed: HashMapRoot<InvPtr<u64>, u64>,
    ordered: OrderedMapRoot<InvPtr<u64>, u64>,
    own: [u64; 4],
}

#[test]
fn keys_that_are_pointers_are_found_wherever_objects_are_mapped() {
    let keep = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("room");
    let path = keep.path().join("store");
    let at = |slot: u32| options(Durability::ProcessKill).first_slot(slot);
    let store = at(1000).create(&path).expect("new");
    let words = [1, 2, 3].map(|value| make(&store, value));
    let id =
        store.transact(|tx| tx.create::<Numbered>().map(|made| tx.space().id_of(made.area()))).expect("room");
    drop(store);
    let mut bases = Vec::new();
    // Each time two more keys, of this object and of others, and those from before are found.
    for (round, slot) in [3000, 9000, 5000].into_iter().enumerate() {
        let store = at(slot).open(&path).expect("opens");
        let guard = store.enter();
        let root = guard.open::<Numbered>(id, Access::Write).expect("there").base();
        bases.push(root.address());
        let keys: Vec<Ptr<'_, u64>> = (0..=round)
            .flat_map(|n| {
                let word = guard.open::<u64>(words[n], Access::Read).expect("there").base();
                [root.at(Numbered::own).index(n).expect("one of them"), word]
            })
            .collect();
        let hashed = PointerHashMap::hashed(root.at(Numbered::hashed));
        let ordered = PointerOrderedMap::ordered(root.at(Numbered::ordered));
        guard
            .transact(|tx| {
                for (n, &key) in keys.iter().enumerate() {
                    let expected = (n < 2 * round).then_some(n as u64);
                    assert_eq!(
                        (hashed.get(tx, key)?, ordered.get(tx, key)?),
                        (expected, expected),
                        "at {slot}"
                    );
                    hashed.insert(tx, key, n as u64)?;
                    ordered.insert(tx, key, n as u64)?;
                }
                assert_eq!((hashed.len(tx)?, ordered.len(tx)?), (keys.len() as u64, keys.len() as u64));
                Ok::<_, Error>(())
            })
            .expect("changed");
    }
    bases.sort_unstable();
    bases.dedup();
    assert_eq!(bases.len(), 3, "it lay elsewhere each time");
}

#[test]
fn what_is_deleted_goes_when_nobody_can_use_it_any_more() {
    for durability in [Durability::PowerCut, Durability::ProcessKill] {
        let Some((_keep, _, store)) = store(durability) else { continue };
        let mapped =
            || std::fs::read_to_string("/proc/self/maps").expect("readable").matches("(deleted)").count();
        let before = mapped();
        for value in 0..100 {
            let id = make(&store, value);
            store.transact(|tx| tx.delete(id)).expect("deleted");
            let undone =
                store.transact(|tx| tx.create::<u64>().map(drop).and(Err::<(), _>(Error::Interrupted)));
            assert_eq!(undone, Err(Error::Interrupted));
        }
        // The last ones wait for the next mapping.
        assert!(mapped() <= before + 4, "{} are still mapped", mapped() - before);
    }
}
