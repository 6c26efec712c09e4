//! Section `maps`: what the operations of a map cost, without the disk.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::Context;
use crate::clock::Stopwatch;
use crate::engine::{Engine, Hash, Session, Survives, Tree, Twizzler, TwizzlerHash};
#[cfg(feature = "peers")]
use crate::engine::{Lmdb, Redb, RocksDb, Sqlite};
#[cfg(pmem_maps)]
use crate::engine::{PmemHash, PmemTree};
use crate::measure::{Contender, Effort, Tail, Warm, compete, row};
use crate::race::{Course, Racer, race, threads};
use crate::report::{Contest, Percentile, Unit};

pub(crate) const NOTES_LARGE: [&str; 1] = [
    "As in the section about maps, with 20,000,000 entries. The stores lie on the disk (those in persistent memory on tmpfs), and fit into the page cache one at a time. What the host \
     has written back or forgotten of a store while others ran makes its first operations slow: so everybody works for 0.7 s before each round that is measured. An object of over 1 GiB is a large one.",
];

pub(crate) const NOTES: [&str; 2] = [
    "Keys of 8 bytes, values of 8 or 100. Every store lies in memory (tmpfs) and survives a killed process, not a power cut, so that the disk does \
     not hide what the operations themselves cost; for durable ones see the section before. Every get, update and delete is a transaction of its own. Times of one thread \
     are processor times. The volatile maps are the limit: std's, behind a `RwLock`, with values in \
     their nodes as ours have them, and our hash function, which is fast and seeded.",
    "*In persistent memory* is against the maps that libpmemobj's package has as examples (where it has been installed with them): a B-tree, and a hash table that was \
     told of a million entries in advance. All files lie on tmpfs, and everybody flushes and fences as for persistent memory. Those maps leave locking \
     to their users: here, a lock around each operation.",
];

/// An operation of a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Get,
    Update,
    DeleteAndInsert,
    Scan,
}

/// Entries of a scan.
const SCANNED: usize = 100;

/// Measures.
pub(crate) fn run(context: &Context) -> Result<Vec<Contest>> {
    let entries = if context.quick { 20_000 } else { 1_000_000 };
    let mut contests = Vec::new();
    of_value::<8>(context, entries, &mut contests)?;
    of_value::<100>(context, entries, &mut contests)?;
    in_persistent_memory::<8>(context, entries, &mut contests)?;
    in_persistent_memory::<100>(context, entries, &mut contests)?;
    Ok(contests)
}

/// Measures maps of which not all fit into memory at the same time.
pub(crate) fn run_large<const N: usize>(context: &Context) -> Result<Vec<Contest>> {
    let mut contests = Vec::new();
    of_value::<N>(context, many(context), &mut contests)?;
    Ok(contests)
}

/// The same in persistent memory.
pub(crate) fn run_large_pmem(context: &Context) -> Result<Vec<Contest>> {
    let mut contests = Vec::new();
    in_persistent_memory::<8>(context, many(context), &mut contests)?;
    Ok(contests)
}

const fn many(context: &Context) -> u64 {
    if context.quick { 2 * IN_MEMORY_MAX } else { 20_000_000 }
}

/// Entries beyond which a contest's stores don't all fit into memory.
const IN_MEMORY_MAX: u64 = 1_000_000;

/// For stores on the disk: what of one the host has written back, or forgotten, while others ran is in place again before it is measured.
fn warm(context: &Context) -> Duration {
    Duration::from_millis(if context.quick { 20 } else { 700 })
}

