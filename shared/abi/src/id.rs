//! Object IDs: 128 bits that commit to what the object is.

use core::fmt;
use core::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::rights::{ObjectFlags, Rights};

/// Names an object: everywhere, for ever. Zero names none.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct ObjId {
    /// Bits 64 to 127. First, so that the derived order is the numeric order.
    pub hi: u64,
    /// Bits 0 to 63.
    pub lo: u64,
}

const _: () = assert!(size_of::<ObjId>() == 16);

/// What an ID is made of. Whoever holds these can compute the ID; nobody can find another set for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdInputs {
    /// Distinguishes objects that are otherwise alike. Random, unless the creator wants to know the ID beforehand.
    pub nonce: [u8; 16],
    /// The ID of the owner's key object, or [`ObjId::NONE`].
    pub owner: ObjId,
    /// Life, durability class and kind.
    pub flags: ObjectFlags,
    /// What anyone may do with the object who has no capability for it.
    pub default_rights: Rights,
}

/// Separates this use of BLAKE3 from all others.
const DOMAIN: &str = "twizzler 2026 object id";
/// Version of the recipe, hashed first.
const RECIPE: u16 = 1;

impl ObjId {
    /// No object.
    pub const NONE: Self = Self { hi: 0, lo: 0 };

    /// An ID from its number.
    #[must_use]
    pub const fn new(value: u128) -> Self {
        Self { hi: (value >> 64) as u64, lo: value as u64 }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u128 {
        (self.hi as u128) << 64 | self.lo as u128
    }

    /// True for [`ObjId::NONE`].
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.hi == 0 && self.lo == 0
    }

    /// The ID that `inputs` commit to: BLAKE3 in key-derivation mode, cut to 128 bits.
    #[must_use]
    pub fn derive(inputs: &IdInputs) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        hasher.update(&RECIPE.to_le_bytes());
        hasher.update(&inputs.nonce);
        hasher.update(&inputs.owner.get().to_le_bytes());
        hasher.update(&inputs.flags.bits().to_le_bytes());
        hasher.update(&inputs.default_rights.bits().to_le_bytes());
        let mut cut = [0; 16];
        cut.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self::new(u128::from_le_bytes(cut))
    }
}

impl fmt::Display for ObjId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.get())
    }
}

impl fmt::Debug for ObjId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is not 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParseIdError;

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object ID is 32 hexadecimal digits")
    }
}

impl FromStr for ObjId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ParseIdError);
        }
        u128::from_str_radix(text, 16).map(Self::new).map_err(|_| ParseIdError)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    fn inputs() -> IdInputs {
        IdInputs {
            nonce: [7; 16],
            owner: ObjId::NONE,
            flags: ObjectFlags::PERSISTENT,
            default_rights: Rights::READ | Rights::WRITE,
        }
    }

    #[test]
    fn every_input_changes_the_id() {
        let id = ObjId::derive(&inputs());
        let others = [
            IdInputs { nonce: [8; 16], ..inputs() },
            IdInputs { owner: ObjId::new(1), ..inputs() },
            IdInputs { flags: ObjectFlags::empty(), ..inputs() },
            IdInputs { default_rights: Rights::READ, ..inputs() },
        ];
        for other in others {
            assert_ne!(ObjId::derive(&other), id);
        }
    }

    #[test]
    fn the_recipe_does_not_drift() {
        assert_eq!(ObjId::derive(&inputs()).to_string(), "3c336f19c5b9405d1a39ea059cc1a788");
    }

    proptest! {
        #[test]
        fn text_round_trips(value: u128) {
            let id = ObjId::new(value);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn order_is_numeric(a: u128, b: u128) {
            prop_assert_eq!(ObjId::new(a).cmp(&ObjId::new(b)), a.cmp(&b));
        }
    }
}
