//! Entries, as they lie in the map.

use alloc::vec::Vec;

use twizzler_abi::{Error, ObjId};

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// An object. It may have been deleted by its ID: a name does not keep it.
    Object(ObjId),
    /// A directory.
    Directory,
}

/// Number of a directory. The root's is 0.
pub(crate) type DirectoryNo = u64;

/// What the map says of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bound {
    Object(ObjId),
    Directory(DirectoryNo),
}

const OBJECT: u64 = 1;
const DIRECTORY: u64 = 2;

impl Bound {
    /// Kind, then ID or number: 24 bytes.
    pub(crate) fn encode(self) -> [u8; 24] {
        let (kind, what) = match self {
            Self::Object(id) => (OBJECT, id.get()),
            Self::Directory(number) => (DIRECTORY, u128::from(number)),
        };
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&kind.to_le_bytes());
        bytes[8..].copy_from_slice(&what.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (kind, what) = bytes.split_first_chunk::<8>().ok_or(Error::Damaged)?;
        let what = u128::from_le_bytes(what.try_into().map_err(|_| Error::Damaged)?);
        match u64::from_le_bytes(*kind) {
            OBJECT if what != 0 => Ok(Self::Object(ObjId::new(what))),
            DIRECTORY => DirectoryNo::try_from(what).map(Self::Directory).map_err(|_| Error::Damaged),
            _ => Err(Error::Damaged),
        }
    }
}

impl From<Bound> for Entry {
    fn from(bound: Bound) -> Self {
        match bound {
            Bound::Object(id) => Self::Object(id),
            Bound::Directory(_) => Self::Directory,
        }
    }
}

/// The key of a name in a directory. Big-endian, so that a directory is a range.
pub(crate) fn key(directory: DirectoryNo, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + name.len());
    key.extend(directory.to_be_bytes());
    key.extend(name.as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip_and_others_are_damage() {
        for bound in [Bound::Object(ObjId::new(7)), Bound::Directory(0), Bound::Directory(u64::MAX)] {
            assert_eq!(Bound::decode(&bound.encode()), Ok(bound));
        }
        for bad in [&[][..], &[1; 24], &[0; 24], &[1, 0, 0, 0, 0, 0, 0, 0], &[2; 25]] {
            assert_eq!(Bound::decode(bad), Err(Error::Damaged));
        }
    }
}
