//! What makes a store to a mapped object durable.

use std::collections::BTreeSet;
use std::sync::atomic::{Ordering, compiler_fence};
use std::sync::{Mutex, PoisonError};

use rustix::mm::MapFlags;
use twizzler_abi::ObjId;
use twizzler_pmem::cache::{self, WriteBack};

use crate::hosted::HostedBackend;
use crate::objects::{self, path_of};

/// How stores become durable.
#[derive(Debug)]
pub(crate) enum Persistence {
    /// By leaving the CPU's caches, if need be: persistent memory, or the page cache where that is enough.
    Stores {
        /// How lines are written back; None: they need not be.
        flush: Option<WriteBack>,
        /// The host says that no sync is needed (`MAP_SYNC`).
        direct: bool,
    },
    /// By syncing the files that were stored to.
    Sync {
        /// Objects with stores that are not durable.
        dirty: Mutex<BTreeSet<ObjId>>,
    },
}

impl Persistence {
    /// True where files and directories have to be synced.
    pub(crate) const fn syncs(&self) -> bool {
        !matches!(self, Self::Stores { direct: false, .. })
    }

    pub(crate) fn map_flags(&self) -> MapFlags {
        match self {
            Self::Stores { direct: true, .. } => MapFlags::SHARED_VALIDATE | MapFlags::SYNC,
            _ => MapFlags::SHARED,
        }
    }

    #[inline]
    pub(crate) fn flush(&self, backend: &HostedBackend, address: u64, len_bytes: u64) {
        match self {
            Self::Stores { flush: Some(flush), .. } => {
                flush.flush(address, len_bytes);
            }
            Self::Stores { flush: None, .. } => {}
            Self::Sync { dirty } => {
                if let Some(id) = backend.mapped.at(address) {
                    dirty.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
                }
            }
        }
    }

    #[inline]
    pub(crate) fn fence(&self, backend: &HostedBackend) {
        match self {
            Self::Stores { flush: Some(_), .. } => cache::fence(),
            // x86 keeps stores in order: only the compiler is told.
            Self::Stores { flush: None, .. } => compiler_fence(Ordering::SeqCst),
            Self::Sync { dirty } => {
                for id in std::mem::take(&mut *dirty.lock().unwrap_or_else(PoisonError::into_inner)) {
                    let path = path_of(id);
                    let synced = objects::open(&backend.disk, &path, true)
                        .and_then(|file| objects::host(backend.disk.sync_file(&file, &path)));
                    if synced.is_err() {
                        backend.segment.poison();
                        eprintln!(
                            "twizzler: {path} could not be synced; the process stops before it relies on that"
                        );
                        std::process::abort();
                    }
                }
            }
        }
    }
}
