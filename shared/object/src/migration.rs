//! Migration: the base of an object becomes another type, under the same ID.
//!
//! One transaction changes the data and writes into the header which type it was and which it is now: its commit is the migration.
//! From then on everybody takes the header's word, where the metadata, which no program can write, still name the old type.
//! Then the metadata follow ([`Backend::set_type`]), where the system can do that; if not, or after a crash before it, the
//! header goes on saying it. See decision 0008.

use core::mem::offset_of;

use twizzler_abi::Error;
use twizzler_abi::ObjId;
use twizzler_abi::object::{BASE_OFFSET, Header};

use crate::backend::Backend;
use crate::error::OpenError;
use crate::lock::Mode;
use crate::memory;
use crate::pointer::{Area, Ptr};
use crate::reader::Reader;
use crate::space::{Access, Space, header_place};
use crate::stored::Stored;
use crate::tx::Tx;
use crate::types::type_key;

/// What [`Space::migrate`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Migration {
    /// An object of the old type; it is of the new one now.
    Done,
    /// An object of the new type.
    Already,
}

/// How a type's values come about from those of the version before. The first version comes from itself, and says nothing more.
///
/// ```
/// # use twizzler_abi::Error;
/// # use twizzler_image::MemoryBackend;
/// # use twizzler_object::{Access, Backend, Migrate, Migration, Ptr, Reader, Space, Stored, Tx};
/// #[derive(Stored, Clone, Copy)]
/// #[stored(name = "example.account", version = 1)]
/// #[repr(C)]
/// struct AccountV1 { euros: u64 }
///
/// #[derive(Stored, Clone, Copy)]
/// #[stored(name = "example.account", version = 2)]
/// #[repr(C)]
/// struct Account { cents: u64, owner: u64 }
///
/// impl Migrate for AccountV1 {
///     type From = Self;
/// }
///
/// impl Migrate for Account {
///     type From = AccountV1;
///
///     fn migrate<'g, B: Backend>(
///         tx: &mut Tx<'g, B>,
///         old: Ptr<'g, AccountV1>,
///         new: Ptr<'g, Self>,
///     ) -> Result<(), Error> {
///         let AccountV1 { euros } = tx.get(old);
///         tx.set(new, Account { cents: euros * 100, owner: 0 })
///     }
/// }
///
/// # let backend = MemoryBackend::new();
/// # let mut space = Space::attach(&backend)?;
/// # let id = space.transact(|tx| {
/// #     let old = tx.create::<AccountV1>()?;
/// #     tx.set(old.base(), AccountV1 { euros: 3 })?;
/// #     Ok::<_, Error>(tx.space().id_of(old.area()))
/// # })?;
/// assert_eq!(space.upgrade::<Account>(id)?, Migration::Done); // `Already`, the next time
/// # let guard = space.enter();
/// # assert_eq!(guard.get(guard.open::<Account>(id, Access::Read)?.base()).cents, 300);
/// # Ok::<(), Error>(())
/// ```
pub trait Migrate: Stored {
    /// The version before; this one itself for the first.
    type From: Migrate;

    /// Fills `new`, which is zeroed, from `old`, in the place of which it will be; see [`Space::migrate`].
    ///
    /// # Errors
    /// Whatever keeps it from that; the object stays what it was.
    fn migrate<'g, B: Backend>(
        tx: &mut Tx<'g, B>,
        old: Ptr<'g, Self::From>,
        new: Ptr<'g, Self>,
    ) -> Result<(), Error> {
        let _ = (tx, old, new);
        Err(Error::WrongType)
    }
}

