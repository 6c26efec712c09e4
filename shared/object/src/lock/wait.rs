//! Waiting for a lock: see [`super`].

use core::sync::atomic::{AtomicU64, Ordering};

use twizzler_abi::Error;

use super::{Held, Lanes, Mode, Refused, Upgrade, lane_of_writer, lanes};
use crate::backend::{Backend, Waited};
use crate::coordination::StripeWord::{
    AsleepHolders, AsleepReaders, AsleepWriters, OvertakenReaders, OvertakenWriters, Writer,
};
use crate::space::Space;

/// How long one wait lasts before the holders are looked at again.
const LOOK_NS: u64 = 10_000_000;
/// How often that may happen while nobody lets go, before the wait is given up: 10 seconds in all.
const LOOKS: u32 = 1000;
/// Looks without sleeping.
const SPINS: u32 = 200;
/// How often a younger one that holds locks waits for an older one, for at most [`GRACE_NS`] each time.
const GRACE: u32 = 3;
const GRACE_NS: u64 = 300_000;
/// Who was woken in vain so often lets no younger one go before.
const OVERTAKEN_AFTER: u32 = 2;

/// Someone in a stripe's queue.
struct Sleeper {
    stripe: usize,
    mode: Mode,
    is_asleep: bool,
    slept: u32,
    spins: u32,
    grace: u32,
    looks: u32,
}

impl<B: Backend> Space<B> {
    /// Waits for a lock as long as may be.
    #[cold]
    pub(super) fn take_slowly(&self, held: &mut Held, stripe: usize, mode: Mode) -> Result<(), Refused> {
        let mut sleeper =
            Sleeper { stripe, mode, is_asleep: false, slept: 0, spins: SPINS, grace: GRACE, looks: LOOKS };
        let result = self.sleep_until_taken(held, &mut sleeper);
        self.leave_queue(held, &sleeper, result.is_ok());
        if result == Err(Refused::Conflict) {
            held.wanted = Some((stripe, mode));
            if mode == Mode::Exclusive && held.has(stripe, Mode::Shared) {
                held.upgraded = Some(stripe);
                held.upgrade = Upgrade::Needed;
            }
        }
        result
    }

    fn sleep_until_taken(&self, held: &mut Held, sleeper: &mut Sleeper) -> Result<(), Refused> {
        let Sleeper { stripe, mode, .. } = *sleeper;
        let turn = self.lane_turn(held.lane);
        loop {
            // Before the lock is looked at: what is let go after that counts on.
            let seen = turn.load(Ordering::SeqCst);
            let Err(others) = self.try_take(held, stripe, mode) else { return Ok(()) };
            if sleeper.spins > 0 {
                sleeper.spins -= 1;
                core::hint::spin_loop();
                continue;
            }
            if lanes(others).any(|lane| self.is_dead(lane)) {
                self.recover().map_err(Refused::System)?;
                continue;
            }
            let Some(timeout_ns) = self.patience(held, sleeper, others)? else { continue };
            if !sleeper.is_asleep {
                sleeper.is_asleep = true;
                if !held.stripes.is_empty() {
                    self.stripe_word(stripe, AsleepHolders).fetch_or(held.bit(), Ordering::SeqCst);
                }
                self.asleep(sleeper).fetch_or(held.bit(), Ordering::SeqCst);
                continue;
            }
            if self.lane_chosen(held.lane).load(Ordering::SeqCst) != 0 {
                self.pass_on(held, stripe);
            }
            if self.wait_while(turn, seen, timeout_ns) == Waited::TimedOut {
                sleeper.looks = sleeper.looks.checked_sub(1).ok_or(Refused::System(Error::Busy))?;
            }
            sleeper.slept += 1;
            if sleeper.slept == OVERTAKEN_AFTER {
                self.draw_age_if_none(held);
                self.overtaken(sleeper).fetch_or(held.bit(), Ordering::SeqCst);
            }
        }
    }

    /// How long to wait for those that stand in the way. None: things have changed, look again.
    fn patience(
        &self,
        held: &mut Held,
        sleeper: &mut Sleeper,
        others: Lanes,
    ) -> Result<Option<u64>, Refused> {
        let stripe = sleeper.stripe;
        let has_word = held.word.is_some();
        if held.stripes.is_empty() && !has_word {
            return Ok(Some(LOOK_NS));
        }
        self.draw_age_if_none(held);
        let older = self.older_of(held, others);
        if older == 0 {
            return Ok(Some(LOOK_NS));
        }
        if held.stripes.is_empty() {
            // Waits on without the word, so with nothing.
            held.word = None;
            self.leave_writer(stripe);
            self.wake_all(held, stripe);
            return Ok(None);
        }
        // Those wait for what we have: who reads what we want to write and sleeps here wants to write it too, and so does who has the word
        // while we read.
        let waiting_for_us = if has_word {
            self.stripe_word(stripe, AsleepWriters).load(Ordering::SeqCst)
        } else if held.has(stripe, Mode::Shared) {
            older
        } else {
            0
        };
        if older & waiting_for_us != 0 {
            return Err(Refused::Conflict);
        }
        sleeper.grace = sleeper.grace.checked_sub(1).ok_or(Refused::Conflict)?;
        Ok(Some(GRACE_NS))
    }

