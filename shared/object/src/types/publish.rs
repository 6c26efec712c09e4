//! Making type objects, and reading objects by them.
//!
//! Whoever makes an object of a type for the first time makes its type object too, in a transaction of its own after the one
//! that made the object: so the two never conflict, and programs that race make one. A crash between the two leaves an object that
//! nobody describes until a program makes another of its type: tools then show its bytes.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use twizzler_abi::Error;
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET};

use super::difference::Difference;
use super::dump::{Dump, Source, dump};
use super::object::{type_object, type_object_spec};
use super::table::TypeTable;
use crate::backend::Backend;
use crate::guard::Guard;
use crate::pointer::{Area, Bytes};
use crate::space::{Access, Space};
use crate::stored::Stored;
use crate::volatile::Lock;

/// Bytes of a type table that is read.
const TABLE_BYTES_MAX: u64 = 1 << 20;

/// Which types a program has made objects of.
#[derive(Debug, Default)]
pub(crate) struct Described {
    /// True where any are wanted, so that a commit need not take the lock to know.
    waiting: AtomicBool,
    types: Lock<Types>,
}

#[derive(Debug, Default)]
struct Types {
    known: BTreeSet<u64>,
    wanted: Vec<(u64, fn() -> TypeTable)>,
}

impl<B: Backend> Space<B> {
    /// Remembers that an object of the type was made.
    pub(crate) fn want_description<T: Stored>(&self) {
        let mut types = self.described.types.lock(self.backend());
        if types.known.insert(T::FINGERPRINT) {
            types.wanted.push((T::FINGERPRINT, TypeTable::of::<T>));
            self.described.waiting.store(true, Ordering::Relaxed);
        }
    }
}

impl<B: Backend> Space<B> {
    /// How a program's type differs from the one with that fingerprint.
    #[cold]
    pub(crate) fn difference<T: Stored>(&self, fingerprint: u64) -> Difference {
        match self.enter().describe(fingerprint) {
            Ok(Some(found)) => Difference::between(&TypeTable::of::<T>(), &found),
            _ => Difference::Unknown,
        }
    }
}

impl<B: Backend> Guard<'_, B> {
    /// Makes the type objects that are missing, after a transaction. Costs nothing where none are.
    #[inline]
    pub(crate) fn publish_descriptions(&self) {
        // The lock orders what the flag only hints at.
        if self.described.waiting.load(Ordering::Relaxed) {
            self.publish_wanted();
        }
    }

    #[cold]
    fn publish_wanted(&self) {
        let mut types = self.described.types.lock(self.backend());
        self.described.waiting.store(false, Ordering::Relaxed);
        let wanted = core::mem::take(&mut types.wanted);
        drop(types);
        for (fingerprint, table) in wanted {
            // Descriptions help people: that one can't be made is no reason to fail what was done.
            let _ = self.publish(fingerprint, table);
        }
    }

    fn publish(&self, fingerprint: u64, table: fn() -> TypeTable) -> Result<(), Error> {
        match self.stat(type_object(fingerprint)) {
            Err(Error::NoSuchObject) => {}
            found => return found.map(|_| ()),
        }
        let bytes = table().encode();
        self.transact_once(|tx| {
            let area = tx.create_with(&type_object_spec(fingerprint))?;
            tx.name_type(area, "twizzler.type", 0)?;
            tx.write_at(area, 0, &bytes)?;
            tx.set_len_bytes(area, bytes.len() as u64)
        })
    }

    /// The description of the type with this fingerprint, as whoever made the first object of it wrote it. None: nobody did.
    ///
    /// # Errors
    /// [`Error::Damaged`] for one that doesn't prove itself; otherwise as [`Guard::open_any`].
    pub fn describe(&self, fingerprint: u64) -> Result<Option<TypeTable>, Error> {
        let area = match self.open_any(type_object(fingerprint), Access::Read) {
            Err(Error::NoSuchObject) => return Ok(None),
            found => found?,
        };
        let content = self.content(area);
        if content.len() > TABLE_BYTES_MAX {
            return Err(Error::Damaged);
        }
        TypeTable::decode(fingerprint, &self.to_vec(content)).map(Some)
    }

    /// What is in an object, and in at most so many places that its pointers lead to. None: nobody described its type.
    ///
    /// # Errors
    /// As [`Guard::describe`] and [`dump`].
    pub fn dump(&self, area: Area<'_>, places_max: usize) -> Result<Option<Dump>, Error> {
        let Some(table) = self.describe(self.fingerprint(area)?)? else { return Ok(None) };
        let end = BASE_OFFSET.saturating_add(self.len_bytes(area));
        dump(&Mapped { guard: self, area, end }, &table, places_max).map(Some)
    }
}

/// A mapped object. Pages behind its `end` were never written; reading would make them.
struct Mapped<'s, 'g, B: Backend> {
    guard: &'g Guard<'s, B>,
    area: Area<'g>,
    end: u64,
}

impl<B: Backend> Source for Mapped<'_, '_, B> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        buffer.fill(0);
        let len = self.end.saturating_sub(offset).min(buffer.len() as u64);
        let bytes: Bytes<'_> = self.area.span_from(HEADER_OFFSET, offset, len).ok_or(Error::OutOfRange)?;
        self.guard.read(bytes, 0, &mut buffer[..len as usize])
    }

    fn range_bytes(&self) -> u64 {
        self.area.range_bytes()
    }
}