/// Against the maps of libpmemobj.
fn in_persistent_memory<const N: usize>(
    context: &Context,
    entries: u64,
    contests: &mut Vec<Contest>,
) -> Result<()> {
    let folder = context.memory_folder()?;
    let survives = Survives::PersistentMemory;
    let mut loads = Vec::new();
    let tree: Tree<N> = load::<_, N>(folder.path(), survives, entries, &mut loads)?;
    let ours: Twizzler<N> = load::<_, N>(folder.path(), survives, entries, &mut loads)?;
    let hashed: TwizzlerHash<N> = load::<_, N>(folder.path(), survives, entries, &mut loads)?;
    #[cfg(pmem_maps)]
    let (btree, table): (PmemTree<N>, PmemHash<N>) = (
        load::<_, N>(folder.path(), survives, entries, &mut loads)?,
        load::<_, N>(folder.path(), survives, entries, &mut loads)?,
    );
    let about = format!("in persistent memory, {entries} entries, values of {N} bytes");
    contests.push(once(format!("load, {about}"), Unit::Nanoseconds, &loads, |load| load.ns));
    let operations = [
        (Operation::Get, "get"),
        (Operation::Update, "update"),
        (Operation::DeleteAndInsert, "delete and insert again"),
    ];
    for (operation, name) in operations {
        #[cfg_attr(not(pmem_maps), expect(unused_mut, reason = "peers are added"))]
        let mut contenders = vec![
            contender::<_, N>(&tree, operation, entries),
            contender::<_, N>(&ours, operation, entries),
            contender::<_, N>(&hashed, operation, entries),
        ];
        #[cfg(pmem_maps)]
        contenders.extend([
            contender::<_, N>(&btree, operation, entries),
            contender::<_, N>(&table, operation, entries),
        ]);
        let title = format!("{name}, {about}");
        let mut contest =
            compete(title, Tree::<N>::NAME, effort(context), Tail::OfOperations(300), contenders);
        for (ours, peer) in [
            (Twizzler::<N>::NAME, "libpmemobj, btree_map"),
            (TwizzlerHash::<N>::NAME, "libpmemobj, hashmap_tx"),
        ] {
            let medians = (contest.row(ours).map(|row| row.median), contest.row(peer).map(|row| row.median));
            if let (Some(ours_ns), Some(peer_ns)) = medians {
                contest.aim(format!("{ours}, of {peer}'s time"), ours_ns / peer_ns, 1.0);
            }
        }
        contests.push(contest);
    }
    Ok(())
}

fn effort(context: &Context) -> Effort {
    let effort = Effort { round: Duration::from_millis(2), ..context.effort() };
    Effort { rounds: effort.rounds.min(31), ..effort }
}

