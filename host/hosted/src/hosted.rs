//! The programming model over a store's directory.

use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use twizzler_abi::address::Slot;
use twizzler_abi::call::{CreateSpec, ObjectStat};
use twizzler_abi::id::IdInputs;
use twizzler_abi::object::METADATA_OFFSET;
use twizzler_abi::{Error, ObjId, Rights};
use twizzler_object::backend::{Commit, Sink, TRANSLATION_BYTES, Ticket, Waited};
use twizzler_object::{Backend, Span};
use twizzler_slots::{Area, Reserved, futex};

use crate::background::Background;
use crate::commit;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::extent::{FIRST_BYTES, forget_ahead, pages_of, step_end};
use crate::fork::Birth;
use crate::limits::mapping_error;
use crate::log::{Log, Who};
use crate::mapped::{Mapping, Mappings};
use crate::objects::{self, NEW, OBJECTS, host, new_path_of, path_of};
use crate::options::Mode;
use crate::persistence::Persistence;
use crate::presence::{Presence, number_of};
use crate::process;
use crate::recover::{self, Replayed};
use crate::room::Room;
use crate::segment::Segment;

/// A store's objects: the system that a [`crate::Space`] of the hosted runtime works on.
#[derive(Debug)]
pub struct HostedBackend {
    pub(crate) base: Arc<Base>,
    pub(crate) background: Background,
    pub(crate) mode: Mode,
    pub(crate) mapped: Mappings,
    pub(crate) presence: Presence,
    pub(crate) tables: Mutex<Vec<Area>>,
    pub(crate) birth: Birth,
    pub(crate) unpublished: Unpublished,
    pub(crate) room: Room,
    pub(crate) replayed: Replayed,
    /// How it was left, once it was.
    pub(crate) left: Arc<Mutex<Option<Result<(), StoreError>>>>,
}

/// The part of it that its thread for checkpoints shares.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) disk: Disk,
    pub(crate) segment: Segment,
    pub(crate) owner: u64,
    pub(crate) persistence: Persistence,
}

impl Base {
    pub(crate) const fn who(&self) -> Who<'_> {
        Who { disk: &self.disk, segment: &self.segment, owner: self.owner }
    }

    pub(crate) const fn the_log(&self) -> Option<&Log> {
        match &self.persistence {
            Persistence::Log(log) => Some(log),
            Persistence::Stores { .. } => None,
        }
    }

    /// Lets the log be written over as far as that can be, unless somebody else is at it.
    pub(crate) fn try_checkpoint(&self) {
        if let Some(log) = self.the_log() {
            // Where it fails the store is poisoned, and the next commit says so.
            let _ = log.try_checkpoint(self.who());
        }
    }
}

/// Objects that this process is making, which lie under another name until their transaction has committed.
#[derive(Debug, Default)]
pub(crate) struct Unpublished {
    ids: Mutex<HashSet<ObjId>>,
    len: AtomicUsize,
}

impl Unpublished {
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut HashSet<ObjId>) -> R) -> R {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut ids);
        self.len.store(ids.len(), Ordering::Relaxed);
        result
    }

    fn contains(&self, id: ObjId) -> bool {
        self.len.load(Ordering::Relaxed) != 0
            && self.ids.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }
}

