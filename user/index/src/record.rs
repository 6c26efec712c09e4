//! Fixed records of the format, as bytes.
//!
//! Numbers are little-endian; each record ends in a CRC-32 of all bytes before it.

use alloc::vec::Vec;

use twizzler_abi::{Error, ObjId};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Puts a record together.
pub(crate) struct RecordWriter(Vec<u8>);

impl RecordWriter {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }
    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
    pub(crate) fn id(self, id: ObjId) -> Self {
        self.u64(id.hi).u64(id.lo)
    }
    pub(crate) fn value(self, value: &(impl IntoBytes + Immutable)) -> Self {
        self.bytes(value.as_bytes())
    }
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    /// The record with its checksum.
    pub(crate) fn sealed(mut self) -> Vec<u8> {
        let checksum = crc32fast::hash(&self.0);
        self.0.extend_from_slice(&checksum.to_le_bytes());
        self.0
    }
}

/// Takes a record apart.
pub(crate) struct RecordReader<'a>(&'a [u8]);

impl<'a> RecordReader<'a> {
    /// # Errors
    /// [`Error::Damaged`] where the checksum is wrong.
    pub(crate) fn new(record: &'a [u8]) -> Result<Self, Error> {
        let (body, checksum) = record.split_last_chunk::<4>().ok_or(Error::Damaged)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            return Err(Error::Damaged);
        }
        Ok(Self(body))
    }
    /// A value with the bytes of its type, at once.
    pub(crate) fn value<T: FromBytes>(&mut self) -> Result<T, Error> {
        let (value, rest) = T::read_from_prefix(self.0).map_err(|_| Error::Damaged)?;
        self.0 = rest;
        Ok(value)
    }
    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        let (head, rest) = self.0.split_first_chunk::<4>().ok_or(Error::Damaged)?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*head))
    }
    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        let (head, rest) = self.0.split_first_chunk::<8>().ok_or(Error::Damaged)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*head))
    }
    pub(crate) fn id(&mut self) -> Result<ObjId, Error> {
        Ok(ObjId { hi: self.u64()?, lo: self.u64()? })
    }
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(Error::Damaged)?;
        self.0 = rest;
        Ok(head)
    }
}
