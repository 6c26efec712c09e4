//! Encodings of invariant pointers and of entries of the foreign object table (FOT). ◆ Design, section 4.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::Error;
use crate::id::ObjId;
use crate::rights::Rights;

/// Bits of an offset in a pointer.
pub const OFFSET_BITS: u32 = 40;
/// Bits between offset and index that are zero.
pub const SPARE_BITS: u32 = 4;
/// Bits of a FOT index.
pub const INDEX_BITS: u32 = 20;
/// FOT entries that an object can have, counting entry 0.
pub const FOT_ENTRIES_MAX: u64 = 1 << INDEX_BITS;

const _: () = assert!(OFFSET_BITS + SPARE_BITS + INDEX_BITS == 64);
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;

/// The bits of an invariant pointer, as they lie in an object. They mean something only there: their
/// index counts in the FOT of the object that holds them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct PointerBits(pub u64);

impl PointerBits {
    /// Points nowhere.
    pub const NULL: Self = Self(0);

    /// A pointer to `offset` in the object of FOT entry `index`; index 0 is the object that holds the pointer.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] where either doesn't fit.
    pub const fn new(index: u64, offset: u64) -> Result<Self, Error> {
        if index >= FOT_ENTRIES_MAX || offset > OFFSET_MASK {
            return Err(Error::OutOfRange);
        }
        Ok(Self(index << (OFFSET_BITS + SPARE_BITS) | offset))
    }

    /// The FOT index.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.0 >> (OFFSET_BITS + SPARE_BITS)
    }

    /// The offset in bytes.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.0 & OFFSET_MASK
    }

    /// True for the null pointer.
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// True where the spare bits are zero, as they must be.
    #[must_use]
    pub const fn is_well_formed(self) -> bool {
        self.0 & !(OFFSET_MASK | !0 << (OFFSET_BITS + SPARE_BITS)) == 0
    }
}

/// What a FOT entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FotKind {
    /// Never used.
    Free = 0,
    /// Names its target by ID.
    Id = 1,
    /// Names its target by a name to resolve late: `target` holds offset and length of the name in this object.
    Name = 2,
}

/// One entry of the FOT.
///
/// Insertion is crash-safe: the body (all but `active`) is written and made durable; then one store
/// of `active` makes the entry exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FotEntry {
    /// The target's ID, or (offset, length) of a name.
    pub target: ObjId,
    /// Fingerprint of the type that is expected at the target's base; 0: any.
    pub fingerprint: u64,
    /// Activating word: bits 0-7 kind, 8-15 rights, 16-31 zero, 32-63 CRC-32 of the body and of bits 0-31.
    pub active: u64,
}

const _: () = assert!(size_of::<FotEntry>() == 32);

impl FotEntry {
    /// A complete entry that names its target by ID.
    #[must_use]
    pub fn to_id(target: ObjId, rights: Rights, fingerprint: u64) -> Self {
        Self { target, fingerprint, active: 0 }.activated(FotKind::Id, rights)
    }

    /// A complete entry that names its target by the name that lies at `offset` in the object that holds the entry.
    #[must_use]
    pub fn to_name(offset: u64, len_bytes: u64, rights: Rights, fingerprint: u64) -> Self {
        let target = ObjId { hi: offset, lo: len_bytes };
        Self { target, fingerprint, active: 0 }.activated(FotKind::Name, rights)
    }

    fn activated(mut self, kind: FotKind, rights: Rights) -> Self {
        let low = kind as u64 | u64::from(rights.bits() & 0xff) << 8;
        self.active = low | self.check(low) << 32;
        self
    }

    fn check(&self, low: u64) -> u64 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.as_bytes()[..24]);
        hasher.update(&low.to_le_bytes()[..4]);
        u64::from(hasher.finalize())
    }

    /// Kind and rights of the entry.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the check code or a field is wrong.
    pub fn decode(&self) -> Result<(FotKind, Rights), Error> {
        if self.active == 0 {
            return Ok((FotKind::Free, Rights::empty()));
        }
        let low = self.active & 0xffff_ffff;
        if self.active >> 32 != self.check(low) || low >> 16 != 0 {
            return Err(Error::Damaged);
        }
        let rights = Rights::checked((low >> 8 & 0xff) as u32).map_err(|_| Error::Damaged)?;
        match low & 0xff {
            1 => Ok((FotKind::Id, rights)),
            2 => Ok((FotKind::Name, rights)),
            _ => Err(Error::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pointers_round_trip(index in 0..FOT_ENTRIES_MAX, offset in 0..=OFFSET_MASK) {
            let bits = PointerBits::new(index, offset).expect("in range");
            prop_assert_eq!((bits.index(), bits.offset()), (index, offset));
            prop_assert!(bits.is_well_formed());
        }

        #[test]
        fn a_flipped_bit_of_an_entry_is_noticed(id: u128, fingerprint: u64, bit in 0usize..256) {
            let good = FotEntry::to_id(ObjId::new(id), Rights::READ, fingerprint);
            prop_assert_eq!(good.decode(), Ok((FotKind::Id, Rights::READ)));
            let mut bad = good;
            bad.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(bad.decode(), Err(Error::Damaged));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(PointerBits::new(FOT_ENTRIES_MAX, 0), Err(Error::OutOfRange));
        assert_eq!(PointerBits::new(0, OFFSET_MASK + 1), Err(Error::OutOfRange));
        assert!(!PointerBits(1 << 41).is_well_formed());
    }
}
