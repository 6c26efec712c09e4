//! The write-ahead log of a store on an ordinary disk: the file `log`, preallocated, written over and over.
//!
//! A committer copies its record into a ring that all processes share, and waits until that is on the disk. Whoever finds nobody at it
//! writes all that waits, with one durable write: *group commit*, across threads and processes. Only then are records applied to
//! mapped objects, so no byte that isn't committed can be written back by the host.
//!
//! A record is *under way* from its place in the ring until it is in place in the objects (a [`shared::Flight`]). A *checkpoint* syncs the
//! objects that records have changed, and lets the log be written over up to the first one under way.
//!
//! Locks, in this order: checkpoint, writer, append. Each may be inherited from a process that was killed while it held it.

mod checkpoint;
mod direct;
pub(crate) mod frame;
pub(crate) mod header;
mod large;
pub(crate) mod reader;
pub(crate) mod shared;
mod turns;

use std::fs::File;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use rustix::fs::OFlags;
use twizzler_abi::Error;

use crate::disk::Disk;
use crate::objects::host;
use crate::segment::Segment;
use crate::shared_lock::Held;
use frame::{Kind, Place, SECTOR};
use header::{HEADER_BYTES, LogHeader};
use shared::RING_BYTES;
use turns::{Machine, Turn, Writer};

/// The file.
pub(crate) const FILE: &str = "log";

/// One process's hold on the log.
#[derive(Debug)]
pub(crate) struct Log {
    /// For reading, and for what is not written often.
    pub(crate) file: File,
    /// Writes to it are durable when they return.
    durable: File,
    /// Bytes that frames can take.
    pub(crate) data_bytes: u64,
    pub(crate) header: Mutex<LogHeader>,
}

/// A frame that was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Appended {
    pub(crate) position: u64,
    pub(crate) end: u64,
}

/// What a method needs besides the log: the process's place in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'a> {
    pub(crate) disk: &'a Disk,
    pub(crate) segment: &'a Segment,
    pub(crate) owner: u64,
}

impl<'a> Who<'a> {
    /// Takes the append lock, and puts right what a dead holder left.
    pub(crate) fn append(self) -> Held<'a> {
        let shared = &self.segment.shared().log;
        let held = shared.append.lock(self.owner, |owner| self.segment.is_alive(owner));
        if let Some(dead) = held.inherited_from {
            self.repair_append(dead);
        }
        held
    }

    /// A dead holder of the append lock may have claimed the place of a frame without moving the tail beyond it.
    pub(crate) fn repair_append(self, dead: u64) {
        let shared = &self.segment.shared().log;
        let tail = shared.tail.load(Ordering::Relaxed);
        for flight in shared.flights().iter().filter(|flight| flight.owner.load(Ordering::Relaxed) == dead) {
            if flight.position.load(Ordering::Relaxed) > tail {
                flight.position.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Notes where a record lies that is about to be logged. Before the tail moves: one that is logged is never without its flight.
    /// The append lock is held.
    fn depart(self, flight: Option<usize>, position: u64, end: u64) {
        if let Some(flight) = flight {
            let flight = self.segment.shared().log.flight(flight);
            flight.end.store(end, Ordering::Relaxed);
            flight.position.store(position + 1, Ordering::Release);
        }
    }

    /// Takes the checkpoint lock.
    pub(crate) fn checkpoint(self) -> Held<'a> {
        self.segment.shared().log.checkpoint.lock(self.owner, |owner| self.segment.is_alive(owner))
    }
}

impl Machine for Who<'_> {
    fn me(&self) -> u64 {
        self.owner
    }

    fn is_alive(&self, owner: u64) -> bool {
        self.segment.is_alive(owner)
    }

    fn is_over(&self) -> bool {
        self.segment.is_poisoned()
    }
}

/// Makes the file of a log, all zeros, so that writing a record never has to change what the file system knows of it.
pub(crate) fn format(disk: &Disk, uuid: [u8; 16], log_bytes: u64) -> io::Result<()> {
    disk.remove(FILE)?;
    let file = disk.create(FILE)?;
    let zeros = vec![0; 1 << 20];
    let end = HEADER_BYTES + data_bytes(log_bytes);
    disk.allocate(&file, FILE, 0, end)?;
    let mut at = 0;
    while at < end {
        let len = (end - at).min(zeros.len() as u64);
        disk.write_at(&file, FILE, at, &zeros[..len as usize])?;
        at += len;
    }
    let mut header = LogHeader::new(uuid);
    header.write(disk, &file)?;
    header.write(disk, &file)
}

/// Of what was asked for, the part that frames can take.
pub(crate) const fn data_bytes(log_bytes: u64) -> u64 {
    log_bytes / 4096 * 4096
}

