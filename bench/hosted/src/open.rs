//! Section `open`: how long it takes until a store answers, after an end in order and after a kill; and what is written to the disk.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use twizzler::{Durability, Error, InvBytes, Options, Store, Stored};

use crate::Context;
use crate::engine::{Engine, Session, Survives, Twizzler};
#[cfg(feature = "peers")]
use crate::engine::{Lmdb, Redb, RocksDb, Sqlite};
use crate::maps::on_disk;
use crate::measure::{percentile, row};
use crate::report::{Contest, Percentile, Unit};

pub(crate) const NOTES_LARGE: [&str; 1] = ["As in the section before."];

pub(crate) const NOTES: [&str; 3] = [
    "The store holds 1,000 entries in a map, and objects of 256 MiB up to its size. *Open* is `Store::open` and the first get, in the same program, with a \
     warm page cache; *nothing in memory*: the host was told to forget the store's files (`POSIX_FADV_DONTNEED`), so that the disk is read. *After a kill*: another program was killed by SIGKILL while it committed; opening replays its log. *With half of the log in use*: the most that is left where checkpoints keep up.",
    "*Space for 8 bytes of their own*: blocks that the file system has given to an object with a base of 8 bytes, which has a page each for metadata, header and \
     base, and to a file of 8 bytes, inodes not counted.",
    "*Written to the disk* is what the kernel counts for this process (`write_bytes` of `/proc/self/io`) over 300 durable puts of 8 + 100 bytes, closing the store included.",
];

/// Asks this program to write into the store that it names, until it is killed.
const WRITE: &str = "TWIZZLER_BENCH_WRITE";
/// Asks this program to fill the log of the store that it names.
const FILL: &str = "TWIZZLER_BENCH_FILL";
/// The size of a store's log where nothing else is said.
const LOG_BYTES: u64 = 64 << 20;

const VALUE_BYTES: usize = 100;
const ENTRIES: u64 = 1000;

/// The base of an object that fills the store.
#[derive(Stored)]
#[stored(name = "bench.filling", version = 1)]
#[repr(C)]
struct Filling {
    bytes: InvBytes,
}

/// Measures.
pub(crate) fn run(context: &Context) -> Result<Vec<Contest>> {
    Ok(vec![opened(context, 1)?, object_space(context)?, written(context)?])
}

/// Measures a store that takes room.
pub(crate) fn run_large(context: &Context) -> Result<Vec<Contest>> {
    Ok(vec![opened(context, 10)?])
}

