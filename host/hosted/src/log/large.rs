//! Frames that are too large for the ring: written to the file at once, while nobody else writes or appends.

use std::sync::atomic::Ordering;

use twizzler_abi::Error;

use crate::log::frame::{self, Kind, Place, SECTOR};
use crate::log::header::HEADER_BYTES;
use crate::log::{Appended, FILE, Log, Who};

/// As [`Log::append`]. When it returns, the frame is on the disk.
pub(super) fn append(
    log: &Log,
    who: Who<'_>,
    kind: Kind,
    words: &[u64],
    mark: impl Fn(u64) -> Result<(), Error>,
    flight: Option<usize>,
) -> Result<Appended, Error> {
    let shared = &who.segment.shared().log;
    let digest = frame::digest(words);
    loop {
        let writing = shared.turns.write(&who).ok_or(Error::ReadOnly)?;
        log.write_batch(who, &writing)?;
        let held = who.append();
        if who.segment.is_poisoned() {
            return Err(Error::ReadOnly);
        }
        if shared.epoch.load(Ordering::Relaxed) == 0 {
            log.begin(who)?;
        }
        let position = shared.tail.load(Ordering::Relaxed);
        if position != shared.turns.synced() {
            // Somebody was faster.
            continue;
        }
        let end = position + frame::len_bytes(words.len());
        if end + SECTOR > shared.start.load(Ordering::Acquire) + log.data_bytes {
            drop(held);
            drop(writing);
            log.checkpoint(who)?;
            continue;
        }
        mark(position)?;
        let place = Place { epoch: shared.epoch.load(Ordering::Relaxed), position, durable: position };
        let head = frame::head(place, kind, words.len(), digest);
        let bytes: Vec<u8> = head.iter().chain(words).flat_map(|word| word.to_le_bytes()).collect();
        if write(log, who, position, &bytes).is_err() {
            who.segment.poison();
            return Err(Error::ReadOnly);
        }
        who.depart(flight, position, end);
        let next = end.next_multiple_of(SECTOR);
        shared.tail.store(next, Ordering::Release);
        writing.done(next);
        return Ok(Appended { position, end });
    }
}

fn write(log: &Log, who: Who<'_>, position: u64, bytes: &[u8]) -> std::io::Result<()> {
    let in_file = position % log.data_bytes;
    let (first, second) = bytes.split_at(bytes.len().min((log.data_bytes - in_file) as usize));
    who.disk.write_at(&log.file, FILE, HEADER_BYTES + in_file, first)?;
    if !second.is_empty() {
        who.disk.write_at(&log.file, FILE, HEADER_BYTES, second)?;
    }
    who.disk.sync_file(&log.file, FILE)
}
