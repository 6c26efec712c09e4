//! The log's head: where reading begins. Two copies, written in turn; the sound one with the higher number counts.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::disk::Disk;
use crate::log::FILE;

const MAGIC: u64 = u64::from_le_bytes(*b"TWZLOG\x01\0");
/// Bytes before the frames: two copies, 4 KiB each.
pub(crate) const HEADER_BYTES: u64 = 8192;
const COPY_BYTES: u64 = HEADER_BYTES / 2;

/// Where reading begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct LogHeader {
    magic: u64,
    /// The store's UUID.
    uuid: [u8; 16],
    /// Counts the times it was written.
    number: u64,
    /// Seeds the checks of frames.
    pub(crate) epoch: u64,
    /// All before this position is in place and on the disk.
    pub(crate) start: u64,
    /// 1: nothing was logged in this epoch from `start` on, and nothing will be.
    pub(crate) closed: u64,
    reserved: [u8; 4096 - 60],
    checksum: u32,
}

const _: () = assert!(size_of::<LogHeader>() as u64 == COPY_BYTES);

impl LogHeader {
    /// That of a new log.
    pub(crate) fn new(uuid: [u8; 16]) -> Self {
        let reserved = [0; 4096 - 60];
        Self { magic: MAGIC, uuid, number: 0, epoch: 1, start: 0, closed: 1, reserved, checksum: 0 }
    }

    pub(crate) const fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    fn computed_checksum(&self) -> u32 {
        let bytes = self.as_bytes();
        crc32fast::hash(&bytes[..bytes.len() - 4])
    }

    /// Reads the copy that counts. None: neither is sound.
    pub(crate) fn read(file: &File, uuid: [u8; 16]) -> io::Result<Option<Self>> {
        let mut best: Option<Self> = None;
        for copy in 0..2 {
            let mut bytes = [0; COPY_BYTES as usize];
            match file.read_exact_at(&mut bytes, copy * COPY_BYTES) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                result => result?,
            }
            let Ok(header) = Self::read_from_bytes(&bytes) else { continue };
            let sound =
                header.magic == MAGIC && header.uuid == uuid && header.checksum == header.computed_checksum();
            if sound && best.is_none_or(|best| header.number > best.number) {
                best = Some(header);
            }
        }
        Ok(best)
    }

    /// Writes the other copy; durable when it returns.
    pub(crate) fn write(&mut self, disk: &Disk, file: &File) -> io::Result<()> {
        self.number += 1;
        self.checksum = self.computed_checksum();
        disk.write_at(file, FILE, self.number % 2 * COPY_BYTES, self.as_bytes())?;
        // COMMIT: reading begins where this says.
        disk.sync_file(file, FILE)
    }
}
