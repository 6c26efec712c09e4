//! What makes a store to a mapped object durable.

use std::sync::atomic::{Ordering, compiler_fence};

use rustix::mm::MapFlags;
use twizzler_pmem::cache::{self, WriteBack};

use crate::disk::Observer;
use crate::log::Log;
use crate::stream::stream;

/// How stores become durable. All processes that share a store must agree; the number is in the coordination segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Kind {
    /// By the log, on an ordinary disk.
    Log = 1,
    /// By leaving the CPU's caches; the host says that this is enough (`MAP_SYNC`).
    Direct = 2,
    /// The same, but nobody said so.
    Assumed = 3,
    /// They need not be: the page cache survives processes.
    Kept = 4,
}

impl Kind {
    pub(crate) fn of_number(number: u32) -> Option<Self> {
        [Self::Log, Self::Direct, Self::Assumed, Self::Kept].into_iter().find(|&kind| kind as u32 == number)
    }

    /// True if what was committed survives a power cut, as far as the host says.
    pub(crate) const fn is_durable(self) -> bool {
        matches!(self, Self::Log | Self::Direct)
    }
}

/// The same, with what it takes.
#[derive(Debug)]
pub(crate) enum Persistence {
    /// [`Kind::Log`].
    Log(Box<Log>),
    /// The others.
    Stores {
        /// How lines are written back; None: they need not be.
        flush: Option<WriteBack>,
        /// [`Kind::Direct`].
        direct: bool,
        /// Files are mapped so that the host keeps its word about that.
        map_sync: bool,
    },
}

impl Persistence {
    /// For all kinds but the log.
    pub(crate) fn stores(kind: Kind, observer: Option<&dyn Observer>) -> Self {
        let direct = kind == Kind::Direct;
        let is_pretended = observer.is_some_and(|observer| observer.is_direct() == Some(true));
        let flush = (kind != Kind::Kept).then(WriteBack::detect);
        Self::Stores { flush, direct, map_sync: direct && !is_pretended }
    }

    /// True where what was acknowledged must outlive the machine.
    pub(crate) const fn survives_power_cuts(&self) -> bool {
        matches!(self, Self::Log(_) | Self::Stores { direct: true, .. })
    }

    /// True where files and directories have to be synced when objects are made and deleted.
    pub(crate) const fn syncs_names(&self) -> bool {
        matches!(self, Self::Stores { direct: true, .. })
    }

    pub(crate) fn map_flags(&self) -> MapFlags {
        match self {
            Self::Stores { map_sync: true, .. } => MapFlags::SHARED_VALIDATE | MapFlags::SYNC,
            _ => MapFlags::SHARED,
        }
    }

    /// True where no more is asked of stores than that they are made ([`Kind::Kept`]).
    #[inline]
    pub(crate) const fn keeps_stores(&self) -> bool {
        matches!(self, Self::Stores { flush: None, .. })
    }

    #[inline]
    pub(crate) fn flush(&self, address: u64, len_bytes: u64) {
        if let Self::Stores { flush: Some(flush), .. } = self {
            flush.flush(address, len_bytes);
        }
    }

    /// [`stream`].
    ///
    /// # Safety
    /// As there.
    #[inline]
    pub(crate) unsafe fn stream(&self, address: u64, words: &[u64]) {
        let write_back = if let Self::Stores { flush, .. } = self { *flush } else { None };
        // SAFETY: the caller's promise.
        unsafe { stream(write_back, address, words) };
    }

    #[inline]
    pub(crate) fn fence(&self) {
        match self {
            Self::Stores { flush: Some(_), .. } => cache::fence(),
            // x86 keeps stores in order: only the compiler is told.
            _ => compiler_fence(Ordering::SeqCst),
        }
    }
}
