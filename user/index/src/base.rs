//! The types of the index's objects, by what lies at their bases.

use alloc::vec;
use alloc::vec::Vec;

use twizzler_abi::{Error, ObjId};
use twizzler_object::{Area, Backend, Guard, InvPtr, Stored};

/// Segments that a catalog can list; merging keeps them far fewer.
pub(crate) const SEGMENTS_MAX: usize = 64;

/// The root of an index: the one object that changes. All zero is an empty index.
#[derive(Stored, Clone, Copy)]
#[stored(name = "twz.index.root", version = 1)]
#[repr(C)]
pub struct IndexRoot {
    /// Counts changes; the catalog says the same.
    pub generation: u64,
    /// The current catalog; none where the index is empty.
    pub catalog: ObjId,
}

/// The base of a catalog; [`crate::catalog`] says what follows.
#[derive(Stored)]
#[stored(name = "twz.index.catalog", version = 1)]
#[repr(C)]
pub(crate) struct CatalogBase {
    /// Bytes that follow this record.
    pub(crate) bytes: u64,
    /// The segments.
    pub(crate) segments: [InvPtr<SegmentBase>; SEGMENTS_MAX],
}

/// The base of a segment; [`crate::segment`] says what follows.
#[derive(Stored)]
#[stored(name = "twz.index.segment", version = 1)]
#[repr(C)]
pub(crate) struct SegmentBase {
    /// The header, encoded.
    pub(crate) header: [u8; 120],
    /// The last object with postings; null where they lie in this object.
    pub(crate) postings: InvPtr<PostingsBase>,
}

/// The base of an object with postings, which follow.
#[derive(Stored)]
#[stored(name = "twz.index.postings", version = 1)]
#[repr(C)]
pub(crate) struct PostingsBase {
    /// The object with postings of the same segment that was filled before; null in the first.
    pub(crate) previous: InvPtr<PostingsBase>,
    /// Zero.
    pub(crate) reserved: u64,
}

/// Fingerprints of the types of an index's objects other than the root: they go with it.
pub const PART_FINGERPRINTS: [u64; 3] =
    [CatalogBase::FINGERPRINT, SegmentBase::FINGERPRINT, PostingsBase::FINGERPRINT];

/// Reads `len` bytes at an offset of an object; both may be anything.
pub(crate) fn read_vec<'s, B: Backend>(
    guard: &'s Guard<'s, B>,
    area: Area<'s>,
    at: u64,
    len: u64,
) -> Result<Vec<u8>, Error> {
    if at.checked_add(len).is_none_or(|end| end > end_of(guard, area)) {
        return Err(Error::Damaged);
    }
    let bytes = area.span::<u8>(at, len).ok_or(Error::Damaged)?;
    let mut copy = vec![0; len as usize];
    guard.read(bytes, 0, &mut copy)?;
    Ok(copy)
}

/// Where the bytes in use of an object end.
fn end_of<B: Backend>(guard: &Guard<'_, B>, area: Area<'_>) -> u64 {
    twizzler_abi::object::BASE_OFFSET.saturating_add(guard.len_bytes(area))
}
