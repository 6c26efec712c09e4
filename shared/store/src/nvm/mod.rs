//! Frames in NVM, with their allocator.
//!
//! Nothing about free frames lies on media. A *pool* of frames that are zero, durably, is kept ahead, so that filling a
//! page costs one fence, not two: [`Nvm::prepare`] fills it when a CPU has nothing else to do. A *reserve* is kept
//! back from whoever wants to store more, so that deleting and discarding always work.

mod bits;
mod count;

use core::fmt;

use lock_api::{Mutex, RawMutex};
use twizzler_abi::address::PAGE_BYTES;
use twizzler_pmem::Persist;

pub use count::Counts;
pub(crate) use count::Uses;

use crate::entry::Generation;
use crate::frames::{FrameKind, FrameNo, Frames, HUGE_FRAMES, Need, OutOfFrames};
use crate::mount::Access;

/// Frames kept back for [`Need::Free`].
pub const RESERVE_FRAMES: u64 = 16;
/// Zeroed frames that the pool holds at most.
pub const POOL_FRAMES: usize = 64;
/// Frames that are zeroed together when the pool is empty.
const REFILL_FRAMES: usize = 8;

/// A region of NVM as frames.
pub struct Nvm<P, L: RawMutex> {
    media: P,
    first: FrameNo,
    generation: Generation,
    access: Access,
    /// Level: below all locks of the store and of objects. Held for a few hundred instructions, never while zeroing.
    state: Mutex<L, State>,
}

struct State {
    uses: Uses,
    /// Taken from `uses`, zero, durably.
    pool: [FrameNo; POOL_FRAMES],
    pool_len: usize,
}

impl<P, L: RawMutex> fmt::Debug for Nvm<P, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nvm").field("first", &self.first).finish_non_exhaustive()
    }
}

impl<P: Persist, L: RawMutex> Nvm<P, L> {
    pub(crate) fn new(media: P, first: FrameNo, generation: Generation, uses: Uses, access: Access) -> Self {
        let state = State { uses, pool: [FrameNo(0); POOL_FRAMES], pool_len: 0 };
        Self { media, first, generation, access, state: Mutex::new(state) }
    }

    /// How many frames are what. Zeroed frames count as free.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let state = self.state.lock();
        let counts = state.uses.counts();
        let pool = state.pool_len as u64;
        Counts { free: counts.free + pool, data: counts.data - pool, ..counts }
    }

    /// Zeroes frames ahead, at most `limit`, until the pool is full. Returns how many. For a CPU without work.
    pub fn prepare(&self, limit: usize) -> usize {
        let mut fresh = [FrameNo(0); REFILL_FRAMES];
        let mut done = 0;
        while done < limit {
            let mut state = self.state.lock();
            let room = (POOL_FRAMES - state.pool_len).min(REFILL_FRAMES).min(limit - done);
            let len = self.take(&mut state, Need::Store, &mut fresh[..room]);
            drop(state);
            if len == 0 {
                break;
            }
            self.zero(&fresh[..len]);
            self.put_zeroed(&fresh[..len]);
            done += len;
        }
        done
    }

    /// What a frame of the region is used as.
    pub(crate) fn kind_of(&self, frame: FrameNo) -> Option<FrameKind> {
        let state = self.state.lock();
        if state.pool[..state.pool_len].contains(&frame) {
            return None;
        }
        state.uses.get(self.index(frame)?)
    }

    fn index(&self, frame: FrameNo) -> Option<u64> {
        frame.0.checked_sub(self.first.0)
    }

    /// Takes frames that may hold anything, all as data.
    fn take(&self, state: &mut State, need: Need, into: &mut [FrameNo]) -> usize {
        for (done, place) in into.iter_mut().enumerate() {
            let frame = if self.access == Access::ReadWrite && may_take(state, need) {
                state.uses.take(FrameKind::Data)
            } else {
                None
            };
            match frame {
                Some(frame) => *place = FrameNo(self.first.0 + frame),
                None => return done,
            }
        }
        into.len()
    }

    /// Makes frames zero, durably.
    fn zero(&self, frames: &[FrameNo]) {
        for &frame in frames {
            let at = (frame.0 - self.first.0) * PAGE_BYTES;
            self.media.zero(at, PAGE_BYTES);
            self.media.flush(at, PAGE_BYTES);
        }
        self.media.fence();
    }

    fn put_zeroed(&self, frames: &[FrameNo]) {
        let mut state = self.state.lock();
        for &frame in frames {
            if state.pool_len < POOL_FRAMES {
                let len = state.pool_len;
                state.pool[len] = frame;
                state.pool_len += 1;
            } else {
                state.uses.put(frame.0 - self.first.0, FrameKind::Data);
            }
        }
    }

    /// Zeroed frames from the pool, as `kind`.
    fn take_zeroed(&self, kind: FrameKind, need: Need, into: &mut [FrameNo]) -> usize {
        let mut state = self.state.lock();
        for (done, place) in into.iter_mut().enumerate() {
            // The pool counts as free: it can't be used up by storing either.
            if state.pool_len == 0 || (need == Need::Store && reserve(&state) <= RESERVE_FRAMES) {
                return done;
            }
            state.pool_len -= 1;
            *place = state.pool[state.pool_len];
            let index = place.0 - self.first.0;
            if kind == FrameKind::Table {
                state.uses.retype(index, kind);
            }
        }
        into.len()
    }
}

