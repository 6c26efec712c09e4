//! Lanes: where transactions write their records, and how they come by one.
//!
//! Each running transaction has a lane. Who owns which lies in the coordination segment; a program keeps the lanes that it has
//! claimed for its next transactions. The *lane directory*, an object of well-known ID, lists the lanes' objects: after a boot all of them are
//! recovered ([`crate::recover`]), after a kill those of the dead program. A lane's object holds, besides one record, the *intents*: objects
//! that its transaction has made and that are to go if it does not commit.
//!
//! | offset from the base | |
//! |---|---|
//! | 0 | [`LaneHead`] |
//! | 64 | intents, 32 bytes each |
//! | 4096 | a record of an even transaction, up to 16 KiB |
//! | 20480 | the same of an odd one: a line that was written back a moment ago is slow to write again |
//! | 36864 | a longer record |
//!
//! Of the records, the one of the latest transaction counts: when it was begun, those before were in place.
//!
//! Records and intents are checked with the lane's generation, which recovery raises last: what lay there before is then void. It is raised
//! for a new owner too, durably before its first record.
//!
//! With [`crate::Sink::Log`] a lane is a number that locks are held under, and there are no such objects.

use alloc::boxed::Box;
use core::cell::RefCell;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use twizzler_abi::address::{SLOT_BYTES, Slot};
use twizzler_abi::call::{CreateSpec, USUAL_RIGHTS};
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET, Header};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId};

use crate::backend::{Backend, Sink, Waited, inputs_of};
use crate::error::OpenError;
use crate::journal::TRANSACTIONS_MAX;
use crate::lock::Held;
use crate::memory;
use crate::pointer::{Object, Ptr};
use crate::recover::is_damage;
use crate::space::{Access, Space, area_of, header_place};
use crate::spare::Entered;
use crate::stored::{Stored, Value};
use crate::tx::Work;

/// How long one wait for the administration of lanes lasts, and how often.
const LOOK_NS: u64 = 10_000_000;
const LOOKS: u32 = 1000;
/// The same for lanes, of which there are enough but for hundreds of threads.
const LANE_LOOK_NS: u64 = 50_000_000;
const LANE_LOOKS: u32 = 200;
/// Lanes that there can be: transactions that run at the same time, in all programs.
pub const LANES_MAX: usize = 64;
/// Objects that one transaction can make.
pub const INTENTS_MAX: usize = 126;
/// Offset of the first record in a lane.
const RECORDS_OFFSET: u64 = BASE_OFFSET + 4096;
/// Bytes that a record has at most that is written to one of two places in turn.
const SHORT_RECORD_BYTES: u64 = 16 * 1024;
/// Where records may lie, with their bytes: those of even transactions, of odd ones, and long ones.
pub(crate) const RECORD_PLACES: [(u64, u64); 3] = [
    (RECORDS_OFFSET, SHORT_RECORD_BYTES),
    (RECORDS_OFFSET + SHORT_RECORD_BYTES, SHORT_RECORD_BYTES),
    (RECORDS_OFFSET + 2 * SHORT_RECORD_BYTES, SLOT_BYTES - RECORDS_OFFSET - 2 * SHORT_RECORD_BYTES),
];
/// Bytes of the record area that are made to exist when a lane is claimed.
const RECORD_START_BYTES: u64 = 64 * 1024;

/// Lists the lanes.
#[derive(Stored)]
#[stored(name = "twizzler.lanes", version = 1)]
#[repr(C)]
pub(crate) struct Directory {
    /// Lanes that exist; the first so many slots are in use.
    pub(crate) len: u64,
    pub(crate) reserved: [u64; 7],
    pub(crate) slots: [LaneSlot; LANES_MAX],
}

/// One lane.
#[derive(Stored, Clone, Copy)]
#[stored(name = "twizzler.lane-slot", version = 1)]
#[repr(C)]
pub(crate) struct LaneSlot {
    pub(crate) lane: ObjId,
    pub(crate) reserved: [u64; 2],
}

/// A lane's own state.
#[derive(Stored)]
#[stored(name = "twizzler.lane", version = 1)]
#[repr(C)]
pub(crate) struct LaneHead {
    /// Seeds the checks of record and intents.
    pub(crate) generation: u64,
    /// Last transaction with intents that is known to be over.
    pub(crate) done: u64,
    /// Last transaction that is known to be in place. Written after fence 2, not flushed: seen after a kill, perhaps not
    /// after a power cut. Whoever deletes objects flushes those of all lanes before ([`Space::flush_applied`]), his own after that: the ID may
    /// come back, and none of what lanes still say is about the new object.
    pub(crate) applied: u64,
    pub(crate) reserved: [u64; 5],
    pub(crate) intents: [Intent; INTENTS_MAX],
}

