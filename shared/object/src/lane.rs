//! Lanes: where transactions write their records, and how a program comes by one.
//!
//! The *lane directory*, an object of well-known ID, lists the lanes. Each has an owner word; a lane whose owner no longer lives
//! is recovered ([`crate::recover`]) by the next program that attaches. A lane holds, besides one record, the *intents*: objects
//! that its transaction has made and that are to go if it does not commit.
//!
//! | offset from the base | |
//! |---|---|
//! | 0 | [`LaneHead`] |
//! | 64 | intents, 32 bytes each |
//! | 4096 | the record |
//!
//! Order for an owner: the owner word and the generation are durable before the first record, so that a crash finds the lane.
//! Records and intents are checked with the lane's generation, which recovery raises last: what lay there before is then void.

use core::mem::offset_of;

use twizzler_abi::call::{CreateSpec, USUAL_RIGHTS};
use twizzler_abi::id::IdInputs;
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET, Header};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId};

use crate::backend::{Backend, Sink};
use crate::error::OpenError;
use crate::lock::lock_word;
use crate::memory;
use crate::pointer::{Object, Ptr};
use crate::recover::is_damage;
use crate::space::{Access, Space, header_place};
use crate::stored::{Stored, Value};

/// Lanes that there can be: programs that write at the same time.
pub const LANES_MAX: usize = 64;
/// Objects that one transaction can make.
pub const INTENTS_MAX: usize = 126;
/// Offset of the record in a lane.
pub(crate) const RECORD_OFFSET: u64 = BASE_OFFSET + 4096;
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
    /// [`Backend::owner`] of who writes to it; 0: nobody, and nothing is unfinished.
    pub(crate) owner: u64,
    pub(crate) reserved: u64,
}

/// A lane's own state.
#[derive(Stored)]
#[stored(name = "twizzler.lane", version = 1)]
#[repr(C)]
pub(crate) struct LaneHead {
    /// Seeds the checks of record and intents.
    pub(crate) generation: u64,
    /// Last transaction with intents that is known to have committed.
    pub(crate) done: u64,
    /// Last transaction that is known to be in place. Written after fence 2, not flushed: seen after a kill, perhaps not
    /// after a power cut.
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
        let check = crate::journal::checksum(generation, [id.hi, id.lo, transaction].into_iter());
        Self { id, transaction, check }
    }

    /// True if it was written for this generation.
    pub(crate) fn holds(&self, generation: u64) -> bool {
        *self == Self::new(self.id, self.transaction, generation)
    }
}

/// The lane that a program writes to.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) id: ObjId,
    slot: usize,
    pub(crate) generation: u64,
    /// The last transaction's number.
    pub(crate) transaction: u64,
    /// Bytes of the record area known to exist.
    pub(crate) record_bytes: u64,
}

/// What well-known objects are made of.
fn well_known<T: Stored>(nonce: [u8; 16]) -> CreateSpec {
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
    Ok(ObjId::derive(&IdInputs {
        nonce: spec.nonce,
        owner: spec.owner,
        flags: ObjectFlags::checked(spec.flags)?,
        default_rights: twizzler_abi::Rights::granted(spec.default_rights)?,
    }))
}

fn lane_spec(slot: usize) -> CreateSpec {
    let mut nonce = *b"twizzler lane 00";
    nonce[14] += (slot / 10) as u8;
    nonce[15] += (slot % 10) as u8;
    well_known::<LaneHead>(nonce)
}

