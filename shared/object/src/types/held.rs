//! The *type list* of an object: which types lie in its heap, each in which version.
//!
//! A type's fingerprint holds the names of what its pointers lead to, not their layout, since types may lead to themselves. So a base may
//! be what a program expects while the nodes behind it are of another version. The table tells: the transaction that allocates the first
//! value of a type in an object also enters the type, and what it is made of, by a *key*, which follows from its declared name and those of its
//! arguments, and the fingerprint. There is one fingerprint for each key: an object holds a type in one version.
//!
//! The first few entries lie in the heap's root, the others in blocks of the heap. Entries are words that were zero, so whoever
//! reads without a lock sees an entry or none. An object without a heap has no table; its base is in its metadata.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use twizzler_abi::Error;
use twizzler_abi::address::LARGE_BYTES;
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET, Header};

use crate::backend::Backend;
use crate::heap::{Heap, is_heap};
use crate::memory;
use crate::pointer::{Area, Ptr};
use crate::reader::Reader;
use crate::stored::{Fingerprint, Shape, Stored, TypeInfo, TypeOf, type_of};
use crate::tx::Tx;

/// Entries in the heap's root, and in each block behind it.
pub(crate) const HELD_TOGETHER: usize = 3;
/// Blocks that are looked at, in tables that may be damaged.
const BLOCKS_MAX: usize = 1024;

/// An entry of a type list; all zero: none yet.
#[derive(Stored, Clone, Copy, PartialEq, Eq, Debug)]
#[stored(name = "twizzler.held-type", version = 1)]
#[repr(C)]
pub struct HeldType {
    /// Follows from declared names: the type's, and those of its arguments.
    pub key: u64,
    /// The type's fingerprint.
    pub fingerprint: u64,
}

/// Entries that the heap's root has no room for.
#[derive(Stored)]
#[stored(name = "twizzler.held-types", version = 1)]
#[repr(C)]
struct More {
    /// Offset of the next such block; 0: none.
    next: u64,
    reserved: u64,
    types: [HeldType; HELD_TOGETHER],
}

/// What entries there are, and where the next block is, of the heap's root or of a block.
#[derive(Clone, Copy)]
struct Part<'s> {
    types: Ptr<'s, [HeldType; HELD_TOGETHER]>,
    next: Ptr<'s, u64>,
}

/// The key of a type of that declared name, whose arguments' names have that hash ([`Stored::ARGUMENTS`]).
#[must_use]
pub const fn type_key(name: &str, arguments: u64) -> u64 {
    Fingerprint::new(name, 0).word(arguments).finish()
}

/// Types with names of their own: fingerprints and what they are.
pub(crate) type Named = BTreeMap<u64, TypeInfo>;

/// What a value of a type consists of; with `Follow::Pointers`, also what it leads to.
pub(crate) fn named_in(root: TypeInfo, follow: Follow) -> Named {
    let mut found = Named::new();
    let mut waiting = vec![root];
    while let Some(info) = waiting.pop() {
        match info.shape {
            Shape::Plain(_) | Shape::Flag => {}
            Shape::Array { element, .. } => waiting.push(element()),
            Shape::Pointer(target) | Shape::Span(target) => {
                if follow == Follow::Pointers {
                    waiting.push(target());
                }
            }
            Shape::Opaque | Shape::Choice { .. } | Shape::Collection { .. } => {
                found.insert(info.fingerprint, info);
            }
            Shape::Record { fields, .. } => {
                if found.insert(info.fingerprint, info).is_none() {
                    waiting.extend(fields.iter().map(|field| (field.of)()));
                }
            }
        }
    }
    found
}

/// See [`named_in`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    Nothing,
    Pointers,
}

/// The type list of an object, whose bytes `read` gives: as many as the buffer holds, from an offset in the object. It ends where it makes no
/// sense ([`crate::check_heap`] says so).
///
/// # Errors
/// Those of `read`.
pub fn held_types(read: impl FnMut(u64, &mut [u8]) -> Result<(), Error>) -> Result<Vec<HeldType>, Error> {
    read_types(read).map(|(types, _)| types)
}

