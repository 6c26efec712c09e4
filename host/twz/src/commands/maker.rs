//! Makes the objects of an archive, whole before anybody finds them: when all are there, others find the new ones, and then those that
//! replace others do.

use twizzler_abi::ObjId;
use twizzler_abi::object::{HEADER_OFFSET, Header};
use zerocopy::{FromZeros, IntoBytes};

use crate::archive::read::Archived;
use crate::medium::Medium;
use crate::object::header;
use crate::open::Opened;
use crate::status::Failure;

/// Makes objects of records.
pub(super) struct Maker<'a, M: Medium> {
    store: &'a Opened<M>,
    /// The object that pages belong to, and the header of the one that it replaces.
    current: Option<(ObjId, Option<Header>)>,
    /// Objects that were not there before.
    made: Vec<ObjId>,
    /// Objects that are to take the place of others.
    remade: Vec<ObjId>,
}

impl<'a, M: Medium> Maker<'a, M> {
    pub(super) const fn new(store: &'a Opened<M>) -> Self {
        Self { store, current: None, made: Vec::new(), remade: Vec::new() }
    }

    /// An object begins; it replaces one that differs.
    pub(super) fn begin(&mut self, archived: &Archived, differs: bool) -> Result<(), Failure> {
        let id = archived.record.id;
        let medium = self.store.medium();
        let Archived { metadata, extension, class, .. } = archived;
        let old = if differs { Some(header(medium, id).unwrap_or(Header::new_zeroed())) } else { None };
        if differs {
            medium.remake(metadata, extension, *class).map_err(Failure::of(id))?;
            self.remade.push(id);
        } else {
            medium.make(metadata, extension, *class).map_err(Failure::of(id))?;
            self.made.push(id);
        }
        self.current = Some((id, old));
        Ok(())
    }

    /// Pages of the object that was begun, if it is wanted.
    pub(super) fn pages(&self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.current.map_or(Ok(()), |(id, _)| {
            self.store.medium().write_raw(id, offset, bytes).map_err(Failure::of(id))
        })
    }

    /// The same of pages that are zero.
    pub(super) fn zeros(&self, offset: u64, len_bytes: u64) -> Result<(), Failure> {
        self.current.map_or(Ok(()), |(id, _)| {
            self.store.medium().reserve_raw(id, offset, len_bytes).map_err(Failure::of(id))
        })
    }

    /// The object is whole: nobody holds its lock, and versions never go back.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        let Some((id, old)) = self.current.take() else { return Ok(()) };
        let medium = self.store.medium();
        let mut new = header(medium, id).map_err(Failure::of(id))?;
        new.lock = 0;
        for (version, old) in
            new.domain_versions.iter_mut().zip(old.iter().flat_map(|old| old.domain_versions))
        {
            *version = old.max(*version);
        }
        medium.write_raw(id, HEADER_OFFSET, new.as_bytes()).map_err(Failure::of(id))
    }

    /// All objects are whole: they can be found. Where this fails on its way, what can be found stays: others may lead to it by now.
    pub(super) fn reveal(&mut self) -> Result<(), Failure> {
        while let Some(id) = self.made.pop() {
            self.store.medium().publish(id).map_err(Failure::of(id))?;
        }
        while let Some(id) = self.remade.pop() {
            self.store.medium().replace(id).map_err(Failure::of(id))?;
        }
        Ok(())
    }

    /// Deletes what was made, and nobody can have found yet. Where this fails, `gc` finds it.
    pub(super) fn undo(&self) {
        for &id in self.made.iter().chain(&self.remade) {
            let _ = self.store.medium().delete(id);
        }
    }
}
