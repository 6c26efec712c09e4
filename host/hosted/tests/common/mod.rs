//! Stores of tests.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use twizzler::{Access, Error, ObjId, Observer, Options, Step, Store};

/// Where a store can be made; it goes when the directory is dropped.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("here");
    (directory, path)
}

#[derive(Debug)]
struct Nobody;

impl Observer for Nobody {
    fn before(&self, _: Step<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// By a small log wherever the files lie: who is observed is never taken for persistent memory.
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) fn logged() -> Options {
    Options::new().log_bytes(1 << 20).observer(Arc::new(Nobody))
}

/// Makes an object that holds a number.
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) fn make(store: &Store, value: u64) -> ObjId {
    let made = store.transact(|tx| {
        let object = tx.create::<u64>()?;
        tx.set(object.base(), value)?;
        Ok::<_, Error>(tx.space().id_of(object.area()))
    });
    made.expect("room")
}

/// The number that an object holds.
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) fn value(store: &Store, id: ObjId) -> u64 {
    let guard = store.enter();
    let object = guard.open::<u64>(id, Access::Read).expect("there");
    guard.get(object.base())
}
