//! A program's objects: what is mapped where, and how pointers find it.
//!
//! The *translation table* has a row for each place where an object can be mapped, with a word for each FOT index: the address where the
//! target is mapped. [`crate::resolve`] looks there; an empty word is a miss: the FOT entry is read, its target mapped, its type
//! checked, and the word filled.
//!
//! A program has one `Space`, which its threads share. What is resolved borrows from a [`crate::Guard`]; an object is unmapped when all
//! guards have gone that were alive when that was asked for ([`crate::epoch`]).
//!
//! Invariant that the crate keeps: an `Area` or pointer made here with the lifetime of a `&Space` is of a pinned object, which is never
//! unmapped, or is used within a guard.

use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;

use hashbrown::HashMap;
use twizzler_abi::address::{Slot, range_bytes};
use twizzler_abi::call::ObjectStat;
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET, Header};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId, Rights, SizeClass};

use crate::backend::Backend;
use crate::coordination::{StripeWord, stripe_of, stripe_word_at};
use crate::entries::{Fot, Incoming};
use crate::epoch::Epochs;
use crate::error::{OpenError, TypeName};
use crate::fot::AnyResolver;
use crate::journal::DELETED;
use crate::memory;
use crate::migration::migrated;
use crate::pointer::{Area, Object, Ptr};
use crate::recent::Recent;
use crate::recover::{Recovery, version_word};
use crate::row::{CHANGES, IS_LEAVING, IS_MAPPED, IS_PERSISTENT, IS_PINNED, IS_WRITABLE, STATE};
use crate::spare::Spare;
use crate::stored::{Stored, TypeOf, type_of};
use crate::tx::Pending;
use crate::types::{Described, KnownTypes};
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

/// All that a program's threads share of what it knows of objects. Drop it, and nothing remains but the objects themselves.
pub struct Space<B: Backend> {
    backend: B,
    pub(crate) translation: u64,
    pub(crate) coordination: u64,
    pub(crate) owner: u64,
    pub(crate) epochs: Epochs,
    pub(crate) maps: Lock<Maps>,
    pub(crate) recent: Recent,
    pub(crate) resolver: AnyResolver,
    pub(crate) spare: Spare,
    pub(crate) administering: Lock<()>,
    found: Lock<Recovery>,
    pub(crate) described: Described,
    pub(crate) known: KnownTypes,
    pub(crate) pending: Pending,
}

/// What is mapped where.
#[derive(Debug, Default)]
pub(crate) struct Maps {
    by_id: HashMap<ObjId, Slot>,
    /// What is known of mapped objects' FOTs, by their slots.
    pub(crate) fots: HashMap<u32, Fot>,
    /// Which words of the translation table lead to them, likewise.
    pub(crate) incoming: HashMap<u32, Incoming>,
    /// Second levels that are in no row any more, with the epoch in which they were taken out.
    pub(crate) outgrown: Vec<(Vec<AtomicU64>, u64)>,
    /// Slots that are in no table any more, with the epoch in which they were taken out.
    leaving: Vec<Leaving>,
}

