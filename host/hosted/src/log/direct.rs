//! The file that batches are written to: past the page cache where the host and the disk allow writes of single sectors of 512 bytes.
//!
//! Not all do that can be opened so: a disk with sectors of 4096 bytes takes no less (EINVAL, at the first write). There each write goes by the
//! page cache, which writes whole pages.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, OFlags, StatxFlags, statx};

use crate::disk::Disk;
use crate::log::FILE;
use crate::log::frame::SECTOR;

/// Each write is durable when it returns, and nothing else is: rustix 1.1's `OFlags::DSYNC` is `O_SYNC` on Linux, with which each write that changes the
/// file's time commits the file system's journal as well.
const DSYNC: OFlags = OFlags::from_bits_retain(libc::O_DSYNC as u32);

/// What the host asks of a direct write, in bytes; zeros: there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Alignment {
    memory: u32,
    offset: u32,
}

impl Alignment {
    /// True where each sector can be written for itself, from wherever it begins in the ring.
    const fn allows_sectors(self) -> bool {
        let sector = SECTOR as u32;
        self.memory != 0 && self.memory <= sector && self.offset != 0 && self.offset <= sector
    }
}

/// Opens the log so that writes are durable when they return.
pub(super) fn open(disk: &Disk, flags: OFlags) -> io::Result<File> {
    match disk.open_file(FILE, flags | DSYNC | OFlags::DIRECT) {
        Ok(file) if takes_sectors(alignment_of(&file), || reads_sector(&file)) => Ok(file),
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(error),
        _ => disk.open_file(FILE, flags | DSYNC),
    }
}

/// What the host says counts, where it says anything; otherwise, what it does.
fn takes_sectors(says: Option<Alignment>, reads_sector: impl FnOnce() -> bool) -> bool {
    says.map_or_else(reads_sector, Alignment::allows_sectors)
}

/// What the host says of direct writes to a file. Linux before 6.1 says nothing.
fn alignment_of(file: &File) -> Option<Alignment> {
    let found = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let said = found.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    said.then_some(Alignment { memory: found.stx_dio_mem_align, offset: found.stx_dio_offset_align })
}

/// True if one sector can be read from a file that was opened for direct reads and writes: both are asked for the same.
fn reads_sector(file: &File) -> bool {
    #[repr(C, align(512))]
    struct Sector([u8; SECTOR as usize]);
    let mut sector = Sector([0; SECTOR as usize]);
    file.read_exact_at(&mut sector.0, SECTOR).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_disks_that_take_sectors_of_512_bytes_are_written_to_directly() {
        let says = |memory, offset| Some(Alignment { memory, offset });
        let never = || -> bool { unreachable!("the host has said it") };
        assert!(takes_sectors(says(512, 512), never) && takes_sectors(says(4, 512), never));
        assert!(!takes_sectors(says(512, 4096), never), "a disk with sectors of 4096 bytes");
        assert!(!takes_sectors(says(4096, 512), never), "the ring's sectors begin at multiples of 512");
        assert!(!takes_sectors(says(0, 0), never), "the file can't be written to directly");
        assert!(takes_sectors(None, || true) && !takes_sectors(None, || false));
    }

    #[test]
    fn what_the_host_says_it_does() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(FILE), [0; 8192]).expect("room");
        let disk = Disk::open(folder.path(), None).expect("there");
        let Ok(file) = disk.open_file(FILE, OFlags::RDWR | OFlags::DIRECT) else { return };
        if alignment_of(&file).is_some_and(Alignment::allows_sectors) {
            assert!(reads_sector(&file));
        }
        open(&disk, OFlags::RDWR).expect("opens");
    }
}
