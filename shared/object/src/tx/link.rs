//! Making pointers: encoding a target for the object that the pointer lies in, and the FOT entries that this needs.
//!
//! An entry is staged like any other change, so it exists exactly if the transaction commits; so does a companion that it needs. Equal
//! targets share an entry; an index, once committed, never changes meaning.

use core::mem::offset_of;

use twizzler_abi::address::{Slot, range_start};
use twizzler_abi::call::CreateSpec;
use twizzler_abi::object::{BASE_OFFSET, Header};
use twizzler_abi::pointer::{FOT_ENTRIES_MAX, FotEntry, FotKind, PointerBits};
use twizzler_abi::{Error, ObjId, Rights};

use super::Tx;
use crate::backend::Backend;
use crate::entries::Entered;
use crate::fot::{Companion, INLINE, LATE_NAME_BYTES_MAX, companion_place, entry_place, name_of};
use crate::memory;
use crate::pointer::{Area, InvPtr, InvSpan, Ptr, Span};
use crate::reader::Reader;
use crate::space::{area_of, header_place};
use crate::stored::{Stored, TypeOf};

impl<'s, B: Backend> Tx<'s, B> {
    /// Makes the pointer at a place point to `target`, wherever that is, or nowhere.
    ///
    /// # Errors
    /// [`Error::TooMany`] where the object leads to a million others; [`Error::InvalidArgument`] for a pointer from what outlives a
    /// power cut to what doesn't; otherwise as [`Tx::lock`].
    pub fn link<T: Stored>(
        &mut self,
        place: Ptr<'s, InvPtr<T>>,
        target: Option<Ptr<'s, T>>,
    ) -> Result<(), Error> {
        let bits = match target {
            Some(target) => self.encode(place.object(), target.address())?,
            None => PointerBits::NULL,
        };
        self.set(place.bits(), bits.0)
    }

    /// Makes the pointer at a place point to the base of whichever object has this name when the pointer is first followed, in each program anew:
    /// of a library's object, say, that may be replaced. [`crate::Space::resolve_names_by`] says who knows names. Nothing is looked up
    /// here, so the name may be given later.
    ///
    /// # Errors
    /// [`Error::TooLong`] beyond [`LATE_NAME_BYTES_MAX`]; [`Error::TooMany`], [`Error::OutOfNvm`]; otherwise as [`Tx::lock`].
    pub fn link_to_name<T: Stored>(&mut self, place: Ptr<'s, InvPtr<T>>, name: &str) -> Result<(), Error> {
        if name.len() as u64 > LATE_NAME_BYTES_MAX {
            return Err(Error::TooLong);
        }
        let from = place.object();
        self.lock(from)?;
        let index = match self.index_of_name(from, name, T::FINGERPRINT)? {
            Some(index) => index,
            None => {
                let text = self.alloc_bytes(from, name.as_bytes())?;
                let offset = text.address() - from.start();
                self.add_entry(from, FotEntry::to_name(offset, text.len(), Rights::READ, T::FINGERPRINT))?
            }
        };
        self.set(place.bits(), PointerBits::new(index, BASE_OFFSET)?.0)
    }

    /// Makes the span at a place that of `target`.
    ///
    /// # Errors
    /// As [`Tx::link`].
    pub fn link_span<T: Stored>(
        &mut self,
        place: Ptr<'s, InvSpan<T>>,
        target: Span<'s, T>,
    ) -> Result<(), Error> {
        let bits = if target.is_empty() {
            PointerBits::NULL
        } else {
            self.encode(place.object(), target.address())?
        };
        self.set(place.at(InvSpan::AT).bits(), bits.0)?;
        self.set(place.at(InvSpan::LEN), target.len())
    }

    /// The bits of a pointer in `from` to an address in a mapped object, which `from` knows from then on.
    pub(crate) fn encode(&mut self, from: Area<'s>, target: u64) -> Result<PointerBits, Error> {
        let start = range_start(target);
        let offset = target - start;
        if start == from.start() {
            return PointerBits::new(0, offset);
        }
        let to = Slot::of(start).ok_or(Error::OutOfRange)?;
        PointerBits::new(self.fot_index(from, to)?, offset)
    }

    /// The index in `from`'s FOT of the object at the slot `to`.
    fn fot_index(&mut self, from: Area<'s>, to: Slot) -> Result<u64, Error> {
        let slot = Slot::of(from.start()).ok_or(Error::OutOfRange)?;
        // First: what another transaction has staged, and may still undo, doesn't count.
        self.lock(from)?;
        let target = self.space.mapped(area_of(to))?;
        let mut known = self.space.known_index(slot, target.id);
        if known.is_none() {
            self.learn_entries(from, slot)?;
            known = self.space.known_index(slot, target.id);
        }
        if let Some(index) = known {
            return Ok(index);
        }
        if self.space.mapped(from)?.persistent && !target.persistent {
            return Err(Error::InvalidArgument);
        }
        let expected = self.space.fingerprint(area_of(to))?;
        let rights = if target.writable { Rights::READ | Rights::WRITE } else { Rights::READ };
        let index = self.add_entry(from, FotEntry::to_id(target.id, rights, expected))?;
        // So that the transaction itself can follow the pointer; taken back if it is undone.
        self.space.set_target(slot, index, to.base());
        self.space.know_entry(slot, index, Some(target.id));
        Ok(index)
    }

