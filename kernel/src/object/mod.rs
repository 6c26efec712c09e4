//! Objects as the kernel has them.
//!
//! An [`Object`] is in the [`registry`] while anyone may use it: volatile ones from [`create`] to
//! [`delete`], persistent ones from the first time that someone asks for them. Its pages are found by its
//! page tree ([`space`]), whose code and format are `twizzler-store`'s, in DRAM and NVM alike, and which
//! the MMU walks in place. The [`mapping`] list knows where the object is mapped, so that whatever takes
//! something away makes all CPUs forget it first.

pub(crate) mod budget;
pub(crate) mod change;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod frames;
pub(crate) mod garbage;
pub(crate) mod mapping;
pub(crate) mod nvm;
mod pages;
pub(crate) mod registry;
pub(crate) mod space;
pub(crate) mod stat;
pub(crate) mod system;
mod upper;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use twizzler_abi::id::IdInputs;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId, Rights, SizeClass};

use crate::level;
use crate::machine::lock::SharedLock;
use crate::view::View;
use budget::Charge;
use mapping::Mapping;
pub(crate) use pages::Touched;
use space::Space;
use upper::Upper;

/// An object that someone may use.
pub(crate) struct Object {
    pub(crate) id: ObjId,
    /// What the ID commits to, verified.
    pub(crate) inputs: IdInputs,
    /// Whether it reaches over 512 GiB; once it does, it always will.
    is_large: AtomicBool,
    state: SharedLock<State, { level::OBJECT }>,
    _charge: Charge,
}

/// What an object's lock guards.
struct State {
    space: Space,
    /// Tables that a mapping of a short tree needs over it.
    upper: Upper,
    mappings: Vec<Mapping>,
    /// Reasons not to delete it.
    pins: u32,
    /// The view that it describes, while threads run in it.
    view: Option<Arc<View>>,
}

impl Object {
    fn new(id: ObjId, inputs: IdInputs, class: SizeClass, space: Space, charge: Charge) -> Self {
        let is_large = AtomicBool::new(class == SizeClass::Large);
        let state = State { space, upper: Upper::default(), mappings: Vec::new(), pins: 0, view: None };
        Self { id, inputs, is_large, state: SharedLock::new(state), _charge: charge }
    }

    pub(crate) fn flags(&self) -> ObjectFlags {
        self.inputs.flags
    }

    /// What everyone may do.
    pub(crate) fn rights(&self) -> Rights {
        self.inputs.default_rights
    }

    pub(crate) fn size_class(&self) -> SizeClass {
        if self.is_large.load(Ordering::Acquire) { SizeClass::Large } else { SizeClass::Small }
    }

    /// Whether everyone has these rights.
    ///
    /// # Errors
    /// [`Error::AccessDenied`].
    pub(crate) fn check(&self, rights: Rights) -> Result<(), Error> {
        if self.rights().contains(rights) { Ok(()) } else { Err(Error::AccessDenied) }
    }

    /// Keeps it from being deleted until [`Object::unpin`].
    ///
    /// # Errors
    /// [`Error::NoSuchObject`] if it has been deleted.
    pub(crate) fn pin(&self) -> Result<(), Error> {
        let mut state = self.state.write();
        state.space.check_alive()?;
        state.pins += 1;
        Ok(())
    }

    /// Takes one pin back.
    pub(crate) fn unpin(&self) {
        self.state.write().pins -= 1;
    }

    /// Works with the slot for the view that this object describes.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`] if it has been deleted.
    pub(crate) fn with_view<T>(&self, f: impl FnOnce(&mut Option<Arc<View>>) -> T) -> Result<T, Error> {
        let mut state = self.state.write();
        state.space.check_alive()?;
        Ok(f(&mut state.view))
    }
}
