//! Locks on objects, shared and exclusive, held by lanes until their transactions end.
//!
//! They lie in the coordination segment ([`crate::coordination`]), striped by object: an uncontended one is one atomic operation. A reader sets
//! its lane's bit and looks whether there is a writer; a writer puts its lane's number and waits until no other reader's bit is set.
//! So a writer that waits already keeps new readers out.
//!
//! **Wait-die.** Who holds nothing may wait for anybody. Who holds locks draws an age and waits only for younger ones; for older ones it
//! waits a moment, in case they end, and then dies: everything is undone and run again, with the same age. Ages only grow, and who has none
//! counts as younger than all: so nobody who waits for long is waited for in a circle.
//!
//! With a log, a lock is left to a queue as soon as the record has its place there, and other transactions of the same program take it over
//! (`tx::pending`).
//!
//! A dead program's locks stay until a survivor has finished its transactions ([`crate::recover`]).

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use twizzler_abi::Error;

use crate::backend::Backend;
use crate::coordination::{STRIPES, WAITED_FOR};
use crate::guard::Guard;
use crate::lane::LANES_MAX;
use crate::pointer::Area;
use crate::space::Space;
use crate::tx::Tx;

/// How long one wait lasts before the holders are looked at again.
const LOOK_NS: u64 = 10_000_000;
/// How often, before the wait is given up: 10 seconds in all.
const LOOKS: u32 = 1000;
/// Looks without waiting.
const SPINS: u32 = 200;
/// How long a younger one waits for an older one, in looks of [`GRACE_NS`].
const GRACE: u32 = 3;
const GRACE_NS: u64 = 300_000;

/// What a lock lets others do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Others may read.
    Shared,
    /// Nothing.
    Exclusive,
}

/// Why a lock was not had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// Someone older has it: give everything up and start again.
    Conflict,
    /// Anything else.
    System(Error),
}

/// Locks that a lane holds, by stripe.
#[derive(Debug)]
pub(crate) struct Held {
    lane: usize,
    shared: [u64; STRIPES / 64],
    exclusive: [u64; STRIPES / 64],
    stripes: Vec<u16>,
    /// 0: none drawn.
    age: u64,
    /// Plus one: a stripe that is locked exclusively at once, since the last run died when it wanted that.
    eager: usize,
    /// Where the last record ends that locks were taken over from before it was durable ([`crate::tx`]); 0: none. For the transaction to take.
    pub(crate) seen: u64,
}

impl Held {
    pub(crate) const fn new(lane: usize) -> Self {
        let none = [0; STRIPES / 64];
        Self { lane, shared: none, exclusive: none, stripes: Vec::new(), age: 0, eager: 0, seen: 0 }
    }

    #[inline]
    fn has(&self, stripe: usize, mode: Mode) -> bool {
        let exclusive = self.exclusive[stripe / 64] >> (stripe % 64) & 1 != 0;
        exclusive || mode == Mode::Shared && self.shared[stripe / 64] >> (stripe % 64) & 1 != 0
    }

    fn note(&mut self, stripe: usize, mode: Mode) {
        if !self.has(stripe, Mode::Shared) {
            self.stripes.push(stripe as u16);
        }
        let set = if mode == Mode::Shared { &mut self.shared } else { &mut self.exclusive };
        set[stripe / 64] |= 1 << (stripe % 64);
    }
}

/// Who stands in the way: a bit for each lane.
type Lanes = u64;

impl<B: Backend> Space<B> {
    /// Takes a lock for a lane, if it doesn't have it.
    #[inline]
    pub(crate) fn take(&self, held: &mut Held, stripe: usize, mode: Mode) -> Result<(), Refused> {
        if held.has(stripe, mode) {
            return Ok(());
        }
        let result = if mode == Mode::Exclusive || held.eager == stripe + 1 {
            self.take_exclusive(held, stripe)
        } else {
            self.take_shared(held, stripe)
        };
        if result == Err(Refused::Conflict) && mode == Mode::Exclusive {
            held.eager = stripe + 1;
        }
        result
    }

