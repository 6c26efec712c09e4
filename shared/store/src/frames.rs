//! Where frames come from: the one interface between page trees and memory.
//!
//! The same tree code works on NVM ([`crate::nvm::Nvm`]) and on DRAM (the kernel's frame allocator). What it asks
//! for: a frame that is handed out reads as zero, *durably*: linking it needs no fence for its content.

use core::fmt;

use twizzler_abi::address::PAGE_BYTES;
use twizzler_pmem::Persist;

use crate::entry::Generation;
use crate::error::Error;

/// Frames under one 2 MiB leaf.
pub const HUGE_FRAMES: u64 = 512;

/// A frame by number: its physical address divided by 4096.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FrameNo(pub u64);

impl FrameNo {
    /// The frame that holds a physical address.
    #[must_use]
    pub const fn of(physical: u64) -> Self {
        Self(physical / PAGE_BYTES)
    }

    /// Its physical address.
    #[must_use]
    pub const fn physical(self) -> u64 {
        self.0 * PAGE_BYTES
    }
}

impl fmt::Debug for FrameNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {:#x}", self.0)
    }
}

/// What a frame is used as. A table frame is never a leaf at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameKind {
    /// A table of a page tree, or of the store itself.
    Table,
    /// A page of an object.
    Data,
}

/// How badly a frame is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// To store more: fails while only the reserve is left.
    Store,
    /// To free more than it takes: may use the reserve.
    Free,
}

/// No frame is left for this need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfFrames;

impl From<OutOfFrames> for Error {
    fn from(OutOfFrames: OutOfFrames) -> Self {
        Self::OutOfFrames
    }
}

/// Memory that page trees lie in, with its allocator. Shared by CPUs: all methods take `&self`.
pub trait Frames {
    /// How the memory is reached.
    type Media: Persist;

    /// The memory. Its offset 0 is the first byte of [`Frames::first`].
    fn media(&self) -> &Self::Media;

    /// The frame that the media starts with.
    fn first(&self) -> FrameNo;

    /// What the generation bit of entries is.
    fn generation(&self) -> Generation {
        Generation::default()
    }

    /// A frame that reads as zero, durably.
    ///
    /// # Errors
    /// [`OutOfFrames`] where none is left for this need.
    fn allocate(&self, kind: FrameKind, need: Need) -> Result<FrameNo, OutOfFrames>;

    /// Fills `into` from its start with frames that read as zero, durably, sharing fences; returns how many there were.
    fn allocate_many(&self, kind: FrameKind, need: Need, into: &mut [FrameNo]) -> usize {
        for (done, place) in into.iter_mut().enumerate() {
            match self.allocate(kind, need) {
                Ok(frame) => *place = frame,
                Err(OutOfFrames) => return done,
            }
        }
        into.len()
    }

    /// [`HUGE_FRAMES`] contiguous data frames, aligned for a 2 MiB leaf, that read as zero, durably; returns the first.
    /// They are freed one by one.
    ///
    /// # Errors
    /// [`OutOfFrames`] where there are no such frames: the caller then takes single ones.
    fn allocate_huge(&self, need: Need) -> Result<FrameNo, OutOfFrames>;

    /// Takes a frame back. Nothing refers to it any more: the store that unlinked it is durable and
    /// no CPU can reach it.
    fn free(&self, frame: FrameNo, kind: FrameKind);

    /// Takes a frame back that was never linked nor written and thus still reads as zero, durably.
    fn free_unused(&self, frame: FrameNo, kind: FrameKind) {
        self.free(frame, kind);
    }

    /// Offset in the media of `frames` frames from `frame` on, if they lie in it.
    fn offset(&self, frame: FrameNo, frames: u64) -> Option<u64> {
        let at = frame.0.checked_sub(self.first().0)?.checked_mul(PAGE_BYTES)?;
        let end = at.checked_add(frames.checked_mul(PAGE_BYTES)?)?;
        (end <= self.media().len_bytes()).then_some(at)
    }
}

impl<F: Frames + ?Sized> Frames for &F {
    type Media = F::Media;
    fn media(&self) -> &Self::Media {
        (**self).media()
    }
    fn first(&self) -> FrameNo {
        (**self).first()
    }
    fn generation(&self) -> Generation {
        (**self).generation()
    }
    fn allocate(&self, kind: FrameKind, need: Need) -> Result<FrameNo, OutOfFrames> {
        (**self).allocate(kind, need)
    }
    fn allocate_many(&self, kind: FrameKind, need: Need, into: &mut [FrameNo]) -> usize {
        (**self).allocate_many(kind, need, into)
    }
    fn allocate_huge(&self, need: Need) -> Result<FrameNo, OutOfFrames> {
        (**self).allocate_huge(need)
    }
    fn free(&self, frame: FrameNo, kind: FrameKind) {
        (**self).free(frame, kind);
    }
    fn free_unused(&self, frame: FrameNo, kind: FrameKind) {
        (**self).free_unused(frame, kind);
    }
}
