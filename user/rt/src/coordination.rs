//! The coordination segment: a volatile object that all programs of the system share, from the first one's need of it until the machine
//! stops. Its ID is known, because it is made of a known nonce.

use core::sync::atomic::{AtomicU64, Ordering};

use twizzler_abi::call::{ControlOp, CreateSpec, USUAL_RIGHTS};
use twizzler_abi::id::IdInputs;
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId, Rights};
use twizzler_object::backend::COORDINATION_BYTES;

use crate::call;
use crate::mapping::Mapping;

const NONCE: [u8; 16] = *b"coordination 001";

/// Where the segment is mapped; 0: not yet.
static ADDRESS: AtomicU64 = AtomicU64::new(0);

/// The segment's address in this program.
///
/// # Panics
/// Where the system has no memory for it: then no program could use persistent objects.
pub(crate) fn address() -> u64 {
    let known = ADDRESS.load(Ordering::Acquire);
    if known != 0 {
        return known;
    }
    let mapping = map().expect("memory for the coordination segment");
    let address = mapping.address() + BASE_OFFSET;
    // Release pairs with the acquire above. Another thread may have been first: then its mapping counts.
    match ADDRESS.compare_exchange(0, address, Ordering::Release, Ordering::Acquire) {
        Ok(_) => {
            // Mapped from now on.
            core::mem::forget(mapping);
            address
        }
        Err(theirs) => theirs,
    }
}

/// Makes the segment if nobody has yet, and maps it.
fn map() -> Result<Mapping, Error> {
    let spec = CreateSpec {
        nonce: NONCE,
        owner: ObjId::NONE,
        flags: ObjectFlags::empty().bits(),
        default_rights: USUAL_RIGHTS.bits(),
        fingerprint: 0,
    };
    let id = match call::create_object(&spec) {
        Ok(id) => id,
        Err(Error::Exists) => ObjId::derive(&IdInputs {
            nonce: NONCE,
            owner: ObjId::NONE,
            flags: ObjectFlags::empty(),
            default_rights: USUAL_RIGHTS,
        }),
        Err(error) => return Err(error),
    };
    call::control(ControlOp::Populate, id, BASE_OFFSET, COORDINATION_BYTES)?;
    Mapping::new(id, Rights::READ | Rights::WRITE)
}
