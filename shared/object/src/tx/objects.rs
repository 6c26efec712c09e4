//! Objects that a transaction makes and deletes.
//!
//! An object is made at once, but first an *intent* is durable in the lane: if the transaction does not commit, recovery (or
//! the abort) deletes it again. Deletes are performed after the commit, from the record.

use core::mem::offset_of;

use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::call::{CreateSpec, USUAL_RIGHTS};
use twizzler_abi::object::{HEADER_OFFSET, Header};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId, Rights};

use super::Tx;
use crate::backend::{Backend, Sink};
use crate::error::TypeName;
use crate::lane::{INTENTS_MAX, Intent, LaneHead, id_of};
use crate::memory;
use crate::pointer::{Area, Object};
use crate::space::{Space, header_place};
use crate::stored::Stored;

impl<'s, B: Backend> Tx<'s, B> {
    /// Makes a persistent object whose base is a `T` of zeros. It exists only if the transaction commits.
    ///
    /// # Errors
    /// [`Error::OutOfNvm`], [`Error::TooMany`] beyond [`INTENTS_MAX`] in one transaction, and the system's own.
    pub fn create<T: Stored>(&mut self) -> Result<Object<'s, T>, Error> {
        let area = self.create_of(T::FINGERPRINT, size_of::<T>() as u64)?;
        self.name_base::<T>(area)?;
        Ok(Object::new(area))
    }

    /// Writes the header of an object whose base is a `T`.
    pub(crate) fn name_base<T: Stored>(&mut self, area: Area<'s>) -> Result<(), Error> {
        let name = *TypeName::of(T::NAME).bytes();
        self.set(header_place(area, offset_of!(Header, type_name)), name)?;
        self.set_len_bytes(area, size_of::<T>() as u64)
    }

    /// Makes a persistent object of plain bytes, for instance a file.
    ///
    /// # Errors
    /// As [`Tx::create`].
    pub fn create_any(&mut self) -> Result<Area<'s>, Error> {
        self.create_of(0, 0)
    }

    fn create_of(&mut self, fingerprint: u64, len_bytes: u64) -> Result<Area<'s>, Error> {
        let mut nonce = [0; 16];
        self.space.backend().random(&mut nonce)?;
        let spec = CreateSpec {
            nonce,
            owner: ObjId::NONE,
            flags: ObjectFlags::PERSISTENT.bits(),
            default_rights: USUAL_RIGHTS.bits(),
            fingerprint,
        };
        self.create_as(&spec, len_bytes)
    }

    /// Makes the object of that spec, with room for so many bytes from its base.
    pub(crate) fn create_as(&mut self, spec: &CreateSpec, len_bytes: u64) -> Result<Area<'s>, Error> {
        let id = id_of(spec)?;
        let by_log = self.space.backend().sink() == Sink::Log;
        if !by_log {
            self.intend(id)?;
        }
        if self.space.backend().create(spec)? != id {
            return Err(Error::Damaged);
        }
        if by_log {
            self.created.push(id);
            self.specs.push(*spec);
        }
        self.space.backend().ensure(id, HEADER_OFFSET, PAGE_BYTES + len_bytes)?;
        let area = self.space.map(id)?;
        if !by_log {
            self.fresh.add_object(area);
        }
        Ok(area)
    }

    /// Makes it durable that the object is to go unless the transaction commits.
    fn intend(&mut self, id: ObjId) -> Result<(), Error> {
        if self.created.len() >= INTENTS_MAX {
            return Err(Error::TooMany);
        }
        let (lane, generation) = self.lane()?;
        let place = self.space.open_lane(lane)?.at(LaneHead::intents).index(self.created.len());
        let place = place.ok_or(Error::TooMany)?;
        self.space.store_durably(place, &Intent::new(id, self.number, generation));
        self.created.push(id);
        Ok(())
    }

    /// The lane's ID and generation.
    pub(super) fn lane(&self) -> Result<(ObjId, u64), Error> {
        self.space
            .lane
            .lock(self.space.backend())
            .as_ref()
            .map(|lane| (lane.id, lane.generation))
            .ok_or(Error::Busy)
    }

    /// Deletes an object when the transaction commits.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`]; [`Error::AccessDenied`] for an object that grants no delete.
    pub fn delete(&mut self, id: ObjId) -> Result<(), Error> {
        let stat = self.space.stat(id)?;
        if !Rights::from_bits_truncate(stat.default_rights).contains(Rights::DELETE) {
            return Err(Error::AccessDenied);
        }
        if !self.deletes.contains(&id) {
            self.deletes.push(id);
        }
        Ok(())
    }

    /// Deletes what was made and forgets what was staged.
    pub(super) fn undo(&mut self) {
        self.forget_entries();
        for &id in &self.created {
            // Where this fails, the intent remains until the program's end, and recovery deletes.
            let _ = self.space.delete_if_there(id);
        }
    }
}

impl<B: Backend> Space<B> {
    /// Writes the declared name of a new object's type into its header, and starts writing it back.
    pub(crate) fn name_type<T: Stored>(&self, area: Area<'_>) {
        let place = header_place(area, offset_of!(Header, type_name));
        let name = TypeName::of(T::NAME);
        if memory::load::<[u8; 56]>(place) != *name.bytes() {
            memory::store(self.backend(), place, name.bytes());
            self.backend().flush(place.address(), name.bytes().len() as u64);
        }
    }
}
