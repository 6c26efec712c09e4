//! Who takes part in contests of maps, and what each does there.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::Heat;
use super::files::{on_disk, settle};
use crate::clock::Stopwatch;
use crate::engine::{Engine, Hash, Session, Survives, Tree, Twizzler, TwizzlerHash};
#[cfg(feature = "peers")]
use crate::engine::{Lmdb, Redb, RocksDb, Sqlite};
#[cfg(pmem_maps)]
use crate::engine::{PmemHash, PmemTree};
use crate::measure::{Contender, Effort, Tail, Turns, Warm, take_turns};
use crate::race::{Course, Racer, take_laps, threads};

/// An operation of a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    Get,
    Update,
    DeleteAndInsert,
    Scan,
}

/// Entries of a scan.
const SCANNED: usize = 100;

/// Entries beyond which stores lie on the disk, not on tmpfs, where they may be files.
const IN_MEMORY_MAX: u64 = 1_000_000;

/// What maps are compared.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Field {
    pub(super) entries: u64,
    pub(super) value: Value,
    pub(super) medium: Medium,
    pub(super) way: Way,
    pub(super) quick: bool,
}

/// How contenders share the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Way {
    /// Their stores are there at the same time, and they take turns round by round.
    SideBySide,
    /// One has all its turns, and is thrown away before the next one is loaded.
    OneByOne,
}

/// The values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Value {
    Bytes8,
    Bytes100,
}

/// Where stores lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Medium {
    /// Their writes survive a killed process.
    Files,
    /// On tmpfs, which stands for it, with flushes.
    PersistentMemory,
}

impl Field {
    /// How many entries there are where there are many.
    pub(super) const fn many(quick: bool) -> u64 {
        if quick { 2 * IN_MEMORY_MAX } else { 20_000_000 }
    }

    pub(super) const fn is_large(self) -> bool {
        self.entries > IN_MEMORY_MAX
    }

    pub(super) fn is_on_disk(self) -> bool {
        self.is_large() && self.medium == Medium::Files
    }

    /// Everybody who takes part.
    pub(super) fn entrants(self) -> Vec<Entrant> {
        match self.value {
            Value::Bytes8 => self.entrants_of::<8>(),
            Value::Bytes100 => self.entrants_of::<100>(),
        }
    }

    fn entrants_of<const N: usize>(self) -> Vec<Entrant> {
        match self.medium {
            Medium::Files => vec![
                Entrant::of::<Tree<N>, N>(),
                Entrant::of::<Hash<N>, N>(),
                Entrant::of::<Twizzler<N>, N>(),
                Entrant::of::<TwizzlerHash<N>, N>(),
                #[cfg(feature = "peers")]
                Entrant::of::<Lmdb, N>(),
                #[cfg(feature = "peers")]
                Entrant::of::<Redb, N>(),
                #[cfg(feature = "peers")]
                Entrant::of::<Sqlite, N>(),
                #[cfg(feature = "peers")]
                Entrant::of::<RocksDb, N>(),
            ],
            Medium::PersistentMemory => vec![
                Entrant::of::<Tree<N>, N>(),
                Entrant::of::<Twizzler<N>, N>(),
                Entrant::of::<TwizzlerHash<N>, N>(),
                #[cfg(pmem_maps)]
                Entrant::of::<PmemTree<N>, N>(),
                #[cfg(pmem_maps)]
                Entrant::of::<PmemHash<N>, N>(),
            ],
        }
    }

    /// Loads the entrants' stores.
    ///
    /// # Errors
    /// An engine's, or the disk's.
    pub(super) fn load(self, folder: &Path, entrants: &[Entrant]) -> Result<Vec<Box<dyn Stored>>> {
        let stores = entrants.iter().map(|entrant| (entrant.load)(folder, self)).collect::<Result<_>>()?;
        if self.is_on_disk() {
            settle(folder)?;
        }
        Ok(stores)
    }

    /// Lets the stores take turns.
    ///
    /// # Errors
    /// An engine's.
    pub(super) fn take_turns(self, heat: Heat, stores: &[Box<dyn Stored>]) -> Result<Vec<Turns>> {
        let able =
            |operation| stores.iter().filter(move |store| store.is_ordered() || operation != Operation::Scan);
        let turns = match heat {
            Heat::Load => stores.iter().map(|store| store.loaded().0.clone()).collect(),
            Heat::Space => stores.iter().filter_map(|store| store.loaded().1.clone()).collect(),
            Heat::OneThread(operation) => {
                let contenders = able(operation).map(|store| store.contender(operation)).collect();
                take_turns(self.effort(), Tail::OfOperations(300), contenders)
            }
            Heat::TwoThreads(operation) => {
                let racers = able(operation).map(|store| store.racer(operation)).collect();
                let (turns, failed) = take_laps(self.course(), racers);
                anyhow::ensure!(failed.is_empty(), "{}", failed.join("; "));
                turns
            }
        };
        Ok(turns)
    }

