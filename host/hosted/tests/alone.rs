//! What a process does to an object that it wants for itself: another type, another size.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use twizzler::{
    Access, Durability, Error, InvPtr, ObjId, Observer, OpenError, Options, Reader, Step, Store, Stored,
};
use twizzler_object::{Backend, Migrate, Migration, Ptr, Tx};

const GIB: u64 = 1 << 30;

#[derive(Stored)]
#[stored(name = "test.grown", version = 1)]
#[repr(C)]
struct First {
    next: InvPtr<u64>,
    value: u64,
}

#[derive(Stored)]
#[stored(name = "test.grown", version = 2)]
#[repr(C)]
struct Second {
    next: InvPtr<u64>,
    value: u64,
    double: u64,
}

impl Migrate for First {
    type From = Self;
}

impl Migrate for Second {
    type From = First;

    fn migrate<'g, B: Backend>(
        tx: &mut Tx<'g, B>,
        old: Ptr<'g, First>,
        new: Ptr<'g, Self>,
    ) -> Result<(), Error> {
        let next = tx.follow(old.at(First::next))?;
        tx.link(new.at(Second::next), next)?;
        let value = tx.get(old.at(First::value));
        tx.set(new.at(Second::value), value)?;
        tx.set(new.at(Second::double), 2 * value)
    }
}

fn store(durability: Durability) -> (TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Options::new().durability(durability).create(folder.path().join("store")).expect("made");
    (folder, store)
}

fn open(folder: &Path, durability: Durability) -> Store {
    Options::new().durability(durability).open(folder.join("store")).expect("opens")
}

fn made(store: &Store) -> ObjId {
    let made = store.transact(|tx| {
        let first = tx.create::<First>()?.base();
        let next = tx.alloc::<u64>(first.object())?;
        tx.set(next, 4)?;
        tx.link(first.at(First::next), Some(next))?;
        tx.set(first.at(First::value), 7)?;
        Ok::<_, Error>(tx.space().id_of(first.object()))
    });
    made.expect("made")
}

#[test]
fn an_object_is_migrated_when_no_other_process_has_it_mapped() {
    let (folder, mut store) = store(Durability::PowerCut);
    let id = made(&store);
    let other = open(folder.path(), Durability::PowerCut);
    let guard = other.enter();
    guard.open::<First>(id, Access::Read).expect("opens");
    assert_eq!(store.upgrade::<Second>(id), Err(Error::Busy));
    // It lives on for the guard, which has seen its type.
    other.unmap(id);
    assert_eq!(store.upgrade::<Second>(id), Err(Error::Busy));
    drop(guard);
    other.unmap(id);
    assert_eq!(store.upgrade::<Second>(id), Ok(Migration::Done));
    assert_eq!(store.upgrade::<Second>(id), Ok(Migration::Already));
    let guard = other.enter();
    let second = guard.open::<Second>(id, Access::Read).expect("of the new type").base();
    assert_eq!(guard.get(second.at(Second::double)), 14);
    assert_eq!(guard.follow(second.at(Second::next)).expect("resolves").map(|next| guard.get(next)), Some(4));
}

#[test]
fn a_migration_that_panics_gives_the_object_back() {
    let (folder, mut store) = store(Durability::PowerCut);
    let id = made(&store);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        store.migrate(id, |_, _: Ptr<'_, First>, _: Ptr<'_, Second>| -> Result<(), Error> {
            resume_unwind(Box::new("the program's own"))
        })
    }));
    assert!(panicked.is_err());
    let other = open(folder.path(), Durability::PowerCut);
    assert!(other.enter().open::<First>(id, Access::Read).is_ok(), "another process maps it as it was");
    other.unmap(id);
    assert_eq!(store.upgrade::<Second>(id), Ok(Migration::Done));
}

/// Kills its process when the log has the next record.
#[derive(Debug)]
struct KilledInCommit {
    log: PathBuf,
}

impl Observer for KilledInCommit {
    fn before(&self, step: Step<'_>) -> io::Result<()> {
        if let Step::WriteDurably("log", offset, bytes) = step {
            File::options().write(true).open(&self.log)?.write_all_at(bytes, offset)?;
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
        }
        Ok(())
    }
}

/// Is run as a process of its own by the test below.
#[test]
#[ignore = "is started by another test"]
fn migrator() {
    let var = |name: &str| std::env::var(name).expect("the test sets it");
    let path = PathBuf::from(var("STORE"));
    let observer = Arc::new(KilledInCommit { log: path.join("log") });
    let mut store = Options::new().observer(observer).open(&path).expect("opens");
    store.upgrade::<Second>(var("OBJECT").parse().expect("an ID")).expect("is killed before");
}

#[test]
fn a_migration_that_was_committed_by_a_killed_process_is_not_done_again() {
    for looks_first in [false, true] {
        let (folder, mut store) = store(Durability::PowerCut);
        let id = made(&store);
        drop(store);
        // Not mapped in this one.
        store = open(folder.path(), Durability::PowerCut);
        let status = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "migrator", "--ignored", "--quiet"])
            .env("STORE", folder.path().join("store"))
            .env("OBJECT", id.to_string())
            .status()
            .expect("this test runs");
        assert!(!status.success());
        if looks_first {
            let old = store.enter().open::<First>(id, Access::Write).map(drop);
            assert!(matches!(old, Err(OpenError::WrongType { .. })), "{old:?}");
        }
        assert_eq!(store.upgrade::<Second>(id), Ok(Migration::Already));
        let guard = store.enter();
        let second = guard.open::<Second>(id, Access::Read).expect("of the new type").base();
        assert_eq!(guard.get(second.at(Second::double)), 14);
    }
}

#[test]
fn an_object_grows_beyond_a_gibibyte_and_survives_it() {
    for durability in [Durability::PowerCut, Durability::ProcessKill] {
        let (folder, mut store) = store(durability);
        let id = made(&store);
        let refused = store.transact(|tx| tx.write_at(tx.open_any(id, Access::Write)?, 3 * GIB, b"far"));
        assert_eq!(refused, Err(Error::OutOfRange));
        store.promote(id).expect("there is address space");
        let written = store.transact(|tx| {
            let area = tx.open_any(id, Access::Write)?;
            tx.write_at(area, 3 * GIB, b"far")?;
            // A pointer to what lies there.
            let first = tx.open::<First>(id, Access::Write)?.base();
            let far = area.place::<u64>(400 * GIB).ok_or(Error::OutOfRange)?;
            tx.write_at(area, 400 * GIB - 0x3000, &9u64.to_le_bytes())?;
            tx.link(first.at(First::next), Some(far))
        });
        written.expect("there is room");
        drop(store);
        let store = open(folder.path(), durability);
        assert_eq!(store.stat(id).map(|stat| stat.quarantine), Ok(0));
        let guard = store.enter();
        let first = guard.open::<First>(id, Access::Read).expect("as it was").base();
        let far = guard.follow(first.at(First::next)).expect("resolves").expect("is not null");
        assert_eq!((far.offset(), guard.get(far), guard.get(first.at(First::value))), (400 * GIB, 9, 7));
        let mut text = [0; 3];
        let bytes = first.object().span::<u8>(0x3000 + 3 * GIB, 3).expect("in the object");
        guard.read(bytes, 0, &mut text).expect("in the object");
        assert_eq!(&text, b"far");
        // Space is set aside in steps of 16 MiB.
        assert!(store.stat(id).expect("there").pages < 3 * 4096, "it takes what was stored");
    }
}