    /// Takes ourselves out of the stripe's words. Where we have not got the lock, who was kept waiting by us looks again.
    fn leave_queue(&self, held: &mut Held, sleeper: &Sleeper, has_lock: bool) {
        let Sleeper { stripe, .. } = *sleeper;
        if sleeper.is_asleep {
            self.asleep(sleeper).fetch_and(!held.bit(), Ordering::SeqCst);
            if !held.stripes.is_empty() {
                self.stripe_word(stripe, AsleepHolders).fetch_and(!held.bit(), Ordering::SeqCst);
            }
            self.lane_chosen(held.lane).store(0, Ordering::SeqCst);
        }
        if sleeper.slept >= OVERTAKEN_AFTER {
            self.overtaken(sleeper).fetch_and(!held.bit(), Ordering::SeqCst);
        }
        if held.word.take().is_some() {
            self.leave_writer(stripe);
        } else if !has_lock {
            self.wake_sleepers(stripe);
        }
    }

    /// Wakes those for whom something changes: who has other locks, in case it has to die; and of the rest those who may have the lock now. That
    /// is the oldest of those who were overtaken, with all other readers if it is one; else all readers, and a writer. A writer that was chosen
    /// and can't have it after all lets all others look ([`Self::pass_on`]).
    ///
    /// SeqCst: who goes to sleep sets its bit and looks then, so it sees what has changed before this, or this sees its bit.
    #[inline]
    pub(crate) fn wake_sleepers(&self, stripe: usize) {
        let readers = self.stripe_word(stripe, AsleepReaders).load(Ordering::SeqCst);
        let writers = self.stripe_word(stripe, AsleepWriters).load(Ordering::SeqCst);
        if readers | writers != 0 {
            self.wake_some(stripe, readers, writers);
        }
    }

    /// The same for a lock that was left to the queue of this program, where others can't take it.
    pub(crate) fn wake_ours(&self, stripe: usize) {
        let ours = |word| {
            let asleep = self.stripe_word(stripe, word).load(Ordering::SeqCst);
            lanes(asleep).filter(|&lane| self.is_ours(lane)).fold(0, |set, lane| set | 1 << lane)
        };
        self.wake_some(stripe, ours(AsleepReaders), ours(AsleepWriters));
    }

    #[cold]
    fn wake_some(&self, stripe: usize, readers: Lanes, writers: Lanes) {
        let with_word = lane_of_writer(self.stripe_word(stripe, Writer).load(Ordering::SeqCst)) & writers;
        let holders = self.stripe_word(stripe, AsleepHolders).load(Ordering::SeqCst) & (readers | writers);
        self.wake_lanes(holders | with_word);
        if with_word != 0 && !self.has_pending() {
            return;
        }
        let (readers, writers) = (readers & !holders, writers & !(holders | with_word));
        let overtaken = self.stripe_word(stripe, OvertakenReaders).load(Ordering::SeqCst) & readers
            | self.stripe_word(stripe, OvertakenWriters).load(Ordering::SeqCst) & writers;
        let age = |&lane: &usize| self.lane_age(lane).load(Ordering::SeqCst);
        let oldest = lanes(overtaken).min_by_key(age).map_or(0, |lane| 1 << lane);
        let writer = match oldest {
            // The lowest bit.
            0 => writers & writers.wrapping_neg(),
            _ => oldest & writers,
        };
        for lane in lanes(writer) {
            self.lane_chosen(lane).store(1, Ordering::SeqCst);
        }
        self.wake_lanes(if oldest & writers != 0 { writer } else { writer | readers });
    }

    fn wake_lanes(&self, set: Lanes) {
        for lane in lanes(set) {
            let turn = self.lane_turn(lane);
            turn.fetch_add(1, Ordering::SeqCst);
            self.wake(turn);
        }
    }

    fn wake_all(&self, held: &Held, stripe: usize) {
        let asleep = self.stripe_word(stripe, AsleepReaders).load(Ordering::SeqCst)
            | self.stripe_word(stripe, AsleepWriters).load(Ordering::SeqCst);
        self.wake_lanes(asleep & !held.bit());
    }

    /// Chosen, and can't have it. Whoever has the writer's word will wake somebody in its turn. But readers and those who were overtaken may
    /// keep us out and let others in.
    fn pass_on(&self, held: &Held, stripe: usize) {
        self.lane_chosen(held.lane).store(0, Ordering::SeqCst);
        if self.stripe_word(stripe, Writer).load(Ordering::SeqCst) == 0 {
            self.wake_all(held, stripe);
        }
    }

    fn asleep(&self, sleeper: &Sleeper) -> &AtomicU64 {
        let word = if sleeper.mode == Mode::Shared { AsleepReaders } else { AsleepWriters };
        self.stripe_word(sleeper.stripe, word)
    }

    fn overtaken(&self, sleeper: &Sleeper) -> &AtomicU64 {
        let word = if sleeper.mode == Mode::Shared { OvertakenReaders } else { OvertakenWriters };
        self.stripe_word(sleeper.stripe, word)
    }

    fn draw_age_if_none(&self, held: &mut Held) {
        if held.age == 0 {
            held.age = self.draw_age();
            self.lane_age(held.lane).store(held.age, Ordering::SeqCst);
        }
    }
}
