//! A program's objects: what is mapped where, and how pointers find it.
//!
//! Hot path: a local pointer costs a comparison and a mask; a foreign one a load from the *translation table*, whose row for the
//! object and word for the FOT index hold the address where the target is mapped. An empty word is a miss: the cold path reads the
//! FOT entry, maps the target, checks its type and fills the word.
//!
//! Nothing is unmapped while a `&Space` is borrowed, so a resolved pointer stays good for its lifetime `'s`. One
//! thread uses a `Space`; locks keep others out ([`crate::lock`]).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::cmp::Ordering;
use core::num::NonZeroU64;

use hashbrown::HashMap;
use twizzler_abi::address::{SLOT_BYTES, SMALL_SLOTS, Slot};
use twizzler_abi::call::ObjectStat;
use twizzler_abi::object::{BASE_OFFSET, FOT_INLINE_ENTRIES, FOT_OFFSET, HEADER_OFFSET, Header};
use twizzler_abi::pointer::{FotEntry, FotKind, PointerBits};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId, Rights, SizeClass};

use crate::backend::{Backend, ROW_WORDS, TRANSLATION_BYTES};
use crate::error::{OpenError, TypeName};
use crate::lane::Lane;
use crate::memory;
use crate::pointer::{Area, Bytes, InvPtr, InvSpan, Object, Ptr, Span};
use crate::reader::Reader;
use crate::recover::Recovery;
use crate::stored::{Stored, Value};

/// What an object is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Loads.
    Read,
    /// Loads and stores.
    Write,
}

/// What is known of a mapped object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapped {
    pub(crate) id: ObjId,
    pub(crate) slot: Slot,
    pub(crate) writable: bool,
    pub(crate) persistent: bool,
    pub(crate) fingerprint: u64,
}

/// All that a program knows of objects. Drop it, and nothing remains but the objects themselves.
pub struct Space<B: Backend> {
    backend: B,
    translation: u64,
    pub(crate) owner: u64,
    by_id: RefCell<HashMap<ObjId, Slot>>,
    by_slot: RefCell<BTreeMap<u32, Mapped>>,
    /// Which FOT index of one mapped object names another: (slot, slot) to index.
    indexes: RefCell<HashMap<(u32, u32), u64>>,
    /// Locks held, and how often.
    pub(crate) held: RefCell<HashMap<u64, u32>>,
    pub(crate) lane: RefCell<Option<Lane>>,
    pub(crate) in_transaction: Cell<bool>,
    pub(crate) found: Cell<Recovery>,
}

impl<B: Backend> Space<B> {
    /// Joins the objects of a system: first finishes or undoes what programs that died had begun.
    ///
    /// # Errors
    /// Where the lanes can't be opened or made.
    pub fn attach(backend: B) -> Result<Self, Error> {
        let space = Self {
            translation: backend.translation(),
            owner: backend.owner(),
            backend,
            by_id: RefCell::default(),
            by_slot: RefCell::default(),
            indexes: RefCell::default(),
            held: RefCell::default(),
            lane: RefCell::default(),
            in_transaction: Cell::new(false),
            found: Cell::default(),
        };
        space.recover()?;
        Ok(space)
    }

