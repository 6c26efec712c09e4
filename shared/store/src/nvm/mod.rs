//! Frames in NVM, with their allocator.
//!
//! Nothing about free frames lies on media. A *pool* of frames that are zero, durably, is kept ahead, so that filling a
//! page costs one fence, not two: [`Nvm::prepare`] fills it when a CPU has nothing else to do. A *reserve* is kept
//! back from whoever wants to store more, so that deleting and discarding always work.
//!
//! Where the region is a sparse file, a free frame may have no room on the disk, which may be full. So room is made for each before it is zeroed; where
//! there is none, all frames without it are left out until the next mount.

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
    /// Frames of the pool that belong to the reserve.
    kept_len: usize,
    /// Whoever stores may use the reserve.
    reserve_is_open: bool,
}

impl State {
    const fn need(&self, need: Need) -> Need {
        if self.reserve_is_open { Need::Free } else { need }
    }
}

impl<P, L: RawMutex> fmt::Debug for Nvm<P, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nvm").field("first", &self.first).finish_non_exhaustive()
    }
}

impl<P: Persist, L: RawMutex> Nvm<P, L> {
    pub(crate) fn new(media: P, first: FrameNo, generation: Generation, uses: Uses, access: Access) -> Self {
        let state =
            State { uses, pool: [FrameNo(0); POOL_FRAMES], pool_len: 0, kept_len: 0, reserve_is_open: false };
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
            let room = POOL_FRAMES - self.state.lock().pool_len;
            let len = self.take_fresh(Need::Store, &mut fresh[..room.min(REFILL_FRAMES).min(limit - done)]);
            if len == 0 {
                break;
            }
            self.put_zeroed(&fresh[..len]);
            done += len;
        }
        done
    }

    /// Sees to it that frames of the reserve have room, whatever is stored. For whoever mounts what may lie on a full disk.
    pub fn keep_reserve(&self) {
        self.prepare(RESERVE_FRAMES as usize);
        let mut state = self.state.lock();
        state.kept_len = state.pool_len;
    }

    /// From now on, storing may use the reserve too: for whoever stores in order to delete.
    pub fn open_reserve(&self) {
        let mut state = self.state.lock();
        state.kept_len = 0;
        state.reserve_is_open = true;
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
        let need = state.need(need);
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

    /// Takes frames and makes them zero.
    fn take_fresh(&self, need: Need, into: &mut [FrameNo]) -> usize {
        // Once more where some of those that were taken had no room.
        for _ in 0..2 {
            let len = self.take(&mut self.state.lock(), need, into);
            let with_room = self.make_room(&into[..len]);
            if with_room < len {
                let mut state = self.state.lock();
                into[with_room..len].iter().for_each(|frame| self.put(&mut state, *frame));
                self.leave_out(&mut state);
            }
            if with_room != 0 {
                self.zero(&into[..with_room]);
            }
            if with_room != 0 || len == 0 {
                return with_room;
            }
        }
        0
    }

    /// Makes room for frames. Gives how many of them have it.
    fn make_room(&self, frames: &[FrameNo]) -> usize {
        let has_room = |run: &[FrameNo]| {
            let at = (run[0].0 - self.first.0) * PAGE_BYTES;
            self.media.make_room(at, run.len() as u64 * PAGE_BYTES)
        };
        let mut done = 0;
        for run in frames.chunk_by(|frame, next| frame.0 + 1 == next.0) {
            if !has_room(run) {
                return done + run.chunks(1).take_while(|frame| has_room(frame)).count();
            }
            done += run.len();
        }
        done
    }

    /// Leaves free frames without room out. Asks the host under the lock, but only where its disk is full.
    fn leave_out(&self, state: &mut State) {
        let mut end = 0;
        while let Some(room) = self.media.next_with_room(end) {
            state.uses.leave_out(end / PAGE_BYTES..room.start / PAGE_BYTES);
            end = room.end;
        }
        state.uses.leave_out(end / PAGE_BYTES..u64::MAX);
    }

    fn put(&self, state: &mut State, frame: FrameNo) {
        state.uses.put(frame.0 - self.first.0, FrameKind::Data);
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
                self.put(&mut state, frame);
            }
        }
    }

    /// Zeroed frames from the pool, as `kind`.
    fn take_zeroed(&self, kind: FrameKind, need: Need, into: &mut [FrameNo]) -> usize {
        let mut state = self.state.lock();
        let need = state.need(need);
        for (done, place) in into.iter_mut().enumerate() {
            // The pool counts as free: it can't be used up by storing either.
            let is_last = state.pool_len <= state.kept_len || reserve(&state) <= RESERVE_FRAMES;
            if state.pool_len == 0 || (need == Need::Store && is_last) {
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
        Need::Store => state.uses.counts().free + state.kept_len as u64 > RESERVE_FRAMES,
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
            let len = self.take_fresh(need, &mut fresh[..want]);
            self.put_zeroed(&fresh[..len]);
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
        if !self.media.make_room(at, HUGE_FRAMES * PAGE_BYTES) {
            let mut state = self.state.lock();
            (0..HUGE_FRAMES).for_each(|index| self.put(&mut state, FrameNo(frame.0 + index)));
            return Err(OutOfFrames);
        }
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
