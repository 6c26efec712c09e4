//! Layout of an object. ◆ Design, section 3.
//!
//! | offset | page |
//! |---|---|
//! | 0x0000 | *null page*: never mapped |
//! | 0x1000 | *metadata*: [`Metadata`], read-only for everyone |
//! | 0x2000 | *header*: [`Header`] and the inline part of the FOT, writable like data |
//! | 0x3000 | the *base*: the typed root |

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::PAGE_BYTES;
use crate::error::Error;
use crate::id::{IdInputs, ObjId};
use crate::pointer::FotEntry;
use crate::rights::{ObjectFlags, Rights};

/// Offset of the null page.
pub const NULL_OFFSET: u64 = 0;
/// Offset of the metadata page.
pub const METADATA_OFFSET: u64 = PAGE_BYTES;
/// Offset of the header.
pub const HEADER_OFFSET: u64 = 2 * PAGE_BYTES;
/// Offset of the base, where the typed root or a file's first byte lies.
pub const BASE_OFFSET: u64 = 3 * PAGE_BYTES;

/// First bytes of the metadata page: "TWZOBJ" and the layout's version, 1.
pub const METADATA_MAGIC: u64 = u64::from_le_bytes(*b"TWZOBJ\x01\0");

/// The fixed part of the metadata page. Extension records (tag, length, value) follow it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Metadata {
    /// [`METADATA_MAGIC`].
    pub magic: u64,
    /// Features that a reader may ignore.
    pub compat: u32,
    /// Features that whoever doesn't know them must not open.
    pub incompat: u32,
    /// Features that whoever doesn't know them must not write.
    pub ro_compat: u32,
    /// [`ObjectFlags`].
    pub flags: u32,
    /// [`Rights`] of everyone.
    pub default_rights: u32,
    /// Zero.
    pub reserved: u32,
    /// The object's own ID.
    pub id: ObjId,
    /// Nonce that the ID was made of.
    pub nonce: [u8; 16],
    /// Owner's key object.
    pub owner: ObjId,
    /// Fingerprint of the base type; 0: untyped bytes.
    pub fingerprint: u64,
    /// Bytes of the type table among the extension records.
    pub type_table_bytes: u32,
    /// Bytes of extension records.
    pub extension_bytes: u32,
    /// Zero.
    pub reserved2: [u8; 28],
    /// CRC-32 (IEEE) of all bytes before this field.
    pub checksum: u32,
}

const _: () = assert!(size_of::<Metadata>() == 128);

impl Metadata {
    /// Metadata of a new object; the ID follows from `inputs`.
    #[must_use]
    pub fn new(inputs: &IdInputs, fingerprint: u64) -> Self {
        Self {
            magic: METADATA_MAGIC,
            compat: 0,
            incompat: 0,
            ro_compat: 0,
            flags: inputs.flags.bits(),
            default_rights: inputs.default_rights.bits(),
            reserved: 0,
            id: ObjId::derive(inputs),
            nonce: inputs.nonce,
            owner: inputs.owner,
            fingerprint,
            type_table_bytes: 0,
            extension_bytes: 0,
            reserved2: [0; 28],
            checksum: 0,
        }
        .sealed()
    }

