//! Objects as files: plain bytes from the base on, their number in the header.
//!
//! A file is replaced by a new object, never changed in place, where the change must be all or nothing.

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use twizzler_abi::call::USUAL_RIGHTS;
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET, Header};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, Life, ObjId, Rights, SizeClass};

use crate::mapping::Mapping;
use crate::{call, persist, system_word};

/// Offset of the number of bytes.
pub(crate) const LEN_OFFSET: u64 = HEADER_OFFSET + core::mem::offset_of!(Header, len_bytes) as u64;
/// Most bytes that a small object can hold.
pub const FILE_BYTES_MAX: u64 = SizeClass::Small.range_bytes() - BASE_OFFSET;

/// All bytes of an object.
///
/// # Errors
/// That it can't be mapped, or is larger than half of what memory is free: whoever wrote it may claim any length.
pub fn read(id: ObjId) -> Result<Vec<u8>, Error> {
    let mapping = Mapping::new(id, Rights::READ)?;
    let len_bytes = mapping.len_bytes();
    if len_bytes > system_word!(dram_free_bytes) / 2 {
        return Err(Error::OutOfMemory);
    }
    let mut bytes = vec![0; len_bytes as usize];
    mapping.read(BASE_OFFSET, &mut bytes);
    Ok(bytes)
}

/// Makes an object that holds `bytes`. When this returns, a persistent one is durable.
///
/// # Errors
/// The kernel's reason; no object is left behind then.
pub fn create(life: Life, bytes: &[u8]) -> Result<ObjId, Error> {
    let flags = match life {
        Life::Persistent => ObjectFlags::PERSISTENT,
        Life::Volatile => ObjectFlags::empty(),
    };
    let id = call::create(flags, USUAL_RIGHTS)?;
    fill(id, bytes).inspect_err(|_| {
        let _ = call::delete(id);
    })?;
    Ok(id)
}

/// Writes the bytes, then their number, each durable before the next.
fn fill(id: ObjId, bytes: &[u8]) -> Result<(), Error> {
    let len_bytes = bytes.len() as u64;
    if len_bytes > FILE_BYTES_MAX {
        return Err(Error::TooLong);
    }
    let pages = len_bytes.next_multiple_of(twizzler_abi::address::PAGE_BYTES);
    if pages > 0 {
        call::control(twizzler_abi::call::ControlOp::Populate, id, BASE_OFFSET, pages)?;
    }
    let mapping = Mapping::new(id, Rights::READ | Rights::WRITE)?;
    mapping.write(BASE_OFFSET, bytes);
    persist::flush(mapping.address() + BASE_OFFSET, len_bytes);
    persist::fence();
    // COMMIT: until this store the object is an empty file.
    mapping.word(LEN_OFFSET).store(len_bytes, Ordering::Release);
    persist::flush(mapping.address() + LEN_OFFSET, 8);
    persist::fence();
    Ok(())
}