impl HostedBackend {
    /// True after a failed sync: what is on the disk is not known, so nothing more is written. Open the store anew.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.base.segment.is_poisoned()
    }

    /// What recovery found when this process opened the store.
    #[must_use]
    pub const fn replayed(&self) -> Replayed {
        self.replayed
    }

    /// True where commits go through the log: the store is durable through power cuts, on an ordinary disk.
    #[must_use]
    pub fn is_logged(&self) -> bool {
        self.base.the_log().is_some()
    }

    /// Syncs what has been committed and lets the log be written over. Happens by itself when the log is half full.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] after a failed sync: the store is poisoned then.
    pub fn checkpoint(&self) -> Result<(), Error> {
        self.may_write()?;
        self.base.the_log().map_or(Ok(()), |log| log.checkpoint(self.base.who()))
    }

    /// Bytes of the log that a crash at this moment would leave to be read and applied again; 0 without a log.
    #[must_use]
    pub fn log_bytes_in_use(&self) -> u64 {
        self.base.the_log().map_or(0, |_| self.base.segment.shared().log.in_use())
    }

    /// Where the object lies at this moment, for this process.
    pub(crate) fn path(&self, id: ObjId) -> String {
        if self.unpublished.contains(id) { new_path_of(self.base.owner, id) } else { path_of(id) }
    }

    /// Makes an object that gets its name by [`Backend::log`]. Waits while another thread is making the same one.
    pub(crate) fn make_unpublished(
        &self,
        id: ObjId,
        new: &str,
        inputs: &IdInputs,
        fingerprint: u64,
    ) -> Result<ObjId, Error> {
        while !self.unpublished.change(|ids| ids.insert(id)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let made = match host(self.base.disk.exists(&path_of(id))) {
            Ok(true) => Err(Error::Exists),
            Ok(false) => objects::make(&self.base.disk, new, inputs, fingerprint),
            Err(error) => Err(error),
        };
        if made.is_err() {
            self.unpublished.change(|ids| ids.remove(&id));
        }
        made.map(|_| id)
    }

    /// An object that was unpublished has its name.
    pub(crate) fn published(&self, id: ObjId) {
        self.unpublished.change(|ids| ids.remove(&id));
    }

    /// Gives a new object its name at once, durably.
    fn publish_alone(&self, id: ObjId, new: &str, file: &File) -> std::io::Result<()> {
        if self.base.persistence.syncs_names() {
            self.base.disk.sync_file(file, new)?;
            self.base.disk.sync_directory(NEW)?;
        }
        self.base.disk.rename_new(new, &path_of(id))?;
        if self.base.persistence.syncs_names() { self.base.disk.sync_directory(OBJECTS) } else { Ok(()) }
    }

    /// Whoever may only read, and a child that was forked, changes nothing.
    pub(crate) fn may_write(&self) -> Result<(), Error> {
        if self.mode == Mode::Read || self.base.segment.is_poisoned() {
            return Err(Error::ReadOnly);
        }
        self.not_forked()
    }

    /// Notes how large a mapped object is, and tells the host how it is read.
    fn mind_size(&self, id: ObjId, file: &File) {
        let all = self.mapped.set_bytes(id, objects::disk_bytes(file));
        if self.room.becomes_short(all) {
            self.mapped.expect_random();
        } else if self.room.is_short()
            && let Some(mapping) = self.mapped.get(id)
        {
            mapping.expect_random();
        }
    }

    fn map_file(&self, id: ObjId, writable: bool) -> Result<Slot, Error> {
        let file = objects::open(&self.base.disk, &self.path(id), writable)?;
        let memory = Reserved::new(objects::class_of(&file)?).map_err(|error| mapping_error(&error))?;
        memory
            .show_file(&file, writable, self.base.persistence.map_flags())
            .map_err(|error| mapping_error(&error))?;
        if !self.room.is_short() {
            memory.expect(METADATA_OFFSET..FIRST_BYTES);
        }
        let slot = memory.slot();
        self.mapped.add(id, Mapping::new(memory));
        self.mind_size(id, &file);
        Ok(slot)
    }

    /// Finishes what a dead owner has left.
    pub(crate) fn bury(&self, dead: u64) -> Result<(), Error> {
        match self.base.the_log() {
            Some(log) => recover::bury(self.base.who(), log, dead),
            None => {
                host(objects::remove_made_by(&self.base.disk, |owner| owner == dead))?;
                self.base.segment.leave(dead);
                Ok(())
            }
        }
    }

    #[inline]
    fn not_forked(&self) -> Result<(), Error> {
        if self.birth.is_forked() { Err(Error::NotSupported) } else { Ok(()) }
    }
}

