//! Checkpoints: letting the log be written over.

use std::io;
use std::sync::atomic::Ordering;

use twizzler_abi::{Error, ObjId};

use crate::log::{Log, Who};
use crate::objects::{self, NEW, OBJECTS, path_of};
use crate::recover;

/// More dirty objects than these are synced with the whole file system, which is one wait instead of many.
const SYNCED_ALONE_MAX: usize = 64;

impl Log {
    /// True if it is time for a checkpoint: half of the log is in use.
    pub(crate) fn is_due(&self, who: Who<'_>) -> bool {
        who.segment.shared().log.in_use() > self.data_bytes / 2
    }

    /// Makes room: syncs what records have changed, and lets the log be written over up to the first record under way. Where somebody
    /// else is at it, waits for him.
    ///
    /// # Errors
    /// After a failed sync the store is poisoned, and the log is kept as it is: it has all that the disk may have lost.
    pub(crate) fn checkpoint(&self, who: Who<'_>) -> Result<(), Error> {
        let shared = &who.segment.shared().log;
        let before = shared.start.load(Ordering::Acquire);
        let _held = who.checkpoint();
        if shared.start.load(Ordering::Acquire) != before {
            return Ok(());
        }
        self.advance(who)
    }

    /// The same, if nobody else is at it.
    pub(crate) fn try_checkpoint(&self, who: Who<'_>) -> Result<(), Error> {
        let shared = &who.segment.shared().log;
        shared.checkpoint.try_lock(who.owner).map_or(Ok(()), |_held| self.advance(who))
    }

    /// The checkpoint lock is held.
    fn advance(&self, who: Who<'_>) -> Result<(), Error> {
        if who.segment.is_poisoned() {
            return Err(Error::ReadOnly);
        }
        let shared = &who.segment.shared().log;
        for dead in who.segment.dead() {
            // What it had under way would keep the log from being written over.
            recover::bury_alone(who, self, dead)?;
        }
        let held = who.append();
        let start = shared.settled();
        let dirty = shared.dirty();
        let overflow = shared.overflow.load(Ordering::Relaxed) != 0;
        let named = shared.named.load(Ordering::Relaxed) != 0;
        drop(held);
        if start == shared.start.load(Ordering::Relaxed) {
            return Ok(());
        }
        // First the objects, then the header that no longer needs their records.
        if sync_objects(who, &dirty, overflow, named).is_err() {
            who.segment.poison();
            return Err(Error::ReadOnly);
        }
        self.write_header(who, |header| header.start = start)?;
        shared.start.store(start, Ordering::Release);
        let _held = who.append();
        shared.clean(start);
        Ok(())
    }

    /// The last one who has the store open leaves it: everything is in place and on the disk, and the header says so.
    pub(crate) fn close(&self, who: Who<'_>) -> Result<(), Error> {
        let shared = &who.segment.shared().log;
        if shared.epoch.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        self.sync(who, shared.tail.load(Ordering::Relaxed))?;
        self.checkpoint(who)?;
        let end = shared.tail.load(Ordering::Relaxed);
        if shared.settled() == end && shared.start.load(Ordering::Relaxed) == end {
            self.write_header(who, |header| header.closed = 1)?;
        }
        Ok(())
    }
}

fn sync_objects(who: Who<'_>, dirty: &[ObjId], overflow: bool, named: bool) -> io::Result<()> {
    if overflow || dirty.len() > SYNCED_ALONE_MAX {
        return who.disk.sync_all();
    }
    for &id in dirty {
        let path = path_of(id);
        match objects::open_for_sync(who.disk, &path) {
            // Deleted since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // No file can be had, or it is one that another user alone may write. Nothing was lost: what is to be synced is, by what needs no file.
            Err(_) => return who.disk.sync_all(),
            Ok(file) => who.disk.sync_file(&file, &path)?,
        }
    }
    if named {
        who.disk.sync_directory(OBJECTS)?;
        who.disk.sync_directory(NEW)?;
    }
    Ok(())
}