impl<B: Backend> Space<B> {
    /// See [`crate::Guard::well_known`].
    pub(crate) fn well_known_typed<T: Stored>(&self, nonce: [u8; 16]) -> Result<Object<'_, T>, Error> {
        self.open_well_known(&well_known::<T>(nonce))
    }

    /// Opens the object that `spec` makes.
    fn open_well_known<T: Stored>(&self, spec: &CreateSpec) -> Result<Object<'_, T>, Error> {
        let id = id_of(spec)?;
        if self.backend().sink() == Sink::Log {
            return self.open_well_known_by_log(spec, id);
        }
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

    /// The same where objects are made by transactions alone, so that one that is there is whole. Who may only read opens it for that.
    fn open_well_known_by_log<T: Stored>(
        &self,
        spec: &CreateSpec,
        id: ObjId,
    ) -> Result<Object<'_, T>, Error> {
        loop {
            match self.open_typed(id, Access::Write) {
                Err(OpenError::System(Error::NoSuchObject)) => {}
                Err(OpenError::System(Error::AccessDenied)) => return Ok(self.open_typed(id, Access::Read)?),
                result => return Ok(result?),
            }
            let made = self.enter().transact_once(|tx| {
                let area = tx.create_as(spec, size_of::<T>() as u64)?;
                tx.name_base::<T>(area)
            });
            match made {
                // Somebody else was faster.
                Ok(()) | Err(Error::Exists) => {}
                Err(error) => return Err(error),
            }
        }
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

    /// Runs `inside` while no other program attaches, claims or recovers. A dead holder's lock is simply taken: all of that may
    /// be done again.
    pub(crate) fn with_directory<R>(
        &self,
        inside: impl FnOnce(Ptr<'_, Directory>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let directory = self.lane_directory()?;
        let word = lock_word(directory.area());
        self.take(word, || Ok(()))?;
        let result = inside(directory.base());
        self.leave(word);
        result
    }

    /// Makes sure that the program has a lane.
    pub(crate) fn claim_lane(&self) -> Result<(), Error> {
        if self.lane.lock(self.backend()).is_some() {
            return Ok(());
        }
        let (slot, id) = self.with_directory(|directory| {
            let (slot, id, head) = self.free_lane(directory)?;
            // What lies in the lane is finished, so it is made void, in whichever order the two words reach media. Both are
            // durable before the first record: a record of a generation that is lost would become valid when recovery raises
            // the old one.
            let generation = memory::load(head.at(LaneHead::generation)).wrapping_add(1);
            self.store_flushed(head.at(LaneHead::generation), &generation);
            self.store_durably(lane_slot(directory, slot).at(LaneSlot::owner), &self.owner);
            Ok((slot, id))
        })?;
        let head = self.open_lane(id)?;
        self.backend().ensure(id, BASE_OFFSET, 4096 + RECORD_START_BYTES)?;
        *self.lane.lock(self.backend()) = Some(Lane {
            id,
            slot,
            generation: memory::load(head.at(LaneHead::generation)),
            transaction: memory::load(head.at(LaneHead::done)).max(memory::load(head.at(LaneHead::applied))),
            record_bytes: RECORD_START_BYTES,
        });
        Ok(())
    }

    /// A lane that nobody owns: its slot, ID and head. One that can't be opened is left alone.
    fn free_lane<'s>(
        &'s self,
        directory: Ptr<'_, Directory>,
    ) -> Result<(usize, ObjId, Ptr<'s, LaneHead>), Error> {
        let len = (memory::load(directory.at(Directory::len)) as usize).min(LANES_MAX);
        for slot in 0..LANES_MAX {
            if slot >= len {
                match self.add_lane(directory, slot) {
                    Err(error) if is_damage(error) => continue,
                    result => result?,
                }
            }
            let LaneSlot { lane, owner, .. } = memory::load(lane_slot(directory, slot));
            if owner != 0 {
                continue;
            }
            match self.open_lane(lane).and_then(sound_head) {
                Ok(head) => return Ok((slot, lane, head)),
                Err(error) if is_damage(error) => self.note(|found| found.damaged += 1),
                Err(error) => return Err(error),
            }
        }
        Err(Error::TooMany)
    }

    /// Makes lane number `slot` and lists it.
    fn add_lane(&self, directory: Ptr<'_, Directory>, slot: usize) -> Result<(), Error> {
        let spec = lane_spec(slot);
        self.open_well_known::<LaneHead>(&spec)?;
        let entry = LaneSlot { lane: id_of(&spec)?, owner: 0, reserved: 0 };
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

    /// Gives the lane back, as a program does that ends in order: everything in it is finished.
    pub(crate) fn leave_lane(&self) {
        let Some(lane) = self.lane.lock(self.backend()).take() else { return };
        if let Ok(directory) = self.lane_directory() {
            // Needs no flush: an owner word that comes back after a power cut makes recovery find nothing to do.
            memory::store(self.backend(), lane_slot(directory.base(), lane.slot).at(LaneSlot::owner), &0);
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
        self.backend().flush(place.address(), size_of::<T>() as u64);
    }
}

impl<B: Backend> Drop for Space<B> {
    fn drop(&mut self) {
        self.leave_lane();
    }
}

/// A lane's head, if its transactions' numbers can have been counted: the next one needs to be higher.
fn sound_head(head: Ptr<'_, LaneHead>) -> Result<Ptr<'_, LaneHead>, Error> {
    let last = memory::load(head.at(LaneHead::done)).max(memory::load(head.at(LaneHead::applied)));
    if last > u64::MAX / 2 { Err(Error::Damaged) } else { Ok(head) }
}

pub(crate) fn lane_slot(directory: Ptr<'_, Directory>, slot: usize) -> Ptr<'_, LaneSlot> {
    directory.at(Directory::slots).index(slot).expect("slot numbers are below LANES_MAX")
}
