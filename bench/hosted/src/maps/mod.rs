//! Sections about maps: what their operations cost, without waiting for the disk.

mod alone;
mod field;
mod files;

use anyhow::Result;
use tempfile::TempDir;

pub(crate) use self::alone::{asked, be_alone};
pub(crate) use self::files::on_disk;
use crate::Context;
use crate::engine::{Engine, Hash, Tree, Twizzler, TwizzlerHash};
use crate::measure::{Turns, judge};
use crate::report::{Contest, Percentile, Unit};
use field::{Field, Medium, Operation, Value, Way};

pub(crate) const NOTES: [&str; 2] = [
    "Keys of 8 bytes, values of 8 or 100. Every store lies in memory (tmpfs) and survives a killed process, not a power cut, so that the disk does \
     not hide what the operations themselves cost; for durable ones see the section before. Every get, update and delete is a transaction of its own. Times of one thread \
     are processor times. The volatile maps are the limit: std's, behind a `RwLock`, with values in \
     their nodes as ours have them, and our hash function, which is fast and seeded.",
    "*In persistent memory* is against the maps that libpmemobj's package has as examples (where it has been installed with them): a B-tree, and a hash table that was \
     told in advance how many entries will come. All files lie on tmpfs, and everybody flushes and fences as for persistent memory. Those maps leave locking \
     to their users: here, a lock around each operation.",
];

pub(crate) const NOTES_LARGE: [&str; 1] = [
    "As in the section about maps, with 20,000,000 entries, in stores on the disk. Before the first round, what was loaded has been written back and read again, for everybody, so that all of it is clean and in the page cache. \
     What the host has written back or forgotten of a store while others ran makes its next operations slow: so everybody works for 0.7 s before each round that is measured. An object of over 1 GiB is a large one.",
];

pub(crate) const NOTES_ALONE: [&str; 2] = [
    "As in the section about maps, with 20,000,000 entries. All stores together would not fit into memory, so that each turn would measure how the disk brings a store back: here each contender has the \
     machine alone, in a process of its own. It is loaded, measured at everything, and thrown away before the next one begins. *Memory* is what a random read of 256 MiB took \
     beside it, in ns: where it differs, the machine did.",
    "Of stores on the disk, what was loaded has been written back and read again, for everybody, so that all of it is clean and in the page cache. Everybody works for 2 s at an operation before it is measured. An object of over 1 GiB is a large one.",
];

/// What is measured of everybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Heat {
    Load,
    Space,
    OneThread(Operation),
    TwoThreads(Operation),
}

impl Heat {
    /// Those of a field, in order.
    fn all(field: Field) -> Vec<Self> {
        let operations = [Operation::Get, Operation::Update, Operation::DeleteAndInsert, Operation::Scan];
        match field.medium {
            Medium::Files => [Self::Load, Self::Space]
                .into_iter()
                .chain(operations.map(Self::OneThread))
                .chain(operations.map(Self::TwoThreads))
                .collect(),
            // libpmemobj's maps don't scan.
            Medium::PersistentMemory => {
                [Self::Load].into_iter().chain(operations.into_iter().take(3).map(Self::OneThread)).collect()
            }
        }
    }

    fn title(self, field: Field) -> String {
        let what = match self {
            Self::Load => "load".to_owned(),
            Self::Space => "space for an entry beyond that of the empty store".to_owned(),
            Self::OneThread(operation) => operation.name().to_owned(),
            Self::TwoThreads(operation) => format!("{}, 2 threads", operation.name()),
        };
        let medium = match field.medium {
            Medium::Files => "",
            Medium::PersistentMemory => "in persistent memory, ",
        };
        let bytes = match field.value {
            Value::Bytes8 => 8,
            Value::Bytes100 => 100,
        };
        format!("{what}, {medium}{} entries, values of {bytes} bytes", field.entries)
    }

    const fn unit(self) -> (Unit, Percentile) {
        match self {
            Self::Load => (Unit::Nanoseconds, Percentile::OfRounds),
            Self::Space => (Unit::Bytes, Percentile::OfRounds),
            Self::OneThread(_) => (Unit::Nanoseconds, Percentile::OfOperations),
            Self::TwoThreads(_) => (Unit::PerSecond, Percentile::OfOperations),
        }
    }
}

impl Field {
    /// A new folder where its stores lie.
    fn folder(self, context: &Context) -> Result<TempDir> {
        if self.is_on_disk() { context.disk_folder() } else { context.memory_folder() }
    }
}

impl Operation {
    const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Update => "update",
            Self::DeleteAndInsert => "delete and insert again",
            Self::Scan => "scan of 100 entries",
        }
    }
}