fn of_value<const N: usize>(context: &Context, entries: u64, contests: &mut Vec<Contest>) -> Result<()> {
    let folder = if entries > IN_MEMORY_MAX { context.disk_folder()? } else { context.memory_folder()? };
    let survives = Survives::ProcessKill;
    let mut loads = Vec::new();
    let tree: Tree<N> = load::<_, N>(folder.path(), survives, entries, &mut loads)?;
    let hash: Hash<N> = load::<_, N>(folder.path(), survives, entries, &mut loads)?;
    let ours: Twizzler<N> = load::<_, N>(folder.path(), survives, entries, &mut loads)?;
    let hashed: TwizzlerHash<N> = load::<_, N>(folder.path(), survives, entries, &mut loads)?;
    #[cfg(feature = "peers")]
    let (lmdb, redb, sqlite, rocks): (Lmdb, Redb, Sqlite, RocksDb) = (
        load::<_, N>(folder.path(), survives, entries, &mut loads)?,
        load::<_, N>(folder.path(), survives, entries, &mut loads)?,
        load::<_, N>(folder.path(), survives, entries, &mut loads)?,
        load::<_, N>(folder.path(), survives, entries, &mut loads)?,
    );
    let (effort, course) = if entries > IN_MEMORY_MAX {
        let (rounds, warm) = (if context.quick { 1 } else { 5 }, warm(context));
        let time = Duration::from_millis(100);
        (Effort { rounds, round: time, warm: Warm::For(warm) }, Course { rounds, time, warm })
    } else {
        let course = Course::of(context.quick);
        (effort(context), Course { time: course.time / 2, ..course })
    };
    let about = format!("{entries} entries, values of {N} bytes");
    contests.push(once(format!("load, {about}"), Unit::Nanoseconds, &loads, |load| load.ns));
    let stored: Vec<Loaded> = loads.into_iter().filter(|load| load.bytes > 0.0).collect();
    contests.push(once(
        format!("space for an entry beyond that of the empty store, {about}"),
        Unit::Bytes,
        &stored,
        |load| load.bytes,
    ));
    let operations = [
        (Operation::Get, "get"),
        (Operation::Update, "update"),
        (Operation::DeleteAndInsert, "delete and insert again"),
        (Operation::Scan, "scan of 100 entries"),
    ];
    for (operation, name) in operations {
        let mut contenders = vec![contender::<_, N>(&tree, operation, entries)];
        if operation != Operation::Scan {
            contenders.push(contender::<_, N>(&hash, operation, entries));
        }
        contenders.push(contender::<_, N>(&ours, operation, entries));
        if operation != Operation::Scan {
            contenders.push(contender::<_, N>(&hashed, operation, entries));
        }
        #[cfg(feature = "peers")]
        contenders.extend([
            contender::<_, N>(&lmdb, operation, entries),
            contender::<_, N>(&redb, operation, entries),
            contender::<_, N>(&sqlite, operation, entries),
            contender::<_, N>(&rocks, operation, entries),
        ]);
        let title = format!("{name}, {about}");
        let mut contest = compete(title, Tree::<N>::NAME, effort, Tail::OfOperations(300), contenders);
        if operation == Operation::Get {
            let ratio = contest.row(Twizzler::<N>::NAME).map_or(f64::NAN, |row| row.ratio);
            contest.aim("of BTreeMap's time", ratio, 1.5);
            let median = |name| contest.row(name).map_or(f64::NAN, |row| row.median);
            let ratio = median(TwizzlerHash::<N>::NAME) / median(Hash::<N>::NAME);
            contest.aim("the hash map, of HashMap's time", ratio, 1.5);
        }
        if matches!(operation, Operation::Update | Operation::DeleteAndInsert) {
            ahead_of_peers::<N>(&mut contest);
        }
        contests.push(contest);
    }
    for (operation, name) in operations {
        let mut racers =
            vec![racer::<_, N>(&tree, operation, entries), racer::<_, N>(&ours, operation, entries)];
        if operation != Operation::Scan {
            racers.push(racer::<_, N>(&hash, operation, entries));
            racers.push(racer::<_, N>(&hashed, operation, entries));
        }
        #[cfg(feature = "peers")]
        racers.extend([
            racer::<_, N>(&lmdb, operation, entries),
            racer::<_, N>(&redb, operation, entries),
            racer::<_, N>(&sqlite, operation, entries),
            racer::<_, N>(&rocks, operation, entries),
        ]);
        contests.push(race(format!("{name}, 2 threads, {about}"), Tree::<N>::NAME, course, racers)?);
    }
    Ok(())
}

/// With the target: ahead of every peer.
fn ahead_of_peers<const N: usize>(contest: &mut Contest) {
    let names = [Tree::<N>::NAME, Hash::<N>::NAME, Twizzler::<N>::NAME, TwizzlerHash::<N>::NAME];
    let peers = contest.rows.iter().filter(|row| !names.contains(&row.name.as_str()));
    let Some(best) = peers.map(|row| row.median).reduce(f64::min) else { return };
    for name in [Twizzler::<N>::NAME, TwizzlerHash::<N>::NAME] {
        let ours = contest.row(name).map_or(f64::NAN, |row| row.median);
        contest.aim(format!("{name}, of the best peer's time"), ours / best, 1.0);
    }
}

/// Keys are spread over all numbers, in no order.
fn key(i: u64) -> u64 {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1
}

