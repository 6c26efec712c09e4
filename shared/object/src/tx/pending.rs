//! What is committed and not yet durable: records that have their place in the log, and wait for the disk.
//!
//! With [`crate::Sink::Log`] a record may be put in place only when it is durable, and that takes a while. But its order is settled as soon
//! as it has its place in the log: whatever depends on it comes later in the same log, so it can't survive without it. So its locks are
//! handed over to this *queue*, and the next transaction of the same program takes them from there and reads the lines that wait here.
//!
//! 1. What waits is seen by transactions that have its locks, and by nobody else: other programs wait for the locks, and readers without a
//!    transaction see what is in place.
//! 2. Records of an object are put in place in the order of the log, each by whoever finds it durable first.
//! 3. Who has seen what waits returns nothing to its caller before that is durable: a commit since its own record is behind it; a
//!    transaction that changes nothing, or fails, since it waits for it ([`Tx::witness`]).
//! 4. Only transactions that change bytes of objects pass through here. Whoever makes or deletes objects, enters something into a FOT, or has written
//!    in place, keeps its locks until all is done; and before memory is written in place that a waiting record may have freed, that is in place.
//! 5. After a failed sync what is durable is put in place. Nothing else that waits will ever be: it is forgotten, and whoever is behind it in the
//!    log fails, even if the disk got that after all.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cmp::Ordering as Order;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use hashbrown::HashMap;
use twizzler_abi::pointer::PointerBits;
use twizzler_abi::{Error, ObjId};

use super::Tx;
use super::overlay::{LINE, Line, parts};
use crate::backend::{Backend, Ticket};
use crate::coordination::StripeWord;
use crate::journal::Changed;
use crate::memory;
use crate::pointer::{Area, Bytes, InvPtr, InvSpan, Ptr, Span};
use crate::reader::{Reader, compare_by};
use crate::recover::version_word;
use crate::space::Space;
use crate::stored::{Stored, Value};
use crate::tx::commit::area_at;
use crate::volatile::Lock;

/// How often a lock is passed on within the program while another one waits for it and was overtaken.
const CHAIN_MAX: u32 = 256;
/// Transactions that stage more lines keep their locks.
pub(super) const LINES_MAX: usize = 4096;

/// A space's queue.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Lanes whose records are in the queue: a bit for each. Not 0 where a lock that somebody holds was taken from here; and a lock whose word names
    /// a lane that is not among them is not in the queue.
    lanes: AtomicU64,
    /// Where the first record ended that was forgotten; 0 for none. Stored under the queue's lock.
    forgotten: AtomicU64,
    queue: Lock<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order of the log.
    records: VecDeque<Waiting>,
    /// By address: the newest bytes, and where the last record ends that has changed them.
    lines: HashMap<u64, (Line, u64)>,
    /// Objects that what waits has changed.
    objects: HashMap<ObjId, Waited>,
    stripes: HashMap<u16, Stripe>,
}

/// A record that waits for the disk.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    lane: usize,
    lines: Vec<(u64, Line)>,
    changed: Vec<(u64, Changed)>,
    stripes: Vec<u16>,
}

/// An object in the queue.
#[derive(Clone, Copy, Debug)]
struct Waited {
    /// Its newest version.
    version: u64,
    /// Where the record of that ends.
    end: u64,
    /// Where the object was mapped for that.
    start: u64,
}

/// A lock whose last holder waits for the disk.
#[derive(Clone, Copy, Debug)]
struct Stripe {
    /// The holder, which the lock's word still names unless someone has taken it over.
    lane: usize,
    /// Where its record ends.
    end: u64,
    /// How often the lock was passed on.
    chain: u32,
}

/// A lane's bit. There is none for what is no lane.
const fn bit(lane: u64) -> u64 {
    if lane < u64::BITS as u64 { 1 << lane } else { 0 }
}

impl Queue {
    /// Puts what waits over what was read from memory.
    fn patch(&self, address: u64, bytes: &mut [u8]) {
        for (line, at, part) in parts(address, bytes.len()) {
            if let Some((waiting, _)) = self.lines.get(&line) {
                waiting.patch(at, &mut bytes[part]);
            }
        }
    }