/// An object that a transaction has made.
#[derive(Stored, Clone, Copy, PartialEq, Eq, Debug)]
#[stored(name = "twizzler.intent", version = 1)]
#[repr(C)]
pub(crate) struct Intent {
    pub(crate) id: ObjId,
    pub(crate) transaction: u64,
    pub(crate) check: u64,
}

impl Intent {
    pub(crate) fn new(id: ObjId, transaction: u64, generation: u64) -> Self {
        let check = crate::journal::checksum(generation, &[id.hi, id.lo, transaction]);
        Self { id, transaction, check }
    }

    /// True if it was written for this generation.
    pub(crate) fn holds(&self, generation: u64) -> bool {
        *self == Self::new(self.id, self.transaction, generation)
    }
}

/// A lane, and all that its transactions keep from one to the next, so that they need not ask for memory.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) number: usize,
    /// None: records go to a log, or nothing can be changed.
    pub(crate) media: Option<LaneMedia>,
    pub(crate) sink: Sink,
    /// The last transaction's number.
    pub(crate) transaction: u64,
    pub(crate) held: RefCell<Held>,
    pub(crate) work: Work,
}

/// Where a record of so many bytes is written. None: it is too long.
pub(crate) fn record_place(transaction: u64, len_bytes: u64) -> Option<u64> {
    let number = if len_bytes <= SHORT_RECORD_BYTES { (transaction % 2) as usize } else { 2 };
    let (offset, room) = RECORD_PLACES[number];
    (len_bytes <= room).then_some(offset)
}

/// Where a lane's records lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneMedia {
    pub(crate) id: ObjId,
    pub(crate) slot: Slot,
    pub(crate) generation: u64,
    /// Up to which offset the pages are known to exist.
    pub(crate) end: u64,
}

impl LaneMedia {
    /// The lane's head. Its object is pinned.
    pub(crate) fn head<'s>(&self) -> Ptr<'s, LaneHead> {
        area_of(self.slot).place(BASE_OFFSET).expect("a head lies in its object")
    }
}

/// What well-known objects are made of.
pub(crate) fn well_known<T: Stored>(nonce: [u8; 16]) -> CreateSpec {
    CreateSpec {
        nonce,
        owner: ObjId::NONE,
        flags: ObjectFlags::PERSISTENT.bits(),
        default_rights: USUAL_RIGHTS.bits(),
        fingerprint: T::FINGERPRINT,
    }
}

/// The ID that an object made of `spec` will have.
pub(crate) fn id_of(spec: &CreateSpec) -> Result<ObjId, Error> {
    Ok(ObjId::derive(&inputs_of(spec, |_| Ok(()))?))
}

fn lane_spec(slot: usize) -> CreateSpec {
    let mut nonce = *b"twizzler lane 00";
    nonce[14] += (slot / 10) as u8;
    nonce[15] += (slot % 10) as u8;
    well_known::<LaneHead>(nonce)
}