    fn effort(self) -> Effort {
        if self.is_large() {
            let Course { rounds, time, warm } = self.course();
            Effort { rounds, round: time, warm: Warm::For(warm) }
        } else {
            let effort = Effort::short(self.quick);
            Effort { round: Duration::from_millis(2), rounds: effort.rounds.min(31), ..effort }
        }
    }

    fn course(self) -> Course {
        if self.is_large() {
            // What of a store the host has written back, or forgotten, is in place again before it is measured. Whoever is alone does that once, and not before each round.
            let (rounds, warm) = match self.way {
                _ if self.quick => (1, 20),
                Way::SideBySide => (5, 700),
                Way::OneByOne => (5, 2000),
            };
            Course { rounds, time: Duration::from_millis(100), warm: Duration::from_millis(warm) }
        } else {
            let course = Course::of(self.quick);
            Course { time: course.time / 2, ..course }
        }
    }
}

/// An engine that takes part.
pub(super) struct Entrant {
    pub(super) name: &'static str,
    load: fn(&Path, Field) -> Result<Box<dyn Stored>>,
}

impl Entrant {
    fn of<E: Engine, const N: usize>() -> Self {
        Self { name: E::NAME, load: |folder, field| Ok(Box::new(Store::<E, N>::load(folder, field)?)) }
    }
}

/// A loaded store.
pub(super) trait Stored {
    fn is_ordered(&self) -> bool;
    /// Nanoseconds for an entry, and bytes on the disk where there are any.
    fn loaded(&self) -> &(Turns, Option<Turns>);
    fn contender(&self, operation: Operation) -> Contender<'_>;
    fn racer(&self, operation: Operation) -> Racer<'_>;
}

/// An engine with its entries, whose values have `N` bytes.
struct Store<E, const N: usize> {
    engine: E,
    entries: u64,
    loaded: (Turns, Option<Turns>),
}

impl<E: Engine, const N: usize> Store<E, N> {
    /// Loads it in the order of keys.
    fn load(folder: &Path, field: Field) -> Result<Self> {
        let folder = folder.join(E::NAME.replace([' ', ','], ""));
        std::fs::create_dir(&folder)?;
        let survives = match field.medium {
            Medium::Files => Survives::ProcessKill,
            Medium::PersistentMemory => Survives::PersistentMemory,
        };
        let entries = field.entries;
        let mut engine = E::open(&folder, survives).with_context(|| format!("can't open {}", E::NAME))?;
        if field.is_large() {
            engine.grow(entries)?;
        }
        let mut keys: Vec<u64> = (0..entries).map(key).collect();
        keys.sort_unstable();
        let before = on_disk(&folder)?;
        let start = Instant::now();
        engine.session()?.load(&mut keys.iter().map(|&key| (key, [7; N].as_slice())))?;
        let ns = start.elapsed().as_nanos() as f64 / entries as f64;
        let bytes = (on_disk(&folder)? - before) as f64 / entries as f64;
        let space = (bytes > 0.0).then(|| Turns::once(E::NAME, bytes));
        Ok(Self { engine, entries, loaded: (Turns::once(E::NAME, ns), space) })
    }
}

impl<E: Engine, const N: usize> Stored for Store<E, N> {
    fn is_ordered(&self) -> bool {
        E::IS_ORDERED
    }

    fn loaded(&self) -> &(Turns, Option<Turns>) {
        &self.loaded
    }

    fn contender(&self, operation: Operation) -> Contender<'_> {
        let mut random = StdRng::seed_from_u64(23);
        let mut value = Vec::new();
        let mut session = self.engine.session().expect("the store is open");
        Contender::new(E::NAME, move |number| {
            let clock = Stopwatch::start();
            for _ in 0..number {
                work::<N>(&mut session, operation, self.entries, 0, &mut random, &mut value)
                    .unwrap_or_else(|error| panic!("{}: {error:#}", E::NAME));
            }
            clock.elapsed()
        })
    }

    fn racer(&self, operation: Operation) -> Racer<'_> {
        Racer::new(E::NAME, move |time| {
            threads(
                2,
                time,
                || Ok((self.engine.session()?, StdRng::from_os_rng(), Vec::new())),
                |(session, random, value), thread, _| {
                    // Each has half of the keys: what one of them has just deleted, the other one must not miss.
                    work::<N>(session, operation, self.entries / 2, thread as u64, random, value)
                },
            )
        })
    }
}

/// Keys are spread over all numbers, in no order.
fn key(i: u64) -> u64 {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1
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