const fn reserve(state: &State) -> u64 {
    state.uses.counts().free + state.pool_len as u64
}

const fn may_take(state: &State, need: Need) -> bool {
    match need {
        Need::Store => state.uses.counts().free > RESERVE_FRAMES,
        Need::Free => true,
    }
}

impl<P: Persist, L: RawMutex> Frames for Nvm<P, L> {
    type Media = P;

    fn media(&self) -> &P {
        &self.media
    }

    fn first(&self) -> FrameNo {
        self.first
    }

    fn generation(&self) -> Generation {
        self.generation
    }

    fn allocate(&self, kind: FrameKind, need: Need) -> Result<FrameNo, OutOfFrames> {
        let mut frame = [FrameNo(0)];
        if self.allocate_many(kind, need, &mut frame) == 1 { Ok(frame[0]) } else { Err(OutOfFrames) }
    }

    fn allocate_many(&self, kind: FrameKind, need: Need, into: &mut [FrameNo]) -> usize {
        let mut done = self.take_zeroed(kind, need, into);
        while done < into.len() {
            // One fence for what is missing, and for some frames ahead.
            let mut fresh = [FrameNo(0); POOL_FRAMES];
            let want = (into.len() - done).clamp(REFILL_FRAMES, POOL_FRAMES);
            let len = self.take(&mut self.state.lock(), need, &mut fresh[..want]);
            if len != 0 {
                self.zero(&fresh[..len]);
                self.put_zeroed(&fresh[..len]);
            }
            let got = self.take_zeroed(kind, need, &mut into[done..]);
            if got == 0 {
                return done;
            }
            done += got;
        }
        done
    }

    fn allocate_huge(&self, need: Need) -> Result<FrameNo, OutOfFrames> {
        // A 2 MiB leaf is aligned in physical memory; groups are aligned in the region.
        if self.access == Access::ReadOnly || !self.first.0.is_multiple_of(HUGE_FRAMES) {
            return Err(OutOfFrames);
        }
        let mut state = self.state.lock();
        if need == Need::Store && state.uses.counts().free < HUGE_FRAMES + RESERVE_FRAMES {
            return Err(OutOfFrames);
        }
        let frame = FrameNo(self.first.0 + state.uses.take_huge().ok_or(OutOfFrames)?);
        drop(state);
        let at = (frame.0 - self.first.0) * PAGE_BYTES;
        self.media.zero(at, HUGE_FRAMES * PAGE_BYTES);
        self.media.persist(at, HUGE_FRAMES * PAGE_BYTES);
        Ok(frame)
    }

    fn free(&self, frame: FrameNo, kind: FrameKind) {
        if let Some(index) = self.index(frame) {
            // A frame that is not in use as that belongs to a damaged tree: it stays as it is until the next mount.
            self.state.lock().uses.put(index, kind);
        }
    }

    fn free_unused(&self, frame: FrameNo, kind: FrameKind) {
        if kind == FrameKind::Data && self.index(frame).is_some() {
            self.put_zeroed(&[frame]);
        } else {
            self.free(frame, kind);
        }
    }
}