    fn add(&mut self, record: Waiting) {
        let end = record.ticket.end;
        for &(address, ref line) in &record.lines {
            let (waiting, last) = self.lines.entry(address).or_insert((Line::EMPTY, end));
            waiting.merge(line);
            *last = end;
        }
        for &(start, Changed { id, version }) in &record.changed {
            self.objects.insert(id, Waited { version, end, start });
        }
        for &stripe in &record.stripes {
            let chain = self.stripes.get(&stripe).map_or(0, |before| before.chain + 1);
            self.stripes.insert(stripe, Stripe { lane: record.lane, end, chain });
        }
        // Records of one object come in order, since its lock is passed on after this; others may overtake each other.
        let at = self.records.partition_point(|other| other.ticket.end < end);
        self.records.insert(at, record);
    }

    /// Forgets a record: it is in place, or never will be.
    fn forget(&mut self, record: &Waiting) {
        let end = record.ticket.end;
        for (address, _) in &record.lines {
            if self.lines.get(address).is_some_and(|&(_, last)| last == end) {
                self.lines.remove(address);
            }
        }
        for (_, Changed { id, .. }) in &record.changed {
            if self.objects.get(id).is_some_and(|object| object.end == end) {
                self.objects.remove(id);
            }
        }
    }
}

impl<B: Backend> Space<B> {
    /// True if something waits for the disk.
    #[inline]
    pub(crate) fn has_pending(&self) -> bool {
        // Acquire: who holds a lock that was taken from the queue sees what is in it; the lock's word is the partner.
        self.pending.lanes.load(Ordering::Acquire) != 0
    }

    /// True if the lane whose number plus one is in a lock's word may have left that to the queue. Asked before the queue is locked, so that who
    /// waits for a lock doesn't keep its holder from the queue.
    #[inline]
    fn may_be_left(&self, word: u64) -> bool {
        // SeqCst: who sleeps has said so before; who leaves a lock to the queue looks for sleepers after.
        self.pending.lanes.load(Ordering::SeqCst) & bit(word.wrapping_sub(1)) != 0
    }

    /// Where the record ends that a lock is still waiting for, if the lane whose number plus one is in `word` has left it to the queue.
    #[inline]
    pub(crate) fn pending_on(&self, stripe: usize, word: u64) -> Option<u64> {
        if !self.may_be_left(word) {
            return None;
        }
        let queue = self.pending.queue.lock(self.backend());
        let found = queue.stripes.get(&(stripe as u16))?;
        // The word may have changed since it was looked at.
        let now = self.stripe_word(stripe, StripeWord::Writer).load(Ordering::SeqCst);
        (word == found.lane as u64 + 1 && now == word).then_some(found.end)
    }

    /// Takes a lock that was left to the queue, unless another program waits for it and it was passed on often enough. Gives where the
    /// record ends that it was left with.
    #[inline]
    pub(crate) fn take_over(&self, stripe: usize, seen: u64, me: u64, is_waited_for: bool) -> Option<u64> {
        if !self.may_be_left(seen) {
            return None;
        }
        let queue = self.pending.queue.lock(self.backend());
        let found = queue.stripes.get(&(stripe as u16))?;
        if seen != found.lane as u64 + 1 || is_waited_for && found.chain >= CHAIN_MAX {
            return None;
        }
        let word = self.stripe_word(stripe, StripeWord::Writer);
        word.compare_exchange(seen, me, Ordering::SeqCst, Ordering::SeqCst).ok()?;
        Some(found.end)
    }

    /// What a lock's word is when its holder goes: 0, or the lane that left it to the queue. The word is changed before anyone else can look.
    pub(crate) fn give_back(&self, stripe: usize) -> bool {
        if !self.has_pending() {
            return false;
        }
        let queue = self.pending.queue.lock(self.backend());
        let Some(found) = queue.stripes.get(&(stripe as u16)) else { return false };
        self.leave_to(stripe, found.lane);
        true
    }

    /// Lets the queue have a lock, under the name of the lane that has used it last.
    fn leave_to(&self, stripe: usize, lane: usize) {
        self.stripe_word(stripe, StripeWord::Writer).swap(lane as u64 + 1, Ordering::SeqCst);
        self.wake_ours(stripe);
    }

    /// Waits until the record that ends at `end` is durable, and puts in place all that is.
    ///
    /// # Errors
    /// After a failed sync, where the record is not durable, or one before it was forgotten.
    pub(super) fn put_in_place(&self, end: u64) -> Result<(), Error> {
        let durable = self.backend().durable(end).inspect_err(|_| self.forget_pending())?;
        let mut result = Ok(());
        while self.has_pending() {
            let queue = &mut *self.pending.queue.lock(self.backend());
            let Some(applied) = self.apply_first(queue, durable) else { break };
            result = result.and(applied);
        }
        // After that: a record that is no longer in the queue is in place, or this says that it is not.
        match self.pending.forgotten.load(Ordering::Acquire) {
            first if first != 0 && first <= end => Err(Error::ReadOnly),
            _ => result,
        }
    }