impl<B: Backend> Space<B> {
    /// Opens the object that `spec` makes.
    pub(crate) fn open_well_known<T: Stored>(&self, spec: &CreateSpec) -> Result<Object<'_, T>, Error> {
        let id = id_of(spec)?;
        let object = match self.open_typed(id, Access::Write) {
            Err(OpenError::System(Error::NoSuchObject)) => match self.backend().create(spec) {
                Ok(made) if made != id => return Err(Error::Damaged),
                Ok(_) | Err(Error::Exists) => self.open_typed(id, Access::Write)?,
                Err(error) => return Err(error),
            },
            result => result?,
        };
        // Also where whoever made it was cut off before this.
        if self.len_bytes(object.area()) < size_of::<T>() as u64 {
            self.backend().ensure(id, HEADER_OFFSET, BASE_OFFSET - HEADER_OFFSET + size_of::<T>() as u64)?;
            self.name_type::<T>(object.area());
            let len: Ptr<'_, u64> = header_place(object.area(), offset_of!(Header, len_bytes));
            self.store_durably(len, &(size_of::<T>() as u64));
        }
        Ok(object)
    }

    /// Opens the directory. One that is damaged beyond opening is made anew: what its lanes would have finished is lost, and said to
    /// be, but everything else can be worked with.
    pub(crate) fn lane_directory(&self) -> Result<Object<'_, Directory>, Error> {
        let spec = well_known::<Directory>(*b"twizzler lanes\0\0");
        match self.open_well_known(&spec) {
            Err(Error::Damaged | Error::Unreadable | Error::WrongType) => {
                self.delete_if_there(id_of(&spec)?)?;
                self.note(|found| found.damaged += 1);
                self.open_well_known(&spec)
            }
            result => result,
        }
        .inspect(|directory| self.pin(directory.area()))
    }

    /// Runs `inside` while nobody else claims or recovers lanes. A dead holder's lock is simply taken: all of that may be done again.
    pub(crate) fn administer<R>(&self, inside: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
        // One thread of this program at a time; so what is ours in the word is of one that was killed.
        let _threads = self.administering.lock(self.backend());
        let word = self.administration();
        let mut looks = LOOKS;
        // Acquire pairs with the release below.
        while let Err(seen) = word.compare_exchange(0, self.owner, Ordering::AcqRel, Ordering::Acquire) {
            let owner = seen & !1;
            if owner == self.owner || !self.backend().is_alive(owner) {
                if word.compare_exchange(seen, self.owner, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                    break;
                }
            } else if (seen & 1 != 0
                || word.compare_exchange(seen, seen | 1, Ordering::AcqRel, Ordering::Acquire).is_ok())
                && self.wait_while(word, owner | 1, LOOK_NS) == Waited::TimedOut
            {
                looks = looks.checked_sub(1).ok_or(Error::Busy)?;
            }
        }
        let result = inside();
        // Release: as above. Whoever waits, looks again.
        word.swap(0, Ordering::AcqRel);
        self.wake(word);
        result
    }

    /// A lane for a transaction of this thread, which has this number, and where the thread is entered as being in one.
    #[inline]
    pub(crate) fn take_lane(&self, thread: u64) -> Result<(Entered, Box<Lane>), Error> {
        let (entered, lane) = self.spare.enter(self.backend(), thread)?;
        match lane {
            Some(lane) => Ok((entered, lane)),
            None => self.take_lane_slowly(entered),
        }
    }

    /// The same for a transaction within another one, which waits for nobody.
    pub(crate) fn take_lane_apart(&self) -> Result<(Entered, Box<Lane>), Error> {
        self.take_lane_slowly(Entered::Apart)
    }

    #[cold]
    fn take_lane_slowly(&self, entered: Entered) -> Result<(Entered, Box<Lane>), Error> {
        let found = self.spare.take_any(self.backend()).map_or_else(|| self.wait_for_lane(), Ok);
        found.map(|lane| (entered, lane)).inspect_err(|_| self.spare.leave(self.backend(), entered, None))
    }

    /// Claims a lane, or waits for one that comes back. Those of other programs are looked at now and then: they tell nobody.
    fn wait_for_lane(&self) -> Result<Box<Lane>, Error> {
        for look in 0..LANE_LOOKS {
            match self.claim_lane() {
                // All are in use; some may be a dead program's.
                Err(Error::TooMany) if look == 0 => self.recover()?,
                Err(Error::TooMany) => {
                    if let Some(lane) = self.spare.wait(self.backend(), LANE_LOOK_NS) {
                        return Ok(lane);
                    }
                }
                result => return result,
            }
        }
        Err(Error::TooMany)
    }

    /// Claims a lane that nobody owns.
    fn claim_lane(&self) -> Result<Box<Lane>, Error> {
        self.administer(|| {
            for number in 0..LANES_MAX {
                if self.lane_owner(number).load(Ordering::Acquire) != 0 {
                    continue;
                }
                let sink = self.backend().sink();
                let (media, transaction) = match sink {
                    Sink::Log => (None, 0),
                    Sink::Lanes => match self.lane_media(number) {
                        Ok((media, transaction)) => (Some(media), transaction),
                        Err(Error::ReadOnly | Error::AccessDenied) => (None, 0),
                        Err(error) if is_damage(error) => {
                            self.note(|found| found.damaged += 1);
                            continue;
                        }
                        Err(error) => return Err(error),
                    },
                };
                self.lane_age(number).store(0, Ordering::Relaxed);
                self.lane_owner(number).store(self.owner, Ordering::Release);
                let held = RefCell::new(Held::new(number));
                return Ok(Box::new(Lane { number, media, sink, transaction, held, work: Work::default() }));
            }
            Err(Error::TooMany)
        })
    }

    /// Makes what lies in a lane void for a new owner; makes the lane where there is none yet. Also gives its last transaction's number.
    fn lane_media(&self, number: usize) -> Result<(LaneMedia, u64), Error> {
        let directory = self.lane_directory()?.base();
        while memory::load(directory.at(Directory::len)) <= number as u64 {
            self.add_lane(directory, memory::load(directory.at(Directory::len)) as usize)?;
        }
        let id = memory::load(lane_slot(directory, number)).lane;
        let head = sound_head(self.open_lane(id)?)?;
        self.backend().ensure(id, BASE_OFFSET, 4096 + RECORD_START_BYTES)?;
        // What lies in the lane is finished. Durable before the first record: a record of a generation that is lost would become valid
        // when recovery raises the old one.
        let generation = memory::load(head.at(LaneHead::generation)).wrapping_add(1);
        self.store_durably(head.at(LaneHead::generation), &generation);
        let slot = Slot::of(head.address()).ok_or(Error::Damaged)?;
        let last = memory::load(head.at(LaneHead::done)).max(memory::load(head.at(LaneHead::applied)));
        Ok((LaneMedia { id, slot, generation, end: RECORDS_OFFSET + RECORD_START_BYTES }, last))
    }

    /// Makes lane number `slot` and lists it.
    fn add_lane(&self, directory: Ptr<'_, Directory>, slot: usize) -> Result<(), Error> {
        if slot >= LANES_MAX {
            return Err(Error::Damaged);
        }
        let spec = lane_spec(slot);
        // One that is damaged is listed all the same: it is left alone from then on.
        match self.open_well_known::<LaneHead>(&spec) {
            Err(error) if !is_damage(error) => return Err(error),
            _ => {}
        }
        let entry = LaneSlot { lane: id_of(&spec)?, reserved: [0; 2] };
        self.store_durably(lane_slot(directory, slot), &entry);
        // COMMIT: the lane is listed.
        self.store_durably(directory.at(Directory::len), &(slot as u64 + 1));
        Ok(())
    }

    pub(crate) fn open_lane(&self, id: ObjId) -> Result<Ptr<'_, LaneHead>, Error> {
        let lane = self.open_typed::<LaneHead>(id, Access::Write)?;
        self.pin(lane.area());
        Ok(lane.base())
    }

    /// Starts writing back what all lanes know to be in place. A lane that can't be opened is left alone.
    pub(crate) fn flush_applied(&self) {
        let Ok(directory) = self.lane_directory() else { return };
        let len = (memory::load(directory.base().at(Directory::len)) as usize).min(LANES_MAX);
        for number in 0..len {
            if let Ok(head) = self.open_lane(memory::load(lane_slot(directory.base(), number)).lane) {
                memory::flush(self.backend(), head.at(LaneHead::applied).as_span());
            }
        }
    }

    /// Stores a value and waits until it is durable.
    pub(crate) fn store_durably<T: Value>(&self, place: Ptr<'_, T>, value: &T) {
        self.store_flushed(place, value);
        self.backend().fence();
    }

    /// Stores a value and starts writing it back.
    pub(crate) fn store_flushed<T: Value>(&self, place: Ptr<'_, T>, value: &T) {
        memory::store(self.backend(), place, value);
        memory::flush(self.backend(), place.as_span());
    }
}

impl<B: Backend> Drop for Space<B> {
    /// Gives the lanes back, as a program does that ends in order: everything in them is finished. Says what is still mapped.
    fn drop(&mut self) {
        while let Some(lane) = self.spare.take_any(self.backend()) {
            // Release pairs with the acquire in `claim_lane`.
            self.lane_owner(lane.number).store(0, Ordering::Release);
        }
        self.leave_mapped();
    }
}

/// A lane's head, if its transactions' numbers can have been counted: the next one needs to be higher.
fn sound_head(head: Ptr<'_, LaneHead>) -> Result<Ptr<'_, LaneHead>, Error> {
    let last = memory::load(head.at(LaneHead::done)).max(memory::load(head.at(LaneHead::applied)));
    if last > TRANSACTIONS_MAX / 2 { Err(Error::Damaged) } else { Ok(head) }
}

pub(crate) fn lane_slot(directory: Ptr<'_, Directory>, slot: usize) -> Ptr<'_, LaneSlot> {
    directory.at(Directory::slots).index(slot).expect("slot numbers are below LANES_MAX")
}
