//! The persistent names, as commands see them.

use alloc::string::String;
use alloc::vec::Vec;

use twizzler_abi::{Error, ObjId};
use twizzler_rt::Rt;

use twizzler_object::Space;

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// The object.
    pub(super) id: ObjId,
    /// It is a directory of names.
    pub(super) directory: bool,
}

#[derive(Debug)]
pub(super) struct Directory<'s> {
    marker: core::marker::PhantomData<&'s ()>,
}

impl<'s> Directory<'s> {
    pub(super) fn open(_space: &'s Space<Rt>) -> Result<Self, Error> {
        Err(Error::NotSupported)
    }

    pub(super) fn lookup(&self, _path: &str) -> Result<Entry, Error> {
        Err(Error::NotSupported)
    }

    pub(super) fn list(&self, _path: &str) -> Result<Vec<(String, Entry)>, Error> {
        Err(Error::NotSupported)
    }

    pub(super) fn bind(&self, _path: &str, _id: ObjId) -> Result<(), Error> {
        Err(Error::NotSupported)
    }

    pub(super) fn mkdir(&self, _path: &str) -> Result<(), Error> {
        Err(Error::NotSupported)
    }

    pub(super) fn rename(&self, _from: &str, _to: &str) -> Result<(), Error> {
        Err(Error::NotSupported)
    }

    pub(super) fn unbind(&self, _path: &str) -> Result<(), Error> {
        Err(Error::NotSupported)
    }
}
