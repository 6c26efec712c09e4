//! Rights, life, durability and size class of objects.

use bitflags::bitflags;

use crate::error::Error;

bitflags! {
    /// What may be done with an object. Write and execute imply read on x86.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
    pub struct Rights: u32 {
        /// Load.
        const READ = 1 << 0;
        /// Store.
        const WRITE = 1 << 1;
        /// Fetch instructions.
        const EXECUTE = 1 << 2;
        /// Delete the object.
        const DELETE = 1 << 3;
    }
}

impl Rights {
    /// Rights that an object grants, from an untrusted number; unknown bits are refused. Write and execute may
    /// stand side by side here: a program's text is written through one mapping and run through another. No
    /// single mapping has both.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for bits that mean nothing.
    pub fn granted(bits: u32) -> Result<Self, Error> {
        Self::from_bits(bits).ok_or(Error::InvalidArgument)
    }

    /// Rights of a mapping or pointer, from an untrusted number; unknown bits are refused.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for bits that mean nothing, or for write together with execute.
    pub fn checked(bits: u32) -> Result<Self, Error> {
        let rights = Self::from_bits(bits).ok_or(Error::InvalidArgument)?;
        if rights.contains(Self::WRITE | Self::EXECUTE) {
            return Err(Error::InvalidArgument);
        }
        Ok(rights)
    }
}

bitflags! {
    /// What an object is, for as long as it is; part of what its ID commits to.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
    pub struct ObjectFlags: u32 {
        /// Lies in NVM and outlives power cuts. Without it: in DRAM, until deleted or the power goes.
        const PERSISTENT = 1 << 0;
        /// The truth on media is the last committed root. Without it: changed in place.
        const VERSIONED = 1 << 1;
        /// The ID also commits to the content.
        const IMMUTABLE = 1 << 2;
        /// The object is a view: the kernel reads its entries.
        const VIEW = 1 << 3;
        /// The object is a thread: the kernel writes its state, nobody else does.
        const THREAD = 1 << 4;
        /// Made large (512 GiB) from the start.
        const LARGE = 1 << 5;
    }
}

impl ObjectFlags {
    /// Flags from an untrusted number; unknown bits are refused.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for bits that mean nothing.
    pub fn checked(bits: u32) -> Result<Self, Error> {
        Self::from_bits(bits).ok_or(Error::InvalidArgument)
    }

    /// Where the object lies.
    #[must_use]
    pub const fn life(self) -> Life {
        if self.contains(Self::PERSISTENT) { Life::Persistent } else { Life::Volatile }
    }

    /// How its changes become durable.
    #[must_use]
    pub const fn durability(self) -> Durability {
        if self.contains(Self::VERSIONED) { Durability::Versioned } else { Durability::InPlace }
    }

    /// The size class that it was created with.
    #[must_use]
    pub const fn size_class(self) -> SizeClass {
        if self.contains(Self::LARGE) { SizeClass::Large } else { SizeClass::Small }
    }
}

/// Where an object lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// In DRAM: gone with the power.
    Volatile,
    /// In NVM.
    Persistent,
}

/// How an object's changes become durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Programs flush or use transactions; the system never rolls it back.
    InPlace,
    /// The truth on media is the last committed root.
    Versioned,
}

/// How far an object may reach, and which page-table level it hangs off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum SizeClass {
    /// 1 GiB, one PDPT entry.
    Small = 0,
    /// 512 GiB, one PML4 entry.
    Large = 1,
    /// 2 MiB, one PD entry. Reserved: the map and the formats have its place, nothing makes one yet.
    Tiny = 2,
}

impl SizeClass {
    /// The range in bytes.
    #[must_use]
    pub const fn range_bytes(self) -> u64 {
        match self {
            Self::Small => 1 << 30,
            Self::Large => 1 << 39,
            Self::Tiny => 2 << 20,
        }
    }
}

impl TryFrom<u8> for SizeClass {
    type Error = Error;

    fn try_from(number: u8) -> Result<Self, Error> {
        match number {
            0 => Ok(Self::Small),
            1 => Ok(Self::Large),
            2 => Ok(Self::Tiny),
            _ => Err(Error::InvalidArgument),
        }
    }
}
