//! Type objects: where in a store the descriptions lie.

use twizzler_abi::call::{CreateSpec, USUAL_RIGHTS};
use twizzler_abi::id::IdInputs;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{ObjId, Rights};

use crate::stored::Fingerprint;

/// Fingerprint of type objects themselves: plain bytes, of [`super::TypeTable::encode`].
pub const TYPE_OBJECT_FINGERPRINT: u64 = Fingerprint::new("twizzler.type", 1).finish();

/// What the object is made of that describes the type with this fingerprint.
#[must_use]
pub fn type_object_spec(fingerprint: u64) -> CreateSpec {
    let mut nonce = *b"twz type\0\0\0\0\0\0\0\0";
    nonce[8..].copy_from_slice(&fingerprint.to_le_bytes());
    CreateSpec {
        nonce,
        owner: ObjId::NONE,
        flags: ObjectFlags::PERSISTENT.bits(),
        default_rights: USUAL_RIGHTS.bits(),
        fingerprint: TYPE_OBJECT_FINGERPRINT,
    }
}

/// The ID of the object that describes the type with this fingerprint.
#[must_use]
pub fn type_object(fingerprint: u64) -> ObjId {
    let spec = type_object_spec(fingerprint);
    ObjId::derive(&IdInputs {
        nonce: spec.nonce,
        owner: spec.owner,
        flags: ObjectFlags::from_bits_truncate(spec.flags),
        default_rights: Rights::from_bits_truncate(spec.default_rights),
    })
}
