//! Objects: made, filled, changed, refused, deleted, in DRAM and NVM.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use twizzler_abi::call::{CreateSpec, USUAL_RIGHTS};
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::rights::{ObjectFlags, Rights};
use twizzler_abi::{Error, ObjId};
use zerocopy::FromZeros;

use super::{Test, check};
use crate::machine::entry::Access;
use crate::machine::start_info::Boot;
use crate::object::{Object, create, delete, garbage, registry, stat};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;

pub(super) const TESTS: &[Test] = &[
    Test { name: "object_reads_back_what_was_written", run: reads_back },
    Test { name: "object_grows_over_each_level", run: grows },
    Test { name: "object_gives_pages_back", run: gives_back },
    Test { name: "object_deleted_is_gone", run: deleted_is_gone },
    Test { name: "object_pinned_is_busy", run: pinned_is_busy },
    Test { name: "object_refuses_nonsense", run: refuses_nonsense },
    Test { name: "object_memory_runs_out_as_an_error", run: memory_runs_out },
    Test { name: "object_persistent_is_found_again", run: persistent_is_found },
    Test { name: "object_unused_is_closed", run: unused_is_closed },
];

pub(super) fn volatile() -> Result<Arc<Object>, String> {
    create::volatile(ObjectFlags::empty(), USUAL_RIGHTS).map_err(say)
}

pub(super) fn say(error: impl core::fmt::Display) -> String {
    alloc::format!("{error}")
}

fn word(object: &Object, offset: u64) -> Result<u64, String> {
    let mut word = [0; 8];
    object.read(offset, &mut word).map_err(say)?;
    Ok(u64::from_le_bytes(word))
}

fn reads_back(_: &Boot) -> Result<(), String> {
    let object = volatile()?;
    let bytes: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
    object.write(BASE_OFFSET + 100, &bytes).map_err(say)?;
    let mut back = alloc::vec![1; bytes.len()];
    object.read(BASE_OFFSET + 100, &mut back).map_err(say)?;
    check!(back == bytes);
    check!(word(&object, 5 * MIB)? == 0, "what was never written reads as zero");
    delete::delete(&object).map_err(say)
}

fn grows(_: &Boot) -> Result<(), String> {
    let object = volatile()?;
    for (offset, tables) in [(BASE_OFFSET, 1), (2 * MIB - PAGE, 1), (2 * MIB, 3), (1023 * MIB, 4)] {
        object.write(offset, &offset.to_le_bytes()).map_err(say)?;
        let stat = stat::object(object.id, stat::Usage::Counted).map_err(say)?;
        check!(stat.tables == tables, "{} tables at {offset:#x}", stat.tables);
    }
    for offset in [BASE_OFFSET, 2 * MIB - PAGE, 2 * MIB, 1023 * MIB] {
        check!(word(&object, offset)? == offset);
    }
    check!(object.touch(1024 * MIB / PAGE, Access::Write) == Err(twizzler_store::Error::OutOfRange));
    delete::delete(&object).map_err(say)
}

fn gives_back(_: &Boot) -> Result<(), String> {
    let object = volatile()?;
    check!(object.populate(2 * MIB, 4 * MIB) == Ok(true));
    check!(stat::object(object.id, stat::Usage::Counted).map_err(say)?.pages == 1 + 1024);
    check!(object.discard(3 * MIB, 2 * MIB) == Ok(true));
    check!(stat::object(object.id, stat::Usage::Counted).map_err(say)?.pages == 1 + 512);
    object.forbid(3 * MIB, PAGE).map_err(say)?;
    check!(object.touch(3 * MIB / PAGE, Access::Write) == Err(twizzler_store::Error::Forbidden));
    check!(object.touch(3 * MIB / PAGE + 1, Access::Write).is_ok());
    delete::delete(&object).map_err(say)
}

fn deleted_is_gone(_: &Boot) -> Result<(), String> {
    let object = volatile()?;
    check!(registry::find(object.id).is_ok());
    delete::by_id(object.id).map_err(say)?;
    check!(registry::find(object.id).err() == Some(Error::NoSuchObject));
    check!(delete::by_id(object.id) == Err(Error::NoSuchObject));
    check!(
        object.touch(3, Access::Read) == Err(twizzler_store::Error::NoSuchObject),
        "a reference from before sees it too"
    );
    check!(object.populate(BASE_OFFSET, PAGE) == Err(Error::NoSuchObject));
    Ok(())
}

fn pinned_is_busy(_: &Boot) -> Result<(), String> {
    let object = volatile()?;
    object.pin().map_err(say)?;
    check!(delete::delete(&object) == Err(Error::Busy));
    object.unpin();
    delete::delete(&object).map_err(say)
}

