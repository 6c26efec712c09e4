//! NVM images.

use std::io;
use std::ops::Range;

use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::call::CreateSpec;
use twizzler_abi::object::Metadata;
use twizzler_abi::{Error, ObjId, SizeClass};
use twizzler_image::{ImageBackend, Sharing};
use twizzler_object::{Backend, Space};

use super::{Description, Medium, uuid_text};

impl Medium for ImageBackend {
    const SHARED: bool = false;

    type Holder = Box<Space<Self>>;

    fn describe(&self) -> Result<Description, Error> {
        let counts = self.store().counts();
        Ok(Description {
            kind: "image",
            uuid: uuid_text(self.store().uuid()),
            version: twizzler_store::VERSION,
            objects: self.store().objects(),
            used_bytes: (counts.data + counts.tables) * PAGE_BYTES,
            free_bytes: counts.free * PAGE_BYTES,
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
        let Metadata { nonce, owner, flags, default_rights, fingerprint, .. } = *metadata;
        let made = self.create(&CreateSpec { nonce, owner, flags, default_rights, fingerprint })?;
        if made != metadata.id {
            return Err(Error::Damaged);
        }
        if class == SizeClass::Large { self.promote(made) } else { Ok(()) }
    }

    fn write_raw(&self, id: ObjId, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.write_raw(id, offset, bytes)
    }

    fn reserve_raw(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.ensure(id, offset, len_bytes)
    }

    fn publish(&self, _: ObjId) -> Result<(), Error> {
        Ok(())
    }

    /// The old one goes at once: what replaces objects works on a copy of the image's file.
    fn remake(&self, metadata: &Metadata, extension: &[u8], class: SizeClass) -> Result<(), Error> {
        self.delete(metadata.id)?;
        self.make(metadata, extension, class)
    }

    fn replace(&self, _: ObjId) -> Result<(), Error> {
        Ok(())
    }

    fn removes(&self) {
        self.store().frames().open_reserve();
    }

    fn close(holder: Self::Holder) -> io::Result<()> {
        let store = holder.backend().store();
        if store.media().region().sharing() == Sharing::Private {
            return Ok(());
        }
        store.shutdown().map_err(io::Error::other)?;
        store.media().region().sync()
    }
}