// SAFETY: each mapped object has a reserved slot of its own until it is unmapped; a deleted one's slot is kept while the backend
// lives. Tables are mappings of their own. Provenance is exposed where they are made.
unsafe impl Backend for HostedBackend {
    fn create(&self, spec: &CreateSpec) -> Result<ObjId, Error> {
        self.may_write()?;
        let inputs = objects::inputs(spec)?;
        let id = ObjId::derive(&inputs);
        let new = new_path_of(self.base.owner, id);
        if self.base.the_log().is_some() {
            return self.make_unpublished(id, &new, &inputs, spec.fingerprint);
        }
        let file = objects::make(&self.base.disk, &new, &inputs, spec.fingerprint)?;
        let result = host(self.publish_alone(id, &new, &file));
        if result.is_err() {
            // What can't be removed now goes when the store is opened next.
            let _ = self.base.disk.remove(&new);
        }
        result.map(|()| id)
    }

    fn delete(&self, id: ObjId) -> Result<(), Error> {
        // What nobody has seen yet may go even after a failed sync.
        if self.unpublished.contains(id) { self.not_forked() } else { self.may_write() }?;
        let removed = host(self.base.disk.remove(&self.path(id)))?;
        self.unpublished.change(|ids| ids.remove(&id));
        if !removed {
            return Err(Error::NoSuchObject);
        }
        if self.mapped.deleted(id) {
            self.presence.unmapped(id);
        }
        if self.base.persistence.syncs_names() {
            host(self.base.disk.sync_directory(OBJECTS))
        } else {
            Ok(())
        }
    }

    fn stat(&self, id: ObjId) -> Result<ObjectStat, Error> {
        let file = objects::open(&self.base.disk, &self.path(id), false)?;
        let mut stat = objects::stat(&file, id)?;
        if self.mode == Mode::Read {
            stat.default_rights &= !(Rights::WRITE | Rights::DELETE).bits();
        }
        Ok(stat)
    }

    fn map(&self, id: ObjId, rights: Rights) -> Result<Slot, Error> {
        self.not_forked()?;
        self.presence.mapped(id)?;
        let alone = self.base.segment.outlive_dying(self.base.owner, number_of(id));
        let slot = alone.and_then(|()| self.map_file(id, rights.contains(Rights::WRITE)));
        if slot.is_err() && self.mapped.get(id).is_none() {
            self.presence.unmapped(id);
        }
        slot
    }

    unsafe fn unmap(&self, slot: Slot) {
        if let Some(id) = self.mapped.remove(slot) {
            self.presence.unmapped(id);
        }
    }

    fn promote(&self, id: ObjId) -> Result<(), Error> {
        self.may_write()?;
        let path = self.path(id);
        objects::promote(&self.base.disk, &path)?;
        if self.base.persistence.survives_power_cuts() {
            commit::sync_promoted(self.base.who(), &path)?;
        }
        Ok(())
    }

    fn claim(&self, id: ObjId) -> Result<(), Error> {
        self.may_write()?;
        self.presence.be_alone(id)?;
        self.base.segment.set_alone_with(self.base.owner, number_of(id));
        Ok(())
    }

    fn is_sole(&self, id: ObjId) -> bool {
        self.presence.is_sole(id)
    }

    fn share(&self, id: ObjId) {
        self.base.segment.set_alone_with(self.base.owner, 0);
        self.presence.share(id);
    }

    fn ensure(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        if len_bytes == 0 {
            return Ok(());
        }
        let mapping = self.mapped.get(id);
        let object_bytes = match &mapping {
            Some(mapping) => mapping.memory.len_bytes(),
            None => objects::class_of(&objects::open(&self.base.disk, &self.path(id), false)?)?.range_bytes(),
        };
        let wanted = pages_of(offset, len_bytes, object_bytes)?;
        if mapping.as_ref().is_some_and(|mapping| mapping.space.covers(&wanted)) {
            return Ok(());
        }
        self.may_write()?;
        let path = self.path(id);
        let file = objects::open(&self.base.disk, &path, true)?;
        let generous = wanted.start..step_end(wanted.end, object_bytes);
        let allocate =
            |range: &Range<u64>| self.base.disk.allocate(&file, &path, range.start, range.end - range.start);
        let had = match allocate(&generous) {
            Ok(()) => generous,
            Err(_) => {
                host(allocate(&wanted))?;
                wanted
            }
        };
        if let Some(mapping) = mapping {
            let grown = mapping.grown(&file);
            // Nothing is there yet but what the host has read ahead of holes; or else that may be where what is set aside ends.
            let from = if grown >= (had.end - had.start) / 2 { had.start } else { had.end };
            forget_ahead(&file, from, had.end, |offset| mapping.is_in_memory(offset));
            if !self.room.is_short() {
                // Page by page. Where the host's read-ahead makes large pieces of memory of it, each first store to a page after a sync goes through
                // the whole piece (ext4, Linux 6.16 and later): 150 us where a piece is 2 MiB.
                mapping.memory.expect(had.clone());
            }
            mapping.space.add(had);
            self.mind_size(id, &file);
        }
        Ok(())
    }

