//! Recovery: what the first one who opens a store does about those before him, and the living about the dead.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;

use rustix::fs::OFlags;
use twizzler_abi::{Error, ObjId};
use twizzler_object::backend::begin_changes_of_dead;
use twizzler_object::journal::{LOG_SEED, Record};

use crate::apply::{Applier, Syncs};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::log::frame::{Kind, SECTOR};
use crate::log::header::LogHeader;
use crate::log::reader::{Frame, LogReader};
use crate::log::shared::Flight;
use crate::log::{Log, Who};
use crate::objects;
use crate::options::{Mode, Options};
use crate::segment::Segment;
use crate::superblock::Superblock;

/// What recovery found in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Replayed {
    /// Records that were applied again.
    pub records: u64,
    /// Parts of records that made no sense and were left out.
    pub damaged: u32,
    /// Records are missing that had been on the disk: [`crate::Options::salvage`] has given them up.
    pub cut: bool,
}

/// Ranges that were written in place after older records, by object: (position, start, end). Whole objects where they were made.
#[derive(Debug, Default)]
struct Barriers {
    of: HashMap<ObjId, Vec<(u64, u64, u64)>>,
}

impl Barriers {
    fn add(&mut self, id: ObjId, position: u64, start: u64, end: u64) {
        self.of.entry(id).or_default().push((position, start, end));
    }

    /// True if a record at `position` may be applied to that range.
    fn allow(&self, position: u64, id: ObjId, offset: u64, len: u64) -> bool {
        let ranges = self.of.get(&id).map_or(&[][..], |ranges| ranges);
        !ranges.iter().any(|&(at, start, end)| at > position && offset < end && start < offset + len)
    }
}

/// Opens the log of a store that nobody else has open, and brings the objects up to it.
pub(crate) fn open_log(
    disk: &Disk,
    segment: &Segment,
    block: &Superblock,
    options: &Options,
) -> Result<(Log, Replayed), StoreError> {
    let mode = options.mode;
    let (log, anew) = match attach_log(disk, block, mode) {
        Err(StoreError::Damaged { .. }) if options.salvage && mode == Mode::Write => {
            // Its name too: or the old log could be back after a power cut.
            crate::log::format(disk, block.uuid, block.log_bytes)
                .and_then(|()| disk.sync_directory("."))
                .map_err(StoreError::io("making", &disk.path().join(crate::log::FILE)))?;
            (attach_log(disk, block, mode)?, true)
        }
        result => (result?, false),
    };
    let header = *log.header.lock().expect("nobody else has it yet");
    if mode == Mode::Write {
        find_place_for_new(disk, header.closed == 1 || options.salvage)?;
    }
    let (mut replayed, end) = replay(disk, &log, &header, options)?;
    replayed.cut |= anew;
    let shared = &segment.shared().log;
    let begun = header.closed == 0 && (mode == Mode::Write);
    let start = end.next_multiple_of(SECTOR);
    if begun || replayed.records > 0 {
        // COMMIT: the log's records are in place; a new epoch makes sure that nothing behind them ever counts.
        let mut header = log.header.lock().expect("nobody else has it yet");
        header.epoch += 1;
        header.start = start;
        header.closed = 1;
        header
            .write(disk, &log.file)
            .map_err(StoreError::io("writing", &disk.path().join(crate::log::FILE)))?;
    }
    shared.tail.store(start, Ordering::Relaxed);
    shared.start.store(start, Ordering::Relaxed);
    shared.turns.start_at(start);
    Ok((log, replayed))
}

/// Opens the log of a store that others have open.
pub(crate) fn attach_log(disk: &Disk, block: &Superblock, mode: Mode) -> Result<Log, StoreError> {
    let flags = if mode == Mode::Write { OFlags::RDWR } else { OFlags::RDONLY };
    let log = Log::open(disk, block.uuid, block.log_bytes, flags).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => StoreError::Damaged { what: "its file `log` is gone" },
        _ => StoreError::io("opening", &disk.path().join(crate::log::FILE))(error),
    })?;
    log.ok_or(StoreError::Damaged { what: "its log has no sound head" })
}

/// Makes the folder for objects in the making anew, where it is gone and can't have held any that count: the store was closed in order.
pub(crate) fn find_place_for_new(disk: &Disk, may_be_made: bool) -> Result<(), StoreError> {
    let path = disk.path().join(objects::NEW);
    if disk.exists(objects::NEW).map_err(StoreError::io("looking at", &path))? {
        return Ok(());
    }
    if !may_be_made {
        return Err(StoreError::Damaged {
            what: "its folder `new` is gone, and the log may need what was in it",
        });
    }
    disk.make_directory(objects::NEW).map(drop).map_err(StoreError::io("making", &path))
}

/// Reads frames, beyond damage where that is to be given up.
struct Frames<'a> {
    reader: LogReader<'a>,
    disk: &'a Disk,
    /// Where frames go on that had something missing before them.
    gaps: Gaps,
}

/// Places in a log where frames are missing that had been on the disk.
enum Gaps {
    /// They are looked for, and are an error unless they are to be given up.
    Sought { found: Vec<u64>, salvage: bool },
    /// There are no others than these, which have not been passed yet.
    Known(VecDeque<u64>),
}

