//! A program's objects: what is mapped where, and how pointers find it.
//!
//! Hot path: a local pointer costs a comparison and a mask; a foreign one a load from the *translation table*, whose row for the
//! object and word for the FOT index hold the address where the target is mapped. An empty word is a miss: the cold path reads the
//! FOT entry, maps the target, checks its type and fills the word.
//!
//! A program has one `Space`, which its threads share. What is resolved borrows from a [`crate::Guard`]; an object is unmapped when all
//! guards have gone that were alive when that was asked for ([`crate::epoch`]).
//!
//! Invariant that the crate keeps: an `Area` or pointer made here with the lifetime of a `&Space` is of a pinned object, which is never
//! unmapped, or is used within a guard.

use alloc::vec::Vec;
use core::num::NonZeroU64;

use hashbrown::HashMap;
use twizzler_abi::address::{SLOT_BYTES, SMALL_SLOTS, Slot};
use twizzler_abi::call::ObjectStat;
use twizzler_abi::object::{BASE_OFFSET, FOT_INLINE_ENTRIES, FOT_OFFSET, HEADER_OFFSET, Header};
use twizzler_abi::pointer::{FotEntry, FotKind, PointerBits};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId, Rights, SizeClass};

use crate::backend::{Backend, ROW_WORDS, TRANSLATION_BYTES};
use crate::epoch::Epochs;
use crate::error::{OpenError, TypeName};
use crate::memory;
use crate::migration::migrated;
use crate::pointer::{Area, Object, Ptr, Span};
use crate::recover::Recovery;
use crate::spare::Spare;
use crate::stored::Stored;
use crate::tx::Pending;
use crate::types::Described;
use crate::volatile::Lock;

/// What an object is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Loads.
    Read,
    /// Loads and stores.
    Write,
}

/// What is known of a mapped object. It lies in the object's row of the translation table, behind the words for FOT indexes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapped {
    pub(crate) id: ObjId,
    pub(crate) writable: bool,
    pub(crate) persistent: bool,
    /// Fingerprint of the base type as the metadata say; what it is now, says [`migrated`].
    pub(crate) made_as: u64,
}

/// Words of a row behind those for FOT indexes: state, ID (2), fingerprint.
const STATE: u64 = FOT_INLINE_ENTRIES as u64;
const _: () = assert!(STATE + 4 <= ROW_WORDS);
/// Bits of the state word.
const IS_MAPPED: u64 = 1;
const IS_WRITABLE: u64 = 2;
const IS_PERSISTENT: u64 = 4;
/// Never unmapped.
const IS_PINNED: u64 = 8;
/// Unmapped, but for who was inside then: nothing new is entered into its row.
const IS_LEAVING: u64 = 16;

/// All that a program's threads share of what it knows of objects. Drop it, and nothing remains but the objects themselves.
pub struct Space<B: Backend> {
    backend: B,
    translation: u64,
    pub(crate) coordination: u64,
    pub(crate) owner: u64,
    pub(crate) epochs: Epochs,
    maps: Lock<Maps>,
    pub(crate) spare: Spare,
    pub(crate) administering: Lock<()>,
    found: Lock<Recovery>,
    pub(crate) described: Described,
    pub(crate) pending: Pending,
}

/// What is mapped where.
#[derive(Debug, Default)]
struct Maps {
    by_id: HashMap<ObjId, Slot>,
    /// Which FOT index of one mapped object names another: (slot, slot) to index.
    indexes: HashMap<(u32, u32), u64>,
    /// Slots that are in no table any more, with the epoch in which they were taken out.
    leaving: Vec<(Slot, u64)>,
}

impl<B: Backend> Space<B> {
    /// Joins the objects of a system: first finishes or undoes what programs that died had begun.
    ///
    /// # Errors
    /// Where the lanes can't be opened or made; [`Error::NotSupported`] where the programs that run are of another version.
    pub fn attach(backend: B) -> Result<Self, Error> {
        let space = Self {
            translation: backend.translation(),
            coordination: backend.coordination(),
            owner: backend.owner(),
            backend,
            epochs: Epochs::default(),
            maps: Lock::default(),
            spare: Spare::default(),
            administering: Lock::default(),
            found: Lock::default(),
            described: Described::default(),
            pending: Pending::default(),
        };
        if !space.knows_segment() {
            return Err(Error::NotSupported);
        }
        space.recover()?;
        Ok(space)
    }

