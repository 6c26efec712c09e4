//! An object's pages: made when they are touched, read and written by the kernel.

use core::ptr::NonNull;

use twizzler_abi::Error;
use twizzler_abi::address::PAGE_BYTES;
use twizzler_store as store;
use twizzler_store::tree::Found;

use super::Object;
use crate::machine::entry::Access;
use crate::memory::direct;

/// What touching a page did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Touched {
    /// It was there.
    Present,
    /// It was empty and is filled.
    Filled,
}

impl Object {
    /// Makes a page exist for an access, and all mappings show it.
    ///
    /// # Errors
    /// The store's, among them `Forbidden` and `OutOfRange`.
    pub(crate) fn touch(&self, page: u64, access: Access) -> Result<Touched, store::Error> {
        if page >= self.size_class().range_bytes() / PAGE_BYTES {
            return Err(store::Error::OutOfRange);
        }
        loop {
            match self.state.read().space.fill(page, access) {
                Ok(filled) if filled.pages == 0 => return Ok(Touched::Present),
                Ok(_) => return Ok(Touched::Filled),
                Err(store::Error::Beyond) => {}
                Err(error) => return Err(error),
            }
            self.reach(page)?;
        }
    }

    /// Makes the tree high enough for a page.
    pub(super) fn reach(&self, page: u64) -> Result<(), store::Error> {
        if page >= self.size_class().range_bytes() / PAGE_BYTES {
            return Err(store::Error::OutOfRange);
        }
        let mut state = self.state.write();
        if page < state.space.reach_pages() {
            return Ok(());
        }
        let higher = state.space.reaching(self.id, page)?;
        let level = state.space.root()?.level();
        state.space = higher;
        if higher.root()?.level() != level && state.follow_root(self).is_err() {
            // No memory for tables over it. The mappings would not show what is beyond their old reach: out
            // with them, to be made anew at the next fault.
            let mappings = state.unmap_all(self);
            drop(state);
            drop(mappings);
        }
        Ok(())
    }

    /// Where the kernel finds a page of a volatile object, which is made to exist.
    ///
    /// It stays there for as long as nobody discards it.
    ///
    /// # Errors
    /// As for [`Object::touch`]; [`Error::NotSupported`] for persistent objects.
    pub(crate) fn resident(&self, offset: u64) -> Result<NonNull<u8>, Error> {
        if self.flags().life() != twizzler_abi::Life::Volatile {
            return Err(Error::NotSupported);
        }
        let page = offset / PAGE_BYTES;
        self.touch(page, Access::Write)?;
        match self.state.read().space.lookup(page)? {
            Found::Page(frame, ..) => NonNull::new(direct::pointer(frame.physical())).ok_or(Error::Damaged),
            _ => Err(Error::NoSuchObject),
        }
    }

    /// Reads bytes; what is empty reads as zero.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        Ok(self.state.read().space.read(offset, into)?)
    }

    /// Writes bytes of an object that nobody uses yet. Pages are made.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        if let Some(last) = (bytes.len() as u64).checked_sub(1) {
            self.reach((offset + last) / PAGE_BYTES)?;
        }
        Ok(self.state.read().space.write(offset, bytes)?)
    }
}
