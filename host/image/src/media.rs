//! An NVM image file as persistent memory.
//!
//! The file is mapped shared, as QEMU maps it, so what one has stored the other sees. Flushes and fences do nothing: no
//! power cut of the host is survived before [`MediaFile::sync`]. Only one side may use the file at a time; whoever opens it holds
//! a lock on it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use twizzler_abi::address::PAGE_BYTES;
use twizzler_pmem::Persist;

/// A mapped image file.
#[derive(Debug)]
pub struct MediaFile {
    file: File,
    start: NonNull<u8>,
    len_bytes: u64,
}

// SAFETY: the memory is reached through atomics alone.
unsafe impl Send for MediaFile {}
// SAFETY: as above.
unsafe impl Sync for MediaFile {}

impl MediaFile {
    /// Opens an image file for reading and writing.
    ///
    /// # Errors
    /// The host's; `InvalidData` for a file of less than a page.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(File::options().read(true).write(true).open(path)?)
    }

    /// The image in an open file.
    ///
    /// # Errors
    /// As [`MediaFile::open`].
    pub fn of(file: File) -> io::Result<Self> {
        let len_bytes = file.metadata()?.len() / PAGE_BYTES * PAGE_BYTES;
        if len_bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty"));
        }
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping, where the host likes it. Others may change the file: all access is atomic.
        let start = unsafe { mmap(ptr::null_mut(), len_bytes as usize, protection, flags, &file, 0) }?;
        let start = NonNull::new(start.cast()).expect("mappings don't lie at 0");
        Ok(Self { file, start, len_bytes })
    }

    /// The file.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Waits until the host has written everything to its disk.
    ///
    /// # Errors
    /// The host's.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn check(&self, at: u64, len_bytes: u64) {
        let fits = at.checked_add(len_bytes).is_some_and(|end| end <= self.len_bytes);
        assert!(fits, "{at:#x}+{len_bytes:#x} is not in the region");
    }

    fn word(&self, at: u64) -> &AtomicU64 {
        self.check(at, 8);
        assert!(at.is_multiple_of(8), "{at:#x} is not aligned");
        // SAFETY: checked to lie in the mapping.
        let word = unsafe { self.start.add(at as usize) };
        // SAFETY: aligned, since mappings begin at pages; the mapping lives as long as `self`.
        unsafe { word.cast().as_ref() }
    }

    fn byte(&self, at: u64) -> &AtomicU8 {
        self.check(at, 1);
        // SAFETY: checked to lie in the mapping.
        let byte = unsafe { self.start.add(at as usize) };
        // SAFETY: the mapping lives as long as `self`.
        unsafe { byte.cast().as_ref() }
    }

    /// Calls for each byte up to a word's beginning, each word, and each byte of the rest.
    fn pieces(at: u64, len_bytes: u64, mut piece: impl FnMut(u64, u64)) {
        let end = at + len_bytes;
        let mut at = at;
        while at < end {
            let step = if at.is_multiple_of(8) && end - at >= 8 { 8 } else { 1 };
            piece(at, step);
            at += step;
        }
    }
}

impl Drop for MediaFile {
    fn drop(&mut self) {
        // SAFETY: our own mapping; no reference into it outlives `self`.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len_bytes as usize) };
    }
}

impl Persist for MediaFile {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn load(&self, at: u64) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    fn store(&self, at: u64, value: u64) {
        self.word(at).store(value, Ordering::Release);
    }

    fn compare_exchange(&self, at: u64, old: u64, new: u64) -> Result<(), u64> {
        self.word(at).compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }

    fn read(&self, at: u64, buffer: &mut [u8]) {
        self.check(at, buffer.len() as u64);
        Self::pieces(at, buffer.len() as u64, |place, step| {
            let to = (place - at) as usize;
            match step {
                8 => buffer[to..to + 8]
                    .copy_from_slice(&self.word(place).load(Ordering::Relaxed).to_le_bytes()),
                _ => buffer[to] = self.byte(place).load(Ordering::Relaxed),
            }
        });
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.check(at, bytes.len() as u64);
        Self::pieces(at, bytes.len() as u64, |place, step| {
            let from = (place - at) as usize;
            match step {
                8 => {
                    let word = bytes[from..from + 8].try_into().expect("eight bytes");
                    self.word(place).store(u64::from_le_bytes(word), Ordering::Relaxed);
                }
                _ => self.byte(place).store(bytes[from], Ordering::Relaxed),
            }
        });
    }

    fn zero(&self, at: u64, len_bytes: u64) {
        self.check(at, len_bytes);
        Self::pieces(at, len_bytes, |place, step| match step {
            8 => self.word(place).store(0, Ordering::Relaxed),
            _ => self.byte(place).store(0, Ordering::Relaxed),
        });
    }

    fn flush(&self, at: u64, len_bytes: u64) {
        self.check(at, len_bytes);
    }

    fn fence(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

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
    #[should_panic(expected = "not in the region")]
    fn access_beyond_the_end_panics() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        file.as_file().set_len(PAGE_BYTES).expect("longer");
        MediaFile::open(file.path()).expect("open").write(4090, &[0; 8]);
    }
}