    /// What recovery has found and done so far.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        *self.found.lock(&self.backend)
    }

    /// The system below.
    pub const fn backend(&self) -> &B {
        &self.backend
    }

    /// Opens an object whose base is a `T`.
    pub(crate) fn open_typed<T: Stored>(
        &self,
        id: ObjId,
        access: Access,
    ) -> Result<Object<'_, T>, OpenError> {
        let area = self.open_area(id, access)?;
        let fingerprint = self.fingerprint(area)?;
        if fingerprint != T::FINGERPRINT {
            let found = if fingerprint == 0 { TypeName::BYTES } else { self.type_name(area) };
            let difference = self.difference::<T>(fingerprint);
            return Err(OpenError::WrongType { wanted: T::NAME, found, difference });
        }
        Ok(Object::new(area))
    }

    /// Opens an object of whatever type.
    pub(crate) fn open_area(&self, id: ObjId, access: Access) -> Result<Area<'_>, Error> {
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

    /// Ends an object's mapping. Whoever has a guard may go on using what it resolved; the slot is used again when all guards that are
    /// alive now have gone.
    pub fn unmap(&self, id: ObjId) {
        let mut maps = self.maps.lock(&self.backend);
        let Some(&slot) = maps.by_id.get(&id) else { return };
        if self.row(slot, STATE) & IS_PINNED != 0 {
            return;
        }
        maps.by_id.remove(&id);
        maps.indexes.retain(|&(from, to), _| from != slot.number() && to != slot.number());
        self.clear_targets(slot);
        self.set_row(slot, STATE, self.row(slot, STATE) | IS_LEAVING);
        for &other in maps.by_id.values() {
            for index in 0..FOT_INLINE_ENTRIES as u64 {
                if self.row(other, index) == slot.base() {
                    self.set_row(other, index, 0);
                }
            }
        }
        let epoch = self.epochs.now();
        maps.leaving.push((slot, epoch));
        self.let_go(&mut maps);
    }

    /// Unmaps what nobody can use any more.
    fn let_go(&self, maps: &mut Maps) {
        maps.leaving.retain(|&(slot, epoch)| {
            let passed = self.epochs.has_passed(epoch);
            if passed {
                // Unless the object came back to the same slot.
                if self.row(slot, STATE) & IS_LEAVING != 0 {
                    self.set_row(slot, STATE, 0);
                }
                self.backend.unmap(slot);
            }
            !passed
        });
    }

    /// Maps an object where it isn't yet.
    pub(crate) fn map(&self, id: ObjId) -> Result<Area<'_>, Error> {
        self.map_in(&mut self.maps.lock(&self.backend), id).map(area_of)
    }

    fn map_in(&self, maps: &mut Maps, id: ObjId) -> Result<Slot, Error> {
        if let Some(&slot) = maps.by_id.get(&id) {
            return Ok(slot);
        }
        self.let_go(maps);
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
        maps.by_id.insert(id, slot);
        let mut state = IS_MAPPED;
        if writable {
            state |= IS_WRITABLE;
        }
        if ObjectFlags::from_bits_truncate(stat.flags).contains(ObjectFlags::PERSISTENT) {
            state |= IS_PERSISTENT;
        }
        self.set_row(slot, STATE + 1, id.hi);
        self.set_row(slot, STATE + 2, id.lo);
        self.set_row(slot, STATE + 3, stat.fingerprint);
        // Last: who sees it sees the others.
        self.set_row(slot, STATE, state);
        Ok(slot)
    }

    /// Makes an object's mapping last as long as the space.
    pub(crate) fn pin(&self, area: Area<'_>) {
        let _maps = self.maps.lock(&self.backend);
        if let Some(slot) = Slot::of(area.start()) {
            self.set_row(slot, STATE, self.row(slot, STATE) | IS_PINNED);
        }
    }

    /// What is known of an object; an error where it has been unmapped and all who were inside then have gone.
    pub(crate) fn mapped(&self, area: Area<'_>) -> Result<Mapped, Error> {
        let slot = Slot::of(area.start()).ok_or(Error::NoSuchObject)?;
        let state = self.row(slot, STATE);
        if state & IS_MAPPED == 0 {
            return Err(Error::NoSuchObject);
        }
        Ok(Mapped {
            id: ObjId { hi: self.row(slot, STATE + 1), lo: self.row(slot, STATE + 2) },
            writable: state & IS_WRITABLE != 0,
            persistent: state & IS_PERSISTENT != 0,
            made_as: self.row(slot, STATE + 3),
        })
    }

    /// Fingerprint of a mapped object's base type.
    pub(crate) fn fingerprint(&self, area: Area<'_>) -> Result<u64, Error> {
        Ok(migrated(area, self.mapped(area)?.made_as))
    }

    /// Changes what recovery has found.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Recovery)) {
        change(&mut self.found.lock(&self.backend));
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
                // the metadata; the module's invariant says how long it is mapped.
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
        // Until the row is filled, so that what is in a row is mapped.
        let mut maps = self.maps.lock(&self.backend);
        let mut to = self.map_in(&mut maps, entry.target)?;
        let found = self.fingerprint(area_of(to))?;
        if entry.fingerprint != 0 && entry.fingerprint != found {
            drop(maps);
            if !self.is_successor(entry.fingerprint, found) {
                return Err(Error::WrongType);
            }
            maps = self.maps.lock(&self.backend);
            to = self.map_in(&mut maps, entry.target)?;
            if self.fingerprint(area_of(to))? != found {
                return Err(Error::WrongType);
            }
        }
        if rights.contains(Rights::WRITE) && !self.mapped(area_of(to))?.writable {
            return Err(Error::AccessDenied);
        }
        if self.row(slot, STATE) & (IS_MAPPED | IS_LEAVING) == IS_MAPPED {
            self.set_row(slot, index, to.base());
        }
        Ok(to.base())
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
        self.clear_targets(slot);
        for index in STATE..STATE + 4 {
            self.set_row(slot, index, 0);
        }
    }

    fn clear_targets(&self, slot: Slot) {
        for index in 0..STATE {
            self.set_row(slot, index, 0);
        }
    }

    /// Which index of `from`'s FOT is known to name `to`.
    pub(crate) fn known_index(&self, from: Slot, to: Slot) -> Option<u64> {
        self.maps.lock(&self.backend).indexes.get(&(from.number(), to.number())).copied()
    }

    pub(crate) fn set_known_index(&self, from: Slot, to: Slot, index: Option<u64>) {
        let key = (from.number(), to.number());
        let mut maps = self.maps.lock(&self.backend);
        match index {
            Some(index) => maps.indexes.insert(key, index),
            None => maps.indexes.remove(&key),
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
    // SAFETY: callers pass slots of the space's table; the module's invariant says how long they are mapped.
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
