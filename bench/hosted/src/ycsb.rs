//! Section `ycsb`: the Yahoo cloud serving benchmark's workloads A to F, and transfers between accounts.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use rand::distr::Distribution;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::Zipf;

use crate::Context;
use crate::engine::{Engine, Session, Survives, Twizzler};
#[cfg(feature = "peers")]
use crate::engine::{Lmdb, Redb, Sqlite};
use crate::race::{Course, Racer, race, threads};
use crate::report::Contest;

pub(crate) const NOTES: [&str; 2] = [
    "Workloads as Cooper et al. define them (SoCC 2010): values of 1,000 bytes, keys chosen by a Zipf distribution of exponent 0.99 and scattered; D reads the \
     latest, E scans up to 100 entries. Two threads. Stores that survive a power cut lie on the disk, those that only survive a killed process in memory (tmpfs). Every operation is a transaction of its own, E's and F's too.",
    "*Transfer* moves an amount between two of the accounts, chosen evenly, in one transaction.",
];

/// What each of a hundred operations is: reads, updates, inserts, scans, read-modify-writes.
struct Workload {
    name: &'static str,
    reads: u32,
    updates: u32,
    inserts: u32,
    scans: u32,
    /// Reads prefer what was inserted last.
    latest: bool,
}

const WORKLOADS: [Workload; 6] = [
    Workload {
        name: "A: 50% reads, 50% updates",
        reads: 50,
        updates: 50,
        inserts: 0,
        scans: 0,
        latest: false,
    },
    Workload { name: "B: 95% reads, 5% updates", reads: 95, updates: 5, inserts: 0, scans: 0, latest: false },
    Workload { name: "C: reads", reads: 100, updates: 0, inserts: 0, scans: 0, latest: false },
    Workload {
        name: "D: 95% reads of the latest, 5% inserts",
        reads: 95,
        updates: 0,
        inserts: 5,
        scans: 0,
        latest: true,
    },
    Workload { name: "E: 95% scans, 5% inserts", reads: 0, updates: 0, inserts: 5, scans: 95, latest: false },
    Workload {
        name: "F: 50% reads, 50% read-modify-writes",
        reads: 50,
        updates: 0,
        inserts: 0,
        scans: 0,
        latest: false,
    },
];

const VALUE_BYTES: usize = 1000;
const THREADS: usize = 2;

/// Measures.
pub(crate) fn run(context: &Context) -> Result<Vec<Contest>> {
    let entries = if context.quick { 5_000 } else { 100_000 };
    let mut contests = Vec::new();
    for (survives, name) in
        [(Survives::ProcessKill, "survives a killed process"), (Survives::PowerCut, "survives a power cut")]
    {
        let folder = match survives {
            Survives::PowerCut => context.disk_folder()?,
            _ => context.memory_folder()?,
        };
        let ours: Stand<Twizzler<VALUE_BYTES>> = Stand::new(folder.path(), survives, entries)?;
        #[cfg(feature = "peers")]
        let (lmdb, redb, sqlite): (Stand<Lmdb>, Stand<Redb>, Stand<Sqlite>) = (
            Stand::new(folder.path(), survives, entries)?,
            Stand::new(folder.path(), survives, entries)?,
            Stand::new(folder.path(), survives, entries)?,
        );
        for workload in &WORKLOADS {
            #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "peers are added"))]
            let mut racers = vec![ours.racer(workload)];
            #[cfg(feature = "peers")]
            racers.extend([lmdb.racer(workload), redb.racer(workload), sqlite.racer(workload)]);
            contests.push(won(race(
                format!("{}, {name}", workload.name),
                Twizzler::<8>::NAME,
                Course::of(context.quick),
                racers,
            )?));
        }
        #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "peers are added"))]
        let mut racers = vec![ours.transfers()];
        #[cfg(feature = "peers")]
        racers.extend([lmdb.transfers(), redb.transfers(), sqlite.transfers()]);
        contests.push(won(race(
            format!("transfer, {name}"),
            Twizzler::<8>::NAME,
            Course::of(context.quick),
            racers,
        )?));
    }
    Ok(contests)
}

/// With the target: ahead of all.
fn won(mut contest: Contest) -> Contest {
    let peers: Vec<(String, f64)> =
        contest.rows[1..].iter().map(|row| (row.name.clone(), row.ratio)).collect();
    for (name, ratio) in peers {
        contest.aim(format!("of {name}'s time"), ratio, 1.0);
    }
    contest
}

/// A store with its entries.
struct Stand<E> {
    engine: E,
    entries: AtomicU64,
    zipf: Zipf<f64>,
}

/// Scattered, so that popular entries are not neighbours.
fn key(i: u64) -> u64 {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1
}

impl<E: Engine> Stand<E> {
    fn new(folder: &Path, survives: Survives, entries: u64) -> Result<Self> {
        let folder = folder.join(E::NAME.replace([' ', ','], ""));
        std::fs::create_dir(&folder)?;
        let engine = E::open(&folder, survives).with_context(|| format!("can't open {}", E::NAME))?;
        let mut keys: Vec<u64> = (0..entries).map(key).collect();
        keys.sort_unstable();
        engine.session()?.load(&mut keys.iter().map(|&key| (key, [7; VALUE_BYTES].as_slice())))?;
        let zipf = Zipf::new(entries as f64, 0.99)?;
        Ok(Self { engine, entries: AtomicU64::new(entries), zipf })
    }

    fn racer<'a>(&'a self, workload: &'a Workload) -> Racer<'a> {
        Racer::new(E::NAME, move |time| {
            threads(
                THREADS,
                time,
                || Ok((self.engine.session()?, StdRng::from_os_rng(), Vec::new())),
                |(session, random, value), _, _| self.work(workload, session, random, value),
            )
        })
    }

    fn transfers(&self) -> Racer<'_> {
        Racer::new(E::NAME, move |time| {
            threads(
                THREADS,
                time,
                || Ok((self.engine.session()?, StdRng::from_os_rng())),
                |(session, random), _, _| {
                    let entries = self.entries.load(Ordering::Relaxed);
                    let from = random.random_range(0..entries);
                    let to = (from + random.random_range(1..entries)) % entries;
                    session.transfer(key(from), key(to), 1)
                },
            )
        })
    }

    fn work(
        &self,
        workload: &Workload,
        session: &mut E::Session<'_>,
        random: &mut StdRng,
        value: &mut Vec<u8>,
    ) -> Result<()> {
        let entries = self.entries.load(Ordering::Relaxed);
        // From 1, the most popular, upwards.
        let rank = (self.zipf.sample(random) as u64).clamp(1, entries);
        let chosen = key(if workload.latest { entries - rank } else { rank - 1 });
        let mut dice = random.random_range(0..100_u32);
        let mut is = |share: u32| {
            let hit = dice < share;
            dice = dice.wrapping_sub(share);
            hit
        };
        if is(workload.reads) {
            // What another thread is just inserting may not be there yet.
            anyhow::ensure!(session.get(chosen, value)? || workload.latest, "an entry is lost");
        } else if is(workload.updates) {
            session.put(chosen, &[random.random(); VALUE_BYTES])?;
        } else if is(workload.inserts) {
            session.put(key(self.entries.fetch_add(1, Ordering::Relaxed)), &[7; VALUE_BYTES])?;
        } else if is(workload.scans) {
            std::hint::black_box(session.scan(chosen, random.random_range(1..=100), value)?);
        } else {
            session.modify(chosen)?;
        }
        Ok(())
    }
}
