//! An NVM image file as persistent memory.
//!
//! The file is mapped shared, as QEMU maps it, so what one has stored the other sees. Flushes and fences do nothing: no
//! power cut of the host is survived before [`MediaFile::sync`]. Only one side may use the file at a time; whoever opens it holds
//! a lock on it.
//!
//! A file may also be opened *privately*: what is stored then stays in this process, and the file is as it was. So a store can be
//! looked at as recovery would leave it, though the file may not be written.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::ptr::{self, NonNull};

use rustix::fs::{SeekFrom, StatVfs, fadvise, fstatvfs, seek};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use twizzler_abi::address::PAGE_BYTES;
use twizzler_pmem::mapped::{Mapped, Region};

/// Less than this is little room on a disk.
const SHORT_BYTES: u64 = 256 << 20;

/// A mapped image file.
#[derive(Debug)]
pub struct MediaFile {
    file: File,
    start: NonNull<u8>,
    len_bytes: u64,
    sharing: Sharing,
}

/// Where stores to a mapped file go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// To the file.
    Shared,
    /// To memory of this process alone.
    Private,
}

// SAFETY: the memory is reached through `Mapped` alone, whose access others may join.
unsafe impl Send for MediaFile {}
// SAFETY: as above.
unsafe impl Sync for MediaFile {}

impl MediaFile {
    /// Opens an image file for reading and writing.
    ///
    /// # Errors
    /// The host's; `InvalidData` for a file of less than a page.
    pub fn open(path: &Path) -> io::Result<Mapped<Self>> {
        Self::of(File::options().read(true).write(true).open(path)?)
    }

    /// Opens an image file privately: it is read, and never written.
    ///
    /// # Errors
    /// As [`MediaFile::open`].
    pub fn open_private(path: &Path) -> io::Result<Mapped<Self>> {
        Self::map(File::open(path)?, Sharing::Private)
    }

    /// The image in an open file.
    ///
    /// # Errors
    /// As [`MediaFile::open`].
    pub fn of(file: File) -> io::Result<Mapped<Self>> {
        Self::map(file, Sharing::Shared)
    }

    fn map(file: File, sharing: Sharing) -> io::Result<Mapped<Self>> {
        let len_bytes = file.metadata()?.len() / PAGE_BYTES * PAGE_BYTES;
        if len_bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty"));
        }
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = match sharing {
            Sharing::Shared => MapFlags::SHARED,
            Sharing::Private => MapFlags::PRIVATE | MapFlags::NORESERVE,
        };
        // SAFETY: a new mapping, where the host likes it. Others may change the file: all access is atomic.
        let start = unsafe { mmap(ptr::null_mut(), len_bytes as usize, protection, flags, &file, 0) }?;
        let start = NonNull::new(start.cast()).expect("mappings don't lie at 0");
        let media = Self { file, start, len_bytes, sharing };
        if sharing == Sharing::Shared {
            media.expect_full_disk();
        }
        Ok(Mapped::new(media))
    }

    /// Where there is little room left: at the first store to a page, the host finds a place for the whole of the piece of memory that it has made of
    /// the page and its neighbours when it read ahead, so for holes as well, and on a full disk that is SIGBUS. So pieces are forgotten, and none are made.
    fn expect_full_disk(&self) {
        let room_bytes = |disk: StatVfs| disk.f_bavail.saturating_mul(disk.f_frsize);
        if fstatvfs(&self.file).is_ok_and(|disk| room_bytes(disk) < SHORT_BYTES) {
            // Refused: it stays as it is.
            let _ = fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
            // SAFETY: our own mapping, of which no byte changes.
            let _ = unsafe { madvise(self.start.as_ptr().cast(), self.len_bytes as usize, Advice::Random) };
        }
    }

    /// Where stores go.
    #[must_use]
    pub const fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// The file.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Whether nothing was ever written to the file.
    #[must_use]
    pub fn is_hole(&self) -> bool {
        self.next_with_room(0).is_none()
    }

    /// Waits until the host has written everything to its disk.
    ///
    /// # Errors
    /// The host's.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl Drop for MediaFile {
    fn drop(&mut self) {
        // SAFETY: our own mapping; no reference into it outlives `self`.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len_bytes as usize) };
    }
}

// SAFETY: `start` and `len_bytes` are of a mapping that is made with the value and ends with it; mappings begin at
// pages. Nothing but `Mapped` refers to its memory.
unsafe impl Region for MediaFile {
    fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn make_room(&self, at: u64, len_bytes: u64) -> bool {
        assert!(at.checked_add(len_bytes).is_some_and(|end| end <= self.len_bytes), "not in the file");
        let start = self.start.as_ptr().wrapping_add(at as usize);
        // SAFETY: the range was checked to lie in our own mapping. The host does what a store to each page would make it do, and changes no byte.
        let made = unsafe { madvise(start.cast(), len_bytes as usize, Advice::LinuxPopulateWrite) };
        // Where a store would be SIGBUS. Hosts before Linux 5.14 don't know: nothing is known there.
        made != Err(Errno::FAULT)
    }

    fn next_with_room(&self, mut from: u64) -> Option<Range<u64>> {
        loop {
            let start = seek(&self.file, SeekFrom::Data(from)).ok()?;
            from = seek(&self.file, SeekFrom::Hole(start)).ok()?;
            let pages =
                start.next_multiple_of(PAGE_BYTES)..from.min(self.len_bytes) / PAGE_BYTES * PAGE_BYTES;
            if !pages.is_empty() {
                return Some(pages);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twizzler_pmem::Persist;

    #[test]
    fn what_is_written_is_read_and_lies_in_the_file() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        file.as_file().set_len(3 * PAGE_BYTES).expect("longer");
        let media = MediaFile::open(file.path()).expect("open");
        media.write(5, b"some bytes, not aligned");
        media.store(4096, 7);
        assert_eq!(media.compare_exchange(4096, 8, 9), Err(7));
        assert_eq!(media.compare_exchange(4096, 7, 9), Ok(()));
        media.zero(10, 6);
        let mut back = [0; 23];
        media.read(5, &mut back);
        assert_eq!(&back, b"some \0\0\0\0\0\0 not aligned");
        let lies = std::fs::read(file.path()).expect("read");
        assert_eq!((&lies[5..28], lies[4096]), (&back[..], 9));
    }

    #[test]
    fn what_is_stored_privately_does_not_reach_the_file() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        file.as_file().set_len(PAGE_BYTES).expect("longer");
        let media = MediaFile::open_private(file.path()).expect("open");
        media.store(8, 7);
        assert_eq!(media.load(8), 7);
        assert!(std::fs::read(file.path()).expect("read").iter().all(|&byte| byte == 0));
    }
}
