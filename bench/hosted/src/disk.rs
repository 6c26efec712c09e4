//! Section `disk`: durable commits on an ordinary disk, many writers at once.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};

use crate::Context;
use crate::engine::{Engine, Session, Survives, Twizzler};
#[cfg(feature = "peers")]
use crate::engine::{Lmdb, Redb, RocksDb, Sqlite};
use crate::race::{Course, Racer, race, threads};
use crate::report::Contest;

pub(crate) const NOTES: [&str; 1] = [
    "Each writer puts an entry of 8 + 100 bytes and waits until the disk has it. *Disjoint*: each writer has keys of its own; *contended*: all \
     change the same entry. *pwrite + fdatasync*: each writer writes 128 bytes of its own into one preallocated file and syncs it. p99 is of one commit, in microseconds.",
];

const VALUE: [u8; 100] = [7; 100];
/// Keys of one writer.
const KEYS: u64 = 1000;
const BARE: &str = "pwrite + fdatasync";

/// Which entries writers change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Keys {
    Disjoint,
    Contended,
}

/// Measures.
pub(crate) fn run(context: &Context) -> Result<Vec<Contest>> {
    let folder = context.disk_folder()?;
    let file = Bare::new(folder.path())?;
    let ours: Twizzler<100> = open(folder.path())?;
    #[cfg(feature = "peers")]
    let (lmdb, redb, sqlite, rocks): (Lmdb, Redb, Sqlite, RocksDb) =
        (open(folder.path())?, open(folder.path())?, open(folder.path())?, open(folder.path())?);
    let mut contests = Vec::new();
    for (keys, name) in [(Keys::Disjoint, "disjoint keys"), (Keys::Contended, "the same key")] {
        for writers in [1, 4, 16, 64] {
            #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "peers are added"))]
            let mut racers = vec![
                Racer::new(BARE, |time| {
                    threads(writers, time, || Ok(()), |(), thread, _| file.commit(thread))
                }),
                racer(&ours, writers, keys),
            ];
            #[cfg(feature = "peers")]
            racers.extend([
                racer(&lmdb, writers, keys),
                racer(&redb, writers, keys),
                racer(&sqlite, writers, keys),
                racer(&rocks, writers, keys),
            ]);
            let title =
                if writers == 1 { format!("1 writer, {name}") } else { format!("{writers} writers, {name}") };
            let mut contest = race(title, BARE, course(context, writers), racers)?;
            aim(&mut contest, writers);
            contests.push(contest);
        }
    }
    Ok(contests)
}

/// One writer alone gets little done in a round.
fn course(context: &Context, writers: usize) -> Course {
    let course = Course::of(context.quick);
    if writers == 1 && !context.quick { Course { time: course.time * 3, ..course } } else { course }
}

/// The targets of the design, section 13. Compared by the rounds' ratios, as the disk's own speed comes and goes.
fn aim(contest: &mut Contest, writers: usize) {
    let Some(ours) = contest.row(Twizzler::<100>::NAME).map(|row| row.ratio) else { return };
    if writers == 1 {
        contest.aim("of bare pwrite + fdatasync's time", 1.0 / ours, 1.1);
    }
    let peers = contest.rows.iter().filter(|row| row.name != BARE && row.name != Twizzler::<100>::NAME);
    if let Some(best) = peers.map(|row| row.ratio).reduce(f64::max) {
        let limit = if writers > 1 { 1.0 / 0.8 } else { 1.0 };
        contest.aim("of the best peer's time", best / ours, limit);
    }
}

fn open<E: Engine>(folder: &Path) -> Result<E> {
    let folder = folder.join(E::NAME.replace([' ', ','], ""));
    std::fs::create_dir(&folder)?;
    let engine = E::open(&folder, Survives::PowerCut).with_context(|| format!("can't open {}", E::NAME))?;
    // What is measured is changes of entries that are there.
    engine.session()?.load(&mut (0..64 * KEYS).map(|key| (key, VALUE.as_slice())))?;
    Ok(engine)
}

/// A value that never was there before: SQLite writes nothing for one that is.
fn value(number: u64) -> [u8; 100] {
    let mut value = VALUE;
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

fn racer<E: Engine>(engine: &E, writers: usize, keys: Keys) -> Racer<'_> {
    static CHANGES: AtomicU64 = AtomicU64::new(1);
    let changes = &CHANGES;
    Racer::new(E::NAME, move |time| {
        threads(
            writers,
            time,
            || engine.session(),
            |session, thread, i| {
                let key = match keys {
                    Keys::Disjoint => thread as u64 * KEYS + i % KEYS,
                    Keys::Contended => 7,
                };
                session.put(key, &value(changes.fetch_add(1, Ordering::Relaxed)))
            },
        )
    })
}

/// A preallocated file.
struct Bare(File);

impl Bare {
    fn new(folder: &Path) -> Result<Self> {
        let file = File::create_new(folder.join("bare"))?;
        file.write_all_at(&vec![0; 1 << 20], 0)?;
        file.sync_all()?;
        Ok(Self(file))
    }

    fn commit(&self, thread: usize) -> Result<()> {
        self.0.write_all_at(&[7; 128], thread as u64 * 4096)?;
        Ok(self.0.sync_data()?)
    }
}
