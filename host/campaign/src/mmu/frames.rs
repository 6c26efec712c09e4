//! Frames for the trees under test: the last one freed is the first one used again, which hurts most.

use std::cell::RefCell;

use twizzler_pmem::Persist;
use twizzler_store::frames::HUGE_FRAMES;
use twizzler_store::{FrameKind, FrameNo, Frames, Need, OutOfFrames};

use super::cpus::Cpus;
use super::racing::Racing;

/// An allocator over [`Racing`] memory that tells the ledger of everything.
pub(super) struct ModelFrames<'m> {
    media: Racing<'m>,
    first: FrameNo,
    cpus: &'m Cpus<'m>,
    free: RefCell<Vec<FrameNo>>,
}

impl<'m> ModelFrames<'m> {
    pub(super) fn new(media: Racing<'m>, first: FrameNo, cpus: &'m Cpus<'m>) -> Self {
        let frames = media.len_bytes() / 4096;
        let free = (first.0..first.0 + frames).rev().map(FrameNo).collect();
        Self { media, first, cpus, free: RefCell::new(free) }
    }

    fn hand_out(&self, frame: FrameNo, kind: FrameKind) {
        let at = (frame.0 - self.first.0) * 4096;
        self.media.zero(at, 4096);
        self.media.persist(at, 4096);
        self.cpus.ledger.borrow_mut().allocated(frame, kind);
    }
}

impl<'m> Frames for ModelFrames<'m> {
    type Media = Racing<'m>;

    fn media(&self) -> &Racing<'m> {
        &self.media
    }

    fn first(&self) -> FrameNo {
        self.first
    }

    fn allocate(&self, kind: FrameKind, need: Need) -> Result<FrameNo, OutOfFrames> {
        let mut free = self.free.borrow_mut();
        let reserve = if need == Need::Free { 0 } else { 4 };
        let frame = if free.len() > reserve { free.pop() } else { None }.ok_or(OutOfFrames)?;
        drop(free);
        self.hand_out(frame, kind);
        Ok(frame)
    }

    fn allocate_huge(&self, _need: Need) -> Result<FrameNo, OutOfFrames> {
        let mut free = self.free.borrow_mut();
        let is_free = |frame: u64| free.contains(&FrameNo(frame));
        let last = self.first.0 + self.media.len_bytes() / 4096;
        let mut starts = (self.first.0.next_multiple_of(HUGE_FRAMES)..last).step_by(HUGE_FRAMES as usize);
        let start = starts.find(|&start| (start..start + HUGE_FRAMES).all(is_free)).ok_or(OutOfFrames)?;
        free.retain(|frame| !(start..start + HUGE_FRAMES).contains(&frame.0));
        drop(free);
        (start..start + HUGE_FRAMES).for_each(|frame| self.hand_out(FrameNo(frame), FrameKind::Data));
        Ok(FrameNo(start))
    }

    fn free(&self, frame: FrameNo, kind: FrameKind) {
        self.cpus.check_unreachable(frame);
        self.cpus.ledger.borrow_mut().freed(frame, kind);
        self.free.borrow_mut().push(frame);
    }
}
