//! Section `limit`: maps larger than the memory that their process may use.
//!
//! Each engine works in a process of its own, in a memory cgroup of its own; the processes are told when it is their turn.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::Context;
use crate::engine::{Engine, Session, Survives, Twizzler};
#[cfg(feature = "peers")]
use crate::engine::{Lmdb, Redb, RocksDb, Sqlite};
use crate::measure::percentile;
use crate::race::{Course, Laps, Racer, race, threads};
use crate::report::Contest;

pub(crate) const NOTES: [&str; 1] = [
    "A map of 1,000,000 entries of 8 + 100 bytes in a process that may use 48 MiB, what the kernel caches of its files included (a memory cgroup). One thread, random keys; the \
     store survives a killed process. Where memory is short, the disk's reads are what is measured.",
];

const LIMIT_BYTES: u64 = 48 << 20;
const VALUE_BYTES: usize = 100;
/// Asks this program to be one of the engines: its name.
const BE: &str = "TWIZZLER_BENCH_LIMITED";

/// What a worker is told, and what it answers.
#[derive(Serialize, Deserialize)]
struct Turn {
    work: Work,
    ms: u64,
}

/// An operation.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Work {
    Get,
    Update,
    Scan,
}

/// Entries of a scan: a hundredth of the map.
const SCANNED: usize = 10_000;

#[derive(Serialize, Deserialize)]
struct Done {
    operations: u64,
    ms: f64,
    p99_ns: f64,
}

/// Measures.
pub(crate) fn run(context: &Context) -> Result<Vec<Contest>> {
    let entries: u64 = if context.quick { 20_000 } else { 1_000_000 };
    let folder = context.disk_folder()?;
    #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "peers are added"))]
    let mut names = vec![Twizzler::<VALUE_BYTES>::NAME];
    #[cfg(feature = "peers")]
    names.extend([Lmdb::NAME, Redb::NAME, Sqlite::NAME, RocksDb::NAME]);
    let mut workers: Vec<Result<Worker>> =
        names.iter().map(|&name| Worker::new(name, folder.path(), entries)).collect();
    let mut contests = Vec::new();
    for (work, what) in [(Work::Get, "get"), (Work::Scan, "scan of 10000 entries"), (Work::Update, "update")]
    {
        let racers = workers
            .iter_mut()
            .zip(&names)
            .map(|(worker, &name)| {
                Racer::new(name, move |time| match worker {
                    Ok(worker) => worker.turn(work, time),
                    Err(error) => bail!("{error:#}"),
                })
            })
            .collect();
        let title =
            format!("{what}, {entries} entries of 8 + 100 bytes, {} MiB of memory", LIMIT_BYTES >> 20);
        let mut contest = race(title, names[0], Course::of(context.quick), racers)?;
        if let Some(best) = contest.rows.iter().skip(1).map(|row| row.ratio).reduce(f64::max) {
            contest.aim("of the best peer's time", best, 1.0);
        }
        contests.push(contest);
    }
    Ok(contests)
}

/// A process that is an engine.
struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    group: Group,
}

