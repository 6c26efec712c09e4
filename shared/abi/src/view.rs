//! Views: objects that say which object is in which slot. ◆ Design, section 5.
//!
//! A view's entries form one array at its base, indexed by slot number. A program maps an object by
//! writing an entry; the kernel copies the entry at the first fault in that slot, checks the copy and
//! records what it mapped. The record stays in force until [`crate::call::Call::Invalidate`], whatever
//! the entry says later.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::{SLOTS, Slot};
use crate::error::Error;
use crate::id::ObjId;
use crate::object::BASE_OFFSET;
use crate::rights::Rights;

/// One slot's entry.
///
/// Written whole by the sequence word: make `sequence` odd, write the rest, make it even and higher by
/// two than before. A reader copies the entry between two reads of `sequence` that agree and are even.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ViewEntry {
    /// The object, or [`ObjId::NONE`] for an empty slot.
    pub id: ObjId,
    /// [`Rights`] wanted: read, write, execute.
    pub rights: u32,
    /// Zero.
    pub reserved: u32,
    /// Even: stable. Odd: being written.
    pub sequence: u64,
}

const _: () = assert!(size_of::<ViewEntry>() == 32);

/// Offset in a view of the entry of `slot`.
#[must_use]
pub const fn entry_offset(slot: Slot) -> u64 {
    BASE_OFFSET + slot.number() as u64 * size_of::<ViewEntry>() as u64
}

/// Bytes of a view's entries.
pub const ENTRIES_BYTES: u64 = SLOTS as u64 * size_of::<ViewEntry>() as u64;

impl ViewEntry {
    /// What the entry asks for: None where the slot is empty.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for rights that can't be mapped or fields that must be zero.
    pub fn decode(&self) -> Result<Option<(ObjId, Rights)>, Error> {
        if self.id.is_none() {
            return Ok(None);
        }
        let rights = Rights::checked(self.rights)?;
        if self.reserved != 0 || !(Rights::READ | Rights::WRITE | Rights::EXECUTE).contains(rights) {
            return Err(Error::InvalidArgument);
        }
        Ok(Some((self.id, rights)))
    }
}