/// A mapping that has ended, but for who was inside then.
#[derive(Debug)]
struct Leaving {
    slot: Slot,
    epoch: u64,
    /// The object, unless that has been deleted: where it is mapped again meanwhile, it is here.
    object: Option<ObjId>,
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
            recent: Recent::default(),
            resolver: AnyResolver::default(),
            spare: Spare::default(),
            administering: Lock::default(),
            found: Lock::default(),
            described: Described::default(),
            known: KnownTypes::default(),
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
    #[inline]
    pub(crate) fn open_typed<T: Stored>(
        &self,
        id: ObjId,
        access: Access,
    ) -> Result<Object<'_, T>, OpenError> {
        match self.opened_before(id, access, T::FINGERPRINT) {
            Some(area) => Ok(Object::new(area)),
            None => self.open_anew(id, access),
        }
    }

    /// As [`Space::open_typed`], of one that was not opened lately. Out of line, so that the other way needs no memory for results.
    #[cold]
    #[inline(never)]
    fn open_anew<T: Stored>(&self, id: ObjId, access: Access) -> Result<Object<'_, T>, OpenError> {
        let area = self.open_area(id, access)?;
        let fingerprint = self.fingerprint(area)?;
        if fingerprint != T::FINGERPRINT {
            let found = if fingerprint == 0 { TypeName::BYTES } else { self.type_name(area) };
            let difference = self.difference::<T>(fingerprint);
            return Err(OpenError::WrongType { wanted: T::NAME, found, difference });
        }
        let slot = Slot::of(area.start()).ok_or(Error::Damaged)?;
        if let Err(found) = self.agree(slot, T::FINGERPRINT, type_of::<T>) {
            return Err(self.held_differently(area, found));
        }
        self.recent.note(id, slot);
        Ok(Object::new(area))
    }

    /// Opens an object of whatever type.
    pub(crate) fn open_area(&self, id: ObjId, access: Access) -> Result<Area<'_>, Error> {
        let mut area = self.map(id)?;
        if memory::load(version_word(area)) >= DELETED {
            // By another program, since it was mapped. One of the same ID may have come back.
            self.forget(id);
            area = self.map(id)?;
        }
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
        memory::load(place).min(range_bytes(area.start()) - BASE_OFFSET)
    }

    /// Ends an object's mapping. Whoever has a guard may go on using what it resolved; the slot is used again when all guards that are
    /// alive now have gone. Where the object is opened before that, it lies where it lay.
    pub fn unmap(&self, id: ObjId) {
        self.end_mapping(&mut self.maps.lock(&self.backend), id);
    }

    /// The same for an object that has been deleted: whatever is mapped under its ID from now on is another one.
    pub(crate) fn forget(&self, id: ObjId) {
        let maps = &mut *self.maps.lock(&self.backend);
        self.end_mapping(maps, id);
        maps.leaving.iter_mut().filter(|left| left.object == Some(id)).for_each(|left| left.object = None);
    }

    fn end_mapping(&self, maps: &mut Maps, id: ObjId) {
        let fot = self.unmap_in(maps, id);
        // It is of no use without its holder.
        if let Some(companion) = fot.and_then(|fot| fot.companion) {
            self.unmap_in(maps, companion);
        }
        self.let_go(maps);
    }

    fn unmap_in(&self, maps: &mut Maps, id: ObjId) -> Option<Fot> {
        let slot = *maps.by_id.get(&id)?;
        if self.row(slot, STATE) & IS_PINNED != 0 {
            return None;
        }
        maps.by_id.remove(&id);
        let fot = self.forget_fot(maps, slot);
        self.set_state(slot, self.row(slot, STATE) | IS_LEAVING);
        self.forget_incoming(maps, slot);
        let epoch = self.epochs.now();
        maps.leaving.push(Leaving { slot, epoch, object: Some(id) });
        fot
    }

    /// Unmaps what nobody can use any more.
    fn let_go(&self, maps: &mut Maps) {
        maps.outgrown.retain(|&(_, epoch)| !self.epochs.has_passed(epoch));
        maps.leaving.retain(|&Leaving { slot, epoch, .. }| {
            let passed = self.epochs.has_passed(epoch);
            if passed {
                // Unless the object came back to the same slot.
                if self.row(slot, STATE) & IS_LEAVING != 0 {
                    self.set_state(slot, 0);
                }
                // SAFETY: mapped by this space, and in no table for so long that all have gone who were inside.
                unsafe { self.backend.unmap(slot) };
            }
            !passed
        });
    }

    /// Goes on with a mapping that has ended, but that somebody may still use: within a transaction, an object lies at one address.
    fn take_back(&self, maps: &mut Maps, id: ObjId) -> Option<Slot> {
        let at = maps.leaving.iter().position(|left| left.object == Some(id))?;
        let slot = maps.leaving.swap_remove(at).slot;
        self.set_state(slot, self.row(slot, STATE) & !IS_LEAVING);
        maps.by_id.insert(id, slot);
        Some(slot)
    }

    /// Lets an object reach over 512 GiB, where it reached over 1 GiB. Nothing in it moves, and pointers to it go on holding. No guard is alive, since
    /// what was resolved before lies elsewhere than what will be.
    ///
    /// # Errors
    /// [`Error::NotSupported`] where the system has no large objects; [`Error::Busy`] for an object that the library itself uses, and
    /// where the system says so; otherwise [`Error::NoSuchObject`] and the system's own.
    pub fn promote(&mut self, id: ObjId) -> Result<(), Error> {
        self.unmap(id);
        if self.maps.lock(&self.backend).by_id.contains_key(&id) {
            return Err(Error::Busy);
        }
        self.backend.promote(id)
    }

    /// Tells the system what is still mapped, as the space ends.
    pub(crate) fn leave_mapped(&self) {
        let maps = self.maps.lock(&self.backend);
        let leaving = maps.leaving.iter().map(|left| &left.slot);
        maps.by_id.values().chain(leaving).for_each(|&slot| self.backend.left(slot));
    }

    /// Maps an object where it isn't yet; what programs that died have committed to it is in place from then on. Before its type is looked at: they may
    /// have migrated it. Once it is mapped nobody else does, and mapped it stays while the caller's guard lives, also where another thread ends the mapping: then
    /// [`Space::take_back`] finds it.
    pub(crate) fn settle(&self, id: ObjId) -> Result<(), Error> {
        self.map(id)?;
        if self.is_held_by_dead(stripe_of(id)) { self.recover() } else { Ok(()) }
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
        if let Some(slot) = self.take_back(maps, id) {
            return Ok(slot);
        }
        let stat = self.backend.stat(id)?;
        if stat.quarantine != 0 {
            return Err(Error::from_number(stat.quarantine).unwrap_or(Error::Damaged));
        }
        if ![SizeClass::Small as u32, SizeClass::Large as u32].contains(&stat.size_class) {
            return Err(Error::NotSupported);
        }
        let granted = Rights::from_bits_truncate(stat.default_rights);
        if !granted.contains(Rights::READ) {
            return Err(Error::AccessDenied);
        }
        let writable = granted.contains(Rights::WRITE);
        let slot = self.backend.map(id, granted & (Rights::READ | Rights::WRITE))?;
        if maps.fots.contains_key(&slot.number()) {
            // Learnt of what lay there by who went on with that when its mapping had ended.
            self.forget_fot(maps, slot);
        }
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
        self.set_row(slot, CHANGES, stripe_word_at(stripe_of(id), StripeWord::Changes));
        // Last: who sees it sees the others.
        self.set_state(slot, state);
        Ok(slot)
    }

    /// Makes an object's mapping last as long as the space.
    pub(crate) fn pin(&self, area: Area<'_>) {
        let _maps = self.maps.lock(&self.backend);
        if let Some(slot) = Slot::of(area.start()) {
            self.set_state(slot, self.row(slot, STATE) | IS_PINNED);
        }
    }

    /// What is known of an object; an error where it has been unmapped and all who were inside then have gone.
    #[inline]
    pub(crate) fn mapped(&self, area: Area<'_>) -> Result<Mapped, Error> {
        let slot = Slot::of(area.start()).ok_or(Error::NoSuchObject)?;
        let [state, hi, lo, made_as] = self.row_words(slot, [STATE, STATE + 1, STATE + 2, STATE + 3]);
        if state & IS_MAPPED == 0 {
            return Err(Error::NoSuchObject);
        }
        Ok(Mapped {
            id: ObjId { hi, lo },
            writable: state & IS_WRITABLE != 0,
            persistent: state & IS_PERSISTENT != 0,
            made_as,
        })
    }

    /// The word that counts changes of a mapped object.
    #[inline]
    pub(crate) fn changes_of(&self, area: Area<'_>) -> &AtomicU64 {
        self.shared_word(Slot::of(area.start()).map_or(0, |slot| self.row(slot, CHANGES)))
    }

    /// Fingerprint of a mapped object's base type.
    pub(crate) fn fingerprint(&self, area: Area<'_>) -> Result<u64, Error> {
        Ok(migrated(area, self.mapped(area)?.made_as))
    }

    /// Changes what recovery has found.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Recovery)) {
        change(&mut self.found.lock(&self.backend));
    }

    /// Where the target of a FOT entry is mapped, of the object that is mapped at `start`.
    pub(crate) fn target_of(&self, start: u64, index: u64, of: TypeOf) -> Result<u64, Error> {
        let slot = Slot::of(start).ok_or(Error::Damaged)?;
        let known = self.known_target(slot, index);
        if known != 0 { Ok(known) } else { self.translate(slot, index, of) }
    }

    /// A miss: reads the FOT entry, maps its target and remembers where. Out of line, so that hops by the second level save no registers.
    #[cold]
    #[inline(never)]
    fn translate(&self, slot: Slot, index: u64, of: TypeOf) -> Result<u64, Error> {
        let (target, rights, expected) = self.target(area_of(slot), index)?;
        self.enter_target(slot, index, (target, rights, expected), of)
    }

    /// Maps the target of an entry and remembers where. `expected` is the type of its base, or 0; a pointer to `of` leads there.
    pub(crate) fn enter_target(
        &self,
        slot: Slot,
        index: u64,
        (target, rights, expected): (ObjId, Rights, u64),
        of: TypeOf,
    ) -> Result<u64, Error> {
        self.settle(target)?;
        // Until the row is filled, so that what is in a row is mapped.
        let mut maps = self.maps.lock(&self.backend);
        let mut to = self.map_in(&mut maps, target)?;
        let found = self.fingerprint(area_of(to))?;
        if expected != 0 && expected != found {
            drop(maps);
            if !self.is_successor(expected, found) {
                return Err(Error::WrongType);
            }
            maps = self.maps.lock(&self.backend);
            to = self.map_in(&mut maps, target)?;
            if self.fingerprint(area_of(to))? != found {
                return Err(Error::WrongType);
            }
        }
        self.agree(to, of().fingerprint, of)?;
        if rights.contains(Rights::WRITE) && !self.mapped(area_of(to))?.writable {
            return Err(Error::AccessDenied);
        }
        if self.row(slot, STATE) & (IS_MAPPED | IS_LEAVING) == IS_MAPPED {
            self.set_target_in(&mut maps, slot, index, to.base());
        }
        Ok(to.base())
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
