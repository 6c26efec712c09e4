//! Names, transactions, and objects as the programming model has them.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::Ordering;

use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::{Error, ObjId};
use twizzler_names::{Entry, NameError, Names};
use twizzler_object::{Access, InvPtr, Space, Stored};
use twizzler_rt::mapping::Mapping;
use twizzler_rt::{Rt, call, file};

use super::{READ_WRITE, Test, Verdict, failed, holds, same};

pub(super) const TESTS: &[Test] = &[
    ("names_are_bound_and_removed", names_are_bound_and_removed),
    ("a_transaction_is_all_or_nothing", a_transaction_is_all_or_nothing),
    ("an_object_outgrows_its_gigabyte", an_object_outgrows_its_gigabyte),
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

/// An object with a value in its base, and one behind its gigabyte.
#[derive(Stored)]
#[stored(name = "selftest.far", version = 1)]
#[repr(C)]
struct Far {
    next: InvPtr<Far>,
    value: u64,
}

/// Offset of what lies far out.
const FAR_OUT: u64 = 300 << 30;

fn an_object_outgrows_its_gigabyte() -> Verdict {
    let mut space = Space::attach(Rt).map_err(failed("attach"))?;
    let created = space.transact(|tx| {
        let near = tx.create::<Far>()?.base();
        tx.set(near.at(Far::value), 1)?;
        Ok::<_, Error>(space.id_of(near.object()))
    });
    let id = created.map_err(failed("create"))?;
    let other = Mapping::new(id, READ_WRITE).map_err(failed("map"))?;
    let verdict = grow(&mut space, id).and_then(|()| {
        // Who had it mapped before still sees the first gigabyte, and who maps it now sees all.
        let value = BASE_OFFSET + Far::value.offset();
        same("old mapping", other.word(value).load(Ordering::Acquire), 3)?;
        let all = Mapping::new(id, READ_WRITE).map_err(failed("map"))?;
        same("new mapping", all.range_bytes(), 1 << 39)?;
        same("far out", all.word(FAR_OUT + Far::value.offset()).load(Ordering::Acquire), 2)
    });
    drop(other);
    space.transact(|tx| tx.delete(id)).map_err(failed("delete"))?;
    verdict
}

/// Makes an object large, with a value far out that its base leads to.
fn grow(space: &mut Space<Rt>, id: ObjId) -> Verdict {
    space.promote(id).map_err(failed("promote"))?;
    let guard = space.enter();
    let near = guard.open::<Far>(id, Access::Write).map_err(failed("open"))?.base();
    let grown = guard.transact(|tx| {
        tx.write_at(near.object(), FAR_OUT - BASE_OFFSET, &[0; 64])?;
        let far = near.object().place::<Far>(FAR_OUT).ok_or(Error::OutOfRange)?;
        tx.set(far.at(Far::value), 2)?;
        tx.set(near.at(Far::value), 3)?;
        tx.link(near.at(Far::next), Some(far))
    });
    grown.map_err(failed("grow"))?;
    let far = guard.follow(near.at(Far::next)).map_err(failed("follow"))?.ok_or("it leads nowhere")?;
    same("value", guard.get(far.at(Far::value)), 2)
}
