//! Section `kv13`: a key-value store in an object, against the same store that reads and writes a file.
//!
//! The published test of Twizzler (Bittman et al., USENIX ATC 2020): entries of 8 + 8 bytes, in persistent memory both times.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use twizzler::{Error, Guard, HostedBackend, InvSpan, Options, Ptr, Span, Store, Stored};
use twizzler_pmem::cache::{self, WriteBack};

use crate::Context;
use crate::clock::Stopwatch;
use crate::measure::{Contender, Effort, Tail, Warm, compete};
use crate::report::Contest;

pub(crate) const NOTES: [&str; 5] = [
    "A hash table with linear probing, half full, of entries of 8 + 8 bytes, written once and run over two kinds of memory: an object of a hosted store (loads; a put is a \
     transaction), and a file (`pread` of an entry; a put is `pwrite` and `fdatasync`). Each put is durable when it ends.",
    "*In memory*: the store lies on tmpfs, opened as persistent memory, with real flushes and fences. *Over read and write* is a file on the same tmpfs, where `fdatasync` does nothing: that is \
     durable only as far as tmpfs is, and a file system on persistent memory has more to do. *On a file system that syncs* (given by `--memory-disk`) is a file on ext4 on a disk in memory: \
     the work of a file system and its block layer, on a medium as fast as memory. Here it is a zram device, whose compression costs some of that time. Processor times.",
    "*In a vector*: a get's hash and loads in the program's own memory, which a get can't go below.",
    "*Two stores, each flushed and fenced*: a record written somewhere, then the entry in its place; what a put that is all or nothing can't go below.",
    "*On a disk*: store (survives a power cut) and file on the same ordinary disk. Gets are loads against calls; a put waits for the disk both times, so no \
     factor is to be had there. Elapsed times.",
];

const OURS: &str = "Twizzler, in an object";
const FILE: &str = "the same over read and write";
const SYNCED: &str = "the same on a file system that syncs";
const LOADS: &str = "the same in a vector: loads, and nothing else";
const BOUND: &str = "two stores, each flushed and fenced, and nothing else";
/// What is at most wanted of the time over read and write.
const TARGET: f64 = 1.0 / 13.0;

/// An entry; key 0 is none.
#[derive(Stored, Clone, Copy)]
#[stored(name = "bench.kv-entry", version = 1)]
#[repr(C)]
struct Entry {
    key: u64,
    value: u64,
}

/// Where the table lies.
#[derive(Stored)]
#[stored(name = "bench.kv-table", version = 1)]
#[repr(C)]
struct Root {
    entries: InvSpan<Entry>,
}

/// An array of entries, of a length that is a power of two.
trait Array {
    fn len(&self) -> u64;
    fn read(&self, at: u64) -> Result<Entry>;
    /// Durable when it returns.
    fn write(&self, at: u64, entry: Entry) -> Result<()>;
    /// Writes all entries.
    fn fill(&self, entries: &[Entry]) -> Result<()>;
}

/// A table of values that are their keys, 1 to `entries`.
fn table(len: u64, entries: u64) -> Vec<Entry> {
    let mut table = vec![Entry { key: 0, value: 0 }; len as usize];
    for key in 1..=entries {
        let mut at = place(key, len);
        while table[at as usize].key != 0 {
            at = (at + 1) & (len - 1);
        }
        table[at as usize] = Entry { key, value: key };
    }
    table
}

/// Where a key is looked for first.
const fn place(key: u64, len: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15) & (len - 1)
}

fn bytes_of(entry: Entry) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&entry.key.to_le_bytes());
    bytes[8..].copy_from_slice(&entry.value.to_le_bytes());
    bytes
}

/// Where a key is, or would be.
fn find(array: &impl Array, key: u64) -> Result<(u64, Entry)> {
    let mut at = place(key, array.len());
    loop {
        let entry = array.read(at)?;
        if entry.key == key || entry.key == 0 {
            return Ok((at, entry));
        }
        at = (at + 1) & (array.len() - 1);
    }
}

fn get(array: &impl Array, key: u64) -> Result<Option<u64>> {
    let (_, entry) = find(array, key)?;
    Ok((entry.key == key).then_some(entry.value))
}

fn put(array: &impl Array, key: u64, value: u64) -> Result<()> {
    let (at, _) = find(array, key)?;
    array.write(at, Entry { key, value })
}

/// The table in an object.
struct InObject<'g> {
    guard: &'g Guard<'g, HostedBackend>,
    entries: Span<'g, Entry>,
}