    /// Puts the first record in place, if it ends at `durable` or before; None if it doesn't.
    fn apply_first(&self, queue: &mut Queue, durable: u64) -> Option<Result<(), Error>> {
        let record = queue.records.pop_front_if(|record| record.ticket.end <= durable)?;
        let mut result = Ok(());
        let ids = || record.changed.iter().map(|&(_, Changed { id, .. })| id);
        self.begin_changes(ids());
        // Under the queue's lock: readers find each line here or in place.
        for &(address, ref line) in &record.lines {
            // Pairs with the acquire of who reads without locks what this line makes reachable.
            fence(Ordering::Release);
            let offset = address - twizzler_abi::address::range_start(address);
            result = result.and(self.apply(area_at(address), offset, line));
        }
        for &(start, Changed { version, .. }) in &record.changed {
            self.store_flushed(version_word(area_at(start)), &version);
        }
        self.end_changes(ids());
        queue.forget(&record);
        self.backend().applied(record.ticket);
        self.drop_record(queue, &record);
        Some(result)
    }

    /// After a failed sync: what is durable is put in place, the rest never will be.
    fn forget_pending(&self) {
        let queue = &mut *self.pending.queue.lock(self.backend());
        // Others may have it from the disk's last good write that their records are durable, and come here next.
        let durable = self.backend().durable(0).unwrap_or(0);
        while self.apply_first(queue, durable).is_some() {}
        if let Some(first) = queue.records.front() {
            let before = self.pending.forgotten.load(Ordering::Relaxed);
            let end = if before == 0 { first.ticket.end } else { before.min(first.ticket.end) };
            // Release: who finds the lanes' bits cleared finds this.
            self.pending.forgotten.store(end, Ordering::Release);
        }
        while let Some(record) = queue.records.pop_front() {
            queue.forget(&record);
            self.drop_record(queue, &record);
        }
    }

    /// Lets go of a record's locks, unless someone has taken them over.
    fn drop_record(&self, queue: &mut Queue, record: &Waiting) {
        for &stripe in &record.stripes {
            let Some(&Stripe { lane, end, .. }) = queue.stripes.get(&stripe) else { continue };
            if end != record.ticket.end {
                continue;
            }
            queue.stripes.remove(&stripe);
            let word = self.stripe_word(usize::from(stripe), StripeWord::Writer);
            // Whoever takes it over needs the queue for that.
            if word.load(Ordering::SeqCst) == lane as u64 + 1 {
                self.free_writer(usize::from(stripe));
            }
        }
        // Release pairs with the acquire in `has_pending`.
        self.pending.lanes.fetch_and(!bit(record.lane as u64), Ordering::SeqCst);
    }
}

impl<'g, B: Backend> Tx<'g, B> {
    /// Leaves the record and the locks of all that it changes to the queue. Others may go on from here.
    pub(super) fn leave_to_queue(&mut self, ticket: Ticket) {
        let space = self.space;
        let lane = &mut **self.lane;
        let held = &mut *lane.held.borrow_mut();
        let stripes = space.release_shared(held);
        let record = Waiting {
            ticket,
            lane: lane.number,
            lines: lane.work.overlay.take_lines(),
            changed: core::mem::take(&mut lane.work.changed),
            stripes,
        };
        // Youngest of all: who waits for it may wait.
        space.forget_age(held);
        let queue = &mut *space.pending.queue.lock(space.backend());
        space.pending.lanes.fetch_or(bit(record.lane as u64), Ordering::SeqCst);
        let stripes = record.stripes.clone();
        queue.add(record);
        for stripe in stripes {
            space.leave_to(usize::from(stripe), lane.number);
        }
    }

    /// True where the locks may go as soon as the record has its place in the log.
    pub(super) fn is_plain(&self) -> bool {
        let work = self.work();
        work.fresh.is_clean()
            && work.created.is_empty()
            && work.deletes.is_empty()
            && work.entries.is_empty()
            && work.overlay.lines().len() <= LINES_MAX
    }

    /// Waits until what it has seen is durable, so that its caller may be told of it.
    ///
    /// # Errors
    /// After a failed sync.
    pub(super) fn witness(&self) -> Result<(), Error> {
        match self.work().seen.replace(0) {
            0 => Ok(()),
            end => self.space.backend().durable(end).map(drop),
        }
    }