    fn translation(&self) -> u64 {
        let table = Area::new(TRANSLATION_BYTES as usize).expect("the host has address space for a table");
        let address = table.address();
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).push(table);
        address
    }

    #[inline]
    fn thread(&self) -> u64 {
        twizzler_slots::this_thread()
    }

    fn coordination(&self) -> u64 {
        self.base.segment.coordination()
    }

    #[inline]
    fn may_change(&self) -> Result<(), Error> {
        self.not_forked()
    }

    fn sink(&self) -> Sink {
        if self.base.the_log().is_some() { Sink::Log } else { Sink::Lanes }
    }

    fn log(&self, commit: &Commit<'_>) -> Result<Ticket, Error> {
        self.may_write()?;
        let log = self.base.the_log().ok_or(Error::NotSupported)?;
        commit::log(self.base.who(), log, commit)
    }

    fn durable(&self, end: u64) -> Result<u64, Error> {
        let log = self.base.the_log().ok_or(Error::NotSupported)?;
        log.sync(self.base.who(), end)
    }

    fn publish_created(&self, created: &[ObjId]) -> Result<(), Error> {
        commit::publish(self.base.who(), created)?;
        self.unpublished.change(|ids| {
            created.iter().for_each(|id| {
                ids.remove(id);
            })
        });
        Ok(())
    }

    fn applied(&self, ticket: Ticket) {
        if let Some(log) = self.base.the_log() {
            commit::applied(self.base.who(), ticket);
            if log.is_due(self.base.who()) {
                self.background.checkpoint(&self.base);
            }
        }
    }

    fn sync(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.may_write()?;
        let log = self.base.the_log().ok_or(Error::NotSupported)?;
        let path = self.path(id);
        if path.starts_with(NEW) {
            commit::sync_new(self.base.who(), &path)
        } else {
            commit::sync(self.base.who(), log, id, offset, len_bytes)
        }
    }

    #[inline]
    fn reads_slowly(&self) -> bool {
        self.room.is_short()
    }

    fn expect(&self, address: u64, len_bytes: u64) {
        twizzler_slots::expect(address, len_bytes);
    }

    #[inline]
    unsafe fn flush(&self, address: u64, len_bytes: u64) {
        self.base.persistence.flush(address, len_bytes);
    }

    #[inline]
    unsafe fn stream(&self, to: Span<'_, u64>, words: &[u64]) {
        assert_eq!(to.len(), words.len() as u64, "the caller made the lengths equal");
        // SAFETY: a span's words lie in a mapped object, aligned, and are reached by atomics alone.
        unsafe { self.base.persistence.stream(to.address(), words) };
    }

    #[inline]
    fn fence(&self) {
        self.base.persistence.fence();
    }

    #[inline]
    fn keeps_stores(&self) -> bool {
        self.base.persistence.keeps_stores()
    }

    fn owner(&self) -> u64 {
        self.base.owner
    }

    fn is_alive(&self, owner: u64) -> bool {
        if owner == self.base.owner || self.base.segment.is_alive(owner) {
            return true;
        }
        // As long as it isn't buried, others keep waiting for it.
        self.base.segment.is_listed(owner) && self.bury(owner).is_err()
    }

    fn wait(&self, word: &AtomicU64, value: u64, timeout_ns: u64) -> Waited {
        if futex::wait(word, value, timeout_ns) { Waited::TimedOut } else { Waited::Early }
    }

    fn wake(&self, word: &AtomicU64) {
        futex::wake(word);
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        host(process::random(bytes))
    }
}
