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
use super::work::LastLocked;
use crate::backend::Backend;
use crate::error::TypeName;
use crate::lane::{INTENTS_MAX, Intent, LaneHead, id_of};
use crate::lock::Mode;
use crate::memory;
use crate::pointer::{Area, Object};
use crate::space::{Space, header_place};
use crate::stored::Stored;
use crate::types::type_key;

impl<'s, B: Backend> Tx<'s, B> {
    /// Makes a persistent object whose base is a `T` of zeros. It exists only if the transaction commits.
    ///
    /// # Errors
    /// [`Error::OutOfNvm`], [`Error::TooMany`] beyond [`INTENTS_MAX`] in one transaction, and the system's own.
    pub fn create<T: Stored>(&mut self) -> Result<Object<'s, T>, Error> {
        let spec = self.random_spec(T::FINGERPRINT)?;
        let object = self.make_typed(&spec)?;
        self.space.want_description::<T>();
        Ok(object)
    }

    /// Makes the object of that spec, which nobody has made yet, of a `T` of zeros.
    pub(crate) fn make_typed<T: Stored>(&mut self, spec: &CreateSpec) -> Result<Object<'s, T>, Error> {
        let area = self.make(spec)?;
        self.ensure(area, HEADER_OFFSET, PAGE_BYTES + size_of::<T>() as u64)?;
        self.name_type(area, T::NAME, type_key(T::NAME, T::ARGUMENTS))?;
        self.set_len_bytes(area, size_of::<T>() as u64)?;
        Ok(Object::new(area))
    }

    /// Makes a persistent object of plain bytes, for instance a file.
    ///
    /// # Errors
    /// As [`Tx::create`].
    pub fn create_any(&mut self) -> Result<Area<'s>, Error> {
        let spec = self.random_spec(0)?;
        self.make(&spec)
    }

    pub(super) fn random_spec(&self, fingerprint: u64) -> Result<CreateSpec, Error> {
        let mut nonce = [0; 16];
        self.space.backend().random(&mut nonce)?;
        Ok(CreateSpec {
            nonce,
            owner: ObjId::NONE,
            flags: ObjectFlags::PERSISTENT.bits(),
            default_rights: USUAL_RIGHTS.bits(),
            fingerprint,
        })
    }

    /// Makes the persistent object of that nonce, owner, flags, rights and fingerprint, of plain bytes and without a name of its type: for
    /// importing one. It exists only if the transaction commits.
    ///
    /// # Errors
    /// [`Error::Exists`]; as [`Tx::create`].
    pub fn create_with(&mut self, spec: &CreateSpec) -> Result<Area<'s>, Error> {
        let id = id_of(spec)?;
        // Whoever deletes one of that ID is done with it, in his lane too.
        self.lock_id(id, Mode::Exclusive)?;
        // Before the intent: an object that exists is not to go.
        if self.space.backend().stat(id).is_ok() {
            return Err(Error::Exists);
        }
        self.make(spec)
    }

    fn make(&mut self, spec: &CreateSpec) -> Result<Area<'s>, Error> {
        self.doomed()?;
        let id = id_of(spec)?;
        if self.work().created.len() >= INTENTS_MAX {
            return Err(Error::TooMany);
        }
        self.intend(id)?;
        if self.space.backend().create(spec)? != id {
            return Err(Error::Damaged);
        }
        let work = self.work_mut();
        work.created.push(id);
        work.specs.push(*spec);
        self.space.backend().ensure(id, HEADER_OFFSET, PAGE_BYTES)?;
        // One of that ID may still be mapped that another program has deleted.
        self.space.forget(id);
        let area = self.space.map(id)?;
        self.work_mut().fresh.add_object(area);
        Ok(area)
    }

    /// Writes the declared name of an object's type into its header, and its key.
    pub(crate) fn name_type(&mut self, area: Area<'s>, name: &str, key: u64) -> Result<(), Error> {
        self.set(header_place(area, offset_of!(Header, type_key)), key)?;
        self.set(header_place(area, offset_of!(Header, type_name)), *TypeName::of(name).bytes())
    }

    /// Makes it durable that the object is to go unless the transaction commits. With a log, the backend sees to that.
    fn intend(&mut self, id: ObjId) -> Result<(), Error> {
        if self.stages() {
            return Ok(());
        }
        let media = self.lane.media.ok_or(Error::ReadOnly)?;
        let place = media.head().at(LaneHead::intents).index(self.work().created.len());
        let place = place.ok_or(Error::TooMany)?;
        self.space.store_durably(place, &Intent::new(id, self.lane.transaction, media.generation));
        self.work_mut().intends = true;
        Ok(())
    }

    /// Makes the intents void that a transaction leaves which changes nothing: an object of the same ID may be made again, by another one.
    /// That is still locked.
    pub(super) fn forget_intents(&mut self) {
        if core::mem::take(&mut self.work_mut().intends)
            && let Some(media) = self.lane.media
        {
            self.space.store_durably(media.head().at(LaneHead::done), &self.lane.transaction);
        }
    }

    /// Deletes an object when the transaction commits, with the companion of its FOT if it has one. Locks it; the transaction can't write to
    /// it any more.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`]; [`Error::AccessDenied`] for an object that grants no delete; otherwise as [`Tx::lock`].
    pub fn delete(&mut self, id: ObjId) -> Result<(), Error> {
        self.doomed()?;
        self.lock_id(id, Mode::Exclusive)?;
        let stat = self.space.stat(id)?;
        if !Rights::from_bits_truncate(stat.default_rights).contains(Rights::DELETE) {
            return Err(Error::AccessDenied);
        }
        let companion = self.companion_of(id);
        let deletes = &mut self.work_mut().deletes;
        for id in [Some(id), companion].into_iter().flatten() {
            if !deletes.contains(&id) {
                deletes.push(id);
            }
        }
        // The next write looks again if it goes to one of those.
        self.work().last.set(LastLocked::default());
        Ok(())
    }

    /// True for an object that the transaction deletes.
    pub(crate) fn deletes(&self, area: Area<'_>) -> Result<bool, Error> {
        let deletes = &self.work().deletes;
        Ok(!deletes.is_empty() && deletes.contains(&self.space.mapped(area)?.id))
    }

    /// Deletes what was made and takes back what is in volatile tables.
    pub(super) fn undo(&mut self) {
        self.forget_entries(0);
        self.forget_freed_entries(0);
        self.delete_created(0);
        self.forget_intents();
    }

    /// Deletes what was made, but for the first so many.
    pub(super) fn delete_created(&mut self, keep: usize) {
        while self.work().created.len() > keep
            && let Some(id) = self.work_mut().created.pop()
        {
            self.work_mut().specs.pop();
            if self.space.delete_if_there(id).is_err() {
                // The intent remains until the lane has another owner, and recovery deletes.
                self.work_mut().intends = false;
            }
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
            let key = header_place(area, offset_of!(Header, type_key));
            memory::store(self.backend(), key, &type_key(T::NAME, T::ARGUMENTS));
            // They share a line.
            const { assert!(offset_of!(Header, type_key) / 64 == (offset_of!(Header, lock) - 1) / 64) };
            memory::flush(self.backend(), place.as_span());
        }
    }
}