    fn take_exclusive(&self, held: &mut Held, stripe: usize) -> Result<(), Refused> {
        let (me, bit) = (held.lane as u64 + 1, 1 << held.lane);
        let mut patience = Patience::new();
        // SeqCst here and below: a writer's and a reader's word are stored and looked at in opposite order, so one of them sees
        // the other. Acquire pairs with the release of who had the lock.
        while let Err(seen) = self.writer(stripe).compare_exchange(0, me, Ordering::SeqCst, Ordering::SeqCst)
        {
            if let Some(end) = self.take_over(stripe, seen, me) {
                held.seen = held.seen.max(end);
                break;
            }
            let writer = seen & !WAITED_FOR;
            self.wait_for(held, lanes_of_writer(writer), &mut patience, || {
                let word = self.writer(stripe);
                let marked = writer | WAITED_FOR;
                if seen == marked
                    || word.compare_exchange(seen, marked, Ordering::SeqCst, Ordering::SeqCst).is_ok()
                {
                    Some((word, marked))
                } else {
                    None
                }
            })?;
        }
        loop {
            let readers = self.readers(stripe).load(Ordering::SeqCst);
            if readers & !bit == 0 {
                held.note(stripe, Mode::Exclusive);
                return Ok(());
            }
            // The word is held while we wait, so ours is the rule for who holds something.
            let waited = self.wait_as(held, Rule::WaitDie, readers & !bit, &mut patience, || {
                Some((self.readers(stripe), readers))
            });
            if let Err(refused) = waited {
                self.leave_writer(stripe);
                return Err(refused);
            }
        }
    }

    fn take_shared(&self, held: &mut Held, stripe: usize) -> Result<(), Refused> {
        let bit = 1 << held.lane;
        let mut patience = Patience::new();
        loop {
            self.readers(stripe).fetch_or(bit, Ordering::SeqCst);
            let seen = self.writer(stripe).load(Ordering::SeqCst);
            if seen == 0 {
                held.note(stripe, Mode::Shared);
                return Ok(());
            }
            if let Some(end) = self.pending_on(stripe, seen) {
                held.seen = held.seen.max(end);
                held.note(stripe, Mode::Shared);
                // Perhaps the one who was woken, and others can go on as well.
                if seen & WAITED_FOR != 0 {
                    self.wake_one(self.writer(stripe));
                }
                return Ok(());
            }
            self.leave_reader(stripe, bit);
            let writer = seen & !WAITED_FOR;
            self.wait_for(held, lanes_of_writer(writer), &mut patience, || {
                let word = self.writer(stripe);
                let marked = writer | WAITED_FOR;
                let is_marked = seen == marked
                    || word.compare_exchange(seen, marked, Ordering::SeqCst, Ordering::SeqCst).is_ok();
                is_marked.then_some((word, marked))
            })?;
        }
    }

    fn wait_for<'w>(
        &'w self,
        held: &mut Held,
        holders: Lanes,
        patience: &mut Patience,
        word: impl FnOnce() -> Option<(&'w core::sync::atomic::AtomicU64, u64)>,
    ) -> Result<(), Refused> {
        let rule = if held.stripes.is_empty() { Rule::Wait } else { Rule::WaitDie };
        self.wait_as(held, rule, holders, patience, word)
    }

    /// Waits a while for those lanes, on the word that says that they have gone. Then, look again.
    #[cold]
    fn wait_as<'w>(
        &'w self,
        held: &mut Held,
        rule: Rule,
        holders: Lanes,
        patience: &mut Patience,
        word: impl FnOnce() -> Option<(&'w core::sync::atomic::AtomicU64, u64)>,
    ) -> Result<(), Refused> {
        if patience.spins > 0 {
            patience.spins -= 1;
            core::hint::spin_loop();
            return Ok(());
        }
        if lanes(holders).any(|lane| self.is_dead(lane)) {
            self.recover().map_err(Refused::System)?;
        }
        let mut timeout_ns = LOOK_NS;
        if rule == Rule::WaitDie {
            if held.age == 0 {
                held.age = self.draw_age();
                self.lane_age(held.lane).store(held.age, Ordering::SeqCst);
            }
            let is_older = |lane| (1..held.age).contains(&self.lane_age(lane).load(Ordering::SeqCst));
            if lanes(holders).any(is_older) {
                patience.grace = patience.grace.checked_sub(1).ok_or(Refused::Conflict)?;
                timeout_ns = GRACE_NS;
            }
        }
        patience.looks = patience.looks.checked_sub(1).ok_or(Refused::System(Error::Busy))?;
        if let Some((word, value)) = word() {
            let start = cycles();
            self.wait_while(word, value, timeout_ns);
            // Patience is for holders that don't move on; where many do, waits end early and often.
            if cycles().wrapping_sub(start) < EARLY_CYCLES {
                patience.looks += 1;
            }
        } else {
            patience.looks += 1;
        }
        Ok(())
    }

    /// True for a lane of a program that no longer lives.
    pub(crate) fn is_dead(&self, lane: usize) -> bool {
        let owner = self.lane_owner(lane).load(Ordering::SeqCst);
        owner != 0 && owner != self.owner && !self.backend().is_alive(owner)
    }

