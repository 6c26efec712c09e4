//! NVM images.

use std::io;
use std::ops::Range;

use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::{Error, ObjId};
use twizzler_image::{ImageBackend, Sharing};

use super::{Description, Medium, uuid_text};

impl Medium for ImageBackend {
    const SHARED: bool = false;

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

    fn write_raw(&self, id: ObjId, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.write_raw(id, offset, bytes)
    }

    fn close(&self) -> io::Result<()> {
        if self.store().media().region().sharing() == Sharing::Private {
            return Ok(());
        }
        self.store().shutdown().map_err(io::Error::other)?;
        self.store().media().region().sync()
    }
}
