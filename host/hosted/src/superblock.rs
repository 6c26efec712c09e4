//! The store's description of itself: the file `store`, 512 bytes, one sector. It is written over in place, so that a store on a full disk can be
//! opened and closed.
//!
//! Written when the store is made, and when its durability is lowered. A store that is open for [`Durability::ProcessKill`] names
//! the boot in which it is open: found in a later boot, the machine went down meanwhile.

use twizzler_abi::object::METADATA_MAGIC;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::StoreError;
use crate::options::{Durability, Mode};

/// The file.
pub(crate) const FILE: &str = "store";
/// First bytes.
const MAGIC: [u8; 8] = *b"TWZDIR\r\n";
/// Version of the layout.
const VERSION: u32 = 1;

/// The description, as it lies in the file. Little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Superblock {
    magic: [u8; 8],
    version: u32,
    /// Features that a reader may ignore.
    compat: u32,
    /// Features that whoever doesn't know them must not open.
    incompat: u32,
    /// Features that whoever doesn't know them must not write.
    ro_compat: u32,
    /// Names the store.
    pub(crate) uuid: [u8; 16],
    /// Magic of the objects' metadata: their format.
    objects: u64,
    /// Bytes of the log.
    pub(crate) log_bytes: u64,
    /// 0: power cut, 1: process kill.
    durability: u32,
    reserved: u32,
    /// The boot in which the store is open for process kill; 0: closed.
    pub(crate) open_in: [u8; 16],
    reserved2: [u8; 428],
    /// CRC-32 (IEEE) of all before.
    checksum: u32,
}

const _: () = assert!(size_of::<Superblock>() == 512 && cfg!(target_endian = "little"));

impl Superblock {
    pub(crate) fn new(uuid: [u8; 16], log_bytes: u64, durability: Durability) -> Self {
        let mut new = Self {
            magic: MAGIC,
            version: VERSION,
            compat: 0,
            incompat: 0,
            ro_compat: 0,
            uuid,
            objects: METADATA_MAGIC,
            log_bytes,
            durability: 0,
            reserved: 0,
            open_in: [0; 16],
            reserved2: [0; 428],
            checksum: 0,
        };
        new.set_durability(durability);
        new
    }

    pub(crate) const fn version(&self) -> u32 {
        self.version
    }

    pub(crate) const fn durability(&self) -> Durability {
        if self.durability == 0 { Durability::PowerCut } else { Durability::ProcessKill }
    }

    pub(crate) const fn set_durability(&mut self, durability: Durability) {
        self.durability = match durability {
            Durability::PowerCut => 0,
            Durability::ProcessKill => 1,
        };
    }

    fn computed_checksum(&self) -> u32 {
        let bytes = self.as_bytes();
        crc32fast::hash(&bytes[..bytes.len() - 4])
    }

    /// The file's bytes.
    pub(crate) fn sealed(&self) -> [u8; 512] {
        let sealed = Self { checksum: self.computed_checksum(), ..*self };
        let mut bytes = [0; 512];
        bytes.copy_from_slice(sealed.as_bytes());
        bytes
    }

    /// What these bytes say, if it can be acted upon.
    pub(crate) fn parse(bytes: &[u8], mode: Mode) -> Result<Self, StoreError> {
        let damaged = |what| Err(StoreError::Damaged { what });
        let Ok((block, _)) = Self::read_from_prefix(bytes) else {
            return damaged("its description is cut short");
        };
        if block.magic != MAGIC {
            return damaged("its description doesn't begin as one");
        }
        // Before the checksum: where a later version has it is not known.
        if block.version > VERSION {
            return Err(StoreError::Newer { version: block.version, features: 0 });
        }
        if block.checksum != block.computed_checksum() {
            return damaged("the checksum of its description is wrong");
        }
        let unknown = if mode == Mode::Write { block.incompat | block.ro_compat } else { block.incompat };
        if unknown != 0 || block.objects != METADATA_MAGIC {
            return Err(StoreError::Newer { version: block.version, features: unknown });
        }
        if block.durability > 1 {
            return damaged("its durability is none that there is");
        }
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Superblock {
        Superblock::new([7; 16], 1 << 20, Durability::PowerCut)
    }

    #[test]
    fn a_description_reads_as_it_was_written() {
        let read = Superblock::parse(&block().sealed(), Mode::Write).expect("sound");
        assert_eq!((read.uuid, read.log_bytes, read.durability()), ([7; 16], 1 << 20, Durability::PowerCut));
    }

    #[test]
    fn each_flipped_bit_is_noticed() {
        for bit in 0..512 * 8 {
            let mut bytes = block().sealed();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::parse(&bytes, Mode::Write).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn unknown_features_keep_out_whom_they_concern() {
        let parse = |block: Superblock, mode| Superblock::parse(&block.sealed(), mode);
        assert!(parse(Superblock { compat: 1, ..block() }, Mode::Write).is_ok());
        let ro = Superblock { ro_compat: 4, ..block() };
        assert!(parse(ro, Mode::Read).is_ok());
        assert!(matches!(parse(ro, Mode::Write), Err(StoreError::Newer { version: 1, features: 4 })));
        let incompat = Superblock { incompat: 2, ..block() };
        assert!(matches!(parse(incompat, Mode::Read), Err(StoreError::Newer { features: 2, .. })));
        let newer = Superblock { version: 2, ..block() };
        assert!(matches!(parse(newer, Mode::Read), Err(StoreError::Newer { version: 2, .. })));
    }

    #[test]
    fn a_short_file_is_damage() {
        assert!(matches!(
            Superblock::parse(&block().sealed()[..200], Mode::Read),
            Err(StoreError::Damaged { .. })
        ));
    }
}