    /// The same with its checksum made right.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.checksum = self.computed_checksum();
        self
    }

    fn computed_checksum(&self) -> u32 {
        let bytes = self.as_bytes();
        crc32fast::hash(&bytes[..bytes.len() - 4])
    }

    /// What the ID commits to, if the fields have meaning.
    ///
    /// # Errors
    /// [`Error::Damaged`] for flags or rights that mean nothing.
    pub fn inputs(&self) -> Result<IdInputs, Error> {
        Ok(IdInputs {
            nonce: self.nonce,
            owner: self.owner,
            flags: ObjectFlags::checked(self.flags).map_err(|_| Error::Damaged)?,
            default_rights: Rights::granted(self.default_rights).map_err(|_| Error::Damaged)?,
        })
    }

    /// Checks everything that can be checked: magic, checksum, masks, and that the object is `id`.
    ///
    /// # Errors
    /// [`Error::Damaged`] where a check fails, [`Error::NotSupported`] for features this version doesn't know.
    pub fn verify(&self, id: ObjId) -> Result<IdInputs, Error> {
        if self.magic != METADATA_MAGIC || self.checksum != self.computed_checksum() || self.id != id {
            return Err(Error::Damaged);
        }
        if self.incompat != 0 || self.ro_compat != 0 {
            return Err(Error::NotSupported);
        }
        let inputs = self.inputs()?;
        if ObjId::derive(&inputs) != id {
            return Err(Error::Damaged);
        }
        Ok(inputs)
    }
}

/// FOT entries that lie in the header page, counting entry 0, which stands for the object itself.
pub const FOT_INLINE_ENTRIES: usize = 120;
/// Offset of the inline part of the FOT.
pub const FOT_OFFSET: u64 = HEADER_OFFSET + PAGE_BYTES - (FOT_INLINE_ENTRIES * size_of::<FotEntry>()) as u64;
/// Version words of lock domains in the header.
pub const DOMAINS: usize = 16;

/// Bytes of a declared type's name in the header.
pub const TYPE_NAME_BYTES: usize = 56;

/// The fixed part of the header page, at [`HEADER_OFFSET`]. Programs write it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Header {
    /// Bytes in use from the base: a file's length, or what the allocator has handed out so far.
    pub len_bytes: u64,
    /// Offset of the allocator's root in the object; 0: none.
    pub allocator: u64,
    /// FOT entries ever used, counting entry 0.
    pub fot_len_entries: u64,
    /// Companion object with the FOT entries from [`FOT_INLINE_ENTRIES`] on, or none.
    pub fot_companion: ObjId,
    /// Declared name of the base type, padded with zeros, for messages; the fingerprint is what counts.
    pub type_name: [u8; TYPE_NAME_BYTES],
    /// Who holds the object's lock; volatile in meaning: the word of a program that no longer lives counts as free.
    pub lock: u64,
    /// Fingerprint of the type that the base was migrated from; 0: never. While the metadata still say this one, it is not
    /// what counts, but [`Header::migrated_to`].
    pub migrated_from: u64,
    /// Fingerprint of the type that the base was migrated to.
    pub migrated_to: u64,
    /// Tells types with the same declared names in different versions from others: a hash of the base type's name and those of its arguments. 0: not
    /// known.
    pub type_key: u64,
    /// Version of each lock domain: the last transaction that changed it.
    pub domain_versions: [u64; DOMAINS],
}

const _: () = assert!(size_of::<Header>() as u64 <= FOT_OFFSET - HEADER_OFFSET);
const _: () = assert!(FOT_OFFSET == HEADER_OFFSET + 0x100);

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        let inputs = IdInputs {
            nonce: [3; 16],
            owner: ObjId::NONE,
            flags: ObjectFlags::PERSISTENT,
            default_rights: Rights::READ,
        };
        Metadata::new(&inputs, 9)
    }

    #[test]
    fn new_metadata_verifies() {
        let metadata = metadata();
        assert_eq!(metadata.verify(metadata.id), metadata.inputs());
        assert_eq!(metadata.verify(ObjId::new(1)), Err(Error::Damaged));
    }

    #[test]
    fn each_flipped_bit_is_noticed() {
        let good = metadata();
        for bit in 0..size_of::<Metadata>() * 8 {
            let mut bad = good;
            bad.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
            assert!(bad.verify(good.id).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn resealing_does_not_forge_rights() {
        let good = metadata();
        let forged = Metadata { default_rights: 3, ..good }.sealed();
        assert_eq!(forged.verify(good.id), Err(Error::Damaged));
    }
}