/// Opening a store of so many GiB.
fn opened(context: &Context, gibibytes: u32) -> Result<Contest> {
    let objects = if context.quick { 1 } else { gibibytes * 4 };
    let folder = context.disk_folder()?;
    let mut engine = Twizzler::<VALUE_BYTES>::open(folder.path(), Survives::PowerCut)?;
    engine.session()?.load(&mut (0..ENTRIES).map(|key| (key, [7; VALUE_BYTES].as_slice())))?;
    for _ in 0..objects {
        fill(engine.store())?;
    }
    let times = if context.quick { 2 } else { 7 };
    let (mut closed, mut cold, mut killed, mut crashed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut replayed_bytes = 0.0;
    for _ in 0..times {
        engine.close()?;
        (engine, _) = timed(folder.path(), &mut closed)?;
        engine.close()?;
        forget(folder.path())?;
        (engine, _) = timed(folder.path(), &mut cold)?;
        engine.close()?;
        kill_a_writer(folder.path())?;
        (engine, _) = timed(folder.path(), &mut killed)?;
    }
    for _ in 0..times.min(3) {
        engine.close()?;
        replayed_bytes = end_with_a_full_log(folder.path())?;
        (engine, _) = timed(folder.path(), &mut crashed)?;
    }
    let size = f64::from(objects) / 4.0;
    let mut contest = Contest {
        title: format!("open a store of {size} GiB and get an entry"),
        unit: Unit::Milliseconds,
        percentile: Percentile::OfOperations,
        reference: "Twizzler, after close".into(),
        rows: vec![
            row("Twizzler, after close", &closed, &closed, percentile(&closed, 0.99), Vec::new()),
            row(
                "Twizzler, after close, nothing in memory",
                &cold,
                &closed,
                percentile(&cold, 0.99),
                Vec::new(),
            ),
            row("Twizzler, after a kill", &killed, &closed, percentile(&killed, 0.99), Vec::new()),
            row(
                "Twizzler, after a crash with half of the log in use",
                &crashed,
                &closed,
                percentile(&crashed, 0.99),
                vec![("MB of log a second".into(), replayed_bytes / 1e3 / percentile(&crashed, 0.5))],
            ),
        ],
        goals: Vec::new(),
        failed: Vec::new(),
    };
    contest.aim("ms after close", contest.rows[0].median, 10.0);
    contest.aim("ms after close, nothing in memory", contest.rows[1].median, 10.0);
    eprintln!("{}", crate::page::brief(&contest));
    drop(engine);
    Ok(contest)
}

/// Has the host forget what it has of the files in a folder.
fn forget(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            forget(&path)?;
        } else {
            let file = std::fs::File::open(&path)?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// Opens and gets; the time of both in milliseconds goes to `times`.
fn timed(folder: &Path, times: &mut Vec<f64>) -> Result<(Twizzler<VALUE_BYTES>, Duration)> {
    let start = Instant::now();
    let engine = Twizzler::open(folder, Survives::PowerCut)?;
    let found = engine.session()?.get(7, &mut Vec::new())?;
    let took = start.elapsed();
    ensure!(found, "an entry is lost");
    times.push(took.as_secs_f64() * 1e3);
    Ok((engine, took))
}

/// Puts another object of 256 MiB into the store.
fn fill(store: &Store) -> Result<(), Error> {
    const PIECE: usize = 1 << 20;
    let space = store.space();
    let id = space.transact(|tx| {
        let object = tx.create::<Filling>()?;
        let bytes = tx.alloc_span::<u8>(object.area(), 250 * PIECE as u64)?;
        tx.link_span(object.base().at(Filling::bytes), bytes)?;
        for at in 0..250 {
            tx.write(bytes, at * PIECE as u64, &vec![at as u8 + 1; PIECE])?;
        }
        Ok::<_, Error>(tx.space().id_of(object.area()))
    })?;
    ensure_there(store, id)
}

fn ensure_there(store: &Store, id: twizzler::ObjId) -> Result<(), Error> {
    store.space().stat(id).map(|_| ())
}

/// Where this program is asked to write, instead of measuring.
pub(crate) fn asked_to_write() -> Option<std::ffi::OsString> {
    std::env::var_os(WRITE)
}

/// Where this program is asked to fill the log.
pub(crate) fn asked_to_fill() -> Option<std::ffi::OsString> {
    std::env::var_os(FILL)
}

/// Commits until nearly half of the log is in use, when a checkpoint would begin; says how much that is, and ends without a word to the store.
///
/// # Errors
/// The store can't be written.
pub(crate) fn fill_the_log(folder: &Path) -> Result<()> {
    const PART: usize = 48;
    let engine = Twizzler::<VALUE_BYTES>::open(folder, Survives::PowerCut)?;
    let mut session = engine.session()?;
    let mut first = 0;
    while engine.store().backend().log_bytes_in_use() < LOG_BYTES * 48 / 100 {
        // The keys of a transaction lie in different nodes, as if each had been put alone, but for fewer waits for the disk.
        let keys = (0..ENTRIES).map(|i| (i * 19 + first) % ENTRIES).take(PART);
        let value = [first as u8; VALUE_BYTES];
        session.load(&mut keys.map(|key| (key, value.as_slice())))?;
        first += 1;
    }
    println!("{}", engine.store().backend().log_bytes_in_use());
    std::process::abort()
}

/// Has another program fill the log; gives how many bytes are to be replayed.
fn end_with_a_full_log(folder: &Path) -> Result<f64> {
    let mut filler = Command::new(std::env::current_exe()?);
    let filler =
        filler.arg("--disk").arg(folder).env(FILL, folder).stdin(Stdio::null()).stderr(Stdio::null());
    let said = String::from_utf8(filler.output().context("can't start a writer")?.stdout)?;
    said.trim().parse().context("a writer could not fill the log")
}

/// Commits until it is killed.
///
/// # Errors
/// The store can't be written.
pub(crate) fn write_until_killed(folder: &Path) -> Result<()> {
    let engine = Twizzler::<VALUE_BYTES>::open(folder, Survives::PowerCut)?;
    let mut session = engine.session()?;
    for i in 0.. {
        session.put(i % ENTRIES, &[i as u8; VALUE_BYTES])?;
    }
    Ok(())
}

/// Starts another program that commits, and kills it in the middle.
fn kill_a_writer(folder: &Path) -> Result<()> {
    let mut writer = Command::new(std::env::current_exe()?);
    let mut writer = writer
        .arg("--disk")
        .arg(folder)
        .env(WRITE, folder)
        .stdin(Stdio::null())
        .spawn()
        .context("can't start a writer")?;
    std::thread::sleep(Duration::from_millis(300));
    ensure!(writer.try_wait()?.is_none(), "the writer ended before it was killed");
    writer.kill()?;
    writer.wait()?;
    Ok(())
}

/// Bytes on the disk for a small object.
fn object_space(context: &Context) -> Result<Contest> {
    const OBJECTS: u32 = 256;
    let folder = context.disk_folder()?;
    let store = Options::new().durability(Durability::ProcessKill).create(folder.path().join("store"))?;
    // What the library needs for itself comes with the first ones.
    let make = || store.transact(|tx| tx.create::<u64>().map(drop));
    make()?;
    let before = on_disk(folder.path())?;
    (0..OBJECTS).try_for_each(|_| make())?;
    let object = (on_disk(folder.path())? - before) as f64 / f64::from(OBJECTS);
    let files = context.disk_folder()?;
    for number in 0..OBJECTS {
        std::fs::write(files.path().join(number.to_string()), [1; 8])?;
    }
    std::fs::File::open(files.path().join("0"))?.sync_all()?;
    let file = on_disk(files.path())? as f64 / f64::from(OBJECTS);
    let rows = [("Twizzler, an object", object), ("a file", file)];
    let contest = Contest {
        title: "space for 8 bytes of their own".into(),
        unit: Unit::Bytes,
        percentile: Percentile::OfRounds,
        reference: "a file".into(),
        rows: rows.iter().map(|&(name, bytes)| row(name, &[bytes], &[file], bytes, Vec::new())).collect(),
        goals: Vec::new(),
        failed: Vec::new(),
    };
    eprintln!("{}", crate::page::brief(&contest));
    Ok(contest)
}

/// Bytes written to the disk for a durable put.
fn written(context: &Context) -> Result<Contest> {
    let folder = context.disk_folder()?;
    let mut bytes = vec![(Twizzler::<VALUE_BYTES>::NAME, amplified::<Twizzler<VALUE_BYTES>>(folder.path())?)];
    #[cfg(feature = "peers")]
    bytes.extend([
        (Lmdb::NAME, amplified::<Lmdb>(folder.path())?),
        (Redb::NAME, amplified::<Redb>(folder.path())?),
        (Sqlite::NAME, amplified::<Sqlite>(folder.path())?),
        (RocksDb::NAME, amplified::<RocksDb>(folder.path())?),
    ]);
    bytes.push(("the entry itself", 108.0));
    let contest = Contest {
        title: "written to the disk for a durable put of 8 + 100 bytes".into(),
        unit: Unit::Bytes,
        percentile: Percentile::OfRounds,
        reference: "the entry itself".into(),
        rows: bytes.iter().map(|&(name, bytes)| row(name, &[bytes], &[108.0], bytes, Vec::new())).collect(),
        goals: Vec::new(),
        failed: Vec::new(),
    };
    eprintln!("{}", crate::page::brief(&contest));
    Ok(contest)
}

fn amplified<E: Engine>(folder: &Path) -> Result<f64> {
    const PUTS: u64 = 300;
    let folder = folder.join(E::NAME.replace([' ', ','], ""));
    std::fs::create_dir(&folder)?;
    let engine = E::open(&folder, Survives::PowerCut)?;
    let load = |byte: u8| -> Result<()> {
        let value = [byte; VALUE_BYTES];
        engine.session()?.load(&mut (0..10_000).map(|key| (key, value.as_slice())))
    };
    load(1)?;
    let before = write_bytes()?;
    let mut session = engine.session()?;
    for i in 0..PUTS {
        session.put(i * 31 % 10_000, &[i as u8; VALUE_BYTES])?;
    }
    drop(session);
    drop(engine);
    Ok((write_bytes()? - before) as f64 / PUTS as f64)
}

/// What this process has caused to be written to disks.
fn write_bytes() -> Result<u64> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.context("no write_bytes in /proc/self/io")?.parse()?)
}
