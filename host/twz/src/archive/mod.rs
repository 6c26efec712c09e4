//! Archives: objects with their names, to be taken from one store to another. ◆
//!
//! A stream, little-endian, described in `docs/twz.md`: a head of 64 bytes, then records, the last of which holds the BLAKE3 hash of
//! all bytes before it. Each record is `tag: u32, check: u32, length: u64` and that many bytes; the check is the CRC-32 of tag,
//! length and bytes.
//!
//! Objects keep their IDs, so pointers between them hold wherever they are taken. An ID commits to what an object is made of;
//! whoever reads an archive verifies it.

pub mod read;
pub mod write;

use twizzler_abi::{Error, ObjId};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First bytes of an archive.
pub const MAGIC: [u8; 8] = *b"TWZARCHV";
/// Version of the format.
pub const VERSION: u32 = 1;
/// Bytes of a record at most.
pub const RECORD_BYTES_MAX: u64 = (2 << 20) + 64;
/// Bytes of pages in one record at most.
pub const PAGES_BYTES_MAX: u64 = 2 << 20;

/// The head of an archive.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Head {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// Features that a reader must know. None yet.
    pub features: u32,
    /// Objects in the archive.
    pub objects: u64,
    /// Names in it, those of directories too.
    pub names: u64,
    /// Bytes of pages in it.
    pub bytes: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

const _: () = assert!(size_of::<Head>() == 64);

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Tag {
    /// A directory: its path.
    Directory = 1,
    /// An object: [`ObjectRecord`], then its metadata with extension records. What follows up to the next object is its pages.
    Object = 2,
    /// Pages of the object: the offset (8 bytes), then whole pages.
    Pages = 3,
    /// Pages that exist and are zero: offset and length, 8 bytes each.
    Zeros = 4,
    /// A name: the object's ID (16 bytes), then the path.
    Name = 5,
    /// The end: BLAKE3 of all bytes before this record.
    End = 6,
}

impl TryFrom<u32> for Tag {
    type Error = Error;

    fn try_from(number: u32) -> Result<Self, Error> {
        let all = [Self::Directory, Self::Object, Self::Pages, Self::Zeros, Self::Name, Self::End];
        all.into_iter().find(|&tag| tag as u32 == number).ok_or(Error::NotSupported)
    }
}

/// What an archive says of an object beside its metadata.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ObjectRecord {
    /// Its ID.
    pub id: ObjId,
    /// Revocation generation: never lower in a store than in what it imports.
    pub revocation: u64,
    /// Its size class.
    pub size_class: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<ObjectRecord>() == 32);

/// The check of a record.
fn check(tag: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&tag.to_le_bytes());
    hasher.update(&(body.len() as u64).to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}
