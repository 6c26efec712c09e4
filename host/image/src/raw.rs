//! Objects without the programming model: which there are, which of their pages exist, and their bytes. For tools, which also look
//! at what is damaged.

use std::ops::Range;
use std::ptr::with_exposed_provenance;

use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::{Error, ObjId};
use twizzler_pmem::mapped::copy;
use twizzler_store::{Found, Tree};

use crate::backend::ImageBackend;
use crate::media::Sharing;

impl ImageBackend {
    /// All objects, those in quarantine too, by ID.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the table of objects is.
    pub fn ids(&self) -> Result<Vec<ObjId>, Error> {
        let mut ids = Vec::new();
        let mut last = ObjId::NONE;
        while let Some(id) = self.store.next_after(last)? {
            ids.push(id);
            last = id;
        }
        Ok(ids)
    }

    /// The bytes of an object that exist, as ranges of offsets in it, ascending and apart: whole pages, from that of the metadata on.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`], [`Error::Damaged`].
    pub fn extents(&self, id: ObjId) -> Result<Vec<Range<u64>>, Error> {
        let root = self.store.root(id)?;
        let tree = Tree::new(self.store.frames(), root);
        let mut extents: Vec<Range<u64>> = Vec::new();
        let mut page = 1;
        while page < root.reach_pages() {
            let (next, exists) = match tree.lookup(page)? {
                Found::Page(..) => (page + 1, true),
                Found::Empty(level) => ((page / level.entry_pages() + 1) * level.entry_pages(), false),
                Found::Forbidden => (page + 1, false),
                Found::Poisoned => return Err(Error::Unreadable),
                Found::Link => return Err(Error::NotSupported),
            };
            if exists {
                let at = page * PAGE_BYTES..next * PAGE_BYTES;
                match extents.last_mut() {
                    Some(last) if last.end == at.start => last.end = at.end,
                    _ => extents.push(at),
                }
            }
            page = next;
        }
        Ok(extents)
    }

    /// Reads bytes of an object, from the offset of its metadata on. What does not exist reads as zeros.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`], [`Error::Damaged`], [`Error::OutOfRange`].
    pub fn read_raw(&self, id: ObjId, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        if self.store.media().region().sharing() == Sharing::Private
            && let Some(mapping) = self.mapped.borrow().get(&id)
        {
            let end = offset.checked_add(buffer.len() as u64).ok_or(Error::OutOfRange)?;
            if offset < PAGE_BYTES || end > mapping.memory.len_bytes() {
                return Err(Error::OutOfRange);
            }
            let from = with_exposed_provenance((mapping.memory.slot().base() + offset) as usize);
            // SAFETY: the range lies in the slot of a mapping, beyond the null page, and is readable.
            unsafe { copy(from, buffer.as_mut_ptr(), buffer.len()) };
            return Ok(());
        }
        Ok(self.store.read_at(id, offset, buffer)?)
    }

    /// Writes bytes of an object that nothing has mapped, from the offset of its header on. Pages come to exist as needed.
    ///
    /// # Errors
    /// [`Error::Busy`] where it is mapped, [`Error::OutOfNvm`], and those of [`ImageBackend::read_raw`].
    pub fn write_raw(&self, id: ObjId, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        if self.mapped.borrow().contains_key(&id) {
            return Err(Error::Busy);
        }
        Ok(self.store.write_at(id, offset, bytes)?)
    }
}
