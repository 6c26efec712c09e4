//! Locks on objects, shared and exclusive, held by lanes until their transactions end.
//!
//! They lie in the coordination segment ([`crate::coordination`]), striped by object: an uncontended one is one atomic operation. A reader sets
//! its lane's bit and looks whether there is a writer; a writer puts its lane's number and waits until no other reader's bit is set.
//! So a writer that waits for readers already keeps new ones out.
//!
//! **Who waits** ([`wait`]) sleeps until its lane's *turn* counts on. Whoever comes along meanwhile may take the lock first: handing it over
//! would cost each of them a switch of threads. But who was woken in vain enters itself as *overtaken*, and from then on no younger one goes
//! before: so everybody gets it after those who hold it and those who are older, whatever others do.
//!
//! **Wait-die.** Who holds nothing may wait for anybody. Who holds locks draws an age and waits only for younger ones; for older ones it
//! waits a moment, in case they end, and then dies: everything is undone and run again, with the same age. The next run begins with the lock
//! that the last one died for, which it may wait for, since it holds nothing: so it does not die for that again. Ages only grow, and who
//! has none counts as younger than all.
//!
//! No circle of waiting closes. Who holds locks waits for younger ones alone, be they holders or ahead of it in the queue. Who holds nothing
//! is waited for only as one that is ahead, by younger ones that hold nothing either.
//!
//! With a log, a lock is left to a queue as soon as the record has its place there, and other transactions of the same program take it over
//! (`tx::pending`); the writer's word names the lane that left it.
//!
//! A dead program's locks stay until a survivor has finished its transactions ([`crate::recover`]).

mod wait;

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use twizzler_abi::Error;

use crate::backend::Backend;
use crate::coordination::STRIPES;
use crate::coordination::StripeWord::{
    AsleepHolders, AsleepReaders, AsleepWriters, OvertakenReaders, OvertakenWriters, Readers, Writer,
};
use crate::guard::Guard;
use crate::lane::LANES_MAX;
use crate::pointer::Area;
use crate::space::Space;
use crate::tx::Tx;

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

/// What came of taking a lock exclusively for a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Upgrade {
    /// It was not taken so.
    Unused,
    /// It was, and nothing was written.
    InVain,
    /// It was, and something was written.
    Needed,
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
    /// What the last run died for: the next one begins with it.
    wanted: Option<(usize, Mode)>,
    /// The stripe whose writer's word we have put our number into, and whose readers we wait for.
    word: Option<usize>,
    /// A stripe that the lane's transactions have read first, wanted to write then, and conflicted over: read again, it is taken exclusively
    /// at once, until one has no use for that.
    upgraded: Option<usize>,
    /// How this transaction has used it.
    upgrade: Upgrade,
    /// Where the last record ends that locks were taken over from before it was durable ([`crate::tx`]); 0: none. For the transaction to take.
    pub(crate) seen: u64,
}

impl Held {
    pub(crate) const fn new(lane: usize) -> Self {
        let none = [0; STRIPES / 64];
        Self {
            lane,
            shared: none,
            exclusive: none,
            stripes: Vec::new(),
            age: 0,
            wanted: None,
            word: None,
            upgraded: None,
            upgrade: Upgrade::Unused,
            seen: 0,
        }
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

    const fn bit(&self) -> Lanes {
        1 << self.lane
    }
}

/// Some lanes: a bit for each.
type Lanes = u64;

fn lanes(set: Lanes) -> impl Iterator<Item = usize> {
    (0..LANES_MAX).filter(move |lane| set >> lane & 1 != 0)
}

/// The lane that a writer's word names.
const fn lane_of_writer(word: u64) -> Lanes {
    if word == 0 || word > LANES_MAX as u64 { 0 } else { 1 << (word - 1) }
}

/// An error with those that stand in the way, if there are.
const fn nobody(others: Lanes) -> Result<(), Lanes> {
    if others == 0 { Ok(()) } else { Err(others) }
}

impl<B: Backend> Space<B> {
    /// Takes a lock for a lane, if it doesn't have it.
    #[inline]
    pub(crate) fn take(&self, held: &mut Held, stripe: usize, mode: Mode) -> Result<(), Refused> {
        let mut mode = mode;
        if held.upgraded == Some(stripe) {
            held.upgrade = match (mode, held.upgrade) {
                (Mode::Exclusive, _) | (_, Upgrade::Needed) => Upgrade::Needed,
                _ => Upgrade::InVain,
            };
            mode = Mode::Exclusive;
        }
        if held.has(stripe, mode) {
            return Ok(());
        }
        if self.try_take(held, stripe, mode).is_err() {
            self.take_slowly(held, stripe, mode)?;
        }
        held.note(stripe, mode);
        Ok(())
    }