impl Log {
    /// Opens the file. The header is read; nothing is shared yet.
    pub(crate) fn open(
        disk: &Disk,
        uuid: [u8; 16],
        log_bytes: u64,
        flags: OFlags,
    ) -> io::Result<Option<Self>> {
        let file = disk.open_file(FILE, flags)?;
        let Some(header) = LogHeader::read(&file, uuid)? else { return Ok(None) };
        // Straight to the disk where that is possible: what is written is not read again, but after a crash.
        let durable = direct::open(disk, flags)?;
        let data_bytes = data_bytes(log_bytes);
        if file.metadata()?.len() < HEADER_BYTES + data_bytes {
            return Ok(None);
        }
        Ok(Some(Self { file, durable, data_bytes, header: Mutex::new(header) }))
    }

    /// Appends a frame. `mark` runs where its position is settled, under the append lock, and may still refuse it.
    pub(crate) fn append(
        &self,
        who: Who<'_>,
        kind: Kind,
        words: &[u64],
        mark: impl Fn(u64) -> Result<(), Error>,
        flight: Option<usize>,
    ) -> Result<Appended, Error> {
        let len = frame::len_bytes(words.len());
        if len > self.data_bytes / 4 {
            return Err(Error::OutOfRange);
        }
        if len > RING_BYTES / 2 {
            return large::append(self, who, kind, words, mark, flight);
        }
        let digest = frame::digest(words);
        let shared = &who.segment.shared().log;
        loop {
            let held = who.append();
            if who.segment.is_poisoned() {
                return Err(Error::ReadOnly);
            }
            if shared.epoch.load(Ordering::Relaxed) == 0 {
                self.begin(who)?;
            }
            let position = shared.tail.load(Ordering::Relaxed);
            let end = position + len;
            let durable = shared.turns.synced();
            // Sectors that are skipped count too.
            if end + SECTOR > durable + RING_BYTES {
                drop(held);
                self.sync(who, position)?;
                continue;
            }
            if end + SECTOR > shared.start.load(Ordering::Acquire) + self.data_bytes {
                drop(held);
                self.checkpoint(who)?;
                continue;
            }
            mark(position)?;
            let place = Place { epoch: shared.epoch.load(Ordering::Relaxed), position, durable };
            let head = frame::head(place, kind, words.len(), digest);
            who.segment.write_ring(position, &head);
            who.segment.write_ring(position + size_of_val(&head) as u64, words);
            who.depart(flight, position, end);
            // From here on the record is logged; not before. Partner: the acquire in `write_batch`.
            shared.tail.store(end, Ordering::Release);
            drop(held);
            return Ok(Appended { position, end });
        }
    }

    /// Begins a new epoch, for the first record since the store was opened: what a lost batch may have left behind the last record that
    /// counts must never become valid. The append lock is held.
    fn begin(&self, who: Who<'_>) -> Result<(), Error> {
        let shared = &who.segment.shared().log;
        let start = shared.tail.load(Ordering::Relaxed);
        let epoch = self.write_header(who, |header| {
            header.epoch += 1;
            header.start = start;
            header.closed = 0;
        })?;
        shared.epoch.store(epoch, Ordering::Relaxed);
        Ok(())
    }

    /// Changes the header, durably; gives the epoch. A failure poisons the store.
    pub(crate) fn write_header(
        &self,
        who: Who<'_>,
        change: impl FnOnce(&mut LogHeader),
    ) -> Result<u64, Error> {
        let mut header = self.header.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Another process may have written it since.
        let uuid = header.uuid();
        *header = host(LogHeader::read(&self.file, uuid))?.ok_or(Error::Damaged)?;
        change(&mut header);
        let epoch = header.epoch;
        header.write(who.disk, &self.file).map_err(|_| {
            who.segment.poison();
            Error::ReadOnly
        })?;
        Ok(epoch)
    }

    /// Returns when all before `end` is on the disk; gives where that ends which is.
    pub(crate) fn sync(&self, who: Who<'_>, end: u64) -> Result<u64, Error> {
        loop {
            match who.segment.shared().log.turns.wait(end, &who) {
                Turn::Over => return Err(Error::ReadOnly),
                Turn::Done(synced) => return Ok(synced),
                Turn::Write(writer) => self.write_batch(who, &writer)?,
            }
        }
    }

    /// Writes all that waits.
    fn write_batch(&self, who: Who<'_>, writer: &Writer<'_, Who<'_>>) -> Result<(), Error> {
        let shared = &who.segment.shared().log;
        let from = shared.turns.synced();
        let held = who.append();
        // The next batch begins with a sector.
        let to = shared.tail.load(Ordering::Acquire).next_multiple_of(SECTOR);
        shared.tail.store(to, Ordering::Release);
        writer.begin(to);
        drop(held);
        let mut at = from;
        while at < to {
            let in_file = at % self.data_bytes;
            let len = (to - at).min(self.data_bytes - in_file).min(RING_BYTES - at % RING_BYTES);
            let bytes = who.segment.ring(at, len);
            if who.disk.write_durably(&self.durable, FILE, HEADER_BYTES + in_file, bytes).is_err() {
                who.segment.poison();
                return Err(Error::ReadOnly);
            }
            at += len;
        }
        writer.done(to);
        Ok(())
    }
}