    /// Lets go of all that a lane holds. Its age is kept for the next run.
    pub(crate) fn release_all(&self, held: &mut Held) {
        while let Some(stripe) = held.stripes.pop() {
            let stripe = usize::from(stripe);
            let mask = 1 << (stripe % 64);
            if held.shared[stripe / 64] & mask != 0 {
                held.shared[stripe / 64] &= !mask;
                self.leave_reader(stripe, 1 << held.lane);
            }
            if held.exclusive[stripe / 64] & mask != 0 {
                held.exclusive[stripe / 64] &= !mask;
                self.leave_writer(stripe);
            }
        }
    }

    /// Lets go of all shared locks of a lane, and gives the exclusive ones, which it no longer counts as its own.
    pub(crate) fn release_shared(&self, held: &mut Held) -> Vec<u16> {
        let mut exclusive = Vec::new();
        while let Some(stripe) = held.stripes.pop() {
            let (word, mask) = (usize::from(stripe) / 64, 1 << (stripe % 64));
            if held.shared[word] & mask != 0 {
                held.shared[word] &= !mask;
                self.leave_reader(usize::from(stripe), 1 << held.lane);
            }
            if held.exclusive[word] & mask != 0 {
                held.exclusive[word] &= !mask;
                exclusive.push(stripe);
            }
        }
        exclusive
    }

    /// Forgets what the next run of the same transaction would need.
    pub(crate) fn forget_age(&self, held: &mut Held) {
        held.eager = 0;
        if held.age != 0 {
            held.age = 0;
            self.lane_age(held.lane).store(0, Ordering::SeqCst);
        }
    }

    fn leave_writer(&self, stripe: usize) {
        if !self.give_back(stripe) {
            self.free_writer(stripe);
        }
    }

    /// Lets anybody have a lock.
    pub(crate) fn free_writer(&self, stripe: usize) {
        let word = self.writer(stripe);
        // Release: what was done under the lock is seen by the next holder.
        if word.swap(0, Ordering::SeqCst) & WAITED_FOR != 0 {
            self.wake(word);
        }
    }

    fn leave_reader(&self, stripe: usize, bit: u64) {
        let word = self.readers(stripe);
        word.fetch_and(!bit, Ordering::SeqCst);
        if self.writer(stripe).load(Ordering::SeqCst) != 0 {
            self.wake(word);
        }
    }

    /// Releases what a lane of a dead program holds.
    pub(crate) fn release_dead(&self, lane: usize) {
        for stripe in 0..STRIPES {
            let writer = self.writer(stripe).load(Ordering::SeqCst);
            if writer & !WAITED_FOR == lane as u64 + 1 {
                self.free_writer(stripe);
            }
            if self.readers(stripe).load(Ordering::SeqCst) >> lane & 1 != 0 {
                self.leave_reader(stripe, 1 << lane);
            }
        }
        self.lane_age(lane).store(0, Ordering::SeqCst);
    }
}

/// Cycles that a wait which ran into its time takes at least, at 1 GHz or more.
const EARLY_CYCLES: u64 = LOOK_NS * 4 / 5;

/// The processor's time stamp.
fn cycles() -> u64 {
    // SAFETY: every x86-64 processor has RDTSC, and neither Linux nor the kernel forbids it to programs.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// How to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// For anybody: nobody waits for us.
    Wait,
    /// For younger ones only.
    WaitDie,
}

/// What is left of the readiness to wait.
struct Patience {
    spins: u32,
    grace: u32,
    looks: u32,
}

impl Patience {
    const fn new() -> Self {
        Self { spins: SPINS, grace: GRACE, looks: LOOKS }
    }
}

/// The lane that a writer's word names.
const fn lanes_of_writer(word: u64) -> Lanes {
    if word == 0 || word > LANES_MAX as u64 { 0 } else { 1 << (word - 1) }
}

fn lanes(set: Lanes) -> impl Iterator<Item = usize> {
    (0..LANES_MAX).filter(move |lane| set >> lane & 1 != 0)
}

/// Keeps others from changing an object, until dropped.
#[must_use]
pub struct Locked<'g, B: Backend> {
    _holder: Tx<'g, B>,
}

impl<B: Backend> Guard<'_, B> {
    /// Keeps others from changing an object, so that what is read through the guard belongs together. A transaction of the same
    /// thread is an other one, too: end the lock before.
    ///
    /// # Errors
    /// [`Error::Busy`] where someone who lives changes it for 10 seconds; what recovery of a dead one's transaction says.
    pub fn lock<'g>(&'g self, area: Area<'g>) -> Result<Locked<'g, B>, Error> {
        let holder = self.begin()?;
        holder.lock_shared(area)?;
        holder.in_place()?;
        Ok(Locked { _holder: holder })
    }
}
