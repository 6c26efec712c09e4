//! Stores in directories.

use std::io;
use std::ops::Range;

use twizzler::{HostedBackend, Store};
use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::object::Metadata;
use twizzler_abi::{Error, ObjId, SizeClass};
use twizzler_object::Backend;

use super::{Description, Medium, uuid_text};

impl Medium for HostedBackend {
    const SHARED: bool = true;

    type Holder = Store;

    fn describe(&self) -> Result<Description, Error> {
        let about = self.description().map_err(|_| Error::Unreadable)?;
        let ids = self.ids()?;
        let stored = |id: &ObjId| self.stat(*id).map_or(0, |stat| stat.pages * PAGE_BYTES);
        Ok(Description {
            kind: "directory",
            uuid: uuid_text(about.uuid),
            version: about.version,
            objects: ids.len() as u64,
            used_bytes: ids.iter().map(stored).sum(),
            free_bytes: about.free_bytes,
        })
    }

    fn ids(&self) -> Result<Vec<ObjId>, Error> {
        self.ids()
    }

    fn extents(&self, id: ObjId) -> Result<Vec<Range<u64>>, Error> {
        self.extents(id)
    }

    fn read_raw(&self, id: ObjId, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.read_raw(id, offset, buffer)
    }

    fn make(&self, metadata: &Metadata, extension: &[u8], class: SizeClass) -> Result<(), Error> {
        if !extension.is_empty() {
            return Err(Error::NotSupported);
        }
        self.make_raw(metadata)?;
        if class == SizeClass::Large { self.promote(metadata.id) } else { Ok(()) }
    }

    fn write_raw(&self, id: ObjId, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.write_raw(id, offset, bytes)
    }

    fn reserve_raw(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.reserve_raw(id, offset, len_bytes)
    }

    fn publish(&self, id: ObjId) -> Result<(), Error> {
        self.publish_raw(id)
    }

    fn remake(&self, metadata: &Metadata, extension: &[u8], class: SizeClass) -> Result<(), Error> {
        if !extension.is_empty() {
            return Err(Error::NotSupported);
        }
        self.remake_raw(metadata)?;
        if class == SizeClass::Large { self.promote(metadata.id) } else { Ok(()) }
    }

    fn replace(&self, id: ObjId) -> Result<(), Error> {
        self.replace_raw(id)
    }

    fn close(holder: Store) -> io::Result<()> {
        holder.close().map_err(io::Error::other)
    }
}
