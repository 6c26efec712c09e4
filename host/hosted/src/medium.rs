//! What the store lies on, and what that is good for.

use std::fs::File;
use std::os::fd::AsFd;
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::error::StoreError;

/// File systems over a network, or on a disk that several machines share: what one machine stores to mapped memory, others see late or never.
const NETWORK: [u64; 13] = [
    0x6969,      // NFS
    0x517b,      // SMB
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB 2
    0x5346_414f, // AFS
    0x00c3_6400, // Ceph
    0x0102_1997, // 9P
    0x0bd0_0bd0, // Lustre
    0x4750_4653, // GPFS
    0x7375_7245, // Coda
    0x0116_1970, // GFS2
    0x7461_636f, // OCFS2
    0x786f_4256, // VirtualBox's shared folders
];
/// Served by a program, which may keep its files anywhere.
const FUSE: u64 = 0x6573_5546;
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// Where the files are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Medium {
    /// A disk behind the page cache.
    Disk,
    /// Main memory, gone with the power.
    Memory,
}

/// Looks where a directory lies.
pub(crate) fn look(directory: impl AsFd) -> Result<Medium, StoreError> {
    let found = rustix::fs::fstatfs(directory)
        .map_err(|_| StoreError::Unsuitable { what: "it can't be asked what it is" })?;
    medium_of(u64::try_from(found.f_type).unwrap_or(u64::MAX) & 0xffff_ffff)
}

fn medium_of(magic: u64) -> Result<Medium, StoreError> {
    if NETWORK.contains(&magic) {
        return Err(StoreError::Network { magic });
    }
    if magic == FUSE {
        return Err(StoreError::Unsuitable {
            what: "a program serves it (FUSE), which may keep it on another machine",
        });
    }
    Ok(if magic == TMPFS || magic == RAMFS { Medium::Memory } else { Medium::Disk })
}

/// True where stores to a mapping of this file are durable once they left the CPU's caches (DAX). The file isn't empty.
pub(crate) fn is_direct(file: &File) -> bool {
    let (protection, flags) =
        (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED_VALIDATE | MapFlags::SYNC);
    // SAFETY: a new mapping where the host likes it.
    let Ok(start) = (unsafe { mmap(ptr::null_mut(), 4096, protection, flags, file, 0) }) else {
        return false;
    };
    // SAFETY: our own mapping of a moment ago, which nobody has used.
    let _ = unsafe { munmap(start, 4096) };
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_refused() {
        assert!(matches!(medium_of(0x6969), Err(StoreError::Network { magic: 0x6969 })));
        assert!(matches!(medium_of(FUSE), Err(StoreError::Unsuitable { .. })));
        assert!(matches!(medium_of(TMPFS), Ok(Medium::Memory)));
        assert!(matches!(medium_of(0xef53), Ok(Medium::Disk)));
    }
}
