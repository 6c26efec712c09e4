//! Stacks: an object each, with a page below that must not be touched.

use twizzler_abi::address::{PAGE_BYTES, Slot};
use twizzler_abi::call::{ControlOp, USUAL_RIGHTS};
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId};

use crate::call;

/// Offset of a stack's lowest byte; the page below is the guard.
const LOW: u64 = BASE_OFFSET + PAGE_BYTES;
/// Offset of a stack's end. An object of up to 2 MiB needs a single table.
const TOP: u64 = 2 << 20;

/// Makes a stack.
pub(crate) fn create() -> Result<ObjId, Error> {
    let id = call::create(ObjectFlags::empty(), USUAL_RIGHTS)?;
    call::control(ControlOp::Forbid, id, BASE_OFFSET, PAGE_BYTES).inspect_err(|_| {
        let _ = call::delete(id);
    })?;
    Ok(id)
}

/// The lowest address of a stack that is mapped at `slot`.
pub(crate) const fn low(slot: Slot) -> u64 {
    slot.base() + LOW
}

/// The end of a stack that is mapped at `slot`.
pub(crate) const fn top(slot: Slot) -> u64 {
    slot.base() + TOP
}
