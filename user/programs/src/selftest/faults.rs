//! Faults: what ends a thread, and what a program handles itself.

use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::call::ControlOp;
use twizzler_abi::object::{BASE_OFFSET, METADATA_OFFSET};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::thread::{ACCESS_WRITE, FaultKind};
use twizzler_abi::{Error, ObjId, Rights};
use twizzler_rt::mapping::Mapping;
use twizzler_rt::thread::{self, End};
use twizzler_rt::upcall::{self, Verdict as Handled};
use twizzler_rt::{call, slots};

use super::{READ_WRITE, Temporary, Test, Verdict, calls, failed, same};

pub(super) const TESTS: &[Test] = &[
    ("the_null_page_faults", the_null_page_faults),
    ("a_missing_object_faults", a_missing_object_faults),
    ("a_missing_right_faults", a_missing_right_faults),
    ("metadata_can_not_be_written", metadata_can_not_be_written),
    ("a_forbidden_page_faults", a_forbidden_page_faults),
    ("a_deleted_object_faults", a_deleted_object_faults),
    ("a_bad_view_entry_faults", a_bad_view_entry_faults),
    ("a_fault_is_handled_by_the_program", a_fault_is_handled_by_the_program),
];

/// What ends a thread that runs `wrong`.
fn fault_of(wrong: impl FnOnce() + Send + 'static) -> Result<(u32, u32, ObjId), alloc::string::String> {
    let handle = thread::spawn("wrong", wrong).map_err(failed("spawn"))?;
    match handle.join() {
        Err(End::Fault { info, .. }) => Ok((info.kind, info.access, info.object)),
        other => Err(failed("no fault")(other)),
    }
}

fn read(mapping: &Mapping, offset: u64) {
    mapping.read(offset, &mut [0]);
}

fn the_null_page_faults() -> Verdict {
    calls(|| {
        let object = Temporary::new(ObjectFlags::PERSISTENT)?;
        let mapping = object.map()?;
        let id = object.0;
        Ok(fault_of(move || read(&mapping, 8))
            .and_then(|found| same("fault", found, (FaultKind::NullPage as u32, 0, id))))
    })
}

fn a_missing_object_faults() -> Verdict {
    calls(|| {
        let id = ObjId::new(0xdead);
        let mapping = Mapping::unchecked(id, Rights::READ)?;
        let found = fault_of(move || read(&mapping, BASE_OFFSET));
        Ok(found.and_then(|found| same("fault", found, (FaultKind::NoSuchObject as u32, 0, id))))
    })
}

fn a_missing_right_faults() -> Verdict {
    calls(|| {
        let object = Temporary::new(ObjectFlags::empty())?;
        let mapping = Mapping::new(object.0, Rights::READ)?;
        let found = fault_of(move || mapping.write(BASE_OFFSET, &[1]));
        let expected = (FaultKind::NoRight as u32, ACCESS_WRITE, object.0);
        let granting = Temporary::granting(ObjectFlags::empty(), Rights::READ | Rights::DELETE)?;
        let mapping = Mapping::unchecked(granting.0, READ_WRITE)?;
        let ungranted = fault_of(move || mapping.write(BASE_OFFSET, &[1]));
        Ok(found
            .and_then(|found| same("mapping", found, expected))
            .and_then(|()| same("object", ungranted.map(|found| found.0), Ok(FaultKind::NoRight as u32))))
    })
}

fn metadata_can_not_be_written() -> Verdict {
    calls(|| {
        let object = Temporary::new(ObjectFlags::PERSISTENT)?;
        let mapping = object.map()?;
        let found = fault_of(move || mapping.write(METADATA_OFFSET, &[1]));
        Ok(found.and_then(|found| same("fault", found.0, FaultKind::NoRight as u32)))
    })
}

fn a_forbidden_page_faults() -> Verdict {
    calls(|| {
        let object = Temporary::new(ObjectFlags::empty())?;
        let mapping = object.map()?;
        mapping.write(BASE_OFFSET, &[1]);
        call::control(ControlOp::Forbid, object.0, BASE_OFFSET, PAGE_BYTES)?;
        let found = fault_of(move || read(&mapping, BASE_OFFSET));
        Ok(found.and_then(|found| same("fault", found.0, FaultKind::OutOfRange as u32)))
    })
}

fn a_deleted_object_faults() -> Verdict {
    calls(|| {
        let object = Temporary::new(ObjectFlags::PERSISTENT)?;
        let mapping = object.map()?;
        mapping.write(BASE_OFFSET, &[1]);
        drop(object);
        let found = fault_of(move || read(&mapping, BASE_OFFSET));
        Ok(found.and_then(|found| same("fault", found.0, FaultKind::NoSuchObject as u32)))
    })
}

fn a_bad_view_entry_faults() -> Verdict {
    calls(|| {
        let object = Temporary::new(ObjectFlags::empty())?;
        let mapping = object.map()?;
        slots::set_entry(mapping.slot(), object.0, Rights::WRITE | Rights::EXECUTE);
        let found = fault_of(move || read(&mapping, BASE_OFFSET));
        Ok(found.and_then(|found| same("fault", found.0, FaultKind::BadView as u32)))
    })
}

fn a_fault_is_handled_by_the_program() -> Verdict {
    calls(|| {
        let object = Temporary::new(ObjectFlags::empty())?;
        object.map()?.write(BASE_OFFSET, &[7]);
        let mapping = Mapping::unchecked(object.0, Rights::empty())?;
        slots::clear_entry(mapping.slot());
        let (slot, id) = (mapping.slot(), object.0);
        WANTED.lock().replace((slot, id));
        let handle = thread::spawn("handles", move || {
            upcall::handle(map_it)?;
            let mut byte = [0];
            mapping.read(BASE_OFFSET, &mut byte);
            upcall::unhandle()?;
            Ok::<_, Error>(byte[0])
        })?;
        Ok(handle.join().map_err(failed("it ended")).and_then(|byte| same("what it read", byte, Ok(7))))
    })
}

/// What the handler is to map.
static WANTED: twizzler_rt::sync::Mutex<Option<(twizzler_abi::address::Slot, ObjId)>> =
    twizzler_rt::sync::Mutex::new(None);

/// Maps what is missing and lets the thread try again.
fn map_it(frame: &mut twizzler_abi::thread::UpcallFrame) -> Handled {
    let Some((slot, id)) = WANTED.lock().take() else { return Handled::End };
    if frame.fault.kind != FaultKind::NotMapped as u32 || frame.fault.address != slot.base() + BASE_OFFSET {
        return Handled::End;
    }
    slots::set_entry(slot, id, Rights::READ);
    Handled::Resume
}