impl<B: Backend> Space<B> {
    /// Makes an object whose base is an `Old` one whose base is a `New`, durably and all or nothing. `change` is given the old base, and
    /// a new one of zeros, which it fills; it may allocate, free and link as in any transaction, and may run again. Pointers to
    /// the object, and those within it, go on holding.
    ///
    /// Nobody else uses the object meanwhile: no guard is alive in this program, since the space is borrowed exclusively, and
    /// another program's mapping is an error ([`Backend::claim`]).
    ///
    /// Where a type has one way to come about, [`Migrate`] and [`Space::upgrade`] say so once.
    ///
    /// ```
    /// # use twizzler_abi::Error;
    /// # use twizzler_image::MemoryBackend;
    /// # use twizzler_object::{Access, Migration, Reader, Space, Stored};
    /// #[derive(Stored, Clone, Copy)]
    /// #[stored(name = "example.account", version = 1)]
    /// #[repr(C)]
    /// struct AccountV1 { euros: u64 }
    ///
    /// #[derive(Stored, Clone, Copy)]
    /// #[stored(name = "example.account", version = 2)]
    /// #[repr(C)]
    /// struct Account { cents: u64, owner: u64 }
    ///
    /// let backend = MemoryBackend::new();
    /// let mut space = Space::attach(&backend)?;
    /// # let id = space.transact(|tx| {
    /// #     let old = tx.create::<AccountV1>()?;
    /// #     tx.set(old.base(), AccountV1 { euros: 3 })?;
    /// #     Ok::<_, Error>(tx.space().id_of(old.area()))
    /// # })?;
    /// let done = space.migrate(id, |tx, old, new| {
    ///     let AccountV1 { euros } = tx.get(old);
    ///     tx.set(new, Account { cents: euros * 100, owner: 0 })
    /// })?;
    /// assert_eq!(done, Migration::Done);
    /// let guard = space.enter();
    /// assert_eq!(guard.get(guard.open::<Account>(id, Access::Read)?.base()).cents, 300);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`OpenError::WrongType`] for an object of neither type; [`Error::Busy`] while another program has it mapped, or for an object
    /// that the library itself uses; [`Error::OutOfRange`] where the new base does not fit before what the object has
    /// allocated (keep the base small, and let it point to more); those of `change` and of a transaction.
    pub fn migrate<Old: Stored, New: Stored, E: From<Error>>(
        &mut self,
        id: ObjId,
        change: impl for<'g> FnMut(&mut Tx<'g, B>, Ptr<'g, Old>, Ptr<'g, New>) -> Result<(), E>,
    ) -> Result<Migration, E> {
        self.unmap(id);
        self.backend().claim(id)?;
        let _claimed = Claimed { space: self, id };
        self.migrate_claimed(id, change)
    }

    fn migrate_claimed<Old: Stored, New: Stored, E: From<Error>>(
        &self,
        id: ObjId,
        mut change: impl for<'g> FnMut(&mut Tx<'g, B>, Ptr<'g, Old>, Ptr<'g, New>) -> Result<(), E>,
    ) -> Result<Migration, E> {
        self.want_description::<New>();
        let found = self.transact(|tx| {
            // First: what another program had begun, and died, is finished or undone from here on.
            tx.lock_id(id, Mode::Exclusive)?;
            match tx.open::<New>(id, Access::Write).map(drop) {
                Ok(()) => return Ok(Migration::Already),
                Err(OpenError::System(error)) => return Err(error.into()),
                Err(_) => {}
            }
            let old = tx.open::<Old>(id, Access::Write).map_err(Error::from)?;
            tx.replace_types();
            tx.replace_base(old.area(), |tx, new| change(tx, old.base(), new))?;
            tx.settle_types::<New>(old.area())?;
            tx.set_type::<Old, New>(old.area())?;
            Ok::<_, E>(Migration::Done)
        })?;
        // For those who look at the metadata alone. What keeps it from being done will not keep it the next time.
        let _ = self.backend().set_type(id, Old::FINGERPRINT, New::FINGERPRINT);
        Ok(found)
    }

    /// Makes an object a `T`, whichever of the types it is from which [`Migrate`] leads there. Each step is a migration of its own: after a power cut the
    /// object is wholly of one of these types.
    ///
    /// # Errors
    /// As [`Space::migrate`].
    pub fn upgrade<T: Migrate>(&mut self, id: ObjId) -> Result<Migration, Error> {
        match self.enter().open::<T>(id, Access::Read).map(drop) {
            Ok(()) => return Ok(Migration::Already),
            Err(OpenError::System(error)) => return Err(error),
            // The first version: nothing leads there.
            Err(_) if T::From::FINGERPRINT == T::FINGERPRINT => {
                return Err(Error::WrongType);
            }
            Err(_) => {}
        }
        self.upgrade::<T::From>(id)?;
        self.migrate(id, T::migrate)
    }

    /// True where `new` is the fingerprint of a type that a program may have migrated one of `old` to: descriptions of both give the same
    /// declared name.
    pub(crate) fn is_successor(&self, old: u64, new: u64) -> bool {
        let guard = self.enter();
        let name = |fingerprint| {
            let table = guard.describe(fingerprint).ok().flatten()?;
            Some(table.name_of(table.root()))
        };
        name(old).is_some_and(|old| name(new) == Some(old))
    }
}

/// An object that nobody else maps while this lives, also where a program's function panics.
struct Claimed<'s, B: Backend> {
    space: &'s Space<B>,
    id: ObjId,
}

impl<B: Backend> Drop for Claimed<'_, B> {
    fn drop(&mut self) {
        // It is mapped anew as what it is now.
        self.space.unmap(self.id);
        self.space.backend().share(self.id);
    }
}

/// The fingerprint of a mapped object's base, of which the metadata say `made_as`.
#[inline]
pub(crate) fn migrated(area: Area<'_>, made_as: u64) -> u64 {
    if made_as == 0 {
        return 0;
    }
    let from: u64 = memory::load(header_place(area, offset_of!(Header, migrated_from)));
    if from != made_as {
        return made_as;
    }
    memory::load(header_place(area, offset_of!(Header, migrated_to)))
}

impl<'s, B: Backend> Tx<'s, B> {
    /// Puts a `New`, which `fill` is given zeroed, in the place of an object's base.
    fn replace_base<New: Stored, E: From<Error>>(
        &mut self,
        area: Area<'s>,
        fill: impl FnOnce(&mut Self, Ptr<'s, New>) -> Result<(), E>,
    ) -> Result<(), E> {
        let size = size_of::<New>() as u64;
        let allocator: u64 = self.get(header_place(area, offset_of!(Header, allocator)));
        let len: u64 = self.get(header_place(area, offset_of!(Header, len_bytes)));
        if allocator != 0 && BASE_OFFSET + size > allocator {
            return Err(Error::OutOfRange.into());
        }
        // Before the heap is made, which lies behind the bytes in use.
        self.set_len_bytes(area, len.max(size))?;
        self.ensure(area, BASE_OFFSET, size)?;
        let new = self.alloc::<New>(area)?;
        fill(self, new)?;
        // Within one object pointers keep their meaning, so they may be moved as bytes.
        let bytes = self.to_vec(new.as_span().memory());
        let base = area.span(BASE_OFFSET, size).ok_or(Error::OutOfRange)?;
        self.write(base, 0, &bytes)?;
        Ok(self.free(new)?)
    }

    fn set_type<Old: Stored, New: Stored>(&mut self, area: Area<'s>) -> Result<(), Error> {
        self.name_type(area, New::NAME, type_key(New::NAME, New::ARGUMENTS))?;
        self.set(header_place(area, offset_of!(Header, migrated_from)), Old::FINGERPRINT)?;
        self.set(header_place(area, offset_of!(Header, migrated_to)), New::FINGERPRINT)
    }
}
