//! DRAM for page trees, charged to the users' budget.

use twizzler_abi::Error;
use twizzler_abi::address::PAGE_BYTES;
use twizzler_pmem::Persist;
use twizzler_store::frames::{FrameKind, FrameNo, Frames, HUGE_FRAMES, Need, OutOfFrames};

use super::budget::USERS;
use crate::memory::dram::{self, Dram};
use crate::memory::frames::{self, Claim, Frame, ORDER_2M};

/// The one value.
pub(crate) static DRAM: DramFrames = DramFrames { media: dram::DRAM };

/// DRAM frames of volatile objects.
pub(crate) struct DramFrames {
    media: Dram,
}

/// A zeroed frame for a user's table or page.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn allocate() -> Result<FrameNo, Error> {
    USERS.charge(PAGE_BYTES)?;
    let frame = frames::allocate_zeroed(Claim::User)
        .ok_or(Error::OutOfMemory)
        .inspect_err(|_| USERS.refund(PAGE_BYTES))?;
    Ok(FrameNo::of(frame.address()))
}

/// Gives back what [`allocate`] gave. No CPU can reach it any more.
pub(crate) fn free(frame: FrameNo) {
    frames::free(Frame::of(frame.physical()));
    USERS.refund(PAGE_BYTES);
}

impl Frames for DramFrames {
    type Media = Dram;

    fn media(&self) -> &Dram {
        &self.media
    }

    fn first(&self) -> FrameNo {
        FrameNo(0)
    }

    fn allocate(&self, _: FrameKind, _: Need) -> Result<FrameNo, OutOfFrames> {
        allocate().map_err(|_| OutOfFrames)
    }

    fn allocate_huge(&self, _: Need) -> Result<FrameNo, OutOfFrames> {
        USERS.charge(HUGE_FRAMES * PAGE_BYTES).map_err(|_| OutOfFrames)?;
        let Some(first) = frames::allocate_block(ORDER_2M, Claim::User) else {
            USERS.refund(HUGE_FRAMES * PAGE_BYTES);
            return Err(OutOfFrames);
        };
        frames::split_block(first, ORDER_2M);
        self.media.zero(first.address(), HUGE_FRAMES * PAGE_BYTES);
        Ok(FrameNo::of(first.address()))
    }

    fn free(&self, frame: FrameNo, _: FrameKind) {
        free(frame);
    }
}
