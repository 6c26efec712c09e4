//! Entries of collections as they lie in an object's bytes, for who reads it without the program that made it: [`crate::types::dump`].
//!
//! Nothing is believed: what is read is bounded, and what does not fit is [`Error::Damaged`].

use alloc::vec::Vec;
use core::mem::offset_of;

use twizzler_abi::Error;

use super::chunks::{ChunksRoot, shift_of};
use super::hash_bytes::Pair;
use super::ordered::entries as ordered;
use super::table::{Cell, Cells, SLOTS, TableRoot, bucket_bytes};
use super::vector::Root as VectorRoot;
use crate::memory;
use crate::stored::{Collected, Value};
use crate::types::Source;

/// Buckets that are looked into, however few entries they have.
const BUCKETS_MAX: u64 = 4096;
/// Buckets of a chain that are looked into.
const CHAIN_MAX: usize = 64;

/// A key or a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// A stored value: where it lies.
    At(u64),
    /// Bytes: where they lie, and how many.
    BytesAt(u64, u64),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// Some entries of a collection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Entries {
    /// Keys, where there are any, and values.
    pub(crate) some: Vec<(Option<Part>, Part)>,
    /// How many there are in all.
    pub(crate) len: u64,
}

/// Reads at most `max` entries of the collection whose root lies at an offset. `sizes`: those of its elements, or of keys and values; none where they
/// are bytes. `layout`: what the collection's own description says.
///
/// # Errors
/// [`Error::Damaged`]; those of the source.
pub(crate) fn read(
    source: &impl Source,
    (form, at): (Collected, u64),
    sizes: &[u64],
    layout: &[u64],
    max: usize,
) -> Result<Entries, Error> {
    match (form, sizes, layout) {
        (Collected::Vector, &[size], []) => vector(source, at, size, max),
        (Collected::HashMap, sizes, &[bytes, slots, slot, value]) => {
            let buckets = Buckets { bytes, slots, slot, value };
            table(source, at, &buckets, sizes.is_empty(), max)
        }
        (Collected::OrderedMap, &[], []) => ordered::of_bytes(source, at, max),
        (Collected::OrderedMap, &[key, value], &[values, children]) => {
            ordered::of_arrays(source, at, &ordered::Sizes { key, value, values, children }, max)
        }
        _ => Err(Error::Damaged),
    }
}

/// Where things are in buckets.
struct Buckets {
    /// Bytes from one bucket to the next.
    bytes: u64,
    /// Where in a bucket the slots begin.
    slots: u64,
    /// Bytes from one slot to the next.
    slot: u64,
    /// Where in a slot the value is; the key is at its beginning.
    value: u64,
}

/// The same as a description says it.
pub(super) const fn described<K, V>() -> [u64; 4] {
    let slots = offset_of!(Cells<K, V>, slots) as u64;
    [bucket_bytes::<K, V>(), slots, size_of::<Cell<K, V>>() as u64, offset_of!(Cell<K, V>, value) as u64]
}

/// A value at an offset.
pub(super) fn value<T: Value + Default>(source: &impl Source, at: u64) -> Result<T, Error> {
    let mut value = T::default();
    source.read(at, memory::bytes_of_mut(&mut value))?;
    Ok(value)
}

/// Where an element of chunks lies.
fn element(source: &impl Source, chunks: u64, size: u64, index: u64) -> Result<u64, Error> {
    let shift = shift_of(size);
    let directory: u64 = value(source, chunks + offset_of!(ChunksRoot, directory) as u64)?;
    let entry = directory.checked_add((index >> shift) * 8).ok_or(Error::Damaged)?;
    let chunk: u64 = value(source, entry)?;
    let within = (index & ((1 << shift) - 1)).checked_mul(size);
    within.and_then(|within| chunk.checked_add(within)).ok_or(Error::Damaged)
}

fn vector(source: &impl Source, at: u64, size: u64, max: usize) -> Result<Entries, Error> {
    let chunks = at + offset_of!(VectorRoot, chunks) as u64;
    let len: u64 = value(source, at + offset_of!(VectorRoot, len) as u64)?;
    let room: u64 = value(source, chunks + offset_of!(ChunksRoot, room) as u64)?;
    if len > room {
        return Err(Error::Damaged);
    }
    let mut some = Vec::new();
    let shown = len.min(max as u64);
    while (some.len() as u64) < shown {
        // All of a chunk lies together.
        let index = some.len() as u64;
        let first = element(source, chunks, size, index)?;
        let end = ((index >> shift_of(size)) + 1) << shift_of(size);
        for n in 0..end.min(shown) - index {
            let place = n.checked_mul(size).and_then(|within| first.checked_add(within));
            some.push((None, Part::At(place.ok_or(Error::Damaged)?)));
        }
    }
    Ok(Entries { some, len })
}

fn table(
    source: &impl Source,
    at: u64,
    layout: &Buckets,
    of_bytes: bool,
    max: usize,
) -> Result<Entries, Error> {
    let chunks = at + offset_of!(TableRoot, chunks) as u64;
    let buckets: u64 = value(source, at + offset_of!(TableRoot, buckets) as u64)?;
    let len: u64 = value(source, at + offset_of!(TableRoot, len) as u64)?;
    let mut some = Vec::new();
    for bucket in 0..buckets.min(BUCKETS_MAX) {
        let mut bucket = element(source, chunks, layout.bytes, bucket)?;
        for _ in 0..CHAIN_MAX {
            let [tags, next]: [u64; 2] = value(source, bucket)?;
            for slot in (0..SLOTS as u64).filter(|slot| tags >> (8 * slot) & 0xff != 0) {
                if some.len() == max {
                    return Ok(Entries { some, len });
                }
                let within = slot.checked_mul(layout.slot).and_then(|at| at.checked_add(layout.slots));
                let key = within.and_then(|within| bucket.checked_add(within)).ok_or(Error::Damaged)?;
                let place = key.checked_add(layout.value).ok_or(Error::Damaged)?;
                some.push(if of_bytes {
                    pair(source, place)?
                } else {
                    (Some(Part::At(key)), Part::At(place))
                });
            }
            if next == 0 {
                break;
            }
            bucket = next;
        }
    }
    Ok(Entries { some, len })
}

/// An entry of bytes: the key, and behind it the value.
fn pair(source: &impl Source, at: u64) -> Result<(Option<Part>, Part), Error> {
    let Pair { offset, key_bytes, value_bytes } = value(source, at)?;
    let value = offset.checked_add(key_bytes.into()).ok_or(Error::Damaged)?;
    Ok((Some(Part::BytesAt(offset, key_bytes.into())), Part::BytesAt(value, value_bytes.into())))
}
