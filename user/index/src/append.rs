//! Writes a new object from front to back.

use alloc::vec::Vec;

use twizzler_abi::Error;
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::rights::SizeClass;
use twizzler_object::{Area, Backend, Tx};

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 64 << 10;
/// Where objects of an index end at most.
const END_MAX: u64 = SizeClass::Small.range_bytes();

/// The end of an object that grows: made by the running transaction, so nobody else sees it and its content is written in place.
pub(crate) struct Appender<'s> {
    pub(crate) area: Area<'s>,
    /// Offset of the buffer's first byte.
    at: u64,
    buffer: Vec<u8>,
}

impl<'s> Appender<'s> {
    /// Appends from `skip` bytes beyond the base on.
    pub(crate) const fn new(area: Area<'s>, skip: u64) -> Self {
        Self { area, at: BASE_OFFSET + skip, buffer: Vec::new() }
    }

    /// Where the next byte goes.
    pub(crate) fn at(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    /// True if that many bytes still fit.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.at() + len as u64 <= END_MAX
    }

    /// Appends bytes; tells where they went.
    pub(crate) fn append<B: Backend>(&mut self, tx: &mut Tx<'s, B>, bytes: &[u8]) -> Result<u64, Error> {
        if !self.has_room(bytes.len()) {
            return Err(Error::OutOfRange);
        }
        let at = self.at();
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_back(tx)?;
        }
        Ok(at)
    }

    /// Appends zeros up to a multiple of 8.
    pub(crate) fn align<B: Backend>(&mut self, tx: &mut Tx<'s, B>) -> Result<(), Error> {
        let pad = self.at().next_multiple_of(8) - self.at();
        self.append(tx, &[0; 8][..pad as usize]).map(drop)
    }

    fn write_back<B: Backend>(&mut self, tx: &mut Tx<'s, B>) -> Result<(), Error> {
        tx.write_at(self.area, self.at - BASE_OFFSET, &self.buffer)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left. Gives the bytes in use from the base on.
    pub(crate) fn finish<B: Backend>(mut self, tx: &mut Tx<'s, B>) -> Result<u64, Error> {
        self.write_back(tx)?;
        tx.set_len_bytes(self.area, self.at - BASE_OFFSET)?;
        Ok(self.at - BASE_OFFSET)
    }
}