    /// Waits until all is in place that earlier transactions have changed in the objects that are locked. For whoever looks past the
    /// transaction: through a guard, or at the files of a store. Reads and writes of the transaction need no such thing.
    ///
    /// # Errors
    /// After a failed sync.
    pub fn in_place(&self) -> Result<(), Error> {
        match self.work().seen.replace(0) {
            0 => Ok(()),
            end => self.space.put_in_place(end),
        }
    }

    /// The value at a place as the last commit has left it.
    #[inline]
    pub(super) fn load<T: Value>(&self, place: Ptr<'g, T>) -> T {
        if self.work().seen.get() == 0 { memory::load(place) } else { self.load_pending(place) }
    }

    #[cold]
    fn load_pending<T: Value>(&self, place: Ptr<'g, T>) -> T {
        let queue = self.space.pending.queue.lock(self.space.backend());
        let mut value = memory::load(place);
        queue.patch(place.address(), memory::bytes_of_mut(&mut value));
        value
    }

    /// Bytes as the last commit has left them.
    pub(super) fn load_bytes(&self, bytes: Bytes<'g>, buffer: &mut [u8]) {
        if self.work().seen.get() == 0 {
            memory::read(bytes, buffer);
        } else {
            let queue = self.space.pending.queue.lock(self.space.backend());
            memory::read(bytes, buffer);
            queue.patch(bytes.address(), buffer);
        }
    }

    /// An object's version as the last commit has left it.
    pub(crate) fn version_of(&self, start: u64, id: ObjId) -> u64 {
        let place = version_word(area_at(start));
        if self.work().seen.get() == 0 {
            return memory::load(place);
        }
        let queue = self.space.pending.queue.lock(self.space.backend());
        queue.objects.get(&id).map_or_else(|| memory::load(place), |object| object.version)
    }

    /// Called with an object that has just been locked. What waits for it is found by where it lies; where it has been mapped anew since,
    /// that has to be in place first.
    pub(super) fn find_pending(&self, start: u64, id: ObjId) -> Result<(), Error> {
        if self.work().seen.get() == 0 {
            return Ok(());
        }
        let queue = self.space.pending.queue.lock(self.space.backend());
        let is_elsewhere = queue.objects.get(&id).is_some_and(|object| object.start != start);
        drop(queue);
        if is_elsewhere { self.in_place() } else { Ok(()) }
    }

    /// Reads what is committed, past what the transaction has staged.
    pub(crate) fn committed(&self) -> Committed<'_, 'g, B> {
        Committed { tx: self, is_in_place: self.work().seen.get() == 0 }
    }
}

/// What is committed, as a transaction sees it that has not changed it: for what no transaction changes once it is committed.
pub(crate) struct Committed<'t, 'g, B: Backend> {
    tx: &'t Tx<'g, B>,
    /// Nothing waits for the disk that it could see.
    is_in_place: bool,
}

impl<'g, B: Backend> Reader<'g> for Committed<'_, 'g, B> {
    #[inline]
    fn get<T: Value>(&self, place: Ptr<'g, T>) -> T {
        if self.is_in_place { memory::load(place) } else { self.tx.load_pending(place) }
    }

    fn follow<T: Stored>(&self, _: Ptr<'g, InvPtr<T>>) -> Result<Option<Ptr<'g, T>>, Error> {
        Err(Error::NotSupported)
    }

    fn follow_span<T: Stored>(&self, _: Ptr<'g, InvSpan<T>>) -> Result<Span<'g, T>, Error> {
        Err(Error::NotSupported)
    }

    fn read(&self, bytes: Bytes<'g>, from: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.tx.load_bytes(bytes.slice(from, buffer.len() as u64).ok_or(Error::OutOfRange)?, buffer);
        Ok(())
    }

    fn encoded(&self, _: Area<'g>, _: u64) -> Result<Option<u64>, Error> {
        Err(Error::NotSupported)
    }

    fn decoded<T: Stored>(&self, _: Area<'g>, _: PointerBits) -> Result<Option<Ptr<'g, T>>, Error> {
        Err(Error::NotSupported)
    }

    fn compare(&self, bytes: Bytes<'g>, other: &[u8]) -> Order {
        compare_by(bytes, other, |part, buffer| self.tx.load_bytes(part, buffer))
    }
}

const _: () = assert!(LINE == 64);
