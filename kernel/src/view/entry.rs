//! Reading a view's entries.

use twizzler_abi::address::Slot;
use twizzler_abi::view::{ViewEntry, entry_offset};
use twizzler_abi::{Error, ObjId, Rights};
use zerocopy::{FromZeros, IntoBytes};

use crate::machine::lock;
use crate::object::Object;

/// How often an entry is read that is being written.
const TRIES: u32 = 1000;

/// What a view's entry for a slot asks for; None: nothing. Copied once, whole by its sequence word.
///
/// # Errors
/// [`Error::InvalidArgument`] if it makes no sense or is never stable, and what reading the view meets.
pub(super) fn copy(view: &Object, slot: Slot) -> Result<Option<(ObjId, Rights)>, Error> {
    for _ in 0..TRIES {
        let before = sequence(view, slot)?;
        let mut entry = ViewEntry::new_zeroed();
        view.read(entry_offset(slot), entry.as_mut_bytes())?;
        if before.is_multiple_of(2) && entry.sequence == before && sequence(view, slot)? == before {
            return entry.decode();
        }
        lock::relax();
    }
    Err(Error::InvalidArgument)
}

fn sequence(view: &Object, slot: Slot) -> Result<u64, Error> {
    let mut word = [0; 8];
    view.read(entry_offset(slot) + core::mem::offset_of!(ViewEntry, sequence) as u64, &mut word)?;
    Ok(u64::from_le_bytes(word))
}