/// Measures maps that all fit into memory.
///
/// # Errors
/// What an engine or the host says.
pub(crate) fn run(context: &Context) -> Result<Vec<Contest>> {
    let mut contests = Vec::new();
    for medium in [Medium::Files, Medium::PersistentMemory] {
        for value in [Value::Bytes8, Value::Bytes100] {
            let entries = if context.quick { 20_000 } else { 1_000_000 };
            let field = Field { entries, value, medium, way: Way::SideBySide, quick: context.quick };
            contests.extend(measure(context, field)?);
        }
    }
    Ok(contests)
}

/// Many entries, with values of 8 bytes.
///
/// # Errors
/// What an engine or the host says.
pub(crate) fn run_large(context: &Context) -> Result<Vec<Contest>> {
    measure(context, large(context, Value::Bytes8, Medium::Files, Way::SideBySide))
}

/// Many entries, with values of 100 bytes.
///
/// # Errors
/// What an engine or the host says.
pub(crate) fn run_large_100(context: &Context) -> Result<Vec<Contest>> {
    measure(context, large(context, Value::Bytes100, Medium::Files, Way::OneByOne))
}

/// Many entries in persistent memory.
///
/// # Errors
/// What an engine or the host says.
pub(crate) fn run_large_pmem(context: &Context) -> Result<Vec<Contest>> {
    measure(context, large(context, Value::Bytes8, Medium::PersistentMemory, Way::OneByOne))
}

const fn large(context: &Context, value: Value, medium: Medium, way: Way) -> Field {
    Field { entries: Field::many(context.quick), value, medium, way, quick: context.quick }
}

fn measure(context: &Context, field: Field) -> Result<Vec<Contest>> {
    match field.way {
        Way::SideBySide => side_by_side(context, field),
        Way::OneByOne => one_by_one(context, field),
    }
}

/// With all stores there at the same time.
fn side_by_side(context: &Context, field: Field) -> Result<Vec<Contest>> {
    let folder = field.folder(context)?;
    let stores = field.load(folder.path(), &field.entrants())?;
    Heat::all(field).into_iter().map(|heat| contest(field, heat, &field.take_turns(heat, &stores)?)).collect()
}

/// With one store at a time.
fn one_by_one(context: &Context, field: Field) -> Result<Vec<Contest>> {
    let heats = Heat::all(field);
    let mut all: Vec<Vec<Turns>> = vec![Vec::new(); heats.len()];
    for entrant in field.entrants() {
        let turns = alone::take_turns(field, entrant.name, field.folder(context)?.path())?;
        all.iter_mut().zip(turns).for_each(|(heat, turns)| heat.extend(turns));
    }
    heats.into_iter().zip(all).map(|(heat, turns)| contest(field, heat, &turns)).collect()
}

/// What the turns in a heat come to.
fn contest(field: Field, heat: Heat, turns: &[Turns]) -> Result<Contest> {
    let (unit, percentile) = heat.unit();
    let mut contest = judge(heat.title(field), unit, percentile, TREE, turns)?;
    aim(&mut contest, heat, field.medium);
    Ok(contest)
}

// Names don't depend on the length of values.
const TREE: &str = Tree::<8>::NAME;
const HASH: &str = Hash::<8>::NAME;
const OURS: &str = Twizzler::<8>::NAME;
const OURS_HASHED: &str = TwizzlerHash::<8>::NAME;

/// The targets: gets near the volatile maps', changes ahead of every peer.
fn aim(contest: &mut Contest, heat: Heat, medium: Medium) {
    let median = |name| contest.row(name).map_or(f64::NAN, |row| row.median);
    let (ours, ours_hashed) = (median(OURS), median(OURS_HASHED));
    match (medium, heat) {
        (Medium::Files, Heat::OneThread(Operation::Get)) => {
            let ratio = contest.row(OURS).map_or(f64::NAN, |row| row.ratio);
            let hashed = ours_hashed / median(HASH);
            contest.aim("of BTreeMap's time", ratio, 1.5);
            contest.aim("the hash map, of HashMap's time", hashed, 1.5);
        }
        (Medium::Files, Heat::OneThread(Operation::Update | Operation::DeleteAndInsert)) => {
            let others = [TREE, HASH, OURS, OURS_HASHED];
            let peers = contest.rows.iter().filter(|row| !others.contains(&row.name.as_str()));
            if let Some(best) = peers.map(|row| row.median).reduce(f64::min) {
                contest.aim(format!("{OURS}, of the best peer's time"), ours / best, 1.0);
                contest.aim(format!("{OURS_HASHED}, of the best peer's time"), ours_hashed / best, 1.0);
            }
        }
        (Medium::PersistentMemory, Heat::OneThread(_)) => {
            for (name, ours, peer) in
                [(OURS, ours, "libpmemobj, btree_map"), (OURS_HASHED, ours_hashed, "libpmemobj, hashmap_tx")]
            {
                if let Some(peer_ns) = contest.row(peer).map(|row| row.median) {
                    contest.aim(format!("{name}, of {peer}'s time"), ours / peer_ns, 1.0);
                }
            }
        }
        _ => {}
    }
}
