//! Page faults: from an address to a mapped page, or to exactly what is wrong.

use alloc::sync::Arc;

use twizzler_abi::address::{PAGE_BYTES, Slot};
use twizzler_abi::object::{METADATA_OFFSET, NULL_OFFSET};
use twizzler_abi::thread::FaultKind;
use twizzler_abi::{Error, ObjId, Rights, SizeClass};
use twizzler_store as store;

use super::record::Record;
use super::{View, entry};
use crate::machine::entry::Access;
use crate::object::{Touched, registry, system};

/// What became of a fault that is no error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resolved {
    /// Something was mapped or filled.
    Changed,
    /// All is as it should be: another CPU has just made it so.
    NothingToDo,
}

/// What is wrong, and the object that it concerns, if there is one.
pub(crate) type Wrong = (FaultKind, ObjId);

/// How far below its stack an access counts as the stack's overflow.
const STACK_REACH_BYTES: u64 = 1 << 20;

/// Makes an access possible, if the view and the object there allow it.
///
/// # Errors
/// What is wrong.
pub(crate) fn resolve(
    view: &Arc<View>,
    address: u64,
    access: Access,
    stack_low: u64,
) -> Result<Resolved, Wrong> {
    let none = |kind| (kind, ObjId::NONE);
    if address < PAGE_BYTES {
        return Err(none(FaultKind::NullPage));
    }
    let at = Slot::of(address).and_then(Slot::entry_slot);
    let (slot, class) = at.ok_or(none(FaultKind::NotMapped))?;
    let (record, mut resolved) = match view.record(slot) {
        Some(record) => (record, Resolved::NothingToDo),
        None => match map(view, slot, class)? {
            Some(record) => (record, Resolved::Changed),
            // Forgotten again already: the access will fault once more, and find why.
            None => return Ok(Resolved::Changed),
        },
    };
    let object = &record.object;
    let offset = address - slot.base();
    let overflow = address < stack_low && stack_low - address <= STACK_REACH_BYTES;
    let wrong = |kind| if overflow { (FaultKind::StackOverflow, object.id) } else { (kind, object.id) };
    if offset - offset % PAGE_BYTES == NULL_OFFSET {
        return Err(wrong(FaultKind::NullPage));
    }
    let metadata = offset - offset % PAGE_BYTES == METADATA_OFFSET;
    let needed = match access {
        Access::Read => Rights::READ,
        Access::Write => Rights::WRITE,
        Access::Fetch => Rights::EXECUTE,
    };
    if !record.rights.contains(needed) || (metadata && access == Access::Write) {
        return Err(wrong(FaultKind::NoRight));
    }
    match object.touch(offset / PAGE_BYTES, access) {
        Ok(Touched::Filled) => {
            system::count(system::Counter::FaultsFilled);
            resolved = Resolved::Changed;
        }
        Ok(Touched::Present) => {}
        Err(error) => return Err(wrong(kind_of_page(error))),
    }
    system::count(system::Counter::FaultsResolved);
    Ok(resolved)
}

/// Maps what the view's entry asks for. None: another CPU has made the view forget it meanwhile.
fn map(view: &Arc<View>, slot: Slot, class: SizeClass) -> Result<Option<Record>, Wrong> {
    let asked = match entry::copy(&view.object, slot) {
        Ok(asked) => asked,
        Err(Error::InvalidArgument) => return Err((FaultKind::BadView, ObjId::NONE)),
        Err(error) => return Err((kind_of(error), view.object.id)),
    };
    let (id, asked) = asked.ok_or((FaultKind::NotMapped, ObjId::NONE))?;
    let object = registry::find(id).map_err(|error| (kind_of(error), id))?;
    if object.size_class().range_bytes() < class.range_bytes() || asked.is_empty() {
        return Err((FaultKind::BadView, id));
    }
    if !object.rights().contains(asked) {
        return Err((FaultKind::NoRight, id));
    }
    // What can be written or executed can be read: the hardware has it so.
    let rights = asked | Rights::READ;
    object.map(view, slot, rights).map_err(|error| (kind_of(error), id))?;
    // Another CPU may have mapped something else there meanwhile, which then is in force.
    Ok(view.record(slot))
}

fn kind_of(error: Error) -> FaultKind {
    match error {
        Error::NoSuchObject | Error::NoNvm => FaultKind::NoSuchObject,
        Error::OutOfMemory => FaultKind::OutOfMemory,
        Error::OutOfNvm => FaultKind::OutOfNvm,
        Error::Unreadable => FaultKind::Unreadable,
        Error::OutOfRange => FaultKind::OutOfRange,
        Error::AccessDenied => FaultKind::NoRight,
        _ => FaultKind::Damaged,
    }
}

fn kind_of_page(error: store::Error) -> FaultKind {
    kind_of(error.into())
}