impl<'g> InObject<'g> {
    fn new(guard: &'g Guard<'g, HostedBackend>, len: u64) -> Result<Self, Error> {
        let root = guard.well_known::<Root>(*b"bench kv table\0\0")?.base();
        guard.transact(|tx| {
            let entries = tx.alloc_span::<Entry>(root.object(), len)?;
            tx.link_span(root.at(Root::entries), entries)
        })?;
        Ok(Self { guard, entries: guard.follow_span(root.at(Root::entries))? })
    }

    fn place(&self, at: u64) -> Result<Ptr<'g, Entry>, Error> {
        self.entries.index(at).ok_or(Error::OutOfRange)
    }
}

impl Array for InObject<'_> {
    fn len(&self) -> u64 {
        self.entries.len()
    }

    fn read(&self, at: u64) -> Result<Entry> {
        Ok(self.guard.get(self.place(at)?))
    }

    fn write(&self, at: u64, entry: Entry) -> Result<()> {
        let place = self.place(at)?;
        Ok(self.guard.transact(|tx| tx.set(place, entry))?)
    }

    fn fill(&self, entries: &[Entry]) -> Result<()> {
        const PART: usize = 2048;
        for (part, entries) in entries.chunks(PART).enumerate() {
            self.guard.transact(|tx| {
                let places = (part * PART..).zip(entries);
                places
                    .filter(|(_, entry)| entry.key != 0)
                    .try_for_each(|(at, &entry)| tx.set(self.place(at as u64)?, entry))
            })?;
        }
        Ok(())
    }
}

/// The table in memory of the program: what gets can't go below.
struct InVector(Vec<Entry>);

impl Array for InVector {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, at: u64) -> Result<Entry> {
        Ok(self.0[at as usize])
    }

    fn write(&self, _at: u64, _entry: Entry) -> Result<()> {
        anyhow::bail!("it is there to be read")
    }

    fn fill(&self, _entries: &[Entry]) -> Result<()> {
        anyhow::bail!("it is filled")
    }
}

/// The table in a file.
struct InFile {
    file: File,
    len: u64,
}

impl InFile {
    fn new(path: &Path, len: u64) -> Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        Ok(Self { file, len })
    }
}

impl Array for InFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, at: u64) -> Result<Entry> {
        let (mut key, mut value) = ([0; 8], [0; 8]);
        let mut bytes = [0; 16];
        self.file.read_exact_at(&mut bytes, at * 16)?;
        key.copy_from_slice(&bytes[..8]);
        value.copy_from_slice(&bytes[8..]);
        Ok(Entry { key: u64::from_le_bytes(key), value: u64::from_le_bytes(value) })
    }

    fn write(&self, at: u64, entry: Entry) -> Result<()> {
        self.file.write_all_at(&bytes_of(entry), at * 16)?;
        Ok(self.file.sync_data()?)
    }

    fn fill(&self, entries: &[Entry]) -> Result<()> {
        let bytes: Vec<u8> = entries.iter().flat_map(|&entry| bytes_of(entry)).collect();
        self.file.write_all_at(&bytes, 0)?;
        Ok(self.file.sync_all()?)
    }
}

/// What is written without a transaction: a journal line, then the entry.
struct Bare {
    flush: WriteBack,
    journal: Vec<[AtomicU64; 8]>,
    entries: Vec<[AtomicU64; 2]>,
}

impl Bare {
    fn new(len: u64) -> Self {
        Self {
            flush: WriteBack::detect(),
            journal: (0..64).map(|_| Default::default()).collect(),
            entries: (0..len).map(|_| Default::default()).collect(),
        }
    }

    fn store(&self, words: &[AtomicU64], entry: Entry) {
        words[0].store(entry.key, Ordering::Relaxed);
        words[1].store(entry.value, Ordering::Relaxed);
        self.flush.flush(words.as_ptr().addr() as u64, 16);
        cache::fence();
    }

    fn put(&self, key: u64, value: u64) {
        let entry = Entry { key, value };
        self.store(&self.journal[value as usize % self.journal.len()], entry);
        let at = place(key, self.entries.len() as u64);
        self.store(&self.entries[at as usize], entry);
    }
}

/// Measures.
pub(crate) fn run(context: &Context) -> Result<Vec<Contest>> {
    let entries: u64 = if context.quick { 20_000 } else { 1_000_000 };
    let len = (entries * 2).next_power_of_two().max(1 << 16);
    let table = table(len, entries);
    let mut contests = Vec::new();
    in_memory(context, &table, entries, &mut contests)?;
    on_a_disk(context, &table, entries, &mut contests)?;
    Ok(contests)
}

/// What is done, and how many of a hundred operations are puts.
const MIXES: [(&str, u32); 3] = [("get", 0), ("put", 100), ("half gets, half puts", 50)];