impl Frames<'_> {
    fn next(&mut self) -> Result<Option<Frame>, StoreError> {
        let unreadable = |error| StoreError::io("reading", &self.disk.path().join(crate::log::FILE))(error);
        loop {
            if let Some(frame) = self.reader.next_frame().map_err(unreadable)? {
                return Ok(Some(frame));
            }
            let gap = match &mut self.gaps {
                Gaps::Known(gaps) => gaps.pop_front(),
                Gaps::Sought { found, salvage } => {
                    let gap = self.reader.gap().map_err(unreadable)?;
                    if gap.is_some() && !*salvage {
                        return Err(StoreError::Damaged {
                            what: "its log is, in the middle: sound records follow",
                        });
                    }
                    found.extend(gap);
                    gap
                }
            };
            let Some(end) = gap else { return Ok(None) };
            self.reader.skip_to(end);
        }
    }
}

/// Applies every record from the log's start on; gives where the log ends.
///
/// Where frames are missing and that is accepted, those that follow are applied all the same: what they changed may be in place already, and must
/// not be older than the rest.
fn replay(
    disk: &Disk,
    log: &Log,
    header: &LogHeader,
    options: &Options,
) -> Result<(Replayed, u64), StoreError> {
    let frames = |gaps| Frames {
        reader: LogReader::new(&log.file, log.data_bytes, header.epoch, header.start),
        disk,
        gaps,
    };
    // First pass: what was written in place, and where.
    let mut barriers = Barriers::default();
    let mut first = frames(if header.closed == 0 {
        Gaps::Sought { found: Vec::new(), salvage: options.salvage }
    } else {
        Gaps::Known(VecDeque::new())
    });
    while let Some(frame) = first.next()? {
        if options.mode == Mode::Read {
            return Err(StoreError::NeedsRecovery);
        }
        match (frame.kind, frame.words.as_slice()) {
            (Kind::Barrier, &[hi, lo, offset, len]) => {
                barriers.add(ObjId { hi, lo }, frame.position, offset, offset.saturating_add(len));
            }
            (Kind::Barrier, _) => {}
            (Kind::Record, words) => {
                for id in made_by(words) {
                    barriers.add(id, frame.position, 0, u64::MAX);
                }
            }
        }
    }
    // Second pass.
    let mut applier = Applier::new(disk, Syncs::Here)?;
    let mut records = 0;
    let gaps = match first.gaps {
        Gaps::Sought { found, .. } => found,
        Gaps::Known(_) => Vec::new(),
    };
    let cut = !gaps.is_empty();
    let mut second = frames(Gaps::Known(gaps.into()));
    while let Some(frame) = second.next()? {
        if frame.kind == Kind::Record {
            let allowed = |id, offset, len| barriers.allow(frame.position, id, offset, len);
            applier.apply(&frame.words, &allowed)?;
            records += 1;
        }
    }
    if records > 0 {
        applier.sync()?;
    }
    Ok((Replayed { records, damaged: applier.damaged, cut }, second.reader.position()))
}

fn made_by(words: &[u64]) -> Vec<ObjId> {
    let specs = Record::decode(LOG_SEED, words).into_iter().flat_map(|record| record.created());
    specs.filter_map(|spec| objects::inputs(&spec).ok()).map(|inputs| ObjId::derive(&inputs)).collect()
}

/// Finishes what a dead owner has logged and not applied, and removes what it was making. Its locks are taken only after that.
pub(crate) fn bury(who: Who<'_>, log: &Log, dead: u64) -> Result<(), Error> {
    let _held = who.checkpoint();
    bury_alone(who, log, dead)
}

/// The same, where the checkpoint lock is held.
pub(crate) fn bury_alone(who: Who<'_>, log: &Log, dead: u64) -> Result<(), Error> {
    if !who.segment.is_listed(dead) {
        return Ok(());
    }
    let shared = &who.segment.shared().log;
    // Its half-made frame, if it died over that, must not pass for somebody's next one.
    if let Some(held) = shared.append.inherit(dead, who.owner) {
        who.repair_append(dead);
        drop(held);
    }
    let mut applier = Applier::new(who.disk, Syncs::Checkpoint)?;
    let of_dead = |flight: &&Flight| flight.owner.load(Ordering::Relaxed) == dead;
    let mut flights: Vec<&Flight> = shared.flights().iter().filter(of_dead).collect();
    // In the log's order: a later one may be based on an earlier one.
    flights.sort_by_key(|flight| flight.position.load(Ordering::Relaxed));
    for flight in flights {
        // Acquire: partner of the release in `append`.
        if let Some(position) = flight.position.load(Ordering::Acquire).checked_sub(1) {
            log.sync(who, flight.end.load(Ordering::Relaxed))?;
            let epoch = shared.epoch.load(Ordering::Relaxed);
            let mut reader = LogReader::new(&log.file, log.data_bytes, epoch, position);
            let frame = objects::host(reader.next_frame())?.ok_or(Error::Damaged)?;
            // What others read without locks changes from here on, until the dead one's locks are released.
            let changed =
                Record::decode(LOG_SEED, &frame.words).into_iter().flat_map(|record| record.objects());
            begin_changes_of_dead(who.segment.coordination_words(), dead, changed.map(|object| object.id));
            applier.apply(&frame.words, &|_, _, _| true)?;
        }
        flight.position.store(0, Ordering::Release);
        flight.owner.store(0, Ordering::Release);
    }
    objects::host(objects::remove_made_by(who.disk, |owner| owner == dead))?;
    who.segment.leave(dead);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn barriers_keep_older_records_out() {
        let mut barriers = Barriers::default();
        let id = ObjId::new(7);
        barriers.add(id, 100, 4096, 8192);
        assert!(!barriers.allow(50, id, 4096, 64));
        assert!(!barriers.allow(50, id, 4090, 64));
        assert!(barriers.allow(50, id, 8192, 64) && barriers.allow(50, id, 4032, 64));
        assert!(barriers.allow(150, id, 4096, 64) && barriers.allow(50, ObjId::new(8), 4096, 64));
    }
}
