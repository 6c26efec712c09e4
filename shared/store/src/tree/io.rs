//! Reading and writing an object's bytes through its tree: for host tools and for the kernel's own use of objects.

use twizzler_abi::address::PAGE_BYTES;
use twizzler_pmem::Persist;

use super::{Batch, Found, Tree, page_of};
use crate::error::Error;
use crate::frames::{FrameNo, Frames};

impl<F: Frames> Tree<'_, F> {
    /// Offset in the media of a frame of the tree.
    pub(super) fn frame_at(&self, frame: FrameNo) -> Result<u64, Error> {
        self.frames.offset(frame, 1).ok_or(Error::Damaged)
    }

    /// Reads bytes of the object. What is empty, or beyond the tree, reads as zero.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for the null page, [`Error::Damaged`], [`Error::Unreadable`], [`Error::OutOfRange`].
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.each_page(offset, buffer.len(), |page, within, range| {
            let part = &mut buffer[range];
            match self.lookup(page) {
                Ok(Found::Page(frame, ..)) => {
                    let at = self.frame_at(frame)? + within;
                    let media = self.frames.media();
                    media.check_readable(at, part.len() as u64).map_err(|_| Error::Unreadable)?;
                    media.read(at, part);
                }
                Ok(Found::Empty(_)) | Err(Error::Beyond) => part.fill(0),
                Ok(found) => return Err(refused(found)),
                Err(error) => return Err(error),
            }
            Ok(())
        })
    }

    /// Writes bytes of the object and flushes them; the caller fences. Empty pages are filled. The tree must reach the
    /// range: see [`Tree::raise`].
    ///
    /// # Errors
    /// As for [`Tree::fill`]; [`Error::Forbidden`] for the null page and metadata.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.each_page(offset, bytes.len(), |page, within, range| {
            if page < super::FIRST_FREE_PAGE {
                return Err(Error::Forbidden);
            }
            let part = &bytes[range];
            let at = self.frame_at(self.fill(page, Batch::Page)?.frame)? + within;
            self.frames.media().write(at, part);
            self.frames.media().flush(at, part.len() as u64);
            Ok(())
        })
    }

    /// Calls with page, offset in it, and the part of the buffer that it holds.
    fn each_page(
        &self,
        offset: u64,
        len: usize,
        mut call: impl FnMut(u64, u64, core::ops::Range<usize>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        offset.checked_add(len as u64).ok_or(Error::OutOfRange)?;
        let mut done = 0;
        while done < len {
            let (page, within) = page_of(offset + done as u64);
            let step = ((PAGE_BYTES - within) as usize).min(len - done);
            call(page, within, done..done + step)?;
            done += step;
        }
        Ok(())
    }
}

const fn refused(found: Found) -> Error {
    match found {
        Found::Forbidden => Error::Forbidden,
        Found::Poisoned => Error::Unreadable,
        Found::Link | Found::Page(..) | Found::Empty(_) => Error::NotSupported,
    }
}