fn in_memory(context: &Context, table: &[Entry], entries: u64, contests: &mut Vec<Contest>) -> Result<()> {
    let len = table.len() as u64;
    let folder = context.memory_folder()?;
    let file = InFile::new(&folder.path().join("file"), len)?;
    let store: Store = Options::new().assume_persistent_memory().create(folder.path().join("store"))?;
    let guard = store.space().enter();
    let object = InObject::new(&guard, len)?;
    let synced_folder = context.memory_disk.as_ref().map(tempfile::tempdir_in).transpose()?;
    let synced =
        synced_folder.as_ref().map(|folder| InFile::new(&folder.path().join("file"), len)).transpose()?;
    object.fill(table)?;
    [Some(&file), synced.as_ref()].into_iter().flatten().try_for_each(|file| file.fill(table))?;
    let bare = Bare::new(len);
    let vector = InVector(table.to_vec());
    for (name, puts) in MIXES {
        let now = Stopwatch::start;
        let mut contenders = vec![
            contender(OURS, &object, entries, puts, now, Stopwatch::elapsed),
            contender(FILE, &file, entries, puts, now, Stopwatch::elapsed),
        ];
        if let Some(synced) = &synced {
            contenders.push(contender(SYNCED, synced, entries, puts, now, Stopwatch::elapsed));
        }
        if puts == 0 {
            contenders.push(contender(LOADS, &vector, entries, puts, now, Stopwatch::elapsed));
        }
        if puts == 100 {
            let (bound, mut random) = (&bare, StdRng::seed_from_u64(29));
            contenders.push(Contender::new(BOUND, move |number| {
                let clock = Stopwatch::start();
                for i in 0..number {
                    bound.put(random.random_range(1..=entries), i);
                }
                clock.elapsed()
            }));
        }
        let title = format!("{name}, in memory, {entries} entries of 8 + 8 bytes");
        let mut contest = compete(title, FILE, context.effort(), Tail::OfOperations(1000), contenders);
        let median = |name| contest.row(name).map(|row| row.median);
        let (ours, synced) = (median(OURS), median(SYNCED));
        let ratio = contest.row(OURS).map_or(f64::NAN, |row| row.ratio);
        contest.aim("of the time over read and write", ratio, TARGET);
        if let (Some(ours), Some(synced)) = (ours, synced) {
            contest.aim("of the time on a file system that syncs", ours / synced, TARGET);
        }
        contests.push(contest);
    }
    Ok(())
}

fn on_a_disk(context: &Context, table: &[Entry], entries: u64, contests: &mut Vec<Contest>) -> Result<()> {
    let len = table.len() as u64;
    let folder = context.disk_folder()?;
    let file = InFile::new(&folder.path().join("file"), len)?;
    let store: Store = Options::new().create(folder.path().join("store"))?;
    let guard = store.space().enter();
    let object = InObject::new(&guard, len)?;
    object.fill(table)?;
    file.fill(table)?;
    for (name, puts) in MIXES {
        let contenders = vec![
            contender(OURS, &object, entries, puts, Instant::now, Instant::elapsed),
            contender(FILE, &file, entries, puts, Instant::now, Instant::elapsed),
        ];
        let effort = match puts {
            0 => context.effort(),
            _ if context.quick => {
                Effort { rounds: 2, round: Duration::from_millis(5), warm: Warm::Operations(1) }
            }
            _ => Effort { rounds: 41, round: Duration::from_millis(40), warm: Warm::Operations(10) },
        };
        let title = format!("{name}, on a disk, {entries} entries of 8 + 8 bytes");
        let singles = if context.quick { 10 } else { 1000 };
        let mut contest = compete(title, FILE, effort, Tail::OfOperations(singles), contenders);
        let ratio = contest.row(OURS).map_or(f64::NAN, |row| row.ratio);
        contest.aim("of the time over read and write", ratio, if puts == 0 { TARGET } else { 1.1 });
        contests.push(contest);
    }
    Ok(())
}

/// Gets and puts of random keys; so many of a hundred are puts. What is to be done is drawn before the clock starts.
fn contender<'a, T: 'a>(
    name: &str,
    array: &'a impl Array,
    entries: u64,
    puts: u32,
    start: fn() -> T,
    elapsed: fn(&T) -> Duration,
) -> Contender<'a> {
    let mut random = StdRng::seed_from_u64(29);
    let mut drawn = Vec::new();
    Contender::new(name, move |number| {
        drawn.clear();
        drawn.extend(
            (0..number).map(|_| (random.random_range(1..=entries), random.random_range(0..100) < puts)),
        );
        let clock = start();
        for (&(key, is_put), i) in drawn.iter().zip(0..) {
            if is_put {
                put(array, key, i).expect("there is room");
            } else {
                assert!(get(array, key).expect("it can be read").is_some(), "an entry is lost");
            }
        }
        elapsed(&clock)
    })
}
