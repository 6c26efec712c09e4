//! Changes that calls make to an object's pages and metadata.

use core::ops::Range;
use core::sync::atomic::Ordering;

use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::object::METADATA_OFFSET;
use twizzler_abi::object::Metadata;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, Life, Rights};
use zerocopy::{FromZeros, IntoBytes};

use super::mapping::Mappings;
use super::{Object, nvm};
use crate::machine::lock;

/// Pages that are made or given back before shootdowns of other CPUs are served.
const STEP_PAGES: u64 = 512;
/// The same where nothing was found.
const STEP_PAGES_MAX: u64 = 1 << 18;
/// Pages that are made or given back before other threads may have the CPU.
const TURN_PAGES: u64 = 16384;

impl Object {
    /// Makes pages exist, for a while: false if there is more to be done, by asking again.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], no memory, [`Error::AccessDenied`]; pages that were made by then stay.
    pub(crate) fn populate(&self, offset: u64, bytes: u64) -> Result<bool, Error> {
        self.check_writable()?;
        let pages = self.pages(offset, bytes)?;
        if pages.is_empty() {
            return Ok(true);
        }
        self.reach(pages.end - 1)?;
        let (mut from, mut made) = (pages.start, 0);
        while from < pages.end && made < TURN_PAGES {
            let to = pages.end.min((from / STEP_PAGES + 1) * STEP_PAGES);
            made += self.state.read().space.populate(from..to)?;
            from = to;
            lock::relax();
        }
        Ok(from == pages.end)
    }

    /// Gives pages back, for a while: false if there is more to be done, by asking again.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::AccessDenied`].
    pub(crate) fn discard(&self, offset: u64, bytes: u64) -> Result<bool, Error> {
        self.check_writable()?;
        let pages = self.pages(offset, bytes)?;
        let (mut from, mut gone, mut step) = (pages.start, 0, STEP_PAGES);
        while from < pages.end && gone < TURN_PAGES {
            let to = pages.end.min((from / step + 1) * step);
            let state = self.state.write();
            let freed = state.space.discard(from..to, &mut Mappings(&state.mappings))?;
            drop(state);
            // Where there was nothing, there may be nothing for long.
            step = if freed == 0 { (2 * step).min(STEP_PAGES_MAX) } else { STEP_PAGES };
            (from, gone) = (to, gone + freed);
            lock::relax();
        }
        Ok(from == pages.end)
    }

    /// Gives pages of a volatile object back and makes each access a fault.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::AccessDenied`], [`Error::NotSupported`] for persistent objects.
    pub(crate) fn forbid(&self, offset: u64, bytes: u64) -> Result<(), Error> {
        self.check_writable()?;
        if self.flags().life() == Life::Persistent {
            return Err(Error::NotSupported);
        }
        let pages = self.pages(offset, bytes)?;
        if pages.is_empty() {
            return Ok(());
        }
        self.reach(pages.end - 1)?;
        let state = self.state.write();
        state.space.forbid(pages, &mut Mappings(&state.mappings))?;
        Ok(())
    }

    /// Sets the base type's fingerprint of an object of which it is `was`; 0: it has none.
    ///
    /// # Errors
    /// [`Error::WrongType`] if it has another one, [`Error::AccessDenied`], no memory.
    pub(crate) fn set_type(&self, fingerprint: u64, was: u64) -> Result<(), Error> {
        self.check_writable()?;
        let state = self.state.write();
        let mut metadata = Metadata::new_zeroed();
        state.space.read(METADATA_OFFSET, metadata.as_mut_bytes())?;
        metadata.verify(self.id)?;
        if metadata.fingerprint == fingerprint {
            return Ok(());
        }
        if metadata.fingerprint != was {
            return Err(Error::WrongType);
        }
        metadata.fingerprint = fingerprint;
        state.space.set_metadata(&metadata.sealed(), &mut Mappings(&state.mappings))?;
        Ok(())
    }

    /// Makes it a large object. Mappings as a small one go on showing its first GiB.
    ///
    /// # Errors
    /// [`Error::AccessDenied`], [`Error::NoSuchObject`].
    pub(crate) fn promote(&self) -> Result<(), Error> {
        self.check_writable()?;
        let state = self.state.write();
        state.space.check_alive()?;
        if self.flags().life() == Life::Persistent {
            nvm::promote(self.id)?;
        }
        self.is_large.store(true, Ordering::Release);
        Ok(())
    }

    fn check_writable(&self) -> Result<(), Error> {
        // The kernel keeps addresses of a thread object's pages.
        if self.flags().contains(ObjectFlags::THREAD) {
            return Err(Error::AccessDenied);
        }
        self.check(Rights::WRITE)
    }

    /// The pages of a range that a call named, within the object and after its metadata.
    fn pages(&self, offset: u64, bytes: u64) -> Result<Range<u64>, Error> {
        let end = offset.checked_add(bytes).ok_or(Error::OutOfRange)?;
        if !offset.is_multiple_of(PAGE_BYTES) || !bytes.is_multiple_of(PAGE_BYTES) {
            return Err(Error::InvalidArgument);
        }
        if offset <= METADATA_OFFSET || end > self.size_class().range_bytes() {
            return Err(Error::OutOfRange);
        }
        Ok(offset / PAGE_BYTES..end / PAGE_BYTES)
    }
}