impl Worker {
    fn new(name: &str, folder: &Path, entries: u64) -> Result<Self> {
        let group = Group::new(name)?;
        let folder = folder.join(name.replace([' ', ','], ""));
        fs::create_dir(&folder)?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--disk")
            .arg(&folder)
            .env(BE, format!("{name}\n{entries}\n{}", group.0.join("cgroup.procs").display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("can't start a worker")?;
        let input = child.stdin.take().context("a worker has an input")?;
        let output = BufReader::new(child.stdout.take().context("a worker has an output")?);
        let mut worker = Self { child, input, output, group };
        ensure!(worker.line()? == "ready", "{name} doesn't work in {} MiB", LIMIT_BYTES >> 20);
        Ok(worker)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn turn(&mut self, work: Work, time: Duration) -> Result<Laps> {
        let turn = serde_json::to_string(&Turn { work, ms: time.as_millis() as u64 })?;
        writeln!(self.input, "{turn}")?;
        let done: Done = serde_json::from_str(&self.line()?).context("a worker has ended")?;
        // Only the tail is known of the single ones.
        Ok(Laps {
            ns: vec![done.p99_ns; done.operations as usize],
            took: Duration::from_secs_f64(done.ms / 1e3),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir(&self.group.0);
    }
}

/// A memory cgroup.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Result<Self> {
        let name = format!("twizzler-bench-{}-{}", std::process::id(), name.replace([' ', ','], ""));
        let root = Path::new("/sys/fs/cgroup");
        // Version 2 has one tree; in version 1, memory has one of its own.
        let (folder, limit) = if root.join("cgroup.controllers").exists() {
            (root.join(name), "memory.max")
        } else {
            (root.join("memory").join(name), "memory.limit_in_bytes")
        };
        fs::create_dir(&folder).with_context(|| {
            format!("can't make the memory cgroup {}: run this section as root", folder.display())
        })?;
        let group = Self(folder);
        fs::write(group.0.join(limit), LIMIT_BYTES.to_string())
            .context("can't limit memory: the memory controller is not enabled here")?;
        Ok(group)
    }
}

/// What this program is asked to be, if it is to be a worker.
pub(crate) fn asked() -> Option<String> {
    std::env::var(BE).ok()
}

/// Is an engine, until the input ends.
///
/// # Errors
/// Whatever the engine says.
pub(crate) fn work(asked: &str, folder: &Path) -> Result<()> {
    let mut parts = asked.split('\n');
    let mut next = || parts.next().context("a worker is told its name, its entries and its group");
    let (name, entries, procs) = (next()?, next()?.parse()?, next()?);
    fs::write(procs, std::process::id().to_string()).context("can't enter the memory cgroup")?;
    match name {
        Twizzler::<VALUE_BYTES>::NAME => serve::<Twizzler<VALUE_BYTES>>(folder, entries),
        #[cfg(feature = "peers")]
        Lmdb::NAME => serve::<Lmdb>(folder, entries),
        #[cfg(feature = "peers")]
        Redb::NAME => serve::<Redb>(folder, entries),
        #[cfg(feature = "peers")]
        Sqlite::NAME => serve::<Sqlite>(folder, entries),
        #[cfg(feature = "peers")]
        RocksDb::NAME => serve::<RocksDb>(folder, entries),
        _ => bail!("no engine is called {name}"),
    }
}

fn serve<E: Engine>(folder: &Path, entries: u64) -> Result<()> {
    const BATCH: u64 = 10_000;
    let engine = E::open(folder, Survives::ProcessKill)?;
    for first in (0..entries).step_by(BATCH as usize) {
        let keys = first..entries.min(first + BATCH);
        engine.session()?.load(&mut keys.map(|key| (key, [7; VALUE_BYTES].as_slice())))?;
    }
    println!("ready");
    for line in std::io::stdin().lines() {
        let Turn { work, ms } = serde_json::from_str(&line?)?;
        let laps = threads(
            1,
            Duration::from_millis(ms),
            || Ok((engine.session()?, StdRng::from_os_rng(), Vec::new())),
            |(session, random, value), _, _| {
                let key = random.random_range(0..entries);
                match work {
                    Work::Get => ensure!(session.get(key, value)?, "an entry is lost"),
                    Work::Update => session.put(key, &[random.random(); VALUE_BYTES])?,
                    Work::Scan => {
                        std::hint::black_box(session.scan(key, SCANNED, value)?);
                    }
                }
                Ok(())
            },
        )?;
        let done = Done {
            operations: laps.ns.len() as u64,
            ms: laps.took.as_secs_f64() * 1e3,
            p99_ns: percentile(&laps.ns, 0.99),
        };
        println!("{}", serde_json::to_string(&done)?);
    }
    Ok(())
}