    /// What recovery has found and done so far.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.found.get()
    }

    /// The system below.
    pub const fn backend(&self) -> &B {
        &self.backend
    }

    /// Opens an object whose base is a `T`.
    ///
    /// # Errors
    /// [`OpenError::WrongType`] names both types. Otherwise as [`Space::open_any`].
    pub fn open<T: Stored>(&self, id: ObjId, access: Access) -> Result<Object<'_, T>, OpenError> {
        let area = self.open_any(id, access)?;
        let mapped = self.mapped(area)?;
        if mapped.fingerprint != T::FINGERPRINT {
            let found = if mapped.fingerprint == 0 { TypeName::BYTES } else { self.type_name(area) };
            return Err(OpenError::WrongType { wanted: T::NAME, found });
        }
        Ok(Object::new(area))
    }

    /// Opens an object of whatever type: a file, for instance.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`], [`Error::AccessDenied`], [`Error::Damaged`], or no more room.
    pub fn open_any(&self, id: ObjId, access: Access) -> Result<Area<'_>, Error> {
        let area = self.map(id)?;
        if access == Access::Write && !self.mapped(area)?.writable {
            return Err(Error::AccessDenied);
        }
        Ok(area)
    }

    /// Describes an object.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`] and the system's own.
    pub fn stat(&self, id: ObjId) -> Result<ObjectStat, Error> {
        self.backend.stat(id)
    }

    /// The ID of a mapped object.
    #[must_use]
    pub fn id_of(&self, area: Area<'_>) -> ObjId {
        self.mapped(area).map_or(ObjId::NONE, |mapped| mapped.id)
    }

    /// Declared name of an object's base type, as whoever made the object wrote it.
    #[must_use]
    pub fn type_name(&self, area: Area<'_>) -> TypeName {
        let place = header_place(area, core::mem::offset_of!(Header, type_name));
        TypeName::new(memory::load(place))
    }

    /// Bytes in use from the base: a file's length, or what the allocator has handed out so far. At most what fits
    /// the object, whatever the header says.
    #[must_use]
    pub fn len_bytes(&self, area: Area<'_>) -> u64 {
        let place: Ptr<'_, u64> = header_place(area, core::mem::offset_of!(Header, len_bytes));
        memory::load(place).min(SLOT_BYTES - BASE_OFFSET)
    }

    /// A file's bytes: as many as the header says, from the base.
    #[must_use]
    pub fn content<'s>(&'s self, area: Area<'s>) -> Bytes<'s> {
        area.span(BASE_OFFSET, self.len_bytes(area)).unwrap_or(Span::EMPTY)
    }

    /// Ends an object's mapping. Nobody holds a resolved pointer, since those borrow the space.
    pub fn unmap(&mut self, id: ObjId) {
        let Some(slot) = self.by_id.borrow_mut().remove(&id) else { return };
        self.by_slot.borrow_mut().remove(&slot.number());
        self.indexes.borrow_mut().retain(|&(from, to), _| from != slot.number() && to != slot.number());
        self.clear_row(slot);
        let others: Vec<Slot> = self.by_slot.borrow().values().map(|mapped| mapped.slot).collect();
        for other in others {
            for index in 0..FOT_INLINE_ENTRIES as u64 {
                if self.row(other, index) == slot.base() {
                    self.set_row(other, index, 0);
                }
            }
        }
        self.backend.unmap(slot);
    }

    /// Maps an object where it isn't yet.
    pub(crate) fn map(&self, id: ObjId) -> Result<Area<'_>, Error> {
        if let Some(&slot) = self.by_id.borrow().get(&id) {
            return Ok(area_of(slot));
        }
        let stat = self.backend.stat(id)?;
        if stat.quarantine != 0 {
            return Err(Error::from_number(stat.quarantine).unwrap_or(Error::Damaged));
        }
        if stat.size_class != SizeClass::Small as u32 {
            return Err(Error::NotSupported);
        }
        let granted = Rights::from_bits_truncate(stat.default_rights);
        if !granted.contains(Rights::READ) {
            return Err(Error::AccessDenied);
        }
        let writable = granted.contains(Rights::WRITE);
        let slot = self.backend.map(id, granted & (Rights::READ | Rights::WRITE))?;
        self.clear_row(slot);
        self.by_id.borrow_mut().insert(id, slot);
        let persistent = ObjectFlags::from_bits_truncate(stat.flags).contains(ObjectFlags::PERSISTENT);
        let mapped = Mapped { id, slot, writable, persistent, fingerprint: stat.fingerprint };
        self.by_slot.borrow_mut().insert(slot.number(), mapped);
        Ok(area_of(slot))
    }

    /// Forgets an object that is gone, but leaves its mapping: resolved pointers may still be about.
    pub(crate) fn forget(&self, id: ObjId) {
        self.by_id.borrow_mut().remove(&id);
    }

    pub(crate) fn mapped(&self, area: Area<'_>) -> Result<Mapped, Error> {
        let slot = (area.start() / SLOT_BYTES) as u32;
        self.by_slot.borrow().get(&slot).copied().ok_or(Error::NoSuchObject)
    }

    /// The place that `bits`, lying at the address `at`, point to. `at` is in a mapped object.
    #[inline(always)]
    pub(crate) fn resolve<'s, T: Stored>(
        &'s self,
        at: u64,
        bits: PointerBits,
    ) -> Result<Option<Ptr<'s, T>>, Error> {
        self.resolve_many(at, bits, size_of::<T>() as u64, align_of::<T>() as u64).map(|address| {
            address.map(|address| {
                // SAFETY: `resolve_many` has checked that a `T`'s bytes at its alignment lie in a mapped object's range beyond
                // the metadata, and no mapping ends while the space is borrowed.
                unsafe { Ptr::new(address) }
            })
        })
    }

    /// The address that `bits` point to, where `len_bytes` must fit the target's range.
    #[inline(always)]
    pub(crate) fn resolve_many(
        &self,
        at: u64,
        bits: PointerBits,
        len_bytes: u64,
        align: u64,
    ) -> Result<Option<NonZeroU64>, Error> {
        const ROOM: u64 = SLOT_BYTES - BASE_OFFSET;
        if len_bytes > ROOM {
            return Err(Error::Damaged);
        }
        // One comparison says: not null, index and spare bits zero, not below the base, all within the range.
        if bits.0.wrapping_sub(BASE_OFFSET) <= ROOM - len_bytes && bits.0 & (align - 1) == 0 {
            return Ok(NonZeroU64::new(at & !(SLOT_BYTES - 1) | bits.0));
        }
        self.resolve_foreign(at, bits, len_bytes, align)
    }

    #[inline]
    fn resolve_foreign(
        &self,
        at: u64,
        bits: PointerBits,
        len_bytes: u64,
        align: u64,
    ) -> Result<Option<NonZeroU64>, Error> {
        if bits.is_null() {
            return Ok(None);
        }
        let index = bits.index();
        let offset = bits.offset();
        let fits = offset.wrapping_sub(BASE_OFFSET) <= SLOT_BYTES - BASE_OFFSET - len_bytes;
        if index == 0
            || index >= FOT_INLINE_ENTRIES as u64
            || !bits.is_well_formed()
            || !fits
            || offset & (align - 1) != 0
        {
            return Err(Error::Damaged);
        }
        let slot = Slot::of(at).ok_or(Error::Damaged)?;
        let base = match self.row(slot, index) {
            0 => self.translate(slot, index)?,
            base => base,
        };
        Ok(NonZeroU64::new(base + offset))
    }

    /// A miss: reads the FOT entry, maps its target and fills the row.
    #[cold]
    fn translate(&self, slot: Slot, index: u64) -> Result<u64, Error> {
        let entry = self.fot_entry(area_of(slot), index);
        let (FotKind::Id, rights) = entry.decode()? else { return Err(Error::Damaged) };
        let area = self.map(entry.target)?;
        let mapped = self.mapped(area)?;
        if entry.fingerprint != 0 && entry.fingerprint != mapped.fingerprint {
            return Err(Error::WrongType);
        }
        if rights.contains(Rights::WRITE) && !mapped.writable {
            return Err(Error::AccessDenied);
        }
        self.set_row(slot, index, area.start());
        Ok(area.start())
    }

    /// The FOT entry as it lies in memory; `index` is an inline one.
    pub(crate) fn fot_entry(&self, area: Area<'_>, index: u64) -> FotEntry {
        memory::load(fot_place(area, index))
    }

    fn row_address(&self, slot: Slot, index: u64) -> u64 {
        let row = u64::from(slot.number().wrapping_sub(SMALL_SLOTS.start)) * ROW_WORDS + index;
        debug_assert!(row * 8 < TRANSLATION_BYTES, "objects are mapped at small slots");
        self.translation + row * 8
    }

    fn row(&self, slot: Slot, index: u64) -> u64 {
        // SAFETY: the slot is of a mapped object, which lies at a small slot as the backend promises, and the index is inline.
        unsafe { memory::load_row(self.row_address(slot, index)) }
    }

    pub(crate) fn set_row(&self, slot: Slot, index: u64, base: u64) {
        // SAFETY: as in `row`.
        unsafe { memory::store_row(self.row_address(slot, index), base) };
    }

    fn clear_row(&self, slot: Slot) {
        for index in 0..FOT_INLINE_ENTRIES as u64 {
            self.set_row(slot, index, 0);
        }
    }

    /// Which index of `from`'s FOT is known to name `to`.
    pub(crate) fn known_index(&self, from: Slot, to: Slot) -> Option<u64> {
        self.indexes.borrow().get(&(from.number(), to.number())).copied()
    }

    pub(crate) fn set_known_index(&self, from: Slot, to: Slot, index: Option<u64>) {
        let key = (from.number(), to.number());
        match index {
            Some(index) => self.indexes.borrow_mut().insert(key, index),
            None => self.indexes.borrow_mut().remove(&key),
        };
    }

    /// The span that a stored span's two words mean.
    pub(crate) fn resolve_span<'s, T: Stored>(
        &'s self,
        at: u64,
        bits: PointerBits,
        len: u64,
    ) -> Result<Span<'s, T>, Error> {
        if len == 0 {
            return Ok(Span::EMPTY);
        }
        let len_bytes = len.checked_mul(size_of::<T>() as u64).ok_or(Error::Damaged)?;
        let address =
            self.resolve_many(at, bits, len_bytes, align_of::<T>() as u64)?.ok_or(Error::Damaged)?;
        // SAFETY: `resolve_many` has checked that all the bytes lie in a mapped object's range, aligned for `T`.
        Ok(unsafe { Span::new(address.get(), len) })
    }
}

