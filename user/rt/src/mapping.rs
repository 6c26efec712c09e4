//! An object mapped in a slot of its own.

use core::sync::atomic::{AtomicU64, Ordering};

use twizzler_abi::address::{Slot, range_bytes};
use twizzler_abi::call::StatOp;
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET, Header};
use twizzler_abi::rights::SizeClass;
use twizzler_abi::{Error, ObjId, Rights};

use crate::{call, memory, slots};

/// An object in a slot that this value owns; unmapped when dropped.
///
/// Offsets count from the object's start. Access to a page that the object can't provide is a fault, which
/// ends the thread or goes to its handler.
#[derive(Debug)]
pub struct Mapping {
    id: ObjId,
    slot: Slot,
}

impl Mapping {
    /// Maps an object that exists.
    ///
    /// # Errors
    /// That there is no such object, that it does not grant the rights, or that no slot is free.
    pub fn new(id: ObjId, rights: Rights) -> Result<Self, Error> {
        let stat = call::stat(StatOp::Object, id)?;
        if let Some(error) = Error::from_number(stat.quarantine) {
            return Err(error);
        }
        if !Rights::from_bits_truncate(stat.default_rights).contains(rights) {
            return Err(Error::AccessDenied);
        }
        let class = u8::try_from(stat.size_class).map_err(|_| Error::NotSupported)?;
        Self::of_class(id, rights, SizeClass::try_from(class)?)
    }

    /// Maps the first GiB without asking whether the object exists: the first access tells.
    ///
    /// # Errors
    /// [`Error::TooMany`] where no slot is free.
    pub fn unchecked(id: ObjId, rights: Rights) -> Result<Self, Error> {
        Self::of_class(id, rights, SizeClass::Small)
    }

    fn of_class(id: ObjId, rights: Rights, class: SizeClass) -> Result<Self, Error> {
        let slot = slots::take(class)?;
        slots::set_entry(slot, id, rights);
        Ok(Self { id, slot })
    }

    /// The object.
    #[must_use]
    pub const fn id(&self) -> ObjId {
        self.id
    }

    /// The slot.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        self.slot
    }

    /// The object's first address.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.slot.base()
    }

    /// Bytes that the mapping reaches over.
    #[must_use]
    pub const fn range_bytes(&self) -> u64 {
        range_bytes(self.slot.base())
    }

    /// Copies bytes out of the object.
    ///
    /// # Panics
    /// Where the range is not in the object.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) {
        let address = self.range(offset, bytes.len() as u64);
        // SAFETY: in the slot that this mapping owns.
        unsafe { memory::copy_in(address, bytes) }
    }

    /// Copies bytes into the object.
    ///
    /// # Panics
    /// Where the range is not in the object.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        let address = self.range(offset, bytes.len() as u64);
        // SAFETY: in the slot that this mapping owns, which holds nothing that Rust knows of.
        unsafe { memory::copy_out(bytes, address) }
    }

    /// Writes zeros.
    ///
    /// # Panics
    /// Where the range is not in the object.
    pub fn zero(&self, offset: u64, len_bytes: u64) {
        let address = self.range(offset, len_bytes);
        // SAFETY: in the slot that this mapping owns, which holds nothing that Rust knows of.
        unsafe { memory::zero(address, len_bytes) }
    }

    /// A word of the object.
    ///
    /// # Panics
    /// Where the offset is not aligned or not in the object.
    #[must_use]
    pub fn word(&self, offset: u64) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8), "words are aligned");
        let address = self.range(offset, 8);
        // SAFETY: aligned, in the slot that this mapping owns while the reference lives.
        unsafe { memory::word(address) }
    }

    /// `len_bytes` of the object's header, at most what the object can hold.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        let at = HEADER_OFFSET + core::mem::offset_of!(Header, len_bytes) as u64;
        self.word(at).load(Ordering::Acquire).min(self.range_bytes() - BASE_OFFSET)
    }

    /// The address of a range that is checked to lie in the object.
    fn range(&self, offset: u64, len_bytes: u64) -> u64 {
        let end = offset.checked_add(len_bytes);
        assert!(end.is_some_and(|end| end <= self.range_bytes()), "the range lies in the object");
        self.slot.base() + offset
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        slots::clear_entry(self.slot);
        slots::give_back(self.slot);
    }
}