/// [`held_types`], and whether the table makes sense.
pub(crate) fn read_types(
    mut read: impl FnMut(u64, &mut [u8]) -> Result<(), Error>,
) -> Result<(Vec<HeldType>, bool), Error> {
    let mut found: Vec<HeldType> = Vec::new();
    let mut is_sound = true;
    let mut word = |offset: u64| {
        let mut bytes = [0; 8];
        read(offset, &mut bytes).map(|()| u64::from_le_bytes(bytes))
    };
    let heap = word(HEADER_OFFSET + core::mem::offset_of!(Header, allocator) as u64)?;
    if heap == 0 || !is_heap(heap, &mut word)? {
        return Ok((found, is_sound));
    }
    let (mut types, mut next) = (heap + Heap::types.offset(), heap + Heap::types_beyond.offset());
    for _ in 0..BLOCKS_MAX {
        for index in 0..HELD_TOGETHER {
            let at = types + (index * size_of::<HeldType>()) as u64;
            let held = HeldType {
                key: word(at + HeldType::key.offset())?,
                fingerprint: word(at + HeldType::fingerprint.offset())?,
            };
            is_sound &= (held.key == 0) == (held.fingerprint == 0);
            if held.key != 0 && held.fingerprint != 0 {
                is_sound &= found.iter().all(|other| other.key != held.key);
                found.push(held);
            }
        }
        let block = word(next)?;
        if block == 0 {
            return Ok((found, is_sound));
        }
        if !block.is_multiple_of(8) || !(BASE_OFFSET..LARGE_BYTES).contains(&block) {
            break;
        }
        (types, next) = (block + More::types.offset(), block + More::next.offset());
    }
    Ok((found, false))
}

impl<'s, B: Backend> Tx<'s, B> {
    /// Sees to it that the type list of an object has a type of which values are about to lie in its heap.
    ///
    /// # Errors
    /// [`Error::WrongType`] where it holds another version of it; otherwise as [`Tx::alloc`].
    #[inline]
    pub(crate) fn hold<T: Stored>(&mut self, area: Area<'s>) -> Result<(), Error> {
        // These have no versions.
        if matches!(T::SHAPE, Shape::Plain(_) | Shape::Flag | Shape::Pointer(_) | Shape::Span(_))
            || self.space().is_known_held(area, T::FINGERPRINT)
        {
            return Ok(());
        }
        self.hold_slowly(area, type_of::<T>)
    }

    #[cold]
    fn hold_slowly(&mut self, area: Area<'s>, of: TypeOf) -> Result<(), Error> {
        self.lock(area)?;
        let mut is_old = true;
        for info in named_in(of(), Follow::Nothing).values() {
            is_old &= self.enter_type(area, info)?;
        }
        if is_old {
            self.space().know_held(area, of().fingerprint);
        }
        Ok(())
    }

    /// Enters a type. True if it was there before this transaction.
    fn enter_type(&mut self, area: Area<'s>, info: &TypeInfo) -> Result<bool, Error> {
        let key = type_key(info.name, info.arguments);
        let heap = self.heap(area)?;
        let mut part = Part { types: heap.at(Heap::types), next: heap.at(Heap::types_beyond) };
        for _ in 0..BLOCKS_MAX {
            for index in 0..HELD_TOGETHER {
                let place = part.types.index(index).ok_or(Error::Damaged)?;
                let held = self.get(place);
                if held.key == key && held.fingerprint == info.fingerprint {
                    return Ok(memory::load(place) == held);
                }
                if held.key == 0 || held.key == key && self.replaces_types() {
                    self.set(place, HeldType { key, fingerprint: info.fingerprint })?;
                    return Ok(false);
                }
                if held.key == key {
                    return Err(Error::WrongType);
                }
            }
            let next = match self.get(part.next) {
                0 => self.more_types(area, part.next)?,
                next => next,
            };
            let block: Ptr<'s, More> = area.place(next).ok_or(Error::Damaged)?;
            part = Part { types: block.at(More::types), next: block.at(More::next) };
        }
        Err(Error::Damaged)
    }

    fn more_types(&mut self, area: Area<'s>, link: Ptr<'s, u64>) -> Result<u64, Error> {
        let block = self.alloc_raw(area, size_of::<More>() as u64, align_of::<More>() as u64)?;
        self.zero(block)?;
        let offset = block.address() - area.start();
        self.set(link, offset)?;
        Ok(offset)
    }

    /// Brings the table up to date with what a type leads to, where it has other versions: the base has been migrated to that type.
    pub(crate) fn settle_types<T: Stored>(&mut self, area: Area<'s>) -> Result<(), Error> {
        let held = self.space().types_held(area)?;
        for info in named_in(type_of::<T>(), Follow::Pointers).values() {
            let key = type_key(info.name, info.arguments);
            if held.iter().any(|held| held.key == key && held.fingerprint != info.fingerprint) {
                self.enter_type(area, info)?;
            }
        }
        Ok(())
    }
}