    /// Begins a run with what the last one died for. Nothing is held yet.
    pub(crate) fn take_wanted(&self, held: &mut Held) -> Result<(), Refused> {
        held.wanted.take().map_or(Ok(()), |(stripe, mode)| self.take(held, stripe, mode))
    }

    /// Takes a lock at once, or says who stands in the way. A writer that waits for readers keeps its number in the writer's word.
    #[inline]
    fn try_take(&self, held: &mut Held, stripe: usize, mode: Mode) -> Result<(), Lanes> {
        match mode {
            Mode::Shared => self.try_shared(held, stripe),
            Mode::Exclusive => self.try_exclusive(held, stripe),
        }
    }

    // SeqCst here and below: a writer's and a reader's word are stored and looked at in opposite order, so one of them sees
    // the other. Acquire pairs with the release of who had the lock.
    #[inline]
    fn try_shared(&self, held: &mut Held, stripe: usize) -> Result<(), Lanes> {
        // Looked at before anything is stored: who sees a bit come and go is woken for nothing.
        let writer = self.stripe_word(stripe, Writer);
        let seen = writer.load(Ordering::SeqCst);
        if seen != 0 && self.pending_on(stripe, seen).is_none() {
            return Err(lane_of_writer(seen));
        }
        let overtaken = self.stripe_word(stripe, OvertakenWriters).load(Ordering::SeqCst);
        if overtaken != 0 {
            nobody(self.older_of(held, overtaken))?;
        }
        self.stripe_word(stripe, Readers).fetch_or(held.bit(), Ordering::SeqCst);
        let seen = writer.load(Ordering::SeqCst);
        if seen == 0 {
            return Ok(());
        }
        if let Some(end) = self.pending_on(stripe, seen) {
            held.seen = held.seen.max(end);
            return Ok(());
        }
        self.leave_reader(stripe, held.bit());
        Err(lane_of_writer(seen))
    }

    #[inline]
    fn try_exclusive(&self, held: &mut Held, stripe: usize) -> Result<(), Lanes> {
        let readers = self.stripe_word(stripe, Readers);
        if held.word != Some(stripe) {
            self.take_word(held, stripe)?;
            held.word = Some(stripe);
        }
        nobody(readers.load(Ordering::SeqCst) & !held.bit())?;
        held.word = None;
        Ok(())
    }

    /// Puts a writer's number into the word.
    #[inline]
    fn take_word(&self, held: &mut Held, stripe: usize) -> Result<(), Lanes> {
        let me = held.lane as u64 + 1;
        let writer = self.stripe_word(stripe, Writer);
        let seen = writer.load(Ordering::SeqCst);
        let overtaken = self.stripe_word(stripe, OvertakenWriters).load(Ordering::SeqCst)
            | self.stripe_word(stripe, OvertakenReaders).load(Ordering::SeqCst);
        let ahead = if overtaken == 0 { 0 } else { self.older_of(held, overtaken) };
        if held.stripes.is_empty() {
            // Who has the word holds something. Who waits for older ones holds nothing.
            let readers = self.stripe_word(stripe, Readers).load(Ordering::SeqCst);
            if readers != 0 {
                nobody(self.older_of(held, readers))?;
            }
        }
        if seen == 0 {
            nobody(ahead)?;
            let taken = writer.compare_exchange(0, me, Ordering::SeqCst, Ordering::SeqCst);
            return taken.map(drop).map_err(lane_of_writer);
        }
        // Other programs can't take from the queue: they wait for a while longer.
        let foreign = lanes(ahead).filter(|&lane| !self.is_ours(lane)).fold(0, |set, lane| set | 1 << lane);
        let taken = if ahead == foreign { self.take_over(stripe, seen, me, foreign != 0) } else { None };
        let end = taken.ok_or(ahead | lane_of_writer(seen))?;
        held.seen = held.seen.max(end);
        Ok(())
    }

    fn is_ours(&self, lane: usize) -> bool {
        self.lane_owner(lane).load(Ordering::SeqCst) == self.owner
    }