/// The area of a slot at which an object is mapped.
pub(crate) fn area_of<'s>(slot: Slot) -> Area<'s> {
    // SAFETY: callers pass slots of the space's table, whose mappings live as long as the space is borrowed.
    unsafe { Area::new(slot.base()) }
}

/// A header field's place.
pub(crate) fn header_place<T: Stored>(area: Area<'_>, offset: usize) -> Ptr<'_, T> {
    let span = area.span_from::<T>(HEADER_OFFSET, HEADER_OFFSET + offset as u64, 1);
    span.and_then(|span| span.index(0)).expect("header fields lie in the header page")
}

/// The place of an inline FOT entry.
pub(crate) fn fot_place(area: Area<'_>, index: u64) -> Ptr<'_, FotEntry> {
    let offset = FOT_OFFSET + index * size_of::<FotEntry>() as u64;
    let span = area.span_from::<FotEntry>(HEADER_OFFSET, offset, 1);
    span.and_then(|span| span.index(0)).expect("inline entries lie in the header page")
}

impl<'s, B: Backend> Reader<'s> for &'s Space<B> {
    #[inline(always)]
    fn get<T: Value>(&self, place: Ptr<'s, T>) -> T {
        memory::load(place)
    }

    #[inline(always)]
    fn follow<T: Stored>(&self, place: Ptr<'s, InvPtr<T>>) -> Result<Option<Ptr<'s, T>>, Error> {
        self.resolve(place.address(), PointerBits(memory::load(place.bits())))
    }

    fn follow_span<T: Stored>(&self, place: Ptr<'s, InvSpan<T>>) -> Result<Span<'s, T>, Error> {
        let at = place.at(InvSpan::AT);
        let bits = PointerBits(memory::load(at.bits()));
        self.resolve_span(at.address(), bits, memory::load(place.at(InvSpan::LEN)))
    }

    fn read(&self, bytes: Bytes<'s>, from: u64, buffer: &mut [u8]) -> Result<(), Error> {
        memory::read(bytes.slice(from, buffer.len() as u64).ok_or(Error::OutOfRange)?, buffer);
        Ok(())
    }

    fn compare(&self, bytes: Bytes<'s>, other: &[u8]) -> Ordering {
        compare_by(bytes, other, |part, buffer| memory::read(part, buffer))
    }
}

/// Compares through a small buffer that `read` fills.
pub(crate) fn compare_by<'s>(
    bytes: Bytes<'s>,
    other: &[u8],
    read: impl Fn(Bytes<'s>, &mut [u8]),
) -> Ordering {
    let mut buffer = [0; 64];
    let common = bytes.len().min(other.len() as u64);
    let mut at = 0;
    while at < common {
        let len = (common - at).min(buffer.len() as u64);
        let part = bytes.slice(at, len).expect("within the span");
        read(part, &mut buffer[..len as usize]);
        match buffer[..len as usize].cmp(&other[at as usize..(at + len) as usize]) {
            Ordering::Equal => at += len,
            unequal => return unequal,
        }
    }
    bytes.len().cmp(&(other.len() as u64))
}