fn refuses_nonsense(_: &Boot) -> Result<(), String> {
    let spec =
        |flags: u32, rights: u32| CreateSpec { flags, default_rights: rights, ..CreateSpec::new_zeroed() };
    let make = |flags, rights| create::create(&spec(flags, rights)).err();
    check!(make(1 << 31, 1) == Some(Error::InvalidArgument));
    check!(make(0, 1 << 31) == Some(Error::InvalidArgument));
    check!(make(ObjectFlags::THREAD.bits(), 1) == Some(Error::InvalidArgument));
    check!(make(ObjectFlags::VERSIONED.bits(), 1) == Some(Error::NotSupported));
    let object = volatile()?;
    for (offset, bytes, expected) in [
        (BASE_OFFSET + 1, PAGE, Error::InvalidArgument),
        (BASE_OFFSET, 1, Error::InvalidArgument),
        (0, PAGE, Error::OutOfRange),
        (PAGE, PAGE, Error::OutOfRange),
        (u64::MAX - 4095, PAGE, Error::OutOfRange),
        (1024 * MIB, PAGE, Error::OutOfRange),
        (BASE_OFFSET, 1024 * MIB, Error::OutOfRange),
    ] {
        check!(object.populate(offset, bytes) == Err(expected), "{offset:#x} {bytes:#x}");
        check!(object.discard(offset, bytes) == Err(expected), "{offset:#x} {bytes:#x}");
        check!(object.forbid(offset, bytes) == Err(expected), "{offset:#x} {bytes:#x}");
    }
    let read_only = create::volatile(ObjectFlags::empty(), Rights::READ).map_err(say)?;
    check!(read_only.populate(BASE_OFFSET, PAGE) == Err(Error::AccessDenied));
    check!(delete::by_id(read_only.id) == Err(Error::AccessDenied));
    object.set_type(5, 0).map_err(say)?;
    check!(object.set_type(6, 0) == Err(Error::WrongType));
    object.set_type(6, 5).map_err(say)?;
    object.set_type(5, 6).map_err(say)?;
    delete::delete(&read_only).map_err(say)?;
    delete::delete(&object).map_err(say)
}

fn memory_runs_out(_: &Boot) -> Result<(), String> {
    let before = crate::memory::frames::free_count();
    let object = volatile()?;
    let failed = (1..512u64).find_map(|at| object.populate(at * 2 * MIB, 2 * MIB).err());
    if let Some(error) = failed {
        check!(error == Error::OutOfMemory);
        let more = create::volatile(ObjectFlags::empty(), USUAL_RIGHTS).and_then(|object| {
            let filled = object.populate(BASE_OFFSET, 2 * MIB);
            delete::delete(&object)?;
            filled
        });
        check!(more == Err(Error::OutOfMemory), "{more:?}");
    }
    check!(crate::memory::frames::free_count() > 256, "the kernel keeps its reserve");
    delete::delete(&object).map_err(say)?;
    drop(object);
    check!(garbage::tidy(), "a large object is freed in parts");
    while garbage::tidy() {}
    let after = crate::memory::frames::free_count();
    check!(before.abs_diff(after) < 64, "{before} frames before, {after} after");
    Ok(())
}

fn persistent_is_found(boot: &Boot) -> Result<(), String> {
    if boot.nvm.is_none() {
        return Ok(());
    }
    let flags = ObjectFlags::PERSISTENT.bits();
    let spec = CreateSpec { flags, default_rights: USUAL_RIGHTS.bits(), ..CreateSpec::new_zeroed() };
    let object = create::create(&spec).map_err(say)?;
    object.write(3 * MIB, &7u64.to_le_bytes()).map_err(say)?;
    check!(word(&object, 3 * MIB)? == 7);
    check!(object.forbid(BASE_OFFSET, PAGE) == Err(Error::NotSupported));
    let mut found = false;
    let mut id = ObjId::NONE;
    while let Ok(stat) = stat::next_persistent(id) {
        check!(stat.id > id, "IDs ascend");
        id = stat.id;
        found |= id == object.id;
    }
    check!(found);
    delete::by_id(object.id).map_err(say)?;
    check!(registry::find(object.id).err() == Some(Error::NoSuchObject));
    Ok(())
}

fn unused_is_closed(boot: &Boot) -> Result<(), String> {
    if boot.nvm.is_none() {
        return Ok(());
    }
    let flags = ObjectFlags::PERSISTENT.bits();
    let spec = CreateSpec { flags, default_rights: USUAL_RIGHTS.bits(), ..CreateSpec::new_zeroed() };
    let used = create::create(&spec).map_err(say)?;
    let mut ids = Vec::new();
    for number in 0..registry::OPEN_MAX as u64 + 200 {
        let object = create::create(&spec).map_err(say)?;
        object.write(BASE_OFFSET, &number.to_le_bytes()).map_err(say)?;
        ids.push(object.id);
    }
    check!(registry::open_persistent_len() <= registry::OPEN_MAX + 1, "no more stay open than may");
    for (number, &id) in (0u64..).zip(&ids) {
        check!(word(&*registry::find(id).map_err(say)?, BASE_OFFSET)? == number, "each is opened again");
    }
    check!(Arc::ptr_eq(&used, &registry::find(used.id).map_err(say)?), "what is in use stays open");
    for id in ids.into_iter().chain([used.id]) {
        delete::by_id(id).map_err(say)?;
    }
    Ok(())
}