    /// Those that are older.
    #[cold]
    fn older_of(&self, held: &Held, others: Lanes) -> Lanes {
        let is_older = |&lane: &usize| {
            let age = self.lane_age(lane).load(Ordering::SeqCst);
            age != 0 && (held.age == 0 || age < held.age)
        };
        lanes(others & !held.bit()).filter(is_older).fold(0, |set, lane| set | 1 << lane)
    }

    /// True for a lane of a program that no longer lives.
    pub(crate) fn is_dead(&self, lane: usize) -> bool {
        let owner = self.lane_owner(lane).load(Ordering::SeqCst);
        owner != 0 && owner != self.owner && !self.backend().is_alive(owner)
    }

    /// True if a dead program has the lock.
    pub(crate) fn is_held_by_dead(&self, stripe: usize) -> bool {
        let writer = self.stripe_word(stripe, Writer).load(Ordering::SeqCst);
        writer.checked_sub(1).is_some_and(|lane| self.is_dead(lane as usize))
    }

    /// Lets go of all that a lane holds. Its age is kept for the next run.
    pub(crate) fn release_all(&self, held: &mut Held) {
        while let Some(stripe) = held.stripes.pop() {
            let stripe = usize::from(stripe);
            let mask = 1 << (stripe % 64);
            if held.shared[stripe / 64] & mask != 0 {
                held.shared[stripe / 64] &= !mask;
                self.leave_reader(stripe, held.bit());
            }
            if held.exclusive[stripe / 64] & mask != 0 {
                held.exclusive[stripe / 64] &= !mask;
                self.leave_writer(stripe);
            }
        }
    }

    /// Forgets what the next run of the same transaction would need.
    pub(crate) fn forget_age(&self, held: &mut Held) {
        held.wanted = None;
        if core::mem::replace(&mut held.upgrade, Upgrade::Unused) == Upgrade::InVain {
            held.upgraded = None;
        }
        if held.age != 0 {
            held.age = 0;
            self.lane_age(held.lane).store(0, Ordering::SeqCst);
        }
    }

    /// Lets go of all shared locks of a lane, and gives the exclusive ones, which it no longer counts as its own.
    pub(crate) fn release_shared(&self, held: &mut Held) -> Vec<u16> {
        let mut exclusive = Vec::new();
        while let Some(stripe) = held.stripes.pop() {
            let (word, mask) = (usize::from(stripe) / 64, 1 << (stripe % 64));
            if held.shared[word] & mask != 0 {
                held.shared[word] &= !mask;
                self.leave_reader(usize::from(stripe), held.bit());
            }
            if held.exclusive[word] & mask != 0 {
                held.exclusive[word] &= !mask;
                exclusive.push(stripe);
            }
        }
        exclusive
    }

    fn leave_writer(&self, stripe: usize) {
        if !self.give_back(stripe) {
            self.free_writer(stripe);
        }
    }

    /// Lets anybody have a lock.
    pub(crate) fn free_writer(&self, stripe: usize) {
        // Release: what was done under the lock is seen by the next holder.
        self.stripe_word(stripe, Writer).swap(0, Ordering::SeqCst);
        self.wake_sleepers(stripe);
    }

    fn leave_reader(&self, stripe: usize, bit: Lanes) {
        self.stripe_word(stripe, Readers).fetch_and(!bit, Ordering::SeqCst);
        self.wake_sleepers(stripe);
    }

    /// Releases what a lane of a dead program holds, and takes it out of all queues.
    pub(crate) fn release_dead(&self, lane: usize) {
        let bit: Lanes = 1 << lane;
        for stripe in 0..STRIPES {
            let words =
                [AsleepReaders, AsleepWriters, AsleepHolders, OvertakenReaders, OvertakenWriters, Readers];
            for word in words {
                let word = self.stripe_word(stripe, word);
                if word.load(Ordering::SeqCst) & bit != 0 {
                    word.fetch_and(!bit, Ordering::SeqCst);
                }
            }
            if self.stripe_word(stripe, Writer).load(Ordering::SeqCst) == lane as u64 + 1 {
                // It may have been killed while it put a commit in place; that is finished.
                self.end_changes_of(stripe);
                self.free_writer(stripe);
            } else {
                self.wake_sleepers(stripe);
            }
        }
        self.lane_age(lane).store(0, Ordering::SeqCst);
    }
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