/// Loads a store in the order of keys; notes for how long, for one entry.
fn load<E: Engine, const N: usize>(
    folder: &Path,
    survives: Survives,
    entries: u64,
    loads: &mut Vec<Loaded>,
) -> Result<E> {
    let folder = folder.join(E::NAME.replace([' ', ','], ""));
    std::fs::create_dir(&folder)?;
    let mut engine = E::open(&folder, survives).with_context(|| format!("can't open {}", E::NAME))?;
    if entries > IN_MEMORY_MAX {
        engine.grow()?;
    }
    let mut keys: Vec<u64> = (0..entries).map(key).collect();
    keys.sort_unstable();
    let before = on_disk(&folder)?;
    let start = Instant::now();
    engine.session()?.load(&mut keys.iter().map(|&key| (key, [7; N].as_slice())))?;
    let ns = start.elapsed().as_nanos() as f64 / entries as f64;
    let bytes = (on_disk(&folder)? - before) as f64 / entries as f64;
    loads.push(Loaded { name: E::NAME, ns, bytes });
    Ok(engine)
}

/// What a load took.
struct Loaded {
    name: &'static str,
    /// For one entry.
    ns: f64,
    /// On the disk, for one entry.
    bytes: f64,
}

/// Bytes that a folder's files take on the disk.
pub(crate) fn on_disk(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { on_disk(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// Loads happen once.
fn once(title: String, unit: Unit, loads: &[Loaded], figure: fn(&Loaded) -> f64) -> Contest {
    let reference = [figure(&loads[0])];
    let contest = Contest {
        title,
        unit,
        percentile: Percentile::OfRounds,
        reference: loads[0].name.to_owned(),
        rows: loads
            .iter()
            .map(|load| row(load.name, &[figure(load)], &reference, figure(load), Vec::new()))
            .collect(),
        goals: Vec::new(),
        failed: Vec::new(),
    };
    eprintln!("{}", crate::page::brief(&contest));
    contest
}

/// Does the operation once, on a key that `random` says: one of the first `entries`, or of the `half`th as many.
fn work<const N: usize>(
    session: &mut impl Session,
    operation: Operation,
    entries: u64,
    half: u64,
    random: &mut StdRng,
    value: &mut Vec<u8>,
) -> Result<()> {
    let key = key(half * entries + random.random_range(0..entries));
    match operation {
        Operation::Get => anyhow::ensure!(session.get(key, value)? && value.len() == N, "an entry is lost"),
        // Never what is there: SQLite would write nothing then.
        Operation::Update => session.put(key, &[random.random(); N])?,
        Operation::DeleteAndInsert => {
            anyhow::ensure!(session.delete(key)?, "an entry is lost");
            session.put(key, &[7; N])?;
        }
        Operation::Scan => {
            std::hint::black_box(session.scan(key, SCANNED, value)?);
        }
    }
    Ok(())
}

fn contender<E: Engine, const N: usize>(engine: &E, operation: Operation, entries: u64) -> Contender<'_> {
    let mut random = StdRng::seed_from_u64(23);
    let mut value = Vec::new();
    let mut session = engine.session().expect("the store is open");
    Contender::new(E::NAME, move |number| {
        let clock = Stopwatch::start();
        for _ in 0..number {
            work::<N>(&mut session, operation, entries, 0, &mut random, &mut value)
                .unwrap_or_else(|error| panic!("{}: {error:#}", E::NAME));
        }
        clock.elapsed()
    })
}

fn racer<E: Engine, const N: usize>(engine: &E, operation: Operation, entries: u64) -> Racer<'_> {
    Racer::new(E::NAME, move |time| {
        threads(
            2,
            time,
            || Ok((engine.session()?, StdRng::from_os_rng(), Vec::new())),
            |(session, random, value), thread, _| {
                // Each has half of the keys: what one of them has just deleted, the other one must not miss.
                work::<N>(session, operation, entries / 2, thread as u64, random, value)
            },
        )
    })
}
