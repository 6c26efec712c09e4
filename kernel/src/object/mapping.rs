//! The reverse list: where an object is mapped, and making CPUs forget it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use twizzler_abi::address::{PAGE_BYTES, Slot};
use twizzler_abi::{Error, Rights};
use twizzler_store::tree::{Invalidate, Stale};

use super::budget::{Charge, MAPPING_BYTES, USERS};
use super::{Object, State};
use crate::machine::tlb::{self, Flush};
use crate::view::View;
use crate::view::record::top_level;

/// One place where an object is mapped.
pub(crate) struct Mapping {
    pub(crate) view: Arc<View>,
    pub(crate) slot: Slot,
    _charge: Charge,
}

/// Invalidation of an object's mappings: what tree operations are given.
pub(super) struct Mappings<'a>(pub(super) &'a [Mapping]);

/// Pages from which forgetting everything is cheaper than page by page.
const PAGES_MAX: u64 = 64;

impl Invalidate for Mappings<'_> {
    fn invalidate(&mut self, pages: Range<u64>, stale: Stale) {
        let count = pages.end - pages.start;
        for Mapping { view, slot, .. } in self.0 {
            let flush = match stale {
                Stale::Leaves if count <= PAGES_MAX => {
                    Flush::Range { start: slot.base() + pages.start * PAGE_BYTES, pages: count }
                }
                _ => Flush::All,
            };
            tlb::shoot(&[view.root()], flush);
        }
    }
}

impl Object {
    /// Maps it in a slot of a view, and takes note of that.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`] if it has been deleted, [`Error::OutOfMemory`], [`Error::Damaged`].
    pub(crate) fn map(self: &Arc<Self>, view: &Arc<View>, slot: Slot, rights: Rights) -> Result<(), Error> {
        let mut state = self.state.write();
        state.space.check_alive()?;
        let root = state.space.root()?;
        let top = state.upper.top(root, top_level(slot))?;
        state.mappings.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        let charge = USERS.hold(MAPPING_BYTES)?;
        if view.enter_record(slot, self, rights, top)? {
            state.mappings.push(Mapping { view: view.clone(), slot, _charge: charge });
        }
        Ok(())
    }

    /// Takes one mapping off the list, after the view has forgotten it and CPUs have too.
    pub(crate) fn unlist(&self, view: &Arc<View>, slot: Slot) {
        let mut state = self.state.write();
        let place = state
            .mappings
            .iter()
            .position(|mapping| mapping.slot == slot && Arc::ptr_eq(&mapping.view, view));
        let mapping = place.map(|place| state.mappings.swap_remove(place));
        drop(state);
        // Perhaps the view's last reference: not to be dropped under the lock.
        drop(mapping);
    }
}

impl State {
    /// Points all mappings to the tree's root as it is now, after it has grown.
    pub(super) fn follow_root(&mut self, object: &Object) -> Result<(), Error> {
        let root = self.space.root()?;
        for Mapping { view, slot, .. } in &self.mappings {
            view.redirect(*slot, object, self.upper.top(root, top_level(*slot))?);
        }
        let unneeded = self.upper.take_unneeded(root.level());
        if unneeded.iter().any(Option::is_some) {
            Mappings(&self.mappings).invalidate(0..root.level().table_pages(), Stale::Tables);
            unneeded.into_iter().flatten().for_each(super::frames::free);
        }
        Ok(())
    }

    /// Takes the object out of all views, and makes CPUs forget it. What is returned may hold the last
    /// references to views: to be dropped without the lock.
    #[must_use]
    pub(super) fn unmap_all(&mut self, object: &Object) -> Vec<Mapping> {
        let mappings = core::mem::take(&mut self.mappings);
        for Mapping { view, slot, .. } in &mappings {
            view.remove_record(*slot, object);
        }
        for Mapping { view, .. } in &mappings {
            tlb::shoot(&[view.root()], Flush::All);
        }
        mappings
    }
}
