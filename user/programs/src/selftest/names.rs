//! Names and transactions.

use alloc::format;
use alloc::string::String;

use twizzler_abi::Error;
use twizzler_names::{Entry, NameError, Names};
use twizzler_object::{Access, Space};
use twizzler_rt::{Rt, call, file};

use super::{Test, Verdict, failed, holds, same};

pub(super) const TESTS: &[Test] = &[
    ("names_are_bound_and_removed", names_are_bound_and_removed),
    ("a_transaction_is_all_or_nothing", a_transaction_is_all_or_nothing),
];

/// A name that no one else uses.
fn some_name() -> Result<String, String> {
    let mut bytes = [0; 8];
    call::random(&mut bytes).map_err(failed("random"))?;
    Ok(format!(".selftest-{:016x}", u64::from_le_bytes(bytes)))
}

fn names_are_bound_and_removed() -> Verdict {
    let space = Space::attach(Rt).map_err(failed("attach"))?;
    let guard = space.enter();
    let names = Names::open(&guard).map_err(failed("open"))?;
    let (path, other) = (some_name()?, some_name()?);
    let created = guard.transact(|tx| {
        let area = names.create_any(tx, &path)?;
        tx.write_at(area, 0, b"content")?;
        tx.set_len_bytes(area, 7)?;
        Ok::<_, NameError>(space.id_of(area))
    });
    let id = created.map_err(failed("create"))?;
    same("lookup", names.lookup(&path), Ok(Entry::Object(id)))?;
    same("content", file::read(id), Ok(b"content".to_vec()))?;
    guard.transact(|tx| names.rename(tx, &path, &other)).map_err(failed("rename"))?;
    same("old name", names.lookup(&path), Err(NameError::NoSuchName))?;
    guard.transact(|tx| names.delete(tx, &other)).map_err(failed("delete"))?;
    same("new name", names.lookup(&other), Err(NameError::NoSuchName))?;
    same("object", call::stat(twizzler_abi::call::StatOp::Object, id).err(), Some(Error::NoSuchObject))
}

fn a_transaction_is_all_or_nothing() -> Verdict {
    let space = Space::attach(Rt).map_err(failed("attach"))?;
    let guard = space.enter();
    let names = Names::open(&guard).map_err(failed("open"))?;
    let path = some_name()?;
    let created = guard.transact(|tx| names.create_any(tx, &path).map(|area| space.id_of(area)));
    let id = created.map_err(failed("create"))?;
    let area = guard.open_any(id, Access::Write).map_err(failed("open"))?;
    let aborted = guard.transact(|tx| {
        tx.write_at(area, 0, b"half")?;
        tx.set_len_bytes(area, 4)?;
        names.create_any(tx, &format!("{path}-2"))?;
        Err::<(), NameError>(NameError::TooLong)
    });
    let verdict = same("result", aborted, Err(NameError::TooLong))
        .and_then(|()| same("length", space.len_bytes(area), 0))
        .and_then(|()| holds("no second name", names.lookup(&format!("{path}-2")).is_err()));
    guard.transact(|tx| names.delete(tx, &path)).map_err(failed("delete"))?;
    verdict
}