    /// Remembers which indexes name which targets, as far as that isn't known yet.
    pub(super) fn learn_entries(&mut self, from: Area<'s>, slot: Slot) -> Result<(), Error> {
        let len = self.fot_len(from);
        for index in self.space.known_entries(slot).max(1)..len {
            let place = self.entry_place(from, index)?;
            let entry = self.get(place);
            self.doomed()?;
            let target = match entry.decode() {
                Ok((FotKind::Id, _)) => Some(entry.target),
                Ok((FotKind::Free, _)) => {
                    self.space.know_free(slot, index);
                    None
                }
                _ => None,
            };
            self.space.know_entry(slot, index, target);
        }
        Ok(())
    }

    fn index_of_name(&mut self, from: Area<'s>, name: &str, expected: u64) -> Result<Option<u64>, Error> {
        // Few objects have many names; whoever does may have one twice.
        for index in 1..self.fot_len(from).min(INLINE) {
            let place = self.entry_place(from, index)?;
            let entry = self.get(place);
            if !matches!(entry.decode(), Ok((FotKind::Name, _))) || entry.fingerprint != expected {
                continue;
            }
            if name_of(from, &entry).is_ok_and(|text| self.compare(text, name.as_bytes()).is_eq()) {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Entries that are in use, counting entry 0.
    fn fot_len(&self, from: Area<'s>) -> u64 {
        self.get(header_place::<u64>(from, offset_of!(Header, fot_len_entries))).clamp(1, FOT_ENTRIES_MAX)
    }

    /// Adds an entry to the FOT of an object that is locked; gives its index.
    fn add_entry(&mut self, from: Area<'s>, entry: FotEntry) -> Result<u64, Error> {
        let (slot, len) = (Slot::of(from.start()).ok_or(Error::OutOfRange)?, self.fot_len(from));
        if let Some(index) = self.free_entry(from, slot, len)? {
            // First: if anything fails, it is free again.
            self.work_mut().entries.push((slot, index, Entered::Anew));
            self.space.set_target(slot, index, 0);
            let place = self.entry_place(from, index)?;
            self.set(place, entry)?;
            return Ok(index);
        }
        let index = len;
        if index >= FOT_ENTRIES_MAX {
            return Err(Error::TooMany);
        }
        if index == INLINE && self.get(companion_place(from)).is_none() {
            self.make_companion(from)?;
        }
        let place = self.entry_place(from, index)?;
        if index >= INLINE {
            self.ensure(place.object(), place.offset(), size_of::<FotEntry>() as u64)?;
        }
        self.set(place, entry)?;
        self.set(header_place(from, offset_of!(Header, fot_len_entries)), index + 1)?;
        self.work_mut().entries.push((slot, index, Entered::Added));
        Ok(index)
    }

    pub(super) fn entry_place(&self, from: Area<'s>, index: u64) -> Result<Ptr<'s, FotEntry>, Error> {
        entry_place(from, index, || {
            self.space.companion(from, self.get(companion_place(from)), |holder| self.get(holder))
        })
    }

    /// Makes an object for the entries that don't fit the header page. It lives as its holder does.
    fn make_companion(&mut self, from: Area<'s>) -> Result<(), Error> {
        let holder = self.space.mapped(from)?.id;
        let stat = self.space.stat(holder)?;
        let mut spec = self.random_spec(Companion::FINGERPRINT)?;
        spec = CreateSpec {
            owner: stat.owner,
            flags: stat.flags & !LARGE,
            default_rights: stat.default_rights,
            ..spec
        };
        let companion = self.make_typed::<Companion>(&spec)?;
        self.set(companion.base().at(Companion::holder), holder)?;
        let id = self.space.id_of(companion.area());
        self.set(companion_place(from), id)
    }

    /// The companion of an object that is to be deleted, which goes with it. Nothing is locked for that.
    pub(super) fn companion_of(&self, id: ObjId) -> Option<ObjId> {
        let area = self.space.map(id).ok()?;
        let look = |place: Ptr<'_, ObjId>| {
            let mut id = memory::load(place);
            self.work().overlay.patch(place.address(), memory::bytes_of_mut(&mut id));
            id
        };
        let companion = look(companion_place(area));
        self.space.companion(area, companion, look).ok().map(|_| companion)
    }

    /// Remembers the target of an entry that the transaction has added and that names it by name. False for any other entry.
    #[cold]
    pub(super) fn resolve_own_name(&self, at: u64, bits: PointerBits, of: TypeOf) -> Result<bool, Error> {
        let (slot, index) = (Slot::of(range_start(at)).ok_or(Error::Damaged)?, bits.index());
        if !self.work().entries.iter().any(|&(of, own, _)| (of, own) == (slot, index)) {
            return Ok(false);
        }
        let from = area_of(slot);
        let entry = self.get(self.entry_place(from, index)?);
        let (FotKind::Name, rights) = entry.decode()? else { return Ok(false) };
        let target = self.space.object_named(self.to_vec(name_of(from, &entry)?))?;
        self.space.enter_target(slot, index, (target, rights, entry.fingerprint), of).map(|_| true)
    }

    /// Takes back what is known of entries that were added, but for the first so many of them.
    pub(super) fn forget_entries(&mut self, keep: usize) {
        while self.work().entries.len() > keep
            && let Some((slot, index, how)) = self.work_mut().entries.pop()
        {
            self.space.forget_entry(slot, index, how);
        }
    }
}

/// A companion is small, however large its holder.
const LARGE: u32 = twizzler_abi::rights::ObjectFlags::LARGE.bits();
