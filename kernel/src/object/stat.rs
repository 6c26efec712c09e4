//! Describing and listing objects.

use twizzler_abi::call::ObjectStat;
use twizzler_abi::object::{HEADER_OFFSET, Header, METADATA_OFFSET, Metadata};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId};
use zerocopy::{FromZeros, IntoBytes};

use super::{Object, nvm, registry};

/// Whether what an object stores is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// It would take a walk through its tree.
    NotCounted,
    Counted,
}

/// Describes an object; one that fails its checks too.
///
/// # Errors
/// [`Error::NoSuchObject`].
pub(crate) fn object(id: ObjId, usage: Usage) -> Result<ObjectStat, Error> {
    match registry::find(id) {
        Ok(object) => object.stat(usage),
        Err(error @ (Error::Damaged | Error::Unreadable | Error::NotSupported)) => {
            let known = nvm::stat(id).ok();
            let usage = known.map(|known| known.usage).unwrap_or_default();
            let metadata = known.and_then(|known| known.metadata);
            Ok(ObjectStat {
                id,
                owner: metadata.map_or(ObjId::NONE, |metadata| metadata.owner),
                flags: metadata.map_or(ObjectFlags::PERSISTENT.bits(), |metadata| metadata.flags),
                default_rights: metadata.map_or(0, |metadata| metadata.default_rights),
                fingerprint: metadata.map_or(0, |metadata| metadata.fingerprint),
                pages: usage.pages,
                tables: usage.tables,
                quarantine: error as u32,
                ..ObjectStat::default()
            })
        }
        Err(error) => Err(error),
    }
}

/// Describes the persistent object after `id`.
///
/// # Errors
/// [`Error::NoSuchObject`] after the last, [`Error::NoNvm`].
pub(crate) fn next_persistent(id: ObjId) -> Result<ObjectStat, Error> {
    let mut id = id;
    loop {
        id = nvm::next(id)?;
        match object(id, Usage::NotCounted) {
            // It has just been deleted.
            Err(Error::NoSuchObject) => {}
            found => return found,
        }
    }
}

/// Describes the volatile object after `id`.
///
/// # Errors
/// [`Error::NoSuchObject`] after the last.
pub(crate) fn next_volatile(id: ObjId) -> Result<ObjectStat, Error> {
    let mut id = id;
    loop {
        let object = registry::next_volatile(id).ok_or(Error::NoSuchObject)?;
        id = object.id;
        match object.stat(Usage::NotCounted) {
            Err(Error::NoSuchObject) => {}
            found => return found,
        }
    }
}

impl Object {
    fn stat(&self, usage: Usage) -> Result<ObjectStat, Error> {
        let state = self.state.read();
        let mut metadata = Metadata::new_zeroed();
        let mut header = Header::new_zeroed();
        let read = state
            .space
            .read(METADATA_OFFSET, metadata.as_mut_bytes())
            .and_then(|()| state.space.read(HEADER_OFFSET, header.as_mut_bytes()));
        let usage = read.and_then(|()| match usage {
            Usage::Counted => state.space.usage(),
            Usage::NotCounted => Ok(twizzler_store::tree::Usage::default()),
        });
        let quarantine = match usage {
            Err(twizzler_store::Error::NoSuchObject) => return Err(Error::NoSuchObject),
            Err(error) => Error::from(error) as u32,
            Ok(_) => 0,
        };
        let usage = usage.unwrap_or_default();
        Ok(ObjectStat {
            id: self.id,
            owner: self.inputs.owner,
            flags: self.flags().bits(),
            default_rights: self.rights().bits(),
            fingerprint: metadata.fingerprint,
            len_bytes: header.len_bytes,
            pages: usage.pages,
            tables: usage.tables,
            mappings: state.mappings.len() as u64,
            size_class: self.size_class() as u32,
            quarantine,
        })
    }
}
