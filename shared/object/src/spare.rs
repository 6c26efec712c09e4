//! Lanes that a program keeps for its next transactions, and which of its threads are in one now.
//!
//! A thread finds its last lane where it left it, in a place by its number, and leaves its number there for as long as it is in a transaction:
//! so taking a lane is one atomic exchange, giving it back one store, and a transaction within a transaction is noticed at once. Threads
//! whose places coincide share a list.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::{null_mut, without_provenance_mut};
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use twizzler_abi::Error;

use crate::backend::{Backend, Waited};
use crate::epoch::one_of;
use crate::lane::Lane;
use crate::volatile::Lock;

const PLACES: usize = 32;
/// Where threads wait for a lane. Few wait at the same place, so that one that comes back wakes few.
const BENCHES: usize = 64;
/// Set where a place holds no lane but a thread's number.
const IS_THREAD: u64 = 1;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    near: [Place; PLACES],
    rest: Lock<Rest>,
    /// Threads that are in the list.
    crowded: AtomicUsize,
    benches: Benches,
}

/// Threads that wait for a lane.
#[derive(Debug)]
struct Benches {
    benches: [Bench; BENCHES],
    waiting: AtomicUsize,
    /// Counts those who have come, and those who were woken.
    arrived: AtomicUsize,
    woken: AtomicUsize,
}

#[derive(Debug, Default)]
struct Bench {
    waiting: AtomicUsize,
    /// Changes when they are to look.
    turn: AtomicU64,
}

impl Default for Benches {
    fn default() -> Self {
        Self {
            benches: core::array::from_fn(|_| Bench::default()),
            waiting: AtomicUsize::new(0),
            arrived: AtomicUsize::new(0),
            woken: AtomicUsize::new(0),
        }
    }
}

/// A lane, a thread's number, or null.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Place(AtomicPtr<Lane>);

#[derive(Debug, Default)]
struct Rest {
    #[allow(clippy::vec_box, reason = "they are large, and move between here and the places")]
    lanes: Vec<Box<Lane>>,
    threads: Vec<u64>,
}

/// Where a thread that is in a transaction is entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entered {
    /// In a place.
    Near(usize),
    /// In the list, by its number.
    Listed(u64),
    /// Nowhere.
    Apart,
}

impl Spare {
    /// Enters a thread, and gives the lane that is there.
    ///
    /// # Errors
    /// [`Error::Nested`] where it is entered already.
    #[inline]
    pub(crate) fn enter(
        &self,
        backend: &impl Backend,
        thread: u64,
    ) -> Result<(Entered, Option<Box<Lane>>), Error> {
        let number = one_of(PLACES, thread);
        let place = &self.near[number].0;
        let mark = without_provenance_mut((thread | IS_THREAD) as usize);
        // What this thread itself has stored, it sees.
        let seen = place.load(Ordering::Relaxed);
        let is_crowded = self.crowded.load(Ordering::Relaxed) != 0;
        if seen == mark || is_crowded && self.rest.lock(backend).threads.contains(&thread) {
            return Err(Error::Nested);
        }
        // Acquire pairs with the release in `leave`.
        if is_lane_or_null(seen)
            && place.compare_exchange(seen, mark, Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            return Ok((Entered::Near(number), boxed(seen)));
        }
        let mut rest = self.rest.lock(backend);
        let lane = rest.lanes.pop();
        rest.threads.push(thread);
        self.crowded.fetch_add(1, Ordering::Relaxed);
        Ok((Entered::Listed(thread), lane))
    }

    /// Takes the thread out again, and keeps its lane for the next transaction.
    #[inline]
    pub(crate) fn leave(&self, backend: &impl Backend, entered: Entered, lane: Option<Box<Lane>>) {
        if let Entered::Near(number) = entered {
            // Release: the next one who takes it sees it whole. Nobody else changes the place meanwhile.
            self.near[number].0.store(lane.map_or(null_mut(), Box::into_raw), Ordering::Release);
            self.wake_some(backend);
            return;
        }
        let mut rest = self.rest.lock(backend);
        rest.lanes.extend(lane);
        if let Entered::Listed(thread) = entered
            && let Some(at) = rest.threads.iter().position(|&listed| listed == thread)
        {
            rest.threads.swap_remove(at);
            self.crowded.fetch_sub(1, Ordering::Relaxed);
        }
        drop(rest);
        self.wake_some(backend);
    }

    /// Waits until a lane has come back, and takes it; None: none that this thread got, in about that time.
    pub(crate) fn wait(&self, backend: &impl Backend, timeout_ns: u64) -> Option<Box<Lane>> {
        let benches = &self.benches;
        let bench = &benches.benches[benches.arrived.fetch_add(1, Ordering::Relaxed) % BENCHES];
        benches.waiting.fetch_add(1, Ordering::SeqCst);
        bench.waiting.fetch_add(1, Ordering::SeqCst);
        let lane = loop {
            let seen = bench.turn.load(Ordering::Acquire);
            let lane = self.take_any(backend);
            if lane.is_some() || backend.wait(&bench.turn, seen, timeout_ns) == Waited::TimedOut {
                break lane;
            }
        };
        bench.waiting.fetch_sub(1, Ordering::Relaxed);
        benches.waiting.fetch_sub(1, Ordering::Relaxed);
        lane
    }

    /// Lets some of those look who wait for a lane. Without a fence, which each transaction would pay for: who sits down at this very moment may be
    /// missed, and looks again when its time is over.
    #[inline]
    fn wake_some(&self, backend: &impl Backend) {
        if self.benches.waiting.load(Ordering::Relaxed) != 0 {
            self.wake_a_bench(backend);
        }
    }

    #[cold]
    fn wake_a_bench(&self, backend: &impl Backend) {
        let from = self.benches.woken.fetch_add(1, Ordering::Relaxed);
        let mut in_turn = (0..BENCHES).map(|offset| &self.benches.benches[(from + offset) % BENCHES]);
        if let Some(bench) = in_turn.find(|bench| bench.waiting.load(Ordering::Relaxed) != 0) {
            bench.turn.fetch_add(1, Ordering::Release);
            backend.wake(&bench.turn);
        }
    }

    /// Any lane that nobody uses.
    pub(crate) fn take_any(&self, backend: &impl Backend) -> Option<Box<Lane>> {
        self.near.iter().find_map(Place::take).or_else(|| self.rest.lock(backend).lanes.pop())
    }
}

impl Place {
    /// The lane, if there is one.
    fn take(&self) -> Option<Box<Lane>> {
        let seen = self.0.load(Ordering::Relaxed);
        if !is_lane_or_null(seen) {
            return None;
        }
        // Acquire pairs with the release in `leave`.
        let taken = self.0.compare_exchange(seen, null_mut(), Ordering::Acquire, Ordering::Relaxed);
        taken.ok().and_then(boxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // `Space::drop` has taken all; but for a space that never came to be.
        drop(self.take());
    }
}

fn is_lane_or_null(seen: *mut Lane) -> bool {
    seen.addr() as u64 & IS_THREAD == 0
}

/// The lane at a pointer that was just exchanged for something else.
fn boxed(taken: *mut Lane) -> Option<Box<Lane>> {
    if taken.is_null() {
        return None;
    }
    // SAFETY: not a thread's number, as the callers have checked, so `leave` made the pointer from a box; the exchange took it out, so
    // there is no other.
    Some(unsafe { Box::from_raw(taken) })
}
