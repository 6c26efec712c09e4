//! Committing by the log.

use std::cell::Cell;
use std::time::Duration;

use twizzler_abi::{Error, ObjId};
use twizzler_object::backend::{Commit, Ticket};
use twizzler_object::journal::{LOG_SEED, Record};

use crate::log::frame::Kind;
use crate::log::shared::{DELETED, MADE};
use crate::log::{Log, Who};
use crate::objects::{self, NEW, OBJECTS, host, new_path_of, path_of};

/// Gives a record its place in the log.
pub(crate) fn log(who: Who<'_>, log: &Log, commit: &Commit<'_>) -> Result<Ticket, Error> {
    let flight = take_off(who);
    let appended = append(who, log, commit, flight);
    if appended.is_err() {
        land(who, flight);
    }
    appended.map(|end| Ticket { number: flight as u64, end })
}

/// The record is in place.
pub(crate) fn applied(who: Who<'_>, ticket: Ticket) {
    land(who, ticket.number as usize);
}

fn take_off(who: Who<'_>) -> usize {
    loop {
        if let Some(flight) = who.segment.shared().log.take_off(who.owner) {
            return flight;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn land(who: Who<'_>, flight: usize) {
    use std::sync::atomic::Ordering::Release;
    let flight = who.segment.shared().log.flight(flight);
    // Release: what was applied comes before. Partner: the acquire in `settled`.
    flight.position.store(0, Release);
    flight.owner.store(0, Release);
}

fn append(who: Who<'_>, log: &Log, commit: &Commit<'_>, flight: usize) -> Result<u64, Error> {
    let record = Record::decode(LOG_SEED, commit.words).ok_or(Error::InvalidArgument)?;
    let shared = &who.segment.shared().log;
    let mark = |position| {
        for &id in commit.created {
            if shared.what(id) & DELETED != 0 {
                // Two lives of one object in the log can't be told apart by what is on the disk.
                return Err(Error::Busy);
            }
            if host(who.disk.exists(&path_of(id)))? {
                return Err(Error::Exists);
            }
            if shared.what(id) & MADE != 0 {
                // Somebody has logged it who has not given it its name yet: whoever is told that it exists wants to open it.
                return Err(Error::Busy);
            }
        }
        let made = commit.created.iter().map(|&id| (id, MADE));
        let deleted = record.deletes().map(|id| (id, DELETED));
        let mut named = false;
        for (id, what) in made.chain(deleted) {
            shared.mark(id, position, what);
            named = true;
        }
        for object in record.objects() {
            shared.mark(object.id, position, 0);
        }
        if named {
            shared.named.store(position + 1, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    };
    loop {
        match log.append(who, Kind::Record, commit.words, mark, Some(flight)) {
            Err(Error::Busy) => {
                log.checkpoint(who)?;
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result.map(|appended| appended.end),
        }
    }
}

/// The objects' own names, after their record is durable: whoever finds one finds it committed.
pub(crate) fn publish(who: Who<'_>, created: &[ObjId]) -> Result<(), Error> {
    for &id in created {
        if who.disk.rename(&new_path_of(who.owner, id), &path_of(id)).is_err() {
            // The record is there, so it will be done by who opens the store next; until then nobody may rely on it.
            return Err(poison(who));
        }
    }
    Ok(())
}

/// Makes a range of an object durable that was written in place, and keeps older records out of it.
pub(crate) fn sync(who: Who<'_>, log: &Log, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
    let is_new = Cell::new(false);
    let look = |_| {
        is_new.set(who.segment.shared().log.may_be_new(id));
        Ok(())
    };
    // Before the record that makes the range reachable, so it is read before that too.
    log.append(who, Kind::Barrier, &[id.hi, id.lo, offset, len_bytes], look, None)?;
    sync_file(who, &path_of(id))?;
    if is_new.get() {
        // Without its name, recovery would make it anew from records, which don't have what was written in place.
        sync_names(who)?;
    }
    Ok(())
}

/// The same for an object that nobody else can reach yet; its name must be found again too.
pub(crate) fn sync_new(who: Who<'_>, path: &str) -> Result<(), Error> {
    sync_file(who, path)?;
    sync_names_in(who, NEW)
}

/// Makes it durable that an object is a large one: also where it was one before, since another process may be about to sync that. And its name, without which
/// recovery would make it anew, as a small one.
pub(crate) fn sync_promoted(who: Who<'_>, path: &str) -> Result<(), Error> {
    sync_file(who, path)?;
    sync_names(who)
}

/// Makes the names of objects durable.
pub(crate) fn sync_names(who: Who<'_>) -> Result<(), Error> {
    sync_names_in(who, OBJECTS)
}

fn sync_names_in(who: Who<'_>, directory: &str) -> Result<(), Error> {
    // Others' names may be lost as well, and the next sync would succeed.
    who.disk.sync_directory(directory).map_err(|_| poison(who))
}

fn sync_file(who: Who<'_>, path: &str) -> Result<(), Error> {
    let file = host(objects::open_for_sync(who.disk, path))?;
    // The host may have dropped other dirty pages of the file as well.
    who.disk.sync_file(&file, path).map_err(|_| poison(who))
}

fn poison(who: Who<'_>) -> Error {
    who.segment.poison();
    Error::ReadOnly
}
