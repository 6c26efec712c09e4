//! The mounted store.

use twizzler_abi::object::Metadata;
use twizzler_abi::{Error, ObjId};
use twizzler_store as store;
use twizzler_store::tree::{Invalidate, Root};

/// What the store tells of itself.
pub(crate) struct Gauges {
    pub(crate) free_bytes: u64,
    pub(crate) objects: u64,
    pub(crate) quarantined: u64,
}

pub(super) type NvmFrames = super::frames::DramFrames;

pub(super) fn frames() -> Result<&'static NvmFrames, store::Error> {
    Err(store::Error::NoSuchObject)
}

pub(super) fn find(_id: ObjId) -> Result<Root, Error> {
    Err(Error::NoSuchObject)
}

pub(super) fn create(_metadata: &Metadata) -> Result<Root, Error> {
    Err(Error::NoNvm)
}

pub(super) fn delete(_id: ObjId, _inv: &mut impl Invalidate) -> Result<(), Error> {
    Err(Error::NoNvm)
}

pub(super) fn extend(_id: ObjId, _page: u64) -> Result<Root, store::Error> {
    Err(store::Error::NoSuchObject)
}

pub(super) fn next(_id: ObjId) -> Result<ObjId, Error> {
    Err(Error::NoNvm)
}

pub(crate) fn gauges() -> Option<Gauges> {
    None
}

pub(crate) fn close() {}

/// Mounts the store of the machine's NVM.
pub(crate) fn mount(_boot: &'static crate::machine::start_info::Boot) {}
